"""Votes given elsewhere, each format from a small example: what is read, what is left out, what is refused by row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import main
from core.errors import UsageError
from people.read import Votes, load_votes

Row = dict[str, Any]


def save(path: Path, rows: list[Row]) -> str:
    """The rows in the path's format; lists as JSON in a CSV."""
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        flat = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
        pd.DataFrame(flat).to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    else:
        path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def read(found: Votes) -> list[tuple[str, str, str, str, float]]:
    """(user, prompt, model_a, model_b, outcome) of every vote."""
    prompts = {prompt.id: prompt.text for prompt in found.prompts}
    return [(v.user, prompts[v.prompt_id], v.model_a, v.model_b, v.outcome) for v in found.preferences]


def texts(found: Votes) -> dict[tuple[str, str], str]:
    prompts = {prompt.id: prompt.text for prompt in found.prompts}
    return {(prompts[r.prompt_id], r.model): r.text for r in found.responses}


def refused(source: str) -> str:
    """The refusal of a file, which stays as it was."""
    before = Path(source).read_bytes()
    with pytest.raises(UsageError) as caught:
        load_votes(source)
    assert "Nothing was changed" in str(caught.value)
    assert Path(source).read_bytes() == before
    return str(caught.value)


def named_one_by_one(path: Path, good: Row, wrong: list[tuple[Row, str]]) -> None:
    """Every wrong row is refused with its number and reason, and left out as asked."""
    source = save(path, [good, *(row for row, _ in wrong)])
    said = refused(source)
    for number, (_, reason) in enumerate(wrong, start=2):
        assert f"  row {number}: {reason}" in said
    found = load_votes(source, skip_bad_rows=True)
    assert len(found.preferences) == 1 and list(found.left_out) == list(range(2, len(wrong) + 2))


# ── Open WebUI ───────────────────────────────────────────────────────────────────────────────────────────


def chat(name: str, prompt: Any, answers: dict[str, tuple[str, str]], **changes: Row) -> Row:
    """A chat of one prompt: {message id: (model, text)}; ``changes`` to its messages by id."""
    ask = {"id": name, "parentId": None, "childrenIds": list(answers), "role": "user", "content": prompt}
    messages = {name: ask} | {
        id: {"id": id, "parentId": name, "childrenIds": [], "role": "assistant", "model": model, "content": text}
        for id, (model, text) in answers.items()
    }
    messages = {id: message | changes.get(id, {}) for id, message in messages.items()}
    return {"id": f"chat-{name}", "title": "t", "chat": {"history": {"messages": messages, "currentId": None}}}


def two(name: str, prompt: str = "Which?", **changes: Row) -> Row:
    return chat(name, prompt, {f"{name}a": ("alpha", "A"), f"{name}b": ("beta", "B")}, **changes)


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


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ((1, 9), (1, 7), 1.0),
        ((1, 8), (1, 8), 0.5),
        ((1, None), (1, 9), 0.5),
        ((1, None), (-1, None), 1.0),
        ((-1, 2), (-1, 4), 0.0),
        ((0, None), (1, 9), 0.0),
        ((1, 2), (-1, 4), 1.0),  # the thumb was turned round after the figure was given
        ((1, None), None, 1.0),
        ((0, None), None, 0.5),
        (None, ("-1", "3"), 1.0),
    ],
)
def test_two_answers_are_compared_by_thumbs_then_figures_and_one_rated_alone_with_the_other(
    first: Any, second: Any, outcome: float, tmp_path: Path
) -> None:
    rows = [feedback(two("q"), id, *rating) for id, rating in (("qa", first), ("qb", second)) if rating]
    found = load_votes(save(tmp_path / "feedback.json", rows))
    assert read(found) == [("ann", "Which?", "alpha", "beta", outcome)]


def test_all_feedback_on_one_prompt_is_merged_before_it_is_compared(tmp_path: Path) -> None:
    snapshot = chat("q", "Why?", {"a1": ("alpha", "A"), "b1": ("beta", "B"), "c1": ("gamma", "C")})
    again = feedback(snapshot, "a1", -1, when=1)  # the same answer, rated anew in row 1
    rows = [feedback(snapshot, "a1", 1, 9, when=5), feedback(snapshot, "b1", 1, 7), again]
    found = load_votes(save(tmp_path / "feedback.json", rows))
    assert read(found) == [
        ("ann", "Why?", "alpha", "beta", 1.0), ("ann", "Why?", "alpha", "gamma", 1.0),
        ("ann", "Why?", "beta", "gamma", 1.0),
    ]  # fmt: skip
    assert list(found.left_out) == [3]
    twice = chat("q", "Why?", {"a1": ("alpha", "A"), "a2": ("alpha", "A again"), "b1": ("beta", "B")})
    rows = [feedback(twice, "a2", -1, when=5), feedback(twice, "a1", 1, when=4)]
    found = load_votes(save(tmp_path / "again.json", rows))
    assert read(found) == [("ann", "Why?", "alpha", "beta", 0.0)], "the last rating of a model counts"
    assert texts(found)["Why?", "alpha"] == "A again" and list(found.left_out) == [2]


def test_open_webuis_special_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arena = two("q1", "Arena?", q1a={"model": "arena-model", "selectedModelId": "real-a", "arena": True},
                q1b={"model": "arena-model", "selectedModelId": "real-b", "arena": True})  # fmt: skip
    regenerated = chat("q2", "Again?", {"x1": ("alpha", "first"), "x2": ("alpha", "second"), "x3": ("beta", "B!")})
    failed = two("q4", "Failed?", q4b={"error": {"content": "out of memory"}, "content": ""})
    bare = feedback(two("q6", "Bare?")["chat"], "q6a", 0)  # the chat without the record around it
    rows = [
        feedback(arena, "q1a", 1),
        feedback(regenerated, "x2", 1),
        feedback(two("q3", q3={"parentId": "earlier"}), "q3a", 1),
        feedback(failed, "q4a", 1),
        feedback(failed, "q4b", -1),
        feedback(None, "q6a", 1),
        bare,
        feedback(two("q7", "Why?"), "q7b", -1, user="bob"),
    ]
    found = load_votes(save(tmp_path / "feedback.json", rows))
    assert sorted(read(found)) == [
        ("ann", "Again?", "alpha", "beta", 1.0), ("ann", "Arena?", "real-a", "real-b", 1.0),
        ("ann", "Bare?", "alpha", "beta", 0.5), ("bob", "Why?", "alpha", "beta", 1.0),
    ]  # fmt: skip
    assert texts(found)["Again?", "alpha"] == "second"
    reasons = {row: reason.split()[-1] for row, reason in found.left_out.items()}
    assert reasons == {3: "turn", 4: "prompt", 5: "finished", 6: "texts"}
    assert found.notes[0].startswith("read as Open WebUI's feedback export: 4 votes from 8 rows; 1 left out: ")
    assert main.main(["--preferences", str(tmp_path / "feedback.json"), "--check"]) == 0
    said = capsys.readouterr().out
    assert '  bob: alpha against beta: 1 on "Why?"\n' in said
    assert "  row 6: it has no snapshot of the chat, so no texts\n" in said


def test_wrong_feedback_is_named_by_its_row_or_left_out_as_asked(tmp_path: Path) -> None:
    good = feedback(two("q"), "qa", 1)
    wrong = [
        (good | {"user_id": None}, "user_id is missing"),
        (good | {"data": None}, "data is missing"),
        (feedback(two("q"), "qa", 2), "data.rating is none of 1, -1, 0: 2"),
        (good | {"meta": good["meta"] | {"message_id": "gone"}}, "the rated message (meta.message_id) is missing"),
        (feedback(two("q", qa={"parentId": "gone"}), "qa", 1), "the prompt of the rated message (parentId) is missing"),
        (feedback(two("q", qa={"content": ["A"]}), "qa", 1), "the rated answer is no text"),
        (feedback(two("q", q={"content": [{"type": "image"}]}), "qa", 1), "the prompt is no text"),
        (feedback(two("q", qa={"model": None}), "qa", 1), "the rated answer names no model"),
        (good | {"snapshot": {"chat": {"chat": {"history": {}}}}}, "the chat in the snapshot"),
    ]
    named_one_by_one(tmp_path / "feedback.json", good, wrong)


@pytest.mark.parametrize(("snapshot", "reason"), [
    (None, "no snapshot of the chat"), (chat("q", "?", {"z": ("alpha", "A")}), "no other model answered the prompt"),
])  # fmt: skip
def test_feedback_without_any_text_or_without_siblings_is_refused_with_its_rows(
    snapshot: Row | None, reason: str, tmp_path: Path
) -> None:
    said = refused(save(tmp_path / "feedback.json", [feedback(snapshot, "z", 1)]))
    assert "1 of 1 rows cannot be used" in said and reason in said
    assert "--skip_bad_rows" not in said


def test_a_truncated_export_is_named_where_it_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "feedback.json"
    rows = [feedback(two(f"q{i}", f"Prompt é {i}?"), f"q{i}a", 1) for i in range(4)]
    whole = json.dumps(rows, ensure_ascii=False, indent=2).encode()
    for left in (0.5, 0.9, 0.995):
        path.write_bytes(whole[: int(len(whole) * left)])
        kept = int(4 * left)
        said = refused(str(path))
        assert f"row {kept + 1}: not readable as JSON: " in said and "the file breaks off" in said
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


@pytest.fixture(params=["json", "csv", "parquet"])
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


def test_mt_bench_asks_about_each_turn_and_only_the_first_is_read(place: Path) -> None:
    both = turns("Why?", "alpha says", "And?", "more")
    rows = [battle(conversation_a=both, turn=turn, judge="author_0") for turn in (1, 2)]
    names = ("question_id", "model_a", "model_b", "winner", "judge", "conversation_a", "conversation_b", "turn")
    found = load_votes(save(place, [{name: row[name] for name in names} for row in rows]))
    assert read(found) == [("author_0", "Why?", "alpha", "beta", 1.0)]
    assert found.left_out == {2: "the vote is on a later turn"}


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_the_140k_with_contents_in_parts_and_nobody_named(suffix: str, tmp_path: Path) -> None:
    rows = [
        {"id": "1", "model_a": "alpha", "model_b": "beta", "winner": winner, "evaluation_order": order,
         "conversation_a": turns("Why?", "A", parts=True), "conversation_b": turns("Why?", "B", parts=True)}
        for winner, order in (("model_b", 1), ("both_bad", 1), ("model_a", 2))
    ]  # fmt: skip
    found = load_votes(save(tmp_path / f"arena.{suffix}", rows))
    assert read(found) == [("everyone", "Why?", "alpha", "beta", outcome) for outcome in (0.0, 0.5)]
    assert texts(found) == {("Why?", "alpha"): "A", ("Why?", "beta"): "B"}
    said = "1 left out: a follow-up in its session (evaluation_order above 1), no first turn; it does not say who voted"
    assert said in found.notes[0]


def test_the_55k_with_flags_and_lists_of_texts(place: Path) -> None:
    rows = [
        {"id": i, "model_a": "alpha", "model_b": "beta", "prompt": json.dumps(["Why?", "And?"]),
         "response_a": json.dumps(["A", "more"]), "response_b": json.dumps(["B", None]),
         **{f"winner_{side}": int(side == won) for side in ("model_a", "model_b", "tie")}}
        for i, won in enumerate(("model_a", "model_b", "tie", ""))
    ]  # fmt: skip
    found = load_votes(save(place, rows), skip_bad_rows=True)
    assert [outcome for *_, outcome in read(found)] == [1.0, 0.0, 0.5]
    assert texts(found) == {("Why?", "alpha"): "A", ("Why?", "beta"): "B"}
    assert found.left_out == {4: "not one of winner_model_a, winner_model_b, winner_tie is 1"}


def test_wrong_battles_are_named_by_their_row(tmp_path: Path) -> None:
    wrong = [
        (battle("model_c"), "winner is none of model_a, model_b, tie"),
        (battle(model_a=" "), "model_a is missing"),
        (battle(conversation_a=None), "conversation_a is missing"),
        (battle(conversation_a="Why?"), "conversation_a is no list of turns"),
        (battle(conversation_a=["Why?"]), "conversation_a holds turns without a role"),
        (battle(conversation_b=turns("Why?")), "conversation_b has no prompt of a user that an assistant answers"),
        (battle(conversation_a=turns("Why?", None)), "the first answer of conversation_a is no text"),
        (battle(conversation_b=turns("What?", "B")), "conversation_a and conversation_b begin with different prompts"),
    ]
    named_one_by_one(tmp_path / "arena.json", battle(), wrong)


@pytest.mark.parametrize(
    ("row", "kind", "lacking"),
    [
        ({k: v for k, v in battle().items() if k != "winner"} | {"win": "model_a"}, "the Arena's data sets", "winner"),
        ({"instruction": "?", "output_1": "A", "output_2": "B"}, "alpaca_eval's annotations", "generator_1"),
        ({"snapshot": {}, "data": {}, "meta": {}}, "Open WebUI's feedback export", "user_id"),
    ],
)
def test_an_export_with_a_wrong_column_is_refused_by_what_it_lacks(
    row: Row, kind: str, lacking: str, tmp_path: Path
) -> None:
    said = refused(save(tmp_path / "export.json", [row]))
    assert f"lacks the columns {lacking}" in said and f"It looks like {kind}" in said
    assert f"it has {next(iter(row))}" in said


# ── alpaca_eval ──────────────────────────────────────────────────────────────────────────────────────────


def annotation(preference: Any, **changes: Any) -> Row:
    row = {
        "instruction": "Why?", "output_1": "A", "generator_1": "alpha", "output_2": "B", "generator_2": "beta",
        "dataset": "helpful_base", "annotator": "gpt4", "preference": preference, "raw_completion": "x",
    }  # fmt: skip
    return row | changes


def test_alpaca_evals_annotations(tmp_path: Path) -> None:
    rows = [
        annotation(1), annotation(2.0, annotator="claude"), annotation(0), annotation(1.02), annotation(None),
        annotation(2, output_2="", instruction="Empty?"),
        annotation(1, annotator=None, instruction="Sort", input="3 1 2"),
    ]  # fmt: skip
    found = load_votes(save(tmp_path / "annotations.json", rows))
    assert read(found) == [
        ("gpt4", "Why?", "alpha", "beta", 1.0), ("claude", "Why?", "alpha", "beta", 0.0),
        ("gpt4", "Why?", "alpha", "beta", 0.5), ("gpt4", "Why?", "alpha", "beta", 0.98),
        ("gpt4", "Empty?", "alpha", "beta", 0.0), ("everyone", "Sort\n\n3 1 2", "alpha", "beta", 1.0),
    ]  # fmt: skip
    assert texts(found)["Empty?", "beta"] == ""
    assert found.left_out == {5: "the annotator gave no preference"}
    wrong = [
        (annotation(3), "preference is no number in [1, 2]: 3"), (annotation(1, output_1=["A"]), "output_1 is no text"),
        (annotation(1, instruction=""), "instruction is missing"),
    ]  # fmt: skip
    named_one_by_one(tmp_path / "wrong.json", annotation(1), wrong)


def test_own_columns_are_never_taken_for_an_export(tmp_path: Path) -> None:
    row = {
        "user": "ann", "prompt_id": "p", "prompt": "Why?", "model_a": "x", "response_a": "A", "model_b": "y",
        "response_b": "B", "outcome": 1, "winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1, "snapshot": {},
    }  # fmt: skip
    found = load_votes(save(tmp_path / "votes.json", [row]))
    assert (read(found), found.notes) == ([("ann", "Why?", "x", "y", 1.0)], ())
