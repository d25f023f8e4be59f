"""Wrong inputs: one message that names the input and the mend, exit 2 or 3, no traceback, nothing written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeOllama
from ollama_helpers import unused_address

import config
import main
from config import ExperimentConfig

TWO = ("llama3:8b", "gemma3:4b")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file and empty folder; the lock that a run waits at is nothing written."""
    found = [p for p in folder.rglob("*") if p.is_file() or not any(p.iterdir())]
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in found if p.name != ".lock"}


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Run in a folder with files that are in the way, of which none may change; what was said on the way out."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "binary.jsonl").write_bytes(bytes(range(256)))
    (tmp_path / "empty_folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", unused_address())
    before = snapshot(tmp_path)

    def run(status: int, names: str, *flags: str) -> str:
        try:
            found = main.main(flags)
        except SystemExit as end:  # argparse's own
            found = int(end.code or 0)
        out, errors = capsys.readouterr()
        assert found == status, out + errors
        assert names in errors and "Traceback" not in out + errors
        return errors

    yield run
    assert snapshot(tmp_path) == before


USAGE = {
    "--persona nobody": "--persona",
    "--num_prompts 4": "--num_prompts: num_prompts must lie between 5",
    "--num_prompts 5.5": "--num_prompts",
    "--eval_freq 0": "--eval_freq",
    "--lambda_reg nan": "--lambda_reg",
    "--seed 4294967296": "--seed",
    "--concurrency 5000": "--concurrency",
    "--timeout 0": "--timeout",
    "--num_predict 0": "num_predict",
    "--ground_truth best": "--ground_truth",
    "--refresh everything": "--refresh",
    "--models": "--models",
    "--no_such_flag": "--no_such_flag",
    "--no_\x1b[2J_flag": "--no_\ufffd[2J_flag",
    "--backend embedded --ground_truth listwise": "--ground_truth",
    "--backend embedded --judge gpt-4": "--judge gpt-4",
    "--backend embedded --models story": "--models story",
    "--backend embedded --models story gpt-4": "--models gpt-4",
    "--backend ollama --models llama3:8b": "--models llama3:8b",
    "--backend openai": "--judge",
    "--base_model ~": "--base_model is empty",
    "--rank ~": "--rank is empty",
    "--ray local --rank x": "--ray does not go with --rank",
    "--json": "--json goes with --rank",
    "--skip_bad_rows": "--skip_bad_rows goes with --preferences",
    "--vote --preferences y": "do not go together",
    "--refresh all --rank x": "--refresh does not go with --rank",
    "--persona all --vote": "--persona all",
    "--cache_dir file/below": "--cache_dir file/below",
    "--results_dir file": "--results_dir file",
    "--cache_dir ~": "--cache_dir",
    **{
        f"--preferences {name}": name
        for name in ("nowhere.jsonl", "empty.jsonl", "binary.jsonl", "empty_folder", "file")
    },
}


@pytest.mark.parametrize("flags", USAGE)
def test_wrong_usage_is_named_and_changes_nothing(refused: Callable[..., str], flags: str) -> None:
    """In ``flags`` ~ stands for nothing at all."""
    refused(2, USAGE[flags], *("" if flag == "~" else flag for flag in flags.split(" ")))


MISSING = {
    "--backend ollama": "ollama serve",
    "--models llama3:8b gemma3:4b": "--backend embedded",
    "--ground_truth both": "ollama serve",
    "--backend embedded --base_model nowhere/at/all": "nowhere/at/all: there is no such folder",
    "--backend embedded --base_model no-one/no-model": "hf download no-one/no-model",
    "--backend embedded --device cuda": "--device cpu",
}


@pytest.mark.parametrize("flags", MISSING)
def test_what_is_missing_is_named_with_its_mend(refused: Callable[..., str], flags: str) -> None:
    if "cuda" in flags and Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    refused(3, MISSING[flags], *flags.split(" "))


def test_all_missing_tags_are_named_at_once_with_what_is_similar(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOllama(models=TWO) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        said = refused(3, "ollama", "--models", "gemma3:4", "lama3:8b", "gemma3:4b", "--base_model", "embedded")
        assert not server.calls
    for text in ("ollama pull gemma3:4\n", "ollama pull lama3:8b", "similar: gemma3:4b", "similar: llama3:8b"):
        assert text in said


def test_a_template_that_can_not_be_read_is_named(
    refused: Callable[..., str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = shutil.copytree(config.PROMPTS_DIR, tmp_path_factory.mktemp("t") / "prompts") / "prompt_generation.txt"
    target.write_bytes(b"\xff\xfe\x00\x80\xff")
    monkeypatch.setattr(config, "PROMPTS_DIR", target.parent)
    assert "can't be read" in refused(2, target.name, "--backend", "embedded")


SETTINGS: list[dict[str, Any]] = [
    {"num_promts": 25},
    {"num_prompts": "25"},
    {"num_prompts": True},
    {"learning_rate": float("nan")},
    {"train_test_split": 1.0},
    {"max_epochs": 2.5},
    {"judge_reasons": "max"},
    {"folds": 6, "num_prompts": 5},
]


@pytest.mark.parametrize("values", SETTINGS, ids=str)
def test_a_wrong_setting_is_named(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(values))):
        ExperimentConfig(**values)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    look = f"{sys.executable} main.py --check --backend embedded --cache_dir {tmp_path} | true; echo ${{PIPESTATUS[0]}}"
    folder = Path(main.__file__).parent
    done = subprocess.run(["bash", "-c", look], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
