"""How training texts let a system see any text: states at one scale, rotated, statistics of those texts alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scaler:
    """Statistics of the training texts alone, by which any text is seen."""

    centre: Array
    """[width of the states]."""
    projection: Array
    """[width of the states, components]."""
    base_scale: float
    """Spread of the base's score within prompts; 1 where it does not vary."""

    @classmethod
    def of(cls, states: NDArray[Any], base_score: NDArray[Any], prompts: NDArray[np.intp], components: int) -> Self:
        """From n training texts: ``states`` [n, width], ``base_score`` [n], ``prompts`` [n] the number of each prompt.

        Scale and axes are of the deviations within prompts: what lies between prompts cancels in every pair. n texts on
        k prompts span at most n − k directions; there are no more components than that.
        """
        width = states.shape[1]
        if not len(states):
            return cls(np.zeros(width), np.zeros((width, 0)), 1.0)
        deviations = within(states, prompts)
        spread = np.sqrt((deviations**2).mean(axis=0))
        spread[spread < 1e-6] = np.inf  # a feature that never varies says nothing
        standard = deviations / spread
        # Eigenvectors of the products on the smaller side, n × n or width × width.
        few = len(standard) <= width
        squares, vectors = np.linalg.eigh(standard @ standard.T if few else standard.T @ standard)
        keep = np.arange(len(squares))[::-1][:components]
        keep = keep[squares[keep] > 1e-9 * max(float(squares[-1]), 1e-9)]
        axes = standard.T @ (vectors[:, keep] / np.sqrt(squares[keep])) if few else vectors[:, keep]
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(keep))])  # the sign is free: fix it
        length = math.sqrt(float((standard**2).sum()) / len(standard)) or 1.0
        base_spread = float(np.sqrt((within(base_score[:, None], prompts) ** 2).mean()))
        centre = states.mean(axis=0, dtype=np.float64)
        return cls(centre, axes / spread[:, None] / length, base_spread if base_spread > 1e-6 else 1.0)

    def inputs(self, states: NDArray[Any]) -> Array:
        """[n, width] → [n, components]: a training text's deviation from its prompt's mean is 1 long on average."""
        return np.asarray((states - self.centre) @ self.projection)

    def base(self, score: NDArray[Any]) -> Array:
        """[n] the base's score over its spread."""
        return np.asarray(score / self.base_scale, np.float64)


def within(values: NDArray[Any], groups: NDArray[np.intp]) -> Array:
    """Deviations [n, d] from the mean of each one's group [n]."""
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    sums = np.add.reduceat(values[order].astype(np.float64), np.cumsum(size) - size, axis=0)
    return np.asarray(values - (sums / size[:, None])[group])


def pool(mean: NDArray[Any], last: NDArray[Any], pooling: str) -> NDArray[Any]:
    """The states that are looked at: [n, d], or [n, 2d] for ``both``."""
    return {"mean": mean, "last": last}[pooling] if pooling != "both" else np.concatenate([mean, last], axis=1)
