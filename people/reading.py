"""The rows of a file or a hub's data set: JSON Lines, JSON, CSV or Parquet, every value as it was written.

rows, bad = read_source("votes.csv", None)
"""

from __future__ import annotations

import re
from pathlib import Path

from core import hub
from core.errors import MissingError, UsageError
from core.tables import ENDINGS, BadRows, Rows, arrow_rows, as_text, first_line, read_rows

__all__ = ["BadRows", "Rows", "as_text", "read_source"]

_HUB_CONFIGS = {"HannahRoseKirk/prism-alignment": "utterances"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def read_source(source: str, cache_dir: Path | None) -> tuple[Rows, BadRows]:
    """The rows of a file or of a hub id ("owner/name" or "owner/name:config"), and those that can't be read.

    Raises UsageError for what cannot be read at all, MissingError where a hub is needed and out of reach.
    """
    path = Path(source)
    is_hub_id = not path.exists() and path.suffix.lower() not in ENDINGS and _HUB_ID.fullmatch(source)
    return _read_hub(source, cache_dir) if is_hub_id else read_rows(path)


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
        raise UsageError(f"{source} could not be loaded from the hub: {first_line(error)}") from error
    return arrow_rows(found["train" if "train" in found else next(iter(found))].data.table), {}
