"""Wrong inputs: one message that names the input and the mend, exit 2 or 3, no traceback, nothing written."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path

import pytest

import main
from config import ExperimentConfig


def snapshot(folder: Path) -> dict[Path, bytes | None]:
    """Everything in a folder; the lock that a run waits at is nothing written."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.name not in ("cache", ".lock")}


USAGE = {  # ~ stands for nothing at all
    "--persona nobody": "--persona",
    "--num_prompts 4": "--num_prompts: num_prompts must lie between 5",
    "--lambda_reg nan": "--lambda_reg",
    "--no_\x1b[2J_flag": "--no_\ufffd[2J_flag",
    "--backend embedded --ground_truth listwise": "--ground_truth",
    "--backend embedded --models story gpt-4": "--models gpt-4",
    "--rank ~": "--rank is empty",
    "--vote --preferences y": "do not go together",
    "--refresh all --rank x": "--refresh does not go with --rank",
    "--cache_dir file/below": "--cache_dir file/below",
    "--preferences nowhere.jsonl": "nowhere.jsonl does not exist",
    "--preferences binary.jsonl": "binary.jsonl",
}
MISSING = {
    "--models llama3:8b gemma3:4b": "--backend embedded",
    "--backend embedded --base_model no-one/no-model": "hf download no-one/no-model",
    **({} if Path("/dev/nvidia0").exists() else {"--backend embedded --device cuda": "--device cpu"}),
}


@pytest.mark.parametrize("flags", [*USAGE, *MISSING])
def test_what_is_wrong_or_missing_is_named_with_its_mend_and_changes_nothing(
    flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "binary.jsonl").write_bytes(bytes(range(256)))
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    status, said = (2, USAGE[flags]) if flags in USAGE else (3, MISSING[flags])
    try:
        found = main.main(["" if flag == "~" else flag for flag in flags.split(" ")])
    except SystemExit as end:  # argparse's own
        found = int(end.code or 0)
    out, errors = capsys.readouterr()
    assert found == status, out + errors
    assert said in errors and "Traceback" not in out + errors
    assert snapshot(tmp_path) == before


def test_a_wrong_setting_is_named() -> None:
    for values in ({"num_promts": 25}, {"num_prompts": "25"}, {"folds": 6, "num_prompts": 5}):
        with pytest.raises((ValueError, TypeError), match=next(iter(values))):
            ExperimentConfig(**values)


def test_a_warning_is_said_once_whatever_was_logged_before(capsys: pytest.CaptureFixture[str]) -> None:
    main._say_plainly(Namespace(json=False, log_level="info"))
    log = logging.getLogger("ranking.test")
    log.info("the \x1b[2Jsame")
    for _ in range(2):
        log.warning("the \x1b[2Jsame")
    assert capsys.readouterr().out == "the \ufffd[2Jsame\n" * 2
