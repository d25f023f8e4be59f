"""Systems B and C: what they see, where they start, each against a naive twin, planted tastes, any votes."""

from __future__ import annotations

import dataclasses
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import MODELS, RATINGS, TEST, TRAIN, Likes, all_scores, make_features, planted_likes, preferences
from scipy.optimize import minimize
from torch.nn.functional import binary_cross_entropy_with_logits

import reward_model
from base.features import Features
from base.scaler import Texts
from combined import Combined, Posterior
from config import ExperimentConfig
from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference
from elo_system import expectation
from evaluation import mean_metrics, per_prompt
from reward_model import RewardModel

FEATURES, PLAIN = make_features(), make_features(has_score=False)
SAME = np.full((181, 20), 1e6, np.float32)  # texts that are all alike, and one that is nobody's
BEHIND = {key: row + 1 for key, row in FEATURES.index.items()}
ALIKE = dataclasses.replace(FEATURES, index=BEHIND, mean=SAME, last=SAME, base_score=SAME[:, 0])
ON_GPU = dataclasses.replace(FEATURES, device="auto")  # where there is one
ELO = {model: rating for model, rating in RATINGS.items() if rating is not None}


def likes(models: float, texts: float, hidden: float = 0.0, seed: int = 1) -> Likes:
    return planted_likes(FEATURES, models, texts, hidden, seed)


def make(features: Features = FEATURES, **changes: object) -> Combined:
    return Combined(features, RATINGS, ExperimentConfig(**changes))


VOTES = preferences(likes(1.0, 1.0))


# ── What is seen ──


@pytest.mark.parametrize("system", [RewardModel, Combined])
def test_texts_of_test_prompts_and_of_a_held_out_model_are_not_seen(system: type[Ranker]) -> None:
    other = make_features()
    unseen = [row for (p, m), row in FEATURES.index.items() if p in TEST or m == "c"]
    for array in (other.mean, other.last, other.base_score):
        array[unseen] = 1000.0
    s, params = TrainingSet.of(VOTES, TRAIN, "c"), ExperimentConfig(lambda_reg=1.0, max_epochs=2)
    first, second = (system(features, RATINGS, params).fit_many([s])[0] for features in (FEATURES, other))
    for p in TRAIN:
        assert [first.scores(p)[m] for m in "abdef"] == [second.scores(p)[m] for m in "abdef"]


def test_what_is_seen_of_a_text_varies_within_prompts_at_one_scale_and_without_correlation() -> None:
    s, params = TrainingSet((), TRAIN), ExperimentConfig(components=40)
    inputs, _, about = Texts(FEATURES, params).seen(s)
    inputs = inputs[:120].reshape(20, 6, -1)
    deviations = (inputs - inputs.mean(axis=1, keepdims=True)).reshape(120, -1)
    squares = deviations.T @ deviations / 120
    assert np.trace(squares) == pytest.approx(1.0)
    assert np.abs(squares - np.diag(np.diag(squares))).max() < 1e-6
    shift = 100.0 * np.repeat(np.random.default_rng(1).normal(size=(30, 20)), 6, axis=0)
    shifted = dataclasses.replace(FEATURES, mean=FEATURES.mean + shift, last=FEATURES.last + shift)
    same = Texts(shifted, params).seen(s)[2]["projection"]
    assert np.abs(same) == pytest.approx(np.abs(about["projection"]), rel=1e-2, abs=1e-3), "between is nothing"


@pytest.mark.parametrize("has_score", [True, False])
def test_before_any_preference_system_b_is_exactly_the_base_and_c_the_arena_and_the_base(has_score: bool) -> None:
    features, params = make_features(has_score=has_score), ExperimentConfig()
    base = features.base_score.reshape(30, 6).astype(float)
    base /= (base[:20] - base[:20].mean(axis=1, keepdims=True)).std() if has_score else 1.0
    elo = np.array([1000.0, 1040.0, 1080.0, 1120.0, 1160.0, 1080.0]) - 1080.0  # unrated: the mean
    started = [system(features, RATINGS, params).fit([], prompt_ids=TRAIN) for system in (RewardModel, Combined)]
    assert all_scores(started[0]) == pytest.approx(base, abs=1e-4)
    assert all_scores(started[1]) == pytest.approx(base + elo * math.log(10.0) / 400.0, abs=1e-4)


# ── Against naive twins ──


def naive_training(params: ExperimentConfig, wanted: list[Preference]) -> tuple[np.ndarray, np.ndarray]:
    """One head and one loop, written down as the formulas say; rewards of all texts, and both losses of each epoch."""
    rng = np.random.default_rng(params.random_seed)
    inputs, spread, _ = Texts(FEATURES, params).seen(TrainingSet((), TRAIN))
    seen = inputs * params.input_scale * math.sqrt(params.components)
    x, base = (torch.from_numpy(a.astype("f4")) for a in (seen, spread))
    width, h = params.components + 1, params.hidden_width
    first = torch.from_numpy(rng.normal(0.0, 0.1 * math.sqrt(2 / width), (width, h)).astype("f4"))
    head = [first[:-1].clone(), first[-1].clone(), torch.zeros(h), torch.zeros(width - 1), torch.zeros(1)]
    hidden, bias, output, direct, more = (p.requires_grad_() for p in head)
    optimizer = torch.optim.Adam(head, lr=params.learning_rate, eps=1e-6)

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


@pytest.mark.parametrize("changes", [{"random_seed": 3}, {"hidden_width": 0}, {"batch_size": 7}, {"lambda_reg": 0.0}])
def test_a_training_is_that_of_one_head_in_one_plain_loop_with_torchs_optimizer(changes: dict[str, object]) -> None:
    """Regularized are all training prompts, judged or not; λ = 0 is no regularization at all."""
    values = {"lambda_reg": 0.7, "learning_rate": 1e-2, "max_epochs": 2, "components": 20}
    params = ExperimentConfig(**{**values, **changes})
    system, sets = RewardModel(ON_GPU, RATINGS, params), [TrainingSet.of(VOTES[:n], TRAIN) for n in (13, 41)]
    for s, fitted in zip(sets, system.fit_many(sets), strict=True):
        expected, losses = naive_training(params, list(s.preferences))
        losses[:, 1] *= params.lambda_reg > 0.0
        assert all_scores(fitted).ravel() == pytest.approx(expected, abs=1e-4)
        assert np.transpose(list(fitted.history.values())) == pytest.approx(losses, abs=1e-4)


def naive_scores(votes: list[Preference], params: ExperimentConfig) -> np.ndarray:
    """The objective written out and minimized by SciPy."""
    inputs, base, _ = Texts(FEATURES, params).seen(TrainingSet((), TRAIN))
    whose = np.eye(6)[[MODELS.index(m) for _, m in FEATURES.index]]
    rated = np.array([1080.0 if r is None else r for r in RATINGS.values()]) * math.log(10.0) / 400.0
    x = np.column_stack([whose @ rated, whose, base, inputs])
    parts = [1, 6, 1, x.shape[1] - 8]
    mean = np.repeat([1.0, 0.0, 1.0, 0.0], parts)
    width = np.repeat([params.prior_arena, params.prior_models, params.prior_base, params.prior_texts], parts)
    a = [FEATURES.index[v.prompt_id, v.model_a] for v in votes]
    b = [FEATURES.index[v.prompt_id, v.model_b] for v in votes]
    outcomes = np.array([v.outcome for v in votes])

    def objective(c: np.ndarray) -> float:
        margins = (x[a] - x[b]) @ c
        loss = (np.logaddexp(0.0, margins) - outcomes * margins).sum()
        return float(loss + 0.5 * (((c - mean) / width) ** 2).sum())

    return (x @ minimize(objective, mean, method="BFGS", options={"gtol": 1e-6}).x).reshape(30, 6)


def test_newton_finds_the_maximum_of_the_written_out_objective() -> None:
    params = ExperimentConfig(prior_base=0.4, prior_texts=1.2)
    graded = [dataclasses.replace(v, outcome=0.25 + 0.5 * v.outcome) if i % 3 else v for i, v in enumerate(VOTES[:30])]
    turned = [Preference(v.prompt_id, v.model_b, v.model_a, 1.0 - v.outcome) for v in graded[:10]]
    votes = graded + turned  # a pair that is judged again counts again, and either way round
    fitted = all_scores(Combined(FEATURES, RATINGS, params).fit(votes, prompt_ids=TRAIN))
    naive = naive_scores(votes, params)
    centred = [scores - scores.mean(axis=1, keepdims=True) for scores in (fitted, naive)]
    assert centred[0] == pytest.approx(centred[1], abs=1e-4)


def test_a_held_out_contestant_counts_as_rated() -> None:
    held = make(PLAIN, prior_arena=0.0, prior_texts=0.0).fit_many([TrainingSet.of(VOTES, TRAIN, "e")])[0]
    assert held.scores("p25")["e"] == pytest.approx(80.0 * math.log(10.0) / 400.0)  # g alone, no strength of its own


# ── Trainings beside each other, and without a part of them ──


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
    sets = [TrainingSet.of(VOTES[:n], TRAIN[: 20 - i], held_out if i % 2 else None) for i, n in enumerate(sizes)]
    first = system(FEATURES, ratings, params).fit(VOTES[:9])
    before = all_scores(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward_model, "CHUNK_FLOATS", at_once)
        patch.setattr(reward_model, "STEPS_AN_EPOCH", 8)  # more than 32 preferences make larger batches
        for s, fitted in zip(sets, first.fit_many(sets), strict=True):
            (alone,) = system(FEATURES, ratings, params).fit_many([s])
            assert all_scores(alone) == pytest.approx(all_scores(fitted), abs=1e-4)
    assert np.array_equal(before, all_scores(first)) and torch.get_num_threads() == threads


@pytest.mark.parametrize(("votes", "share"), [(9, 0.05), (200, 1e-6)], ids=["one step", "as many as it takes"])
def test_leaving_out_is_the_refit_without_them(votes: int, share: float) -> None:
    people = [preferences(likes(1.0, 1.0, 0.5, seed), seed)[:40] for seed in range(25)]
    given_ = [vote for own in people for vote in own]
    everyone = make().fit(given_, prompt_ids=TRAIN)
    (left,) = everyone.leaving_out([given_[:votes]])
    refit = make().fit(given_[votes:], prompt_ids=TRAIN)
    change = np.abs(all_scores(refit) - all_scores(everyone)).max()
    assert np.abs(all_scores(left) - all_scores(refit)).max() < share * change
    assert left.posterior("p25").covariance == pytest.approx(refit.posterior("p25").covariance, rel=0.02, abs=0.02)


# ── What they learn ──


@pytest.mark.parametrize(
    ("system", "models", "texts", "features"),
    [(RewardModel, 0, 1, PLAIN), (Combined, 2, 0, PLAIN), (Combined, 2, 0, ALIKE), (Combined, 0, 2, PLAIN),
     (Combined, 1, 1, PLAIN)],
)  # fmt: skip
def test_a_planted_taste_is_found_on_new_prompts(
    system: type[Ranker], models: int, texts: int, features: Features
) -> None:
    """By the default training, with a base that knows nothing."""
    liked = likes(models, texts)
    fitted = system(features, RATINGS, ExperimentConfig()).fit(preferences(liked), prompt_ids=TRAIN)
    truths = [GroundTruth(p, {m: liked[p, m] for m in MODELS}) for p in TEST]
    assert (mean_metrics(per_prompt(fitted, truths).values()).kendall_tau or 0.0) > 0.6


def test_chances_are_about_as_often_right_as_they_say_and_low_where_there_is_nothing_to_learn() -> None:
    ahead = Posterior(("a", "b"), np.array([1.0, 0.0]), np.array([[1.0, 0.5], [0.5, 1.0]]))
    assert ahead.best_chances(20_000)["a"] == pytest.approx(0.841, abs=0.01)  # Φ(1)
    said, true = [], []
    for seed, hidden in ((seed, hidden) for seed in range(8) for hidden in (0.3, 1.0)):
        liked = likes(1.0, 1.0, hidden, seed)
        fitted = make(PLAIN).fit(preferences(liked, seed=seed)[:150], prompt_ids=TRAIN)
        for p in TEST:
            chances = fitted.posterior(p).best_chances(500)
            first = max(chances, key=chances.__getitem__)
            said.append(chances[first])
            true.append(first == max(MODELS, key=lambda m: liked[p, m]))
    assert np.mean(said) == pytest.approx(np.mean(true), abs=0.1)
    blind = make(PLAIN).fit(preferences(likes(0.0, 0.0, 1.0)), prompt_ids=TRAIN)
    assert np.mean([max(blind.posterior(p).best_chances().values()) for p in TEST]) < 0.35


OUTCOME = st.sampled_from([0.0, 0.5, 1.0, 1e-12, 0.7])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(TRAIN[:3]), st.permutations(MODELS), OUTCOME), max_size=25),
    st.sampled_from([1, 1000]),
    st.sampled_from([None, "a", "nobody"]),
    st.sampled_from([FEATURES, PLAIN, ALIKE]),
)
def test_any_votes_give_finite_scores_and_chances(
    rows: list[tuple[str, list[str], float]], times: int, held_out: str | None, features: Features
) -> None:
    votes = [Preference(p, models[0], models[1], outcome) for p, models, outcome in rows] * times
    fitted = make(features).fit_many([TrainingSet.of(votes, None, held_out)])[0]
    assert np.ptp(all_scores(fitted), axis=1).max() < 1e3
    assert sum(fitted.posterior("p29").best_chances(100).values()) == pytest.approx(1.0)
    # else texts that are believed alike would be ordered by their place
    assert np.linalg.eigvalsh(fitted.posterior("p29").covariance).min() > 0.0
