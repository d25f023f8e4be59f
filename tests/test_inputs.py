"""Wrong inputs: one message that names the input and the mend, exit 2 or 3, no traceback, nothing written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeOllama
from ollama_helpers import unused_address

import config
import main
from config import ExperimentConfig

CLOSED = unused_address()
TWO = ("llama3:8b", "gemma3:4b")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file and empty folder; the lock that a run waits at is nothing written."""
    found = {
        p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.is_file() or not any(p.iterdir())
    }
    return {str(p.relative_to(folder)): data for p, data in found.items() if p.name != ".lock"}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to run in, with files that are in the way; nothing in it may change."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "binary.jsonl").write_bytes(bytes(range(256)))
    (tmp_path / "empty_folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", CLOSED)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = snapshot(tmp_path)
    yield tmp_path
    assert snapshot(tmp_path) == before


def refused(flags: tuple[str, ...], status: int, names: str, capsys: pytest.CaptureFixture[str]) -> str:
    try:
        found = main.main(flags)
    except SystemExit as end:  # argparse's own
        found = int(end.code or 0)
    out, errors = capsys.readouterr()
    assert found == status, out + errors
    assert names in errors
    assert "Traceback" not in out + errors
    return errors


USAGE = [
    ("--persona nobody", "--persona"),
    ("--num_prompts 4", "--num_prompts: num_prompts must lie between 5"),
    ("--num_prompts 5.5", "--num_prompts"),
    ("--eval_freq 0", "--eval_freq"),
    ("--lambda_reg -0.1", "--lambda_reg"),
    ("--lambda_reg nan", "--lambda_reg"),
    ("--seed 4294967296", "--seed"),
    ("--concurrency 5000", "--concurrency"),
    ("--timeout 0", "--timeout"),
    ("--num_predict 0", "num_predict"),
    ("--ground_truth best", "--ground_truth"),
    ("--refresh everything", "--refresh"),
    ("--refresh", "--refresh"),
    ("--models", "--models"),
    ("--no_such_flag", "--no_such_flag"),
    ("--backend embedded --ground_truth listwise", "--ground_truth"),
    ("--backend embedded --judge gpt-4", "--judge gpt-4"),
    ("--backend embedded --models story", "--models story"),
    ("--backend embedded --models story gpt-4", "--models gpt-4"),
    ("--backend ollama --models llama3:8b", "--models llama3:8b"),
    ("--backend ollama --models a|b gemma3:4b -x", "-x"),
    ("--backend ollama --models two|words gemma3:4b", "--models 'two words'"),
    ("--backend ollama --judge |", "--judge"),
    ("--base_model ~", "--base_model is empty"),
    ("--preferences ~", "--preferences is empty"),
    ("--ray local --rank x", "--ray does not go with --rank"),
    ("--json", "--json goes with --rank"),
    ("--skip_bad_rows", "--skip_bad_rows goes with --preferences"),
    ("--check --vote", "do not go together"),
    ("--vote --preferences y", "do not go together"),
    ("--quick", "--quick"),
    ("--refresh all --rank x", "--refresh does not go with --rank"),
    ("--persona all --rank x", "--persona all"),
    ("--persona all --vote", "--persona all"),
    ("--cache_dir file", "--cache_dir file"),
    ("--cache_dir file/below", "--cache_dir file/below"),
    ("--results_dir file", "--results_dir file"),
    ("--cache_dir ~", "--cache_dir"),
]


@pytest.mark.parametrize(("flags", "names"), USAGE, ids=[flags for flags, _ in USAGE])
def test_wrong_usage_is_named_and_changes_nothing(
    workplace: Path, capsys: pytest.CaptureFixture[str], flags: str, names: str
) -> None:
    """In ``flags`` | stands for a space and ~ for nothing at all."""
    given = tuple("" if flag == "~" else flag.replace("|", " ") for flag in flags.split(" "))
    refused(given, 2, names, capsys)


@pytest.mark.parametrize("name", ["nowhere.jsonl", "empty.jsonl", "binary.jsonl", "empty_folder", "file"])
def test_votes_that_can_not_be_read_are_named(workplace: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    refused(("--preferences", name), 2, name, capsys)


MISSING = [
    (("--backend", "ollama"), "ollama serve"),
    (("--models", *TWO), "--backend embedded without --models"),
    (("--ground_truth", "both"), "--backend embedded without --ground_truth"),
    (("--judge", "llama3:8b"), "ollama serve"),
    (("--backend", "embedded", "--base_model", "nowhere/at/all"), "nowhere/at/all: there is no such folder"),
    (("--backend", "embedded", "--base_model", "no-one/no-model"), "hf download no-one/no-model"),
]


@pytest.mark.parametrize(("flags", "names"), MISSING, ids=[" ".join(flags) for flags, _ in MISSING])
def test_what_is_missing_is_named_with_its_mend(
    workplace: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], names: str
) -> None:
    refused(flags, 3, names, capsys)


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_before_anything(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(("--backend", "embedded", "--device", "cuda"), 3, "--device cpu", capsys)


def test_all_missing_tags_are_named_at_once_with_what_is_similar(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOllama(models=TWO) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        said = refused(
            ("--models", "gemma3:4", "lama3:8b", "gemma3:4b", "--base_model", "embedded"), 3, "ollama", capsys
        )
        assert not server.calls
    assert "ollama pull gemma3:4\n" in said
    assert "ollama pull lama3:8b" in said
    assert "installed and similar: gemma3:4b" in said
    assert "installed and similar: llama3:8b" in said


HOSTS = ["ftp://there", "127.0.0.1:port", "host:99999", "a b", "http://u:se/cret@host", "\x1b[2J"]


@pytest.mark.parametrize("host", HOSTS)
def test_an_address_that_is_none(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    errors = refused(("--backend", "ollama"), 2, "OLLAMA_HOST", capsys)
    assert "cret" not in errors
    assert "\x1b" not in errors


# ── Templates ────────────────────────────────────────────────────────────────────────────────────────────


TEMPLATES = [
    ("prompt_generation.txt", "lacks", "{title}"),
    ("preference_evaluation.txt", "binary", "can't be read"),
    ("ground_truth_ranking.txt", "folder", "can't be read"),
    ("ground_truth_ranking.txt", "unknown", "{winner}"),
]


@pytest.mark.parametrize(("name", "kind", "names"), TEMPLATES, ids=[f"{name} {kind}" for name, kind, _ in TEMPLATES])
def test_a_template_that_can_not_be_used(
    workplace: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str, names: str,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("templates") / "prompts"
    shutil.copytree(config.PROMPTS_DIR, folder)
    target = folder / name
    text = target.read_text(encoding="utf-8")
    target.unlink()
    match kind:
        case "lacks":
            target.write_text(text.replace("{title}", "somebody"), encoding="utf-8")
        case "unknown":
            target.write_text(text + "{winner}", encoding="utf-8")
        case "binary":
            target.write_bytes(b"\xff\xfe\x00\x80\xff")
        case "folder":
            target.mkdir()
    monkeypatch.setattr(config, "PROMPTS_DIR", folder)
    assert names in refused(("--backend", "embedded"), 2, name, capsys)


# ── Configuration ────────────────────────────────────────────────────────────────────────────────────────

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"num_promts": 25}, "num_promts"),
    ({"num_prompts": "25"}, "num_prompts"),
    ({"num_prompts": True}, "num_prompts"),
    ({"learning_rate": float("nan")}, "learning_rate"),
    ({"train_test_split": 1.0}, "train_test_split"),
    ({"max_epochs": 2.5}, "max_epochs"),
    ({"incremental": "yes"}, "incremental"),
    ({"pooling": "max"}, "pooling"),
    ({"num_ctx": 10}, "num_ctx"),
    ({"folds": 6, "num_prompts": 5}, "folds"),
]


@pytest.mark.parametrize(("values", "names"), SETTINGS, ids=[str(values) for values, _ in SETTINGS])
def test_a_wrong_setting_is_named(values: dict[str, Any], names: str) -> None:
    with pytest.raises((ValueError, TypeError), match=names):
        ExperimentConfig(**values)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = (
        f"{sys.executable} main.py --check --backend embedded --cache_dir {tmp_path} | true; echo ${{PIPESTATUS[0]}}"
    )
    folder = Path(main.__file__).parent
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
