"""System B: a frozen reward model plus a small head learned from one person's preferences.

    system = RewardModel(features, {"llama3:8b": 1171.0, "gemma3:4b": 1293.0}, params).fit(preferences)
    system.ranking("coder-007")                         # best first

    loss = preference + λ · regularization              # reward_head.py

``preference`` is the cross-entropy of σ(r_a − r_b) against the outcome over the preferences, ``regularization`` the
same against the Elo expectation over all rated pairs of responses to the training prompts (``elo_expectation``). For
comparison there are regularizers that take the Arena's order for certain, whatever the distance: ``ranknet`` (the same
with targets 1 and 0; Burges et al., ICML 2005) and ``listmle`` (over whole prompts; Xia et al., ICML 2008).

How long a head trains is chosen on inner prompts (``chosen_epochs``): ten epochs fit 300 preferences to their noise.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import numpy as np

import inner_choice
from base.features import Features
from base.scaler import Scaler, pool
from config import ExperimentConfig
from core.errors import MissingError, UsageError
from core.files import read_tensors, write_tensors
from core.ranking import Ranker, TrainingSet
from core.records import Preference
from reward_draws import Draws, Rated, Texts, preferences_a_step
from reward_head import Head, first_head, one_thread, rewards, train

FORMAT = 3  # of a saved head
FIX = "Train a new one: run the experiment again (python main.py --persona …)."
CHUNK_FLOATS = 1 << 18  # parameters trained side by side: with gradients and moments they stay in the cache

M = TypeVar("M", bound="RewardModel")


class EpochLoss(NamedTuple):
    """Mean cross-entropies of one epoch, as met while training; ``regularization`` before λ, and 0 where λ is 0."""

    preference: float
    regularization: float


class RewardModel(Ranker):
    """System B. ``history`` has both losses of each epoch of the last training."""

    name = "reward_model"

    def __init__(
        self, features: Features, ratings: Mapping[str, float | None], params: ExperimentConfig, device: str = "cpu"
    ) -> None:
        """``ratings``: global Elo by contestant; None or absent: unrated, left out of the regularization.

        ``device``: where heads are trained, in torch's words, or ``auto``: on a GPU where there is one.
        """
        self._features, self._ratings, self._params, self._device = features, ratings, params, device
        self._pooled = pool(features.mean, features.last, params.pooling)
        self._base_score = features.base_score if params.base_score else np.zeros_like(features.base_score)
        self._responses: dict[str, dict[str, int]] = defaultdict(dict)
        for (prompt_id, model), row in features.index.items():
            self._responses[prompt_id][model] = row
        self._rewards: np.ndarray | None  # of all texts, once they are asked for
        width = self._pooled.shape[1]
        self._learn(Scaler(np.zeros(width), np.zeros((width, 0)), 1.0), self._start()[0])

    def fit(
        self,
        preferences: Sequence[Preference],
        *,
        prompt_ids: Collection[str] | None = None,
        held_out: str | None = None,
    ) -> Self:
        """Train from the start. Without preferences nothing is trained, whatever λ: that is exactly the base."""
        (fitted,) = self.fit_many([TrainingSet.of(preferences, prompt_ids, held_out)])
        return self._learn(fitted._view, fitted._head, fitted.history)

    def fit_many(self, sets: Sequence[TrainingSet], start: Sequence[Self] | None = None) -> list[Self]:
        """All trainings side by side; each depends on the seed and its own set alone, and gives what it gives alone.

        ``start``: fitted models, one a set, from which each goes on, by the parameters of this one.
        """
        if start is None:
            return fit_together([self] * len(sets), sets)
        same = {id(model): model.with_params(self._params) for model in start}
        return fit_together([same[id(model)] for model in start], sets, go_on=True)

    def with_params(self, params: ExperimentConfig, ratings: Mapping[str, float | None] | None = None) -> Self:
        """The same texts and what is learned of them, to be trained further by other parameters or ratings."""
        other = copy.copy(self)
        other._params, other._ratings = params, self._ratings if ratings is None else ratings
        return other

    def scores(self, prompt_id: str) -> dict[str, float]:
        """The reward of every contestant's response to this prompt."""
        if self._rewards is None:
            self._rewards = self._reward(self._pooled, self._base_score)
        return {model: float(self._rewards[row]) for model, row in self._responses[prompt_id].items()}

    def score_features(self, mean: np.ndarray, last: np.ndarray, base_score: np.ndarray) -> np.ndarray:
        """Rewards [n] of new texts from their vectors: ``mean`` and ``last`` [n, d], ``base_score`` [n]."""
        return self._reward(pool(mean, last, self._params.pooling), base_score * float(self._params.base_score))

    def _learn(self, view: Scaler, head: Head, history: tuple[EpochLoss, ...] = ()) -> Self:
        self._view, self._head, self.history, self._rewards = view, head, history, None
        return self

    def _reward(self, pooled: np.ndarray, base_score: np.ndarray) -> np.ndarray:
        base, inputs = self._base(self._view, base_score), self._inputs(self._view, pooled)
        with one_thread():
            return np.asarray(_rewards([self._head], base, inputs, self._params.base_reach)[0])

    # ── What a training looks at ──

    def _start(self) -> tuple[Head, np.random.Generator]:
        """The head from which every training of this seed starts, and the generator of all draws after it."""
        rng = np.random.default_rng(self._params.random_seed)
        return first_head(self._params.components, self._params.hidden_width, rng), rng

    def _texts(self, s: TrainingSet, view: Scaler | None) -> Texts:
        p = self._params
        prompts = [
            [(row, self._ratings.get(m)) for m, row in self._responses.get(prompt, {}).items() if m != s.held_out]
            for prompt in s.prompt_ids
        ]
        rows = np.array([row for prompt in prompts for row, _ in prompt], np.intp)
        number = np.repeat(np.arange(len(prompts)), [len(prompt) for prompt in prompts])
        view = view or Scaler.of(self._pooled[rows], self._base_score[rows], number, p.components)
        rated = [[(row, elo) for row, elo in prompt if elo is not None] for prompt in prompts]
        places = max(map(len, self._responses.values()), default=0)
        inputs, base = self._inputs(view, self._pooled), self._base(view, self._base_score)
        return Texts(view, inputs, base, Rated.of(rated, places, p.regularizer))

    def _inputs(self, view: Scaler, pooled: np.ndarray) -> np.ndarray:
        """[n, components], as wide as ``input_scale`` says; zero where the training texts span fewer directions."""
        seen = view.inputs(pooled) * (self._params.input_scale * math.sqrt(self._params.components))
        return np.pad(seen, ((0, 0), (0, self._params.components - seen.shape[1]))).astype(np.float32)

    def _base(self, view: Scaler, score: np.ndarray) -> np.ndarray:
        return view.base(score).astype(np.float32)

    def _rows(self, preferences: Sequence[Preference]) -> np.ndarray:
        """[n, 2] rows of the two texts of each. Raises UsageError where one has no features."""
        index = self._features.index
        try:
            return np.array([(index[p.prompt_id, p.model_a], index[p.prompt_id, p.model_b]) for p in preferences])
        except KeyError as error:
            raise UsageError(f"A preference is about a response without features: {error}") from error

    def _draw(self, s: TrainingSet, texts: Texts, epochs: int) -> Draws:
        rows, outcomes = self._rows(s.preferences), np.array([p.outcome for p in s.preferences], np.float32)
        return Draws.of(rows, outcomes, texts.rated, self._params, epochs, self._start()[1])

    # ── Saving ──

    def save(self, path: Path) -> None:
        """The head, its view of texts and all its parameters, as safetensors; atomic."""
        about = {
            "format": FORMAT,
            "base": self._features.base,
            "base_scale": self._view.base_scale,
            "config": dataclasses.asdict(self._params),
            "history": self.history,
        }
        view = {"centre": self._view.centre, "projection": self._view.projection}
        write_tensors(path, {**view, **self._head}, {"about": json.dumps(about)})

    @classmethod
    def load(cls, path: Path, features: Features, ratings: Mapping[str, float | None]) -> Self:
        """A saved head over ``features``, with the parameters with which it was trained.

        Raises MissingError where there is none, UsageError where it is damaged or belongs to another base or version.
        """
        try:
            tensors, metadata = read_tensors(path)
            about = json.loads(metadata["about"])
            if about["format"] != FORMAT:
                raise ValueError(f"it has format {about['format']}, this version reads {FORMAT}")
            model = cls(features, ratings, ExperimentConfig.from_dict(about["config"]))
            view = Scaler(tensors["centre"], tensors["projection"], float(about["base_scale"]))
            head = {name: tensors[name] for name in model._head}
            history = tuple(EpochLoss(*epoch) for epoch in about["history"])
        except FileNotFoundError as error:
            raise MissingError(f"No trained head at {path}. {FIX}") from error
        except (KeyError, ValueError, TypeError) as error:
            raise UsageError(f"Trained head {path} cannot be read ({error}); it was left as it is. {FIX}") from error
        if about["base"] != features.base or len(view.centre) != model._pooled.shape[1]:
            raise UsageError(f"The head {path} was trained on the base {about['base']}, not {features.base}. {FIX}")
        return model._learn(view, head, history)


# ── Many trainings side by side ──────────────────────────────────────────────────────────────────────────


def fit_together(models: Sequence[M], sets: Sequence[TrainingSet], *, go_on: bool = False) -> list[M]:
    """A training of each model on its set, those of the same parameters side by side; the models stay as they are.

    ``go_on``: for all epochs, from what each model has learned, with its view of texts, instead of from the start.
    """
    epochs = [model._params.max_epochs for model in models] if go_on else chosen_epochs(models, sets)
    trained = _train(models, sets, epochs, go_on=go_on)
    return [copy.copy(m)._learn(t.texts.view, t.heads[-1], t.history) for m, t in zip(models, trained, strict=True)]


def chosen_epochs(models: Sequence[RewardModel], sets: Sequence[TrainingSet]) -> list[int]:
    """How many epochs each set is trained for: the fewest after which inner prompts are predicted well enough.

    ``max_epochs`` where there are too few preferences to choose by.
    """
    epochs = [model._params.max_epochs for model in models]
    choosing: dict[tuple[int, TrainingSet], list[int]] = defaultdict(list)
    for i, (model, s) in enumerate(zip(models, sets, strict=True)):
        choosable = min(model._params.inner_folds, model._params.max_epochs) > 1
        if choosable and (first := inner_choice.beginning(s)):
            choosing[id(model), first].append(i)
    parts = []
    for key, chosen in choosing.items():
        model = models[chosen[0]]
        found = inner_choice.parts(key[1], model._params.inner_folds, model._params.random_seed)
        parts += [(key, model, part) for part in found]
    most = [model._params.max_epochs for _, model, _ in parts]
    trained = _train([m for _, m, _ in parts], [part.training for *_, part in parts], most, each_epoch=True)
    losses: dict[tuple[int, TrainingSet], list[np.ndarray]] = defaultdict(list)
    with one_thread():
        for (key, model, part), (texts, heads, _) in zip(parts, trained, strict=True):
            rows, reach = model._rows(part.tests).T, model._params.base_reach
            a, b = (_rewards(heads, texts.base[side], texts.inputs[side], reach) for side in rows)
            losses[key] += inner_choice.cross_entropies(a - b, part.tests)
    for key, chosen in choosing.items():
        for i in chosen:
            epochs[i] = int(inner_choice.good_enough(losses[key]).argmax()) + 1
    return epochs


class _Training(NamedTuple):
    """One training: what it looked at, the head at its end (or after each epoch), its losses by epoch."""

    texts: Texts
    heads: Sequence[Head]
    history: tuple[EpochLoss, ...]


def _train(
    models: Sequence[RewardModel],
    sets: Sequence[TrainingSet],
    epochs: Sequence[int],
    *,
    go_on: bool = False,
    each_epoch: bool = False,
) -> list[_Training]:
    """Each model's training on its set, for so many epochs; those of the same parameters side by side."""
    from tqdm import tqdm

    shared: dict[tuple[int, tuple[str, ...], str | None], Texts] = {}
    texts = []
    for model, s in zip(models, sets, strict=True):
        kind = id(model), s.prompt_ids, s.held_out
        if kind not in shared:
            shared[kind] = model._texts(s, model._view if go_on else None)
        texts.append(shared[kind])
    first = [model._head if go_on else model._start()[0] for model in models]
    found = [_Training(t, [head], ()) for t, head in zip(texts, first, strict=True)]
    alike: dict[tuple[ExperimentConfig, str, int], list[int]] = defaultdict(list)
    for i in range(len(sets)):
        if sets[i].preferences:
            step = preferences_a_step(len(sets[i].preferences), models[i]._params)
            alike[models[i]._params, models[i]._device, step].append(i)
    # a bar only where there is time to see it, and a terminal to see it in
    bar = tqdm(total=sum(map(len, alike.values())), desc="training", disable=None, leave=False, delay=0.5)
    with bar, one_thread():
        for (params, device, step), order in alike.items():
            order.sort(key=lambda i: -epochs[i] * math.ceil(len(sets[i].preferences) / step))  # the longest first
            size = max(1, CHUNK_FLOATS // sum(array.size for array in first[order[0]].values()))
            for k in range(0, len(order), size):  # what a chunk draws is forgotten with it
                chunk = order[k : k + size]
                draws = [models[i]._draw(sets[i], texts[i], epochs[i]) for i in chunk]
                starts = [first[i] for i in chunk]
                trained = train(draws, [texts[i] for i in chunk], starts, params, device, each_epoch=each_epoch)
                for i, (heads, losses) in zip(chunk, trained, strict=True):
                    found[i] = _Training(texts[i], heads, _history(losses, len(sets[i].preferences), step, epochs[i]))
                bar.update(len(chunk))
    return found


def _history(losses: np.ndarray, n: int, step: int, epochs: int) -> tuple[EpochLoss, ...]:
    """Means over each epoch's n preferences, and over its steps, from the losses [steps, 2] of one training."""
    preference, regularization = losses.reshape(epochs, -1, 2).transpose(2, 0, 1)
    counts = np.diff([*range(0, n, step), n])
    means = np.average(preference, axis=1, weights=counts), regularization.mean(axis=1)
    return tuple(EpochLoss(float(a), float(b)) for a, b in zip(*means, strict=True))


def _rewards(heads: Sequence[Head], base: np.ndarray, inputs: np.ndarray, reach: float) -> np.ndarray:
    """[heads, texts] of the same texts: ``base`` [texts], ``inputs`` [texts, components]."""
    import torch

    stacked = {name: torch.from_numpy(np.stack([head[name] for head in heads])) for name in heads[0]}
    n, wide = len(heads), (torch.from_numpy(base)[None, None], torch.from_numpy(inputs)[None])
    found = rewards(stacked, wide[0].expand(n, -1, -1), wide[1].expand(n, -1, -1), reach)
    return np.asarray(found.numpy(), np.float64)
