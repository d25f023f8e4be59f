"""The stages that judge: every pair of every prompt, and rankings of all responses to one prompt.

A judge never sees which model wrote what. One that answers in words is asked in both orders; one that weighs texts by
their likelihood (the embedded model) has no order at all.
"""

from __future__ import annotations

import logging
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, create_model, field_validator

import config
from core.errors import UsageError
from core.records import GroundTruth, Judgement, Preference, Prompt, Response
from core.store import Store, fingerprint
from llm.interface import Choice, Request
from stages.context import JUDGE_NUM_PREDICT, share, shorten
from stages.tasks import Job, Task, answer, fill, load_template, make_task, progress

log = logging.getLogger("ranking.data")

Texts = Mapping[tuple[str, str], str]
"""(prompt id, model) → response."""


def texts_of(responses: Sequence[Response]) -> dict[tuple[str, str], str]:
    """Responses by prompt and model."""
    return {(r.prompt_id, r.model): r.text for r in responses}


def judge_pairs(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], round_: int = 0) -> list[Judgement]:
    """Every pair of responses to every prompt, judged as the persona would: in both orders, or once by likelihood.

    ``round_`` 1, 2, …: judged anew, at ``noise_temperature`` and with seeds of its own; only by a judge that is asked.
    """
    with job.store(config.PREFERENCES_FILE, "preferences") as store:
        if job.llm.weighs_options:
            return _judge_by_likelihood(job, store, prompts, texts_of(responses))
        return _judge_by_asking(job, store, prompts, texts_of(responses), round_)


# ── A judge that is asked ────────────────────────────────────────────────────────────────────────────────


def pair_tasks(job: Job, prompts: Sequence[Prompt], texts: Texts, round_: int = 0) -> list[Task]:
    """One task for each ordered pair of contestants and each prompt; ``round_``: see ``judge_pairs``."""
    template = load_template(job.prompts_dir, "preference_evaluation.txt")
    return [
        _pair_task(job, template, prompt, (first, second), texts, round_)
        for prompt in prompts
        for first, second in permutations(job.contestants, 2)
    ]


def _shown(job: Job, template: str, prompt: Prompt, models: Sequence[str], texts: Texts) -> tuple[list[str], str]:
    """The responses as a judge is shown them, cut where they do not fit, and the mark that delimits them: no text can
    hold a mark that is made from it."""
    whole = [texts[prompt.id, model] for model in models]
    return shorten(whole, share(job, template, prompt, len(whole))), fingerprint("mark", prompt.text, *whole)


def _filled(job: Job, template: str, prompt: Prompt, **shown: object) -> str:
    """What a judge is asked: whose taste counts, the request, and what is shown of the responses."""
    persona = job.persona
    return fill(template, title=persona.title, description=persona.description, prompt=prompt.text, **shown)


def _pair_task(job: Job, template: str, prompt: Prompt, pair: tuple[str, str], texts: Texts, round_: int) -> Task:
    shown, mark = _shown(job, template, prompt, pair, texts)
    question = Choice(
        model=job.judge,
        prompt=_filled(job, template, prompt, response_a=shown[0], response_b=shown[1], mark=mark),
        options=("A", "B", "tie"),
        temperature=job.params.noise_temperature if round_ else job.params.judge_temperature,
        num_predict=JUDGE_NUM_PREDICT,
        seed=job.seed("judge", prompt.id, *pair, *([round_] if round_ else [])),
        label=f"{prompt.id}: {pair[0]} against {pair[1]}",
    )
    key = f"{prompt.id}/{pair[0]} vs {pair[1]}"
    return make_task(job, f"{key}{ROUND}{round_}" if round_ else key, question)


ROUND = " in round "  # ends the key of what was judged anew
_OUTCOMES = {"A": 1.0, "B": 0.0, "tie": 0.5}


def _judge_by_asking(job: Job, store: Store, prompts: Sequence[Prompt], texts: Texts, round_: int) -> list[Judgement]:
    def value(task: Task, decision: Any) -> dict[str, Any]:
        prompt_id, pair = task.key.removesuffix(f"{ROUND}{round_}").split("/", 1)
        first, second = pair.split(" vs ")
        return {
            "prompt_id": prompt_id,
            "first": first,
            "second": second,
            "winner": decision.winner,
            "reason": decision.reason,
            "seconds": round(decision.seconds, 3),
        }

    what = f"preferences{ROUND}{round_}" if round_ else "preferences"
    answers = answer(job, store, pair_tasks(job, prompts, texts, round_), value, what)
    return [Judgement(a["prompt_id"], a["first"], a["second"], _OUTCOMES[a["winner"]], a["reason"]) for a in answers]


# ── A judge that weighs ──────────────────────────────────────────────────────────────────────────────────


def read_responses(
    job: Job, store: Store, prompts: Sequence[Prompt], texts: Texts, readers: Mapping[str, str], group: str
) -> dict[tuple[str, str], dict[str, float]]:
    """Each response's log-likelihood under each reader (name → system prompt), kept one item a response."""
    keys = _reading_items(job, prompts, texts, readers, group)
    missing: dict[Prompt, list[str]] = defaultdict(list)
    for prompt in prompts:
        for model in job.contestants:
            if store.get(*keys[prompt.id, model]) is None:
                missing[prompt].append(model)
    for prompt, models in progress(missing.items(), len(missing), f"readings by {group}"):
        options = tuple(texts[prompt.id, model] for model in models)
        choices = [
            Choice(config.EMBEDDED_NAME, prompt.text, options, system=system, label=f"{prompt.id} read by {reader}")
            for reader, system in readers.items()
        ]
        scores = dict(job.llm.choose(choices))
        for column, model in enumerate(models):
            by_reader = {reader: round(scores[row].scores[column], 6) for row, reader in enumerate(readers)}
            value = {"prompt_id": prompt.id, "model": model, "log_likelihood": by_reader}
            key, made_from = keys[prompt.id, model]
            store.put(key, made_from, value)
    read = {key: store.get(*item) for key, item in keys.items()}
    return {key: value["log_likelihood"] for key, value in read.items() if value}


def _reading_items(
    job: Job, prompts: Sequence[Prompt], texts: Texts, readers: Mapping[str, str], group: str
) -> dict[tuple[str, str], tuple[str, str]]:
    """(prompt id, model) → cache key and hash."""
    identity = job.llm.identity(config.EMBEDDED_NAME)
    return {
        (p.id, m): (f"{p.id}/{m} read by {group}", fingerprint(identity, p.text, texts[p.id, m], dict(readers)))
        for p in prompts
        for m in job.contestants
    }


REFERENCE_GROUP = "reference readers"


def reference_readers() -> dict[str, str]:
    """The fixed readers and the neutral assistant, name → system prompt."""
    return {**config.REFERENCE_READERS, "neutral": config.NEUTRAL_READER}


def unread(job: Job, store: Store, prompts: Sequence[Prompt], texts: Texts, reader: Job | None = None) -> int:
    """Responses that still have to be read by the reference readers or by the persona (or that of ``reader``)."""
    reader = reader or job
    groups = {REFERENCE_GROUP: reference_readers(), reader.name: {reader.name: reader.persona.answerer}}
    items = [_reading_items(job, prompts, texts, readers, group) for group, readers in groups.items()]
    return len({key for group in items for key, item in group.items() if store.get(*item) is None})


def likelihood_advantages(
    persona: Mapping[tuple[str, str], Mapping[str, float]], reference: Mapping[tuple[str, str], Mapping[str, float]]
) -> dict[tuple[str, str], float]:
    """s(y) = mean log p(y | persona, x) − the mean of the same over the reference readers, nats per token.

    What everybody finds likely cancels out; what is left is likelier to this persona than to people in general.
    """
    readers = config.REFERENCE_READERS
    return {key: sum(own.values()) - fmean(reference[key][r] for r in readers) for key, own in persona.items()}


def sigmoid(x: float) -> float:
    """1 / (1 + e^−x), also far from zero."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else 1.0 - 1.0 / (1.0 + math.exp(x))


def _judge_by_likelihood(job: Job, store: Store, prompts: Sequence[Prompt], texts: Texts) -> list[Judgement]:
    if not unread(job, store, prompts, texts):
        log.info("Using cached preferences for persona: %s", job.name)
    reference = read_responses(job, store, prompts, texts, reference_readers(), REFERENCE_GROUP)
    persona = read_responses(job, store, prompts, texts, {job.name: job.persona.answerer}, job.name)
    advantage = likelihood_advantages(persona, reference)
    judgements = []
    for prompt in prompts:
        for first, second in combinations(job.contestants, 2):
            scores = [round(advantage[prompt.id, model], 6) for model in (first, second)]
            outcome = round(sigmoid((scores[0] - scores[1]) / config.EMBEDDED_JUDGE_TEMPERATURE), 4)
            judgements.append(Judgement(prompt.id, first, second, outcome, ordered=False))
            pair = {"prompt_id": prompt.id, "model_a": first, "model_b": second}
            value = {**pair, "outcome": outcome, "advantages": scores}
            key, made_from = f"{prompt.id}/{first} vs {second}", fingerprint(value)
            if store.get(key, made_from) is None:
                store.put(key, made_from, value)
    return judgements


def reader_preferences(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Preference]:
    """What the reference readers, "everyone else", prefer: each reader's advantage is taken over the neutral assistant,
    since over their own mean it would sum to zero. The embedded contestants' global ratings are estimated from it."""
    with job.store(config.PREFERENCES_FILE, "preferences") as store:
        reading = read_responses(job, store, prompts, texts_of(responses), reference_readers(), REFERENCE_GROUP)
    preferences = []
    for prompt in prompts:
        for reader in config.REFERENCE_READERS:
            advantage = {m: reading[prompt.id, m][reader] - reading[prompt.id, m]["neutral"] for m in job.contestants}
            for a, b in combinations(job.contestants, 2):
                outcome = sigmoid((advantage[a] - advantage[b]) / config.EMBEDDED_JUDGE_TEMPERATURE)
                preferences.append(Preference(prompt.id, a, b, outcome, reader))
    return preferences


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


def round_robin_truths(preferences: Sequence[Preference]) -> list[GroundTruth]:
    """Each prompt's contestants by their mean outcome over all their pairs (Borda's count of a round robin)."""
    outcomes: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for p in preferences:
        outcomes[p.prompt_id][p.model_a].append(p.outcome)
        outcomes[p.prompt_id][p.model_b].append(1.0 - p.outcome)
    return [
        GroundTruth(prompt_id, {m: round(sum(values) / len(values), 6) for m, values in by_model.items()})
        for prompt_id, by_model in outcomes.items()
    ]


# ── Listwise ground truth ────────────────────────────────────────────────────────────────────────────────

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


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


def listwise_tasks(job: Job, prompts: Sequence[Prompt], texts: Texts) -> list[Task]:
    """``listwise_shuffles`` tasks a prompt, each showing all responses in another order under neutral labels.

    Raises UsageError where there are more contestants than labels.
    """
    if len(job.contestants) > len(LABELS):
        raise UsageError(
            f"--ground_truth {job.params.ground_truth}: a list holds at most {len(LABELS)} responses, not "
            f"{len(job.contestants)}. Use --ground_truth round_robin, or fewer --models."
        )
    template = load_template(job.prompts_dir, "ground_truth_ranking.txt")
    return [
        _listwise_task(job, template, prompt, texts, shuffle)
        for prompt in prompts
        for shuffle in range(job.params.listwise_shuffles)
    ]


def _order(job: Job, prompt_id: str, shuffle: int) -> list[str]:
    models = list(job.contestants)
    random.Random(job.seed("shuffle", prompt_id, shuffle)).shuffle(models)  # noqa: S311
    return models


def _listwise_task(job: Job, template: str, prompt: Prompt, texts: Texts, shuffle: int) -> Task:
    order = _order(job, prompt.id, shuffle)
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
    return make_task(job, f"{prompt.id}/shuffle {shuffle + 1}", question)


def rank_listwise(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[GroundTruth]:
    """Each prompt's contestants by their mean place over the shuffles."""

    def value(task: Task, completion: Any) -> dict[str, Any]:
        prompt_id, shuffle = task.key.split("/shuffle ")
        order = _order(job, prompt_id, int(shuffle) - 1)
        models = [order[LABELS.index(label)] for label in completion.parsed.ranking]
        return {"prompt_id": prompt_id, "shown": order, "ranking": models}

    with job.store(config.GROUND_TRUTH_FILE, "ground_truth") as store:
        tasks = listwise_tasks(job, prompts, texts_of(responses))
        rankings = answer(job, store, tasks, value, "ground-truth rankings")
    points: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for r in rankings:
        for place, model in enumerate(r["ranking"]):
            points[r["prompt_id"]][model] += (len(r["ranking"]) - 1 - place) / job.params.listwise_shuffles
    return [GroundTruth(prompt_id, dict(by_model), "listwise") for prompt_id, by_model in points.items()]
