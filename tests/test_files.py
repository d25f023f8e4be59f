"""The primitives for files: whole or not there, set aside and never lost, hashes of what they hold."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from core.errors import UsageError
from core.files import append_line, drop_last_line, fingerprint, read, write_json


@dataclasses.dataclass(frozen=True)
class Point:
    y: float
    x: int


def test_a_fingerprint_is_sha256_of_canonical_json() -> None:
    expected = hashlib.sha256('["é",{"a":[1,2.0],"b":null}]'.encode()).hexdigest()[:16]
    assert fingerprint("é", {"b": None, "a": (1, 2.0)}) == expected
    assert fingerprint(Point(1.5, 2)) == fingerprint({"x": 2, "y": 1.5})
    assert fingerprint("half an emoji: \ud83d") != fingerprint("half an emoji: \\ud83d")


def test_writing_replaces_the_whole_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.txt"
    write_json(path, ["a long first text"])
    write_json(path, {"text": "ü", "half": "\ud83d", "n": [1]})
    before = path.read_bytes()
    assert json.loads(before) == {"text": "ü", "half": "\ud83d", "n": [1]}
    assert before.startswith('{\n  "text": "ü",'.encode()) and before.endswith(b"}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    with pytest.raises(UsageError, match=r"b can't be written: Is a directory.*--cache_dir"):
        write_json(path.parent, 1)
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        read(path.parent)
    assert read(tmp_path / "nothing") is None
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["x.txt"]


def test_lines_are_added_and_taken_back_and_a_torn_one_is_cut_off_first(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.jsonl"
    append_line(path, {"text": "ü\n", "half": "\ud83d"})
    append_line(path, {"n": 2})
    first, second = path.read_bytes().splitlines(keepends=True)
    assert json.loads(first) == {"text": "ü\n", "half": "?"} and second == b'{"n": 2}\n'
    for left, lines in ((second[:-1], [first, second]), (second[:-2], [first]), (b"{", [first]), (b"", [first])):
        path.write_bytes(first + left)
        append_line(path, {"n": 3})
        assert path.read_bytes() == b"".join([*lines, b'{"n": 3}\n'])
        drop_last_line(path)
        assert path.read_bytes() == b"".join(lines)
