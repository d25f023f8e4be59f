"""The judge's figures, worked out by hand."""

from __future__ import annotations

import pytest

from core.records import GroundTruth, Preference, Response
from evidence.judge_quality import agreement, judge_quality


def test_flips_the_share_of_the_first_position_and_of_the_longer_response() -> None:
    both = {"ab": (1.0, 0.0), "ac": (1.0, 1.0), "bc": (0.5, 1.0)}  # holds to its word; the place; a tie, then a winner
    orders = [(a, b, first, second) for (a, b), (first, second) in both.items()]
    judgements = [Preference(p, a, b, first) for p in "pqrs" for a, b, first, _ in orders]
    judgements += [Preference(p, b, a, second) for p in "pqrs" for a, b, _, second in orders]
    quality = judge_quality(judgements, [])
    assert (quality["flip_rate"], quality["first_position_rate"]) == pytest.approx((1 / 3, 4.5 / 6))
    assert (quality["longer_response_rate"], quality["self_win_rate"]) == (None, None)
    responses = [Response("p", "a", "long text"), Response("p", "b", "text"), Response("p", "c", "word")]
    assert judge_quality(judgements, responses)["longer_response_rate"] == pytest.approx((1.0 + 0.5) / 2)


def test_agreement_of_two_rounds() -> None:
    one = [GroundTruth(p, {"a": 2, "b": 1, "c": 0}) for p in "pq"]
    other = [one[0], GroundTruth("q", {"a": 2, "b": 0, "c": 1})]
    tied = [GroundTruth("p", dict.fromkeys("abc", 1.0))]
    assert agreement(one, other) == pytest.approx((1 + 1 / 3) / 2)
    assert (agreement(one, tied), agreement(tied, tied), agreement(one, [])) == (0.0, None, None)
