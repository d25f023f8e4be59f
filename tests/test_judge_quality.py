"""The judge's figures, worked out by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from core.records import GroundTruth, Judgement, Preference, Response
from evidence.judge_quality import agreement, agreement_with_person, judge_quality

MODELS = ("a", "b", "c", "d", "e", "f")


def both_orders(a: str, b: str, first: float, second: float, prompt: str = "p") -> list[Judgement]:
    """a was shown first and won by ``first``, then b was shown first and won by ``second``."""
    return [Judgement(prompt, a, b, first), Judgement(prompt, b, a, second)]


def test_flips_and_the_share_of_the_first_position() -> None:
    judgements = [
        *both_orders("a", "b", 1.0, 0.0),  # holds to its word
        *both_orders("a", "c", 1.0, 1.0),  # whoever comes first
        *both_orders("b", "c", 0.5, 1.0),  # a tie, then a winner
    ]
    quality = judge_quality(judgements, [])
    assert quality["flip_rate"] == pytest.approx(1 / 3)
    assert quality["first_position_rate"] == pytest.approx(4.5 / 6)
    assert (quality["longer_response_rate"], quality["self_win_rate"]) == (None, None)


def test_a_judge_without_order_has_no_rates_of_order() -> None:
    quality = judge_quality([Judgement("p", "a", "b", 0.7, ordered=False)], [], judge="b")
    assert (quality["flip_rate"], quality["first_position_rate"]) == (None, None)
    assert quality["self_win_rate"] == pytest.approx(0.3)


def test_the_share_of_the_longer_response() -> None:
    responses = [Response("p", "a", "long text"), Response("p", "b", "text"), Response("p", "c", "word")]
    judgements = [Judgement("p", "a", "b", 1.0), Judgement("p", "c", "a", 0.75), Judgement("p", "b", "c", 1.0)]
    assert judge_quality(judgements, responses)["longer_response_rate"] == pytest.approx((1.0 + 0.25) / 2)


def test_agreement_of_two_rounds() -> None:
    one = [GroundTruth("p", {"a": 2, "b": 1, "c": 0}), GroundTruth("q", {"a": 2, "b": 1, "c": 0})]
    other = [GroundTruth("p", {"a": 2, "b": 1, "c": 0}), GroundTruth("q", {"a": 2, "b": 0, "c": 1})]
    assert agreement(one, other) == pytest.approx((1 + 1 / 3) / 2)
    tied = [GroundTruth("p", dict.fromkeys("abc", 1.0))]
    assert agreement(one, tied) == 0.0
    assert agreement(tied, tied) is None
    assert agreement(one, []) is None


def test_agreement_with_a_person_counts_the_pairs_that_both_decide() -> None:
    judged = [Preference(f"p{i}", "a", "b", 0.75) for i in range(12)] + [Preference("p0", "a", "c", 0.5)]
    mine = [Preference(f"p{i}", "b", "a", float(i < 3), "me") for i in range(12)]  # against the judge on three
    ties = [Preference("p0", "a", "c", 1.0, "me"), Preference("p1", "b", "a", 0.5, "me")]
    found = agreement_with_person([*mine, *ties, Preference("p1", "a", "d", 1.0)], judged)
    assert (found["pairs"], found["share"], found["kappa"]) == (12, 0.75, 0.5)
    low, high = found["ci95"]
    assert -0.1 < low < 0.5 < high <= 1.0
    assert agreement_with_person(mine[:9], judged) == {"pairs": 9, "share": None, "kappa": None, "ci95": None}


def test_agreement_on_pairs_of_few_prompts_is_less_sure() -> None:
    alone = [Preference(f"p{i}", "a", "b", 1.0) for i in range(30)]
    few = [Preference(f"p{p}", a, b, 1.0) for p in range(2) for a, b in itertools.combinations(MODELS, 2)]
    widths = []
    for judged in (alone, few):
        votes = [replace(p, outcome=float(i >= len(judged) // 3)) for i, p in enumerate(judged)]
        low, high = agreement_with_person(votes, judged)["ci95"]
        widths.append(high - low)
    assert widths[0] < widths[1]
