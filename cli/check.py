"""Say what is there, what is missing and how to get it, and how many calls a run makes: all of it with ``--check``,
before every run the missing things alone.

Looks only: nothing is written, no model is asked, neither torch nor transformers is imported.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import config
from base import device, location
from base.device import GIB
from cli.flags import STAGE_FILES, refreshed
from cli.job import ollama_flags, other_server, rated
from cli.seen import asked, by_model, calls_left, change_of_models, is_off, listed, read_known, seen_now, some
from core.errors import MissingError, UsageError
from core.store import read_items
from core.text import plain
from llm.addresses import find_tag, is_cloud
from llm.interface import nearest_tags
from llm.ollama import NO_TEMPLATE
from stages.counting import Costs
from stages.tasks import TEMPLATES, Job, load_template

if TYPE_CHECKING:
    from ollama import ListResponse

    from llm.ollama import OllamaModel
    from llm.openai import OpenAIModel

NO_DIGEST = "by name only, a server of this kind tells no digest: a model that changes behind its name is not noticed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix``: the command that gets it, where it is missing."""

    about: str
    said: str
    fix: str = ""


def check(jobs: Sequence[Job], args: Namespace) -> int:
    """Print all findings and the calls that the run makes. The exit status: 3 where something is missing, else 0."""
    require_usable(args)
    anew = refreshed(args.refresh)
    costs = calls_left(jobs, anew)
    found = [*_needed(jobs[0], args, by_model(costs)), *_ratings(jobs[0]), *_machine(args)]
    lines = [f"{'MISSING  ' if finding.fix else 'ok       '}{finding.about}: {finding.said}" for finding in found]
    change = change_of_models(jobs, read_known(args.cache_dir), seen_now(jobs[0]), anew)
    lines += [f"Note: {note}" for note in (*jobs[0].notes, *filter(None, [change]))]
    lines += ["", *call_lines(jobs, costs)]
    missing = [finding for finding in found if finding.fix]
    lines += ["", _sentence(missing) if missing else "All that this run needs is there."]
    print(plain("\n".join(lines), lines=True))
    return MissingError.exit_status if missing else 0


def require(jobs: Sequence[Job], args: Namespace) -> None:
    """Raises UsageError for a folder or template that can't be used, MissingError naming all that the run lacks.

    What is missing but not needed any more (everything it would be asked is cached) is left alone.
    """
    require_usable(args)
    found = list(_gpu(args))
    if args.rank is None and not args.vote:  # these say themselves what they still need
        calls = by_model(calls_left(jobs, refreshed(args.refresh)))
        if calls or args.refresh:
            found += _needed(jobs[0], args, calls)
        elif not any(args.cache_dir.glob("features_*")):
            found.append(_base(jobs[0]))
    missing = [finding for finding in found if finding.fix]
    if missing:
        raise MissingError(_sentence(missing))


def _sentence(missing: Sequence[Finding]) -> str:
    lines = [f"- {finding.about}: {finding.said}\n    {finding.fix}" for finding in missing]
    what = "One thing is missing" if len(missing) == 1 else f"{len(missing)} things are missing"
    return "\n".join([f"{what}; nothing was asked, all that is cached is kept:", *lines])


def require_usable(args: Namespace) -> None:
    """Raises UsageError for a folder that can't be written or a template that can't be read."""
    for flag in ("cache_dir", "results_dir"):
        folder = getattr(args, flag)
        there = _existing(folder)
        if not there.is_dir():
            raise UsageError(f"--{flag} {folder}: {there} is a file, not a folder. Choose another --{flag}.")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"--{flag} {folder}: {there} can't be written. Choose another --{flag}, or chmod u+w it.")
    for name in TEMPLATES:
        load_template(config.PROMPTS_DIR, name)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


# ── Models and base ──────────────────────────────────────────────────────────────────────────────────────


def _needed(job: Job, args: Namespace, calls: Mapping[str, int]) -> Iterator[Finding]:
    """The server, each model and the reward base. ``calls``: still to make, by model."""
    if job.llm.backend == "ollama":
        yield from _ollama(job, args, calls)
    elif job.llm.backend == "openai":
        yield from _openai(job, calls)
    else:
        yield _embedded("Embedded model", needed=bool(calls))
    yield _base(job)


def _roles(job: Job, model: str) -> str:
    """The model's name with what it is asked to be."""
    roles = ["contestant"] * (model in job.contestants) + ["judge"] * (model == job.judge)
    return f"{model} ({' and '.join(roles)})"


def _ollama(job: Job, args: Namespace, calls: Mapping[str, int]) -> Iterator[Finding]:
    llm: OllamaModel = job.llm  # type: ignore[assignment]
    if is_off(job):
        flags = " and ".join(ollama_flags(args))
        instead = f"without {flags}" if flags else "without it"
        fix = f"`ollama serve`; OLLAMA_HOST=… where it runs elsewhere; or --backend embedded {instead}"
        said = llm.trouble or f"no server answers at {llm.address}"
        if other := other_server(llm.address):
            said += f" {other}"
        yield Finding("Ollama", said, fix) if calls else Finding("Ollama", f"{said}, and everything is cached")
        return
    yield Finding("Ollama", f"version {llm.version()} answers at {llm.address}")
    installed = llm.installed()
    for tag in asked(job):
        yield _ollama_model(job, tag, installed, needed=bool(calls.get(tag)))


def _ollama_model(job: Job, tag: str, installed: Mapping[str, ListResponse.Model], *, needed: bool) -> Finding:
    llm: OllamaModel = job.llm  # type: ignore[assignment]
    info, about = installed.get(find_tag(tag, installed) or ""), _roles(job, tag)
    if info is None:
        near = nearest_tags(tag, installed)
        similar = f"; installed and similar: {', '.join(near)}" if near else ""
        left = "" if needed else ", and nothing is left to ask it"
        return Finding(about, f"not installed{left}{similar}", f"ollama pull {tag}" if needed else "")
    shown = llm.show(tag)
    if not shown.chats:
        return Finding(about, "it only embeds, and answers no questions", "take another model")
    if tag == job.judge and is_cloud(tag):
        return Finding(about, "models in the cloud give no structured answers", "--judge with an installed model")
    if shown.bare:
        return Finding(about, NO_TEMPLATE)
    context = f"context {shown.context_length:,} tokens" if shown.context_length else "context not told"
    parts = (info.details and (info.details.parameter_size, info.details.quantization_level)) or ()
    size = " ".join([f"{(info.size or 0) / 1e9:.1f} GB", *filter(None, parts)])
    room = f"up to {shown.thought_tokens} more tokens an answer" if shown.thought_tokens else "told not to"
    return Finding(about, f"{size}, {context}" + (f", can think ({room})" if shown.thinking else ""))


def _openai(job: Job, calls: Mapping[str, int]) -> Iterator[Finding]:
    llm: OpenAIModel = job.llm  # type: ignore[assignment]
    try:
        there = llm.listed()
        llm.require_admission()
    except MissingError as error:
        fix = "OPENAI_API_KEY=… and OPENAI_BASE_URL=http://…/v1 name a server that answers"
        said = str(error) if calls else f"{error} Everything is cached."
        yield Finding("OpenAI API", said, fix if calls else "")
        return
    lists = f"lists {len(there)} models: {some(there)}" if there else "lists no models"
    yield Finding("OpenAI API", f"{llm.address} answers and {lists}")
    latest = llm.is_ollama()  # there "x" is "x:latest"
    for name in asked(job):
        listed = (latest and find_tag(name, there)) or name
        yield _listed_model(_roles(job, name), listed, there, needed=bool(calls.get(name)))
    yield Finding("Models are known", f"{NO_DIGEST} (--refresh responses asks again)")


def _listed_model(about: str, name: str, there: Mapping[str, int | None], *, needed: bool) -> Finding:
    if not there:
        return Finding(about, "whether the server has it shows when it is asked")
    if name not in there:
        near = nearest_tags(name, there)
        similar = f"; similar: {', '.join(near)}" if near else ""
        left = "" if needed else ", and nothing is left to ask it"
        fix = f"--models and --judge with names of the server's list, or a server that has {name}" if needed else ""
        return Finding(about, f"not in the server's list{left}{similar}", fix)
    context = there[name]
    return Finding(about, f"listed, context {context:,} tokens" if context else "listed, context not told")


def _embedded(about: str, *, needed: bool) -> Finding:
    from llm import embedded

    path = embedded.weights_path()
    if path is not None:
        return Finding(about, f"{config.EMBEDDED_NAME}, {path.stat().st_size / 1e6:.0f} MB")
    return Finding(about, f"the weights of {config.EMBEDDED_NAME} are not installed", embedded.FIX if needed else "")


def _base(job: Job) -> Finding:
    name = job.base_model
    if name == location.EMBEDDED:
        base = _embedded("Reward base", needed=True)
        return replace(base, said=f"{base.said}; no reward model")
    folder = location.find_local(name)
    if folder is not None:
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return Finding("Reward base", f"{name}, {size / 1e9:.1f} GB in {folder}")
    embedded = f"or --base_model {location.EMBEDDED}"
    if not location.is_hub_id(name):
        return Finding("Reward base", f"there is no folder {name}", f"give a folder or a hub id, {embedded}")
    if why := location.out_of_reach(name):
        return Finding("Reward base", f"{name}: {why}", f"hf download {name}, {embedded}")
    return Finding("Reward base", f"{name}, fetched from the hub at its first use")


# ── Ratings and machine ──────────────────────────────────────────────────────────────────────────────────


def _ratings(job: Job) -> Iterator[Finding]:
    if job.ratings is None:
        yield Finding("Ratings", "estimated from the recorded run: answering styles were never on the Arena")
        return
    from stages import arena

    with tempfile.TemporaryDirectory() as scratch:  # a copy: reading the table may repair or make its file
        kept = job.cache_dir / config.ARENA_FILE
        if kept.is_file():
            shutil.copyfile(kept, Path(scratch, config.ARENA_FILE))
        table = arena.load_table(Path(scratch), offline=True)
    later = "" if kept.is_file() else "; none cached yet, the run asks the hub first"
    yield Finding("Arena ratings", f"{table.origin}, {table.label}{later}")
    for tag, rating in (rated([job], table)[0].ratings or {}).items():
        yield Finding(f"  {tag}", f"{'unrated' if rating.elo is None else f'{rating.elo:.0f}'} · {rating.source}")


def _gpu(args: Namespace) -> Iterator[Finding]:
    """Says something only where ``--device cuda`` finds no GPU."""
    if args.device == "cuda" and device.gpu() is None and not Path("/dev/nvidia0").exists():
        yield Finding("Device", "nvidia-smi finds no GPU for --device cuda", "--device cpu")


def _machine(args: Namespace) -> Iterator[Finding]:
    yield from _gpu(args)
    yield Finding("GPU", str(device.gpu() or "none found by nvidia-smi"))
    memory = device.main_memory()
    sizes = f", {memory[0]:.1f} of {memory[1]:.1f} GiB of memory free" if memory else ""
    yield Finding("Processor", f"{os.cpu_count()} cores{sizes}")
    disk = _existing(args.cache_dir.absolute())
    yield Finding("Disk", f"{shutil.disk_usage(disk).free / GIB:.0f} GiB free at {disk}")


# ── Calls ────────────────────────────────────────────────────────────────────────────────────────────────


def call_lines(jobs: Sequence[Job], costs: Sequence[Costs]) -> Iterator[str]:
    """Numbers of cached items and of calls that are left, persona by persona."""
    for job, cost in zip(jobs, costs, strict=True):
        stages: Counter[str] = Counter()
        for (stage, _), number in cost.calls.items():
            stages[stage] += number
        by_stage = ", ".join(f"{number} for {stage.replace('_', ' ')}" for stage, number in stages.items())
        said = f"{listed(by_model([cost]))} ({by_stage})" if stages else "none, everything is cached"
        yield f"Cached for {job.name}: {_cached(job)}"
        yield f"Calls still to make for {job.name}: {said}"
    if not (total := by_model(costs).total()):
        return
    if jobs[0].llm.weighs_options:
        yield "A call is one text: a draft of a prompt, an answer, or an answer read by one reader."
    if jobs[0].llm.backend == "openai":  # what a cloud bills
        for model in dict.fromkeys(model for cost in costs for model in cost.tokens):
            read, written = (sum(cost.tokens[model][i] for cost in costs if model in cost.tokens) for i in (0, 1))
            yield f"Tokens of {model}, at most: about {read:,} read and {written:,} written."
    yield f"{total} calls in all."


def _cached(job: Job) -> str:
    kept = []
    for stage in ("prompts", "responses", "preferences", "ground_truth"):
        kept.append(f"{len(read_items(job.path(STAGE_FILES[stage])))} {stage.replace('_', ' ')}")
    recorded = job.samples_dir and (job.samples_dir / config.RESPONSES_FILE.format(name=job.name)).exists()
    return ", ".join(kept) + (", and the recorded run" if recorded and job.llm.weighs_options else "")
