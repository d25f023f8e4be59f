"""Are the verdicts right as often as they say? Simulated experiments of known truth, without training.

    python benchmarks/verdict.py [--worlds 2000] [--only winner|people|h1|h2] [--out results/verdict.json]

Every row is the share of experiments in which a winner is named, with its 95 % Clopper–Pearson interval: at most 5 %
are wanted where both systems are equally good. docs/method.md has the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.records import GroundTruth
from evaluation import Array
from evidence.hypotheses import generalization, placement, verdict
from evidence.intervals import Groups, difference, winner

MODELS, FOLDS = 6, 5
Rng = np.random.Generator
Experiments = tuple[Array, Array]
"""Metric of System A and of System B, [experiments, prompts]"""
World = Callable[[int, int, Rng], Experiments]
"""(experiments, prompts, generator)"""


def folds_of(prompts: int) -> np.ndarray:
    return np.arange(prompts) % FOLDS


def rate(hits: int, n: int) -> dict[str, Any]:
    """A share with its Clopper–Pearson interval."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, "exact")
    return {"share": hits / n, "ci95": [float(interval.low), float(interval.high)], "of": n}


def counted(words: list[str]) -> dict[str, Any]:
    """{word: its share}."""
    return {word: rate(words.count(word), len(words)) for word in sorted(set(words))}


def shown(cells: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {100 * c['share']:.1f} [{100 * c['ci95'][0]:.1f}, {100 * c['ci95'][1]:.1f}]"
        for name, c in cells.items()
    )


# ── Two systems on a persona's prompts ───────────────────────────────────────────────────────────────────


def kendall_tau(x: Array, y: Array) -> Array:
    """τ of scores without ties, [..., m] → [...]: millions of prompts at once, where SciPy takes one a call."""
    i, j = np.triu_indices(x.shape[-1], 1)
    return np.asarray(np.mean(np.sign(x[..., i] - x[..., j]) * np.sign(y[..., i] - y[..., j]), axis=-1))


def tau_of_quality(truth: Array, tau: float, rng: Rng) -> Array:
    """τ of scores whose expected τ is ``tau``: correlation sin(π τ / 2) (Greiner's relation)."""
    r = np.sin(np.pi * tau / 2.0)
    return kendall_tau(r * truth + np.sqrt(1.0 - r * r) * rng.standard_normal(truth.shape), truth)


def independent(s: int, n: int, rng: Rng, advantage: float = 0.0, luck: float = 0.0) -> Experiments:
    """A has τ 0.4, B more by ``advantage``; ``luck``: share of the differences' variance that a fold has in common."""
    truth = rng.standard_normal((s, n, MODELS))
    a, b = tau_of_quality(truth, 0.4, rng), tau_of_quality(truth, 0.4 + advantage, rng)
    spread = float((b - a).std()) * np.sqrt(luck / (1.0 - luck))
    return a, b + (spread * rng.standard_normal((s, FOLDS)))[:, folds_of(n)]


def trained_means(labels: Array) -> Array:
    """The simplest learner: a prompt's prediction is the mean of ``labels`` [s, n, m] of the other folds' prompts."""
    fold, predicted = folds_of(labels.shape[1]), np.empty_like(labels)
    for f in range(FOLDS):
        predicted[:, fold == f] = labels[:, fold != f].mean(1, keepdims=True)
    return predicted


def nothing_to_learn(s: int, n: int, rng: Rng) -> Experiments:
    """Tastes that hold nothing from prompt to prompt: A learns the mean, B weighs prompts by how alike they are."""
    truth, text, fold = rng.standard_normal((s, n, MODELS)), rng.standard_normal((s, n, 8)), folds_of(n)
    read = ((text @ text.transpose(0, 2, 1)) * (fold[:, None] != fold)) @ truth
    return kendall_tau(trained_means(truth), truth), kendall_tau(read, truth)


def common_taste(s: int, n: int, rng: Rng, share: float = 0.3) -> Array:
    """[s, n, models] true scores of which ``share`` holds for all prompts."""
    common = rng.standard_normal((s, 1, MODELS))
    return np.asarray(np.sqrt(share) * common + np.sqrt(1.0 - share) * rng.standard_normal((s, n, MODELS)))


def equal_learners(s: int, n: int, rng: Rng) -> Experiments:
    """A common taste, which both learn equally well, each with its own error on each prompt's labels."""
    truth = common_taste(s, n, rng)
    labels = [truth + 0.5 * rng.standard_normal(truth.shape) for _ in "ab"]
    return kendall_tau(trained_means(labels[0]), truth), kendall_tau(trained_means(labels[1]), truth)


def elo_orders(s: int, n: int, rng: Rng) -> Experiments:
    """The same Elo system twice, each with its own order of the same preferences: equal, and as noisy as Elo is."""
    truth = common_taste(s, n, rng)
    return _elo_tau(truth, rng), _elo_tau(truth, rng)


def _elo_tau(truth: Array, rng: Rng) -> Array:
    """elo_system's updates, of all experiments at once."""
    s, n, _ = truth.shape
    pairs = np.array([(i, j) for i in range(MODELS) for j in range(i + 1, MODELS)])
    game = rng.permuted(np.tile(np.arange(n * len(pairs)), (s, 1)), axis=1)
    prompt, a, b = game // len(pairs), pairs[game % len(pairs), 0], pairs[game % len(pairs), 1]
    row, fold, tau = np.arange(s), folds_of(n), np.empty((s, n))
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


def model_level_tastes(s: int, n: int, rng: Rng) -> Experiments:
    """One order of the contestants for nearly all prompts: A learns it, B only half sees it in the texts."""
    truth = common_taste(s, n, rng, 0.8)
    return kendall_tau(trained_means(truth), truth), tau_of_quality(truth, 0.3, rng)


NULLS: dict[str, World] = {
    "independent prompts": independent,
    "fold effect 0.05": partial(independent, luck=0.05),
    "fold effect 0.2": partial(independent, luck=0.2),
    "nothing to learn": nothing_to_learn,
    "equal learners": equal_learners,
    "two orders for Elo": elo_orders,
}
ADVANTAGES: dict[str, World] = {
    "B better by 0.1": partial(independent, advantage=0.1),
    "B better by 0.2": partial(independent, advantage=0.2),
    "B better by 0.3": partial(independent, advantage=0.3),
    "B better by 0.2, fold effect 0.05": partial(independent, advantage=0.2, luck=0.05),
    "model-level tastes (A is better)": model_level_tastes,
}


def winners(world: World, worlds: int, prompts: int, rng: Rng) -> dict[str, Any]:
    a, b = world(worlds, prompts, rng)
    groups = Groups(folds_of(prompts).tolist())
    named = [winner(difference(y, x, groups)) for x, y in zip(a, b, strict=True)]
    return {who: rate(named.count(who), worlds) for who in ("reward_model", "elo_offset")} | {
        "any": rate(worlds - named.count("none"), worlds)
    }


# ── Two systems on people's votes ────────────────────────────────────────────────────────────────────────

SIZES = {"12 people, 25 prompts, 40 votes each": (12, 25, 40), "59 people, 80 prompts, 21 each": (59, 80, 21)}
PEOPLE = ("halves of the votes", "two readers", "two lucky readers", "two who know the people", "B reads better")


def hits_on_votes(kind: str, people: int, prompts: int, each: int, rng: Rng) -> tuple[list[Array], Groups]:
    """Each vote predicted right (1) or wrong (0) by two systems, and the votes' groups.

    The systems learn from a half of everyone's votes each, or read every text with an error of their own that all
    voters on it share (of a size that differs from fold to fold where they are lucky; smaller for B), or know every
    person so.
    """
    n, utility = people * each, rng.standard_normal(MODELS) + 0.7 * rng.standard_normal((prompts, MODELS))
    own = 0.5 * rng.standard_normal((people, MODELS))
    user, prompt, a = np.repeat(np.arange(people), each), rng.integers(prompts, size=n), rng.integers(MODELS, size=n)
    b = (a + rng.integers(1, MODELS, size=n)) % MODELS
    gap = 2.0 * (utility[prompt, a] + own[user, a] - utility[prompt, b] - own[user, b])
    won = np.where(rng.random(n) < 1.0 / (1.0 + np.exp(-gap)), 1.0, -1.0)
    fold, half = rng.permutation(np.arange(prompts) % FOLDS), rng.permutation(n) % 2
    hits = []
    for side in (0, 1):
        if kind == "halves of the votes":
            score = np.zeros((n, MODELS))
            for f in range(FOLDS):
                used = (fold[prompt] != f) & (half == side)
                points = np.bincount(a[used], won[used], MODELS) - np.bincount(b[used], won[used], MODELS)
                games = np.bincount(a[used], minlength=MODELS) + np.bincount(b[used], minlength=MODELS)
                score[fold[prompt] == f] = points / (games + 1.0)
        elif kind == "two who know the people":
            score = (utility.mean(0) + own + 0.7 * rng.standard_normal(own.shape))[user]
        else:
            luck = np.exp((0.4 if "lucky" in kind else 0.0) * rng.standard_normal(FOLDS))[fold][:, None]
            size = 0.6 if kind == "B reads better" and side else 1.0
            score = (utility + size * luck * rng.standard_normal(utility.shape))[prompt]
        row = np.arange(n)
        hits.append(0.5 + 0.5 * np.sign((score[row, a] - score[row, b]) * won))
    return hits, Groups(fold[prompt].tolist(), (user.tolist(),))


def winners_on_votes(kind: str, size: str, worlds: int, rng: Rng) -> dict[str, Any]:
    named = []
    for _ in range(worlds):
        (a, b), groups = hits_on_votes(kind, *SIZES[size], rng)
        named.append(winner(difference(b, a, groups, reach=1.0)))
    return {"any": rate(worlds - named.count("none"), worlds)}


# ── The hypotheses ───────────────────────────────────────────────────────────────────────────────────────


def sample_efficiency_verdicts(errors: tuple[float, float], worlds: int, rng: Rng) -> dict[str, Any]:
    """H1: areas under the curves of two learners of one taste, who err by so many tastes; labels err less and less."""
    truth = common_taste(worlds, 25, rng)
    own = [error * rng.standard_normal(truth.shape) for error in errors]
    areas = np.zeros((2, worlds, 25))
    for seen in (0.2, 0.4, 0.6, 0.8, 1.0):
        labels = truth + np.sqrt(1.0 / seen - 1.0) * rng.standard_normal(truth.shape)
        areas += [kendall_tau(trained_means(labels + error), truth) / 5.0 for error in own]
    groups = Groups(folds_of(25).tolist())
    return counted([verdict(difference(b, a, groups)) for a, b in zip(*areas, strict=True)])


def generalization_verdicts(kind: str, worlds: int, rng: Rng) -> dict[str, Any]:
    """H2: B has another rating of the unseen model, of equal quality; or reads nothing and puts it in the middle, where
    A's ratings are upside down; or reads texts at a τ of ``kind``."""
    said = []
    for _ in range(worlds):
        common = rng.standard_normal(MODELS)
        truth = np.sqrt(0.3) * common + np.sqrt(0.7) * rng.standard_normal((25, MODELS))
        middle = (common.sum() - common) / (MODELS - 1.0)
        elo, other = (0.5 * common + rng.standard_normal(MODELS) for _ in "ab")
        read = np.tile(other, (25, 1))
        if kind == "upside down":
            elo, read = -common, np.tile(middle + 0.3 * rng.standard_normal(MODELS), (25, 1))
        if kind.startswith("τ"):
            r = np.sin(np.pi * float(kind[2:]) / 2.0)
            texts = r * truth + np.sqrt(1.0 - r * r) * rng.standard_normal(truth.shape)
        names = [f"m{i}" for i in range(MODELS)]
        truths = [GroundTruth(f"p{i}", dict(zip(names, row, strict=True))) for i, row in enumerate(truth.tolist())]
        placed: list[list[Any]] = [[], [], []]
        for held, name in enumerate(names):
            for i, one in enumerate(truths):
                for own, unseen in zip(placed, (elo[held], middle[held], read[i, held]), strict=True):
                    scores = np.where(np.arange(MODELS) == held, unseen, common)
                    if own is placed[2] and kind.startswith("τ"):
                        scores = texts[i]
                    own.append(placement(dict(zip(names, scores.tolist(), strict=True)), one, name))
        rivals = {"against_elo": ("elo_offset", placed[0]), "against_others_mean": ("bradley_terry", placed[1])}
        said.append(generalization(rivals, placed[2])["verdict"])
    return counted(said)


def rows(worlds: int, only: str) -> Iterator[tuple[str, Callable[[Rng], dict[str, Any]]]]:
    """Every row's name and what measures it."""
    if only in ("all", "winner"):
        for name, world in (NULLS | ADVANTAGES).items():
            for n in (5, 25, 100) if name in NULLS else (25, 100):
                yield f"{name}, {n} prompts", partial(winners, world, worlds, n)
    if only in ("all", "people"):
        for kind in PEOPLE:
            for size in SIZES:
                yield f"{kind}, {size}", partial(winners_on_votes, kind, size, worlds)
    if only in ("all", "h1"):
        for errors in ((0.5, 0.5), (1.0, 1.0), (2.0, 0.5), (4.0, 0.5)):
            yield (
                f"H1: A errs {errors[0]:g}, B {errors[1]:g} tastes",
                partial(sample_efficiency_verdicts, errors, worlds),
            )
    if only in ("all", "h2"):
        for kind in ("equal rating", "upside down", "τ 0.5", "τ 0.8"):
            yield f"H2: {kind}", partial(generalization_verdicts, kind, worlds)


def main() -> None:
    """Measure what the flags ask for, print the rows and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=2000)
    parser.add_argument("--only", choices=["all", "winner", "people", "h1", "h2"], default="all")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path("results/verdict.json"))
    args = parser.parse_args()
    found = {}
    for name, measure in rows(args.worlds, args.only):
        found[name] = measure(np.random.default_rng([args.seed, crc32(name.encode())]))
        print(f"{name:60s} {shown(found[name])}", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
