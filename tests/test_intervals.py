"""Intervals and tests against exact and naive versions, and on values that hold hardly anything."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binomtest, t, ttest_1samp

from evidence.intervals import Difference, Groups, difference, holm, mean_interval, winner


def gain(values: Sequence[float] | np.ndarray, groups: Groups | None = None, reach: float = 2.0) -> Difference:
    result = difference(values, [0.0] * len(values), groups or Groups(), reach)
    assert result is not None
    return result


def test_folds_widen_it_by_nadeau_and_bengio_or_by_what_a_fold_shares() -> None:
    values = np.random.default_rng(0).normal(0.2, 0.3, 25)
    mixed = [i % 5 for i in np.argsort(np.argsort(values))]  # every fold alike: nothing shared
    half = t.ppf(0.975, 24) * values.std(ddof=1) * math.sqrt(1 / 25 * (1 + 5 / 4))
    assert gain(values.tolist(), Groups(mixed)).ci95[1] == pytest.approx(values.mean() + half)
    means, by_fold = np.array([-0.4, -0.1, 0.2, 0.5, 0.8]), np.repeat(np.arange(5), 5)
    found = gain(means[by_fold] + np.tile([-0.02, -0.01, 0.0, 0.01, 0.02], 5), Groups(by_fold.tolist()))
    naive = ttest_1samp(means, 0.0)
    assert found[1:] == (pytest.approx(tuple(naive.confidence_interval())), pytest.approx(naive.pvalue))


def test_five_prompts_never_name_a_winner_and_many_equal_ones_do() -> None:
    assert winner(gain([0.9, 0.95, 1.0, 0.97, 0.92])) == winner(gain([1.0] * 5)) == "none"
    assert winner(gain([0.9, 0.95, 1.0, 0.97, 0.92, 0.93])) == winner(gain([1.0] * 25)) == "reward_model"
    assert winner(gain([-0.5 - 0.01 * i for i in range(25)], Groups([i % 5 for i in range(25)]))) == "elo_offset"
    assert difference([], []) is mean_interval([]) is None and winner(None) == "none"


def test_intervals_of_hits_are_wilsons_and_clopper_pearsons() -> None:
    exact = binomtest(25, 25).proportion_ci(0.95, "exact")
    assert mean_interval([1.0] * 25, 0.0, 1.0) == pytest.approx((exact.low, exact.high))
    wilson = binomtest(400, 500).proportion_ci(0.95, "wilson")
    found = mean_interval([1.0] * 400 + [0.0] * 100, 0.0, 1.0)
    assert found == pytest.approx((wilson.low, wilson.high), abs=5e-4)  # t instead of z


def test_the_wider_of_clusters_by_person_and_by_prompt_counts_against_a_naive_sum() -> None:
    rng = np.random.default_rng(2)
    users, prompts = rng.integers(0, 8, 60).tolist(), rng.integers(0, 12, 60).tolist()
    values = rng.normal(size=60) + rng.normal(size=8)[users] + rng.normal(size=12)[prompts]
    away, halves = values - values.mean(), []
    for labels in (users, prompts):
        pairs = [(i, j) for i in range(60) for j in range(60) if labels[i] == labels[j]]
        size = len(set(labels))
        variance = sum(away[i] * away[j] for i, j in pairs) * size / (size - 1) / 60**2
        halves.append(t.ppf(0.975, size - 1) * math.sqrt(variance))
    found = gain(values.tolist(), Groups(units=(users, prompts)), reach=10.0)
    assert found.ci95 == pytest.approx((values.mean() - max(halves), values.mean() + max(halves)))
    nothing = gain(values.tolist(), Groups(units=("u" * 60, "p" * 60)), reach=10.0)
    assert nothing.ci95[0] < -9.0 and nothing.p_value > 0.5, "one person on one prompt knows nothing"


def test_holm_is_the_step_down_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03, 0.005]).tolist() == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0] and holm([]).tolist() == []
