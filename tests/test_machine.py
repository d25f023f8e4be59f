"""What the machine has and the base that this allows: by what nvidia-smi says, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from base import device as base_device
from base.location import SKYWORK, choose, features_stem
from core.errors import MissingError

LARGE, MIDDLE, SMALL = SKYWORK
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub out of reach, and a cache of it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "hub"


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Puts a program called nvidia-smi in the way that knows these cards: GiB free, compute capability."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    def there(*known: tuple[float, str]) -> None:
        lines = [f"{free * 1024:.0f}, 24564, {capability}, NVIDIA RTX A5000" for free, capability in known]
        script = f"import sys\nlines = {lines}\nasked = [a[5:] for a in sys.argv if a.startswith('--id=')]\n"
        script += "print('\\n'.join([lines[int(asked[0])]] if asked else lines))\n"
        program.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
        program.chmod(0o755)

    return there


def in_hub_cache(hub: Path, *names: str) -> None:
    for name in names:
        kept = hub / f"models--{name.replace('/', '--')}"
        for file in ("snapshots/1/config.json", "snapshots/1/model.safetensors", "refs/main"):
            (kept / file).parent.mkdir(parents=True, exist_ok=True)
            (kept / file).write_text("1")


def test_the_card_is_the_one_that_torch_takes(cards: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    cards((3.0, "8.6"), (20.5, "7.5"))
    first = base_device.gpu()
    assert str(first) == "NVIDIA RTX A5000, 3.0 of 24.0 GiB free" and first is not None and first.bfloat16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    second = base_device.gpu()
    assert second is not None and (second.free, second.bfloat16) == (20.5, False)
    for hidden in ("", "5"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert base_device.gpu() is None
    assert base_device.choose_device("auto", first) == base_device.choose_device("cuda", None) == "cuda"
    assert base_device.choose_device("cpu", first) == base_device.choose_device("auto", None) == "cpu"


@pytest.mark.parametrize(
    ("free", "capability", "device", "base"),
    [
        (23.99, "8.6", "auto", LARGE),
        (19.9, "8.6", "auto", MIDDLE),
        (9.9, "8.6", "cuda", SMALL),
        (23.99, "8.6", "cpu", SMALL),
        (23.99, "7.5", "auto", MIDDLE),  # no bfloat16 of its own: twice as much
        (10.5, "7.5", "auto", SMALL),
        (None, "", "auto", SMALL),
    ],
)
def test_free_memory_chooses_the_size(
    cards: Callable[..., None], hub_cache: Path, tmp_path: Path, free: float | None, capability: str, device: str,
    base: str,
) -> None:  # fmt: skip
    if free is not None:
        cards((free, capability))
    in_hub_cache(hub_cache, *SKYWORK)
    assert choose("auto", device, tmp_path, ["coder"]) == (base, "")
    assert choose("some/other", device, tmp_path, ["coder"]) == ("some/other", ""), "one that is named is taken"


def test_without_the_hub_a_smaller_one_that_is_there_is_taken_and_else_the_embedded_one_said_loudly(
    cards: Callable[..., None], hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards((23.99, "8.6"))
    base, note = choose("auto", "auto", tmp_path, ["coder"])
    assert base == "embedded" and note.startswith("THE REWARD BASE IS") and LARGE in note
    in_hub_cache(hub_cache, SMALL)
    assert choose("auto", "auto", tmp_path, ["coder"]) == (SMALL, "")
    monkeypatch.setattr("core.hub.reachable", lambda: True)
    assert choose("auto", "auto", tmp_path, ["coder"]) == (LARGE, "")


def test_the_base_that_has_read_a_runs_texts_reads_the_others_also_where_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / f"{features_stem('coder', MIDDLE)}.safetensors").touch()
    assert choose("auto", "auto", tmp_path, ["coder"]) == (MIDDLE, "")
    assert choose("auto", "auto", tmp_path, ["student", "coder"]) == (MIDDLE, "")
    assert choose("auto", "auto", tmp_path, ["academic"])[0] == "embedded"


def test_what_the_machine_was_like_is_ready_for_the_results(cards: Callable[..., None]) -> None:
    cards((23.99, "8.6"))
    found = json.loads(json.dumps(base_device.seen_now(base_device.gpu())))
    assert (found["gpu"], found["gpu_memory_gib"], found["gpu_free_gib"]) == ("NVIDIA RTX A5000", 23.99, 23.99)
    assert found["cores"] >= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said() -> None:
    with pytest.raises(MissingError, match="--device cpu"):
        base_device.usable("cuda")
    assert base_device.usable("auto") == base_device.usable("cpu") == "cpu"


def test_choosing_imports_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from base import location; "
        f"location.choose('auto', 'auto', Path({str(tmp_path)!r}), ['coder']); print('torch' in sys.modules)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    assert done.stdout.strip() == "False"
