"""What this machine has, and which reward bases that allows: by nvidia-smi, so that no torch is needed to know."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import config
from base import choice
from base.device import GIB
from base.location import EMBEDDED, features_stem
from core import hub

log = logging.getLogger("ranking.preflight")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and its memory in GiB; ``free``: of it, when it was looked at."""

    name: str
    total: float
    free: float

    def __str__(self) -> str:
        return f"{self.name}, {self.free:.1f} of {self.total:.1f} GiB free"


def gpu() -> Gpu | None:
    """The GPU with the most free memory, None where nvidia-smi finds none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=memory.free,memory.total,name", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("nvidia-smi: %s", error)
        return None
    found = re.findall(r"^([\d.]+), ([\d.]+), (.+)$", done.stdout, re.MULTILINE) if done.returncode == 0 else []
    found = [Gpu(name.strip(), float(total) / 1024, float(free) / 1024) for free, total, name in found]
    return max(found, key=lambda one: one.free, default=None)


def main_memory() -> tuple[float, float] | None:
    """GiB of main memory: what could be had now, and all of it; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", lines, re.MULTILINE))
    return int(sizes["MemAvailable"]) * 1024 / GIB, int(sizes["MemTotal"]) * 1024 / GIB


def seen_now(card: Gpu | None) -> dict[str, Any]:
    """The machine as it is at the beginning of a run, for the results; sizes in GiB."""
    memory = main_memory()
    return {
        "gpu": card and card.name,
        "gpu_memory_gib": card and round(card.total, 2),
        "gpu_free_gib": card and round(card.free, 2),
        "cores": os.cpu_count(),
        "memory_gib": memory and round(memory[1], 2),
        "memory_free_gib": memory and round(memory[0], 2),
    }


def choose_device(asked: str, card: Gpu | None) -> str:
    """Where the reward base runs: what ``--device auto`` comes to on a machine with this GPU."""
    return "cuda" if asked == "cuda" or (asked == "auto" and card is not None) else "cpu"


def choose_bases(
    asked: str, backend: str, card: Gpu | None, cache_dir: Path, names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The reward bases, largest first, among which memory decides when the texts of these runs are to be read, for what
    ``--base_model`` asks for; and what is to be said of the choice. ``card``: the GPU that may be used."""
    if asked != "auto":
        return (asked,), ()
    if backend == "embedded":
        return (EMBEDDED,), ()
    kept = set(_kept(tuple(choice.SKYWORK), cache_dir, names))
    wanted = [base for base, least in choice.SKYWORK.items() if (card.total if card else 0.0) >= least]
    there = {base for base in wanted if base in kept or _hub_cache_has(base)}
    if there != set(wanted) and hub.reachable():
        there = set(wanted)
    if bases := tuple(base for base in choice.SKYWORK if base in there | kept):
        return bases, ()
    return (EMBEDDED,), (
        f"THE REWARD BASE IS {config.EMBEDDED_NAME}, WHICH IS NO REWARD MODEL: {wanted[0]} is not in the hub's cache "
        "and the hub does not answer. Give a downloaded folder with --base_model FOLDER, or run with the hub in reach.",
    )


def likely_base(bases: tuple[str, ...], card: Gpu | None, cache_dir: Path, names: Sequence[str]) -> str:
    """Which of them reads if memory stays as it is now: one that has features of these runs first."""
    kept = _kept(bases, cache_dir, names)
    return kept[0] if kept else bases[choice.fitting(bases, card.free if card else 0.0)]


def _kept(bases: Sequence[str], cache_dir: Path, names: Sequence[str]) -> list[str]:
    """Those that have read texts of one of these runs."""
    return [base for base in bases if any(any(cache_dir.glob(f"{features_stem(n, base)}.*")) for n in names)]


def _hub_cache_has(name: str) -> bool:
    """True where the hub's cache on this machine holds a snapshot of the model."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return any(Path(HF_HUB_CACHE, "models--" + name.replace("/", "--"), "snapshots").glob("*/config.json"))
