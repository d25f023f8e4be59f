"""Judging by likelihood, for the embedded model: how likely each reader would have written a response.

Such a judge has no order of showing. A model this small can't be asked "A or B?", and for the same reason its prompts
are not asked for as a list: it continues the persona's way of asking, once a topic.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, groupby, product
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import config
from core.clock import bar
from core.errors import MissingError
from core.files import fingerprint
from core.records import Preference, Prompt, Response
from core.store import read_items
from llm.interface import Choice, Request
from stages.tasks import Job, Task, make_task, records, unlike, words

# ── Reading responses ────────────────────────────────────────────────────────────────────────────────────

REFERENCE_GROUP = "reference readers"


Readings = Mapping[tuple[str, str], Mapping[str, float]]
"""(prompt id, model) → {reader: mean log p per token}."""
Group = tuple[dict[str, str], list[Task]]
"""Readers with their system prompts, and a task for each response: an item holds what all of them read in it."""


def reading_tasks(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Group]:
    """The reference readers, then the persona's own; a task's question stands for one to each of its readers."""
    texts, identity = {(r.prompt_id, r.model): r.text for r in responses}, job.llm.identity(config.EMBEDDED_NAME)
    groups = []
    for group, readers in ((REFERENCE_GROUP, config.REFERENCE_READERS), (job.name, {job.name: job.persona.answerer})):
        # recorded with the neutral assistant's reading, which nothing needs any more
        neutral = {"neutral": config.NEUTRAL_READER} if group == REFERENCE_GROUP else {}
        tasks = []
        for p, m in product(prompts, job.contestants):
            made_from = fingerprint(identity, p.text, texts[p.id, m], {**readers, **neutral})
            asked = Choice(config.EMBEDDED_NAME, p.text, (texts[p.id, m],), label=f"{p.id} read by {group}")
            key = f"{p.id}/{m} read by {group}", made_from
            tasks.append(Task(key, asked, {"prompt_id": p.id, "model": m}))
        groups.append((readers, tasks))
    return groups


def _read_missing(job: Job, groups: Sequence[Group]) -> None:
    """Read what was not read yet: all missing responses to a prompt side by side."""
    with job.store(config.PREFERENCES_FILE) as store:
        steps = [
            (readers, missing)
            for readers, tasks in groups
            for _, same in groupby(tasks, key=lambda task: task.about["prompt_id"])
            if (missing := [task for task in same if store.get(*task.id) is None])
        ]
        for readers, missing in bar(steps, len(steps), "readings of prompts"):
            asked = cast("list[Choice]", [task.question for task in missing])
            about = replace(asked[0], options=tuple(choice.options[0] for choice in asked))
            choices = [replace(about, system=system) for system in readers.values()]
            decisions: dict[int, Any] = dict(job.llm.choose(choices))  # none is left out
            for column, task in enumerate(missing):
                scores = {reader: round(decisions[row].scores[column], 6) for row, reader in enumerate(readers)}
                key, made_from = task.id
                store.put(key, made_from, {**task.about, "log_likelihood": scores})


# ── From readings to judgements ──────────────────────────────────────────────────────────────────────────


def judge_by_likelihood(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Preference]:
    """Every pair of responses to every prompt, once. All readings are kept among the job's preferences, and the
    outcomes printed beside them."""
    groups, file = reading_tasks(job, prompts, responses), config.PREFERENCES_FILE
    if not job.silent:
        _read_missing(job, groups)
    reference, own = (dict(records(job, file, tasks, _reading)) for _, tasks in groups)
    judgements = list(_outcomes(own, reference))
    if not job.silent:
        with job.store(file) as store:
            said = {f"{j.prompt_id}/{j.model_a} vs {j.model_b}": {"outcome": j.outcome} for j in judgements}
            store.print_out(said)
    return judgements


def _reading(prompt_id: str, model: str, log_likelihood: dict[str, float]) -> tuple[tuple[str, str], dict[str, float]]:
    return (prompt_id, model), log_likelihood


def _outcomes(own: Readings, reference: Readings, user: str = "") -> Iterator[Preference]:
    """Yield one for each pair, with σ((s_a − s_b)/T): how strongly the response of a is preferred.

    s(y) = mean log p(y | persona, x) − the mean of the same over the reference readers, in nats per token. What
    everybody finds likely cancels out; what is left is likelier to this persona than to people in general.
    """
    from scipy.special import expit

    advantages = {}
    for key in (key for key in own if own[key] and reference.get(key)):
        mean = fmean(reference[key][reader] for reader in config.REFERENCE_READERS if reader in reference[key])
        advantages[key] = round(fmean(own[key].values()) - mean, 6)
    for ((p, a), s_a), ((other, b), s_b) in combinations(advantages.items(), 2):
        if p == other:
            outcome = round(float(expit((s_a - s_b) / config.EMBEDDED_JUDGE_TEMPERATURE)), 4)
            yield Preference(p, a, b, outcome, user)


def recorded_preferences(job: Job) -> list[Preference]:
    """Preferences of the other built-in personas in the recorded run, each under its persona's name.

    To the embedded contestants they are what the Arena's votes are to models: everyone else's taste. The persona's own
    have no part in it. Contestants that the recorded run does not know have none.
    """
    preferences = list[Preference]()
    for persona in [name for name in config.PERSONAS if name != job.name] if job.samples_dir else []:
        path = (job.samples_dir or Path()) / config.PREFERENCES_FILE.format(name=persona)
        read: dict[str, dict[tuple[str, str], Mapping[str, float]]] = {persona: {}, REFERENCE_GROUP: {}}
        for item in read_items(path).values():
            key, readings = _reading(**item["value"])
            if key[1] in job.contestants:
                read[item["key"].partition(" read by ")[2]][key] = readings
        preferences += _outcomes(read[persona], read[REFERENCE_GROUP], persona)
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


def prompt_value(job: Job, known: list[str], task: Task, answer: Any) -> dict[str, str]:
    """Make a prompt of an answer: its first sentence, where that is on the topic and unlike the ``known`` prompts, else
    the way of asking and the topic themselves. Raises MissingError where these were asked before."""
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
