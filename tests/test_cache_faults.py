"""What the store promises when things go wrong for real: kill -9, cut and flipped bytes, full disks, two runs at once.

The constants are how much is tried; ``pytest tests/test_cache_faults.py -rP`` prints what came of it.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from core.errors import UsageError
from core.store import Store, lock

ROOT = Path(__file__).resolve().parent.parent
KILLS = 20  # random moments
ITEMS = 24  # in each file that is damaged
FLIPS = 500  # random bits, each in a fresh copy of each file
BURSTS = 100  # 2 to 40 random bytes in a row overwritten, in a fresh copy of each file
TENTHS = [n / 10 for n in range(10)]
MEETINGS = 10  # of two processes on one folder

Pairs = dict[str, tuple[str, Any]]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is said of thousands of damaged files would bury a failure's own words; ``notices`` hold the same."""
    caplog.set_level(logging.CRITICAL, logger="ranking.cache")


def child(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A process of its own that runs ``code`` and imports only the cache."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        **options,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Exit status and lines of a child that ends by itself."""
    out, _ = process.communicate(timeout=30)
    return process.returncode, out.splitlines()


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────────────

# Every group of five keys is put in one go, again and again with a rising number, and leaves now and then.
PUTTING = """
import sys
from pathlib import Path
from core.store import Store
number = int(sys.argv[2])
while True:
    with Store(Path(sys.argv[1]), stage="kill") as store:
        for _ in range(40):
            number += 1
            text = f"“{number}” " * (number % 97)
            store.put_many({f"{number % 8}-{i}": (f"hash{i}", {"n": number, "text": text}) for i in range(5)})
            print(number, flush=True)
"""


def kill_while_putting(path: Path, start: int, wait: float) -> list[int]:
    """Numbers that the child had been told were kept, up to a kill ``wait`` seconds after the first."""
    with child(PUTTING, path, start) as process:
        assert process.stdout
        first = process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        return [int(line) for line in [first, *process.stdout] if line.endswith("\n")]


def test_every_put_that_returned_survives_kill_9(tmp_path: Path) -> None:
    path, rng = tmp_path / "x.json", random.Random(1)
    last: dict[int, int] = {}
    total, journals = 0, 0
    start = 0
    for _ in range(KILLS):
        acknowledged = kill_while_putting(path, start, rng.uniform(0, 0.12))
        last.update({number % 8: number for number in acknowledged})
        total, start = total + len(acknowledged), acknowledged[-1]
        journals += path.with_name("x.json.journal").exists()
        with Store(path, stage="kill") as store:
            assert store.notices == []
            for group, number in last.items():
                values = [store.get(f"{group}-{i}", f"hash{i}") for i in range(5)]
                assert all(value == values[0] for value in values)  # all of a group or none
                found = values[0]["n"]  # type: ignore[index]
                assert found in (number, number + 8)  # the one being put at the kill may be there or not
                assert values[0] == {"n": found, "text": f"“{found}” " * (found % 97)}
    print(f"kill -9: {KILLS} moments, {total} puts acknowledged, 0 lost; {journals} journals replayed")


# ── Cut and flipped bytes ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    rng = random.Random(2)
    keys = [f"coder-{i:03d}/{model}" for i in range(ITEMS // 2) for model in ("llama3:8b", "gemma3:4b")]
    texts = [f'“Ü{i}” \\ "q" {{\n' * rng.randrange(1, 9) for i in range(ITEMS)]
    return {
        key: (f"{rng.getrandbits(64):016x}", {"text": text, "n": i})
        for i, (key, text) in enumerate(zip(keys, texts, strict=True))
    }


@pytest.fixture(scope="module")
def files(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of a main file, and of a journal as a killed run leaves it."""
    path = tmp_path_factory.mktemp("files") / "x.json"
    with Store(path, stage="s") as store:
        keys = list(pairs)
        store.put_many({key: pairs[key] for key in keys[:4]})
        for key in keys[4:]:
            store.put(key, *pairs[key])
        journal = path.with_name("x.json.journal").read_bytes()
    return {"x.json": path.read_bytes(), "x.json.journal": journal}


def spans(data: bytes, pairs: Pairs) -> dict[str, range]:
    """Where each item's bytes lie, from the opening quote of its key to its closing brace (found by counting)."""
    found = {}
    for key in pairs:
        start = data.index(json.dumps(key).encode() + b": {")
        depth, end, quoted = 0, start, False
        while True:
            byte = data[end : end + 1]
            if quoted and byte == b"\\":
                end += 1
            elif byte == b'"':
                quoted = not quoted
            elif not quoted:
                depth += (byte == b"{") - (byte == b"}")
                if byte == b"}" and not depth:
                    break
            end += 1
        found[key] = range(start, end + 1)
    return found


def survivors(folder: Path, name: str, data: bytes, pairs: Pairs, *, read_only: bool = True) -> set[str]:
    """The keys that a store made of these bytes still gives. A wrong value is a failure."""
    (folder / name).write_bytes(data)
    with Store(folder / "x.json", stage="s", read_only=read_only) as store:
        for key, made_from, value in store.items():
            assert pairs[key] == (made_from, value)
        return {key for key, (made_from, _) in pairs.items() if store.get(key, made_from) is not None}


@pytest.mark.parametrize("name", ["x.json", "x.json.journal"])
@pytest.mark.parametrize("part", TENTHS)
def test_a_file_cut_at_a_tenth_keeps_every_item_before_the_cut(
    tmp_path: Path, files: dict[str, bytes], pairs: Pairs, name: str, part: float
) -> None:
    data, where = files[name], spans(files[name], pairs)
    cut = data[: round(part * len(data))]
    whole = {key for key, span in where.items() if span.stop <= len(cut)}
    if name == "x.json.journal":  # what was put together counts only together
        whole &= {key for key, end in line_ends(data, where).items() if end <= len(cut)}
    assert survivors(tmp_path, name, cut, pairs, read_only=False) == whole
    asides = [p.read_bytes() for p in tmp_path.glob("*.damaged-*")]
    assert asides == ([cut] if name == "x.json" else [])  # a journal is cut by every kill: no damage, nothing to say
    assert survivors_again(tmp_path, pairs) == (whole, [])


def line_ends(data: bytes, where: dict[str, range]) -> dict[str, int]:
    return {key: data.index(b"\n", span.stop) for key, span in where.items()}


def survivors_again(folder: Path, pairs: Pairs) -> tuple[set[str], list[str]]:
    with Store(folder / "x.json", stage="s") as store:
        return {key for key, (made_from, _) in pairs.items() if store.get(key, made_from) is not None}, store.notices


@pytest.mark.parametrize("name", ["x.json", "x.json.journal"])
def test_a_file_cut_at_any_byte_keeps_every_item_before_the_cut(
    tmp_path: Path, files: dict[str, bytes], pairs: Pairs, name: str
) -> None:
    few = dict(list(pairs.items())[:3])
    data = files[name]
    end = spans(data, few)[list(few)[-1]].stop + 2
    where, ends = spans(data, few), line_ends(data, spans(data, few))
    for length in range(end):
        journal_rule = {key for key in few if name == "x.json" or ends[key] <= length}
        whole = {key for key, span in where.items() if span.stop <= length} & journal_rule
        assert survivors(tmp_path, name, data[:length], few) == whole
    print(f"{name} cut at each of its first {end} bytes: every item before the cut kept")


def flipped(data: bytes, rng: random.Random) -> tuple[bytes, range]:
    at = rng.randrange(len(data))
    changed = bytearray(data)
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed), range(at, at + 1)


def burst(data: bytes, rng: random.Random) -> tuple[bytes, range]:
    at = rng.randrange(len(data) - 40)
    noise = rng.randbytes(rng.randrange(2, 40)) if rng.random() < 0.5 else bytes(rng.randrange(2, 40))
    return data[:at] + noise + data[at + len(noise) :], range(at, at + len(noise))


@pytest.mark.parametrize("name", ["x.json", "x.json.journal"])
@pytest.mark.parametrize(("damage", "times"), [(flipped, FLIPS), (burst, BURSTS)])
def test_flipped_bits_and_noise_cost_only_the_items_they_hit(
    tmp_path: Path,
    files: dict[str, bytes],
    pairs: Pairs,
    name: str,
    damage: Callable[[bytes, random.Random], tuple[bytes, range]],
    times: int,
) -> None:
    data, where, rng = files[name], spans(files[name], pairs), random.Random(3)
    if name == "x.json.journal":  # without its line feed the last line looks torn
        last = list(pairs)[-1]
        where[last] = range(where[last].start, len(data))
    hit = 0
    for _ in range(times):
        broken, at = damage(data, rng)
        touched = {key for key, span in where.items() if span.start < at.stop and at.start < span.stop}
        assert survivors(tmp_path, name, broken, pairs) >= set(pairs) - touched
        hit += len(touched)
    print(f"{name}: {times} × {damage.__name__}, {hit} items hit, no other lost, no wrong value, no exception")


# ── Full disks and folders that are read-only ────────────────────────────────────────────────────────────

# Files may not grow beyond a limit, which the kernel refuses in the middle of a write just as a full disk does.
LIMITED = """
import resource, sys
from pathlib import Path
from core.store import Store
from core.errors import UsageError
path, limit, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with Store(path, stage="s") as store:
        for i in range(count):
            store.put(f"new{i}", "h", "x" * 100)
            print(i)
except UsageError as error:
    print(error)
    sys.exit(error.exit_status)
"""


def test_a_disk_that_becomes_full_ends_the_run_and_keeps_every_put(tmp_path: Path) -> None:
    status, lines = finished(child(LIMITED, tmp_path / "x.json", 5_000, 1_000))
    assert status == 2
    assert "File too large" in lines[-1] and "Free some space" in lines[-1]
    acknowledged = len(lines) - 1
    assert acknowledged > 10
    assert [p.name for p in tmp_path.iterdir()] == ["x.json.journal"]
    assert (tmp_path / "x.json.journal").read_bytes().count(b"\n") == acknowledged
    assert (tmp_path / "x.json.journal").read_bytes().endswith(b"}\n")
    with Store(tmp_path / "x.json", stage="s") as store:
        assert [key for key, *_ in store.items()] == [f"new{i}" for i in range(acknowledged)]
        assert store.notices == []


@pytest.mark.parametrize("damaged", [False, True])
def test_a_full_disk_on_leaving_or_mending_leaves_every_file_as_it_was(tmp_path: Path, damaged: bool) -> None:
    path = tmp_path / "x.json"
    with Store(path, stage="s") as store:
        store.put_many({f"old{i}": ("h", "y" * 100) for i in range(50)})
    before = path.read_bytes()[:-2] if damaged else path.read_bytes()
    path.write_bytes(before)
    status, lines = finished(child(LIMITED, path, 5_000, 3))
    assert status == 2
    assert "File too large" in lines[-1]
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json"] + ["x.json.journal"] * (not damaged)
    with Store(path, stage="s") as store:
        assert len(store) == (50 if damaged else 53)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always full device")
def test_what_was_refused_is_written_as_soon_as_there_is_room(tmp_path: Path) -> None:
    path, journal = tmp_path / "x.json", tmp_path / "x.json.journal"
    store = Store(path, stage="s").__enter__()
    journal.symlink_to("/dev/full")
    with pytest.raises(UsageError, match=r"No space left on device.*Free some space"):
        store.put("a", "h", 1)
    for key in "ab":
        with pytest.raises(UsageError, match="can't be written"):
            store.put(key, "h", 1)
    store.__exit__(None, None, None)  # the disk of the file itself has room
    assert not journal.exists()
    with Store(path, stage="s") as store:
        assert contents(store) == {"a": 1, "b": 1}


def test_space_freed_in_between_is_used_and_no_torn_line_stays(tmp_path: Path) -> None:
    code = LIMITED.replace("(limit, limit)", "(limit, -1)").replace(
        "    print(error)\n    sys.exit(error.exit_status)\n", ""
    )
    code = code.split("try:")[0] + """
store = Store(path, stage="s").__enter__()
refused = 0
for i in range(count):
    try:
        store.put(f"new{i}", "h", "x" * 100)
    except UsageError:
        refused += 1
        if refused == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
print(refused, flush=True)
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""  # fmt: skip
    _, lines = finished(child(code, tmp_path / "x.json", 5_000, 60))
    assert lines == ["3"]
    with Store(tmp_path / "x.json", stage="s") as store:
        assert list(contents(store)) == [f"new{i}" for i in range(60)]
        assert store.notices == []


def contents(store: Store) -> dict[str, Any]:
    return {key: value for key, _, value in store.items()}


# Nobody in particular: root may write into a read-only folder.
AS_NOBODY = """
import os, sys
from pathlib import Path
import filelock
from core.store import Store, lock, write_atomically
from core.errors import UsageError
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
folder = Path(sys.argv[1])
with Store(folder / "x.json", stage="s") as store:
    print(store.get("a", "h"))

def refused(what):
    try:
        what()
    except UsageError as error:
        print(error)

def put():
    with Store(folder / "x.json", stage="s") as store:
        store.put("b", "h", 2)

def hold():
    with lock(folder):
        print("held")

refused(put)
refused(lambda: write_atomically(folder / "y.json", "y"))
refused(hold)
"""


def test_a_read_only_folder_can_be_read_and_is_refused_for_writing() -> None:
    folder = Path(tempfile.mkdtemp())  # tmp_path's parents are closed to others
    try:
        with Store(folder / "x.json", stage="s") as store:
            store.put("a", "h", 1)
        before = (folder / "x.json").read_bytes()
        folder.chmod(0o555)
        status, lines = finished(child(AS_NOBODY, folder))
        assert status == 0
        assert lines[0] == "1"
        assert len(lines) == 4
        assert all("Permission denied" in line and "chmod" in line and "--cache_dir" in line for line in lines[1:])
        assert [p.name for p in folder.iterdir()] == ["x.json"]
        assert (folder / "x.json").read_bytes() == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


# ── Two runs at once ─────────────────────────────────────────────────────────────────────────────────────

MEETING = """
import logging, os, sys
from pathlib import Path
from core.store import Store, lock
logging.basicConfig(stream=sys.stdout, format="%(message)s")
folder, me = Path(sys.argv[1]), sys.argv[2]

def say(line):
    os.write(1, line.encode() + b"\\n")  # in one piece: two processes talk into one pipe

say("ready")
with lock(folder):
    say("holding")
    sys.stdin.readline()
    with Store(folder / "x.json", stage="s") as store:
        for i in range(20):
            store.put("count", "h", (store.get("count", "h") or 0) + 1)
            store.put(f"{me}{i}", "h", i)
say("done")
"""


@pytest.fixture
def two_in(tmp_path: Path) -> Iterator[Callable[[int], tuple[list[str], list[subprocess.Popen[str]]]]]:
    """Two children started at once that talk into one pipe, up to where one holds the folder and the other waits."""
    started: list[subprocess.Popen[str]] = []

    def start(meeting: int) -> tuple[list[str], list[subprocess.Popen[str]]]:
        read_end, write_end = os.pipe()
        options = {"stdin": subprocess.PIPE, "text": True, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
        both = [
            subprocess.Popen(
                [sys.executable, "-c", MEETING, str(tmp_path), f"{me}{meeting}-"], stdout=write_end, **options
            )  # type: ignore[call-overload]
            for me in "ab"
        ]
        os.close(write_end)
        started.extend(both)
        with os.fdopen(read_end) as pipe:
            lines = [pipe.readline().strip() for _ in range(4)]
            for process in both:
                process.stdin.write("go\n")
                process.stdin.close()
            lines += [line.strip() for line in pipe]
        return lines, both

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_two_runs_on_one_folder_wait_for_each_other(
    tmp_path: Path, two_in: Callable[[int], tuple[list[str], list[subprocess.Popen[str]]]]
) -> None:
    for meeting in range(MEETINGS):
        lines, both = two_in(meeting)
        waiting = f"another run is using {tmp_path}; waiting for it"
        assert sorted(lines[:4]) == sorted(["ready", "ready", "holding", waiting])
        assert sorted(lines[4:]) == ["done", "done", "holding"]
        assert [process.wait(10) for process in both] == [0, 0]
    with Store(tmp_path / "x.json", stage="s") as store:
        found = contents(store)
        assert store.notices == []
    assert found.pop("count") == 40 * MEETINGS
    assert set(found) == {f"{me}{m}-{i}" for me in "ab" for m in range(MEETINGS) for i in range(20)}
    print(f"two processes at once: {MEETINGS} times, {len(found)} items, none lost; the second said that it waits")


def test_a_lock_goes_with_its_process_and_a_timeout_is_said(tmp_path: Path) -> None:
    (tmp_path / ".x.json.123-abc.tmp").write_text("left by a kill")
    os.utime(tmp_path / ".x.json.123-abc.tmp", (1, 1))
    (tmp_path / ".y.json.124-abc.tmp").write_text("being written")
    with child(MEETING, tmp_path, "a", stdin=subprocess.PIPE) as process:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "holding\n"]
        with (
            pytest.raises(UsageError, match=r"Another run is still using .* after 0\.2 s"),
            lock(tmp_path, timeout=0.2),
        ):
            pass
        process.kill()
        process.wait()
        with lock(tmp_path, timeout=5):
            assert not (tmp_path / ".x.json.123-abc.tmp").exists()
            assert (tmp_path / ".y.json.124-abc.tmp").exists()
    with lock(tmp_path, timeout=0):
        pass


def test_a_reader_beside_a_run_sees_only_whole_states(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    seen: list[int] = []
    with child(PUTTING, path, 0) as process:
        assert process.stdout
        acknowledged = int(process.stdout.readline())
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            with Store(path, stage="kill", read_only=True) as store:
                assert store.notices == []
                groups = numbers(list(store.items()))
            assert all(len(set(group)) == 1 for group in groups)
            seen.append(max(number for group in groups for number in group))
        process.kill()
    assert seen[0] >= acknowledged
    assert seen == list(accumulate(seen, max))  # never back
    assert len(seen) > 5


def numbers(items: Sequence[tuple[str, str, Any]]) -> list[list[int]]:
    """The numbers of each group of five that is there."""
    groups: dict[str, list[int]] = {}
    for key, _, value in items:
        groups.setdefault(key[0], []).append(value["n"])
    return list(groups.values())
