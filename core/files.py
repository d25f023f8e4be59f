"""Files that are whole or not there, hashes of what they hold, and one run at a time in a folder.

write_json(path, {"winner": "none"})                       a file is replaced as a whole or stays as it was
append_line(path, {"user": "me", "outcome": 1.0})          a line is on the disk when this returns
with lock(cache_dir): …                                    a second run waits here
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

STALE_SECONDS = 60.0  # a temporary file of this age was left by a run that was killed while writing it
_CHECKSUM = "sha256"  # its name among what a file of tensors says about itself

log = logging.getLogger("ranking.cache")


# ── Hashes and text ──────────────────────────────────────────────────────────────────────────────────────


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
    """Write arrays and what is to be known about them as safetensors, as a whole and with a checksum over both."""
    import numpy as np
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    write_atomically(path, save(arrays, metadata={**about, _CHECKSUM: _tensors_checksum(arrays, about)}))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and what was said about them. Raises FileNotFoundError, and ValueError saying why for a damaged file.

    A file that another program (or an earlier version) wrote has no checksum and is taken as it stands.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:  # an empty file can't be mapped into memory, which is an OSError
        raise ValueError(str(error)) from error
    checksum = about.pop(_CHECKSUM, None)
    if checksum not in (None, _tensors_checksum(tensors, about)):
        raise ValueError("its checksum does not fit")
    return tensors, about


def _tensors_checksum(tensors: Mapping[str, np.ndarray], about: Mapping[str, str]) -> str:
    digest = hashlib.sha256(fingerprint(dict(about)).encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


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
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        fix = "Free some space on that disk and run the same command again."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        fix = (
            f"Make it accessible (chmod -R u+rwX {path.parent}) or choose another folder (--cache_dir, --results_dir)."
        )
    else:
        fix = "Choose another folder (--cache_dir, --results_dir)."
    return UsageError(f"{path} can't be {verb}: {error.strerror or error}. What it held before is unchanged. {fix}")


# ── Files that are moved ─────────────────────────────────────────────────────────────────────────────────


def set_aside(path: Path, *, copy: bool = False) -> Path:
    """Rename a damaged file to ``NAME.damaged-TIME[-N]`` beside it, over no other; the new path.

    With ``copy`` it also stays in its place, for a file of which a part is still used. Raises UsageError.
    """
    target = _free(path.parent, f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
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
    for path in paths:
        if path.exists():
            when = time.strftime("%Y%m%d-%H%M%S", time.localtime(path.stat().st_mtime))
            folder = path.parent / "previous"
            try:
                folder.mkdir(exist_ok=True)
                path.rename(_free(folder, f"{path.stem}_{when}", path.suffix))
            except OSError as error:
                raise refusal(path, error, "moved to previous/") from error


def _free(folder: Path, name: str, ending: str = "") -> Path:
    """The first of NAME, NAME-2, NAME-3, … (before the ending) that is not taken."""
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for candidate in candidates if not (path := folder / f"{candidate}{ending}").exists())


def move(path: Path, target: Path) -> None:
    """Move a file into a folder that may lie on another disk; a kill in between leaves it whole in both places."""
    data = read(path)
    if data is not None:
        write_atomically(target, data)
        path.unlink()


# ── JSON Lines ───────────────────────────────────────────────────────────────────────────────────────────


def append(path: Path, line: bytes, *, sync: bool = True) -> None:
    """Add a line that ends with a line feed, safe against ``kill -9`` on return and, with ``sync``, a power cut.

    A torn last line is cut off first. Raises UsageError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":
                    _whole_lines(file)
            file.write(line)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except OSError as error:
        raise refusal(path, error) from error


def append_line(path: Path, row: Mapping[str, object]) -> None:
    """Add one line of JSON. Half an emoji becomes "?": other programs read these files, and many refuse its escape."""
    append(path, json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n")


def drop_last_line(path: Path) -> bool:
    """Remove the last line (and a torn one after it); False where there is none. Raises UsageError."""
    try:
        with path.open("rb+") as file:
            lines = _whole_lines(file)
            file.truncate(sum(map(len, lines[:-1])))
            os.fsync(file.fileno())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refusal(path, error) from error
    return bool(lines)


def _whole_lines(file: BinaryIO) -> list[bytes]:
    """End the file with a whole line and return its lines: one that a kill cut is removed, a good one gets its end."""
    file.seek(0)
    lines = file.readlines()
    if lines and not lines[-1].endswith(b"\n"):
        try:
            json.loads(lines[-1])
        except ValueError:
            file.truncate(sum(map(len, lines)) - len(lines.pop()))
        else:
            lines[-1] += b"\n"
            file.write(b"\n")
    file.seek(0, os.SEEK_END)
    return lines


# ── One run at a time ────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def lock(folder: Path, timeout: float = -1) -> Iterator[None]:
    """Hold the folder for a whole run; the system releases it on a kill. Says once that it waits.

    ``timeout`` in seconds, negative: for ever. Raises UsageError where it is over or the folder can't be written.
    """
    from filelock import FileLock, Timeout

    path = folder / ".lock"
    guard = FileLock(path)
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
            f"Another run is still using {folder}{f' after {timeout:g} s' if timeout else ''}; nothing was changed. "
            "Run the same command again when it is done."
        ) from None
    except OSError as error:
        raise refusal(path, error) from error
    try:
        _remove_leftovers(folder)
        yield
    finally:
        guard.release()


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # whoever was writing it has just renamed it
            if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                leftover.unlink()
