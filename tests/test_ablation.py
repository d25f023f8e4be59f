"""The table of baselines and ablations, and what it varies: regularizers, the base score, one order of judging."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest

import evaluation
from base.features import Features
from config import ExperimentConfig
from core.records import GroundTruth, Judgement, Preference, Prompt, Response
from data_generation import Data
from elo_system import EloSystem
from evidence.ablation import ablation_table, one_order
from evidence.design import design
from evidence.hypotheses import scores_of
from reward_model import RewardModel

MODELS = tuple("abcd")
RATINGS: dict[str, float | None] = {"a": 1300.0, "b": 1200.0, "c": 1100.0, "d": 1000.0}
PROMPTS = tuple(f"p{i:02d}" for i in range(10))
WIDTH = 40


def make_features(seed: int = 0, *, has_score: bool = True) -> Features:
    """States that show which model wrote a text, and more."""
    rng = np.random.default_rng(seed)
    n = len(PROMPTS) * len(MODELS)
    states = rng.normal(size=(n, WIDTH))
    states[:, :4] += 3.0 * np.eye(4)[np.arange(n) % 4]
    index = {(PROMPTS[i // 4], MODELS[i % 4]): i for i in range(n)}
    score = rng.normal(size=n) if has_score else np.zeros(n)
    return Features(index, states.astype("f4"), states.astype("f4"), score.astype("f4"), has_score, "tiny")


def preferences_of(outcomes: dict[tuple[str, str], float]) -> list[Preference]:
    return [Preference(p, a, b, outcomes[a, b]) for p in PROMPTS for a, b in combinations(MODELS, 2)]


TOSS_UPS = preferences_of(dict.fromkeys(combinations(MODELS, 2), 0.5))


# ── Regularizers of the reward model ──


def fitted(
    ratings: dict[str, float | None] = RATINGS, *, features: Features | None = None, **changes: object
) -> RewardModel:
    params = ExperimentConfig(**{"learning_rate": 1e-3, **changes})
    return RewardModel(features or make_features(), ratings, params).fit(TOSS_UPS, prompt_ids=PROMPTS)


def all_scores(model: RewardModel) -> np.ndarray:
    return np.array([[model.scores(p)[m] for m in MODELS] for p in PROMPTS])


def test_without_the_base_score_it_is_a_base_that_has_none_and_other_choices_are_refused() -> None:
    without, none = fitted(base_score=False), fitted(features=make_features(has_score=False))
    assert all_scores(without) == pytest.approx(all_scores(none), abs=1e-5)
    assert not all_scores(RewardModel(make_features(), RATINGS, ExperimentConfig(base_score=False))).any()
    for name, value in (("base_score", 1), ("noise_temperature", 0.0)):
        with pytest.raises(ValueError, match=name):
            ExperimentConfig(**{name: value})


# ── One order ──


def judged(outcome: dict[tuple[str, str], float], *, ordered: bool = True) -> list[Judgement]:
    return [Judgement(p, a, b, outcome[a, b], ordered=ordered) for p in PROMPTS for a, b in permutations(MODELS, 2)]


def test_a_judge_with_no_taste_but_for_the_first_looks_decided_in_one_order() -> None:
    judgements = judged(dict.fromkeys(permutations(MODELS, 2), 1.0))
    once = one_order(TOSS_UPS, judgements, seed=1)
    assert [replace(p, outcome=0.5) for p in once] == TOSS_UPS
    assert {p.outcome for p in once} == {0.0, 1.0}
    first = sum(p.outcome for p in once) / len(once)
    assert 0.25 < first < 0.75, "drawn by the seed: nobody gains by standing first in the list of contestants"
    assert once == one_order(TOSS_UPS, judgements, seed=1) != one_order(TOSS_UPS, judgements, seed=2)


def test_a_judge_that_holds_to_its_word_says_the_same_in_one_order() -> None:
    outcomes = {(a, b): float(a < b) for a, b in permutations(MODELS, 2)}
    preferences = preferences_of(outcomes)
    assert list(one_order(preferences, judged(outcomes), 0)) == preferences
    assert not one_order(preferences, judged(outcomes, ordered=False), 0)


# ── The table ──


def make_data(*, ordered: bool = True) -> Data:
    """A judge that likes d best, then c, …: the Arena's order upside down."""
    outcomes = {(a, b): float(a > b) for a, b in permutations(MODELS, 2)}
    truths = tuple(GroundTruth(p, {m: float(i) for i, m in enumerate(MODELS)}) for p in PROMPTS)
    responses = tuple(Response(p, m, "x" * (ord(m) - 90)) for p in PROMPTS for m in MODELS)
    prompts = tuple(Prompt(p, p) for p in PROMPTS)
    return Data(prompts, responses, tuple(judged(outcomes, ordered=ordered)), tuple(preferences_of(outcomes)), truths)


def test_the_table_has_every_variant_on_the_same_folds_and_the_device_asked_for(devices: set[str]) -> None:
    data, params = make_data(), ExperimentConfig(num_prompts=10, max_epochs=4)
    plan = design(data, params)
    rows = ablation_table(data, plan, make_features(), RATINGS, params, "cuda")
    assert devices == {"cuda"}
    table = {row["name"]: row for row in rows}
    assert list(table) == [
        "Reward model, λ = 0.1", "Combined",
        "Reward model, λ = 0", "Reward model, λ = 0.01", "Reward model, λ = 0.3",
        "Reward model, λ = 1", "Reward model, λ = 3",
        "Reward model, linear head", "Combined, no strength of a model", "Combined, no taste in texts",
        "Combined, no Arena", "Reward model, no base score", "Combined, no base score",
        "Reward model, judged in one order", "Elo offset, judged in one order",
    ]  # fmt: skip
    assert max(map(len, table)) <= 38
    tau = {name: row["kendall_tau"]["mean"] for name, row in table.items()}
    elo = EloSystem(RATINGS, params.elo_k)
    scores = scores_of(evaluation.cross_validate([elo], plan.preferences, plan.truths, plan.folds), plan.folds)
    expected = scores["kendall_tau"].mean("elo_offset")
    assert table["Elo offset, judged in one order"]["kendall_tau"] == expected, "this judge has no position bias"
    assert "difference" not in rows[0]
    gain = table["Combined"]["difference"]
    assert gain["difference"] == pytest.approx(tau["Combined"] - tau["Reward model, λ = 0.1"], abs=1e-4)
    assert gain["ci95"][0] <= gain["difference"] <= gain["ci95"][1]


def test_rows_that_would_repeat_another_are_left_out() -> None:
    params = ExperimentConfig(num_prompts=10, max_epochs=1, lambda_reg=0.0)
    data, features = make_data(ordered=False), make_features(has_score=False)
    names = [row["name"] for row in ablation_table(data, design(data, params), features, RATINGS, params)]
    assert names.count("Reward model, λ = 0") == 1
    assert names[0] == "Reward model, λ = 0"
    assert not any("no base score" in name or "one order" in name for name in names)
