"""System A: worked examples, an independent implementation, where it starts."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import evalica
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ranking import TrainingSet
from core.records import Preference
from elo_system import EloSystem, expectation

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


@given(PREFERENCES, st.sampled_from([1e-9, 32.0, 1e4]), st.sampled_from([1.0, 1e300]))
def test_what_one_gains_another_loses_also_where_a_power_would_overflow(
    preferences: list[Preference], k: float, apart: float
) -> None:
    system = EloSystem({"a": 1000.0 * apart, "b": None, "c": 1000.0, "d": -1000.0 * apart}, k).fit(preferences)
    assert all(map(math.isfinite, system.ratings.values()))
    assert sum(system.offsets.values()) == pytest.approx(0.0, abs=1e-4)


def test_fit_starts_anew_fit_many_leaves_the_original_alone_and_a_graded_outcome_moves_less(tmp_path: Path) -> None:
    system, win = EloSystem({"a": 1500.0, "b": 1500.0}), Preference("p", "a", "b", 1.0)
    for _ in range(2):
        assert system.fit([win]).ratings == {"a": 1516.0, "b": 1484.0}, "among equals by half of K"
    untrained, graded = system.fit_many([TrainingSet.of([]), TrainingSet.of([replace(win, outcome=0.75)])])
    assert (untrained.offsets["a"], graded.offsets["a"], system.offsets["a"]) == (0.0, 8.0, 16.0)
    system.save(tmp_path / "state.json")
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["updates"], state["models"]["a"]) == (1, {"start": 1500.0, "offset": 16.0, "rating": 1516.0})


def test_unrated_start_at_the_mean_and_a_held_out_contestant_keeps_its_global_rating() -> None:
    ratings = {"a": 1200.0, "b": 1100.0, "c": None, "d": 1000.0}
    assert EloSystem(ratings).ratings["c"] == 1100.0
    assert EloSystem({"a": None, "b": None}).ratings == {"a": 1000.0, "b": 1000.0}
    preferences = [Preference("p", "a", "b", 0.0), Preference("p", "d", "b", 1.0)]
    system = EloSystem(ratings).fit(preferences, held_out="a")
    assert system.offsets["a"] == 0.0 and system.offsets["d"] > 0.0 > system.offsets["b"]
    assert system.ranking("any") == system.ranking("other")
