"""Wrong inputs: one message that names the input and the mend, exit 2 or 3, no traceback, nothing written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeOllama
from ollama_helpers import unused_address

import main
from config import ExperimentConfig

TWO = ("llama3:8b", "gemma3:4b")


def snapshot(folder: Path) -> dict[Path, bytes | None]:
    """Everything in a folder; the lock that a run waits at is nothing written."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.name not in ("cache", ".lock")}


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Run in a folder with files that are in the way, of which none may change; what was said on the way out."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "binary.jsonl").write_bytes(bytes(range(256)))
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


USAGE = {  # ~ stands for nothing at all
    "--persona nobody": "--persona",
    "--num_prompts 4": "--num_prompts: num_prompts must lie between 5",
    "--lambda_reg nan": "--lambda_reg",
    "--ground_truth best": "--ground_truth",
    "--no_\x1b[2J_flag": "--no_\ufffd[2J_flag",
    "--backend embedded --ground_truth listwise": "--ground_truth",
    "--backend embedded --judge gpt-4": "--judge gpt-4",
    "--backend embedded --models story gpt-4": "--models gpt-4",
    "--backend ollama --models llama3:8b": "--models llama3:8b",
    "--backend openai": "--judge",
    "--rank ~": "--rank is empty",
    "--json": "--json goes with --rank",
    "--vote --preferences y": "do not go together",
    "--refresh all --rank x": "--refresh does not go with --rank",
    "--persona all --vote": "--persona all",
    "--cache_dir file/below": "--cache_dir file/below",
    "--cache_dir ~": "--cache_dir",
    "--preferences nowhere.jsonl": "nowhere.jsonl does not exist",
    "--preferences empty.jsonl": "empty.jsonl",
    "--preferences binary.jsonl": "binary.jsonl",
}
MISSING = {
    "--models llama3:8b gemma3:4b": "--backend embedded",
    "--backend embedded --base_model nowhere/at/all": "nowhere/at/all: there is no such folder",
    "--backend embedded --base_model no-one/no-model": "hf download no-one/no-model",
    **({} if Path("/dev/nvidia0").exists() else {"--backend embedded --device cuda": "--device cpu"}),
}


@pytest.mark.parametrize("flags", [*USAGE, *MISSING])
def test_what_is_wrong_or_missing_is_named_with_its_mend_and_changes_nothing(
    refused: Callable[..., str], flags: str
) -> None:
    status, said = (2, USAGE[flags]) if flags in USAGE else (3, MISSING[flags])
    refused(status, said, *("" if flag == "~" else flag for flag in flags.split(" ")))


def test_all_missing_tags_are_named_at_once_with_what_is_similar(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOllama(models=TWO) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        said = refused(3, "ollama", "--models", "gemma3:4", "lama3:8b", "gemma3:4b", "--base_model", "embedded")
        assert not server.calls
    for text in ("ollama pull gemma3:4\n", "ollama pull lama3:8b", "similar: gemma3:4b", "similar: llama3:8b"):
        assert text in said


@pytest.mark.parametrize(
    "values", [{"num_promts": 25}, {"num_prompts": "25"}, {"max_epochs": 2.5}, {"folds": 6, "num_prompts": 5}], ids=str
)
def test_a_wrong_setting_is_named(values: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(values))):
        ExperimentConfig(**values)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    look = f"{sys.executable} main.py --check --backend embedded --cache_dir {tmp_path} | true; echo ${{PIPESTATUS[0]}}"
    folder = Path(main.__file__).parent
    done = subprocess.run(["bash", "-c", look], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
