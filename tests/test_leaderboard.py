"""The leaderboard says what the preferences show and no more; likings are named where texts hold them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from core.records import Preference, Response
from evidence import leaderboard as lb
from evidence.likes import TRAITS, clustered_logit, likings

MODELS = ("a", "b", "c")
NOBODY = {"tied_with": [], "unlikely": [], "more_people": None}
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
    return lb.standings(found, models, seed=1)


# ── The leaderboard ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prompts", [2, 5, 25])
def test_a_win_rate_is_the_share_won_where_every_pair_was_judged(prompts: int) -> None:
    found, share = preferences(prompts, {"a": 2.0, "b": 0.0, "c": -1.0}), dict.fromkeys(MODELS, 0.0)
    for p in found:
        share[p.model_a] += p.outcome / (2 * prompts)
        share[p.model_b] += (1.0 - p.outcome) / (2 * prompts)
    for row in standings(found).rows:
        assert row["win_rate"]["mean"] == pytest.approx(share[row["model"]], abs=2e-3)
        assert row["win_rate"]["ci95"][0] < row["win_rate"]["mean"] < row["win_rate"]["ci95"][1]
        assert (row["judged_on"], row["comparisons"]) == (prompts, 2 * prompts)


def test_places_are_decided_as_by_paired_t_tests_where_every_pair_was_judged() -> None:
    """The spread over draws of the prompts is the standard error of a mean over prompts, by another road."""
    for seed in range(8):
        found = preferences(12, {"a": 0.5, "b": 0.0}, seed)
        p = float(ttest_1samp([x.outcome for x in found], 0.5).pvalue)
        if not 0.03 < p < 0.07:  # nearer than 2,000 draws can tell
            assert (standings(found, ("a", "b")).rows[1]["places"]["lo"] == 2) == (p < 0.05)


def test_a_model_that_is_far_ahead_is_named_alone_and_equal_ones_are_not() -> None:
    found = lb.answer(standings(preferences(25, {"a": 0.0, "b": 3.0, "c": 0.0})), {"a": 1.0, "b": None, "c": 2.0})
    rows = found["leaderboard"]
    assert found["answer"] == {"best": "b", **NOBODY, "more_prompts": None}
    assert rows[0]["model"] == "b" and rows[0]["places"] == {"lo": 1, "hi": 1}
    assert [row["places"] for row in rows[1:]] == [{"lo": 2, "hi": 3}] * 2
    assert rows[0]["p_best"] == 1.0 and rows[0]["best_on"] >= 20
    assert {row["model"]: row["global_place"] for row in rows} == {"a": 2, "b": None, "c": 1}
    order = [row["model"] for row in rows if row["model"] != "b"]
    assert [row["moved"] for row in rows if row["model"] != "b"] == ([1, -1] if order == ["a", "c"] else [0, 0])
    assert rows[0]["moved"] is None, "places move among the rated models alone"
    assert [row["moved"] for row in lb.answer(standings(ONE), {"a": 1.0, "b": None, "c": 1.0})["leaderboard"]] == [
        None
    ] * 3, "equal ratings order nothing"
    equal = standings(preferences(25, dict.fromkeys(MODELS, 0.0)))
    found = lb.answer(equal, dict.fromkeys(MODELS))
    rows = found["leaderboard"]
    assert found["answer"] == {"best": None, **NOBODY, "more_prompts": equal.more_prompts}
    assert equal.more_prompts and equal.more_prompts > 0
    assert sum(row["p_best"] for row in rows) == pytest.approx(1.0)
    assert sum(row["win_rate"]["mean"] for row in rows) == pytest.approx(1.5)


def test_two_that_cannot_be_told_apart_are_both_named() -> None:
    found = lb.answer(standings(preferences(25, {"a": 2.0, "b": 2.0, "c": -1.0})), dict.fromkeys(MODELS))
    assert {found["answer"]["best"], *found["answer"]["tied_with"]} == {"a", "b"}


@pytest.mark.parametrize("prompts", [1, 5, 25])
def test_answers_that_hold_nothing_name_nobody(prompts: int) -> None:
    ties = [Preference(f"p{i}", a, b, 0.5) for i in range(prompts) for a, b in combinations(MODELS, 2)]
    found = lb.answer(standings(ties), dict.fromkeys(MODELS))
    rows = found["leaderboard"]
    assert found["answer"] == {"best": None, **NOBODY, "more_prompts": None}
    assert [(row["model"], row["place"], row["best_on"]) for row in rows] == [(m, 1, prompts) for m in MODELS]
    assert [row["p_best"] for row in rows] == pytest.approx([1 / 3] * 3)


def test_the_names_and_the_order_of_the_preferences_change_nothing() -> None:
    found = preferences(12, {"a": 1.0, "b": 0.0, "c": -1.0})
    swapped = [Preference(p.prompt_id, p.model_b, p.model_a, 1.0 - p.outcome) for p in reversed(found)]
    one, other = standings(found), standings(swapped)
    assert [(r["model"], r["places"]["lo"], r["places"]["hi"]) for r in one.rows] == [
        (r["model"], r["places"]["lo"], r["places"]["hi"]) for r in other.rows
    ]
    assert [r["win_rate"]["mean"] for r in one.rows] == pytest.approx([r["win_rate"]["mean"] for r in other.rows])
    assert one.rows[0]["p_best"] == pytest.approx(other.rows[0]["p_best"], abs=0.1), "draws differ"


def test_the_ranges_of_places_hold_in_planted_worlds() -> None:
    strength = {"a": 0.6, "b": 0.3, "c": 0.0, "d": 0.0}
    places = {"a": (1, 1), "b": (2, 2), "c": (3, 4), "d": (3, 4)}
    held = 0
    for seed in range(100):
        found = standings(preferences(15, strength, seed), tuple(strength))
        held += all(
            row["places"]["lo"] <= places[row["model"]][1] and row["places"]["hi"] >= places[row["model"]][0]
            for row in found.rows
        )
    assert held >= 93


def test_tokens_per_second_counts_timed_answers_only() -> None:
    timed = [Response("p", "a", "", 30, 2.0), Response("q", "a", "", 10, 2.0), Response("r", "a", "", 99, 0.0)]
    assert lb.tokens_per_second([*timed, Response("p", "b", "", 5, 0.0)]) == {"a": 10.0}


def test_rows_tell_whose_time_was_waited_for() -> None:
    waited = [Response("p", "a", "", 30, 2.0, side_by_side=4), Response("q", "a", "", 30, 2.0)]
    untold = Response("p", "b", "", None, 2.0, side_by_side=4)
    found = lb.answer(
        standings(preferences(12, {"a": 1.0, "b": 0.0}), ("a", "b")), {"a": None, "b": None}, [*waited, untold]
    )
    rows = {row["model"]: (row["tokens_per_s"], row["side_by_side"]) for row in found["leaderboard"]}
    assert rows == {"a": (15.0, 4), "b": (None, 0)}


# ── Votes ────────────────────────────────────────────────────────────────────────────────────────────────


def votes_of(people: int, prompts: int, strength: tuple[float, ...], seed: int = 0) -> list[Preference]:
    """Each person votes once on each prompt, on a drawn pair of models."""
    rng, found = np.random.default_rng(seed), []
    for user in range(people):
        for prompt in range(prompts):
            a, b = rng.choice(len(strength), 2, replace=False).tolist()
            outcome = float(rng.random() < 1.0 / (1.0 + math.exp(strength[b] - strength[a])))
            found.append(Preference(f"p{prompt}", "abcdef"[a], "abcdef"[b], outcome, f"u{user}"))
    return found


def test_votes_find_who_is_ahead() -> None:
    votes = votes_of(20, 30, (4.0, 0.0, 0.0))
    rows = standings(votes).rows
    assert rows[0]["model"] == "a" and (rows[0]["places"]["lo"], rows[0]["places"]["hi"]) == (1, 1)
    assert rows[0]["win_rate"]["ci95"][0] < rows[0]["win_rate"]["mean"] < rows[0]["win_rate"]["ci95"][1]
    assert sum(row["comparisons"] for row in rows) == 2 * 20 * 30


def test_twenty_votes_of_one_person_on_equal_models_name_nobody() -> None:
    found = standings(votes_of(1, 20, (0.0,) * 6), tuple("abcdef"))
    assert {row["places"]["lo"] for row in found.rows} == {1} and {row["places"]["hi"] for row in found.rows} == {6}
    assert found.more_prompts is None or found.more_prompts > 0
    assert all(row["best_on"] <= row["judged_on"] <= row["comparisons"] for row in found.rows)
    assert max(row["judged_on"] for row in found.rows) < 20, "no model was judged on every prompt"


def test_votes_that_are_all_ties_or_all_alike_are_no_more_certain_than_their_number() -> None:
    ties = [replace(vote, outcome=0.5) for vote in votes_of(1, 20, (0.0,) * 3)]
    for row in standings(ties).rows:
        low, high = row["win_rate"]["ci95"]
        assert row["places"] == {"lo": 1, "hi": 3} and low < 0.45 < 0.55 < high
    always = [replace(vote, outcome=float(vote.model_a == "a")) for vote in votes_of(1, 20, (0.0, 0.0))]
    rows = standings(always, ("a", "b")).rows
    assert [(row["model"], row["places"]["lo"], row["places"]["hi"]) for row in rows] == [("a", 1, 1), ("b", 2, 2)]
    assert rows[0]["win_rate"]["ci95"][0] < rows[0]["win_rate"]["mean"] <= rows[0]["win_rate"]["ci95"][1]


def test_how_many_more_people_and_prompts_it_would_take_is_said_where_several_vote() -> None:
    found = standings(votes_of(12, 10, (0.2, 0.0), seed=1), ("a", "b"))
    assert {row["places"]["lo"] for row in found.rows} == {1}
    assert found.more_prompts and found.more_people and found.more_people > found.more_prompts > 0


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
    liked = {liking["trait"]: liking for liking in likings(votes, found)}
    assert {name: liking["likes"] for name, liking in liked.items()} == {"length": "shorter answers", "code": "code"}
    low, high = liked["length"]["ci95"]
    assert low < 1.0 < high and liked["length"]["unit"] == "half the length"
    wins = liked["length"]["wins"]
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
