"""Which models exactly gave the cached answers: their digests and contexts as of the last run that saw the server.

With them a run on full caches needs no server, and a model that was pulled anew is noticed before it is asked again.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.plan import outstanding
from core.errors import MissingError
from stages.tasks import Job

if TYPE_CHECKING:
    from llm.ollama import OllamaModel

MODELS_FILE = "model_digests.json"


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier run saw of a model; ``context`` in tokens, None where the server did not say."""

    digest: str
    context: int | None = None


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
                known[tag] = Known(digest, context)
    return known


def remember(cache_dir: Path, known: Mapping[str, Known], now: Mapping[str, Known]) -> None:
    """Write down what the server has now; other tags stay as they were known."""
    from core.store import write_atomically

    if {**known, **now} != known:
        entries = {tag: dataclasses.asdict(model) for tag, model in {**known, **now}.items()}
        write_atomically(cache_dir / MODELS_FILE, json.dumps(entries, indent=1) + "\n")


def seen(llm: OllamaModel, tags: Iterable[str]) -> dict[str, Known]:
    """What a server that answers has of these tags; those that it lacks are left out."""
    installed = llm.installed()
    here = [tag for tag in dict.fromkeys(tags) if tag in installed or f"{tag}:latest" in installed]
    return {tag: Known(str(llm.identity(tag)["digest"]), llm.show(tag).context_length) for tag in here}


# ── What a changed model costs ───────────────────────────────────────────────────────────────────────────


class Recorded:
    """Stands in for a language model where calls are only counted: models are as ``known`` has them, as ``llm`` says
    where it doesn't, and as nobody's where neither can."""

    backend = "ollama"
    weighs_options = False

    def __init__(self, llm: Any, known: Mapping[str, Known]) -> None:
        self._llm, self._known = llm, known

    def identity(self, model: str) -> dict[str, Any]:
        if model in self._known:
            return {"backend": self.backend, "tag": model, "digest": self._known[model].digest}
        try:
            return dict(self._llm.identity(model))
        except MissingError:
            return {"backend": self.backend, "tag": model, "digest": "not installed"}

    def complete(self, requests: Sequence[Any]) -> Any:
        raise NotImplementedError("a recorded model answers nothing")

    choose = complete


def changed(known: Mapping[str, Known], now: Mapping[str, Known]) -> list[str]:
    """Tags that another model answers to than when they were last seen."""
    return [tag for tag, model in now.items() if tag in known and known[tag].digest != model.digest]


def cost_of_change(params: Iterable[Job], known: Mapping[str, Known]) -> Counter[str]:
    """Calls, by model, that these runs need only because digests are no longer those of ``known``."""
    more: Counter[str] = Counter()
    for job in params:
        before = dataclasses.replace(job, llm=Recorded(job.llm, known))
        more += outstanding(job) - outstanding(before)
    return more


def change_sentence(tags: Sequence[str], cost: Mapping[str, int], cache_dir: Path) -> str:
    """What is said of changed models before anything is asked."""
    calls = ", ".join(f"{count} to {model}" for model, count in cost.items())
    what = f"their answers and what was judged of them are asked again: {calls}" if calls else "nothing is asked again"
    keep = f" Interrupt now and copy {cache_dir}/ to keep the old answers." if calls else ""
    return f"{', '.join(tags)} changed since the cache was filled (pulled again?); {what}.{keep}"
