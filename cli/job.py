"""From the flags to the jobs of a run: who is asked what, and where everything lies. Flags are read nowhere below.

jobs = make_jobs(args, own, command)     # one a persona; nothing is asked or written
jobs = begin(jobs, args)                 # with the cache folder to itself: ratings, models as seen, files set aside
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import config
from base import device as base_device
from base import location
from cli import seen
from cli.flags import STAGE_FILES, command_like, configure, refreshed
from cli.own import Own
from config import Contestant, ExperimentConfig, Persona
from core.errors import MissingError, UsageError
from core.files import keep_previous, told
from core.records import Rating
from core.text import count as counted
from data_generation import Calls, by_model, count
from evidence.design import listed as ranked_as_lists
from llm.connection import find_tag, get_json, parse_address
from stages.tasks import Job

if TYPE_CHECKING:
    from llm.interface import LanguageModel
    from llm.ollama import OllamaModel
    from people.read import Votes

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
    answers, auto = not seen.is_off(jobs[0]), args.backend == "auto"
    if auto and answers and os.environ.get("OPENAI_BASE_URL", "").strip():
        log.info("Ollama answers and is asked; the server that OPENAI_BASE_URL names: --backend openai")
    served = (args.models and not args.responses) or args.judge or args.ground_truth != "round_robin" or voted
    if not auto or answers or served:
        return jobs
    if seen.read_known(args.cache_dir) and not args.refresh and not by_model(calls_left(jobs)):
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
    card = base_device.gpu()
    alone = (args.base_model, backend) == ("auto", "embedded")  # beside the embedded model reads the embedded base
    return Job(
        "", Persona(), contestants, judge, llm, params, args.cache_dir, results_dir=args.results_dir,
        base_model=location.EMBEDDED if alone else args.base_model, device=args.device, ray=args.ray,
        machine={"gpu": card and card.said, "cores": os.cpu_count()}, **rest,
    )  # fmt: skip


def _for_each(job: Job, args: Namespace, own: Own, command: str) -> list[Job]:
    """The job of each persona whose preferences are simulated."""

    def ask(name: str) -> str:
        return "" if own.responses else command_like(args, "--persona", own_name(args, name), "--rank", "PROMPT")

    notes = (*job.notes, *own.notes)
    if job.judging_contestant:
        notes += (f"The judge {job.judge} is also a contestant: it may prefer its own answers.",)
    return [
        replace(
            job, name=name, persona=persona, prompts=own.prompts, responses=own.responses, notes=notes,
            samples_dir=None if args.refresh else config.SAMPLES_DIR, prompts_dir=config.PROMPTS_DIR,
            ablate=args.ablate, command=command, ask=ask(name),
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

    known, default = seen.read_known(args.cache_dir), config.DEFAULT_MODELS
    params = configure(args, "ollama", len(own.prompts))
    judge = args.judge or config.DEFAULT_JUDGE
    judge = find_tag(judge, default) or judge
    llm = OllamaModel(
        concurrency=params.concurrency,
        timeout=params.timeout,
        num_ctx=params.num_ctx,
        digests={tag: model.digest for tag, model in known.items()},
    )
    answers = not llm.trouble
    context = known[judge].context if judge in known else None
    if answers:
        with suppress(MissingError):  # said later, with all else that is missing
            context = llm.show(judge).context_length
    chosen = own.contestants
    if not chosen:
        tags = _at_least_two(find_tag(tag, default) or tag for tag in wanted or default)
        chosen = {tag: default.get(tag) or Contestant(None, None, tag) for tag in tags}
    label = "ollama" if answers else f"ollama ({seen.OFF})"
    return _job(args, params, llm, judge, chosen, label=label, ratings={}, judge_context=context)


def _openai(args: Namespace, own: Own, wanted: Sequence[str]) -> Job:
    """The paid address is named before anything is asked. Raises UsageError where models are not named: no server has
    some that could be the default."""
    from llm.openai import OpenAIModel

    params = configure(args, "openai", len(own.prompts))
    llm = OpenAIModel(concurrency=params.concurrency, timeout=params.timeout)
    listed: Mapping[str, int | None] | None = None
    with suppress(MissingError):  # said later, with all else that is missing
        listed = llm.listed()
    judge = args.judge or ("nobody" if args.preferences else "")  # people judged
    if not (judge and (wanted or own.contestants)):
        offer = f" The server has {', '.join(sorted(listed)[:10])}." if listed else ""
        raise UsageError(
            "--backend openai needs the contestants and the judge by name: OPENAI_BASE_URL="
            f"{llm.address} python main.py --backend openai --models A B --judge C.{offer}"
        )
    if llm.paid:
        log.warning("OPENAI_BASE_URL is not set: %s is asked, which bills every token.", llm.address)
    notes = (
        (OLLAMA_THERE.format(host=llm.address.removesuffix("/v1")),) if listed is not None and llm.is_ollama() else ()
    )
    for note in notes:
        log.warning("%s", note)
    known = None if args.refresh else seen.read_known(args.cache_dir).get(seen.remembered_as(llm, judge))
    context = (listed or {}).get(judge) or (known and known.context)
    chosen = own.contestants or {name: Contestant(None, None, None) for name in _at_least_two(wanted)}
    label = f"openai ({seen.OFF if listed is None else llm.address})"
    return _job(args, params, llm, judge, chosen, label=label, notes=notes, ratings={}, judge_context=context)


def other_server(address: str) -> str:
    """Say how to ask the server with the OpenAI API that OPENAI_BASE_URL names, or that answers where Ollama was looked
    for; empty where there is none."""
    named = os.environ.get("OPENAI_BASE_URL", "").strip()
    urls = [f"{address}/v1"]
    with suppress(UsageError):  # said where it is asked for
        urls = [parse_address(named), *urls] if named else urls
    found = next((url for url in urls if isinstance(get_json(f"{url}/models").get("data"), list)), None)
    if found is None:
        return ""
    asking = f"OPENAI_BASE_URL={found} python main.py --backend openai --models A B --judge C"
    return f"{found} answers, and speaks the OpenAI API. To ask it:\n  {asking}"


def _at_least_two(names: Iterable[str]) -> list[str]:
    """The names without repeats. Raises UsageError where they are no contest."""
    unique = list(dict.fromkeys(names))
    if len(unique) < 2:
        raise UsageError(f"--models {' '.join(unique)}: a ranking needs at least two different contestants.")
    return unique


def own_name(args: Namespace, name: str) -> str:
    """The persona called ``name`` as a command names it: by the file that describes it, where there is one."""
    return str(args.persona) if args.persona not in (None, "all", *config.PERSONAS) else name


def votes_job(args: Namespace, name: str, votes: Votes, own: Own, command: str) -> Job:
    """Build the job of a run on people's votes: nobody is asked, so that the base is chosen now."""
    params = configure(args, "votes", len(votes.prompts))
    models = dict.fromkeys(votes.models, Contestant(None, None, None))
    job = _job(args, params, NOBODY, "the people themselves", models, command=command)
    base, note = location.choose(job.base_model, args.device, args.cache_dir, [name])
    ask = command_like(args, "--preferences", args.preferences, "--rank", "PROMPT")
    notes = (*own.notes, *filter(None, [note]))
    reader = f"{config.EMBEDDED_NAME}, which is no reward model" if base == location.EMBEDDED else base
    label = f"human votes of {counted(len(votes.users), 'person', 'people')}; responses are read by {reader}"
    return replace(job, name=name, base_model=base, label=label, notes=notes, ask=ask)


# ── The beginning of a run ───────────────────────────────────────────────────────────────────────────────


def begin(jobs: Sequence[Job], args: Namespace) -> list[Job]:
    """The first steps of a run that has the cache folder to itself: caches to be made anew are set aside, models that
    changed are said, ratings fetched."""
    with told(args.results_dir, "made a folder"):
        args.results_dir.mkdir(parents=True, exist_ok=True)  # before hours of asking, not after
    for stage in refreshed(args.refresh):
        files = [STAGE_FILES[stage].format(name=job.name) for job in jobs]
        # nothing that was paid for is deleted
        keep_previous(*(path for file in files for path in args.cache_dir.glob(f"{file}*")))
    if jobs[0].ratings is None:  # answering styles: estimated from the recorded run
        return list(jobs)
    from stages import arena

    now = seen.seen_now(jobs[0])
    if change := seen.change_of_models(seen.read_known(args.cache_dir), now):
        log.warning("%s", change)
    known = seen.remember(args.cache_dir, now)
    same = seen.same_models(jobs[0], known)
    table = arena.load_table(args.cache_dir, refresh="all" in (args.refresh or ()))
    contents = {tag: model.file_name for tag, model in known.items()}
    by_tag = jobs[0].llm.backend == "ollama" and not jobs[0].responses
    ratings = arena.rate(jobs[0].contestants, table, ollama=by_tag, contents=contents)
    for tag, rating in ratings.items():
        if tag not in config.DEFAULT_MODELS:
            log.info("%s: %s", tag, rating.source)
    versions = (known[tag].server for tag in seen.asked(jobs[0]) if tag in known)
    server = ", ".join(dict.fromkeys(filter(None, versions)))
    sizes = {tag: (known[tag].size_bytes, known[tag].parameters) for tag in jobs[0].contestants if tag in known}
    return [
        replace(
            job, ratings=ratings, notes=(*table.notes, *job.notes, *filter(None, [same])),
            server=server, sizes=sizes,
        )
        for job in jobs
    ]  # fmt: skip
