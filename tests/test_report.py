"""Sentences, figures and the console say what was found."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sample_results as sample
from hypothesis import given
from hypothesis import strategies as st

from core import clock
from core.text import percent, plain
from report import answer, console, tables, words

ROOT = Path(__file__).parent.parent
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
Document = dict[str, Any]
Printed = Callable[..., list[str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """The lines that a call prints."""

    def lines(show: Callable[..., None], *arguments: Any) -> list[str]:
        show(*arguments)
        return capsys.readouterr().out.splitlines()

    return lines


def golden(name: str, found: str) -> None:
    """Compare with tests/golden; ``GOLDEN=write pytest tests/test_report.py tests/test_page.py`` writes it anew."""
    path = sample.GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


# ── The console ──────────────────────────────────────────────────────────────────────────────────────────


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
def test_the_console_says_what_was_found(name: str, printed: Printed) -> None:
    lines = printed(console.print_personas if name == "personas" else say_all, MADE[name]())
    golden(f"console_{name}.txt", "\n".join(lines) + "\n")
    assert not [line for line in lines if len(line) > 80]
    assert name != "persona" or len(lines) <= 65, "70 with what the stages of a default run say"


def test_lines_have_at_most_eighty_columns_and_hostile_texts_stay_text(printed: Printed) -> None:
    wide = {"mean": -0.55, "difference": -0.55, "ci95": [-0.65, -0.45]}
    widest = sample.persona() | {"cross_validated": {s: dict.fromkeys(words.METRICS, wide) for s in words.SYSTEMS}}
    widest["ablation"] = [dict.fromkeys(words.METRICS, wide) | {"name": "x" * 38, "difference": wide}]
    many = sample.persona()
    many["leaderboard"] = [many["leaderboard"][0] | {"model": f"registry.example/{i}-it:70b-q4_K_M"} for i in range(40)]
    for made in (widest, many):
        lines = printed(say_all, made)
        assert not [line for line in lines if len(line) > 80 or re.search(r"\][-−+\d]", line)]
    assert sum("registry.example/" in line for line in lines) >= 40, "long names are whole"
    changed, text = sample.hostile(), sample.HOSTILE
    together = sample.personas() | {"personas": {text: changed}, "label": text, "judge": text}
    said = "".join(printed(say_all, changed) + printed(console.print_personas, together))
    assert "alert(1)" in said and not STEERS.search(said)


# ── Sentences ────────────────────────────────────────────────────────────────────────────────────────────

NOTHING = "Nothing is known yet: no model is surely better than another"
TIED: Document = {"tied_with": ["numbered_steps"]}
UNLIKELY = TIED | {"unlikely": ["numbered_steps"]}


@pytest.mark.parametrize(
    ("users", "changes", "said"),
    [
        (1, {}, "code_block is your best model: it wins 72 % of its comparisons; the others are behind."),
        (1, TIED, "code_block or numbered_steps is your best model (ahead in 98 % and <1 % of draws); the others are"),
        (
            2,
            UNLIKELY,
            "code_block is very likely these people's best model (ahead in 98 % of draws); numbered_steps can't",
        ),
        (1, {"best": None, "more_prompts": 6541}, f"{NOTHING}; about 6,500 more prompts would separate the first two."),
    ],
)
def test_the_sentence_says_as_much_as_is_known(users: int, changes: Document, said: str) -> None:
    found = sample.persona()
    found["counts"]["users"] = users
    found["answer"] |= changes
    for row, share in zip(found["leaderboard"], (0.98, 0.002), strict=False):
        row["p_best"] = share
    assert answer.sentence(found).startswith(said)


def test_too_little_data_still_says_who_leads_and_compares_no_systems() -> None:
    found = sample.persona()
    found["answer"] |= {"best": None, "more_prompts": 1}
    for place, row in enumerate(found["leaderboard"]):
        row |= {"judged_on": 5, "best_on": 5 * (place == 0)}
    said = "code_block leads, on too few prompts to be sure; about 1 more prompt would separate the first two."
    assert answer.sentence(found) == said
    for system in words.CONTENDERS:
        found["cross_validated"][system]["kendall_tau"]["ci95"] = [-0.6, 0.5]
    assert words.warnings(found, ())[0].startswith("Too few prompts to compare systems")


def test_what_to_do_next_is_a_ranking_only_where_it_is_worth_something() -> None:
    document, crowd = sample.persona(), sample.votes()
    unknown = {"answer": document["answer"] | {"best": None}}
    chance = {"combined": {"kendall_tau": {"ci95": [-0.1, 0.5]}, "ranking_accuracy": {"ci95": [0.45, 0.7]}}}
    by_chance = unknown | {"cross_validated": chance}
    for known in (document, crowd, document | unknown):
        assert answer.ask(known)[1] == document["answer"]["ask"]
    assert answer.ask(crowd | by_chance) == ("Next: vote on more prompts and run it again.", "")
    by_place = by_chance | {"judge_quality": {"reads": "place"}}
    assert "another --judge" in answer.ask(document | by_place)[0], "more prompts would tell nothing"


def test_answers_that_are_equally_good_share_a_place_and_are_called_tied() -> None:
    example = sample.persona()["examples"][0]
    responses = [{"model": m, **dict.fromkeys(("elo_place", "reward_place", "combined_place"), 1)} for m in "abc"]
    for places, best in (((1, 1, 3), "Best: a and b"), ((1, 1, 1), "No answer is better than another")):
        ranked = [row | {"truth_place": place} for row, place in zip(responses, places, strict=True)]
        found = example | {"responses": ranked}
        shown = [row[1:] for row in tables.places(sample.persona(), found).rows]
        assert shown == [[f"{p} (tied)" if p == 1 else "3", *["1 (tied)"] * 3] for p in places]
        assert answer.best_on(found) == best


# ── Texts and figures ────────────────────────────────────────────────────────────────────────────────────


@given(st.text(alphabet=st.characters()))
def test_plain_text_can_neither_steer_a_terminal_nor_break_its_encoding(text: str) -> None:
    shown = plain(text)
    shown.encode("utf-8")
    assert not STEERS.search(shown) and "\n" not in shown
    assert plain("Größe τ\r\n日本 مرحبا 👩\u200d💻", lines=True) == "Größe τ\n日本 مرحبا 👩\u200d💻"


def test_figures_are_rounded_and_what_is_none_is_a_dash() -> None:
    assert [words.number(value) for value in (None, float("nan"), 0.12345, -0.0001)] == ["–", "–", "0.123", "0.000"]
    assert words.estimate(0.0, [-0.5, 0.25], signed=True) == "+0.00 [−0.50, +0.25]"
    assert words.difference({"difference": None, "ci95": None, "p_value": 0.0004}) == "–, p < 0.001"
    shares = (None, 0.0, 0.004, 0.25, 0.996, 1.0)
    assert [percent(share) for share in shares] == ["–", "0 %", "<1 %", "25 %", ">99 %", "100 %"]


def test_long_work_says_how_far_it_is_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "MINUTE", 0.0)
    with caplog.at_level("INFO", "ranking"):
        assert list(clock.bar("abc", 3, "responses")) == ["a", "b", "c"]
    assert caplog.messages[-1] == "responses: 3 of 3"
