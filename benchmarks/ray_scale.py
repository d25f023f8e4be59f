"""What Ray costs on one machine: texts a second with two workers of ``--ray local`` against none.

    python benchmarks/ray_scale.py         # 500 texts through the embedded model

By turns in one process, start-up apart: what is timed begins when both workers have their base and have read a batch.
The node that dies: pytest -n0 -m ray -k node_that_dies
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as main.py does; read as numpy is imported

import numpy as np
from bench_base import texts
from measuring import Row, compare, seconds

from base import cluster
from base.frozen import open_base

WORKERS = 2


def texts_row(spread: cluster.ClusterBase, count: int, pairs: int) -> Row:
    """Texts a second: both workers have opened the base when the first batch is back, and have read one batch each."""
    some, plain = texts(count), open_base("embedded", "cpu")
    list(plain.embed(some[:20]))
    opening = []

    def on_ray() -> float:
        start = time.perf_counter()
        batches = spread.embed(some)
        next(batches)
        first = time.perf_counter()
        opening.append(first - start)
        list(batches)
        return (count - WORKERS * cluster.BATCH["cpu"]) / (time.perf_counter() - first)

    def alone() -> float:
        return count / seconds(lambda: list(plain.embed(some)))

    row = compare(f"{count} texts, texts/s: Ray / plain", on_ray, alone, pairs, ">= 0.85")
    return dataclasses.replace(row, note=f"until the first batch: {float(np.median(opening)):.1f} s")


if __name__ == "__main__":
    with cluster.open_base("local", "embedded", "cpu") as base:
        assert base.workers == WORKERS, "on two cores"
        print(texts_row(base, int(sys.argv[1]) if sys.argv[1:] else 500, 5))
