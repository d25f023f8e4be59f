"""What a judge reads where it compares two answers: their place, their length, or the answers.

found = what_is_read(judgements, lengths)     # found.reads, found.sentence

Without any content in a judge's words or probabilities, what they say of the two texts and what they say of the two
places are alike: half the difference and half the sum of one pair's two judgements spread by as much. Under that null
they are exchanged pair by pair; content lets the difference spread more.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.records import Judgement

log = logging.getLogger("ranking.data")
Array = NDArray[np.float64]
Lengths = Mapping[tuple[str, str], int]
"""(prompt id, model) → characters of the response."""

FIRST_LOOK = 20  # pairs after which it is said for the first time, while the judge is still being asked
FEWEST = 10  # pairs below which nothing is said; by probabilities, which are finer, ``FIRST_LOOK``
MANY = 60  # pairs in which content would have shown: a spread of 1.5 times the places' is found in nine of ten tries
LEVEL = 0.05
DRAWS = 2000  # exchanges drawn; with fewer p = 0.05 would be a matter of luck
BLOCK = 100  # of them at once
MOSTLY = 0.75  # a share of pairs that turn with the order, or of first places, that is called a habit


class Signs(NamedTuple):
    """Pairs judged in both orders, [n] each."""

    texts: Array
    """Half the difference of the two orders' log-odds: what is said of the texts."""
    places: Array
    """Half their sum: what is said of the places; positive where the first one is preferred."""
    lengths: Array
    """ln of the ratio of the two lengths."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Figures of the pairs judged in both orders, by words or by probabilities."""

    pairs: int
    first_position_rate: float
    """Share of judgements won by what came first, a tie half."""
    flip_rate: float
    """Share of pairs whose two orders name different winners; a tie in one of them is no flip."""
    position_bias: float
    """Mean log-odds of the first place; by words +1, 0 or −1 stand for log-odds."""
    position_sd: float
    texts_sd: float
    p_place: float
    """Chance that the texts seem to count for so much where the places alone do."""
    p_length: float
    """The same with the length of the answers taken out."""
    length_slope: float
    """Log-odds that e times the length brings, and its standard error; both 0 where all lengths are the same."""
    length_error: float


@dataclass(frozen=True, slots=True)
class Read:
    """What the judge reads, by which of its signs, and the figures."""

    reads: str | None
    """place, length or answers; None where the pairs are too few to say."""
    by_words: Spread | None
    by_probabilities: Spread | None

    @property
    def used(self) -> Spread | None:
        """The figures that decide: the probabilities', where there are any."""
        return self.by_probabilities or self.by_words

    @property
    def sentence(self) -> str:
        """How far to trust the judge, in words; empty where the pairs are too few to say anything."""
        if self.reads:
            return _sentence(self)
        if self.by_words and self.by_probabilities and self.by_words.flip_rate >= MOSTLY:
            turned, pairs = round(self.by_words.flip_rate * self.by_words.pairs), self.by_words.pairs
            return (
                f"The judge contradicts itself in words: {turned} of {pairs} pairs turn with the order. Whether its "
                f"probabilities hold more can be said from about {FIRST_LOOK} to {MANY} pairs on."
            )
        return ""


def what_is_read(judgements: Iterable[Judgement], lengths: Lengths) -> Read:
    """Test a judge by its judgements in both orders; by probabilities where enough pairs have them, else by words."""
    orders = {(j.prompt_id, j.first, j.second): j for j in judgements if j.ordered}
    both = [
        (one, orders[one.prompt_id, one.second, one.first])
        for one in orders.values()
        if one.first < one.second and (one.prompt_id, one.second, one.first) in orders
    ]
    weighed = [pair for pair in both if all(j.log_odds is not None for j in pair)]
    words = _spread(both, [[2.0 * j.outcome - 1.0 for j in pair] for pair in both], lengths)
    odds = _spread(weighed, [[j.log_odds or 0.0 for j in pair] for pair in weighed], lengths)
    if odds and 2 * len(weighed) < len(both):
        odds = None
    return Read(_verdict(odds or words, by_words=odds is None), words, odds)


def _spread(
    pairs: Sequence[tuple[Judgement, Judgement]], odds: Sequence[Sequence[float]], lengths: Lengths
) -> Spread | None:
    if len(pairs) < FEWEST:
        return None
    one, other = np.array(odds).T
    ratio = [
        math.log(max(1, lengths.get((j.prompt_id, j.first), 1)) / max(1, lengths.get((j.prompt_id, j.second), 1)))
        for j, _ in pairs
    ]
    signs = Signs((one - other) / 2.0, (one + other) / 2.0, np.array(ratio))
    information = float(signs.lengths @ signs.lengths)
    slope = float(signs.texts @ signs.lengths) / information if information else 0.0
    rest = signs.texts - slope * signs.lengths
    return Spread(
        pairs=len(pairs),
        first_position_rate=float((np.sign([one, other]).mean() + 1.0) / 2.0),
        flip_rate=float((one * other > 0.0).mean()),
        position_bias=float(signs.places.mean()),
        position_sd=float(signs.places.std()),
        texts_sd=float(np.sqrt((signs.texts**2).mean())),
        p_place=exchanged(signs.texts, signs.places),
        p_length=exchanged(rest, signs.places),
        length_slope=slope,
        length_error=float(np.sqrt((rest**2 * signs.lengths**2).sum()) / information) if information else 0.0,
    )


def exchanged(texts: Array, places: Array) -> float:
    """The one-sided p-value that ``texts`` [n] spread about 0 more than ``places`` [n] do about their mean, by
    exchanging the two pair by pair."""
    gain = texts**2 - (places - places.mean()) ** 2
    draw, found = np.random.default_rng(0), 0
    for _ in range(DRAWS // BLOCK):
        exchange = draw.integers(0, 2, (BLOCK, len(gain)), dtype=np.int8)
        found += int((gain.sum() - 2.0 * (exchange @ gain) >= gain.sum() - 1e-12).sum())
    return (1 + found) / (1 + DRAWS)


def _verdict(found: Spread | None, *, by_words: bool) -> str | None:
    if found is None or (found.pairs < FIRST_LOOK and not by_words):
        return None
    if found.p_place <= LEVEL:
        if found.p_length <= LEVEL:
            return "answers"
        return "length" if abs(found.length_slope) > 2.0 * found.length_error else None
    turned = by_words and found.flip_rate >= MOSTLY
    return "place" if turned or found.pairs >= MANY or found.p_place > 0.5 else None


def _sentence(read: Read) -> str:
    found, words = read.used, read.by_words
    assert found is not None and words is not None
    judgements, turned = 2 * words.pairs, round(words.flip_rate * words.pairs)
    first = round(words.first_position_rate * judgements)
    counted = f"in {first} of {judgements} judgements ({turned} of {words.pairs} pairs turn with the order)"
    if read.reads == "place":
        hollow = "its probabilities hold no more" if read.by_probabilities else "more prompts won't help"
        if words.first_position_rate >= MOSTLY or words.first_position_rate <= 1.0 - MOSTLY:
            which = "first" if words.first_position_rate >= MOSTLY else "second"
            shown = counted if which == "first" else counted.replace(f"in {first} of", f"in {judgements - first} of")
            what = f"the judge chose what stood {which} {shown}: it judges the place, not the answer"
        else:
            what = f"the judge chose what stood first {counted}: its choices hold nothing of the answers"
        return f"{what[0].upper()}{what[1:]}, and {hollow}; take another --judge."
    by = "Its words alone chose what stood first " + counted + "." if words.flip_rate >= MOSTLY else ""
    if read.reads == "length":
        which = "longer" if found.length_slope > 0.0 else "shorter"
        said = (
            f"The judge reads the length: its choices follow the {which} answer, and beside that hold no more than "
            f"chance does (p = {found.p_length:.2f}); the baseline longest_response knows as much."
        )
    else:
        said = "The judge reads the answers: its choices hold more than their places and lengths "
        said += f"(p = {found.p_length:.3f})."
    return f"{said} {by}".rstrip()


class Watch:
    """Says what the judge reads while it is still being asked, as soon as ``FIRST_LOOK`` pairs show it."""

    def __init__(self, judgements: Iterable[Judgement], lengths: Lengths) -> None:
        self._seen = {(j.prompt_id, j.first, j.second): j for j in judgements}
        self._lengths, self._pairs, self._look = lengths, self._both(), FIRST_LOOK

    def _both(self) -> int:
        return sum((prompt, second, first) in self._seen for prompt, first, second in self._seen) // 2

    def add(self, judgement: Judgement) -> None:
        """Take one more judgement into account."""
        prompt, first, second = judgement.prompt_id, judgement.first, judgement.second
        self._seen[prompt, first, second] = judgement
        self._pairs += (prompt, second, first) in self._seen
        if self._pairs < self._look:
            return
        found, self._look = what_is_read(self._seen.values(), self._lengths), 2 * self._pairs
        if found.reads:
            self._look = sys.maxsize
            level = logging.INFO if found.reads == "answers" else logging.WARNING
            log.log(level, "After %d pairs: %s Ctrl-C ends the run here and keeps all.", self._pairs, found.sentence)
