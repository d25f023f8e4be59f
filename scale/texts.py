"""Texts read by a cluster: Ray Data hands them to actors, each of which has opened the base once.

What they read streams back; whoever asked keeps it. What goes down with an actor or its node is read again by those
that are left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from base import location
from base.frozen import FrozenBase, Vectors, open_base
from core.errors import MissingError, UsageError

if TYPE_CHECKING:
    from scale.cluster import Cluster

log = logging.getLogger("ranking.scale")

BATCH = {"cpu": 16, "cuda": 256}  # texts that go to an actor at once and come back together
BESIDE = 1 << 30  # bytes of memory that an actor on a processor needs beside the weights
Batch = dict[str, np.ndarray]


class ClusterReader:
    """What ``compute_features`` asks of a cluster in place of this machine."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def kinds(self, asked: str) -> tuple[str, ...]:
        """Where the base runs: on the cluster's GPUs where it has any and ``asked`` (by --device) allows them.

        Raises MissingError where GPUs are asked for and there are none.
        """
        if asked == "cuda" and not self._cluster.gpus:
            raise MissingError("The cluster has no GPU. Read on its processors: --device cpu")
        return ("cpu",) if asked == "cpu" or not self._cluster.gpus else ("cuda",)

    def room(self) -> float:
        """GiB for a base on a GPU: not known from here. Where the largest does not fit, the next one is tried."""
        return float("inf")

    def open_base(self, name: str, kind: str, *, max_length: int) -> ClusterBase:
        """The base, opened by every actor as it starts. Raises MissingError and UsageError where it is not here (its
        files are what a vector is kept by), MemoryError where no node has the memory for it."""
        memory = BESIDE
        if name != location.EMBEDDED:
            folder = location.fetch(name)
            name = str(folder.resolve()) if Path(name).expanduser().is_dir() else name
            memory += sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        if kind == "cpu" and memory > self._cluster.memory:
            raise MemoryError(f"no node has {memory} bytes of memory")
        there = "" if self._cluster.local else location.identity(name, self._cluster.cache_dir) or ""
        return ClusterBase(self._cluster, name, kind, max_length, memory, there)


class ClusterBase:
    """A frozen base that all of a cluster's actors hold: ``base.features.Base``."""

    has_score = False  # known with the first batch

    def __init__(self, cluster: Cluster, name: str, kind: str, max_length: int, memory: int, identity: str) -> None:
        """``memory``: bytes that an actor needs on its node; ``identity``: what every node must say of its files, empty
        where there is no other node."""
        self._cluster, self._name, self._kind, self._max_length = cluster, name, kind, max_length
        self._memory, self._identity = memory, identity

    def embed(
        self, texts: Sequence[tuple[str, str]], progress: Callable[[int], object] | None = None
    ) -> Iterator[tuple[list[int], Vectors]]:
        """(positions in ``texts``, their vectors), a batch of like length at a time, longest first.

        Raises what an actor raised; MissingError where the cluster failed before anything came back; UsageError where a
        node has other files by the base's name.
        """
        nodes, cut = len(self._cluster.nodes), 0
        waiting = sorted(range(len(texts)), key=lambda i: -sum(map(len, texts[i])))
        while waiting:
            read = set[int]()
            try:
                for batch in self._read(texts, waiting):
                    rows = batch["row"].tolist()
                    self.has_score = bool(batch["has_score"][0])
                    cut += int(batch["cut"][0])
                    read.update(rows)
                    yield rows, Vectors(*(batch[field] for field in Vectors._fields))
                    if progress is not None:
                        progress(len(rows))
            except self._cluster.ray.exceptions.RayError as error:  # what Ray could not make good by itself
                if not read:
                    raise MissingError(
                        f"The cluster reads no text: {error}\nWhat was read is kept; the same command goes on."
                    ) from error
                log.warning("The cluster lost texts on their way (%s): they are read again", type(error).__name__)
            waiting = [i for i in waiting if i not in read]
        if (lost := nodes - len(self._cluster.nodes)) > 0:
            log.warning(
                "%d of %d nodes of the cluster were lost; what they had in hand was read by others", lost, nodes
            )
        if cut:
            log.warning("%d of %d texts were longer than %d tokens and were cut", cut, len(texts), self._max_length)

    def _read(self, texts: Sequence[tuple[str, str]], rows: Sequence[int]) -> Iterator[Batch]:
        """One pass over these rows."""
        import pyarrow as pa

        ray, size, on_gpu = self._cluster.ray, BATCH[self._kind], self._kind == "cuda"
        blocks = [
            pa.table({"row": part, "prompt": [texts[i][0] for i in part], "response": [texts[i][1] for i in part]})
            for part in (rows[start : start + size] for start in range(0, len(rows), size))
        ]
        actors = min(len(blocks), self._cluster.gpus if on_gpu else self._cluster.cores)
        ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts texts
        read = ray.data.from_arrow(blocks).map_batches(
            Actor,
            fn_constructor_args=(self._name, self._kind, self._max_length, bool(self._identity)),
            batch_size=size,
            batch_format="numpy",
            # Ray repeats what a lost actor had in hand. The pool may shrink: where a node is gone for good, its actors
            # find their place only when others have ended.
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
            **({"num_gpus": 1} if on_gpu else {"num_cpus": 1, "memory": self._memory}),
        )
        for batch in read.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            if "error" in batch:
                raise batch["error"][0]
            if batch["identity"][0] != self._identity:
                raise UsageError(
                    f"A node of the cluster has another {self._name} than this machine ({batch['identity'][0]}, here "
                    f"{self._identity}). Nothing of it was kept. Put the same files on every node (docs/scale.md)."
                )
            yield batch


class Actor:
    """On a worker: the base, opened once, and the batches that it is given."""

    def __init__(self, name: str, kind: str, max_length: int, identify: bool) -> None:
        self._open = partial(open_base, name, kind, max_length=max_length)
        self._base: FrozenBase | None = None
        self._identity = (location.identity(name, Path.cwd()) or "none") if identify else ""

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Vectors of the texts, in columns; or the error, to be raised as it is where it can be mended."""
        try:
            self._base = self._base or self._open()
            texts = list(zip(batch["prompt"].tolist(), batch["response"].tolist(), strict=True))
            parts = list(self._base.embed(texts))
        except Exception as error:
            return {"error": [error]}
        order = np.concatenate([rows for rows, _ in parts])
        columns = zip(*(vectors for _, vectors in parts), strict=True)
        about: dict[str, Any] = {"identity": self._identity, "has_score": self._base.has_score, "cut": self._base.cut}
        return {
            "row": batch["row"][order],
            **dict(zip(Vectors._fields, map(np.concatenate, columns), strict=True)),
            **{name: np.repeat(value, len(order)) for name, value in about.items()},
        }
