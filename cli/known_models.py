"""Ollama's models as the last run that saw their server knew them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cli.backend import Known

# The digests and contexts of Ollama's models as of the last run that saw the server. With them a run on full caches
# needs no server, and a model that was pulled anew is noticed before it is asked again.
MODELS_FILE = "model_digests.json"


def read_known(cache_dir: Path) -> dict[str, Known]:
    """By tag; empty where there is no such file, and without the entries that can't be read."""
    try:
        found = json.loads((cache_dir / MODELS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = {}
    for tag, entry in found.items() if isinstance(found, dict) else ():
        match entry:
            case {"digest": str(digest), "context": int() | None as context}:
                known[tag] = Known(digest, context, entry.get("server"))
    return known


def digests(known: Mapping[str, Known]) -> dict[str, str]:
    """Tag → digest."""
    return {tag: model.digest for tag, model in known.items()}
