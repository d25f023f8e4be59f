"""The console and figures say what was found."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sample_results as sample

from core import clock
from report import console, words

STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
Document = dict[str, Any]


def golden(name: str, found: str) -> None:
    """Compare with tests/golden; ``GOLDEN=write pytest tests/test_report.py tests/test_page.py`` writes it anew."""
    path = sample.GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def say_all(document: Document) -> None:
    console.print_header(document["persona"], document["label"], document["notes"])
    console.print_counts(document["counts"])
    console.print_results(document, document["notes"])
    console.print_files([Path("results") / name for name in ("a" * 60, "b" * 60, "report.html")])


MADE: dict[str, Callable[[], Document]] = {
    "persona": lambda: sample.persona(incremental=False) | {"ablation": []},
    "incremental": sample.persona,
    "votes": sample.votes,
    "undecided": lambda: sample.votes(decided=False, users=1),
    "personas": sample.personas,
}


@pytest.mark.parametrize("name", MADE)
def test_the_console_says_what_was_found(
    name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG" if name in ("incremental", "votes") else "INFO", "ranking")
    (console.print_personas if name == "personas" else say_all)(MADE[name]())
    said = capsys.readouterr().out
    golden(f"console_{name}.txt", said)
    lines = said.splitlines()
    assert not [line for line in lines if len(line) > 80]
    assert name != "persona" or len(lines) <= 65, "70 with what the stages of a default run say"


def test_hostile_texts_stay_text(capsys: pytest.CaptureFixture[str]) -> None:
    changed, text = sample.hostile(), sample.HOSTILE
    together = sample.personas() | {"personas": {text: changed}, "label": text, "judge": text}
    say_all(changed)
    console.print_personas(together)
    said = capsys.readouterr().out
    assert "alert(1)" in said and not STEERS.search(said)


def test_too_little_data_still_says_who_leads() -> None:
    found = sample.persona()
    found["answer"] |= {"best": None, "more_prompts": 1}
    for place, row in enumerate(found["leaderboard"]):
        row |= {"judged_on": 5, "best_on": 5 * (place == 0)}
    said = "code_block leads, on too few prompts to be sure; about 1 more prompt would separate the first two."
    assert words.sentence(found) == said


def test_long_work_says_how_far_it_is_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "MINUTE", 0.0)
    with caplog.at_level("INFO", "ranking"):
        assert list(clock.bar("abc", 3, "responses")) == ["a", "b", "c"]
    assert caplog.messages[-1] == "responses: 3 of 3"
