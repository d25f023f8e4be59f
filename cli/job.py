"""From the flags to the jobs of a run: who is asked what, and where everything lies. Flags are read nowhere below.

jobs = make_jobs(args, own, command)     # one a persona; nothing is asked or written
jobs = begin(jobs, args)                 # with the cache folder to itself: ratings, models as seen, files set aside
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
from base import device as base_device
from base import location
from cli.flags import STAGE_FILES, command_like, configure, refreshed
from cli.own import Own
from cli.seen import (
    MODELS_FILE,
    OLLAMA_OFF,
    OPENAI_OFF,
    asked,
    by_model,
    calls_left,
    change_of_models,
    read_known,
    remembered_as,
    same_models,
    seen_now,
    sizes,
    some,
)
from config import Contestant, Persona
from core.errors import MissingError, UsageError
from core.files import keep_previous, refusal, write_json
from llm.addresses import parse_address, usual_tag
from stages.tasks import Job

if TYPE_CHECKING:
    from llm.interface import Choice, LanguageModel, Request
    from llm.ollama import OllamaModel
    from people.read import Votes
    from stages.arena import ArenaTable

log = logging.getLogger("ranking.preflight")

EMBEDDED_LABEL = "embedded (SmolLM2-135M: shows how the suite works, not how good real models are)"
OLLAMA_THERE = (
    "OPENAI_BASE_URL names an Ollama server, which cuts long prompts there without a word, and tells no digests. "
    "OLLAMA_HOST={host} with --backend ollama asks it whole."
)
# Flags that --rank needs as the run had them: another value is another hash of an item, another base or another fit.
MATTER = ("backend", "models", "judge", "prompts", "base_model", "seed", "num_predict", "lambda_reg", "cache_dir",
          "results_dir")  # fmt: skip
MATTER_FOR_VOTES = ("backend", "base_model", "lambda_reg", "cache_dir", "results_dir")


# ── Who is asked ─────────────────────────────────────────────────────────────────────────────────────────


def make_jobs(args: Namespace, own: Own, command: str, voted: Sequence[str] = ()) -> list[Job]:
    """A job for each persona of the run. Looks only.

    ``--backend auto`` takes Ollama where it answers, where its models are named, or where it did answer and all that
    this run asks is cached; else the embedded model, said loudly. ``voted``: the models that people voted on.
    """
    wanted = list(dict.fromkeys(args.models or voted))
    make = partial(_jobs, args, own, command)
    styles = bool(wanted) and all(name in config.EMBEDDED_MODELS for name in wanted)
    if args.backend == "embedded" or (args.backend == "auto" and styles):
        return _embedded(args, own, wanted, make)
    if args.backend == "openai":
        return _openai(args, own, wanted, make)
    jobs = _ollama(args, own, wanted, make)
    llm: OllamaModel = jobs[0].llm  # type: ignore[assignment]
    if args.backend == "ollama" or llm.available() or ollama_flags(args) or voted:
        return jobs
    if read_known(args.cache_dir) and not args.refresh and not by_model(calls_left(jobs)):
        return jobs
    note = f"NO OLLAMA SERVER ANSWERS AT {llm.address}: the embedded model stands in for it."
    trust = llm.trouble if "SSL_CERT_FILE" in llm.trouble else ""  # it does answer, to whoever trusts it
    return _embedded(args, own, wanted, make, " ".join(filter(None, [note, trust, other_server(llm.address)])))


Make = Callable[..., list[Job]]


def _jobs(
    args: Namespace,
    own: Own,
    command: str,
    llm: LanguageModel,
    judge: str,
    contestants: Mapping[str, Contestant],
    label: str,
    notes: tuple[str, ...] = (),
    **rest: Any,
) -> list[Job]:
    """The jobs of a run that asks ``llm``: what all backends have in common."""
    names, card = list(own.personas), base_device.gpu()
    params = configure(args, llm.backend, len(own.prompts))
    base, about_base = _base(args, args.backend if args.preferences else llm.backend, names)
    common = Job(
        "", Persona(), contestants, judge, llm, params, args.cache_dir, results_dir=args.results_dir,
        samples_dir=None if args.refresh else config.SAMPLES_DIR, prompts_dir=config.PROMPTS_DIR,
        prompts=own.prompts, responses=own.responses, base_model=base, device=args.device, label=label,
        command=command, notes=(*notes, *own.notes, *about_base), machine=base_device.seen_now(card),
        ablate=args.ablate, ray=args.ray, **rest,
    )  # fmt: skip
    if common.judging_contestant:
        said = f"The judge {judge} is also a contestant: it may prefer its own answers."
        common = replace(common, notes=(*common.notes, said))
    return [
        replace(common, name=name, persona=persona, ask="" if own.responses else rank_command(args, name))
        for name, persona in own.personas.items()
    ]


def _base(args: Namespace, backend: str, names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The reward base of these runs, and what is to be said of the choice; beside the embedded model the embedded."""
    wanted = location.EMBEDDED if (args.base_model, backend) == ("auto", "embedded") else args.base_model
    return location.choose(wanted, args.device, args.cache_dir, names)


def _embedded(args: Namespace, own: Own, wanted: Sequence[str], make: Make, *notes: str) -> list[Job]:
    from llm.embedded import EmbeddedModel

    styles, name = config.EMBEDDED_MODELS, config.EMBEDDED_NAME
    if args.judge not in (None, name):
        raise UsageError(f"--judge {args.judge}: the embedded backend has one model, {name}.")
    if own.contestants:  # the Arena may know them
        return make(EmbeddedModel(), name, own.contestants, EMBEDDED_LABEL, notes, ratings={})
    if odd := [style for style in wanted if style not in styles]:
        raise UsageError(f"--models {odd[0]}: the embedded contestants are {', '.join(styles)}.")
    chosen = {style: styles[style] for style in _at_least_two(wanted or list(styles))}
    return make(EmbeddedModel(), name, chosen, EMBEDDED_LABEL, notes)


def _ollama(args: Namespace, own: Own, wanted: Sequence[str], make: Make) -> list[Job]:
    from llm.ollama import OllamaModel

    known, params = read_known(args.cache_dir), configure(args, "ollama")
    judge = usual_tag(args.judge or config.DEFAULT_JUDGE, config.DEFAULT_MODELS)
    tags = [usual_tag(tag, config.DEFAULT_MODELS) for tag in wanted or config.DEFAULT_MODELS]
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
    default = config.DEFAULT_MODELS
    chosen = own.contestants or {t: default.get(t) or Contestant(None, None, t) for t in _at_least_two(tags)}
    return make(llm, judge, chosen, "ollama" if answers else OLLAMA_OFF, ratings={}, judge_context=context)


def ollama_flags(args: Namespace) -> list[str]:
    """The flags of this run that only Ollama can meet."""
    used = {
        "--models": args.models and not args.responses,
        "--judge": args.judge,
        "--ground_truth": args.ground_truth != "round_robin",
    }
    return [flag for flag, given in used.items() if given]


def _openai(args: Namespace, own: Own, wanted: Sequence[str], make: Make) -> list[Job]:
    """The paid address is named before anything is asked. Raises UsageError where models are not named: no server has
    some that could be the default."""
    from llm.openai import OpenAIModel

    params = configure(args, "openai")
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
    label = f"openai ({llm.address})" if answers else OPENAI_OFF
    return make(llm, judge, chosen, label, notes, ratings={}, judge_context=context)


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
    return command_like(["--persona", own_name(args, name), "--rank", "PROMPT"], args, MATTER)


# ── People's votes ───────────────────────────────────────────────────────────────────────────────────────


class Nobody:
    """Stands in a job for a language model where people's votes are all there is."""

    backend = "votes"
    weighs_options = False

    def identity(self, model: str) -> dict[str, Any]:
        return {"backend": self.backend, "tag": model}

    def complete(self, requests: Sequence[Request]) -> Iterator[Any]:
        raise NotImplementedError("votes bring their answers")

    def choose(self, choices: Sequence[Choice]) -> Iterator[Any]:
        raise NotImplementedError("votes bring their outcomes")

    def unload(self) -> None:
        """Nothing to unload."""


def votes_job(args: Namespace, name: str, votes: Votes, own: Own, command: str) -> Job:
    """Build the job of a run on people's votes: nobody is asked."""
    from people.run import fitting, label

    params = fitting(configure(args, "votes"), len(votes.prompts))
    base, about_base = _base(args, args.backend, [name])
    command_of_rank = command_like(["--preferences", args.preferences, "--rank", "PROMPT"], args, MATTER_FOR_VOTES)
    return Job(
        name, Persona(), dict.fromkeys(votes.models, Contestant(None, None, None)), "the people themselves", Nobody(),
        params, args.cache_dir, results_dir=args.results_dir, base_model=base, device=args.device,
        label=label(votes, base), command=command, ask=command_of_rank, notes=(*own.notes, *about_base),
        machine=base_device.seen_now(base_device.gpu()), ray=args.ray,
    )  # fmt: skip


# ── The beginning of a run ───────────────────────────────────────────────────────────────────────────────


def begin(jobs: Sequence[Job], args: Namespace) -> list[Job]:
    """The first steps of a run that has the cache folder to itself: caches to be made anew are set aside, models that
    changed are said, ratings fetched."""
    try:
        args.results_dir.mkdir(parents=True, exist_ok=True)  # before hours of asking, not after
    except OSError as error:
        raise refusal(args.results_dir, error, "made a folder") from error
    for stage in refreshed(args.refresh):
        set_aside(
            [path for job in jobs for path in args.cache_dir.glob(STAGE_FILES[stage].format(name=job.name) + "*")]
        )
    if jobs[0].ratings is None:  # answering styles: estimated from the recorded run
        return list(jobs)
    from stages import arena

    before, now = read_known(args.cache_dir), seen_now(jobs[0])
    if change := change_of_models(jobs, before, now, refreshed(args.refresh)):
        log.warning("%s", change)
    if (known := {**before, **now}) != before:
        write_json(args.cache_dir / MODELS_FILE, {tag: asdict(model) for tag, model in known.items()})
    if same := same_models(jobs[0], known):
        jobs = [replace(job, notes=(*job.notes, same)) for job in jobs]
    versions = [known[tag].server for tag in asked(jobs[0]) if tag in known]
    server = ", ".join(dict.fromkeys(filter(None, versions)))
    jobs = rated(jobs, arena.load_table(args.cache_dir, refresh="all" in (args.refresh or ())))
    for tag, rating in (jobs[0].ratings or {}).items():
        if tag not in config.DEFAULT_MODELS:
            log.info("%s: %s", tag, rating.source)
    return [replace(job, server=server, sizes=sizes(job)) for job in jobs]


def set_aside(paths: Sequence[Path]) -> None:
    """Move caches to ``previous/``: nothing that was paid for is deleted."""
    keep_previous(paths)
    for path in paths:
        log.info("%s set aside in %s/", path.name, path.parent / "previous")


def rated(jobs: Sequence[Job], table: ArenaTable) -> list[Job]:
    """The jobs with their contestants' ratings from one table."""
    from stages import arena

    by_tag = jobs[0].llm.backend == "ollama" and not jobs[0].responses
    contestants, matches = arena.contestants_for(jobs[0].contestants, table, ollama=by_tag)
    ratings = arena.ratings_for(contestants, table, matches)
    return [replace(job, contestants=contestants, ratings=ratings, notes=(*table.notes, *job.notes)) for job in jobs]
