"""System B: its start, its losses against a naive twin, trainings side by side, planted tastes, what it writes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from torch.nn.functional import binary_cross_entropy_with_logits

import reward_model
from base.features import Features
from base.scaler import Scaler
from config import ExperimentConfig
from core.errors import UsageError
from core.files import read_tensors
from core.ranking import TrainingSet
from core.records import Preference
from elo_system import expectation
from reward_model import RewardModel

MODELS = tuple("abcdef")
RATINGS: dict[str, float | None] = {"a": 1000.0, "b": 1040.0, "c": 1080.0, "d": 1120.0, "e": 1160.0, "f": None}
TRAIN = tuple(f"p{i:02d}" for i in range(20))
TEST = tuple(f"p{i:02d}" for i in range(20, 25))
WIDTH = 96
ROOT = Path(__file__).parent.parent


def make_features() -> Features:
    """25 prompts × 6 models; few directions carry most of the variance, as in real hidden states."""
    rng = np.random.default_rng(0)
    texts = 25 * len(MODELS)
    states = rng.normal(size=(texts, 12)) @ rng.normal(size=(12, WIDTH)) + 0.3 * rng.normal(size=(texts, WIDTH))
    index = {(f"p{i // 6:02d}", MODELS[i % 6]): i for i in range(texts)}
    score = 7.0 * rng.normal(size=texts) + 3.0
    last = states[::-1] + rng.normal(size=states.shape)
    return Features(index, states.astype("f4"), last.astype("f4"), score.astype("f4"), True, "tiny")


def signed() -> Features:
    """The same, but a text shows who wrote it, in the order of the ratings; the base knows nothing."""
    mean = FEATURES.mean.copy()
    mean[:, 0] += np.tile(6.0 * np.array([0.0, 1.0, 2.0, 3.0, 4.0, 0.0], "f4"), 25)
    return dataclasses.replace(FEATURES, mean=mean, base_score=np.zeros_like(FEATURES.base_score), has_score=False)


def taste(features: Features, seed: int = 1) -> dict[tuple[str, str], float]:
    """A liking for a direction of the states: which model pleases changes from prompt to prompt."""
    values = features.mean.astype(float) @ np.random.default_rng(seed).normal(size=WIDTH)
    return {key: float(values[row]) for key, row in features.index.items()}


def preferences(likes: dict[tuple[str, str], float], prompts: tuple[str, ...] = TRAIN) -> list[Preference]:
    made = [Preference(p, a, b, float(likes[p, a] > likes[p, b])) for p in prompts for a, b in combinations(MODELS, 2)]
    return [made[i] for i in np.random.default_rng(5).permutation(len(made))]


FEATURES = make_features()
WANTED = preferences(taste(FEATURES))


def model(features: Features = FEATURES, **changes: object) -> RewardModel:
    return RewardModel(features, RATINGS, ExperimentConfig(**changes))


def all_scores(model: RewardModel) -> np.ndarray:
    return np.array([[model.scores(p)[m] for m in MODELS] for p in TRAIN + TEST])


# ── The start ──


@pytest.mark.parametrize("lambda_reg", [0.0, 0.1])
def test_before_any_preference_it_is_exactly_the_base(lambda_reg: float) -> None:
    fitted = model(lambda_reg=lambda_reg).fit([], prompt_ids=TRAIN)
    score = FEATURES.base_score[: 20 * 6].reshape(20, 6).astype(float)
    spread = (score - score.mean(axis=1, keepdims=True)).std()
    assert np.allclose(all_scores(fitted).ravel(), FEATURES.base_score / spread, atol=1e-6)
    assert fitted.history == ()
    unfitted = model()
    assert all(unfitted.ranking(p) == fitted.ranking(p) for p in TRAIN + TEST)
    assert not all_scores(model(base_score=False).fit([], prompt_ids=TRAIN)).any()


def test_without_the_base_score_it_is_a_base_that_has_none() -> None:
    none = dataclasses.replace(FEATURES, base_score=np.zeros_like(FEATURES.base_score), has_score=False)
    without, with_none = model(base_score=False).fit(WANTED[:40]), model(none).fit(WANTED[:40])
    assert np.array_equal(all_scores(without), all_scores(with_none))


def test_texts_of_test_prompts_and_of_a_held_out_model_are_not_seen() -> None:
    other = make_features()
    unseen = [row for (p, m), row in FEATURES.index.items() if p in TEST or m == "c"]
    for array in (other.mean, other.last, other.base_score):
        array[unseen] = 1000.0
    s = TrainingSet.of(WANTED, TRAIN, "c")
    first, second = (model(features, lambda_reg=1.0, max_epochs=2).fit_many([s])[0] for features in (FEATURES, other))
    for p in TRAIN:
        assert [first.scores(p)[m] for m in "abdef"] == [second.scores(p)[m] for m in "abdef"]


def test_what_is_seen_of_a_text_varies_within_prompts_at_one_scale_and_without_correlation() -> None:
    prompt = np.repeat(np.arange(20), 6)
    view = Scaler.of(FEATURES.mean[:120], FEATURES.base_score[:120], prompt, components=WIDTH)
    inputs = view.inputs(FEATURES.mean[:120]).reshape(20, 6, -1)
    deviations = (inputs - inputs.mean(axis=1, keepdims=True)).reshape(120, -1)
    squares = deviations.T @ deviations / 120
    assert np.trace(squares) == pytest.approx(1.0)
    assert np.abs(squares - np.diag(np.diag(squares))).max() < 1e-9
    shifted = FEATURES.mean[:120] + 100.0 * np.random.default_rng(1).normal(size=(20, WIDTH))[prompt]
    same = Scaler.of(shifted, FEATURES.base_score[:120], prompt, components=WIDTH)
    assert np.abs(same.projection) == pytest.approx(np.abs(view.projection), rel=1e-3, abs=1e-5), "between is nothing"
    four = FEATURES.mean[:4].copy()
    four[:, 3] = 2.0
    few = Scaler.of(four, np.ones(4), np.array([0, 0, 1, 1]), components=10)
    assert few.projection.shape == (WIDTH, 2), "4 texts on 2 prompts span 2"
    assert not few.projection[3].any(), "a feature that never varies says nothing"
    assert few.base_scale == 1.0


# ── Losses ──


def test_history_has_both_losses_of_each_epoch() -> None:
    fitted = model(lambda_reg=1.0, learning_rate=1e-3).fit(WANTED, prompt_ids=TRAIN)
    assert len(fitted.history) == 10
    assert fitted.history[-1].preference < 0.8 * fitted.history[0].preference
    assert all(epoch.regularization > 0 for epoch in fitted.history)
    barely = model(signed(), learning_rate=1e-7, max_epochs=1).fit(WANTED)
    assert barely.history[0] == pytest.approx([math.log(2)] * 2, abs=1e-4)


def test_lambda_zero_is_no_regularization_at_all_and_neither_is_one_without_ratings() -> None:
    plain = model(lambda_reg=0.0, max_epochs=2).fit(WANTED, prompt_ids=TRAIN)
    for weight, ratings in ((0.0, {m: -r for m, r in RATINGS.items() if r is not None}), (1.0, {})):
        params = ExperimentConfig(lambda_reg=weight, max_epochs=2)
        same = RewardModel(FEATURES, ratings, params).fit(WANTED, prompt_ids=TRAIN)
        assert all_scores(same) == pytest.approx(all_scores(plain), abs=0.0 if weight == 0.0 else 1e-5)
        assert {epoch.regularization for epoch in same.history} == {0.0}


def test_regularization_pulls_all_prompts_to_the_arenas_order_by_as_much_as_its_points_say() -> None:
    toss_ups = [Preference(p.prompt_id, p.model_a, p.model_b, 0.5) for p in WANTED if p.prompt_id in TRAIN[:4]]
    params = ExperimentConfig(lambda_reg=5.0, learning_rate=1e-3, max_epochs=20)
    wide, close = (
        RewardModel(signed(), ratings, params).fit(toss_ups, prompt_ids=TRAIN)
        for ratings in (RATINGS, {m: r and 1000.0 + r / 1e5 for m, r in RATINGS.items()})
    )
    means = all_scores(wide)[4:20, :5].mean(axis=0)
    assert wide.history[-1].regularization < 0.98 * wide.history[0].regularization
    assert list(means) == sorted(means), "prompts that nobody judged are regularized as well"
    assert np.ptp(all_scores(close)[:, :5].mean(axis=0)) < 0.5 * np.ptp(means), "next to no points, next to no pull"


def naive(params: ExperimentConfig, wanted: list[Preference]) -> tuple[np.ndarray, np.ndarray]:
    """One head and one loop, written down as the formulas say; rewards of all texts, and both losses of each epoch."""
    rng = np.random.default_rng(params.random_seed)
    states, train = np.concatenate([FEATURES.mean, FEATURES.last], axis=1), np.arange(120)
    view = Scaler.of(states[train], FEATURES.base_score[train], train // 6, params.components)
    seen = view.inputs(states) * params.input_scale * math.sqrt(params.components)
    x, base = (torch.from_numpy(a.astype("f4")) for a in (seen, view.base(FEATURES.base_score)))
    width, h = params.components + 1, params.hidden_width
    first = torch.from_numpy(rng.normal(0.0, 0.1 * math.sqrt(2 / width), (width, h)).astype("f4"))
    head = [first[:-1].clone(), first[-1].clone(), torch.zeros(h), torch.zeros(width - 1), torch.zeros(1)]
    hidden, bias, output, direct, more = (p.requires_grad_() for p in head)
    optimizer = torch.optim.AdamW(head, lr=params.learning_rate, weight_decay=params.weight_decay, eps=1e-6)

    def pair_loss(reward: torch.Tensor, pairs: list[tuple[int, int, float]]) -> torch.Tensor:
        delta = torch.stack([reward[a] - reward[b] for a, b, _ in pairs])
        return binary_cross_entropy_with_logits(delta, torch.tensor([target for *_, target in pairs]))

    row, elo = FEATURES.index, {m: r for m, r in RATINGS.items() if r is not None}
    judged = [(row[p.prompt_id, p.model_a], row[p.prompt_id, p.model_b], p.outcome) for p in wanted]
    expected = {pair: expectation(elo[pair[0]], elo[pair[1]]) for pair in combinations(elo, 2)}
    rated = [(row[p, a], row[p, b], float(target)) for p in TRAIN for (a, b), target in expected.items()]
    rng = np.random.default_rng([params.random_seed, 1])
    orders = [rng.permutation(len(judged)) for _ in range(params.max_epochs)]
    batches = [order[i : i + params.batch_size] for order in orders for i in range(0, len(order), params.batch_size)]
    drawn = rng.integers(len(rated), size=(len(batches), params.rank_pairs))
    losses = np.zeros((len(batches), 2))
    for step, (batch, picks) in enumerate(zip(batches, drawn, strict=True)):
        reward = (1 + params.base_reach * more) * base + torch.relu(x @ hidden + bias) @ output + x @ direct
        preference = pair_loss(reward, [judged[i] for i in batch])
        regularization = pair_loss(reward, [rated[i] for i in picks])
        optimizer.zero_grad()
        (preference + params.lambda_reg * regularization).backward()
        optimizer.step()
        losses[step] = preference.item(), regularization.item()
    reward = (1 + params.base_reach * more) * base + torch.relu(x @ hidden + bias) @ output + x @ direct
    return reward.detach().numpy(), losses.reshape(params.max_epochs, -1, 2).mean(axis=1)


@pytest.mark.parametrize(
    "changes",
    [{"random_seed": 3}, {"hidden_width": 0, "weight_decay": 5.0}, {"batch_size": 7}],
)
def test_a_training_is_that_of_one_head_in_one_plain_loop_with_torchs_optimizer(changes: dict[str, object]) -> None:
    values = {"lambda_reg": 0.7, "learning_rate": 1e-2, "max_epochs": 2, "components": 20}
    params = ExperimentConfig(**{**values, **changes})
    sets = [TrainingSet.of(WANTED[:n], TRAIN) for n in (13, 41)]
    for s, fitted in zip(sets, RewardModel(FEATURES, RATINGS, params, "auto").fit_many(sets), strict=True):
        expected, losses = naive(params, list(s.preferences))
        assert all_scores(fitted).ravel() == pytest.approx(expected, abs=1e-5)
        assert np.array(fitted.history) == pytest.approx(losses, abs=1e-5)


def test_a_training_imports_no_compiler() -> None:
    """``torch.optim`` alone does: seconds of every run."""
    seen = "{'torch', 'torch.optim', 'torch._dynamo', 'torch._inductor'} & set(sys.modules)"
    code = (
        "import sys, test_reward_model as t\n"  # of which the twin uses the optimizer, once it is called
        f"before = {seen}; t.model().fit(t.WANTED[:8]); print(sorted({seen} - before), 'torch' in before)"
    )
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **paths}, capture_output=True, text=True)
    assert done.stdout.split() == ["[]", "True"], done.stderr


# ── Side by side ──


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    held_out=st.sampled_from([None, "b"]),
    hidden=st.sampled_from([0, 8]),
    lambda_reg=st.sampled_from([0.0, 0.1]),
    at_once=st.sampled_from([1, 3000, 10**6]),
)
def test_side_by_side_equals_one_by_one(
    sizes: list[int], held_out: str | None, hidden: int, lambda_reg: float, at_once: int
) -> None:
    params = ExperimentConfig(hidden_width=hidden, lambda_reg=lambda_reg, max_epochs=2)
    base = RewardModel(FEATURES, RATINGS, params)
    sets = [TrainingSet.of(WANTED[:n], TRAIN[: 20 - i], held_out if i % 2 else None) for i, n in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward_model, "CHUNK_FLOATS", at_once)
        patch.setattr(reward_model, "STEPS_AN_EPOCH", 8)  # more than 32 preferences make larger batches
        together = base.fit_many(sets)
        for s, fitted in zip(sets, together, strict=True):
            alone = RewardModel(FEATURES, RATINGS, params)
            alone.fit(s.preferences, prompt_ids=s.prompt_ids, held_out=s.held_out)
            assert all_scores(alone) == pytest.approx(all_scores(fitted), abs=1e-5)
            assert np.allclose(alone.history, fitted.history, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_trains_the_same_heads() -> None:
    sets = [TrainingSet.of(WANTED[:n], TRAIN) for n in (40, 21, 0)]
    there, here = (RewardModel(FEATURES, RATINGS, ExperimentConfig(), on).fit_many(sets) for on in ("cuda", "cpu"))
    assert all(np.allclose(all_scores(a), all_scores(b), atol=1e-3) for a, b in zip(there, here, strict=True))


def test_fit_many_leaves_self_and_torchs_threads_alone_and_nothing_gives_nothing() -> None:
    fitted, threads = model().fit(WANTED[:60], prompt_ids=TRAIN), torch.get_num_threads()
    before, history = all_scores(fitted), fitted.history
    fitted.fit_many([TrainingSet.of(preferences(taste(FEATURES, 9)), TRAIN)])
    assert np.array_equal(before, all_scores(fitted)) and history == fitted.history
    assert fitted.fit_many([]) == []
    with pytest.raises(UsageError, match="nobody"):
        fitted.fit([Preference("p00", "a", "nobody", 1.0)])
    assert torch.get_num_threads() == threads


def test_seed_decides_and_repeats() -> None:
    runs = [all_scores(model(random_seed=seed).fit(WANTED[:60], prompt_ids=TRAIN)) for seed in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_a_training_goes_on_from_the_head_of_its_start() -> None:
    first, second = model().fit_many([TrainingSet.of(WANTED[k::2], TRAIN) for k in range(2)])
    own = TrainingSet.of(preferences(taste(FEATURES, 9))[:30], TRAIN[:6])
    sets, start = [TrainingSet.of([], TRAIN[:6]), own, own], [first, first, second]
    same, personal, other = model().fit_many(sets, start)
    (fresh,) = model().fit_many([own])
    assert np.array_equal(all_scores(same), all_scores(first))
    moved = np.abs(all_scores(personal) - all_scores(first)).mean()
    assert 0 < moved < np.abs(all_scores(fresh) - all_scores(first)).mean()
    assert all_scores(model().fit_many([own], [second])[0]) == pytest.approx(all_scores(other), abs=1e-5)
    assert not np.allclose(all_scores(other), all_scores(personal), atol=1e-3)


# ── What it learns ──


@pytest.mark.parametrize(("pooling", "at_least", "below"), [("mean", 0.75, 1.0), ("both", 0.6, 1.0), ("last", -1, 0.3)])
def test_a_planted_taste_is_found_on_new_prompts(pooling: str, at_least: float, below: float) -> None:
    """300 preferences, default training: no fixed order of the models is right, and the base knows nothing. Where only
    states are read in which the taste does not show, it is not found."""
    taus = []
    for seed in range(3):
        likes = taste(FEATURES, seed)
        fitted = model(pooling=pooling, base_score=False).fit(preferences(likes), prompt_ids=TRAIN)
        for p in TEST:
            scores = fitted.scores(p)
            taus.append(kendalltau([scores[m] for m in MODELS], [likes[p, m] for m in MODELS]).statistic)
    assert at_least <= np.mean(taus) <= below


# ── Files ──


def test_new_texts_are_scored_like_those_that_are_there() -> None:
    fitted = model(max_epochs=2).fit(WANTED, prompt_ids=TRAIN)
    new = fitted.score_features(FEATURES.mean[6:18], FEATURES.last[6:18], FEATURES.base_score[6:18])
    assert new == pytest.approx(all_scores(fitted).ravel()[6:18], abs=1e-5)


@pytest.mark.parametrize("hidden", [0, 8])
def test_what_is_saved_is_the_whole_reward_for_whoever_looks(tmp_path: Path, hidden: int) -> None:
    fitted = model(hidden_width=hidden, max_epochs=2).fit(WANTED, prompt_ids=TRAIN)
    fitted.save(tmp_path / "head.safetensors")
    saved, described = read_tensors(tmp_path / "head.safetensors")
    about = json.loads(described["about"])
    states = np.concatenate([FEATURES.mean, FEATURES.last], axis=1)
    x = (states - saved["centre"]) @ saved["projection"] * about["config"]["input_scale"] * math.sqrt(128)
    x = np.pad(x, ((0, 0), (0, 128 - x.shape[1])))
    learned = x @ saved["direct"] + np.maximum(x @ saved["hidden"] + saved["bias"], 0.0) @ saved["output"]
    beta = 1.0 + about["config"]["base_reach"] * float(saved["base"][0, 0])
    reward = beta * FEATURES.base_score / about["base_scale"] + learned[:, 0]
    assert reward == pytest.approx(all_scores(fitted).ravel(), abs=1e-4)
    assert about["base"] == "tiny" and len(about["history"]) == 2
