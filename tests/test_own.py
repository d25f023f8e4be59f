"""What a user brings: a person in a file, prompts and answers of their own, and messages that guess what was meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from begun import ME, PROMPTS, answers_of, write
from fake_ollama import FakeOllama
from tiny_models import save_model

import main
from cli import own
from cli.flags import parser
from core.errors import UsageError
from people.read import load_votes
from stages.own import prompt_id, read_answers

TWO = ("llama3:8b", "gemma3:4b")


def run(folder: Path, *flags: str, base: str = "embedded") -> int:
    """The program with a cache and results in ``folder``."""
    folders = ["--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results")]
    return main.main([*folders, "--eval_freq", "100", "--base_model", base, *flags])


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A reward base that costs nothing."""
    return str(save_model(tmp_path_factory.mktemp("base"), "llama"))


def results(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / "results" / f"evaluation_results_{name}.json").read_text(encoding="utf-8")))


# ── A person in a file ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "said"), [("me.toml", "lacks topics"), ("Coder.toml", "is a persona of config.py")])
def test_a_person_that_can_not_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (tmp_path / name).write_text(ME, encoding="utf-8")
    assert run(tmp_path, "--persona", str(tmp_path / name)) == 2
    errors = capsys.readouterr().err
    assert said in errors and name in errors
    assert not (tmp_path / "cache").exists()


def test_an_entry_of_config_with_an_unknown_field_is_said_and_not_traced(tmp_path: Path) -> None:
    folder = Path(main.__file__).parent
    text = (folder / "config.py").read_text(encoding="utf-8").replace('title="Coder",', 'title="Coder", tone="dry",')
    (tmp_path / "config.py").write_text(text, encoding="utf-8")
    (tmp_path / "main.py").write_text((folder / "main.py").read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "config.py can't be used: " in done.stderr and "'tone'" in done.stderr
    assert "Traceback" not in done.stderr


# ── Own answers ──────────────────────────────────────────────────────────────────────────────────────────


WRONG_ANSWERS: list[tuple[list[dict[str, Any]], tuple[str, ...], str]] = [
    (answers_of("x"), (), "there is only x"),
    (answers_of("x", "y"), ("--models", "x", "z"), "--models z: the models of --responses are x, y"),
    (answers_of("x", "y")[:10], (), "only 4 of 6 prompts have an answer of each of x, y"),
]


@pytest.mark.parametrize(("rows", "flags", "said"), WRONG_ANSWERS, ids=[said for _, _, said in WRONG_ANSWERS])
def test_answers_that_can_not_be_used_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], flags: tuple[str, ...], said: str
) -> None:
    assert run(tmp_path, "--responses", str(write(tmp_path / "a.json", rows)), *flags) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


# ── Votes without texts ──────────────────────────────────────────────────────────────────────────────────


def test_votes_without_texts_are_joined_by_prompt_or_by_its_id(tmp_path: Path) -> None:
    rows = [{**row, "prompt_id": f"q{PROMPTS.index(row['prompt'])}"} for row in answers_of("x", "y")]
    answers = read_answers([write(tmp_path / "a.jsonl", rows)])
    bare = {"user": "ann", "model_a": "x", "model_b": "y", "outcome": 1}
    votes = [
        {**bare, "prompt": PROMPTS[0]},
        {**bare, "prompt_id": "q1", "user": "bob", "response_b": "Its own."},
        {**bare, "prompt": "Never answered"},
        {**bare, "prompt": PROMPTS[2], "model_b": "z"},
    ]
    found = load_votes(str(write(tmp_path / "v.jsonl", votes)), answers=answers)
    assert [(p.user, p.prompt_id) for p in found.preferences] == [
        ("ann", prompt_id(PROMPTS[0])), ("bob", prompt_id(PROMPTS[1])),
    ]  # fmt: skip
    assert [p.text for p in found.prompts] == list(PROMPTS[:2])
    texts = {**answers.texts, (prompt_id(PROMPTS[1]), "y"): "Its own."}
    assert {(r.prompt_id, r.model): r.text for r in found.responses}.items() <= texts.items()
    assert found.notes == ("2 left out: its texts are in no file of --responses",)
    for name in (True, 7, None):
        with pytest.raises(UsageError, match=r"row 5: model_a is (no text|missing)"):
            load_votes(str(write(tmp_path / "v.jsonl", [*votes, {**votes[0], "model_a": name}])), answers=answers)


def test_votes_that_find_no_text_or_have_their_own_are_refused(tmp_path: Path) -> None:
    answers = read_answers([write(tmp_path / "a.jsonl", answers_of("x", "y"))])
    vote = {"user": "ann", "prompt_id": "1", "prompt": PROMPTS[0], "model_a": "x", "model_b": "gpt", "outcome": 1}
    with pytest.raises(UsageError, match=r"None of the 1 votes .*they have no gpt"):
        load_votes(str(write(tmp_path / "v.jsonl", [vote])), answers=answers)
    with pytest.raises(UsageError, match="have their texts already"):
        load_votes(
            str(write(tmp_path / "v.jsonl", [{**vote, "response_a": "so", "response_b": "no"}])), answers=answers
        )


# ── The whole program ────────────────────────────────────────────────────────────────────────────────────


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
        capsys.readouterr()
        assert run(tmp_path, *flags, "--rank", "Bees?", base=tiny_base) == 0
        assert len(server.calls) == 28 + 2, "the new prompt alone"
        assert "On prompts not seen in training" in capsys.readouterr().out
        assert run(tmp_path, *flags[:-2], "--rank", "Bees?", base=tiny_base) == 2
        assert "give --prompts FILE" in capsys.readouterr().err
    kept = {path.name for path in (tmp_path / "cache").iterdir()}
    assert {"elo_state_me.json", "reward_head_me.safetensors", "model_responses_me.json"} <= kept
    assert "generated_prompts_me.json" not in kept


def test_the_order_of_a_file_changes_nothing_and_num_prompts_takes_its_first(tmp_path: Path) -> None:
    def prompts(*lines: str, first: str = "9") -> list[str]:
        path = tmp_path / "mine.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        return [p.text for p in own.read(parser().parse_args(["--prompts", str(path), "--num_prompts", first])).prompts]

    assert prompts(*PROMPTS) == prompts(*reversed(PROMPTS))
    assert set(prompts(*PROMPTS, first="5")) == set(PROMPTS[:5])


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
        assert any("also a contestant" in note for note in found["notes"])
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


# ── Messages that guess ──────────────────────────────────────────────────────────────────────────────────

GUESSES = [
    (("--persona", "me.toml", "--preferences", "v.csv"), "--persona does not go with --preferences"),
    (("--prompts", "m.txt", "--preferences", "v.csv"), "the votes bring their own prompts"),
    (("--responses", "a.json", "--rank", "Why?"), "can't be asked for new answers"),
    (("--persona", "all", "--prompts", "m.txt"), "it is of one persona: name one"),
    (("--prompts", ""), "--prompts is empty"),
]


@pytest.mark.parametrize(("flags", "said"), GUESSES, ids=[" ".join(flags) for flags, _ in GUESSES])
def test_a_slip_is_answered_with_what_was_probably_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    try:
        status = run(tmp_path, *flags)
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 2
    assert said in capsys.readouterr().err
