"""Does System C know what both know? Planted worlds, its chances against what happens, the recorded personas.

    python benchmarks/combined_worlds.py                     # 20 worlds a row, minutes; prints one table
    python benchmarks/combined_worlds.py --worlds 4 --draws 1

A world: 50 prompts drawn from the recorded ones, their texts given to six contestants anew for each prompt (so no text
shows whose it is), and a person whose liking is √ρ · (a strength of each contestant) + √(1 − ρ) · (what the text
shows), of which a tenth is replaced by chance that nothing shows. What a text shows is a direction of the states in
even worlds and a property of the words in odd ones. 300 noisy preferences on 20 prompts train, 30 prompts test. The
contestants' ratings hold half of what strengths there are.

Each result is kept in --out as soon as it is there, and what is there is not measured again. System C's design was
chosen on worlds of this kind from other draws, never on the recorded personas.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

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
from evidence.baselines import BradleyTerry, base_reward
from evidence.intervals import INDEPENDENT, Groups, difference
from llm.embedded import EmbeddedModel
from reward_model import RewardModel
from stages.tasks import Job

CONTESTANTS = tuple("abcdef")
TRAIN, PROMPTS = 20, 50
SHARPNESS = 3.0  # logits a standard deviation of liking
COUNTS = (60, 300)  # preferences after which chances are asked for
Values = np.ndarray


# ── The recorded texts ───────────────────────────────────────────────────────────────────────────────────


class Recorded(NamedTuple):
    """What the samples hold of one persona."""

    features: Features
    texts: dict[tuple[str, str], str]
    preferences: tuple[Preference, ...]
    readers: tuple[Preference, ...]
    """What everyone else prefers: the contestants' ratings are estimated from it."""


def recorded(persona: str, cache_dir: Path) -> Recorded:
    """Prompts, responses and judgements of the recorded run; features from the cache, or computed."""
    params = dataclasses.replace(ExperimentConfig(), num_predict=config.EMBEDDED_NUM_PREDICT)
    job = Job(
        persona, config.PERSONAS[persona], config.EMBEDDED_MODELS, config.EMBEDDED_NAME, EmbeddedModel(), params,
        cache_dir,
    )  # fmt: skip
    data = make_data(job, Clock(), ask=False)
    features = compute_features("embedded", data.prompts, data.responses, cache_dir=cache_dir, name=persona)
    texts = {(r.prompt_id, r.model): r.text for r in data.responses}
    return Recorded(features, texts, data.preferences, data.readers)


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


def standard(x: Values) -> Values:
    """[prompts, m] deviations within prompts, of standard deviation 1."""
    deviations = x - x.mean(axis=1, keepdims=True)
    return np.asarray(deviations / np.sqrt((deviations**2).mean()))


def plant(kind: Kind, seed: int, runs: Sequence[Recorded]) -> World:
    """The world of this seed, on texts of all personas."""
    rng = np.random.default_rng([seed, round(100 * kind.rho)])
    states = np.concatenate([np.concatenate([r.features.mean, r.features.last], axis=1) for r in runs])
    texts = [""] * len(states)
    by_prompt: dict[str, list[int]] = {}
    before = 0
    for run in runs:
        for key, row in run.features.index.items():
            texts[before + row] = run.texts[key]
            by_prompt.setdefault(key[0], []).append(before + row)
        before += len(run.features.index)
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
    return evaluation.evaluate(system, world.truths).kendall_tau or 0.0


def flags(description: str, worlds: int) -> argparse.ArgumentParser:
    """How many worlds, ``worlds`` unless told, and where features of the recorded texts are kept."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=worlds)
    parser.add_argument("--cache_dir", type=Path, default=config.ROOT / "cache")
    return parser


def measure(world: World) -> dict[str, Any]:
    """τ of each system after all preferences, and C's chances beside what was the best."""
    params = ExperimentConfig()
    reward = RewardModel(world.features, world.ratings, params)
    systems: list[Ranker] = [EloSystem(world.ratings), reward, base_reward(world.features)]
    found = {s.name: mean_tau(s.fit(world.preferences, prompt_ids=world.train), world) for s in systems}
    sets = [TrainingSet.of(world.preferences[:n], world.train) for n in COUNTS]
    fitted = Combined(world.features, world.ratings, params).fit_many(sets)
    found["combined"] = mean_tau(fitted[-1], world)
    chances: dict[str, list[tuple[float, bool]]] = {}
    for n, system in zip(COUNTS, fitted, strict=True):
        chances[str(n)] = [
            (chance, model == truth.ranking[0])
            for truth in world.truths
            for model, chance in system.best_chances(truth.prompt_id, 1000).items()
        ]
    return {"tau": found, "chances": chances}


# ── The recorded personas ────────────────────────────────────────────────────────────────────────────────


def cross_validated(run: Recorded, seed: int) -> dict[str, Any]:
    """τ of each system on every prompt, over the folds of this seed, and the prompt's fold."""
    ids = list(dict.fromkeys(p.prompt_id for p in run.preferences))
    models = list(dict.fromkeys(model for _, model in run.features.index))
    ratings = BradleyTerry(models).fit(run.readers).scores(ids[0])
    truths = []
    for prompt_id in ids:
        scores = dict.fromkeys(models, 0.0)
        for p in run.preferences:
            if p.prompt_id == prompt_id:
                scores[p.model_a] += p.outcome
                scores[p.model_b] += 1.0 - p.outcome
        truths.append(GroundTruth(prompt_id, scores))
    params = ExperimentConfig()
    reward, combined = (system(run.features, ratings, params) for system in (RewardModel, Combined))
    systems: list[Ranker] = [EloSystem(ratings), reward, combined]
    votes = evaluation.shuffled(run.preferences, seed)
    folds = evaluation.folds(ids, params.folds, seed)
    crossed = evaluation.cross_validate(systems, votes, truths, folds)
    ordered = [p for p in ids if p in crossed["combined"]]
    return {
        "tau": {name: [by_prompt[p].kendall_tau for p in ordered] for name, by_prompt in crossed.items()},
        "fold": [next(i for i, fold in enumerate(folds) if p in fold) for p in ordered],
    }


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────

SYSTEMS = ("elo_offset", "reward_model", "combined", "base_reward")


def show(rows: dict[str, Any], personas: Sequence[str]) -> None:
    """Print what there is. Intervals are those of evidence/intervals.py.

    Worlds are independent. A prompt's value is its mean over the draws of the folds, of which one makes the groups of a
    persona's row; over all personas a group is a persona, since over the draws all of its prompts train each other.
    """
    head = ("", "A", "B", "C", "base alone", "C − A", "C − B", "B − base", "C − base")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name in KINDS:
        found = [row["tau"] for key, row in rows.items() if key.startswith(f"{name}/")]
        if found:
            print_row(f"{name} ({len(found)} worlds)", {s: np.array([f[s] for f in found]) for s in SYSTEMS})
    pooled: dict[str, list[Values]] = {s: [] for s in SYSTEMS[:3]}
    groups: list[str] = []
    for persona in personas:
        draws = [row for key, row in rows.items() if key.startswith(f"{persona}/")]
        if draws:
            by_prompt = {s: np.mean([draw["tau"][s] for draw in draws], axis=0) for s in pooled}
            print_row(f"recorded: {persona} ({len(draws)} draws of the folds)", by_prompt, draws[0]["fold"])
            groups += [persona] * len(draws[0]["fold"])
            for s, values_ in by_prompt.items():
                pooled[s].append(values_)
    if groups:
        print_row("recorded: all personas", {s: np.concatenate(v) for s, v in pooled.items()}, groups)
    print("\nChances to be the best: said, what happened, how often said")
    for title, kinds in {"something to learn": tuple(KINDS)[:-2], "nothing": tuple(KINDS)[-2:]}.items():
        for n in COUNTS:
            pairs = [c for key, row in rows.items() if key.rsplit("/", 1)[0] in kinds for c in row["chances"][str(n)]]
            if pairs:
                print(f"| {title}, {n} preferences | {calibration(np.array(pairs, dtype=np.float64))} |")


def print_row(name: str, tau: dict[str, Values], groups: Sequence[Hashable] | None = None) -> None:
    """Means and paired differences; ``groups``: of values that come from a cross-validation."""

    def gain(x: str, y: str) -> str:
        found = difference(tau[x], tau[y], Groups(groups, k=ExperimentConfig().folds) if groups else INDEPENDENT)
        return f"{found.difference:+.3f} [{found.ci95[0]:+.3f}, {found.ci95[1]:+.3f}]" if found else ""

    a, b, c, base = SYSTEMS
    means = [f"{tau[s].mean():.3f}" if s in tau else "" for s in SYSTEMS]
    with_base = [(b, base), (c, base)] if tau.get(base, np.zeros(1)).any() else []
    print("|", " | ".join([name, *means, *(gain(x, y) for x, y in [(c, a), (c, b), *with_base])]), "|")


def calibration(pairs: Values) -> str:
    """Ten bins of (chance said, whether it was the best), and the mean distance of the two."""
    said, true = pairs.T
    bins = np.minimum((said * 10).astype(int), 9)
    cells, error = [], 0.0
    for b in range(10):
        at = bins == b
        if at.any():
            cells.append(f"{said[at].mean():.2f} {true[at].mean():.2f} ({at.sum()})")
            error += abs(said[at].mean() - true[at].mean()) * at.mean()
    return " | ".join([*cells, f"mean distance {error:.3f}"])


def main() -> None:
    """Measure what is missing, then print all there is."""
    parser = flags(__doc__, worlds=20)
    parser.add_argument("--draws", type=int, default=5, help="draws of the folds of the recorded personas; 0: none")
    parser.add_argument("--out", type=Path, default=config.ROOT / "results" / "combined_worlds.jsonl")
    args = parser.parse_args()
    runs = {persona: recorded(persona, args.cache_dir) for persona in config.PERSONAS}
    wanted: dict[str, Callable[[], dict[str, Any]]] = {}
    for seed in range(args.worlds):
        for name, kind in KINDS.items():
            wanted[f"{name}/{seed}"] = lambda kind=kind, seed=seed: measure(plant(kind, seed, list(runs.values())))  # type: ignore[misc]
    for draw in range(args.draws):
        for persona, run in runs.items():
            seed = ExperimentConfig().random_seed + draw
            wanted[f"{persona}/{seed}"] = lambda run=run, seed=seed: cross_validated(run, seed)  # type: ignore[misc]
    lines = args.out.read_text(encoding="utf-8").splitlines() if args.out.exists() else []
    rows = {row.pop("key"): row for row in map(json.loads, lines)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a", encoding="utf-8") as kept:
        for key in [key for key in wanted if key not in rows]:
            rows[key] = wanted[key]()
            kept.write(json.dumps({"key": key, **rows[key]}) + "\n")
            kept.flush()
    show({key: rows[key] for key in wanted}, list(runs))


if __name__ == "__main__":
    main()
