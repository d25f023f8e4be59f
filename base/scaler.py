"""How training texts let Systems B and C see any text: states at one scale, rotated, statistics of those alone."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from base.features import Features
from config import ExperimentConfig
from core.ranking import TrainingSet
from core.records import Preference

Array = NDArray[np.float64]
Ints = NDArray[np.intp]


def within(values: NDArray[Any], groups: Ints) -> Array:
    """Deviations [n, d] from the mean of each one's group [n], where every group stands together."""
    _, first, group, size = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    sums = np.add.reduceat(values.astype(np.float64), first, axis=0)
    return np.asarray(values - (sums / size[:, None])[group])


class Texts:
    """All texts that the base has read: n rows."""

    def __init__(self, features: Features, params: ExperimentConfig) -> None:
        self._states = np.concatenate([features.mean, features.last], axis=1)  # [n, width]
        self._score = features.base_score * np.float32(params.base_score)  # [n]
        self.of: dict[str, dict[str, int]] = {}  # prompt id → {model: row}
        for (prompt_id, model), row in features.index.items():
            self.of.setdefault(prompt_id, {})[model] = row
        self._index, self._components = features.index, params.components

    def training(self, s: TrainingSet) -> list[dict[str, int]]:
        """{model: row} of each training prompt, the held-out contestant not among them."""
        rows = (self.of.get(prompt_id, {}) for prompt_id in s.prompt_ids)
        return [{model: row for model, row in prompt.items() if model != s.held_out} for prompt in rows]

    def seen(self, s: TrainingSet) -> tuple[Array, Array, dict[str, Any]]:
        """All n texts as k training texts let them be seen: inputs [n, components], in which a training text's
        deviation from its prompt's mean is 1 long on average; the base's score over its spread within prompts [n]; and
        the statistics that both are made by.

        Scale and axes are of the deviations within prompts: what lies between prompts cancels in every pair. k texts on
        p prompts span at most k − p directions; there are no more components than that.
        """
        training = self.training(s)
        rows = np.array([row for prompt in training for row in prompt.values()], np.intp)
        prompts = np.repeat(np.arange(len(training)), [len(prompt) for prompt in training])
        if not len(rows):
            return np.zeros((len(self._states), 0)), self._score.astype(np.float64), {}
        deviations = within(self._states[rows], prompts)
        spread = np.sqrt((deviations**2).mean(axis=0))
        spread[spread < 1e-6] = np.inf  # a feature that never varies says nothing
        standard = deviations / spread
        # Eigenvectors of the products on the smaller side, k × k or width × width.
        few = len(standard) <= self._states.shape[1]
        squares, vectors = np.linalg.eigh(standard @ standard.T if few else standard.T @ standard)
        keep = np.arange(len(squares))[::-1][: self._components]
        keep = keep[squares[keep] > 1e-9 * max(float(squares[-1]), 1e-9)]
        axes = standard.T @ (vectors[:, keep] / np.sqrt(squares[keep])) if few else vectors[:, keep]
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(keep))])  # the sign is free: fix it
        length = math.sqrt(float((standard**2).sum()) / len(standard)) or 1.0
        centre, projection = self._states[rows].mean(axis=0, dtype=np.float64), axes / spread[:, None] / length
        base_spread = float(np.sqrt((within(self._score[rows, None], prompts) ** 2).mean()))
        base_scale = base_spread if base_spread > 1e-6 else 1.0  # 1 where it does not vary
        about = {"centre": centre, "projection": projection, "base_scale": base_scale}
        return (self._states - centre) @ projection, self._score.astype(np.float64) / base_scale, about

    def pairs(self, preferences: Sequence[Preference]) -> Ints:
        """[preferences, 2] rows of the two texts of each."""
        rows = [(self._index[p.prompt_id, p.model_a], self._index[p.prompt_id, p.model_b]) for p in preferences]
        return np.array(rows, np.intp).reshape(-1, 2)
