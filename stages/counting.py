"""Calls that a run still has to make, counted from the stages' own tasks and the cache: nothing is asked or written.

costs = count(job, listed)
costs.calls                       # {("responses", "gemma3:4b"): 25, ("preferences", "llama3:8b"): 750}

Exact as far as the cache reaches. A text that is not there yet stands as one of the greatest length: what would be
asked about it has a hash that no item has, and so counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import config
from core.errors import MissingError
from core.records import Prompt, Response
from core.store import Items
from llm.interface import BYTES_PER_TOKEN, Choice, LanguageModel, Request, estimate_tokens
from stages import likelihood
from stages.judging import NOISE_ROUNDS, list_tasks, pair_tasks, texts_of
from stages.tasks import STAGES, Job, Task, open_tasks, read_value, why_left_out
from stages.writing import WrittenPrompt, prompt_request, prompt_tasks, response_tasks

PROMPT_TOKENS = 200  # of a prompt that is not written yet, at most


class Tokens(NamedTuple):
    """Tokens that a model reads and writes, by estimate and at most: every answer at its limit."""

    read: int = 0
    written: int = 0


@dataclass(frozen=True)
class Costs:
    """Calls by (stage, model), and tokens by model; for a model that weighs, a call is one text and has no tokens."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: dict[str, Tokens] = field(default_factory=dict)

    def add(self, stage: str, questions: Sequence[Request | Choice]) -> None:
        """Count these questions to a server."""
        for question in questions:
            read, written = self.tokens.get(question.model, Tokens())
            read += estimate_tokens((question.system or "") + question.prompt)
            self.tokens[question.model] = Tokens(read, written + question.num_predict)
            self.calls[stage, question.model] += 1


def count(
    job: Job, listed: Collection[str] = (), *, anew: Collection[str] = (), digests: Mapping[str, str] | None = None
) -> Costs:
    """Count what ``make_data(job, clock, listed)`` would ask.

    ``anew``: stages of which nothing counts as cached. ``digests``: models by tag as if these were their digests,
    whatever the server says.
    """
    costs, job = Costs(), replace(job, llm=cast("LanguageModel", _Named(job.llm, digests or {})))
    kept: dict[str, Items] = {stage: {} if stage in anew else job.kept(file) for file, stage in STAGES.items()}
    prompts = _prompts(job, kept["prompts"], costs)
    responses = _responses(job, prompts, kept["responses"], costs)
    texts = texts_of(responses)
    prompts = [p for p in prompts if all((p.id, model) in texts for model in job.contestants)]
    if job.llm.weighs_options:
        for group, readers in likelihood.reading_groups(job).items():
            ids = likelihood.reading_items(job, prompts, texts, group).values()
            costs.calls["preferences", job.judge] += len(readers) * sum(id not in kept["preferences"] for id in ids)
    else:
        costs.add("preferences", _open(kept["preferences"], pair_tasks(job, prompts, responses, kept["preferences"])))
    chosen = [p for p in prompts if p.id in listed and job.params.ground_truth != "round_robin"]
    costs.add("ground_truth", _open(kept["ground_truth"], list_tasks(job, chosen, responses)))
    for round_ in NOISE_ROUNDS if job.params.ground_truth == "both" else ():
        tasks = pair_tasks(job, chosen, responses, kept["preferences"], round_)
        costs.add("ground_truth", _open(kept["preferences"], tasks))
    return replace(costs, calls=+costs.calls)


def _open(items: Items, tasks: Sequence[Task]) -> list[Request | Choice]:
    return [task.question for task in open_tasks(items, tasks)]


def _prompts(job: Job, kept: Items, costs: Costs) -> list[Prompt]:
    """The prompts as they are kept, the others as placeholders."""
    if job.prompts:
        return list(job.prompts)
    prompts, path, missing = [], job.path(config.PROMPTS_FILE), []
    for number, task in enumerate(prompt_tasks(job)):
        item = kept.get(task.id)
        if item is None:
            missing.append(number)
            prompts.append(Prompt(task.key, f"{task.key} ".ljust(PROMPT_TOKENS * BYTES_PER_TOKEN, "x")))
        else:
            prompts.append(Prompt(task.key, read_value(path, task.key, item.value, WrittenPrompt).text))
    if job.llm.weighs_options:
        costs.calls["prompts", job.judge] += likelihood.DRAFTS * len(missing)
    else:
        batch, known = job.params.prompts_per_request, [p.text for p in prompts]
        starts = range(0, len(missing), batch)
        costs.add("prompts", [prompt_request(job, missing[start : start + batch], known) for start in starts])
    return prompts


def _responses(job: Job, prompts: Sequence[Prompt], kept: Items, costs: Costs) -> list[Response]:
    """The responses as they are kept, those that are not asked yet as placeholders, none where one is left out."""
    if job.responses:
        return list(job.responses)
    tasks = response_tasks(job, prompts)
    missing = open_tasks(kept, tasks)
    if job.llm.weighs_options:
        costs.calls["responses", job.judge] += len(missing)
    else:
        costs.add("responses", [task.question for task in missing])
    longest = "x" * (BYTES_PER_TOKEN * job.params.num_predict)
    path, found = job.path(config.RESPONSES_FILE), []
    for task in tasks:
        item = kept.get(task.id)
        if item is None:
            found.append(Response(task.about["prompt_id"], task.about["model"], longest))
        elif not why_left_out(item.value):
            found.append(read_value(path, task.key, item.value, Response))
    return found


class _Named:
    """A language model's identity, also where nobody knows it: then nothing of its answers is cached."""

    def __init__(self, llm: LanguageModel, digests: Mapping[str, str]) -> None:
        self.backend, self.weighs_options = llm.backend, llm.weighs_options
        self._llm, self._digests = llm, digests

    def identity(self, model: str) -> dict[str, Any]:
        """As the real model says, or as ``digests`` does."""
        if model in self._digests:
            return {"backend": self.backend, "tag": model, "digest": self._digests[model]}
        try:
            return self._llm.identity(model)
        except MissingError:
            return {"backend": self.backend, "tag": model, "digest": "not installed"}
