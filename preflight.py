"""What is looked at before anything is asked: which backend, who takes part, which base, what is still to be done."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import config
from config import Contestant, ExperimentConfig
from errors import MissingError, UsageError
from llm import LanguageModel
from records import Rating
from stages import Setting

log = logging.getLogger("ranking.preflight")

DIGESTS_FILE = "model_digests.json"
EMBEDDED_LABEL = "embedded (SmolLM2-135M: shows how the suite works, not how good real models are)"
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
    """None: estimated from the data (embedded contestants)."""
    label: str
    notes: tuple[str, ...] = ()


def gpu_memory() -> float | None:
    """GiB of the largest GPU's memory by nvidia-smi, None without one: no torch is needed to know."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    sizes = [float(line) for line in done.stdout.split("\n") if line.strip().replace(".", "").isdigit()]
    return max(sizes) / 1024 if sizes and done.returncode == 0 else None


def choose_base(args: Namespace, backend: str) -> tuple[str, tuple[str, ...]]:
    """The reward base and what is to be said of the choice."""
    if args.base_model != "auto":
        return args.base_model, ()
    if backend == "embedded":
        return "embedded", ()
    import hub

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


def choose_backend(args: Namespace, settings: ExperimentConfig) -> Backend:
    """The backend that ``--backend`` asks for; ``auto``: Ollama where it answers, or where it did and its answers to
    this very run are all cached, else the embedded model, said loudly."""
    if args.backend == "embedded":
        return _embedded(args)
    known = read_digests(args.cache_dir)
    from ollama_client import OllamaModel

    llm = OllamaModel(concurrency=args.concurrency, timeout=args.timeout, known_digests=known)
    answers = llm.available()
    if args.backend == "ollama" or answers or (known and _all_cached(args, settings, llm)):
        return _ollama(args, llm, answers)
    note = f"NO OLLAMA SERVER ANSWERS AT {llm.display_host}: the embedded model stands in for it."
    if args.models or args.judge:
        raise MissingError(
            f"No Ollama server answers at {llm.display_host}, so --models and --judge can't be had. Start it with "
            "`ollama serve`, or leave these flags out to use the embedded model."
        )
    return _embedded(args, (note,))


def _embedded(args: Namespace, notes: tuple[str, ...] = ()) -> Backend:
    from embedded import EmbeddedModel

    if args.judge not in (None, config.EMBEDDED_NAME):
        raise UsageError(f"--judge {args.judge}: the embedded backend has one model, {config.EMBEDDED_NAME}.")
    contestants = dict(config.EMBEDDED_MODELS)
    if args.models:
        contestants = {name: _style(name) for name in _at_least_two(args.models)}
    return Backend("embedded", EmbeddedModel(), config.EMBEDDED_NAME, contestants, None, EMBEDDED_LABEL, notes)


def _style(name: str) -> Contestant:
    if name not in config.EMBEDDED_MODELS:
        raise UsageError(f"--models {name}: the embedded contestants are {', '.join(config.EMBEDDED_MODELS)}.")
    return config.EMBEDDED_MODELS[name]


def _at_least_two(names: Sequence[str]) -> list[str]:
    unique = list(dict.fromkeys(names))
    if len(unique) < 2:
        raise UsageError(f"--models {' '.join(names)}: a ranking needs at least two different contestants.")
    return unique


def _ollama(args: Namespace, llm: LanguageModel, answers: bool) -> Backend:
    import arena

    tags = _at_least_two(args.models) if args.models else list(config.DEFAULT_MODELS)
    table = arena.load_table(args.cache_dir, refresh="all" in (args.refresh or ()))
    contestants, matches = arena.contestants_for(tags, table)
    ratings = arena.ratings_for(contestants, table, matches)
    for tag in tags:
        if tag not in config.DEFAULT_MODELS:
            log.info("%s: %s", tag, ratings[tag].source)
    judge = args.judge or config.DEFAULT_JUDGE
    if answers:
        _check_tags(llm, [*tags, judge])
        remember_digests(args.cache_dir, llm, [*tags, judge])
        label = "ollama"
    else:
        label = "ollama (its server does not answer: everything comes from the cache)"
    return Backend("ollama", llm, judge, contestants, ratings, label, tuple(table.notes))


def _check_tags(llm: LanguageModel, tags: Sequence[str]) -> None:
    from llm import nearest_tags
    from ollama_client import OllamaModel

    assert isinstance(llm, OllamaModel)
    installed = llm.installed()
    lines = []
    for tag in dict.fromkeys(tags):
        if tag not in installed:
            near = nearest_tags(tag, installed)
            similar = f"        (installed and similar: {', '.join(near)})" if near else ""
            lines.append(f"  ollama pull {tag}{similar}")
    if lines:
        raise MissingError(
            f"Ollama at {llm.display_host} lacks {len(lines)} of the models of this run. Get them with:\n"
            + "\n".join(lines)
            + "\nor take installed ones with --models and --judge. Nothing was asked; the cache is as it was."
        )


# ── Digests: which model exactly gave the cached answers ─────────────────────────────────────────────────


def read_digests(cache_dir: Path) -> dict[str, str]:
    """Tag → digest as of the last run that saw the server; empty where there is none or the file can't be read."""
    try:
        found = json.loads((cache_dir / DIGESTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def remember_digests(cache_dir: Path, llm: LanguageModel, tags: Sequence[str]) -> None:
    """Write the digests down, so that a run on full caches needs no server; a change is said before all else."""
    from cache import write_atomically

    known = read_digests(cache_dir)
    now = {tag: str(llm.identity(tag)["digest"]) for tag in dict.fromkeys(tags)}
    for tag, digest in now.items():
        if known.get(tag, digest) != digest:
            log.warning(
                "%s has changed since its cached answers were made (it was pulled again): what it answered is asked "
                "again. Interrupt now and copy %s/ to keep the old answers.",
                tag,
                cache_dir,
            )
    if known | now != known:
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(cache_dir / DIGESTS_FILE, json.dumps(known | now, indent=1) + "\n")


def _all_cached(args: Namespace, settings: ExperimentConfig, llm: LanguageModel) -> bool:
    """Whether this run needs no answer of any model any more."""
    from plan import comparison_calls, outstanding

    try:
        backend = _ollama(args, llm, answers=False)
        names = list(config.PERSONAS) if args.persona == "all" else [args.persona]
        own = [setting(args, backend, settings, name) for name in names]
        return not any(map(outstanding, own)) and not comparison_calls(own)
    except MissingError:
        return False


def setting(args: Namespace, backend: Backend, settings: ExperimentConfig, persona: str) -> Setting:
    """All that the data stages need for one persona."""
    return Setting(
        name=persona,
        persona=config.PERSONAS[persona],
        contestants=backend.contestants,
        judge=backend.judge,
        llm=backend.llm,
        config=settings,
        cache_dir=args.cache_dir,
        samples_dir=None if args.refresh else config.SAMPLES_DIR,
    )


# ── Refresh ──────────────────────────────────────────────────────────────────────────────────────────────

# Each stage's files, in the order of the stages: what follows from a stage is made anew with it.
_STAGE_FILES = {
    "prompts": config.PROMPTS_FILE,
    "responses": config.RESPONSES_FILE,
    "preferences": config.PREFERENCES_FILE,
    "ground_truth": config.GROUND_TRUTH_FILE,
    "features": "features_{name}_*.safetensors",
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


# ── --check ──────────────────────────────────────────────────────────────────────────────────────────────


def check(args: Namespace, backend: Backend, settings: ExperimentConfig) -> int:
    """Print what is there and what the run would still cost; asks no model and writes nothing."""
    from plan import comparison_calls, outstanding

    print(f"Backend: {backend.label}")
    for name, contestant in backend.contestants.items():
        rating = backend.ratings[name] if backend.ratings else None
        shown = "rating estimated from the data" if rating is None else f"{rating.elo or 'unrated'} · {rating.source}"
        print(f"  {contestant.ollama_tag or name}: {shown}")
    print(f"Judge and prompt writer: {backend.judge}")
    base, notes = choose_base(args, backend.name)
    print(f"Reward base: {base}")
    memory = gpu_memory()
    print("GPU: none found by nvidia-smi" if memory is None else f"GPU: {memory:.0f} GiB")
    for note in (*backend.notes, *notes):
        print(f"Note: {note}")
    names = list(config.PERSONAS) if args.persona == "all" else [args.persona]
    own = [setting(args, backend, settings, name) for name in names]
    todo = {name: outstanding(one) for name, one in zip(names, own, strict=True)}
    if args.persona == "all":
        todo["the comparison of the personas"] = comparison_calls(own)
    for name, calls in todo.items():
        said = ", ".join(f"{count} to {model}" for model, count in calls.items()) or "none: everything is cached"
        print(f"Calls still to make for {name}: {said}")
    return 0
