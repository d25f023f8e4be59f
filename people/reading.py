"""The rows of a file or a hub's data set: JSON Lines, JSON, CSV or Parquet, every value as it was written.

rows, bad = read_source("votes.csv", None)
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core import hub
from core.errors import MissingError, UsageError

_HUB_CONFIGS = {"HannahRoseKirk/prism-alignment": "utterances"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
_NESTED = ("conversation_a", "conversation_b")  # the only nested columns of a table that anything reads
_BETWEEN = " \t\r\n,"  # what stands between the items of a JSON array
_LONGEST_CELL = 2**31 - 1  # Python's csv stops at 128 KiB unless told otherwise

Rows = Mapping[int, Mapping[str, Any]]
"""{number: row}, from 1; a CSV's header and empty lines are not counted. Numbers are the text that was written, since a
reader that guesses types makes 82.1 of the prompt 82.10. Lists and objects of JSON stay what they are."""
BadRows = dict[int, str]
"""{row number: why the row cannot be used}."""


def read_source(source: str, cache_dir: Path | None) -> tuple[Rows, BadRows]:
    """The rows of a file or of a hub id ("owner/name" or "owner/name:config"), and those that can't be read.

    Raises UsageError for what cannot be read at all, MissingError where a hub is needed and out of reach.
    """
    path = Path(source)
    is_hub_id = not path.exists() and path.suffix.lower() not in _ENDINGS and _HUB_ID.fullmatch(source)
    return _read_hub(source, cache_dir) if is_hub_id else _read_file(path)


def _read_hub(source: str, cache_dir: Path | None) -> tuple[Rows, BadRows]:
    if not hub.reachable():
        raise MissingError(
            f"{source} is neither a file here nor to be had from the model hub, which is out of reach. Nothing was "
            "changed. Download it where there is a network and pass the file: --preferences FILE.parquet"
        )
    import datasets

    name, _, config = source.partition(":")
    try:
        with hub.quiet_datasets():
            found = datasets.load_dataset(
                name, config or _HUB_CONFIGS.get(name), cache_dir=str(cache_dir) if cache_dir else None
            )
    except Exception as error:  # the hub's client raises errors of many libraries; each ends the run with its text
        raise UsageError(f"{source} could not be loaded from the hub: {_first_line(error)}") from error
    return _arrow_rows(found["train" if "train" in found else next(iter(found))].data.table), {}


def _read_file(path: Path) -> tuple[Rows, BadRows]:
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if not path.is_file():
        raise UsageError(f"{path} is not a file; votes lie in one .jsonl, .json, .csv or .parquet file")
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(f"{path} has an unknown ending; known are {', '.join(_ENDINGS)}")
    try:
        if path.suffix.lower() == ".csv":
            return _read_csv(path)
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet

            return _arrow_rows(pyarrow.parquet.read_table(path)), {}
        return read_json(path)
    except (ValueError, OSError, NotImplementedError, csv.Error) as error:  # pyarrow's are of the first three
        raise UsageError(f"{path} cannot be read as {path.suffix}: {_first_line(error)}") from error


def read_json(path: Path) -> tuple[Rows, BadRows]:
    """The rows of a JSON Lines file or of one JSON array, whatever the file's ending, and those that are none."""
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    is_array = re.match(rb"\s*\[\s*(\{|\]|$)", data)  # a line of JSON Lines is an object
    found = _array(data.decode("utf-8", "surrogateescape").lstrip()) if is_array else _lines(data)
    rows: dict[int, Mapping[str, Any]] = {}
    bad: BadRows = {}
    for number, row in enumerate(found, start=1):
        if isinstance(row, dict):
            rows[number] = row
        else:
            bad[number] = f"not readable as JSON: {row if isinstance(row, _Unreadable) else 'it is no JSON object'}"
    return rows, bad


class _Unreadable(str):
    """Why a row can't be read."""


def _lines(data: bytes) -> Iterator[Any]:
    for line in filter(bytes.strip, data.split(b"\n")):
        try:
            yield json.loads(line.decode("utf-8"), parse_int=str, parse_float=str)
        except (ValueError, RecursionError) as error:
            yield _Unreadable(_first_line(error))


def _array(text: str) -> Iterator[Any]:
    """The items of an array, one by one: where it breaks off, those before are whole."""
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)
    at = 1
    while True:
        while at < len(text) and text[at] in _BETWEEN:
            at += 1
        if text[at : at + 1] == "]":
            return
        try:
            item, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield _Unreadable(_first_line(error) + "; the file breaks off or is damaged here")
            return
        yield item


def _read_csv(path: Path) -> tuple[Rows, BadRows]:
    csv.field_size_limit(_LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        names = reader.fieldnames or ()
        if len(set(names)) != len(names):
            raise UsageError(f"{path} has a column twice: {', '.join(names)}")
        rows = dict(enumerate(reader, start=1))
    bad = {number: "it has more cells than the header" for number, row in rows.items() if None in row}
    return {number: row for number, row in rows.items() if number not in bad}, bad


def _arrow_rows(table: Any) -> Rows:
    """The rows of an Arrow table, without nested columns that nothing reads."""
    import pyarrow as pa
    import pyarrow.compute as pc

    nested = {name for name in table.column_names if pa.types.is_nested(table.schema.field(name).type)}
    plain = {name: pc.cast(table[name], pa.large_string()) for name in table.column_names if name not in nested}
    kept = {name: table[name] for name in _NESTED if name in nested}
    return dict(enumerate(pa.table(plain | kept).to_pylist(), start=1))


def _first_line(error: BaseException) -> str:
    """The first line of the innermost cause: ``datasets`` wraps what a parser said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def as_text(value: object) -> str | None:
    """A value of a row as text; None where it is missing or no text (nested, or half a character)."""
    if value is None or isinstance(value, dict | list):
        return None
    text = str(value)
    return None if re.search("[\ud800-\udfff]", text) else sys.intern(text)  # votes repeat prompts and responses
