"""What an earlier run of a name was on: a run on votes and one for a persona may not replace each other's files."""

from __future__ import annotations

import json
from pathlib import Path

import config

LEARNED_FILE = "learned_{name}.json"
VOTES = "votes"  # the backend of what people's votes taught
PERSONA = "persona"


def kind(name: str, cache_dir: Path, results_dir: Path) -> str | None:
    """VOTES or PERSONA, by what the run learned or else by its results; None where there was none."""
    for path in (cache_dir / LEARNED_FILE.format(name=name), results_dir / config.RESULTS_FILE.format(name=name)):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            backend = document.get("made_from", document)["backend"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or of no use to anyone
            continue
        return VOTES if backend == VOTES else PERSONA
    return None
