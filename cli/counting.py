"""What runs would still ask, persona by persona: ``stages.counting`` over several jobs.

costs = count([job], {})
by_model(costs.total())           # {"llama3:8b": 753, …}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stages import counting
from stages.counting import Tokens
from stages.tasks import Job

Calls = Counter[tuple[str, str]]
"""(stage, model) → calls; for a model that weighs, a call is one text: a draft, an answer, or one reading of one."""


@dataclass(frozen=True)
class Costs:
    """Calls that runs still have to make."""

    personas: Mapping[str, Calls]
    tokens: Mapping[str, Tokens]
    """By model; only of those that a server has."""

    def total(self) -> Calls:
        """All of them together."""
        return sum(self.personas.values(), Counter())


def by_model(calls: Calls) -> Counter[str]:
    """Calls of all stages, by model."""
    return sum((Counter({model: number}) for (_, model), number in calls.items()), Counter())


def by_stage(calls: Calls) -> Counter[str]:
    """Calls to all models, by stage."""
    return sum((Counter({stage: number}) for (stage, _), number in calls.items()), Counter())


def count(jobs: Sequence[Job], digests: Mapping[str, str], anew: Collection[str] = ()) -> Costs:
    """What runs of these jobs would ask. ``digests`` and ``anew``: see ``stages.counting.count``."""
    from evidence.experiment import listed

    personas: dict[str, Calls] = {}
    tokens: dict[str, Tokens] = {}
    for job in jobs:
        found = counting.count(job, listed(job.prompt_ids, job.params), anew=anew, digests=digests)
        personas[job.name] = found.calls
        for model, more in found.tokens.items():
            before = tokens.get(model, Tokens())
            tokens[model] = Tokens(before.read + more.read, before.written + more.written)
    return Costs(personas, tokens)
