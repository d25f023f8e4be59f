"""Calls that a run still has to make, counted from the stages' own tasks and the cache: nothing is asked or written.

count(job, listed)                # {("responses", "gemma3:4b"): 25, ("preferences", "llama3:8b"): 750}

Exact as far as the cache reaches. A text that is not there yet stands as one of the greatest length: what would be
asked about it has a hash that no item has, and so counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import config
from core.errors import MissingError
from core.records import Prompt, Response
from core.store import Items
from llm.interface import BYTES_PER_TOKEN, LanguageModel
from stages import likelihood
from stages.judging import NOISE_ROUNDS, list_tasks, pair_tasks, texts_of
from stages.tasks import STAGES, Job, open_tasks, read_value, why_left_out
from stages.writing import WrittenPrompt, prompt_tasks, response_tasks

Calls = Counter[tuple[str, str]]
"""Calls by (stage, model); for a model that weighs texts, a call is one text."""
PROMPT_TOKENS = 200  # of a prompt that is not written yet, at most


def by_model(counts: Iterable[Calls]) -> Counter[str]:
    """Calls of all stages, by model."""
    calls: Counter[str] = Counter()
    for counted in counts:
        for (_, model), number in counted.items():
            calls[model] += number
    return calls


def count(job: Job, listed: Collection[str] = (), *, anew: Collection[str] = ()) -> Calls:
    """Count what ``make_data(job, clock, listed)`` would ask. ``anew``: stages of which nothing counts as cached."""
    calls, job = Calls(), replace(job, llm=cast("LanguageModel", _Named(job.llm)))
    kept: dict[str, Items] = {stage: {} if stage in anew else job.kept(file) for file, stage in STAGES.items()}
    prompts = _prompts(job, kept["prompts"], calls)
    responses = _responses(job, prompts, kept["responses"], calls)
    texts = texts_of(responses)
    prompts = [p for p in prompts if all((p.id, model) in texts for model in job.contestants)]
    chosen = [p for p in prompts if p.id in listed and job.params.ground_truth != "round_robin"]
    if job.llm.weighs_options:
        for group, readers in likelihood.reading_groups(job).items():
            ids = likelihood.reading_items(job, prompts, texts, group).values()
            calls["preferences", job.judge] += len(readers) * sum(id not in kept["preferences"] for id in ids)
    else:
        pairs = pair_tasks(job, prompts, responses, kept["preferences"])
        calls["preferences", job.judge] += len(open_tasks(kept["preferences"], pairs))
    calls["ground_truth", job.judge] += len(open_tasks(kept["ground_truth"], list_tasks(job, chosen, responses)))
    for round_ in NOISE_ROUNDS if job.params.ground_truth == "both" else ():
        again = pair_tasks(job, chosen, responses, kept["preferences"], round_)
        calls["ground_truth", job.judge] += len(open_tasks(kept["preferences"], again))
    return +calls


def _prompts(job: Job, kept: Items, calls: Calls) -> list[Prompt]:
    """The prompts as they are kept, the others as placeholders."""
    if job.prompts:
        return list(job.prompts)
    prompts, path, missing = [], job.path(config.PROMPTS_FILE), 0
    for task in prompt_tasks(job):
        item = kept.get(task.id)
        if item is None:
            missing += 1
            prompts.append(Prompt(task.key, f"{task.key} ".ljust(PROMPT_TOKENS * BYTES_PER_TOKEN, "x")))
        else:
            prompts.append(Prompt(task.key, read_value(path, task.key, item.value, WrittenPrompt).text))
    lists = -(-missing // job.params.prompts_per_request)
    calls["prompts", job.judge] += likelihood.DRAFTS * missing if job.llm.weighs_options else lists
    return prompts


def _responses(job: Job, prompts: Sequence[Prompt], kept: Items, calls: Calls) -> list[Response]:
    """The responses as they are kept, those that are not asked yet as placeholders, none where one is left out."""
    if job.responses:
        return list(job.responses)
    longest = "x" * (BYTES_PER_TOKEN * job.params.num_predict)
    path, found = job.path(config.RESPONSES_FILE), []
    for task in response_tasks(job, prompts):
        item = kept.get(task.id)
        if item is None:
            calls["responses", job.judge if job.llm.weighs_options else task.question.model] += 1
            found.append(Response(task.about["prompt_id"], task.about["model"], longest))
        elif not why_left_out(item.value):
            found.append(read_value(path, task.key, item.value, Response))
    return found


class _Named:
    """A language model's identity, also where nobody knows it: then nothing of its answers is cached."""

    def __init__(self, llm: LanguageModel) -> None:
        self.backend, self.weighs_options = llm.backend, llm.weighs_options
        self._llm = llm

    def identity(self, model: str) -> dict[str, Any]:
        try:
            return self._llm.identity(model)
        except MissingError:
            return {"backend": self.backend, "tag": model, "digest": "not installed"}
