"""The store against a plain dictionary, its file as a person sees it, and what it makes of edited and damaged ones."""

from __future__ import annotations

import copy
import json
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.errors import UsageError
from core.files import append_line, drop_last_line
from core.store import Store, read_items

MACHINES, STEPS = 30, 20  # histories of random operations and crashes, and the operations in each

Held = dict[tuple[str, str], Any]

texts = st.text(st.characters())
json_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner | st.none(), max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
few_ids = st.tuples(st.sampled_from(["a", 'quo"ted', "ключ/é", "back\\slash", ""]), st.sampled_from(["h1", "h2"]))


def filled(path: Path, count: int = 3) -> Held:
    """A store with ``count`` items; what was put into it."""
    held: Held = {(f"p-{i}", f"hash{i}"): {"text": f"Answer “{i}” é\n", "n": i} for i in range(count)}
    with Store(path, stage="answers") as store:
        for id, value in held.items():
            store.put(*id, value)
    return held


def seen(path: Path, samples: Path | None = None) -> Held:
    """What is read of the files."""
    return {id: item["value"] for id, item in read_items(path, samples).items()}


def opened(path: Path) -> Held:
    """What the files hold once a store has been opened."""
    with Store(path, stage="answers"):
        return seen(path)


class Histories(RuleBasedStateMachine):
    """A store that is used, left and crashed at random must look like a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.folders = 0
        self.folder = self.root / "0"
        self.truth: Held = {}
        self.open()

    def open(self) -> None:
        """Open what lies in the folder; ``states`` tells what is safe once the journal has reached a length."""
        self.store = Store(self.folder / "x.json", stage="s").__enter__()
        self.states = [(0, copy.deepcopy(self.truth))]

    def journal(self) -> bytes:
        path = self.folder / "x.json.journal"
        return path.read_bytes() if path.exists() else b""

    @rule(held=st.dictionaries(few_ids, json_values, max_size=4))
    def put(self, held: Held) -> None:
        for id, value in held.items():
            self.store.put(*id, value)
            self.truth[id] = json.loads(json.dumps(value))
            self.states.append((len(self.journal()), copy.deepcopy(self.truth)))

    @rule(id=few_ids)
    def get(self, id: tuple[str, str]) -> None:
        assert self.store.get(*id) == self.truth.get(id)

    @rule()
    def leave(self) -> None:
        self.store.__exit__(None, None, None)
        assert not self.journal()
        self.open()

    @precondition(lambda self: self.journal())
    @rule(data=st.data())
    def crash_in_the_middle_of_a_line(self, data: st.DataObject) -> None:
        """Go on with a copy of the files as they are now: what a killed process leaves behind."""
        journal = self.journal()
        cut = data.draw(st.integers(0, len(journal)), label="bytes left of the journal")
        self.folders += 1
        left, self.folder = self.folder, self.root / str(self.folders)
        shutil.copytree(left, self.folder)
        self.store.__exit__(None, None, None)
        (self.folder / "x.json.journal").write_bytes(journal[:cut])
        # A line that lacks nothing but its line feed is whole as well.
        self.truth = [truth for length, truth in self.states if length <= cut + 1][-1]
        self.open()

    @precondition(lambda self: self.journal())
    @rule()
    def crash_between_rename_and_removal(self) -> None:
        journal = self.journal()
        self.store.__exit__(None, None, None)
        (self.folder / "x.json.journal").write_bytes(journal)
        self.open()

    @invariant()
    def looks_like_a_dictionary(self) -> None:
        assert list(seen(self.folder / "x.json").items()) == list(self.truth.items())
        assert not list(self.folder.glob("*.damaged-*")), "a crash is not a damage"

    def teardown(self) -> None:
        self.store.__exit__(None, None, None)
        shutil.rmtree(self.root)


def test_random_operations_and_crashes_leave_what_a_dictionary_holds() -> None:
    tried = settings(max_examples=MACHINES, stateful_step_count=STEPS, deadline=None)
    run_state_machine_as_test(Histories, settings=tried)


# ── What is kept, and how it looks ───────────────────────────────────────────────────────────────────────


def test_the_file_is_json_for_people(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    with Store(path, stage="answers") as store:
        store.put("second", "abc", {"text": "Übung “y”"}, judge="llama3:8b")
        store.put("first", "abc", 1)
        store.print_out({"sum": 3})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["items"] == [
        {"key": "second", "made_from": "abc", "judge": "llama3:8b", "value": {"text": "Übung “y”"}},
        {"key": "first", "made_from": "abc", "value": 1},
        {"key": "sum", "print_out": True, "value": 3},
    ]
    assert "Übung “y”" in text and '\n    {\n      "key": "second",\n' in text
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_samples_fill_the_store_up_and_stay_as_they_are(tmp_path: Path) -> None:
    path, samples = tmp_path / "x.json", tmp_path / "samples.json"
    held = filled(samples)
    recorded = samples.read_bytes()
    assert seen(path, samples) == held
    with Store(path, stage="answers", samples=samples) as store:
        store.put("p-1", "mine", "my own")
        assert store.get("p-0", "hash0") == held["p-0", "hash0"]
        assert store.get("p-0", "another hash") is None
    assert opened(path) == {("p-1", "mine"): "my own", ("p-0", "hash0"): held["p-0", "hash0"]}
    assert samples.read_bytes() == recorded


# ── Edited and damaged files ─────────────────────────────────────────────────────────────────────────────


def test_what_a_person_edits_is_taken_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    held = filled(path)
    document = json.loads(path.read_bytes())
    first, second, third = document["items"]
    first["value"]["text"] = "by hand"
    document["items"] = [third, first, {**second, "made_from": "of my own", "value": [1], "why": "a copy"}]
    path.write_text(json.dumps(document, indent=1), encoding="utf-8-sig")  # as an editor on Windows does
    wanted = {("p-2", "hash2"): held["p-2", "hash2"], ("p-0", "hash0"): first["value"], ("p-1", "of my own"): [1]}
    assert opened(path) == wanted
    with Store(path, stage="answers") as store:
        store.put("new", "h", 1)
    assert json.loads(path.read_bytes())["items"][2]["why"] == "a copy"
    assert opened(path) == {**wanted, ("new", "h"): 1}


SOUND = b'{"schema_version": 2, "items": [{"key": "a", "made_from": "h", "value": 1}'
LINES = b'[{"key": "a", "made_from": "h", "value": 1}]\nrubbish\n[{"key": "b"}]\n[{"key": "to'
WRONG: dict[str, tuple[bytes, int]] = {
    "text after it": (SOUND + b"]}x", 0),
    "items of a wrong shape": (SOUND + b', 5, {"key": "b", "made_from": "h", "value": null}]}', 1),
    "a journal": (LINES, 1),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_file_is_set_aside_whole_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    (damaged, left), path = WRONG[case], tmp_path / "x.json"
    (path.with_name("x.json.journal") if case == "a journal" else path).write_bytes(damaged)
    assert len(opened(path)) == left and "is damaged: as it was it is kept as x.json" in caplog.text
    assert f"{left} items are used" in caplog.text
    (aside,) = tmp_path.glob("x.json*.damaged-*")
    assert aside.read_bytes() == damaged and aside.name in caplog.text
    caplog.clear()
    assert len(opened(path)) == left and not caplog.text, "said once: the file is sound again"


# ── A full disk ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files may not grow beyond 5,000 bytes: the kernel refuses a write half way, as on a full disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, usual[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_refuses_a_put_and_keeps_all_before_it(tmp_path: Path) -> None:
    path, put = tmp_path / "x.json", 0
    store = Store(path, stage="answers").__enter__()
    with pytest.raises(UsageError, match=r"File too large.*Free some space"):
        while True:
            store.put(f"k{put}", "h", "x" * 100)
            put += 1
    assert len(seen(path)) == put > 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    store.put("with room again", "h", 1)
    assert len(seen(path)) == put + 1, "what is put next is not glued to half a line"


def test_lines_are_added_and_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.jsonl"
    append_line(path, {"text": "ü\n", "half": "\ud83d"})
    first = path.read_bytes()
    assert json.loads(first) == {"text": "ü\n", "half": "?"} and first.endswith(b"}\n")
    for left in (first, first[:-1]):  # some editors take the last line's end away
        path.write_bytes(left)
        append_line(path, {"n": 2})
        assert path.read_bytes() == first + b'{"n": 2}\n'
        drop_last_line(path)
        assert path.read_bytes() == first
    path.chmod(0o600)
    (link := tmp_path / "link.jsonl").symlink_to(path)
    path.write_bytes(first + b'{"torn": ')
    append_line(link, {"n": 2})
    assert path.read_bytes() == first + b'{"n": 2}\n' and link.is_symlink()
    drop_last_line(link)
    assert path.read_bytes() == first and link.is_symlink() and path.stat().st_mode & 0o777 == 0o600
