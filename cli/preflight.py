"""What is settled before anything is asked: which backend, who takes part, which base. Chooses only; writes nothing
until ``begin``.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import config
from config import Contestant, ExperimentConfig
from core.errors import MissingError, UsageError
from core.records import Rating
from llm.interface import LanguageModel
from stages.tasks import Job

if TYPE_CHECKING:
    from cli.known_models import Known
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


@dataclass(frozen=True)
class Backend:
    """Who is asked."""

    name: str
    llm: LanguageModel
    judge: str
    contestants: Mapping[str, Contestant]
    ratings: Mapping[str, Rating] | None
    """None: estimated from the data (embedded contestants). Ollama's are empty until ``begin``."""
    label: str
    notes: tuple[str, ...] = ()
    answers: bool = True
    """False: an Ollama server that does not answer."""
    judge_context: int | None = None
    """Tokens that the judge can be shown at most; None: as configured."""
    known: Mapping[str, Known] = dataclasses.field(default_factory=dict)
    """Ollama's models as an earlier run saw them."""


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


def device(args: Namespace) -> str:
    """Where the reward base runs: what ``--device auto`` comes to on this machine."""
    return "cuda" if args.device == "cuda" or (args.device == "auto" and gpu_memory() is not None) else "cpu"


def choose_base(args: Namespace, backend: str) -> tuple[str, tuple[str, ...]]:
    """The reward base and what is to be said of the choice."""
    if args.base_model != "auto":
        return args.base_model, ()
    if backend == "embedded":
        return "embedded", ()
    from core import hub

    memory = gpu_memory() if args.device != "cpu" else None
    wanted = next(name for least, name in SKYWORK if (memory or 0.0) >= least)
    if hub_cache_has(wanted) or hub.reachable():
        return wanted, ()
    return "embedded", (
        f"THE REWARD BASE IS {config.EMBEDDED_NAME}, WHICH IS NO REWARD MODEL: {wanted} is not in the hub's cache "
        "and the hub does not answer. Give a downloaded folder with --base_model FOLDER, or run with the hub in reach.",
    )


def hub_cache_has(name: str) -> bool:
    """True where the hub's cache on this machine holds a snapshot of the model."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return any(Path(HF_HUB_CACHE, "models--" + name.replace("/", "--"), "snapshots").glob("*/config.json"))


# ── Backend ──────────────────────────────────────────────────────────────────────────────────────────────


def choose_backend(args: Namespace, params: ExperimentConfig) -> Backend:
    """The backend that ``--backend`` asks for; ``auto``: Ollama where it answers, or where it did and its answers to
    this very run are all cached, or where its models are named; else the embedded model, said loudly."""
    if args.backend == "embedded":
        return _embedded(args)
    ollama = _ollama(args, params)
    named = ollama_flags(args)
    if args.backend == "ollama" or ollama.answers or named or (ollama.known and all_cached(args, ollama, params)):
        return ollama
    where = ollama.llm.display_host  # type: ignore[attr-defined]
    return _embedded(args, (f"NO OLLAMA SERVER ANSWERS AT {where}: the embedded model stands in for it.",))


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

    if args.judge not in (None, config.EMBEDDED_NAME):
        raise UsageError(f"--judge {args.judge}: the embedded backend has one model, {config.EMBEDDED_NAME}.")
    contestants = dict(config.EMBEDDED_MODELS)
    if args.models:
        contestants = {name: _style(name) for name in at_least_two(args.models)}
    return Backend("embedded", EmbeddedModel(), config.EMBEDDED_NAME, contestants, None, EMBEDDED_LABEL, notes)


def _style(name: str) -> Contestant:
    if name not in config.EMBEDDED_MODELS:
        raise UsageError(f"--models {name}: the embedded contestants are {', '.join(config.EMBEDDED_MODELS)}.")
    return config.EMBEDDED_MODELS[name]


def at_least_two(names: Sequence[str]) -> list[str]:
    """The names without repeats. Raises UsageError where they are no contest."""
    unique = list(dict.fromkeys(names))
    if len(unique) < 2:
        raise UsageError(f"--models {' '.join(names)}: a ranking needs at least two different contestants.")
    return unique


def _ollama(args: Namespace, params: ExperimentConfig) -> Backend:
    from cli.known_models import read_known
    from llm.ollama import OllamaModel

    tags = at_least_two(args.models) if args.models else list(config.DEFAULT_MODELS)
    judge = args.judge or config.DEFAULT_JUDGE
    for flag, names in (("models", tags), ("judge", [judge])):
        if odd := [name for name in names if not _is_tag(name)]:
            raise UsageError(f"--{flag} {odd[0]!r} is no Ollama tag such as gemma3:4b; `ollama list` shows them.")
    known = read_known(args.cache_dir)
    llm = OllamaModel(
        concurrency=params.concurrency,
        timeout=params.timeout,
        num_ctx=dict.fromkeys([*tags, judge], params.num_ctx),
        known_digests={tag: model.digest for tag, model in known.items()},
    )
    answers = llm.available()
    contestants = {tag: config.DEFAULT_MODELS.get(tag) or Contestant(None, None, tag) for tag in tags}
    label = "ollama" if answers else OFF_LABEL
    context = _judge_context(llm, judge, answers, known)
    return Backend("ollama", llm, judge, contestants, {}, label, (), answers, context, known)


def _is_tag(name: str) -> bool:
    return bool(name) and name.isprintable() and not any(c.isspace() for c in name) and not name.startswith("-")


def _judge_context(llm: OllamaModel, judge: str, answers: bool, known: Mapping[str, Known]) -> int | None:
    if answers:
        try:
            return llm.show(judge).context_length
        except MissingError as error:  # said later, with all else that is missing
            log.debug("%s", error)
    return known[judge].context if judge in known else None


def every_job(args: Namespace, backend: Backend, params: ExperimentConfig) -> list[Job]:
    """A job for each persona of this run."""
    names = list(config.PERSONAS) if args.persona == "all" else [args.persona]
    return [job(args, backend, params, name) for name in names]


def all_cached(args: Namespace, backend: Backend, params: ExperimentConfig) -> bool:
    """Whether this run needs no answer of any model any more."""
    return not args.refresh and not sum(calls_to_make(args, backend, params).values())


def calls_to_make(args: Namespace, backend: Backend, params: ExperimentConfig) -> Mapping[str, int]:
    """Calls by model, also where the models themselves are missing."""
    from collections import Counter

    from cli.known_models import Recorded
    from cli.plan import comparison_calls, outstanding

    counted = [
        one if one.llm.weighs_options else dataclasses.replace(one, llm=Recorded(one.llm, {}))
        for one in every_job(args, backend, params)
    ]
    calls: Counter[str] = Counter()
    for one in counted:
        calls += outstanding(one)
    return calls + comparison_calls(counted)


def job(args: Namespace, backend: Backend, params: ExperimentConfig, persona: str) -> Job:
    """All that the data stages need for one persona."""
    return Job(
        name=persona,
        persona=config.PERSONAS[persona],
        contestants=backend.contestants,
        judge=backend.judge,
        llm=backend.llm,
        params=params,
        cache_dir=args.cache_dir,
        samples_dir=None if args.refresh else config.SAMPLES_DIR,
        prompts_dir=config.PROMPTS_DIR,
        judge_context=backend.judge_context,
    )


# ── The beginning of a run ───────────────────────────────────────────────────────────────────────────────


def begin(args: Namespace, backend: Backend, params: ExperimentConfig) -> Backend:
    """The first steps of a run that has the cache folder to itself: caches to be made anew are set aside, the ratings
    fetched, the models written down, what changed since the last run said with what it costs."""
    _make_folder(args.results_dir)  # before hours of asking, not after
    refresh(args)
    if backend.name == "embedded":
        return backend
    from cli import known_models
    from stages import arena

    if backend.answers:
        now = known_models.seen(backend.llm, [*backend.contestants, backend.judge])  # type: ignore[arg-type]
        if tags := known_models.changed(backend.known, now):
            cost = known_models.cost_of_change(every_job(args, backend, params), backend.known)
            log.warning("%s", known_models.change_sentence(tags, cost, args.cache_dir))
        known_models.remember(args.cache_dir, backend.known, now)
    table = arena.load_table(args.cache_dir, refresh="all" in (args.refresh or ()))
    backend = rated(backend, table)
    for tag, rating in (backend.ratings or {}).items():
        if tag not in config.DEFAULT_MODELS:
            log.info("%s: %s", tag, rating.source)
    return backend


def _make_folder(folder: Path) -> None:
    from core.files import refusal

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(folder, error, "made a folder") from error


def rated(backend: Backend, table: ArenaTable) -> Backend:
    """The backend with its contestants' ratings from one table."""
    from stages import arena

    contestants, matches = arena.contestants_for(backend.contestants, table)
    ratings = arena.ratings_for(contestants, table, matches)
    notes = (*backend.notes, *table.notes)
    return dataclasses.replace(backend, contestants=contestants, ratings=ratings, notes=notes)


# ── Refresh ──────────────────────────────────────────────────────────────────────────────────────────────

# Each stage's files, in the order of the stages: what follows from a stage is made anew with it.
_STAGE_FILES = {
    "prompts": config.PROMPTS_FILE,
    "responses": config.RESPONSES_FILE,
    "preferences": config.PREFERENCES_FILE,
    "ground_truth": config.GROUND_TRUTH_FILE,
    "features": config.FEATURES_FILES,
}


def refresh(args: Namespace) -> None:
    """Set the caches of the stages in ``--refresh``, and of those that follow, aside in ``previous/``: what comes back
    from a model that answers the same is the same, and nothing that was paid for is deleted."""
    if not args.refresh:
        return
    import time

    first = 0 if "all" in args.refresh else min(list(_STAGE_FILES).index(stage) for stage in args.refresh)
    folder = args.cache_dir / "previous" / time.strftime("%Y%m%d-%H%M%S")
    names = list(config.PERSONAS) if args.persona == "all" else [args.persona]
    for pattern in list(_STAGE_FILES.values())[first:]:
        for path in (path for name in names for path in args.cache_dir.glob(pattern.format(name=name) + "*")):
            folder.mkdir(parents=True, exist_ok=True)
            path.rename(folder / path.name)
            log.info("%s set aside in %s/", path.name, folder)
