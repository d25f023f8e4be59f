"""The leaderboard says what the preferences show and no more; likings are named where texts hold them."""

from __future__ import annotations

import dataclasses
import math
from itertools import combinations

import numpy as np
import pytest
from evidence.traits import TRAITS, clustered_logit, likings
from people.ballots import Ballots
from scipy.stats import false_discovery_control, ttest_rel

from core.records import Preference, Prompt, Response
from evidence import leaderboard as lb
from evidence.intervals import holm, paired_p_value
from people import standings as people

MODELS = ("a", "b", "c")
ONE = [Preference("p", a, b, 1.0) for a, b in combinations(MODELS, 2)]


def preferences(prompts: int, strength: dict[str, float], seed: int = 0, spread: float = 1.0) -> list[Preference]:
    """Every pair of every prompt, by each response's own quality around its model's strength."""
    rng, found = np.random.default_rng(seed), []
    for prompt in range(prompts):
        quality = {model: value + spread * rng.standard_normal() for model, value in strength.items()}
        for a, b in combinations(strength, 2):
            outcome = 1.0 / (1.0 + math.exp(quality[b] - quality[a]))
            found.append(Preference(f"p{prompt}", a, b, outcome))
    return found


def standings(found: list[Preference], models: tuple[str, ...] = MODELS) -> lb.Standings:
    return lb.standings(lb.mean_outcomes(found, models), models, seed=1)


# ── Tests of many at once ────────────────────────────────────────────────────────────────────────────────


def test_holm_is_the_step_down_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03, 0.005]).tolist() == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0] and holm([]).tolist() == []
    p = np.random.default_rng(0).random(30) ** 3
    assert (holm(p) >= false_discovery_control(p) - 1e-12).all(), "never bolder than a false discovery rate"


def test_a_paired_p_value_is_the_t_test_s_and_has_a_guard_where_all_differences_are_the_same() -> None:
    x, y = np.random.default_rng(1).random((2, 12))
    assert paired_p_value(x - y, 1.0) == pytest.approx(float(ttest_rel(x, y).pvalue))
    assert paired_p_value([0.0] * 9, 1.0) == paired_p_value([], 1.0) == 1.0
    assert paired_p_value([1.0] * 5, 1.0) > 0.05 > paired_p_value([1.0] * 9, 1.0)


# ── The leaderboard ──────────────────────────────────────────────────────────────────────────────────────


def test_mean_outcomes_are_against_the_others_and_a_prompt_that_lacks_a_model_is_left_out() -> None:
    whole = [Preference("p", "a", "b", 1.0), Preference("p", "a", "c", 0.5), Preference("p", "b", "c", 0.25)]
    found = lb.mean_outcomes([*whole, Preference("q", "a", "b", 1.0)], MODELS)
    assert found.tolist() == [[0.75, 0.125, 0.625]]


def test_a_model_that_is_far_ahead_is_named_alone_and_equal_ones_are_not() -> None:
    found = lb.answer(
        standings(preferences(25, {"a": 0.0, "b": 3.0, "c": 0.0})), lb.Facts({"a": 1.0, "b": None, "c": 2.0})
    )
    rows = found.leaderboard
    assert (found.best, found.tied_with, found.more_prompts) == ("b", (), None)
    assert rows[0]["model"] == "b" and rows[0]["places"] == {"lo": 1, "hi": 1}
    assert [row["places"] for row in rows[1:]] == [{"lo": 2, "hi": 3}] * 2
    assert rows[0]["p_best"] == 1.0 and rows[0]["best_on"] >= 20
    assert {row["model"]: row["global_place"] for row in rows} == {"a": 2, "b": None, "c": 1}
    order = [row["model"] for row in rows if row["model"] != "b"]
    assert [row["moved"] for row in rows if row["model"] != "b"] == ([1, -1] if order == ["a", "c"] else [0, 0])
    assert rows[0]["moved"] is None, "places move among the rated models alone"
    assert [
        row["moved"] for row in lb.answer(standings(ONE), lb.Facts({"a": 1.0, "b": None, "c": 1.0})).leaderboard
    ] == [None] * 3, "equal ratings order nothing"
    equal = standings(preferences(25, dict.fromkeys(MODELS, 0.0)))
    found = lb.answer(equal, lb.Facts(dict.fromkeys(MODELS)))
    rows = found.leaderboard
    assert (found.best, found.tied_with) == (None, ()) and found.more_prompts and found.more_prompts > 0
    assert sum(row["p_best"] for row in rows) == pytest.approx(1.0)
    assert sum(row["win_rate"]["mean"] for row in rows) == pytest.approx(1.5)


def test_two_that_cannot_be_told_apart_are_both_named() -> None:
    found = lb.answer(standings(preferences(25, {"a": 2.0, "b": 2.0, "c": -1.0})), lb.Facts(dict.fromkeys(MODELS)))
    assert {found.best, *found.tied_with} == {"a", "b"}


@pytest.mark.parametrize("prompts", [1, 5, 25])
def test_answers_that_hold_nothing_name_nobody(prompts: int) -> None:
    ties = [Preference(f"p{i}", a, b, 0.5) for i in range(prompts) for a, b in combinations(MODELS, 2)]
    found = lb.answer(standings(ties), lb.Facts(dict.fromkeys(MODELS)))
    rows = found.leaderboard
    assert (found.best, found.tied_with, found.more_prompts) == (None, (), None)
    assert [(row["model"], row["place"], row["best_on"]) for row in rows] == [(m, 1, prompts) for m in MODELS]
    assert [row["p_best"] for row in rows] == pytest.approx([1 / 3] * 3)


def test_the_names_and_the_order_of_the_preferences_change_nothing() -> None:
    found = preferences(12, {"a": 1.0, "b": 0.0, "c": -1.0})
    swapped = [Preference(p.prompt_id, p.model_b, p.model_a, 1.0 - p.outcome) for p in reversed(found)]
    one, other = standings(found), standings(swapped)
    assert [(r.model, r.low, r.high) for r in one.rows] == [(r.model, r.low, r.high) for r in other.rows]
    assert [r.win_rate for r in one.rows] == pytest.approx([r.win_rate for r in other.rows])


def test_the_ranges_of_places_hold_in_planted_worlds() -> None:
    strength = {"a": 0.6, "b": 0.3, "c": 0.0, "d": 0.0}
    places = {"a": (1, 1), "b": (2, 2), "c": (3, 4), "d": (3, 4)}
    held = 0
    for seed in range(100):
        found = standings(preferences(15, strength, seed), tuple(strength))
        held += all(row.low <= places[row.model][1] and row.high >= places[row.model][0] for row in found.rows)
    assert held >= 93


def test_tokens_per_second_counts_timed_answers_only() -> None:
    timed = [Response("p", "a", "", 30, 2.0), Response("q", "a", "", 10, 2.0), Response("r", "a", "", 99, 0.0)]
    assert lb.tokens_per_second([*timed, Response("p", "b", "", 5, 0.0)]) == {"a": 10.0}


# ── Votes ────────────────────────────────────────────────────────────────────────────────────────────────


def ballots(people_: int, prompts: int, strength: tuple[float, ...], seed: int = 0) -> Ballots:
    """Each person votes once on each prompt, on a drawn pair of models."""
    rng, size, models = np.random.default_rng(seed), people_ * prompts, len(strength)
    a = rng.integers(models, size=size)
    b = (a + 1 + rng.integers(models - 1, size=size)) % models
    gap = np.array(strength)[a] - np.array(strength)[b]
    outcome = (rng.random(size) < 1.0 / (1.0 + np.exp(-gap))).astype(float)
    nothing = np.zeros(0, dtype=np.intp)
    return Ballots(
        (), tuple(f"u{i}" for i in range(people_)), tuple(Prompt(f"p{i}", "") for i in range(prompts)),
        tuple("abcdef"[:models]), np.repeat(np.arange(people_), prompts), np.tile(np.arange(prompts), people_), a, b,
        outcome, nothing, nothing, nothing, np.zeros((prompts, models), dtype=np.intp),
    )  # fmt: skip


def test_votes_find_who_is_ahead_and_count_whose_own_best_it_is() -> None:
    votes = ballots(20, 30, (4.0, 0.0, 0.0))
    rows = people.standings(votes, 0).rows
    assert rows[0].model == "a" and (rows[0].low, rows[0].high) == (1, 1)
    assert rows[0].ci95[0] < rows[0].win_rate < rows[0].ci95[1]
    assert sum(row.comparisons for row in rows) == 2 * 20 * 30
    own = people.own_best(votes)
    assert own["a"] >= 18 and sum(own.values()) <= 20
    assert people.own_best(ballots(1, 30, (4.0, 0.0, 0.0))) == {}, "one person's own best is the answer itself"


def test_twenty_votes_of_one_person_on_equal_models_name_nobody() -> None:
    found = people.standings(ballots(1, 20, (0.0,) * 6), 0)
    assert {row.low for row in found.rows} == {1} and {row.high for row in found.rows} == {6}
    assert found.more_prompts is None or found.more_prompts > 0
    assert all(row.best_on <= row.judged_on <= row.comparisons for row in found.rows)
    assert max(row.judged_on for row in found.rows) < 20, "no model was judged on every prompt"


def test_votes_that_are_all_ties_or_all_alike_are_no_more_certain_than_their_number() -> None:
    drawn = ballots(1, 20, (0.0,) * 3)
    tied = people.standings(dataclasses.replace(drawn, outcome=np.full(20, 0.5)), 0)
    for row in tied.rows:
        assert (row.low, row.high) == (1, 3) and row.ci95[0] < 0.45 < 0.55 < row.ci95[1]
    assert people.own_best(dataclasses.replace(ballots(2, 20, (0.0,) * 3), outcome=np.full(40, 0.5))) == dict.fromkeys(
        MODELS, 0
    ), "a tie is nobody's own best"
    two = ballots(1, 20, (0.0, 0.0))
    always = people.standings(dataclasses.replace(two, outcome=(two.a == 0).astype(float)), 0)
    assert [(row.model, row.low, row.high) for row in always.rows] == [("a", 1, 1), ("b", 2, 2)]
    assert always.rows[0].ci95[0] < always.rows[0].win_rate < always.rows[0].ci95[1]


def test_how_many_more_people_and_prompts_it_would_take_is_said_where_several_vote() -> None:
    found = people.standings(ballots(12, 10, (0.5, 0.0)), 1)
    assert {row.low for row in found.rows} == {1}
    assert found.more_prompts and found.more_people and found.more_people > found.more_prompts > 0


def test_a_win_rate_is_the_mean_chance_against_the_others() -> None:
    wins = np.array([[0.0, 30.0, 30.0], [10.0, 0.0, 20.0], [10.0, 20.0, 0.0]])
    rates = people.win_rates(wins)
    assert rates.sum() == pytest.approx(1.5)
    assert rates[0] > 0.7 and rates[1] == pytest.approx(rates[2])


# ── What you like ────────────────────────────────────────────────────────────────────────────────────────


def texts(prompts: int, seed: int) -> list[Response]:
    """Four models' answers of all lengths, half of them with code."""
    rng, words = np.random.default_rng(seed), ("apple", "river", "7", "I", "stone", "- item\n", "because", "12")
    found = []
    for prompt in range(prompts):
        for model in "abcd":
            text = " ".join(rng.choice(words, rng.integers(5, 200)))
            found.append(Response(f"p{prompt}", model, text + ("\n```\nx\n```" if rng.random() < 0.5 else "")))
    return found


def test_a_planted_taste_is_named_in_words_and_nothing_else_is() -> None:
    found, votes = texts(40, 0), []
    rng = np.random.default_rng(1)
    length = {(r.prompt_id, r.model): math.log2(len(r.text)) for r in found}
    code = {(r.prompt_id, r.model): "```" in r.text for r in found}
    for prompt in {r.prompt_id: None for r in found}:
        quality = {m: 2.0 * code[prompt, m] - length[prompt, m] + 0.5 * rng.standard_normal() for m in "abcd"}
        votes += [
            Preference(prompt, a, b, 1.0 / (1.0 + math.exp(quality[b] - quality[a])))
            for a, b in combinations("abcd", 2)
        ]
    liked = {liking.trait: liking for liking in likings(votes, found)}
    assert {name: liking.likes for name, liking in liked.items()} == {"length": "shorter answers", "code": "code"}
    low, high = liked["length"].ci95
    assert low < 1.0 < high and liked["length"].unit == "half the length"
    wins = liked["length"].as_dict()["wins"]
    assert 0.6 < wins["ci95"][0] < wins["mean"] < wins["ci95"][1] < 0.9


def test_hardly_any_texts_name_nothing() -> None:
    one = [Preference("p0", "a", "b", 1.0)]
    assert likings([], []) == likings(one, texts(1, 0)) == likings(one, []) == []
    same = [Response(f"p{i}", m, "the same") for i in range(30) for m in "ab"]
    assert likings([Preference(f"p{i}", "a", "b", 1.0) for i in range(30)], same) == []


def test_the_jackknife_leaves_each_cluster_out() -> None:
    rng = np.random.default_rng(2)
    x, cluster = rng.standard_normal((60, 2)), np.repeat(np.arange(10), 6)
    outcome = 1.0 / (1.0 + np.exp(-x @ [0.8, -0.3] - 0.3 * rng.standard_normal(60)))
    weights, errors, effective = clustered_logit(x, outcome, cluster)
    without = [clustered_logit(x[cluster != g], outcome[cluster != g], cluster[cluster != g] % 9)[0] for g in range(10)]
    naive = np.sqrt(0.9 * ((np.array(without) - weights) ** 2).sum(axis=0))
    assert errors == pytest.approx(naive, rel=0.05)
    assert (effective <= 10.0).all() and len(TRAITS) == 6
