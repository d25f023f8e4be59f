"""Judging by likelihood, for the embedded model: how likely each reader would have written a response.

Such a judge has no order of showing. A model this small can't be asked "A or B?", and for the same reason its prompts
are not asked for as a list: it continues the persona's way of asking, once a topic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import config
from core.errors import MissingError
from core.files import fingerprint
from core.records import Judgement, Preference, Prompt, Response
from core.store import Item, Store
from llm.interface import Choice, Request
from stages.judging import Texts, texts_of
from stages.tasks import Job, answers_to, progress_bar, read_value, unlike, unreadable, words

# ── Reading responses ────────────────────────────────────────────────────────────────────────────────────

Likelihoods = Mapping[tuple[str, str], Mapping[str, float]]
"""(prompt id, model) → {reader: mean log p(response | reader, prompt) per token, in nats}."""
REFERENCE_GROUP = "reference readers"
OTHER_GROUP = "everyone else"
_Id = tuple[str, str]  # a key and a hash


class Readings(NamedTuple):
    """Each response as read by three groups of readers."""

    reference: Likelihoods
    """The reference readers and the neutral assistant."""
    persona: Likelihoods
    others: Likelihoods


@dataclass(frozen=True, slots=True)
class Reading:
    """What is kept of one response's readings."""

    prompt_id: str
    model: str
    log_likelihood: dict[str, float]


def reading_groups(job: Job) -> dict[str, dict[str, str]]:
    """{group: {reader: system prompt}}: one item of the cache holds what one group reads in one response."""
    return {
        REFERENCE_GROUP: {**config.REFERENCE_READERS, "neutral": config.NEUTRAL_READER},
        job.name: {job.name: job.persona.answerer},
        OTHER_GROUP: config.OTHER_READERS,
    }


def reading_items(job: Job, prompts: Sequence[Prompt], texts: Texts, group: str) -> dict[tuple[str, str], _Id]:
    """(prompt id, model) → the key and the hash of this group's reading."""
    identity, readers = job.llm.identity(config.EMBEDDED_NAME), reading_groups(job)[group]
    return {
        (p.id, m): (f"{p.id}/{m} read by {group}", fingerprint(identity, p.text, texts[p.id, m], readers))
        for p in prompts
        for m in job.contestants
    }


def read_responses(
    job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], *, ask: bool = True
) -> tuple[list[Prompt], Readings]:
    """The prompts of which every response is read by every group, and what was read; all of it is kept among the
    job's preferences. ``ask`` False: nothing is read that was not read before."""
    texts, groups = texts_of(responses), reading_groups(job)
    items = {group: reading_items(job, prompts, texts, group) for group in groups}
    if ask:
        with job.store(config.PREFERENCES_FILE) as store:
            for group, readers in groups.items():
                _read(job, store, prompts, texts, readers, items[group], group)
    kept, path = job.kept(config.PREFERENCES_FILE), job.path(config.PREFERENCES_FILE)
    whole = [p for p in prompts if all(ids[p.id, m] in kept for ids in items.values() for m in job.contestants)]
    return whole, Readings(
        *(
            {(p.id, m): _likelihoods(path, kept[ids[p.id, m]], groups[group]) for p in whole for m in job.contestants}
            for group, ids in items.items()
        )
    )


def _read(
    job: Job,
    store: Store,
    prompts: Sequence[Prompt],
    texts: Texts,
    readers: Mapping[str, str],
    items: Mapping[tuple[str, str], _Id],
    group: str,
) -> None:
    """Read what this group has not read yet: all missing responses to a prompt side by side."""
    missing = {p: [m for m in job.contestants if store.get(*items[p.id, m]) is None] for p in prompts}
    missing = {prompt: models for prompt, models in missing.items() if models}
    with progress_bar(len(missing), f"prompts read by {group}") as bar:
        for prompt, models in missing.items():
            options = tuple(texts[prompt.id, model] for model in models)
            choices = [
                Choice(config.EMBEDDED_NAME, prompt.text, options, system=system, label=f"{prompt.id} read by {reader}")
                for reader, system in readers.items()
            ]
            decisions: dict[int, Any] = dict(job.llm.choose(choices))  # a model that weighs leaves nothing out
            for column, model in enumerate(models):
                scores = {reader: round(decisions[row].scores[column], 6) for row, reader in enumerate(readers)}
                value = {"prompt_id": prompt.id, "model": model, "log_likelihood": scores}
                store.put(*items[prompt.id, model], value)
            bar.update()


def _likelihoods(path: Path, item: Item, readers: Mapping[str, str]) -> Mapping[str, float]:
    found = read_value(path, item.key, item.value, Reading).log_likelihood
    if lacking := [reader for reader in readers if reader not in found]:
        raise unreadable(path, item.key, f"log_likelihood lacks {', '.join(lacking)}")
    return found


# ── From readings to judgements ──────────────────────────────────────────────────────────────────────────


def advantages(readings: Readings) -> dict[tuple[str, str], float]:
    """s(y) = mean log p(y | persona, x) − the mean of the same over the reference readers, nats per token.

    What everybody finds likely cancels out; what is left is likelier to this persona than to people in general.
    """
    return {
        pair: round(sum(own.values()) - fmean(readings.reference[pair][r] for r in config.REFERENCE_READERS), 6)
        for pair, own in readings.persona.items()
    }


def outcome(a: float, b: float) -> float:
    """σ((s_a − s_b)/T): how strongly the response with the advantage ``a`` is preferred."""
    from scipy.special import expit

    return float(expit((a - b) / config.EMBEDDED_JUDGE_TEMPERATURE))


def judge_by_likelihood(
    job: Job, prompts: Sequence[Prompt], readings: Readings, *, ask: bool = True
) -> list[Judgement]:
    """Every pair once: the outcome is σ((s_a − s_b)/T), printed into the file of the readings."""
    advantage, judgements, rows = advantages(readings), [], {}
    for prompt in prompts:
        for first, second in combinations(job.contestants, 2):
            scores = [advantage[prompt.id, model] for model in (first, second)]
            preferred = round(outcome(*scores), 4)
            judgements.append(Judgement(prompt.id, first, second, preferred, ordered=False))
            rows[f"{prompt.id}/{first} vs {second}"] = {
                "prompt_id": prompt.id,
                "model_a": first,
                "model_b": second,
                "outcome": preferred,
                "advantages": scores,
            }
    if ask:
        with job.store(config.PREFERENCES_FILE) as store:
            store.print_out(rows)
    return judgements


def reader_preferences(job: Job, prompts: Sequence[Prompt], readings: Readings) -> list[Preference]:
    """What everyone else prefers: the embedded contestants' global ratings are estimated from it.

    Each other reader's advantage is taken over the neutral assistant. Neither has a part in the truth, which is the
    persona's less the reference readers', so that the rating is aligned with it by taste alone.
    """
    preferences = []
    for prompt in prompts:
        neutral = {m: readings.reference[prompt.id, m]["neutral"] for m in job.contestants}
        for reader in config.OTHER_READERS:
            advantage = {m: readings.others[prompt.id, m][reader] - neutral[m] for m in job.contestants}
            for a, b in combinations(job.contestants, 2):
                preferences.append(Preference(prompt.id, a, b, outcome(advantage[a], advantage[b]), reader))
    return preferences


# ── Writing prompts ──────────────────────────────────────────────────────────────────────────────────────

DRAFTS = 4  # of which the first usable one is kept
AT_ONCE = 8  # prompts whose drafts are written side by side
ATTEMPTS = 5  # rounds of drafts before a topic is given up


def topic_of(job: Job, number: int) -> str:
    """What prompt ``number`` (from 0) is about: one prompt a topic before any topic comes again."""
    return job.persona.topics[number % len(job.persona.topics)]


def prompt_request(job: Job, number: int) -> Request:
    """What prompt ``number`` (from 0) is made from: the persona's way of asking, to be continued on the topic."""
    persona = job.persona
    ask = persona.asks[(number + number // len(persona.topics)) % len(persona.asks)]
    return Request(
        model=config.EMBEDDED_NAME,
        prompt=f'Repeat this request in your own words, in one sentence: "{ask} … {topic_of(job, number)}"',
        opening=ask,
        temperature=0.5,
        num_predict=40,
        seed=job.seed("prompt", job.name, number),
        label=f"prompt {number + 1} of {job.name}",
    )


def write_prompts(job: Job, numbers: Sequence[int], known: Sequence[str]) -> Iterator[list[str]]:
    """The texts of these prompts, one at a time: the first draft that is one sentence, on its topic and unlike the
    ``known`` ones. Raises MissingError where the model writes none."""
    for start in range(0, len(numbers), AT_ONCE):
        batch = numbers[start : start + AT_ONCE]
        for number, drafts in zip(batch, _drafts(job, batch, attempt=0), strict=True):
            text = _usable(job, number, drafts, known)
            known = [*known, text]
            yield [text]


def _drafts(job: Job, numbers: Sequence[int], attempt: int) -> list[list[str]]:
    """``DRAFTS`` first sentences for each prompt number, all written side by side."""
    requests = [
        replace(request, seed=job.seed(request.seed, attempt, i))
        for request in (prompt_request(job, number) for number in numbers)
        for i in range(DRAFTS)
    ]
    answers = dict(answers_to(job, requests, "drafts of prompts"))
    sentences = [_first_sentence(answers[i].text) for i in range(len(requests))]
    return [sentences[i : i + DRAFTS] for i in range(0, len(sentences), DRAFTS)]


def _usable(job: Job, number: int, drafts: Sequence[str], known: Sequence[str]) -> str:
    """The first usable draft; where there is none, more are asked for."""
    topic = topic_of(job, number)
    for attempt in range(1, ATTEMPTS + 1):
        for text in unlike((draft for draft in drafts if _on_topic(draft, topic)), known):
            return text
        drafts = _drafts(job, [number], attempt)[0]
    raise MissingError(
        f"The embedded model found no new request about {topic!r} (prompt {number + 1}); what it wrote is kept. "
        f"Run again with --num_prompts {max(5, number)}."
    )


def _first_sentence(text: str) -> str:
    match = re.match(r"[^.?!\n]{12,220}[.?!]", text)
    return match.group(0) if match else ""


def _on_topic(sentence: str, topic: str) -> bool:
    """At least half of the topic's content words occur in it, compared by their first five letters."""
    stems = {word[:5] for word in words(topic) if len(word) > 3}
    found = {word[:5] for word in words(sentence)}
    return bool(sentence) and len(stems & found) * 2 >= len(stems)
