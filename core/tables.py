"""The one reader of rows, from JSON Lines, JSON, CSV or Parquet, and the one way to name those that are wrong.

rows, bad = read_rows(Path("votes.csv"))
refuse_bad_rows(bad, "votes.csv", len(rows) + len(bad), skip=args.skip_bad_rows)
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import UsageError

Row = Mapping[str, Any]
Rows = Mapping[int, Row]
"""{number: row}, from 1; a CSV's header and empty lines are not counted."""
BadRows = dict[int, str]
"""{row number: why the row cannot be used}."""

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
SHOWN = 10  # wrong rows that are named; of the others there is the number
_NESTED = ("conversation_a", "conversation_b")  # a Parquet file's only nested columns that anything reads
_BETWEEN = " \t\r\n,"  # stands between the items of a JSON array
_LONGEST_CELL = 2**31 - 1  # Python's csv stops at 128 KiB unless told otherwise


class Figure(str):
    """A number of a JSON file, as it was written: read as a float, 82.1 and 82.10 would be one id."""


def read_rows(path: Path) -> tuple[Rows, BadRows]:
    """The rows of a file by their number, and why the others can't be read.

    The ending says CSV or Parquet; every other file is JSON Lines or one JSON array. Values are as they were written:
    texts of a CSV, ``Figure`` for JSON's numbers, None for NaN and for cells that a short row lacks.
    Raises UsageError for a file that can't be read at all.
    """
    kind = path.suffix.lower()
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if not path.is_file():
        raise UsageError(f"{path} is not a file; rows lie in one file that ends in {', '.join(ENDINGS)}")
    if kind not in ENDINGS:
        raise UsageError(f"{path} has an unknown ending; known are {', '.join(ENDINGS)}")
    try:
        if kind == ".csv":
            return _read_csv(path)
        if kind == ".parquet":
            import pyarrow.parquet

            return arrow_rows(pyarrow.parquet.read_table(path)), {}
        return _read_json(path)
    except (ValueError, OSError, NotImplementedError, csv.Error) as error:  # pyarrow's are of the first three
        raise UsageError(f"{path} cannot be read as {kind}: {first_line(error)}") from error


def refuse_bad_rows(bad: BadRows, source: object, total: int, *, skip: bool | None = None) -> None:
    """Raise UsageError naming the wrong rows among so many in ``total``; without any, return.

    ``skip`` True leaves them out as long as others are left; None: they can't be left out of such a file.
    """
    usable = skip is not None and len(bad) < total
    if not bad or (skip and usable):
        return
    lines = [f"{source}: {len(bad)} of {total} rows cannot be used:"]
    lines += [f"  row {number}: {reason}" for number, reason in sorted(bad.items())[:SHOWN]]
    lines += [f"  … and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    lines.append("Nothing was changed. Correct them" + (", or leave them out: --skip_bad_rows" if usable else ""))
    raise UsageError("\n".join(lines))


def columns_of(rows: Rows) -> list[str]:
    """The names of all columns, in the order in which they first appear."""
    return list(dict.fromkeys(str(name) for row in rows.values() for name in row))


def as_text(value: object) -> str | None:
    """A value of a row as text; None where it is missing or no text (nested, or half a character)."""
    if value is None or isinstance(value, dict | list):
        return None
    text = str(value)
    # interned, since votes repeat prompts and responses
    return None if re.search("[\ud800-\udfff]", text) else sys.intern(text)


def arrow_rows(table: Any) -> Rows:
    """The rows of an Arrow table, without nested columns that nothing reads: the Arena's are large."""
    import pyarrow as pa

    read = [f.name for f in table.schema if f.name in _NESTED or not pa.types.is_nested(f.type)]
    return dict(enumerate(table.select(read).to_pylist(), start=1))


def first_line(error: BaseException) -> str:
    """The first line of the innermost cause: ``datasets`` wraps what a parser said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _read_csv(path: Path) -> tuple[Rows, BadRows]:
    csv.field_size_limit(_LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        names = reader.fieldnames or ()
        if len(set(names)) != len(names):
            raise UsageError(f"{path} has a column twice: {', '.join(names)}")
        rows = dict(enumerate(reader, start=1))
    wrong = "it has more cells than the header (texts with commas stand in quotes)"
    bad = {number: wrong for number, row in rows.items() if None in row}
    return {number: row for number, row in rows.items() if number not in bad}, bad


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────

_DECODER = json.JSONDecoder(
    parse_int=Figure, parse_float=Figure, parse_constant=lambda text: None if text == "NaN" else Figure(text)
)


def _read_json(path: Path) -> tuple[Rows, BadRows]:
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    is_array = re.match(rb"\s*\[\s*(\{|\]|$)", data)  # a line of JSON Lines is an object
    items = _array(data.decode("utf-8", "surrogateescape")) if is_array else _lines(data)
    rows: dict[int, Row] = {}
    bad: BadRows = {}
    for number, row in enumerate(items, start=1):
        if isinstance(row, dict):
            rows[number] = row
        else:
            bad[number] = f"not readable as JSON: {row if isinstance(row, ValueError) else 'it is no JSON object'}"
    return rows, bad


def _lines(data: bytes) -> Iterator[Any]:
    """The object of each line, a ValueError in the place of one that is torn."""
    for line in filter(bytes.strip, data.split(b"\n")):
        try:
            yield _DECODER.decode(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            yield ValueError(first_line(error))


def _array(text: str) -> Iterator[Any]:
    """The items of an array, one by one: where it breaks off, those before are whole, and a ValueError follows."""
    at = text.index("[") + 1
    while True:
        while at < len(text) and text[at] in _BETWEEN:
            at += 1
        if text[at : at + 1] == "]":
            return
        try:
            item, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield ValueError(f"{first_line(error)}; the file breaks off or is damaged here")
            return
        yield item
