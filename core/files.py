"""Files that are whole or not there, hashes of what they hold, and one run at a time in a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.errors import UsageError

STALE_SECONDS = 60.0  # a temporary file of this age was left by a run that was killed while writing it

log = logging.getLogger("ranking.cache")


# ── Hashes ───────────────────────────────────────────────────────────────────────────────────────────────


def fingerprint(*parts: object) -> str:
    """16 hex digits of SHA-256 over the parts as canonical JSON (sorted keys); dataclasses count as their fields.

    Raises TypeError for anything that is not JSON, NaN included.
    """
    try:
        text = _CANONICAL.encode(parts)
    except ValueError as error:  # NaN, infinity, a circle
        raise TypeError(f"not JSON: {error}") from None
    return hashlib.sha256(encode(text)).hexdigest()[:16]


def _fields(value: object) -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} is not JSON")


_CANONICAL = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_fields
)


def encode(text: str) -> bytes:
    """UTF-8. Half an emoji (models send that) has none: it becomes its JSON escape, which reads back as the same."""
    return text.encode("utf-8", "backslashreplace")


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace ``path`` as a whole or not at all; its folder is made where it is missing.

    Raises UsageError with the reason (read-only folder, full disk, …); then the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(encode(data) if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the rename could leave an empty file
        temporary.replace(path)
    except OSError as error:
        raise refusal(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # there is one only after a failure, which is what has to be told
            temporary.unlink(missing_ok=True)


def refusal(path: Path, error: OSError, verb: str = "written") -> UsageError:
    """What a user can do about it, by the reason."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        mend = "Free some space on that disk and run the same command again."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        mend = (
            f"Make it accessible (chmod -R u+rwX {path.parent}) or choose another folder (--cache_dir, --results_dir)."
        )
    else:
        mend = "Choose another folder (--cache_dir, --results_dir)."
    return UsageError(f"{path} can't be {verb}: {error.strerror or error}. What it held before is unchanged. {mend}")


def read(path: Path) -> bytes | None:
    """The file's bytes; None where there is no file. Raises UsageError where it can't be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refusal(path, error, "read") from error


def copy_aside(path: Path, data: bytes) -> Path:
    """Keep damaged bytes under a name that says so, beside the file and over no other.

    A copy, not a rename: a kill before the mended file is written must find the damaged one still in its place.
    """
    stem = f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    aside, number = path.with_name(stem), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{stem}-{number}")
    write_atomically(aside, data)
    return aside


@contextlib.contextmanager
def lock(cache_dir: Path, *, timeout: float = -1) -> Iterator[None]:
    """Hold the folder for a whole run; the system releases it on a kill. Says once that it waits.

    ``timeout`` in seconds, negative: for ever. Raises UsageError where it is over or the folder can't be written.
    """
    from filelock import FileLock, Timeout

    path = cache_dir / ".lock"
    guard = FileLock(path)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            log.warning("another run is using %s; waiting for it", cache_dir)
            guard.acquire(timeout=timeout)
    except Timeout:
        raise UsageError(
            f"Another run is still using {cache_dir} after {timeout:g} s; nothing was changed. "
            "Run the same command again when it is done, or choose another --cache_dir."
        ) from None
    except OSError as error:
        raise refusal(path, error) from error
    try:
        _remove_leftovers(cache_dir)
        yield
    finally:
        guard.release()


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # whoever was writing it has just renamed it
            if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                leftover.unlink()
