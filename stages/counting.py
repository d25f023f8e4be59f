"""Calls that a run still has to make, counted from the stages' own tasks and the cache: nothing is asked or written.

count(job, listed)                # {("responses", "gemma3:4b"): 25, ("preferences", "llama3:8b"): 750}

Exact as far as the cache reaches. A text that is not there yet stands as one that nobody wrote: what would be asked
about it has a hash that no item has, and so counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, cast

import config
from core.errors import MissingError
from core.records import Prompt, Response
from core.store import Items
from llm.interface import LanguageModel
from stages import likelihood
from stages.judging import list_tasks, pair_tasks
from stages.tasks import STAGES, Job, open_tasks, read_value, why_left_out
from stages.writing import WrittenPrompt, prompt_tasks, response_tasks

Calls = Counter[tuple[str, str]]
"""Calls by (stage, model); for a model that weighs texts, a call is one text."""
UNWRITTEN = "\0 not there yet: "


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
    weighs, prompts, responses = job.llm.weighs_options, list(job.prompts), list(job.responses)
    if not prompts:
        written, path = prompt_tasks(job), job.path(config.PROMPTS_FILE)
        for task in written:
            item = kept["prompts"].get(task.id)
            text = read_value(path, task.key, item.value, WrittenPrompt).text if item else UNWRITTEN + task.key
            prompts.append(Prompt(task.key, text))
        missing = len(open_tasks(kept["prompts"], written))
        lists = -(-missing // job.params.prompts_per_request)
        calls["prompts", job.judge] += likelihood.DRAFTS * missing if weighs else lists
    if not responses:
        path = job.path(config.RESPONSES_FILE)
        for task in response_tasks(job, prompts):
            item = kept["responses"].get(task.id)
            if item is None:
                calls["responses", job.judge if weighs else task.question.model] += 1
                responses.append(Response(text=UNWRITTEN + task.key, **task.about))
            elif not why_left_out(item.value):
                responses.append(read_value(path, task.key, item.value, Response))
    texts = {(r.prompt_id, r.model): r.text for r in responses}
    prompts = [p for p in prompts if all((p.id, model) in texts for model in job.contestants)]
    if weighs:
        groups = likelihood.reading_groups(job)
        for (group, _, _), id_ in likelihood.reading_items(job, prompts, texts).items():
            calls["preferences", job.judge] += len(groups[group]) * (id_ not in kept["preferences"])
    else:
        pairs = pair_tasks(job, prompts, responses, kept["preferences"])
        calls["preferences", job.judge] += len(open_tasks(kept["preferences"], pairs))
    chosen = [p for p in prompts if p.id in listed and job.params.ground_truth != "round_robin"]
    calls["ground_truth", job.judge] += len(open_tasks(kept["ground_truth"], list_tasks(job, chosen, responses)))
    return +calls


class _Named:
    """A language model's identity, also where nobody knows it: then nothing of its answers is cached."""

    def __init__(self, llm: LanguageModel) -> None:
        self.weighs_options, self._llm = llm.weighs_options, llm

    def identity(self, model: str) -> dict[str, Any]:
        try:
            return self._llm.identity(model)
        except MissingError:
            return {"digest": "not installed"}
