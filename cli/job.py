"""From the flags to the jobs of a run: who is asked what, and where everything lies. Flags are read nowhere below.

jobs = make_jobs(args, own, command)     # one a persona; nothing is asked or written
jobs = begin(jobs, args)                 # with the cache folder to itself: ratings, models as seen, files set aside
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import config
from base import device as base_device
from base import location
from cli.flags import STAGE_FILES, command_like, configure, refreshed
from cli.own import Own
from cli.seen import (
    OFF,
    Known,
    asked,
    change_of_models,
    is_off,
    read_known,
    remembered_as,
    same_models,
    seen_now,
    some,
    write_known,
)
from config import Contestant, ExperimentConfig, Persona
from core.errors import MissingError, UsageError
from core.files import keep_previous, told
from core.records import Rating
from evidence.design import listed as ranked_as_lists
from llm.addresses import parse_address, usual_tag
from stages.counting import Calls, by_model, count
from stages.tasks import Job

if TYPE_CHECKING:
    from llm.interface import LanguageModel
    from llm.ollama import OllamaModel
    from people.read import Votes
    from stages.arena import ArenaTable

log = logging.getLogger("ranking.preflight")

EMBEDDED_LABEL = "embedded (SmolLM2-135M: shows how the suite works, not how good real models are)"
OLLAMA_THERE = (
    "OPENAI_BASE_URL names an Ollama server, which cuts long prompts there without a word, and tells no digests. "
    "OLLAMA_HOST={host} with --backend ollama asks it whole."
)
# Stands in a job for a language model where people's votes, with the texts they are on, are all there is.
NOBODY = cast("LanguageModel", SimpleNamespace(backend="votes", weighs_options=False))


# ── Who is asked ─────────────────────────────────────────────────────────────────────────────────────────


def make_jobs(args: Namespace, own: Own, command: str, voted: Sequence[str] = ()) -> list[Job]:
    """A job for each persona of the run. Looks only.

    ``--backend auto`` takes Ollama where it answers, where its models are named, or where it did answer and all that
    this run asks is cached; else the embedded model, said loudly. ``voted``: the models that people voted on.
    """
    wanted = list(dict.fromkeys(args.models or voted))
    styles = bool(wanted) and all(name in config.EMBEDDED_MODELS for name in wanted)
    if args.backend == "embedded" or (args.backend == "auto" and styles):
        return _for_each(_embedded(args, own, wanted), args, own, command)
    if args.backend == "openai":
        return _for_each(_openai(args, own, wanted), args, own, command)
    jobs = _for_each(_ollama(args, own, wanted), args, own, command)
    llm: OllamaModel = jobs[0].llm  # type: ignore[assignment]
    answers = not is_off(jobs[0])
    if args.backend == "auto" and answers and os.environ.get("OPENAI_BASE_URL", "").strip():
        log.info("Ollama answers and is asked; the server that OPENAI_BASE_URL names: --backend openai")
    if args.backend == "ollama" or answers or ollama_flags(args) or voted:
        return jobs
    if read_known(args.cache_dir) and not args.refresh and not by_model(calls_left(jobs)):
        return jobs
    note = f"NO OLLAMA SERVER ANSWERS AT {llm.address}: the embedded model stands in for it."
    refused = "" if llm.trouble.startswith("No Ollama") else llm.trouble  # it is there, and does not answer us
    note = " ".join(filter(None, [note, refused, other_server(llm.address)]))
    return _for_each(_embedded(args, own, wanted, note), args, own, command)


def calls_left(jobs: Sequence[Job], anew: Sequence[str] = ()) -> list[Calls]:
    """Count the calls that each job still has to make. ``anew``: stages of which nothing counts as cached."""
    return [count(job, ranked_as_lists(job.prompt_ids, job.params), anew=anew) for job in jobs]


def _job(
    args: Namespace,
    params: ExperimentConfig,
    llm: LanguageModel,
    judge: str,
    contestants: Mapping[str, Contestant],
    **rest: Any,
) -> Job:
    """A job as far as it is the same for every persona."""
    backend = args.backend if args.preferences else llm.backend
    alone = (args.base_model, backend) == ("auto", "embedded")  # beside the embedded model reads the embedded base
    return Job(
        "", Persona(), contestants, judge, llm, params, args.cache_dir, results_dir=args.results_dir,
        base_model=location.EMBEDDED if alone else args.base_model, device=args.device, ray=args.ray,
        machine=base_device.seen_now(base_device.gpu()), **rest,
    )  # fmt: skip


def _for_each(job: Job, args: Namespace, own: Own, command: str) -> list[Job]:
    """The job of each persona whose preferences are simulated."""
    notes = (*job.notes, *own.notes)
    if job.judging_contestant:
        notes += (f"The judge {job.judge} is also a contestant: it may prefer its own answers.",)
    return [
        replace(
            job, name=name, persona=persona, prompts=own.prompts, responses=own.responses, notes=notes,
            samples_dir=None if args.refresh else config.SAMPLES_DIR, prompts_dir=config.PROMPTS_DIR,
            ablate=args.ablate, command=command, ask="" if own.responses else rank_command(args, name),
        )
        for name, persona in own.personas.items()
    ]  # fmt: skip


def _embedded(args: Namespace, own: Own, wanted: Sequence[str], *notes: str) -> Job:
    from llm.embedded import EmbeddedModel

    styles, name = config.EMBEDDED_MODELS, config.EMBEDDED_NAME
    if args.judge not in (None, name):
        raise UsageError(f"--judge {args.judge}: the embedded backend has one model, {name}.")
    chosen = own.contestants
    ratings: dict[str, Rating] | None = {} if chosen else None  # those of a file may be known to the Arena
    if not chosen:
        if odd := [style for style in wanted if style not in styles]:
            raise UsageError(f"--models {odd[0]}: the embedded contestants are {', '.join(styles)}.")
        chosen = {style: styles[style] for style in _at_least_two(wanted or list(styles))}
    params = configure(args, "embedded", len(own.prompts))
    return _job(args, params, EmbeddedModel(), name, chosen, label=EMBEDDED_LABEL, notes=notes, ratings=ratings)


def _ollama(args: Namespace, own: Own, wanted: Sequence[str]) -> Job:
    from llm.ollama import OllamaModel

    known, params, default = (
        read_known(args.cache_dir),
        configure(args, "ollama", len(own.prompts)),
        config.DEFAULT_MODELS,
    )
    judge = usual_tag(args.judge or config.DEFAULT_JUDGE, default)
    tags = [usual_tag(tag, default) for tag in wanted or default]
    _require_names([] if own.contestants else tags, judge, "no Ollama tag such as gemma3:4b; `ollama list` shows them")
    llm = OllamaModel(
        concurrency=params.concurrency,
        timeout=params.timeout,
        num_ctx=params.num_ctx,
        known_digests={tag: model.digest for tag, model in known.items()},
    )
    answers = llm.available()
    context = known[judge].context if judge in known else None
    if answers:
        try:
            context = llm.show(judge).context_length
        except MissingError as error:  # said later, with all else that is missing
            log.debug("%s", error)
    chosen = own.contestants or {t: default.get(t) or Contestant(None, None, t) for t in _at_least_two(tags)}
    label = "ollama" if answers else f"ollama ({OFF})"
    return _job(args, params, llm, judge, chosen, label=label, ratings={}, judge_context=context)


def ollama_flags(args: Namespace) -> list[str]:
    """The flags of this run that only Ollama can meet."""
    used = {
        "--models": args.models and not args.responses,
        "--judge": args.judge,
        "--ground_truth": args.ground_truth != "round_robin",
    }
    return [flag for flag, given in used.items() if given]


def _openai(args: Namespace, own: Own, wanted: Sequence[str]) -> Job:
    """The paid address is named before anything is asked. Raises UsageError where models are not named: no server has
    some that could be the default."""
    from llm.openai import OpenAIModel

    params = configure(args, "openai", len(own.prompts))
    llm = OpenAIModel(concurrency=params.concurrency, timeout=params.timeout)
    try:
        listed, answers = llm.listed(), True
    except MissingError as error:  # said later, with all else that is missing
        log.debug("%s", error)
        listed, answers = {}, False
    judge = args.judge or ("" if not args.preferences else "nobody")  # people judged
    if not (judge and (wanted or own.contestants)):
        offer = f". The server has {some(listed)}" if listed else ""
        raise UsageError(
            f"--backend openai needs the contestants and the judge by name: --models A B … --judge C{offer}. For "
            f"instance:\n  OPENAI_BASE_URL={llm.address} python main.py --backend openai --models A B --judge C"
        )
    _require_names([] if own.contestants else wanted, judge, "no name of a model; --check shows those of the server")
    if llm.paid:
        log.warning(
            "OPENAI_BASE_URL is not set: %s is asked, which bills every token. --check says how many.",
            llm.address,
        )
    notes = (OLLAMA_THERE.format(host=llm.address.removesuffix("/v1")),) if answers and llm.is_ollama() else ()
    for note in notes:
        log.warning("%s", note)
    before = read_known(args.cache_dir).get(remembered_as(llm, judge))
    context = listed.get(judge) if answers else (before.context if before else None)
    chosen = own.contestants or {name: Contestant(None, None, None) for name in _at_least_two(wanted)}
    label = f"openai ({llm.address if answers else OFF})"
    return _job(args, params, llm, judge, chosen, label=label, notes=notes, ratings={}, judge_context=context)


def other_server(address: str) -> str:
    """Say how to ask the server with the OpenAI API that OPENAI_BASE_URL names, or that answers where Ollama was looked
    for; empty where there is none."""
    from llm.openai import speaks_here

    named = os.environ.get("OPENAI_BASE_URL", "").strip()
    try:
        asked = [parse_address(named)] if named else []
    except UsageError:  # said where it is asked for
        asked = []
    found = next((url for url in (*asked, f"{address}/v1") if speaks_here(url)), None)
    if found is None:
        return ""
    variable = "" if found in asked else f"OPENAI_BASE_URL={found} "
    return (
        f"{found} answers, and speaks the OpenAI API. To ask it:\n  {variable}python main.py --backend openai "
        "--models A B --judge C"
    )


def _at_least_two(names: Iterable[str]) -> list[str]:
    """The names without repeats. Raises UsageError where they are no contest."""
    unique = list(dict.fromkeys(names))
    if len(unique) < 2:
        raise UsageError(f"--models {' '.join(unique)}: a ranking needs at least two different contestants.")
    return unique


def _require_names(models: Sequence[str], judge: str, otherwise: str) -> None:
    for flag, names in (("models", models), ("judge", [judge])):
        for name in names:
            if name.split() != [name] or not name.isprintable() or name.startswith("-"):
                raise UsageError(f"--{flag} {name!r} is {otherwise}.")


def own_name(args: Namespace, name: str) -> str:
    """The persona called ``name`` as a command names it: by the file that describes it, where there is one."""
    return str(args.persona) if args.persona not in (None, "all", *config.PERSONAS) else name


def rank_command(args: Namespace, name: str) -> str:
    """The command that ranks the models for a prompt by what the run called ``name`` leaves in the cache."""
    return command_like(args, "--persona", own_name(args, name), "--rank", "PROMPT")


def votes_job(args: Namespace, name: str, votes: Votes, own: Own, command: str) -> Job:
    """Build the job of a run on people's votes: nobody is asked, so that the base is chosen now."""
    from people.run import fitting, label

    params = fitting(configure(args, "votes"), len(votes.prompts))
    models = dict.fromkeys(votes.models, Contestant(None, None, None))
    job = _job(args, params, NOBODY, "the people themselves", models, command=command)
    base, note = location.choose(job.base_model, args.device, args.cache_dir, [name])
    ask = command_like(args, "--preferences", args.preferences, "--rank", "PROMPT")
    notes = (*own.notes, *filter(None, [note]))
    return replace(job, name=name, base_model=base, label=label(votes, base), notes=notes, ask=ask)


# ── The beginning of a run ───────────────────────────────────────────────────────────────────────────────


def begin(jobs: Sequence[Job], args: Namespace) -> list[Job]:
    """The first steps of a run that has the cache folder to itself: caches to be made anew are set aside, models that
    changed are said, ratings fetched."""
    with told(args.results_dir, "made a folder"):
        args.results_dir.mkdir(parents=True, exist_ok=True)  # before hours of asking, not after
    for stage in refreshed(args.refresh):
        files = [STAGE_FILES[stage].format(name=job.name) for job in jobs]
        paths = [path for file in files for path in args.cache_dir.glob(f"{file}*")]
        keep_previous(paths)  # nothing that was paid for is deleted
        for path in paths:
            log.info("%s set aside in %s/", path.name, path.parent / "previous")
    if jobs[0].ratings is None:  # answering styles: estimated from the recorded run
        return list(jobs)
    from stages import arena

    before, now = read_known(args.cache_dir), seen_now(jobs[0])
    if change := change_of_models(before, now):
        log.warning("%s", change)
    if (known := {**before, **now}) != before:
        write_known(args.cache_dir, known)
    if same := same_models(jobs[0], known):
        jobs = [replace(job, notes=(*job.notes, same)) for job in jobs]
    table = arena.load_table(args.cache_dir, refresh="all" in (args.refresh or ()))
    jobs = rated(jobs, table, known)
    for tag, rating in (jobs[0].ratings or {}).items():
        if tag not in config.DEFAULT_MODELS:
            log.info("%s: %s", tag, rating.source)
    versions = [known[tag].server for tag in asked(jobs[0]) if tag in known]
    server = ", ".join(dict.fromkeys(filter(None, versions)))
    sizes = {tag: (known[tag].size_bytes, known[tag].parameters) for tag in jobs[0].contestants if tag in known}
    return [replace(job, server=server, sizes=sizes) for job in jobs]


def rated(jobs: Sequence[Job], table: ArenaTable, known: Mapping[str, Known]) -> list[Job]:
    """The jobs with their contestants' ratings from one table."""
    from stages import arena

    contents = {tag: model.file_name for tag, model in known.items()}
    by_tag = jobs[0].llm.backend == "ollama" and not jobs[0].responses
    contestants, ratings = arena.rate(jobs[0].contestants, table, ollama=by_tag, contents=contents)
    return [replace(job, contestants=contestants, ratings=ratings, notes=(*table.notes, *job.notes)) for job in jobs]
