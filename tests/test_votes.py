"""Files of votes in our own columns, of three formats: what is one, what is no vote, and what is refused by row."""

from __future__ import annotations

import random
import unicodedata
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vote_files import Row, save, vote

from base.features import Features
from config import ExperimentConfig
from core.clock import Clock
from core.errors import UsageError
from core.files import append_line
from core.text import normal
from people.many import Crowd, measure
from people.read import Votes, load_votes, read_own_votes, run_name
from people.rows import VOTE_COLUMNS

GOOD = [
    vote(),
    vote(user="bob", outcome=0),
    vote(user="bob", prompt_id="007", prompt="82.10", response_a="", response_b="NA", outcome=0.5),
    vote(prompt_id="007", prompt="82.10", model_a="y", response_a="NA", model_b="nan", response_b="1e3", outcome=0.75),
]


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


# ── Formats ──────────────────────────────────────────────────────────────────────────────────────────────


def test_every_format_gives_the_same_votes_and_texts_stay_texts(place: Path) -> None:
    found = load_votes(save(place, GOOD))
    assert as_rows(found) == GOOD
    assert (found.users, found.models, found.left_out, found.notes) == (("ann", "bob"), ("x", "y", "nan"), {}, ())


# Everything that UTF-8 can hold; names and prompts are in their normal form and never blank.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORD = TEXT.map(lambda text: normal(f"w{text}"))
NAME = WORD.map(lambda text: " ".join(text.casefold().removesuffix(":latest").split()))


@given(texts=st.tuples(TEXT, TEXT), prompt=WORD, names=st.lists(NAME, min_size=3, max_size=3, unique=True))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_as_it_was(texts: tuple[str, str], prompt: str, names: list[str], tmp_path: Path) -> None:
    row = vote(user=names[0], prompt_id=f"id {prompt}", prompt=prompt, model_a=names[1], response_a=texts[0],
               model_b=names[2], response_b=texts[1], outcome=0.1)  # fmt: skip
    for suffix in ("jsonl", "csv", "parquet"):
        assert as_rows(load_votes(save(tmp_path / f"v.{suffix}", [row]))) == [row]
    own = tmp_path / "own.jsonl"
    own.unlink(missing_ok=True)
    append_line(own, row)
    assert [vote.preference() for vote in read_own_votes(own)] == list(load_votes(str(own)).preferences)


def test_wrong_rows_are_named_or_left_out_as_asked(place: Path) -> None:
    wrong = [
        (vote(user=None), "user is missing"),
        (vote(outcome=1.5), "outcome is no number in [0, 1]: 1.5; write 1, 0 or 0.5"),
        (vote(prompt="What?"), "prompt_id stands for another prompt in an earlier row (prompts need no id): p1"),
    ]
    source = save(place, [GOOD[0], *(row for row, _ in wrong), *GOOD[1:]])
    with pytest.raises(UsageError) as refused:
        load_votes(source)
    found = load_votes(source, skip_bad_rows=True)
    assert as_rows(found) == GOOD and list(found.left_out) == [2, 3, 4]
    for number, (_, reason) in enumerate(wrong, start=2):
        assert f"  row {number}: {reason}" in str(refused.value) and found.left_out[number].startswith(reason)


# ── One text is one prompt, one name is one model or person ──────────────────────────────────────────────


def test_one_text_under_several_ids_is_one_prompt_and_one_response(place: Path) -> None:
    asked, said = "Wie groß ist das Café?", "Im Café\n\nfür zwei"
    parts = unicodedata.normalize("NFD", said)
    written = [(asked, said), (f"\u00a0\ufeff{asked} \r\n\r\n", f"{said} \r\n"), (asked, parts)]
    rows = [vote(prompt_id=f"p{i}", prompt=p, response_a=r, user=f"u{i}") for i, (p, r) in enumerate(written)]
    found = load_votes(save(place, rows))
    assert [(p.id, p.text) for p in found.prompts] == [("p0", asked)]
    assert [p.prompt_id for p in found.preferences] == ["p0"] * 3
    assert [r.text for r in found.responses if r.model == "x"] == [said]
    assert found.notes[0].endswith(": one text is one prompt")
    swapped = vote(model_a="y", response_a="so", model_b="x", response_b="because", outcome=0.0)
    assert "1 vote given again" in load_votes(save(place, [vote(), swapped])).notes[0]


def coins(again: int) -> list[Row]:
    """A coin's outcome for each pair of each prompt, as so many people gave it: nothing to be learned."""
    draw = random.Random(1)
    return [
        vote(prompt_id=str(i), prompt=prompt, model_a=a, model_b=b, outcome=outcome,
             response_a=f"{a} on {prompt}", response_b=f"{b} on {prompt}")
        for i, prompt in enumerate(f"Wie groß ist das {i}. Café?" for i in range(12))
        for a, b in combinations(("alpha", "beta", "gamma", "delta"), 2)
        for outcome in [draw.randint(0, 1)] * again
    ]  # fmt: skip


def test_coins_are_not_learned_by_heart_under_the_numbers_of_rows_and_trailing_blanks(tmp_path: Path) -> None:
    rows = [row | {"prompt_id": i, "prompt": row["prompt"] + " " * (i % 2)} for i, row in enumerate(coins(6))]
    votes = load_votes(save(tmp_path / "coins.jsonl", rows))
    seen = {r.text: np.random.default_rng([*r.text.encode()]).normal(size=64) for r in votes.responses}
    shown = np.array([seen[r.text] for r in votes.responses], dtype=np.float32)
    index = {(r.prompt_id, r.model): i for i, r in enumerate(votes.responses)}
    features = Features(index, shown, shown, np.zeros(len(shown), np.float32), has_score=False, base="drawn")
    found = measure(Crowd(votes, features, {}, ExperimentConfig(num_prompts=len(votes.prompts))), Clock())
    assert (len(votes.prompts), len(votes.preferences), found["winner"]) == (12, 432, "none")
    for system in ("reward_model", "combined"):
        assert found["cross_validated"][system]["ranking_accuracy"]["mean"] == pytest.approx(0.5, abs=0.17)


def test_numbers_of_people_are_no_ids_of_prompts_and_none_are_needed(tmp_path: Path) -> None:
    rows = [row | {"prompt_id": i % 3} for i, row in enumerate(coins(1))]
    with pytest.raises(UsageError, match=r"too many to leave out for one reason .*prompts need no id"):
        load_votes(save(tmp_path / "v.csv", rows), skip_bad_rows=True)
    bare = [{name: value for name, value in row.items() if name != "prompt_id"} for row in rows]
    found = load_votes(save(tmp_path / "v.csv", bare * 3))
    assert (len(found.prompts), len(found.preferences)) == (12, 3 * 72)
    assert any(note.startswith("144 votes ") and note.endswith(": each counts") for note in found.notes)


@pytest.mark.parametrize("other", ["M1:Latest ", "\u00a0m1\u200b\n"])
def test_a_name_in_another_spelling_is_no_second_model_and_no_second_person(tmp_path: Path, other: str) -> None:
    rows = [vote(model_a="m1", user="m1"), vote(model_a=other, user=other, prompt_id="p2", prompt="How?"),
            vote(model_a="m1", model_b=other)]  # fmt: skip
    found = load_votes(save(tmp_path / "v.jsonl", rows))
    assert (found.models, found.users) == (("m1", "y"), ("m1",))
    assert found.left_out == {3: "the same model answers on both sides"}
    assert ("one name for m1 = M1:Latest" in found.notes[0]) is ("M" in other)


# ── A value has its type, a coding is recognized or refused, first turns only ────────────────────────────


@pytest.mark.parametrize("value", [float("nan"), True, 7.5])
def test_a_figure_is_no_text_and_nothing_is_no_name(tmp_path: Path, value: Any) -> None:
    for name, suffix in product(("user", "prompt", "response_a"), ("jsonl", "parquet")):
        source = save(tmp_path / f"v.{suffix}", [vote(**{name: value}), vote(**{name: value}, model_b="z")])
        if (name, value) == ("user", 7.5):
            assert load_votes(source).users == ("7.5",), "a person may be a number"
        else:
            with pytest.raises(UsageError, match=rf"row 1: {name} is (missing|no text)"):
                load_votes(source)


@pytest.mark.parametrize(("outcomes", "coding"), [
    ([-1, *[0, 1] * 30], "-1, 0, 1"), ([1, 2], "1, 2"), ([0, 50, 100], "0 to 100"),
])  # fmt: skip
def test_another_coding_is_named_and_never_skipped_around(tmp_path: Path, outcomes: list[int], coding: str) -> None:
    source = save(tmp_path / "v.csv", [vote(outcome=outcome) for outcome in outcomes])
    for skip in (False, True):
        with pytest.raises(UsageError, match=rf"the votes are coded {coding}, ") as refused:
            load_votes(source, skip_bad_rows=skip)
        assert "--skip_bad_rows" not in str(refused.value)


def test_words_and_decimal_commas_are_outcomes(tmp_path: Path) -> None:
    words = {"model_a": 1.0, "Tie": 0.5, "model_b": 0.0, "tie (bothbad)": 0.5, "0,5": 0.5, "0,125": 0.125}
    found = load_votes(save(tmp_path / "v.csv", [vote(outcome=word) for word in words]))
    assert [p.outcome for p in found.preferences] == list(words.values())


def test_a_long_name_of_a_file_becomes_one_that_any_disk_takes() -> None:
    assert [len(run_name(f"{name}.jsonl").encode()) for name in ("v" * 245, "日" * 80)] == [100, 99]
