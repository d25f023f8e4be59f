"""System B: a frozen reward model plus a small head learned from one person's preferences.

    reward(x, y) = base score / its standard deviation + MLP(standardized features of x, y)

The MLP has one hidden layer and a direct way past it (docs/head_choice.md). All that leads to its output starts at
zero: before any preference System B *is* the base, and it moves from there. The loss is the cross-entropy of
σ(r_a − r_b) against the outcome over the preferences, + λ × the same against the Elo expectation over all rated pairs
of responses to the training prompts (``elo_expectation``). Other regularizers, for comparison, take the Arena's order
for certain, whatever the distance: ``ranknet`` (the same with targets 1 and 0; Burges et al., ICML 2005) and
``listmle`` (over whole prompts, see listmle.py).
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

import heads
from base.features import Features
from config import ExperimentConfig
from core.errors import MissingError, UsageError
from core.ranking import Ranker, TrainingSet
from core.records import Preference
from listmle import Lists

FORMAT = 1  # of a saved head
MEND = "Train a new one: run the experiment again (python main.py --persona …)."
RANK_PAIRS = 4  # rated pairs drawn each step for the regularization: it is weighed lightly, so a few suffice

# See docs/head_choice.md for both. Training texts fewer than components leave the rest empty.
COMPONENTS = 128  # directions of the standardized features that the head sees
INPUT_SCALE = 6.0  # standard deviation of its inputs: at 1, ten epochs of steps of 1e-4 end before the taste is found


class EpochLoss(NamedTuple):
    """Mean cross-entropies of one epoch, as met while training; ``regularization`` before λ, and 0 where λ is 0."""

    preference: float
    regularization: float


@dataclass(frozen=True, slots=True)
class View:
    """How training texts let a head see any text: statistics of the training texts alone."""

    centre: np.ndarray
    """[width of the features]."""
    projection: np.ndarray
    """[width of the features, components]: standardizes and rotates."""
    base_scale: float
    """Standard deviation of the base's score over the training texts; 1 where it does not vary."""

    def inputs(self, features: np.ndarray) -> np.ndarray:
        """[texts, width of the features] → [texts, components + 1], the last being the constant of the bias."""
        seen = (features - self.centre) @ self.projection
        return np.concatenate([seen, np.ones((len(seen), 1))], axis=1).astype(np.float32)


Projector = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(training features [n, d], number of each one's prompt [n]) → (centre [d], projection [d, components])."""


def principal_components(
    features: np.ndarray, _prompts: np.ndarray, components: int = COMPONENTS, scale: float = INPUT_SCALE
) -> tuple[np.ndarray, np.ndarray]:
    """Standardize, then keep the directions along which the training texts vary most; together ``scale`` wide.

    n texts span at most n − 1 of the d ≫ n dimensions: in the others there is nothing to learn, only parameters.
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


def elo_expectation(a: float, b: float) -> float:
    """Probability that a is preferred to b: Elo (1978), base 10, scale 400."""
    return float(1.0 / (1.0 + 10.0 ** ((b - a) / 400.0)))


@dataclass(frozen=True, slots=True)
class _Material:
    """What all trainings on the same prompts (without the same contestant) share."""

    view: View
    inputs: np.ndarray
    """[all texts, components + 1]."""
    base: np.ndarray
    """[all texts] base score / its standard deviation."""
    rated: np.ndarray
    """[pairs, 2] rows of all rated pairs of responses to the training prompts."""
    expectation: np.ndarray
    """[pairs] that the first is preferred."""
    lists: Lists
    """The same responses by prompt, for ``listmle``."""


class RewardModel(Ranker):
    """System B. ``history`` has both losses of each epoch of the last training."""

    name = "reward_model"

    def __init__(
        self,
        features: Features,
        ratings: Mapping[str, float | None],
        config: ExperimentConfig,
        projector: Projector = principal_components,
    ) -> None:
        """``ratings``: global Elo by contestant, None or absent: unrated, its pairs are left out of the
        regularization."""
        self.history: tuple[EpochLoss, ...] = ()
        self._features, self._ratings, self._config, self._projector = features, ratings, config, projector
        self._pooled = pool(features.mean, features.last, config.pooling)
        self._base_score = features.base_score if config.base_score else np.zeros_like(features.base_score)
        self._responses: dict[str, dict[str, int]] = defaultdict(dict)
        for (prompt_id, model), row in features.index.items():
            self._responses[prompt_id][model] = row
        self._places = max(map(len, self._responses.values()), default=0)
        self._view = View(np.zeros(self._pooled.shape[1]), np.zeros((self._pooled.shape[1], 0)), 1.0)
        self._head = np.zeros(heads.parameter_count(1, config.hidden_width), np.float32)
        self._rewards: np.ndarray | None = None

    def fit(
        self,
        preferences: Sequence[Preference],
        *,
        prompt_ids: Collection[str] | None = None,
        held_out: str | None = None,
    ) -> Self:
        """Train from the start. Without preferences nothing is trained, whatever λ: that is exactly the base."""
        fitted = self.fit_many([TrainingSet.of(preferences, prompt_ids, held_out)])[0]
        self.__dict__.update(fitted.__dict__)
        return self

    def fit_many(self, sets: Sequence[TrainingSet], start: Self | None = None) -> list[Self]:
        """All trainings side by side; each depends on the seed and its own set alone, and gives what it gives alone.

        ``start``: a fitted model from whose head, and with whose view of texts, every training goes on.
        """
        shared: dict[tuple[tuple[str, ...], str | None], _Material] = {}
        materials = []
        for s in sets:
            key = (s.prompt_ids, s.held_out)
            if key not in shared:
                shared[key] = self._material(s, start._view if start else None)
            materials.append(shared[key])
        first, plans = [], []
        for s, material in zip(sets, materials, strict=True):
            rng = np.random.default_rng(self._config.random_seed)
            drawn = heads.initial(material.inputs.shape[1], self._config.hidden_width, rng)
            first.append(start._head if start else drawn)
            plans.append(self._plan(s, material, rng))
        config = self._config
        trained, losses = heads.train(plans, first, config.hidden_width, config.learning_rate, config.weight_decay)
        return [self._with(*parts) for parts in zip(sets, materials, trained, losses, strict=True)]

    def scores(self, prompt_id: str) -> dict[str, float]:
        """The reward of every contestant's response to this prompt."""
        if self._rewards is None:
            self._rewards = self._reward(self._pooled, self._base_score)
        return {model: float(self._rewards[row]) for model, row in self._responses[prompt_id].items()}

    def score_features(self, mean: np.ndarray, last: np.ndarray, base_score: np.ndarray) -> np.ndarray:
        """Rewards [n] of new texts from their vectors: ``mean`` and ``last`` [n, d], ``base_score`` [n]."""
        return self._reward(pool(mean, last, self._config.pooling), base_score * float(self._config.base_score))

    # ── Training ──

    def _material(self, s: TrainingSet, view: View | None) -> _Material:
        texts = [
            (row, number, model)
            for number, prompt_id in enumerate(s.prompt_ids)
            for model, row in self._responses.get(prompt_id, {}).items()
            if model != s.held_out
        ]
        rows = np.array([row for row, _, _ in texts], np.intp)
        view = view or self._view_of(rows, np.array([number for _, number, _ in texts], np.intp))
        rated = [t for t in texts if self._ratings.get(t[2]) is not None]
        by_prompt = [list(same) for _, same in groupby(rated, key=itemgetter(1))]
        pairs = [pair for same in by_prompt for pair in combinations(same, 2)]
        return _Material(
            view,
            view.inputs(self._pooled),
            self._base_score / view.base_scale,
            np.array([(a[0], b[0]) for a, b in pairs], np.intp).reshape(-1, 2),
            np.array([self._expected(self._elo(a[2]), self._elo(b[2])) for a, b in pairs]),
            Lists.of([(number, row, self._elo(model)) for row, number, model in rated], self._places),
        )

    def _expected(self, a: float, b: float) -> float:
        return float(0.5 + 0.5 * np.sign(a - b)) if self._config.regularizer == "ranknet" else elo_expectation(a, b)

    def _view_of(self, rows: np.ndarray, prompts: np.ndarray) -> View:
        centre, projection = self._projector(self._pooled[rows], prompts)
        spread = float(self._base_score[rows].std()) if len(rows) else 0.0
        return View(centre, projection, spread if spread > 1e-6 else 1.0)

    def _elo(self, model: str) -> float:
        rating = self._ratings[model]
        assert rating is not None
        return rating

    def _plan(self, s: TrainingSet, material: _Material, rng: np.random.Generator) -> heads.Plan:
        """Every draw of one training: each epoch all preferences in a new order, and rated pairs beside each step."""
        c, n = self._config, len(s.preferences)
        steps = -(-n // c.batch_size)
        order = np.full((c.max_epochs, steps * c.batch_size), -1)
        for epoch in range(c.max_epochs):
            order[epoch, :n] = rng.permutation(n)
        order = order.reshape(-1, c.batch_size)
        seen = order >= 0
        pairs = np.array([self._rows(p) for p in s.preferences], np.intp).reshape(-1, 2)
        outcomes = np.array([p.outcome for p in s.preferences])
        columns = [pairs[order], outcomes[order], seen / np.maximum(1, seen.sum(axis=1, keepdims=True))] if n else [
            np.zeros((0, c.batch_size, 2), np.intp), np.zeros((0, c.batch_size)), np.zeros((0, c.batch_size))
        ]  # fmt: skip
        if c.lambda_reg > 0 and c.regularizer != "listmle":
            weight = c.lambda_reg / RANK_PAIRS if len(material.rated) else 0.0
            drawn = rng.integers(max(1, len(material.rated)), size=(len(order), RANK_PAIRS))
            rated, expected = material.rated, material.expectation
            if not len(rated):
                rated, expected = np.zeros((1, 2), np.intp), np.zeros(1)
            extra = [rated[drawn], expected[drawn], np.full(drawn.shape, weight)]
            columns = [np.concatenate(both, axis=1) for both in zip(columns, extra, strict=True)]
        rows, target, weights = columns
        margin = material.base[rows[..., 0]] - material.base[rows[..., 1]]
        plan = heads.Plan(rows[..., 0], rows[..., 1], margin, target, weights, material.inputs)
        if c.lambda_reg > 0 and c.regularizer == "listmle":
            listed, count = material.lists.draw(len(order), rng)
            plan = dataclasses.replace(
                plan, listed=listed, listed_base=material.base[listed], listed_count=count, list_weight=c.lambda_reg
            )
        return plan

    def _rows(self, p: Preference) -> tuple[int, int]:
        index = self._features.index
        try:
            return index[p.prompt_id, p.model_a], index[p.prompt_id, p.model_b]
        except KeyError as error:
            raise UsageError(f"A preference is about a response without features: {error}") from error

    def _with(self, s: TrainingSet, material: _Material, head: np.ndarray, losses: np.ndarray) -> Self:
        fitted = copy.copy(self)
        fitted._view, fitted._head, fitted._rewards = material.view, head, None
        fitted.history = self._epochs(losses, len(s.preferences), bool(len(material.rated)))
        return fitted

    def _epochs(self, losses: np.ndarray, n: int, regularized: bool) -> tuple[EpochLoss, ...]:
        """Mean losses of each epoch from the cross-entropies [steps, pairs] of one training."""
        if not n:
            return ()
        size = self._config.batch_size
        by_epoch = losses.reshape(self._config.max_epochs, -1, losses.shape[1])
        preference = by_epoch[:, :, :size].reshape(self._config.max_epochs, -1)[:, :n].mean(axis=1)
        rank = by_epoch[:, :, size:].mean(axis=(1, 2)) if regularized and losses.shape[1] > size else 0 * preference
        return tuple(EpochLoss(float(a), float(b)) for a, b in zip(preference, rank, strict=True))

    def _reward(self, pooled: np.ndarray, base_score: np.ndarray) -> np.ndarray:
        added = heads.outputs(self._head, self._view.inputs(pooled), self._config.hidden_width)
        return np.asarray(base_score / self._view.base_scale + added, dtype=np.float64)

    # ── Saving ──

    def save(self, path: Path) -> None:
        """The head, its view of texts and all its parameters, as safetensors; atomic."""
        from safetensors.numpy import save_file

        about = {
            "format": FORMAT,
            "base": self._features.base,
            "base_scale": self._view.base_scale,
            "config": dataclasses.asdict(self._config),
            "history": self.history,
        }
        tensors: dict[str, np.ndarray] = {
            "centre": self._view.centre.astype(np.float64),
            "projection": np.ascontiguousarray(self._view.projection, np.float64),
            "head": np.ascontiguousarray(self._head),
        }
        temporary = path.with_name(f".{path.name}.new")
        save_file(tensors, temporary, metadata={"about": json.dumps(about)})
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path, features: Features, ratings: Mapping[str, float | None]) -> Self:
        """A saved head over ``features``, with the parameters with which it was trained.

        Raises MissingError where there is none, UsageError where it is damaged or belongs to another base or version.
        """
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            raise MissingError(f"No trained head at {path}. {MEND}")
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})["about"])
                tensors = {key: file.get_tensor(key) for key in ("centre", "projection", "head")}
            if about["format"] != FORMAT:
                raise ValueError(f"it has format {about['format']}, this version reads {FORMAT}")
            model = cls(features, ratings, ExperimentConfig.from_dict(about["config"]))
            view = View(tensors["centre"], tensors["projection"], float(about["base_scale"]))
            history = tuple(EpochLoss(*epoch) for epoch in about["history"])
        except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
            raise UsageError(
                f"The trained head {path} cannot be read ({error}); it was left as it is. {MEND}"
            ) from error
        if about["base"] != features.base or len(view.centre) != model._pooled.shape[1]:
            raise UsageError(f"The head {path} was trained on the base {about['base']}, not {features.base}. {MEND}")
        model._view, model._head, model.history = view, tensors["head"], history
        return model


def pool(mean: np.ndarray, last: np.ndarray, pooling: str) -> np.ndarray:
    """The feature the head works on: [n, d], or [n, 2d] for ``both``."""
    return {"mean": mean, "last": last}[pooling] if pooling != "both" else np.concatenate([mean, last], axis=1)
