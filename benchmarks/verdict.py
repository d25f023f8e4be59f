"""Is the verdict right as often as it says? Simulated experiments of the default size, with known truth.

    python benchmarks/verdict.py [--simulations 2000] [--training 40] [--out results/verdict.json]

At the level of scores (no training) thousands of experiments compare the intervals one could use; intervals.py uses
``chosen``. ``--training N`` takes N experiments of each kind through both systems' whole training
(verdict_training.py). Every rate has its 95 % Clopper–Pearson interval.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from verdict_worlds import (
    ADVANTAGES,
    FOLDS,
    MODELS,
    NULLS,
    Rng,
    World,
    counted,
    folds_of,
    kendall_tau,
    rate,
    shown,
    tau_of_quality,
    trained_means,
)

from core.records import GroundTruth
from evaluation import Array
from evidence.hypotheses import generalization, placement, verdict
from evidence.intervals import Difference, mean_interval, paired_difference, winner

SIGN_PATTERNS = 1_999
UPSIDE_DOWN = "null: B reads nothing, A's ratings are upside down"


# ── Candidates: 1 where B is named, −1 where A is, 0 for none, [experiments] ──────────────────────────────


def candidates(d: Array, rng: Rng) -> dict[str, np.ndarray]:
    """Every way to decide on the paired differences ``d`` [experiments, prompts]."""
    mean, flip = d.mean(1), sign_flip(d, rng) < 0.05
    plain, corrected, clustered = half_widths(d)
    sides = {
        "bootstrap": _bootstrap(d, "percentile", rng),
        "BCa": _bootstrap(d, "BCa", rng),
        "t": np.abs(mean) > plain,
        "sign-flip": flip,
        "t clustered by fold": np.abs(mean) > clustered,
        "Nadeau-Bengio": np.abs(mean) > corrected,
        "chosen": flip & (np.abs(mean) > np.maximum(clustered, corrected)),
    }
    return {name: np.where(excludes, np.sign(mean), 0.0) for name, excludes in sides.items()}


def half_widths(d: Array) -> tuple[Array, Array, Array]:
    """Of the t interval, Nadeau and Bengio's and the one clustered by fold, [experiments] each."""
    from scipy.stats import t

    n = d.shape[1]
    plain = float(t.ppf(0.975, n - 1)) * d.std(1, ddof=1) / np.sqrt(n)
    return plain, plain * np.sqrt(1.0 + FOLDS / (FOLDS - 1.0)), float(t.ppf(0.975, FOLDS - 1)) * _fold_error(d)


def _fold_error(d: Array) -> Array:
    fold = folds_of(d.shape[1])
    away = d - d.mean(1, keepdims=True)
    sums = np.stack([away[:, fold == f].sum(1) for f in range(FOLDS)], 1)
    return np.asarray(np.sqrt((sums**2).sum(1) * FOLDS / (FOLDS - 1.0)) / d.shape[1])


def sign_flip(d: Array, rng: Rng) -> Array:
    """Two-sided p-values [experiments] of the sign-flip test, exact for up to ten prompts."""
    n = d.shape[1]
    exact = n <= 10
    if exact:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = rng.choice([-1.0, 1.0], (SIGN_PATTERNS, n))
    beyond = np.abs(d @ signs.T) >= np.abs(d.sum(1))[:, None] - 1e-9
    return np.asarray((beyond.sum(1) + (not exact)) / (len(signs) + (not exact)))


def _bootstrap(d: Array, method: str, rng: Rng) -> np.ndarray:
    """Whether SciPy's bootstrap interval of the mean excludes 0."""
    from scipy.stats import bootstrap

    excludes = []
    for part in np.array_split(d, max(1, d.size // 5_000)):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # BCa cannot be had where all differences are equal: none named
            low, high = bootstrap(
                (part,), np.mean, axis=-1, n_resamples=999, method=method, rng=rng
            ).confidence_interval
        excludes.append((low > 0.0) | (high < 0.0))
    return np.concatenate(excludes)


def agrees_with_program(d: Array, decided: np.ndarray, count: int = 25) -> int:
    """How many of the first ``count`` decisions differ from those of intervals.winner: p-values near 0.05 may."""
    groups = folds_of(d.shape[1]).tolist()
    side = {"reward_model": 1.0, "elo_offset": -1.0, "none": 0.0}
    named = [side[winner(paired_difference(x.tolist(), [0.0] * len(x), 0, groups))] for x in d[:count]]
    return int((np.array(named) != decided[:count]).sum())


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────


def winner_table(worlds: dict[str, World], sizes: tuple[int, ...], simulations: int, rng: Rng) -> list[dict[str, Any]]:
    """For each world and number of prompts the share of experiments in which each candidate names a winner."""
    rows = []
    for world, draw in worlds.items():
        for n in sizes:
            a, b = draw(simulations, n, rng)
            decided = candidates(b - a, rng)
            sign = -1.0 if "A found" in world else 1.0
            hits = {c: v != 0.0 if worlds is NULLS else v == sign for c, v in decided.items()}
            shares = {c: rate(int(v.sum()), simulations) for c, v in hits.items()}
            differing = agrees_with_program(b - a, decided["chosen"])
            row = {"world": world, "prompts": n, "difference": float((b - a).mean()), "differing": differing}
            rows.append(row | {"named": shares})
            cells = "  ".join(f"{c} {100 * v['share']:.1f}" for c, v in shares.items() if c != "chosen")
            print(f"{world:34s} n={n:3d}  chosen {shown(shares['chosen'])} | {cells}", flush=True)
    return rows


def sample_efficiency_rows(simulations: int, rng: Rng, prompts: int = 25) -> dict[str, Any]:
    """H1 at the level of scores: areas under the curves of two learners of one common taste.

    Both see the same labels, whose error falls with the share seen; each adds an error of its own.
    """
    worlds = {
        "null: both err by half a taste": (0.5, 0.5),
        "null, adverse: both err by a whole one": (1.0, 1.0),
        "A errs 2 tastes, B half a one": (2.0, 0.5),
        "A errs 4 tastes, B half a one": (4.0, 0.5),
    }
    result = {}
    for name, errors in worlds.items():
        shape = (simulations, prompts, MODELS)
        truth = np.sqrt(0.3) * rng.standard_normal((simulations, 1, MODELS)) + np.sqrt(0.7) * rng.standard_normal(shape)
        own = [error * rng.standard_normal(shape) for error in errors]
        areas = np.zeros((2, simulations, prompts))
        for seen in (0.2, 0.4, 0.6, 0.8, 1.0):
            labels = truth + np.sqrt(1.0 / seen - 1.0) * rng.standard_normal(shape)
            areas += [kendall_tau(trained_means(labels + error), truth) / 5.0 for error in own]
        result[f"{name} ({(areas[1] - areas[0]).mean():+.2f})"] = _verdicts(areas[1] - areas[0], rng)
    return result


def generalization_rows(simulations: int, rng: Rng, prompts: int = 25) -> dict[str, Any]:
    """H2 at the level of scores, through hypotheses.generalization itself."""
    result = {}
    for name, tau in (
        ("null: B has another rating of equal quality", None),
        (UPSIDE_DOWN, None),
        ("B reads the texts, τ 0.5", 0.5),
        ("B reads the texts, τ 0.8", 0.8),
    ):
        verdicts = []
        for _ in range(simulations):
            common = rng.standard_normal(MODELS)
            truth = np.sqrt(0.3) * common + np.sqrt(0.7) * rng.standard_normal((prompts, MODELS))
            ratings = [0.5 * common + rng.standard_normal(MODELS) for _ in "ab"]
            if name == UPSIDE_DOWN:
                middle = (common.sum() - common) / (MODELS - 1.0)
                ratings = [-common, middle + 0.3 * rng.standard_normal(MODELS)]
            elo, others, reward = _placements(truth, common, ratings, tau, rng)
            verdicts.append(generalization(elo, others, reward)["verdict"])
        result[name] = counted(verdicts)
    return result


def _placements(truth: Array, common: Array, ratings: list[Array], tau: float | None, rng: Rng) -> list[list[Any]]:
    """Of A, whose other ratings are learned (``common``), of whoever puts the unseen one at their mean, and of B: as A,
    or by the texts at quality ``tau``."""
    names = [f"m{i}" for i in range(MODELS)]
    truths = [GroundTruth(f"p{i}", dict(zip(names, row, strict=True))) for i, row in enumerate(truth.tolist())]
    r = 0.0 if tau is None else float(np.sin(np.pi * tau / 2.0))
    read = r * truth + np.sqrt(1.0 - r * r) * rng.standard_normal(truth.shape)
    every = []
    middle = np.array([np.delete(common, held).mean() for held in range(MODELS)])
    for rating, texts in ((ratings[0], None), (middle, None), (ratings[1], None if tau is None else read)):
        own = []
        for held, name in enumerate(names):
            known = np.where(np.arange(MODELS) == held, rating, common)
            for i, one in enumerate(truths):
                values = known if texts is None else texts[i]
                own.append(placement(dict(zip(names, values.tolist(), strict=True)), one, name))
        every.append(own)
    return every


def _verdicts(d: Array, rng: Rng) -> dict[str, Any]:
    """hypotheses.verdict on the chosen interval of differences [experiments, prompts]."""
    mean, half, p = d.mean(1), np.maximum(*half_widths(d)[1:]), sign_flip(d, rng)
    rows = zip(mean.tolist(), half.tolist(), p.tolist(), strict=True)
    return counted([verdict(Difference(m, (m - h, m + h), p, d.shape[1], 0.0)) for m, h, p in rows])


def coverage_rows(simulations: int, rng: Rng) -> list[dict[str, Any]]:
    """How often ``mean_interval`` holds the true mean, for values without and with folds."""
    worlds: dict[str, tuple[float, float, float, Callable[[int], Array]]] = {
        "τ, mean 0.4": (0.4, -1.0, 1.0, lambda n: tau_of_quality(rng.standard_normal((n, MODELS)), 0.4, rng)),
        "τ, mean 0.9": (0.9, -1.0, 1.0, lambda n: tau_of_quality(rng.standard_normal((n, MODELS)), 0.9, rng)),
        "top-1, rate 0.5": (0.5, 0.0, 1.0, lambda n: rng.binomial(1, 0.5, n).astype(float)),
        "top-1, rate 0.9": (0.9, 0.0, 1.0, lambda n: rng.binomial(1, 0.9, n).astype(float)),
    }
    rows = []
    for name, (true, low, high, draw) in worlds.items():
        for n in (5, 25, 100):
            hits = {"plain": 0, "with folds": 0}
            for _ in range(simulations):
                values = draw(n).tolist()
                for kind, groups in (("plain", None), ("with folds", folds_of(n).tolist())):
                    interval = mean_interval(values, low, high, groups)
                    hits[kind] += interval is not None and interval[0] <= true <= interval[1]
            rows.append({"values": name, "n": n, "covered": {k: rate(h, simulations) for k, h in hits.items()}})
    return rows


def main() -> None:
    """Measure what the flags ask for, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000, help="experiments of each kind, without training")
    parser.add_argument("--training", type=int, default=0, help="experiments of each kind through the whole training")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path("results/verdict.json"))
    args = parser.parse_args()
    rng, start = np.random.default_rng(args.seed), time.perf_counter()
    result: dict[str, Any] = {"simulations": args.simulations, "seed": args.seed}
    if args.simulations:
        result |= score_level(args.simulations, rng)
    if args.training:
        from verdict_training import whole_training

        result["whole_training"] = whole_training(args.training, args.seed)
    result["seconds"] = round(time.perf_counter() - start, 1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{result['seconds']} s; written to {args.out}")


def score_level(simulations: int, rng: Rng) -> dict[str, Any]:
    """All tables without training, printed as they come."""
    few = max(1, simulations // 4)  # for what counts coverage to the percent
    print(f"Equal systems: % of {simulations} experiments in which a winner is named (at most 5 wanted)")
    result: dict[str, Any] = {"equal_systems": winner_table(NULLS, (5, 25, 100), simulations, rng)}
    print("\nUnequal systems: % in which the better one is named")
    result["unequal_systems"] = winner_table(ADVANTAGES, (25, 100), simulations, rng)
    for key, rows in (
        ("sample_efficiency", sample_efficiency_rows(simulations, rng)),
        ("generalization", generalization_rows(simulations, rng)),
    ):
        print(f"\n{key}, 25 prompts, {simulations} experiments")
        for name, cells in rows.items():
            print(f"  {name:46s} " + "  ".join(f"{v} {shown(cell)}" for v, cell in cells.items()))
        result[key] = rows
    result["coverage"] = coverage_rows(few, rng)
    print("\nCoverage of mean_interval, %")
    for row in result["coverage"]:
        print(
            f"  {row['values']:16s} n={row['n']:3d}  " + "  ".join(f"{k} {shown(c)}" for k, c in row["covered"].items())
        )
    return result


if __name__ == "__main__":
    main()
