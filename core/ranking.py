"""The interface of everything that ranks: ``fit(preferences)`` and ``scores(prompt_id)``.

Trainings side by side are the general case (``fit_many``), one of them the special one. A new system or baseline is one
subclass and one line where systems are listed; evaluation loops over them without asking which is which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from core.records import Preference


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """All that one training may see."""

    preferences: tuple[Preference, ...]
    """In the order in which they were given."""
    prompt_ids: tuple[str, ...]
    """The training prompts. Their responses may be read without a label (standardization, regularization)."""
    held_out: str | None = None
    """A contestant whose preferences *and* responses must not be seen in training."""

    @classmethod
    def of(
        cls, preferences: Sequence[Preference], prompt_ids: Collection[str] | None = None, held_out: str | None = None
    ) -> TrainingSet:
        """Preferences on ``prompt_ids`` (None: all of theirs) in which ``held_out`` takes no part."""
        allowed = dict.fromkeys(p.prompt_id for p in preferences) if prompt_ids is None else dict.fromkeys(prompt_ids)
        kept = tuple(p for p in preferences if p.prompt_id in allowed and held_out not in (p.model_a, p.model_b))
        return cls(kept, tuple(allowed), held_out)


class Ranker(ABC):
    """Scores the contestants for a prompt; higher is better. Before ``fit`` it knows no preference."""

    name: str

    @abstractmethod
    def fit_many(self, sets: Sequence[TrainingSet]) -> list[Self]:
        """One independently fitted ranker for each set; self stays as it is."""

    @abstractmethod
    def scores(self, prompt_id: str) -> dict[str, float]:
        """Every contestant's score for this prompt."""

    def fit(self, preferences: Sequence[Preference], *, prompt_ids: Collection[str] | None = None) -> Self:
        """Forget what was learned, learn from ``preferences`` (see ``TrainingSet.of``) and return self."""
        (fitted,) = self.fit_many([TrainingSet.of(preferences, prompt_ids)])
        vars(self).update(vars(fitted))
        return self
