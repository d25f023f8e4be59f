"""The ceiling that votes set: how often people agree where several of them judged the same two responses.

A system that knows a person only from what others say can hardly predict more of their votes than the others do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from people.ballots import Array, Ballots, Ints


def ceiling(ballots: Ballots) -> dict[str, dict[str, Any]]:
    """{two_people: {share, pairs}, others_majority: {share, votes}}, shares None where nobody shares a pair.

    ``two_people``: of all two decided votes of different people on the same pair of responses, the share that agree.
    ``others_majority``: the share of decided votes that the majority of everyone else's votes on the same pair
    predicts, theirs that were ties included; a majority that is tied counts half.
    """
    models, swapped = len(ballots.models), ballots.a > ballots.b
    low, high = np.minimum(ballots.a, ballots.b), np.maximum(ballots.a, ballots.b)
    pair = np.unique((ballots.prompt * models + low) * models + high, return_inverse=True)[1]
    person = np.unique(pair * len(ballots.users) + ballots.user, return_inverse=True)[1]  # someone's votes on a pair
    word = np.sign(ballots.outcome - 0.5) * np.where(swapped, -1.0, 1.0)  # 1: for the model of the lower number

    pairs = _twos(pair, word != 0.0) - _twos(person, word != 0.0)
    agreeing = sum(_twos(pair, word == side) - _twos(person, word == side) for side in (1.0, -1.0))

    others = _total(pair, np.ones_like(word)) - _total(person, np.ones_like(word))
    margin = _total(pair, word) - _total(person, word)
    known = ballots.decided & (others > 0)
    right = (0.5 + 0.5 * np.sign(margin) * word)[known]
    return {
        "two_people": {"share": agreeing / pairs if pairs else None, "pairs": pairs},
        "others_majority": {"share": float(right.mean()) if len(right) else None, "votes": len(right)},
    }


def _twos(label: Ints, counted: np.ndarray) -> int:
    """How many twos can be made of the votes ``counted``, each within a label."""
    number = np.bincount(label[counted])
    return int((number * (number - 1) // 2).sum())


def _total(label: Ints, value: Array) -> Array:
    """For each vote the sum of ``value`` over all votes of its label."""
    return np.asarray(np.bincount(label, weights=value)[label])
