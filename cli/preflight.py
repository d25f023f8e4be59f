"""Choose backend, contestants, reward base and device from the flags, and make the cache ready for a run.

Looks only, and writes nothing until ``begin``.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import subprocess
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import config
from cli import openai_server
from cli.backend import Backend, Known, at_least_two, is_name
from cli.counting import Costs, by_model, count
from cli.flags import STAGE_FILES, personas
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
# Skywork-Reward-V2 by GPU memory in GiB, largest first; RewardBench 93.7, 93.4, 85.2; all Apache-2.0.
SKYWORK = (
    (24.0, "Skywork/Skywork-Reward-V2-Qwen3-8B"),
    (12.0, "Skywork/Skywork-Reward-V2-Qwen3-4B"),
    (0.0, "Skywork/Skywork-Reward-V2-Qwen3-0.6B"),
)


# ── Reward base and device ───────────────────────────────────────────────────────────────────────────────


def gpu_memory() -> float | None:
    """GiB of the largest GPU's memory by nvidia-smi, None without one: no torch is needed to know."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("nvidia-smi: %s", error)
        return None
    sizes = [float(line) for line in done.stdout.split("\n") if line.strip().replace(".", "").isdigit()]
    return max(sizes) / 1024 if sizes and done.returncode == 0 else None


def choose_device(asked: str) -> str:
    """Where the reward base runs: what ``--device auto`` comes to on this machine."""
    return "cuda" if asked == "cuda" or (asked == "auto" and gpu_memory() is not None) else "cpu"


def choose_base(asked: str, backend: str, device: str) -> tuple[str, tuple[str, ...]]:
    """The reward base for what ``--base_model`` and ``--device`` ask for, and what is to be said of the choice."""
    if asked != "auto":
        return asked, ()
    if backend == "embedded":
        return "embedded", ()
    from core import hub

    memory = gpu_memory() if device != "cpu" else None
    wanted = next(name for least, name in SKYWORK if (memory or 0.0) >= least)
    if _hub_cache_has(wanted) or hub.reachable():
        return wanted, ()
    return "embedded", (
        f"THE REWARD BASE IS {config.EMBEDDED_NAME}, WHICH IS NO REWARD MODEL: {wanted} is not in the hub's cache "
        "and the hub does not answer. Give a downloaded folder with --base_model FOLDER, or run with the hub in reach.",
    )


def _hub_cache_has(name: str) -> bool:
    """True where the hub's cache on this machine holds a snapshot of the model."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return any(Path(HF_HUB_CACHE, "models--" + name.replace("/", "--"), "snapshots").glob("*/config.json"))


# ── Backend ──────────────────────────────────────────────────────────────────────────────────────────────


def choose_backend(args: Namespace, params: ExperimentConfig) -> Backend:
    """The backend that ``--backend`` asks for; ``auto``: Ollama where it answers, or where it did and its answers to
    this very run are all cached, or where its models are named; else the embedded model, said loudly."""
    if args.backend == "embedded":
        return _embedded(args)
    if args.backend == "openai":
        return openai_server.backend(args, params, _read_known(args.cache_dir))
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
        "--models": args.models and not styles,
        "--judge": args.judge,
        "--ground_truth": args.ground_truth != "round_robin",
    }
    return [flag for flag, used in asked.items() if used]


def _embedded(args: Namespace, notes: tuple[str, ...] = ()) -> Backend:
    from llm.embedded import EmbeddedModel

    styles = config.EMBEDDED_MODELS
    if args.judge not in (None, config.EMBEDDED_NAME):
        raise UsageError(f"--judge {args.judge}: the embedded backend has one model, {config.EMBEDDED_NAME}.")
    names = at_least_two(args.models) if args.models else list(styles)
    if odd := [name for name in names if name not in styles]:
        raise UsageError(f"--models {odd[0]}: the embedded contestants are {', '.join(styles)}.")
    contestants = {name: styles[name] for name in names}
    return Backend("embedded", EmbeddedModel(), config.EMBEDDED_NAME, contestants, None, EMBEDDED_LABEL, notes)


def _ollama(args: Namespace, params: ExperimentConfig) -> Backend:
    from llm.ollama import OllamaModel

    tags = at_least_two(args.models) if args.models else list(config.DEFAULT_MODELS)
    judge = args.judge or config.DEFAULT_JUDGE
    for flag, names in (("models", tags), ("judge", [judge])):
        if odd := [name for name in names if not is_name(name)]:
            raise UsageError(f"--{flag} {odd[0]!r} is no Ollama tag such as gemma3:4b; `ollama list` shows them.")
    known = _read_known(args.cache_dir)
    llm = OllamaModel(
        concurrency=params.concurrency,
        timeout=params.timeout,
        num_ctx=dict.fromkeys([*tags, judge], params.num_ctx),
        known_digests=_digests(known),
    )
    answers = llm.available()
    contestants = {tag: config.DEFAULT_MODELS.get(tag) or Contestant(None, None, tag) for tag in tags}
    label = "ollama" if answers else OFF_LABEL
    context = known[judge].context if judge in known else None
    if answers:
        try:
            context = llm.show(judge).context_length
        except MissingError as error:  # said later, with all else that is missing
            log.debug("%s", error)
    return Backend("ollama", llm, judge, contestants, {}, label, (), answers, context, known)


# ── Jobs and what they cost ──────────────────────────────────────────────────────────────────────────────


def job(args: Namespace, backend: Backend, params: ExperimentConfig, persona: str) -> Job:
    """All that the data stages need for one persona."""
    return Job(
        name=persona,
        persona=config.PERSONAS.get(persona) or config.Persona(persona, "", "", (), ()),  # a run on people's votes
        contestants=backend.contestants,
        judge=backend.judge,
        llm=backend.llm,
        params=params,
        cache_dir=args.cache_dir,
        samples_dir=None if args.refresh else config.SAMPLES_DIR,
        prompts_dir=config.PROMPTS_DIR,
        judge_context=backend.judge_context,
    )


def every_job(args: Namespace, backend: Backend, params: ExperimentConfig) -> list[Job]:
    """A job for each persona of this run."""
    return [job(args, backend, params, name) for name in personas(args)]


def costs(args: Namespace, backend: Backend, params: ExperimentConfig) -> Costs:
    """The calls that this run still has to make, also where the models themselves are missing."""
    return count(every_job(args, backend, params), {})


def how_to_run(args: Namespace, backend: Backend, command: str) -> Run:
    """Reward base, device, folders and what is to be said of them, for runs with this backend."""
    run = how_to_read(args, command, backend.name)
    return dataclasses.replace(run, label=backend.label, notes=(*backend.notes, *run.notes), ablate=args.ablate)


def how_to_read(args: Namespace, command: str, backend: str | None = None) -> Run:
    """The same where nobody is asked: votes of people, who give the run its label."""
    base, notes = choose_base(args.base_model, backend or args.backend, args.device)
    device = choose_device(args.device)
    return Run(base, args.device, device, "", command, args.cache_dir, args.results_dir, notes)


# ── Models that changed ──────────────────────────────────────────────────────────────────────────────────

# The digests and contexts of the servers' models as of the last run that saw the server. With them a run on full caches
# needs no server, and a model that was pulled anew is noticed before it is asked again.
MODELS_FILE = "model_digests.json"


def _read_known(cache_dir: Path) -> dict[str, Known]:
    """By tag; empty where there is no such file, and without the entries that can't be read."""
    try:
        found = json.loads((cache_dir / MODELS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = {}
    for tag, entry in found.items() if isinstance(found, dict) else ():
        match entry:
            case {"digest": str(digest), "context": int() | None as context}:
                known[tag] = Known(digest, context)
    return known


def _digests(known: Mapping[str, Known]) -> dict[str, str]:
    return {tag: model.digest for tag, model in known.items()}


def seen_now(backend: Backend) -> dict[str, Known]:
    """What the server has of this run's models; those that it lacks are left out, and all where it does not answer."""
    if backend.name == "openai":
        return openai_server.seen_now(backend)
    if backend.name != "ollama" or not backend.answers:
        return {}
    llm: OllamaModel = backend.llm  # type: ignore[assignment]
    installed, tags = llm.installed(), dict.fromkeys([*backend.contestants, backend.judge])
    here = [tag for tag in tags if tag in installed or f"{tag}:latest" in installed]
    return {tag: Known(str(llm.identity(tag)["digest"]), llm.show(tag).context_length) for tag in here}


def change_of_models(
    args: Namespace, backend: Backend, params: ExperimentConfig, now: Mapping[str, Known]
) -> str | None:
    """What is said before anything is asked where another model answers to a tag than when it was last seen."""
    tags = [tag for tag, model in now.items() if tag in backend.known and backend.known[tag].digest != model.digest]
    if not tags:
        return None
    jobs = every_job(args, backend, params)
    more = by_model(count(jobs, {}).total() - count(jobs, _digests(backend.known)).total())
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
    if backend.name == "embedded":
        return backend
    from stages import arena

    now = seen_now(backend)
    if change := change_of_models(args, backend, params, now):
        log.warning("%s", change)
    if {**backend.known, **now} != backend.known:
        entries = {tag: dataclasses.asdict(model) for tag, model in {**backend.known, **now}.items()}
        write_json(args.cache_dir / MODELS_FILE, entries)
    backend = rated(backend, arena.load_table(args.cache_dir, refresh="all" in (args.refresh or ())))
    for tag, rating in (backend.ratings or {}).items():
        if tag not in config.DEFAULT_MODELS:
            log.info("%s: %s", tag, rating.source)
    return backend


def rated(backend: Backend, table: ArenaTable) -> Backend:
    """The backend with its contestants' ratings from one table."""
    from stages import arena

    contestants, matches = arena.contestants_for(backend.contestants, table, ollama=backend.name == "ollama")
    ratings = arena.ratings_for(contestants, table, matches)
    notes = (*backend.notes, *table.notes)
    return dataclasses.replace(backend, contestants=contestants, ratings=ratings, notes=notes)


def _refresh(stages: Iterable[str], cache_dir: Path, names: Sequence[str]) -> None:
    """Set the caches of these stages, and of those that follow, aside in ``previous/``: what comes back from a model
    that answers the same is the same, and nothing that was paid for is deleted."""
    order = list(STAGE_FILES)
    firsts = [0 if stage == "all" else order.index(stage) for stage in stages]
    for stage in order[min(firsts, default=len(order)) :]:
        paths = [path for name in names for path in cache_dir.glob(STAGE_FILES[stage].format(name=name) + "*")]
        keep_previous(paths)
        for path in paths:
            log.info("%s set aside in %s/", path.name, cache_dir / "previous")
