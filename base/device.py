"""Where the frozen base may run: the GPU in the system's own words, which needs no torch; what torch itself can use,
its precision and its errors are asked only where a text is read."""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import MissingError

if TYPE_CHECKING:
    import torch

log = logging.getLogger("ranking.base")

# Tokens at once, padding among them: a processor keeps so many in its caches, and more do not make a GPU faster.
BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
NO_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


# ── What the system says ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Gpu:
    """GPU with its memory in GiB; ``free``: of it, when it was looked at."""

    name: str
    total: float
    free: float
    bfloat16: bool = True
    """False: it only emulates bfloat16, and weights are held in float32."""

    def __str__(self) -> str:
        return f"{self.name}, {self.free:.1f} of {self.total:.1f} GiB free"


def gpu() -> Gpu | None:
    """The GPU that torch takes: the first one, or the first that CUDA_VISIBLE_DEVICES names; None without any."""
    program, visible = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if program is None or visible == "":
        return None
    query = [program, "--query-gpu=memory.free,memory.total,compute_cap,name", "--format=csv,noheader,nounits"]
    query += [f"--id={visible.split(',')[0]}"] if visible else []
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("nvidia-smi: %s", error)
        return None
    found = re.match(r"([\d.]+), ([\d.]+), ([\d.]+), (.+)", done.stdout)
    if found is None or done.returncode:
        return None
    free, total, capability, name = found.groups()
    return Gpu(name.strip(), float(total) / 1024, float(free) / 1024, float(capability) >= 8.0)


def seen_now(card: Gpu | None) -> dict[str, Any]:
    """The machine at the beginning of a run, for the results; sizes in GiB."""
    return {
        "gpu": card and card.name,
        "gpu_memory_gib": card and round(card.total, 2),
        "gpu_free_gib": card and round(card.free, 2),
        "cores": os.cpu_count(),
    }


def choose_device(asked: str, card: Gpu | None) -> str:
    """``cuda`` or ``cpu``: what ``--device`` comes to on a machine with this GPU."""
    return "cuda" if asked == "cuda" or (asked == "auto" and card is not None) else "cpu"


# ── What torch says ──────────────────────────────────────────────────────────────────────────────────────


def usable(asked: str) -> str:
    """``cuda`` or ``cpu``: where torch can run what ``--device`` asks for. Everything that runs on a device asks here.

    Raises MissingError where the GPU asked for can't be used.
    """
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise MissingError("No CUDA device can be used. Run on the processor: --device cpu")
    return "cuda" if there and asked != "cpu" else "cpu"


def precision(kind: str) -> torch.dtype:
    """bfloat16 where the device multiplies it itself: elsewhere it is emulated and slower than float32."""
    import torch

    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities()
        native = any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if native else torch.float32


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the GPU or beside it."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in NO_MEMORY)


def give_back() -> None:
    """Free what a base that nobody holds any more has left on the GPU: torch would keep it for itself, and the next
    persona's models need it."""
    import torch

    gc.collect()  # modules that hold each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
