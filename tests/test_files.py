"""The primitives for files: whole or not there, set aside and never lost, hashes of what they hold."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import UsageError
from core.files import (
    append_line,
    drop_last_line,
    fingerprint,
    keep_previous,
    read,
    read_tensors,
    write_atomically,
    write_json,
    write_tensors,
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


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


def test_writing_replaces_the_whole_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.txt"
    write_atomically(path, b"a long first text")
    write_atomically(path, "short ü \ud83d")
    assert path.read_bytes() == "short ü \\ud83d".encode()
    write_json(path, {"text": "ü", "half": "\ud83d", "n": [1]})
    assert json.loads(path.read_bytes()) == {"text": "ü", "half": "\ud83d", "n": [1]}
    before = path.read_bytes()
    assert before.startswith('{\n  "text": "ü",'.encode()) and before.endswith(b"}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert path.read_bytes() == before and names(path.parent) == ["x.txt"]


def test_a_path_that_can_not_be_written_or_read_is_a_usage_error_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"folder can't be written: Is a directory.*--cache_dir"):
        write_atomically(tmp_path / "folder", "x")
    with pytest.raises(UsageError, match=r"Not a directory|File exists"):
        write_atomically(tmp_path / "file" / "x.json", "x")
    with pytest.raises(UsageError, match="can't be written: Is a directory"):
        append_line(tmp_path / "folder", {"a": 1})
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        read(tmp_path / "folder")
    assert read(tmp_path / "nothing") is None
    assert names(tmp_path) == ["file", "folder"]


def test_tensors_come_back_as_they_were_and_damage_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors: dict[str, Any] = {
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T, "one": np.float64(3.5), "none": np.zeros((0, 4)),
    }  # fmt: skip
    write_tensors(path, tensors, {"base": "llama", "keys": '["ü"]'})
    found, about = read_tensors(path)
    assert about == {"base": "llama", "keys": '["ü"]'}
    for name, array in tensors.items():
        assert np.array_equal(found[name], array) and found[name].dtype == array.dtype
        assert found[name].shape == array.shape
    whole = path.read_bytes()
    for damaged in (whole[:-7], whole + b"x", b"", b"\0" * 200):
        path.write_bytes(damaged)
        with pytest.raises(ValueError):
            read_tensors(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_tensors(path)


def test_an_earlier_runs_files_are_kept_by_their_time_and_over_no_other(tmp_path: Path) -> None:
    path = tmp_path / "report_me.html"
    for text in ("first", "second"):
        path.write_text(text)
        os.utime(path, (1e9, 1e9))
        keep_previous([path, tmp_path / "missing.json"])
    found = {p.name.removeprefix("report_me_")[15:]: p.read_text() for p in (tmp_path / "previous").iterdir()}
    assert found == {".html": "first", "-2.html": "second"} and names(tmp_path) == ["previous"]


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
        path.write_bytes(first + left)
        drop_last_line(path)
        assert path.read_bytes() == b"".join(lines[:-1])
    drop_last_line(path)
    assert path.read_bytes() == b""
