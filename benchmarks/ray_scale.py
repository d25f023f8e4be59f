"""What Ray costs on one machine: two workers of ``--ray local`` against none.

    python benchmarks/ray_scale.py texts           # 500 texts through the embedded model, texts/s

By turns in one process, start-up apart: what is timed begins when each worker has its base, or has worked on a block.
The node that dies: pytest -n0 -m ray -k node_that_dies
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as main.py does; read as numpy is imported

import numpy as np
from measuring import Row, compare, seconds

from base.frozen import MAX_LENGTH, open_base
from scale.cluster import Cluster, connect
from scale.texts import BATCH

WORKERS = 2


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


def main(what: str, count: int = 0) -> None:
    """The row, printed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, connect("local", Path(folder)) as cluster:
        assert cluster is not None and cluster.cores == WORKERS, "on two cores"
        print({"texts": texts_row}[what](cluster, count or 500, 5))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
