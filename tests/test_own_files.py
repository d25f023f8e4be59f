"""Files that a user brings: rows of every format, prompts, answers and a person, read or refused with the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from begun import ME, PROMPTS, answers_of, write

import config
from config import ROOT, Persona
from core.errors import UsageError
from core.tables import read_rows, refuse_bad_rows
from stages.own import check_persona, prompt_id, read_answers, read_persona, read_prompts

GOOD = [{"prompt": text} for text in PROMPTS]


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "ndjson", "parquet"])
def test_every_format_gives_the_same_rows_with_their_numbers(tmp_path: Path, ending: str) -> None:
    rows = [{"prompt": 'a, "b"\nc', "id": "07"}, {"prompt": "ü 😀", "id": "nan"}, {"prompt": "", "id": "x" * 200_000}]
    found, bad = read_rows(write(tmp_path / f"r.{ending}", rows))
    assert {number: dict(row) for number, row in found.items()} == dict(enumerate(rows, start=1))
    assert bad == {}


def test_nested_columns_of_parquet_are_read_where_something_reads_them(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Why?"}]
    rows = [{"conversation_a": turns, "moderation": {"flagged": True}, "score": 0.1, "tags": ["x"], "n": 7, "e": None}]
    (row,) = read_rows(write(tmp_path / "r.parquet", rows))[0].values()
    assert row == {"conversation_a": turns, "score": 0.1, "n": 7, "e": None}


@pytest.mark.parametrize(
    ("name", "content", "bad", "good"),
    [
        ("torn.jsonl", b'{"a": 1}\n{"a": 2}\n{"a": ', [3], 2),
        ("torn.json", b'[{"a": 1},\n {"a": 2}, {"a": "\xc3', [3], 2),
        ("array.jsonl", b' [ {"a": 1} , 5, {"a": 2}] ', [2], 2),
        ("lines.json", b'{"a": 1}\n["b"]\n{"a": 5\n' + b"[" * 9999, [2, 3, 4], 1),
        ("cells.csv", b"a,b\n1,2\n1,2,3\n1\n", [2], 2),
    ],
)
def test_a_row_that_can_not_be_read_is_named_and_the_others_are_kept(
    tmp_path: Path, name: str, content: bytes, bad: list[int], good: int
) -> None:
    rows, wrong = read_rows(write(tmp_path / name, content))
    assert (list(wrong), len(rows)) == (bad, good)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.csv", None, "does not exist"),
        ("rows.xlsx", b"x", "unknown ending; known are .jsonl"),
        ("twice.csv", b"a,a\n1,2\n", "a column twice: a, a"),
        ("quote.csv", b'a\n"1\n', "cannot be read as .csv"),
        ("broken.parquet", b"PAR1", "cannot be read as .parquet"),
        ("empty.parquet", b"", "cannot be read as .parquet"),
        ("broken.csv", b"\x00\xff\xfe broken \x80" * 20, "cannot be read as .csv"),
    ],
)
def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(UsageError, match=said):
        read_rows(tmp_path / name)
    with pytest.raises(UsageError, match="is not a file"):
        read_rows(tmp_path)


def test_the_first_ten_wrong_rows_are_named_and_all_are_counted() -> None:
    bad = dict.fromkeys(range(20, 0, -1), "it is empty")
    with pytest.raises(UsageError) as refused:
        refuse_bad_rows(bad, "v.csv", 200, skip=False)
    first, *rows, more, mend = str(refused.value).splitlines()
    assert (first, more) == ("v.csv: 20 of 200 rows cannot be used:", "  … and 10 more")
    assert rows == [f"  row {number}: it is empty" for number in range(1, 11)]
    assert mend.endswith("Correct them, or leave them out: --skip_bad_rows")
    refuse_bad_rows(bad, "v.csv", 200, skip=True)
    for total, skip in ((20, True), (200, None)):
        with pytest.raises(UsageError, match=r"Correct them$"):
            refuse_bad_rows(bad, "v.csv", total, skip=skip)
    with pytest.raises(UsageError, match=r"20 rows are too many to leave out for one reason \(it is empty\)$"):
        refuse_bad_rows(bad, "v.csv", 199, skip=True)


# ── Prompts and answers ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["txt", "jsonl", "csv"])
def test_prompts_of_every_format_have_ids_of_their_texts(tmp_path: Path, ending: str) -> None:
    given = [*PROMPTS, PROMPTS[0], f" {PROMPTS[1]} "]
    lines = b"\xef\xbb\xbf" + "\r\n\r\n".join(given).encode()
    path = write(tmp_path / f"mine.{ending}", lines if ending == "txt" else [{"prompt": p, "other": 1} for p in given])
    found, notes = read_prompts(path)
    assert [(p.id, p.text) for p in found] == [(prompt_id(text), text) for text in PROMPTS]
    assert notes == (f"mine.{ending}: 6 prompts; repeats dropped: 2",)


WRONG_PROMPTS: list[tuple[str, Any, str]] = [
    ("few.txt", b"one\ntwo\nthree\none\n", "few.txt holds 3 different prompts; at least 5"),
    ("mac.txt", b"\x8e\x9f\x00 one\ntwo", "is no UTF-8 text"),
    ("none.csv", b"prompt\n", "none.csv lacks the columns prompt; it has none"),
    ("column.csv", b"question\nWhy?\nHow?\n", "column.csv lacks the columns prompt; it has question"),
    ("cut.jsonl", b'{"prompt": "one"}\n{"prompt": "tw', "row 2: not readable as JSON"),
    ("row.jsonl", [*GOOD, {"prompt": " "}], "row 7: prompt is missing"),
    ("row.jsonl", [*GOOD, {"prompt": 5}], "row 7: prompt is no text"),
    ("half.jsonl", [*GOOD, {"prompt": "\ud83d"}], "row 7: prompt is no text"),
]


@pytest.mark.parametrize(("name", "content", "said"), WRONG_PROMPTS, ids=[said for _, _, said in WRONG_PROMPTS])
def test_prompts_that_can_not_be_used_are_named_with_the_row(
    tmp_path: Path, name: str, content: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_prompts(write(tmp_path / name, content))


@pytest.mark.parametrize("alpaca", [False, True], ids=["ours", "alpaca_eval's"])
def test_answers_in_one_file_a_model_or_one_for_all(tmp_path: Path, alpaca: bool) -> None:
    rows = answers_of("x", "y")
    if alpaca:
        rows = [{"instruction": r["prompt"], "generator": r["model"], "output": r["response"]} for r in rows]
    whole = read_answers([write(tmp_path / "all.json", rows)])
    assert read_answers([write(tmp_path / f"{i}.csv", rows[6 * i : 6 * i + 6]) for i in range(2)]) == whole
    assert (whole.models, whole.notes, len(whole.texts)) == (("x", "y"), (), 12)
    assert whole.texts[prompt_id(PROMPTS[1]), "y"] == f"y on: {PROMPTS[1]} so "


def test_second_answers_are_left_out_and_counted_and_an_empty_one_is_an_answer(tmp_path: Path) -> None:
    rows = [*answers_of("x", "y"), {"prompt": PROMPTS[0], "model": "x", "response": "another"}]
    rows.append({"prompt": "Only x answered?", "model": "x", "response": "", "prompt_id": 7})
    found = read_answers([write(tmp_path / "a.jsonl", rows)])
    assert found.notes == ("second answers of a model to the same prompt, left out: 1",)
    assert found.texts[prompt_id(PROMPTS[0]), "x"].startswith("x on:")
    assert [p.text for p in found.complete(("x", "y"))] == list(PROMPTS)
    assert found.ids["7"] == prompt_id("Only x answered?")
    assert [r.text for r in found.responses(found.complete(("x",))[-1:], ("x",))] == [""]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"prompt": "Why?", "answer": "So"}],
            "lacks the columns model, response; it has prompt, answer",
        ),
        ([*answers_of("x"), {"prompt": "Why?", "model": "x", "response": ["So"]}], "row 7: response is no text"),
        ([{**row, "prompt_id": "1"} for row in answers_of("x")], "row 2: prompt_id stands for another prompt"),
    ],
)
def test_answers_that_can_not_be_used_are_named(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_answers([write(tmp_path / "a.json", rows)])


# ── A person ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_example_describes_a_person_with_what_is_missing_made_up(tmp_path: Path) -> None:
    found = read_persona(ROOT / "persona.example.toml")
    assert found.title == "Amateur gardener" and "\n" not in found.description and "slugs" in found.topics
    assert found.asks == config.DEFAULT_ASKS
    assert found.title in found.answerer and found.description in found.answerer
    path = tmp_path / "me.json"
    path.write_text(json.dumps({"title": " Me ", "description": "x", "asks": ["Why"], "answerer": "I am."}), "utf-8")
    assert read_persona(path) == Persona("Me", "x", "I am.", ("Why",), ())


WRONG_PEOPLE = [
    (
        "me.toml",
        ME + 'topic = ["slugs"]',
        "topic: Extra inputs are not permitted. It may have title, ",
    ),
    ("me.toml", ME + 'topics = ["slugs", 5]', "topics.1: Input should be a valid string"),
    ("me.toml", "title = Gardener", "can't be read"),
    ("me.json", "[]", "can't be used"),
    ("me.json", None, "does not exist"),
]


@pytest.mark.parametrize(("name", "text", "said"), WRONG_PEOPLE, ids=[f"{n} {s}" for n, _, s in WRONG_PEOPLE])
def test_a_person_that_can_not_be_used_is_named_with_the_field(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        read_persona(tmp_path / name)
    assert said in str(refused.value) and name in str(refused.value)


def test_the_personas_of_config_stay_as_they_are_when_they_are_checked() -> None:
    for name, persona in config.PERSONAS.items():
        fields = {field: getattr(persona, field) for field in Persona.__slots__}
        assert check_persona(fields, name) == persona, "hashes stay"
