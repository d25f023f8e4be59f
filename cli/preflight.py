"""Choose backend, contestants, reward base and device from the flags, and make the cache ready for a run.

Looks only, and writes nothing until ``begin``.
"""

from __future__ import annotations

import dataclasses
import logging
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import config
from base import device as base_device
from base import location as base_location
from cli import openai_server
from cli.backend import Backend, Known, at_least_two, is_name
from cli.counting import Costs, by_model, count
from cli.flags import QUICK_NOTE, STAGE_FILES, contestants, personas, refreshed
from cli.known_models import MODELS_FILE, digests, read_known
from config import Contestant, ExperimentConfig
from core.errors import MissingError, UsageError
from core.files import keep_previous, refusal, write_json
from core.findings import Run
from stages.tasks import Job

if TYPE_CHECKING:
    from llm.ollama import OllamaModel
    from stages.arena import ArenaTable

log = logging.getLogger("ranking.preflight")

EMBEDDED_LABEL = "embedded (SmolLM2-135M: shows how the suite works, not how good real models are)"
OFF_LABEL = "ollama (its server does not answer: everything comes from the cache)"


# ── Backend ──────────────────────────────────────────────────────────────────────────────────────────────


def choose_backend(args: Namespace, params: ExperimentConfig) -> Backend:
    """The backend that ``--backend`` asks for; ``auto``: Ollama where it answers, or where it did and its answers to
    this very run are all cached, or where its models are named; else the embedded model, said loudly."""
    if args.backend == "embedded":
        return _embedded(args)
    if args.backend == "openai":
        return openai_server.backend(args, params, read_known(args.cache_dir))
    ollama = _ollama(args, params)
    if args.backend == "ollama" or ollama.answers or ollama_flags(args):
        return ollama
    if ollama.known and not args.refresh and not costs(args, ollama, params).total():
        return ollama
    where = ollama.llm.display_host  # type: ignore[attr-defined]
    note = f"NO OLLAMA SERVER ANSWERS AT {where}: the embedded model stands in for it."
    return _embedded(args, (f"{note} {openai_server.instead_of_ollama(where)}".rstrip(),))


def ollama_flags(args: Namespace) -> list[str]:
    """The flags of this run that only Ollama can meet."""
    styles = args.models and all(name in config.EMBEDDED_MODELS for name in args.models)
    asked = {
        "--models": args.models and not styles and not args.responses,
        "--judge": args.judge,
        "--ground_truth": args.ground_truth != "round_robin",
    }
    return [flag for flag, used in asked.items() if used]


def _embedded(args: Namespace, notes: tuple[str, ...] = ()) -> Backend:
    from llm.embedded import EmbeddedModel

    styles = config.EMBEDDED_MODELS
    if args.judge not in (None, config.EMBEDDED_NAME):
        raise UsageError(f"--judge {args.judge}: the embedded backend has one model, {config.EMBEDDED_NAME}.")
    if given := args.own and args.own.contestants:  # the Arena may know them
        llm, judge = EmbeddedModel(), config.EMBEDDED_NAME
        return Backend("embedded", llm, judge, given, {}, EMBEDDED_LABEL, notes, given=True)
    names = at_least_two(contestants(args, list(styles)))
    if odd := [name for name in names if name not in styles]:
        raise UsageError(f"--models {odd[0]}: the embedded contestants are {', '.join(styles)}.")
    chosen = {name: styles[name] for name in names}
    return Backend("embedded", EmbeddedModel(), config.EMBEDDED_NAME, chosen, None, EMBEDDED_LABEL, notes)


def _ollama(args: Namespace, params: ExperimentConfig) -> Backend:
    from llm.addresses import usual_tag
    from llm.ollama import OllamaModel

    given = args.own and args.own.contestants
    named = [usual_tag(tag, config.DEFAULT_MODELS) for tag in contestants(args, list(config.DEFAULT_MODELS))]
    tags = [] if given else at_least_two(named)
    judge = usual_tag(args.judge, config.DEFAULT_MODELS) if args.judge else config.DEFAULT_JUDGE
    for flag, names in (("models", tags), ("judge", [judge])):
        if odd := [name for name in names if not is_name(name)]:
            raise UsageError(f"--{flag} {odd[0]!r} is no Ollama tag such as gemma3:4b; `ollama list` shows them.")
    known = read_known(args.cache_dir)
    llm = OllamaModel(
        concurrency=params.concurrency,
        timeout=params.timeout,
        num_ctx=dict.fromkeys([*tags, judge], params.num_ctx),
        known_digests=digests(known),
        known_probes={tag: model.probe for tag, model in known.items() if model.probe},
    )
    answers = llm.available()
    chosen = given or {tag: config.DEFAULT_MODELS.get(tag) or Contestant(None, None, tag) for tag in tags}
    label = "ollama" if answers else OFF_LABEL
    context = known[judge].context if judge in known else None
    if answers:
        try:
            context = llm.show(judge).context_length
        except MissingError as error:  # said later, with all else that is missing
            log.debug("%s", error)
    return Backend("ollama", llm, judge, chosen, {}, label, (), answers, context, known, given=bool(given))


# ── Jobs and what they cost ──────────────────────────────────────────────────────────────────────────────


def job(args: Namespace, backend: Backend, params: ExperimentConfig, persona: str) -> Job:
    """All that the data stages need for one persona."""
    return Job(
        name=persona,
        persona=personas(args)[persona],
        contestants=backend.contestants,
        judge=backend.judge,
        llm=backend.llm,
        params=params,
        cache_dir=args.cache_dir,
        samples_dir=None if args.refresh else config.SAMPLES_DIR,
        prompts_dir=config.PROMPTS_DIR,
        judge_context=backend.judge_context,
        prompts=args.own.prompts if args.own else (),
        responses=args.own.responses if args.own else (),
    )


def every_job(args: Namespace, backend: Backend, params: ExperimentConfig) -> list[Job]:
    """A job for each persona of this run."""
    return [job(args, backend, params, name) for name in personas(args)]


def costs(args: Namespace, backend: Backend, params: ExperimentConfig) -> Costs:
    """The calls that this run still has to make, also where the models themselves are missing."""
    return count(counted_jobs(args, backend, params), {})


def counted_jobs(args: Namespace, backend: Backend, params: ExperimentConfig) -> list[Job]:
    """The jobs for counting: what ``--refresh`` will set aside does not count as cached."""
    anew = tuple(STAGE_FILES[stage] for stage in refreshed(args.refresh or ()))
    return [dataclasses.replace(one, anew=anew) for one in every_job(args, backend, params)]


def how_to_run(args: Namespace, backend: Backend, command: str, name: str) -> Run:
    """Reward base, device, folders and what is to be said of them, for this persona's run with this backend."""
    run = how_to_read(args, command, [name], backend.name)
    asked = [backend.known[tag].server for tag in (*backend.contestants, backend.judge) if tag in backend.known]
    return dataclasses.replace(
        run,
        label=backend.label,
        notes=(*backend.notes, *run.notes, *((QUICK_NOTE,) if args.quick else ())),
        ablate=args.ablate,
        server=", ".join(dict.fromkeys(filter(None, asked))),
        keep=not args.quick,
    )


def how_to_read(args: Namespace, command: str, names: Sequence[str], backend: str | None = None) -> Run:
    """The same where nobody is asked: votes of people, who give the run its label. ``names``: of the runs."""
    card = base_device.gpu()
    base, notes = choose_base(args, backend or args.backend, names)
    own = args.own.notes if args.own else ()
    return Run(
        base, args.device, base_device.choose_device(args.device, card), "", command, args.cache_dir, args.results_dir,
        (*own, *notes), machine=base_device.seen_now(card), ray=args.ray,
    )  # fmt: skip


def choose_base(args: Namespace, backend: str, names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The reward base of these runs, and what is to be said of the choice."""
    asked = base_location.EMBEDDED if backend == "embedded" and args.base_model == "auto" else args.base_model
    return base_location.choose(asked, args.device, args.cache_dir, names)


# ── Models that changed ──────────────────────────────────────────────────────────────────────────────────


def seen_now(backend: Backend) -> dict[str, Known]:
    """What the server has of this run's models; those that it lacks are left out, and all where it does not answer."""
    if backend.name == "openai":
        return openai_server.seen_now(backend)
    if backend.name != "ollama" or not backend.answers:
        return {}
    from llm.addresses import find_tag

    llm: OllamaModel = backend.llm  # type: ignore[assignment]
    installed = llm.installed()
    here = [tag for tag in backend.asked if find_tag(tag, installed)]
    return {
        tag: Known(
            str(llm.identity(tag)["digest"]),
            llm.show(tag).context_length,
            llm.server_of(tag).known_version(),
            llm.manners.probed.get(tag),
        )
        for tag in here
    }


def change_of_models(
    args: Namespace, backend: Backend, params: ExperimentConfig, now: Mapping[str, Known]
) -> str | None:
    """What is said before anything is asked where another model answers to a tag than when it was last seen."""
    tags = [tag for tag, model in now.items() if tag in backend.known and backend.known[tag].digest != model.digest]
    if not tags:
        return None
    jobs = counted_jobs(args, backend, params)
    more = by_model(count(jobs, {}).total() - count(jobs, digests(backend.known)).total())
    what = "nothing is asked again"
    if more:
        what = f"their answers and what was judged of them are asked again: {listed(more)}"
    keep = f" Interrupt now and copy {args.cache_dir}/ to keep the old answers." if more else ""
    return f"{', '.join(tags)} changed since the cache was filled (pulled again?); {what}.{keep}"


def listed(calls: Counter[str]) -> str:
    """Calls by model in words: 25 to gemma3:4b, 750 to llama3:8b."""
    return ", ".join(f"{number} to {model}" for model, number in calls.items())


# ── The beginning of a run ───────────────────────────────────────────────────────────────────────────────


def begin(args: Namespace, backend: Backend, params: ExperimentConfig) -> Backend:
    """The first steps of a run that has the cache folder to itself: caches to be made anew are set aside, the ratings
    fetched, the models written down, what changed since the last run said with what it costs."""
    try:
        args.results_dir.mkdir(parents=True, exist_ok=True)  # before hours of asking, not after
    except OSError as error:
        raise refusal(args.results_dir, error, "made a folder") from error
    _refresh(args.refresh or (), args.cache_dir, personas(args))
    if backend.ratings is None:  # estimated from the data
        return backend
    from stages import arena

    now = seen_now(backend)
    if change := change_of_models(args, backend, params, now):
        log.warning("%s", change)
    if {**backend.known, **now} != backend.known:
        entries = {tag: dataclasses.asdict(model) for tag, model in {**backend.known, **now}.items()}
        write_json(args.cache_dir / MODELS_FILE, entries)
        backend = dataclasses.replace(backend, known={**backend.known, **now})
    backend = rated(backend, arena.load_table(args.cache_dir, refresh="all" in (args.refresh or ())))
    for tag, rating in (backend.ratings or {}).items():
        if tag not in config.DEFAULT_MODELS:
            log.info("%s: %s", tag, rating.source)
    return backend


def rated(backend: Backend, table: ArenaTable) -> Backend:
    """The backend with its contestants' ratings from one table."""
    from stages import arena

    by_tag = backend.name == "ollama" and not backend.given
    contestants, matches = arena.contestants_for(backend.contestants, table, ollama=by_tag)
    ratings = arena.ratings_for(contestants, table, matches)
    notes = (*backend.notes, *table.notes)
    return dataclasses.replace(backend, contestants=contestants, ratings=ratings, notes=notes)


def _refresh(stages: Sequence[str], cache_dir: Path, names: Iterable[str]) -> None:
    """Set the caches of these stages, and of those that follow, aside in ``previous/``: what comes back from a model
    that answers the same is the same, and nothing that was paid for is deleted."""
    for stage in refreshed(stages):
        paths = [path for name in names for path in cache_dir.glob(STAGE_FILES[stage].format(name=name) + "*")]
        keep_previous(paths)
        for path in paths:
            log.info("%s set aside in %s/", path.name, cache_dir / "previous")
