"""How training texts let Systems B and C see any text: states at one scale, rotated, statistics of those alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from base.features import Features
from config import ExperimentConfig
from core.ranking import TrainingSet
from core.records import Preference

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Scaler:
    """Statistics of the training texts alone, by which any text is seen."""

    centre: Array  # [width of the states]
    projection: Array  # [width of the states, components]
    base_scale: float  # spread of the base's score within prompts; 1 where it does not vary

    @classmethod
    def of(cls, states: NDArray[Any], base_score: NDArray[Any], prompts: Ints, components: int) -> Self:
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
        return np.asarray(score, np.float64) / self.base_scale


def within(values: NDArray[Any], groups: Ints) -> Array:
    """Deviations [n, d] from the mean of each one's group [n]."""
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    sums = np.add.reduceat(values[order].astype(np.float64), np.cumsum(size) - size, axis=0)
    return np.asarray(values - (sums / size[:, None])[group])


class Texts:
    """All texts that the base has read: n rows."""

    def __init__(self, features: Features, params: ExperimentConfig) -> None:
        self.states = np.concatenate([features.mean, features.last], axis=1)  # [n, width]
        self.score = features.base_score * np.float32(params.base_score)  # [n]
        self.of: dict[str, dict[str, int]] = {}  # prompt id → {model: row}
        for (prompt_id, model), row in features.index.items():
            self.of.setdefault(prompt_id, {})[model] = row
        self._index, self._components = features.index, params.components

    def training(self, s: TrainingSet) -> list[dict[str, int]]:
        """{model: row} of each training prompt, the held-out contestant not among them."""
        rows = (self.of.get(prompt_id, {}) for prompt_id in s.prompt_ids)
        return [{model: row for model, row in prompt.items() if model != s.held_out} for prompt in rows]

    def scaler(self, s: TrainingSet) -> Scaler:
        """The scaler of a training's own texts."""
        prompts = self.training(s)
        rows = np.array([row for prompt in prompts for row in prompt.values()], np.intp)
        number = np.repeat(np.arange(len(prompts)), [len(prompt) for prompt in prompts])
        return Scaler.of(self.states[rows], self.score[rows], number, self._components)

    def pairs(self, preferences: Sequence[Preference]) -> Ints:
        """[preferences, 2] rows of the two texts of each."""
        rows = [(self._index[p.prompt_id, p.model_a], self._index[p.prompt_id, p.model_b]) for p in preferences]
        return np.array(rows, np.intp).reshape(-1, 2)
