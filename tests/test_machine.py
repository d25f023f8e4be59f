"""What the machine has and the base that this allows: by what nvidia-smi says, without torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from base import device as base_device
from base.location import SKYWORK, choose, features_stem

LARGE, MIDDLE, SMALL = SKYWORK


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Puts a program called nvidia-smi in the way that knows these cards (GiB free, compute capability), and a hub out
    of reach with an empty cache."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def there(*known: tuple[float, str]) -> None:
        lines = [f"{free * 1024:.0f}, 24564, {capability}, NVIDIA RTX A5000" for free, capability in known]
        script = f"import sys\nlines = {lines}\nasked = [a[5:] for a in sys.argv if a.startswith('--id=')]\n"
        script += "print('\\n'.join([lines[int(asked[0])]] if asked else lines))\n"
        program.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
        program.chmod(0o755)

    return there


@pytest.mark.parametrize(("visible", "free"), [(None, "3.0"), ("1,0", "20.5"), ("", None), ("5", None)])
def test_the_card_is_the_one_that_torch_takes(
    cards: Callable[..., None], monkeypatch: pytest.MonkeyPatch, visible: str | None, free: str | None
) -> None:
    cards((3.0, "8.6"), (20.5, "8.6"))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    card = base_device.gpu()
    assert (card and card.said) == (free and f"NVIDIA RTX A5000, {free} of 24.0 GiB free")


@pytest.mark.parametrize(
    ("free", "capability", "device", "base"),
    [
        (23.99, "8.6", "auto", LARGE),
        (19.9, "8.6", "auto", MIDDLE),
        (23.99, "8.6", "cpu", SMALL),
        (23.99, "7.5", "auto", MIDDLE),  # no bfloat16 of its own: twice as much
    ],
)
def test_free_memory_chooses_the_size(
    cards: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, capability: str,
    device: str, base: str,
) -> None:  # fmt: skip
    cards((free, capability))
    chosen, note = choose("auto", device, tmp_path, ["coder"])
    assert chosen == "embedded" and note.startswith("THE REWARD BASE IS") and base in note, "no hub, and said loudly"
    monkeypatch.setattr("core.hub.reachable", lambda: True)
    assert choose("auto", device, tmp_path, ["coder"]) == (base, "")
    assert choose("some/other", device, tmp_path, ["coder"]) == ("some/other", ""), "one that is named is taken"
    (tmp_path / f"{features_stem('student', MIDDLE)}.safetensors").touch()
    assert choose("auto", device, tmp_path, ["student", "coder"]) == (MIDDLE, ""), "the one that has read the texts"
