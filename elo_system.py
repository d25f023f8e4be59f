"""System A: each contestant's rating is its global Elo plus an offset of the user's own.

    system = EloSystem({"llama3:8b": 1171.0, "gemma3:4b": 1293.0}).fit(preferences)
    system.scores("any prompt")  # the ratings: one ranking for all prompts

Given is the global rating, which stays. Learned is the offset, 0 at first: each preference moves it by one standard Elo
update, up by what the outcome exceeds the expectation of the ratings so far. No text is read, so that what is learned
on one prompt counts on all.

Formulas: A. E. Elo, *The Rating of Chessplayers, Past and Present* (Arco, 1978); FIDE Handbook B.02.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from scipy.special import expit

from core.files import write_json
from core.ranking import Ranker, TrainingSet

SCALE = 400.0
LOGIT = math.log(10.0) / SCALE  # one Elo point in logits
UNRATED_START = 1000.0  # only where nobody is rated: then no figure means anything but the differences


def expectation(rating_a: float, rating_b: float) -> float:
    """Expected outcome of a against b, E = 1 / (1 + 10^((R_b − R_a) / 400)), in [0, 1]."""
    return float(expit(LOGIT * (rating_a - rating_b)))


def starting_ratings(ratings: Mapping[str, float | None]) -> dict[str, float]:
    """Global ratings with each unrated contestant at the mean of the rated ones (1000 where there are none)."""
    rated = [r for r in ratings.values() if r is not None]
    mean = sum(rated) / len(rated) if rated else UNRATED_START
    return {model: mean if r is None else float(r) for model, r in ratings.items()}


class EloSystem(Ranker):
    """Global Elo ratings moved by the user's preferences, one after the other: the order matters, as in chess.

    ``ratings`` gives every contestant's global rating in Elo points, None for an unrated one; ``k`` is the largest step
    of one update in Elo points.
    """

    name = "elo_offset"

    def __init__(self, ratings: Mapping[str, float | None], k: float = 32.0) -> None:
        self._start = starting_ratings(ratings)
        self.k = float(k)
        self.offsets, self.updates = dict.fromkeys(self._start, 0.0), 0

    @property
    def ratings(self) -> dict[str, float]:
        """Global rating + offset, in Elo points."""
        return {model: start + self.offsets[model] for model, start in self._start.items()}

    def fit_many(self, sets: Sequence[TrainingSet]) -> list[Self]:
        """Each set's preferences, from offset 0, by Elo updates R_a ← R_a + K (S − E) with S the outcome in [0, 1]; b
        moves by as much the other way."""
        fitted = [copy.copy(self) for _ in sets]
        for system, s in zip(fitted, sets, strict=True):
            system.offsets, system.updates = dict.fromkeys(self._start, 0.0), len(s.preferences)
            for p in s.preferences:
                rating_a, rating_b = (self._start[model] + system.offsets[model] for model in (p.model_a, p.model_b))
                step = self.k * (p.outcome - expectation(rating_a, rating_b))  # an expected win moves hardly anything
                system.offsets[p.model_a] += step
                system.offsets[p.model_b] -= step
        return fitted

    def scores(self, prompt_id: str) -> dict[str, float]:  # noqa: ARG002  (one ranking for all prompts)
        """The ratings, whatever the prompt."""
        return self.ratings

    def save(self, path: Path) -> None:
        """Write the state as JSON for people who look; nothing reads it back."""
        ratings = self.ratings
        models = {m: {"start": self._start[m], "offset": o, "rating": ratings[m]} for m, o in self.offsets.items()}
        write_json(path, {"system": self.name, "k": self.k, "scale": SCALE, "updates": self.updates, "models": models})
