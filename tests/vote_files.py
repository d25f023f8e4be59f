"""Files of votes as people bring them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet

from people.rows import VOTE_COLUMNS

Row = dict[str, Any]


def vote(**changes: Any) -> Row:
    """One good row, changed."""
    return dict(zip(VOTE_COLUMNS, ("ann", "p1", "Why?", "x", "because", "y", "so", 1.0), strict=True)) | changes


def save(path: Path, rows: Sequence[Row]) -> str:
    """The rows in the path's format; lists as JSON in a CSV."""
    if path.suffix == ".parquet":
        columns = dict.fromkeys(name for row in rows for name in row)
        table = pyarrow.table({name: [row.get(name) for row in rows] for name in columns})  # where NaN stays NaN
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".csv":
        flat = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
        pd.DataFrame(flat).to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows)), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)
