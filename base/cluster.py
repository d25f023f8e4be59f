"""Reads texts on a Ray cluster (``--ray``): on processes of this machine, or on a cluster that runs already.

Ray Data hands batches of texts to workers, each of which has opened the base once. Vectors stream back, and only the
driver keeps them; a batch that goes down with a worker is read again by another. Ray is imported here and nowhere else.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import config
from base import frozen as frozen_base
from base import location as base_location
from base.frozen import Vectors
from core.errors import MissingError, UsageError

log = logging.getLogger("ranking.base")

INSTALL = "pip install -r requirements-ray.txt"
BATCH = {"cpu": 16, "cuda": 256}  # texts that go to a worker at once and come back together
BESIDE = 1 << 30  # bytes of memory that a worker on a processor needs beside the weights
ANSWERS_WITHIN = 10.0  # seconds for a connection to a cluster's address: Ray itself would try for minutes
# Read by Ray as it is imported. The first has nothing to do with those systems here: it is Ray's one way to stay on
# 127.0.0.1. With the token nobody else on this machine can use what was started.
LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
NOT_SENT = ["/.git", "/.venv", "/cache", "/results", "/votes", "/samples", "/docs", "/tests", "/benchmarks"]


@contextmanager
def open_base(asked: str, base: str, device: str) -> Iterator[ClusterBase]:
    """The base on the cluster asked for (``local``, ``auto`` or an address), for as long as this holds.

    Raises MissingError where Ray, the cluster or its GPU is not there, MemoryError where no node has memory for it.
    """
    if (folder := Path(base).expanduser()).is_dir():
        base = str(folder.resolve())  # workers are somewhere else
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        ray = _connect(asked, scratch)
        try:
            yield ClusterBase(ray, base, device, None if asked == "local" else base_location.identity(base))
        finally:
            ray.shutdown()


def _connect(asked: str, scratch: str) -> Any:
    """Ray, connected. Only ``local`` starts anything, with its files in ``scratch``: sockets' names must be short."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # any pool of workers is an "error" to Ray's core
    address = os.environ.get("RAY_ADDRESS", asked) if asked == "auto" else asked
    start: dict[str, Any] = {"runtime_env": {"working_dir": str(config.ROOT), "excludes": NOT_SENT}}
    if asked == "local":
        os.environ.update(LOCAL)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        path = os.pathsep.join([str(config.ROOT), os.environ.get("PYTHONPATH", "")])
        start = {"runtime_env": {"env_vars": {"PYTHONPATH": path}}, "include_dashboard": False, "_temp_dir": scratch}
    try:
        import ray
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        if address not in ("local", "auto"):
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **start)
    except ImportError as error:
        raise MissingError(
            f"--ray needs Ray ({error}). Everything so far is kept. Install it, or leave --ray out:\n  {INSTALL}"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise MissingError(
            f"--ray {asked}: Ray can't be used at {address}: {error}\nEverything so far is kept. `auto` and an address "
            "join a cluster that runs already (docs/scale.md); on this machine's own processes: --ray local"
        ) from error
    return ray


class ClusterBase:
    """A frozen base that the workers of a cluster hold: ``base.features.Base``."""

    has_score = False  # known with the first batch

    def __init__(self, ray: Any, name: str, device: str, identity: str | None) -> None:
        """``device``: as asked for; ``identity``: what each node must say of its files, None where none other is."""
        gpus, cores = (int(ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
        if device == "cuda" and not gpus:
            raise MissingError("The cluster has no GPU. Read on its processors: --device cpu")
        self.kind, self.workers = ("cuda", gpus) if gpus and device != "cpu" else ("cpu", max(1, cores))
        self._ray, self._given, memory = ray, (name, self.kind, identity), BESIDE
        if name != base_location.EMBEDDED:
            memory += sum(path.stat().st_size for path in base_location.fetch(name).glob("*.safetensors"))
        if self.kind == "cpu" and memory > max(node["Resources"].get("memory", 0.0) for node in ray.nodes()):
            raise MemoryError(f"no node has {memory} bytes of memory")
        self._needs = {"num_gpus": 1} if self.kind == "cuda" else {"num_cpus": 1, "memory": memory}
        log.info("Ray: %d workers, each with a %s", self.workers, "GPU" if self.kind == "cuda" else "core")

    def embed(self, texts: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Vectors]]:
        """(positions in ``texts``, their vectors), a batch of like length at a time.

        Raises what a worker raised; MissingError where the cluster fails in a way that Ray can't make good.
        """
        ray, cut = self._ray, 0
        order = sorted(range(len(texts)), key=lambda i: -sum(map(len, texts[i])))
        items = [{"row": i, "prompt": texts[i][0], "response": texts[i][1]} for i in order]
        blocks = math.ceil(len(items) / BATCH[self.kind])
        workers = min(blocks, self.workers)
        ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts texts
        read = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            Worker,
            fn_constructor_args=self._given,
            batch_size=None,
            # The pool may shrink: where a node is gone for good, its workers find no place until others have ended.
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            **self._needs,
        )
        try:
            for batch in read.iter_batches(batch_size=None, prefetch_batches=0):
                if "error" in batch:
                    raise batch["error"][0]
                self.has_score, cut = bool(batch["has_score"][0]), cut + int(batch["cut"][0])
                yield batch["row"].tolist(), Vectors(*(batch[field] for field in Vectors._fields))
        except ray.exceptions.RayError as error:
            raise MissingError(
                f"The cluster failed: {error}\nWhat was read is kept; the same command goes on."
            ) from error
        if cut:
            log.warning(
                "%d of %d texts were longer than %d tokens and were cut", cut, len(texts), frozen_base.MAX_LENGTH
            )


class Worker:
    """Opens the base once and reads the batches that Ray Data hands to it."""

    def __init__(self, name: str, kind: str, identity: str | None) -> None:
        self._name, self._kind, self._identity = name, kind, identity
        self._base: frozen_base.FrozenBase | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Vectors of the texts, in columns; or the error, which Ray would wrap and repeat."""
        try:
            self._base = self._base or self._open()
            texts = zip(batch["prompt"].tolist(), batch["response"].tolist(), strict=True)
            parts = list(self._base.embed(list(texts)))
        except Exception as error:
            return {"error": [error]}
        order = np.concatenate([rows for rows, _ in parts])
        columns = map(np.concatenate, zip(*(vectors for _, vectors in parts), strict=True))
        about = {"has_score": self._base.has_score, "cut": self._base.cut}
        return {
            "row": batch["row"][order],
            **dict(zip(Vectors._fields, columns, strict=True)),
            **{name: np.repeat(value, len(order)) for name, value in about.items()},
        }

    def _open(self) -> frozen_base.FrozenBase:
        base = frozen_base.open_base(self._name, self._kind)
        here = base_location.identity(self._name)
        if self._identity not in (None, here):
            raise UsageError(
                f"A node of the cluster has {here}, and this machine {self._identity}. Nothing of it was kept. Put the "
                "same files on every node (docs/scale.md)."
            )
        return base
