"""How training texts let a system see any text: states at one scale, rotated, statistics of those texts alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class View:
    """Statistics of the training texts alone, by which any text is seen."""

    centre: Array
    """[width of the states]."""
    projection: Array
    """[width of the states, components]."""
    base_scale: float
    """Spread of the base's score within prompts; 1 where it does not vary."""


def view_of(states: NDArray[Any], base_score: NDArray[Any], prompts: NDArray[np.intp], components: int) -> View:
    """Scale and axes of n training texts from their deviations within ``prompts`` [n]: what lies between prompts
    cancels in every pair."""
    width = states.shape[1]
    if not len(states):
        return View(np.zeros(width), np.zeros((width, 0)), 1.0)
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
    return View(centre, axes / spread[:, None] / length, base_spread if base_spread > 1e-6 else 1.0)


def within(values: NDArray[Any], groups: NDArray[np.intp]) -> Array:
    """Deviations [n, d] from the mean of each one's group [n]."""
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(size), values.shape[1]))
    np.add.at(sums, group, values)
    return np.asarray(values - (sums / size[:, None])[group])


def pool(mean: NDArray[Any], last: NDArray[Any], pooling: str) -> NDArray[Any]:
    """The states that are looked at: [n, d], or [n, 2d] for ``both``."""
    return {"mean": mean, "last": last}[pooling] if pooling != "both" else np.concatenate([mean, last], axis=1)
