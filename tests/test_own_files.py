"""Files that a user brings: rows of every format, prompts, answers and a person, read or refused with the row."""

from __future__ import annotations

from pathlib import Path

import pytest
from begun import ME, PROMPTS, answers_of, write

import config
from config import ROOT
from core.errors import UsageError
from core.tables import read_rows, refuse_bad_rows
from stages.own import prompt_id, read_answers, read_persona

# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "ndjson", "parquet"])
def test_every_format_gives_the_same_rows_with_their_numbers(tmp_path: Path, ending: str) -> None:
    rows = [{"prompt": 'a, "b"\nc', "id": "07"}, {"prompt": "ü 😀", "id": "nan"}, {"prompt": "", "id": "x" * 200_000}]
    found, bad = read_rows(write(tmp_path / f"r.{ending}", rows))
    assert {number: dict(row) for number, row in found.items()} == dict(enumerate(rows, start=1))
    assert bad == {}


@pytest.mark.parametrize(
    ("name", "content", "bad", "good"),
    [
        ("torn.jsonl", b'{"a": 1}\n{"a": 2}\n{"a": ', [3], 2),
        ("array.jsonl", b' [ {"a": 1} , 5, {"a": 2}] ', [2], 2),
        ("cells.csv", b"a,b\n1,2\n1,2,3\n1\n", [2], 2),
    ],
)
def test_a_row_that_can_not_be_read_is_named_and_the_others_are_kept(
    tmp_path: Path, name: str, content: bytes, bad: list[int], good: int
) -> None:
    rows, wrong = read_rows(write(tmp_path / name, content))
    assert (list(wrong), len(rows)) == (bad, good)


def test_the_first_ten_wrong_rows_are_named_and_many_of_one_kind_are_never_left_out() -> None:
    bad = dict.fromkeys(range(20, 0, -1), "it is empty")
    with pytest.raises(UsageError) as refused:
        refuse_bad_rows(bad, "v.csv", 200, skip=False)
    first, *rows, more, mend = str(refused.value).splitlines()
    assert (first, more) == ("v.csv: 20 of 200 rows cannot be used:", "  … and 10 more")
    assert rows == [f"  row {number}: it is empty" for number in range(1, 11)]
    assert mend.endswith("Correct them, or leave them out: --skip_bad_rows")
    refuse_bad_rows(bad, "v.csv", 200, skip=True)
    with pytest.raises(UsageError, match=r"20 rows are too many to leave out for one reason \(it is empty\)$"):
        refuse_bad_rows(bad, "v.csv", 199, skip=True)


# ── Prompts and answers ──────────────────────────────────────────────────────────────────────────────────


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
    assert [p.text for p in found.prompts] == [*PROMPTS, "Only x answered?"]
    assert [p.text for p in found.prompts if (p.id, "y") in found.texts] == list(PROMPTS)
    assert found.ids["7"] == prompt_id("Only x answered?")
    assert found.texts[found.prompts[-1].id, "x"] == ""


def test_a_column_that_is_missing_is_named_once_beside_those_that_are_there(tmp_path: Path) -> None:
    rows = [{"instruction": row["prompt"], "text": row["response"]} for row in answers_of("x")]
    with pytest.raises(UsageError, match=r"a\.csv lacks the columns model, response; it has instruction, text\.$"):
        read_answers([write(tmp_path / "a.csv", rows)])


def test_an_id_that_stands_for_two_prompts_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "prompt_id": "1"} for row in answers_of("x")]
    with pytest.raises(UsageError, match="row 2: prompt_id stands for another prompt"):
        read_answers([write(tmp_path / "a.json", rows)])


def test_the_example_describes_a_person_and_an_unknown_field_is_named(tmp_path: Path) -> None:
    found = read_persona(ROOT / "persona.example.toml")
    assert found.title == "Amateur gardener" and "\n" not in found.description and "slugs" in found.topics
    assert found.asks == config.DEFAULT_ASKS
    (tmp_path / "me.toml").write_text(ME + 'topic = ["slugs"]', encoding="utf-8")
    with pytest.raises(UsageError, match=r"me.toml.*topic: Unexpected keyword argument. It may have title, "):
        read_persona(tmp_path / "me.toml")
