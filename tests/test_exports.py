"""Votes given elsewhere, each format from a small example: what is read, what is left out, what is refused by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vote_files import Row, save

from core.errors import UsageError
from people.read import Votes, load_votes

Read = list[tuple[str, str, str, str, float]]


def read(found: Votes) -> Read:
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


# ── Open WebUI ───────────────────────────────────────────────────────────────────────────────────────────


def chat(name: str, prompt: Any, answers: dict[str, tuple[str, str]], **changes: Row) -> Row:
    """A chat of one prompt: {message id: (model, text)}; ``changes`` to its messages by id."""
    messages: Row = {name: {"parentId": None, "role": "user", "content": prompt}}
    for id, (model, text) in answers.items():
        messages[id] = {"parentId": name, "role": "assistant", "model": model, "content": text}
    messages = {id: message | changes.get(id, {}) for id, message in messages.items()}
    return {"id": f"chat-{name}", "chat": {"history": {"messages": messages}}}


def two(name: str, prompt: str = "Which?", **changes: Row) -> Row:
    return chat(name, prompt, {f"{name}a": ("alpha", "A"), f"{name}b": ("beta", "B")}, **changes)


def feedback(
    snapshot: Row | None, message: str, rating: Any, detail: Any = None, user: str = "ann", when: int = 1
) -> Row:
    """An item of the export."""
    data, shot = {"rating": rating, "details": detail and {"rating": detail}}, snapshot and {"chat": snapshot}
    return {"user_id": user, "data": data, "meta": {"message_id": message}, "updated_at": when, "snapshot": shot}


@pytest.mark.parametrize(("first", "second", "outcome"), [
    ((1, 9), (1, 7), 1.0), ((1, None), (1, 9), 0.5), ((0, None), (-1, None), 1.0), ((-1, 2), (-1, 4), 0.0),
    ((1, 2), (-1, 4), 1.0),  # the thumb was turned round after the figure was given
    ((0, None), None, 0.5), (None, ("-1", "3"), 1.0),
])  # fmt: skip
def test_two_answers_are_compared_by_thumbs_then_figures_and_one_rated_alone_with_the_other(
    first: Any, second: Any, outcome: float, tmp_path: Path
) -> None:
    seen = two("q", qa={"selectedModelId": " "})
    rows = [feedback(seen, id, *rating) for id, rating in (("qa", first), ("qb", second)) if rating]
    found = load_votes(save(tmp_path / "feedback.json", rows))
    assert read(found) == [("ann", "Which?", "alpha", "beta", outcome)]


def test_open_webuis_special_cases(tmp_path: Path) -> None:
    """Among them three ratings of answers to one prompt, where the last on a model counts."""
    answers = {"a1": ("alpha", "A"), "a2": ("alpha", "A again"), "b1": ("beta", "B"), "c1": ("gamma", "C")}
    one = chat("q", "Why?", answers)
    arena = two("q1", "Arena?", q1a={"model": "arena-model", "selectedModelId": "real-a", "arena": True},
                q1b={"model": "arena-model", "selectedModelId": "real-b", "arena": True})  # fmt: skip
    system = two("q2", "System?", q2={"parentId": "s"}, q2b={"done": True})
    system["chat"]["history"]["messages"]["s"] = {"parentId": None, "role": "system", "content": "Be brief."}
    failed = two("q4", "Failed?", q4b={"error": {"content": "out of memory"}, "content": ""})
    rows = [
        feedback(one, "a2", 1, 9, when=5), feedback(one, "b1", 1, 7, when=4), feedback(one, "a1", -1, when=3),
        feedback(arena, "q1a", 1, when=6), feedback(system, "q2b", 1, when=7),
        feedback(two("q3", q3={"parentId": "earlier"}), "q3a", 1), feedback(failed, "q4a", 1),
        feedback(two("q5", q5a={"done": False}), "q5a", 1), feedback(two("q5"), "q5a", None),
        feedback(None, "q6a", 1), feedback(chat("q8", "?", {"z": ("alpha", "A")}), "z", 1),
        feedback(two("q7", "Bare?")["chat"], "q7b", -1, user="bob", when=8),  # the chat without the record around it
    ]  # fmt: skip
    found = load_votes(save(tmp_path / "feedback.json", rows))
    assert read(found) == [
        ("ann", "Why?", "alpha", "beta", 1.0), ("ann", "Why?", "alpha", "gamma", 1.0),
        ("ann", "Why?", "beta", "gamma", 1.0), ("ann", "Arena?", "real-a", "real-b", 1.0),
        ("ann", "System?", "alpha", "beta", 0.0), ("bob", "Bare?", "alpha", "beta", 1.0),
    ]  # fmt: skip
    assert texts(found)["Why?", "alpha"] == "A again"
    assert {row: reason.split()[-1] for row, reason in found.left_out.items()} == {
        3: "row", 6: "turn", 7: "prompt", 8: "finished", 9: "rating", 10: "texts", 11: "prompt",
    }  # fmt: skip
    assert found.notes[0].startswith("read as Open WebUI's feedback export: 6 votes from 12 rows; 2 left out: ")
    assert "1 of 1 rows cannot be used" in refused(save(tmp_path / "feedback.json", [rows[10]])), "all are left out"


# What the chat folds away, and what an answer folds or quotes itself.
FOLDED = [
    '<details type="reasoning" done="true">\n<summary>Thought</summary>\n> hm\n<details>\n<summary>x</summary>in'
    "</details>\nmore</details>\nThe answer.",
    '<details type="reasoning">\n> hm\n</details>\n<details type="tool_calls" arguments="{&quot;q&quot;: 1}">'
    '\n</details>\n<details type="code_interpreter">\n```python\n1\n```\n</details>\n\nThe answer.',
    "<think>hm\n</think>\n\nThe answer.",
]
OWN = [
    "<details>\n<summary>More</summary>\nOf my own.\n</details>\nEnd.", 'Use `<details type="reasoning">` in HTML.',
    "Strip it:\n```python\nre.sub(r'<think>.*?</think>', '', text)\n```",
]  # fmt: skip


@pytest.mark.parametrize(("text", "kept"), [*((text, "The answer.") for text in FOLDED), *zip(OWN, OWN, strict=True)])
def test_only_what_the_chat_folds_away_is_no_part_of_an_answer(tmp_path: Path, text: str, kept: str) -> None:
    found = load_votes(save(tmp_path / "f.json", [feedback(two("q", qa={"content": text}), "qa", 1)]))
    assert texts(found)["Which?", "alpha"] == kept


# ── The Arena's data sets and alpaca_eval ────────────────────────────────────────────────────────────────


def turns(*said: Any, parts: bool = False) -> list[Row]:
    contents = [[{"type": "text", "text": text, "image": None}] if parts else text for text in said]
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def battle(winner: str = "model_a", a: str = "alpha", b: str = "beta", prompt: str = "Why?", **changes: Any) -> Row:
    """A row of MT-bench."""
    talks = {"conversation_a": turns(prompt, f"{a} says"), "conversation_b": turns(prompt, f"{b} says")}
    return {"model_a": a, "model_b": b, "winner": winner, "judge": "ann", "turn": 1} | talks | changes


def annotation(preference: Any, **changes: Any) -> Row:
    row = {"instruction": "Why?", "output_1": "A", "generator_1": "alpha", "output_2": "B", "generator_2": "beta"}
    return row | {"annotator": "gpt4", "preference": preference} | changes


SETS: dict[str, tuple[list[Row], Read, dict[int, str]]] = {
    "MT-bench, the 33k and the 100k": (
        [row | {"tstamp": 1.5} for row in (
            battle("model_b", judge="bob"), battle("tie (bothbad)", prompt="How?"), battle(a="beta"),
            battle(prompt="Go on?", conversation_a=turns("Go on?", "alpha says", "And?", "more"), turn=2),
            battle(prompt="Go on?", conversation_b=turns("Go on?", "no")), battle("tie", judge=None, judge_hash="f00"),
            battle("model_c"), battle(conversation_b=turns("What?", "B")),
        )],
        [("bob", "Why?", "alpha", "beta", 0.0), ("ann", "How?", "alpha", "beta", 0.5),
         ("ann", "Go on?", "alpha", "beta", 1.0), ("f00", "Why?", "alpha", "beta", 0.5)],
        {3: "the same model answers on both sides", 5: "on a second text of one model to the same prompt",
         7: "winner is none of model_a, model_b, tie",
         8: "conversation_a and conversation_b begin with different prompts"},
    ),
    "the 140k": (
        [battle(winner, judge=None, evaluation_order=order, **{f"conversation_{side}": turns("Why?", text, parts=True)
                for side, text in (("a", "alpha says"), ("b", "B"))})
         for winner, order in (("model_b", 1), ("both_bad", 1), ("model_a", 2))],
        [("everyone", "Why?", "alpha", "beta", outcome) for outcome in (0.0, 0.5)], {3: "on a later turn"},
    ),
    "the 55k": (
        [{"id": i, "model_a": "alpha", "model_b": "beta", "prompt": json.dumps(["Why?", "And?"]),
          "response_a": json.dumps(["alpha says", "more"]), "response_b": json.dumps(["beta says", None]),
          **{f"winner_{side}": int(side == won) for side in ("model_a", "model_b", "tie")}}
         for i, won in enumerate(("model_a", "model_b", "tie", ""))],
        [("everyone", "Why?", "alpha", "beta", outcome) for outcome in (1.0, 0.0, 0.5)],
        {4: "winner is none of model_a, model_b, tie"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["json", "csv", "parquet"])
@pytest.mark.parametrize("kind", SETS)
def test_the_arenas_data_sets_with_every_winner_and_longer_conversations(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    rows, votes, left_out = SETS[kind]
    found = load_votes(save(tmp_path / f"arena.{suffix}", rows), skip_bad_rows=True)
    assert read(found) == votes and found.left_out.keys() == left_out.keys()
    assert all(found.left_out[row].startswith(reason) for row, reason in left_out.items())
    assert {text for (_, model), text in texts(found).items() if model == "alpha"} == {"alpha says"}


def test_alpaca_evals_annotations(tmp_path: Path) -> None:
    rows = [
        annotation(1), annotation(2.0, annotator="claude"), annotation(1.5), annotation(1.02), annotation(None),
        annotation(1, annotator=None, instruction="Sort", input="3 1 2", output_2=""),
    ]  # fmt: skip
    found = load_votes(save(tmp_path / "annotations.json", rows))
    assert [(user, outcome) for user, *_, outcome in read(found)] == [
        ("gpt4", 1.0), ("claude", 0.0), ("gpt4", 0.5), ("gpt4", 0.98), ("everyone", 1.0)
    ]  # fmt: skip
    assert [prompt.text for prompt in found.prompts] == ["Why?", "Sort\n\n3 1 2"]
    assert found.left_out == {5: "the annotator gave no preference"}
    rows = [annotation(i % 2, instruction=f"{i}?") for i in range(9)]
    assert "the votes are coded 0, 1, " in refused(save(tmp_path / "a.json", rows))
    draws = load_votes(save(tmp_path / "a.json", [annotation(p, instruction=f"{p}?") for p in (0, 1.02, 1.98)]))
    assert [outcome for *_, outcome in read(draws)] == [0.5, 0.98, 0.02]
    for odd in ("output_1", True, [1], "1,500"):
        said = refused(save(tmp_path / "a.jsonl", [annotation(1), annotation(odd)]))
        assert f"row 2: preference is no number in [1, 2]: {odd}" in said
    bare = {name: value for name, value in annotation(1).items() if name != "preference"}
    assert "lacks the columns preference; it has instruction, " in refused(save(tmp_path / "a.json", [bare]))
