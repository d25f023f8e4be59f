"""The primitives for files: whole or not there, and lines that are added and taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.files import append_line, drop_last_line, write_json


def test_writing_replaces_the_whole_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.txt"
    write_json(path, ["a long first text"])
    write_json(path, {"text": "ü", "half": "\ud83d"})
    before = path.read_bytes()
    assert json.loads(before) == {"text": "ü", "half": "\ud83d"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
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
