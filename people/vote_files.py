"""Tables of votes as they lie in a file or on a hub, read through ``datasets`` into columns of text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from core import hub
from core.errors import MissingError, UsageError

VOTE_COLUMNS = ("user", "prompt_id", "prompt", "model_a", "response_a", "model_b", "response_b", "outcome")
SCORE_COLUMNS = ("user", "prompt_id", "prompt", "model", "response", "score")
# PRISM's words (Kirk et al. 2024). An interaction is one prompt with its responses; a conversation has several.
ALIASES = {
    "user": ("user_id",), "prompt_id": ("interaction_id", "conversation_id"), "prompt": ("user_prompt",),
    "model": ("model_name",), "response": ("model_response",),
}  # fmt: skip
_HUB_CONFIGS = {"HannahRoseKirk/prism-alignment": "utterances"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_BUILDERS = {".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}


class BadRow(NamedTuple):
    """A row that cannot be used. Rows count from 1, a CSV's header not among them."""

    row: int
    reason: str


def read_table(source: str, cache_dir: Path | None) -> tuple[Any, list[BadRow]]:
    """A pandas frame of text columns, rows counted from 1, and the lines that could not be read at all.

    Raises UsageError and MissingError, see ``votes.load_votes``.
    """
    return _read_hub(source, cache_dir) if _is_hub_id(source) else _read_file(Path(source))


def _is_hub_id(source: str) -> bool:
    path = Path(source)
    return not path.exists() and path.suffix.lower() not in _BUILDERS and bool(_HUB_ID.fullmatch(source))


def _read_hub(source: str, cache_dir: Path | None) -> tuple[Any, list[BadRow]]:
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
    return _frame(found["train" if "train" in found else next(iter(found))].data.table), []


def _read_file(path: Path) -> tuple[Any, list[BadRow]]:
    """The columns that are needed, as text (scores and outcomes too); lines that do not parse are bad rows."""
    builder = _BUILDERS.get(path.suffix.lower())
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if not path.is_file():
        raise UsageError(f"{path} is not a file; votes lie in one .jsonl, .csv or .parquet file")
    if builder is None:
        raise UsageError(f"{path} has an unknown ending; known are {', '.join(_BUILDERS)}")
    try:
        if path.stat().st_size == 0:
            raise UsageError(f"{path} is empty")
        table = _through_datasets(path, builder)
        if builder != "json" or _is_plain(table):
            return _frame(table), []
    except UsageError:
        raise
    except PermissionError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # parsers of three formats
        if builder == "json":
            return read_lines(path)  # which finds the lines that are to blame
        raise UsageError(f"{path} cannot be read as {path.suffix}: {_first_line(error)}") from error
    return read_lines(path)


def _through_datasets(path: Path, builder: str) -> Any:
    """An Arrow table of the file's needed columns."""
    import tempfile

    import datasets
    import pyarrow.parquet

    options: dict[str, Any] = {}
    if builder == "csv":  # text as it stands: no "NA" becomes nothing, and prompt 82.10 stays another than 82.1
        columns = _csv_header(path)
        options = {
            "features": datasets.Features({name: datasets.Value("string") for name in columns}),
            "keep_default_na": False, "encoding": "utf-8-sig",
        }  # fmt: skip
    elif builder == "json":  # one chunk: a whole number in the first rows must not rule out 0.5 in later ones
        options = {"chunksize": max(1, path.stat().st_size), "parse_agent_traces": False, "on_mixed_types": None}
    elif pyarrow.parquet.read_metadata(path).num_rows == 0:
        raise UsageError(f"{path} has no rows")
    with tempfile.TemporaryDirectory() as scratch, hub.quiet_datasets():
        found = datasets.load_dataset(
            builder, data_files=[_literal(path)], split="train", cache_dir=scratch, keep_in_memory=True, **options
        )
        return found.data.table


def _literal(path: Path) -> str:
    """The path with its wildcards quoted: ``datasets`` takes data files as patterns."""
    return re.sub(r"([*?\[])", r"[\1]", str(path.resolve()))


def _csv_header(path: Path) -> list[str]:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if next(rows, None) is None:
            raise UsageError(f"{path} has no rows")
    columns = [name or f"Unnamed: {i}" for i, name in enumerate(header)]  # as pandas calls them
    if len(set(columns)) != len(columns):
        raise UsageError(f"{path} has a column twice: {', '.join(columns)}")
    return columns


def _is_plain(table: Any) -> bool:
    """False where JSON's type guessing changed something: dates, nested values, columns of mixed types."""
    import pyarrow as pa

    def plain(kind: Any) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))

    wanted = {*VOTE_COLUMNS, *SCORE_COLUMNS, *(other for others in ALIASES.values() for other in others)}
    return all(plain(field.type) for field in table.schema if field.name in wanted)


def _frame(table: Any) -> Any:
    """A pandas frame of text columns, rows counted from 1: numbers as written, NaN for what is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        if not pa.types.is_nested(kind):
            columns[name] = pc.cast(table[name], pa.large_string())
    frame = pa.table(columns).to_pandas()
    frame.index += 1
    return frame


def read_lines(path: Path) -> tuple[Any, list[BadRow]]:
    """A JSON Lines file line by line: slower than ``datasets``, but it knows which line is to blame."""
    import pandas as pd

    rows: list[dict[str, str | None]] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    number = 0
    for line in lines:
        if not line.strip():
            continue
        number += 1
        try:
            row = json.loads(line.decode("utf-8"))
            if not isinstance(row, dict):
                raise ValueError("it is no JSON object")
            rows.append({name: _text(value) for name, value in row.items()})
            numbers.append(number)
        except ValueError as error:
            bad.append(BadRow(number, f"not readable as JSON: {_first_line(error)}"))
    return pd.DataFrame(rows, index=numbers, dtype="str"), bad


def _text(value: Any) -> str | None:
    """A value as text; None where it is missing or no text at all (nested, or not Unicode)."""
    if value is None or isinstance(value, dict | list):
        return None
    text = str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return text


def _first_line(error: BaseException) -> str:
    """The first line of the innermost cause: ``datasets`` wraps what a parser said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
