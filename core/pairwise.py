"""Logistic regression on pairs, its penalty learned from the data: the arithmetic of System C.

    coefficients, tau = maximum([Problem.of(inputs, pairs, prior)], part, expected)

σ(d·c) is the probability that the first of a pair is preferred, d the difference of the two texts' inputs and c the
coefficients, a priori normal around ``prior`` with a standard deviation τ for each part of them. Everything is done
in v = (c − prior) / τ, in which the prior is standard normal: so τ may be 0 (a part that stays) or large.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

ROUNDS = 500  # of Newton's method; ten to thirty are used
STEP = 1e-9  # the largest coordinate of the last Newton step, in prior standard deviations
CHANGE = 1e-4  # of ln τ in the last of MacKay's updates
WITNESSES = 2.0  # how many coefficients' worth of evidence the expected τ have; see combined.py

TRUST_SPREAD = 0.5  # prior standard deviation of a calibration slope around 1
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
    """One fit's data: Σ cross-entropy + ½ ‖v‖² is minimized over v, with coefficients = prior mean + τ·v."""

    differences: Array
    """[n, p] of the two responses of each pair."""
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

    def curvature(self, margin: Array, scaled: Array) -> Curvature:
        """The Hessian in v: ``margin`` [n], ``scaled`` the differences times τ."""
        p = sigmoid(margin)
        return Curvature(scaled * np.sqrt(self.pairs.count * p * (1.0 - p))[:, None])

    def newton_step(self, v: Array, tau: Array) -> tuple[Array, float, Curvature]:
        """(v after one step, the step's largest coordinate, the curvature before it). The step is halved until the
        objective does not rise, which is rarely needed."""
        pairs, scaled = self.pairs, self.differences * tau
        margin = self.differences @ self.prior + scaled @ v
        curvature = self.curvature(margin, scaled)
        step = curvature.solve(scaled.T @ (pairs.count * sigmoid(margin) - pairs.wins) + v)
        along, size = scaled @ step, 1.0
        before = self._value(margin, v)
        while size > 1e-6 and self._value(margin - size * along, v - size * step) > before + 1e-9 * (1.0 + before):
            size *= 0.5
        return v - size * step, float(np.abs(step).max(initial=0.0)), curvature

    def _value(self, margin: Array, v: Array) -> float:
        return float((self.pairs.count * np.logaddexp(0.0, margin) - self.pairs.wins * margin).sum() + 0.5 * v @ v)


class Curvature:
    """H = I + XᵀX for X [n, p], factored on its smaller side: p × p, or n × n by Woodbury's identity."""

    def __init__(self, x: Array) -> None:
        from scipy.linalg import lapack, solve_triangular

        self.dual = len(x) < x.shape[1]
        square = x @ x.T if self.dual else x.T @ x
        square[np.diag_indices_from(square)] += 1.0
        factor, _ = lapack.dpotrf(square, lower=1)
        if self.dual:
            self._half = solve_triangular(factor, x, lower=True, check_finite=False)  # H⁻¹ = I − halfᵀ half
        else:
            lower = np.tril(lapack.dpotri(factor, lower=1)[0])
            self._inverse = lower + np.tril(lower, -1).T

    def solve(self, vector: Array) -> Array:
        """H⁻¹ of a vector [p]."""
        return np.asarray(vector - self._half.T @ (self._half @ vector) if self.dual else self._inverse @ vector)

    def variances(self) -> Array:
        """[p] the diagonal of H⁻¹."""
        return np.asarray(1.0 - (self._half**2).sum(axis=0) if self.dual else self._inverse.diagonal())

    def inverse(self) -> Array:
        """[p, p]."""
        return np.asarray(np.eye(self._half.shape[1]) - self._half.T @ self._half if self.dual else self._inverse)


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
    settled = tau is not None
    tau, parts = (expected if tau is None else tau), len(expected)
    vs = [np.zeros(len(part)) for _ in problems]
    for _ in range(ROUNDS):
        squares, known, largest = np.zeros(parts), np.zeros(parts), 0.0
        for i, problem in enumerate(problems):
            vs[i], step, curvature = problem.newton_step(vs[i], tau[part])
            largest = max(largest, step)
            if not settled:
                squares += np.bincount(part, vs[i] ** 2, parts) * tau**2
                known += np.bincount(part, 1.0 - curvature.variances(), parts)
        if settled and largest < STEP:
            break
        if not settled:
            update = np.sqrt((squares + WITNESSES * expected**2) / (known + WITNESSES))
            ratio = np.divide(tau, update, out=np.ones(parts), where=update > 0.0)
            vs = [v * ratio[part] for v in vs]  # the coefficients stay where they are
            tau = update
            settled = largest < 0.01 and bool(np.abs(np.log(ratio)).max() < CHANGE)
    return [p.prior + tau[part] * v for p, v in zip(problems, vs, strict=True)], tau


def left_out(problem: Problem, coefficients: Array, tau: Array, groups: Sequence[Pairs]) -> list[Array]:
    """Coefficients of the maximum without each group of judgements, ``tau`` [p] as it is.

    One Newton step from the whole fit where a group is less than a twentieth of the judgements (exact but for second
    order), as many as it takes where it is more. Raises ValueError for a judgement that is not in the problem.
    """
    from scipy.linalg import solve

    pairs, scaled, v = problem.pairs, problem.differences * tau, problem.in_spreads(coefficients, tau)
    position = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(pairs.a, pairs.b, strict=True))}
    p = sigmoid(problem.differences @ coefficients)
    root = scaled * np.sqrt(pairs.count * p * (1.0 - p))[:, None]
    hessian = np.eye(len(tau)) + root.T @ root
    found = []
    for group in groups:
        try:
            at = np.array([position[int(a), int(b)] for a, b in zip(group.a, group.b, strict=True)], np.intp)
        except KeyError as error:
            raise ValueError("a judgement cannot be left out of a fit that it was no part of") from error
        if group.count.sum() < 0.05 * pairs.count.sum():
            own = scaled[at] * np.sqrt(group.count * p[at] * (1.0 - p[at]))[:, None]
            pull = scaled[at].T @ (group.count * p[at] - group.wins)
            without = v + solve(hessian - own.T @ own, pull, assume_a="pos", check_finite=False)
        else:
            count, wins = pairs.count.copy(), pairs.wins.copy()
            count[at] -= group.count
            wins[at] -= group.wins
            rest = dataclasses.replace(pairs, count=count, wins=np.clip(wins, 0.0, count))  # rounding aside
            without = optimum(dataclasses.replace(problem, pairs=rest), v, tau)
        found.append(problem.prior + tau * without)
    return found


def optimum(problem: Problem, v: Array, tau: Array) -> Array:
    """v at the maximum a posteriori, from any start: the objective is convex."""
    for _ in range(ROUNDS):
        v, step, _ = problem.newton_step(v, tau)
        if step < STEP:
            break
    return v


@dataclass(frozen=True, slots=True)
class Belief:
    """How sure a fit is."""

    covariance: Array
    """[p, p] of the coefficients."""
    trust: float
    """In [0, 1], by which scores are multiplied before they are believed: the slope on prompts held out of the fit."""
    residual: float
    """σ², variance of what no coefficient explains of one text's score."""


def belief_of(problem: Problem, coefficients: Array, tau: Array, folds: Sequence[Ints]) -> Belief:
    """The sandwich H⁻¹ (P + Σ_x u_x u_xᵀ) H⁻¹ with prompts as witnesses, trust and residual.

    ``tau`` [p]. ``folds``: numbers of prompts that are held out together. The gradient u_x of prompt x is taken where x
    was held out: where it trained, the fit has bent its errors towards 0. Fewer than two folds: nothing was held out.
    """
    pairs, trust, residual = problem.pairs, 1.0, RESIDUAL_EXPECTED
    margins = problem.differences @ coefficients
    if len(folds) > 1:
        margins = held_out_margins(problem, coefficients, tau, folds)
        trust = slope(margins, pairs)
        residual = residual_variance(trust * margins, pairs)
    errors = pairs.count * sigmoid(margins) - pairs.wins
    gradients = np.zeros((int(pairs.prompt.max(initial=-1)) + 1, len(tau)))
    np.add.at(gradients, pairs.prompt, problem.differences * tau * errors[:, None])
    inverse = problem.curvature(problem.differences @ coefficients, problem.differences * tau).inverse()
    pulled = gradients @ inverse
    return Belief((inverse @ inverse + pulled.T @ pulled) * np.outer(tau, tau), trust, residual)


def held_out_margins(problem: Problem, coefficients: Array, tau: Array, folds: Sequence[Ints]) -> Array:
    """[n] s_a − s_b of each pair by a fit without its fold: two Newton steps from the whole fit, τ as it is."""
    margins = np.zeros(len(problem.pairs.a))
    start = problem.in_spreads(coefficients, tau)
    for fold in folds:
        out = np.isin(problem.pairs.prompt, fold)
        rest = Problem(problem.differences[~out], problem.pairs.part(~out), problem.prior)
        v, _, _ = rest.newton_step(start, tau)
        v, _, _ = rest.newton_step(v, tau)
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
    return max(0.0, alike + RESIDUAL_WEIGHT * RESIDUAL_EXPECTED) / (scale + RESIDUAL_WEIGHT)
