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

from evaluation import Array, kendall_tau
from hypotheses import generalization, placement, verdict
from intervals import Difference, mean_interval, paired_difference, winner
from records import GroundTruth

MODELS, FOLDS = 6, 5
SIGN_PATTERNS = 1_999
Rng = np.random.Generator
Sample = tuple[Array, Array]  # τ of System A and of System B, [experiments, prompts]


# ── Worlds: τ of both systems on every prompt, as a cross-validation would give them ─────────────────────


def folds_of(prompts: int) -> np.ndarray:
    return np.arange(prompts) % FOLDS


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
            expected = 1.0 / (1.0 + 10.0 ** ((rating[row, j] - rating[row, i]) / 400.0))
            step = 32.0 * (outcome[:, t] - expected) * (fold[prompt[:, t]] != f)
            rating[row, i] += step
            rating[row, j] -= step
        tau[:, fold == f] = kendall_tau(np.broadcast_to(rating[:, None], truth.shape), truth)[:, fold == f]
    return tau


def model_level_tastes(s: int, n: int, rng: Rng) -> Sample:
    """One order of the contestants for nearly all prompts: A learns it, B only half sees it in the texts."""
    truth = np.sqrt(0.8) * rng.standard_normal((s, 1, MODELS)) + np.sqrt(0.2) * rng.standard_normal((s, n, MODELS))
    return kendall_tau(trained_means(truth), truth), tau_of_quality(truth, 0.3, rng)


# ── Candidates: 1 where B is named, −1 where A is, 0 for none, [experiments] ──────────────────────────────


def candidates(d: Array, rng: Rng) -> dict[str, np.ndarray]:
    """Every way to decide on the paired differences ``d`` [experiments, prompts]."""
    from scipy.stats import t

    n, mean = d.shape[1], d.mean(1)
    plain, clustered = d.std(1, ddof=1) / np.sqrt(n), _fold_error(d)
    corrected = plain * np.sqrt(1.0 + FOLDS / (FOLDS - 1.0))
    wide, narrow = float(t.ppf(0.975, FOLDS - 1)), float(t.ppf(0.975, n - 1))
    flip = sign_flip(d, rng) < 0.05
    sides = {
        "bootstrap": _bootstrap(d, "percentile", rng),
        "BCa": _bootstrap(d, "BCa", rng),
        "t": np.abs(mean) > narrow * plain,
        "sign-flip": flip,
        "t clustered by fold": np.abs(mean) > wide * clustered,
        "Nadeau-Bengio": np.abs(mean) > narrow * corrected,
        "chosen": flip & (np.abs(mean) > np.maximum(wide * clustered, narrow * corrected)),
    }
    return {name: np.where(excludes, np.sign(mean), 0.0) for name, excludes in sides.items()}


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


def rate(hits: int, n: int) -> dict[str, Any]:
    """A share with its Clopper–Pearson interval."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, "exact")
    return {"share": hits / n, "ci95": [float(interval.low), float(interval.high)], "hits": hits, "of": n}


def shown(cell: dict[str, Any]) -> str:
    return f"{100 * cell['share']:5.1f} [{100 * cell['ci95'][0]:4.1f}, {100 * cell['ci95'][1]:4.1f}]"


NULLS: dict[str, Callable[[int, int, Rng], Sample]] = {
    "independent prompts": independent,
    "fold effect 0.05": lambda s, n, rng: fold_effect(s, n, rng, 0.05),
    "fold effect 0.2": lambda s, n, rng: fold_effect(s, n, rng, 0.2),
    "nothing to learn": nothing_to_learn,
    "equal learners": equal_learners,
    "two orders for Elo": elo_orders,
}
ADVANTAGES: dict[str, Callable[[int, int, Rng], Sample]] = {
    "B better by 0.1": lambda s, n, rng: independent(s, n, rng, 0.1),
    "B better by 0.2": lambda s, n, rng: independent(s, n, rng, 0.2),
    "B better by 0.3": lambda s, n, rng: independent(s, n, rng, 0.3),
    "B better by 0.2, fold effect 0.05": lambda s, n, rng: fold_effect(s, n, rng, 0.05, 0.2),
    "model-level tastes (A found)": model_level_tastes,
}


def winner_table(
    worlds: dict[str, Callable[[int, int, Rng], Sample]], sizes: tuple[int, ...], simulations: int, rng: Rng
) -> list[dict[str, Any]]:
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
        groups = folds_of(prompts).tolist()
        tested = [paired_difference(b, a, 0, groups) for a, b in zip(*areas, strict=True)]
        result[f"{name} ({(areas[1] - areas[0]).mean():+.2f})"] = _verdicts(tested)
    return result


def generalization_rows(simulations: int, rng: Rng, prompts: int = 25) -> dict[str, Any]:
    """H2 at the level of scores, through hypotheses.generalization itself."""
    result = {}
    for name, tau in (
        ("null: B has another rating of equal quality", None),
        ("B reads the texts, τ 0.5", 0.5),
        ("B reads the texts, τ 0.8", 0.8),
    ):
        verdicts = []
        for _ in range(simulations):
            common = rng.standard_normal(MODELS)
            truth = np.sqrt(0.3) * common + np.sqrt(0.7) * rng.standard_normal((prompts, MODELS))
            ratings = [0.5 * common + rng.standard_normal(MODELS) for _ in "ab"]
            verdicts.append(generalization(*_placements(truth, common, ratings, tau, rng))["verdict"])
        result[name] = _counted(verdicts)
    return result


def _placements(truth: Array, common: Array, ratings: list[Array], tau: float | None, rng: Rng) -> list[list[Any]]:
    """Of A, whose other ratings are learned (``common``), and of B: likewise, or by the texts at quality ``tau``."""
    names = [f"m{i}" for i in range(MODELS)]
    truths = [GroundTruth(f"p{i}", dict(zip(names, row, strict=True))) for i, row in enumerate(truth.tolist())]
    r = 0.0 if tau is None else float(np.sin(np.pi * tau / 2.0))
    read = r * truth + np.sqrt(1.0 - r * r) * rng.standard_normal(truth.shape)
    both = []
    for rating, texts in ((ratings[0], None), (ratings[1], None if tau is None else read)):
        own = []
        for held, name in enumerate(names):
            known = np.where(np.arange(MODELS) == held, rating, common)
            for i, one in enumerate(truths):
                values = known if texts is None else texts[i]
                own.append(placement(dict(zip(names, values.tolist(), strict=True)), one, name))
        both.append(own)
    return both


def _verdicts(differences: list[Difference | None]) -> dict[str, Any]:
    return _counted([verdict(d) for d in differences])


def _counted(verdicts: list[str]) -> dict[str, Any]:
    return {v: rate(verdicts.count(v), len(verdicts)) for v in ("supported", "not supported", "inconclusive")}


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
    few = max(1, simulations // 4)  # through Python objects: slower
    print(f"Equal systems: % of {simulations} experiments in which a winner is named (at most 5 wanted)")
    result: dict[str, Any] = {"equal_systems": winner_table(NULLS, (5, 25, 100), simulations, rng)}
    print("\nUnequal systems: % in which the better one is named")
    result["unequal_systems"] = winner_table(ADVANTAGES, (25, 100), simulations, rng)
    for key, rows in (
        ("sample_efficiency", sample_efficiency_rows(few, rng)),
        ("generalization", generalization_rows(few, rng)),
    ):
        print(f"\n{key}, 25 prompts, {few} experiments")
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
