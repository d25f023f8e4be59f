"""Planted hypotheses found, empty ones not; and the whole evaluation on tables that hold hardly anything."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference
from elo_system import EloSystem
from evaluation import (
    METRICS,
    Curves,
    Metrics,
    cross_validate,
    curve_folds,
    evaluate,
    folds,
    learning_curves,
)
from evidence.baselines import BradleyTerry, global_elo
from evidence.curves import bands
from evidence.hypotheses import (
    Placement,
    compared,
    generalization,
    held_out_placements,
    not_tested,
    placement,
    pooled,
    preferences_needed,
    sample_efficiency,
    scores_of,
    verdict,
)
from evidence.intervals import MOST_PROMPTS, Difference, prompts_needed

MODELS = ("a", "b", "c", "d", "e", "f")


# ── Tables for the results file ──


def metrics(tau: float) -> Metrics:
    return Metrics(tau, tau, (1 + tau) / 2, float(tau > 0.5), 0.5)


def results(**taus: Sequence[float]) -> tuple[dict[str, dict[str, Metrics]], tuple[tuple[str, ...], ...]]:
    """{system: {prompt id: metrics}} of these τ, and folds."""
    ids = [f"p{i}" for i in range(len(next(iter(taus.values()))))]
    return {s: {p: metrics(tau) for p, tau in zip(ids, row, strict=True)} for s, row in taus.items()}, folds(ids, 5, 0)


def level(mean: float, wobble: float = 0.05, seed: int = 0) -> list[float]:
    return (mean + wobble * np.random.default_rng(seed).uniform(-1, 1, 25)).tolist()


def decided(crossed: Any, parts: Any) -> dict[str, Any]:
    found = compared(scores_of(crossed, parts), "kendall_tau")
    json.dumps(found, allow_nan=False)
    return found


def test_tables_keep_the_contract_and_are_json() -> None:
    found = decided(*results(elo_offset=level(0.3), reward_model=level(0.7, seed=1), combined=level(0.7, seed=2),
                             longest_response=[0.95] * 25))  # fmt: skip
    assert list(found["cross_validated"]) == ["elo_offset", "reward_model", "combined", "longest_response"]
    cell = found["cross_validated"]["elo_offset"]["kendall_tau"]
    assert cell["mean"] == pytest.approx(0.3, abs=0.03) and cell["ci95"][0] < cell["mean"] < cell["ci95"][1]
    assert set(found["improvement"]["spearman_rho"]) == {"difference", "ci95", "p_value"}
    assert found["improvement"]["top_3_accuracy"]["difference"] == 0.0
    assert (found["winner"], found["verdict"]["stronger_baselines"]) == ("reward_model", ["longest_response"])
    hardly, parts = results(elo_offset=level(0.3), reward_model=level(0.7, seed=1), combined=level(0.7, seed=2),
                            longest_response=[0.77 + 0.2 * (-1) ** i for i in range(25)])  # fmt: skip
    assert decided(hardly, parts)["verdict"]["stronger_baselines"] == [], "a higher mean alone is no reason to warn"


def test_without_any_ordered_prompt_the_tables_hold_nulls() -> None:
    found = decided({"elo_offset": {}, "reward_model": {}, "combined": {}, "random": {}}, [["p"], ["q"]])
    assert found["cross_validated"]["elo_offset"]["kendall_tau"] == {"mean": None, "ci95": None}
    assert found["improvement"]["kendall_tau"] == {"difference": None, "ci95": None, "p_value": None}
    assert (found["winner"], found["recommended"], found["verdict"]["better_than"]) == ("none", "combined", [])
    assert found["verdict"]["stronger_baselines"] == []


@pytest.mark.parametrize(
    ("elo", "reward", "both", "said"),
    [
        (0.5, 0.5, 0.5, ("combined", [])),
        (0.3, 0.5, 0.5, ("combined", ["elo_offset"])),
        (0.8, 0.5, 0.5, ("elo_offset", ["combined"])),
        (0.7, 0.8, 0.5, ("reward_model", ["combined"])),
    ],
)
def test_the_combined_system_is_recommended_unless_another_surely_beats_it(
    elo: float, reward: float, both: float, said: tuple[str, list[str]]
) -> None:
    found = decided(*results(elo_offset=level(elo), reward_model=level(reward, seed=1), combined=level(both, seed=2)))
    assert (found["recommended"], found["verdict"]["better_than"]) == said


def documents(gain: float, personas: int = 5) -> dict[str, Any]:
    """Personas with 25 prompts each, on which the reward model's metrics are better by about ``gain``."""
    rng, found = np.random.default_rng(0), {}
    for i in range(personas):
        rows = []
        for prompt in range(25):
            elo, more = rng.uniform(0.2, 0.5), gain + 0.3 * rng.uniform(-0.5, 0.5)
            row = {"prompt_id": f"{i}-{prompt}", "fold": prompt % 5, "elo_offset": dict.fromkeys(METRICS, elo)}
            better = dict.fromkeys(METRICS, elo + more)
            rows.append(row | {"reward_model": better, "combined": better})
        found[f"persona {i}"] = {"per_prompt": rows, "config": {"folds": 5}}
    return found


def test_differences_no_persona_shows_alone_are_sure_over_all_of_them() -> None:
    made = documents(0.03)
    one, whole = pooled({"persona 0": made["persona 0"]}), pooled(made)
    assert (one["winner"], whole["winner"]) == ("none", "reward_model")
    assert (one["prompts"], whole["prompts"]) == (25, 125)
    gain = whole["improvement"]["kendall_tau"]
    means = (whole["cross_validated"][s]["kendall_tau"]["mean"] for s in ("reward_model", "elo_offset"))
    assert gain["difference"] == pytest.approx(float(np.subtract(*means)))
    assert pooled(documents(0.0))["winner"] == "none", "equal methods have no winner"
    nothing = pooled({"persona 0": made["persona 0"] | {"per_prompt": []}})
    assert (nothing["prompts"], nothing["winner"], nothing["improvement"]["kendall_tau"]["ci95"]) == (0, "none", None)


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
    return Curves(counts, tuple(f"p{i}" for i in range(prompts)), dict.fromkeys(METRICS, values))


def curved(ranker: Ranker, preferences: Any, truths: Any, parts: Any, every: int = 60) -> Curves:
    return learning_curves(ranker, curve_folds(preferences, truths, parts, 2, 0), every)


def efficiency(elo: Curves, flat: Curves, learner: Curves, parts: Any) -> dict[str, Any]:
    return sample_efficiency({"from_arena": elo, "from_flat": flat}, learner, parts)


def test_the_quicker_learner_is_found_and_how_many_preferences_it_needs() -> None:
    parts = folds([f"p{i}" for i in range(25)], 5, 0)
    slow, quick = planted_curves(100.0), planted_curves(10.0)
    found = efficiency(slow, slow, quick, parts)
    assert found["verdict"] == "supported"
    assert found["reward_model_needs_for_elo_final"] == 40
    assert found["elo_needs_for_reward_model_final"] is None
    assert efficiency(quick, quick, slow, parts)["verdict"] == "not supported"
    crippled = efficiency(slow, quick, quick, parts)  # only the Arena's start is slow
    assert crippled["from_arena"]["verdict"] == "supported"
    assert crippled["verdict"] == crippled["from_flat"]["verdict"] == "inconclusive"
    assert crippled["area_between_curves"] == crippled["from_arena"]["area_between_curves"]
    area = np.mean([0.8 * n / (n + 10) - 0.8 * n / (n + 100) for n in range(0, 241, 40)][1:-1])
    assert found["area_between_curves"]["difference"] == pytest.approx(area * 5 / 6, abs=0.05)
    assert json.loads(json.dumps(found)) == found
    with pytest.raises(ValueError, match="same points"):
        efficiency(slow, slow, planted_curves(10.0, prompts=5), parts)


def test_a_target_must_be_kept_once_reached() -> None:
    values = np.array([0.0, 0.6, 0.3, 0.5, 0.6]).reshape(1, 5, 1)
    curves = Curves((0, 5, 10, 15, 20), ("p",), dict.fromkeys(METRICS, values))
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

    def fit_many(self, sets: Sequence[TrainingSet]) -> list[Self]:
        fitted = [copy.copy(self) for _ in sets]
        for reader, s in zip(fitted, sets, strict=True):
            reader.prompts = frozenset(s.prompt_ids) | {p.prompt_id for p in s.preferences}
            reader.models = frozenset(m for p in s.preferences for m in (p.model_a, p.model_b))
            assert s.held_out is None or (s.held_out not in reader.models and len(reader.models) == len(MODELS) - 1)
        return fitted

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


def unseen(elo: Sequence[Placement], others: Sequence[Placement], learner: Sequence[Placement]) -> dict[str, Any]:
    rivals = {"against_elo": ("elo_offset", elo), "against_others_mean": ("bradley_terry", others)}
    return generalization(rivals, learner)


def test_tastes_that_change_with_the_prompt_support_both_hypotheses() -> None:
    preferences, truths = tastes(specific=True)
    parts = folds([truth.prompt_id for truth in truths], 5, 0)
    rankers = [EloSystem(dict.fromkeys(MODELS, 1000.0)), Reader(truths)]
    gains = scores_of(cross_validate(rankers, preferences, truths, parts), parts)
    assert verdict(gains["kendall_tau"].gain("reward_model", "elo_offset")) == "supported"
    elo, reader = (curved(r, preferences, truths, parts) for r in rankers)
    assert efficiency(elo, elo, reader, parts)["verdict"] == "supported"
    rivals = [rankers[0], BradleyTerry(MODELS), rankers[1]]
    placed = [held_out_placements(r, preferences, truths, parts, MODELS) for r in rivals]
    found = unseen(*placed)
    assert found["verdict"] == "supported"
    assert found["pair_accuracy"]["reward_model"] == 1.0
    assert found["pair_accuracy"]["elo_offset"] == pytest.approx(0.5, abs=0.1)
    assert found["place_error"]["reward_model"] == 0.0
    assert set(found["by_contestant"]) == set(MODELS)
    assert json.loads(json.dumps(found)) == found
    with pytest.raises(ValueError, match="same contestants"):
        unseen(placed[0], placed[1], placed[2][:-1])


def test_who_reads_nothing_and_puts_the_unseen_model_in_the_middle_supports_nothing() -> None:
    preferences, truths = tastes(specific=False)
    parts = folds([truth.prompt_id for truth in truths], 5, 0)
    upside_down = {model: -score for model, score in truths[0].scores.items()}
    rankers = global_elo(upside_down), BradleyTerry(MODELS), BradleyTerry(MODELS)
    found = unseen(*(held_out_placements(r, preferences, truths, parts, MODELS) for r in rankers))
    assert found["against_elo"]["verdict"] == "supported", "the Arena's order is worse than none"
    assert found["verdict"] == found["against_others_mean"]["verdict"] == "inconclusive"
    assert found["pair_accuracy"] == found["against_elo"]["pair_accuracy"]
    assert found["against_others_mean"]["pair_accuracy"]["difference"] == 0.0


# ── Tables that hold hardly anything ──

OUTCOMES = {
    "all ties": [0.5],
    "one model always first": [1.0],
    "anything": [0.0, 0.25, 0.5, 1.0],
    "hardly": [0.5, 0.5 + 1e-16, 0.5 - 1e-16],
    "tiny": [0.0, 1e-300],
}


class Table(Ranker):
    """All equal before any preference, then what it was given, infinities among it."""

    name = "reward_model"

    def __init__(self, table: dict[str, dict[str, float]]) -> None:
        self.table, self.fitted = table, False

    def fit_many(self, sets: Sequence[TrainingSet]) -> list[Self]:
        fitted = [copy.copy(self) for _ in sets]
        for table, s in zip(fitted, sets, strict=True):
            table.fitted = bool(s.preferences)
        return fitted

    def scores(self, prompt_id: str) -> dict[str, float]:
        return self.table[prompt_id] if self.fitted else dict.fromkeys(self.table[prompt_id], 0.0)


class Twin(EloSystem):
    """System A under the other's name: equal systems."""

    name = "reward_model"


class Third(EloSystem):
    """System A in the combined system's place."""

    name = "combined"


@st.composite
def experiments(draw: st.DrawFn) -> tuple[list[Preference], tuple[tuple[str, ...], ...], list[str], Ranker]:
    """(preferences, folds, contestants, System B)."""
    models = list(MODELS[: draw(st.integers(2, 4))])
    ids = [f"p{i}" for i in range(draw(st.integers(2, 5)))]
    parts = folds(ids, draw(st.integers(2, len(ids))), 0)
    ordered = draw(st.sampled_from([ids, parts[0]]))  # the prompts of a single fold have an order, or all have
    outcome = st.sampled_from(OUTCOMES[draw(st.sampled_from(sorted(OUTCOMES)))])
    preferences = [
        Preference(p, a, b, draw(outcome) if p in ordered else 0.5)
        for p in ids
        for a, b in itertools.combinations(models, 2)
    ]
    if draw(st.booleans()):
        return preferences, parts, models, Twin(dict.fromkeys(models, 1000.0))
    score = st.sampled_from([0.0, 1e-300, -1e-300, 1.0, float("inf"), float("-inf")])
    return preferences, parts, models, Table({p: {m: draw(score) for m in models} for p in ids})


def round_robin(preferences: Sequence[Preference]) -> list[GroundTruth]:
    points: dict[str, dict[str, float]] = {}
    for p in preferences:
        won = points.setdefault(p.prompt_id, {})
        won[p.model_a] = won.get(p.model_a, 0.0) + p.outcome
        won[p.model_b] = won.get(p.model_b, 0.0) + 1.0 - p.outcome
    return [GroundTruth(prompt_id, scores) for prompt_id, scores in points.items()]


@given(experiments())
@settings(max_examples=60, deadline=None)
def test_degenerate_tables_end_in_json_without_nan_and_never_in_a_false_winner(
    experiment: tuple[list[Preference], tuple[tuple[str, ...], ...], list[str], Ranker],
) -> None:
    preferences, parts, models, b = experiment
    ratings = dict.fromkeys(models, 1000.0)
    truths, a = round_robin(preferences), EloSystem(ratings)
    rankers = [a, b, Third(ratings), global_elo(ratings), BradleyTerry(models)]
    crossed = cross_validate(rankers, preferences, truths, parts)
    tau = scores_of(crossed, parts)["kendall_tau"].gain("reward_model", "elo_offset")
    needed = prompts_needed(tau.difference, tau.sd, inflation=2.25) if tau else None
    curves = [curved(ranker, preferences, truths, parts, 4) for ranker in (a, b)]
    placed = [held_out_placements(ranker, preferences, truths, parts, models) for ranker in (a, b)]
    h1, h2 = efficiency(curves[0], *curves, parts), unseen(placed[0], *placed)
    found = {
        "final": {ranker.name: evaluate(ranker, truths).as_dict() for ranker in rankers},
        **decided(crossed, parts),
        "learning_curve": [point.metrics.as_dict() for point in curves[1].points],
        "bands": [bands(curve, parts) for curve in curves],
        "hypotheses": [h1, h2],
    }
    json.dumps(found, allow_nan=False)
    assert needed is None or 6 <= needed <= MOST_PROMPTS + 1
    assert found["winner"] == "none", "five prompts never tell"
    if isinstance(b, Twin):
        assert tau is None or tau.difference == 0.0
        assert h1["verdict"] == h2["verdict"] == "inconclusive"
