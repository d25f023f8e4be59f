"""What a GPU's memory decides, on a stand-in for one: torch's own words about it, its own exception when it is full.

The stand-in computes on the processor; no GPU was at hand.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import save_model
from transformers import AutoModelForSequenceClassification

import base.device as base_device
from base import choice, frozen
from base.device import GIB, Device
from base.features import Features, compute_features
from core.errors import MissingError
from core.records import Prompt, Response

PROMPTS = [Prompt("p1", "What is 1?"), Prompt("p2", "What is 2?")]
RESPONSES = [Response(p, m, f"{m} says {p}. " * 3) for p in ("p1", "p2") for m in ("a", "b", "c")]
LARGE, MIDDLE, SMALL = choice.SKYWORK


@dataclass
class StandIn:
    """A GPU with so much free memory in GiB, which some bases fill: as they are loaded, or with a text alone."""

    free: float = 23.99
    native: bool = True
    too_large: set[str] = field(default_factory=set)
    too_large_to_run: set[str] = field(default_factory=set)
    pinned: int = 0
    emptied: int = 0
    held: list[weakref.ref[Any]] = field(default_factory=list)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    card = StandIn()
    monkeypatch.setattr(base_device, "CUDA", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(card.free * GIB), 24 * GIB))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: card.native)

    def emptied() -> None:
        card.emptied += 1
        card.held = [ref for ref in card.held if ref() is not None]

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        card.pinned += 1
        return tensor

    inner_load, inner_forward = AutoModelForSequenceClassification.from_pretrained, frozen.FrozenBase._forward

    def load(folder: Path, **settings: Any) -> Any:
        if Path(folder).name in card.too_large:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        model, loading = inner_load(folder, **settings)
        card.held.append(weakref.ref(model))
        return model, loading

    def forward(self: frozen.FrozenBase, texts: Sequence[Any]) -> Any:
        if self._device.kind == "cuda" and Path(self.name).name in card.too_large_to_run:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return inner_forward(self, texts)

    monkeypatch.setattr(torch.cuda, "empty_cache", emptied)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", load)
    monkeypatch.setattr(frozen.FrozenBase, "_forward", forward)
    return card


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bases of one size, called large, middle and small."""
    folder = tmp_path_factory.mktemp("bases")
    for name in ("large", "middle", "small"):
        save_model(folder / name, "qwen")
    return folder


@pytest.fixture
def read(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Features]:
    """Reads the texts with the largest of the three that there is room for."""
    bases = [str(saved / name) for name in ("large", "middle", "small")]
    monkeypatch.setattr(choice, "SKYWORK", dict(zip(bases, choice.SKYWORK.values(), strict=True)))

    def compute(*names: str, responses: Sequence[Response] = RESPONSES, device: str = "auto") -> Features:
        chosen = [base for base in bases if not names or Path(base).name in names]
        return compute_features(chosen, PROMPTS, responses, cache_dir=tmp_path, name="t", device=device)

    return compute


# ── Which base ──


@pytest.mark.parametrize(
    ("free", "native", "base"),
    [(23.99, True, LARGE), (19.9, True, MIDDLE), (9.9, True, SMALL), (23.99, False, MIDDLE), (10.5, False, SMALL)],
)
def test_free_memory_decides_and_a_card_without_bfloat16_needs_twice_as_much(
    gpu: StandIn, free: float, native: bool, base: str
) -> None:
    gpu.free, gpu.native = free, native
    assert choice.attempts(list(choice.SKYWORK), [0, 0, 0], "auto", base_device)[0] == (base, "cuda")


def test_the_base_that_has_read_most_of_the_texts_reads_the_others(
    gpu: StandIn, read: Callable[..., Features], caplog: pytest.LogCaptureFixture
) -> None:
    gpu.free = 9.0
    first = read(responses=RESPONSES[:4])
    gpu.free = 23.0
    with caplog.at_level(logging.INFO, "ranking"):
        second = read()
    assert first.base == second.base and second.base.endswith("small") and second.device == "cuda"
    assert "has read 4 of the texts already" in caplog.text and "--base_model" in caplog.text
    assert read().device == "", "nothing was left to read"
    assert read("large").base.endswith("large"), "asked for by name"


def test_without_a_gpu_the_smallest_reads(read: Callable[..., Features], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = read()
    assert found.base.endswith("small") and found.device == "cpu" and found.notes == ()
    with pytest.raises(MissingError, match="--device cpu"):
        read("large", device="cuda")


# ── Out of memory ──


@pytest.mark.parametrize(
    ("too_large", "too_large_to_run", "base", "device"),
    [
        ({"large"}, set(), "middle", "cuda"),
        ({"large"}, {"middle"}, "small", "cuda"),
        (set(), {"large", "middle", "small"}, "small", "cpu"),
    ],
)
def test_out_of_memory_is_said_and_a_smaller_base_goes_on_and_then_the_processor(
    gpu: StandIn, read: Callable[..., Features], caplog: pytest.LogCaptureFixture, too_large: set[str],
    too_large_to_run: set[str], base: str, device: str,
) -> None:  # fmt: skip
    gpu.too_large, gpu.too_large_to_run = too_large, too_large_to_run
    found = read()
    assert (Path(found.base).name, found.device) == (base, device)
    assert found.mean.shape == (6, 32) and np.isfinite(found.mean).all()
    assert len(found.notes) == len(too_large | too_large_to_run)
    for note in found.notes:
        assert note in caplog.text and "--base_model " in note
    assert gpu.held == [], "each base gave its memory back"
    caplog.clear()
    again = read()
    assert again.base == found.base and again.notes == () and not caplog.text, "what was read is not read again"


def test_where_the_gpu_was_asked_for_out_of_memory_ends_the_run_with_the_ways_out(
    gpu: StandIn, read: Callable[..., Features]
) -> None:
    gpu.too_large_to_run = {"large"}
    with pytest.raises(MissingError, match=r"is kept.*--device cpu.*--base_model"):
        read("large", device="cuda")
    assert read("large").device == "cpu", "where none was asked for the processor goes on with the same base"


# ── Batches, precision, transfers ──


def test_a_batch_is_as_large_as_free_memory_allows(gpu: StandIn, saved: Path) -> None:
    config = frozen.open_base(str(saved / "large"), "cpu")._backbone.config
    device = Device.of("cuda")
    gpu.free = 0.002
    few = device.batch_tokens(config)
    gpu.free = 0.004
    assert few < device.batch_tokens(config) <= 2 * few + 1
    gpu.free = 80.0
    assert device.batch_tokens(config) == base_device.CUDA_BATCH_TOKENS
    assert Device.of("cpu").batch_tokens(config) == base_device.CPU_BATCH_TOKENS


def test_little_free_memory_changes_no_vector_and_every_tensor_goes_over_pinned(
    gpu: StandIn, read: Callable[..., Features], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.native = False
    monkeypatch.setattr(base_device, "native_bfloat16", lambda kind: False)
    here = read(device="cpu")
    assert gpu.pinned == 0
    gpu.free = 0.0001
    for path in tmp_path.glob("features_*"):
        path.unlink()
    there = read()
    assert gpu.pinned == 2 * len(RESPONSES), "the tokens and the response's place in them, text by text"
    assert here.base == there.base
    assert there.mean == pytest.approx(here.mean, abs=1e-4)
    assert there.base_score == pytest.approx(here.base_score, abs=1e-4)


def test_flash_attention_is_taken_where_it_is_there_and_takes_the_precision(
    gpu: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Device.of("cuda").attention == "sdpa", "not installed"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "flash_attn" or None)
    assert Device("cuda", torch.bfloat16).attention == "flash_attention_2"
    assert Device("cuda", torch.float32).attention == Device("cpu", torch.bfloat16).attention == "sdpa"
