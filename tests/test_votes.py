"""Human votes: files of three formats, wrong rows, a data set on the hub; own votes in the terminal."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import config
from core import hub
from core.errors import MissingError, UsageError
from core.files import append_line
from core.records import Preference, Prompt, Response
from core.text import normal
from people.next_pair import TopTwo
from people.read import Votes, load_votes, on_these, read_own_votes
from people.rows import VOTE_COLUMNS
from people.session import Session, open_session
from people.terminal import in_terminal
from stages.tasks import Job

Row = dict[str, Any]


def vote(**changes: Any) -> Row:
    """One good row, changed."""
    row: Row = dict(zip(VOTE_COLUMNS, ("ann", "p1", "Why?", "x", "because", "y", "so", 1.0), strict=True))
    return row | changes


GOOD = [
    vote(),
    vote(user="bob", outcome=0),
    vote(user="bob", prompt_id="p2", prompt="How?", response_a="", response_b="hm", outcome=0.5),
    vote(prompt_id="p2", prompt="How?", model_a="y", response_a="hm", model_b="z", response_b="by hand", outcome=0.75),
]


def write(path: Path, rows: list[Row]) -> str:
    """The rows as a file of the path's format."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    else:
        pd.DataFrame(rows).to_parquet(path)
    return str(path)


def as_rows(found: Votes) -> list[Row]:
    prompts = {p.id: p.text for p in found.prompts}
    texts = {(r.prompt_id, r.model): r.text for r in found.responses}
    return [
        dict(zip(VOTE_COLUMNS, (
            p.user, p.prompt_id, prompts[p.prompt_id], p.model_a, texts[p.prompt_id, p.model_a],
            p.model_b, texts[p.prompt_id, p.model_b], p.outcome,
        ), strict=True))
        for p in found.preferences
    ]  # fmt: skip


@pytest.fixture(params=["jsonl", "csv", "parquet"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file name of each format in turn."""
    return tmp_path / f"votes.{request.param}"


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_format_gives_the_same_votes(place: Path) -> None:
    found = load_votes(write(place, GOOD))
    assert as_rows(found) == GOOD
    assert [(p.id, p.text) for p in found.prompts] == [("p1", "Why?"), ("p2", "How?")]
    assert (found.users, found.models, found.left_out, found.notes) == (("ann", "bob"), ("x", "y", "z"), {}, ())


def test_text_that_looks_like_something_else_stays_text(place: Path) -> None:
    ids = ["82.1", "82.10", "007", "7", "2024-01-01", "NA", "null", "1e3", "1000", "nan", "True"]
    found = load_votes(write(place, [vote(prompt_id=name, prompt=name, response_a=name, user="NaN") for name in ids]))
    assert [p.id for p in found.prompts] == [p.text for p in found.prompts] == ids
    assert [r.text for r in found.responses if r.model == "x"] == ids
    assert found.users == ("NaN",)


# Everything that UTF-8 can hold; blank ids are refused, so these get a letter, and names and prompts are in their
# normal form.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORD = TEXT.map(lambda text: normal(f"w{text}"))
NAME = WORD.map(lambda text: " ".join(text.casefold().removesuffix(":latest").split()))


@st.composite
def vote_rows(draw: st.DrawFn) -> list[Row]:
    """Consistent rows: one text a prompt and one a (prompt, model)."""
    ids = draw(st.lists(WORD, min_size=1, max_size=3, unique=True))
    asked = draw(st.lists(WORD, min_size=len(ids), max_size=len(ids), unique=True))
    prompts = dict(zip(ids, asked, strict=True))
    models = draw(st.lists(NAME, min_size=2, max_size=3, unique=True))
    texts = {(p, m): draw(TEXT) for p in prompts for m in models}
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        prompt, (a, b) = draw(st.sampled_from(sorted(prompts))), draw(st.permutations(models))[:2]
        outcome = draw(st.floats(0, 1, allow_subnormal=False))
        values = (draw(NAME), prompt, prompts[prompt], a, texts[prompt, a], b, texts[prompt, b], outcome)
        rows.append(dict(zip(VOTE_COLUMNS, values, strict=True)))
    return rows


@given(rows=vote_rows())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_as_it_was(rows: list[Row], tmp_path: Path) -> None:
    for suffix in ("jsonl", "csv", "parquet"):
        assert as_rows(load_votes(write(tmp_path / f"v.{suffix}", rows))) == rows
    own = tmp_path / "own.jsonl"
    own.unlink(missing_ok=True)
    for row in rows:
        append_line(own, row)
    assert [vote.preference() for vote in read_own_votes(own)] == list(load_votes(str(own)).preferences)


def test_wrong_rows_are_named_or_left_out_as_asked_but_never_all(place: Path) -> None:
    wrong = [
        (vote(user=None), "user is missing"),
        (vote(model_a="  "), "model_a is missing"),
        (vote(outcome=1.5), "outcome is no number in [0, 1]: 1.5"),
        (vote(prompt="What?"), "prompt_id stands for another prompt in an earlier row (prompts need no id): p1"),
    ]
    source = write(place, [GOOD[0], *(row for row, _ in wrong), *GOOD[1:]])
    reasons = {number: reason for number, (_, reason) in enumerate(wrong, start=2)}
    with pytest.raises(UsageError) as refused:
        load_votes(source)
    assert {f"  row {number}: {reason}" for number, reason in reasons.items()} <= set(str(refused.value).splitlines())
    found = load_votes(source, skip_bad_rows=True)
    assert (found.left_out, as_rows(found)) == (reasons, GOOD)
    with pytest.raises(UsageError, match="2 of 2 rows"):
        load_votes(write(place, [vote(outcome=1.5)] * 2), skip_bad_rows=True)


def test_wrong_columns_are_named_with_those_found_and_no_rows_are_no_votes(place: Path) -> None:
    rows = [{name: value for name, value in vote().items() if name not in ("user", "outcome")} | {"who": "a"}]
    with pytest.raises(UsageError, match=r"lacks the columns user, outcome; it has prompt_id, .*who"):
        load_votes(write(place, rows))
    with pytest.raises(UsageError, match="has no rows"):
        load_votes(write(place, [vote()][:0]))


# ── A data set on the hub ────────────────────────────────────────────────────────────────────────────────


def test_a_hub_id_goes_through_load_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call on a folder laid out like a data set on the hub, which stands in for it."""
    import datasets

    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "votes.jsonl", GOOD)
    write(tmp_path / "set" / "survey.jsonl", [{"user_id": "user0"}])
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: survey\n  data_files: survey.jsonl\n- config_name: votes\n"
        "  data_files: votes.jsonl\n---\n"
    )
    real = datasets.load_dataset

    def load(name: str, *args: Any, **options: Any) -> Any:
        assert name == "owner/name"
        return real(str(tmp_path / "set"), *args, **options)

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert as_rows(load_votes("owner/name:votes", cache_dir=tmp_path / "cache")) == GOOD
    with pytest.raises(UsageError, match=r"owner/name:gone could not be loaded from the hub: "):
        load_votes("owner/name:gone", cache_dir=tmp_path / "cache")
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="--preferences FILE"):
        load_votes("owner/name:votes")


# ── Own votes ────────────────────────────────────────────────────────────────────────────────────────────

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

        def answer(_: str) -> str:
            pages.append(capsys.readouterr().out)
            said = next(script, None)
            if said is None:
                raise EOFError
            return str(said(pages[-1]) if callable(said) else said)

        monkeypatch.setattr("builtins.input", answer)
        with open_session(job(seed), PROMPTS, texts) as session:
            in_terminal(session)
        return session, pages

    return run


def outcomes(path: Path, texts: list[Response] = TEXTS) -> list[float]:
    """Of the votes on these texts."""
    return [p.outcome for p in on_these(read_own_votes(path), PROMPTS, texts)]


def prefers_alpha(page: str) -> str:
    return "A" if page.index("ALPHA") < page.index("BETA") else "b"


def test_a_session_keeps_what_was_meant_whatever_the_side_before_it_goes_on(sit: Sit, path: Path) -> None:
    kept = list[int]()

    def prefer(page: str) -> str:
        kept.append(len(outcomes(path)))
        return prefers_alpha(page)

    _, pages = sit(*[prefer] * 6)
    assert kept == [0, 1, 2, 3, 4, 5]
    found = load_votes(str(path))
    assert {(p.outcome if p.model_a == "alpha" else 1 - p.outcome) for p in found.preferences} == {1.0}
    assert {p.model_a for p in found.preferences} == {"alpha", "beta"}, "sides should be drawn"
    assert {p.prompt_id for p in found.preferences} == {p.id for p in PROMPTS}
    assert (found.users, found.personas) == (("me",), ("coder",))
    assert not any("alpha" in page or "beta" in page for page in pages), "nobody sees who wrote what"
    chances = [int(page.split("a chance of ")[1].split(" %")[0]) for page in pages[1:]]
    assert chances[0] < chances[-1]


def test_the_order_depends_on_the_seed_alone(sit: Sit, path: Path) -> None:
    shown = []
    for seed in (3, 3, 4):
        shown.append(sit(*["t"] * 6, seed=seed)[1])
        path.unlink()
    assert shown[0] == shown[1] != shown[2]


def test_undo_takes_back_this_sessions_votes_only(sit: Sit, path: Path) -> None:
    sit("a", "q")
    before = path.read_bytes()
    session, pages = sit("u", "a", "t", "u", "u", "u", "b", "q")
    assert len(session.given) == 1 and path.read_bytes().startswith(before)
    assert outcomes(path) == [1.0, 0.0]
    assert sum("Nothing to undo" in page for page in pages) == 2
    numbers = [page.split("Pair ")[1][0] for page in pages]
    assert numbers == ["2", "2", "3", "4", "3", "2", "2", "3"], "pairs of earlier sessions count"
    shown = [pages[i].split("────\n")[0] for i in (2, 4, 7)]
    assert shown[0] == shown[1] == shown[2], "the same pair on the same sides again"


@pytest.mark.parametrize("end", [[], ["Q"]])
def test_every_way_to_quit_keeps_the_votes(sit: Sit, path: Path, end: list[str]) -> None:
    session, pages = sit("a", "what?", "x", *end)
    assert "Please answer" in pages[2]
    assert session.saved() == f"2 votes saved in {path}; pairs left: 4"
    row = json.loads(path.read_text().splitlines()[-1])
    assert (row["outcome"], row["both_bad"], row["persona"], row["backend"]) == (0.5, True, "coder", "ollama")


def test_a_later_session_leaves_out_what_was_voted_on(sit: Sit, path: Path) -> None:
    sit("a", "b", "q")
    session, pages = sit(*["t"] * 9, texts=TEXTS[::-1], seed=5)
    assert (len(session.given), len(pages)) == (4, 4)
    assert sit("a")[0].given == []
    path.write_text(path.read_text().replace('"user": "me"', '"user": "someone else"'))
    assert len(sit("a")[0].given) == 1, "what another person said is not voted on yet"


def test_votes_count_on_the_very_texts_they_were_given_on(sit: Sit, path: Path) -> None:
    sit(*["a"] * 6)
    texts = [replace(r, text="anew") if (r.prompt_id, r.model) == ("p2", "beta") else r for r in TEXTS]
    prompts = [replace(p, text="another") if p.id == "p4" else p for p in PROMPTS]
    met = on_these(read_own_votes(path), prompts, texts)
    assert {p.prompt_id for p in met} == {"p0", "p1", "p3", "p5"}
    assert len(sit("b", texts=texts)[0].given) == 1, "a changed response is a new pair"
    assert (outcomes(path, texts), outcomes(path)) == ([1.0] * 5 + [0.0], [1.0] * 6)


@pytest.mark.parametrize(("left", "lost"), [(slice(None, -1), 0), (slice(None, -30), 1), (slice(None, 20), 2)])
def test_a_torn_last_line_costs_that_vote_only(sit: Sit, path: Path, left: slice, lost: int) -> None:
    sit("a", "a", "q")
    path.write_bytes(path.read_bytes()[left])
    assert len(read_own_votes(path)) == 2 - lost
    sit("b", "q")
    assert [p.outcome for p in load_votes(str(path)).preferences] == [1.0] * (2 - lost) + [0.0]


def test_a_file_of_wrong_lines_is_not_taken_for_no_votes(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text("not\njson\n")
    with pytest.raises(UsageError, match="2 of 2 rows"):
        read_own_votes(tmp_path / "v.jsonl")


def test_two_sessions_at_once_are_refused(sit: Sit) -> None:
    with pytest.raises(UsageError, match="Another run is still using"):
        sit(lambda page: str(sit("a")))
    assert len(sit("a")[0].given) == 1


def test_votes_on_a_model_that_is_clearly_best_ask_about_it_and_the_next() -> None:
    """Six models, the first beating all and the second all but the first: most pairs asked are of these two."""
    models, prompts = "abcdef", [f"p{i}" for i in range(20)]
    asked = TopTwo([Response(p, m, "") for p in prompts for m in models], {}, config.ExperimentConfig())
    every = [(p, a, b) for p in prompts for a, b in combinations(models, 2)]
    asked.learn([Preference(p, a, b, 0.5 if (a, b) == ("a", "b") else 1.0) for p, a, b in every[:150]])
    left = [frozenset((a, b)) for _, a, b in every[150:]]
    assert [left.pop(asked.next_pair(left)) for _ in range(10)] == [frozenset("ab")] * 10
    now = asked.standing()
    assert set(list(now.chances)[:2]) == {"a", "b"} and now.ahead < 0.95
    asked.learn([Preference(p, a, b, 1.0) for p, a, b in every])
    now = asked.standing()
    assert (next(iter(now.chances)), now.more_votes) == ("a", 0)
    assert now.chances["a"] > 0.9
    asked.learn([Preference(p, a, b, 0.5) for p, a, b in every])
    assert (asked.standing().more_votes or 0) > 1000, "no number of votes tells equals apart"
    asked.learn([Preference(p, a, b, 0.5) for p, a, b in every[:9]])
    assert asked.standing().more_votes is None, "nobody can say so soon"


def test_responses_cannot_drive_the_terminal(sit: Sit, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    nasty = "\x1b[2J\x1b]0;title\x07red\x1b[31m text\x00\x08\u202egnp\r\nnext\tcolumn\n    indented " + "word " * 30
    _, (page, *_) = sit("a", texts=[Response("p0", "m1", nasty), Response("p0", "m2", "\n\n")])
    assert all(character == "\n" or character.isprintable() for character in page)
    assert max(len(line) for line in page.splitlines()) <= 40
    assert "red" in page and "\ufffdgnp" in page and "(no answer)" in page
    assert "\n    indented word" in page
    assert nasty in {text for _, text in read_own_votes(path)[0].claims()}, "the text itself is kept"
