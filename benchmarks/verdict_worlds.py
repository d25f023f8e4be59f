"""The worlds of verdict.py: τ of both systems on every prompt of simulated experiments, without training; shares."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from elo_system import SCALE
from evaluation import Array

MODELS, FOLDS = 6, 5
Rng = np.random.Generator
Sample = tuple[Array, Array]  # τ of System A and of System B, [experiments, prompts]
World = Callable[[int, int, Rng], Sample]  # (experiments, prompts, generator)


def folds_of(prompts: int) -> np.ndarray:
    return np.arange(prompts) % FOLDS


def kendall_tau(x: Array, y: Array) -> Array:
    """τ of scores without ties, [..., m] → [...]: millions of prompts at once, where SciPy takes one a call."""
    i, j = np.triu_indices(x.shape[-1], 1)
    return np.asarray(np.mean(np.sign(x[..., i] - x[..., j]) * np.sign(y[..., i] - y[..., j]), axis=-1))


def tau_of_quality(truth: Array, tau: float, rng: Rng) -> Array:
    """τ of scores whose expected τ is ``tau``: correlation sin(π τ / 2) (Greiner's relation)."""
    r = np.sin(np.pi * tau / 2.0)
    return kendall_tau(r * truth + np.sqrt(1.0 - r * r) * rng.standard_normal(truth.shape), truth)


def independent(s: int, n: int, rng: Rng, advantage: float = 0.0) -> Sample:
    """Prompts share nothing; A has τ 0.4, B more by ``advantage``."""
    truth = rng.standard_normal((s, n, MODELS))
    return tau_of_quality(truth, 0.4, rng), tau_of_quality(truth, 0.4 + advantage, rng)


def fold_effect(s: int, n: int, rng: Rng, correlation: float, advantage: float = 0.0) -> Sample:
    """``independent``, and each training is a lucky or unlucky one for all prompts of its fold."""
    a, b = independent(s, n, rng, advantage)
    spread = float((b - a).std()) * np.sqrt(correlation / (1.0 - correlation))
    return a, b + (spread * rng.standard_normal((s, FOLDS)))[:, folds_of(n)]


def trained_means(labels: Array) -> Array:
    """The simplest learner: a prompt's prediction is the mean of ``labels`` [s, n, m] of the other folds' prompts."""
    fold = folds_of(labels.shape[1])
    predicted = np.empty_like(labels)
    for f in range(FOLDS):
        predicted[:, fold == f] = labels[:, fold != f].mean(1, keepdims=True)
    return predicted


def nothing_to_learn(s: int, n: int, rng: Rng) -> Sample:
    """Tastes that hold nothing from prompt to prompt: A learns the mean, B weighs prompts by how alike they are."""
    truth, text = rng.standard_normal((s, n, MODELS)), rng.standard_normal((s, n, 8))
    alike = text @ text.transpose(0, 2, 1)
    fold = folds_of(n)
    read = (alike * (fold[:, None] != fold)) @ truth
    return kendall_tau(trained_means(truth), truth), kendall_tau(read, truth)


def equal_learners(s: int, n: int, rng: Rng) -> Sample:
    """A common taste, which both learn equally well, each with its own error on each prompt's labels."""
    truth = np.sqrt(0.3) * rng.standard_normal((s, 1, MODELS)) + np.sqrt(0.7) * rng.standard_normal((s, n, MODELS))
    labels = [truth + 0.5 * rng.standard_normal(truth.shape) for _ in "ab"]
    return kendall_tau(trained_means(labels[0]), truth), kendall_tau(trained_means(labels[1]), truth)


def elo_orders(s: int, n: int, rng: Rng) -> Sample:
    """The same Elo system twice, each with its own order of the same preferences: equal, and as noisy as Elo is."""
    truth = np.sqrt(0.3) * rng.standard_normal((s, 1, MODELS)) + np.sqrt(0.7) * rng.standard_normal((s, n, MODELS))
    return _elo_tau(truth, rng), _elo_tau(truth, rng)


def _elo_tau(truth: Array, rng: Rng) -> Array:
    s, n, _ = truth.shape
    pairs = np.array([(i, j) for i in range(MODELS) for j in range(i + 1, MODELS)])
    game = np.tile(np.arange(n * len(pairs)), (s, 1))
    game = rng.permuted(game, axis=1)
    prompt, a, b = game // len(pairs), pairs[game % len(pairs), 0], pairs[game % len(pairs), 1]
    row = np.arange(s)
    fold, tau = folds_of(n), np.empty((s, n))
    outcome = 1.0 / (1.0 + np.exp(-2.0 * (truth[row[:, None], prompt, a] - truth[row[:, None], prompt, b])))
    for f in range(FOLDS):
        rating = np.zeros((s, MODELS))
        for t in range(game.shape[1]):
            i, j = a[:, t], b[:, t]
            # elo_system.expectation, of all experiments at once
            expected = 1.0 / (1.0 + 10.0 ** ((rating[row, j] - rating[row, i]) / SCALE))
            step = 32.0 * (outcome[:, t] - expected) * (fold[prompt[:, t]] != f)
            rating[row, i] += step
            rating[row, j] -= step
        tau[:, fold == f] = kendall_tau(np.broadcast_to(rating[:, None], truth.shape), truth)[:, fold == f]
    return tau


def model_level_tastes(s: int, n: int, rng: Rng) -> Sample:
    """One order of the contestants for nearly all prompts: A learns it, B only half sees it in the texts."""
    truth = np.sqrt(0.8) * rng.standard_normal((s, 1, MODELS)) + np.sqrt(0.2) * rng.standard_normal((s, n, MODELS))
    return kendall_tau(trained_means(truth), truth), tau_of_quality(truth, 0.3, rng)


NULLS: dict[str, World] = {
    "independent prompts": independent,
    "fold effect 0.05": lambda s, n, rng: fold_effect(s, n, rng, 0.05),
    "fold effect 0.2": lambda s, n, rng: fold_effect(s, n, rng, 0.2),
    "nothing to learn": nothing_to_learn,
    "equal learners": equal_learners,
    "two orders for Elo": elo_orders,
}
ADVANTAGES: dict[str, World] = {
    "B better by 0.1": lambda s, n, rng: independent(s, n, rng, 0.1),
    "B better by 0.2": lambda s, n, rng: independent(s, n, rng, 0.2),
    "B better by 0.3": lambda s, n, rng: independent(s, n, rng, 0.3),
    "B better by 0.2, fold effect 0.05": lambda s, n, rng: fold_effect(s, n, rng, 0.05, 0.2),
    "model-level tastes (A found)": model_level_tastes,
}


# ── Shares of experiments ────────────────────────────────────────────────────────────────────────────────


def rate(hits: int, n: int) -> dict[str, Any]:
    """A share with its Clopper–Pearson interval."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, "exact")
    return {"share": hits / n, "ci95": [float(interval.low), float(interval.high)], "hits": hits, "of": n}


def shown(cell: dict[str, Any]) -> str:
    return f"{100 * cell['share']:5.1f} [{100 * cell['ci95'][0]:4.1f}, {100 * cell['ci95'][1]:4.1f}]"


def counted(verdicts: list[str]) -> dict[str, Any]:
    return {v: rate(verdicts.count(v), len(verdicts)) for v in ("supported", "not supported", "inconclusive")}
