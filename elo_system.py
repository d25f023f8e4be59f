"""System A: each contestant's rating is its global Elo plus an offset of the user's own.

    system = EloSystem({"llama3:8b": 1171.0, "gemma3:4b": 1293.0}).fit(preferences)
    system.ranking("any prompt")  # one ranking for all prompts

Formulas: A. E. Elo, *The Rating of Chessplayers, Past and Present* (Arco, 1978); FIDE Handbook B.02.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

import inner_choice
from core.files import write_json
from core.ranking import Ranker, TrainingSet
from core.records import Preference

SCALE = 400.0
LOGIT = math.log(10.0) / SCALE  # one Elo point in logits
STEPS = (8.0, 16.0, 32.0, 64.0)  # K that inner prompts may prefer to the given one
INNER_FOLDS = 5
UNRATED_START = 1000.0  # only where nobody is rated: then no figure means anything but the differences
FARTHEST = 300.0  # in scales: beyond it 10^x overflows, and the expectation is 0 anyway


def expectation(rating_a: float, rating_b: float) -> float:
    """Expected outcome of a against b, E = 1 / (1 + 10^((R_b − R_a) / 400)), in [0, 1]."""
    return float(1.0 / (1.0 + 10.0 ** min((rating_b - rating_a) / SCALE, FARTHEST)))


def starting_ratings(ratings: Mapping[str, float | None]) -> dict[str, float]:
    """Global ratings with each unrated contestant at the mean of the rated ones (1000 where there are none).

    Raises ValueError for a rating that is no finite number.
    """
    rated = [r for r in ratings.values() if r is not None]
    if not all(map(math.isfinite, rated)):
        raise ValueError(f"a rating must be a finite number, got {rated}")
    mean = sum(rated) / len(rated) if rated else UNRATED_START
    return {model: mean if r is None else float(r) for model, r in ratings.items()}


class EloSystem(Ranker):
    """Global Elo ratings moved by the user's preferences, one after the other: the order matters, as in chess.

    ``ratings`` gives every contestant's global rating in Elo points, None for an unrated one.
    ``k`` is the largest step of one update in Elo points; a fit on many preferences takes another of ``STEPS`` where
    inner prompts, drawn by ``seed``, find it better by a standard error.
    """

    name = "elo_offset"

    def __init__(self, ratings: Mapping[str, float | None], k: float = 32.0, seed: int = 0) -> None:
        self._elo = dict(ratings)
        self._start = starting_ratings(ratings)
        self.k = self._given_k = float(k)
        self._seed = seed
        self._offsets = dict.fromkeys(self._start, 0.0)
        self.updates = 0

    @property
    def offsets(self) -> dict[str, float]:
        """What the user's preferences added to each global rating, in Elo points."""
        return dict(self._offsets)

    @property
    def ratings(self) -> dict[str, float]:
        """Global rating + offset, in Elo points."""
        return {model: start + self._offsets[model] for model, start in self._start.items()}

    def fit(
        self,
        preferences: Sequence[Preference],
        *,
        prompt_ids: Collection[str] | None = None,
        held_out: str | None = None,
    ) -> Self:
        """Start anew at offset 0 and apply ``preferences`` in their order; ``held_out`` keeps offset 0."""
        fitted = self.fit_many([TrainingSet.of(preferences, prompt_ids, held_out)])[0]
        self.k, self._offsets, self.updates = fitted.k, fitted._offsets, fitted.updates
        return self

    def fit_many(self, sets: Sequence[TrainingSet]) -> list[Self]:
        """Each set from the start; those that begin the same choose their K together."""
        firsts = [inner_choice.beginning(s) for s in sets]
        chosen = {first: self._chosen_k(first) for first in set(firsts) if first}
        ks = [chosen[first] if first else self._given_k for first in firsts]
        return [self._played(s.preferences, k) for s, k in zip(sets, ks, strict=True)]

    def _played(self, preferences: Sequence[Preference], k: float) -> Self:
        """These preferences from the start."""
        fitted = copy.copy(self)
        fitted.k, fitted._offsets, fitted.updates = k, dict.fromkeys(self._start, 0.0), 0
        for preference in preferences:
            fitted.update(preference)
        return fitted

    def _chosen_k(self, s: TrainingSet) -> float:
        """The given K, or that which predicts inner prompts best where this is better by a standard error."""
        steps, losses = [self._given_k, *STEPS], []
        for training, tests in inner_choice.parts(s, INNER_FOLDS, self._seed):
            ratings = [self._played(training.preferences, k).ratings for k in steps]
            margins = [[LOGIT * (r[p.model_a] - r[p.model_b]) for p in tests] for r in ratings]
            losses += inner_choice.cross_entropies(np.array(margins), tests)
        return steps[0] if inner_choice.good_enough(losses)[0] else steps[int(np.sum(losses, axis=0).argmin())]

    def update(self, preference: Preference) -> None:
        """One Elo update, R_a ← R_a + K (S − E), with S the outcome in [0, 1]; b moves by as much the other way.

        Raises ValueError for a contestant that has no entry in ``ratings``.
        """
        a, b = preference.model_a, preference.model_b
        for model in (a, b):
            if model not in self._start:
                raise ValueError(f"unknown contestant {model!r}; known are {', '.join(self._start)}")
        expected = expectation(self._start[a] + self._offsets[a], self._start[b] + self._offsets[b])
        step = self.k * (preference.outcome - expected)
        self._offsets[a] += step
        self._offsets[b] -= step
        self.updates += 1

    def scores(self, prompt_id: str) -> dict[str, float]:  # noqa: ARG002  (one ranking for all prompts)
        """The ratings, whatever the prompt."""
        return self.ratings

    def save(self, path: Path, info: Mapping[str, Any] | None = None) -> None:
        """Write the state as readable JSON, all of it or nothing; ``info`` is kept beside it for the reader."""
        ratings = self.ratings
        models = {
            model: {"elo": elo, "start": self._start[model], "offset": self._offsets[model], "rating": ratings[model]}
            for model, elo in self._elo.items()
        }
        state = {"system": self.name, "k": self.k, "scale": SCALE, "updates": self.updates, "models": models}
        write_json(path, {**(info or {}), **state})
