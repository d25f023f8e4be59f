"""What System B's trainings look at: texts, the rated ones among them, and what each step compares, drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple, Self

import numpy as np

from base.scaler import Scaler
from config import ExperimentConfig
from elo_system import expectation

STEPS_AN_EPOCH = 100  # at most: more preferences than STEPS_AN_EPOCH · batch_size make larger batches, not more steps


def preferences_a_step(n: int, params: ExperimentConfig) -> int:
    """``batch_size``, doubled until n preferences need no more than ``STEPS_AN_EPOCH`` steps."""
    size = params.batch_size
    while math.ceil(n / size) > STEPS_AN_EPOCH:
        size *= 2
    return size


class Rated(NamedTuple):
    """The rated responses to the training prompts, from which the regularization draws."""

    pairs: np.ndarray
    """[pairs, 2] rows of all pairs of responses to the same prompt."""
    expected: np.ndarray
    """[pairs] that the first is preferred: Elo's expectation, or the order taken for certain (``ranknet``)."""
    lists: np.ndarray
    """[prompts, places] rows of the same responses, for ``listmle``."""
    elo: np.ndarray
    """[prompts, places] their ratings; −∞ in an empty place."""

    @classmethod
    def of(cls, prompts: Sequence[Sequence[tuple[int, float]]], places: int, regularizer: str) -> Self:
        """From (row, rating) of each rated response, prompt by prompt, at most ``places`` of them."""
        prompts = [responses for responses in prompts if len(responses) > 1]  # a single one has no order
        pairs = [pair for responses in prompts for pair in combinations(responses, 2)]
        certain = regularizer == "ranknet"
        expected = [0.5 + 0.5 * np.sign(a - b) if certain else expectation(a, b) for (_, a), (_, b) in pairs]
        lists, elo = np.zeros((len(prompts), places), np.intp), np.full((len(prompts), places), -np.inf)
        for i, responses in enumerate(prompts):
            lists[i, : len(responses)], elo[i, : len(responses)] = zip(*responses, strict=True)
        rows = np.array([(a, b) for (a, _), (b, _) in pairs], np.intp)
        return cls(rows, np.array(expected, np.float32), lists, elo)

    def draw(
        self, steps: int, params: ExperimentConfig, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What each step compares: k pairs, or for ``listmle`` one list of k texts, best first; nothing where λ is 0.

        Returns rows [steps, 2 · k] (every first, then every second) or [steps, k]; what is expected of each pair
        [steps, k]; and shares in the loss [steps, k]: 1 / pairs, or 1 / choices of the list, or 0 if nothing is rated.
        """
        listwise, places = params.regularizer == "listmle", self.elo.shape[1]
        k = 0 if params.lambda_reg == 0.0 else places if listwise else params.rank_pairs
        nothing = np.zeros((steps, k), np.float32)
        if not k or not len(self.lists):
            return np.zeros((steps, k if listwise else 2 * k), np.intp), nothing, nothing
        if not listwise:
            drawn = rng.integers(len(self.pairs), size=(steps, k))
            first, second = np.moveaxis(self.pairs[drawn], 2, 0)
            return np.concatenate([first, second], axis=1), self.expected[drawn], np.full_like(nothing, 1 / k)
        drawn = rng.integers(len(self.lists), size=steps)
        elo = self.elo[drawn]
        order = np.lexsort((rng.random(elo.shape), -elo), axis=-1)  # best first, equals in random order
        filled = np.isfinite(elo).sum(axis=1, keepdims=True)
        share = np.asarray((np.arange(places) < filled) / (filled - 1), np.float32)
        return np.take_along_axis(self.lists[drawn], order, axis=1), nothing, share


class Texts(NamedTuple):
    """What all trainings on the same prompts (without the same contestant) share."""

    view: Scaler
    inputs: np.ndarray  # [all texts, components], float32
    base: np.ndarray  # [all texts], float32
    rated: Rated


class Draws(NamedTuple):
    """What one training compares in each of its steps: arrays [steps, …]."""

    rows: np.ndarray  # of texts: a of every preference, b of every preference, then what ``Rated`` drew
    outcome: np.ndarray  # of each preference
    share: np.ndarray  # 1 / preferences in the step; 0 where an epoch's last step is short of them
    expected: np.ndarray  # of each rated pair
    rated_share: np.ndarray
    epochs: int

    @classmethod
    def of(
        cls,
        pairs: np.ndarray,
        outcomes: np.ndarray,
        rated: Rated,
        params: ExperimentConfig,
        epochs: int,
        rng: np.random.Generator,
    ) -> Self:
        """Each epoch all preferences (``pairs`` [n, 2] of rows) in a new order, and what is rated beside each step."""
        n, size = len(pairs), preferences_a_step(len(pairs), params)
        order = np.full((epochs, math.ceil(n / size) * size), -1)  # -1: no preference is left
        order[:, :n] = [rng.permutation(n) for _ in range(epochs)]
        order = order.reshape(-1, size)
        share = np.asarray((order >= 0) / (order >= 0).sum(axis=1, keepdims=True), np.float32)
        a, b = np.moveaxis(pairs[order], 2, 0)
        more, expected, rated_share = rated.draw(len(order), params, rng)
        return cls(np.concatenate([a, b, more], axis=1), outcomes[order], share, expected, rated_share, epochs)
