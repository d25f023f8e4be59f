"""Figures of votes alone, without any system: whole rankings, the share of the longer response, agreement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.records import GroundTruth, Preference
from people.read import Votes


def ordered(vote: Preference) -> tuple[tuple[str, str], float]:
    """Both models by name, and the outcome for the first of them."""
    a, b = vote.model_a, vote.model_b
    return ((a, b), vote.outcome) if a < b else ((b, a), 1.0 - vote.outcome)


def whole_rankings(votes: Votes) -> dict[tuple[str, str], GroundTruth]:
    """{(user, prompt id): the votes' order} where someone compared every pair of a prompt's three or more responses.

    A pair that was voted on twice counts once, by its mean outcome.
    """
    answered: dict[str, set[str]] = defaultdict(set)
    for response in votes.responses:
        answered[response.prompt_id].add(response.model)
    outcomes: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for v in votes.preferences:
        pair, outcome = ordered(v)
        outcomes[v.user, v.prompt_id][pair].append(outcome)
    found = {}
    for (user, prompt_id), pairs in outcomes.items():
        models = sorted(answered[prompt_id])
        if len(models) > 2 and len(pairs) == len(models) * (len(models) - 1) // 2:
            points = dict.fromkeys(models, 0.0)
            for (a, b), values in pairs.items():
                points[a] += sum(values) / len(values)
                points[b] += 1.0 - sum(values) / len(values)
            found[user, prompt_id] = GroundTruth(prompt_id, points, "votes")
    return found


def longer_rate(votes: Votes) -> float | None:
    """Share of the decided votes won by the longer response, those of equal length left out."""
    length = {(r.prompt_id, r.model): len(r.text) for r in votes.responses}
    gaps = [
        (length[v.prompt_id, v.model_a] - length[v.prompt_id, v.model_b]) * (v.outcome - 0.5) for v in votes.preferences
    ]
    decided = [gap > 0.0 for gap in gaps if gap]
    return sum(decided) / len(decided) if decided else None


def ceiling(preferences: Sequence[Preference]) -> dict[str, dict[str, Any]]:
    """{two_people: {share, pairs}, others_majority: {share, votes}}, shares None where nobody shares a pair.

    ``two_people``: of all two decided votes of different people on the same two responses, the share that agree.
    ``others_majority``: the share of decided votes that the majority of everyone else's votes on the same pair, ties
    included, predicts; a tied majority counts half. A system that knows a person only from the others can hardly do
    better.
    """
    said: dict[tuple[str, tuple[str, str]], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for v in preferences:
        pair, outcome = ordered(v)
        said[v.prompt_id, pair][v.user].append(float(np.sign(outcome - 0.5)))

    def twos(words: Sequence[float], *sides: float) -> int:
        """How many twos the words for these sides make."""
        n = sum(word in sides for word in words)
        return n * (n - 1) // 2

    pairs = agreeing = votes = 0
    right = 0.0
    for by_person in said.values():
        every = [word for own in by_person.values() for word in own]
        pairs += twos(every, 1.0, -1.0) - sum(twos(own, 1.0, -1.0) for own in by_person.values())
        for side in (1.0, -1.0):
            agreeing += twos(every, side) - sum(twos(own, side) for own in by_person.values())
        for own in by_person.values():
            decided = [word for word in own if word] if len(every) > len(own) else []
            votes += len(decided)
            right += sum(0.5 + 0.5 * float(np.sign(sum(every) - sum(own))) * word for word in decided)
    return {
        "two_people": {"share": agreeing / pairs if pairs else None, "pairs": pairs},
        "others_majority": {"share": right / votes if votes else None, "votes": votes},
    }
