"""System B's head: a small network on a frozen reward model, its losses, and how it is trained.

    reward(x, y) = β · base score / its spread within prompts + MLP(inputs of x, y)
    loss         = preference + λ · regularization

The MLP has one hidden layer and a direct way past it (docs/head_choice.md). All that leads to its output starts at zero
and β at 1: before any preference the reward *is* the base's, and it moves from there.

A training is some hundred tiny steps, in which the interpreter costs more than the arithmetic: trainings that differ
only in their data (points of a curve, folds, people) run side by side, as n heads in one batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from base import device as base_device
from config import ExperimentConfig
from reward_draws import Draws, Texts

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ParameterDict

FIRST_LAYER = 0.1  # the direct way learns first, the hidden layer what is left: see docs/head_choice.md
EPSILON = 1e-6  # above the rounding of a float32 gradient, which Adam would magnify where the true one is zero
STRETCH = 1000  # steps unpacked at once

Head = Mapping[str, np.ndarray]
"""``hidden`` [hidden, components] and ``bias`` [hidden, 1], ``output`` [1, hidden], ``direct`` [1, components], and
``base`` [1, 1]."""


def first_head(components: int, hidden: int, rng: np.random.Generator) -> Head:
    """A head that adds nothing yet. Its hidden layer is drawn as by He et al. (2015) for ReLU, but small."""
    drawn = rng.normal(0.0, FIRST_LAYER * np.sqrt(2.0 / (components + 1)), (components + 1, hidden)).astype(np.float32)
    zeros = {"output": (1, hidden), "direct": (1, components), "base": (1, 1)}
    return {"hidden": drawn[:-1].T, "bias": drawn[-1:].T, **{k: np.zeros(s, np.float32) for k, s in zeros.items()}}


def rewards(heads: Mapping[str, Tensor] | ParameterDict, base: Tensor, inputs: Tensor, reach: float) -> Tensor:
    """[n, texts] of n heads side by side; ``base`` [n, 1, texts], ``inputs`` [n, texts, components].

    β is 1 + ``reach`` · its weight: the weight alone, at the learning rate of all others, would hardly move. A
    constant in the output would cancel wherever two rewards are compared: there is none.
    """
    x = inputs.mT
    layer = heads["bias"].baddbmm(heads["hidden"], x).relu()
    scaled = base.addcmul(heads["base"], base, value=reach)
    return scaled.baddbmm(heads["direct"], x).baddbmm(heads["output"], layer).squeeze(1)


# ── Losses ───────────────────────────────────────────────────────────────────────────────────────────────


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
    draws: Sequence[Draws],
    texts: Sequence[Texts],
    first: Sequence[Head],
    params: ExperimentConfig,
    device: str,
    *,
    each_epoch: bool = False,
) -> list[tuple[list[Head], np.ndarray]]:
    """Train n heads side by side, each from its ``first``; those with the most steps must come first.

    Returns each head at its end, or after each of its epochs, and its losses [steps, 2]: the preferences', and the
    regularization's before λ. All draws must have the same number of preferences a step.
    """
    import torch
    from torch.nn.functional import embedding
    from torch.nn.utils.rnn import pad_sequence

    device = base_device.usable(device)
    n, steps = len(draws), [len(d.rows) for d in draws]
    distinct = list({id(t): t for t in texts}.values())  # their texts stand below each other, once
    starts = np.cumsum([0, *(len(t.inputs) for t in distinct)])
    offset = {id(t): start for t, start in zip(distinct, starts[:-1], strict=True)}
    inputs = torch.from_numpy(np.concatenate([t.inputs for t in distinct])).to(device)
    arrays = [(d.rows + offset[id(t)], t.base[d.rows][:, None], *d[1:-1]) for d, t in zip(draws, texts, strict=True)]
    # [steps, n, …] each, and zero after a head's own last step
    drawn = [pad_sequence([torch.from_numpy(x) for x in column]).to(device) for column in zip(*arrays, strict=True)]
    listwise, judged_texts = params.regularizer == "listmle", 2 * drawn[2].shape[2]
    parts = judged_texts, drawn[0].shape[2] - judged_texts
    losses = torch.zeros(steps[0], n, 2, device=device)
    values = {name: torch.from_numpy(np.stack([head[name] for head in first])).to(device) for name in first[0]}
    moments = {name: (torch.zeros_like(v), torch.zeros_like(v)) for name, v in values.items()}
    ends = [range(k // d.epochs if each_epoch else k, k + 1, k // d.epochs) for k, d in zip(steps, draws, strict=True)]
    kept: list[list[Head]] = [[] for _ in draws]
    for running, start, end in _stretches(steps, ends):
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
            reward = rewards(heads, base, embedding(rows, inputs), params.base_reach)
            judged, rated = reward.split_with_sizes(parts, dim=1)
            preference = pair_loss(judged, outcome, share)
            regularization = list_mle(rated, rated_share) if listwise else pair_loss(rated, expected, rated_share)
            loss = preference + params.lambda_reg * regularization
            optimizer.zero_grad()
            loss.sum().backward()  # a head's parameters are in its own loss only
            optimizer.step()
            met.copy_(torch.stack((preference, regularization), dim=1).detach())
        for j in range(running):
            if end in ends[j]:
                kept[j].append({name: v[j].cpu().numpy().copy() for name, v in values.items()})
    found = losses.cpu().numpy()
    return [(kept[j], found[: steps[j], j]) for j in range(n)]


def _stretches(steps: Sequence[int], ends: Sequence[range]) -> Iterator[tuple[int, int, int]]:
    """(heads that run, first step, end) of stretches in which the same heads run, up to each of their ``ends``."""
    start = 0
    for end in sorted(set().union(*ends)):
        running = sum(own > start for own in steps)
        while start < end:
            stop = min(start + STRETCH, end)
            yield running, start, stop
            start = stop


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one core within: on arrays this small, threads wait for each other and gain nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
