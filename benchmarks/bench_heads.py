"""Trainings side by side, Elo against evalica. Synthetic features: the arithmetic is the same."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from measuring import Row, compare, seconds

from base.features import Features
from config import ExperimentConfig
from core.ranking import TrainingSet
from core.records import Preference
from elo_system import EloSystem
from reward_model import RewardModel

MODELS = tuple(f"model {i}" for i in range(6))
RATINGS = dict(zip(MODELS, (1171.0, 1193.0, 1293.0, 1320.0, 1087.0, 1097.0), strict=True))


def synthetic(prompts: int) -> tuple[Features, list[Preference]]:
    """Features of prompts × models, and every pair of every prompt by a planted taste, shuffled."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(prompts * len(MODELS), 576)).astype(np.float32)
    index = {(f"p{i // len(MODELS)}", MODELS[i % len(MODELS)]): i for i in range(len(states))}
    likes = (states @ rng.normal(size=576)).reshape(prompts, len(MODELS))
    made = [
        Preference(f"p{p}", MODELS[a], MODELS[b], float(likes[p, a] > likes[p, b]))
        for p in range(prompts)
        for a, b in combinations(range(len(MODELS)), 2)
    ]
    features = Features(index, states, states, rng.normal(size=len(states)).astype(np.float32), True, "synthetic")
    return features, [made[i] for i in rng.permutation(len(made))]


def rows(quick: bool) -> list[Row]:
    """An incremental run against one training, and many people's heads at once against one by one."""
    pairs = 3 if quick else 9
    features, preferences = synthetic(20)
    prompts = tuple(f"p{i}" for i in range(20))
    model = RewardModel(features, RATINGS, ExperimentConfig())
    points = [TrainingSet.of(preferences[:count], prompts) for count in range(5, 301, 5)]
    model.fit_many(points)

    def one() -> float:
        return seconds(lambda: model.fit(preferences, prompt_ids=prompts))

    curve = compare(
        "incremental run, 60 points / one training, s",
        lambda: seconds(lambda: model.fit_many(points)), one, pairs, "<= 6",
    )  # fmt: skip
    people = [
        TrainingSet.of([preferences[i] for i in np.random.default_rng(person).permutation(300)[:40]], prompts)
        for person in range(200 if quick else 1000)
    ]
    sample = 10 if quick else 25

    def one_by_one() -> float:
        each = seconds(lambda: [model.fit_many([s]) for s in people[:sample]])
        return each / sample * len(people)

    crowd = compare(
        f"{len(people)} people's heads at once / one by one, s", lambda: seconds(lambda: model.fit_many(people)),
        one_by_one, 3 if quick else 5, "<= 0.1", f"40 preferences each; {sample} measured one by one, scaled",
    )  # fmt: skip
    return [curve, crowd]


def elo_rows(quick: bool) -> list[Row]:
    """Sequential Elo against the Rust one."""
    from evalica import Winner, elo

    count = 100_000 if quick else 1_000_000
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(MODELS), size=(count, 2))
    drawn[:, 1] = (drawn[:, 0] + 1 + drawn[:, 1] % (len(MODELS) - 1)) % len(MODELS)
    wins = rng.random(count) < 0.5
    preferences = [
        Preference("p", MODELS[a], MODELS[b], float(w)) for (a, b), w in zip(drawn.tolist(), wins.tolist(), strict=True)
    ]
    xs, ys = [p.model_a for p in preferences], [p.model_b for p in preferences]
    winners = [Winner.X if p.outcome else Winner.Y for p in preferences]
    system = EloSystem(RATINGS)
    return [
        compare(
            f"Elo over {count:,} preferences / evalica's, s",
            lambda: seconds(lambda: system.fit(preferences)),
            lambda: seconds(lambda: elo(xs, ys, winners, k=32.0)),
            3 if quick else 5,
            "report",
        )
    ]
