"""System C: its maximum against a naive twin, people, how sure it is, any votes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import MODELS, RATINGS, TEST, TRAIN, Likes, all_scores, make_features, planted_likes, preferences, tau

from base.features import Features
from base.scaler import Scaler
from combined import Combined, Posterior
from config import ExperimentConfig
from core.records import Preference

FEATURES, PLAIN = make_features(), make_features(has_score=False)
SAME = np.full((181, 20), 1e6, np.float32)  # texts that are all alike, and one that is nobody's
BEHIND = {key: row + 1 for key, row in FEATURES.index.items()}
ALIKE = dataclasses.replace(FEATURES, index=BEHIND, mean=SAME, last=SAME, base_score=SAME[:, 0])


def likes(models: float, texts: float, hidden: float = 0.0, seed: int = 1) -> Likes:
    return planted_likes(FEATURES, models, texts, hidden, seed)


def make(features: Features = FEATURES, **changes: object) -> Combined:
    return Combined(features, RATINGS, ExperimentConfig(**changes))


LIKED = likes(1.0, 1.0)
VOTES = preferences(LIKED)


# ── The maximum ──


def naive_scores(votes: list[Preference], params: ExperimentConfig) -> np.ndarray:
    """The objective written out and minimized by SciPy."""
    from scipy.optimize import minimize

    both = np.concatenate([FEATURES.mean, FEATURES.last], axis=1)
    view = Scaler.of(both[:120], FEATURES.base_score[:120], np.repeat(np.arange(20), 6), 128)
    whose = np.eye(6)[[MODELS.index(m) for _, m in FEATURES.index]]
    rated = np.array([1080.0 if r is None else r for r in RATINGS.values()]) * math.log(10.0) / 400.0
    x = np.column_stack([whose @ rated, whose, view.base(FEATURES.base_score), view.inputs(both)])
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


def test_votes_against_a_sure_prior_end_at_the_minimum_too() -> None:
    """Where σ is flat whole Newton steps run away."""
    loud = dataclasses.replace(FEATURES, base_score=np.array([100.0 * (m == "a") for _, m in FEATURES.index], "f4"))
    votes = [Preference(p, "a", m, 0.0) for p in TRAIN for m in MODELS[1:]] * 20
    fitted = Combined(loud, RATINGS | {"a": 1800.0}, ExperimentConfig()).fit(votes, prompt_ids=TRAIN)
    assert all(fitted.ranking(p)[-1] == "a" for p in TEST)
    assert np.abs(all_scores(fitted)).max() < 100.0


def test_a_held_out_contestant_counts_as_rated_and_parts_of_no_width_stay() -> None:
    held = make(PLAIN, prior_arena=0.0, prior_texts=0.0).fit(VOTES, prompt_ids=TRAIN, held_out="e")
    assert held.scores("p25")["e"] == pytest.approx(80.0 * math.log(10.0) / 400.0)  # g alone, no strength of its own
    parts = dict.fromkeys(("prior_arena", "prior_models", "prior_base", "prior_texts"), 0.0)
    start = make().fit([], prompt_ids=TRAIN)
    assert all_scores(make(**parts).fit(VOTES, prompt_ids=TRAIN)) == pytest.approx(all_scores(start))


@pytest.mark.parametrize(("models", "texts", "features"), [(2, 0, PLAIN), (2, 0, ALIKE), (0, 2, PLAIN), (1, 1, PLAIN)])
def test_a_planted_taste_is_found(models: int, texts: int, features: Features) -> None:
    liked = likes(models, texts)
    assert tau(make(features).fit(preferences(liked), prompt_ids=TRAIN), liked) > 0.7


# ── People ──


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


# ── How sure it is ──


def test_chances_are_about_as_often_right_as_they_say_and_low_where_there_is_nothing_to_learn() -> None:
    ahead = Posterior(("a", "b"), np.array([1.0, 0.0]), np.array([[1.0, 0.5], [0.5, 1.0]]))
    assert ahead.best_chances(20_000)["a"] == pytest.approx(0.841, abs=0.01)  # Φ(1)
    said, true = [], []
    for seed, hidden in ((seed, hidden) for seed in range(8) for hidden in (0.3, 1.0)):
        liked = likes(1.0, 1.0, hidden, seed)
        fitted = make(PLAIN).fit(preferences(liked, seed=seed)[:150], prompt_ids=TRAIN)
        for p in TEST:
            chances = fitted.best_chances(p, 500)
            first = max(chances, key=chances.__getitem__)
            said.append(chances[first])
            true.append(first == max(MODELS, key=lambda m: liked[p, m]))
    assert np.mean(said) == pytest.approx(np.mean(true), abs=0.1)
    blind = make(PLAIN).fit(preferences(likes(0.0, 0.0, 1.0)), prompt_ids=TRAIN)
    assert np.mean([max(blind.best_chances(p).values()) for p in TEST]) < 0.35


# ── Any votes ──

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
    fitted = make(features).fit(votes, held_out=held_out)
    assert np.ptp(all_scores(fitted), axis=1).max() < 1e3
    assert sum(fitted.best_chances("p29", 100).values()) == pytest.approx(1.0)
    # else texts that are believed alike would be ordered by their place
    assert np.linalg.eigvalsh(fitted.posterior("p29").covariance).min() > 0.0
