"""The baselines: worked examples, sparse preferences, and the same answer in every process."""

from __future__ import annotations

import itertools
import math

import evalica
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.features import Features
from core.records import Preference, Response
from elo_system import expectation
from evidence import baselines
from evidence.baselines import BradleyTerry, bradley_terry, global_elo, wins_of

MODELS = ("a", "b", "c", "d")


def test_worked_example_of_wikipedias_article_on_bradley_terry() -> None:
    """Strengths 0.640, 1.043, 0.660, 2.270 from the article's table of wins."""
    wins = np.array([[0, 2, 0, 1], [3, 0, 5, 0], [0, 3, 0, 1], [4, 0, 3, 0]], float)
    strengths = np.exp(bradley_terry(wins, ties=1e-6))
    assert strengths / strengths[0] == pytest.approx(np.array([0.640, 1.043, 0.660, 2.270]) / 0.640, rel=3e-3)


VOTE = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@settings(max_examples=30, deadline=None)
@given(st.lists(VOTE.filter(lambda v: v[1] != v[2]), max_size=40))
def test_tables_solved_side_by_side_are_evalicas_one_by_one(rows: list[tuple[int, int, int, float]]) -> None:
    votes = [[Preference("p", MODELS[a], MODELS[b], o) for u, a, b, o in rows if u == user] for user in range(3)]
    found = bradley_terry(np.stack([wins_of(own, MODELS) for own in votes])) * 400.0 / math.log(10.0)
    for own, strengths in zip(votes, found, strict=True):
        games = [(p.model_a, p.model_b, p.outcome) for p in own]
        games += [(p.model_b, p.model_a, 1.0 - p.outcome) for p in own]
        judged = sorted({m for p in own for m in (p.model_a, p.model_b)})
        games += [game for m in judged for game in ((m, "average", 0.5), ("average", m, 0.5))]
        naive = {}
        if games:
            winners, losers, weights = zip(*(game for game in games if game[2]), strict=True)
            twin = evalica.bradley_terry(
                winners, losers, [evalica.Winner.X] * len(weights), weights=list(weights), tolerance=1e-9, limit=10_000
            )
            naive = {m: 400.0 * math.log10(float(twin.scores[m])) for m in judged}
        mean = sum(naive.values()) / max(1, len(naive))
        assert strengths.tolist() == pytest.approx([naive.get(m, mean) - mean for m in MODELS], abs=0.01)


def test_recovers_the_strengths_that_graded_outcomes_were_made_from_however_many_there_are() -> None:
    strength = {"a": 150.0, "b": 50.0, "c": -50.0, "d": -150.0}
    pairs = [(a, b, expectation(strength[a], strength[b])) for a, b in itertools.combinations(MODELS, 2)]
    preferences = [Preference(f"p{i}", *pair) for i in range(200) for pair in pairs]
    # the imagined ties draw a little inward
    assert BradleyTerry(MODELS).fit(preferences).scores("any") == pytest.approx(strength, abs=2.0)
    wins = wins_of(preferences, MODELS)
    assert bradley_terry(wins * 1e10) == pytest.approx(bradley_terry(wins * 1e6), abs=1e-5)


def test_fixed_scores_are_what_they_were_given_whatever_is_preferred() -> None:
    keys = [("p", "a"), ("p", "b"), ("q", "a"), ("q", "b")]
    values, states = np.array([3.0, 4.0, 5.0, 1.0], np.float32), np.zeros((4, 1), np.float32)
    features = Features({key: i for i, key in enumerate(keys)}, states, states, values, True, "tiny")
    responses = [Response(*key, "x" * int(value)) for key, value in zip(keys, values, strict=True)]
    for ranker in (baselines.base_reward(features), baselines.longest_response(responses)):
        assert ranker.fit([Preference("p", "a", "b", 1.0)]).ranking("p") == ("b", "a")
        assert ranker.ranking("q") == ("a", "b")
    assert global_elo({"a": 1000.0, "b": None, "c": 1200.0}).scores("p") == {"a": 1000.0, "b": 1100.0, "c": 1200.0}


def test_random_is_the_same_for_a_prompt_and_fair_over_prompts() -> None:
    ranker, other = (baselines.random_ranking(MODELS, seed) for seed in (1, 2))
    assert ranker.scores("p1")["a"] == pytest.approx(0.903274, abs=1e-4)  # in every process
    assert ranker.scores("p1") != ranker.scores("p2") != other.scores("p2")
    firsts = [ranker.ranking(f"p{i}")[0] for i in range(400)]
    assert all(60 < firsts.count(model) < 140 for model in MODELS)
