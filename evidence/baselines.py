"""What both systems must beat. Each is a ``Ranker`` like them; only Bradley–Terry learns."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Self

import numpy as np

import config
from base.features import Features
from core.ranking import Ranker
from core.records import Preference, Rating, Response
from elo_system import SCALE, expectation, starting_ratings

Game = tuple[str, str, float]
"""(winner, loser, weight): a fractional outcome is two of them, o for a and 1 − o for b."""

SURE = 1e-6  # a reader's preference is at least so far from 0 and 1: else the likelihood may have no maximum


class _Untrained(Ranker):
    """Nothing to learn: ``fit`` changes nothing."""

    def fit(
        self,
        preferences: Sequence[Preference],  # noqa: ARG002
        *,
        prompt_ids: Collection[str] | None = None,  # noqa: ARG002
        held_out: str | None = None,  # noqa: ARG002
    ) -> Self:
        return self


class GlobalElo(_Untrained):
    """The global ratings as they are, for every prompt; unrated contestants at the mean of the others."""

    name = "global_elo"

    def __init__(self, ratings: Mapping[str, float | None]) -> None:
        self._ratings = starting_ratings(ratings)

    def scores(self, prompt_id: str) -> dict[str, float]:  # noqa: ARG002
        return dict(self._ratings)


class _Table(_Untrained):
    """Scores that are known beforehand for each (prompt id, model)."""

    def __init__(self, values: Mapping[tuple[str, str], float]) -> None:
        self._values: dict[str, dict[str, float]] = {}
        for (prompt_id, model), value in values.items():
            self._values.setdefault(prompt_id, {})[model] = float(value)

    def scores(self, prompt_id: str) -> dict[str, float]:
        """Raises KeyError for a prompt that has no values."""
        return dict(self._values[prompt_id])


class BaseReward(_Table):
    """The untouched reward base: its own scalar for each (prompt id, model)."""

    name = "base_reward"

    @classmethod
    def of(cls, features: Features) -> Self:
        """Of all responses that have features."""
        return cls({key: float(features.base_score[row]) for key, row in features.index.items()})


class LongestResponse(_Table):
    """The longer, the better: the length of each (prompt id, model)'s response."""

    name = "longest_response"

    @classmethod
    def of(cls, responses: Iterable[Response]) -> Self:
        """Lengths in characters."""
        return cls({(r.prompt_id, r.model): float(len(r.text)) for r in responses})


class RandomRanking(_Untrained):
    """Scores drawn anew for each prompt, the same for the same prompt id and seed in every process."""

    name = "random"

    def __init__(self, models: Sequence[str], seed: int = 0) -> None:
        self._models = tuple(models)
        self._seed = seed

    def scores(self, prompt_id: str) -> dict[str, float]:
        digest = hashlib.sha256(prompt_id.encode()).digest()  # hash() differs from process to process
        draws = np.random.default_rng([self._seed, int.from_bytes(digest[:8], "big")]).random(len(self._models))
        return dict(zip(self._models, draws.tolist(), strict=True))


class BradleyTerry(Ranker):
    """Bradley–Terry strengths of the user's own preferences (evalica), one ranking for all prompts.

    The likelihood has no maximum for a contestant that always wins, nor between groups that never met. One
    imagined tie of each judged contestant with an average one (Newman, JMLR 24, 2023: the logistic prior) gives
    it one. Contestants without any preference stand at the mean. Scores are on the Elo scale, mean 0.
    """

    name = "bradley_terry"

    def __init__(self, models: Sequence[str]) -> None:
        self._models = tuple(models)
        self._scores = dict.fromkeys(self._models, 0.0)

    def fit(
        self,
        preferences: Sequence[Preference],
        *,
        prompt_ids: Collection[str] | None = None,  # noqa: ARG002
        held_out: str | None = None,
    ) -> Self:
        """Raises ValueError for a preference with an unknown contestant."""
        kept = [p for p in preferences if held_out not in (p.model_a, p.model_b)]
        unknown = {m for p in kept for m in (p.model_a, p.model_b)} - set(self._models)
        if unknown:
            raise ValueError(f"unknown contestants {sorted(unknown)}; known are {', '.join(self._models)}")
        games = _games(kept)
        strengths = bradley_terry(games + self._imagined(games))
        known = [strengths[m] for m in self._models if m in strengths]
        mean = sum(known) / len(known) if known else 0.0
        self._scores = {model: strengths.get(model, mean) - mean for model in self._models}
        return self

    def _imagined(self, games: Sequence[Game]) -> list[Game]:
        """Games that were never played, but give the likelihood a maximum."""
        judged = sorted({model for winner, loser, _ in games for model in (winner, loser)})
        average = "\0average"  # no model can be called so
        return [game for model in judged for game in ((model, average, 0.5), (average, model, 0.5))]

    def scores(self, prompt_id: str) -> dict[str, float]:  # noqa: ARG002
        return dict(self._scores)


class BradleyTerryArenaPrior(BradleyTerry):
    """Bradley–Terry of the user's preferences and of imagined games that turned out as the Arena expects.

    Every pair plays one of them: together they weigh as much as one prompt with all its pairs judged.
    """

    name = "bradley_terry_arena_prior"

    def __init__(self, ratings: Mapping[str, float | None]) -> None:
        super().__init__(tuple(ratings))
        start = starting_ratings(ratings)
        self._prior: list[Game] = []
        for a, b in itertools.combinations(start, 2):
            expected = expectation(start[a], start[b])
            self._prior += [(a, b, expected), (b, a, 1.0 - expected)]
        self.fit([])

    def _imagined(self, games: Sequence[Game]) -> list[Game]:  # noqa: ARG002  (whatever was played)
        return self._prior


def bradley_terry(games: Sequence[Game]) -> dict[str, float]:
    """Maximum-likelihood strengths on the Elo scale (400 log10 π) of weighted games; empty without games."""
    import evalica

    played = [game for game in games if game[2] > 0.0]
    if not played:
        return {}
    winners, losers, weights = zip(*played, strict=True)
    # tolerance and limit: the defaults (1e-6, 100 rounds) stop early where one contestant nearly always wins
    result = evalica.bradley_terry(
        winners, losers, [evalica.Winner.X] * len(played), weights=list(weights), tolerance=1e-9, limit=10_000
    )
    return {str(model): SCALE * math.log10(float(score)) for model, score in result.scores.items()}


def _games(preferences: Sequence[Preference]) -> list[Game]:
    """Rows that repeat are counted, not repeated."""
    weights: dict[tuple[str, str], float] = {}
    for p in preferences:
        weights[p.model_a, p.model_b] = weights.get((p.model_a, p.model_b), 0.0) + p.outcome
        weights[p.model_b, p.model_a] = weights.get((p.model_b, p.model_a), 0.0) + 1.0 - p.outcome
    return [(winner, loser, weight) for (winner, loser), weight in weights.items()]


def estimated_ratings(readers: Sequence[Preference], models: Sequence[str]) -> dict[str, Rating]:
    """Ratings of contestants that were never on the Arena: Bradley–Terry over everyone else's preferences.

    They lie about 1000, to one decimal. Raises KeyError for a model that no reader compared.
    """
    held = [dataclasses.replace(p, outcome=min(max(p.outcome, SURE), 1.0 - SURE)) for p in readers]
    strengths = bradley_terry(_games(held))
    source = f"estimated: Bradley-Terry over {len(config.OTHER_READERS)} other readers, no Arena rating"
    return {model: Rating(model, round(1000.0 + strengths[model], 1), source) for model in models}
