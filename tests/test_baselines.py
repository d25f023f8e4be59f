"""The baselines: worked examples, sparse preferences, and the same answer in every process."""

from __future__ import annotations

import itertools
import math

import pytest

from core.records import Preference
from elo_system import expectation
from evidence.baselines import (
    BaseReward,
    BradleyTerry,
    BradleyTerryArenaPrior,
    GlobalElo,
    LongestResponse,
    RandomRanking,
    bradley_terry,
    estimated_ratings,
)

MODELS = ("a", "b", "c", "d")


def test_worked_example_of_wikipedias_article_on_bradley_terry() -> None:
    """Strengths 0.640, 1.043, 0.660, 2.270 from the article's table of wins."""
    wins = {"ab": 2, "ad": 1, "ba": 3, "bc": 5, "cb": 3, "cd": 1, "da": 4, "dc": 3}
    strength = bradley_terry([(pair[0], pair[1], float(n)) for pair, n in wins.items()])
    for model, value in zip(MODELS, (0.640, 1.043, 0.660, 2.270), strict=True):
        assert 10 ** ((strength[model] - strength["a"]) / 400) == pytest.approx(value / 0.640, rel=3e-3)


def test_recovers_the_strengths_that_graded_outcomes_were_made_from() -> None:
    strength = {"a": 150.0, "b": 50.0, "c": -50.0, "d": -150.0}
    preferences = [
        Preference(f"p{i}", a, b, expectation(strength[a], strength[b]))
        for i in range(200)
        for a, b in itertools.combinations(MODELS, 2)
    ]
    scores = BradleyTerry(MODELS).fit(preferences).scores("any")
    for model in MODELS:
        assert scores[model] == pytest.approx(strength[model], abs=2.0)  # the imagined ties draw a little inward


def test_estimated_ratings_lie_about_1000_and_exist_where_one_model_always_wins() -> None:
    strength = {"a": 150.0, "b": 50.0, "c": -50.0, "d": -150.0}
    pairs = list(itertools.combinations(MODELS, 2))
    readers = [Preference("p", a, b, expectation(strength[a], strength[b]), "reader") for a, b in pairs]
    found = estimated_ratings(readers, MODELS)
    assert {model: rating.elo for model, rating in found.items()} == {m: 1000.0 + strength[m] for m in MODELS}
    assert "no Arena rating" in found["a"].source
    certain = estimated_ratings([Preference("p", a, b, 1.0, "reader") for a, b in pairs], MODELS)
    elo = [certain[model].elo or 0.0 for model in MODELS]
    assert elo == sorted(elo, reverse=True)
    assert sum(elo) == pytest.approx(4000.0, abs=1.0)
    assert elo[0] > 2000.0


def test_preferences_may_be_missing_apart_or_all_one_way() -> None:
    ranker = BradleyTerry(MODELS)
    assert ranker.fit([]).scores("p") == dict.fromkeys(MODELS, 0.0)
    apart = ranker.fit([Preference("p", "a", "b", 1.0), Preference("p", "c", "d", 0.0)]).scores("p")
    assert apart["a"] == pytest.approx(apart["d"]) == pytest.approx(-apart["b"], abs=1e-5)
    unjudged = ranker.fit([Preference("p", "a", "b", 1.0)] * 30).scores("p")
    assert unjudged["a"] > 0.0 == unjudged["c"] == unjudged["d"] > unjudged["b"]
    assert all(map(math.isfinite, unjudged.values()))
    assert ranker.fit([Preference("p", "a", "b", 0.5)]).scores("p")["a"] == pytest.approx(0.0, abs=1e-6)


def test_bradley_terry_keeps_a_held_out_contestant_at_the_mean_and_names_strangers() -> None:
    preferences = [Preference("p", "a", "b", 1.0), Preference("p", "b", "c", 1.0)]
    scores = BradleyTerry(MODELS).fit(preferences, held_out="a").scores("p")
    assert scores["a"] == 0.0 < scores["b"]
    with pytest.raises(ValueError, match="stranger"):
        BradleyTerry(MODELS).fit([Preference("p", "a", "stranger", 1.0)])


def test_the_arena_prior_is_the_arena_before_any_preference_and_gives_way() -> None:
    ranker = BradleyTerryArenaPrior({"a": 1200.0, "b": 1100.0, "c": None})
    assert ranker.scores("p") == pytest.approx({"a": 50.0, "b": -50.0, "c": 0.0}, abs=1e-3)
    assert ranker.fit([Preference("p", "b", "a", 1.0)] * 50).ranking("p")[0] == "b"
    assert ranker.fit([]).ranking("p") == ("a", "c", "b")


def test_tables_and_ratings_are_what_they_were_given() -> None:
    values = {("p", "a"): 3.0, ("p", "b"): 4.0, ("q", "a"): 5.0, ("q", "b"): 1.0}
    for ranker in (BaseReward(values), LongestResponse(values)):
        assert ranker.fit([Preference("p", "a", "b", 1.0)]).ranking("p") == ("b", "a")
        assert ranker.ranking("q") == ("a", "b")
    assert GlobalElo({"a": 1000.0, "b": None, "c": 1200.0}).scores("p") == {"a": 1000.0, "b": 1100.0, "c": 1200.0}


def test_random_is_the_same_for_a_prompt_and_fair_over_prompts() -> None:
    ranker = RandomRanking(MODELS, seed=1)
    assert ranker.scores("p1") == RandomRanking(MODELS, seed=1).scores("p1")
    assert ranker.scores("p1") != ranker.scores("p2")
    assert ranker.scores("p1") != RandomRanking(MODELS, seed=2).scores("p1")
    assert ranker.scores("p1")["a"] == pytest.approx(0.903274, abs=1e-6)  # in every process
    firsts = [ranker.ranking(f"p{i}")[0] for i in range(400)]
    assert all(60 < firsts.count(model) < 140 for model in MODELS)
