"""The models as their server has them now and as they were last seen, and what is still to be asked of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm.addresses import find_tag
from stages.counting import Costs, count
from stages.tasks import Job

if TYPE_CHECKING:
    from llm.ollama import OllamaModel
    from llm.openai import OpenAIModel

OLLAMA_OFF = "ollama (its server does not answer: everything comes from the cache)"
OPENAI_OFF = "openai (its server is out of reach: everything comes from the cache)"


def is_off(job: Job) -> bool:
    """Whether the job's server did not answer when it was looked for."""
    return job.label in (OLLAMA_OFF, OPENAI_OFF)


def asked(job: Job) -> list[str]:
    """The models that are asked: the contestants, where their answers are not given, and the judge."""
    return list(dict.fromkeys([*(() if job.responses else job.contestants), job.judge]))


# With them a run on full caches needs no server, and a model that was pulled anew is noticed before it is asked again.
MODELS_FILE = "model_digests.json"


@dataclass(frozen=True, slots=True)
class Known:
    """A server's model as it was last seen; ``context`` in tokens, None where the server did not say."""

    digest: str
    """Empty where no server tells one."""
    context: int | None = None
    server: str | None = None
    """The version of the server that had it: another one may sample differently."""


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


def remembered_as(llm: OpenAIModel, model: str) -> str:
    """The key under which is written down what a server with the OpenAI API said of a model."""
    return f"{model} at {llm.address}"


def seen_now(job: Job) -> dict[str, Known]:
    """The run's models as their server has them; empty where it does not answer."""
    if is_off(job) or job.llm.backend == "embedded":
        return {}
    if job.llm.backend == "openai":
        return {remembered_as(job.llm, job.judge): Known("", job.judge_context)}  # type: ignore[arg-type]
    llm: OllamaModel = job.llm  # type: ignore[assignment]
    installed, version = llm.installed(), llm.version()
    return {
        tag: Known(str(llm.identity(tag)["digest"]), llm.show(tag).context_length, version)
        for tag in asked(job)
        if find_tag(tag, installed)
    }


def change_of_models(
    jobs: Sequence[Job], known: Mapping[str, Known], now: Mapping[str, Known], anew: Collection[str] = ()
) -> str:
    """Said before anything is asked where another model answers to a tag than when it was last seen; else empty."""
    tags = [tag for tag, model in now.items() if tag in known and known[tag].digest != model.digest]
    if not tags:
        return ""
    before = {tag: model.digest for tag, model in known.items() if model.digest}
    more = by_model(calls_left(jobs, anew)) - by_model(calls_left(jobs, anew, before))
    what = "nothing is asked again"
    if more:
        what = f"their answers and what was judged of them are asked again: {listed(more)}"
    keep = f" Interrupt now and copy {jobs[0].cache_dir}/ to keep the old answers." if more else ""
    return f"{', '.join(tags)} changed since the cache was filled (pulled again?); {what}.{keep}"


def same_models(job: Job, known: Mapping[str, Known]) -> str:
    """Said where contestants are one model under several tags; else empty."""
    tags: dict[str, list[str]] = {}
    for name, contestant in job.contestants.items() if not job.responses else ():
        if (seen := known.get(contestant.ollama_tag or name)) and seen.digest:
            tags.setdefault(seen.digest, []).append(name)
    several = [" = ".join(names) for names in tags.values() if len(names) > 1]
    return f"ONE MODEL UNDER SEVERAL TAGS, ranked as so many: {'; '.join(several)}." if several else ""


# ── Calls ────────────────────────────────────────────────────────────────────────────────────────────────


def calls_left(
    jobs: Sequence[Job], anew: Collection[str] = (), digests: Mapping[str, str] | None = None
) -> list[Costs]:
    """Count the calls that each job still has to make. ``anew``: stages of which nothing counts as cached; ``digests``:
    models by tag as if these were their digests."""
    from evidence.design import listed as ranked_as_lists

    return [count(job, ranked_as_lists(job.prompt_ids, job.params), anew=anew, digests=digests) for job in jobs]


def by_model(costs: Iterable[Costs]) -> Counter[str]:
    """Calls of all stages, by model."""
    calls: Counter[str] = Counter()
    for cost in costs:
        for (_, model), number in cost.calls.items():
            calls[model] += number
    return calls


def listed(calls: Mapping[str, int]) -> str:
    """Calls by model in words: 25 to gemma3:4b, 750 to llama3:8b."""
    return ", ".join(f"{number} to {model}" for model, number in calls.items())


def some(names: Iterable[str], most: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    there = sorted(names)
    return ", ".join(there[:most]) + (f" and {len(there) - most} more" if len(there) > most else "")


def sizes(job: Job) -> dict[str, tuple[int | None, str]]:
    """Bytes and parameters of each contestant, where an Ollama server tells them."""
    if job.llm.backend != "ollama" or is_off(job):
        return {}
    installed = job.llm.installed()  # type: ignore[attr-defined]
    found = {name: installed.get(find_tag(c.ollama_tag or name, installed)) for name, c in job.contestants.items()}
    return {
        name: (int(info.size or 0), (info.details and info.details.parameter_size) or "")
        for name, info in found.items()
        if info
    }
