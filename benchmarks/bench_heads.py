"""Trainings side by side, Elo against evalica, and how both grow. Synthetic features: the arithmetic is the same."""

from __future__ import annotations

import time
from functools import partial
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


def synthetic(prompts: int, models: int = 6, width: int = 576) -> tuple[Features, list[Preference]]:
    """Features of prompts × models, and every pair of every prompt by a planted taste, shuffled."""
    rng = np.random.default_rng(0)
    names = MODELS if models == len(MODELS) else tuple(f"model {i}" for i in range(models))
    states = rng.normal(size=(prompts * models, width)).astype(np.float32)
    index = {(f"p{i // models}", names[i % models]): i for i in range(prompts * models)}
    likes = states @ rng.normal(size=width)
    made = [
        Preference(f"p{p}", names[a], names[b], float(likes[p * models + a] > likes[p * models + b]))
        for p in range(prompts)
        for a, b in combinations(range(models), 2)
    ]
    features = Features(index, states, states, rng.normal(size=len(states)).astype(np.float32), True, "synthetic")
    return features, [made[i] for i in rng.permutation(len(made))]


def rows(quick: bool) -> list[Row]:
    """An incremental run against one training, and many people's heads at once against one by one."""
    pairs = 3 if quick else 9
    features, preferences = synthetic(20)
    prompts = tuple(f"p{i}" for i in range(20))
    params = ExperimentConfig()
    model = RewardModel(features, RATINGS, params)
    points = [TrainingSet.of(preferences[:count], prompts) for count in range(5, 301, 5)]
    model.fit_many(points)

    def one() -> float:
        return seconds(lambda: model.fit(preferences, prompt_ids=prompts))

    curve = compare(
        "incremental run, 60 points / one training, s",
        lambda: seconds(lambda: model.fit_many(points)), one, pairs, "<= 6",
        f"the arithmetic alone: {floor(points, params):.3f} s",
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


def floor(sets: list[TrainingSet], params: ExperimentConfig) -> float:
    """Seconds of the matrix products alone, at the rate measured for products of their size on one core."""
    texts, width, hidden = 2 * (params.batch_size + params.rank_pairs), params.components + 1, params.hidden_width
    steps = sum(params.max_epochs * -(-len(s.preferences) // params.batch_size) for s in sets)
    work = steps * 2.0 * 2.0 * texts * width * (hidden + 1)  # forward and gradient, a multiply and an add each
    a = np.ones((64, texts, width), np.float32)
    b = np.ones((64, width, max(hidden, 1)), np.float32)
    best = min(seconds(lambda: a @ b) for _ in range(50))
    return work / (64 * 2.0 * texts * width * max(hidden, 1) / best)


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


def growth_rows(quick: bool) -> list[Row]:
    """Seconds a thousand preferences (or people) cost at sizes ten times apart: 1 is growth in proportion."""
    found = []
    sizes = [(1_000, 10_000)] if quick else [(10_000, 100_000), (100_000, 1_000_000)]
    params = ExperimentConfig(max_epochs=1, batch_size=4)

    def one_epoch(count: int) -> float:
        features, preferences = synthetic(max(20, count // 150))
        model = RewardModel(features, RATINGS, params)
        many = (preferences * (count // len(preferences) + 1))[:count]
        return seconds(lambda: model.fit(many)) / count * 1000

    for small, large in sizes:
        pairs = 1 if large > 100_000 or quick else 3
        name = f"one epoch, {large:,} preferences / {small:,}, s per 1,000"
        limit = "the step, once a batch; at the start the span of the texts"
        ours, reference = partial(one_epoch, large), partial(one_epoch, small)
        found.append(compare(name, ours, reference, pairs, "about 1", limit))
    features, preferences = synthetic(20)
    model = RewardModel(features, RATINGS, ExperimentConfig())
    prompts = tuple(f"p{i}" for i in range(20))

    def crowd(count: int) -> float:
        sets = [TrainingSet(tuple(preferences[i % 250 : i % 250 + 20]), prompts) for i in range(count)]
        return seconds(lambda: model.fit_many(sets)) / count * 1000

    few, many = (100, 1_000) if quick else (1_000, 10_000)
    found.append(
        compare(f"{many:,} people / {few:,} people, s per 1,000", lambda: crowd(many), lambda: crowd(few),
                1 if quick else 3, "about 1", "a chunk of heads at a time")
    )  # fmt: skip
    return found


if __name__ == "__main__":
    start = time.perf_counter()
    print(*rows(quick=True), f"{time.perf_counter() - start:.1f} s", sep="\n")
