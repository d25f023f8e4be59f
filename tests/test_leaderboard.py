"""The leaderboard says what the preferences show and no more; likings are named where texts hold them."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy.special import expit

from core.records import Preference, Response
from evidence.leaderboard import answer, standings
from evidence.likes import likings

MODELS = ("a", "b", "c")
UNRATED = dict.fromkeys(MODELS)
NOBODY = {"tied_with": [], "unlikely": [], "more_prompts": None}


def judged(prompt: str, quality: dict[str, float]) -> list[Preference]:
    """Every pair of a prompt's responses of such qualities, in log-odds."""
    return [Preference(prompt, a, b, float(expit(quality[a] - quality[b]))) for a, b in combinations(quality, 2)]


def preferences(prompts: int, *strength: float, seed: int = 0) -> list[Preference]:
    """Every pair of every prompt, by each response's own quality around its model's strength."""
    qualities = np.array(strength) + np.random.default_rng(seed).standard_normal((prompts, len(strength)))
    return [p for i, row in enumerate(qualities) for p in judged(f"p{i}", dict(zip("abcdef", row, strict=False)))]


def votes_of(people: int, prompts: int, *strength: float) -> list[Preference]:
    """Each person votes once on each prompt, on a drawn pair of models."""
    rng, found = np.random.default_rng(0), []
    for user, prompt in product(range(people), range(prompts)):
        a, b = rng.choice(len(strength), 2, replace=False).tolist()
        outcome = float(rng.random() < expit(strength[a] - strength[b]))
        found.append(Preference(f"p{prompt}", "abcdef"[a], "abcdef"[b], outcome, f"u{user}"))
    return found


def test_a_win_rate_is_the_share_won_where_every_pair_was_judged() -> None:
    found = preferences(25, 2.0, 0.0, -1.0)
    for row in standings(found, MODELS, 1)[0]:
        won = [p.outcome if p.model_a == row["model"] else 1.0 - p.outcome
               for p in found if row["model"] in (p.model_a, p.model_b)]  # fmt: skip
        assert row["win_rate"]["mean"] == pytest.approx(np.mean(won), abs=2e-3)
        assert row["win_rate"]["ci95"][0] < row["win_rate"]["mean"] < row["win_rate"]["ci95"][1]
        assert (row["judged_on"], row["comparisons"]) == (25, 50)


def test_a_model_that_is_far_ahead_is_named_alone_two_alike_together_and_equal_ones_not_at_all() -> None:
    found = answer(preferences(25, 0.0, 3.0, 0.0), (), {"a": 1.0, "b": None, "c": 2.0}, seed=1)
    rows = found["leaderboard"]
    assert found["answer"] == {"best": "b", **NOBODY} and rows[0]["model"] == "b"
    assert [row["places"] for row in rows] == [{"lo": 1, "hi": 1}, *[{"lo": 2, "hi": 3}] * 2]
    assert rows[0]["p_best"] == 1.0 and rows[0]["best_on"] >= 20
    assert {row["model"]: row["global_place"] for row in rows} == {"a": 2, "b": None, "c": 1}
    alike = answer(preferences(25, 2.0, 2.0, -1.0), (), UNRATED, seed=1)["answer"]
    assert {alike["best"], *alike["tied_with"]} == {"a", "b"} and alike["more_prompts"] > 0
    equal = answer(preferences(25, 0.0, 0.0, 0.0), (), UNRATED, seed=1)
    assert equal["answer"]["best"] is None and equal["answer"]["more_prompts"] > 0
    assert sum(row["p_best"] for row in equal["leaderboard"]) == pytest.approx(1.0)


def test_answers_that_hold_nothing_name_nobody() -> None:
    ties = [Preference(f"p{i}", a, b, 0.5) for i in range(25) for a, b in combinations(MODELS, 2)]
    found = answer(ties, (), UNRATED, seed=1)
    rows = found["leaderboard"]
    assert found["answer"] == {"best": None, **NOBODY}
    assert [(row["model"], row["place"], row["best_on"]) for row in rows] == [(m, 1, 25) for m in MODELS]
    assert [row["p_best"] for row in rows] == pytest.approx([1 / 3] * 3)


def test_the_ranges_of_places_hold_in_planted_worlds() -> None:
    true, held = {"a": (1, 1), "b": (2, 2), "c": (3, 4), "d": (3, 4)}, 0
    for seed in range(100):
        rows, _ = standings(preferences(15, 0.6, 0.3, 0.0, 0.0, seed=seed), "abcd", 1)
        found = {row["model"]: row["places"] for row in rows}
        held += all(found[m]["lo"] <= last and found[m]["hi"] >= first for m, (first, last) in true.items())
    assert held >= 93


def test_votes_find_who_is_ahead_and_twenty_on_equal_models_name_nobody() -> None:
    rows, more_prompts = standings(votes_of(20, 30, 4.0, 0.0, 0.0), MODELS, 1)
    assert rows[0]["model"] == "a" and rows[0]["places"] == {"lo": 1, "hi": 1}
    assert more_prompts is None and sum(row["comparisons"] for row in rows) == 2 * 20 * 30
    few, _ = standings(votes_of(1, 20, *[0.0] * 6), "abcdef", 1)
    assert all(row["places"] == {"lo": 1, "hi": 6} for row in few)
    assert all(row["best_on"] <= row["judged_on"] <= row["comparisons"] for row in few)


def test_a_planted_taste_is_named_in_words_and_nothing_else_is() -> None:
    """Answers of all lengths, half of them with code."""
    votes, rng, words = list[Preference](), np.random.default_rng(0), ("apple", "river", "7", "I", "- item\n", "12")
    texts = {(f"p{i}", model): " ".join(rng.choice(words, rng.integers(5, 200))) for i in range(40) for model in "abcd"}
    texts |= {about: f"{text}\n```\nx\n```" for about, text in texts.items() if rng.random() < 0.5}
    for prompt in dict.fromkeys(prompt for prompt, _ in texts):
        own = {model: text for (about, model), text in texts.items() if about == prompt}
        quality = {m: 2.0 * ("```" in t) - math.log2(len(t)) + 0.5 * rng.standard_normal() for m, t in own.items()}
        votes += judged(prompt, quality)
    responses = [Response(*about, text) for about, text in texts.items()]
    liked = {liking["trait"]: liking for liking in likings(votes, responses)}
    assert {name: liking["likes"] for name, liking in liked.items()} == {"length": "shorter answers", "code": "code"}
    low, high = liked["length"]["ci95"]
    assert low < 1.0 < high and liked["length"]["unit"] == "half the length"
    wins = liked["length"]["wins"]
    assert 0.6 < wins["ci95"][0] < wins["mean"] < wins["ci95"][1] < 0.9
    assert likings([], []) == likings(votes[:1], responses) == likings(votes, []) == [], "hardly any texts name nothing"
