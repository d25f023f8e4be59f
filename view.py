"""What a training sees: texts along the directions in which they differ most, and the rated ones among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, Self

import numpy as np

from config import ExperimentConfig
from elo_system import expectation


def pool(mean: np.ndarray, last: np.ndarray, pooling: str) -> np.ndarray:
    """The features of a text, from mean and last hidden states [n, d]: one of them, or [n, 2d] for ``both``."""
    return {"mean": mean, "last": last}[pooling] if pooling != "both" else np.concatenate([mean, last], axis=1)


@dataclass(frozen=True, slots=True)
class View:
    """How training texts let a head see any text: statistics of the training texts alone."""

    centre: np.ndarray
    """[width of the features]."""
    projection: np.ndarray
    """[width of the features, components]: standardizes and rotates."""
    base_scale: float
    """Standard deviation of the base's score over the training texts; 1 where it does not vary."""

    @classmethod
    def of(cls, features: np.ndarray, base_score: np.ndarray, components: int, scale: float) -> Self:
        """The view that training texts give: their ``features`` [n, width] and ``base_score`` [n]."""
        spread = float(base_score.std()) if len(base_score) else 0.0
        return cls(*principal_components(features, components, scale), spread if spread > 1e-6 else 1.0)

    def inputs(self, features: np.ndarray) -> np.ndarray:
        """[texts, width of the features] → [texts, components]."""
        return np.asarray((features - self.centre) @ self.projection, np.float32)

    def base(self, score: np.ndarray) -> np.ndarray:
        """[texts] the base's score / its standard deviation."""
        return np.asarray(score / self.base_scale, np.float32)


def principal_components(features: np.ndarray, components: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Standardize, then keep the directions along which the training texts vary most; together ``scale`` wide.

    Returns centre [d] and projection [d, components]. n texts span at most n − 1 of the d ≫ n dimensions: in the others
    there is nothing to learn, only parameters. Components that few texts leave over are zero.
    """
    width = features.shape[1]
    projection = np.zeros((width, components))
    if not len(features):
        return np.zeros(width), projection
    centre = features.mean(axis=0, dtype=np.float64)
    deviations = features - centre
    spread = deviations.std(axis=0)
    spread[spread < 1e-6] = np.inf  # a feature that never varies says nothing
    standard = deviations / spread
    # Eigenvectors of the products on the smaller side, n × n or d × d: a tenth of the time of a singular decomposition.
    few = len(standard) <= width
    squares, vectors = np.linalg.eigh(standard @ standard.T if few else standard.T @ standard)
    keep = np.arange(len(squares))[::-1][:components]
    keep = keep[squares[keep] > 1e-9 * max(float(squares[-1]), 1e-30)]
    if not len(keep):
        return centre, projection
    axes = standard.T @ (vectors[:, keep] / np.sqrt(squares[keep])) if few else vectors[:, keep]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(keep))])  # the sign is free: fix it
    unit = np.sqrt(squares[keep].mean() / len(features))
    projection[:, : len(keep)] = axes / spread[:, None] * (scale / unit)
    return centre, projection


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

    view: View
    inputs: np.ndarray  # [all texts, components]
    base: np.ndarray  # [all texts]
    rated: Rated
