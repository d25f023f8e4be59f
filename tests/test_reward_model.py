"""System B's head: its start, its losses, its gradients, trainings side by side, planted tastes, files."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, params
from hypothesis import strategies as st
from scipy.stats import kendalltau

import heads
import reward_model
from base.features import Features
from config import ExperimentConfig
from core.errors import MissingError, UsageError
from core.ranking import TrainingSet
from core.records import Preference
from reward_model import RewardModel, elo_expectation

MODELS = tuple("abcdef")
RATINGS: dict[str, float | None] = {"a": 1000.0, "b": 1040.0, "c": 1080.0, "d": 1120.0, "e": 1160.0, "f": None}
TRAIN = tuple(f"p{i:02d}" for i in range(20))
TEST = tuple(f"p{i:02d}" for i in range(20, 25))
WIDTH = 96


def make_features(seed: int = 0, *, has_score: bool = True) -> Features:
    """25 prompts × 6 models; few directions carry most of the variance, as in real hidden states."""
    rng = np.random.default_rng(seed)
    texts = 25 * len(MODELS)
    states = rng.normal(size=(texts, 12)) @ rng.normal(size=(12, WIDTH)) + 0.3 * rng.normal(size=(texts, WIDTH))
    index = {(f"p{i // 6:02d}", MODELS[i % 6]): i for i in range(texts)}
    score = 7.0 * rng.normal(size=texts) + 3.0 if has_score else np.zeros(texts)
    last = states[::-1] + rng.normal(size=states.shape)
    return Features(index, states.astype("f4"), last.astype("f4"), score.astype("f4"), has_score, "tiny")


def taste(features: Features, seed: int = 1) -> dict[tuple[str, str], float]:
    """A liking for a direction of the states: which model pleases changes from prompt to prompt."""
    values = features.mean[:, :].astype(float) @ np.random.default_rng(seed).normal(size=WIDTH)
    return {key: float(values[row]) for key, row in features.index.items()}


def preferences(likes: dict[tuple[str, str], float], prompts: tuple[str, ...] = TRAIN) -> list[Preference]:
    made = [Preference(p, a, b, float(likes[p, a] > likes[p, b])) for p in prompts for a, b in combinations(MODELS, 2)]
    return [made[i] for i in np.random.default_rng(5).permutation(len(made))]


def all_scores(model: RewardModel) -> np.ndarray:
    return np.array([[model.scores(p)[m] for m in MODELS] for p in TRAIN + TEST])


def model(features: Features, **changes: object) -> RewardModel:
    return RewardModel(features, RATINGS, ExperimentConfig.from_dict(changes))


# ── The start ──


@pytest.mark.parametrize("lambda_reg", [0.0, 0.1])
def test_before_any_preference_it_is_exactly_the_base(lambda_reg: float) -> None:
    features = make_features()
    fitted = model(features, lambda_reg=lambda_reg).fit([], prompt_ids=TRAIN)
    spread = features.base_score[: 20 * 6].std()
    assert np.allclose(all_scores(fitted).ravel(), features.base_score / spread, atol=1e-6)
    assert fitted.history == ()
    unfitted = model(features)
    assert all(unfitted.ranking(p) == fitted.ranking(p) for p in TRAIN + TEST)


def test_a_base_without_a_score_starts_at_zero() -> None:
    fitted = model(make_features(has_score=False)).fit([], prompt_ids=TRAIN)
    assert not all_scores(fitted).any()


def test_reading_statistics_come_from_the_training_texts_without_the_held_out_model() -> None:
    features, other = make_features(), make_features()
    likes = taste(features)
    assert np.array_equal(features.mean, other.mean)
    unseen = [row for (p, m), row in features.index.items() if p in TEST or m == "c"]
    for array in (other.mean, other.last, other.base_score):
        array[unseen] = 1000.0
    s = TrainingSet.of(preferences(likes), TRAIN, "c")
    first, second = model(features).fit_many([s])[0], model(other).fit_many([s])[0]
    seen = [m for m in MODELS if m != "c"]
    for p in TRAIN:
        assert [first.scores(p)[m] for m in seen] == [second.scores(p)[m] for m in seen]


# ── Losses ──


def test_elo_expectation_of_the_textbook() -> None:
    assert elo_expectation(1400, 1000) == pytest.approx(10 / 11)
    assert elo_expectation(1200, 1000) == pytest.approx(0.7597, abs=1e-4)
    assert elo_expectation(1000, 1200) + elo_expectation(1200, 1000) == pytest.approx(1)


def test_history_has_both_losses_of_each_epoch_and_they_fall() -> None:
    features = make_features()
    fitted = model(features, lambda_reg=1.0, learning_rate=1e-3).fit(preferences(taste(features)), prompt_ids=TRAIN)
    assert len(fitted.history) == 10
    assert fitted.history[-1].preference < 0.7 * fitted.history[0].preference
    assert all(epoch.regularization > 0 for epoch in fitted.history)


def test_losses_of_a_base_without_score_begin_at_ln_2() -> None:
    features = make_features(has_score=False)
    fitted = model(features, learning_rate=1e-7, max_epochs=1).fit(preferences(taste(features)))
    assert fitted.history[0].preference == pytest.approx(np.log(2), abs=1e-4)
    assert fitted.history[0].regularization == pytest.approx(np.log(2), abs=1e-4)


def test_lambda_zero_is_no_regularization_at_all() -> None:
    """With λ = 0 ratings change nothing; so they do with λ > 0 where no contestant is rated."""
    features = make_features()
    wanted = preferences(taste(features))
    config = ExperimentConfig(lambda_reg=0.0)
    without = RewardModel(features, RATINGS, config).fit(wanted, prompt_ids=TRAIN)
    reversed_ratings = {m: -r for m, r in RATINGS.items() if r is not None}
    same = RewardModel(features, reversed_ratings, config).fit(wanted, prompt_ids=TRAIN)
    assert np.array_equal(all_scores(without), all_scores(same))
    assert {epoch.regularization for epoch in without.history} == {0.0}
    unrated = RewardModel(features, {}, ExperimentConfig(lambda_reg=0.1)).fit(wanted, prompt_ids=TRAIN)
    assert {epoch.regularization for epoch in unrated.history} == {0.0}
    assert np.isfinite(all_scores(unrated)).all()


def test_strong_regularization_pulls_to_the_elo_order_and_leaves_the_unrated_out() -> None:
    features = make_features(has_score=False)
    offsets = np.zeros((6, WIDTH))
    offsets[:, 0] = 6.0 * np.array([0.0, 1.0, 2.0, 3.0, 4.0, 0.0])  # so that a text shows who wrote it
    for (_, m), row in features.index.items():
        features.mean[row] += offsets[MODELS.index(m)].astype("f4")
    against = [Preference(p.prompt_id, p.model_a, p.model_b, 0.5) for p in preferences(taste(features))[:20]]
    fitted = model(features, lambda_reg=5.0, learning_rate=1e-2, max_epochs=60).fit(against, prompt_ids=TRAIN)
    rated = np.array([[fitted.scores(p)[m] for m in "abcde"] for p in TRAIN]).mean(axis=0)
    assert list(rated) == sorted(rated)


def test_regularization_reaches_prompts_that_were_not_judged() -> None:
    features = make_features()
    few = preferences(taste(features), TRAIN[:1])
    flipped = {m: -r for m, r in RATINGS.items() if r is not None}
    settings_ = ExperimentConfig(lambda_reg=1.0)
    far = RewardModel(features, RATINGS, settings_).fit(few, prompt_ids=TRAIN)
    reversed_ = RewardModel(features, flipped, settings_).fit(few, prompt_ids=TRAIN)
    assert far.history[-1].regularization > 0
    assert not np.allclose(all_scores(far), all_scores(reversed_))


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_written_gradients_and_steps_equal_autograd_and_torchs_adamw(hidden: int, decay: float) -> None:
    rng = np.random.default_rng(3)
    steps, pairs, texts, width = 12, 40, 60, 7  # many pairs: no unit's bias may cancel in all of a step's
    inputs = rng.normal(size=(texts, width)).astype("f4")
    inputs[:, -1] = 1.0
    rows = rng.integers(texts, size=(2, steps, pairs))
    margin, target, weight = rng.normal(size=(steps, pairs)), rng.random((steps, pairs)), rng.random((steps, pairs))
    start = rng.normal(size=heads.parameter_count(width, hidden)).astype("f4")
    start[(width - 1) * hidden : width * hidden] = 0.0
    plan = heads.Plan(rows[0], rows[1], margin, target, weight, inputs)
    (ours,), (losses,) = heads.train([plan], [start], hidden, 1e-2, decay)

    theirs = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([theirs], lr=1e-2, weight_decay=decay, eps=heads.EPSILON)
    x = torch.tensor(inputs, dtype=torch.float64)
    for step in range(steps):
        first, last, direct = theirs.split([width * hidden, hidden, width])
        reward = torch.relu(x @ first.reshape(width, hidden)) @ last + x @ direct
        delta = reward[rows[0, step]] - reward[rows[1, step]] + torch.tensor(margin[step])
        each = torch.nn.functional.binary_cross_entropy_with_logits(delta, torch.tensor(target[step]), reduction="none")
        assert losses[step] == pytest.approx(each.detach().numpy(), abs=1e-4)
        optimizer.zero_grad()
        (each * torch.tensor(weight[step])).sum().backward()
        optimizer.step()
    expected = theirs.detach().numpy()
    # The last, a constant, cancels in every comparison.
    assert ours[:-1] == pytest.approx(expected[:-1], abs=1e-4)


# ── Side by side ──


@params(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    held_out=st.sampled_from([None, "b"]),
    hidden=st.sampled_from([0, 16]),
    lambda_reg=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 3),
)
def test_side_by_side_equals_one_by_one(
    sizes: list[int], held_out: str | None, hidden: int, lambda_reg: float, seed: int
) -> None:
    features = make_features()
    config = ExperimentConfig(hidden_width=hidden, lambda_reg=lambda_reg, random_seed=seed, max_epochs=3)
    base = RewardModel(features, RATINGS, config)
    wanted = preferences(taste(features))
    sets = [TrainingSet.of(wanted[:n], TRAIN[: 20 - i], held_out if i % 2 else None) for i, n in enumerate(sizes)]
    together = base.fit_many(sets)
    for s, fitted in zip(sets, together, strict=True):
        alone = RewardModel(features, RATINGS, config)
        alone.fit(s.preferences, prompt_ids=s.prompt_ids, held_out=s.held_out)
        assert all_scores(alone) == pytest.approx(all_scores(fitted), abs=1e-5)
        assert np.allclose(alone.history, fitted.history, atol=1e-5)


def test_many_heads_in_many_chunks_equal_one(monkeypatch: pytest.MonkeyPatch) -> None:
    features = make_features()
    wanted = preferences(taste(features))
    sets = [TrainingSet.of(wanted[i : i + 10 + i % 7], TRAIN) for i in range(40)]
    whole = model(features).fit_many(sets)
    monkeypatch.setattr(heads, "CHUNK_FLOATS", 10_000)
    split = model(features).fit_many(sets)
    assert all(np.allclose(all_scores(a), all_scores(b), atol=1e-6) for a, b in zip(whole, split, strict=True))


def test_fit_many_leaves_self_alone_and_nothing_gives_nothing() -> None:
    features = make_features()
    fitted = model(features).fit(preferences(taste(features)), prompt_ids=TRAIN)
    before, history = all_scores(fitted), fitted.history
    fitted.fit_many([TrainingSet.of(preferences(taste(features, 9)), TRAIN)])
    assert np.array_equal(before, all_scores(fitted)) and history == fitted.history
    assert fitted.fit_many([]) == []


def test_seed_decides_and_repeats() -> None:
    features = make_features()
    wanted = preferences(taste(features))
    runs = [all_scores(model(features, random_seed=s).fit(wanted, prompt_ids=TRAIN)) for s in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_warm_start_goes_on_from_a_shared_head() -> None:
    features = make_features()
    shared = model(features).fit(preferences(taste(features)), prompt_ids=TRAIN)
    s = TrainingSet.of(preferences(taste(features, 9))[:30], TRAIN[:6])
    (same,) = shared.fit_many([TrainingSet.of([], TRAIN[:6])], start=shared)
    (personal,) = shared.fit_many([s], start=shared)
    (fresh,) = shared.fit_many([s])
    assert np.array_equal(all_scores(same), all_scores(shared))
    moved = np.abs(all_scores(personal) - all_scores(shared)).mean()
    assert 0 < moved < np.abs(all_scores(fresh) - all_scores(shared)).mean()


# ── What it learns ──


@pytest.mark.parametrize(("pooling", "at_least"), [("mean", 0.75), ("both", 0.6), ("last", -0.4)])
def test_a_planted_taste_is_found_on_new_prompts(pooling: str, at_least: float) -> None:
    """300 preferences, default training: no fixed order of the models is right, and the base knows nothing."""
    features = make_features(has_score=False)
    taus = []
    for seed in range(3):
        likes = taste(features, seed)
        fitted = model(features, pooling=pooling).fit(preferences(likes), prompt_ids=TRAIN)
        for p in TEST:
            scores = fitted.scores(p)
            taus.append(kendalltau([scores[m] for m in MODELS], [likes[p, m] for m in MODELS]).statistic)
    assert np.mean(taus) >= at_least
    assert pooling != "last" or np.mean(taus) < 0.3  # there the taste does not show


def test_new_texts_are_scored_as_the_known_ones() -> None:
    features = make_features()
    fitted = model(features, pooling="both").fit(preferences(taste(features)), prompt_ids=TRAIN)
    again = fitted.score_features(features.mean, features.last, features.base_score)
    assert again == pytest.approx(all_scores(fitted).ravel(), abs=1e-6)


def test_constant_features_and_a_single_prompt_stay_finite() -> None:
    features = make_features()
    features.mean[:, 3] = 2.0
    fitted = model(features).fit(preferences(taste(features), TRAIN[:1]), prompt_ids=TRAIN[:1])
    assert np.isfinite(all_scores(fitted)).all()
    assert np.isfinite([loss for epoch in fitted.history for loss in epoch]).all()


def test_a_preference_without_features_is_named() -> None:
    with pytest.raises(UsageError, match="nobody"):
        model(make_features()).fit([Preference("p00", "a", "nobody", 1.0)])


# ── Files ──


@pytest.mark.parametrize("hidden", [0, 16])
def test_saved_and_restored(tmp_path: Path, hidden: int) -> None:
    features = make_features()
    fitted = model(features, hidden_width=hidden).fit(preferences(taste(features)), prompt_ids=TRAIN)
    fitted.save(tmp_path / "head.safetensors")
    again = RewardModel.load(tmp_path / "head.safetensors", features, RATINGS)
    assert np.array_equal(all_scores(again), all_scores(fitted))
    assert again.history == fitted.history
    assert [p.name for p in tmp_path.iterdir()] == ["head.safetensors"]


def test_heads_that_cannot_be_used_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, path = make_features(), tmp_path / "head.safetensors"
    with pytest.raises(MissingError, match="No trained head"):
        RewardModel.load(path, features, RATINGS)
    model(features).fit([], prompt_ids=TRAIN).save(path)
    with pytest.raises(UsageError, match="base tiny, not other"):
        RewardModel.load(path, dataclasses.replace(features, base="other"), RATINGS)
    with pytest.raises(UsageError, match="trained on the base"):
        RewardModel.load(path, dataclasses.replace(features, mean=features.mean[:, :9], last=features.last), RATINGS)
    monkeypatch.setattr(reward_model, "FORMAT", 2)
    with pytest.raises(UsageError, match="format 1"):
        RewardModel.load(path, features, RATINGS)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UsageError, match="cannot be read"):
        RewardModel.load(path, features, RATINGS)
