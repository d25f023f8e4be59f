"""Judging by likelihood, for the embedded model: how likely each reader would have written a response.

Such a judge has no order of showing. A model this small can't be asked "A or B?", and for the same reason its prompts
are not asked for as a list: it continues the persona's way of asking, once a topic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby, product
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, cast

from pydantic import Field

import config
from core.clock import bar
from core.errors import MissingError
from core.files import fingerprint
from core.records import Judgement, Preference, Prompt, Response
from core.store import read_items
from llm.interface import Choice, Request
from stages.tasks import Job, Task, make_task, records, unlike, words

# ── Reading responses ────────────────────────────────────────────────────────────────────────────────────

REFERENCE_GROUP = "reference readers"


@dataclass(frozen=True, slots=True)
class Reading:
    """One group's readings of one response, as they are kept: {reader: mean log p per token}."""

    prompt_id: str
    model: str
    log_likelihood: Annotated[dict[str, float], Field(min_length=1)]


def reading_groups(job: Job) -> dict[str, dict[str, str]]:
    """{group: {reader: system prompt}}: one item of the cache holds what one group reads in one response."""
    return {REFERENCE_GROUP: config.REFERENCE_READERS, job.name: {job.name: job.persona.answerer}}


def reading_tasks(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> dict[str, list[Task]]:
    """Each group's readings: a question stands for one to each of its readers."""
    texts, identity = {(r.prompt_id, r.model): r.text for r in responses}, job.llm.identity(config.EMBEDDED_NAME)
    tasks: dict[str, list[Task]] = {group: [] for group in reading_groups(job)}
    for (group, readers), p, m in product(reading_groups(job).items(), prompts, job.contestants):
        if group == REFERENCE_GROUP:  # recorded with the neutral assistant's reading, which nothing needs any more
            readers = {**readers, "neutral": config.NEUTRAL_READER}
        made_from = fingerprint(identity, p.text, texts[p.id, m], readers)
        asked = Choice(config.EMBEDDED_NAME, p.text, (texts[p.id, m],), label=f"{p.id} read by {group}")
        tasks[group].append(Task(f"{p.id}/{m} read by {group}", made_from, asked, {"prompt_id": p.id, "model": m}))
    return tasks


def _read_missing(job: Job, tasks: Mapping[str, Sequence[Task]]) -> None:
    """Read what was not read yet: all missing responses to a prompt side by side."""
    steps = [
        (reading_groups(job)[group], list(same))
        for group, readings in tasks.items()
        for _, same in groupby(readings, key=lambda task: task.about["prompt_id"])
    ]
    with job.store(config.PREFERENCES_FILE) as store:
        for readers, same in bar(steps, len(steps), "readings of prompts"):
            missing: list[Task] = [task for task in same if store.get(*task.id) is None]
            if not missing:
                continue
            asked = cast("list[Choice]", [task.question for task in missing])
            about = replace(asked[0], options=tuple(choice.options[0] for choice in asked))
            choices = [replace(about, system=system) for system in readers.values()]
            decisions: dict[int, Any] = dict(job.llm.choose(choices))  # none is left out
            for column, task in enumerate(missing):
                scores = {reader: round(decisions[row].scores[column], 6) for row, reader in enumerate(readers)}
                store.put(*task.id, {**task.about, "log_likelihood": scores})


# ── From readings to judgements ──────────────────────────────────────────────────────────────────────────


def judge_by_likelihood(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Judgement]:
    """Every pair of responses to every prompt, once. All readings are kept among the job's preferences, and the
    outcomes printed beside them."""
    tasks, file = reading_tasks(job, prompts, responses), config.PREFERENCES_FILE
    if not job.silent:
        _read_missing(job, tasks)
    reference, own = (records(job, file, readings, Reading) for readings in tasks.values())
    judgements = [Judgement(p, a, b, outcome, ordered=False) for p, a, b, outcome in _outcomes(own, reference)]
    if not job.silent:
        with job.store(file) as store:
            said = {f"{j.prompt_id}/{j.first} vs {j.second}": {"outcome": j.outcome} for j in judgements}
            store.print_out(said)
    return judgements


def _outcomes(own: Sequence[Reading], reference: Sequence[Reading]) -> Iterator[tuple[str, str, str, float]]:
    """Yield (prompt id, a, b, σ((s_a − s_b)/T)): how strongly the response of a is preferred.

    s(y) = mean log p(y | persona, x) − the mean of the same over the reference readers, in nats per token. What
    everybody finds likely cancels out; what is left is likelier to this persona than to people in general.
    """
    from scipy.special import expit

    others = {(r.prompt_id, r.model): r.log_likelihood for r in reference}
    advantages = {}
    for r in own:
        if read := others.get((r.prompt_id, r.model)):
            mean = fmean(read[reader] for reader in config.REFERENCE_READERS if reader in read)
            advantages[r.prompt_id, r.model] = round(fmean(r.log_likelihood.values()) - mean, 6)
    for ((p, a), s_a), ((other, b), s_b) in combinations(advantages.items(), 2):
        if p == other:
            yield p, a, b, round(float(expit((s_a - s_b) / config.EMBEDDED_JUDGE_TEMPERATURE)), 4)


def recorded_preferences(job: Job) -> list[Preference]:
    """Preferences of the other built-in personas in the recorded run, each under its persona's name.

    To the embedded contestants they are what the Arena's votes are to models: everyone else's taste. The persona's own
    have no part in it. Contestants that the recorded run does not know have none.
    """
    preferences = []
    for persona in [name for name in config.PERSONAS if name != job.name] if job.samples_dir else []:
        path = (job.samples_dir or Path()) / config.PREFERENCES_FILE.format(name=persona)
        read: dict[str, list[Reading]] = {persona: [], REFERENCE_GROUP: []}
        for item in read_items(path).values():
            if item["value"]["model"] in job.contestants:
                read[item["key"].partition(" read by ")[2]].append(Reading(**item["value"]))
        preferences += [Preference(*pair, persona) for pair in _outcomes(read[persona], read[REFERENCE_GROUP])]
    return preferences


# ── Writing prompts ──────────────────────────────────────────────────────────────────────────────────────


def prompt_tasks(job: Job) -> list[Task]:
    """A task for each prompt: the persona's way of asking, to be continued on the topic."""
    persona, tasks = job.persona, []
    for number, key in enumerate(job.prompt_ids):
        topic = persona.topics[number % len(persona.topics)]  # one prompt a topic before any topic comes again
        ask = persona.asks[(number + number // len(persona.topics)) % len(persona.asks)]
        request = Request(
            model=config.EMBEDDED_NAME,
            prompt=f'Repeat this request in your own words, in one sentence: "{ask} … {topic}"',
            opening=ask,
            temperature=0.5,
            num_predict=40,
            seed=job.seed("prompt", job.name, number),
            label=f"prompt {number + 1} of {job.name}",
        )
        tasks.append(make_task(job, key, request, {"topic": topic}, id=key))
    return tasks


def prompt_value(job: Job, known: list[str]) -> Callable[[Task, Any], dict[str, str]]:
    """Make a prompt of each answer: its first sentence, where that is on the topic and unlike the ``known`` prompts,
    else the way of asking and the topic themselves. Raises MissingError where these were asked before."""

    def value(task: Task, answer: Any) -> dict[str, str]:
        topic, opening = task.names["topic"], task.question.opening  # type: ignore[union-attr]
        found = re.match(r"[^.?!\n]{12,220}[.?!]", answer.text)
        sentence = found[0] if found else ""
        stems, said = ({word[:5] for word in words(text) if len(word) > 3} for text in (topic, sentence))
        candidates = [sentence] if 2 * len(stems & said) >= len(stems) else []
        text = next(unlike([*candidates, f"{opening}: {topic}?"], known), None)
        if text is None:
            raise MissingError(
                f"The topics of {job.name} are too few for {job.params.num_prompts} different prompts; all written "
                "are kept. Add topics, take a lower --num_prompts, or prompts of your own (--prompts FILE)."
            )
        known.append(text)
        return {"text": text}

    return value
