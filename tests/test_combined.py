"""System C: its start, its maximum against a naive twin, people, how sure it is, degenerate data."""

from __future__ import annotations

import dataclasses
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import MODELS, PROMPTS, RATINGS, TEST, TRAIN, WIDTH, Likes, make_features, planted_likes, preferences

import evaluation
from base.features import Features
from base.scaler import Scaler
from combined import Combined, Posterior
from config import ExperimentConfig
from core.errors import UsageError
from core.ranking import TrainingSet
from core.records import GroundTruth, Preference

FEATURES, PLAIN = make_features(), make_features(has_score=False)


def likes(models: float, texts: float, hidden: float = 0.0, seed: int = 1) -> Likes:
    return planted_likes(FEATURES, models, texts, hidden, seed)


def make(features: Features = FEATURES, **changes: object) -> Combined:
    return Combined(features, RATINGS, ExperimentConfig(**changes))


def all_scores(system: Combined) -> np.ndarray:
    return np.array([[system.scores(p)[m] for m in MODELS] for p in PROMPTS])


def tau(system: Combined, liked: Likes) -> float:
    truths = [GroundTruth(p, {m: liked[p, m] for m in MODELS}) for p in TEST]
    found = evaluation.evaluate(system, truths).kendall_tau
    assert found is not None
    return found


LIKED = likes(1.0, 1.0)
VOTES = preferences(LIKED)


def test_before_any_preference_it_is_exactly_the_arena_and_the_base() -> None:
    fitted = make().fit([], prompt_ids=TRAIN)
    base = FEATURES.base_score.astype(float).reshape(30, 6)
    spread = np.sqrt(((base[:20] - base[:20].mean(axis=1, keepdims=True)) ** 2).mean())
    arena = (np.array([1000.0, 1040.0, 1080.0, 1120.0, 1160.0, 1080.0]) - 1080.0) * math.log(10.0) / 400.0
    assert all_scores(fitted) == pytest.approx(arena + base / spread, abs=1e-12)
    assert all_scores(make(PLAIN)) == pytest.approx(np.tile(arena, (30, 1)))  # never fitted, no score


def test_without_ratings_and_score_it_prefers_nobody() -> None:
    assert not all_scores(Combined(PLAIN, dict.fromkeys(MODELS), ExperimentConfig()).fit([], prompt_ids=TRAIN)).any()


# ── The maximum ──


def naive_scores(votes: list[Preference], params: ExperimentConfig) -> np.ndarray:
    """The objective of DESIGN §10 written out, one preference after the other, minimized by SciPy."""
    from scipy.optimize import minimize

    both = np.concatenate([FEATURES.mean, FEATURES.last], axis=1)
    view = Scaler.of(both[:120], FEATURES.base_score[:120], np.repeat(np.arange(20), 6), 128)
    states, base = view.inputs(both), view.base(FEATURES.base_score)
    rated = {m: (1080.0 if r is None else r) * math.log(10.0) / 400.0 for m, r in RATINGS.items()}

    def score(x: np.ndarray, p: str, m: str) -> float:
        row = FEATURES.index[p, m]
        return float(x[0] * rated[m] + x[1 + MODELS.index(m)] + x[7] * base[row] + x[8:] @ states[row])

    def objective(x: np.ndarray) -> float:
        margins = np.array([score(x, v.prompt_id, v.model_a) - score(x, v.prompt_id, v.model_b) for v in votes])
        outcomes = np.array([v.outcome for v in votes])
        loss = (np.logaddexp(0.0, margins) - outcomes * margins).sum()
        penalty = (x[0] - 1) ** 2 / params.prior_arena**2 + (x[1:7] @ x[1:7]) / params.prior_models**2
        penalty += (x[7] - 1) ** 2 / params.prior_base**2 + (x[8:] @ x[8:]) / params.prior_texts**2
        return float(loss + 0.5 * penalty)

    start = np.zeros(8 + states.shape[1])
    start[[0, 7]] = 1.0
    found = minimize(objective, start, method="BFGS", options={"gtol": 1e-6}).x
    return np.array([[score(found, p, m) for m in MODELS] for p in PROMPTS])


@pytest.mark.parametrize("count", [8, 70])
def test_newton_finds_the_maximum_of_the_written_out_objective(count: int) -> None:
    params = ExperimentConfig(prior_base=0.4, prior_texts=1.2)
    votes = [
        dataclasses.replace(v, outcome=0.25 + 0.5 * v.outcome) if i % 3 else v for i, v in enumerate(VOTES[:count])
    ]
    scores = all_scores(Combined(FEATURES, RATINGS, params).fit(votes, prompt_ids=TRAIN))
    naive = naive_scores(votes, params)
    centred = scores - scores.mean(axis=1, keepdims=True)
    assert centred == pytest.approx(naive - naive.mean(axis=1, keepdims=True), abs=1e-4)


def test_votes_against_a_sure_prior_end_at_the_minimum_too() -> None:
    """Where σ is flat whole Newton steps run away."""
    loud = dataclasses.replace(FEATURES, base_score=np.array([100.0 * (m == "a") for _, m in FEATURES.index], "f4"))
    far = {m: 1000.0 + 800.0 * (m == "a") for m in MODELS}
    votes = [Preference(p, "a", m, 0.0) for p in TRAIN for m in MODELS[1:]] * 20
    fitted = Combined(loud, far, ExperimentConfig()).fit(votes, prompt_ids=TRAIN)
    assert all(fitted.ranking(p)[-1] == "a" for p in TEST)
    assert np.abs(all_scores(fitted)).max() < 100.0


def test_sets_side_by_side_give_what_each_gives_alone_and_the_order_changes_nothing() -> None:
    sets = [TrainingSet.of(VOTES[:n], TRAIN, out) for n in (0, 7, 120) for out in (None, "c")]
    system = make()
    for s, fitted, again in zip(sets, system.fit_many(sets), system.fit_many(sets), strict=True):
        alone = make().fit(s.preferences[::-1], prompt_ids=s.prompt_ids, held_out=s.held_out)
        assert np.array_equal(all_scores(fitted), all_scores(alone))
        assert np.array_equal(all_scores(fitted), all_scores(again))
    assert all_scores(system) == pytest.approx(all_scores(make()))  # self stays as it is


def test_a_pair_that_is_judged_again_counts_again_and_either_way_round() -> None:
    votes = VOTES[:40]
    turned = [Preference(v.prompt_id, v.model_b, v.model_a, 1.0 - v.outcome) for v in votes]
    given_ = make().fit_many([TrainingSet.of(votes, TRAIN), TrainingSet.of(turned, TRAIN)])
    assert all_scores(given_[0]) == pytest.approx(all_scores(given_[1]))
    twice = make().fit(votes + turned, prompt_ids=TRAIN)
    assert np.abs(all_scores(twice) - all_scores(given_[0])).max() > 0.05


def test_a_held_out_contestant_is_not_seen_and_counts_as_rated() -> None:
    other = make_features()
    unseen = [row for (p, m), row in other.index.items() if p in TEST or m == "c"]
    for array in (other.mean, other.last, other.base_score):
        array[unseen] = 1000.0
    s = TrainingSet.of(VOTES, TRAIN, "c")
    first, second = make().fit_many([s])[0], make(other).fit_many([s])[0]
    seen = [m for m in MODELS if m != "c"]
    for p in TRAIN:
        assert [first.scores(p)[m] for m in seen] == [second.scores(p)[m] for m in seen]
    still = make(PLAIN, prior_arena=0.0, prior_texts=0.0)
    held = still.fit(VOTES, prompt_ids=TRAIN, held_out="e")
    assert held.scores("p25")["e"] == pytest.approx(80.0 * math.log(10.0) / 400.0)  # g alone, no strength of its own


PARTS = ("prior_arena", "prior_models", "prior_base", "prior_texts")


def test_parts_of_no_width_stay_at_their_prior_mean() -> None:
    start, free = make().fit([], prompt_ids=TRAIN), make().fit(VOTES, prompt_ids=TRAIN)
    for part in PARTS:
        fitted = make(**{part: 0.0}).fit(VOTES, prompt_ids=TRAIN)
        assert np.abs(all_scores(fitted) - all_scores(free)).max() > 0.01
        assert np.isfinite(fitted.posterior("p25").covariance).all()
    nothing_moves = make(**dict.fromkeys(PARTS, 0.0)).fit(VOTES, prompt_ids=TRAIN)
    assert all_scores(nothing_moves) == pytest.approx(all_scores(start))


# ── What it learns ──


def test_it_finds_tastes_for_models_for_texts_and_for_both() -> None:
    for world in ((2, 0), (0, 2), (1, 1)):
        system = make(PLAIN).fit(preferences(likes(*world)), prompt_ids=TRAIN)
        assert tau(system, likes(*world)) > 0.7, world


def test_a_base_that_reads_the_taste_is_kept_and_one_that_reads_nothing_is_overcome() -> None:
    reads = dataclasses.replace(FEATURES, base_score=np.array([LIKED[k] for k in FEATURES.index], np.float32))
    assert tau(make(reads).fit([], prompt_ids=TRAIN), LIKED) > 0.6
    assert tau(make(reads).fit(VOTES, prompt_ids=TRAIN), LIKED) > 0.8
    assert tau(make().fit(VOTES, prompt_ids=TRAIN), LIKED) > tau(make().fit([], prompt_ids=TRAIN), LIKED) + 0.3


# ── People ──


def crowd() -> list[list[Preference]]:
    """25 people who share a taste and have some of their own."""
    people = []
    for person in range(25):
        own = likes(0.7, 0.0, seed=100 + person)
        liked = {key: LIKED[key] + own[key] for key in LIKED}
        people.append(preferences(liked, seed=person)[:40])
    return people


@pytest.mark.parametrize(("votes", "share"), [(9, 0.05), (200, 1e-6)], ids=["one step", "as many as it takes"])
def test_leaving_out_is_the_refit_without_them(votes: int, share: float) -> None:
    given_ = [v for person in crowd() for v in person]
    everyone = make().fit(given_, prompt_ids=TRAIN)
    left = everyone.leaving_out([given_[:votes], given_[-votes:]])
    sets = [TrainingSet.of(rest, TRAIN) for rest in (given_[votes:], given_[:-votes])]
    for one, refit in zip(left, make().fit_many(sets), strict=True):
        change = np.abs(all_scores(refit) - all_scores(everyone)).max()
        assert np.abs(all_scores(one) - all_scores(refit)).max() < share * change
        assert one.posterior("p25").covariance == pytest.approx(refit.posterior("p25").covariance, rel=0.02, abs=0.02)


def test_a_person_starts_from_everyone_else_and_moves_by_their_own_votes() -> None:
    people = crowd()
    everyone = make().fit([v for votes in people for v in votes], prompt_ids=TRAIN)
    others = everyone.leaving_out(people)
    sets = [TrainingSet.of(votes, TRAIN) for votes in people]
    silent, *_ = everyone.fit_many([TrainingSet.of([], TRAIN)], others[:1])
    assert all_scores(silent) == pytest.approx(all_scores(others[0]))
    fitted = everyone.fit_many(sets, others)
    gains = []
    for person, (before, after) in enumerate(zip(others, fitted, strict=True)):
        own = likes(0.7, 0.0, seed=100 + person)
        liked = {key: LIKED[key] + own[key] for key in LIKED}
        gains.append(tau(after, liked) - tau(before, liked))
    assert np.mean(gains) > 0.05


def test_where_people_are_all_alike_nobody_moves_far_and_where_they_are_not_they_do() -> None:
    moved = {}
    for personal in (0.0, 2.0):
        people = []
        for person in range(12):
            own = likes(personal, 0.0, seed=100 + person)
            people.append(preferences({key: LIKED[key] + own[key] for key in LIKED}, seed=person)[:60])
        everyone = make().fit([v for votes in people for v in votes], prompt_ids=TRAIN)
        others = everyone.leaving_out(people)
        fitted = everyone.fit_many([TrainingSet.of(votes, TRAIN) for votes in people], others)
        moved[personal] = np.mean([np.abs(all_scores(a) - all_scores(b)) for a, b in zip(others, fitted, strict=True)])
    assert moved[0.0] < 0.1 < 0.4 < moved[2.0]


# ── How sure it is ──


def test_chances_of_a_known_posterior_and_their_draws() -> None:
    sure = Posterior(("a", "b"), np.array([1.0, 0.0]), np.zeros((2, 2)))
    assert sure.best_chances() == {"a": 1.0, "b": 0.0}
    even = Posterior(("a", "b", "c"), np.zeros(3), np.eye(3))
    assert list(even.best_chances(20_000, 1).values()) == pytest.approx([1 / 3] * 3, abs=0.02)
    ahead = Posterior(("a", "b"), np.array([1.0, 0.0]), np.array([[1.0, 0.5], [0.5, 1.0]]))
    assert ahead.best_chances(20_000)["a"] == pytest.approx(0.841, abs=0.01)  # Φ(1)
    assert np.array_equal(ahead.draw(5, 3), ahead.draw(5, 3))


def test_more_votes_make_it_surer_and_new_texts_are_judged_like_old_ones() -> None:
    few, many = make().fit_many([TrainingSet.of(VOTES[:n], TRAIN) for n in (20, 300)])
    spread = [np.mean([np.trace(s.posterior(p).covariance) for p in TEST]) for s in (few, many)]
    assert spread[1] < spread[0]
    rows = [FEATURES.index["p25", m] for m in MODELS]
    known = many.posterior("p25")
    new = many.posterior_of(MODELS, FEATURES.mean[rows], FEATURES.last[rows], FEATURES.base_score[rows])
    assert new.models == known.models
    assert new.mean == pytest.approx(known.mean)
    assert new.covariance == pytest.approx(known.covariance)
    assert many.best_chances("p25", 500, 1) == new.best_chances(500, 1)


def chances_of(liked: Likes, count: int, seed: int) -> list[tuple[float, bool]]:
    """The highest chance said for each test prompt, and whether that model was the best."""
    fitted = make(PLAIN).fit(preferences(liked, seed=seed)[:count], prompt_ids=TRAIN)
    said = []
    for p in TEST:
        chances = fitted.best_chances(p, 500)
        first = max(chances, key=chances.__getitem__)
        said.append((chances[first], first == max(MODELS, key=lambda m: liked[p, m])))
    return said


def test_chances_are_about_as_often_right_as_they_say_and_low_where_there_is_nothing_to_learn() -> None:
    worlds = [likes(1.0, 1.0, hidden, seed) for seed in range(12) for hidden in (0.3, 1.0)]
    said, true = np.array([c for i, liked in enumerate(worlds) for c in chances_of(liked, 150, i)]).T
    assert said.mean() == pytest.approx(true.mean(), abs=0.1)
    assert np.mean([c for i in range(8) for c, _ in chances_of(likes(0.0, 0.0, 1.0, i), 300, i)]) < 0.35


# ── Degenerate data ──


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(TRAIN[:3]), st.permutations(MODELS), st.sampled_from([0.0, 0.5, 1.0, 1e-12, 0.7])
        ),
        max_size=25,
    ),
    st.sampled_from([None, "a", "nobody"]),
    st.booleans(),
)  # fmt: skip
def test_any_votes_give_finite_scores_and_chances(
    rows: list[tuple[str, list[str], float]], held_out: str | None, scored: bool
) -> None:
    votes = [Preference(p, models[0], models[1], outcome) for p, models, outcome in rows]
    fitted = make(FEATURES if scored else PLAIN).fit(votes, held_out=held_out)
    assert np.isfinite(all_scores(fitted)).all()
    chances = fitted.best_chances("p29", 100)
    assert sum(chances.values()) == pytest.approx(1.0)
    # else texts that are believed alike would be ordered by their place
    assert np.linalg.eigvalsh(fitted.posterior("p29").covariance).min() > 0.0


@pytest.mark.parametrize(
    "votes",
    [
        [Preference(p, a, b, 0.5) for p in TRAIN for a, b in combinations(MODELS, 2)],
        [Preference(p, "a", b, 1.0) for p in TRAIN for b in MODELS[1:]] * 30,
        [Preference("p00", "a", "b", 1.0)] * 1000,
    ],
    ids=["all ties", "one model always wins", "one pair a thousand times"],
)
def test_one_sided_votes_give_finite_scores(votes: list[Preference]) -> None:
    fitted = make(PLAIN).fit(votes, prompt_ids=TRAIN)
    assert np.abs(all_scores(fitted)).max() < 100.0
    if votes[0].outcome == 1.0:
        assert fitted.ranking("p00")[0] == "a"
    assert sum(fitted.best_chances("p00").values()) == pytest.approx(1.0)


@pytest.mark.parametrize("same", [0.0, 1e6], ids=["nothing", "a large constant"])
def test_texts_that_are_all_alike_leave_the_models(same: float) -> None:
    states = np.full((180, WIDTH), same, np.float32)
    alike = dataclasses.replace(FEATURES, mean=states, last=states, base_score=states[:, 0])
    fitted = make(alike).fit(preferences(likes(2.0, 0.0)), prompt_ids=TRAIN)
    assert tau(fitted, likes(2.0, 0.0)) > 0.8


def test_without_texts_there_is_nothing_to_learn_and_a_preference_about_one_is_refused() -> None:
    empty = Features({}, np.zeros((0, 4), "f4"), np.zeros((0, 4), "f4"), np.zeros(0, "f4"), False, "tiny")
    system = Combined(empty, RATINGS, ExperimentConfig())
    system.fit([])
    with pytest.raises(UsageError, match="without features"):
        system.fit(VOTES[:1])
