"""Would another rule name more winners and still no false ones? Today's against three, in the worlds of verdict.py.

    python benchmarks/verdict_rules.py [--simulations 2000] [--out results/verdict_rules.json]

- repeated: the cross-validation ten times, in folds drawn anew; t on all fold means with Nadeau and Bengio's variance
  s² (1/(k r) + 1/(k − 1)) (Bouckaert & Frank, *Evaluating the replicability of significance tests*, PAKDD 2004).
- jackknife: the variance estimated and not assumed, by leaving out a 25th of the prompts at a time, from training and
  testing alike (Quenouille 1956); or the t interval clustered by fold where that is wider.
- weighed: today's rule on prompts weighed by the spread of their true scores.

What is done is kept world by world, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from verdict import sign_flip
from verdict_worlds import FOLDS, MODELS, Rng, folds_of, kendall_tau, rate, shown, tau_of_quality

from elo_system import SCALE
from evaluation import Array

REPEATS, BLOCKS = 10, 25
Gain = Callable[[np.ndarray, np.ndarray, int], Array]
"""(prompts kept [m], their folds [m], number of the draw of trainings) → τ of B less τ of A, [experiments, m]."""
World = Callable[[int, int, Rng], tuple[Gain, Array]]
"""(experiments, prompts, generator) → gain, true scores [experiments, prompts, models]."""


# ── Worlds ───────────────────────────────────────────────────────────────────────────────────────────────


def untrained(s: int, n: int, rng: Rng, advantage: float = 0.0, correlation: float = 0.0) -> tuple[Gain, Array]:
    """``verdict_worlds.independent`` and ``fold_effect``: every draw of trainings has its own luck."""
    truth = rng.standard_normal((s, n, MODELS))
    d = tau_of_quality(truth, 0.4 + advantage, rng) - tau_of_quality(truth, 0.4, rng)
    spread = float(d.std()) * np.sqrt(correlation / (1.0 - correlation))
    luck = spread * rng.standard_normal((REPEATS, s, FOLDS))
    return lambda kept, fold, number: d[:, kept] + luck[number][:, fold], truth


def learned_mean(labels: Array, kept: np.ndarray, fold: np.ndarray) -> Array:
    """``verdict_worlds.trained_means`` in any folds."""
    own = labels[:, kept]
    predicted = np.empty_like(own)
    for f in range(FOLDS):
        predicted[:, fold == f] = own[:, fold != f].mean(1, keepdims=True)
    return predicted


def tastes(s: int, n: int, rng: Rng, common: float = 0.3) -> Array:
    shape = (s, n, MODELS)
    return np.asarray(
        np.sqrt(common) * rng.standard_normal((s, 1, MODELS)) + np.sqrt(1.0 - common) * rng.standard_normal(shape)
    )


def nothing_to_learn(s: int, n: int, rng: Rng) -> tuple[Gain, Array]:
    truth, text = rng.standard_normal((s, n, MODELS)), rng.standard_normal((s, n, 8))
    alike = text @ text.transpose(0, 2, 1)

    def gain(kept: np.ndarray, fold: np.ndarray, number: int) -> Array:  # noqa: ARG001
        read = (alike[:, kept[:, None], kept] * (fold[:, None] != fold)) @ truth[:, kept]
        return kendall_tau(read, truth[:, kept]) - kendall_tau(learned_mean(truth, kept, fold), truth[:, kept])

    return gain, truth


def equal_learners(s: int, n: int, rng: Rng) -> tuple[Gain, Array]:
    truth = tastes(s, n, rng)
    a, b = (truth + 0.5 * rng.standard_normal(truth.shape) for _ in "ab")

    def gain(kept: np.ndarray, fold: np.ndarray, number: int) -> Array:  # noqa: ARG001
        known = truth[:, kept]
        return kendall_tau(learned_mean(b, kept, fold), known) - kendall_tau(learned_mean(a, kept, fold), known)

    return gain, truth


def two_orders(s: int, n: int, rng: Rng) -> tuple[Gain, Array]:
    truth = tastes(s, n, rng)
    seeds = rng.integers(2**31, size=(REPEATS, 2))

    def gain(kept: np.ndarray, fold: np.ndarray, number: int) -> Array:
        a, b = (elo_tau(truth[:, kept], fold, np.random.default_rng(seed)) for seed in seeds[number])
        return b - a

    return gain, truth


def elo_tau(truth: Array, fold: np.ndarray, rng: Rng) -> Array:
    """τ of Elo at K = 32 after the votes on other folds' prompts, each experiment in an order of its own."""
    s, m, _ = truth.shape
    i, j = np.triu_indices(MODELS, 1)
    game = rng.permuted(np.tile(np.arange(m * len(i)), (s, 1)), axis=1)
    prompt, a, b = game // len(i), i[game % len(i)], j[game % len(i)]
    row = np.arange(s)
    outcome = 1.0 / (1.0 + np.exp(-2.0 * (truth[row[:, None], prompt, a] - truth[row[:, None], prompt, b])))
    rating = np.zeros((s, MODELS, FOLDS))  # as it is when the votes on a fold's prompts are left out
    for t in range(game.shape[1]):
        one, other = rating[row, a[:, t]], rating[row, b[:, t]]
        expected = 1.0 / (1.0 + 10.0 ** ((other - one) / SCALE))
        step = 32.0 * (outcome[:, t, None] - expected) * (fold[prompt[:, t], None] != np.arange(FOLDS))
        rating[row, a[:, t]] = one + step
        rating[row, b[:, t]] = other - step
    return kendall_tau(rating.transpose(0, 2, 1)[:, fold], truth)


def model_tastes(s: int, n: int, rng: Rng) -> tuple[Gain, Array]:
    truth = tastes(s, n, rng, common=0.8)
    read = tau_of_quality(truth, 0.3, rng)

    def gain(kept: np.ndarray, fold: np.ndarray, number: int) -> Array:  # noqa: ARG001
        return read[:, kept] - kendall_tau(learned_mean(truth, kept, fold), truth[:, kept])

    return gain, truth


EQUAL: dict[str, World] = {
    "independent prompts": untrained,
    "fold effect 0.05": partial(untrained, correlation=0.05),
    "fold effect 0.2": partial(untrained, correlation=0.2),
    "nothing to learn": nothing_to_learn,
    "equal learners": equal_learners,
    "two orders for Elo": two_orders,
}
UNEQUAL: dict[str, World] = {
    "B better by 0.1": partial(untrained, advantage=0.1),
    "B better by 0.2": partial(untrained, advantage=0.2),
    "B better by 0.3": partial(untrained, advantage=0.3),
    "B better by 0.2, fold effect 0.05": partial(untrained, advantage=0.2, correlation=0.05),
    "model-level tastes (A found)": model_tastes,
}


# ── Rules: [experiments] True where a winner is named ────────────────────────────────────────────────────


def by_fold(d: Array, fold: np.ndarray) -> Array:
    """Standard error of the mean of ``d`` [s, m], clustered by fold."""
    away = d - d.mean(1, keepdims=True)
    sums = np.stack([away[:, fold == f].sum(1) for f in range(FOLDS)], 1)
    return np.asarray(np.sqrt((sums**2).sum(1) * FOLDS / (FOLDS - 1.0)) / d.shape[1])


def quantile(df: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, df))


def today(d: Array, fold: np.ndarray, rng: Rng) -> np.ndarray:
    n = d.shape[1]
    corrected = quantile(n - 1) * d.std(1, ddof=1) / np.sqrt(n) * np.sqrt(1.0 + FOLDS / (FOLDS - 1.0))
    half = np.maximum(corrected, quantile(FOLDS - 1) * by_fold(d, fold))
    return np.asarray((np.abs(d.mean(1)) > half) & (sign_flip(d, rng) < 0.05))


def repeated(gain: Gain, n: int, rng: Rng) -> np.ndarray:
    means = []
    for number in range(REPEATS):
        fold = rng.permutation(folds_of(n))
        d = gain(np.arange(n), fold, number)
        means += [d[:, fold == f].mean(1) for f in range(FOLDS)]
    m = np.stack(means, 1)
    error = m.std(1, ddof=1) * np.sqrt(1.0 / m.shape[1] + 1.0 / (FOLDS - 1.0))
    return np.asarray(np.abs(m.mean(1)) > quantile(m.shape[1] - 1) * error)


def jackknife(gain: Gain, n: int, fold: np.ndarray, d: Array) -> np.ndarray:
    blocks = np.array_split(np.random.default_rng(0).permutation(n), min(BLOCKS, n))
    left = []
    for block in blocks:
        kept = np.setdiff1d(np.arange(n), block)
        left.append(gain(kept, fold[kept], 0).mean(1))
    away = np.stack(left, 1) - np.mean(left, axis=0)[:, None]
    g = len(blocks)
    error = np.sqrt((g - 1.0) / g * (away**2).sum(1))
    half = np.maximum(quantile(g - 1) * error, quantile(FOLDS - 1) * by_fold(d, fold))
    return np.asarray(np.abs(d.mean(1)) > half)


def weighed(d: Array, truth: Array, fold: np.ndarray, rng: Rng) -> np.ndarray:
    clear = truth.std(2)
    return today(d * clear / clear.mean(1, keepdims=True), fold, rng)


def decided(draw: World, n: int, simulations: int, rng: Rng) -> dict[str, Any]:
    """How many of the experiments name a winner by each rule, 500 of them at a time."""
    counts: dict[str, int] = {}
    for _ in range(simulations // 500):
        gain, truth = draw(500, n, rng)
        fold = folds_of(n)
        d = gain(np.arange(n), fold, 0)
        named = {
            "today": today(d, fold, rng),
            "repeated": repeated(gain, n, rng),
            "jackknife": jackknife(gain, n, fold, d),
            "weighed": weighed(d, truth, fold, rng),
        }
        counts = {rule: counts.get(rule, 0) + int(hits.sum()) for rule, hits in named.items()}
    return {rule: rate(hits, simulations // 500 * 500) for rule, hits in counts.items()}


def main() -> None:
    """Do what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000, help="experiments of each kind, in five hundreds")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path("results/verdict_rules.json"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    for n in (25, 100):
        for number, (name, draw) in enumerate((EQUAL | UNEQUAL).items()):
            key = f"{name}/{n}/{args.simulations}/{args.seed}"
            if key not in done:
                done[key] = decided(draw, n, args.simulations, np.random.default_rng([args.seed, n, number]))
                args.out.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
            print(f"{name:34s} n={n:3d}  " + "  ".join(f"{r} {shown(c)}" for r, c in done[key].items()), flush=True)


if __name__ == "__main__":
    main()
