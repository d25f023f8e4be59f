"""Bradley–Terry for many people at once: of everyone else, and of each one's own votes.

    others = leave_one_out(counts)            # counts[u, a, b]: how often user u preferred model a to model b
    ratings = strengths(others)               # [users, models], Elo scale

One Newton iteration solves all users' small systems together, where a fit per user and fold would take minutes for a
thousand people. The model is that of ``baselines.BradleyTerry`` (one imagined tie of each judged model with an average
one), and tests hold the two against each other.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from elo_system import SCALE

Array = NDArray[np.float64]

_ROUNDS = 500
_TOLERANCE = 1e-10
_LARGEST_STEP = 1.0  # in natural units: an undamped Newton step overshoots where one model nearly always wins


def win_counts(
    user: NDArray[np.intp], a: NDArray[np.intp], b: NDArray[np.intp], outcome: Array, users: int, models: int
) -> Array:
    """[users, models, models] of votes given as columns [n]: a vote of outcome o counts o for a over b, 1 − o back."""
    counts = np.zeros((users, models, models))
    np.add.at(counts, (user, a, b), outcome)
    np.add.at(counts, (user, b, a), 1.0 - outcome)
    return counts


def leave_one_out(counts: Array) -> Array:
    """[users, models, models]: all votes but each user's own. Nothing of theirs is in it: whole numbers and halves
    are subtracted exactly; what rounding leaves of other outcomes is cut to 0."""
    rest = counts.sum(axis=0) - counts
    return np.where(rest < 1e-9, 0.0, rest)


def strengths(counts: Array) -> Array:
    """[..., models, models] → [..., models] on the Elo scale, mean 0 over the models judged; the others stand at 0.

    Newton's method on the concave log-likelihood Σ n_ab ln σ(θ_a − θ_b) + ½ Σ_a [ln σ(θ_a) + ln σ(−θ_a)], the second
    sum over the models judged (Newman, JMLR 24, 2023).
    """
    games = counts + counts.swapaxes(-1, -2)
    judged = games.sum(axis=-1) > 0.0
    wins = counts.sum(axis=-1)
    theta = np.zeros(judged.shape)
    for _ in range(_ROUNDS):
        step = _newton_step(theta, games, wins, judged)
        largest = np.abs(step).max(axis=-1, keepdims=True, initial=_LARGEST_STEP)
        theta += step * (_LARGEST_STEP / largest)
        if np.abs(step).max(initial=0.0) < _TOLERANCE:
            break
    else:
        raise ArithmeticError("Bradley-Terry did not converge")
    known = np.maximum(judged.sum(axis=-1, keepdims=True), 1)
    centred = np.where(judged, theta - np.where(judged, theta, 0.0).sum(axis=-1, keepdims=True) / known, 0.0)
    return np.asarray(centred * (SCALE / math.log(10.0)))


def _newton_step(theta: Array, games: Array, wins: Array, judged: NDArray[np.bool_]) -> Array:
    """H⁻¹ g of every user at once: [..., models]; 0 for a model that nobody judged."""
    expected = _sigmoid(theta[..., :, None] - theta[..., None, :])
    alone = _sigmoid(theta)
    gradient = np.where(judged, wins - (games * expected).sum(axis=-1) + 0.5 - alone, 0.0)
    weight = games * expected * (1.0 - expected)
    diagonal = np.where(judged, weight.sum(axis=-1) + alone * (1.0 - alone), 1.0)
    hessian = -weight
    index = np.arange(theta.shape[-1])
    hessian[..., index, index] += diagonal
    return np.asarray(np.linalg.solve(hessian, gradient[..., None])[..., 0])


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))
