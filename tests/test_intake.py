"""Whole kinds of what people bring: one text, one name and one type for own prompts and answers, tables as other
programs write them."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from vote_files import save, vote

import main
from cli import own
from cli.flags import parser
from core.errors import UsageError
from people.read import load_votes
from stages.own import prompt_id, read_answers, read_prompts

PROMPTS = [f"Wie groß ist das {i}. Café?" for i in range(12)]


def test_exports_own_prompts_own_answers_and_their_look_up_know_one_text(tmp_path: Path) -> None:
    apart = [unicodedata.normalize("NFD", prompt) for prompt in PROMPTS]
    mine = tmp_path / "mine.txt"
    mine.write_text("\r".join([*PROMPTS, *(f"{prompt}\u00a0" for prompt in apart)]), encoding="utf-8", newline="")
    prompts, notes = read_prompts(mine)
    assert [p.text for p in prompts] == PROMPTS and notes == ("mine.txt: 12 prompts; repeats dropped: 12",)
    assert prompt_id(f"\ufeff{apart[0]}\r\n") == prompt_id(PROMPTS[0])
    answers = [{"prompt": prompt, "model": model, "response": f"{model}: {i}"}
               for model, asked in (("x", PROMPTS), ("y", apart)) for i, prompt in enumerate(asked)]  # fmt: skip
    given = save(tmp_path / "a.jsonl", answers)
    found = own.read(parser().parse_args(["--responses", given, "--prompts", str(mine)]))
    assert len(found.prompts) == 12 and {r.model for r in found.responses} == {"x", "y"}
    bare = [{"user": "ann", "prompt": f"{prompt} \n", "model_a": "x", "model_b": "y", "outcome": 1} for prompt in apart]
    votes = load_votes(save(tmp_path / "v.jsonl", bare), answers=read_answers([Path(given)]))
    assert [p.id for p in votes.prompts] == [prompt_id(prompt) for prompt in PROMPTS]
    export = [{"instruction": prompt, "generator_1": "x", "generator_2": "y", "output_1": "A", "output_2": "B",
               "preference": 1} for prompt in (PROMPTS[0], f"{apart[0]} ")]  # fmt: skip
    assert len(load_votes(save(tmp_path / "alpaca.jsonl", export)).prompts) == 1


def test_names_are_one_in_own_answers_flags_and_votes_on_them(tmp_path: Path) -> None:
    rows = [{"prompt": prompt, "model": model, "response": model.strip().lower()[0]}
            for i, prompt in enumerate(PROMPTS) for model in (("Gemma", "gemma:latest ")[i % 2], "llama")]  # fmt: skip
    given = save(tmp_path / "a.csv", rows)
    found = own.read(parser().parse_args(["--responses", given, "--models", "gemma", "LLAMA:latest"]))
    assert {r.model for r in found.responses} == {"Gemma", "llama"} and len(found.prompts) == 12
    assert "one name for Gemma = gemma:latest" in found.notes
    bare = [{"user": "ann", "prompt": PROMPTS[0], "model_a": "GEMMA", "model_b": "llama:latest", "outcome": 1}]
    votes = load_votes(save(tmp_path / "v.jsonl", bare), answers=read_answers([Path(given)]))
    assert set(votes.models) == {"Gemma", "llama"}


def test_a_wrong_value_among_own_answers_is_named_or_left_out_as_asked(tmp_path: Path) -> None:
    rows = [{"prompt": prompt, "model": model, "response": "so"} for prompt in PROMPTS for model in ("x", "y")]
    source = save(tmp_path / "a.jsonl", [*rows, rows[0] | {"response": None}])
    with pytest.raises(UsageError, match=r"row 25: response is missing\n.*--skip_bad_rows"):
        own.read(parser().parse_args(["--responses", source]))
    found = own.read(parser().parse_args(["--responses", source, "--skip_bad_rows"]))
    assert len(found.responses) == 24 and found.notes == ("wrong rows, left out: 1",)


# ── Tables as other programs write them ──────────────────────────────────────────────────────────────────

SHEET = (
    "user;Prompt_ID;Prompt ;model_a;response_a;model_b;response_b; Outcome\r\n"
    "Zoë;1;„Wie groß?“;x;Größer, als gedacht;y;klein;0,5\r\nZoë;2;Où?;x;là;y;ici;1\r\n"
)
SHEETS = {
    "semicolons in cp1252": SHEET.encode("cp1252"),
    "utf-16": SHEET.encode("utf-16"),
    "a mark": SHEET.encode("utf-8-sig"),
    "sep=;": b"sep=;\r\n" + SHEET.encode(),
    "tabs": SHEET.replace(";", "\t").encode(),
    "line ends of old": SHEET.replace("\r\n", "\r").encode(),
}


@pytest.mark.parametrize("kind", SHEETS)
def test_a_spreadsheets_text_is_read_as_it_was_meant(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes(SHEETS[kind])
    found = load_votes(str(path))
    assert [p.outcome for p in found.preferences] == [0.5, 1.0]
    assert [p.text for p in found.prompts] == ["„Wie groß?“", "Où?"]
    assert [r.text for r in found.responses][:2] == ["Größer, als gedacht", "klein"]
    assert found.users == ("Zoë",)


def test_what_could_be_something_else_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes("prompt\nКак дела сегодня?\n".encode("cp1251"))
    with pytest.raises(UsageError, match=r"is no UTF-8 text.*Save it as UTF-8"):
        read_prompts(path)


@pytest.mark.parametrize("kind", ["a list in an object", "lines"])
def test_json_is_read_however_it_is_laid_out(tmp_path: Path, kind: str) -> None:
    rows = [vote(), vote(user="bob", outcome=0.0)]
    data = {
        "a list in an object": json.dumps({"exported_at": "today", "count": 2, "votes": rows}, indent=2).encode(),
        "lines": "\n".join(map(json.dumps, rows)).encode("utf-16"),
    }[kind]
    for name in ("v.json", "v.jsonl"):
        (tmp_path / name).write_bytes(data)
        assert [p.outcome for p in load_votes(str(tmp_path / name)).preferences] == [1.0, 0.0]


def test_a_column_in_other_letters_does_not_replace_one_of_the_right_name(tmp_path: Path) -> None:
    found = load_votes(save(tmp_path / "v.jsonl", [vote() | {"Prompt": "Another?", "Outcome": 0}]))
    assert (found.prompts[0].text, found.preferences[0].outcome) == ("Why?", 1.0)


def test_thoughts_before_own_answers_are_taken_off_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": p, "model": m, "response": f"{thought}{m} on {p} "}
            for p in PROMPTS for m, thought in (("x", ""), ("y", "<think>hm</think>\n"))]  # fmt: skip
    found = read_answers([Path(save(tmp_path / "a.jsonl", rows))])
    assert found.texts[prompt_id(PROMPTS[0]), "x"] == f"x on {PROMPTS[0]} "
    assert found.texts[prompt_id(PROMPTS[0]), "y"] == f"y on {PROMPTS[0]}"
    assert found.notes == ("answers whose thoughts at the beginning are not part of them: 12",)


HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e"


def test_a_refusal_never_sends_a_files_escape_codes_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [vote(prompt_id=HOSTILE), vote(prompt_id=HOSTILE, prompt="other"), vote() | {"user": None, HOSTILE: 1}]
    assert main.main(["--preferences", save(tmp_path / "v.jsonl", rows)]) == 2
    said = capsys.readouterr().err
    assert "rows cannot be used" in said
    assert all(character.isprintable() or character == "\n" for character in said)
