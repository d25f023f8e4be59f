"""Own votes in the terminal: what a session keeps, which pair comes next, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import config
from core.records import Preference, Prompt, Response
from people.read import load_votes, on_these, read_own_votes
from people.session import Session, TopTwo
from people.voting import in_terminal
from stages.tasks import Job

PROMPTS = [Prompt(f"p{i}", f"prompt {i}") for i in range(6)]
TEXTS = [Response(p.id, m, f"{m.upper()} answers {p.id}") for p in PROMPTS for m in ("alpha", "beta")]
Sit = Callable[..., tuple[Session, list[str]]]


def job(seed: int) -> Job:
    nobody = cast("Any", SimpleNamespace(backend="ollama"))
    return Job("coder", config.Persona(), {}, "", nobody, config.ExperimentConfig(random_seed=seed), Path("cache"))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the votes are kept."""
    monkeypatch.setattr(config, "VOTES_DIR", tmp_path / "votes")
    return tmp_path / "votes" / "votes_coder.jsonl"


@pytest.fixture
def sit(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sit:
    """A session in the terminal with answers of a script, some of which depend on the page: itself and its pages."""

    def run(*answers: Any, texts: list[Response] = TEXTS, seed: int = 1) -> tuple[Session, list[str]]:
        pages, script = list[str](), iter(answers)

        def answer() -> str:
            pages.append(capsys.readouterr().out)
            said = next(script, None)
            return "" if said is None else f"{said(pages[-1]) if callable(said) else said}\n"

        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False, readline=answer))
        session = Session(job(seed), PROMPTS, texts)
        in_terminal(session)
        return session, pages

    return run


def outcomes(path: Path, texts: list[Response] = TEXTS) -> list[float]:
    """Of the votes on these texts."""
    return [p.outcome for p in on_these(read_own_votes(path), PROMPTS, texts)]


def test_a_session_keeps_what_was_meant_whatever_the_side_before_it_goes_on(sit: Sit, path: Path) -> None:
    kept = list[int]()

    def prefer(page: str) -> str:
        kept.append(len(outcomes(path)))
        return "A" if page.index("ALPHA") < page.index("BETA") else "b"

    _, pages = sit(*[prefer] * 6)
    assert kept == [0, 1, 2, 3, 4, 5]
    found = load_votes(str(path))
    assert {(p.outcome if p.model_a == "alpha" else 1 - p.outcome) for p in found.preferences} == {1.0}
    assert {p.model_a for p in found.preferences} == {"alpha", "beta"}, "sides should be drawn"
    assert (len(found.prompts), found.users) == (6, ("me",))
    assert not any("alpha" in page or "beta" in page for page in pages), "nobody sees who wrote what"
    texts = [replace(r, text="anew") if (r.prompt_id, r.model) == ("p2", "beta") else r for r in TEXTS]
    assert sit("b", texts=texts)[0].done == 1, "a changed response is a new pair"
    assert len(outcomes(path, texts)) == len(outcomes(path)) == 6, "each counts on the very texts it was given on"
    path.write_bytes(path.read_bytes() + b'{"user": "me", ')
    assert len(outcomes(path)) == 6, "half a line, of a full disk say, costs no vote"


def test_a_later_session_leaves_out_what_was_voted_on_before_either_end(sit: Sit, path: Path) -> None:
    session, _ = sit("a", "what?", "x", "Q")
    assert session.saved() == f"2 votes saved in {path}; pairs left: 4"
    row = json.loads(path.read_text().splitlines()[-1])
    assert (row["outcome"], row["both_bad"], row["persona"], row["backend"]) == (0.5, True, "coder", "ollama")
    session, pages = sit("u", *["t"] * 3, texts=TEXTS[::-1], seed=5)
    assert "Pair 3 of 6" in pages[0] and "Nothing to undo" in pages[1], "votes of earlier sessions stay"
    assert (session.done, len(pages)) == (3, 5), "the end of the input means quit"
    path.write_text(path.read_text().replace('"user": "me"', '"user": "someone else"'))
    assert sit("a")[0].done == 1, "what another person said is not voted on yet"


def test_votes_on_a_model_that_is_clearly_best_ask_about_it_and_the_next() -> None:
    """Six models, the first beating all and the second all but the first: the pairs asked are of these two."""
    models, prompts = "abcdef", [f"p{i}" for i in range(20)]
    asked = TopTwo(job(42), [Response(p, m, "") for p in prompts for m in models])
    every = [(p, a, b) for p in prompts for a, b in combinations(models, 2)]
    asked.learn([Preference(p, a, b, 0.5 if (a, b) == ("a", "b") else 1.0) for p, a, b in every[:150]])
    left = [frozenset((a, b)) for _, a, b in every[150:]]
    assert [left.pop(asked.next_pair(left)) for _ in range(10)] == [frozenset("ab")] * 10
    asked.learn([Preference(p, a, b, 1.0) for p, a, b in every])
    chances, more = asked.standing()
    assert chances["a"] > 0.9 and more.startswith("It is ahead of the second with ")
    asked.learn([Preference(p, a, b, 0.5) for p, a, b in every])
    assert asked.standing()[1] == "It would take hundreds of votes to separate the best two.", "they are equals"
