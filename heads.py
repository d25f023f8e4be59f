"""Many small heads trained side by side: the arithmetic of System B.

One training is some hundred tiny steps, so the interpreter costs more than the arithmetic; a batch of heads pays it
once. Plain NumPy with the gradients written out: a head's matrix products are the same calls whatever stands beside
it, so that a training gives the same bits alone and in a batch, and needs no torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

import listmle

# Adam (Kingma & Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).
BETA_1, BETA_2 = 0.9, 0.999
EPSILON = 1e-6  # above the rounding of a float32 gradient, which Adam would magnify where the true one is zero
FIRST_LAYER = 0.1  # the direct way learns first, the hidden layer what is left: see docs/head_choice.md
CHUNK_FLOATS = 1 << 16  # parameters of the heads computed at once: with Adam's two moments they stay in the cache


@dataclass(frozen=True, slots=True)
class Plan:
    """One training, every draw made: ``steps`` of ``pairs`` comparisons each, and of one list where there are lists.

    A comparison's loss is its weight × the cross-entropy of σ(r_a − r_b) against its target; weight 0 fills up. A
    list's is ``list_weight`` × ListMLE of its order.
    """

    rows_a: np.ndarray
    """[steps, pairs] rows of ``inputs``, the text compared …"""
    rows_b: np.ndarray
    """… with this one."""
    margin: np.ndarray
    """[steps, pairs] what the base says of r_a − r_b before the head adds its part."""
    target: np.ndarray
    """[steps, pairs] in [0, 1]."""
    weight: np.ndarray
    """[steps, pairs]."""
    inputs: np.ndarray
    """[texts, width] what the head sees of each text, the last column constant; plans that see the same share it."""
    listed: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.intp))
    """[steps, places] rows of ``inputs``, best first; places is 0 where there are no lists."""
    listed_base: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    """[steps, places] what the base says of each."""
    listed_count: np.ndarray = field(default_factory=lambda: np.zeros(0, np.intp))
    """[steps] how many of the places are filled."""
    list_weight: float = 0.0


def parameter_count(inputs: int, hidden: int) -> int:
    """Of a head: a hidden layer (its bias is the weight of a constant input), its output weights, and the weights of
    the direct way from the inputs past the hidden layer. Where ``hidden`` is 0 the direct way is all: a linear head."""
    return inputs * hidden + hidden + inputs


def initial(inputs: int, hidden: int, rng: np.random.Generator) -> np.ndarray:
    """[parameters]: the hidden layer drawn as by He et al. (2015) for ReLU but small, and all that leads to the output
    zero, so that a new head adds nothing."""
    drawn = np.zeros(parameter_count(inputs, hidden), np.float32)
    drawn[: inputs * hidden] = rng.normal(0.0, FIRST_LAYER * np.sqrt(2.0 / inputs), inputs * hidden)
    return drawn


def outputs(parameters: np.ndarray, inputs: np.ndarray, hidden: int) -> np.ndarray:
    """What one head adds to the base's reward of each text: [texts]."""
    split = inputs.shape[1] * hidden
    layer = np.maximum(inputs @ parameters[:split].reshape(inputs.shape[1], hidden), 0.0)
    return np.asarray(layer @ parameters[split : split + hidden] + inputs @ parameters[split + hidden :])


def train(
    plans: Sequence[Plan], start: Sequence[np.ndarray], hidden: int, learning_rate: float, weight_decay: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Train one head a plan from ``start``: (parameters [parameters], cross-entropies [steps, pairs]) of each.

    Plans must agree in ``pairs``, ``places`` and the width of their inputs, not in their number of steps. Where there
    are lists, their losses are one more column of the cross-entropies.
    """
    order = sorted(range(len(plans)), key=lambda j: -len(plans[j].target))
    size = max(1, CHUNK_FLOATS // max(1, len(start[0]))) if plans else 1
    workers = min(os.cpu_count() or 1, max(1, len(plans) // 2))
    count = max(workers, -(-len(plans) // size))
    chunks = [order[c::count] for c in range(count) if order[c::count]]  # each with long and short ones, in order

    def run(chunk: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
        state = np.stack([start[j] for j in chunk]).astype(np.float32)
        return state, _train_chunk([plans[j] for j in chunk], state, hidden, learning_rate, weight_decay)

    # a bar only where there is time to see it, and a terminal to see it in
    bar = tqdm(total=len(plans), desc="training", disable=None, leave=False, delay=0.5)
    done = []
    with bar, ThreadPoolExecutor(workers) as pool:
        for chunk, result in zip(chunks, pool.map(run, chunks), strict=True):
            done.append(result)
            bar.update(len(chunk))
    parameters, losses = [np.empty(0)] * len(plans), [np.empty(0)] * len(plans)
    for chunk, (state, chunk_losses) in zip(chunks, done, strict=True):
        for j, row, loss in zip(chunk, state, chunk_losses, strict=True):
            parameters[j], losses[j] = row.copy(), loss
    return parameters, losses


def _train_chunk(
    plans: Sequence[Plan], state: np.ndarray, hidden: int, learning_rate: float, weight_decay: float
) -> list[np.ndarray]:
    """Steps of heads of one chunk, longest training first, so that those still running are always the first ones."""
    draws = _Draws(plans)
    gradient, first, second = (np.zeros_like(state) for _ in range(3))
    losses = np.zeros(draws.target.shape, np.float32)
    for step, running in enumerate(draws.running):
        active = slice(0, running)
        x = draws.inputs.take(draws.rows[step, active], axis=0)  # [heads, 2·pairs, width]
        delta = losses[step, active]  # r_a − r_b, from which the loss is computed when all is done
        _gradient(x, draws, step, hidden, state[active], gradient[active], delta)
        _adam(state[active], gradient[active], first[active], second[active], step + 1, learning_rate, weight_decay)
    losses = np.logaddexp(np.float32(0.0), losses) - draws.target * losses
    if draws.places:
        losses = np.concatenate([losses, draws.list_losses], axis=2)
    return [losses[: len(p.target), j] for j, p in enumerate(plans)]


class _Draws:
    """The plans of one chunk as arrays [steps, heads, …], inputs that are shared stacked once."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        distinct = {id(p.inputs): p.inputs for p in plans}
        offsets, total = {}, 0
        for key, inputs in distinct.items():
            offsets[key], total = total, total + len(inputs)
        self.inputs = np.concatenate(list(distinct.values())) if len(distinct) > 1 else plans[0].inputs
        steps, pairs = plans[0].target.shape
        self.pairs, self.places = pairs, plans[0].listed.shape[1]
        self.rows = np.zeros((steps, len(plans), 2 * pairs + self.places), np.intp)
        self.margin, self.target, self.weight = (np.zeros((steps, len(plans), pairs), np.float32) for _ in range(3))
        self.base, self.list_losses = (np.zeros((steps, len(plans), n), np.float32) for n in (self.places, 1))
        self.count = np.zeros((steps, len(plans)), np.intp)
        self.list_weight = np.array([[plan.list_weight] for plan in plans], np.float32)
        for j, plan in enumerate(plans):
            own = len(plan.target)
            self.rows[:own, j, :pairs] = plan.rows_a + offsets[id(plan.inputs)]
            self.rows[:own, j, pairs : 2 * pairs] = plan.rows_b + offsets[id(plan.inputs)]
            if self.places:
                self.rows[:own, j, 2 * pairs :] = plan.listed + offsets[id(plan.inputs)]
                self.base[:own, j], self.count[:own, j] = plan.listed_base, plan.listed_count
            self.margin[:own, j], self.target[:own, j], self.weight[:own, j] = plan.margin, plan.target, plan.weight
        lengths = [len(p.target) for p in plans]
        self.running = [sum(length > step for length in lengths) for step in range(steps)]


def _gradient(
    x: np.ndarray, draws: _Draws, step: int, hidden: int, state: np.ndarray, gradient: np.ndarray, delta: np.ndarray
) -> None:
    """∂loss/∂parameters of one step into ``gradient``, r_a − r_b into ``delta`` [heads, pairs]."""
    heads, _, width = x.shape
    pairs, split = draws.pairs, width * hidden
    first, last, direct = state[:, :split], state[:, split : split + hidden], state[:, split + hidden :]
    reward = (x @ direct[:, :, None])[:, :, 0]
    if hidden:
        layer = x @ first.reshape(heads, width, hidden)
        np.maximum(layer, 0.0, out=layer)
        reward += (layer @ last[:, :, None])[:, :, 0]
    np.subtract(reward[:, :pairs], reward[:, pairs : 2 * pairs], out=delta)
    delta += draws.margin[step, :heads]
    # ∂/∂δ of −t·ln σ(δ) − (1 − t)·ln σ(−δ) is σ(δ) − t; σ through tanh cannot overflow.
    slope = (0.5 + 0.5 * np.tanh(0.5 * delta) - draws.target[step, :heads]) * draws.weight[step, :heads]
    slope = np.concatenate([slope, -slope, *_list_slopes(reward[:, 2 * pairs :], draws, step)], axis=1)
    gradient[:, split + hidden :] = (slope[:, None, :] @ x)[:, 0]
    # The direct way's constant cancels in r_a − r_b and in a list: its gradient is rounding, which Adam would magnify.
    gradient[:, -1] = 0.0
    if hidden:
        gradient[:, split : split + hidden] = (slope[:, None, :] @ layer)[:, 0]
        back = np.multiply(layer > 0.0, last[:, None, :])
        back *= slope[:, :, None]
        np.matmul(x.swapaxes(1, 2), back, out=gradient[:, :split].reshape(heads, width, hidden))


def _list_slopes(added: np.ndarray, draws: _Draws, step: int) -> list[np.ndarray]:
    """∂loss/∂reward of one step's lists [heads, places], their losses noted; none where there are no lists."""
    if not draws.places:
        return []
    heads = len(added)
    loss, slope = listmle.loss_and_slope(added + draws.base[step, :heads], draws.count[step, :heads])
    draws.list_losses[step, :heads, 0] = loss
    return [slope * draws.list_weight[:heads]]


def _adam(
    state: np.ndarray,
    gradient: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    step: int,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """One step of AdamW in place; all arrays [heads, parameters], ``gradient`` is used up.

    The moments are kept without the factors 1 − β, which go into the step and into ε: fewer passes over memory.
    """
    first *= BETA_1
    first += gradient
    second *= BETA_2
    np.multiply(gradient, gradient, out=gradient)
    second += gradient
    mean_scale = (1.0 - BETA_1) / (1.0 - BETA_1**step)
    root_scale = math.sqrt((1.0 - BETA_2) / (1.0 - BETA_2**step))
    np.sqrt(second, out=gradient)
    gradient += EPSILON / root_scale
    np.divide(first, gradient, out=gradient)
    gradient *= learning_rate * mean_scale / root_scale
    if weight_decay:
        state *= 1.0 - learning_rate * weight_decay
    state -= gradient
