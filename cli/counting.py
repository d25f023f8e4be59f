"""What a run would still ask, counted without asking: the very stages of the run, with a stand-in for the models.

costs = count([job], {})
by_model(costs.total())           # {"llama3:8b": 753, …}
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import evaluation
from core.clock import Clock
from core.errors import MissingError
from data_generation import Data, make_data, rankings_by
from llm.interface import BYTES_PER_TOKEN, Choice, Completion, Decision, Request, estimate_tokens
from stages.tasks import Job

Calls = Counter[tuple[str, str]]
"""(stage, model) → calls; for a model that weighs, a call is one text: a draft, an answer, or one reading of one."""


class Tokens(NamedTuple):
    """Tokens that a model reads and writes, by estimate and at most: every answer at its limit."""

    read: int = 0
    written: int = 0


@dataclass(frozen=True)
class Costs:
    """Calls that runs still have to make."""

    personas: Mapping[str, Calls]
    comparison: Calls
    """For every persona to judge the others' test prompts."""
    tokens: Mapping[str, Tokens]
    """By model; only of those that a server has."""

    def total(self) -> Calls:
        """All of them together."""
        return sum((*self.personas.values(), self.comparison), Counter())


def by_model(calls: Calls) -> Counter[str]:
    """Calls of all stages, by model."""
    return sum((Counter({model: number}) for (_, model), number in calls.items()), Counter())


def by_stage(calls: Calls) -> Counter[str]:
    """Calls to all models, by stage."""
    return sum((Counter({stage: number}) for (stage, _), number in calls.items()), Counter())


def ids_for_testing(job: Job) -> tuple[str, ...]:
    """The documented split's test prompts, whether they are written yet or not."""
    return evaluation.split(job.prompt_ids, job.params.train_prompts, job.params.random_seed)[1]


def count(jobs: Sequence[Job], digests: Mapping[str, str]) -> Costs:
    """What runs of these jobs, and the comparison of several personas, would ask.

    ``digests``: models by tag as if these were their digests, whatever the server says.
    """
    clock = Clock()
    llm = Counting(jobs[0], digests, clock)
    looking = [replace(job, llm=llm, read_only=True) for job in jobs]
    personas, data = {}, []
    for job in looking:
        data.append(make_data(job, clock, ids_for_testing(job)))
        personas[job.name] = llm.taken()
    return Costs(personas, _compared(looking, data, llm, clock), llm.tokens)


def count_comparison(jobs: Sequence[Job], data: Sequence[Data]) -> Calls:
    """What comparing the personas would ask when each one's own data is there."""
    clock = Clock()
    llm = Counting(jobs[0], {}, clock)
    return _compared([replace(job, llm=llm, read_only=True) for job in jobs], data, llm, clock)


def _compared(jobs: Sequence[Job], data: Sequence[Data], llm: Counting, clock: Clock) -> Calls:
    listed = {prompt_id for job in jobs for prompt_id in ids_for_testing(job)}
    with clock.stage("preferences"):
        for job in jobs if len(jobs) > 1 else ():
            rankings_by(job, jobs, data, listed)
    return llm.taken()


# ── The stand-in ─────────────────────────────────────────────────────────────────────────────────────────


class Counting:
    """Stands in for a job's language model: counts what it is asked and answers with placeholders of the right shape.

    What it was asked before is not counted again: a run would have kept the answer.
    """

    def __init__(self, job: Job, digests: Mapping[str, str], clock: Clock) -> None:
        self.backend, self.weighs_options = job.llm.backend, job.llm.weighs_options
        self._job, self._digests, self._clock = job, digests, clock
        self.tokens: dict[str, Tokens] = {}
        self._asked: set[Request | Choice] = set()
        self._calls: Calls = Counter()

    def taken(self) -> Calls:
        """The calls since this was last asked for."""
        calls, self._calls = self._calls, Counter()
        return calls

    def identity(self, model: str) -> dict[str, Any]:
        """As the real model says; a placeholder where nobody knows it."""
        if model in self._digests:
            return {"backend": self.backend, "tag": model, "digest": self._digests[model]}
        try:
            return self._job.llm.identity(model)
        except MissingError:
            return {"backend": self.backend, "tag": model, "digest": "not installed"}

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Answers that repeat what was asked, each unlike all others."""
        for index, request in enumerate(requests):
            self._count(request, 1)
            text = " ".join(re.findall(r"\w+", request.prompt)[-12:])  # where a topic stands
            parsed = self._obey(request) if request.schema else None
            # as long as an answer may be, so that what a judge will be shown is not taken for less
            rest = "x" * (BYTES_PER_TOKEN * request.num_predict if self.backend == "openai" else 0)
            yield index, Completion(f"{text} {_unique(request.seed)}. {rest}", tokens=0, seconds=0.0, parsed=parsed)

    def choose(self, choices: Sequence[Choice]) -> Iterator[tuple[int, Decision]]:
        """The first option, always."""
        for index, choice in enumerate(choices):
            self._count(choice, len(choice.options) if self.weighs_options else 1)
            yield index, Decision(choice.options[0], scores=(0.0,) * len(choice.options))

    def _count(self, question: Request | Choice, calls: int) -> None:
        if question not in self._asked:
            self._asked.add(question)
            model = self._job.judge if self.weighs_options else question.model  # styles are no models of their own
            self._calls[self._clock.running, model] += calls
            if not self.weighs_options:
                before = self.tokens.get(model, Tokens())
                read = before.read + estimate_tokens((question.system or "") + question.prompt)
                self.tokens[model] = Tokens(read, before.written + question.num_predict)

    def _obey(self, request: Request) -> Any:
        """Every list of labels whole, every other list as long as a batch of prompts."""
        assert request.schema is not None
        texts = [_unique(f"{request.seed}x{i}") for i in range(self._job.params.prompts_per_request)]
        lists = request.schema.model_json_schema()["properties"]
        return request.schema.model_validate({n: s["items"].get("enum", texts) for n, s in lists.items()})


def _unique(mark: object) -> str:
    """Words that no other mark has: enough of them that no two texts pass for copies."""
    return " ".join(f"{letter}{mark}" for letter in "abcde")
