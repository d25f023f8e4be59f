"""How well scores predict people's votes: accuracy on decided votes, and rankings where someone ranked a whole prompt.

Every figure is a mean within each person, then over people, so that a busy voter counts once. Intervals are clustered
by person and by prompt (``intervals.clustered_difference``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.records import GroundTruth
from evaluation import BOUNDS, METRICS, prompt_metrics
from evidence.hypotheses import difference_json, not_tested, verdict
from evidence.intervals import Difference, clustered_difference
from people.ballots import Array, Ballots, Ints, Mask
from report.words import p_value

ACCURACY = "ranking_accuracy"


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """One metric's values [k] with the person and the prompt of each."""

    value: Array
    user: Ints
    prompt: Ints


Scored = Mapping[str, Values]
"""{metric: values}; a metric that is nowhere defined has none."""


def hits(scores: NDArray[np.floating], ballots: Ballots) -> Array:
    """[..., cells, models] → [..., votes]: 1 for a decided vote predicted right, ½ for a tied score, 0 for wrong.

    NaN for votes that were ties or not tested.
    """
    margin = scores[..., ballots.cell, ballots.a] - scores[..., ballots.cell, ballots.b]
    right = 0.5 + 0.5 * np.sign(margin) * np.sign(ballots.outcome - 0.5)
    return np.asarray(np.where(ballots.decided, right, np.nan), dtype=np.float64)


def whole_rankings(ballots: Ballots) -> dict[int, GroundTruth]:
    """{cell: what its votes say} where someone compared every pair of a prompt's three or more responses."""
    low, high = np.minimum(ballots.a, ballots.b), np.maximum(ballots.a, ballots.b)
    pairs = np.unique(np.stack([ballots.cell, low, high]), axis=1)[0]
    answered = (ballots.text >= 0).sum(axis=1)[ballots.cell_prompt]
    complete = (np.bincount(pairs, minlength=len(answered)) == answered * (answered - 1) // 2) & (answered > 2)
    points = np.zeros((len(answered), len(ballots.models)))
    np.add.at(points, (ballots.cell, ballots.a), ballots.outcome)
    np.add.at(points, (ballots.cell, ballots.b), 1.0 - ballots.outcome)
    return {
        int(cell): GroundTruth(
            ballots.prompts[ballots.cell_prompt[cell]],
            {m: float(p) for m, p, row in zip(ballots.models, points[cell], texts, strict=True) if row >= 0},
            "votes",
        )
        for cell in np.flatnonzero(complete)
        for texts in [ballots.text[ballots.cell_prompt[cell]]]
    }


def scored(scores: NDArray[np.floating], ballots: Ballots, rankings: Mapping[int, GroundTruth], test: Mask) -> Scored:
    """All metrics of one system [cells, models] on the ``test`` prompts [p]."""
    right = hits(scores, ballots)
    known = np.flatnonzero(~np.isnan(right) & test[ballots.prompt])
    values = {ACCURACY: Values(right[known], ballots.user[known], ballots.prompt[known])}
    found = {}
    for cell, truth in rankings.items():
        if test[ballots.cell_prompt[cell]]:
            metrics = prompt_metrics(dict(zip(ballots.models, scores[cell].tolist(), strict=True)), truth)
            if metrics is not None:
                found[cell] = metrics.as_dict()
    cells = np.array(list(found), dtype=np.intp)
    for name in METRICS:
        if name != ACCURACY:
            column = np.array([row[name] for row in found.values()], dtype=np.float64)
            values[name] = Values(column, ballots.cell_user[cells], ballots.cell_prompt[cells])
    return values


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


def clustered(values: Values, reach: float = 1.0) -> Difference | None:
    """Mean over people of values within ±``reach``, with its interval by person and by prompt."""
    if not len(values.value):
        return None
    return clustered_difference(_linearized(values).tolist(), values.user.tolist(), values.prompt.tolist(), reach)


def difference(better: Values, worse: Values, metric: str = ACCURACY) -> Difference | None:
    """Mean over people of ``better`` − ``worse``, paired vote by vote."""
    low, high = BOUNDS[metric]
    return clustered(Values(better.value - worse.value, better.user, better.prompt), high - low)


def estimate(values: Values, metric: str = ACCURACY) -> dict[str, Any]:
    """{mean, ci95}; both null without values."""
    low, high = BOUNDS[metric]
    middle = (low + high) / 2.0
    found = clustered(Values(values.value - middle, values.user, values.prompt), (high - low) / 2.0)
    if found is None:
        return {"mean": None, "ci95": None}
    return {"mean": middle + found.difference, "ci95": [middle + bound for bound in found.ci95]}


# ── Ready for JSON ───────────────────────────────────────────────────────────────────────────────────────


def means(values: Scored) -> dict[str, float | None]:
    """{metric: mean over people}."""
    return {metric: people_mean(values[metric]) for metric in METRICS}


def estimates(values: Scored) -> dict[str, dict[str, Any]]:
    """{metric: {mean, ci95}}."""
    return {metric: estimate(values[metric], metric) for metric in METRICS}


def differences(better: Scored, worse: Scored) -> dict[str, Difference | None]:
    """{metric: better − worse}."""
    return {metric: difference(better[metric], worse[metric], metric) for metric in METRICS}


def curve_points(curve: NDArray[np.floating], ballots: Ballots, test: Mask) -> list[Values]:
    """The accuracy at each point of [points, cells, models]."""
    known = np.flatnonzero(ballots.decided & test[ballots.prompt])
    return [Values(row[known], ballots.user[known], ballots.prompt[known]) for row in hits(curve, ballots)]


def band(points: Sequence[Values]) -> dict[str, list[float | None]]:
    """{mean, lo, hi} of a learning curve, point by point."""
    rows = [estimate(values) for values in points]
    bounds = [row["ci95"] or (None, None) for row in rows]
    return {"mean": [row["mean"] for row in rows], "lo": [b[0] for b in bounds], "hi": [b[1] for b in bounds]}


def sample_efficiency(counts: Sequence[int], elo: Sequence[Values], reward: Sequence[Values]) -> dict[str, Any]:
    """H1 on people: the area between the curves in ranking accuracy, per decided vote, over own votes used."""
    if len(counts) < 2 or not len(elo[0].value):
        return not_tested("Nobody has both own votes to learn from and decided votes to be tested on.")
    areas = [
        np.asarray(np.trapezoid(np.stack([p.value for p in curve]), counts, axis=0) / (counts[-1] - counts[0]))
        for curve in (elo, reward)
    ]
    advantage = clustered(Values(areas[1] - areas[0], elo[0].user, elo[0].prompt))
    found = difference_json(advantage)
    a, b = people_mean(elo[-1]), people_mean(reward[-1])
    low, high = found["ci95"]
    return {
        "verdict": verdict(advantage),
        "area_between_curves": found,
        "elo_offset_final": a,
        "reward_model_final": b,
        "sentence": (
            f"Area between the learning curves in ranking accuracy, reward model minus Elo offset: "
            f"{found['difference']:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}], {p_value(found['p_value'])}; "
            f"in the end {b:.3f} against {a:.3f}."
        ),
    }
