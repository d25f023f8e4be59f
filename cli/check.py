"""Say what is there, what is missing and how to get it, and how many calls a run makes: all of it with ``--check``,
before every run the missing things alone.

Looks only: nothing is written, no model is asked, neither torch nor transformers is imported.
"""

import os
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import config
from base import location
from cli.job import calls_left, change_of_models, other_server, read_known, seen_now
from core.errors import MissingError, UsageError
from core.text import plain
from llm.connection import find_tag
from llm.ollama import NO_TEMPLATE, OllamaModel
from llm.openai import OpenAIModel
from stages.tasks import TEMPLATES, Job, load_template

Finding = tuple[str, str]
"""What was looked at, and the command that gets it where it is missing."""


def check(jobs: Sequence[Job], args: Namespace) -> int:
    """Print all findings and the calls that the run makes. The exit status: 3 where something is missing, else 0."""
    require_usable(args)
    calls = calls_left(jobs)
    found = list(look(jobs[0], sum(calls, Counter()), args))
    lines = [f"MISSING  {said}\n    {fix}" if fix else f"ok       {said}" for said, fix in found]
    change = change_of_models(read_known(args.cache_dir), seen_now(jobs[0]))
    lines += [f"Note: {note}" for note in (*jobs[0].notes, change) if note]
    for job, counted in zip(jobs, calls, strict=True):
        whom = ", ".join(f"{number} to {model}" for model, number in counted.items())
        lines.append(f"Calls still to make for {job.name}: {whom or 'none, everything is cached'}")
    if total := sum(map(Counter.total, calls)):
        lines.append(f"{total} calls in all." + " A call is one text." * jobs[0].llm.weighs_options)
    lacks = any(fix for _, fix in found)
    lines.append("Something is missing; nothing was asked." if lacks else "All that this run needs is there.")
    print(plain("\n".join(lines), lines=True))
    return MissingError.exit_status if lacks else 0


def require(jobs: Sequence[Job], args: Namespace) -> None:
    """Raises UsageError for a folder or template that can't be used, MissingError naming all that the run lacks.

    What is missing but not needed any more (everything it would be asked is cached) is left alone.
    """
    require_usable(args)
    if args.rank is None and not args.vote:  # these say themselves what they still need
        found = look(jobs[0], sum(calls_left(jobs), Counter()), args)
        if missing := [f"- {said}\n    {fix}" for said, fix in found if fix]:
            raise MissingError("\n".join(["Missing; nothing was asked, all that is cached is kept:", *missing]))


def require_usable(args: Namespace) -> None:
    """Raises UsageError for a folder that can't be written or a template that can't be read."""
    for flag in ("cache_dir", "results_dir"):
        folder = getattr(args, flag)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"--{flag} {folder}: {there} is no folder that can be written. Choose another --{flag}.")
    for name in TEMPLATES:
        load_template(name)


# ── Models and base ──────────────────────────────────────────────────────────────────────────────────────


def look(job: Job, calls: Mapping[str, int], args: Namespace) -> Iterator[Finding]:
    """The server and the models still to be asked (``calls``, by model), the reward base and the GPU."""
    if calls and isinstance(job.llm, OllamaModel):
        yield from _ollama(job, job.llm, calls)
    elif calls and isinstance(job.llm, OpenAIModel):
        yield from _openai(job, job.llm, calls)
    elif calls:
        yield _base("Embedded model", location.EMBEDDED)
    if calls or args.refresh or args.check or not any(args.cache_dir.glob("features_*")):
        # by ``auto`` the one that is likely: it is chosen when the texts are read
        name, note = location.choose(job.base_model, job.device, job.cache_dir, job.name)
        yield _base("Reward base" + ", which is no reward model" * (name == location.EMBEDDED), name, note)
    card = job.machine["gpu"]
    lacking = job.device == "cuda" and not card and not Path("/dev/nvidia0").exists()
    yield f"GPU: {card or 'none found by nvidia-smi'}", "--device cpu" * lacking


def _ollama(job: Job, llm: OllamaModel, names: Iterable[str]) -> Iterator[Finding]:
    if llm.trouble:
        yield f"Ollama: {llm.trouble} {other_server(llm.address)}".strip(), "ollama serve"
        return
    yield f"Ollama: version {llm.version()} answers at {llm.address}", ""
    there = llm.installed()
    for name in names:
        if find_tag(name, there):
            shown = llm.show(name)
            yield f"{_role(job, name)}: {NO_TEMPLATE if shown.bare else _context(shown.context_length)}", ""
        else:
            yield f"{_role(job, name)}: not installed", f"ollama pull {name}"


def _openai(job: Job, llm: OpenAIModel, names: Iterable[str]) -> Iterator[Finding]:
    try:
        there = dict(llm.listed())
        llm.require_admission()
    except MissingError as error:
        yield f"OpenAI API: {error}", "OPENAI_API_KEY=… and OPENAI_BASE_URL=http://…/v1 name a server that answers"
        return
    some = ", ".join(sorted(there)[:10])
    said = f"{llm.address} answers and lists {len(there)} models: {some or 'any may be asked for'}"
    yield f"OpenAI API: {said}; it tells no digests: a model that changes is not noticed", ""
    if llm.is_ollama():  # there "x" is "x:latest"
        there |= {name.removesuffix(":latest"): context for name, context in there.items()}
    for name in names:
        if name in there or not there:
            yield f"{_role(job, name)}: {'listed, ' * bool(there)}{_context(there.get(name))}", ""
        else:
            yield f"{_role(job, name)}: not in the server's list", f"--models and --judge with one of: {some}"


def _role(job: Job, name: str) -> str:
    roles = ["contestant"] * (name in job.contestants) + ["judge"] * (name == job.judge)
    return f"{name} ({' and '.join(roles)})"


def _context(tokens: int | None) -> str:
    return f"context {tokens:,} tokens" if tokens else "context not told"


def _base(about: str, name: str, said: str = "") -> Finding:
    why, fix = location.missing(name)
    shown = config.EMBEDDED_NAME if name == location.EMBEDDED else name
    return f"{about}: {f'{shown}: {why}' if why else said or shown}", fix
