"""System A and the baselines: worked examples, independent implementations, where they start."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import evalica
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ranking import TrainingSet
from core.records import Preference
from elo_system import EloSystem, expectation
from evidence.baselines import bradley_terry, wins_of

MODELS = ("a", "b", "c", "d")
PREFERENCES = st.lists(
    st.builds(
        lambda pair, outcome: Preference("p", *pair, outcome),
        st.sampled_from(list(itertools.permutations(MODELS, 2))),
        st.sampled_from([0.0, 0.5, 1.0]),
    ),
    max_size=40,
)


def test_tournament_of_wikipedias_article_on_elo() -> None:
    """A player of 1613 loses to 1609, draws with 1477, beats 1388 and 1586, loses to 1720: 1601 with K = 32."""
    expected = [expectation(1613, other) for other in (1609, 1477, 1388, 1586, 1720)]
    assert expected == pytest.approx([0.506, 0.686, 0.785, 0.539, 0.351], abs=6e-4)
    assert round(1613 + 32 * (0 + 0.5 + 1 + 1 + 0 - sum(expected))) == 1601


@given(PREFERENCES)
def test_agrees_with_evalica(preferences: list[Preference]) -> None:
    word = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    xs, ys = [p.model_a for p in preferences], [p.model_b for p in preferences]
    theirs = evalica.elo(xs, ys, [word[p.outcome] for p in preferences], initial=1000.0, k=32.0) if xs else None
    ours = EloSystem(dict.fromkeys(MODELS, 1000.0)).fit(preferences).ratings
    expected = dict.fromkeys(MODELS, 1000.0) | (theirs.scores.to_dict() if theirs else {})
    assert ours == pytest.approx(expected, abs=1e-4)


def test_fit_starts_anew_fit_many_leaves_the_original_alone_and_a_graded_outcome_moves_less() -> None:
    system, win = EloSystem({"a": 1500.0, "b": 1500.0}), Preference("p", "a", "b", 1.0)
    for _ in range(2):
        assert system.fit([win]).ratings == {"a": 1516.0, "b": 1484.0}, "among equals by half of K"
    untrained, graded = system.fit_many([TrainingSet.of([]), TrainingSet.of([replace(win, outcome=0.75)])])
    assert (untrained.offsets["a"], graded.offsets["a"], system.offsets["a"]) == (0.0, 8.0, 16.0)


def test_unrated_start_at_the_mean_and_a_held_out_contestant_keeps_its_global_rating() -> None:
    ratings = {"a": 1200.0, "b": 1100.0, "c": None, "d": 1000.0}
    assert EloSystem(ratings).ratings["c"] == 1100.0
    assert EloSystem({"a": None, "b": None}).ratings == {"a": 1000.0, "b": 1000.0}
    preferences = [Preference("p", "a", "b", 0.0), Preference("p", "d", "b", 1.0)]
    system = EloSystem(ratings).fit_many([TrainingSet.of(preferences, None, "a")])[0]
    assert system.offsets["a"] == 0.0 and system.offsets["d"] > 0.0 > system.offsets["b"]


# ── Baselines ──


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
