"""Files that are whole or not there, hashes of what they hold, and one run at a time in a folder.

write_json(path, {"winner": "none"})                       a file is replaced as a whole or stays as it was
append_line(path, {"user": "me", "outcome": 1.0})          a line is on the disk when this returns
with lock(cache_dir): …                                    a second run waits here
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("ranking.cache")


def fingerprint(*parts: object) -> str:
    """16 hex digits of SHA-256 over the parts as canonical JSON (sorted keys); dataclasses count as their fields.

    Raises TypeError for anything that is not JSON, ValueError for NaN.
    """
    options: dict[str, Any] = {"sort_keys": True, "ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    text = json.dumps(parts, **options, default=dataclasses.asdict)
    return hashlib.sha256(encode(text)).hexdigest()[:16]


def encode(text: str) -> bytes:
    """UTF-8. Half an emoji (models send that) has none: it becomes its JSON escape, which reads back as the same."""
    return text.encode("utf-8", "backslashreplace")


# ── Whole files ──────────────────────────────────────────────────────────────────────────────────────────


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace ``path`` as a whole or, with a UsageError (a full disk, say), not at all. Its folder is made."""
    temporary = path.with_name(f".{path.name}.tmp")  # one left by a kill is written over
    with told(path), contextlib.ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            stack.callback(temporary.unlink, missing_ok=True)  # only a failure leaves one
            file.write(encode(data) if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the rename could leave an empty file
        temporary.replace(path)


def write_json(path: Path, document: object) -> None:
    """Write ``as_json`` atomically."""
    write_atomically(path, as_json(document))


def as_json(document: object) -> str:
    """JSON for people to read. Raises ValueError for NaN."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write arrays and what is to be known about them as safetensors, atomically."""
    import numpy as np
    from safetensors.numpy import save

    write_atomically(path, save({n: np.asarray(a, order="C") for n, a in tensors.items()}, metadata=dict(about)))


def read(path: Path) -> bytes | None:
    """The file's bytes; None where there is no file. Raises UsageError where it can't be read."""
    with told(path, "read"), contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return None


@contextlib.contextmanager
def told(path: Path, verb: str = "written") -> Iterator[None]:
    """Raise UsageError for a file that can't be ``verb``: why, and what a user can do about it."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path} can't be {verb}: {error.strerror or error}. What it held before is unchanged. Free some space, "
            f"make it accessible (chmod -R u+rwX {path.parent}) or choose another folder (--cache_dir, --results_dir)."
        ) from error


# ── Files that are moved ─────────────────────────────────────────────────────────────────────────────────


def set_aside(path: Path) -> Path:
    """Rename a damaged file to ``NAME.damaged-TIME`` beside it; the new path. Raises UsageError."""
    target = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    with told(path, "set aside"):
        path.rename(target)
    return target


def keep_previous(*paths: Path) -> None:
    """Move what an earlier run left at these paths to ``previous/`` beside it, with its own time in its name."""
    for path in filter(Path.exists, paths):
        when = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
        target = path.parent / "previous" / f"{path.stem}_{when:%Y%m%d-%H%M%S}{path.suffix}"
        with told(path, "moved to previous/"):
            target.parent.mkdir(exist_ok=True)
            path.rename(target)


# ── JSON Lines ───────────────────────────────────────────────────────────────────────────────────────────


def append_line(path: Path, row: Mapping[str, object]) -> None:
    """Add one line of JSON. Raises UsageError.

    Half an emoji becomes "?": other programs read these files, and many refuse its escape.
    """
    line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:  # in place: it may be a link, and has its own rights
            file.seek(0)
            last = file.read().rpartition(b"\n")[2]
            with contextlib.suppress(ValueError):  # a torn one is cut off
                json.loads(last)
                last, line = b"", b"\n" + line
            file.truncate(file.tell() - len(last))
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())


def drop_last_line(path: Path) -> None:
    """Remove the last line. Raises UsageError."""
    with told(path), path.open("rb+") as file:
        file.truncate(len(b"".join(file.read().splitlines(keepends=True)[:-1])))


# ── One run at a time ────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder for a whole run; the system releases it on a kill. Raises UsageError where it is read-only."""
    from filelock import FileLock, Timeout

    guard = FileLock(folder / ".lock")
    with told(folder / ".lock"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            log.warning("another run is using %s; waiting for it", folder)
            guard.acquire()
    try:
        yield
    finally:
        guard.release()
