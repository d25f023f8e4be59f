"""System B: a frozen reward model plus a small head learned from one person's preferences.

    reward(x, y) = base score / its standard deviation + head(features of x, y)
    loss         = preference + λ · regularization

The head has one hidden layer and a direct way past it (docs/head_choice.md). All that leads to its output starts at
zero: before any preference System B *is* the base, and it moves from there. ``preference`` is the cross-entropy of
σ(r_a − r_b) against the outcome over the preferences, ``regularization`` the same against the Elo expectation over all
rated pairs of responses to the training prompts (``elo_expectation``). For comparison there are regularizers that take
the Arena's order for certain, whatever the distance: ``ranknet`` (the same with targets 1 and 0; Burges et al., ICML
2005) and ``listmle`` (over whole prompts; Xia et al., ICML 2008).

A training is some hundred tiny steps, in which the interpreter costs more than the arithmetic: trainings that differ
only in their data (points of a curve, folds, people) run side by side, as n heads in one batch.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import numpy as np

from base.features import Features
from base.rotation import View
from base.view import pool
from config import ExperimentConfig
from core.errors import MissingError, UsageError
from core.files import read_tensors, write_tensors
from core.ranking import Ranker, TrainingSet
from core.records import Preference
from reward_draws import Draws, Rated, Texts

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ParameterDict

FORMAT = 2  # of a saved head
FIX = "Train a new one: run the experiment again (python main.py --persona …)."
FIRST_LAYER = 0.1  # the direct way learns first, the hidden layer what is left: see docs/head_choice.md
EPSILON = 1e-6  # above the rounding of a float32 gradient, which Adam would magnify where the true one is zero
CHUNK_FLOATS = 1 << 18  # parameters trained side by side: with gradients and moments they stay in the cache
STRETCH = 1000  # steps unpacked at once

M = TypeVar("M", bound="RewardModel")
Head = Mapping[str, np.ndarray]
"""``hidden`` [hidden, components] and ``bias`` [hidden, 1], ``output`` [1, hidden], ``direct`` [1, components]."""


class EpochLoss(NamedTuple):
    """Mean cross-entropies of one epoch, as met while training; ``regularization`` before λ, and 0 where λ is 0."""

    preference: float
    regularization: float


# ── The head and its losses ──────────────────────────────────────────────────────────────────────────────


def first_head(components: int, hidden: int, rng: np.random.Generator) -> Head:
    """A head that adds nothing yet. Its hidden layer is drawn as by He et al. (2015) for ReLU, but small."""
    drawn = rng.normal(0.0, FIRST_LAYER * np.sqrt(2.0 / (components + 1)), (components + 1, hidden)).astype(np.float32)
    output, direct = np.zeros((1, hidden), np.float32), np.zeros((1, components), np.float32)
    return {"hidden": drawn[:-1].T, "bias": drawn[-1:].T, "output": output, "direct": direct}


def rewards(heads: Mapping[str, Tensor] | ParameterDict, base: Tensor, inputs: Tensor) -> Tensor:
    """[n, texts] base + MLP(inputs) of n heads side by side; ``base`` [n, 1, texts], ``inputs`` [n, texts, components].

    A constant in the output would cancel wherever two rewards are compared: there is none.
    """
    x = inputs.mT
    layer = heads["bias"].baddbmm(heads["hidden"], x).relu()
    return base.baddbmm(heads["direct"], x).baddbmm(heads["output"], layer).squeeze(1)


def pair_loss(rewards: Tensor, expected: Tensor, share: Tensor) -> Tensor:
    """[n] Σ share × cross-entropy of σ(r_a − r_b) against ``expected`` [n, pairs]; rewards of every a, then every b."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    a, b = rewards.chunk(2, dim=1)
    return binary_cross_entropy_with_logits(a - b, expected, share, reduction="none").sum(1)


def list_mle(rewards: Tensor, share: Tensor) -> Tensor:
    """[n] Σ_i share_i · [ln Σ_{j ≥ i} e^{r_j} − r_i], rewards [n, places] best first; a place of share 0 is empty."""
    rewards = rewards.masked_fill(share == 0.0, -1e30)  # never chosen, and finite: −∞ − (−∞) is no number
    rest = rewards.flip(1).logcumsumexp(1).flip(1)
    return ((rest - rewards) * share).sum(1)


# ── Training ─────────────────────────────────────────────────────────────────────────────────────────────


def train(
    draws: Sequence[Draws], texts: Sequence[Texts], first: Sequence[Head], params: ExperimentConfig, device: str
) -> list[tuple[Head, np.ndarray]]:
    """Train n heads side by side, each from its ``first``; those with the most steps must come first.

    Returns each head and its losses [steps, 2]: the preferences', and the regularization's before λ.
    """
    import torch
    from torch.nn.functional import embedding
    from torch.nn.utils.rnn import pad_sequence

    device = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    n, steps = len(draws), [len(d.rows) for d in draws]
    distinct = list({id(t): t for t in texts}.values())  # their texts stand below each other, once
    starts = np.cumsum([0, *(len(t.inputs) for t in distinct)])
    offset = {id(t): start for t, start in zip(distinct, starts[:-1], strict=True)}
    inputs = torch.from_numpy(np.concatenate([t.inputs for t in distinct])).to(device)
    arrays = [(d.rows + offset[id(t)], t.base[d.rows][:, None], *d[1:]) for d, t in zip(draws, texts, strict=True)]
    # [steps, n, …] each, and zero after a head's own last step
    drawn = [pad_sequence([torch.from_numpy(x) for x in column]).to(device) for column in zip(*arrays, strict=True)]
    listwise = params.regularizer == "listmle"
    parts = 2 * params.batch_size, drawn[0].shape[2] - 2 * params.batch_size
    losses = torch.zeros(steps[0], n, 2, device=device)
    values = {name: torch.from_numpy(np.stack([head[name] for head in first])).to(device) for name in first[0]}
    moments = {name: (torch.zeros_like(v), torch.zeros_like(v)) for name, v in values.items()}
    for running, start, end in _stretches(steps):
        # A head that has made its own steps must not go on by its momentum. So the optimizer is given the running ones
        # alone: they are the first of ``values`` and ``moments``, which it changes in place.
        heads = torch.nn.ParameterDict({name: v[:running] for name, v in values.items()})
        optimizer = torch.optim.AdamW(
            heads.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay, eps=EPSILON, fused=True
        )
        for name, (mean, square) in moments.items():
            step = torch.tensor(float(start), device=device)
            optimizer.state[heads[name]] = {"step": step, "exp_avg": mean[:running], "exp_avg_sq": square[:running]}
        here = zip(*(x[start:end, :running] for x in (*drawn, losses)), strict=True)
        for rows, base, outcome, share, expected, rated_share, met in here:
            reward = rewards(heads, base, embedding(rows, inputs))
            judged, rated = reward.split_with_sizes(parts, dim=1)
            preference = pair_loss(judged, outcome, share)
            regularization = list_mle(rated, rated_share) if listwise else pair_loss(rated, expected, rated_share)
            loss = preference + params.lambda_reg * regularization
            optimizer.zero_grad()
            loss.sum().backward()  # a head's parameters are in its own loss only
            optimizer.step()
            met.copy_(torch.stack((preference, regularization), dim=1).detach())
    trained, found = {name: v.cpu().numpy() for name, v in values.items()}, losses.cpu().numpy()
    return [({name: v[j].copy() for name, v in trained.items()}, found[: steps[j], j]) for j in range(n)]


def _stretches(steps: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(heads, first step, end) of each stretch in which the same heads run; ``steps`` of each head, descending."""
    start = 0
    for running in range(len(steps), 0, -1):
        while start < steps[running - 1]:
            end = min(start + STRETCH, steps[running - 1])
            yield running, start, end
            start = end


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one core within: on arrays this small, threads wait for each other and gain nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
        self._learn(View(np.zeros(width), np.zeros((width, params.components)), 1.0), self._start()[0])

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

    def fit_many(self, sets: Sequence[TrainingSet], start: Self | None = None) -> list[Self]:
        """All trainings side by side; each depends on the seed and its own set alone, and gives what it gives alone.

        ``start``: a fitted model from whose head, and with whose view of texts, every training goes on.
        """
        model = copy.copy(self)._learn(start._view, start._head) if start else self
        return fit_together([model] * len(sets), sets, go_on=start is not None)

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

    def _learn(self, view: View, head: Head, history: tuple[EpochLoss, ...] = ()) -> Self:
        self._view, self._head, self.history, self._rewards = view, head, history, None
        return self

    def _reward(self, pooled: np.ndarray, base_score: np.ndarray) -> np.ndarray:
        import torch

        head = {name: torch.from_numpy(array)[None] for name, array in self._head.items()}
        base, inputs = self._view.base(base_score)[None, None], self._view.inputs(pooled)[None]
        with _one_thread():
            found = rewards(head, torch.from_numpy(base), torch.from_numpy(inputs))
        return found[0].numpy().astype(np.float64)

    # ── What a training looks at ──

    def _start(self) -> tuple[Head, np.random.Generator]:
        """The head from which every training of this seed starts, and the generator of all draws after it."""
        rng = np.random.default_rng(self._params.random_seed)
        return first_head(self._params.components, self._params.hidden_width, rng), rng

    def _texts(self, s: TrainingSet, view: View | None) -> Texts:
        p = self._params
        prompts = [
            [(row, self._ratings.get(m)) for m, row in self._responses.get(prompt, {}).items() if m != s.held_out]
            for prompt in s.prompt_ids
        ]
        rows = np.array([row for prompt in prompts for row, _ in prompt], np.intp)
        view = view or View.of(self._pooled[rows], self._base_score[rows], p.components, p.input_scale)
        rated = [[(row, elo) for row, elo in prompt if elo is not None] for prompt in prompts]
        places = max(map(len, self._responses.values()), default=0)
        inputs, base = view.inputs(self._pooled), view.base(self._base_score)
        return Texts(view, inputs, base, Rated.of(rated, places, p.regularizer))

    def _draw(self, s: TrainingSet, texts: Texts) -> Draws:
        index = self._features.index
        try:
            pairs = [(index[p.prompt_id, p.model_a], index[p.prompt_id, p.model_b]) for p in s.preferences]
        except KeyError as error:
            raise UsageError(f"A preference is about a response without features: {error}") from error
        outcomes = np.array([p.outcome for p in s.preferences], np.float32)
        return Draws.of(np.array(pairs), outcomes, texts.rated, self._params, self._start()[1])

    def _epochs(self, losses: np.ndarray, n: int) -> tuple[EpochLoss, ...]:
        """Means over each epoch's n preferences, and over its steps, from the losses [steps, 2] of one training."""
        preference, regularization = losses.reshape(self._params.max_epochs, -1, 2).transpose(2, 0, 1)
        counts = np.diff([*range(0, n, self._params.batch_size), n])
        means = np.average(preference, axis=1, weights=counts), regularization.mean(axis=1)
        return tuple(EpochLoss(float(a), float(b)) for a, b in zip(*means, strict=True))

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
            view = View(tensors["centre"], tensors["projection"], float(about["base_scale"]))
            head = {name: tensors[name] for name in model._head}
            history = tuple(EpochLoss(*epoch) for epoch in about["history"])
        except FileNotFoundError as error:
            raise MissingError(f"No trained head at {path}. {FIX}") from error
        except (KeyError, ValueError, TypeError) as error:
            raise UsageError(f"Trained head {path} cannot be read ({error}); it was left as it is. {FIX}") from error
        if about["base"] != features.base or len(view.centre) != model._pooled.shape[1]:
            raise UsageError(f"The head {path} was trained on the base {about['base']}, not {features.base}. {FIX}")
        return model._learn(view, head, history)


def fit_together(models: Sequence[M], sets: Sequence[TrainingSet], *, go_on: bool = False) -> list[M]:
    """A training of each model on its set, those of the same parameters side by side; the models stay as they are.

    ``go_on``: from what each model has learned, with its view of texts, instead of from the start.
    """
    from tqdm import tqdm

    shared: dict[tuple[int, tuple[str, ...], str | None], Texts] = {}
    texts = []
    for model, s in zip(models, sets, strict=True):
        kind = id(model), s.prompt_ids, s.held_out
        if kind not in shared:
            shared[kind] = model._texts(s, model._view if go_on else None)
        texts.append(shared[kind])
    first = [model._head if go_on else model._start()[0] for model in models]
    fitted = [copy.copy(model)._learn(t.view, head) for model, t, head in zip(models, texts, first, strict=True)]
    alike: dict[tuple[ExperimentConfig, str], list[int]] = defaultdict(list)
    for i in sorted(range(len(sets)), key=lambda i: -len(sets[i].preferences)):  # the longest training first
        if sets[i].preferences:
            alike[models[i]._params, models[i]._device].append(i)
    # a bar only where there is time to see it, and a terminal to see it in
    bar = tqdm(total=sum(map(len, alike.values())), desc="training", disable=None, leave=False, delay=0.5)
    with bar, _one_thread():
        for (params, device), order in alike.items():
            size = max(1, CHUNK_FLOATS // sum(array.size for array in first[order[0]].values()))
            for k in range(0, len(order), size):  # what a chunk draws is forgotten with it
                chunk = order[k : k + size]
                draws = [models[i]._draw(sets[i], texts[i]) for i in chunk]
                trained = train(draws, [texts[i] for i in chunk], [first[i] for i in chunk], params, device)
                for i, (head, losses) in zip(chunk, trained, strict=True):
                    fitted[i]._learn(texts[i].view, head, models[i]._epochs(losses, len(sets[i].preferences)))
                bar.update(len(chunk))
    return fitted
