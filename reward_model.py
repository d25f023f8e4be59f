"""System B: a frozen reward model, and a small head on it that learns one person's preferences.

    model = RewardModel(features, {"llama3:8b": 1171.0, "gemma3:4b": 1293.0}, params).fit(preferences)
    model.scores("coder-007")                           # {model: the reward of its response}

    reward(x, y) = β · base score / its spread within prompts + MLP(inputs of x, y)
    loss         = preference + λ · regularization

Frozen is the base, a language model that others trained to score answers. It read every text once (``base/``) and is
not here any more: what it made of response y to prompt x comes as ``features``, its score and its hidden states, which
are the MLP's inputs once they are at one scale (``base/scaler.py``).

Learned are β and an MLP of one hidden layer with a direct way past it, some 1,200 numbers. All that leads to the MLP's
output starts at zero and β at 1: before any preference the reward *is* the base's, and it moves from there.

``preference`` asks that of the two responses of each judged pair the preferred one has the higher reward: the
cross-entropy of σ(r_a − r_b) against the outcome (Christiano et al., NeurIPS 2017). ``regularization`` asks the same of
what the global Elo ratings expect, over rated pairs of responses to the training prompts, judged or not: it keeps the
rewards near the Arena's order where nothing was judged. λ is its weight beside the preferences, and 0 exactly none.

In the tiny steps of a training the interpreter costs more than the arithmetic: trainings that differ only in their data
(points of a curve, folds, people) run side by side, as n heads in one batch, and each gives what it gives alone.
"""

import copy
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from itertools import combinations, groupby
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, embedding

from base import device as base_device
from base.features import Features
from base.scaler import Texts
from config import ExperimentConfig
from core.clock import bar
from core.files import write_tensors
from core.ranking import Ranker, TrainingSet
from elo_system import expectation

FIRST_LAYER = 0.1  # the direct way learns first, the hidden layer what is left
STEPS_AN_EPOCH = 100  # at most: more preferences make larger batches, not a longer training
MEAN_DECAY, SQUARE_DECAY = 0.9, 0.999  # Adam's β₁ and β₂
EPSILON = 1e-6  # above the rounding of a float32 gradient, which Adam would magnify where the true one is zero
LOSSES = ("preference_loss", "regularization_loss")  # the second before λ, and 0 where λ is 0
CHUNK_FLOATS = 1 << 18  # weights trained side by side: with gradients and moments they stay in the processor's cache


# ── The head ─────────────────────────────────────────────────────────────────────────────────────────────


def first_head(params: ExperimentConfig) -> np.ndarray:
    """[weights] of a head that adds nothing yet: only its hidden layer is not zero.

    That is drawn as by He et al. (ICCV 2015) for ReLU, but small.
    """
    c, h = params.components, params.hidden_width
    rng, scale = np.random.default_rng(params.random_seed), FIRST_LAYER * math.sqrt(2.0 / (c + 1))
    drawn = rng.normal(0.0, scale, (c + 1) * h)  # with the biases
    return np.concatenate([drawn, np.zeros(h + c + 1)]).astype(np.float32)


def layers(heads: Tensor, params: ExperimentConfig) -> dict[str, Tensor]:
    """{name: [n, in, out]} of n heads [n, weights]: views, through which gradients flow."""
    c, h = params.components, params.hidden_width
    shapes = {"hidden": (c, h), "bias": (1, h), "output": (h, 1), "direct": (c, 1), "base": (1, 1)}
    parts = torch.split(heads, [rows * columns for rows, columns in shapes.values()], dim=1)
    return {name: part.view(len(heads), *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def rewards(heads: Tensor, inputs: Tensor, base: Tensor, params: ExperimentConfig) -> Tensor:
    """[n, texts] of n heads side by side: ``inputs`` [n, texts, components], ``base`` [n, texts]."""
    w = layers(heads, params)
    # The learned part of β has a reach of its own: at the learning rate of all other weights it would hardly move.
    beta = 1.0 + params.base_reach * w["base"].squeeze(2)
    hidden = (inputs @ w["hidden"] + w["bias"]).relu()
    learned = inputs @ w["direct"] + hidden @ w["output"]
    return beta * base + learned.squeeze(2)  # no constant: it would cancel wherever two rewards are compared


# ── What a training sees ─────────────────────────────────────────────────────────────────────────────────


class Shared(NamedTuple):
    """All that trainings on the same prompts (without the same contestant) share."""

    inputs: np.ndarray  # [all texts, components]
    base: np.ndarray  # [all texts] the base's score over its spread
    scaler: dict[str, Any]  # by what the training texts let all be seen: for people who look
    rated: np.ndarray  # [pairs, 2] rows of all rated pairs of responses to the same training prompt
    expected: np.ndarray  # [pairs] the Elo expectation that the first is preferred


class Training(NamedTuple):
    """The data of one training on n preferences."""

    shared: Shared
    head: np.ndarray  # [weights] to begin with
    pairs: np.ndarray  # [n, 2] rows of the two texts of each preference
    outcomes: np.ndarray  # [n]
    batch: int  # preferences a step
    steps: int  # in all epochs


def draw(trainings: Sequence[Training], params: ExperimentConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the pairs that n trainings compare in each step: first rated pairs, then preferences.

    Each epoch takes all preferences in a new order; rated pairs come anew each step. Returns, [most steps, n, pairs]
    each: rows of both texts; what is expected of a rated pair, or the outcome of a preference; and the share of each
    pair in its loss, 1 / how many there are, 0 where there is none.
    """
    k = params.rank_pairs if params.lambda_reg else 0  # λ = 0 is exactly no regularization
    shape = trainings[0].steps, len(trainings), k + trainings[0].batch  # the longest stands first
    pairs, target, share = np.zeros((*shape, 2), np.int64), *np.zeros((2, *shape), np.float32)
    for j, t in enumerate(trainings):
        rng = np.random.default_rng([params.random_seed, 1])  # anew for each: it must not see who trains beside it
        order = np.full((params.max_epochs, t.steps // params.max_epochs * t.batch), -1)  # -1: no preference is left
        order[:, : len(t.pairs)] = [rng.permutation(len(t.pairs)) for _ in range(params.max_epochs)]
        order = order.reshape(t.steps, t.batch)
        judged = np.s_[: t.steps, j, k:]
        pairs[judged], target[judged] = t.pairs[order], t.outcomes[order]
        share[judged] = (order >= 0) / (order >= 0).sum(axis=1, keepdims=True)
        if k and len(t.shared.rated):
            drawn = rng.integers(len(t.shared.rated), size=(t.steps, k))
            rated = np.s_[: t.steps, j, :k]
            pairs[rated], target[rated], share[rated] = t.shared.rated[drawn], t.shared.expected[drawn], 1.0 / k
    return pairs, target, share


# ── Training ─────────────────────────────────────────────────────────────────────────────────────────────


def train(trainings: Sequence[Training], params: ExperimentConfig, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Train n heads side by side, as many preferences a step in each, the longest trainings first.

    Returns the trained weights [n, weights], and [most steps, n, 2] both losses of each step.
    """
    device = base_device.usable(device)
    rows, *rest = draw(trainings, params)
    distinct = {id(t.shared): t.shared for t in trainings}  # their texts stand below each other, once
    below = {key: i * len(one.base) for i, (key, one) in enumerate(distinct.items())}
    rows += np.array([below[id(t.shared)] for t in trainings])[:, None, None]
    seen_texts = (np.concatenate(column) for column in zip(*(t[:2] for t in distinct.values()), strict=True))
    pairs, target, share, inputs, base = (torch.from_numpy(array).to(device) for array in (rows, *rest, *seen_texts))
    weights = torch.from_numpy(np.stack([t.head for t in trainings])).to(device)
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)  # Adam's moments of the gradient
    losses = torch.zeros(*share.shape[:2], 2, device=device)
    k = share.shape[2] - trainings[0].batch  # rated pairs, which stand first
    for step in range(trainings[0].steps):
        # A head that has made its own steps takes part no more. The longest stand first: the first n go on.
        n = sum(t.steps > step for t in trainings)
        heads, seen = weights[:n].requires_grad_(), pairs[step, :n].flatten(1)
        reward = rewards(heads, embedding(seen, inputs), base[seen], params)
        a, b = reward[:, 0::2], reward[:, 1::2]
        entropy = binary_cross_entropy_with_logits(a - b, target[step, :n], share[step, :n], reduction="none")
        regularization, preference = entropy[:, :k].sum(1), entropy[:, k:].sum(1)
        loss = preference + params.lambda_reg * regularization
        (gradient,) = torch.autograd.grad(loss.sum(), heads)  # a head's weights are in its own loss only
        with torch.no_grad():
            adam(heads, gradient, mean[:n], square[:n], step + 1, params.learning_rate)
            losses[step, :n] = torch.stack((preference, regularization), dim=1)
    return weights.cpu().numpy(), losses.cpu().numpy()


def adam(weights: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: int, learning_rate: float) -> None:
    """Update weights and moments in place by Adam (Kingma and Ba, ICLR 2015), algorithm 1.

    Written out, since torch's own optimizers import its compiler, which takes seconds of every run.
    """
    mean.lerp_(gradient, 1.0 - MEAN_DECAY)
    square.lerp_(gradient.square(), 1.0 - SQUARE_DECAY)
    # Both start at zero and would be too small at first: divided by the share of them that has come in by now.
    unbiased = mean / (1.0 - MEAN_DECAY**step)
    width = (square / (1.0 - SQUARE_DECAY**step)).sqrt() + EPSILON
    weights.addcdiv_(unbiased, width, value=-learning_rate)


@contextmanager
def one_thread() -> Iterator[None]:
    """On arrays this small, threads of torch wait for each other and gain nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# ── The system ───────────────────────────────────────────────────────────────────────────────────────────


class RewardModel(Ranker):
    """System B. ``history``: {loss: its mean over the steps of each epoch of the last training, as met on the way}."""

    name = "reward_model"

    def __init__(self, features: Features, ratings: Mapping[str, float | None], params: ExperimentConfig) -> None:
        """``ratings``: global Elo by contestant; None or absent: unrated, left out of the regularization."""
        self._base, self._device, self._texts = features.base, features.device, Texts(features, params)
        self._elo = {model: rating for model, rating in ratings.items() if rating is not None}
        self._params = params
        self._rewards: np.ndarray | None  # of all texts, once they are asked for
        self._set(self._share(TrainingSet((), ())), first_head(params))

    def fit_many(self, sets: Sequence[TrainingSet], start: Sequence[Self] | None = None) -> list[Self]:
        """All trainings side by side; each depends on the seed and its own set alone, and gives what it gives alone.

        ``start``: fitted models, one a set, from which each training goes on by the parameters of this one: with the
        head of its start, and with its scaler and rated pairs.
        """
        if start:
            begun = [(one._shared, one._head) for one in start]
        else:
            share = cache(self._share)
            begun = [(share(replace(s, preferences=())), first_head(self._params)) for s in sets]
        trainings = [self._training(s, *known) for s, known in zip(sets, begun, strict=True)]
        fitted = [copy.copy(self)._set(training.shared, training.head) for training in trainings]
        order = [i for i, training in enumerate(trainings) if training.steps]  # without preferences nothing is trained
        # Alike are those with as many preferences a step; the longest go first, as ``train`` wants them.
        order.sort(key=lambda i: (trainings[i].batch, -trainings[i].steps))
        size = max(1, CHUNK_FLOATS // len(self._head))
        alike = (list(group) for _, group in groupby(order, key=lambda i: trainings[i].batch))
        chunks = [group[begin : begin + size] for group in alike for begin in range(0, len(group), size)]
        cores = ThreadPoolExecutor(os.cpu_count())
        with one_thread(), bar(None, len(order), "trainings") as done:
            found = cores.map(lambda chunk: train([trainings[i] for i in chunk], self._params, self._device), chunks)
            try:
                for chunk, (heads, losses) in zip(chunks, found, strict=True):
                    for j, i in enumerate(chunk):
                        epochs = losses[: trainings[i].steps, j].reshape(self._params.max_epochs, -1, 2).mean(axis=1)
                        fitted[i]._set(trainings[i].shared, heads[j], epochs.T.tolist())
                    done.update(len(chunk))
            finally:
                cores.shutdown(wait=False, cancel_futures=True)  # Ctrl-C waits for nothing
        return fitted

    def scores(self, prompt_id: str) -> dict[str, float]:
        """The reward of every contestant's response to this prompt."""
        if self._rewards is None:
            with torch.no_grad(), one_thread():
                head, inputs, base = (torch.from_numpy(array)[None] for array in (self._head, *self._shared[:2]))
                self._rewards = rewards(head, inputs, base, self._params)[0].numpy()
        return {model: float(self._rewards[row]) for model, row in self._texts.of[prompt_id].items()}

    def save(self, path: Path) -> None:
        """Write head, scaler and parameters as safetensors for people who look; nothing reads them back."""
        named = layers(torch.from_numpy(self._head)[None], self._params)
        arrays = self._shared.scaler | {name: layer[0].numpy() for name, layer in named.items()}
        write_tensors(path, arrays, {"base": self._base, "config": json.dumps(asdict(self._params))})

    def _set(self, shared: Shared, head: np.ndarray, losses: Sequence[Sequence[float]] = ((), ())) -> Self:
        self._shared, self._head, self._rewards = shared, head, None
        self.history = dict(zip(LOSSES, losses, strict=True))
        return self

    def _share(self, s: TrainingSet) -> Shared:
        """All texts as the training texts, the held-out contestant's not among them, let them be seen."""
        (inputs, base, scaler), components = self._texts.seen(s), self._params.components
        # Inputs are as wide as ``input_scale`` says, and zero where the training texts span fewer directions.
        inputs = inputs * (self._params.input_scale * math.sqrt(components))
        inputs = np.pad(inputs, ((0, 0), (0, components - inputs.shape[1]))).astype(np.float32)
        elo = self._elo  # a pair with an unrated model has no expectation to be held to
        of_rated = ([m for m in prompt.items() if m[0] in elo] for prompt in self._texts.training(s))
        rated = [pair for prompt in of_rated for pair in combinations(prompt, 2)]
        pairs = np.array([(a, b) for (_, a), (_, b) in rated], np.intp)
        expected = np.array([expectation(elo[a], elo[b]) for (a, _), (b, _) in rated])
        return Shared(inputs, base.astype(np.float32), scaler, pairs, expected)

    def _training(self, s: TrainingSet, shared: Shared, head: np.ndarray) -> Training:
        n, outcomes = len(s.preferences), np.array([p.outcome for p in s.preferences])
        batch = max(self._params.batch_size, math.ceil(n / STEPS_AN_EPOCH))
        steps = self._params.max_epochs * math.ceil(n / batch)
        return Training(shared, head, self._texts.pairs(s.preferences), outcomes, batch, steps)
