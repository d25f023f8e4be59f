"""Metrics by worked examples and brute force; splits, cross-validation and curves without leaks."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.records import GroundTruth, Preference
from elo_system import EloSystem
from evaluation import (
    Metrics,
    cross_validate,
    folds,
    learning_curve,
    mean_metrics,
    per_prompt,
    prompt_metrics,
    reordered,
    rounds,
    shuffled,
    split,
)


def metrics(x: Sequence[float], y: Sequence[float]) -> Metrics | None:
    scores, truth = (dict(zip("abcdefghij", values, strict=False)) for values in (x, y))
    return prompt_metrics(scores, GroundTruth("p", truth))


def test_worked_examples() -> None:
    """ρ = −29/165 of intelligence and television (Wikipedia); τ-b with ties (SciPy's documentation); one by hand: truth
    a > b > c > d, predicted b > a > c = d, so that of six pairs one is wrong and one tied."""
    iq, hours = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110], [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    documented, by_hand = metrics([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]), metrics([3, 4, 1, 1], [4, 3, 2, 1])
    assert metrics(hours, iq).spearman_rho == pytest.approx(-29 / 165)  # type: ignore[union-attr]
    assert documented.kendall_tau == pytest.approx(-0.4714045)  # type: ignore[union-attr]
    taus = (4 - 1) / math.sqrt(6 * 5), 3.5 / math.sqrt(4.5 * 5)
    assert by_hand == pytest.approx((*taus, (4 + 0.5) / 6, 0.0, (2 + 0.5) / 3))


def test_missing_and_undefined_scores_are_errors() -> None:
    truth = GroundTruth("p7", {"a": 1.0, "b": 0.0})
    for scores in ({"a": 1.0}, {"a": 1.0, "b": math.nan}):
        with pytest.raises(ValueError, match=r"b on prompt 'p7'"):
            prompt_metrics(scores, truth)
    assert prompt_metrics({"a": math.inf, "b": -math.inf}, truth) == pytest.approx((1.0,) * 5)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=5))
def test_ties_count_at_their_expectation_under_random_breaking(rows: list[tuple[int, int]]) -> None:
    x, y = zip(*rows, strict=True)
    result = metrics(x, y)
    assert result == metrics([math.exp(v) for v in x[::-1]], [v**3 for v in y[::-1]]), "the order alone counts"
    assert (result is None) == (len(set(y)) == 1), "a truth without order tests nothing"
    if result is None:
        return
    if len(set(x)) == 1:
        assert result.kendall_tau == result.spearman_rho == 0.0
    orders, k = _consistent_orders(x), min(3, len(x))
    top_1 = [y[order[0]] == max(y) for order in orders]
    top_3 = [max(len(set(o[:k]) & set(true[:k])) for true in _consistent_orders(y)) / k for o in orders]
    pairs = [(i, j) for i, j in itertools.combinations(range(len(y)), 2) if y[i] != y[j]]
    right = [(order.index(i) < order.index(j)) == (y[i] > y[j]) for order in orders for i, j in pairs]
    assert result[2:] == pytest.approx((statistics.fmean(right), statistics.fmean(top_1), statistics.fmean(top_3)))


def _consistent_orders(x: Sequence[int]) -> list[tuple[int, ...]]:
    return [o for o in itertools.permutations(range(len(x))) if all(x[i] >= x[j] for i, j in itertools.pairwise(o))]


@given(st.integers(5, 60), st.integers(2, 5), st.integers(0, 99))
def test_every_prompt_is_in_one_fold_and_sizes_hardly_differ(n: int, k: int, seed: int) -> None:
    ids = [f"p{i:02d}" for i in range(n)]
    fold, (train, test) = folds(ids, k, seed), split(ids, n - 2, seed)
    assert sorted(fold) == sorted(train + test) == ids and len(test) == 2
    sizes = Counter(fold.values())
    assert len(sizes) == k and max(sizes.values()) - min(sizes.values()) <= 1
    assert (fold, test) == (folds(ids, k, seed), split(ids, n - 2, seed)[1])


MODELS = ("a", "b", "c")
IDS = [f"p{i}" for i in range(10)]
PREFERENCES = [Preference(p, x, y, 1.0) for p in IDS for x, y in itertools.combinations(MODELS, 2)]
TRUTHS = [GroundTruth(p, {"a": 2.0, "b": 1.0, "c": 0.0}) for p in IDS]


def test_every_prompt_with_an_order_is_tested_once() -> None:
    truths = [GroundTruth("p0", dict.fromkeys(MODELS, 1.0)), *TRUTHS[1:9]]  # all tied, and p9 has no truth
    found = cross_validate([EloSystem(dict.fromkeys(MODELS, 1000.0))], rounds(PREFERENCES, truths, folds(IDS, 5, 0)))
    assert sorted(found["elo_offset"]) == IDS[1:9] and mean_metrics(found["elo_offset"].values()).kendall_tau == 1.0


def test_each_point_is_the_mean_of_trainings_on_so_many_of_the_first_preferences() -> None:
    fold, ratings = dict.fromkeys(IDS[:5], 0) | dict.fromkeys(IDS[5:], 1), {"a": 900.0, "b": 1000.0, "c": 1100.0}
    system = EloSystem(ratings)
    found = learning_curve(system, reordered(rounds(PREFERENCES, TRUTHS, fold), 3, 1), 6)
    assert list(found) == [0, 6, 12, 15] and [sorted(row) for row in found.values()] == [IDS] * 4
    for n, row in found.items():
        by_hand = [
            mean_metrics(per_prompt(EloSystem(ratings).fit(shuffled(own, [1, j])[:n]), truths).values()).kendall_tau
            for train, truths in ((IDS[5:], TRUTHS[:5]), (IDS[:5], TRUTHS[5:]))
            for own in [[p for p in PREFERENCES if p.prompt_id in train]]
            for j in range(3)
        ]
        assert mean_metrics(row.values()).kendall_tau == pytest.approx(np.mean(by_hand), abs=1e-4)
