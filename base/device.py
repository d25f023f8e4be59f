"""All that a GPU changes for the frozen base: where it may run, its precision and attention, how much goes through it
at once, how tensors get there, and how its memory is given back.

Imports torch only where it is asked something, so that a run whose features are all kept needs none.
"""

from __future__ import annotations

import gc
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import MissingError

if TYPE_CHECKING:
    import torch

CUDA = "cuda"
GIB = 1024**3
CPU_BATCH_TOKENS = 2048  # as many as stay in a processor's caches
CUDA_BATCH_TOKENS = 32768  # more do not make a GPU faster
FREE_SHARE = 0.5  # of a GPU's free memory for what a batch needs: the rest is for what this estimate does not see
NO_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


def kinds(asked: str) -> tuple[str, ...]:
    """Where a base may run, in the order in which that is tried; ``asked``: ``auto``, ``cpu`` or ``cuda``.

    Raises MissingError where the GPU asked for is not there.
    """
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise MissingError("No CUDA device can be used. Run on the processor: --device cpu")
    if asked != "auto":
        return (asked,)
    return ("cuda", "cpu") if there else ("cpu",)


def room() -> float:
    """GiB that a base may take on the GPU, at two bytes a weight."""
    return free_bytes() / GIB * 2 / Device.of("cuda").dtype.itemsize


@dataclass(frozen=True)
class Device:
    """Where one base runs."""

    kind: str
    """``cpu`` or ``cuda``."""
    dtype: torch.dtype
    """bfloat16 where the device multiplies it itself, else float32."""

    @classmethod
    def of(cls, kind: str) -> Device:
        """The device with the precision that suits it."""
        import torch

        return cls(kind, torch.bfloat16 if native_bfloat16(kind) else torch.float32)

    @property
    def attention(self) -> str:
        """In transformers' words: FlashAttention where it is installed and takes this precision, else torch's SDPA."""
        flash = self.kind == "cuda" and self.dtype.itemsize == 2 and importlib.util.find_spec("flash_attn") is not None
        return "flash_attention_2" if flash else "sdpa"

    @property
    def place(self) -> torch.device:
        """In torch's words."""
        import torch

        return torch.device(CUDA if self.kind == "cuda" else "cpu")

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the device: from pinned memory, beside what is being computed there."""
        return tensor if self.kind == "cpu" else tensor.pin_memory().to(self.place, non_blocking=True)

    def batch_tokens(self, base: Any) -> int:
        """How many tokens, padding among them, fit at once beside a loaded base with this config.

        At its widest a layer holds, a token, about ten vectors of the states' width (residual, norm, queries, keys,
        values, both rotated, output) and four of the inner one (gate, its activation, up, product); at the end the
        states stand there once more in float32. Attention needs no square of the length: it is SDPA's or Flash's.
        """
        if self.kind == "cpu":
            return CPU_BATCH_TOKENS
        shape = base.get_text_config()
        a_token = self.dtype.itemsize * (10 * shape.hidden_size + 4 * shape.intermediate_size) + 4 * shape.hidden_size
        return min(CUDA_BATCH_TOKENS, int(FREE_SHARE * free_bytes() / a_token))


def native_bfloat16(kind: str) -> bool:
    """True where the device multiplies bfloat16 itself: elsewhere it is emulated and slower than float32."""
    import torch

    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))


def free_bytes() -> int:
    """What is free on the GPU now, by the driver's word: what other programs hold is not."""
    import torch

    return int(torch.cuda.mem_get_info()[0])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the GPU or beside it."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in NO_MEMORY)


def give_back() -> None:
    """Free what a base that nobody holds any more has left on the GPU: torch would keep it for itself, and the next
    persona's models need it."""
    import torch

    gc.collect()  # modules that hold each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
