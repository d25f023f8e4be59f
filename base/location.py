"""Which frozen base reads a run's texts, where it lies (the embedded model, a folder, the hub's cache or the hub) and
what tells its revisions apart.

Imports neither torch nor transformers, so that a run whose features are all kept needs neither.
"""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path

import config
from base import device as base_device
from core import hub
from core.errors import MissingError
from llm import embedded

EMBEDDED = "embedded"
# Skywork-Reward-V2 by the GiB that must be free on a GPU, largest first; RewardBench 93.7, 93.4, 85.2; all Apache-2.0.
SKYWORK = {
    "Skywork/Skywork-Reward-V2-Qwen3-8B": 20.0,  # 15.3 GiB of weights; a card of 24 GB reports 23.99 GiB in all
    "Skywork/Skywork-Reward-V2-Qwen3-4B": 10.0,  # 7.5 GiB
    "Skywork/Skywork-Reward-V2-Qwen3-0.6B": 0.0,
}
WANTED_FILES = ["*.json", "*.jinja", "*.safetensors", "tokenizer.model", "*.txt"]  # no pickle, no code
SAMPLE = 4096  # bytes of each tensor that tell a fine-tune from the model that it began as


def choose(asked: str, device: str, cache_dir: Path, name: str) -> tuple[str, str]:
    """The base that ``--base_model`` asks for, and what is to be said of the choice.

    ``auto``: the size of Skywork that has read texts of the run called ``name``, so that full caches need no hub; else
    the largest that the GPU's free memory allows, or the embedded base where that can't be had.
    """
    if asked != "auto":
        return asked, ""
    for base in SKYWORK:
        if any(map(Path.exists, features_files(cache_dir, name, base))):
            return base, ""
    room = 0.0 if device == "cpu" else base_device.gpu()[1]
    wanted = next(base for base, least in SKYWORK.items() if least <= room)
    why, fix = missing(wanted)
    if not why:
        return wanted, ""
    note = f"THE REWARD BASE IS {config.EMBEDDED_NAME}, WHICH IS NO REWARD MODEL. {wanted}: {why}. Get it: {fix}"
    return EMBEDDED, note


def features_files(cache_dir: Path, name: str, base: str) -> list[Path]:
    """Where vectors from one base may lie that a run needs, its own file last: own votes (``votes_P``) are on texts
    that the persona's run has read."""
    suffix = re.sub(r"[^A-Za-z0-9.-]+", "-", base).strip("-.")[-60:]
    runs = dict.fromkeys((name.removeprefix("votes_"), name))
    return [cache_dir / f"features_{run}_{suffix}.safetensors" for run in runs]


# ── On this machine ──────────────────────────────────────────────────────────────────────────────────────


def find_local(name: str) -> Path | None:
    """The folder of a base that needs no network: a folder itself, or a complete copy in the hub's cache."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None
    return folder if (folder / "config.json").exists() and any(folder.glob("*.safetensors")) else None


def identity(name: str) -> str | None:
    """Names the base's weights, tokenizer and template: a hub model by its commit, a folder by the hash of its files;
    None where the base is not on this machine."""
    if name == EMBEDDED:
        return f"{config.EMBEDDED_NAME} ({config.EMBEDDED_WEIGHTS})"
    folder = find_local(name)
    if folder is None:
        return None
    if not Path(name).expanduser().is_dir():
        return f"{name}@{folder.name}"  # the hub's cache calls a snapshot's folder by its commit
    found = hashlib.sha256()
    for path in sorted(path for pattern in WANTED_FILES for path in folder.glob(pattern)):
        size = path.stat().st_size
        found.update(f"{path.name} {size}\n".encode())
        if path.suffix != ".safetensors":
            found.update(path.read_bytes())
            continue
        # The table of tensors and the first bytes of each: training moves every one of them, while names and sizes
        # stay. To hash 15 GB as a whole would take half a minute of every run.
        with path.open("rb") as file, suppress(ValueError):  # damaged: opening the base says so
            length = int.from_bytes(file.read(8), "little")
            table = file.read(min(length, size))
            found.update(table)
            for entry in json.loads(table).values():
                start, end = entry.get("data_offsets", (0, 0))
                file.seek(8 + length + start)
                found.update(file.read(min(end - start, SAMPLE)))
    return f"{name} sha256:{found.hexdigest()[:16]}"


# ── From the hub ─────────────────────────────────────────────────────────────────────────────────────────


def missing(name: str) -> tuple[str, str]:
    """Why the base can't be had, neither from this machine nor from the hub (asked for ``hub.REACH_SECONDS`` at most),
    and how to get it; both empty where it can."""
    if name == EMBEDDED:
        return ("", "") if embedded.weights_path() else ("its weights are not installed", embedded.FIX)
    if find_local(name) is not None:
        return "", ""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        return "there is no such folder", f"--base_model with a folder that is there, a hub id or {EMBEDDED}"
    status = hub.status(f"/api/models/{name}")
    if status == 200:
        return "", ""
    known = "the hub has no such model that is open to all" if status in (401, 404) else "the hub is out of reach"
    return f"it is not in the hub's cache, and {known}", f"hf download {name}, or --base_model {EMBEDDED}"


def fetch(name: str) -> Path:
    """The base's folder on this machine, fetched from the hub if need be. Raises MissingError where it can't be had."""
    why, fix = missing(name)
    if not why:
        from huggingface_hub import snapshot_download

        try:
            return find_local(name) or Path(snapshot_download(name, allow_patterns=WANTED_FILES))
        except Exception as error:  # a broken line, terms to accept: its client's errors change with its HTTP library
            why, fix = str(error), f"hf download {name}"
    raise MissingError(f"The base model {name} is missing: {why}. What is cached is kept. To mend it: {fix}")
