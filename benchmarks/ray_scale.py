"""What Ray costs on one machine: two workers of ``--ray local`` against none, and how the driver's memory grows.

    python benchmarks/ray_scale.py texts           # 500 texts through the embedded model, texts/s
    python benchmarks/ray_scale.py heads           # heads of 10,000 people, people/s
    python benchmarks/ray_scale.py memory 10000    # peak memory of the driver; again with 100000

By turns in one process, start-up apart: what is timed begins when each worker has its base, or has worked on a block.
The node that dies: pytest -n0 -m ray -k node_that_dies
"""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as main.py does; read as numpy is imported

import numpy as np
from measuring import Row, compare, seconds

from base.features import Features
from base.frozen import MAX_LENGTH, open_base
from config import EXPERIMENT_CONFIG
from core.records import Preference, Prompt
from people import run as people
from people import training
from people.ballots import Crowd
from people.read import Votes
from scale.cluster import Cluster, connect
from scale.texts import BATCH

WORKERS = 2
MIB = 1 << 20


def texts_row(cluster: Cluster, count: int, pairs: int) -> Row:
    """Texts a second: both actors have opened the base when the first batch is back, and have read one batch each."""
    from bench_base import texts

    some = texts(count)
    plain, spread = open_base("embedded", "cpu"), cluster.reader.open_base("embedded", "cpu", max_length=MAX_LENGTH)
    list(plain.embed(some[:20]))
    opening = []

    def on_ray() -> float:
        start = time.perf_counter()
        batches = spread.embed(some)
        next(batches)
        first = time.perf_counter()
        opening.append(first - start)
        list(batches)
        return (count - WORKERS * BATCH["cpu"]) / (time.perf_counter() - first)

    def alone() -> float:
        return count / seconds(lambda: list(plain.embed(some)))

    row = compare(f"{count} texts, texts/s: Ray / plain", on_ray, alone, pairs, ">= 0.85")
    return dataclasses.replace(row, note=f"until the first batch: {float(np.median(opening)):.1f} s")


def crowd_of(count: int, votes_each: int = 20, prompts: int = 40, models: int = 5, width: int = 576) -> Crowd:
    """People who vote at random on random features: the arithmetic is the same."""
    rng = np.random.default_rng(0)
    ids, names = [f"q{i}" for i in range(prompts)], [f"model {i}" for i in range(models)]
    users = [f"person {i}" for i in range(count)]
    prompt = rng.integers(prompts, size=(count, votes_each)).tolist()
    a = rng.integers(models, size=(count, votes_each))
    b = ((a + rng.integers(1, models, size=a.shape)) % models).tolist()
    a, wins = a.tolist(), rng.integers(2, size=a.shape).tolist()
    preferences = tuple(
        Preference(ids[p], names[x], names[y], float(o), user)
        for user, *votes in zip(users, prompt, a, b, wins, strict=True)
        for p, x, y, o in zip(*votes, strict=True)
    )
    states = rng.normal(size=(prompts * models, width)).astype(np.float32)
    index = {(p, m): i * models + j for i, p in enumerate(ids) for j, m in enumerate(names)}
    features = Features(index, states, states[::-1].copy(), np.zeros(len(states), np.float32), False, "simulated")
    votes = Votes(preferences, tuple(Prompt(p, p) for p in ids), (), tuple(users), tuple(names), skipped={})
    params = dataclasses.replace(EXPERIMENT_CONFIG, folds=5)
    return people.assemble(votes, features, people.fitting(params, prompts), {})


def heads_row(cluster: Cluster, count: int, pairs: int) -> Row:
    """People a second: a head of their own for each, from one of ten shared ones, and its rewards."""
    alone = crowd_of(count)
    order, ids = alone.order, alone.ballots.prompt_ids
    shared = training._fit_shared(alone, [order[:2000]] * len(alone.groups), ids)
    people_by_group = [(int(user), g) for g, group in enumerate(alone.groups) for user in group]
    own = alone.ballots.by_user(order)
    texts = training._texts_of(alone, alone.ballots.cells_by_user(np.ones(len(ids), bool)))

    def score(crowd: Crowd, who: Sequence[tuple[int, int]]) -> None:
        votes, rows = [own[user] for user, _ in who], [texts[user] for user, _ in who]
        training._score_personal(crowd, shared, [g for _, g in who], votes, rows, ids, 1.0)

    def per_second(crowd: Crowd) -> float:
        return count / seconds(lambda: score(crowd, people_by_group))

    on_ray = dataclasses.replace(alone, cluster=cluster)
    starting = seconds(lambda: score(on_ray, people_by_group[:1024]))  # the workers import torch
    ours, reference = (partial(per_second, crowd) for crowd in (on_ray, alone))
    row = compare(f"heads of {count:,} people, people/s: Ray / plain", ours, reference, pairs, ">= 0.9")
    return dataclasses.replace(row, note=f"the first 1,024, workers' imports with them: {starting:.1f} s")


def memory(cluster: Cluster, count: int) -> str:
    """Peak of the driver while every system is trained and scored once; one epoch, which changes no size."""
    import torch

    torch.set_num_threads(1)
    crowd = dataclasses.replace(crowd_of(count), cluster=cluster)
    crowd = dataclasses.replace(crowd, params=dataclasses.replace(crowd.params, max_epochs=1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    part = crowd.folds[:1]
    spent = seconds(lambda: training.predict(crowd, part, training.curve_counts(crowd, part)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    votes = len(crowd.ballots.preferences)
    return (
        f"{count:,} people, {votes:,} votes: {before:.0f} MiB with the votes read, {peak:.0f} MiB at the peak "
        f"({(peak - before) * MIB / count:,.0f} bytes a person more), {spent:.0f} s"
    )


def main(what: str, count: int = 0) -> None:
    """One of the three, printed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, connect("local", Path(folder)) as cluster:
        assert cluster is not None and cluster.cores == WORKERS, "on two cores"
        if what == "texts":
            print(texts_row(cluster, count or 500, 5))
        elif what == "heads":
            print(heads_row(cluster, count or 10_000, 5))
        else:
            print(memory(cluster, count or 10_000))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
