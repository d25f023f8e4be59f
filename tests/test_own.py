"""What a user brings, from the files to the answer: a person, prompts, answers, votes."""

from __future__ import annotations

from pathlib import Path

import pytest
from begun import ME, PROMPTS, answers_of, write
from fake_ollama import FakeOllama
from whole_run import document as results

import main
from core.errors import UsageError
from people.read import load_votes
from stages.own import prompt_id, read_answers

TWO = ("llama3:8b", "gemma3:4b")


def run(folder: Path, *flags: str, base: str = "embedded") -> int:
    """The program with a cache and results in ``folder``."""
    folders = ["--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results")]
    return main.main([*folders, "--eval_freq", "100", "--base_model", base, *flags])


def test_votes_without_texts_are_joined_by_prompt_or_by_its_id(tmp_path: Path) -> None:
    rows = [{**row, "prompt_id": f"q{PROMPTS.index(row['prompt'])}"} for row in answers_of("x", "y")]
    answers = read_answers([write(tmp_path / "a.jsonl", rows)])
    bare = {"user": "ann", "model_a": "x", "model_b": "y", "outcome": 1}
    votes = [
        {**bare, "prompt": PROMPTS[0]},
        {**bare, "prompt_id": "q1", "user": "bob", "response_b": "Its own."},
        {**bare, "prompt": "Never answered"},
        {**bare, "prompt_id": True},
    ]
    found = load_votes(str(write(tmp_path / "v.jsonl", votes)), answers=answers)
    assert [(p.user, p.prompt_id) for p in found.preferences] == [
        ("ann", prompt_id(PROMPTS[0])), ("bob", prompt_id(PROMPTS[1])),
    ]  # fmt: skip
    assert [p.text for p in found.prompts] == list(PROMPTS[:2])
    texts = {**answers.texts, (prompt_id(PROMPTS[1]), "y"): "Its own."}
    assert {(r.prompt_id, r.model): r.text for r in found.responses}.items() <= texts.items()
    assert found.notes == ("2 left out: its texts are in no file of --responses",)
    for name in (True, None):
        with pytest.raises(UsageError, match=r"row 5: model_a is (no text|missing)"):
            load_votes(str(write(tmp_path / "v.jsonl", [*votes, {**votes[0], "model_a": name}])), answers=answers)


def test_a_person_and_prompts_of_one_s_own_from_their_files_to_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_base: str
) -> None:
    mine, me = tmp_path / "mine.txt", tmp_path / "me.toml"
    mine.write_text("\n".join(PROMPTS), encoding="utf-8")
    me.write_text(ME, encoding="utf-8")
    flags = ("--backend", "ollama", "--models", *TWO, "--persona", str(me), "--prompts", str(mine))
    with FakeOllama() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert run(tmp_path, *flags, base=tiny_base) == 0
        assert len(server.calls) == 6 * 2 + 6 * 2, "answers, and each pair in both orders; no prompt is written"
        first = results(tmp_path, "me")
        assert (first["persona"], first["counts"]["prompts"]) == ("me", 6)
        assert {row["prompt"] for row in first["per_prompt"]} <= set(PROMPTS)

        mine.write_text("\n".join(["And what of bees?", *reversed(PROMPTS)]), encoding="utf-8")
        assert run(tmp_path, *flags, base=tiny_base) == 0
        assert len(server.calls) == 24 + 2 + 2, "another line costs that line only, and the order of the lines nothing"
        assert run(tmp_path, *flags, "--rank", "Bees?", base=tiny_base) == 0
        assert len(server.calls) == 28 + 2, "the new prompt alone"
        assert "On prompts not seen in training" in capsys.readouterr().out


def test_own_answers_ask_the_judge_alone_and_votes_on_them_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_base: str
) -> None:
    models = ("llama3:8b", "gpt-9", "somebody")
    answers = write(tmp_path / "a.jsonl", answers_of(*models))
    flags = ("--backend", "ollama", "--responses", str(answers))
    with FakeOllama(models=("llama3:8b",)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert run(tmp_path, *flags, base=tiny_base) == 0
        assert dict(server.calls_by_model) == {"llama3:8b": 6 * 6}
        found = results(tmp_path, "coder")
        rated = {model["name"]: (model["elo"], model["ollama_tag"]) for model in found["models"]}
        assert rated == {"gpt-9": (None, None), "llama3:8b": (1171.0, None), "somebody": (None, None)}
        assert run(tmp_path, *flags, "--models", "gpt-9", "somebody", "--check", base=tiny_base) == 0
        assert "Calls still to make for coder: none" in capsys.readouterr().out, "a subset asks nothing"
    given = [
        {"user": "ann", "prompt": p, "model_a": "gpt-9", "model_b": "somebody", "outcome": i % 2}
        for i, p in enumerate(PROMPTS[:5])  # as few as --vote says are needed
    ]
    votes = write(tmp_path / "ballots.jsonl", given)
    assert run(tmp_path, "--preferences", str(votes), "--responses", str(answers), base=tiny_base) == 0
    assert results(tmp_path, "ballots")["backend"] == "votes"
    assert len(server.calls) == 36, "the judge was asked, and nobody else ever"
