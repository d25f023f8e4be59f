"""Human votes: files of three formats, scored responses, wrong rows; own votes in the terminal."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

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
from people.session import Screen, pairs_of, vote_session

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


def refusal(source: str) -> str:
    """The refusal of a file that can't be used as it is."""
    with pytest.raises(UsageError) as caught:
        load_votes(source)
    return str(caught.value)


@pytest.fixture(params=["jsonl", "csv", "parquet"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file name of each format in turn."""
    return tmp_path / f"votes.{request.param}"


# ── Good files ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_format_gives_the_same_votes(place: Path) -> None:
    found = load_votes(write(place, GOOD))
    assert [(p.user, p.prompt_id, p.model_a, p.model_b, p.outcome) for p in found.preferences] == [
        ("ann", "p1", "x", "y", 1.0),
        ("bob", "p1", "x", "y", 0.0),
        ("bob", "p2", "x", "y", 0.5),
        ("ann", "p2", "y", "z", 0.75),
    ]
    assert [(p.id, p.text) for p in found.prompts] == [("p1", "Why?"), ("p2", "How?")]
    assert {(r.prompt_id, r.model): r.text for r in found.responses} == {
        ("p1", "x"): "because", ("p1", "y"): "so", ("p2", "x"): "", ("p2", "y"): "hm", ("p2", "z"): "by hand",
    }  # fmt: skip
    assert (found.users, found.models, found.skipped, found.notes) == (("ann", "bob"), ("x", "y", "z"), {}, ())


def test_text_that_looks_like_something_else_stays_text(place: Path) -> None:
    ids = ["82.1", "82.10", "007", "7", "2024-01-01", "2024-01-02", "NA", "null", "1e3", "1000", "nan", "True"]
    date = "2024-01-01T00:00:00Z"
    rows = [vote(prompt_id=name, prompt=name, response_a=name, response_b=date, user="NaN") for name in ids]
    found = load_votes(write(place, rows))
    assert [p.id for p in found.prompts] == [p.text for p in found.prompts] == ids
    assert [r.text for r in found.responses] == [text for name in ids for text in (name, date)]
    assert found.users == ("NaN",)


def test_a_csv_with_a_nameless_column_of_row_numbers(tmp_path: Path) -> None:
    pd.DataFrame(GOOD).to_csv(tmp_path / "v.csv", encoding="utf-8-sig")
    assert as_rows(load_votes(str(tmp_path / "v.csv"))) == GOOD


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


@given(rows=vote_rows())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_as_it_was(rows: list[Row], tmp_path: Path) -> None:
    for suffix in ("jsonl", "csv", "parquet"):
        assert as_rows(load_votes(write(tmp_path / f"v.{suffix}", rows))) == rows
    own = tmp_path / "own.jsonl"
    own.unlink(missing_ok=True)
    for row in rows:
        append_line(own, row)
    assert as_rows(load_votes(str(own))) == rows
    assert [vote.preference() for vote in read_own_votes(own)] == list(load_votes(str(own)).preferences)


# ── Scores ───────────────────────────────────────────────────────────────────────────────────────────────


def prism(interaction: str, user: str, turn: int, model: str, score: int) -> Row:
    """A row of PRISM's utterances."""
    return {
        "utterance_id": f"ut{interaction}{model}", "interaction_id": interaction, "conversation_id": f"c{user}",
        "user_id": user, "turn": turn, "within_turn_id": 0, "conversation_type": "unguided",
        "user_prompt": f"prompt {interaction}", "model_response": f"{model} says {interaction}", "model_name": model,
        "model_provider": "someone", "score": score, "if_chosen": score > 50, "included_in_balanced_subset": True,
    }  # fmt: skip


PRISM = [
    prism("int0", "user0", 0, "command", 90),
    prism("int2", "user1", 0, "gpt-4", 5),
    prism("int0", "user0", 0, "gpt-4", 60),
    prism("int0", "user0", 0, "zephyr-7b-beta", 60),
    prism("int1", "user0", 1, "command", 70),  # the second turn: the chosen model twice
    prism("int1", "user0", 1, "command", 20),
    prism("int2", "user1", 0, "claude-2", 55),
]


def test_scores_of_prisms_first_turns_become_one_vote_for_each_pair(place: Path) -> None:
    found = load_votes(write(place, PRISM))
    assert [(p.user, p.prompt_id, p.model_a, p.model_b, p.outcome) for p in found.preferences] == [
        ("user0", "int0", "command", "gpt-4", 1.0),
        ("user0", "int0", "command", "zephyr-7b-beta", 1.0),
        ("user1", "int2", "gpt-4", "claude-2", 0.0),
        ("user0", "int0", "gpt-4", "zephyr-7b-beta", 0.5),
    ]
    assert [p.text for p in found.prompts] == ["prompt int0", "prompt int2"]
    assert [r.text for r in found.responses if r.model == "gpt-4"] == ["gpt-4 says int2", "gpt-4 says int0"]
    assert found.notes == ("2 left out: on a later turn",)


def test_wrong_scores_are_named_and_a_second_score_of_a_response_is_left_out(place: Path) -> None:
    wrong = [PRISM[1] | {"score": None}, PRISM[6] | {"score": 1e999}]
    source = write(place, [*PRISM[:4], PRISM[0] | {"score": 3}, *wrong])
    said = refusal(source)
    assert "row 6: score is missing" in said
    assert "row 7: score is no number: inf" in said.lower()
    found = load_votes(source, skip_bad_rows=True)
    assert len(found.preferences) == 3
    assert found.left_out == {5: "this user scored this response before"}


def test_scores_without_two_models_on_a_prompt_are_no_votes(place: Path) -> None:
    assert "no two responses of different models" in refusal(write(place, PRISM[:2]))


# ── Wrong files ──────────────────────────────────────────────────────────────────────────────────────────

WRONG_ROWS = [
    (vote(user=None), "user is missing"),
    (vote(model_a="  "), "model_a is missing"),
    (vote(prompt=None), "prompt is missing"),
    (vote(outcome=1.5), "outcome is no number in [0, 1]: 1.5"),
    (vote(prompt="What?"), "prompt_id stands for another prompt in an earlier row (prompts need no id): p1"),
]


def test_wrong_rows_are_named_or_left_out(place: Path) -> None:
    source = write(place, [GOOD[0], *(row for row, _ in WRONG_ROWS), *GOOD[1:]])
    reasons = {number: reason for number, (_, reason) in enumerate(WRONG_ROWS, start=2)}
    said = refusal(source)
    assert "5 of 9 rows" in said
    assert "--skip_bad_rows" in said
    for number, reason in reasons.items():
        assert f"  row {number}: {reason}\n" in said
    found = load_votes(source, skip_bad_rows=True)
    assert found.skipped == reasons
    assert as_rows(found) == GOOD


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_an_outcome_that_is_no_number_is_named_the_first_ten_of_them(tmp_path: Path, suffix: str) -> None:
    wrong = ["a", "nan", "inf", "True", "1,000", "A is better", "x", "y", "z", "-0.5", "1.5", "0.5.0"]
    source = write(tmp_path / f"v.{suffix}", [vote(), *(vote(outcome=outcome) for outcome in wrong)])
    count, *rows, more, mend = refusal(source).splitlines()
    assert "12 of 13 rows" in count and "and 2 more" in more
    assert rows == [f"  row {n}: outcome is no number in [0, 1]: {wrong[n - 2]}" for n in range(2, 12)]
    assert "12 rows are too many to leave out for one reason (outcome is no number in [0, 1])" in mend
    with pytest.raises(UsageError, match="12 of 13 rows"):
        load_votes(source, skip_bad_rows=True)


def test_no_good_row_cannot_be_skipped_around(place: Path) -> None:
    with pytest.raises(UsageError, match="2 of 2 rows"):
        load_votes(write(place, [vote(outcome=1.5), vote(outcome=1.5)]), skip_bad_rows=True)


def test_wrong_columns_are_named_with_those_found(place: Path) -> None:
    rows = [{name: value for name, value in vote().items() if name not in ("user", "outcome")} | {"winner": "a"}]
    said = refusal(write(place, rows))
    assert "lacks the columns user, outcome; it has prompt_id, " in said
    assert "winner" in said


def test_values_that_are_no_text_are_named(tmp_path: Path) -> None:
    rows = [vote(), vote(response_a=["a", "list"]), vote(prompt={"a": 1}), vote(user="\ud800")]
    said = refusal(write(tmp_path / "v.jsonl", rows))
    for row, name in ((2, "response_a"), (3, "prompt"), (4, "user")):
        assert f"row {row}: {name} is no text" in said


@pytest.mark.parametrize(
    ("name", "data"),
    [("header.csv", ",".join(VOTE_COLUMNS)), ("blank.jsonl", "\n\n"), ("empty.csv", ""), ("empty.jsonl", "")],
)
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, data: str) -> None:
    (tmp_path / name).write_text(data)
    assert "has no rows" in refusal(str(tmp_path / name))


def test_no_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(str(tmp_path / "gone.jsonl"))
    assert "not a file" in refusal("")


# ── Hub ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hub_out_of_reach_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="--preferences FILE"):
        load_votes("owner/name")


@pytest.mark.parametrize(("source", "config"), [
    ("HannahRoseKirk/prism-alignment", "utterances"), ("HannahRoseKirk/prism-alignment:other", "other"),
])  # fmt: skip
def test_a_hub_id_goes_through_load_dataset(
    source: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same call on a folder laid out like the data set on the hub, which stands in for it."""
    import datasets

    folder = tmp_path / "prism"
    folder.mkdir()
    write(folder / "utterances.jsonl", PRISM)
    write(folder / "survey.jsonl", [{"user_id": "user0"}])
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: survey\n  data_files: survey.jsonl\n- config_name: {config}\n"
        "  data_files: utterances.jsonl\n---\n"
    )
    real, asked = datasets.load_dataset, []

    def load(name: str, *args: Any, **options: Any) -> Any:
        asked.append(name)
        return real(str(folder), *args, **options)

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    found = load_votes(source, cache_dir=tmp_path / "cache")
    assert asked == ["HannahRoseKirk/prism-alignment"]
    assert len(found.preferences) == 4


def test_what_the_hub_refuses_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*args: Any, **options: Any) -> Any:
        raise ConnectionError("401 gated\nand much more")

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UsageError, match=r"could not be loaded from the hub: 401 gated$"):
        load_votes("owner/name")


# ── Own votes ────────────────────────────────────────────────────────────────────────────────────────────

PROMPTS = [Prompt(f"p{i}", f"prompt {i}") for i in range(6)]
TEXTS = [Response(p.id, m, f"{m.upper()} answers {p.id}") for p in PROMPTS for m in ("alpha", "beta")]


class Terminal(Screen):
    """Answers from a script; what a callable answers depends on the page shown last."""

    def __init__(self, *answers: str | Callable[[str], str] | BaseException) -> None:
        self.answers: Iterator[str | Callable[[str], str] | BaseException] = iter(answers)
        self.pages: list[str] = []
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def page(self, text: str) -> None:
        self.say(text)
        self.pages.append(text)

    def ask(self, question: str) -> str:
        answer = next(self.answers, EOFError())
        if isinstance(answer, BaseException):
            raise answer
        return answer(self.pages[-1]) if callable(answer) else answer


def run(path: Path, *answers: Any, texts: list[Response] = TEXTS, seed: int = 1) -> tuple[int, Terminal]:
    terminal = Terminal(*answers)
    models = TopTwo(texts, {}, config.ExperimentConfig(random_seed=seed))
    about = {"persona": "coder", "backend": "ollama"}
    return vote_session(PROMPTS, texts, path, models, terminal, about=about, seed=seed), terminal


def outcomes(path: Path, texts: list[Response] = TEXTS) -> list[float]:
    """Of the votes on these texts."""
    return [p.outcome for p in on_these(read_own_votes(path), PROMPTS, texts)]


def prefers_alpha(page: str) -> str:
    return "A" if page.index("ALPHA") < page.index("BETA") else "b"


def test_a_session_keeps_what_was_meant_whatever_the_side(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "votes_me.jsonl"
    given, _ = run(path, *[prefers_alpha] * 6)
    assert given == 6
    found = load_votes(str(path))
    assert {(p.outcome if p.model_a == "alpha" else 1 - p.outcome) for p in found.preferences} == {1.0}
    assert {p.model_a for p in found.preferences} == {"alpha", "beta"}, "sides should be drawn"
    assert {p.prompt_id for p in found.preferences} == {p.id for p in PROMPTS}
    assert (found.users, found.personas) == (("me",), ("coder",))


def test_model_names_are_never_shown(tmp_path: Path) -> None:
    _, terminal = run(tmp_path / "v.jsonl", "t", "what?", "u", "a", "q")
    assert not any("alpha" in text or "beta" in text for text in terminal.said)


def test_the_order_depends_on_the_seed_alone(tmp_path: Path) -> None:
    pages = [run(tmp_path / f"{i}.jsonl", *["t"] * 6, seed=seed)[1].pages for i, seed in enumerate((3, 3, 4))]
    assert pages[0] == pages[1] != pages[2]


def test_each_vote_is_on_the_disk_before_the_next_question(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    lines: list[int] = []

    def count(page: str) -> str:
        lines.append(len(path.read_bytes().splitlines()) if path.exists() else 0)
        return "t"

    run(path, count, count, count)
    assert lines == [0, 1, 2]


def test_undo_takes_back_this_sessions_votes_only(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    run(path, "a", "q")
    before = path.read_bytes()
    given, terminal = run(path, "u", "a", "t", "u", "u", "u", "b", "q")
    assert given == 1
    assert path.read_bytes().startswith(before)
    assert outcomes(path) == [1.0, 0.0]
    assert sum("Nothing to undo" in text for text in terminal.pages) == 2
    numbers = [page.split("Pair ")[1][0] for page in terminal.pages]
    assert numbers == ["2", "2", "3", "4", "3", "2", "2", "3"], "pairs of earlier sessions count"
    shown = [page.split("────\n")[0] for page in (terminal.pages[i] for i in (2, 4, 7))]
    assert shown[0] == shown[1] == shown[2], "the same pair on the same sides again"


@pytest.mark.parametrize("end", [EOFError(), "q", "Quit"])
def test_every_way_to_quit_keeps_the_votes(tmp_path: Path, end: BaseException | str) -> None:
    path = tmp_path / "v.jsonl"
    given, terminal = run(path, "a", "both bad", end)
    assert given == 2 == len(read_own_votes(path))
    assert terminal.said[-1] == f"2 votes saved in {path} (ties: 1, of which both bad: 1); pairs left: 4"
    row = json.loads(path.read_text().splitlines()[-1])
    assert (row["outcome"], row["both_bad"], row["persona"], row["backend"]) == (0.5, True, "coder", "ollama")
    assert load_votes(str(path)).notes == ("1 of the ties are on two responses that are both bad",)


def test_after_each_vote_it_is_said_how_sure_the_order_is(tmp_path: Path) -> None:
    _, terminal = run(tmp_path / "v.jsonl", *[prefers_alpha] * 6)
    assert "so far" not in terminal.pages[0]
    assert [page.split(" so far: ")[0].splitlines()[-1] for page in terminal.pages[1:3]] == ["1 vote", "2 votes"]
    chances = [int(page.split("a chance of ")[1].split("\u00a0%")[0]) for page in terminal.pages[1:]]
    assert chances[0] < chances[-1]


def test_a_later_session_leaves_out_what_was_voted_on(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    run(path, "a", "b", "q")
    given, terminal = run(path, *["t"] * 9, texts=TEXTS[::-1], seed=5)
    assert (given, len(terminal.pages)) == (4, 4)
    assert run(path, "a")[0] == 0
    path.write_text(path.read_text().replace('"user": "me"', '"user": "someone else"'))
    assert run(path, "a")[0] == 1, "what another person said is not voted on yet"


def test_votes_count_on_the_very_texts_they_were_given_on(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    run(path, *["a"] * 6)
    texts = [replace(r, text="anew") if (r.prompt_id, r.model) == ("p2", "beta") else r for r in TEXTS]
    prompts = [replace(p, text="another") if p.id == "p4" else p for p in PROMPTS]
    met = on_these(read_own_votes(path), prompts, texts)
    assert {p.prompt_id for p in met} == {"p0", "p1", "p3", "p5"}
    assert run(path, "b", texts=texts)[0] == 1, "a changed response is a new pair"
    assert (outcomes(path, texts), outcomes(path)) == ([1.0] * 5 + [0.0], [1.0] * 6)


@pytest.mark.parametrize(("left", "lost"), [(slice(None, -1), 0), (slice(None, -30), 1), (slice(None, 20), 2)])
def test_a_torn_last_line_costs_that_vote_only(tmp_path: Path, left: slice, lost: int) -> None:
    path = tmp_path / "v.jsonl"
    run(path, "a", "a", "q")
    path.write_bytes(path.read_bytes()[left])
    assert len(read_own_votes(path)) == 2 - lost
    run(path, "b", "q")
    assert [p.outcome for p in load_votes(str(path)).preferences] == [1.0] * (2 - lost) + [0.0]


def test_a_file_of_wrong_lines_is_not_taken_for_no_votes(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text("not\njson\n")
    with pytest.raises(UsageError, match="2 of 2 rows"):
        read_own_votes(path)
    assert path.read_text() == "not\njson\n"


def test_two_sessions_on_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    with pytest.raises(UsageError, match="Another run is still using"):
        run(path, lambda page: str(run(path, "a")))
    assert run(path, "a")[0] == 1


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


def test_responses_cannot_drive_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    nasty = "\x1b[2J\x1b]0;title\x07red\x1b[31m text\x00\x08\u202egnp\r\nnext\tcolumn\n    indented " + "word " * 30
    texts = [Response("p0", "m1", nasty), Response("p0", "m2", "\n\n")]
    _, terminal = run(tmp_path / "v.jsonl", "a", texts=texts)
    page = terminal.pages[0]
    assert all(character == "\n" or character.isprintable() for character in page)
    assert max(len(line) for line in page.splitlines()) <= 40
    assert "red" in page and "\ufffdgnp" in page
    assert "\n    indented word" in page
    assert "(no answer)" in page
    assert nasty in {text for _, text in read_own_votes(tmp_path / "v.jsonl")[0].claims()}, "the text itself is kept"


def test_responses_that_read_the_same_are_no_choice() -> None:
    texts = [replace(r, text=" same " if r.model == "alpha" else "same") if r.prompt_id == "p1" else r for r in TEXTS]
    assert [pair.prompt_id for pair in pairs_of(PROMPTS, texts)] == ["p0", "p2", "p3", "p4", "p5"]


def test_the_screen_shows_marks_in_the_place_of_what_steers_it(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().page("one\x1b[2J\n\ud800two\u202e")
    assert capsys.readouterr().out == "\none\ufffd[2J\n\ufffdtwo\ufffd\n"
