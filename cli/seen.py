"""The models as their server has them now and as they were last seen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from core.files import write_json
from llm.addresses import find_tag
from llm.ollama import OllamaModel
from llm.openai import OpenAIModel
from stages.tasks import Job

# With them a run on full caches needs no server, and a model that was pulled anew is noticed before it is asked again.
MODELS_FILE = "model_digests.json"


class Known(NamedTuple):
    """A server's model as it was last seen."""

    digest: str  # empty where no server tells one
    context: int | None = None  # in tokens; None where the server did not say
    server: str | None = None  # the version of the server that had it: another one may sample differently
    parameters: str = ""  # its size in the server's words
    file_name: str = ""  # the model's name by its own file


def asked(job: Job) -> list[str]:
    """The models that are asked: the contestants, where their answers are not given, and the judge."""
    return list(dict.fromkeys([*(() if job.responses else job.contestants), job.judge]))


def read_known(cache_dir: Path) -> dict[str, Known]:
    """By tag; empty where there is no such file, or none of ours."""
    try:
        found = json.loads((cache_dir / MODELS_FILE).read_text(encoding="utf-8"))
        fields = Known._fields  # another version's file may hold more
        return {tag: Known(**{k: v for k, v in entry.items() if k in fields}) for tag, entry in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def remember(cache_dir: Path, found: Mapping[str, Known]) -> dict[str, Known]:
    """Write down what was found of some models beside what is known of the others. Returns all of it."""
    before = read_known(cache_dir)
    known = {**before, **found}
    if known != before:
        write_json(cache_dir / MODELS_FILE, {tag: model._asdict() for tag, model in known.items()})
    return known


def remembered_as(llm: OpenAIModel, model: str) -> str:
    """The key under which is written down what a server with the OpenAI API said of a model."""
    return f"{model} at {llm.address}"


@contextmanager
def keeping_told(job: Job) -> Iterator[None]:
    """Write down the judge's context that only a refusal told: the next run shortens what it is shown."""
    try:
        yield
    finally:
        if isinstance(job.llm, OpenAIModel) and (context := job.llm.told.get(job.judge)):
            remember(job.cache_dir, {remembered_as(job.llm, job.judge): Known("", context)})


def seen_now(job: Job) -> dict[str, Known]:
    """The run's models as their server has them; empty where it does not answer."""
    llm, found = job.llm, dict[str, Known]()
    if isinstance(llm, OpenAIModel):
        return {remembered_as(llm, job.judge): Known("", job.judge_context)}
    installed = llm.installed() if isinstance(llm, OllamaModel) and llm.available else {}
    for tag in asked(job):
        if isinstance(llm, OllamaModel) and (name := find_tag(tag, installed)):
            info, shown = installed[name], llm.show(tag)
            parameters = (info.details and info.details.parameter_size) or ""
            found[tag] = Known(info.digest or "", shown.context_length, llm.version(), parameters, shown.file_name)
    return found


def change_of_models(known: Mapping[str, Known], now: Mapping[str, Known]) -> str:
    """Said before anything is asked where another model answers to a tag than when it was last seen; else empty."""
    tags = [tag for tag, model in now.items() if tag in known and known[tag].digest != model.digest]
    if not tags:
        return ""
    return (
        f"{', '.join(tags)} changed since the cache was filled (pulled again?); their answers and what was judged "
        "of them are asked again where the cache has none of these. The old ones stay beside them."
    )


def same_models(job: Job, known: Mapping[str, Known]) -> list[str]:
    """Notes on contestants that are one model under several tags."""
    tags: dict[str, list[str]] = {}
    for name in job.contestants if not job.responses else ():
        if name in known and known[name].digest:
            tags.setdefault(known[name].digest, []).append(name)
    several = ["ONE MODEL UNDER SEVERAL TAGS, ranked as so many: " + " = ".join(names) for names in tags.values()]
    return [note for note in several if " = " in note]
