"""ListMLE: how unlikely scores make a given order (Xia et al., *Listwise Approach to Learning to Rank*, ICML 2008).

−ln P(order | s) = Σ_i [ln Σ_{j ≥ i} e^{s_j} − s_i], best first: Plackett and Luce's model, in which the best is chosen
among all by a softmax, then the second among the rest, and so on. Here it is the mean over those choices, so that a
list of six weighs as much as a pair, for which it is the cross-entropy of σ(s_1 − s_2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

NEVER = np.float32(-1e30)  # a score that is never chosen, and finite: −inf − (−inf) is no number


@dataclass(frozen=True, slots=True)
class Lists:
    """Texts of the same prompt with the ratings of who wrote them."""

    rows: np.ndarray
    """[lists, places] rows of the texts; any row where there is none."""
    ratings: np.ndarray
    """[lists, places], −inf where there is none."""

    @classmethod
    def of(cls, texts: Iterable[tuple[int, int, float]], places: int) -> Lists:
        """From (number of the prompt, row, rating) of every rated text, at most ``places`` a prompt; prompts with a
        single one are left out: it has no order."""
        by_prompt: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for prompt, row, rating in texts:
            by_prompt[prompt].append((row, rating))
        kept = [own for own in by_prompt.values() if len(own) > 1]
        rows, ratings = np.zeros((len(kept), places), np.intp), np.full((len(kept), places), -np.inf)
        for i, own in enumerate(kept):
            rows[i, : len(own)], ratings[i, : len(own)] = zip(*own, strict=True)
        return cls(rows, ratings)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(rows best first [count, places], texts in each [count]) of lists drawn at random, equals in random order."""
        if not len(self.rows):
            return np.zeros((count, self.rows.shape[1]), np.intp), np.zeros(count, np.intp)
        drawn = rng.integers(len(self.rows), size=count)
        ratings = self.ratings[drawn]
        order = np.lexsort((rng.random(ratings.shape), -ratings), axis=-1)
        return np.take_along_axis(self.rows[drawn], order, axis=1), np.isfinite(ratings).sum(axis=1)


def loss_and_slope(scores: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss [lists] and ∂loss/∂scores [lists, places] of ``scores`` [lists, places], best first.

    Only the first ``count`` [lists] of the places are filled; what stands in the others changes nothing. A list of
    fewer than two texts has no choice: loss 0.
    """
    places = scores.shape[1]
    filled = np.arange(places) < count[:, None]
    s = np.where(filled, scores, NEVER).astype(np.float32)
    rest = np.logaddexp.accumulate(s[:, ::-1], axis=1)[:, ::-1]  # ln Σ_{j ≥ i} e^{s_j}
    share = np.float32(1.0) / np.maximum(1, count - 1).astype(np.float32)
    loss = np.where(filled, rest - s, 0.0).sum(axis=1) * share
    # [lists, i, k] that k is chosen for place i: k ≥ i, where s_k never exceeds rest_i
    chosen = np.exp(np.minimum(s[:, None, :] - rest[:, :, None], 0.0))
    chosen *= np.triu(np.ones((places, places), np.float32)) * filled[:, :, None]
    return loss, (chosen.sum(axis=1) - filled) * share[:, None]
