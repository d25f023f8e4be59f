"""Where a frozen base lies: the embedded model, a folder, the hub's cache or the hub itself.

Imports neither torch nor transformers, so that a run whose features are all kept needs neither.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path

import config
from errors import MissingError, UsageError

log = logging.getLogger("ranking.base")

EMBEDDED = "embedded"
HUB_SECONDS = 5.0
WANTED_FILES = ["*.json", "*.jinja", "*.safetensors", "tokenizer.model", "*.txt"]  # no pickle, no code


def find_local(name: str) -> Path | None:
    """The folder of a base that needs no network: a folder itself, or a complete copy in the hub's cache."""
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if not _is_hub_id(name):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if (folder / "config.json").exists() and any(folder.glob("*.safetensors")) else None


def identity(name: str) -> str | None:
    """What changes when the base's weights, tokenizer or template do; None where it is not on this machine."""
    if name == EMBEDDED:
        return f"{config.EMBEDDED_NAME} ({config.EMBEDDED_WEIGHTS})"
    folder = find_local(name)
    if folder is None:
        return None
    digest = hashlib.sha256()
    for path in sorted(p for pattern in WANTED_FILES for p in folder.glob(pattern)):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:  # weights are told apart by their header and first values, the rest is read whole
            digest.update(file.read(1 << 20 if path.suffix == ".safetensors" else -1))
    return f"{name} {digest.hexdigest()[:16]}"


def default_base(backend: str, device: str) -> str:
    """What ``--base_model auto`` means: the largest Skywork that fits, the embedded base with the embedded backend
    or, said loudly, where the hub and its cache have none."""
    if backend == EMBEDDED:
        return EMBEDDED
    memory = _cuda_gib(device)
    size = "8B" if memory >= 24 else "4B" if memory >= 12 else "0.6B"
    name = f"Skywork/Skywork-Reward-V2-Qwen3-{size}"
    if find_local(name) is not None or hub_status(name) == "there":
        return name
    log.warning("%s is neither in the hub's cache nor to be had from the hub: System B stands on the embedded base "
                "(%s), which is no reward model", name, config.EMBEDDED_NAME)  # fmt: skip
    return EMBEDDED


def _cuda_gib(device: str) -> float:
    if device == "cpu" or shutil.which("nvidia-smi") is None:  # settled without importing torch
        return 0.0
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory) / 2**30 if torch.cuda.is_available() else 0.0


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None


def hub_status(name: str, seconds: float = HUB_SECONDS) -> str:
    """``there``, ``unknown`` (the hub has no such id, or not for everyone), ``offline`` (switched off) or
    ``unreachable``; settled within ``seconds``."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "offline"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    found: list[str] = []

    def ask() -> None:
        request = urllib.request.Request(f"{endpoint}/api/models/{name}", method="HEAD")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310
                found.append("there")
        except urllib.error.HTTPError as error:
            error.close()
            found.append("unknown" if error.code in {401, 404} else "unreachable")
        except (OSError, ValueError) as error:
            log.debug("%s: %s", endpoint, error)
            found.append("unreachable")

    # A thread, because looking a name up has no timeout of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else "unreachable"


def fetch(name: str) -> Path:
    """Where the base lies on this machine, fetched from the hub if need be."""
    folder = find_local(name)
    if folder is not None:
        if not any(folder.glob("*.safetensors")):
            raise UsageError(
                f"{name} has no *.safetensors: pickled weights are never loaded. Choose another --base_model."
            )
        return folder
    if not _is_hub_id(name):
        raise MissingError(f"There is no base model at {name}. Give a folder, a hub id or --base_model {EMBEDDED}.")
    status = hub_status(name)
    if status != "there":
        why = {
            "unknown": "the hub has no such model that can be read without an account",
            "offline": "it is not in the hub's cache and HF_HUB_OFFLINE forbids to ask the hub",
            "unreachable": f"it is not in the hub's cache and the hub did not answer within {HUB_SECONDS:.0f} s",
        }[status]
        raise MissingError(
            f"The base model {name} is missing: {why}. What is cached is kept. Where there is a network, "
            f"fetch it with\n  hf download {name}\nor go on without it: --base_model {EMBEDDED}"
        )
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=WANTED_FILES))
