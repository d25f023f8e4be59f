"""Judging by asking: every pair of responses in both orders, and rankings of all responses to one prompt.

A judge never sees which model wrote what. From any judgements, also those by ``likelihood``: preferences and the true
ranking of each prompt.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, create_model, field_validator

import config
from core.errors import UsageError
from core.records import GroundTruth, Judgement, Preference, Prompt, Response
from core.store import Items
from llm.interface import Choice, Request
from stages.reads import Watch
from stages.shown import JUDGE_NUM_PREDICT, LIST_TEMPLATE, PAIR_TEMPLATE, question
from stages.tasks import Job, Task, answer, fill, load_template, log, make_task, open_tasks

Texts = Mapping[tuple[str, str], str]
"""(prompt id, model) → response."""

FORM = '{"choice": "A", "B" or "tie"}'
FORM_WITH_REASON = '{"choice": "A", "B" or "tie", "reason": "one short sentence"}'
VERDICT_NUM_PREDICT = 64  # one word, in JSON with blanks or a fence around it
NOISE_ROUNDS = (1, 2)


def texts_of(responses: Sequence[Response]) -> dict[tuple[str, str], str]:
    """Responses by prompt and model."""
    return {(r.prompt_id, r.model): r.text for r in responses}


# ── Pairs ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """The judge's word on one pair, as it is kept."""

    prompt_id: str
    first: str
    second: str
    winner: str
    """``first``, ``second`` or "tie"; "A" and "B" in items of earlier versions."""
    reason: str = ""
    probabilities: dict[str, float] | None = None
    """Of "A" (``first``), "B" and "tie", where the judge's server tells them."""

    def __post_init__(self) -> None:
        if self.winner not in self._outcomes():
            raise ValueError(f"winner is {self.winner!r}, neither {self.first}, {self.second} nor tie")
        if self.probabilities and not all(self.probabilities.get(label, 0.0) > 0.0 for label in ("A", "B")):
            raise ValueError('probabilities must hold a positive figure of "A" and "B"')

    def _outcomes(self) -> dict[str, float]:
        return {"A": 1.0, "B": 0.0, "tie": 0.5, self.first: 1.0, self.second: 0.0}

    def judgement(self) -> Judgement:
        """The same as the record that the stages hand on. Where the word is not the likeliest label, since somebody
        edited it or a redraw said it, the word counts and not the probabilities."""
        outcome, odds, shares = self._outcomes()[self.winner], None, self.probabilities
        if shares and self._outcomes()[max(shares, key=lambda label: shares[label])] == outcome:
            odds = math.log(shares["A"] / shares["B"])
        return Judgement(self.prompt_id, self.first, self.second, outcome, self.reason, log_odds=odds)


def pair_tasks(
    job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], kept: Items, round_: int = 0
) -> list[Task]:
    """One task for each ordered pair of contestants and each prompt, in the order in which neighbours share the
    longest beginning; ``round_``: see ``judge_rounds``.

    With ``judge_reasons`` auto the first is asked without a reason, and so are all others where its answer, among the
    ``kept`` items, came with probabilities: then a reason is not needed to trust a verdict, and takes most of its time.
    """
    template, given = load_template(job.prompts_dir, PAIR_TEMPLATE), {(r.prompt_id, r.model): r for r in responses}
    auto, reasons = job.params.judge_reasons == "auto", job.params.judge_reasons == "on"
    tasks: list[Task] = []
    for prompt, (first, second) in product(prompts, list(permutations(job.contestants, 2))):
        shown = [given[prompt.id, first], given[prompt.id, second]]
        (response_a, response_b), values = question(job, template, prompt, shown)
        form = FORM_WITH_REASON if reasons else FORM
        asked = Choice(
            model=job.judge,
            prompt=fill(template, response_a=response_a, response_b=response_b, form=form, **values),
            options=("A", "B", "tie"),
            reason=reasons,
            temperature=job.params.noise_temperature if round_ else job.params.judge_temperature,
            num_predict=JUDGE_NUM_PREDICT if reasons else VERDICT_NUM_PREDICT,
            seed=job.seed("judge", prompt.id, first, second, *([round_] if round_ else [])),
            label=f"{prompt.id}: {first} against {second}",
        )
        key = f"{prompt.id}/{first} vs {second}" + (f" in round {round_}" if round_ else "")
        about = {"prompt_id": prompt.id, "first": first, "second": second}
        tasks.append(make_task(job, key, asked, about=about, names={"judge": job.judge}))
        if auto and len(tasks) == 1:
            tried = kept.get(tasks[0].id)
            told = replace(
                asked,
                prompt=fill(template, response_a=response_a, response_b=response_b, form=FORM_WITH_REASON, **values),
                reason=True,
                num_predict=JUDGE_NUM_PREDICT,
            )
            with_reason = make_task(job, key, told, about=about, names={"judge": job.judge})
            if tried is None and with_reason.id in kept:  # the first one of a run with other contestants was tried
                tasks[0] = with_reason
            reasons = tried is None or "probabilities" not in tried.value
    return tasks


def _pair_value(task: Task, decision: Any) -> dict[str, Any]:
    names = {"A": task.about["first"], "B": task.about["second"], "tie": "tie"}
    said = {"winner": names[decision.winner], "reason": decision.reason, "seconds": round(decision.seconds, 3)}
    if not decision.probabilities:
        return said
    return {**said, "probabilities": {label: round(p, 9) for label, p in decision.probabilities.items()}}


def judge_pairs(
    job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], round_: int = 0, *, ask: bool = True
) -> list[Judgement]:
    """Every pair of responses to every prompt, judged as the persona would, in both orders; a pair with one of them
    missing is left out, since one order alone carries the judge's liking for a place."""
    what, file = f"preferences in round {round_}" if round_ else "preferences", config.PREFERENCES_FILE
    kept = job.kept(file)
    tasks = pair_tasks(job, prompts, responses, kept, round_)
    if ask and open_tasks(kept, tasks[:1]):
        answer(job, file, tasks[:1], _pair_value, JudgedPair, what)
        kept = job.kept(file)
        tasks = pair_tasks(job, prompts, responses, kept, round_)
        _say_form(job, "probabilities" in kept[tasks[0].id].value)
    known = answer(job, file, tasks, _pair_value, JudgedPair, what, ask=False) if open_tasks(kept, tasks) else []
    watch = Watch([pair.judgement() for pair in known], {(r.prompt_id, r.model): len(r.text) for r in responses})

    def value(task: Task, decision: Any) -> dict[str, Any]:
        made = _pair_value(task, decision)
        watch.add(JudgedPair(**task.about, **{k: v for k, v in made.items() if k != "seconds"}).judgement())
        return made

    pairs = answer(job, file, tasks, value, JudgedPair, what, ask=ask)
    judged = {(pair.prompt_id, pair.first, pair.second) for pair in pairs}
    return [pair.judgement() for pair in pairs if (pair.prompt_id, pair.second, pair.first) in judged]


def _say_form(job: Job, weighed: bool) -> None:
    """Say what the judge's first answer tells of all others."""
    if not weighed:
        said = "gives words without probabilities (Ollama gives them since 0.12.11): its outcomes are read by words"
    elif job.params.judge_reasons == "auto":
        said = 'gives probabilities, so it is asked for no reasons; judge_reasons = "on" in config.py has them'
    else:
        said = "gives probabilities: its outcomes are graded"
    log.info("The judge %s %s.", job.judge, said)


def judge_rounds(
    job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], *, ask: bool = True
) -> list[list[Judgement]]:
    """Two more rounds of judging, for the noise ceiling: nothing can agree with a noisy truth more than that truth
    agrees with itself.

    Both are judged at ``noise_temperature`` and with seeds of their own: a judge at temperature 0 would only repeat
    itself. What the calls cost is said before they are made.
    """
    kept = job.kept(config.PREFERENCES_FILE)
    calls = sum(len(open_tasks(kept, pair_tasks(job, prompts, responses, kept, round_))) for round_ in NOISE_ROUNDS)
    if ask and calls:
        what = f"two rounds over {len(prompts)} test prompts, temperature {job.params.noise_temperature:g}"
        log.info("Noise ceiling: %s, calls: %d to %s", what, calls, job.judge)
    return [judge_pairs(job, prompts, responses, round_, ask=ask) for round_ in NOISE_ROUNDS]


# ── Rankings of a list ───────────────────────────────────────────────────────────────────────────────────

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class RankedList:
    """One ranking as it is kept: the models as they were shown, and best first."""

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


def list_tasks(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Task]:
    """One task for each prompt and each of the ``listwise_shuffles``: all responses under neutral labels."""
    template, tasks = load_template(job.prompts_dir, LIST_TEMPLATE), []
    given = {(r.prompt_id, r.model): r for r in responses}
    for prompt, shuffle in product(prompts, range(job.params.listwise_shuffles)):
        order = list(job.contestants)
        random.Random(job.seed("shuffle", prompt.id, shuffle)).shuffle(order)  # noqa: S311
        shown = [given[prompt.id, model] for model in order]
        texts, values = question(job, template, prompt, shown)
        mark = values["mark"]
        blocks = [
            f"--- response {label} begins {mark}\n{text}\n--- response {label} ends {mark}"
            for label, text in zip(LABELS, texts, strict=False)
        ]
        asked = Request(
            model=job.judge,
            prompt=fill(template, responses="\n\n".join(blocks), count=len(order), **values),
            schema=ranking_schema(LABELS[: len(order)]),
            temperature=job.params.judge_temperature,
            num_predict=JUDGE_NUM_PREDICT,
            seed=job.seed("listwise", prompt.id, shuffle),
            label=f"{prompt.id}: ranking {shuffle + 1}",
        )
        key, about = f"{prompt.id}/shuffle {shuffle + 1}", {"prompt_id": prompt.id, "shown": order}
        tasks.append(make_task(job, key, asked, about=about, names={"judge": job.judge}))
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
    tasks = list_tasks(job, prompts, responses)
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
    """One preference a pair: σ(s/T) where both orders have log-odds, s half their difference, in which the liking for
    a place cancels; else the mean outcome over the orders in which it was judged."""
    pairs: dict[tuple[str, str, str], list[Judgement]] = {}
    for j in judgements:
        turned = pairs.get((j.prompt_id, j.second, j.first))
        (pairs.setdefault((j.prompt_id, j.first, j.second), []) if turned is None else turned).append(j)
    return [Preference(*key, outcome=_outcome(key[1], judged)) for key, judged in pairs.items()]


def _outcome(first: str, judged: Sequence[Judgement]) -> float:
    """The outcome for ``first`` of one pair, from all its judgements."""
    odds = [j.log_odds if j.first == first else -j.log_odds for j in judged if j.log_odds is not None]
    if len({j.first for j in judged}) == 2 and len(odds) == len(judged):
        from scipy.special import expit

        return float(expit(sum(odds) / len(odds) / config.JUDGE_TEMPERATURE))
    return sum(j.outcome if j.first == first else 1.0 - j.outcome for j in judged) / len(judged)


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
