"""A Ray cluster to work on: processes of this machine, or one that runs already and is connected to.

    with connect("local", cache_dir) as cluster:            # None where no cluster is asked for
        fitted = in_blocks(cluster, fit, models, sets)      # without one: the same in this process

Ray is imported where a cluster is asked for, and nowhere else (docs/scale.md).
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import pickle
import secrets
import shutil
import signal
import socket
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import config
from core.errors import MissingError

if TYPE_CHECKING:
    from scale.texts import ClusterReader

log = logging.getLogger("ranking.scale")

R = TypeVar("R")

INSTALL = "pip install -r requirements-ray.txt"
SOCKET_NAME = 66  # bytes that Ray adds to its folder in the names of its sockets …
SOCKET_PATH = 107  # … of which the system takes so many in all
ANSWERS_WITHIN = 10.0  # seconds for a connection to the address of a cluster
# Read by Ray as it is imported and as it starts. The first has nothing to do with those systems here: it is Ray's one
# way to stay on 127.0.0.1. The token is for this run alone: Ray would else keep one in the home folder.
LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
# What Ray prints to the driver is left out, every line, and so is what its core tells (a pool of actors is an "error").
QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_BACKEND_LOG_LEVEL": "fatal"}
NOT_SENT = ["/.git", "/.venv", "/cache", "/results", "/votes", "/samples", "/docs", "/tests", "/benchmarks"]

BLOCK = 2048  # people trained and scored at once: what they bring is in memory together, …
LEAST = 256  # … and so many heads are trained side by side at the cost of one step
ROUNDS = 4  # blocks for each core: the last ones end nearly together
AHEAD = 3  # blocks for each core that are sent before the first of them is back
LARGE = 1 << 16  # bytes of an array that is placed in the object store, once


@contextlib.contextmanager
def connect(asked: str | None, cache_dir: Path) -> Iterator[Cluster | None]:
    """The cluster that ``--ray`` asks for: ``local``, ``auto`` or an address; None where it is None.

    Raises MissingError where Ray is not installed or no cluster answers. Processes of ``local`` end with this, and
    their files are under ``cache_dir``, which the caller has locked.
    """
    if asked is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_short_folder(cache_dir / "ray")) if asked == "local" else None
        stack.enter_context(_environment(LOCAL | {"RAY_AUTH_TOKEN": secrets.token_hex(32)} if folder else {}))
        stack.enter_context(_environment({} if log.isEnabledFor(logging.DEBUG) else QUIET))
        before = signal.getsignal(signal.SIGTERM)
        ray = _start(folder) if folder else _join(asked)
        signal.signal(signal.SIGTERM, before)  # Ray has put its own in its place
        stack.callback(ray.shutdown)
        cluster = Cluster(ray, cache_dir, local=folder is not None)
        log.info(
            "Ray: %d cores, %d GPUs on %s", cluster.cores, cluster.gpus, "this machine" if folder else "the cluster"
        )
        yield cluster


def _start(folder: Path) -> Any:
    ray = _import()
    path = os.pathsep.join(filter(None, [str(config.ROOT), os.environ.get("PYTHONPATH")]))
    env = {"env_vars": {"PYTHONPATH": path}}
    try:
        with _said() as said:
            ray.init(address="local", include_dashboard=False, _temp_dir=str(folder), runtime_env=env, **said)
    except (OSError, ValueError, RuntimeError) as error:
        raise MissingError(f"Ray can't start here: {error}\nEverything so far is kept. Leave --ray out.") from error
    return ray


def _join(address: str) -> Any:
    ray = _import()
    named = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    why = f"--ray {address} joins a cluster that runs already and never starts one."
    fix = "Start one (docs/scale.md), or use this machine's own processes: --ray local"
    host, _, port = named.rpartition(":")
    try:
        if named != "auto":  # Ray itself would ask for minutes
            socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN).close()
        code = {"working_dir": str(config.ROOT), "excludes": NOT_SENT}
        with _said() as said:
            ray.init(address=named, runtime_env=code, **said)
    except (OSError, ValueError, RuntimeError) as error:
        raise MissingError(f"No Ray cluster at {named}: {error}\n{why} Everything so far is kept. {fix}") from error
    return ray


def _import() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingError(
            f"--ray needs Ray ({error}). Everything so far is kept. Install it, or leave --ray out:\n  {INSTALL}"
        ) from error
    if not log.isEnabledFor(logging.DEBUG):
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray


@contextlib.contextmanager
def _said() -> Iterator[dict[str, Any]]:
    """How Ray is started: it speaks where each call is shown (--log_level debug), and nowhere else. That its core was
    told to be quiet it tells past Python, so the file descriptor is turned away meanwhile."""
    if log.isEnabledFor(logging.DEBUG):
        yield {"log_to_driver": True, "logging_level": logging.INFO}
        return
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield {"log_to_driver": False, "logging_level": logging.CRITICAL}
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables, as long as this holds."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name)
        os.environ.update({name: value for name, value in before.items() if name in values})


@contextlib.contextmanager
def _short_folder(folder: Path) -> Iterator[Path]:
    """A new, empty folder, removed in the end; by way of a short link where a socket's name in it would be too long."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    link = None
    try:
        used = folder.resolve()
        if len(os.fsencode(used)) + SOCKET_NAME > SOCKET_PATH:
            link = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp")) / "l"
            link.symlink_to(used, target_is_directory=True)
            log.info(
                "Ray reaches %s through the link %s: its sockets' names may have %d bytes", used, link, SOCKET_PATH
            )
        yield link or used
    finally:
        if link is not None:
            shutil.rmtree(link.parent, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """A cluster that is connected to."""

    def __init__(self, ray: Any, cache_dir: Path, *, local: bool) -> None:
        """``ray``: the module, connected; ``local``: there is no node but this one."""
        self.ray, self.cache_dir, self.local = ray, cache_dir, local
        self._placed: dict[int, Any] = {}

    @property
    def reader(self) -> ClusterReader:
        """What ``compute_features`` takes to have texts read here."""
        from scale.texts import ClusterReader

        return ClusterReader(self)

    @property
    def cores(self) -> int:
        """Of all nodes that are alive now."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 0)))

    @property
    def gpus(self) -> int:
        """Of all nodes that are alive now."""
        return int(self.ray.cluster_resources().get("GPU", 0))

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """Those that are alive now, as Ray describes them."""
        return [node for node in self.ray.nodes() if node["Alive"]]

    @property
    def memory(self) -> float:
        """Bytes of main memory of the largest node."""
        return max(float(node["Resources"].get("memory", 0.0)) for node in self.nodes)

    def map(self, function: Callable[..., Sequence[R]], blocks: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[R]]:
        """``function(*block)`` of each block, in order: a task on one core, which Ray repeats where a node is lost.

        Large arrays that ``function`` holds are placed in the object store once for as long as they live here.
        """
        from tqdm import tqdm

        ray, run = self.ray, self.ray.remote(_run)
        code, arrays = dumps(function)
        shared = [ray.put(code), *map(self._place, arrays)]
        ahead = AHEAD * self.cores
        waiting: deque[Any] = deque()
        with tqdm(total=len(blocks), desc="training", unit="block", disable=None, leave=False, delay=0.5) as bar:
            for number, block in enumerate(blocks):
                waiting.append(run.remote(block, *shared))
                while waiting and (len(waiting) >= ahead or number == len(blocks) - 1):
                    yield self._result(waiting.popleft())
                    bar.update()

    def _result(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            raise MissingError(
                f"The cluster lost a task and every repetition of it: {error}\nEverything that was kept stays; the "
                "same command goes on."
            ) from error

    def _place(self, array: np.ndarray) -> Any:
        if id(array) not in self._placed:
            self._placed[id(array)] = self.ray.put(array)
            weakref.finalize(array, self._placed.pop, id(array), None)
        return self._placed[id(array)]


def _run(block: tuple[Any, ...], code: bytes, *arrays: np.ndarray) -> list[Any]:
    """On a worker: the large arrays lie in its node's shared memory."""
    return list(loads(code, arrays)(*block))


def in_blocks(cluster: Cluster | None, function: Callable[..., Sequence[R]], *columns: Sequence[Any]) -> list[R]:
    """``function(*columns)``, a block of rows at a time: it makes one result of each row, whatever the others are."""
    rows = len(columns[0])
    size = BLOCK if cluster is None else max(LEAST, min(BLOCK, math.ceil(rows / ROUNDS / cluster.cores)))
    blocks = [tuple(column[start : start + size] for column in columns) for start in range(0, rows, size)]
    results = (function(*block) for block in blocks) if cluster is None else cluster.map(function, blocks)
    return list(chain.from_iterable(results))


# ── What travels ─────────────────────────────────────────────────────────────────────────────────────────


def dumps(value: object) -> tuple[bytes, list[np.ndarray]]:
    """``value`` pickled, and the large arrays in it, each once, which the pickle only numbers."""
    file, arrays = io.BytesIO(), dict[int, np.ndarray]()
    pickler = _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.arrays = arrays
    pickler.dump(value)
    return file.getvalue(), list(arrays.values())


def loads(code: bytes, arrays: Sequence[np.ndarray]) -> Any:
    """What ``dumps`` took apart."""
    unpickler = _Unpickler(io.BytesIO(code))
    unpickler.arrays = arrays
    return unpickler.load()


class _Pickler(pickle.Pickler):
    arrays: dict[int, np.ndarray]

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, np.ndarray) or value.nbytes < LARGE:
            return None
        self.arrays.setdefault(id(value), value)
        return list(self.arrays).index(id(value))


class _Unpickler(pickle.Unpickler):
    arrays: Sequence[np.ndarray]

    def persistent_load(self, number: int) -> np.ndarray:
        return self.arrays[number]
