"""Simulated experiments of the default size through both systems' whole training: see verdict.py.

Four kinds: tastes that hold nothing; two reward models on bases of equal quality (no matter how they learn, neither is
better); tastes that change from prompt to prompt and show in the texts; one fixed order of the contestants.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from verdict_worlds import MODELS, counted, rate, shown

from base.features import Features
from config import ExperimentConfig
from core.ranking import Ranker
from core.records import GroundTruth, Preference
from elo_system import EloSystem
from evaluation import Array, cross_validate, cross_validated_curves, folds
from evidence.baselines import BradleyTerry
from evidence.hypotheses import generalization, held_out_placements, improvement, sample_efficiency
from evidence.intervals import paired_difference, winner
from reward_model import RewardModel

WIDTH = 48  # of the synthetic features; some tens of directions carry most of what a small base knows
EVERY, ORDERS = 48, 2  # a coarse curve: the area hardly changes, the trainings get five times fewer
NAMES = tuple(f"m{i}" for i in range(MODELS))
KINDS = ("nothing", "equal bases", "prompt-specific", "model-level")


@dataclass(frozen=True, slots=True)
class World:
    """One simulated experiment."""

    preferences: list[Preference]
    truths: list[GroundTruth]
    features: tuple[Features, Features]
    """Two bases that see the texts equally well."""
    ratings: dict[str, float]


def simulated(kind: str, config: ExperimentConfig, rng: np.random.Generator) -> World:
    """A persona with tastes of this kind, all its pairs judged with a little noise."""
    n = config.num_prompts
    texts = rng.standard_normal((n, MODELS, WIDTH)).astype(np.float32)
    direction = rng.standard_normal(WIDTH) / np.sqrt(WIDTH)
    liked = {
        "nothing": rng.standard_normal((n, MODELS)),
        "equal bases": texts @ direction,
        "prompt-specific": texts @ direction,
        "model-level": np.tile(rng.standard_normal(MODELS), (n, 1)),
    }[kind]
    blur = 0.5 if kind == "equal bases" else 0.0
    seen = [texts + blur * rng.standard_normal(texts.shape).astype(np.float32) for _ in range(2)]
    ids = [f"p{i:02d}" for i in range(n)]
    preferences = _judged(ids, liked, rng)
    ratings = dict(zip(NAMES, (1200.0 + 80.0 * rng.standard_normal(MODELS)).tolist(), strict=True))
    first, second = (_features(ids, x) for x in seen)
    return World(preferences, _round_robin(ids, preferences), (first, second), ratings)


def _judged(ids: list[str], liked: Array, rng: np.random.Generator) -> list[Preference]:
    pairs = [
        Preference(prompt_id, NAMES[a], NAMES[b], float(1.0 / (1.0 + np.exp(-gap))))
        for prompt_id, row in zip(ids, liked, strict=True)
        for a, b in itertools.combinations(range(MODELS), 2)
        for gap in [2.0 * (row[a] - row[b]) + 0.3 * rng.standard_normal()]
    ]
    return [pairs[i] for i in rng.permutation(len(pairs))]


def _round_robin(ids: list[str], preferences: list[Preference]) -> list[GroundTruth]:
    won = {prompt_id: dict.fromkeys(NAMES, 0.0) for prompt_id in ids}
    for p in preferences:
        won[p.prompt_id][p.model_a] += p.outcome
        won[p.prompt_id][p.model_b] += 1.0 - p.outcome
    return [GroundTruth(prompt_id, scores) for prompt_id, scores in won.items()]


def _features(ids: list[str], vectors: np.ndarray) -> Features:
    index = {(prompt_id, name): i * MODELS + j for i, prompt_id in enumerate(ids) for j, name in enumerate(NAMES)}
    flat = vectors.reshape(-1, WIDTH).astype(np.float32)
    return Features(index, flat, flat, np.zeros(len(flat), np.float32), False, "synthetic")


def one_experiment(kind: str, config: ExperimentConfig, seed: int) -> dict[str, Any]:
    """What the suite would say of one simulated persona."""
    world = simulated(kind, config, np.random.default_rng([seed, KINDS.index(kind)]))
    parts = folds([t.prompt_id for t in world.truths], config.folds, seed)
    b: Ranker = RewardModel(world.features[0], world.ratings, config)
    if kind == "equal bases":
        other = RewardModel(world.features[1], world.ratings, config)
        tau = [
            [m.kendall_tau or 0.0 for m in per_prompt.values()]
            for r in (b, other)
            for per_prompt in cross_validate([r], world.preferences, world.truths, parts).values()
        ]
        fold = [i for i, part in enumerate(parts) for _ in part]
        difference = paired_difference(tau[0], tau[1], seed, fold)
        return {"winner": winner(difference), "difference": difference.difference if difference else None}
    a = EloSystem(world.ratings)
    results = cross_validate([a, b], world.preferences, world.truths, parts)
    difference = improvement(results, parts, seed)["kendall_tau"]
    flat, others = EloSystem(dict.fromkeys(NAMES)), BradleyTerry(NAMES)
    ends = [
        cross_validated_curves(r, world.preferences, world.truths, parts, EVERY, ORDERS, seed) for r in (a, flat, b)
    ]
    elo, unread, reward = (
        held_out_placements(r, world.preferences, world.truths, parts, NAMES) for r in (a, others, b)
    )
    return {
        "winner": winner(difference),
        "difference": difference.difference if difference else None,
        "H1": sample_efficiency(ends[0], ends[1], ends[2], seed, parts)["verdict"],
        "H2": generalization(elo, unread, reward)["verdict"],
    }


def whole_training(experiments: int, seed: int) -> dict[str, Any]:
    """``experiments`` of each kind; prints a line a kind."""
    config = ExperimentConfig()
    table: dict[str, Any] = {}
    print(f"\nWhole training, {experiments} experiments of each kind, default parameters")
    for kind in KINDS:
        rows = [one_experiment(kind, config, seed + i) for i in range(experiments)]
        named = [row["winner"] for row in rows]
        cells = {name: rate(named.count(name), experiments) for name in ("reward_model", "elo_offset", "none")}
        table[kind] = {"winner": cells, "difference": float(np.mean([row["difference"] for row in rows]))}
        print(f"  {kind:16s} difference {table[kind]['difference']:+.3f}  " + _line(cells))
        for hypothesis in ("H1", "H2"):
            if hypothesis in rows[0]:
                table[kind][hypothesis] = counted([row[hypothesis] for row in rows])
                print(f"    {hypothesis}  " + _line(table[kind][hypothesis]), flush=True)
    return table


def _line(cells: dict[str, dict[str, Any]]) -> str:
    return "  ".join(f"{name} {shown(cell)}" for name, cell in cells.items())
