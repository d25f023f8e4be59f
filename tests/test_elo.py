"""System A: worked examples, an independent implementation, where it starts, what is kept for people who look."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path

import evalica
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ranking import TrainingSet
from core.records import Preference
from elo_system import EloSystem, expectation

MODELS = ("a", "b", "c", "d")
RATINGS = {"a": 1200.0, "b": 1100.0, "c": None, "d": 1000.0}

preferences_of = st.lists(
    st.builds(
        lambda pair, outcome, prompt: Preference(f"p{prompt}", *pair, outcome),
        st.sampled_from(list(itertools.permutations(MODELS, 2))),
        st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
        st.integers(0, 3),
    ),
    max_size=40,
)


def test_tournament_of_wikipedias_article_on_elo() -> None:
    """A player of 1613 loses to 1609, draws with 1477, beats 1388 and 1586, loses to 1720: 1601 with K = 32."""
    expected = [expectation(1613, other) for other in (1609, 1477, 1388, 1586, 1720)]
    assert expected == pytest.approx([0.506, 0.686, 0.785, 0.539, 0.351], abs=6e-4)
    assert round(1613 + 32 * (0 + 0.5 + 1 + 1 + 0 - sum(expected))) == 1601


def test_among_equals_a_win_moves_both_by_half_of_k_and_a_graded_outcome_by_less() -> None:
    system = EloSystem({"a": 1500.0, "b": 1500.0}).fit([Preference("p", "a", "b", 1.0)])
    assert system.ratings == {"a": 1516.0, "b": 1484.0}
    moved = [
        EloSystem({"a": 1500.0, "b": 1500.0}).fit([Preference("p", "a", "b", s)]).offsets["a"]
        for s in (1.0, 0.75, 0.5, 0.25, 0.0)
    ]
    assert moved == [16.0, 8.0, 0.0, -8.0, -16.0]


@given(preferences_of)
def test_agrees_with_evalica_where_outcomes_are_whole(preferences: list[Preference]) -> None:
    whole = [p for p in preferences if p.outcome in (0.0, 0.5, 1.0)]
    word = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    xs, ys, outcomes = [p.model_a for p in whole], [p.model_b for p in whole], [word[p.outcome] for p in whole]
    theirs = evalica.elo(xs, ys, outcomes, initial=1000.0, k=32.0).scores.to_dict() if whole else {}
    ours = EloSystem(dict.fromkeys(MODELS, 1000.0)).fit(whole).ratings
    assert ours == pytest.approx(dict.fromkeys(MODELS, 1000.0) | theirs, abs=1e-6)


@given(preferences_of, st.sampled_from([1e-9, 32.0, 1e4]), st.sampled_from([1.0, 1e300]))
def test_what_one_gains_another_loses_also_where_a_power_would_overflow(
    preferences: list[Preference], k: float, apart: float
) -> None:
    system = EloSystem({"a": 1000.0 * apart, "b": None, "c": 1000.0, "d": -1000.0 * apart}, k).fit(preferences)
    assert all(map(math.isfinite, system.ratings.values()))
    assert sum(system.offsets.values()) == pytest.approx(0.0, abs=1e-9 * k)


def test_unrated_contestants_start_at_the_mean_of_the_others() -> None:
    assert EloSystem(RATINGS).ratings["c"] == 1100.0
    assert EloSystem({"a": None, "b": None}).ratings == {"a": 1000.0, "b": 1000.0}
    for rating in (math.inf, math.nan):
        with pytest.raises(ValueError, match="finite"):
            EloSystem({"a": 1000.0, "b": rating})


def test_fit_starts_anew_fit_many_leaves_the_original_alone_and_a_start_is_gone_on_from() -> None:
    preferences = [Preference("p", "a", "d", 0.0)] * 5
    system = EloSystem(RATINGS)
    once = system.fit(preferences).ratings
    assert system.fit(preferences).ratings == once
    first, second = system.fit_many([TrainingSet.of([]), TrainingSet.of(preferences[:1])])
    assert (first.offsets["a"], second.offsets["a"]) == (0.0, pytest.approx(-32 * expectation(1200, 1000)))
    rest = [TrainingSet.of(preferences[1:]), TrainingSet.of([])]
    whole, none = system.fit_many(rest, start=[second, second])
    assert (whole.ratings, whole.updates) == (once, 5)
    assert none.ratings == second.ratings != whole.ratings, "a start stays as it is"
    assert system.ratings == once


def test_a_held_out_contestant_keeps_its_global_rating() -> None:
    preferences = [Preference("p", "a", "b", 0.0), Preference("p", "d", "b", 1.0)]
    system = EloSystem(RATINGS).fit(preferences, held_out="a")
    assert system.offsets["a"] == 0.0
    assert system.offsets["d"] > 0.0 > system.offsets["b"]


def test_one_ranking_for_all_prompts_recovers_a_planted_order() -> None:
    draw = random.Random(3)
    strength = {"a": -300.0, "b": -100.0, "c": 100.0, "d": 300.0}
    pairs = list(itertools.combinations(MODELS, 2)) * 50
    draw.shuffle(pairs)
    preferences = [
        Preference(f"p{i}", a, b, float(draw.random() < expectation(strength[a], strength[b])))
        for i, (a, b) in enumerate(pairs)
    ]
    system = EloSystem(RATINGS).fit(preferences)
    assert system.ranking("any") == system.ranking("other") == ("d", "c", "b", "a")


def test_saved_state_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "elo_state_coder.json"
    system = EloSystem(RATINGS, k=24.0).fit([Preference("p", "a", "c", 0.25), Preference("p", "d", "b", 1.0)])
    system.save(path, {"persona": "coder"})
    state = json.loads(path.read_text(encoding="utf-8"))
    assert (state["persona"], state["k"], state["updates"]) == ("coder", 24.0, 2)
    assert state["models"]["c"] == {
        "elo": None, "start": 1100.0, "offset": system.offsets["c"], "rating": system.ratings["c"]
    }  # fmt: skip
