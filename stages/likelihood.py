"""Judging by likelihood, for the embedded model: how likely each reader would have written a response.

Such a judge has no order of showing. A model this small can't be asked "A or B?", and for the same reason its prompts
are not asked for as a list: it continues the persona's way of asking, once a topic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from statistics import fmean
from typing import Any

import config
from core.clock import bar
from core.errors import MissingError
from core.files import fingerprint
from core.records import Judgement, Preference, Prompt, Response
from core.store import Item, read_items
from llm.interface import Choice, Request
from stages.tasks import Job, answers_to, read_value, unlike, words

# ── Reading responses ────────────────────────────────────────────────────────────────────────────────────

Texts = Mapping[tuple[str, str], str]
"""(prompt id, model) → response."""
Advantages = dict[tuple[str, str], float]
"""(prompt id, model) → s(y) = mean log p(y | persona, x) − the mean of the same over the reference readers, in nats per
token. What everybody finds likely cancels out; what is left is likelier to this persona than to people in general."""
REFERENCE_GROUP = "reference readers"


@dataclass(frozen=True, slots=True)
class Reading:
    """One group's readings of one response, as they are kept: {reader: mean log p per token}."""

    prompt_id: str
    model: str
    log_likelihood: dict[str, float]

    def __post_init__(self) -> None:
        if not self.log_likelihood:
            raise ValueError("log_likelihood is empty")


def reading_groups(job: Job) -> dict[str, dict[str, str]]:
    """{group: {reader: system prompt}}: one item of the cache holds what one group reads in one response."""
    return {REFERENCE_GROUP: config.REFERENCE_READERS, job.name: {job.name: job.persona.answerer}}


def reading_items(job: Job, prompts: Sequence[Prompt], texts: Texts) -> dict[tuple[str, str, str], tuple[str, str]]:
    """(group, prompt id, model) → the key and the hash of a reading."""
    identity, items = job.llm.identity(config.EMBEDDED_NAME), {}
    for (group, readers), p, m in product(reading_groups(job).items(), prompts, job.contestants):
        if group == REFERENCE_GROUP:  # recorded with the neutral assistant's reading, which nothing needs any more
            readers = {**readers, "neutral": config.NEUTRAL_READER}
        made_from = fingerprint(identity, p.text, texts[p.id, m], readers)
        items[group, p.id, m] = f"{p.id}/{m} read by {group}", made_from
    return items


def _read_missing(
    job: Job, prompts: Sequence[Prompt], texts: Texts, items: Mapping[tuple[str, str, str], tuple[str, str]]
) -> None:
    """Read what was not read yet: all missing responses to a prompt side by side."""
    tasks = list(product(reading_groups(job).items(), prompts))
    with job.store(config.PREFERENCES_FILE) as store:
        for (group, readers), prompt in bar(tasks, len(tasks), "readings of prompts"):
            models = [m for m in job.contestants if store.get(*items[group, prompt.id, m]) is None]
            options, label = tuple(texts[prompt.id, m] for m in models), f"{prompt.id} read by {group}"
            choices = [
                Choice(config.EMBEDDED_NAME, prompt.text, options, system=system, label=label)
                for system in readers.values()
            ]
            decisions: dict[int, Any] = dict(job.llm.choose(choices)) if models else {}  # none is left out
            for column, model in enumerate(models):
                scores = {reader: round(decisions[row].scores[column], 6) for row, reader in enumerate(readers)}
                value = {"prompt_id": prompt.id, "model": model, "log_likelihood": scores}
                store.put(*items[group, prompt.id, model], value)


def _advantage(path: Path, reference: Item, own: Item) -> float:
    """The persona's advantage from the two kept readings of a response."""
    said, others = (read_value(path, item.key, item.value, Reading).log_likelihood for item in (own, reference))
    readers = [reader for reader in config.REFERENCE_READERS if reader in others]
    return round(fmean(said.values()) - fmean(others[reader] for reader in readers), 6)


# ── From readings to judgements ──────────────────────────────────────────────────────────────────────────


def judge_by_likelihood(
    job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], *, ask: bool = True
) -> list[Judgement]:
    """Every pair of responses to every prompt, once: the outcome is σ((s_a − s_b)/T).

    All readings are kept among the job's preferences, and the outcomes printed beside them. ``ask`` False: nothing is
    read that was not read before, and a prompt with a response that was not has no judgement.
    """
    texts = {(r.prompt_id, r.model): r.text for r in responses}
    items = reading_items(job, prompts, texts)
    if ask:
        _read_missing(job, prompts, texts, items)
    kept, path, advantages = job.kept(config.PREFERENCES_FILE), job.path(config.PREFERENCES_FILE), Advantages()
    for p, m in product(prompts, job.contestants):
        reference, own = (kept.get(items[group, p.id, m]) for group in (REFERENCE_GROUP, job.name))
        if reference and own:
            advantages[p.id, m] = _advantage(path, reference, own)
    read = [p.id for p in prompts if all((p.id, model) in advantages for model in job.contestants)]
    pairs = list(product(read, combinations(job.contestants, 2)))
    judgements = [Judgement(p, a, b, _outcome(advantages, p, a, b), ordered=False) for p, (a, b) in pairs]
    if ask:
        with job.store(config.PREFERENCES_FILE) as store:
            said = {f"{j.prompt_id}/{j.first} vs {j.second}": {"outcome": j.outcome} for j in judgements}
            store.print_out(said)
    return judgements


def _outcome(advantages: Advantages, prompt_id: str, a: str, b: str) -> float:
    """σ((s_a − s_b)/T): how strongly the response of ``a`` is preferred."""
    from scipy.special import expit

    difference = advantages[prompt_id, a] - advantages[prompt_id, b]
    return round(float(expit(difference / config.EMBEDDED_JUDGE_TEMPERATURE)), 4)


def recorded_preferences(job: Job) -> list[Preference]:
    """Preferences of the other built-in personas in the recorded run, each under its persona's name.

    To the embedded contestants they are what the Arena's votes are to models: everyone else's taste. The persona's own
    have no part in it. Contestants that the recorded run does not know have none.
    """
    preferences = []
    for persona in config.PERSONAS if job.samples_dir else ():
        path = (job.samples_dir or Path()) / config.PREFERENCES_FILE.format(name=persona)
        items = {item.key: item for item in read_items(path).values()} if persona != job.name else {}
        advantages: Advantages = {}
        for key, own in items.items():
            text, _, group = key.partition(" read by ")
            prompt_id, _, model = text.partition("/")
            if group == persona and model in job.contestants:
                reference = items[f"{text} read by {REFERENCE_GROUP}"]
                advantages[prompt_id, model] = _advantage(path, reference, own)
        preferences += [
            Preference(p, a, b, _outcome(advantages, p, a, b), persona)
            for (p, a), (other, b) in combinations(advantages, 2)
            if p == other
        ]
    return preferences


# ── Writing prompts ──────────────────────────────────────────────────────────────────────────────────────

DRAFTS = 4  # of which the first usable one is kept
AT_ONCE = 8  # prompts whose drafts are written side by side


def topic_of(job: Job, number: int) -> str:
    """The topic of prompt ``number`` (from 0): one prompt a topic before any topic comes again."""
    return job.persona.topics[number % len(job.persona.topics)]


def prompt_request(job: Job, number: int) -> Request:
    """The request for prompt ``number`` (from 0): the persona's way of asking, to be continued on the topic."""
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


def write_prompts(job: Job, numbers: Sequence[int], known: Sequence[str]) -> Iterator[dict[int, str]]:
    """The texts of these prompts, a few at a time: of each the first draft that is one sentence, on its topic and
    unlike the ``known`` ones, else the way of asking and the topic themselves. Raises MissingError where these were
    asked before."""
    for start in range(0, len(numbers), AT_ONCE):
        requests = {number: prompt_request(job, number) for number in numbers[start : start + AT_ONCE]}
        drafts = [replace(r, seed=job.seed(r.seed, 0, i)) for r in requests.values() for i in range(DRAFTS)]
        answers = dict(answers_to(job, drafts, "drafts of prompts"))
        found: dict[int, str] = {}
        for at, (number, request) in enumerate(requests.items()):
            topic, texts = topic_of(job, number), (answers[DRAFTS * at + i].text for i in range(DRAFTS))
            sentences = [match[0] for text in texts if (match := re.match(r"[^.?!\n]{12,220}[.?!]", text))]
            on_topic = [sentence for sentence in sentences if _on_topic(sentence, topic)]
            candidates = [*on_topic, f"{request.opening}: {topic}?"]
            if text := next(unlike(candidates, [*known, *found.values()]), ""):
                found[number] = text
        yield found
        if len(found) < len(requests):
            raise MissingError(
                f"The topics of {job.name} are too few for {job.params.num_prompts} different prompts; all written "
                "are kept. Add topics, take a lower --num_prompts, or prompts of your own (--prompts FILE)."
            )
        known = [*known, *found.values()]


def _on_topic(sentence: str, topic: str) -> bool:
    """At least half of the topic's content words occur in it, compared by their first five letters."""
    stems = {word[:5] for word in words(topic) if len(word) > 3}
    return len(stems & {word[:5] for word in words(sentence)}) * 2 >= len(stems)
