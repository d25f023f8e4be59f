"""How good the judge is: does it hold to its word when the order changes, prefer length, go in circles?"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from core.records import GroundTruth, Judgement, Response
from evaluation import kendall_tau

# {prompt id: {(a, b) with a < b: mean outcome for a over its judgements}}
Outcomes = Mapping[str, Mapping[tuple[str, str], float]]


def judge_quality(
    judgements: Sequence[Judgement], responses: Iterable[Response], judge: str | None = None
) -> dict[str, Any]:
    """The ``judge_quality`` key; null for whatever cannot be known.

    ``flip_rate``: of the pairs judged in both orders, the share in which whoever wins changes with the order (a
    tie in one of them is no flip: ``inconsistent_rate`` counts it). ``first_position_rate``: share won by what
    came first, a tie half; 0.5 is fair. Both are null for a judge that sees no order. ``longer_response_rate``:
    share won by the longer of two responses. ``circular_triads``: of the threes whose pairs are all decided, the
    share that go in a circle (chance: 1/4). ``consistency``: Kendall & Babington Smith's ζ (*On the Method of
    Paired Comparisons*, Biometrika 31, 1940), 1 without circles, 0 with as many as can be, mean over prompts whose
    pairs are all decided. ``self_win_rate``: share won by the judge's own responses, where it is a contestant.
    """
    outcomes = _mean_outcomes(judgements)
    ordered = [j for j in judgements if j.ordered]
    decided, circular, zetas = _transitivity(outcomes)
    return {
        **_flips(ordered),
        "first_position_rate": _mean([j.outcome for j in ordered]),
        "longer_response_rate": _longer(outcomes, responses),
        "circular_triads": circular / decided if decided else None,
        "consistency": _mean(zetas),
        "self_win_rate": _own(outcomes, judge),
    }


def agreement(a: Iterable[GroundTruth], b: Iterable[GroundTruth]) -> float | None:
    """Mean τ-b of two sets of rankings over the prompts in both; None where nothing can be compared.

    A prompt that one calls all tied and the other orders counts 0; one that both call all tied is left out.
    """
    known = {truth.prompt_id: truth.scores for truth in b}
    taus = []
    for truth in a:
        models = [m for m in truth.scores if m in known.get(truth.prompt_id, {})]
        x = np.array([truth.scores[m] for m in models])
        y = np.array([known[truth.prompt_id][m] for m in models])
        if len(models) > 1 and (np.ptp(x) > 0.0 or np.ptp(y) > 0.0):
            taus.append(float(kendall_tau(x, y)))
    return _mean(taus)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _mean_outcomes(judgements: Iterable[Judgement]) -> Outcomes:
    collected: dict[str, dict[tuple[str, str], list[float]]] = {}
    for j in judgements:
        a, b = sorted((j.first, j.second))
        outcome = j.outcome if j.first == a else 1.0 - j.outcome
        collected.setdefault(j.prompt_id, {}).setdefault((a, b), []).append(outcome)
    return {p: {pair: sum(v) / len(v) for pair, v in pairs.items()} for p, pairs in collected.items()}


def _flips(ordered: Iterable[Judgement]) -> dict[str, float | None]:
    words: dict[tuple[str, str, str], float] = {}
    for j in ordered:
        words[j.prompt_id, j.first, j.second] = float(np.sign(j.outcome - 0.5))
    both = [
        (word, -words[prompt_id, second, first])
        for (prompt_id, first, second), word in words.items()
        if first < second and (prompt_id, second, first) in words
    ]
    return {
        "flip_rate": _mean([float(one * other < 0.0) for one, other in both]),
        "inconsistent_rate": _mean([float(one != other) for one, other in both]),
    }


def _longer(outcomes: Outcomes, responses: Iterable[Response]) -> float | None:
    length = {(r.prompt_id, r.model): len(r.text) for r in responses}
    won = []
    for prompt_id, pairs in outcomes.items():
        for (a, b), outcome in pairs.items():
            long_a, long_b = length.get((prompt_id, a)), length.get((prompt_id, b))
            if long_a is not None and long_b is not None and long_a != long_b:
                won.append(outcome if long_a > long_b else 1.0 - outcome)
    return _mean(won)


def _own(outcomes: Outcomes, judge: str | None) -> float | None:
    pairs = [(pair, outcome) for per_prompt in outcomes.values() for pair, outcome in per_prompt.items()]
    return _mean([outcome if pair[0] == judge else 1.0 - outcome for pair, outcome in pairs if judge in pair])


def _transitivity(outcomes: Outcomes) -> tuple[int, int, list[float]]:
    """(decided threes, circular ones, ζ of each prompt whose pairs are all decided)."""
    decided = circular = 0
    zetas: list[float] = []
    for pairs in outcomes.values():
        models = sorted({model for pair in pairs for model in pair})
        beats = {pair: outcome > 0.5 for pair, outcome in pairs.items() if outcome != 0.5}
        own = 0
        for a, b, c in itertools.combinations(models, 3):
            if {(a, b), (b, c), (a, c)} <= beats.keys():
                decided += 1
                own += beats[a, b] == beats[b, c] != beats[a, c]
        circular += own
        n = len(models)
        if n > 2 and len(beats) == n * (n - 1) // 2:
            zetas.append(1.0 - 24.0 * own / (n**3 - (4 * n if n % 2 == 0 else n)))
    return decided, circular, zetas
