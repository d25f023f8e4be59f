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
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

STALE_SECONDS = 60.0  # a temporary file of this age was left by a run that was killed while writing it

log = logging.getLogger("ranking.cache")


def fingerprint(*parts: object) -> str:
    """16 hex digits of SHA-256 over the parts as canonical JSON (sorted keys); dataclasses count as their fields.

    Raises TypeError for anything that is not JSON, NaN included.
    """
    options: dict[str, Any] = {"sort_keys": True, "ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    try:
        text = json.dumps(parts, **options, default=dataclasses.asdict)
    except ValueError as error:  # NaN, infinity, a circle
        raise TypeError(f"not JSON: {error}") from None
    return hashlib.sha256(encode(text)).hexdigest()[:16]


def encode(text: str) -> bytes:
    """UTF-8. Half an emoji (models send that) has none: it becomes its JSON escape, which reads back as the same."""
    return text.encode("utf-8", "backslashreplace")


# ── Whole files ──────────────────────────────────────────────────────────────────────────────────────────


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


def write_json(path: Path, document: object) -> None:
    """Write JSON for people to read, as a whole. Raises ValueError for NaN, and what ``write_atomically`` raises."""
    write_atomically(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write arrays and what is to be known about them as safetensors, as a whole."""
    import numpy as np
    from safetensors.numpy import save

    write_atomically(path, save({n: np.asarray(a, order="C") for n, a in tensors.items()}, metadata=dict(about)))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and what was said about them. Raises FileNotFoundError, and ValueError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:  # an empty file can't be mapped into memory, which is an OSError
        raise ValueError(str(error)) from error


def read(path: Path) -> bytes | None:
    """The file's bytes; None where there is no file. Raises UsageError where it can't be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refusal(path, error, "read") from error


def refusal(path: Path, error: OSError, verb: str = "written") -> UsageError:
    """The error to raise for a file that can't be ``verb``: why, and what a user can do about it."""
    return UsageError(
        f"{path} can't be {verb}: {error.strerror or error}. What it held before is unchanged. Free some space, make "
        f"it accessible (chmod -R u+rwX {path.parent}) or choose another folder (--cache_dir, --results_dir)."
    )


# ── Files that are moved ─────────────────────────────────────────────────────────────────────────────────


def set_aside(path: Path, *, copy: bool = False) -> Path:
    """Rename a damaged file to ``NAME.damaged-TIME`` beside it; the new path.

    With ``copy`` it also stays in its place, for a file of which a part is still used. Raises UsageError.
    """
    target = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    try:
        if copy:
            write_atomically(target, path.read_bytes())
        else:
            path.rename(target)
    except OSError as error:
        raise refusal(path, error, "set aside") from error
    return target


def keep_previous(paths: Iterable[Path]) -> None:
    """Move what an earlier run left at these paths to ``previous/`` beside it, with its own time in its name."""
    for path in filter(Path.exists, paths):
        when = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
        target = path.parent / "previous" / f"{path.stem}_{when:%Y%m%d-%H%M%S}{path.suffix}"
        while target.exists():  # two runs within a second
            target = target.with_stem(f"{target.stem}-2")
        try:
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        except OSError as error:
            raise refusal(path, error, "moved to previous/") from error


# ── JSON Lines ───────────────────────────────────────────────────────────────────────────────────────────


def append(path: Path, line: bytes, *, sync: bool = True) -> None:
    """Add a line that ends with a line feed, safe against ``kill -9`` on return and, with ``sync``, a power cut.

    A torn last line is cut off first; a whole one that lacks its end gets it. Raises UsageError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.seek(max(0, file.tell() - 1))
            if file.read() not in (b"", b"\n"):
                file.seek(0)
                data = file.read()
                whole = sum(len(row) + 1 for row in _whole_lines(data))
                if whole > len(data):
                    line = b"\n" + line
                else:
                    file.truncate(whole)
            file.write(line)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except OSError as error:
        raise refusal(path, error) from error


def append_line(path: Path, row: Mapping[str, object]) -> None:
    """Add one line of JSON. Half an emoji becomes "?": other programs read these files, and many refuse its escape."""
    append(path, json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n")


def drop_last_line(path: Path) -> None:
    """Remove the last line, and a torn one after it. Raises UsageError."""
    write_atomically(path, b"".join(row + b"\n" for row in _whole_lines(read(path) or b"")[:-1]))


def _whole_lines(data: bytes) -> list[bytes]:
    """The lines of JSON without their ends, and without a last one that a kill cut."""
    *lines, last = data.split(b"\n")
    with contextlib.suppress(ValueError):
        json.loads(last)
        lines.append(last)
    return lines


# ── One run at a time ────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def lock(folder: Path, timeout: float = -1) -> Iterator[None]:
    """Hold the folder for a whole run; the system releases it on a kill. Says once that it waits.

    ``timeout`` in seconds, negative: for ever. Raises UsageError where it is over or the folder can't be written.
    """
    from filelock import FileLock, Timeout

    guard = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            if timeout:
                log.warning("another run is using %s; waiting for it", folder)
            guard.acquire(timeout=timeout)
    except Timeout:
        raise UsageError(
            f"Another run is still using {folder}; nothing was changed. Run the same command again when it is done."
        ) from None
    except OSError as error:
        raise refusal(folder / ".lock", error) from error
    try:
        for leftover in folder.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):  # whoever was writing it has just renamed it
                if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                    leftover.unlink()
        yield
    finally:
        guard.release()
