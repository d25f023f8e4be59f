"""What a judge reads where it compares two answers: their place, their length, or the answers.

found = what_is_read(judgements, responses)     # found["reads"], found["sentence"]

Without any content in a judge's words or probabilities, what they say of the two texts and what they say of the two
places are alike: half the difference and half the sum of one pair's two judgements spread by as much. Under that null
they are exchanged pair by pair; content lets the difference spread more.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.records import Preference, Response
from core.text import p_said

Array = NDArray[np.float64]
Figures = dict[str, Any]

FIRST_LOOK = 20  # pairs after which it is said for the first time, while the judge is still being asked
FEWEST = 10  # pairs below which nothing is said; by probabilities, which are finer, ``FIRST_LOOK``
MANY = 60  # pairs in which content would have shown: a spread of 1.5 times the places' is found in nine of ten tries
LEVEL = 0.05
DRAWS = 2000  # exchanges drawn; with fewer p = 0.05 would be a matter of luck
MOSTLY = 0.75  # a share of pairs that turn with the order that is called a habit
NO_LIKING = 0.15  # nearer to a half than this, the share won by what stood first is no liking for that place


def what_is_read(judgements: Iterable[Preference], responses: Sequence[Response]) -> dict[str, Any]:
    """Test a judge by its judgements in both orders; by probabilities where enough pairs have them, else by words.

    ``reads``: place, length or answers; None where the pairs are too few to say. ``sentence``: how far to trust the
    judge; empty where nothing can be said. ``by_words``, ``by_probabilities``: its figures, or None.
    """
    orders = {(j.prompt_id, j.model_a, j.model_b): j for j in judgements}
    pairs = ((one, orders.get((one.prompt_id, one.model_b, one.model_a))) for one in orders.values())
    both = [(one, other) for one, other in pairs if other and one.model_a < one.model_b]
    weighed = [pair for pair in both if all(j.log_odds is not None for j in pair)]
    words = _figures(both, [[2.0 * j.outcome - 1.0 for j in pair] for pair in both], responses)
    odds = _figures(weighed, [[j.log_odds or 0.0 for j in pair] for pair in weighed], responses)
    if 2 * len(weighed) < len(both):
        odds = None
    found, reads = odds or words, None
    if found and found["pairs"] >= (FIRST_LOOK if odds else FEWEST):
        turned = odds is None and found["flip_rate"] >= MOSTLY
        if found["p_place"] <= LEVEL and found["p_length"] <= LEVEL:
            reads = "answers"
        elif found["p_place"] <= LEVEL and abs(found["length_slope"]) > 2.0 * found["length_error"]:
            reads = "length"
        elif found["p_place"] > LEVEL and (turned or found["pairs"] >= MANY or found["p_place"] > 0.5):
            reads = "place"
    sentence = _sentence(reads, words, odds) if words else ""
    return {"reads": reads, "sentence": sentence, "by_words": words, "by_probabilities": odds}


def _sentence(reads: str | None, words: Figures, odds: Figures | None) -> str:
    if reads is None and words["flip_rate"] < MOSTLY:
        return ""
    counted = (
        f"chose what stood first in {words['first']} of {2 * words['pairs']} judgements "
        f"({round(words['flip_rate'] * words['pairs'])} of {words['pairs']} pairs turn with the order)"
    )
    liking = "it judges the place, not the answer"
    if abs(words["first_position_rate"] - 0.5) < NO_LIKING:
        liking = "its choices hold nothing of the answers"
    found = odds or words
    which = "longer" if found["length_slope"] > 0.0 else "shorter"
    hollow = "its probabilities hold no more" if odds else "more prompts won't help"
    said = {
        "place": f"The judge {counted}: {liking}, and {hollow}; take another --judge.",
        "length": f"The judge reads the length: its choices follow the {which} answer, and beside that hold no "
        f"more than chance does ({p_said(found['p_length'])}); the baseline longest_response knows as much.",
        "answers": "The judge reads the answers: its choices hold more than their places and lengths "
        f"({p_said(found['p_length'])}).",
        None: f"What the judge reads can be said from about {MANY} pairs on.",
    }[reads]
    alone = reads != "place" and words["flip_rate"] >= MOSTLY
    return f"{said} Its words alone {counted}." if alone else said


def _figures(
    pairs: Sequence[tuple[Preference, Preference]], odds: Sequence[Sequence[float]], responses: Sequence[Response]
) -> Figures | None:
    """``odds``: each pair's two log-odds of what stood first; by words +1, 0 or −1 stand for them."""
    if len(pairs) < FEWEST:
        return None
    one, other = np.array(odds).T
    texts, places = (one - other) / 2.0, (one + other) / 2.0  # what is said of the texts, and of the places
    size = defaultdict(float, {(r.prompt_id, r.model): math.log(max(1, len(r.text))) for r in responses})
    ratio = np.array([size[j.prompt_id, j.model_a] - size[j.prompt_id, j.model_b] for j, _ in pairs])
    information = float(ratio @ ratio)
    slope = float(texts @ ratio) / information if information else 0.0
    rest = texts - slope * ratio
    return {
        "pairs": len(pairs),
        "first": int((np.array(odds) > 0.0).sum()),  # judgements that name what stood first
        # the share of them, where a tie counts half
        "first_position_rate": float((np.sign([one, other]).mean() + 1.0) / 2.0),
        # share of pairs whose two orders name different winners; a tie in one of them is no flip
        "flip_rate": float((one * other > 0.0).mean()),
        "position_bias": float(places.mean()),
        "position_sd": float(places.std()),
        "texts_sd": float(np.sqrt((texts**2).mean())),
        # chance that the texts seem to count for so much where the places alone do; the same with length taken out
        "p_place": _exchanged(texts, places),
        "p_length": _exchanged(rest, places),
        # log-odds that e times the length brings, 0 where all lengths are the same; its standard error
        "length_slope": slope,
        "length_error": float(np.sqrt((rest**2 * ratio**2).sum()) / information) if information else 0.0,
    }


def _exchanged(texts: Array, places: Array) -> float:
    """The one-sided p-value that ``texts`` [n] spread about 0 more than ``places`` [n] do about their mean, by
    exchanging the two pair by pair."""
    gain, draw = texts**2 - (places - places.mean()) ** 2, np.random.default_rng(0)
    drawn = (gain.sum() - 2.0 * gain[draw.integers(0, 2, len(gain), dtype=bool)].sum() for _ in range(DRAWS))
    return (1 + sum(bool(found >= gain.sum() - 1e-12) for found in drawn)) / (1 + DRAWS)
