"""Planted hypotheses found, empty ones not; the table of ablations; and the whole evaluation on tables that hold hardly
anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference
from elo_system import EloSystem
from evaluation import Curve, Metrics, cross_validate, folds, learning_curve, reordered, rounds, shuffled
from evidence import hypotheses
from evidence.baselines import BradleyTerry, global_elo
from evidence.hypotheses import generalization, held_out, pair_accuracy, scores_of, verdict
from stages.judging import round_robin_truths

MODELS = ("a", "b", "c", "d", "e", "f")
FOLD = folds([f"p{i}" for i in range(25)], 5, 0)


def decided(crossed: Any, fold: Any = FOLD) -> dict[str, Any]:
    found = hypotheses.compared(scores_of(crossed, fold), "kendall_tau")
    json.dumps(found, allow_nan=False)
    return found


@pytest.mark.parametrize(
    ("elo", "reward", "said"),
    [
        (0.5, 0.5, ("none", "combined", [])),
        (0.3, 0.5, ("reward_model", "combined", ["elo_offset"])),
        (0.8, 0.5, ("elo_offset", "elo_offset", ["combined"])),
    ],
)
def test_the_combined_system_is_recommended_unless_another_surely_beats_it(
    elo: float, reward: float, said: tuple[str, str, list[str]]
) -> None:
    rng, crossed = np.random.default_rng(0), {}
    means = {"elo_offset": elo, "reward_model": reward, "combined": 0.5, "longest_response": 0.95, "random": 0.0}
    for system, tau in means.items():
        taus = (tau + 0.05 * rng.uniform(-1, 1, 25)).tolist()
        crossed[system] = {f"p{i}": Metrics(x, x, 0.5, 0.5, 0.5) for i, x in enumerate(taus)}
    found = decided(crossed)
    assert (found["winner"], found["recommended"], found["verdict"]["better_than"]) == said
    assert found["verdict"]["stronger_baselines"] == ["longest_response"]


def planted_curves(rise: float) -> Curve:
    """τ rises from 0 to 0.8 with the preferences, ``rise`` of them to go half way."""
    counts = tuple(range(0, 241, 40))
    mean = np.array([0.8 * n / (n + rise) for n in counts])
    values = mean[:, None] + 0.1 * np.sin(np.arange(25) * rise)
    return {
        n: {f"p{i}": Metrics(*[tau] * 5) for i, tau in enumerate(row)}
        for n, row in zip(counts, values.tolist(), strict=True)
    }


def quicker(elo: Curve, flat: Curve, learner: Curve, fold: Any = FOLD) -> dict[str, Any]:
    curves = {"elo_offset": elo, "from_flat": flat, "reward_model": learner}
    return hypotheses.sample_efficiency(curves, "reward_model", fold)


def test_the_quicker_learner_is_found_and_not_by_a_crippled_start_alone() -> None:
    slow, quick = planted_curves(100.0), planted_curves(10.0)
    found = quicker(slow, slow, quick)
    area = np.mean([0.8 * n / (n + 10) - 0.8 * n / (n + 100) for n in range(0, 241, 40)][1:-1])
    assert found["verdict"] == "supported"
    assert found["area_between_curves"]["difference"] == pytest.approx(area * 5 / 6, abs=0.05)
    assert quicker(quick, quick, slow)["verdict"] == "not supported"
    crippled = quicker(slow, quick, quick)  # only the Arena's start is slow
    assert crippled["from_arena"]["verdict"] == "supported"
    assert crippled["verdict"] == crippled["from_flat"]["verdict"] == "inconclusive"


def test_pair_accuracy_by_hand() -> None:
    truth = GroundTruth("p", {"a": 4.0, "b": 3.0, "c": 2.0, "d": 2.0})
    assert pair_accuracy({"a": 1.0, "b": 3.0, "c": 1.0, "d": 0.0}, truth, "a") == pytest.approx((0 + 0.5 + 1) / 3)
    assert pair_accuracy({"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, truth, "c") == 1.0
    assert pair_accuracy({"a": 1.0, "b": 2.0}, GroundTruth("p", {"a": 1.0, "b": 1.0}), "a") is None


class Reader(Ranker):
    """Knows the truth from the texts; training must not see what it must not."""

    name = "reward_model"

    def __init__(self, truths: Sequence[GroundTruth], seen: TrainingSet | None = None) -> None:
        self.truths, self.seen = truths, seen

    def fit_many(self, sets: Sequence[TrainingSet]) -> list[Reader]:  # type: ignore[override]
        for s in sets:
            models = {m for p in s.preferences for m in (p.model_a, p.model_b)}
            assert s.held_out is None or (s.held_out not in models and len(models) == len(MODELS) - 1)
        return [Reader(self.truths, s) for s in sets]

    def scores(self, prompt_id: str) -> dict[str, float]:
        assert self.seen and prompt_id not in (*self.seen.prompt_ids, *(p.prompt_id for p in self.seen.preferences))
        return next(dict(truth.scores) for truth in self.truths if truth.prompt_id == prompt_id)


def tastes(orders: int) -> tuple[list[Preference], list[GroundTruth]]:
    """25 prompts on which the models stand in so many different orders."""
    rng = np.random.default_rng(11)
    drawn = [rng.permutation(6).astype(float).tolist() for _ in range(orders)]
    truths = [GroundTruth(f"p{i}", dict(zip(MODELS, drawn[i % orders], strict=True))) for i in range(25)]
    pairs = [(truth, a, b) for truth in truths for a, b in combinations(MODELS, 2)]
    preferences = [Preference(t.prompt_id, a, b, float(t.scores[a] > t.scores[b])) for t, a, b in pairs]
    return list(shuffled(preferences, 0)), truths


def test_who_reads_tastes_that_change_with_the_prompt_is_better_also_on_unseen_models() -> None:
    preferences, truths = tastes(25)
    rankers = [EloSystem(dict.fromkeys(MODELS, 1000.0)), Reader(truths), BradleyTerry(MODELS)]
    tau = scores_of(cross_validate(rankers, rounds(preferences, truths, FOLD)), FOLD)["kendall_tau"]
    assert verdict(tau.gain("reward_model", "elo_offset")) == "supported"
    placed = {ranker.name: held_out(ranker, rounds(preferences, truths, FOLD), MODELS) for ranker in rankers}
    found = generalization(placed, "reward_model")
    assert found["verdict"] == "supported" and found["pair_accuracy"]["reward_model"] == 1.0
    assert found["pair_accuracy"]["elo_offset"] == pytest.approx(0.5, abs=0.1)


def test_who_reads_nothing_and_puts_the_unseen_model_in_the_middle_supports_nothing() -> None:
    preferences, truths = tastes(1)
    parts = rounds(preferences, truths, FOLD)
    upside_down = global_elo({model: -score for model, score in truths[0].scores.items()})
    elo, others = (held_out(r, parts, MODELS) for r in (upside_down, BradleyTerry(MODELS)))
    found = generalization({"elo_offset": elo, "bradley_terry": others, "reward_model": others}, "reward_model")
    assert found["against_elo"]["verdict"] == "supported", "the Arena's order is worse than none"
    assert found["verdict"] == found["against_others_mean"]["verdict"] == "inconclusive"


OUTCOMES = ([0.5], [1.0], [0.0, 0.25, 0.5, 1.0], [0.5, 0.5 + 1e-16, 0.5 - 1e-16], [0.0, 1e-300])


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_degenerate_tables_end_in_json_without_nan_and_never_in_a_false_winner(data: st.DataObject) -> None:
    models, ids = MODELS[: data.draw(st.integers(2, 4))], [f"p{i}" for i in range(data.draw(st.integers(2, 5)))]
    fold = folds(ids, data.draw(st.integers(2, len(ids))), 0)
    first = [prompt_id for prompt_id in ids if fold[prompt_id] == 0]
    ordered = data.draw(st.sampled_from([ids, first]))  # the prompts of a single fold have an order, or all have
    outcome, pairs = st.sampled_from(data.draw(st.sampled_from(OUTCOMES))), list(combinations(models, 2))
    preferences = [Preference(p, *pair, data.draw(outcome) if p in ordered else 0.5) for p in ids for pair in pairs]
    truths = round_robin_truths(preferences, len(models))
    ratings = dict.fromkeys(models, 1000.0)
    rankers, parts = [EloSystem(ratings), BradleyTerry(models)], rounds(preferences, truths, fold)
    crossed = cross_validate(rankers, parts)
    crossed["reward_model"] = crossed["combined"] = crossed["elo_offset"]  # equal systems
    found = decided(crossed, fold)
    assert found["winner"] == "none" and found["improvement"]["kendall_tau"]["difference"] in (None, 0.0)
    curves = learning_curve(rankers[0], reordered(parts, 2, 0), 4)
    placed = {ranker.name: held_out(ranker, parts, models) for ranker in rankers}
    placed["reward_model"] = placed["elo_offset"]
    tested = [quicker(curves, curves, curves, fold), generalization(placed, "reward_model")]
    assert "supported" not in [one["verdict"] for one in tested]
    json.dumps([tested, hypotheses.bands(curves, fold)], allow_nan=False)
