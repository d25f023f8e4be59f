"""Say what is there, what is missing and how to get it, and how many calls a run makes: all of it with ``--check``,
before every run the missing things alone.

Looks only: nothing is written, no model is asked, neither torch nor transformers is imported.
"""

from __future__ import annotations

import difflib
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import config
from base import device, location
from cli.flags import refreshed
from cli.job import calls_left, other_server
from cli.seen import asked, change_of_models, is_off, read_known, seen_now
from core.errors import MissingError, UsageError
from core.text import plain
from data_generation import Calls, by_model
from llm.connection import find_tag
from llm.ollama import NO_TEMPLATE
from stages.tasks import TEMPLATES, Job, load_template

if TYPE_CHECKING:
    from llm.ollama import OllamaModel
    from llm.openai import OpenAIModel


FLAGS = {"contestant": "--models {} …", "judge": "--judge {}"}  # by which a model is asked in each role


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix``: the command that gets it, where it is missing."""

    about: str
    said: str
    fix: str = ""
    note: str = ""
    """Said with the run's notes: what was found is there, and not what a user hopes for."""


def check(jobs: Sequence[Job], args: Namespace) -> int:
    """Print all findings and the calls that the run makes. The exit status: 3 where something is missing, else 0."""
    require_usable(args)
    calls = calls_left(jobs, refreshed(args.refresh))
    found = [*_needed(jobs[0], by_model(calls)), _gpu(args)]
    lines = [f"{'MISSING  ' if finding.fix else 'ok       '}{finding.about}: {finding.said}" for finding in found]
    change = change_of_models(read_known(args.cache_dir), seen_now(jobs[0]))
    notes = *jobs[0].notes, *(finding.note for finding in found), change
    lines += [f"Note: {note}" for note in notes if note]
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
    found = [_gpu(args)]
    if args.rank is None and not args.vote:  # these say themselves what they still need
        calls = by_model(calls_left(jobs, refreshed(args.refresh)))
        if calls or args.refresh:
            found += _needed(jobs[0], calls)
        elif not any(args.cache_dir.glob("features_*")):
            found.append(_base(jobs[0]))
    if missing := [finding for finding in found if finding.fix]:
        raise MissingError(_sentence(missing))


def _sentence(missing: Sequence[Finding]) -> str:
    lines = [f"- {finding.about}: {finding.said}\n    {finding.fix}" for finding in missing]
    return "\n".join(["Missing; nothing was asked, all that is cached is kept:", *lines])


def require_usable(args: Namespace) -> None:
    """Raises UsageError for a folder that can't be written or a template that can't be read."""
    for flag in ("cache_dir", "results_dir"):
        folder = getattr(args, flag)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"--{flag} {folder}: {there} is no folder that can be written. Choose another --{flag}.")
    for name in TEMPLATES:
        load_template(config.PROMPTS_DIR, name)


# ── Models and base ──────────────────────────────────────────────────────────────────────────────────────


def _needed(job: Job, calls: Mapping[str, int]) -> Iterator[Finding]:
    """The server, each model and the reward base. ``calls``: still to make, by model."""
    if job.llm.backend == "embedded":
        yield _embedded("Embedded model", needed=bool(calls))
    else:
        server, there = (_ollama if job.llm.backend == "ollama" else _openai)(job)
        cached = "" if calls else ", and everything is cached"
        yield replace(server, said=server.said + cached * bool(server.fix), fix=server.fix * bool(calls))
        for name in asked(job) if there is not None else ():
            yield _model(job, name, there or [], needed=bool(calls.get(name)))
    yield _base(job)


def _ollama(job: Job) -> tuple[Finding, list[str] | None]:
    """The server and its models, None where it is off."""
    llm: OllamaModel = job.llm  # type: ignore[assignment]
    if not is_off(job):
        return Finding("Ollama", f"version {llm.version()} answers at {llm.address}"), list(llm.installed())
    fix = "`ollama serve`, or OLLAMA_HOST=… where it runs elsewhere; --backend embedded needs none"
    said = llm.trouble or f"no server answers at {llm.address}"
    return Finding("Ollama", " ".join(filter(None, [said, other_server(llm.address)])), fix), None


def _openai(job: Job) -> tuple[Finding, list[str] | None]:
    llm: OpenAIModel = job.llm  # type: ignore[assignment]
    try:
        there = llm.listed()
        llm.require_admission()
    except MissingError as error:
        fix = "OPENAI_API_KEY=… and OPENAI_BASE_URL=http://…/v1 name a server that answers"
        return Finding("OpenAI API", str(error), fix), None
    lists = f"lists {len(there)} models: {', '.join(sorted(there)[:10])}" if there else "lists no models"
    latest = {name.removesuffix(":latest") for name in there} if llm.is_ollama() else set()  # there "x" is "x:latest"
    said = f"{llm.address} answers and {lists}; it tells no digests: a model that changes is not noticed"
    return Finding("OpenAI API", said), [*there, *(latest - there.keys())]


def _model(job: Job, name: str, there: Sequence[str], *, needed: bool) -> Finding:
    """A model that is asked, among those that its server has; one that lists none may have all."""
    wanted = name in job.contestants, name == job.judge
    roles = [role for role, it in zip(FLAGS, wanted, strict=True) if it]
    about, ollama = f"{name} ({' and '.join(roles)})", job.llm.backend == "ollama"
    if ollama and find_tag(name, there):
        return Finding(about, *_installed(job, name))
    if not ollama and (name in there or not there):
        known = job.llm.listed().get(name)  # type: ignore[attr-defined]
        return Finding(about, "listed, " * bool(there) + _context(known))
    near = difflib.get_close_matches(name, sorted(there), cutoff=0.5)
    said = ("not installed" if ollama else "not in the server's list") + ("" if needed else ", and not asked")
    fixes = [" ".join(FLAGS[role].format(near[0]) for role in roles)] if near else []
    fixes.append(f"ollama pull {name}" if ollama else "--models and --judge with names of the server's list")
    return Finding(about, said + (f"; similar: {', '.join(near)}" if near else ""), ", or ".join(fixes) * needed)


def _installed(job: Job, tag: str) -> tuple[str, str]:
    """What Ollama says of a model that it has, and what is to be done where that does not serve."""
    llm: OllamaModel = job.llm  # type: ignore[assignment]
    shown = llm.show(tag)
    return NO_TEMPLATE if shown.bare else _context(shown.context_length) + ", can think" * bool(shown.thinking), ""


def _context(tokens: int | None) -> str:
    return f"context {tokens:,} tokens" if tokens else "context not told"


def _embedded(about: str, *, needed: bool) -> Finding:
    from llm import embedded

    if embedded.weights_path() is not None:
        return Finding(about, config.EMBEDDED_NAME)
    return Finding(about, f"the weights of {config.EMBEDDED_NAME} are not installed", embedded.FIX * needed)


def _base(job: Job) -> Finding:
    """The reward base, by ``auto`` the one that is likely: it is chosen when the texts are read."""
    name, note = location.choose(job.base_model, job.device, job.cache_dir, [job.name])
    if name == location.EMBEDDED and not note:
        return _embedded("Reward base, which is no reward model", needed=True)
    if not note and (why := location.missing(name)):
        return Finding("Reward base", f"{name}: {why}", location.remedy(name))
    return Finding("Reward base", name, note=note)


def _gpu(args: Namespace) -> Finding:
    card = device.gpu()
    if args.device == "cuda" and card is None and not Path("/dev/nvidia0").exists():
        return Finding("GPU", "nvidia-smi finds none for --device cuda", "--device cpu")
    return Finding("GPU", card.said if card else "none found by nvidia-smi")


# ── Calls ────────────────────────────────────────────────────────────────────────────────────────────────


def call_lines(jobs: Sequence[Job], counted: Sequence[Calls]) -> Iterator[str]:
    """Numbers of calls that are left, persona by persona."""
    for job, calls in zip(jobs, counted, strict=True):
        whom = ", ".join(f"{number} to {model}" for model, number in by_model([calls]).items())
        yield f"Calls still to make for {job.name}: {whom or 'none, everything is cached'}"
    if total := by_model(counted).total():
        yield f"{total} calls in all." + " A call is one text." * jobs[0].llm.weighs_options
