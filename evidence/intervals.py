"""Intervals and tests for a handful of prompts, chosen by calibration: see benchmarks/verdict.py and its table.

Why no plain bootstrap, t or sign-flip test alone: the prompts of a cross-validation share training data, so their
values are not independent, and all three then name a winner between equals in far more than 5 % of experiments.
Nadeau & Bengio (*Inference for the Generalization Error*, Machine Learning 52, 2003) correct the variance of a
mean over J folds from σ²/J to σ² (1/J + n_test/n_train); a t interval clustered by fold catches what the
prompts of one fold have in common. The wider of the two is taken.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Interval = tuple[float, float]
Winner = Literal["reward_model", "elo_offset", "none"]

ALPHA = 0.05
RESAMPLES = 9_999  # SciPy's default; at most 13 pairs (2^13 sign patterns) are tested exactly
MOST_PROMPTS = 1_000_000  # nobody judges more: beyond it ``prompts_needed`` stops counting
_ROUNDING = 1e-12  # spreads below it are rounding errors of equal values


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean paired difference and what it can carry."""

    difference: float
    ci95: Interval
    p_value: float
    """The larger of the permutation test's and the interval's: below 0.05 only if both exclude chance."""
    n: int
    """Pairs; for clustered differences, values."""
    sd: float
    """Standard deviation of the paired differences (0 for a single pair)."""

    def as_dict(self) -> dict[str, float | list[float]]:
        return {"difference": self.difference, "ci95": list(self.ci95), "p_value": self.p_value}


# ── One mean ─────────────────────────────────────────────────────────────────────────────────────────────


def _standard_errors(
    values: Array, groups: Sequence[Hashable] | None, folds: int | None = None
) -> list[tuple[float, int]]:
    """(standard error, degrees of freedom), one for each way to look at the mean of ``values`` [n], n ≥ 2.

    Without groups the values are independent. With them (the fold of each) there are two: Nadeau–Bengio,
    s²/n · (1 + k/(k − 1)), which is their formula with J = k folds of n/k prompts; and clustered by fold. ``folds``: k
    where the groups are those of several cross-validations.
    """
    n = len(values)
    plain = float(values.std(ddof=1)) / math.sqrt(n)
    if groups is None:
        return [(plain, n - 1)]
    labels, index = np.unique(np.array([repr(g) for g in groups]), return_inverse=True)
    k = len(labels)
    if k < 2:
        return [(plain, n - 1)]
    j = folds or k
    return [(plain * math.sqrt(1.0 + j / (j - 1.0)), n - 1), (math.sqrt(_cluster_variance(values, index)), k - 1)]


def _cluster_variance(values: Array, index: NDArray[np.intp]) -> float:
    """Variance of the mean of ``values`` [n], clustered by ``index`` [n]: G/(G−1) · Σ_g (Σ_{i∈g} x_i − x̄)² / n²."""
    sums = np.bincount(index, weights=values - values.mean())
    groups = len(sums)
    return float((sums**2).sum()) * groups / (groups - 1.0) / len(values) ** 2


def _half_width(errors: Sequence[tuple[float, int]]) -> float:
    from scipy.stats import t

    return max(float(t.ppf(1.0 - ALPHA / 2.0, df)) * se for se, df in errors)


def _unseen(value: float, n: int, low: float, high: float) -> Interval:
    """The interval where n values are all the same and tell nothing of the spread.

    Up to 1 − (α/2)^(1/n) of all prompts may have gone unseen (Clopper–Pearson for no case among n), and those
    could lie at ``low`` or ``high``.
    """
    share = 1.0 - (ALPHA / 2.0) ** (1.0 / n)
    return value - share * (value - low), value + share * (high - value)


def _finite(values: Sequence[float] | Array) -> Array:
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError("differences must be finite numbers")
    return found


def mean_interval(
    values: Sequence[float],
    low: float = -1.0,
    high: float = 1.0,
    groups: Sequence[Hashable] | None = None,
    folds: int | None = None,
) -> Interval | None:
    """95 % interval of the mean of values within [low, high]; None without values.

    Wilson's idea with a t quantile and the spread that was seen: the variance shrinks with the distance from the
    bounds as (μ − low)(high − μ) does. For top-1 hits that is the Wilson interval, in the middle the t interval,
    and it never leaves the bounds. ``groups``: each value's fold, ``folds`` as for ``paired_difference``.
    Raises ValueError for a value out of bounds.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return None
    if not (x.min() >= low - _ROUNDING and x.max() <= high + _ROUNDING):
        raise ValueError(f"values must lie in [{low:g}, {high:g}], got {x.min():g} to {x.max():g}")
    mean = float(x.mean())
    if np.ptp(x) < _ROUNDING or not low < mean < high:  # at a bound but for rounding errors
        return _unseen(min(max(mean, low), high), len(x), low, high)
    share = (mean - low) / (high - low)
    h2 = (_half_width(_standard_errors(x, groups, folds)) / (high - low)) ** 2 / (share * (1.0 - share))
    centre = (share + h2 / 2.0) / (1.0 + h2)
    half = math.sqrt(h2 * (share * (1.0 - share) + h2 / 4.0)) / (1.0 + h2)
    return low + (high - low) * (centre - half), low + (high - low) * (centre + half)


# ── Two systems, paired ──────────────────────────────────────────────────────────────────────────────────


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    seed: int,
    groups: Sequence[Hashable] | None = None,
    reach: float = 2.0,
    folds: int | None = None,
) -> Difference | None:
    """Mean of a − b, paired by prompt; None without pairs. Raises ValueError for unequal lengths, NaN and infinities.

    ``groups``: the fold in which each prompt was tested. Pass it whenever the values come from a
    cross-validation: without it they count as independent, and too many winners are named. ``reach`` is the
    largest difference possible (2 for τ), needed where all differences are the same. ``folds``: of each, where the
    groups are those of several cross-validations.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired")
    d = _finite(a) - _finite(b)
    if not len(d):
        return None
    errors = _standard_errors(d, groups, folds) if len(d) > 1 else []
    return _difference(d, errors, len(d), reach, sign_flip_p_value(d, seed))


def _difference(
    values: Array, errors: Sequence[tuple[float, int]], clusters: int, reach: float, least_p: float = 0.0
) -> Difference:
    """The mean of ``values`` by its (standard error, degrees of freedom); without any error, of so many ``clusters``
    that are all the same. ``least_p``: what another test says."""
    from scipy.stats import t

    mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    if max((se for se, _ in errors), default=0.0) < _ROUNDING:
        interval = _unseen(mean, clusters, -reach, reach)
        p_value = min(1.0, 2.0 * (reach / (abs(mean) + reach)) ** clusters)  # the level at which it begins to reach 0
    else:
        half = _half_width(errors)
        interval = max(mean - half, -reach), min(mean + half, reach)
        p_value = max(2.0 * float(t.sf(abs(mean) / se, df)) for se, df in errors if se > 0.0)
    return Difference(mean, interval, max(p_value, least_p), len(values), sd)


def sign_flip_p_value(differences: Sequence[float] | Array, seed: int) -> float:
    """Two-sided paired permutation test of mean 0 (SciPy), exact where all 2^n sign patterns can be tried.

    It alone takes prompts for independent; see the head of this file.
    """
    from scipy.stats import permutation_test

    d = np.asarray(differences, dtype=np.float64)
    if len(d) < 2 or np.abs(d).max() <= _ROUNDING:
        return 1.0  # both signs are equally far from 0
    result = permutation_test(
        (d, np.zeros_like(d)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    return min(1.0, float(result.pvalue))


def winner(difference: Difference | None) -> Winner:
    """Who is better by ``difference`` (reward_model − elo_offset): none unless interval and p-value exclude chance."""
    if is_better(difference):
        return "reward_model"
    surely_worse = difference is not None and difference.p_value < ALPHA and difference.ci95[1] < 0.0
    return "elo_offset" if surely_worse else "none"


def is_better(difference: Difference | None) -> bool:
    """Whether a difference lies above 0 by the winner's rule: interval and p-value both exclude chance."""
    return difference is not None and difference.p_value < ALPHA and difference.ci95[0] > 0.0


def prompts_needed(
    difference: float, sd: float, power: float = 0.8, inflation: float = 1.0, level: float = ALPHA
) -> int | None:
    """Prompts to tell a mean difference of this size from 0 at p < ``level`` with this power; None for no difference.

    The smallest n ≥ 6 (fewer can never pass a sign-flip test) with n ≥ inflation · ((t_{1 − level/2, n−1} + t_{power,
    n−1}) · sd / difference)². ``inflation`` is the variance correction of the test, 1 + k/(k − 1) for k folds.
    Where more than MOST_PROMPTS are needed it is MOST_PROMPTS + 1, however many more.
    """
    from scipy.stats import t

    if difference == 0.0:
        return None

    def enough(n: int) -> bool:
        quantiles = float(t.ppf(1.0 - level / 2.0, n - 1) + t.ppf(power, n - 1))
        # not squared: 1 / difference² would overflow where the difference is a rounding error away from 0
        return math.sqrt(n / inflation) * abs(difference) >= quantiles * max(sd, _ROUNDING)

    if not enough(MOST_PROMPTS):
        return MOST_PROMPTS + 1
    return bisect_left(range(MOST_PROMPTS), True, lo=6, key=enough)


# ── Values that belong to two kinds of cluster ───────────────────────────────────────────────────────────


def clustered_difference(
    values: Sequence[float],
    rows: Sequence[Hashable],
    columns: Sequence[Hashable],
    reach: float = 1.0,
    folds: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Difference | None:
    """Mean of ``values`` with an interval clustered both ways, such as by user and by prompt; None without values.

    Cameron, Gelbach & Miller (*Robust Inference with Multiway Clustering*, JBES 29, 2011): V = V_rows + V_columns −
    V_both, here never below the larger of the one-way variances; t quantile with the smaller number of clusters
    − 1. A kind with a single cluster says nothing and is left out. With both single, or where the sums of all clusters
    agree so well that no error is left, nothing is known of the spread. ``reach`` is the largest absolute value
    possible. ``folds``: the part of a cross-validation in which each value was tested; the rule is then that of
    ``paired_difference``: the variance times 1 + k/(k − 1), or clustered by fold where that is wider, and the columns'
    sums must pass the sign-flip test too, drawn by ``seed``. Raises ValueError for labels that don't fit the values,
    NaN and infinities.
    """
    x = _finite(values)
    if not len(x) == len(rows) == len(columns):
        raise ValueError(f"{len(x)} values need as many row and column labels, got {len(rows)} and {len(columns)}")
    if not len(x):
        return None
    kinds = [np.unique([repr(label) for label in labels], return_inverse=True)[1] for labels in (rows, columns)]
    kinds = [kind for kind in kinds if kind.max() > 0]
    one_way = [_cluster_variance(x, kind) for kind in kinds]
    variance = max(one_way, default=0.0)
    if len(kinds) == 2:
        cells = np.unique(kinds[0] * (int(kinds[1].max()) + 1) + kinds[1], return_inverse=True)[1]
        variance = max(variance, sum(one_way) - _cluster_variance(x, cells))
    clusters = min((int(kind.max()) + 1 for kind in kinds), default=1)
    df = max(clusters - 1, 1)
    part = np.unique([repr(label) for label in folds or ()], return_inverse=True)[1]
    k = int(part.max(initial=-1)) + 1
    if k < 2:
        return _difference(x, [(math.sqrt(variance), df)], clusters, reach)
    corrected = math.sqrt(variance * (1.0 + k / (k - 1.0)))
    by_column = np.bincount(np.unique([repr(label) for label in columns], return_inverse=True)[1], weights=x)
    errors = [(corrected, df), (math.sqrt(_cluster_variance(x, part)), k - 1)]
    return _difference(x, errors, clusters, reach, sign_flip_p_value(by_column.tolist(), seed))


# ── Many questions at once ───────────────────────────────────────────────────────────────────────────────


def paired_p_value(differences: Sequence[float] | Array, reach: float) -> float:
    """Two-sided p of mean 0 by the t test, for independent pairs; 1 without any.

    ``reach``: the largest difference possible, needed where all differences are the same.
    """
    d = _finite(differences)
    if not len(d):
        return 1.0
    return _difference(d, _standard_errors(d, None) if len(d) > 1 else [], len(d), reach).p_value


def holm(p_values: Sequence[float] | Array) -> Array:
    """p-values [k] corrected for their number, in the order given (Holm, *A Simple Sequentially Rejective Multiple Test
    Procedure*, Scandinavian Journal of Statistics 6, 1979): all those below 0.05 hold together in 95 % of cases."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
