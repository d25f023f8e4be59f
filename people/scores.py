"""How well scores predict people's votes: accuracy on decided votes, and rankings where someone ranked a whole prompt.

Every figure is a mean within each person, then over people, so that a busy voter counts once. Intervals are clustered
by person and by prompt (``intervals.clustered_difference``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.records import GroundTruth
from evaluation import BOUNDS, METRICS, prompt_metrics
from evidence.intervals import Difference, clustered_difference
from people.ballots import Array, Ballots, Ints, Mask

Float = NDArray[np.floating]

ACCURACY = "ranking_accuracy"
CONTENDERS = ("elo_offset", "reward_model", "combined")
BASELINES = (
    "global_elo",
    "shared_reward",
    "shared_combined",
    "base_reward",
    "bradley_terry",
    "longest_response",
    "random",
)
STARTS = {"elo_offset": "global_elo", "reward_model": "shared_reward", "combined": "shared_combined"}
"""{system: where it stands before a person's first vote}."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """Scores of every model in every cell on the tested prompts; NaN: not tested, or no such response."""

    tested: Mask
    """[prompts]."""
    counts: tuple[int, ...]
    """Own votes at the points of the learning curve."""
    systems: dict[str, Array]
    """{baseline: [cells, models]}."""
    curves: dict[str, NDArray[np.float32]]
    """{contender: [points, cells, models]}, after so many own votes; one point for a system trained once."""
    flat: NDArray[np.float32]
    """[points, cells, models] of System A with all models at the same rating in the beginning."""
    strengths: list[float]
    """How strongly own votes moved the heads, for each test part."""

    def final(self) -> dict[str, Float]:
        """{system: [cells, models]}, the contenders with all of each person's training votes."""
        return {name: curve[-1] for name, curve in self.curves.items()} | self.systems


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """One metric's values [k] with the person and the prompt of each."""

    value: Array
    user: Ints
    prompt: Ints


Scored = Mapping[str, Values]
"""{metric: values}; a metric that is nowhere defined has none."""


# ── Scores of votes ──────────────────────────────────────────────────────────────────────────────────────


def hits(scores: Float, ballots: Ballots) -> Array:
    """[..., cells, models] → [..., votes]: 1 for a decided vote predicted right, ½ for a tied score, 0 for wrong.

    NaN for votes that were ties or not tested.
    """
    margin = scores[..., ballots.cell, ballots.a] - scores[..., ballots.cell, ballots.b]
    right = 0.5 + 0.5 * np.sign(margin) * np.sign(ballots.outcome - 0.5)
    return np.asarray(np.where(ballots.decided, right, np.nan), dtype=np.float64)


def accuracies(curve: Float, ballots: Ballots, test: Mask) -> list[Values]:
    """The ``hits`` at each point of [points, cells, models] on the ``test`` prompts [p]."""
    known = np.flatnonzero(ballots.decided & test[ballots.prompt])
    return [Values(row[known], ballots.user[known], ballots.prompt[known]) for row in hits(curve, ballots)]


def whole_rankings(ballots: Ballots) -> dict[int, GroundTruth]:
    """{cell: what its votes say} where someone compared every pair of a prompt's three or more responses."""
    low, high = np.minimum(ballots.a, ballots.b), np.maximum(ballots.a, ballots.b)
    pairs = np.stack([ballots.cell, low, high])
    (cell, low, high), pair, votes = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    # a pair that was voted on twice counts once, by its mean outcome
    won = np.bincount(pair, np.where(ballots.a < ballots.b, ballots.outcome, 1.0 - ballots.outcome)) / votes
    answered = ballots.text[ballots.cell_prompt] >= 0  # [cells, models]
    number = answered.sum(axis=1)
    complete = (np.bincount(cell, minlength=len(number)) == number * (number - 1) // 2) & (number > 2)
    points = np.zeros(answered.shape)
    np.add.at(points, (cell, low), won)
    np.add.at(points, (cell, high), 1.0 - won)
    rankings = {}
    for i in np.flatnonzero(complete).tolist():
        scores = {ballots.models[m]: float(points[i, m]) for m in np.flatnonzero(answered[i])}
        rankings[i] = GroundTruth(ballots.prompts[ballots.cell_prompt[i]].id, scores, "votes")
    return rankings


def scored(scores: Float, ballots: Ballots, rankings: Mapping[int, GroundTruth], test: Mask) -> Scored:
    """All metrics of one system [cells, models] on the ``test`` prompts [p]."""
    found = {}
    for cell, truth in rankings.items():
        if test[ballots.cell_prompt[cell]]:
            metrics = prompt_metrics(dict(zip(ballots.models, scores[cell].tolist(), strict=True)), truth)
            if metrics is not None:
                found[cell] = metrics
    cells = np.array(list(found), dtype=np.intp)
    values = {}
    for metric in METRICS:
        column = np.array([getattr(metrics, metric) for metrics in found.values()], dtype=np.float64)
        values[metric] = Values(column, ballots.cell_user[cells], ballots.cell_prompt[cells])
    return values | {ACCURACY: accuracies(scores[None], ballots, test)[0]}


# ── Means over people ────────────────────────────────────────────────────────────────────────────────────


def people_mean(values: Values) -> float | None:
    """Mean within each person, then over people; None without values."""
    return float(_linearized(values).mean()) if len(values.value) else None


def _linearized(values: Values) -> Array:
    """[k] whose plain mean is θ, the mean over people, and whose deviations from it are w (x − θ) with a person's
    weight w shared among their values: with them clustered variances are those of θ (a ratio's linearization)."""
    _, owner, counts = np.unique(values.user, return_inverse=True, return_counts=True)
    weight = len(values.value) / (len(counts) * counts[owner])
    mean = float((weight * values.value).mean())
    return np.asarray(mean + weight * (values.value - mean))


def clustered(values: Values, reach: float = 1.0, folds: Ints | None = None) -> Difference | None:
    """Mean over people of values within ±``reach``, with its interval by person and by prompt; None without values.

    ``folds`` [prompts]: the fold of each, for differences that come from a cross-validation.
    """
    if not len(values.value):
        return None
    parts = None if folds is None else folds[values.prompt].tolist()
    linearized = _linearized(values).tolist()
    return clustered_difference(linearized, values.user.tolist(), values.prompt.tolist(), reach, parts)


def difference(better: Values, worse: Values, metric: str = ACCURACY, folds: Ints | None = None) -> Difference | None:
    """Mean over people of ``better`` − ``worse``, paired value by value."""
    low, high = BOUNDS[metric]
    return clustered(Values(better.value - worse.value, better.user, better.prompt), high - low, folds)


def estimate(values: Values, metric: str = ACCURACY) -> dict[str, Any]:
    """{mean, ci95}; both null without values."""
    low, high = BOUNDS[metric]
    middle = (low + high) / 2.0
    found = clustered(Values(values.value - middle, values.user, values.prompt), (high - low) / 2.0)
    if found is None:
        return {"mean": None, "ci95": None}
    return {"mean": middle + found.difference, "ci95": [middle + bound for bound in found.ci95]}
