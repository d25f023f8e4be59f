"""Intervals and tests against exact and naive versions; planted hypotheses found, empty ones not; the judge."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Sequence
from typing import Self

import numpy as np
import pytest
from hypothesis import given, params
from hypothesis import strategies as st
from scipy.stats import binomtest, t, ttest_1samp

from core.ranking import Ranker
from core.records import GroundTruth, Judgement, Preference, Response
from elo_system import EloSystem
from evaluation import Curves, Metrics, cross_validate, cross_validated_curves, folds
from evidence.hypotheses import (
    cross_validated,
    generalization,
    held_out_placements,
    improvement,
    improvement_json,
    not_tested,
    placement,
    preferences_needed,
    sample_efficiency,
    stronger_baselines,
    verdict,
)
from evidence.intervals import (
    Difference,
    clustered_difference,
    mean_interval,
    paired_difference,
    prompts_needed,
    prompts_needed_sentence,
    sign_flip_p_value,
    winner,
)
from evidence.judge_quality import agreement, judge_quality

MODELS = ("a", "b", "c", "d", "e", "f")
FOLDS_OF_25 = [i % 5 for i in range(25)]
few_numbers = st.lists(st.integers(-8, 8).map(lambda i: i / 8), min_size=1, max_size=8)


def difference(values: Sequence[float], groups: Sequence[int] | None = None) -> Difference:
    result = paired_difference(values, [0.0] * len(values), 0, groups)
    assert result is not None
    return result


# ── Paired differences ──


@given(few_numbers)
@params(deadline=None)
def test_the_permutation_test_tries_every_sign_pattern(values: list[float]) -> None:
    patterns = [abs(math.fsum(s * v for s, v in zip(signs, values, strict=True)))
                for signs in itertools.product((1, -1), repeat=len(values))]  # fmt: skip
    exact = np.mean([p >= abs(math.fsum(values)) - 1e-12 for p in patterns])
    assert sign_flip_p_value(values, seed=0) == pytest.approx(exact)


def test_independent_pairs_have_the_t_interval() -> None:
    values = [0.3, -0.1, 0.2, 0.5, 0.1, 0.0, 0.4, 0.2]
    result, known = difference(values), ttest_1samp(values, 0.0)
    assert result.ci95 == pytest.approx(tuple(known.confidence_interval()))
    assert result.p_value == pytest.approx(max(known.pvalue, sign_flip_p_value(values, 0)))
    assert (result.n, result.sd) == (8, pytest.approx(np.std(values, ddof=1)))


def test_folds_widen_it_by_nadeau_and_bengio_or_by_what_a_fold_shares() -> None:
    values = np.random.default_rng(0).normal(0.2, 0.3, 25)
    mixed = [i % 5 for i in np.argsort(np.argsort(values))]  # every fold alike: nothing shared
    half = t.ppf(0.975, 24) * values.std(ddof=1) * math.sqrt(1 / 25 * (1 + 5 / 4))
    assert difference(values.tolist(), mixed).ci95[1] == pytest.approx(values.mean() + half)
    means = np.array([-0.4, -0.1, 0.2, 0.5, 0.8])
    shared = np.repeat(means, 5) + np.tile([-0.02, -0.01, 0.0, 0.01, 0.02], 5)
    by_fold = ttest_1samp(means, 0.0).confidence_interval()
    assert difference(shared.tolist(), np.repeat(range(5), 5).tolist()).ci95 == pytest.approx(tuple(by_fold))


def test_swapping_the_systems_swaps_the_result() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 25))
    one, other = paired_difference(a, b, 3, FOLDS_OF_25), paired_difference(b, a, 3, FOLDS_OF_25)
    assert one is not None and other is not None
    assert one.ci95 == pytest.approx((-other.ci95[1], -other.ci95[0]))
    assert one.p_value == pytest.approx(other.p_value, abs=0.02)


def test_five_prompts_never_name_a_winner_and_many_equal_ones_do() -> None:
    assert winner(difference([0.9, 0.95, 1.0, 0.97, 0.92])) == "none"
    assert winner(difference([1.0] * 5)) == "none"
    assert winner(difference([1.0] * 25)) == "reward_model"
    assert winner(difference([-0.5 - 0.01 * i for i in range(25)], FOLDS_OF_25)) == "elo_offset"
    assert winner(None) == "none"


def test_identical_systems_are_not_known_to_be_identical() -> None:
    result = difference([0.0] * 5)
    assert (result.difference, result.p_value) == (0.0, 1.0)
    assert result.ci95[0] < -0.9 and result.ci95[1] > 0.9
    assert difference([0.0] * 200).ci95[1] < 0.05
    assert difference([0.4]).ci95 == pytest.approx((-1.94, 1.96))
    assert paired_difference([], [], 0) is None
    with pytest.raises(ValueError, match="paired"):
        paired_difference([1.0], [], 0)


def test_equal_systems_with_lucky_folds_are_hardly_ever_told_apart() -> None:
    """benchmarks/verdict.py has the whole table; a plain t test names a winner in about 14 % of these."""
    rng = np.random.default_rng(5)
    named = 0
    for _ in range(100):
        luck = math.sqrt(0.2) * rng.standard_normal(5)
        values = 0.3 * (luck[FOLDS_OF_25] + math.sqrt(0.8) * rng.standard_normal(25))
        named += winner(difference(values.tolist(), FOLDS_OF_25)) != "none"
    assert named <= 5


def test_prompts_needed_is_the_usual_sample_size() -> None:
    """The textbook's 34 pairs for half a standard deviation (Cohen 1988, power 0.80); inflated by the correction."""
    assert prompts_needed(0.5, 1.0) == pytest.approx(34, abs=1)
    assert prompts_needed(-0.5, 1.0) == prompts_needed(0.5, 1.0)
    inflated, plain = prompts_needed(0.1, 0.3, inflation=2.25), prompts_needed(0.1, 0.3)
    assert inflated is not None and plain is not None and 2.1 < inflated / plain < 2.3
    assert prompts_needed(1.0, 0.0) == 6
    assert prompts_needed(0.0, 1.0) is None
    assert "there are 25" in prompts_needed_sentence(difference([0.1, -0.1, 0.2, 0.3, -0.2] * 5), folds=5)
    assert "No difference" in prompts_needed_sentence(None)


# ── Means within bounds ──


def test_intervals_of_hits_are_wilsons_and_clopper_pearsons() -> None:
    low, high = mean_interval([1.0] * 25, 0.0, 1.0) or (0.0, 0.0)
    exact = binomtest(25, 25).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((exact.low, exact.high))
    low, high = mean_interval([1.0] * 400 + [0.0] * 100, 0.0, 1.0) or (0.0, 0.0)
    wilson = binomtest(400, 500).proportion_ci(0.95, "wilson")
    assert (low, high) == pytest.approx((wilson.low, wilson.high), abs=5e-4)  # t instead of z


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_an_interval_holds_its_mean_and_stays_in_bounds(values: list[float]) -> None:
    for groups in (None, [i % 5 for i in range(len(values))]):
        low, high = mean_interval(values, -1.0, 1.0, groups) or (2.0, -2.0)
        assert -1.0 - 1e-9 <= low <= np.mean(values) + 1e-9
        assert np.mean(values) - 1e-9 <= high <= 1.0 + 1e-9


def test_no_value_has_no_interval_and_a_wrong_one_is_refused() -> None:
    assert mean_interval([]) is None
    for wrong in (1.5, math.nan):
        with pytest.raises(ValueError, match="must lie"):
            mean_interval([0.0, wrong])


# ── Two kinds of cluster ──


def test_two_way_clusters_agree_with_a_naive_double_sum() -> None:
    rng = np.random.default_rng(2)
    users, prompts = rng.integers(0, 8, 60).tolist(), rng.integers(0, 12, 60).tolist()
    values = rng.normal(size=60) + rng.normal(size=8)[users] + rng.normal(size=12)[prompts]
    result = clustered_difference(values.tolist(), users, prompts, reach=10.0)
    away = values - values.mean()

    def together(same: list[tuple[int, int] | int]) -> float:
        pairs = [(i, j) for i in range(60) for j in range(60) if same[i] == same[j]]
        size = len(set(same))
        return sum(away[i] * away[j] for i, j in pairs) * size / (size - 1) / 60**2

    variance = together(users) + together(prompts) - together(list(zip(users, prompts, strict=True)))
    variance = max(variance, together(users), together(prompts))
    assert result is not None
    half = t.ppf(0.975, min(len(set(users)), len(set(prompts))) - 1) * math.sqrt(variance)
    assert result.ci95 == pytest.approx((values.mean() - half, values.mean() + half))


def test_one_user_is_clustered_by_prompt_alone_and_one_cluster_knows_nothing() -> None:
    values = [0.5, -0.2, 0.3, 0.1, 0.4, 0.0]
    alone = clustered_difference(values, ["u"] * 6, list("pqrstu"))
    assert alone is not None
    assert alone.ci95 == pytest.approx(tuple(ttest_1samp(values, 0.0).confidence_interval()))
    nothing = clustered_difference(values, ["u"] * 6, ["p"] * 6)
    assert nothing is not None
    assert nothing.ci95[0] < -0.9 and nothing.ci95[1] > 0.9 and nothing.p_value > 0.5
    assert clustered_difference([], [], []) is None
    with pytest.raises(ValueError, match="labels"):
        clustered_difference([1.0], [], ["p"])


# ── Tables for the results file ──


def metrics(tau: float) -> Metrics:
    return Metrics(tau, tau, (1 + tau) / 2, float(tau > 0.5), 0.5)


def test_tables_keep_the_contract_and_are_json() -> None:
    ids = [f"p{i}" for i in range(25)]
    parts = folds(ids, 5, 0)
    results = {
        "elo_offset": {p: metrics(0.2 + 0.01 * i) for i, p in enumerate(ids)},
        "reward_model": {p: metrics(0.7 + 0.005 * i) for i, p in enumerate(ids)},
        "longest_response": {p: metrics(0.95) for p in ids},
    }
    table = cross_validated(results, parts)
    assert set(table) == set(results)
    assert table["elo_offset"]["kendall_tau"]["mean"] == pytest.approx(0.32)
    gains = improvement(results, parts, seed=0)
    assert winner(gains["kendall_tau"]) == "reward_model"
    written = json.loads(json.dumps({"cross_validated": table, "improvement": improvement_json(gains)}))
    assert set(written["improvement"]["spearman_rho"]) == {"difference", "ci95", "p_value"}
    assert written["improvement"]["top_3_accuracy"]["difference"] == 0.0
    assert stronger_baselines(results) == ["longest_response"]


def test_without_any_ordered_prompt_the_tables_hold_nulls() -> None:
    empty = {"elo_offset": {}, "reward_model": {}}
    assert cross_validated(empty, [["p"], ["q"]])["elo_offset"]["kendall_tau"] == {"mean": None, "ci95": None}
    gains = improvement(empty, [["p"], ["q"]], 0)
    assert improvement_json(gains)["kendall_tau"] == {"difference": None, "ci95": None, "p_value": None}
    assert stronger_baselines(empty) == []


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (0.01, 0.2, 0.01, "supported"),
        (0.01, 0.2, 0.06, "inconclusive"),
        (-0.1, 0.2, 0.5, "inconclusive"),
        (-0.1, 0.04, 0.5, "not supported"),
        (-0.3, -0.1, 0.001, "not supported"),
    ],
)
def test_the_rule_of_the_verdicts(low: float, high: float, p: float, said: str) -> None:
    assert verdict(Difference((low + high) / 2, (low, high), p, 25, 0.3)) == said
    assert verdict(None) == "inconclusive"
    assert not_tested("why") == {"verdict": "not tested", "reason": "why"}


# ── H1 ──


def planted_curves(rise: float, prompts: int = 25) -> Curves:
    """τ rises from 0 to 0.8 with the preferences, ``rise`` of them to go half way."""
    counts = tuple(range(0, 241, 40))
    mean = np.array([0.8 * n / (n + rise) for n in counts])
    wobble = 0.1 * np.sin(np.arange(prompts) * rise)
    values = np.broadcast_to(mean[None, :, None] + wobble, (3, len(counts), prompts))
    return Curves(counts, tuple(f"p{i}" for i in range(prompts)), dict.fromkeys(Metrics.__dataclass_fields__, values))


def test_the_quicker_learner_is_found_and_how_many_preferences_it_needs() -> None:
    parts = folds([f"p{i}" for i in range(25)], 5, 0)
    slow, quick = planted_curves(100.0), planted_curves(10.0)
    found = sample_efficiency(slow, quick, 0, parts)
    assert found["verdict"] == "supported"
    assert found["reward_model_needs_for_elo_final"] == 40
    assert found["elo_needs_for_reward_model_final"] is None
    assert sample_efficiency(quick, slow, 0, parts)["verdict"] == "not supported"
    area = np.mean([0.8 * n / (n + 10) - 0.8 * n / (n + 100) for n in range(0, 241, 40)][1:-1])
    assert found["area_between_curves"]["difference"] == pytest.approx(area * 5 / 6, abs=0.05)
    assert json.loads(json.dumps(found))["orders"] == 3
    with pytest.raises(ValueError, match="same points"):
        sample_efficiency(slow, planted_curves(10.0, prompts=5), 0)


def test_a_target_must_be_kept_once_reached() -> None:
    values = np.array([0.0, 0.6, 0.3, 0.5, 0.6]).reshape(1, 5, 1)
    curves = Curves((0, 5, 10, 15, 20), ("p",), {"kendall_tau": values})
    assert [preferences_needed(curves, target) for target in (-1.0, 0.3, 0.5, 0.6, 0.7)] == [0, 5, 15, 20, None]


# ── H2 ──


def test_places_by_hand() -> None:
    truth = GroundTruth("p", {"a": 4.0, "b": 3.0, "c": 2.0, "d": 2.0})
    first = placement({"a": 1.0, "b": 3.0, "c": 1.0, "d": 0.0}, truth, "a")
    assert (first.place_error, first.pair_accuracy) == (1.5, pytest.approx((0 + 0.5 + 1) / 3))
    tied = placement({"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, truth, "c")
    assert (tied.place_error, tied.pair_accuracy) == (0.5, 1.0)
    assert placement({"a": 1.0, "b": 2.0}, GroundTruth("p", {"a": 1.0, "b": 1.0}), "a").pair_accuracy is None


class Reader(Ranker):
    """Knows the truth from the texts, unless training saw what it must not."""

    name = "reward_model"

    def __init__(self, truths: Sequence[GroundTruth]) -> None:
        self.truths = {truth.prompt_id: truth.scores for truth in truths}
        self.prompts: frozenset[str] = frozenset()
        self.models: frozenset[str] = frozenset()

    def fit(
        self,
        preferences: Sequence[Preference],
        *,
        prompt_ids: Collection[str] | None = None,
        held_out: str | None = None,
    ) -> Self:
        self.prompts = frozenset(prompt_ids or ()) | {p.prompt_id for p in preferences}
        self.models = frozenset(m for p in preferences for m in (p.model_a, p.model_b))
        assert held_out is None or (held_out not in self.models and len(self.models) == len(MODELS) - 1)
        return self

    def scores(self, prompt_id: str) -> dict[str, float]:
        assert prompt_id not in self.prompts
        return dict(self.truths[prompt_id])


def tastes(specific: bool, prompts: int = 25) -> tuple[list[Preference], list[GroundTruth]]:
    rng = np.random.default_rng(11)
    common = rng.permutation(6).astype(float)
    truths = [
        GroundTruth(f"p{i}", dict(zip(MODELS, rng.permutation(6).astype(float) if specific else common, strict=True)))
        for i in range(prompts)
    ]
    preferences = [
        Preference(truth.prompt_id, a, b, float(truth.scores[a] > truth.scores[b]))
        for truth in truths
        for a, b in itertools.combinations(MODELS, 2)
    ]
    return [preferences[i] for i in rng.permutation(len(preferences))], truths


def test_tastes_that_change_with_the_prompt_support_both_hypotheses() -> None:
    preferences, truths = tastes(specific=True)
    parts = folds([truth.prompt_id for truth in truths], 5, 0)
    rankers = [EloSystem(dict.fromkeys(MODELS, 1000.0)), Reader(truths)]
    results = cross_validate(rankers, preferences, truths, parts)
    assert winner(improvement(results, parts, 0)["kendall_tau"]) == "reward_model"
    elo, reader = (cross_validated_curves(r, preferences, truths, parts, 60, 2, 0) for r in rankers)
    assert sample_efficiency(elo, reader, 0, parts)["verdict"] == "supported"
    placed = [held_out_placements(r, preferences, truths, parts, MODELS) for r in rankers]
    found = generalization(*placed)
    assert found["verdict"] == "supported"
    assert found["pair_accuracy"]["reward_model"] == 1.0
    assert found["pair_accuracy"]["elo_offset"] == pytest.approx(0.5, abs=0.1)
    assert found["place_error"]["reward_model"] == 0.0
    assert set(found["by_contestant"]) == set(MODELS)
    assert json.loads(json.dumps(found)) == found
    with pytest.raises(ValueError, match="same contestants"):
        generalization(placed[0], placed[1][:-1])


def test_a_system_has_no_advantage_over_itself() -> None:
    preferences, truths = tastes(specific=False)
    parts = folds([truth.prompt_id for truth in truths], 5, 0)
    elo = EloSystem(dict.fromkeys(MODELS, 1000.0))
    curve = cross_validated_curves(elo, preferences, truths, parts, 60, 2, 0)
    placed = held_out_placements(elo, preferences, truths, parts, MODELS)
    assert generalization(placed, placed)["verdict"] == "inconclusive"
    assert sample_efficiency(curve, curve, 0, parts)["verdict"] == "inconclusive"
    assert (
        cross_validated({"elo_offset": cross_validate([elo], preferences, truths, parts)["elo_offset"]}, parts)[
            "elo_offset"
        ]["kendall_tau"]["mean"]
        > 0.9
    )  # type: ignore[operator]


# ── The judge ──


def both_orders(a: str, b: str, first: float, second: float, prompt: str = "p") -> list[Judgement]:
    """a was shown first and won by ``first``, then b was shown first and won by ``second``."""
    return [Judgement(prompt, a, b, first), Judgement(prompt, b, a, second)]


def test_flips_and_the_share_of_the_first_position() -> None:
    judgements = [
        *both_orders("a", "b", 1.0, 0.0),  # holds to its word
        *both_orders("a", "c", 1.0, 1.0),  # whoever comes first
        *both_orders("b", "c", 0.5, 1.0),  # a tie, then a winner
    ]
    quality = judge_quality(judgements, [])
    assert quality["flip_rate"] == pytest.approx(1 / 3)
    assert quality["inconsistent_rate"] == pytest.approx(2 / 3)
    assert quality["first_position_rate"] == pytest.approx(4.5 / 6)
    assert (quality["longer_response_rate"], quality["self_win_rate"]) == (None, None)


def test_a_judge_without_order_has_no_rates_of_order() -> None:
    quality = judge_quality([Judgement("p", "a", "b", 0.7, ordered=False)], [], judge="b")
    assert (quality["flip_rate"], quality["inconsistent_rate"], quality["first_position_rate"]) == (None, None, None)
    assert quality["self_win_rate"] == pytest.approx(0.3)
    assert judge_quality([], [])["circular_triads"] is None


def test_the_share_of_the_longer_response() -> None:
    responses = [Response("p", "a", "long text"), Response("p", "b", "text"), Response("p", "c", "word")]
    judgements = [Judgement("p", "a", "b", 1.0), Judgement("p", "c", "a", 0.75), Judgement("p", "b", "c", 1.0)]
    assert judge_quality(judgements, responses)["longer_response_rate"] == pytest.approx((1.0 + 0.25) / 2)


@given(st.lists(st.booleans(), min_size=15, max_size=15))
def test_circles_are_counted_as_kendall_and_babington_smith_do(wins: list[bool]) -> None:
    pairs = list(itertools.combinations(MODELS, 2))
    judgements = [Judgement("p", a, b, float(won)) for (a, b), won in zip(pairs, wins, strict=True)]
    points = {m: sum(won == (m == a) for (a, b), won in zip(pairs, wins, strict=True) if m in (a, b)) for m in MODELS}
    circles = 6 * 5 * 11 / 12 - sum(p * p for p in points.values()) / 2
    quality = judge_quality(judgements, [])
    assert quality["circular_triads"] == pytest.approx(circles / 20)
    assert quality["consistency"] == pytest.approx(1 - 24 * circles / (6**3 - 4 * 6))


def test_one_circle_of_three() -> None:
    circle = [Judgement("p", "a", "b", 1.0), Judgement("p", "b", "c", 1.0), Judgement("p", "c", "a", 1.0)]
    quality = judge_quality(circle, [])
    assert (quality["circular_triads"], quality["consistency"]) == (1.0, 0.0)
    undecided = [*circle[:2], Judgement("p", "c", "a", 0.5)]
    assert judge_quality(undecided, [])["circular_triads"] is None


def test_agreement_of_two_rounds() -> None:
    one = [GroundTruth("p", {"a": 2, "b": 1, "c": 0}), GroundTruth("q", {"a": 2, "b": 1, "c": 0})]
    other = [GroundTruth("p", {"a": 2, "b": 1, "c": 0}), GroundTruth("q", {"a": 2, "b": 0, "c": 1})]
    assert agreement(one, other) == pytest.approx((1 + 1 / 3) / 2)
    tied = [GroundTruth("p", dict.fromkeys("abc", 1.0))]
    assert agreement(one, tied) == 0.0
    assert agreement(tied, tied) is None
    assert agreement(one, []) is None
