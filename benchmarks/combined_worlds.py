"""Does System C know what both know? Planted worlds, and its chances against what happens.

    python benchmarks/combined_worlds.py               # 20 worlds a row, minutes; prints one table
    python benchmarks/combined_worlds.py --worlds 4

A world: 50 prompts drawn from the recorded ones, their texts given to six contestants anew for each prompt (so no text
shows whose it is), and a person whose liking is √ρ · (a strength of each contestant) + √(1 − ρ) · (what the text
shows), of which a tenth is replaced by chance that nothing shows. What a text shows is a direction of the states in
even worlds and a property of the words in odd ones. 300 noisy preferences on 20 prompts train, 30 prompts test. The
contestants' ratings hold half of what strengths there are.

System C's design was chosen on worlds of this kind from other draws.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more threads only spin on matrices this small

import numpy as np
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import config
import evaluation
from base.features import Features, compute_features
from combined import Combined
from config import ExperimentConfig
from core.clock import Clock
from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference
from data_generation import make_data
from elo_system import EloSystem
from evidence.baselines import base_reward
from evidence.intervals import INDEPENDENT, difference
from llm.embedded import EmbeddedModel
from reward_model import RewardModel
from stages.tasks import Job

CONTESTANTS = tuple("abcdef")
TRAIN, PROMPTS = 20, 50
SHARPNESS = 3.0  # logits a standard deviation of liking
COUNTS = (60, 300)  # preferences after which chances are asked for


# ── The recorded texts ───────────────────────────────────────────────────────────────────────────────────


Recorded = tuple[Features, dict[tuple[str, str], str]]  # features and texts of one persona's samples


def recorded(persona: str, cache_dir: Path) -> Recorded:
    """Responses of the recorded run; features from the cache, or computed."""
    params, judge = ExperimentConfig(num_predict=config.EMBEDDED_NUM_PREDICT), config.EMBEDDED_NAME
    job = Job(persona, config.PERSONAS[persona], config.EMBEDDED_MODELS, judge, EmbeddedModel(), params, cache_dir)
    data = make_data(job, Clock(), ask=False)
    features = compute_features("embedded", data.prompts, data.responses, cache_dir=cache_dir, name=persona)
    return features, {(r.prompt_id, r.model): r.text for r in data.responses}


# ── Planted worlds ───────────────────────────────────────────────────────────────────────────────────────


def share(text: str, pattern: str) -> float:
    """Matches a word."""
    return len(re.findall(pattern, text)) / max(1, len(text.split()))


PROPERTIES: tuple[Callable[[str], float], ...] = (
    lambda text: float(np.log1p(len(text.split()))),
    lambda text: share(text, r"\d"),
    lambda text: len(text) / max(1, len(text.split())),
    lambda text: -share(text, r"\n"),
    lambda text: share(text, r"[,;:]"),
    lambda text: len(set(text.lower().split())) / max(1, len(text.split())),
    lambda text: share(text, r"\b(?:I|you|we|she|he|they)\b"),
)


class Kind(NamedTuple):
    """A row of the table."""

    rho: float
    hidden: float = 0.1
    """Share of the liking that nothing shows; 1: there is nothing to learn."""
    base_tau: float = 0.0
    """About the τ of a base's score alone; 0: a base without a score."""
    sharpness: float = SHARPNESS


KINDS = {
    "texts only, ρ = 0": Kind(0.0),
    "ρ = 0.3": Kind(0.3),
    "ρ = 0.6": Kind(0.6),
    "models only, ρ = 1": Kind(1.0),
    "texts only, base of τ 0.27": Kind(0.0, base_tau=0.27),
    "texts only, base of τ 0.54": Kind(0.0, base_tau=0.54),
    "ρ = 0.3, base of τ 0.27": Kind(0.3, base_tau=0.27),
    "ρ = 0.3, base of τ 0.54": Kind(0.3, base_tau=0.54),
    "ρ = 0.3, half hidden": Kind(0.3, hidden=0.5),
    "ρ = 0.3, half hidden, votes without noise": Kind(0.3, hidden=0.5, sharpness=100.0),
    "nothing to learn": Kind(0.3, hidden=1.0),
    "nothing to learn, votes without noise": Kind(0.3, hidden=1.0, sharpness=100.0),
}


class World(NamedTuple):
    """One person's votes and what it truly likes."""

    features: Features
    ratings: dict[str, float | None]
    preferences: tuple[Preference, ...]
    train: tuple[str, ...]
    truths: tuple[GroundTruth, ...]


def standard(x: np.ndarray) -> np.ndarray:
    """[prompts, m] deviations within prompts, of standard deviation 1."""
    deviations = x - x.mean(axis=1, keepdims=True)
    return np.asarray(deviations / np.sqrt((deviations**2).mean()))


def plant(kind: Kind, seed: int, runs: Sequence[Recorded]) -> World:
    """The world of this seed, on texts of all personas."""
    rng = np.random.default_rng([seed, round(100 * kind.rho)])
    states = np.concatenate([np.concatenate([f.mean, f.last], axis=1) for f, _ in runs])
    texts = [""] * len(states)
    by_prompt: dict[str, list[int]] = {}
    before = 0
    for of_run, said in runs:
        for key, row in of_run.index.items():
            texts[before + row] = said[key]
            by_prompt.setdefault(key[0], []).append(before + row)
        before += len(of_run.index)
    chosen = rng.permutation(sorted(by_prompt))[:PROMPTS]
    rows = np.array([rng.permutation(by_prompt[p]) for p in chosen])
    if seed % 2:
        read = PROPERTIES[seed // 2 % len(PROPERTIES)]
        shown = standard(np.array([read(text) for text in texts])[rows]) * rng.choice([-1.0, 1.0])
    else:
        seen = states[rows].astype(np.float64)
        seen -= seen.mean(axis=1, keepdims=True)
        seen /= np.sqrt((seen**2).mean(axis=(0, 1)))
        shown = standard(seen @ rng.standard_normal(seen.shape[-1]))
    strengths = standard(np.tile(rng.standard_normal(len(CONTESTANTS)), (PROMPTS, 1)))
    chance = standard(rng.standard_normal(rows.shape))
    liked = np.sqrt(kind.rho) * strengths + np.sqrt(1.0 - kind.rho) * shown
    liked = np.sqrt(1.0 - kind.hidden) * liked + np.sqrt(kind.hidden) * chance
    known = 0.5 * strengths[0] + np.sqrt(0.75) * rng.standard_normal(len(CONTESTANTS))
    ids = tuple(f"q{i:02d}" for i in range(PROMPTS))
    index = {(p, m): int(rows[i, j]) for i, p in enumerate(ids) for j, m in enumerate(CONTESTANTS)}
    score = np.zeros(len(texts), np.float32)
    if kind.base_tau:
        r = np.sin(np.pi * kind.base_tau / 2.0)  # Greiner's relation
        score[rows] = 7.0 * (r * liked + np.sqrt(1.0 - r * r) * rng.standard_normal(liked.shape)) + 5.0
    half = states.shape[1] // 2
    features = Features(index, states[:, :half], states[:, half:], score, bool(kind.base_tau), "embedded")
    votes = []
    for i, p in enumerate(ids[:TRAIN]):
        for a, b in combinations(range(len(CONTESTANTS)), 2):
            preferred = rng.random() < expit(kind.sharpness * (liked[i, a] - liked[i, b]))
            votes.append(Preference(p, CONTESTANTS[a], CONTESTANTS[b], float(preferred)))
    truth = list(zip(ids, liked, strict=True))[TRAIN:]
    return World(
        features,
        {m: float(1100.0 + 60.0 * r) for m, r in zip(CONTESTANTS, known, strict=True)},
        tuple(votes[i] for i in rng.permutation(len(votes))),
        ids[:TRAIN],
        tuple(GroundTruth(p, dict(zip(CONTESTANTS, row.tolist(), strict=True))) for p, row in truth),
    )


def mean_tau(system: Ranker, world: World) -> float:
    """Mean Kendall's τ on the world's test prompts."""
    return evaluation.mean_metrics(evaluation.per_prompt(system, world.truths).values()).kendall_tau or 0.0


Chances = list[tuple[float, bool]]  # what System C says of a model, and whether it was the best


def measure(world: World) -> tuple[dict[str, float], dict[int, Chances]]:
    """τ of each system after all preferences, and System C's chances after each of ``COUNTS``."""
    params = ExperimentConfig()
    reward = RewardModel(world.features, world.ratings, params)
    systems: list[Ranker] = [EloSystem(world.ratings), reward, base_reward(world.features)]
    tau = {s.name: mean_tau(s.fit(world.preferences, prompt_ids=world.train), world) for s in systems}
    sets = [TrainingSet.of(world.preferences[:n], world.train) for n in COUNTS]
    fitted = Combined(world.features, world.ratings, params).fit_many(sets)
    tau["combined"] = mean_tau(fitted[-1], world)
    chances = {
        n: [
            (chance, model == truth.ranking[0])
            for truth in world.truths
            for model, chance in system.posterior(truth.prompt_id).best_chances(1000).items()
        ]
        for n, system in zip(COUNTS, fitted, strict=True)
    }
    return tau, chances


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────

SYSTEMS = ("elo_offset", "reward_model", "combined", "base_reward")


def print_row(name: str, tau: dict[str, np.ndarray]) -> None:
    """Means and paired differences with their intervals."""

    def gain(x: str, y: str) -> str:
        found = difference(tau[x], tau[y], INDEPENDENT)
        return f"{found.difference:+.3f} [{found.ci95[0]:+.3f}, {found.ci95[1]:+.3f}]" if found else ""

    a, b, c, base = SYSTEMS
    pairs = [(c, a), (c, b), *([(b, base), (c, base)] if tau[base].any() else [])]
    print("|", " | ".join([name, *(f"{tau[s].mean():.3f}" for s in SYSTEMS), *(gain(*pair) for pair in pairs)]), "|")


def calibration(pairs: Chances) -> str:
    """Ten bins of (chance said, whether it was the best), and the mean distance of the two."""
    said, true = np.array(pairs, dtype=np.float64).T
    bins = np.minimum((said * 10).astype(int), 9)
    cells, error = [], 0.0
    for b in range(10):
        at = bins == b
        if at.any():
            cells.append(f"{said[at].mean():.2f} {true[at].mean():.2f} ({at.sum()})")
            error += abs(said[at].mean() - true[at].mean()) * at.mean()
    return " | ".join([*cells, f"mean distance {error:.3f}"])


def main() -> None:
    """Measure and print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--cache_dir", type=Path, default=config.ROOT / "cache")
    args = parser.parse_args()
    runs = [recorded(persona, args.cache_dir) for persona in config.PERSONAS]
    head = ("", "A", "B", "C", "base alone", "C − A", "C − B", "B − base", "C − base")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    chances: dict[str, Chances] = {}
    for name, kind in KINDS.items():
        found = [measure(plant(kind, seed, runs)) for seed in range(args.worlds)]
        print_row(f"{name} ({args.worlds} worlds)", {s: np.array([tau[s] for tau, _ in found]) for s in SYSTEMS})
        for n in COUNTS:
            row = f"{'nothing' if kind.hidden == 1.0 else 'something'} to learn, {n} preferences"
            chances.setdefault(row, []).extend(pair for _, said in found for pair in said[n])
    print("\nChances to be the best: said, what happened, how often said")
    for row, pairs in chances.items():
        print(f"| {row} | {calibration(pairs)} |")


if __name__ == "__main__":
    main()
