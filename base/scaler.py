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


def scaled(
    states: NDArray[Any], base_score: NDArray[Any], rows: Ints, prompts: Ints, components: int
) -> tuple[Array, Array, dict[str, Any]]:
    """All n texts as k training texts let them be seen: inputs [n, components], in which a training text's deviation
    from its prompt's mean is 1 long on average; the base's score over its spread within prompts [n]; and the statistics
    that both are made by.

    ``states`` [n, width], ``base_score`` [n], ``rows`` [k] of the training texts, ``prompts`` [k] the number of each
    one's prompt. Scale and axes are of the deviations within prompts: what lies between prompts cancels in every pair.
    k texts on p prompts span at most k − p directions; there are no more components than that.
    """
    if not len(rows):
        return np.zeros((len(states), 0)), base_score.astype(np.float64), {}
    deviations = within(states[rows], prompts)
    spread = np.sqrt((deviations**2).mean(axis=0))
    spread[spread < 1e-6] = np.inf  # a feature that never varies says nothing
    standard = deviations / spread
    # Eigenvectors of the products on the smaller side, k × k or width × width.
    few = len(standard) <= states.shape[1]
    squares, vectors = np.linalg.eigh(standard @ standard.T if few else standard.T @ standard)
    keep = np.arange(len(squares))[::-1][:components]
    keep = keep[squares[keep] > 1e-9 * max(float(squares[-1]), 1e-9)]
    axes = standard.T @ (vectors[:, keep] / np.sqrt(squares[keep])) if few else vectors[:, keep]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(keep))])  # the sign is free: fix it
    length = math.sqrt(float((standard**2).sum()) / len(standard)) or 1.0
    centre, projection = states[rows].mean(axis=0, dtype=np.float64), axes / spread[:, None] / length
    base_spread = float(np.sqrt((within(base_score[rows, None], prompts) ** 2).mean()))
    base_scale = base_spread if base_spread > 1e-6 else 1.0  # 1 where it does not vary
    about = {"centre": centre, "projection": projection, "base_scale": base_scale}
    return (states - centre) @ projection, base_score.astype(np.float64) / base_scale, about


def within(values: NDArray[Any], groups: Ints) -> Array:
    """Deviations [n, d] from the mean of each one's group [n]."""
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    sums = np.add.reduceat(values[order].astype(np.float64), np.cumsum(size) - size, axis=0)
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
        """All texts as a training's own let them be seen: see ``scaled``."""
        prompts = self.training(s)
        rows = np.array([row for prompt in prompts for row in prompt.values()], np.intp)
        number = np.repeat(np.arange(len(prompts)), [len(prompt) for prompt in prompts])
        return scaled(self._states, self._score, rows, number, self._components)

    def pairs(self, preferences: Sequence[Preference]) -> Ints:
        """[preferences, 2] rows of the two texts of each."""
        rows = [(self._index[p.prompt_id, p.model_a], self._index[p.prompt_id, p.model_b]) for p in preferences]
        return np.array(rows, np.intp).reshape(-1, 2)
