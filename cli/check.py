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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import config
from base import device, location
from cli.flags import STAGE_FILES, refreshed
from cli.job import calls_left, ollama_flags, other_server, rated
from cli.seen import asked, change_of_models, is_off, read_known, seen_now, some
from core.errors import MissingError, UsageError
from core.store import read_items
from core.text import plain
from llm.addresses import find_tag
from llm.interface import nearest_tags
from llm.ollama import NO_TEMPLATE
from stages.counting import Calls, by_model
from stages.tasks import STAGES, TEMPLATES, Job, load_template

if TYPE_CHECKING:
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
    calls = calls_left(jobs, refreshed(args.refresh))
    found = [*_needed(jobs[0], args, by_model(calls)), *_ratings(jobs[0]), *_gpu(args)]
    lines = [f"{'MISSING  ' if finding.fix else 'ok       '}{finding.about}: {finding.said}" for finding in found]
    change = change_of_models(read_known(args.cache_dir), seen_now(jobs[0]))
    lines += [f"Note: {note}" for note in (*jobs[0].notes, *filter(None, [change]))]
    missing = [finding for finding in found if finding.fix]
    lines += ["", *call_lines(jobs, calls), ""]
    lines += [_sentence(missing) if missing else "All that this run needs is there."]
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
    if missing := [finding for finding in found if finding.fix]:
        raise MissingError(_sentence(missing))


def _sentence(missing: Sequence[Finding]) -> str:
    lines = [f"- {finding.about}: {finding.said}\n    {finding.fix}" for finding in missing]
    what = "One thing is missing" if len(missing) == 1 else f"{len(missing)} things are missing"
    return "\n".join([f"{what}; nothing was asked, all that is cached is kept:", *lines])


def require_usable(args: Namespace) -> None:
    """Raises UsageError for a folder that can't be written or a template that can't be read."""
    for flag in ("cache_dir", "results_dir"):
        folder = getattr(args, flag)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise UsageError(f"--{flag} {folder}: {there} is a file, not a folder. Choose another --{flag}.")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"--{flag} {folder}: {there} can't be written. Choose another --{flag}, or chmod u+w it.")
    for name in TEMPLATES:
        load_template(config.PROMPTS_DIR, name)


# ── Models and base ──────────────────────────────────────────────────────────────────────────────────────


def _needed(job: Job, args: Namespace, calls: Mapping[str, int]) -> Iterator[Finding]:
    """The server, each model and the reward base. ``calls``: still to make, by model."""
    if job.llm.backend == "embedded":
        yield _embedded("Embedded model", needed=bool(calls))
    else:
        needed = bool(calls)
        server, there = _ollama(job, args, needed) if job.llm.backend == "ollama" else _openai(job, needed)
        yield server
        for name in asked(job) if there is not None else ():
            yield _model(job, name, there or [], needed=bool(calls.get(name)))
        if job.llm.backend == "openai":
            yield Finding("Models are known", f"{NO_DIGEST} (--refresh responses asks again)")
    yield _base(job)


def _ollama(job: Job, args: Namespace, needed: bool) -> tuple[Finding, list[str] | None]:
    """The server and its models, None where it is off."""
    llm: OllamaModel = job.llm  # type: ignore[assignment]
    if not is_off(job):
        return Finding("Ollama", f"version {llm.version()} answers at {llm.address}"), list(llm.installed())
    flags = " and ".join(ollama_flags(args))
    instead = f"without {flags}" if flags else "without it"
    fix = f"`ollama serve`; OLLAMA_HOST=… where it runs elsewhere; or --backend embedded {instead}"
    said = llm.trouble or f"no server answers at {llm.address}"
    if other := other_server(llm.address):
        said += f" {other}"
    return (Finding("Ollama", said, fix) if needed else Finding("Ollama", f"{said}, and everything is cached")), None


def _openai(job: Job, needed: bool) -> tuple[Finding, list[str] | None]:
    llm: OpenAIModel = job.llm  # type: ignore[assignment]
    try:
        there = llm.listed()
        llm.require_admission()
    except MissingError as error:
        fix = "OPENAI_API_KEY=… and OPENAI_BASE_URL=http://…/v1 name a server that answers"
        return Finding("OpenAI API", str(error) if needed else f"{error} Everything is cached.", fix * needed), None
    lists = f"lists {len(there)} models: {some(there)}" if there else "lists no models"
    latest = {name.removesuffix(":latest") for name in there} if llm.is_ollama() else set()  # there "x" is "x:latest"
    return Finding("OpenAI API", f"{llm.address} answers and {lists}"), [*there, *(latest - there.keys())]


def _model(job: Job, name: str, there: Sequence[str], *, needed: bool) -> Finding:
    """A model that is asked, among those that its server has."""
    roles = ["contestant"] * (name in job.contestants) + ["judge"] * (name == job.judge)
    about, ollama = f"{name} ({' and '.join(roles)})", job.llm.backend == "ollama"
    if (find_tag(name, there) if ollama else name in there) or not (ollama or there):
        return Finding(about, *(_installed(job, name) if ollama else _listed(job, name)))
    near, left = nearest_tags(name, there), "" if needed else ", and nothing is left to ask it"
    if ollama:
        similar = f"; installed and similar: {', '.join(near)}" if near else ""
        return Finding(about, f"not installed{left}{similar}", f"ollama pull {name}" * needed)
    similar = f"; similar: {', '.join(near)}" if near else ""
    fix = f"--models and --judge with names of the server's list, or a server that has {name}"
    return Finding(about, f"not in the server's list{left}{similar}", fix * needed)


def _installed(job: Job, tag: str) -> tuple[str, str]:
    """What Ollama says of a model that it has, and what is to be done where that does not serve."""
    llm: OllamaModel = job.llm  # type: ignore[assignment]
    installed, shown = llm.installed(), llm.show(tag)
    info = installed[find_tag(tag, installed) or tag]
    if not shown.chats:
        return "it only embeds, and answers no questions", "take another model"
    if shown.bare:
        return NO_TEMPLATE, ""
    context = f"context {shown.context_length:,} tokens" if shown.context_length else "context not told"
    parts = (info.details and (info.details.parameter_size, info.details.quantization_level)) or ()
    size = " ".join([f"{(info.size or 0) / 1e9:.1f} GB", *filter(None, parts)])
    room = f"up to {shown.thought_tokens} more tokens an answer" if shown.thought_tokens else "told not to"
    return f"{size}, {context}" + (f", can think ({room})" if shown.thinking else ""), ""


def _listed(job: Job, name: str) -> tuple[str, str]:
    """What a server with the OpenAI API says of a model."""
    there = job.llm.listed()  # type: ignore[attr-defined]
    if not there:
        return "whether the server has it shows when it is asked", ""
    context = there.get(name)
    return f"listed, context {context:,} tokens" if context else "listed, context not told", ""


def _embedded(about: str, *, needed: bool) -> Finding:
    from llm import embedded

    path = embedded.weights_path()
    if path is not None:
        return Finding(about, f"{config.EMBEDDED_NAME}, {path.stat().st_size / 1e6:.0f} MB")
    return Finding(about, f"the weights of {config.EMBEDDED_NAME} are not installed", embedded.FIX * needed)


def _base(job: Job) -> Finding:
    """The reward base, by ``auto`` the one that is likely: it is chosen when the texts are read."""
    name, note = location.choose(job.base_model, job.device, job.cache_dir, [job.name])
    likely = f"likely {name}" if job.base_model == "auto" else name
    if note:
        return Finding("Reward base", note)
    if name == location.EMBEDDED:
        base = _embedded("Reward base", needed=True)
        return Finding("Reward base", f"{base.said}; no reward model", base.fix)
    if why := location.missing(name):
        return Finding("Reward base", f"{name}: {why}", location.remedy(name))
    if folder := location.find_local(name):
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return Finding("Reward base", f"{likely}, {size / 1e9:.1f} GB in {folder}")
    return Finding("Reward base", f"{likely}, fetched from the hub at its first use")


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
    known = {**read_known(job.cache_dir), **seen_now(job)}
    for tag, rating in (rated([job], table, known)[0].ratings or {}).items():
        yield Finding(f"  {tag}", f"{'unrated' if rating.elo is None else f'{rating.elo:.0f}'} · {rating.source}")


def _gpu(args: Namespace) -> Iterator[Finding]:
    card = device.gpu()
    if args.device == "cuda" and card is None and not Path("/dev/nvidia0").exists():
        yield Finding("GPU", "nvidia-smi finds none for --device cuda", "--device cpu")
    else:
        yield Finding("GPU", str(card or "none found by nvidia-smi"))


# ── Calls ────────────────────────────────────────────────────────────────────────────────────────────────


def call_lines(jobs: Sequence[Job], counted: Sequence[Calls]) -> Iterator[str]:
    """Numbers of cached items and of calls that are left, persona by persona."""
    for job, calls in zip(jobs, counted, strict=True):
        stages: Counter[str] = Counter()
        for (stage, _), number in calls.items():
            stages[stage.replace("_", " ")] += number
        whom = ", ".join(f"{number} to {model}" for model, number in by_model([calls]).items())
        what = ", ".join(f"{number} for {stage}" for stage, number in stages.items())
        kept = [
            f"{len(read_items(job.path(STAGE_FILES[stage])))} {stage.replace('_', ' ')}" for stage in STAGES.values()
        ]
        if (
            job.llm.weighs_options
            and (job.samples_dir or Path()).joinpath(job.path(config.RESPONSES_FILE).name).is_file()
        ):
            kept.append("and the recorded run")
        yield f"Cached for {job.name}: {', '.join(kept)}"
        yield f"Calls still to make for {job.name}: " + (f"{whom} ({what})" if calls else "none, everything is cached")
    if total := by_model(counted).total():
        if jobs[0].llm.weighs_options:
            yield "A call is one text: a draft of a prompt, an answer, or an answer read by one reader."
        yield f"{total} calls in all."
