"""Intervals and tests for a handful of prompts, chosen by calibration: benchmarks/calibration.py, docs/method.md.

    gain = difference(tau_of_b, tau_of_a, Groups(folds))
    gain.difference, gain.ci95, gain.p_value

The prompts of a cross-validation share training data, so their values are not independent: a plain t interval, a
bootstrap or a sign-flip test alone names a winner between equals in far more than 5 % of experiments. Two intervals
are therefore taken, and the wider counts. Nadeau & Bengio (*Inference for the Generalization Error*, Machine Learning
52, 2003) correct the variance of a mean over J folds from σ²/J to σ² (1/J + n_test/n_train); for n prompts in k folds
that is s²/n (1 + k/(k − 1)). A t interval over the folds' means catches what the prompts of one fold have in common.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Interval = tuple[float, float]

ALPHA = 0.05
_ROUNDING = 1e-12  # spreads below it are rounding errors of equal values


@dataclass(frozen=True, slots=True)
class Groups:
    """What n values have in common. Empty: they are independent."""

    folds: Sequence[Hashable] = ()  # [n] in which each was tested; empty where nothing was cross-validated
    units: Sequence[Sequence[Hashable]] = ()  # kinds of labels [n] of what testifies, else each value for itself
    weights: Array | None = None  # [n], 1 in the mean
    k: int | None = None  # folds of one cross-validation, where ``folds`` are those of several

    def mean(self, values: Array) -> float:
        return float(values.mean() if self.weights is None else (self.weights * values).mean())

    def witnesses(self, n: int) -> int:
        """How many testify: the fewest units of a kind that has several; 1 where there is no such kind."""
        return min((size for units in self.units if (size := len(set(units))) > 1), default=1) if self.units else n

    def errors(self, values: Array) -> list[tuple[float, int]]:
        """(standard error of the mean, degrees of freedom) by each kind of unit, corrected, and by fold; empty where
        nothing is known of the spread."""
        n = len(values)
        pull = (values - self.mean(values)) * (1.0 if self.weights is None else self.weights) / n
        k = self.k or len(set(self.folds))
        correction = math.sqrt(1.0 + k / (k - 1.0)) if k > 1 else 1.0
        # a thousand votes of ten people testify as ten figures do
        found = [(correction * se, df) for kind in self.units or [range(n)] for se, df in _clustered(pull, kind)]
        found += _clustered(pull, self.folds) if k > 1 else []
        return found if max((se for se, _ in found), default=0.0) >= _ROUNDING else []


def _clustered(pull: Array, labels: Sequence[Hashable]) -> list[tuple[float, int]]:
    """√(G/(G − 1) · Σ_g (Σ_{i∈g} pull_i)²) and G − 1; nothing for a single cluster, which says nothing."""
    sums = np.bincount(numbered(labels), pull)
    g = len(sums)
    return [(math.sqrt(float((sums**2).sum()) * g / (g - 1.0)), g - 1)] if g > 1 else []


def numbered(labels: Sequence[Hashable]) -> Ints:
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([number[label] for label in labels], np.intp)


INDEPENDENT = Groups()


class Difference(NamedTuple):
    """A mean paired difference and what it can carry."""

    difference: float
    ci95: Interval
    p_value: float


def difference_json(found: Difference | None) -> dict[str, Any]:
    """{difference, ci95, p_value}, all null where nothing could be paired."""
    return found._asdict() | {"ci95": list(found.ci95)} if found else dict.fromkeys(Difference._fields)


def difference(
    a: Sequence[float] | Array, b: Sequence[float] | Array, groups: Groups = INDEPENDENT, reach: float = 2.0
) -> Difference | None:
    """Mean of a − b, paired; None without pairs. ``reach`` is the largest difference possible (2 for τ).

    The p-value is never below 2 · 2⁻ⁿ, what flipping the signs of n differences could give at best: fewer than six name
    nothing.
    """
    d = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if not len(d):
        return None
    mean, errors, witnesses = groups.mean(d), groups.errors(d), groups.witnesses(len(d))
    if errors:
        half = _half_width(errors)
        interval = max(mean - half, -reach), min(mean + half, reach)
        p_value = max(2.0 * float(stdtr(df, -abs(mean) / se)) for se, df in errors if se > 0.0)
    else:  # every value the same: only their number says how sure that is
        interval = _unseen(mean, witnesses, -reach, reach)
        p_value = min(1.0, 2.0 * (reach / (abs(mean) + reach)) ** witnesses)  # the level at which it reaches 0
    return Difference(mean, interval, max(p_value, 2.0 * 0.5 ** len(d)))


def _half_width(errors: Sequence[tuple[float, int]]) -> float:
    # degrees of freedom differ: the largest error need not give the widest interval
    return max(float(stdtrit(df, 1.0 - ALPHA / 2.0)) * se for se, df in errors)


def _unseen(value: float, n: int, low: float, high: float) -> Interval:
    """The interval where n values are all the same and tell nothing of the spread.

    Up to 1 − (α/2)^(1/n) of all cases may have gone unseen (Clopper–Pearson for no case among n), and those could lie
    at ``low`` or ``high``.
    """
    share = 1.0 - (ALPHA / 2.0) ** (1.0 / n)
    return value - share * (value - low), value + share * (high - value)


def mean_interval(
    values: Sequence[float] | Array, low: float = -1.0, high: float = 1.0, groups: Groups = INDEPENDENT
) -> Interval | None:
    """95 % interval of the mean of values within [low, high], which it never leaves; None without values.

    Wilson's idea with a t quantile and the spread that was seen: the variance shrinks with the distance from the bounds
    as (μ − low)(high − μ) does.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        return None
    mean, errors = groups.mean(x), groups.errors(x)
    if not errors or not low < mean < high:
        return _unseen(min(max(mean, low), high), groups.witnesses(len(x)), low, high)
    share = (mean - low) / (high - low)
    h2 = (_half_width(errors) / (high - low)) ** 2 / (share * (1.0 - share))
    centre = (share + h2 / 2.0) / (1.0 + h2)
    half = math.sqrt(h2 * (share * (1.0 - share) + h2 / 4.0)) / (1.0 + h2)
    return low + (high - low) * (centre - half), low + (high - low) * (centre + half)


def side(found: Difference | None) -> int:
    """Where a difference surely lies: 1 above 0, −1 below it, 0 where interval or p-value do not exclude chance."""
    if found is None or found.p_value >= ALPHA:
        return 0
    return int(found.ci95[0] > 0.0) - int(found.ci95[1] < 0.0)


def winner(found: Difference | None) -> str:
    """Which is surely better by the difference reward_model − elo_offset, if any."""
    return "reward_model" if side(found) > 0 else "elo_offset" if side(found) < 0 else "none"


def holm(p_values: Sequence[float] | Array) -> Array:
    """p-values [k] corrected for their number, in the order given (Holm, *A Simple Sequentially Rejective Multiple Test
    Procedure*, Scandinavian Journal of Statistics 6, 1979): all those below 0.05 hold together in 95 % of cases."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    # never below that of a smaller p-value: else a worse one could pass where a better one has failed
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
