"""The reward bases that a machine allows, as the command line chooses them: by what nvidia-smi says, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from base.choice import SKYWORK
from base.location import features_stem
from cli import machine

LARGE, MIDDLE, SMALL = SKYWORK


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub out of reach, and a cache of it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program called nvidia-smi that knows two cards."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    lines = "24564, 24564, NVIDIA RTX A5000\\n3000, 24564, NVIDIA RTX A5000\\n"
    program.write_text(f"#!/bin/sh\nprintf '{lines}'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def in_hub_cache(hub: Path, *names: str) -> None:
    for name in names:
        config = hub / f"models--{name.replace('/', '--')}" / "snapshots" / "1" / "config.json"
        config.parent.mkdir(parents=True)
        config.touch()


def test_a_card_of_24_gb_may_take_the_largest_and_smaller_ones_stand_by(
    cards: None, offline: Path, tmp_path: Path
) -> None:
    found = machine.gpu()
    assert found and f"{found.total:.2f}" == "23.99"
    assert str(found) == "NVIDIA RTX A5000, 24.0 of 24.0 GiB free", "the one with the most free memory"
    in_hub_cache(offline, LARGE, SMALL)
    bases, notes = machine.choose_bases("auto", "ollama", found, tmp_path, ["coder"])
    assert (bases, notes) == ((LARGE, SMALL), ()), "the middle one is not there, and the hub can't be asked"
    assert machine.likely_base(bases, found, tmp_path, ["coder"]) == LARGE
    assert machine.choose_bases("auto", "ollama", None, tmp_path, ["coder"])[0] == (SMALL,)
    (tmp_path / f"{features_stem('coder', SMALL)}.safetensors").touch()
    assert machine.likely_base(bases, found, tmp_path, ["coder"]) == SMALL, "it has read this persona's texts"


def test_a_base_that_has_read_the_texts_is_asked_also_where_it_is_gone(offline: Path, tmp_path: Path) -> None:
    bases, (note,) = machine.choose_bases("auto", "ollama", None, tmp_path, ["coder"])
    assert bases == ("embedded",) and note.startswith("THE REWARD BASE IS")
    (tmp_path / f"{features_stem('coder', MIDDLE)}.safetensors").touch()
    assert machine.choose_bases("auto", "ollama", None, tmp_path, ["coder"]) == ((MIDDLE,), ())
    assert machine.choose_bases("auto", "ollama", None, tmp_path, ["academic"])[0] == ("embedded",)


def test_what_the_machine_was_like_is_ready_for_the_results(cards: None) -> None:
    found = json.loads(json.dumps(machine.seen_now(machine.gpu())))
    assert (found["gpu"], found["gpu_memory_gib"], found["gpu_free_gib"]) == ("NVIDIA RTX A5000", 23.99, 23.99)
    assert 0 < found["memory_free_gib"] <= found["memory_gib"]
