"""Metrics by worked examples and brute force; splits, cross-validation and curves without leaks."""

from __future__ import annotations

import copy
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference
from elo_system import EloSystem
from evaluation import (
    CurveFold,
    Metrics,
    cross_validate,
    curve_folds,
    evaluate,
    folds,
    kendall_tau,
    learning_curves,
    mean_metrics,
    per_prompt,
    prompt_metrics,
    shuffled,
    split,
)

NAMES = "abcdefghij"
scores_of = st.integers(2, 5).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n) for _ in "xy"])
)


def named(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(NAMES, values, strict=False))


def metrics(x: Sequence[float], y: Sequence[float]) -> Metrics | None:
    return prompt_metrics(named(x), GroundTruth("p", named(y)))


# ── Metrics ──


def test_worked_examples() -> None:
    """ρ = −29/165 of intelligence and television (Wikipedia); τ-b with ties (SciPy's documentation); one by hand."""
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert metrics(hours, iq).spearman_rho == pytest.approx(-29 / 165)  # type: ignore[union-attr]
    assert kendall_tau(named([12, 2, 1, 12, 2]), named([1, 4, 7, 1, 0])) == pytest.approx(-0.4714045)
    # truth a > b > c > d; predicted b > a > c = d: of six pairs one wrong, one tied
    by_hand = {
        "kendall_tau": (4 - 1) / math.sqrt(6 * 5),
        "spearman_rho": 3.5 / math.sqrt(4.5 * 5),
        "ranking_accuracy": (4 + 0.5) / 6,
        "top_1_accuracy": 0.0,
        "top_3_accuracy": (2 + 0.5) / 3,
    }
    assert metrics([3, 4, 1, 1], [4, 3, 2, 1]).as_dict() == pytest.approx(by_hand)  # type: ignore[union-attr]


def test_abstaining_earns_what_chance_earns() -> None:
    result = metrics([1, 1, 1, 1, 1, 1], [6, 5, 4, 3, 2, 1])
    assert result is not None
    assert result.as_dict() == pytest.approx(
        {"kendall_tau": 0, "spearman_rho": 0, "ranking_accuracy": 0.5, "top_1_accuracy": 1 / 6, "top_3_accuracy": 0.5}
    )


def test_a_truth_without_order_is_no_prompt_to_test_on() -> None:
    assert metrics([1, 2, 3], [2, 2, 2]) is None
    assert metrics([1], [1]) is None


def test_tau_is_over_the_models_in_both_and_zero_where_either_is_tied() -> None:
    assert kendall_tau({"a": 2.0, "b": 1.0, "only here": 0.0}, {"b": 0.1, "a": 0.2, "only there": 9.0}) == 1.0
    assert kendall_tau(named([1, 2, 3]), named([1, 1, 1])) == kendall_tau({}, {}) == 0.0


def test_missing_and_undefined_scores_are_errors() -> None:
    truth = GroundTruth("p7", {"a": 1.0, "b": 0.0})
    for scores in ({"a": 1.0}, {"a": 1.0, "b": math.nan}):
        with pytest.raises(ValueError, match=r"b on prompt 'p7'"):
            prompt_metrics(scores, truth)
    with pytest.raises(ValueError, match="true score"):
        prompt_metrics({"a": 1.0, "b": 0.0}, GroundTruth("p7", {"a": 1.0, "b": math.nan}))
    assert prompt_metrics({"a": math.inf, "b": -math.inf}, truth) == pytest.approx((1.0,) * 5)


@given(scores_of)
def test_figures_depend_on_the_order_alone_and_change_sides_together(pair: tuple[list[int], list[int]]) -> None:
    x, y = pair
    result, backwards = metrics(x, y), metrics([-v for v in x], y)
    assert result == metrics([math.exp(v) for v in x[::-1]], [v**3 for v in y[::-1]])
    if len(set(y)) == 1:
        assert result is None
        return
    assert result is not None and backwards is not None
    assert backwards.kendall_tau == pytest.approx(-result.kendall_tau)  # type: ignore[operator]
    assert backwards.spearman_rho == pytest.approx(-result.spearman_rho)  # type: ignore[operator]
    assert backwards.ranking_accuracy == pytest.approx(1.0 - result.ranking_accuracy)  # type: ignore[operator]


@given(scores_of)
def test_ties_count_at_their_expectation_under_random_breaking(pair: tuple[list[int], list[int]]) -> None:
    x, y = pair
    result = metrics(x, y)
    if result is None:
        return
    orders = _consistent_orders(x)
    assert result.top_1_accuracy == pytest.approx(statistics.fmean(y[o[0]] == max(y) for o in orders))
    k = min(3, len(x))
    assert result.top_3_accuracy == pytest.approx(statistics.fmean(_best_overlap(o[:k], y, k) for o in orders))
    right = [statistics.fmean((o.index(i) < o.index(j)) == (y[i] > y[j]) for i, j in _ordered_pairs(y)) for o in orders]
    assert result.ranking_accuracy == pytest.approx(statistics.fmean(right))


def _consistent_orders(x: Sequence[int]) -> list[tuple[int, ...]]:
    return [o for o in itertools.permutations(range(len(x))) if all(x[i] >= x[j] for i, j in itertools.pairwise(o))]


def _best_overlap(chosen: Sequence[int], y: Sequence[int], k: int) -> float:
    return max(len(set(chosen) & set(order[:k])) for order in _consistent_orders(y)) / k


def _ordered_pairs(y: Sequence[int]) -> list[tuple[int, int]]:
    return [(i, j) for i, j in itertools.combinations(range(len(y)), 2) if y[i] != y[j]]


def test_means_skip_what_is_undefined_and_say_so() -> None:
    one, other = Metrics(0.5, 0.0, 1.0, 1.0, None), Metrics(1.0, 0.5, 0.5, 0.0, None)
    assert mean_metrics([one, other]) == Metrics(0.75, 0.25, 0.75, 0.5, None)
    assert mean_metrics([]) == Metrics(None, None, None, None, None)


# ── Splits ──


@given(st.integers(5, 60), st.integers(2, 5), st.integers(0, 99))
def test_every_prompt_is_in_one_fold_and_sizes_hardly_differ(n: int, k: int, seed: int) -> None:
    ids = [f"p{i}" for i in range(n)]
    parts = folds(ids, k, seed)
    assert sorted(itertools.chain(*parts)) == sorted(ids)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == folds(ids, k, seed)


def test_splits_are_by_the_seed_and_refuse_the_impossible() -> None:
    ids = [f"p{i:02d}" for i in range(25)]
    train, test = split(ids, 20, 42)
    assert (len(train), len(test), sorted(train + test)) == (20, 5, ids)
    assert split(ids, 20, 42) == (train, test) != split(ids, 20, 43)
    for count in (0, 25):
        with pytest.raises(ValueError, match="cannot train"):
            split(ids, count, 1)
    for k in (1, 26):
        with pytest.raises(ValueError, match="folds"):
            folds(ids, k, 1)


# ── Cross-validation and curves ──

MODELS = ("a", "b", "c")
IDS = [f"p{i}" for i in range(10)]
PREFERENCES = [Preference(p, x, y, 1.0) for p in IDS for x, y in itertools.combinations(MODELS, 2)]
TRUTHS = [GroundTruth(p, {"a": 2.0, "b": 1.0, "c": 0.0}) for p in IDS]


class Witness(Ranker):
    """Right about prompts it did not train on, wrong about the others, and undecided before any preference."""

    name = "witness"

    def __init__(self) -> None:
        self.seen: tuple[Preference, ...] = ()
        self.prompts: tuple[str, ...] = ()

    def fit_many(self, sets: Sequence[TrainingSet]) -> list[Self]:
        fitted = [copy.copy(self) for _ in sets]
        for witness, s in zip(fitted, sets, strict=True):
            witness.seen, witness.prompts = s.preferences, s.prompt_ids
        return fitted

    def scores(self, prompt_id: str) -> dict[str, float]:
        leaked = prompt_id in self.prompts or any(p.prompt_id == prompt_id for p in self.seen)
        sign = 0.0 if not self.seen else -1.0 if leaked else 1.0
        return {model: -sign * i for i, model in enumerate(MODELS)}


def test_every_prompt_is_tested_once_by_a_training_that_never_saw_it() -> None:
    parts = folds(IDS, 5, 0)
    results = cross_validate([Witness(), EloSystem(dict.fromkeys(MODELS, 1000.0))], PREFERENCES, TRUTHS, parts)
    assert set(results) == {"witness", "elo_offset"}
    for found in results.values():
        assert sorted(found) == IDS
        assert all(m.kendall_tau == 1.0 for m in found.values())


def test_prompts_without_order_are_left_out_and_missing_truths_refused() -> None:
    tied = [GroundTruth("p0", dict.fromkeys(MODELS, 1.0)), *TRUTHS[1:]]
    assert "p0" not in cross_validate([Witness()], PREFERENCES, tied, folds(IDS, 5, 0))["witness"]
    fitted = Witness().fit(PREFERENCES[-1:])
    assert (list(per_prompt(fitted, tied[:3])), evaluate(fitted, tied[:3]).kendall_tau) == (["p1", "p2"], 1.0)
    with pytest.raises(ValueError, match="p9"):
        cross_validate([Witness()], PREFERENCES, TRUTHS[:-1], folds(IDS, 5, 0))


def test_a_curve_has_its_true_x_values_and_starts_without_preferences() -> None:
    train = [p for p in PREFERENCES if p.prompt_id not in ("p8", "p9")]

    def curve(every: int, *, preferences: Sequence[Preference] = train, once: bool = False) -> Any:
        found = learning_curves(Witness(), [CurveFold(IDS[:8], [preferences], TRUTHS[8:])], every, once=once)
        return [(point.preferences, point.metrics.kendall_tau) for point in found.points]

    assert curve(10) == [(0, 0), (10, 1), (20, 1), (24, 1)]
    assert curve(12) == [(0, 0), (12, 1), (24, 1)]
    assert curve(10, once=True) == [(0, 1), (10, 1), (20, 1), (24, 1)]
    assert curve(10, preferences=[]) == [(0, 0)]
    with pytest.raises(ValueError, match="every 0"):
        curve(0)


def test_each_point_is_the_mean_of_trainings_on_so_many_of_the_first_preferences() -> None:
    parts, ratings = [IDS[:5], IDS[5:]], {"a": 900.0, "b": 1000.0, "c": 1100.0}
    system = EloSystem(ratings)
    found = learning_curves(system, curve_folds(PREFERENCES, TRUTHS, parts, 3, 1), 6)
    assert found.counts == (0, 6, 12, 15) and found.values["kendall_tau"].shape == (3, 4, 10)
    assert system.offsets == dict.fromkeys(MODELS, 0.0)
    for point in found.points:
        by_hand = [
            evaluate(EloSystem(ratings).fit(shuffled(own, [1, j])[: point.preferences]), truths).kendall_tau
            for train, truths in ((parts[1], TRUTHS[:5]), (parts[0], TRUTHS[5:]))
            for own in [[p for p in PREFERENCES if p.prompt_id in train]]
            for j in range(3)
        ]
        assert point.metrics.kendall_tau == pytest.approx(np.mean(by_hand), abs=1e-4)
    one, again, other = (curve_folds(PREFERENCES, TRUTHS, parts, 3, seed) for seed in (1, 1, 2))
    assert one == again != other, "all systems share their orders"


def test_cross_validated_curves_test_every_prompt_without_a_leak() -> None:
    tied = [GroundTruth("p0", dict.fromkeys(MODELS, 1.0)), *TRUTHS[1:]]
    result = learning_curves(Witness(), curve_folds(PREFERENCES, tied, folds(IDS, 4, 0), 2, 0), 5)
    assert result.counts == (0, 5, 10, 15, 20, 21)  # the largest fold tests 3 of 10 prompts
    assert sorted(result.prompt_ids) == IDS[1:]
    assert np.array_equal(result.values["kendall_tau"][:, 0], np.zeros((2, 9)))
    assert np.array_equal(result.values["kendall_tau"][:, 1:], np.ones((2, 5, 9)))


def test_a_ranker_is_asked_once_for_each_prompt() -> None:
    asked = []

    class Counted(Witness):
        def scores(self, prompt_id: str) -> dict[str, float]:
            asked.append(prompt_id)
            return super().scores(prompt_id)

    ids = [f"p{i}" for i in range(300)]
    truths = [GroundTruth(p, {"a": 2.0, "b": 1.0, "c": 0.0}) for p in ids]
    cross_validate([Counted()], [Preference(p, "a", "b", 1.0) for p in ids], truths, folds(ids, 5, 0))
    assert sorted(asked) == sorted(ids)
