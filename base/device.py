"""Where the frozen base may run: the GPU in the system's own words, without torch, and what torch can use of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from core.errors import MissingError

if TYPE_CHECKING:
    import torch

# Tokens at once, padding among them: a processor keeps so many in its caches, and more do not make a GPU faster.
BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
NO_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


def gpu() -> tuple[str, float]:
    """What nvidia-smi says of the GPU that torch takes (the first one, or the first that CUDA_VISIBLE_DEVICES names),
    and how many GiB of weights in bfloat16 it has room for now; "" and 0 without any."""
    program, visible = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if program is None or visible == "":
        return "", 0.0
    query = [program, "--query-gpu=memory.free,memory.total,compute_cap,name", "--format=csv,noheader,nounits"]
    query += [f"--id={visible.split(',')[0]}"] if visible else []
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        *figures, name = said.partition("\n")[0].split(", ", 3)
        free, total, capability = map(float, figures)
    except (OSError, subprocess.SubprocessError, ValueError):  # a driver that is not loaded, or hangs
        return "", 0.0
    # before compute capability 8.0 bfloat16 is only emulated, and weights are held in float32
    room = free / 1024 / (1 if capability >= 8.0 else 2)
    return f"{name}, {free / 1024:.1f} of {total / 1024:.1f} GiB free", room


def usable(asked: str) -> str:
    """``cuda`` or ``cpu`` for what ``--device`` asks. Raises MissingError where the GPU asked for can't be used."""
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
