"""Reads texts on a Ray cluster (``--ray``): on processes of this machine, or on a cluster that runs already.

Ray Data hands batches of texts to workers, each of which has opened the base once. Vectors stream back, and only the
driver keeps them; a batch that goes down with a worker is read again by another. Ray is imported here and nowhere else.
"""

import logging
import math
import os
import secrets
import socket
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import config
from base import frozen as frozen_base
from base import location as base_location
from base.frozen import Batch, Vectors
from core.errors import MissingError, UsageError

BATCH = {"cpu": 16, "cuda": 256}  # texts that go to a worker at once and come back together
BESIDE = 1 << 30  # bytes of memory that a worker on a processor needs beside the weights
ANSWERS_WITHIN = 10.0  # seconds for a connection to a cluster's address: Ray itself would try for minutes
# Read by Ray as it is imported. The first has nothing to do with those systems here: it is Ray's one way to stay on
# 127.0.0.1. With the token nobody else on this machine can use what was started.
LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}


def read(asked: str, base: str, device: str, texts: Sequence[tuple[str, str]]) -> Generator[Batch]:
    """The texts, a batch of like length at a time.

    Raises what a worker raised; MissingError where Ray, the cluster or its GPU is not there or fails in a way that Ray
    can't make good; MemoryError where no node has memory for the base.
    """
    if (folder := Path(base).expanduser()).is_dir():
        base = str(folder.resolve())  # workers are somewhere else
    with _connected(asked) as ray:
        gpus, cores = (int(ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
        if device == "cuda" and not gpus:
            raise MissingError("The cluster has no GPU. Read on its processors: --device cpu")
        kind, workers, needs = "cuda", gpus, {"num_gpus": 1.0}  # what each worker takes of its node
        if not gpus or device == "cpu":
            folder = base_location.find_local(base) or Path(os.devnull)
            memory = BESIDE + sum(path.stat().st_size for path in folder.glob("*.safetensors"))
            if memory > max(node["Resources"].get("memory", 0.0) for node in ray.nodes()):
                raise MemoryError("no node has memory for the base")
            kind, workers, needs = "cpu", max(1, cores), {"num_cpus": 1, "memory": memory}
        order = sorted(range(len(texts)), key=lambda i: -sum(map(len, texts[i])))
        items = [{"row": i, "prompt": texts[i][0], "response": texts[i][1]} for i in order]
        blocks = math.ceil(len(items) / BATCH[kind])
        workers = min(blocks, workers)
        found = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            Worker,
            fn_constructor_args=(base, kind, base_location.identity(base)),
            batch_size=None,
            # The pool may shrink: where a node is gone for good, its workers find no place until others have ended.
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            **needs,
        )
        try:
            for batch in found.iter_batches(batch_size=None, prefetch_batches=0):
                if "error" in batch:
                    raise batch["error"][0]
                vectors = Vectors(*(batch[field] for field in Vectors._fields))
                yield batch["row"].tolist(), vectors, int(batch["cut"][0])
        except ray.exceptions.RayError as error:
            raise MissingError(f"The cluster failed: {error}\nWhat was read is kept; the command goes on.") from error


@contextmanager
def _connected(asked: str) -> Iterator[Any]:
    """Ray on the cluster asked for: ``local``, which alone starts anything, ``auto`` or an address."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # any pool of workers is an "error" to Ray's core
    address = os.environ.get("RAY_ADDRESS", asked) if asked == "auto" else asked
    # sockets' names must be short
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        start: dict[str, Any] = {}
        if asked == "local":
            os.environ.update(LOCAL, RAY_AUTH_TOKEN=secrets.token_hex(32))
            start = {"include_dashboard": False, "_temp_dir": scratch}
        try:
            import ray
            import ray.data

            if address not in ("local", "auto"):
                host, _, port = address.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN).close()
            # the same checkout lies on every node
            code = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(config.ROOT), os.environ.get("PYTHONPATH", "")])}}
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, runtime_env=code, **start)
        except (ImportError, OSError, ValueError, RuntimeError) as error:
            raise MissingError(
                f"--ray {asked}: Ray can't be used at {address}: {error}\nEverything so far is kept. `auto` and an "
                "address join a cluster that runs already (docs/scale.md); on this machine's own processes: "
                "--ray local\n  pip install -r requirements-ray.txt"
            ) from error
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts texts
        try:
            yield ray
        finally:
            ray.shutdown()


class Worker:
    """Opens the base once and reads the batches that Ray Data hands to it."""

    _base: frozen_base.FrozenBase | None = None

    def __init__(self, name: str, kind: str, identity: str | None) -> None:
        """``identity``: what this node must say of the base's files."""
        self._given, self._identity = (name, kind), identity

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Vectors of the texts, in columns; or the error, which Ray would wrap and repeat."""
        try:
            if self._base is None:
                base, here = frozen_base.open_base(*self._given), base_location.identity(self._given[0])
                if here != self._identity:
                    raise UsageError(f"A node has {here}, not {self._identity}: put the same files on every node.")
                self._base = base
            texts = list(zip(batch["prompt"].tolist(), batch["response"].tolist(), strict=True))
            parts = list(self._base.embed(texts))
        except Exception as error:
            return {"error": [error]}
        order = np.concatenate([rows for rows, _, _ in parts])
        columns = map(np.concatenate, zip(*(vectors for _, vectors, _ in parts), strict=True))
        cut = np.full(len(order), sum(cut for _, _, cut in parts))
        return {"row": batch["row"][order], "cut": cut, **dict(zip(Vectors._fields, columns, strict=True))}
