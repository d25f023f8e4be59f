"""The store against a plain dictionary, its file as a person sees it, and what it says of a file that is not right.

Kills, damaged bytes, full disks and two runs at once are in ``test_cache_faults.py``.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import logging
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, params
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.errors import UsageError
from core.store import Store, fingerprint, write_atomically

MACHINES, STEPS = 80, 25  # histories of random operations and crashes, and the operations in each

Pairs = dict[str, tuple[str, Any]]

json_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: (
        st.lists(inner | st.none(), max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3)
    ),
    max_leaves=5,
)
few_keys = st.sampled_from(["a", "b", 'quo"ted', "c: {", "ключ/é", "back\\slash", ""])
hashes = st.sampled_from(["h1", "h2"])


def as_read(value: Any) -> Any:
    """What JSON makes of a value, by the standard library's other spelling."""
    return json.loads(json.dumps(value))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def contents(store: Store) -> list[tuple[str, str, Any]]:
    return list(store.items())


def filled(path: Path, count: int = 3) -> Pairs:
    """A store with ``count`` items; what was put into it."""
    pairs: Pairs = {f"p-{i:03d}": (f"hash{i}", {"text": f"Answer “{i}” é\n", "tokens": i}) for i in range(count)}
    with Store(path, stage="answers") as store:
        store.put_many(pairs)
    return pairs


def kept(path: Path, pairs: Pairs, **options: Any) -> tuple[set[str], list[str]]:
    """Which of the pairs an opened store still gives, and its notices; a wrong value is a failure."""
    with Store(path, stage="answers", **options) as store:
        found = {key: store.get(key, made_from) for key, (made_from, _) in pairs.items()}
    assert all(value is None or value == pairs[key][1] for key, value in found.items())
    return {key for key, value in found.items() if value is not None}, store.notices


# ── Random operations and crashes ────────────────────────────────────────────────────────────────────────


class Histories(RuleBasedStateMachine):
    """A store that is used, left and crashed at random must look like a plain dictionary."""

    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.folders = 0
        self.folder = self.root / "0"
        self.truth: Pairs = {}
        self.open()

    def open(self) -> None:
        """Open what lies in the folder; ``states`` tells what is safe once the journal has reached a length."""
        self.store = Store(self.folder / "x.json", stage="s")
        self.store.__enter__()
        self.states = [(0, copy.deepcopy(self.truth))]

    def journal(self) -> bytes:
        path = self.folder / "x.json.journal"
        return path.read_bytes() if path.exists() else b""

    def done(self) -> None:
        self.states.append((len(self.journal()), copy.deepcopy(self.truth)))

    def crash(self) -> None:
        """Go on with a copy of the files as they are now: what a killed process leaves behind."""
        self.folders += 1
        left, self.folder = self.folder, self.root / str(self.folders)
        if left.exists():
            shutil.copytree(left, self.folder)
        self.store.__exit__(None, None, None)  # closes the old one's handle; nobody looks at its folder again

    @rule(key=few_keys, made_from=hashes, value=json_values)
    def put(self, key: str, made_from: str, value: Any) -> None:
        self.store.put(key, made_from, value)
        self.truth[key] = (made_from, as_read(value))
        self.done()

    @rule(items=st.dictionaries(few_keys, st.tuples(hashes, json_values), max_size=4))
    def put_many(self, items: Pairs) -> None:
        self.store.put_many(items)
        self.truth.update({key: (made_from, as_read(value)) for key, (made_from, value) in items.items()})
        self.done()

    @rule(key=few_keys, made_from=hashes)
    def get(self, key: str, made_from: str) -> None:
        held = self.truth.get(key)
        assert self.store.get(key, made_from) == (held[1] if held and held[0] == made_from else None)

    @rule(keys=st.lists(few_keys, max_size=3))
    def remove(self, keys: list[str]) -> None:
        before = len(self.truth)
        for key in keys:
            self.truth.pop(key, None)
        self.store.remove(keys)
        if len(self.truth) < before:
            self.states = [(0, copy.deepcopy(self.truth))]

    @rule()
    def leave(self) -> None:
        self.store.__exit__(None, None, None)
        assert not self.journal()
        self.open()

    @rule()
    def crash_and_go_on(self) -> None:
        self.crash()
        self.open()

    @precondition(lambda self: self.journal())
    @rule(data=st.data())
    def crash_in_the_middle_of_a_line(self, data: st.DataObject) -> None:
        journal = self.journal()
        cut = data.draw(st.integers(0, len(journal)), label="bytes left of the journal")
        self.crash()
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

    @rule()
    def look_from_beside(self) -> None:
        files = {p.name: p.read_bytes() for p in self.folder.iterdir()} if self.folder.exists() else {}
        with Store(self.folder / "x.json", stage="s", read_only=True) as other:
            assert contents(other) == contents(self.store)
        assert files == ({p.name: p.read_bytes() for p in self.folder.iterdir()} if self.folder.exists() else {})

    @invariant()
    def looks_like_a_dictionary(self) -> None:
        if hasattr(self, "truth"):
            assert contents(self.store) == [(key, *pair) for key, pair in self.truth.items()]
            assert len(self.store) == len(self.truth)
            assert self.store.notices == []  # a crash is not a damage

    def teardown(self) -> None:
        if hasattr(self, "truth"):
            self.store.__exit__(None, None, None)
            shutil.rmtree(self.root)


def test_random_operations_and_crashes_leave_what_a_dictionary_holds() -> None:
    run_state_machine_as_test(Histories, params=params(max_examples=MACHINES, stateful_step_count=STEPS, deadline=None))


# ── What is kept, and how it looks ───────────────────────────────────────────────────────────────────────


def test_the_file_is_json_for_people(tmp_path: Path) -> None:
    with Store(tmp_path / "new" / "x.json", stage="answers") as store:
        for key in ("second", "first", "third"):
            store.put(key, "abc", {"text": "Übung “x”", "n": 1})
        store.put("second", "abc", {"text": "Übung “y”", "n": 1})
    text = (tmp_path / "new" / "x.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert list(document) == ["schema_version", "stage", "about", "items"]
    assert (document["schema_version"], document["stage"]) == (1, "answers")
    assert list(document["items"]) == ["second", "first", "third"]
    assert list(document["items"]["first"]) == ["made_from", "checksum", "value"]
    assert "Übung “y”" in text and '\n    "first": {\n' in text
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.json"]


def test_a_put_is_in_the_journal_before_it_returns_and_the_file_waits_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    filled(path)
    before = path.stat()
    with Store(path, stage="answers") as store:
        lengths = []
        for i in range(50):
            store.put(f"k{i:02d}", "h", {"n": 10 + i})
            lengths.append((tmp_path / "x.json.journal").stat().st_size)
        assert len({b - a for a, b in itertools.pairwise(lengths)}) == 1  # one line each, no rewriting
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(json.loads(path.read_text(encoding="utf-8"))["items"]) == 53


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    pairs = filled(path)
    before = path.stat()
    with Store(path, stage="answers") as store:
        for key, (made_from, value) in pairs.items():
            assert store.get(key, made_from) == value
            store.put(key, made_from, value)
        store.put_many({})
        store.remove(["not there"])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with Store(tmp_path / "empty" / "y.json", stage="answers") as store:
        assert store.get("a", "b") is None
    assert names(tmp_path) == ["x.json"]


def test_what_an_exception_interrupts_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(KeyboardInterrupt), Store(path, stage="answers") as store:
        store.put("a", "h", [1])
        raise KeyboardInterrupt
    assert kept(path, {"a": ("h", [1])}) == ({"a"}, [])


def test_where_the_file_can_not_be_written_on_leaving_the_journal_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(KeyboardInterrupt), Store(path, stage="answers") as store:
        store.put("a", "h", [1])
        path.mkdir()
        raise KeyboardInterrupt  # is what the user did, and is not replaced by the other trouble
    assert "can't be written: Is a directory" in store.notices[0]
    path.rmdir()
    assert kept(path, {"a": ("h", [1])}) == ({"a"}, [])


def test_an_item_is_given_only_for_what_it_was_made_from(tmp_path: Path) -> None:
    with Store(tmp_path / "x.json", stage="answers") as store:
        store.put("a", "old", 1)
        assert store.get("a", "new") is None
        store.put("a", "new", 2)
        assert store.get("a", "old") is None
        assert store.get("a", "new") == 2


def test_changing_what_was_got_or_put_changes_nothing_in_the_store(tmp_path: Path) -> None:
    value: dict[str, Any] = {"list": [1]}
    with Store(tmp_path / "x.json", stage="answers") as store:
        store.put("a", "h", value)
        value["list"].append(2)
        store.get("a", "h")["list"].append(3)  # type: ignore[index]
        next(store.items())[2]["list"].append(4)
        assert store.get("a", "h") == {"list": [1]}
    assert kept(tmp_path / "x.json", {"a": ("h", {"list": [1]})}) == ({"a"}, [])


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), {1, 2}, b"bytes", Path("x"), object()])
def test_what_is_not_json_is_refused_and_leaves_no_trace(tmp_path: Path, value: Any) -> None:
    with Store(tmp_path / "x.json", stage="answers") as store:
        with pytest.raises(TypeError):
            store.put_many({"good": ("h", 1), "bad": ("h", value)})
        assert len(store) == 0
    assert names(tmp_path) == []


def test_a_read_only_store_refuses_to_put(tmp_path: Path) -> None:
    with Store(tmp_path / "x.json", stage="answers", read_only=True) as store, pytest.raises(RuntimeError):
        store.put("a", "h", 1)
    assert names(tmp_path) == []


# ── The recorded run ─────────────────────────────────────────────────────────────────────────────────────


def test_samples_fill_the_store_up_and_stay_as_they_are(tmp_path: Path) -> None:
    path, samples = tmp_path / "x.json", tmp_path / "samples.json"
    pairs = filled(samples)
    recorded = samples.read_bytes()
    with Store(path, stage="answers") as store:
        store.put("p-001", "mine", "my own")
    with Store(path, stage="answers", samples=samples) as store:
        assert store.get("p-000", "hash0") == pairs["p-000"][1]
        assert store.get("p-000", "another hash") is None
        assert store.get("p-001", "mine") == "my own"
        assert [key for key, *_ in store.items()] == ["p-001", "p-000"]
    assert kept(path, pairs)[0] == {"p-000"}
    assert samples.read_bytes() == recorded
    with Store(tmp_path / "y.json", stage="answers", samples=samples, read_only=True) as store:
        assert store.get("p-002", "hash2") == pairs["p-002"][1]
        assert len(store) == 0
    assert names(tmp_path) == ["samples.json", "x.json"]


def test_damaged_samples_are_said_and_left_alone(tmp_path: Path) -> None:
    samples = tmp_path / "samples.json"
    pairs = filled(samples)
    samples.write_bytes(cut := samples.read_bytes()[:-60])
    found, notices = kept(tmp_path / "x.json", pairs, samples=samples)
    assert found == {"p-000", "p-001"}
    assert len(notices) == 1 and "2 intact items are used" in notices[0]
    assert samples.read_bytes() == cut
    assert kept(tmp_path / "z.json", pairs, samples=tmp_path / "missing.json") == (set(), [])


# ── Files that are not right ─────────────────────────────────────────────────────────────────────────────


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return apply


def strange(name: str, value: Any) -> Callable[[bytes], bytes]:
    return edited(lambda document: document.update({name: value}))


ALL = {"p-000", "p-001", "p-002"}
WRONG: dict[str, tuple[Callable[[bytes], bytes], set[str], str]] = {
    "empty": (lambda data: b"", set(), "damaged or cut short"),
    "one brace": (lambda data: b"{", set(), "damaged or cut short"),
    "binary": (lambda data: bytes(range(256)), set(), "damaged or cut short"),
    "deeply nested": (lambda data: b"[" * 100_000, set(), "too deeply nested"),
    "deeply nested item": (lambda data: b'{"p-000": {"made_from": ' + b"[" * 100_000, set(), "too deeply nested"),
    "a list": (lambda data: b"[1, 2]", set(), "no JSON object"),
    "null": (lambda data: b"null", set(), "no JSON object"),
    "text after it": (lambda data: data + b"x", ALL, "damaged or cut short"),
    "UTF-16": (lambda data: data.decode().encode("utf-16"), set(), "damaged or cut short"),
    "unknown keys": (strange("comment", "mine\x1b[31m"), ALL, "unknown entries ('comment')"),
    "older schema": (strange("schema_version", 0), ALL, "schema_version 0 where this program reads 1"),
    "newer schema": (strange("schema_version", 2), ALL, "schema_version 2 where"),
    "schema of a wrong type": (strange("schema_version", True), ALL, "schema_version True where"),
    "another stage": (strange("stage", "judgements"), ALL, "belongs to stage 'judgements'"),
    "items of a wrong type": (strange("items", [1]), set(), "has no items"),
    "items null": (strange("items", None), set(), "has no items"),
    "no items": (edited(lambda document: document.pop("items")), set(), "has no items"),
    "an item of a wrong type": (
        edited(lambda document: document["items"].update({"p-001": 5})),
        {"p-000", "p-002"},
        "1 of 3 items",
    ),
    "an item changed by hand": (
        edited(lambda document: document["items"]["p-001"]["value"].update(text="other")),
        {"p-000", "p-002"},
        "1 of 3 items",
    ),
    "an item moved to another key": (
        edited(lambda document: document["items"].update({"p-000": document["items"]["p-001"]})),
        {"p-001", "p-002"},
        "1 of 3 items",
    ),
    "another made_from": (
        edited(lambda document: document["items"]["p-002"].update(made_from="hash7")),
        {"p-000", "p-001"},
        "1 of 3 items",
    ),
    "NaN in an item": (
        edited(lambda document: document["items"]["p-000"]["value"].update(tokens=float("nan"))),
        {"p-001", "p-002"},
        "1 of 3 items",
    ),
    "the same key twice": (
        lambda data: data.replace(b'"p-001": {', b'"p-002": {'),
        {"p-000", "p-002"},
        "stands twice",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_moved_aside_and_said_and_what_is_intact_is_kept(tmp_path: Path, case: str) -> None:
    damage, survivors, says = WRONG[case]
    path = tmp_path / "x.json"
    pairs = filled(path)
    path.write_bytes(damaged := damage(path.read_bytes()))

    assert kept(path, pairs, read_only=True)[0] == survivors
    assert path.read_bytes() == damaged and names(tmp_path) == ["x.json"]

    found, notices = kept(path, pairs)
    assert found == survivors
    (notice,) = notices
    (aside,) = [p for p in tmp_path.iterdir() if p.name != "x.json"]
    assert says in notice and aside.name in notice and f"{len(survivors)} intact items" in notice
    assert notice.isprintable()
    assert aside.name.startswith("x.json.damaged-") and aside.read_bytes() == damaged
    assert kept(path, pairs) == (survivors, [])  # said once; the file is sound again


def test_the_layout_is_free_and_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    pairs = filled(path)
    text = json.dumps(json.loads(path.read_bytes()), sort_keys=True, indent=1).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert kept(path, pairs) == (ALL, [])
    path.write_bytes(path.read_bytes() + b"}")
    assert kept(path, pairs)[0] == ALL


def test_an_item_within_an_item_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    pairs = filled(path, 1)
    inner = json.loads(path.read_bytes())["items"]
    with Store(path, stage="answers") as store:
        store.remove(pairs)
        store.put("outer", "h", inner)
    path.write_bytes(path.read_bytes() + b"x")
    with Store(path, stage="answers") as store:
        assert contents(store) == [("outer", "h", inner)]


def test_a_file_of_another_stage_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    pairs = filled(path)
    with Store(path, stage="judgements") as store:
        assert [store.get(key, made_from) for key, (made_from, _) in pairs.items()] == [None] * 3
    assert "belongs to stage 'answers'" in store.notices[0]


def test_files_moved_aside_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for i in range(5):
        path.write_bytes(b"broken %d" % i)
        kept(path, {})
    asides = sorted(p.read_bytes() for p in tmp_path.glob("x.json.damaged-*"))
    assert asides == [b"broken %d" % i for i in range(5)]


def test_a_bad_line_of_the_journal_is_said_and_the_others_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, journal = tmp_path / "x.json", tmp_path / "x.json.journal"
    pairs: Pairs = {f"k{i}": ("h", i) for i in range(5)}
    store = Store(path, stage="answers")
    store.__enter__()
    for key, pair in pairs.items():
        store.put(key, *pair)
    lines = journal.read_bytes().split(b"\n")
    store.__exit__(None, None, None)
    path.unlink()
    lines[2] = lines[2].replace(b'"value": 2', b'"value": 7')
    journal.write_bytes(
        b"\n".join([*lines[:2], b"rubbish", b'{"remove": ["k0"], "checksum": "0"}', *lines[2:]]) + b"{to"
    )
    with caplog.at_level(logging.WARNING, logger="ranking.cache"):
        found, notices = kept(path, pairs)
    assert found == {"k0", "k1", "k3", "k4"}
    (notice,) = notices
    assert "3 of 7 lines damaged" in notice and notice in caplog.text
    assert len(list(tmp_path.glob("x.json.journal.damaged-*"))) == 1
    assert not journal.exists()


@given(st.binary(max_size=200), st.binary(max_size=200))
@params(max_examples=150, deadline=None)
def test_any_bytes_at_all_are_no_exception(main: bytes, journal: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.json")
        path.write_bytes(main)
        path.with_name("x.json.journal").write_bytes(journal)
        with Store(path, stage="answers", read_only=True) as store:
            assert len(store) == 0


def test_ten_thousand_items_open_in_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    rng = random.Random(1)
    with Store(path, stage="answers") as store:
        store.put_many({f"k{i}": ("h" * 16, {"text": "word " * rng.randrange(100), "n": i}) for i in range(10_000)})
    begun = time.perf_counter()
    with Store(path, stage="answers") as store:
        assert len(store) == 10_000
    assert time.perf_counter() - begun < 3  # 0.1 s on an idle core; a bound that a busy machine keeps as well


# ── Hashes and whole files ───────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Point:
    y: float
    x: int


def test_a_fingerprint_is_sha256_of_canonical_json() -> None:
    expected = hashlib.sha256('["é",{"a":[1,2.0],"b":null}]'.encode()).hexdigest()[:16]
    assert fingerprint("é", {"b": None, "a": (1, 2.0)}) == expected
    assert fingerprint(Point(1.5, 2)) == fingerprint({"x": 2, "y": 1.5})
    assert fingerprint("half an emoji: \ud83d") != fingerprint("half an emoji: \\ud83d")
    assert len({fingerprint(*parts) for parts in (["ab"], ["a", "b"], [["a", "b"]], ["ba"], [1], [1.0], [True])}) == 7


@pytest.mark.parametrize("part", [{1, 2}, b"x", object(), float("nan"), Point, Path("x")])
def test_a_fingerprint_of_anything_else_is_a_type_error(part: object) -> None:
    with pytest.raises(TypeError):
        fingerprint("x", [part])


@given(json_values, json_values)
def test_different_values_have_different_fingerprints(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same


def test_writing_replaces_the_whole_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.txt"
    write_atomically(path, b"a long first text")
    write_atomically(path, "short ü \ud83d")
    assert path.read_bytes() == "short ü \\ud83d".encode()
    assert names(path.parent) == ["x.txt"]


def test_a_path_that_can_not_be_written_is_a_usage_error_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"folder can't be written: Is a directory.*--cache_dir"):
        write_atomically(tmp_path / "folder", "x")
    with pytest.raises(UsageError, match=r"Not a directory|File exists"):
        write_atomically(tmp_path / "file" / "x.json", "x")
    with pytest.raises(UsageError, match="can't be read: Is a directory"), Store(tmp_path / "folder", stage="s"):
        pass
    with pytest.raises(UsageError, match="can't be read: Not a directory"), Store(tmp_path / "file" / "x", stage="s"):
        pass
    assert names(tmp_path) == ["file", "folder"]
