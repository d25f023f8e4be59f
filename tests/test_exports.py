"""Votes given elsewhere, each format from a small example: what is read, what is left out, what is refused by row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import main
from people.read import Votes, load_votes

Row = dict[str, Any]
Read = list[tuple[str, str, str, str, float]]


def write(path: Path, rows: list[Row]) -> str:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def read(found: Votes) -> Read:
    """(user, prompt, model_a, model_b, outcome) of every vote."""
    prompts = {prompt.id: prompt.text for prompt in found.prompts}
    return [(v.user, prompts[v.prompt_id], v.model_a, v.model_b, v.outcome) for v in found.preferences]


def texts(found: Votes) -> dict[tuple[str, str], str]:
    prompts = {prompt.id: prompt.text for prompt in found.prompts}
    return {(prompts[r.prompt_id], r.model): r.text for r in found.responses}


def refused(source: str, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The program's words on a file that it refuses; the file stays as it was."""
    before = Path(source).read_bytes()
    assert main.main(["--preferences", source, *flags]) == 2
    said = capsys.readouterr().err
    assert "Nothing was changed" in said
    assert Path(source).read_bytes() == before
    return said


def shown(source: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Print-out of a file by --check."""
    assert main.main(["--preferences", source, "--check"]) == 0
    return capsys.readouterr().out


# ── Open WebUI ───────────────────────────────────────────────────────────────────────────────────────────

Answers = dict[str, tuple[str, str]]


def chat(name: str, prompt: Any, answers: Answers, **changes: Row) -> Row:
    """A chat of one prompt: {message id: (model, text)}; ``changes`` to its messages by id."""
    ask = {"id": name, "parentId": None, "childrenIds": list(answers), "role": "user", "content": prompt}
    messages = {name: ask} | {
        id: {"id": id, "parentId": name, "childrenIds": [], "role": "assistant", "model": model, "content": text}
        for id, (model, text) in answers.items()
    }
    messages = {id: message | changes.get(id, {}) for id, message in messages.items()}
    return {"id": f"chat-{name}", "title": "t", "chat": {"history": {"messages": messages, "currentId": None}}}


def feedback(
    snapshot: Row | None, message: str, rating: Any, detail: Any = None, user: str = "ann", when: int = 1
) -> Row:
    """An item of the export."""
    data: Row = {"rating": rating, "model_id": "?", "reason": "", "comment": "", "tags": []}
    if detail is not None:
        data["details"] = {"rating": detail}
    meta = {"arena": False, "message_id": message, "chat_id": "c", "message_index": 2}
    shot = {} if snapshot is None else {"snapshot": {"chat": snapshot}}
    return {
        "id": f"f-{message}-{when}", "user_id": user, "version": 0, "type": "rating", "data": data, "meta": meta,
        "created_at": when, "updated_at": when, **shot,
    }  # fmt: skip


THREE = {"a1": ("alpha", "A"), "b1": ("beta", "B"), "c1": ("gamma", "C")}


def two(name: str, prompt: str = "Which?", **changes: Row) -> Row:
    return chat(name, prompt, {f"{name}a": ("alpha", "A"), f"{name}b": ("beta", "B")}, **changes)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ((1, 9), (1, 7), 1.0),
        ((1, 6), (1, 8), 0.0),
        ((1, 8), (1, 8), 0.5),
        ((1, None), (1, 9), 0.5),
        ((1, None), (-1, None), 1.0),
        ((-1, 2), (-1, 4), 0.0),
        ((-1, None), (-1, None), 0.5),
        ((0, None), (1, 9), 0.0),
        ((1, 2), (-1, 4), 1.0),  # the thumb was turned round after the figure was given
        ((1, None), None, 1.0),
        ((-1, None), None, 0.0),
        ((0, None), None, 0.5),
        (None, ("-1", "3"), 1.0),
    ],
)
def test_two_answers_are_compared_by_figures_then_thumbs_and_one_rated_alone_with_the_other(
    first: Any, second: Any, outcome: float, tmp_path: Path
) -> None:
    given = [("qa", first), ("qb", second)]
    rows = [feedback(two("q"), id, *rating) for id, rating in given if rating]
    found = load_votes(write(tmp_path / "feedback.json", rows))
    assert read(found) == [("ann", "Which?", "alpha", "beta", outcome)]


def test_all_feedback_on_one_prompt_is_merged_before_it_is_compared(tmp_path: Path) -> None:
    snapshot = chat("q", "Why?", THREE)
    again = feedback(snapshot, "a1", -1, when=1)  # the same answer, rated anew in row 1
    rows = [feedback(snapshot, "a1", 1, 9, when=5), feedback(snapshot, "b1", 1, 7), again]
    found = load_votes(write(tmp_path / "feedback.json", rows))
    assert read(found) == [
        ("ann", "Why?", "alpha", "beta", 1.0), ("ann", "Why?", "alpha", "gamma", 1.0),
        ("ann", "Why?", "beta", "gamma", 1.0),
    ]  # fmt: skip
    assert list(found.left_out) == [3]
    twice = chat("q", "Why?", {"a1": ("alpha", "A"), "a2": ("alpha", "A again"), "b1": ("beta", "B")})
    rows = [feedback(twice, "a2", -1, when=5), feedback(twice, "a1", 1, when=4)]
    found = load_votes(write(tmp_path / "again.json", rows))
    assert read(found) == [("ann", "Why?", "alpha", "beta", 0.0)], "the last rating of a model counts"
    assert texts(found)["Why?", "alpha"] == "A again" and list(found.left_out) == [2]
    bare = feedback(two("q")["chat"], "qa", 0)  # the chat without the record around it
    assert read(load_votes(write(tmp_path / "bare.json", [bare])))[0][-1] == 0.5


def test_open_webuis_special_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arena = two("q1", "Arena?", q1a={"model": "arena-model", "selectedModelId": "real-a", "arena": True},
                q1b={"model": "arena-model", "selectedModelId": "real-b", "arena": True})  # fmt: skip
    thought = '<details type="reasoning" done="true" duration="3">\n<summary>Thought</summary>\n> hm\n</details>\nB!'
    regenerated = chat("q2", "Again?", {"x1": ("alpha", "first"), "x2": ("alpha", "second"), "x3": ("beta", thought)})
    later = two("q3")
    later["chat"]["history"]["messages"]["q3"]["parentId"] = "earlier"
    failed = two("q4", "Failed?", q4b={"error": {"content": "out of memory"}, "content": ""})
    rows = [
        feedback(arena, "q1a", 1),
        feedback(regenerated, "x2", 1),
        feedback(later, "q3a", 1),
        feedback(chat("q5", "Alone?", {"z": ("alpha", "A")}), "z", 1),
        feedback(failed, "q4a", 1),
        feedback(failed, "q4b", -1),
        feedback(None, "q6a", 1),
        feedback(two("q7", "Why?"), "q7b", -1, user="bob"),
        feedback(two("q8", "Why?", q8a={"content": "other"}), "q8b", 1, user="cid"),  # alpha's first text counts
    ]
    found = load_votes(write(tmp_path / "feedback.json", rows))
    assert read(found) == [
        ("ann", "Arena?", "real-a", "real-b", 1.0),
        ("ann", "Again?", "alpha", "beta", 1.0),
        ("bob", "Why?", "alpha", "beta", 1.0),
    ]
    assert texts(found)["Again?", "alpha"] == "second"
    assert texts(found)["Again?", "beta"] == "B!"
    assert {row: reason.split()[-1] for row, reason in found.left_out.items()} == {
        3: "turn", 4: "prompt", 5: "prompt", 6: "message", 7: "texts", 9: "prompt",
    }  # fmt: skip
    (note,) = found.notes
    assert note.startswith("read as Open WebUI's feedback export: 3 votes from 9 rows; 2 left out: no other model")
    assert "thoughts and tool calls in 1 answers are not part of them" in note
    said = shown(str(tmp_path / "feedback.json"), capsys)
    assert note in said
    assert '  bob: alpha against beta: 1 on "Why?"\n' in said
    assert "  row 7: it has no snapshot of the chat, so no texts\n" in said


def changed(row: Row, part: str, **values: Any) -> Row:
    return row | {part: row[part] | values}


GOOD = feedback(two("q"), "qa", 1)
WRONG_FEEDBACK = [
    (GOOD | {"user_id": None}, "user_id is missing"),
    (GOOD | {"data": None}, "data is missing"),
    (feedback(two("q"), "qa", 2), "data.rating is none of 1, -1, 0: 2"),
    (feedback(two("q"), "qa", 1, 11), "data.details.rating is no number from 1 to 10: 11"),
    (feedback(two("q"), "qa", 1, "much"), "data.details.rating is no number from 1 to 10: much"),
    (changed(GOOD, "meta", message_id="gone"), "the rated message (meta.message_id) is missing"),
    (feedback(two("q", qa={"parentId": "gone"}), "qa", 1), "the prompt of the rated message (parentId) is missing"),
    (feedback(two("q", qa={"content": ["A"]}), "qa", 1), "the rated answer is no text"),
    (feedback(two("q", q={"content": [{"type": "image"}]}), "qa", 1), "the prompt is no text"),
    (feedback(two("q", qa={"model": None}), "qa", 1), "the rated answer names no model"),
    (GOOD | {"snapshot": {"chat": {"chat": {"history": {}}}}}, "the chat in the snapshot"),
    ({"id": "?"}, "user_id is missing"),
]


def test_wrong_feedback_is_named_by_its_row_or_left_out_as_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [GOOD, *(row for row, _ in WRONG_FEEDBACK[:9])]
    said = refused(write(tmp_path / "few.json", few), capsys, "--check")
    assert "9 of 10 rows cannot be used" in said
    for number, (_, reason) in enumerate(WRONG_FEEDBACK[:9], start=2):
        assert f"  row {number}: {reason}\n" in said
    source = write(tmp_path / "all.json", [GOOD, *(row for row, _ in WRONG_FEEDBACK), *[GOOD] * 20])
    found = load_votes(source, skip_bad_rows=True)
    assert [reason.split(" (snap")[0] for reason in found.skipped.values()] == [r for _, r in WRONG_FEEDBACK]
    assert len(found.preferences) == 1


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([feedback(None, "qa", 1), feedback(None, "qb", 1)], "no snapshot of the chat"),
        ([feedback(chat("q", "?", {"z": ("alpha", "A")}), "z", 1)] * 2, "no other model answered the prompt"),
    ],
)
def test_feedback_without_any_text_or_without_siblings_is_refused_with_its_rows(
    rows: list[Row], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(write(tmp_path / "feedback.json", rows), capsys)
    assert "2 of 2 rows cannot be used" in said
    assert reason in said
    assert "--skip_bad_rows" not in said


@pytest.mark.parametrize("left", [0.5, 0.9, 0.995])
def test_a_truncated_export_is_named_where_it_breaks_off(
    left: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [feedback(two(f"q{i}", f"Prompt é {i}?"), f"q{i}a", 1) for i in range(4)]
    path = tmp_path / "feedback.json"
    whole = json.dumps(rows, ensure_ascii=False, indent=2).encode()
    path.write_bytes(whole[: int(len(whole) * left)])
    kept = int(4 * left)
    said = refused(str(path), capsys)
    assert f"row {kept + 1}: not readable as JSON: " in said
    assert "the file breaks off" in said
    assert len(load_votes(str(path), skip_bad_rows=True).preferences) == kept


# ── The Arena's data sets ────────────────────────────────────────────────────────────────────────────────


def turns(*said: Any, parts: bool = False) -> list[Row]:
    contents = [[{"type": "text", "text": text, "image": None}] if parts else text for text in said]
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def battle(winner: str = "model_a", a: str = "alpha", b: str = "beta", prompt: str = "Why?", **changes: Any) -> Row:
    """A row of the 33k."""
    row = {
        "question_id": "x", "model_a": a, "model_b": b, "winner": winner, "judge": "arena_user_1",
        "conversation_a": turns(prompt, f"{a} says"), "conversation_b": turns(prompt, f"{b} says"), "turn": 1,
        "anony": True, "language": "English", "tstamp": 1.5, "openai_moderation": {"flagged": False},
    }  # fmt: skip
    return row | changes


def without(name: str) -> Row:
    return {column: value for column, value in battle().items() if column != name}


def save(path: Path, rows: list[Row]) -> str:
    """The rows in the path's format; lists as JSON in a CSV."""
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        flat = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
        pd.DataFrame(flat).to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        return write(path, rows)
    return str(path)


@pytest.fixture(params=["json", "jsonl", "csv", "parquet"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"arena.{request.param}"


def test_the_33k_and_the_100k_with_every_winner_and_longer_conversations(place: Path) -> None:
    long = turns("Go on?", "alpha says", "And?", "more")
    rows = [
        battle("model_a"), battle("model_b", judge="arena_user_2"), battle("tie", a="gamma"),
        battle("tie (bothbad)", prompt="How?"), battle(a="beta"),
        battle(prompt="Go on?", conversation_a=long, turn=2), battle(prompt="Why?", conversation_b=turns("Why?", "no")),
        battle("tie", judge=None, judge_hash="f00"),  # the 100k
    ]  # fmt: skip
    found = load_votes(save(place, rows))
    assert read(found) == [
        ("arena_user_1", "Why?", "alpha", "beta", 1.0), ("arena_user_2", "Why?", "alpha", "beta", 0.0),
        ("arena_user_1", "Why?", "gamma", "beta", 0.5), ("arena_user_1", "How?", "alpha", "beta", 0.5),
        ("arena_user_1", "Go on?", "alpha", "beta", 1.0), ("f00", "Why?", "alpha", "beta", 0.5),
    ]  # fmt: skip
    assert texts(found)["Go on?", "alpha"] == "alpha says"
    assert found.left_out == {
        5: "the same model answers on both sides", 7: "on a second text of one model to the same prompt",
    }  # fmt: skip
    assert "1 votes were given after more turns than the first" in found.notes[0]


def test_mt_bench_asks_about_each_turn_and_only_the_first_is_read(place: Path) -> None:
    both = turns("Why?", "alpha says", "And?", "more")
    rows = [battle(conversation_a=both, turn=turn, judge="author_0") for turn in (1, 2)]
    names = ("question_id", "model_a", "model_b", "winner", "judge", "conversation_a", "conversation_b", "turn")
    found = load_votes(save(place, [{name: row[name] for name in names} for row in rows]))
    assert read(found) == [("author_0", "Why?", "alpha", "beta", 1.0)]
    assert found.left_out == {2: "the vote is on a later turn"}
    assert "more turns" not in found.notes[0]


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_the_140k_with_contents_in_parts_and_nobody_named(suffix: str, tmp_path: Path) -> None:
    rows = [
        {"id": "1", "model_a": "alpha", "model_b": "beta", "winner": winner, "evaluation_order": 1,
         "conversation_a": turns("Why?", "A", parts=True), "conversation_b": turns("Why?", "B", parts=True)}
        for winner in ("model_b", "both_bad")
    ]  # fmt: skip
    found = load_votes(save(tmp_path / f"arena.{suffix}", rows))
    assert read(found) == [("everyone", "Why?", "alpha", "beta", outcome) for outcome in (0.0, 0.5)]
    assert texts(found) == {("Why?", "alpha"): "A", ("Why?", "beta"): "B"}
    assert "it does not say who voted" in found.notes[0]


def test_the_55k_with_flags_and_lists_of_texts(place: Path) -> None:
    rows = [
        {"id": i, "model_a": "alpha", "model_b": "beta", "prompt": json.dumps(["Why?", "And?"]),
         "response_a": json.dumps(["A", "more"]), "response_b": json.dumps(["B", None]),
         **{f"winner_{side}": int(side == won) for side in ("model_a", "model_b", "tie")}}
        for i, won in enumerate(("model_a", "model_b", "tie", ""))
    ]  # fmt: skip
    found = load_votes(save(place, rows[:3]))
    assert [outcome for *_, outcome in read(found)] == [1.0, 0.0, 0.5]
    assert texts(found) == {("Why?", "alpha"): "A", ("Why?", "beta"): "B"}
    bad = load_votes(save(place, rows), skip_bad_rows=True).skipped
    assert bad == {4: "not one of winner_model_a, winner_model_b, winner_tie is 1"}


WRONG_BATTLES = [
    (battle("model_c"), "winner is none of model_a, model_b, tie"),
    (battle(model_a=" "), "model_a is missing"),
    (battle(conversation_a=None), "conversation_a is missing"),
    (battle(conversation_a="Why?"), "conversation_a is no list of turns"),
    (battle(conversation_a=["Why?"]), "conversation_a holds turns without a role"),
    (battle(conversation_b=turns("Why?")), "conversation_b has no prompt of a user that an assistant answers"),
    (battle(conversation_a=turns("Why?", None)), "the first answer of conversation_a is no text"),
    (battle(conversation_b=turns("Why?", [{"type": "image", "image": "x"}])), "the first answer of conversation_b is"),
    (battle(conversation_b=turns("What?", "B")), "conversation_a and conversation_b begin with different prompts"),
]


def test_wrong_battles_are_named_by_their_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "arena.json", [battle(), *(row for row, _ in WRONG_BATTLES)])
    said = refused(source, capsys)
    for number, (_, reason) in enumerate(WRONG_BATTLES, start=2):
        assert f"  row {number}: {reason}" in said
    assert "--skip_bad_rows" in said
    assert len(load_votes(source, skip_bad_rows=True).preferences) == 1


@pytest.mark.parametrize(
    ("rows", "kind", "lacking"),
    [
        ([without("winner") | {"win": "model_a"}], "the Arena's data sets", "winner"),
        ([without("conversation_a")], "the Arena's data sets", "conversation_a"),
        ([{"instruction": "?", "output_1": "A", "output_2": "B"}], "alpaca_eval's annotations", "generator_1"),
        ([{"snapshot": {}, "data": {}, "meta": {}}], "Open WebUI's feedback export", "user_id"),
    ],
)  # fmt: skip
def test_an_export_with_a_wrong_column_is_refused_by_what_it_lacks(
    rows: list[Row], kind: str, lacking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(write(tmp_path / "export.json", rows), capsys)
    assert f"looks like {kind} and lacks: {lacking}" in said
    assert f"Its columns are {next(iter(rows[0]))}" in said


# ── alpaca_eval ──────────────────────────────────────────────────────────────────────────────────────────


def annotation(preference: Any, **changes: Any) -> Row:
    row = {
        "instruction": "Why?", "output_1": "A", "generator_1": "alpha", "output_2": "B", "generator_2": "beta",
        "dataset": "helpful_base", "annotator": "gpt4", "preference": preference, "raw_completion": "x",
    }  # fmt: skip
    return row | changes


def test_alpaca_evals_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        annotation(1), annotation(2.0, annotator="claude"), annotation(1.5), annotation(0), annotation(1.02),
        annotation(None), annotation(1, generator_2="alpha"), annotation(2, output_2="", instruction="Empty?"),
        annotation(1, output_2="another"), annotation(1, annotator=None, instruction="Sort", input="3 1 2"),
    ]  # fmt: skip
    found = load_votes(write(tmp_path / "annotations.json", rows))
    assert read(found) == [
        ("gpt4", "Why?", "alpha", "beta", 1.0), ("claude", "Why?", "alpha", "beta", 0.0),
        ("gpt4", "Why?", "alpha", "beta", 0.5), ("gpt4", "Why?", "alpha", "beta", 0.5),
        ("gpt4", "Why?", "alpha", "beta", 0.98), ("gpt4", "Empty?", "alpha", "beta", 0.0),
        ("everyone", "Sort\n\n3 1 2", "alpha", "beta", 1.0),
    ]  # fmt: skip
    assert texts(found)["Empty?", "beta"] == ""
    assert found.left_out == {
        6: "the annotator gave no preference", 7: "the same model answers on both sides",
        9: "on a second text of one model to the same prompt",
    }  # fmt: skip
    assert found.notes[0].startswith("read as alpaca_eval's annotations: 7 votes from 10 rows; 1 left out: ")
    wrong = [annotation(3), annotation("b"), annotation(1, output_1=["A"]), annotation(1, instruction="")]
    said = refused(write(tmp_path / "wrong.json", [annotation(1), *wrong]), capsys)
    reasons = (
        "preference is no number in [1, 2]: 3", "preference is no number in [1, 2]: b", "output_1 is no text",
        "instruction is missing",
    )  # fmt: skip
    for number, reason in enumerate(reasons, start=2):
        assert f"  row {number}: {reason}" in said


def test_own_columns_are_never_taken_for_an_export(tmp_path: Path) -> None:
    row = {
        "user": "ann", "prompt_id": "p", "prompt": "Why?", "model_a": "x", "response_a": "A", "model_b": "y",
        "response_b": "B", "outcome": 1, "winner_model_a": 0, "snapshot": {},
    }  # fmt: skip
    found = load_votes(write(tmp_path / "votes.json", [row]))
    assert (read(found), found.notes) == ([("ann", "Why?", "x", "y", 1.0)], ())
