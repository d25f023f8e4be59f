"""Where a frozen base lies: the embedded model, a folder, the hub's cache or the hub itself.

Imports neither torch nor transformers, so that a run whose features are all kept needs neither.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import config
from core import hub
from core.errors import MissingError, UsageError
from core.files import write_json

log = logging.getLogger("ranking.base")

EMBEDDED = "embedded"
WANTED_FILES = ["*.json", "*.jinja", "*.safetensors", "tokenizer.model", "*.txt"]  # no pickle, no code
DIGESTS_FILE = "base_digests.json"  # in the cache: what each file of a base hashed to, with its size and time
SAID_BYTES = 1 << 30  # hashing takes seconds from here on


def find_local(name: str) -> Path | None:
    """The folder of a base that needs no network: a folder itself, or a complete copy in the hub's cache."""
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if not is_hub_id(name):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if (folder / "config.json").exists() and any(folder.glob("*.safetensors")) else None


def identity(name: str, cache_dir: Path) -> str | None:
    """What changes when the base's weights, tokenizer or template do; None where it is not on this machine.

    Whole files count, weights too: a fine-tune keeps their names and sizes. What they hash to is kept in ``cache_dir``.
    """
    if name == EMBEDDED:
        return f"{config.EMBEDDED_NAME} ({config.EMBEDDED_WEIGHTS})"
    folder = find_local(name)
    if folder is None:
        return None
    digests = _digests(sorted(p for pattern in WANTED_FILES for p in folder.glob(pattern)), cache_dir / DIGESTS_FILE)
    return f"{name} sha256:{hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]}"


def features_stem(name: str, base: str) -> str:
    """The beginning of the names of the files that hold a run's vectors from one base."""
    return f"features_{name}_{re.sub(r'[^A-Za-z0-9.-]+', '-', base).strip('-.')[-60:]}"


def is_of_old_form(identity: str) -> bool:
    """Whether an earlier version made it, of the first MiB of each file of weights: it proves no base the same."""
    return re.search(r" [0-9a-f]{16}$", identity) is not None


def _digests(paths: Sequence[Path], kept: Path) -> list[tuple[str, str]]:
    """(name, hash of the content) of each file; a file is read again only where its size or time changed."""
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    found, new = [], {}
    for path in paths:
        real = path.resolve()
        if real.parent.name == "blobs":  # the hub's cache names files by the hash of their content
            found.append((path.name, real.name))
            continue
        stat = real.stat()
        entry = known.get(str(real))
        if not isinstance(entry, dict) or (entry["size"], entry["mtime_ns"]) != (stat.st_size, stat.st_mtime_ns):
            if stat.st_size > SAID_BYTES:
                log.info("Hashing %s (%.1f GB), once", real, stat.st_size / 1e9)
            with real.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            entry = new[str(real)] = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
        found.append((path.name, entry["sha256"]))
    if new:
        write_json(kept, {**known, **new})
    return found


def is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None


def hub_status(name: str) -> str:
    """``there``, ``unknown`` (the hub has no such id, or not for everyone), ``offline`` (switched off) or
    ``unreachable``; settled within ``hub.REACH_SECONDS``."""
    if hub.offline():
        return "offline"
    try:
        return hub.within(hub.REACH_SECONDS, lambda: _ask(f"{hub.endpoint()}/api/models/{name}"))
    except TimeoutError:
        return "unreachable"


def _ask(address: str) -> str:
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the scheme is the user's own HF_ENDPOINT
    try:
        with urllib.request.urlopen(request, timeout=hub.REACH_SECONDS):  # noqa: S310
            return "there"
    except urllib.error.HTTPError as error:
        error.close()
        return "unknown" if error.code in {401, 404} else "unreachable"
    except (OSError, ValueError) as error:  # no route, no name, no certificate; a malformed address
        log.debug("%s: %s", address, error)
        return "unreachable"


def fetch(name: str) -> Path:
    """Where the base lies on this machine, fetched from the hub if need be."""
    folder = find_local(name)
    if folder is not None:
        if not any(folder.glob("*.safetensors")):
            raise UsageError(
                f"{name} has no *.safetensors: pickled weights are never loaded. Choose another --base_model."
            )
        return folder
    if not is_hub_id(name):
        raise MissingError(f"There is no base model at {name}. Give a folder, a hub id or --base_model {EMBEDDED}.")
    status = hub_status(name)
    if status != "there":
        why = {
            "unknown": "the hub has no such model that can be read without an account",
            "offline": "it is not in the hub's cache and HF_HUB_OFFLINE forbids to ask the hub",
            "unreachable": f"it is not in the hub's cache and the hub did not answer within {hub.REACH_SECONDS:.0f} s",
        }[status]
        raise MissingError(
            f"The base model {name} is missing: {why}. What is cached is kept. Where there is a network, "
            f"fetch it with\n  hf download {name}\nor go on without it: --base_model {EMBEDDED}"
        )
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=WANTED_FILES))
