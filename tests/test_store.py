"""The store against a plain dictionary, its file as a person sees it, and what it promises when things go wrong for
real: kill -9, cut bytes, full disks, edited files, two runs at once."""

from __future__ import annotations

import copy
import json
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock  # noqa: F401 - here, since nobody in particular may not load it
import pytest
from hypothesis import given, settings
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
from core.files import lock, write_atomically
from core.store import Item, Store, read_items

ROOT = Path(__file__).resolve().parent.parent
MACHINES, STEPS = 30, 20  # histories of random operations and crashes, and the operations in each
KILLS = 5

Held = dict[tuple[str, str], Any]

json_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: (
        st.lists(inner | st.none(), max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3)
    ),
    max_leaves=5,
)
few_ids = st.tuples(st.sampled_from(["a", 'quo"ted', "ключ/é", "back\\slash", ""]), st.sampled_from(["h1", "h2"]))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def contents(store: Store) -> Held:
    return {id: item.value for id, item in read_items(store.path).items()}


def items_of(held: Held) -> list[Item]:
    return [Item(*id, {}, value) for id, value in held.items()]


def filled(path: Path, count: int = 3) -> Held:
    """A store with ``count`` items; what was put into it."""
    held: Held = {(f"p-{i}", f"hash{i}"): {"text": f"Answer “{i}” é\n", "n": i} for i in range(count)}
    with Store(path, stage="answers") as store:
        store.put_many(items_of(held))
    return held


def kept(path: Path) -> tuple[Held, list[str]]:
    """What an opened store holds, and its notices."""
    with Store(path, stage="answers") as store:
        return contents(store), store.notices


def seen(path: Path, samples: Path | None = None) -> Held:
    """What is read of the files, which stay as they are."""
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    found = {id: item.value for id, item in read_items(path, samples).items()}
    assert before == {p: p.read_bytes() for p in path.parent.iterdir()}
    return found


# ── Random operations and crashes ────────────────────────────────────────────────────────────────────────


class Histories(RuleBasedStateMachine):
    """A store that is used, left and crashed at random must look like a plain dictionary."""

    @initialize()
    def start(self) -> None:
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

    def crash(self) -> None:
        """Go on with a copy of the files as they are now: what a killed process leaves behind."""
        self.folders += 1
        left, self.folder = self.folder, self.root / str(self.folders)
        if left.exists():
            shutil.copytree(left, self.folder)
        self.store.__exit__(None, None, None)  # closes the old one's handle; nobody looks at its folder again

    @rule(id=few_ids, value=json_values)
    def put(self, id: tuple[str, str], value: Any) -> None:
        self.store.put(*id, value)
        self.keep({id: value})

    @rule(held=st.dictionaries(few_ids, json_values, max_size=4))
    def put_many(self, held: Held) -> None:
        self.store.put_many(items_of(held))
        self.keep(held)

    def keep(self, held: Held) -> None:
        self.truth.update({id: json.loads(json.dumps(value)) for id, value in held.items()})
        self.states.append((len(self.journal()), copy.deepcopy(self.truth)))

    @rule(rows=st.dictionaries(st.sampled_from(["a", "b"]), json_values, max_size=2))
    def print_out(self, rows: dict[str, Any]) -> None:
        self.store.print_out(rows)

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
        if self.folder.exists():
            assert list(seen(self.folder / "x.json").items()) == list(self.truth.items())

    @invariant()
    def looks_like_a_dictionary(self) -> None:
        if hasattr(self, "truth"):
            assert list(contents(self.store).items()) == list(self.truth.items())
            assert self.store.notices == []  # a crash is not a damage

    def teardown(self) -> None:
        if hasattr(self, "truth"):
            self.store.__exit__(None, None, None)
            shutil.rmtree(self.root)


def test_random_operations_and_crashes_leave_what_a_dictionary_holds() -> None:
    tried = settings(max_examples=MACHINES, stateful_step_count=STEPS, deadline=None)
    run_state_machine_as_test(Histories, settings=tried)


# ── What is kept, and how it looks ───────────────────────────────────────────────────────────────────────


def test_the_file_is_json_for_people(tmp_path: Path) -> None:
    with Store(tmp_path / "new" / "x.json", stage="answers") as store:
        store.put("second", "abc", {"text": "Übung “x”"}, judge="llama3:8b", topic="x")
        store.put("first", "abc", 1)
        store.put("second", "abd", 2, judge="gemma3:4b")
        store.print_out({"sum": 3})
        store.put("second", "abc", {"text": "Übung “y”"}, judge="llama3:8b", topic="y")
    text = (tmp_path / "new" / "x.json").read_text(encoding="utf-8")
    document = json.loads(text)
    about = document.pop("about")
    assert "print_out" in about
    assert document == {"schema_version": 2, "stage": "answers", "items": [
        {"key": "second", "made_from": "abc", "judge": "llama3:8b", "topic": "y", "value": {"text": "Übung “y”"}},
        {"key": "first", "made_from": "abc", "value": 1},
        {"key": "second", "made_from": "abd", "judge": "gemma3:4b", "value": 2},
        {"key": "sum", "print_out": True, "value": 3},
    ]}  # fmt: skip
    assert list(document["items"][0]) == ["key", "made_from", "judge", "topic", "value"]
    assert "Übung “y”" in text and '\n    {\n      "key": "second",\n' in text
    assert names(tmp_path / "new") == ["x.json"]
    with Store(tmp_path / "new" / "x.json", stage="answers") as store:
        assert [store.get("second", made_from) for made_from in ("abc", "abd", "abe")] == [
            {"text": "Übung “y”"},
            2,
            None,
        ]


def test_a_put_is_one_line_of_the_journal_and_the_file_waits_for_the_end(tmp_path: Path) -> None:
    path, journal = tmp_path / "x.json", tmp_path / "x.json.journal"
    filled(path)
    before = path.stat()
    with Store(path, stage="answers") as store:
        for i in range(9):
            store.put(f"k{i}", "h", {"n": i}, judge="me")
        store.put_many([Item("b", "h", {}, 1), Item("c", "h", {}, 2)])
        lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
        assert lines[8] == {"key": "k8", "made_from": "h", "judge": "me", "value": {"n": 8}}
        assert (len(lines), len(lines[9])) == (10, 2)
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(json.loads(path.read_bytes())["items"]) == 14 and not journal.exists()


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    held = filled(path)
    with Store(path, stage="answers") as store:
        store.print_out({"sum": 3.5})
    before = path.stat()
    with Store(path, stage="answers") as store:
        store.put_many(items_of(held))
        store.put_many([])
        store.print_out({"sum": 3.5})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with Store(tmp_path / "empty" / "y.json", stage="answers") as store:
        assert store.get("a", "b") is None
    assert names(tmp_path) == ["x.json"]


def test_print_outs_are_replaced_as_a_whole_and_are_no_items(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    held = filled(path)
    for rows in ({"p-0": 1, "b": 2}, {"b": 3}):
        with Store(path, stage="answers") as store:
            store.print_out(rows)
            assert contents(store) == held
        printed = {i["key"]: i["value"] for i in json.loads(path.read_bytes())["items"] if "print_out" in i}
        assert printed == rows
    filled(path, 4)
    assert json.loads(path.read_bytes())["items"][-1]["value"] == 3, "whoever prints nothing out leaves them there"


def test_what_an_exception_interrupts_is_kept_also_where_the_file_can_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for value, is_folder in enumerate([False, True]):
        with pytest.raises(KeyboardInterrupt), Store(path, stage="answers") as store:
            store.put("a", f"h{value}", value)
            if is_folder:
                path.rename(tmp_path / "elsewhere")
                path.mkdir()
            raise KeyboardInterrupt  # is what the user did, and is not replaced by the other trouble
    assert "can't be written: Is a directory" in store.notices[0]
    path.rmdir()
    (tmp_path / "elsewhere").rename(path)
    assert kept(path) == ({("a", "h0"): 0, ("a", "h1"): 1}, [])


@pytest.mark.parametrize("value", [None, float("nan"), {1, 2}, b"bytes", Path("x")])
def test_what_is_not_json_is_refused_and_leaves_no_trace(tmp_path: Path, value: Any) -> None:
    with Store(tmp_path / "x.json", stage="answers") as store:
        with pytest.raises(TypeError):
            store.put_many([Item("good", "h", {}, 1), Item("bad", "h", {}, value)])
        assert not contents(store)
    assert names(tmp_path) == []


def test_samples_fill_the_store_up_and_stay_as_they_are(tmp_path: Path) -> None:
    path, samples = tmp_path / "x.json", tmp_path / "samples.json"
    held = filled(samples)
    recorded = samples.read_bytes()
    assert seen(path, samples) == held
    with Store(path, stage="answers", samples=samples) as store:
        store.put("p-1", "mine", "my own")
        assert store.get("p-0", "hash0") == held["p-0", "hash0"]
        assert store.get("p-0", "another hash") is None
    assert kept(path)[0] == {("p-1", "mine"): "my own", ("p-0", "hash0"): held["p-0", "hash0"]}
    assert seen(path, samples) == {**held, ("p-1", "mine"): "my own"}
    assert samples.read_bytes() == recorded
    samples.write_bytes(recorded[:-60])
    with Store(path, stage="answers", samples=samples) as store:
        assert store.get("p-2", "hash2") is None
    assert "is damaged or cut short" in store.notices[0] and f"git checkout {samples}" in store.notices[0]
    assert names(tmp_path) == ["samples.json", "x.json"]


# ── Edited and damaged files ─────────────────────────────────────────────────────────────────────────────


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Change the parsed file; what it holds afterwards."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document, indent=1), encoding="utf-8-sig")  # as an editor on Windows does
    return path.read_bytes()


def test_what_a_person_edits_is_taken_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    held = filled(path)

    def change(document: dict[str, Any]) -> None:
        document["note"] = "mine"
        first, second, third = document["items"]
        first["value"]["text"] = "by hand"
        document["items"] = [third, first, {**second, "made_from": "of my own", "value": [1], "why": "a copy"}]

    edit(path, change)
    first = {"text": "by hand", "n": 0}
    wanted = {("p-2", "hash2"): held["p-2", "hash2"], ("p-0", "hash0"): first, ("p-1", "of my own"): [1]}
    assert kept(path) == (wanted, [])
    with Store(path, stage="answers") as store:
        store.put("new", "h", 1)
    document = json.loads(path.read_bytes())
    assert document["note"] == "mine" and document["items"][2]["why"] == "a copy"
    assert kept(path) == ({**wanted, ("new", "h"): 1}, [])


def test_items_of_a_wrong_shape_are_left_out_and_said_and_the_file_is_copied_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    held = filled(path)
    wrong: list[Any] = [5, {"key": "a"}, {"key": 1, "made_from": "h", "value": 1},
                        {"key": "b", "made_from": "h", "value": None}]  # fmt: skip
    twice = {"key": "p-2", "made_from": "hash2", "value": "the later one"}
    edited = edit(path, lambda document: document["items"].extend([*wrong, twice]))
    assert seen(path) == {**held, ("p-2", "hash2"): "the later one"}
    found, (notice,) = kept(path)
    assert found == {**held, ("p-2", "hash2"): "the later one"}
    aside = path.with_name(names(tmp_path)[1])
    assert "has 5 of 8 items that are no {key, made_from, value}" in notice and aside.name in notice
    assert aside.read_bytes() == edited
    assert kept(path) == (found, []), "said once: the file is sound again"


WRONG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "damaged or cut short"),
    "binary": (lambda data: bytes(range(256)), "damaged or cut short"),
    "text after it": (lambda data: data + b"x", "damaged or cut short"),
    "deeply nested": (lambda data: b"[" * 100_000, "damaged or cut short"),
    "a number too large": (lambda data: data.replace(b'"n": 1', b'"n": 1e999'), "1e999 is no number"),
    "NaN": (lambda data: data.replace(b'"n": 1', b'"n": NaN'), "NaN is no number"),
    "a list": (lambda data: b"[1, 2]", "is no JSON object with items"),
    "an older schema": (lambda data: b'{"schema_version": 1, "stage": "answers", "items": {}}', "has schema_version 1"),
    "a strange schema": (lambda data: data.replace(b": 2,", b': "\\u001b[31m",'), r"has schema_version '\x1b[31m'"),
    "no items": (lambda data: b'{"schema_version": 2, "stage": "answers"}', "is no JSON object with items"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_can_not_be_used_is_set_aside_whole_and_said(tmp_path: Path, case: str) -> None:
    damage, says = WRONG[case]
    path = tmp_path / "x.json"
    for time in (1, 2):  # in the same second: no file that was set aside is overwritten
        filled(path)
        path.write_bytes(damaged := damage(path.read_bytes()))
        assert seen(path) == {}
        found, (notice,) = kept(path)
        assert found == {} and says in notice and notice.isprintable()
        aside = [p for p in tmp_path.iterdir() if p.name.startswith("x.json.damaged-")]
        assert len(aside) == time and any(p.name in notice for p in aside)
        assert all(p.read_bytes() == damaged for p in aside)
        assert kept(path) == ({}, [])


def test_bad_lines_of_the_journal_are_said_and_all_others_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, journal = tmp_path / "x.json", tmp_path / "x.json.journal"
    held = filled(path)
    both = b'[{"key": "c", "made_from": "h", "value": 3}, {"key": "d", "made_from": "h", "value": 4}]'
    lines = [b'{"key": "a", "made_from": "h", "value": 1}', b"rubbish", b'{"key": "b"}', both, b'{"key": "to']
    journal.write_bytes(b"\n".join(lines))
    with caplog.at_level(logging.WARNING, logger="ranking.cache"):
        found, (notice,) = kept(path)
    assert found == {**held, ("a", "h"): 1, ("c", "h"): 3, ("d", "h"): 4}
    assert "has 2 of 4 lines that can't be read" in notice and notice in caplog.text
    (aside,) = tmp_path.glob("x.json.journal.damaged-*")
    assert aside.read_bytes() == b"\n".join(lines) and not journal.exists()


# ── Cut bytes, kills and full disks ──────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_at_all_are_no_exception(main: bytes, journal: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.json")
        path.write_bytes(main)
        path.with_name("x.json.journal").write_bytes(journal)
        assert seen(path) == {}


PUTTING = """
import sys
from pathlib import Path
from core.store import Item, Store
number = int(sys.argv[2])
while True:
    with Store(Path(sys.argv[1]), stage="answers") as store:
        for _ in range(20):
            number += 1
            value = {"n": number, "text": f"“{number}” " * (number % 97)}
            store.put_many(Item(f"{number % 8}-{i}", "h", {}, value) for i in range(5))
            print(number, flush=True)
"""


@contextmanager
def child(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that runs ``code``, killed at the end."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process
        process.kill()


def test_every_put_that_returned_survives_kill_9(tmp_path: Path) -> None:
    path, rng = tmp_path / "x.json", random.Random(1)
    last: dict[int, int] = {}
    start = 0
    for _ in range(KILLS):
        with child(PUTTING, path, start) as process:
            assert process.stdout
            lines = [process.stdout.readline() for _ in range(rng.randrange(1, 60))]
            process.kill()
            lines += process.stdout  # what it had said before the kill reached it
        acknowledged = [int(line) for line in lines if line.endswith("\n")]
        last.update({number % 8: number for number in acknowledged})
        start = acknowledged[-1]
        found, notices = kept(path)
        assert notices == []
        for group, number in last.items():
            values = [found[f"{group}-{i}", "h"] for i in range(5)]
            assert all(value == values[0] for value in values), "all of a group or none"
            assert values[0]["n"] in (number, number + 8), "the one being put at the kill may be there or not"
            assert values[0]["text"] == f"“{values[0]['n']}” " * (values[0]["n"] % 97)


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Files may not grow beyond a limit, which the kernel refuses in the middle of a write as a full disk does."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def test_a_full_disk_refuses_a_put_and_keeps_all_before_it(tmp_path: Path) -> None:
    path, journal = tmp_path / "x.json", tmp_path / "x.json.journal"
    put = 0
    with full_disk(5_000):
        store = Store(path, stage="answers").__enter__()
        with pytest.raises(UsageError, match=r"File too large.*Free some space"):
            while True:
                store.put(f"k{put}", "h", "x" * 100)
                put += 1
        assert journal.read_bytes().count(b"\n") == put > 10
        with pytest.raises(UsageError, match="can't be written"):
            store.put(f"k{put}", "h", "x" * 100)
        with pytest.raises(UsageError, match="File too large"):
            store.__exit__(None, None, None)
        assert names(tmp_path) == ["x.json.journal"]
    assert len(seen(path)) == put
    store = Store(path, stage="answers").__enter__()
    size = path.stat().st_size
    with full_disk(100), pytest.raises(UsageError):
        store.put("refused at first", "h", "x" * 200)
    store.put("there is room again", "h", 1)
    assert len(journal.read_bytes().splitlines()) == 1 and path.stat().st_size == size
    both = {("refused at first", "h"), ("there is room again", "h")}
    assert both < seen(path).keys(), "as a kill would leave it now"
    store.__exit__(None, None, None)
    assert len(kept(path)[0]) == put + 2


def test_a_read_only_folder_can_be_read_and_is_refused_for_writing() -> None:
    folder = Path(tempfile.mkdtemp())  # tmp_path's parents are closed to others
    root = os.geteuid() == 0  # who may write anywhere: nobody in particular tries instead
    held = filled(folder / "x.json")
    before = (folder / "x.json").read_bytes()
    folder.chmod(0o555)
    if root:
        os.seteuid(65534)
    try:
        assert kept(folder / "x.json") == (held, [])
        refused = r"Permission denied.*chmod.*--cache_dir"
        with pytest.raises(UsageError, match=refused), Store(folder / "x.json", stage="answers") as store:
            store.put("b", "h", 2)
        with pytest.raises(UsageError, match=refused):
            write_atomically(folder / "y.json", "y")
        with pytest.raises(UsageError, match=refused), lock(folder):
            pass
        assert names(folder) == ["x.json"] and (folder / "x.json").read_bytes() == before
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


# ── Two runs at once ─────────────────────────────────────────────────────────────────────────────────────


def test_a_second_run_says_that_it_waits_and_goes_on_when_the_first_is_done(tmp_path: Path) -> None:
    waits, order = threading.Event(), []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == f"another run is using {tmp_path}; waiting for it":
                waits.set()

    def second() -> None:
        with lock(tmp_path):
            order.append("second")

    listener = Listener()
    logging.getLogger("ranking.cache").addHandler(listener)
    with ThreadPoolExecutor(1) as pool:
        with lock(tmp_path):
            future = pool.submit(second)
            assert waits.wait(60)
            order.append("first")
        future.result(60)
    logging.getLogger("ranking.cache").removeHandler(listener)
    assert order == ["first", "second"]


HOLDING = """
import sys
from pathlib import Path
from core.files import lock
with lock(Path(sys.argv[1])):
    print("holding", flush=True)
    sys.stdin.read()
"""


def test_a_lock_goes_with_its_process_and_so_does_what_it_left(tmp_path: Path) -> None:
    (tmp_path / ".x.json.123-abc.tmp").write_text("left by a kill")
    with child(HOLDING, tmp_path) as process:
        assert process.stdout and process.stdout.readline() == "holding\n"
        for timeout in (0, 0.01):
            with pytest.raises(UsageError, match=f"Another run is still using {tmp_path}; "), lock(tmp_path, timeout):
                pass
        os.utime(tmp_path / ".x.json.123-abc.tmp", (1, 1))
        (tmp_path / ".y.json.124-abc.tmp").write_text("being written")
        process.kill()
        process.wait()
    with lock(tmp_path, timeout=60):
        assert names(tmp_path) == [".lock", ".y.json.124-abc.tmp"]
