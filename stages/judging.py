"""Judging by asking: every pair of responses in both orders, and rankings of all responses to one prompt.

A judge never sees which model wrote what, and responses that don't fit its context are cut visibly and counted. From
any judgements, also those by ``likelihood``: preferences and the true ranking of each prompt.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, create_model, field_validator

import config
from core.errors import UsageError
from core.files import fingerprint
from core.records import GroundTruth, Judgement, Preference, Prompt, Response
from llm.interface import Choice, Request, estimate_tokens, shorten
from stages.tasks import Job, Task, answer, fill, load_template, log, make_task, open_tasks

Texts = Mapping[tuple[str, str], str]
"""(prompt id, model) → response."""

PAIR_TEMPLATE = "preference_evaluation.txt"
LIST_TEMPLATE = "ground_truth_ranking.txt"
JUDGE_NUM_PREDICT = 256  # one word and one short sentence
NOISE_ROUNDS = (1, 2)


def texts_of(responses: Sequence[Response]) -> dict[tuple[str, str], str]:
    """Responses by prompt and model."""
    return {(r.prompt_id, r.model): r.text for r in responses}


# ── What a judge is shown ────────────────────────────────────────────────────────────────────────────────


def _room(job: Job, template: str, prompt: Prompt, responses: int) -> int:
    """Tokens for each of the responses that a judge is shown beside each other."""
    marks = 40 * responses  # the lines that begin and end a response
    around = estimate_tokens(template + prompt.text + job.persona.description) + marks
    return max(64, (job.judge_tokens - around - JUDGE_NUM_PREDICT) // responses)


def _shown(job: Job, template: str, prompt: Prompt, models: Sequence[str], texts: Texts) -> tuple[list[str], str]:
    """The responses, cut in the middle where they don't fit, and the mark that delimits them: no text can hold a mark
    that is made from it."""
    whole = [texts[prompt.id, model] for model in models]
    room = _room(job, template, prompt, len(whole))
    return [shorten(text, room)[0] for text in whole], fingerprint("mark", prompt.text, *whole)


def _filled(job: Job, template: str, prompt: Prompt, **shown: object) -> str:
    """The whole question: whose taste counts, the request, and what is shown of the responses."""
    persona = job.persona
    return fill(template, title=persona.title, description=persona.description, prompt=prompt.text, **shown)


def shortened(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], listed: Collection[str]) -> int:
    """How many responses the judge was not shown in full: in pairs or, for the prompts ``listed``, all together."""
    pair, whole = (load_template(job.prompts_dir, name) for name in (PAIR_TEMPLATE, LIST_TEMPLATE))
    rooms = {
        p.id: _room(job, whole, p, len(job.contestants)) if p.id in listed else _room(job, pair, p, 2) for p in prompts
    }
    return sum(estimate_tokens(r.text) > rooms[r.prompt_id] for r in responses)


# ── Pairs ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """What is kept of the judge's word on one pair."""

    prompt_id: str
    first: str
    second: str
    winner: str
    """``first``, ``second`` or "tie"; "A" and "B" in items of earlier versions."""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.winner not in self._outcomes():
            raise ValueError(f"winner is {self.winner!r}, neither {self.first}, {self.second} nor tie")

    def _outcomes(self) -> dict[str, float]:
        return {"A": 1.0, "B": 0.0, "tie": 0.5, self.first: 1.0, self.second: 0.0}

    def judgement(self) -> Judgement:
        """The same as the record that the stages hand on."""
        return Judgement(self.prompt_id, self.first, self.second, self._outcomes()[self.winner], self.reason)


def pair_tasks(job: Job, prompts: Sequence[Prompt], texts: Texts, round_: int = 0) -> list[Task]:
    """One task for each ordered pair of contestants and each prompt; ``round_``: see ``judge_rounds``."""
    template, tasks = load_template(job.prompts_dir, PAIR_TEMPLATE), []
    for prompt, (first, second) in product(prompts, list(permutations(job.contestants, 2))):
        (response_a, response_b), mark = _shown(job, template, prompt, (first, second), texts)
        question = Choice(
            model=job.judge,
            prompt=_filled(job, template, prompt, response_a=response_a, response_b=response_b, mark=mark),
            options=("A", "B", "tie"),
            temperature=job.params.noise_temperature if round_ else job.params.judge_temperature,
            num_predict=JUDGE_NUM_PREDICT,
            seed=job.seed("judge", prompt.id, first, second, *([round_] if round_ else [])),
            label=f"{prompt.id}: {first} against {second}",
        )
        key = f"{prompt.id}/{first} vs {second}" + (f" in round {round_}" if round_ else "")
        about = {"prompt_id": prompt.id, "first": first, "second": second}
        tasks.append(make_task(job, key, question, about=about, names={"judge": job.judge}))
    return tasks


def _pair_value(task: Task, decision: Any) -> dict[str, Any]:
    names = {"A": task.about["first"], "B": task.about["second"], "tie": "tie"}
    return {"winner": names[decision.winner], "reason": decision.reason, "seconds": round(decision.seconds, 3)}


def judge_pairs(
    job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], round_: int = 0, *, ask: bool = True
) -> list[Judgement]:
    """Every pair of responses to every prompt, judged as the persona would, in both orders; a pair with one of them
    missing is left out, since one order alone carries the judge's liking for a place."""
    tasks = pair_tasks(job, prompts, texts_of(responses), round_)
    what = f"preferences in round {round_}" if round_ else "preferences"
    pairs = answer(job, config.PREFERENCES_FILE, tasks, _pair_value, JudgedPair, what, ask=ask)
    judged = {(pair.prompt_id, pair.first, pair.second) for pair in pairs}
    return [pair.judgement() for pair in pairs if (pair.prompt_id, pair.second, pair.first) in judged]


def judge_rounds(
    job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], *, ask: bool = True
) -> list[list[Judgement]]:
    """Two more rounds of judging, for the noise ceiling: nothing can agree with a noisy truth more than that truth
    agrees with itself.

    Both are judged at ``noise_temperature`` and with seeds of their own: a judge at temperature 0 would only repeat
    itself. What the calls cost is said before they are made.
    """
    texts, kept = texts_of(responses), job.kept(config.PREFERENCES_FILE)
    calls = sum(len(open_tasks(kept, pair_tasks(job, prompts, texts, round_))) for round_ in NOISE_ROUNDS)
    if ask and calls:
        what = f"two rounds over {len(prompts)} test prompts, temperature {job.params.noise_temperature:g}"
        log.info("Noise ceiling: %s, calls: %d to %s", what, calls, job.judge)
    return [judge_pairs(job, prompts, responses, round_, ask=ask) for round_ in NOISE_ROUNDS]


# ── Rankings of a list ───────────────────────────────────────────────────────────────────────────────────

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class RankedList:
    """What is kept of one ranking: the models as they were shown, and best first."""

    prompt_id: str
    shown: list[str]
    ranking: list[str]

    def __post_init__(self) -> None:
        if sorted(self.ranking) != sorted(self.shown):
            raise ValueError(f"ranking must hold each of {', '.join(self.shown)} once")


def ranking_schema(labels: Sequence[str]) -> type[BaseModel]:
    """{"ranking": [label, …]}: every label exactly once, as an enum in the order shown."""

    def complete(ranking: list[str]) -> list[str]:
        if sorted(ranking) != sorted(labels):
            raise ValueError(f"each of {', '.join(labels)} must occur exactly once")
        return ranking

    return create_model(
        "Ranking",
        ranking=(list[Literal[tuple(labels)]], ...),  # type: ignore[arg-type,misc]
        __validators__={"complete": field_validator("ranking")(complete)},
    )


def list_tasks(job: Job, prompts: Sequence[Prompt], texts: Texts) -> list[Task]:
    """One task for each prompt and each of the ``listwise_shuffles``: all responses under neutral labels."""
    template, tasks = load_template(job.prompts_dir, LIST_TEMPLATE), []
    for prompt, shuffle in product(prompts, range(job.params.listwise_shuffles)):
        order = list(job.contestants)
        random.Random(job.seed("shuffle", prompt.id, shuffle)).shuffle(order)  # noqa: S311
        shown, mark = _shown(job, template, prompt, order, texts)
        blocks = [
            f"--- response {label} begins {mark}\n{text}\n--- response {label} ends {mark}"
            for label, text in zip(LABELS, shown, strict=False)
        ]
        question = Request(
            model=job.judge,
            prompt=_filled(job, template, prompt, responses="\n\n".join(blocks), count=len(order), mark=mark),
            schema=ranking_schema(LABELS[: len(order)]),
            temperature=job.params.judge_temperature,
            num_predict=JUDGE_NUM_PREDICT,
            seed=job.seed("listwise", prompt.id, shuffle),
            label=f"{prompt.id}: ranking {shuffle + 1}",
        )
        key, about = f"{prompt.id}/shuffle {shuffle + 1}", {"prompt_id": prompt.id, "shown": order}
        tasks.append(make_task(job, key, question, about=about, names={"judge": job.judge}))
    return tasks


def _list_value(task: Task, completion: Any) -> dict[str, Any]:
    return {"ranking": [task.about["shown"][LABELS.index(label)] for label in completion.parsed.ranking]}


def rank_listwise(
    job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], *, ask: bool = True
) -> tuple[list[GroundTruth], int]:
    """Each prompt's contestants by their mean place over ``listwise_shuffles`` orders of showing, of which at least
    half must have been answered; and how many orders of all prompts were left out.

    Raises UsageError where there are more contestants than labels.
    """
    if len(job.contestants) > len(LABELS):
        raise UsageError(
            f"--ground_truth {job.params.ground_truth}: a list holds at most {len(LABELS)} responses, not "
            f"{len(job.contestants)}. Use --ground_truth round_robin, or fewer --models."
        )
    tasks = list_tasks(job, prompts, texts_of(responses))
    what = "ground-truth rankings"
    rankings = answer(job, config.GROUND_TRUTH_FILE, tasks, _list_value, RankedList, what, ask=ask)
    points: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for r in rankings:
        for place, model in enumerate(r.ranking):
            points[r.prompt_id][model].append(len(r.ranking) - 1 - place)
    truths = [
        GroundTruth(prompt_id, {model: fmean(own) for model, own in by_model.items()}, "listwise")
        for prompt_id, by_model in points.items()
        if 2 * len(next(iter(by_model.values()))) >= job.params.listwise_shuffles
    ]
    return truths, len(tasks) - len(rankings)


# ── From judgements to preferences and truth ─────────────────────────────────────────────────────────────


def preferences_from(judgements: Sequence[Judgement]) -> list[Preference]:
    """One preference a pair: the mean outcome over the orders in which it was judged."""
    outcomes: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for j in judgements:
        if (j.prompt_id, j.second, j.first) in outcomes:
            outcomes[j.prompt_id, j.second, j.first].append(1.0 - j.outcome)
        else:
            outcomes[j.prompt_id, j.first, j.second].append(j.outcome)
    return [Preference(*key, outcome=sum(values) / len(values)) for key, values in outcomes.items()]


def round_robin_truths(preferences: Sequence[Preference], contestants: int) -> list[GroundTruth]:
    """Each prompt's contestants by their mean outcome over all their pairs (Borda's count of a round robin).

    A prompt has no truth where one of so many ``contestants`` met more than one opponent too few.
    """
    outcomes: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for p in preferences:
        outcomes[p.prompt_id][p.model_a].append(p.outcome)
        outcomes[p.prompt_id][p.model_b].append(1.0 - p.outcome)
    return [
        GroundTruth(prompt_id, {m: round(sum(values) / len(values), 6) for m, values in by_model.items()})
        for prompt_id, by_model in outcomes.items()
        if len(by_model) == contestants and min(map(len, by_model.values())) >= max(1, contestants - 2)
    ]
