"""Logistic regression on pairs, its penalty learned from the data: the arithmetic of System C.

    coefficients, tau = maximum([Problem.of(inputs, pairs, prior)], part, expected)

σ(d·c) is the probability that the first of a pair is preferred, d the difference of the two texts' inputs and c the
coefficients, a priori normal around ``prior`` with a standard deviation τ for each part of them. Everything is done
in v = (c − prior) / τ, in which the prior is standard normal: so τ may be 0 (a part that stays) or large.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

ROUNDS = 500  # of Newton's method; ten to thirty are used
STEP = 1e-9  # the largest coordinate of the last Newton step, in prior standard deviations
CHANGE, NEAR = 1e-4, 0.01  # of ln τ in the last of MacKay's updates, and of v in the Newton step before it
WITNESSES = 2.0  # how many coefficients' worth of evidence the expected τ have; see combined.py
ONE_STEP = 0.01  # of the judgements can be left out by one Newton step

TRUST_SPREAD = 2.0  # prior standard deviation of a calibration slope around 1
SHARED = 2.0  # pairs that share a response are alike: that many count as one for the slope
RESIDUAL_EXPECTED, RESIDUAL_WEIGHT = 1.0, 1.0  # σ² where nothing is known of it, and its weight in squared slopes


@dataclass(frozen=True, slots=True)
class Pairs:
    """n pairs of responses, each with how often and how it was judged: pairs that repeat are counted."""

    a: Ints
    """[n] row of the text; ``b`` likewise."""
    b: Ints
    count: Array
    """[n] judgements."""
    wins: Array
    """[n] sum of the outcomes for a."""
    prompt: Ints
    """[n] number of the prompt."""

    def part(self, chosen: NDArray[np.bool_]) -> Pairs:
        """The chosen ones."""
        return Pairs(self.a[chosen], self.b[chosen], self.count[chosen], self.wins[chosen], self.prompt[chosen])


@dataclass(frozen=True, slots=True)
class Problem:
    """One fit's data."""

    differences: Array
    """[n, p] of the two texts' inputs in each pair."""
    pairs: Pairs
    prior: Array
    """[p] prior mean of the coefficients."""

    @classmethod
    def of(cls, inputs: Array, pairs: Pairs, prior: Array) -> Problem:
        """``inputs`` [texts, p]."""
        return cls(inputs[pairs.a] - inputs[pairs.b], pairs, prior)

    def in_spreads(self, coefficients: Array, tau: Array) -> Array:
        """[p] v of these coefficients; 0 where τ is 0."""
        return np.divide(coefficients - self.prior, tau, out=np.zeros(len(tau)), where=tau > 0.0)


class Objective:
    """Σ cross-entropy + ½ ‖v‖² of a problem at given τ [p]: convex in v."""

    def __init__(self, problem: Problem, tau: Array) -> None:
        self.pairs = problem.pairs
        self.slopes = problem.differences * tau
        self._offset = problem.differences @ problem.prior
        # with fewer pairs than coefficients their products suffice (Woodbury's identity): the dual form
        few = len(self.slopes) < len(tau)
        self._products = self.slopes @ self.slopes.T if few else None

    def margin(self, v: Array) -> Array:
        """[n] s_a − s_b."""
        return np.asarray(self._offset + self.slopes @ v)

    def curvature(self, margin: Array) -> Curvature:
        """The Hessian where the pairs have this margin [n]."""
        p = sigmoid(margin)
        return Curvature(self.slopes, np.sqrt(self.pairs.count * p * (1.0 - p)), self._products)

    def newton_step(self, v: Array) -> tuple[Array, float, Curvature]:
        """(v after one step, the step's largest coordinate, the curvature before it). The step is halved until the
        objective does not rise, which is rarely needed."""
        margin = self.margin(v)
        curvature = self.curvature(margin)
        step = curvature.solve(self.slopes.T @ (self.pairs.count * sigmoid(margin) - self.pairs.wins) + v)
        along, size = self.slopes @ step, 1.0
        before = self._value(margin, v)
        while size > 1e-6 and self._value(margin - size * along, v - size * step) > before + 1e-9 * (1.0 + before):
            size *= 0.5
        return v - size * step, float(np.abs(step).max(initial=0.0)), curvature

    def optimum(self, v: Array) -> Array:
        """v at the minimum, from any start."""
        for _ in range(ROUNDS):
            v, step, _ = self.newton_step(v)
            if step < STEP:
                break
        return v

    def _value(self, margin: Array, v: Array) -> float:
        return float((self.pairs.count * np.logaddexp(0.0, margin) - self.pairs.wins * margin).sum() + 0.5 * v @ v)


class Curvature:
    """H = I + Xᵀ X with X = root · slopes [n, p], factored on its smaller side: p × p, or n × n where ``products``
    (slopes · slopesᵀ) are given."""

    def __init__(self, slopes: Array, root: Array, products: Array | None) -> None:
        from scipy.linalg import lapack

        self._x, self._dual = slopes * root[:, None], products is not None
        square = self._x.T @ self._x if products is None else root[:, None] * products * root
        square[np.diag_indices_from(square)] += 1.0
        self._factor, _ = lapack.dpotrf(square, lower=1)

    def solve(self, right: Array) -> Array:
        """H⁻¹ · right, [p] or [p, k]."""
        from scipy.linalg import lapack

        inner = self._x @ right if self._dual else right
        if not inner.size:
            return right
        solved, _ = lapack.dpotrs(self._factor, inner, lower=1)
        return np.asarray(right - self._x.T @ solved if self._dual else solved)

    def variances(self) -> Array:
        """[p] the diagonal of H⁻¹."""
        from scipy.linalg import lapack, solve_triangular

        if not self._dual:
            return np.asarray(lapack.dpotri(self._factor, lower=1)[0].diagonal())
        if not len(self._x):
            return np.ones(self._x.shape[1])
        half = solve_triangular(self._factor, self._x, lower=True, check_finite=False)
        return np.asarray(1.0 - (half**2).sum(axis=0))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e⁻ˣ), without overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


def maximum(
    problems: Sequence[Problem], part: Ints, expected: Array, tau: Array | None = None
) -> tuple[list[Array], Array]:
    """Coefficients of each problem at its maximum a posteriori, and the τ [parts] that all of them share.

    ``part`` [p] numbers each coefficient's part. τ is given, or found from the problems by MacKay's update
    τ² = (Σ (c − prior)² + WITNESSES · expected²) / (Σ γ + WITNESSES), where γ = 1 − posterior / prior variance, after
    every Newton step.
    """
    vs = [np.zeros(len(part)) for _ in problems]
    if tau is None:
        tau = expected
        for _ in range(ROUNDS):
            squares, known, largest = np.zeros(len(tau)), np.zeros(len(tau)), 0.0
            for i, problem in enumerate(problems):
                vs[i], step, curvature = Objective(problem, tau[part]).newton_step(vs[i])
                squares += np.bincount(part, vs[i] ** 2, len(tau)) * tau**2
                known += np.bincount(part, 1.0 - curvature.variances(), len(tau))
                largest = max(largest, step)
            update = np.sqrt((squares + WITNESSES * expected**2) / (known + WITNESSES))
            ratio = np.divide(tau, update, out=np.ones(len(tau)), where=update > 0.0)
            vs = [v * ratio[part] for v in vs]  # the coefficients stay where they are
            tau = update
            if largest < NEAR and np.abs(np.log(ratio)).max() < CHANGE:
                break
    each = tau[part]
    solved = [Objective(problem, each).optimum(v) for problem, v in zip(problems, vs, strict=True)]
    return [p.prior + each * v for p, v in zip(problems, solved, strict=True)], tau


def left_out(problem: Problem, coefficients: Array, tau: Array, groups: Sequence[Pairs]) -> list[Array]:
    """Coefficients of the maximum without each group of judgements, ``tau`` [p] as it is.

    One Newton step from the whole fit (exact but for second order), and as many more as it takes where a group is more
    than ``ONE_STEP`` of the judgements. Raises ValueError for a judgement that is not in the problem.
    """
    from scipy.linalg import solve

    pairs, objective, v = problem.pairs, Objective(problem, tau), problem.in_spreads(coefficients, tau)
    position = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(pairs.a, pairs.b, strict=True))}
    p = sigmoid(objective.margin(v))
    root = objective.slopes * np.sqrt(pairs.count * p * (1.0 - p))[:, None]
    hessian = np.eye(len(tau)) + root.T @ root
    found = []
    for group in groups:
        try:
            at = np.array([position[int(a), int(b)] for a, b in zip(group.a, group.b, strict=True)], np.intp)
        except KeyError as error:
            raise ValueError("a judgement cannot be left out of a fit that it was no part of") from error
        own = objective.slopes[at] * np.sqrt(group.count * p[at] * (1.0 - p[at]))[:, None]
        pull = objective.slopes[at].T @ (group.count * p[at] - group.wins)
        without = v + solve(hessian - own.T @ own, pull, assume_a="pos", check_finite=False)
        if group.count.sum() > ONE_STEP * pairs.count.sum():
            count, wins = pairs.count.copy(), pairs.wins.copy()
            count[at] -= group.count
            wins[at] -= group.wins
            rest = dataclasses.replace(pairs, count=count, wins=np.clip(wins, 0.0, count))  # rounding aside
            without = Objective(dataclasses.replace(problem, pairs=rest), tau).optimum(without)
        found.append(problem.prior + tau * without)
    return found


@dataclass(frozen=True, slots=True)
class Belief:
    """How sure a fit is."""

    covariance: Array
    """[p, p] of the coefficients."""
    trust: float
    """By which scores are multiplied before they are believed: the slope on prompts held out of the fit, on the scale
    of a text whose residual is known."""
    residual: float
    """σ², variance of what no coefficient explains of one text's score."""


def belief_of(problem: Problem, coefficients: Array, tau: Array, folds: Sequence[Ints]) -> Belief:
    """The sandwich H⁻¹ (P + Σ_x u_x u_xᵀ) H⁻¹ with prompts as witnesses, trust and residual.

    ``tau`` [p]. ``folds``: numbers of prompts that are held out together. The gradient u_x of prompt x is taken where x
    was held out: where it trained, the fit has bent its errors towards 0. Fewer than two folds: nothing was held out.

    MacKay's updates count every pair as a witness of its own: where there was nothing to learn, 300 preferences had the
    best model's chance said to be 0.31, and it was 0.17. The slope κ mends it. It is that of answers averaged over both
    texts' residuals, which flatten σ: given them it is κ √(1 + π σ² / 4), by σ ≈ Φ(√(π/8) ·) (MacKay, "The evidence
    framework applied to classification networks", Neural Computation 4, 1992).

    TRUST_SPREAD (of 0.5, 1, 2), that factor and that σ² is never 0 were chosen by the mean distance of chances said and
    what happened, on 24 planted worlds a kind: seeds 1000 to 1023 of benchmarks/combined_worlds.py.
    """
    pairs, trust, residual = problem.pairs, 1.0, RESIDUAL_EXPECTED
    margins = problem.differences @ coefficients
    if len(folds) > 1:
        margins = held_out_margins(problem, coefficients, tau, folds)
        kappa = slope(margins, pairs)
        residual = residual_variance(kappa * margins, pairs)
        trust = kappa * math.sqrt(1.0 + math.pi * residual / 4.0)
    errors = pairs.count * sigmoid(margins) - pairs.wins
    objective = Objective(problem, tau)
    gradients = np.zeros((int(pairs.prompt.max(initial=-1)) + 1, len(tau)))
    np.add.at(gradients, pairs.prompt, objective.slopes * errors[:, None])
    curvature = objective.curvature(problem.differences @ coefficients)
    inverse = curvature.solve(np.eye(len(tau)))
    pulled = curvature.solve(gradients.T)
    return Belief((inverse @ inverse + pulled @ pulled.T) * np.outer(tau, tau), trust, residual)


def held_out_margins(problem: Problem, coefficients: Array, tau: Array, folds: Sequence[Ints]) -> Array:
    """[n] s_a − s_b of each pair by a fit without its fold: two Newton steps from the whole fit, τ as it is."""
    margins = np.zeros(len(problem.pairs.a))
    start = problem.in_spreads(coefficients, tau)
    for fold in folds:
        out = np.isin(problem.pairs.prompt, fold)
        rest = Objective(Problem(problem.differences[~out], problem.pairs.part(~out), problem.prior), tau)
        v, _, _ = rest.newton_step(start)
        v, _, _ = rest.newton_step(v)
        margins[out] = problem.differences[out] @ (problem.prior + tau * v)
    return margins


def slope(margins: Array, pairs: Pairs) -> float:
    """κ in [0, 1] at which σ(κ · margin) fits best, with a normal prior around 1: Cox's calibration slope (1958)."""
    kappa = 1.0
    for _ in range(30):
        p = sigmoid(kappa * margins)
        gradient = (margins * (pairs.count * p - pairs.wins)).sum() / SHARED + (kappa - 1.0) / TRUST_SPREAD**2
        curvature = (margins**2 * pairs.count * p * (1.0 - p)).sum() / SHARED + 1.0 / TRUST_SPREAD**2
        kappa = min(1.0, max(0.0, kappa - gradient / curvature))
    return float(kappa)


def residual_variance(margins: Array, pairs: Pairs) -> float:
    """σ² by moments: errors of two pairs that share a response are alike by σ² times both their slopes."""
    p = sigmoid(margins)
    error, steepness = pairs.wins - pairs.count * p, pairs.count * p * (1.0 - p)
    texts = int(max(pairs.a.max(), pairs.b.max())) + 1
    pull = np.bincount(pairs.a, error, texts) - np.bincount(pairs.b, error, texts)
    reach = np.bincount(pairs.a, steepness, texts) + np.bincount(pairs.b, steepness, texts)
    alike = float((pull**2).sum() - 2.0 * (error**2).sum())  # products of different pairs only
    scale = float((reach**2).sum() - 2.0 * (steepness**2).sum())
    return (max(0.0, alike) + RESIDUAL_WEIGHT * RESIDUAL_EXPECTED) / (scale + RESIDUAL_WEIGHT)


class Posterior(NamedTuple):
    """What is believed of the scores of m responses to one prompt: normal, the unseen residual of each included."""

    models: tuple[str, ...]
    mean: Array
    """[m]."""
    covariance: Array
    """[m, m]."""

    def draw(self, draws: int, seed: int) -> Array:
        """[draws, m] scores."""
        variances, axes = np.linalg.eigh(self.covariance)
        noise = np.random.default_rng(seed).standard_normal((draws, len(self.mean)))
        return np.asarray(self.mean + noise @ (axes * np.sqrt(np.maximum(variances, 0.0))).T)

    def best_chances(self, draws: int = 2000, seed: int = 0) -> dict[str, float]:
        """{model: the share of draws in which its score is the highest}."""
        best = self.draw(draws, seed).argmax(axis=1)
        return dict(zip(self.models, (np.bincount(best, minlength=len(self.models)) / draws).tolist(), strict=True))
