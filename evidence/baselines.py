"""Rankers that every system must beat; Bradley–Terry alone learns.

BradleyTerry(models).fit(preferences).scores("any prompt")
bradley_terry(wins)          # [..., models, models] how often each won against which → [..., models] in logits
"""

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self

import numpy as np
from scipy.special import expit

from base.features import Features
from core.ranking import Ranker, TrainingSet
from core.records import Preference, Rating, Response
from elo_system import LOGIT, starting_ratings
from evaluation import Array

ROUNDS = 500  # of Newton's method; about ten are used
TOLERANCE = 1e-10
LONGEST_STEP = 1.0  # in logits: an undamped step overshoots where one model nearly always wins


class Fixed(Ranker):
    """Scores that no preference changes. ``scores`` raises KeyError for a prompt that has none."""

    def __init__(self, name: str, scores: Callable[[str], Mapping[str, float]]) -> None:
        self.name, self._scores_of = name, scores

    def fit_many(self, sets: Sequence[TrainingSet]) -> list[Self]:
        return [self] * len(sets)

    def scores(self, prompt_id: str) -> dict[str, float]:
        return dict(self._scores_of(prompt_id))


def global_elo(ratings: Mapping[str, float | None]) -> Fixed:
    """The global ratings, for every prompt; unrated contestants at the mean of the others."""
    start = starting_ratings(ratings)
    return Fixed("global_elo", lambda _: start)


def base_reward(features: Features) -> Fixed:
    """The untouched reward base: its own scalar for each response that has features."""
    return Fixed("base_reward", _by_prompt((*key, features.base_score[row]) for key, row in features.index.items()))


def longest_response(responses: Iterable[Response]) -> Fixed:
    """The longer, in characters, the better."""
    return Fixed("longest_response", _by_prompt((r.prompt_id, r.model, len(r.text)) for r in responses))


def _by_prompt(values: Iterable[tuple[str, str, float]]) -> Callable[[str], Mapping[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for prompt_id, model, value in values:
        table.setdefault(prompt_id, {})[model] = float(value)
    return table.__getitem__


def random_ranking(models: Sequence[str], seed: int = 0) -> Fixed:
    """Scores drawn anew for each prompt, the same for the same prompt id and seed in every process."""

    def drawn(prompt_id: str) -> dict[str, float]:
        digest = hashlib.sha256(prompt_id.encode()).digest()  # hash() differs from process to process
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
        return dict(zip(models, rng.random(len(models)).tolist(), strict=True))

    return Fixed("random", drawn)


class BradleyTerry(Ranker):
    """Bradley–Terry strengths of the user's own preferences on the Elo scale, the same for all prompts; mean 0."""

    name = "bradley_terry"

    def __init__(self, models: Sequence[str]) -> None:
        self._scores = dict.fromkeys(models, 0.0)

    def fit_many(self, sets: Sequence[TrainingSet]) -> list[Self]:
        fitted = [copy.copy(self) for _ in sets]
        for ranker, s in zip(fitted, sets, strict=True):
            strengths = bradley_terry(wins_of(s.preferences, list(self._scores))) / LOGIT
            ranker._scores = dict(zip(self._scores, strengths.tolist(), strict=True))
        return fitted

    def scores(self, prompt_id: str) -> dict[str, float]:  # noqa: ARG002
        return dict(self._scores)


def wins_of(preferences: Sequence[Preference], models: Sequence[str]) -> Array:
    """[models, models] how often each was preferred to which: an outcome o counts o for a over b and 1 − o back."""
    number = {model: i for i, model in enumerate(models)}
    wins = np.zeros((len(number), len(number)))
    for p in preferences:
        a, b = number[p.model_a], number[p.model_b]
        wins[a, b] += p.outcome
        wins[b, a] += 1.0 - p.outcome
    return wins


def bradley_terry(wins: Array, ties: float = 1.0) -> Array:
    """[..., m, m] how often each model won against which → [..., m] strengths in logits, mean 0 over those judged; the
    others stand at 0.

    The likelihood has no maximum for a model that always wins, nor between groups that never met. Imagined ``ties`` of
    each judged model with an average one give it one (Newman, JMLR 24, 2023: the logistic prior). Newton's method on
    Σ n_ab ln σ(θ_a − θ_b) + ties · ½ Σ_a [ln σ(θ_a) + ln σ(−θ_a)], which is concave.
    """
    games = wins + wins.swapaxes(-1, -2)
    judged = games.sum(axis=-1) > 0.0
    known = np.maximum(judged.sum(axis=-1, keepdims=True), 1)
    theta, index = np.zeros(judged.shape), np.arange(judged.shape[-1])
    for _ in range(ROUNDS):
        expected, tie = expit(theta[..., :, None] - theta[..., None, :]), expit(theta)
        gradient = wins.sum(axis=-1) - (games * expected).sum(axis=-1) + ties * (0.5 - tie)
        weight = games * expected * (1.0 - expected)
        hessian = -weight
        hessian[..., index, index] += np.where(judged, weight.sum(axis=-1) + ties * tie * (1.0 - tie), 1.0)
        step = np.linalg.solve(hessian, np.where(judged, gradient, 0.0)[..., None])[..., 0]
        theta += step * (LONGEST_STEP / np.abs(step).max(axis=-1, keepdims=True, initial=LONGEST_STEP))
        # the mean cancels in the end, and the ties, which alone hold it, drown in rounding beside many votes
        apart = np.where(judged, step - step.sum(axis=-1, keepdims=True) / known, 0.0)
        if np.abs(apart).max(initial=0.0) < TOLERANCE:
            return np.asarray(np.where(judged, theta - theta.sum(axis=-1, keepdims=True) / known, 0.0))
    raise ArithmeticError("Bradley-Terry did not converge")


def estimated_ratings(others: Sequence[Preference], models: Sequence[str]) -> dict[str, Rating]:
    """Ratings about 1000 of contestants that were never on the Arena; one that no other knows is unrated."""
    source = "estimated: Bradley-Terry over the other recorded personas' preferences, no Arena rating"
    strengths = BradleyTerry(models).fit(others).scores("")
    found = {model: Rating(model, None, "unrated: not in the recorded run, no Arena rating") for model in models}
    for model in {model for p in others for model in (p.model_a, p.model_b)}:
        found[model] = Rating(model, round(1000.0 + strengths[model], 1), source)
    return found
