"""What a head sees of a text: the base's hidden states along the directions in which the training texts differ most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np


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
