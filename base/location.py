"""Which frozen base reads a run's texts, where it lies (the embedded model, a folder, the hub's cache or the hub) and
what tells its revisions apart.

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
from base import device as base_device
from core import hub
from core.errors import MissingError, UsageError
from core.files import fingerprint, write_json

log = logging.getLogger("ranking.base")

EMBEDDED = "embedded"
# Skywork-Reward-V2 by the GiB that must be free on a GPU, largest first; RewardBench 93.7, 93.4, 85.2; all Apache-2.0.
SKYWORK = {
    "Skywork/Skywork-Reward-V2-Qwen3-8B": 20.0,  # 15.3 GiB of weights; a card of 24 GB reports 23.99 GiB in all
    "Skywork/Skywork-Reward-V2-Qwen3-4B": 10.0,  # 7.5 GiB
    "Skywork/Skywork-Reward-V2-Qwen3-0.6B": 0.0,
}
WANTED_FILES = ["*.json", "*.jinja", "*.safetensors", "tokenizer.model", "*.txt"]  # no pickle, no code
DIGESTS_FILE = "base_digests.json"  # in the cache: what folders hashed to, by the sizes and times of their files


# ── The choice ───────────────────────────────────────────────────────────────────────────────────────────


def choose(asked: str, device: str, cache_dir: Path, names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The base that ``--base_model`` asks for, and what is to be said of the choice.

    ``auto``: the size of Skywork that has read texts of these runs (``names``), so that full caches need no hub; else
    the largest that the GPU's free memory allows; where the hub is out of reach, the next smaller one in its cache.
    """
    if asked != "auto":
        return asked, ()
    for base in SKYWORK:
        if any((cache_dir / f"{features_stem(name, base)}.safetensors").exists() for name in names):
            return base, ()
    card = None if device == "cpu" else base_device.gpu()
    free = 0.0 if card is None else card.free if card.bfloat16 else card.free / 2
    wanted, *smaller = (base for base, least in SKYWORK.items() if free >= least)
    if find_local(wanted) is not None or hub.reachable():
        return wanted, ()
    for base in smaller:
        if find_local(base) is not None:
            return base, ()
    return EMBEDDED, (
        f"THE REWARD BASE IS {config.EMBEDDED_NAME}, WHICH IS NO REWARD MODEL: {wanted} is not in the hub's cache "
        "and the hub does not answer. Give a downloaded folder with --base_model FOLDER, or run with the hub in reach.",
    )


def features_stem(name: str, base: str) -> str:
    """Name of the file, without its ending, that holds a run's vectors from one base."""
    return f"features_{name}_{re.sub(r'[^A-Za-z0-9.-]+', '-', base).strip('-.')[-60:]}"


# ── On this machine ──────────────────────────────────────────────────────────────────────────────────────


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


def is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None


def identity(name: str, cache_dir: Path) -> str | None:
    """Names the base's weights, tokenizer and template: a hub model by its commit, a folder by the hash of its files.

    None where the base is not on this machine.
    """
    if name == EMBEDDED:
        return f"{config.EMBEDDED_NAME} ({config.EMBEDDED_WEIGHTS})"
    folder = find_local(name)
    if folder is None:
        return None
    if Path(name).expanduser().is_dir():
        return f"{name} sha256:{_digest(folder, cache_dir / DIGESTS_FILE)}"
    return f"{name}@{folder.name}"  # the hub's cache calls a snapshot's folder by its commit


def _digest(folder: Path, kept: Path) -> str:
    """Hash of the whole files, for a fine-tune keeps their names and sizes. Of 15 GB that takes half a minute, so it is
    done again only where a file's size or time has changed."""
    paths = sorted(path for pattern in WANTED_FILES for path in folder.glob(pattern))
    state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = f"{folder.resolve()} {fingerprint(state)}"
    try:
        known = dict(json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none yet, or damaged
        known = {}
    if key not in known:
        log.info("Hashing %s (%.1f GB), once", folder, sum(size for _, size, _ in state) / 1e9)
        hashes = json.dumps([(path.name, _file_digest(path)) for path in paths])
        known[key] = hashlib.sha256(hashes.encode()).hexdigest()[:16]
        write_json(kept, known)
    return str(known[key])


def _file_digest(path: Path) -> str:
    real = path.resolve()
    if real.parent.name == "blobs":  # the hub's cache names files by the hash of their content
        return real.name
    with real.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ── From the hub ─────────────────────────────────────────────────────────────────────────────────────────


def out_of_reach(name: str) -> str:
    """Why the hub can't give this model, empty where it can; settled within ``hub.REACH_SECONDS``."""
    if hub.offline():
        return "it is not in the hub's cache and HF_HUB_OFFLINE forbids to ask the hub"
    try:
        status = hub.within(hub.REACH_SECONDS, lambda: _status(f"{hub.endpoint()}/api/models/{name}"))
    except TimeoutError:
        status = 0
    if status in (401, 404):
        return "the hub has no such model that can be read without an account"
    silent = f"it is not in the hub's cache and {hub.endpoint()} did not answer within {hub.REACH_SECONDS:.0f} s"
    return "" if status == 200 else silent


def _status(address: str) -> int:
    """HTTP status; 0 where nothing answers. (The hub's own client would try again and again.)"""
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the scheme is the user's own HF_ENDPOINT
    try:
        with urllib.request.urlopen(request, timeout=hub.REACH_SECONDS) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, ValueError):  # no route, no name, no certificate; a malformed address
        return 0


def fetch(name: str) -> Path:
    """The base's folder on this machine, fetched from the hub if need be.

    Raises MissingError where it can't be had, UsageError where it has no weights that may be loaded.
    """
    folder = find_local(name)
    if folder is not None:
        if any(folder.glob("*.safetensors")):
            return folder
        raise UsageError(f"{name} has no *.safetensors: pickled weights are never loaded. Choose another --base_model.")
    if not is_hub_id(name):
        raise MissingError(f"There is no base model at {name}. Give a folder, a hub id or --base_model {EMBEDDED}.")
    why = out_of_reach(name)
    if not why:
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(name, allow_patterns=WANTED_FILES))
        except Exception as error:  # a broken line, terms to accept: its client's errors change with its HTTP library
            why = str(error)
    raise MissingError(
        f"The base model {name} is missing: {why}. What is cached is kept. Where there is a network, "
        f"fetch it with\n  hf download {name}\nor go on without it: --base_model {EMBEDDED}"
    )
