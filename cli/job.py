"""From the flags to the jobs of a run: who is asked what, and where everything lies. Flags are read nowhere below.

jobs = make_jobs(args, own, command)     # one a persona; nothing is asked or written
jobs = begin(jobs, args)                 # with the cache folder to itself: ratings, models as seen, files set aside
"""

import json
import logging
import os
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import config
from base import device, location
from cli.flags import command_like, configure, refreshed
from cli.own import Own
from config import Contestant, Persona
from core.errors import MissingError, UsageError
from core.files import keep_previous, write_json
from core.text import count as counted
from data_generation import count
from evaluation import listed as ranked_as_lists
from llm.connection import find_tag, get_json, parse_address
from llm.interface import LanguageModel
from llm.ollama import OllamaModel
from llm.openai import OpenAIModel
from people.read import Votes
from stages import arena
from stages.tasks import Job

log = logging.getLogger("ranking.preflight")

EMBEDDED_LABEL = "embedded (SmolLM2-135M: shows how the suite works, not how good real models are)"
OFF = "its server does not answer: everything comes from the cache"
OLLAMA_THERE = (
    "OPENAI_BASE_URL names an Ollama server, which cuts long prompts there without a word, and tells no digests. "
    "OLLAMA_HOST={host} with --backend ollama asks it whole."
)
# Stands in a job for a language model where people's votes, with the texts they are on, are all there is.
NOBODY = cast(LanguageModel, SimpleNamespace(backend="votes", weighs_options=False))
PEOPLE = "the people themselves"  # who judged them


# ── Who is asked ─────────────────────────────────────────────────────────────────────────────────────────


def make_jobs(args: Namespace, own: Own, command: str) -> list[Job]:
    """A job for each persona of the run. Looks only.

    ``--backend auto`` takes Ollama where it answers, where its models are named, or where it did answer and all that
    this run asks is cached; else the embedded model, said loudly. For people's votes the models voted on are asked.
    """
    wanted = list(dict.fromkeys(args.models or (own.votes.models if own.votes else ())))
    styles = bool(wanted) and config.EMBEDDED_MODELS.keys() >= set(wanted)
    embedded = args.backend == "embedded" or (args.backend == "auto" and styles)
    make = _embedded if embedded else _openai if args.backend == "openai" else _ollama
    jobs = _for_each(make(args, own, wanted), args, own, command)
    llm = jobs[0].llm
    if args.backend != "auto" or not isinstance(llm, OllamaModel):
        return jobs
    if not llm.trouble and os.environ.get("OPENAI_BASE_URL", "").strip():
        log.info("Ollama answers and is asked; the server that OPENAI_BASE_URL names: --backend openai")
    served = (args.models and not args.responses) or args.judge or args.ground_truth != "round_robin" or own.votes
    if not llm.trouble or served:
        return jobs
    if read_known(args.cache_dir) and not args.refresh and not any(calls_left(jobs)):
        return jobs
    note = f"THE EMBEDDED MODEL STANDS IN FOR OLLAMA. {llm.trouble} {other_server(llm.address)}".strip()
    return _for_each(_embedded(args, own, wanted, note), args, own, command)


def calls_left(jobs: Sequence[Job]) -> list[Counter[str]]:
    """Count the calls that each job still has to make."""
    return [count(job, ranked_as_lists(job.prompt_ids, job.params)) for job in jobs]


def _for_each(job: Job, args: Namespace, own: Own, command: str) -> list[Job]:
    """The job of each persona, the same but for whose it is."""
    answered = {response.model: Contestant() for response in own.responses}  # none is asked, so none has a tag
    job = replace(job, contestants=answered or job.contestants)
    if len(job.contestants) < 2:
        names = " ".join(job.contestants)
        raise UsageError(f"A ranking needs two different contestants, and there is only {names}: see --models.")
    backend = args.backend if args.preferences else job.llm.backend
    alone = (args.base_model, backend) == ("auto", "embedded")  # beside the embedded model reads the embedded base
    machine = {"gpu": device.gpu()[0] or None, "cores": os.cpu_count()}
    notes = (*job.notes, *own.notes)
    if job.judge in job.contestants:
        notes += (f"The judge {job.judge} is also a contestant: it may prefer its own answers.",)
    return [
        replace(
            job, name=name, persona=persona, prompts=own.prompts, responses=own.responses, notes=notes, command=command,
            ask="" if own.responses else command_like(args, name, rank="PROMPT"),
            samples_dir=None if args.refresh else config.SAMPLES_DIR, anew=refreshed(args.refresh),
            results_dir=args.results_dir, base_model=location.EMBEDDED if alone else args.base_model,
            device=args.device, ray=args.ray, ablate=args.ablate, machine=machine,
        )
        for name, persona in own.personas.items()
    ]  # fmt: skip


def _embedded(args: Namespace, own: Own, wanted: Sequence[str], *notes: str) -> Job:
    from llm.embedded import EmbeddedModel

    styles, name = config.EMBEDDED_MODELS, config.EMBEDDED_NAME
    if args.judge not in (None, name):
        raise UsageError(f"--judge {args.judge}: the embedded backend has one model, {name}.")
    if odd := [style for style in wanted if style not in styles and not own.responses]:
        raise UsageError(f"--models {odd[0]}: the embedded contestants are {', '.join(styles)}.")
    chosen = {style: styles.get(style, Contestant()) for style in wanted or styles}
    return Job(
        "", Persona(), chosen, name, EmbeddedModel(), configure(args, "embedded", len(own.prompts)), args.cache_dir,
        label=EMBEDDED_LABEL, notes=notes,
    )  # fmt: skip


def _ollama(args: Namespace, own: Own, wanted: Sequence[str]) -> Job:
    known, default = read_known(args.cache_dir), config.DEFAULT_MODELS
    params = configure(args, "ollama", len(own.prompts))
    judge, *tags = (find_tag(tag, default) or tag for tag in (args.judge or config.DEFAULT_JUDGE, *(wanted or default)))
    digests = {tag: model.digest for tag, model in known.items()}
    llm = OllamaModel(concurrency=params.concurrency, timeout=params.timeout, num_ctx=params.num_ctx, digests=digests)
    context = known[judge].context if judge in known else None
    if not llm.trouble:
        with suppress(MissingError):  # said later, with all else that is missing
            context = llm.show(judge).context_length
    chosen = {tag: default.get(tag) or Contestant() for tag in tags}
    label = "ollama" if not llm.trouble else f"ollama ({OFF})"
    return Job("", Persona(), chosen, judge, llm, params, args.cache_dir, label=label, judge_context=context)


def _openai(args: Namespace, own: Own, wanted: Sequence[str]) -> Job:
    """The paid address is named before anything is asked. Raises UsageError where models are not named: no server has
    some that could be the default."""
    params = configure(args, "openai", len(own.prompts))
    llm = OpenAIModel(concurrency=params.concurrency, timeout=params.timeout)
    listed: Mapping[str, int | None] | None = None
    with suppress(MissingError):  # said later, with all else that is missing
        listed = llm.listed()
    judge = args.judge or (PEOPLE if args.preferences else "")
    if not (judge and (wanted or own.responses)):
        offer = f" The server has {', '.join(sorted(listed)[:10])}." if listed else ""
        raise UsageError(
            "--backend openai needs the contestants and the judge by name: OPENAI_BASE_URL="
            f"{llm.address} python main.py --backend openai --models A B --judge C.{offer}"
        )
    if llm.paid:
        log.warning("OPENAI_BASE_URL is not set: %s is asked, which bills every token.", llm.address)
    there = listed is not None and llm.is_ollama()
    notes = (OLLAMA_THERE.format(host=llm.address.removesuffix("/v1")),) if there else ()
    known = None if args.refresh else read_known(args.cache_dir).get(remembered_as(llm, judge))
    context = (listed or {}).get(judge) or (known and known.context)
    label = f"openai ({OFF if listed is None else llm.address})"
    return Job(
        "", Persona(), dict.fromkeys(wanted, Contestant()), judge, llm, params, args.cache_dir, label=label,
        notes=notes, judge_context=context,
    )  # fmt: skip


def other_server(address: str) -> str:
    """Say how to ask the server with the OpenAI API that OPENAI_BASE_URL names, or that answers where Ollama was looked
    for; empty where there is none."""
    with suppress(UsageError):  # what the variable holds is no address, which is said where it is asked for
        url = parse_address(os.environ.get("OPENAI_BASE_URL", "").strip() or f"{address}/v1")
        if isinstance(get_json(f"{url}/models").get("data"), list):
            asking = f"OPENAI_BASE_URL={url} python main.py --backend openai --models A B --judge C"
            return f"{url} answers, and speaks the OpenAI API. To ask it:\n  {asking}"
    return ""


def votes_job(args: Namespace, votes: Votes, own: Own, command: str) -> Job:
    """Build the job of a run on people's votes: nobody is asked."""
    params = configure(args, "votes", len(votes.prompts))
    label = f"human votes of {counted(len(votes.users), 'person', 'people')}"
    models = dict.fromkeys(votes.models, Contestant())
    job = Job("", Persona(), models, PEOPLE, NOBODY, params, args.cache_dir, label=label)
    job = _for_each(job, args, own, command)[0]
    base, note = location.choose(job.base_model, job.device, job.cache_dir, job.name)
    reader = f"{config.EMBEDDED_NAME}, which is no reward model" if base == location.EMBEDDED else base
    label, notes = f"{label}; responses are read by {reader}", (*job.notes, *filter(None, [note]))
    return replace(job, base_model=base, label=label, notes=notes)


# ── What servers have ────────────────────────────────────────────────────────────────────────────────────

# With them a run on full caches needs no server, and a model that was pulled anew is noticed before it is asked again.
MODELS_FILE = "model_digests.json"


class Known(NamedTuple):
    """A server's model as it was last seen."""

    digest: str  # empty where no server tells one
    context: int | None = None  # in tokens; None where the server did not say
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
    known = read_known(cache_dir) | dict(found)
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
    installed = llm.installed() if isinstance(llm, OllamaModel) and not llm.trouble else {}
    for tag in asked(job):
        if isinstance(llm, OllamaModel) and (name := find_tag(tag, installed)):
            info, shown = installed[name], llm.show(tag)
            parameters = (info.details and info.details.parameter_size) or ""
            found[tag] = Known(info.digest or "", shown.context_length, parameters, shown.file_name)
    return found


def change_of_models(known: Mapping[str, Known], now: Mapping[str, Known]) -> str:
    """Said before anything is asked where another model answers to a tag than when it was last seen; else empty."""
    tags = ", ".join(tag for tag, model in now.items() if tag in known and known[tag].digest != model.digest)
    said = "changed since the cache was filled (pulled again?); their answers and what was judged of them are asked "
    return tags and f"{tags} {said}again where the cache has none of these. The old ones stay beside them."


def same_models(job: Job, known: Mapping[str, Known]) -> list[str]:
    """Notes on contestants that are one model under several tags."""
    tags: dict[str, list[str]] = {}
    for name in job.contestants if not job.responses else ():
        if name in known and known[name].digest:
            tags.setdefault(known[name].digest, []).append(name)
    several = ["ONE MODEL UNDER SEVERAL TAGS, ranked as so many: " + " = ".join(names) for names in tags.values()]
    return [note for note in several if " = " in note]


# ── The beginning of a run ───────────────────────────────────────────────────────────────────────────────


def begin(jobs: Sequence[Job], args: Namespace) -> list[Job]:
    """The first steps of a run that has the cache folder to itself: caches to be made anew are set aside, models that
    changed are said, ratings fetched."""
    anew = [file for file, stage in config.STAGES.items() if stage in jobs[0].anew]
    for name in (file.format(name=job.name) for file in anew for job in jobs):
        keep_previous(*args.cache_dir.glob(f"{name}*"))  # nothing that was paid for is deleted
    jobs = [replace(job, anew=()) for job in jobs]
    if jobs[0].llm.weighs_options and not jobs[0].responses:  # answering styles: no Arena knows them
        return jobs
    now = seen_now(jobs[0])
    if change := change_of_models(read_known(args.cache_dir), now):
        log.warning("%s", change)
    known = remember(args.cache_dir, now)
    table = arena.load_table(args.cache_dir, refresh="all" in (args.refresh or ()))
    contents = {tag: model.file_name for tag, model in known.items()}
    by_tag = jobs[0].llm.backend == "ollama" and not jobs[0].responses
    ratings = arena.rate(jobs[0].contestants, table, ollama=by_tag, contents=contents)
    sizes = {tag: known[tag].parameters for tag in jobs[0].contestants if tag in known and known[tag].parameters}
    return [
        replace(job, ratings=ratings, sizes=sizes, notes=(*table.notes, *job.notes, *same_models(job, known)))
        for job in jobs
    ]
