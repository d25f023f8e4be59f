"""Quality of the judge: flips between the two orders, preference for place and length."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from core.records import GroundTruth, Preference, Response
from evaluation import mean_metrics, prompt_metrics
from stages.judging import preferences_from
from stages.reads import what_is_read

TIE = 0.05  # an outcome nearer to 0.5 than this is counted as a tie where a judge answers in degrees


def judge_quality(
    judgements: Sequence[Preference], responses: Sequence[Response], judge: str | None = None
) -> dict[str, Any]:
    """The ``judge_quality`` key; null for whatever cannot be known.

    ``flip_rate``: of the pairs judged in both orders, the share in which whoever wins changes with the order (a tie in
    one of them is no flip). ``first_position_rate``: share won by what came first, a tie half; 0.5 is fair. Both are
    null for a judge that sees no order, and below ten pairs. ``longer_response_rate``: share won by the longer of two
    responses. ``self_win_rate``: by the judge's own, where it is a contestant. ``reads``, ``sentence``, ``by_words``,
    ``by_probabilities``: what it reads and the figures that say so (``stages.reads``).
    """
    length = {(r.prompt_id, r.model): len(r.text) for r in responses}
    longer, own = [], []
    for p in preferences_from(list(judgements)):
        long_a, long_b = length.get((p.prompt_id, p.model_a), 0), length.get((p.prompt_id, p.model_b), 0)
        if long_a != long_b:
            longer.append(p.outcome if long_a > long_b else 1.0 - p.outcome)
        if judge in (p.model_a, p.model_b):
            own.append(p.outcome if p.model_a == judge else 1.0 - p.outcome)
    read = what_is_read(judgements, responses)
    words = read["by_words"] or {}
    return {
        **read,
        "flip_rate": words.get("flip_rate"),
        "first_position_rate": words.get("first_position_rate"),
        "longer_response_rate": fmean(longer) if longer else None,
        "self_win_rate": fmean(own) if own else None,
    }


def agreement(a: Iterable[GroundTruth], b: Iterable[GroundTruth]) -> float | None:
    """Mean τ-b of two sets of rankings over the prompts in both; None where nothing can be compared.

    A prompt that one calls all tied and the other orders counts 0; one that both call all tied is left out.
    """
    known = {truth.prompt_id: truth for truth in b}
    both = [(truth, known[truth.prompt_id]) for truth in a if truth.prompt_id in known]
    found = [prompt_metrics(one.scores, other) or prompt_metrics(other.scores, one) for one, other in both]
    return mean_metrics(filter(None, found)).kendall_tau
