"""The one reader of rows, from JSON Lines, JSON, CSV or Parquet, and the one way to name those that are wrong.

rows, bad = read_rows(Path("votes.csv"))
text_in(rows[1], "prompt")
refuse_bad_rows(bad, "votes.csv", len(rows) + len(bad), skip=args.skip_bad_rows)
"""

import codecs
import csv
import functools
import io
import itertools
import json
import logging
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from core.clock import bar
from core.errors import UsageError
from core.files import read, told
from core.text import normal

T = TypeVar("T")
Row = Mapping[str, Any]
Rows = Mapping[int, Row]
"""{number: row}, from 1; a CSV's header and empty lines are not counted."""
BadRows = dict[int, str | ValueError]
"""{row number: why the row cannot be used}, the values that were found after a colon."""

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
SHOWN = 10  # wrong rows that are named; of the others there is the number
SINGLE = 0.1  # wrong rows for one reason are single ones up to this share: more are a coding that is misread
_NESTED = ("conversation_a", "conversation_b")  # a Parquet file's only nested columns that anything reads

log = logging.getLogger("ranking.rows")


def read_rows(path: Path) -> tuple[Rows, BadRows]:
    """The rows of a file by their number, and why the others can't be read.

    The ending says CSV or Parquet; every other file is JSON Lines, one JSON object, or a list of them, which may lie in
    an object. Columns are in small letters, with _ for blanks. A CSV's values are texts; None stands for NaN and for
    cells that a short row lacks. Raises UsageError for a file that can't be read at all.
    """
    kind = path.suffix.lower()
    _require_file(path)
    if kind not in ENDINGS:
        raise UsageError(f"{path} has an unknown ending; known are {', '.join(ENDINGS)}")
    try:
        if kind == ".parquet":
            import pyarrow.parquet

            return arrow_rows(pyarrow.parquet.read_table(path)), {}
        # in JSON bytes that are no text cost their row alone
        return _read_csv(text_of(path)) if kind in (".csv", ".tsv") else _read_json(text_of(path, "surrogateescape"))
    except (ValueError, OSError, NotImplementedError, csv.Error) as error:  # pyarrow's are of the first three
        raise UsageError(f"{path} cannot be read as {kind}: {first_line(error)}") from error


def refuse_bad_rows(bad: BadRows, source: object, total: int, skip: bool | None = None) -> None:
    """Raise UsageError naming the wrong rows of so many, if any, and those LeftOut too where no row is left; with
    ``skip`` not where they are single ones and others are left. None: they can't be left out."""
    if len(bad) < total:
        bad = {number: reason for number, reason in bad.items() if not isinstance(reason, LeftOut)}
    if not bad:
        return
    common, rows = Counter(str(reason).partition(":")[0] for reason in bad.values()).most_common(1)[0]
    single = rows <= max(1, SINGLE * total)
    if skip and single and len(bad) < total:
        return
    lines = [f"{source}: {len(bad)} of {total} rows cannot be used:"]
    lines += [f"  row {number}: {reason}" for number, reason in sorted(bad.items())[:SHOWN]]
    lines += [f"  … and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    mend = "Nothing was changed. Correct them"
    if skip is not None and len(bad) < total:
        many = f": {rows} rows are too many to leave out for one reason ({common})"
        mend += ", or leave them out: --skip_bad_rows" if single else many
    raise UsageError("\n".join([*lines, mend]))


class LeftOut(ValueError):  # noqa: N818 - nothing is wrong
    """A good row of another kind than what is read."""


def each_row(rows: Rows, read: Callable[[int, Row], T]) -> tuple[list[T], BadRows]:
    """Everything that ``read`` makes of the rows, and why others give nothing."""
    found, out = list[T](), BadRows()
    for number, row in bar(rows.items(), len(rows), "rows"):
        try:
            found.append(read(number, row))
        except ValueError as reason:
            out[number] = reason.with_traceback(None)  # which would hold every frame
    return found, out


def text_in(row: Row, *names: str, empty: bool = False, figures: bool = False, default: str | None = None) -> str:
    """The text in a column, of several ``names`` the first that is there; ``figures``: or a number, as ids are. Where
    there is none ``default``; without one, and for anything else, ValueError."""
    name = next((name for name in names if name in row), names[0])
    value = row.get(name)
    if figures and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(int(value) if value == int(value) else value)
    if value is None or value != value or (not empty and isinstance(value, str) and not value.strip()):
        if default is None:
            raise ValueError(f"{name} is missing")
        return default
    if not isinstance(value, str) or re.search("[\ud800-\udfff]", value):
        raise ValueError(f"{name} is no text: {value!s:.40}")
    return sys.intern(value)  # votes repeat prompts and responses


def figure_of(value: object) -> float:
    """A number, also with a decimal comma; NaN for what is none, or could be thousands as well."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?(\d+,(\d{1,2}|\d{4,})|0,\d+)\s*", value):
        value = value.replace(",", ".")
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def arrow_rows(table: Any) -> Rows:
    """The rows of an Arrow table, without nested columns that nothing reads: the Arena's are large."""
    import pyarrow as pa

    names = [f.name for f in table.schema if f.name in _NESTED or not pa.types.is_nested(f.type)]
    return {number: _named(row) for number, row in enumerate(table.select(names).to_pylist(), start=1)}


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


@functools.cache
def _column(name: str) -> str:
    return "_".join(normal(name).lower().split())


def _named(row: Row) -> Row:
    """The row with its columns as they are usually written, where that makes no two of them one."""
    return {own if (own := _column(name)) == name or own not in row else name: value for name, value in row.items()}


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────────────

# Not Windows-1252: controls and bytes without a letter; three accents in a row, as words of other alphabets look in it;
# what damaged UTF-8 has for ä and é.
_NO_WESTERN = re.compile(
    b"[\x00-\x08\x0e-\x1f\x81\x8d\x8f\x90\x9d]|[\x8a\x8c\x8e\x9a\x9c\x9e\x9f\xc0-\xff]{3}|\xc3[\x80-\xbf]"
)


def text_of(path: Path, errors: str = "strict") -> str:
    """The text of a file in UTF-8, in UTF-16 with its mark, or in Western Europe's Windows-1252, which is said.

    ``errors`` as of ``bytes.decode``. Raises UsageError for a file that is not there or of anything else.
    """
    _require_file(path)
    data = read(path) or b""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig", errors)
    except UnicodeDecodeError as error:
        if wide or _NO_WESTERN.search(data):
            said = f"{error.reason} at byte {error.start}"
            raise UsageError(f"{path} is no UTF-8 text ({said}). Save it as UTF-8 and run again.") from None
    log.warning("%s is no UTF-8 and is read as Windows-1252; where letters look wrong, save it as UTF-8", path)
    return data.decode("cp1252")


def _require_file(path: Path) -> None:
    with told(path, "read"):
        if not path.is_file():
            raise UsageError(f"{path} {'is no file' if path.exists() else 'does not exist'}.")


def _read_csv(text: str) -> tuple[Rows, BadRows]:
    csv.field_size_limit(2**31 - 1)  # else it stops at cells of 128 KiB
    lines = io.StringIO(text, newline="")
    head = lines.readline()
    if said := re.fullmatch(r'"?sep=(.)"?\s*', head):  # Excel's own word for what separates the cells
        separator, head = said[1], lines.readline()
    else:
        separator = max(",;\t|", key=head.count)
    reader = csv.DictReader(itertools.chain([head], lines), delimiter=separator, strict=True)
    names = reader.fieldnames = [_column(name) for name in reader.fieldnames or ()]
    if len(set(names)) != len(names):
        raise ValueError(f"it has a column twice: {', '.join(names)}")
    rows = dict(enumerate(reader, start=1))
    wrong = f"it has more cells than the header (texts with {separator!r} stand in quotes)"
    bad: BadRows = {number: wrong for number, row in rows.items() if None in row}
    return {number: row for number, row in rows.items() if number not in bad}, bad


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────


def _read_json(text: str) -> tuple[Rows, BadRows]:
    value = _parsed(text)
    if isinstance(value, ValueError):  # JSON Lines
        if re.match(r"\s*\[\s*{", text):
            raise value  # a damaged list
        value = [_parsed(line.strip().rstrip(",")) for line in text.split("\n") if line.strip()]
    elif isinstance(value, dict):  # one row, or an object around the rows
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        value = lists[0] if len(lists) == 1 else [value]
    rows: dict[int, Row] = {}
    bad: BadRows = {}
    for number, row in enumerate(value if isinstance(value, list) else [value], start=1):
        if isinstance(row, dict):
            rows[number] = _named(row)
        else:
            bad[number] = f"not readable as JSON: {row if isinstance(row, ValueError) else 'it is no JSON object'}"
    return rows, bad


def _parsed(text: str) -> Any:
    """The value of a JSON text; in its place the ValueError of one that can't be read."""
    try:
        return json.loads(text, parse_constant=lambda name: None if name == "NaN" else float(name))
    except (ValueError, RecursionError) as error:
        return ValueError(first_line(error))
