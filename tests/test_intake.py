"""Whole kinds of what people bring: one text under several ids, one name in several spellings, values of another type,
codings, tables and exports as other programs write them."""

from __future__ import annotations

import hashlib
import io
import json
import random
import unicodedata
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from begun import jobs_of
from fake_ollama import FakeOllama, Model

import main
from base.features import Features
from cli import own
from cli.flags import parse
from config import ExperimentConfig
from core.clock import Clock
from core.errors import UsageError
from people import run as people
from people.many import Crowd, measure
from people.read import Votes, load_votes
from report.console import table
from stages.own import prompt_id, read_answers, read_prompts

Row = dict[str, Any]
PROMPTS = [f"Wie groß ist das {i}. Café?" for i in range(12)]
MODELS = ("alpha", "beta", "gamma", "delta")


def vote(**changes: Any) -> Row:
    row: Row = {"user": "ann", "prompt_id": "p1", "prompt": "Why?", "model_a": "x", "response_a": "because",
                "model_b": "y", "response_b": "so", "outcome": 1}  # fmt: skip
    return row | changes


def save(path: Path, rows: Sequence[Row]) -> str:
    match path.suffix:
        case ".csv":
            pd.DataFrame(list(rows)).to_csv(path, index=False)
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)  # where NaN stays NaN
        case _:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def coins(again: int = 6) -> list[Row]:
    """A coin's outcome for each pair of each prompt, as so many people gave it: nothing to be learned."""
    draw = random.Random(1)
    return [
        vote(prompt_id=str(i), prompt=prompt, model_a=a, model_b=b, outcome=outcome,
             response_a=f"{a} on {prompt}", response_b=f"{b} on {prompt}")
        for i, prompt in enumerate(PROMPTS)
        for a, b in combinations(MODELS, 2)
        for outcome in [draw.randint(0, 1)]
        for _ in range(again)
    ]  # fmt: skip


# ── One text is one prompt ───────────────────────────────────────────────────────────────────────────────

FORMS = {
    "a trailing blank": lambda text: f"{text} ",
    "a no-break space": lambda text: f"\u00a0{text}",
    "a byte-order mark": lambda text: f"\ufeff{text}",
    "line ends": lambda text: f"{text}\r\n\r\n",
    "letters in parts": lambda text: unicodedata.normalize("NFD", text),
    "only its id": lambda text: text,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_one_text_under_several_ids_is_one_prompt(tmp_path: Path, form: str, suffix: str) -> None:
    rows = [vote(), vote(prompt_id="p2", prompt=FORMS[form]("Wie groß ist das Café?"), user="bob")]
    rows[0]["prompt"] = "Wie groß ist das Café?"
    found = load_votes(save(tmp_path / f"v.{suffix}", rows))
    assert [(p.id, p.text) for p in found.prompts] == [("p1", "Wie groß ist das Café?")]
    assert [p.prompt_id for p in found.preferences] == ["p1", "p1"]
    assert found.notes == ("1 prompt_ids name a prompt that has one already: one text is one prompt",)


@pytest.mark.parametrize("form", FORMS)
def test_responses_are_compared_in_the_same_form_and_the_first_is_kept(tmp_path: Path, form: str) -> None:
    rows = [vote(response_a="Im Café\n\nfür zwei"), vote(response_a=FORMS[form]("Im Café\r\n\r\nfür zwei"), user="bob")]
    found = load_votes(save(tmp_path / "v.jsonl", rows))
    assert [r.text for r in found.responses if r.model == "x"] == ["Im Café\n\nfür zwei"]
    assert len(found.preferences) == 2 and not found.left_out


def crossed(votes: Votes) -> dict[str, Any]:
    """Everything measured of the votes; what a text shows is drawn from the text."""

    def drawn(prompt: str, response: str) -> np.ndarray:
        seed = hashlib.sha256(f"{prompt}\0{response}".encode()).digest()[:8]
        return np.random.default_rng(int.from_bytes(seed, "big")).normal(size=64)

    asked = {p.id: p.text for p in votes.prompts}
    shown = np.array([drawn(asked[r.prompt_id].strip(), r.text) for r in votes.responses], dtype=np.float32)
    index = {(r.prompt_id, r.model): i for i, r in enumerate(votes.responses)}
    features = Features(index, shown, shown, np.zeros(len(shown), np.float32), has_score=False, base="drawn")
    params = people.fitting(ExperimentConfig(), len(votes.prompts))
    return measure(Crowd(votes, features, dict.fromkeys(votes.models), params), Clock())


@pytest.mark.parametrize("form", [None, "a trailing blank"])
def test_coins_are_not_learned_by_heart_under_the_numbers_of_rows(tmp_path: Path, form: str | None) -> None:
    rows = [row | {"prompt_id": number} for number, row in enumerate(coins())]
    if form:
        rows = [row | {"prompt_id": i % 2, "prompt": FORMS[form](row["prompt"])} if i % 2 else row
                for i, row in enumerate(coins())]  # fmt: skip
        rows = [row | {"prompt_id": row["prompt"]} for row in rows]
    votes = load_votes(save(tmp_path / "coins.jsonl", rows))
    found = crossed(votes)
    assert (len(votes.prompts), len(votes.preferences), found["winner"]) == (12, 432, "none")
    for system in ("reward_model", "combined"):
        assert found["cross_validated"][system]["ranking_accuracy"]["mean"] == pytest.approx(0.5, abs=0.17)


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
    found = own.read(parse(["--responses", given, "--prompts", str(mine)]))
    assert len(found.prompts) == 12 and set(found.contestants) == {"x", "y"}
    bare = [{"user": "ann", "prompt": f"{prompt} \n", "model_a": "x", "model_b": "y", "outcome": 1} for prompt in apart]
    votes = load_votes(save(tmp_path / "v.jsonl", bare), answers=read_answers([Path(given)]))
    assert [p.id for p in votes.prompts] == [prompt_id(prompt) for prompt in PROMPTS]
    export = [{"instruction": prompt, "generator_1": "x", "generator_2": "y", "output_1": "A", "output_2": "B",
               "preference": 1} for prompt in (PROMPTS[0], f"{apart[0]} ")]  # fmt: skip
    assert len(load_votes(save(tmp_path / "alpaca.jsonl", export)).prompts) == 1


def test_an_id_with_two_texts_is_named_and_a_second_text_of_a_model_left_out(tmp_path: Path) -> None:
    rows = [vote(), vote(prompt="How?"), vote(prompt_id="p9", response_b="otherwise"), *[vote()] * 20]
    source = save(tmp_path / "v.csv", rows)
    with pytest.raises(
        UsageError, match=r"row 2: prompt_id stands for another prompt in an earlier row \(prompts need no id\): p1"
    ):
        load_votes(source)
    found = load_votes(source, skip_bad_rows=True)
    assert found.left_out == {3: "on a second text of one model to the same prompt"}


@pytest.mark.parametrize("numbers", ["of people", "of nothing"])
def test_numbers_of_people_are_no_ids_of_prompts_and_none_are_needed(tmp_path: Path, numbers: str) -> None:
    rows = [row | {"prompt_id": i % 3} for i, row in enumerate(coins(1))]
    if numbers == "of people":
        with pytest.raises(UsageError, match=r"too many to leave out for one reason .*prompts need no id") as refused:
            load_votes(save(tmp_path / "v.csv", rows), skip_bad_rows=True)
        assert "--skip_bad_rows" not in str(refused.value)
    else:
        rows = [{name: value for name, value in row.items() if name != "prompt_id"} for row in rows]
        assert len(load_votes(save(tmp_path / "v.csv", rows)).prompts) == 12


# ── One name is one model, one person ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("other", ["M1", "m1:latest", "M1:Latest ", "m1 ", "\u00a0m1", "m1\u200b", "\tm1\n"])
def test_a_name_in_another_spelling_is_no_second_model_and_no_second_person(tmp_path: Path, other: str) -> None:
    rows = [vote(model_a="m1", user="m1"), vote(model_a=other, user=other, prompt_id="p2", prompt="How?")]
    found = load_votes(save(tmp_path / "v.jsonl", rows))
    assert (found.models, found.users) == (("m1", "y"), ("m1",))
    spelled = other.strip().strip("\u200b")
    said = f"one name for m1 = {spelled}" if spelled != "m1" else ""
    assert found.notes == ((f"{said}; {said}",) if said else ())


def test_a_name_on_both_sides_in_two_spellings_is_no_vote(tmp_path: Path) -> None:
    found = load_votes(save(tmp_path / "v.jsonl", [vote(), vote(model_b="X:latest")]))
    assert found.left_out == {2: "the same model answers on both sides"}


def test_names_are_one_in_own_answers_flags_and_votes_on_them(tmp_path: Path) -> None:
    rows = [{"prompt": prompt, "model": model, "response": model.strip().lower()[0]}
            for i, prompt in enumerate(PROMPTS) for model in (("Gemma", "gemma:latest ")[i % 2], "llama")]  # fmt: skip
    given = save(tmp_path / "a.csv", rows)
    found = own.read(parse(["--responses", given, "--models", "gemma", "LLAMA:latest"]))
    assert set(found.contestants) == {"Gemma", "llama"} and len(found.prompts) == 12
    assert "one name for Gemma = gemma:latest" in found.notes
    bare = [{"user": "ann", "prompt": PROMPTS[0], "model_a": "GEMMA", "model_b": "llama:latest", "outcome": 1}]
    votes = load_votes(save(tmp_path / "v.jsonl", bare), answers=read_answers([Path(given)]))
    assert set(votes.models) == {"Gemma", "llama"}


# ── A value has its type ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["user", "prompt_id", "prompt", "model_a", "response_a"])
@pytest.mark.parametrize("value", [float("nan"), None, True, 7.5, 7])
def test_a_figure_is_no_text_and_nothing_is_no_name(tmp_path: Path, name: str, value: Any) -> None:
    for suffix in ("jsonl", "parquet"):
        rows = [vote(**{name: value}), vote(**{name: value}, model_b="z")]
        source = save(tmp_path / f"v.{suffix}", rows)
        if value in (7, 7.5) and not isinstance(value, bool) and name in ("user", "prompt_id"):
            found = load_votes(source)  # ids may be figures
            assert str(value) in (*found.users, *(p.id for p in found.prompts))
        elif name == "prompt_id" and value is not True:
            assert [p.text for p in load_votes(source).prompts] == ["Why?"], "or missing"
        else:
            with pytest.raises(UsageError, match=rf"row 1: {name} is (missing|no text)"):
                load_votes(source)


def test_a_column_of_ids_with_gaps_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [vote(user=7.0), *[vote(user=8.0)] * 20, vote(user=float("nan"))]
    assert load_votes(save(tmp_path / "v.parquet", rows), skip_bad_rows=True).users == ("7", "8")


@pytest.mark.parametrize("column", ["prompt", "model", "response"])
def test_a_wrong_value_among_own_answers_is_named_or_left_out_as_asked(tmp_path: Path, column: str) -> None:
    rows = [{"prompt": prompt, "model": model, "response": "so"} for prompt in PROMPTS for model in ("x", "y")]
    source = save(tmp_path / "a.jsonl", [*rows, rows[0] | {column: None}])
    with pytest.raises(UsageError, match=rf"row 25: {column} is missing\n.*--skip_bad_rows"):
        own.read(parse(["--responses", source]))
    found = own.read(parse(["--responses", source, "--skip_bad_rows"]))
    assert len(found.responses) == 24 and found.notes == ("wrong rows, left out: 1",)


# ── A coding is recognized or refused ────────────────────────────────────────────────────────────────────

CODINGS = [
    ([-1, 0, 1], "-1, 0, 1"), ([1, 2], "1, 2"), ([1, 2, 3], "1, 2, 3"), ([0, 1, 2], "0, 1, 2"),
    ([0, 50, 100], "0 to 100"), ([0, 73, 12], "0 to 73"), ([-1, *[0, 1] * 30], "-1, 0, 1"), ([1, 5, 3], "0 to 5"),
]  # fmt: skip


@pytest.mark.parametrize(("outcomes", "coding"), CODINGS, ids=[f"{coding} {len(o)}" for o, coding in CODINGS])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_another_coding_is_named_and_never_skipped_around(
    tmp_path: Path, outcomes: list[int], coding: str, suffix: str
) -> None:
    source = save(tmp_path / f"v.{suffix}", [vote(outcome=outcome) for outcome in outcomes])
    for skip in (False, True):
        with pytest.raises(UsageError, match=rf"the votes are coded {coding}, ") as refused:
            load_votes(source, skip_bad_rows=skip)
        assert "--skip_bad_rows" not in str(refused.value)


def test_words_of_the_known_formats_are_outcomes_and_alpacas_zeros_and_ones_are_refused(tmp_path: Path) -> None:
    rows = [vote(outcome=word) for word in ("model_a", "Tie", "model_b", "tie (bothbad)", "0,5", 0.25)]
    found = load_votes(save(tmp_path / "v.jsonl", rows))
    assert [p.outcome for p in found.preferences] == [1.0, 0.5, 0.0, 0.5, 0.5, 0.25]
    annotations = [{"instruction": prompt, "generator_1": "x", "generator_2": "y", "output_1": "A", "output_2": "B",
                    "preference": i % 2} for i, prompt in enumerate(PROMPTS)]  # fmt: skip
    with pytest.raises(UsageError, match="the votes are coded 0, 1, and alpaca_eval's preferences are 1 and 2"):
        load_votes(save(tmp_path / "alpaca.jsonl", annotations), skip_bad_rows=True)


# ── First turns only ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_follow_ups_of_the_arenas_sessions_are_left_out_and_counted(tmp_path: Path, suffix: str) -> None:
    def turns(model: str, prompt: str) -> list[Row]:
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": f"{model}: {prompt}"}]

    rows = [
        {"model_a": "x", "model_b": "y", "winner": "model_a" if order == 1 else "model_b", "evaluation_order": order,
         "conversation_a": turns("x", prompt), "conversation_b": turns("y", prompt)}
        for prompt in PROMPTS for order, prompt in ((1, prompt), (2, "shorter please"), (3, "and in French"))
    ]  # fmt: skip
    found = load_votes(save(tmp_path / f"arena.{suffix}", rows))
    assert {p.outcome for p in found.preferences} == {1.0} and len(found.prompts) == 12
    assert "24 left out: a follow-up in its session (evaluation_order above 1), no first turn" in found.notes[0]


@pytest.mark.parametrize(("column", "first"), [("turn", 0), ("turn", 1), ("evaluation_order", 1)])
def test_later_turns_among_votes_in_our_own_columns_are_left_out(tmp_path: Path, column: str, first: int) -> None:
    rows = [vote(prompt_id=str(i), prompt=f"{i}?", **{column: first + i % 2}) for i in range(4)]
    found = load_votes(save(tmp_path / "v.csv", rows))
    assert [p.text for p in found.prompts] == ["0?", "2?"]
    assert found.notes == ("2 left out: on a later turn",)


# ── Tables as other programs write them ──────────────────────────────────────────────────────────────────

SHEET = (
    "user;Prompt_ID;Prompt ;model_a;response_a;model_b;response_b; Outcome\r\n"
    "Zoë;1;„Wie groß?“;x;Größer, als gedacht;y;klein;0,5\r\nZoë;2;Où?;x;là;y;ici;1\r\n"
)
SHEETS = {
    "semicolons": SHEET.encode(),
    "semicolons in cp1252": SHEET.encode("cp1252"),
    "utf-16": SHEET.encode("utf-16"),
    "utf-16 of the other order": b"\xfe\xff" + SHEET.encode("utf-16-be"),
    "a mark": SHEET.encode("utf-8-sig"),
    "sep=;": b"sep=;\r\n" + SHEET.encode(),
    "tabs": SHEET.replace(";", "\t").encode(),
    "bars": SHEET.replace(";", "|").encode(),
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


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("prompt\nКак дела сегодня?\n".encode("cp1251"), "is no UTF-8 text.*Save it as UTF-8"),
        ("prompt\n今日はどうですか\n".encode("shift_jis"), "is no UTF-8 text"),
        ("prompt\nGrößer für Öl\n".encode()[:-7] + b"\xc3\n", "is no UTF-8 text"),
        ("prompt\nWhy?\n".encode("utf-16-le"), "cannot be used|lacks the columns"),
        (b"prompt,a;b\nWhy?,1;2\n", "',' or ';' may separate its cells. Save it with commas"),
    ],
    ids=["cyrillic", "japanese", "damaged utf-8", "utf-16 without its mark", "two separators"],
)
def test_what_could_be_something_else_is_refused_with_the_way_out(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=said):
        read_prompts(path)


def test_a_decimal_comma_is_a_figure_and_what_may_be_thousands_is_refused(tmp_path: Path) -> None:
    rows = [{"user": "ann", "prompt_id": "1", "prompt": "Why?", "model": m, "response": m, "score": score}
            for m, score in (("x", "7,5"), ("y", "7,25"), ("z", "10"))]  # fmt: skip
    found = load_votes(save(tmp_path / "v.csv", rows))
    assert [(p.model_a, p.model_b, p.outcome) for p in found.preferences] == [
        ("x", "y", 1.0), ("x", "z", 0.0), ("y", "z", 0.0),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="row 4: score is no number: 1,234"):
        load_votes(save(tmp_path / "w.csv", [*rows, rows[0] | {"model": "w", "score": "1,234"}]))


@pytest.mark.parametrize("kind", ["a list in an object", "one after the other", "utf-16", "a list", "lines"])
def test_json_is_read_however_it_is_laid_out(tmp_path: Path, kind: str) -> None:
    rows = [vote(), vote(user="bob", outcome=0.0)]
    lines = "\n".join(map(json.dumps, rows))
    data = {
        "a list in an object": json.dumps({"exported_at": "today", "count": 2, "votes": rows}, indent=2).encode(),
        "one after the other": "\n".join(json.dumps(row, indent=2) for row in rows).encode(),
        "utf-16": lines.encode("utf-16"), "a list": json.dumps(rows, indent=1).encode(), "lines": lines.encode(),
    }[kind]  # fmt: skip
    for name in ("v.json", "v.jsonl"):
        (tmp_path / name).write_bytes(data)
        assert [p.outcome for p in load_votes(str(tmp_path / name)).preferences] == [1.0, 0.0]


def test_one_object_over_several_lines_is_one_row_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text(json.dumps(vote(), indent=4), encoding="utf-8")
    assert len(load_votes(str(path)).preferences) == 1
    path.write_text(json.dumps(vote(), indent=4) + json.dumps(vote(), indent=4)[:40], encoding="utf-8")
    with pytest.raises(UsageError, match="row 2: not readable as JSON: "):
        load_votes(str(path))


# ── Open WebUI ───────────────────────────────────────────────────────────────────────────────────────────


def chat(first: str, second: str = "B", *, system: bool = False, **changes: Any) -> Row:
    """Feedback on the first of two answers."""
    messages: dict[str, Row] = {
        "q": {"parentId": "s" if system else None, "role": "user", "content": "Which?"},
        "a": {"parentId": "q", "role": "assistant", "model": "alpha", "content": first},
        "b": {"parentId": "q", "role": "assistant", "model": "beta", "content": second},
    } | ({"s": {"parentId": None, "role": "system", "content": "Be brief."}} if system else {})  # fmt: skip
    for id, values in changes.items():
        messages[id] |= values
    return {"user_id": "ann", "data": {"rating": 1}, "meta": {"message_id": "a"},
            "snapshot": {"chat": {"chat": {"history": {"messages": messages}}}}}  # fmt: skip


def answer_of(folder: Path, row: Row) -> str:
    """The text of the rated answer."""
    (folder / "f.json").write_text(json.dumps([row]), encoding="utf-8")
    return next(r.text for r in load_votes(str(folder / "f.json")).responses if r.model == "alpha")


FOLDED = [
    '<details type="reasoning" done="true">\n<summary>Thought</summary>\n> hm\n<details>\n<summary>x</summary>in'
    "</details>\nmore</details>\nThe answer.",
    '<details type="reasoning" done="true">\n> a tag <details> that never ends\n</details>\nThe answer.',
    '<details type="tool_calls" done="true" name="search" arguments="{&quot;q&quot;: 1}">\n<summary>Ran</summary>\n'
    '</details>\nThe answer.',
    '<details type="code_interpreter" done="true" output="1">\n```python\n1\n```\n</details>\n\nThe answer.',
    '<details type="reasoning">\n> hm\n</details>\n<details type="tool_calls">\n</details>\nThe answer.',
    "<think>hm\n</think>\n\nThe answer.",
]  # fmt: skip


@pytest.mark.parametrize("text", FOLDED)
def test_what_the_chat_folds_away_is_no_part_of_the_answer(tmp_path: Path, text: str) -> None:
    assert answer_of(tmp_path, chat(text)) == "The answer."


@pytest.mark.parametrize("text", [
    "<details>\n<summary>More</summary>\nOf my own.\n</details>\nEnd.", "Use `<details type=\"reasoning\">` in HTML.",
    " kept as it is \n", "Strip it:\n```python\nre.sub(r'<think>.*?</think>', '', text)\n```",
])  # fmt: skip
def test_what_an_answer_folds_itself_or_quotes_is_part_of_it(tmp_path: Path, text: str) -> None:
    assert answer_of(tmp_path, chat(text)) == text


def test_half_messages_and_feedback_without_a_figure_are_left_out_and_system_messages_are_no_turn(
    tmp_path: Path,
) -> None:
    rows = [
        chat("A", system=True),
        chat("A", a={"done": False}),
        chat("A") | {"data": {"rating": None}},
        chat("A") | {"data": {"comment": "nice"}},
        chat("A", b={"done": False}) | {"user_id": "bob"},
        chat("A", q={"parentId": "earlier"}),
    ]
    (tmp_path / "f.json").write_text(json.dumps(rows), encoding="utf-8")
    found = load_votes(str(tmp_path / "f.json"))
    assert len(found.preferences) == 1
    assert found.left_out == {
        2: "the rated answer was not finished", 3: "the feedback holds no rating", 4: "the feedback holds no rating",
        5: "no other model answered the prompt", 6: "the rating is of a later turn",
    }  # fmt: skip


def test_thoughts_before_own_answers_are_taken_off_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": p, "model": m, "response": f"{thought}{m} on {p} "}
            for p in PROMPTS for m, thought in (("x", ""), ("y", "<think>hm</think>\n"))]  # fmt: skip
    found = read_answers([Path(save(tmp_path / "a.jsonl", rows))])
    assert found.texts[prompt_id(PROMPTS[0]), "x"] == f"x on {PROMPTS[0]} "
    assert found.texts[prompt_id(PROMPTS[0]), "y"] == f"y on {PROMPTS[0]}"
    assert found.notes == ("answers whose thoughts at the beginning are not part of them: 12",)


# ── What is said, and how it is shown ────────────────────────────────────────────────────────────────────


def test_votes_that_repeat_are_said(tmp_path: Path) -> None:
    rows = [vote(), vote(outcome=0, user="bob"), vote(outcome=0)]
    turned = vote(model_a="y", response_a="so", model_b="x", response_b="because", outcome=0)
    found = load_votes(save(tmp_path / "v.jsonl", [*rows, *[vote()] * 9, turned]))
    assert found.notes == ("10 votes say what the same person said before of the same two responses: each counts",)


def test_one_model_under_several_tags_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = Model(digest="f" * 64)
    with FakeOllama(models={"llama3:8b": same, "llama3:latest": same, "my-copy": same, "other": Model()}) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        folders = ("--cache_dir", str(tmp_path / "c"), "--results_dir", str(tmp_path / "r"))
        (job,) = jobs_of("--models", "llama3:8b", "llama3:latest", "other", "my-copy", "--base_model", "x", *folders)
    assert "ONE MODEL UNDER SEVERAL TAGS, ranked as so many: llama3:8b = llama3:latest = my-copy." in job.notes


def test_columns_stay_in_line_whatever_the_width_of_a_name() -> None:
    """In characters a line is shorter by one for each wide one, and longer by one for each accent of its own."""
    names = {"plain": 0, "通义千问": -4, "e\u0301te\u0301": 2, "🦙 llama": -1, "ｗｉｄｅ": -4}
    head, _, *lines = table(["Model", "Wins"], [[name, "0.5"] for name in names])
    assert [len(line) for line in lines] == [len(head) + more for more in names.values()]


def test_a_byte_order_mark_before_the_first_line_of_standard_input_is_no_part_of_the_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cli import rank

    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeffWhy?\r\n\u00a0How? \n"))
    assert list(rank._batches("-")) == [["Why?", "How?"]]


HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e"


@pytest.mark.parametrize("column", ["user", "prompt_id", "model_a", "outcome", HOSTILE])
def test_a_refusal_never_sends_a_files_escape_codes_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str
) -> None:
    wrong = vote() | ({column: HOSTILE + "\ud800"} if column != HOSTILE else {"user": None, column: 1})
    rows = [vote(prompt_id=HOSTILE), vote(prompt_id=HOSTILE, prompt="other"), wrong]
    path = tmp_path / "v.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main.main(["--preferences", str(path)]) == 2
    said = capsys.readouterr().err
    assert "rows cannot be used" in said
    assert all(character.isprintable() or character == "\n" for character in said)
