"""System B: its start, its losses against a naive twin, side by side, planted tastes, what it writes; and what neither
it nor System C may see."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import RATINGS, TEST, TRAIN, all_scores, make_features, planted_likes, preferences, tau
from torch.nn.functional import binary_cross_entropy_with_logits

import reward_model
from base.features import Features
from base.scaler import Scaler
from combined import Combined
from config import ExperimentConfig
from core.files import read_tensors
from core.ranking import Ranker, TrainingSet
from core.records import Preference
from elo_system import expectation
from reward_model import RewardModel

FEATURES = make_features()
WANTED = preferences(planted_likes(FEATURES, 0.0, 1.0, 0.0, seed=1))
POOLED = np.concatenate([FEATURES.mean, FEATURES.last], axis=1)
ELO = {model: rating for model, rating in RATINGS.items() if rating is not None}


def model(features: Features = FEATURES, **changes: object) -> RewardModel:
    return RewardModel(features, RATINGS, ExperimentConfig(**changes))


# ── What is seen ──


@pytest.mark.parametrize("system", [RewardModel, Combined])
def test_texts_of_test_prompts_and_of_a_held_out_model_are_not_seen(system: type[Ranker]) -> None:
    other = make_features()
    unseen = [row for (p, m), row in FEATURES.index.items() if p in TEST or m == "c"]
    for array in (other.mean, other.last, other.base_score):
        array[unseen] = 1000.0
    s, params = TrainingSet.of(WANTED, TRAIN, "c"), ExperimentConfig(lambda_reg=1.0, max_epochs=2)
    first, second = (system(features, RATINGS, params).fit_many([s])[0] for features in (FEATURES, other))
    for p in TRAIN:
        assert [first.scores(p)[m] for m in "abdef"] == [second.scores(p)[m] for m in "abdef"]


def test_what_is_seen_of_a_text_varies_within_prompts_at_one_scale_and_without_correlation() -> None:
    prompt, states, score = np.repeat(np.arange(20), 6), FEATURES.mean[:120].copy(), FEATURES.base_score[:120]
    states[:, 3] = 2.0
    view = Scaler.of(states, score, prompt, components=20)
    inputs = view.inputs(states).reshape(20, 6, -1)
    deviations = (inputs - inputs.mean(axis=1, keepdims=True)).reshape(120, -1)
    squares = deviations.T @ deviations / 120
    assert np.trace(squares) == pytest.approx(1.0)
    assert np.abs(squares - np.diag(np.diag(squares))).max() < 1e-6
    assert not view.projection[3].any(), "a feature that never varies says nothing"
    shifted = states + 100.0 * np.random.default_rng(1).normal(size=(20, 20))[prompt]
    same = Scaler.of(shifted, score, prompt, components=20)
    assert np.abs(same.projection) == pytest.approx(np.abs(view.projection), rel=1e-2, abs=1e-3), "between is nothing"
    few = Scaler.of(states[:4], score[:4], np.array([0, 0, 1, 1]), components=10)
    assert few.projection.shape == (20, 2), "4 texts on 2 prompts span 2"


@pytest.mark.parametrize("has_score", [True, False])
def test_before_any_preference_system_b_is_exactly_the_base_and_c_the_arena_and_the_base(has_score: bool) -> None:
    features, params = make_features(has_score=has_score), ExperimentConfig()
    base = features.base_score.reshape(30, 6).astype(float)
    base /= (base[:20] - base[:20].mean(axis=1, keepdims=True)).std() if has_score else 1.0
    elo = np.array([1000.0, 1040.0, 1080.0, 1120.0, 1160.0, 1080.0]) - 1080.0  # unrated: the mean
    started = [system(features, RATINGS, params).fit([], prompt_ids=TRAIN) for system in (RewardModel, Combined)]
    assert all_scores(started[0]) == pytest.approx(base, abs=1e-4)
    assert all_scores(started[1]) == pytest.approx(base + elo * math.log(10.0) / 400.0, abs=1e-4)


# ── Losses ──


def naive(params: ExperimentConfig, wanted: list[Preference]) -> tuple[np.ndarray, np.ndarray]:
    """One head and one loop, written down as the formulas say; rewards of all texts, and both losses of each epoch.

    Where there is a GPU, that trains the heads that are held against it.
    """
    rng = np.random.default_rng(params.random_seed)
    view = Scaler.of(POOLED[:120], FEATURES.base_score[:120], np.arange(120) // 6, params.components)
    seen = view.inputs(POOLED) * params.input_scale * math.sqrt(params.components)
    x, base = (torch.from_numpy(a.astype("f4")) for a in (seen, view.base(FEATURES.base_score)))
    width, h = params.components + 1, params.hidden_width
    first = torch.from_numpy(rng.normal(0.0, 0.1 * math.sqrt(2 / width), (width, h)).astype("f4"))
    head = [first[:-1].clone(), first[-1].clone(), torch.zeros(h), torch.zeros(width - 1), torch.zeros(1)]
    hidden, bias, output, direct, more = (p.requires_grad_() for p in head)
    optimizer = torch.optim.AdamW(head, lr=params.learning_rate, weight_decay=params.weight_decay, eps=1e-6)

    def rewards() -> torch.Tensor:
        return (1 + params.base_reach * more) * base + torch.relu(x @ hidden + bias) @ output + x @ direct

    def pair_loss(reward: torch.Tensor, pairs: list[tuple[int, int, float]]) -> torch.Tensor:
        delta = torch.stack([reward[a] - reward[b] for a, b, _ in pairs])
        return binary_cross_entropy_with_logits(delta, torch.tensor([target for *_, target in pairs]))

    row = FEATURES.index
    judged = [(row[p.prompt_id, p.model_a], row[p.prompt_id, p.model_b], p.outcome) for p in wanted]
    expected = {pair: expectation(ELO[pair[0]], ELO[pair[1]]) for pair in combinations(ELO, 2)}
    rated = [(row[p, a], row[p, b], float(target)) for p in TRAIN for (a, b), target in expected.items()]
    rng = np.random.default_rng([params.random_seed, 1])
    orders = [rng.permutation(len(judged)) for _ in range(params.max_epochs)]
    batches = [order[i : i + params.batch_size] for order in orders for i in range(0, len(order), params.batch_size)]
    drawn = rng.integers(len(rated), size=(len(batches), params.rank_pairs))
    losses = np.zeros((len(batches), 2))
    for step, (batch, picks) in enumerate(zip(batches, drawn, strict=True)):
        reward = rewards()
        preference = pair_loss(reward, [judged[i] for i in batch])
        regularization = pair_loss(reward, [rated[i] for i in picks])
        optimizer.zero_grad()
        (preference + params.lambda_reg * regularization).backward()
        optimizer.step()
        losses[step] = preference.item(), regularization.item()
    return rewards().detach().numpy(), losses.reshape(params.max_epochs, -1, 2).mean(axis=1)


@pytest.mark.parametrize(
    "changes",
    [{"random_seed": 3}, {"hidden_width": 0, "weight_decay": 5.0}, {"batch_size": 7}, {"lambda_reg": 0.0}],
)
def test_a_training_is_that_of_one_head_in_one_plain_loop_with_torchs_optimizer(changes: dict[str, object]) -> None:
    """Regularized are all training prompts, judged or not; λ = 0 is no regularization at all."""
    values = {"lambda_reg": 0.7, "learning_rate": 1e-2, "max_epochs": 2, "components": 20}
    params = ExperimentConfig(**{**values, **changes})
    sets = [TrainingSet.of(WANTED[:n], TRAIN) for n in (13, 41)]
    for s, fitted in zip(
        sets, RewardModel(replace(FEATURES, device="auto"), RATINGS, params).fit_many(sets), strict=True
    ):
        expected, losses = naive(params, list(s.preferences))
        losses[:, 1] *= params.lambda_reg > 0.0
        assert all_scores(fitted).ravel() == pytest.approx(expected, abs=1e-4)
        assert np.array(fitted.history) == pytest.approx(losses, abs=1e-4)


# ── Side by side ──


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), max_size=6),
    held_out=st.sampled_from([None, "b"]),
    ratings=st.sampled_from([RATINGS, {}]),
    at_once=st.sampled_from([1, 3000, 10**6]),
    system=st.sampled_from([RewardModel, Combined]),
)
def test_side_by_side_equals_one_by_one_and_leaves_the_first_as_it_is(
    sizes: list[int], held_out: str | None, ratings: dict[str, float | None], at_once: int, system: type[Ranker]
) -> None:
    params, threads = ExperimentConfig(max_epochs=2), torch.get_num_threads()
    sets = [TrainingSet.of(WANTED[:n], TRAIN[: 20 - i], held_out if i % 2 else None) for i, n in enumerate(sizes)]
    first = system(FEATURES, ratings, params).fit(WANTED[:9])
    before = all_scores(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward_model, "CHUNK_FLOATS", at_once)
        patch.setattr(reward_model, "STEPS_AN_EPOCH", 8)  # more than 32 preferences make larger batches
        for s, fitted in zip(sets, first.fit_many(sets), strict=True):
            alone = system(FEATURES, ratings, params)
            alone.fit(s.preferences, prompt_ids=s.prompt_ids, held_out=s.held_out)
            assert all_scores(alone) == pytest.approx(all_scores(fitted), abs=1e-4)
    assert np.array_equal(before, all_scores(first)) and torch.get_num_threads() == threads


# ── What it learns ──


def test_a_planted_taste_is_found_on_new_prompts() -> None:
    """Default training: no fixed order of the models is right, and the base knows nothing."""
    planted = [planted_likes(FEATURES, 0.0, 1.0, 0.0, seed) for seed in range(2)]
    fitted = [model(base_score=False).fit(preferences(liked), prompt_ids=TRAIN) for liked in planted]
    assert np.mean(list(map(tau, fitted, planted))) > 0.6


def test_what_is_saved_shows_the_head_and_its_training(tmp_path: Path) -> None:
    model(max_epochs=2).fit(WANTED, prompt_ids=TRAIN).save(tmp_path / "head.safetensors")
    saved, described = read_tensors(tmp_path / "head.safetensors")
    about = json.loads(described["about"])
    assert saved.keys() == {"centre", "projection", "hidden", "bias", "output", "direct", "base"}
    assert about["base"] == "tiny" and len(about["history"]) == 2
