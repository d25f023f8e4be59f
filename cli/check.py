"""Say what is there, what is missing and how to get it, and what a run costs: all of it with ``--check``, what is
missing before every run.

Looks only: nothing is written, neither torch nor transformers is imported, and ``--check`` asks no model. Before a run
those that can think are asked one small question, since only their answer shows how they are to be asked.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import config
from base import device as base_device
from base.device import GIB
from cli import openai_server, preflight, uncounted
from cli.backend import Backend, Finding
from cli.counting import Calls, Costs, by_model, by_stage
from cli.flags import STAGE_FILES, personas
from config import ExperimentConfig
from core.errors import MissingError, UsageError
from stages.tasks import TEMPLATES, Job, load_template

if TYPE_CHECKING:
    from llm.ollama import OllamaModel
    from llm.ollama_server import ModelInfo

UNPROBED = "can think: one question at the start of the run shows how it is to be asked"


def check(args: Namespace, backend: Backend, params: ExperimentConfig) -> int:
    """Print all findings and what the run would cost. The exit status: 3 where something is missing, else 0."""
    _require_usable(args)
    costs = preflight.costs(args, backend, params)
    found = [*_needed(args, backend, costs, probe=False), *_ratings(args, backend), *_machine(args)]
    for finding in found:
        print(f"{'MISSING  ' if finding.fix else 'ok       '}{finding.about}: {finding.said}")
    change = preflight.change_of_models(args, backend, params, preflight.seen_now(backend))
    for note in (*backend.notes, *(args.own.notes if args.own else ()), *filter(None, [change])):
        print(f"Note: {note}")
    print()
    for line in cost_lines(preflight.counted_jobs(args, backend, params), costs):
        print(line)
    missing = [finding for finding in found if finding.fix]
    if not missing:
        print("\nAll that this run needs is there.")
        return 0
    print(f"\n{_sentence(missing)}")
    return MissingError.exit_status


def require(args: Namespace, backend: Backend, params: ExperimentConfig) -> None:
    """Raises UsageError for a folder or template that can't be used, MissingError naming all that the run lacks.

    What is missing but not needed any more (everything it would be asked is cached) is left alone.
    """
    _require_usable(args)
    found = list(_gpu(args))
    if args.rank is None and not args.vote:  # these say themselves what they still need
        costs = preflight.costs(args, backend, params)
        if costs.total() or args.refresh:
            found += _needed(args, backend, costs, probe=True)
        elif not any(args.cache_dir.glob("features_*")):
            found.append(_base(args, backend))
    missing = [finding for finding in found if finding.fix]
    if missing:
        raise MissingError(_sentence(missing))


def _sentence(missing: list[Finding]) -> str:
    lines = [f"- {finding.about}: {finding.said}\n    {finding.fix}" for finding in missing]
    what = "One thing is missing" if len(missing) == 1 else f"{len(missing)} things are missing"
    return "\n".join([f"{what}; nothing was asked, all that is cached is kept:", *lines])


def _require_usable(args: Namespace) -> None:
    for flag in ("cache_dir", "results_dir"):
        folder = getattr(args, flag)
        there = _existing(folder)
        if not there.is_dir():
            raise UsageError(f"--{flag} {folder}: {there} is a file, not a folder. Choose another --{flag}.")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"--{flag} {folder}: {there} can't be written. Choose another --{flag}, or chmod u+w it.")
    for name in TEMPLATES:
        load_template(config.PROMPTS_DIR, name)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


# ── Models and base ──────────────────────────────────────────────────────────────────────────────────────


def _needed(args: Namespace, backend: Backend, costs: Costs, *, probe: bool) -> Iterator[Finding]:
    """The server, each model and the reward base. ``probe``: models that can think may be asked how they do."""
    if backend.name == "ollama":
        yield from _server(args, backend, by_model(costs.total()), probe=probe)
    elif backend.name == "openai":
        yield from openai_server.findings(backend, by_model(costs.total()))
    else:
        yield _embedded("Embedded model", needed=bool(costs.total()))
    yield _base(args, backend)


def _server(args: Namespace, backend: Backend, calls: Mapping[str, int], *, probe: bool) -> Iterator[Finding]:
    llm: OllamaModel = backend.llm  # type: ignore[assignment]
    if not backend.answers:
        flags = " and ".join(preflight.ollama_flags(args))
        instead = f"without {flags}" if flags else "without it"
        fix = f"`ollama serve`; OLLAMA_HOST=… where it runs elsewhere; or --backend embedded {instead}"
        said = f"no server answers at {llm.display_host}"
        if other := openai_server.instead_of_ollama(llm.display_host):
            said += f" as Ollama does. {other}"
        yield Finding("Ollama", said, fix) if calls else Finding("Ollama", f"{said}, and everything is cached")
        return
    for server in llm.servers:
        lost = server not in llm.answering()
        said = "no server answers" if lost else f"version {server.version()} answers"
        yield Finding("Ollama", f"{said} at {server.url}")
    installed = llm.installed()
    for tag in backend.asked:
        roles = ["contestant"] * (tag in backend.contestants) + ["judge"] * (tag == backend.judge)
        yield _model(llm, tag, " and ".join(roles), installed, calls.get(tag, 0), probe=probe)
    llm.unload()  # what was probed


def _model(
    llm: OllamaModel, tag: str, role: str, installed: Mapping[str, ModelInfo], calls: int, *, probe: bool
) -> Finding:
    from llm.addresses import find_tag, is_cloud
    from llm.interface import nearest_tags

    info = installed.get(find_tag(tag, installed) or "")
    about = f"{tag} ({role})"
    if info is None:
        near = nearest_tags(tag, installed)
        similar = f"; installed and similar: {', '.join(near)}" if near else ""
        left = "" if calls else ", and nothing is left to ask it"
        return Finding(about, f"not installed{left}{similar}", f"ollama pull {tag}" if calls else "")
    shown, judges = llm.show(tag), role.endswith("judge")
    if not shown.chats:
        return Finding(about, "it only embeds, and answers no questions", "take another model")
    if judges and is_cloud(tag):
        return Finding(about, "models in the cloud give no structured answers", "--judge with an installed model")
    manner = None
    if calls:
        manner = (llm.manners.of if probe else llm.manners.known)(tag, judge=judges)
    if manner and manner.cannot_judge:
        return Finding(about, manner.cannot_judge, "--judge with another model")
    context = f"context {shown.context_length:,} tokens" if shown.context_length else "context not told"
    thinks = f", {manner.said if manner else UNPROBED if calls else 'can think'}" if shown.thinking else ""
    size = f"{info.size_bytes / 1e9:.1f} GB {info.parameter_size} {info.quantization}".rstrip()
    return Finding(about, f"{size}, {context}{thinks}")


def _embedded(about: str, *, needed: bool) -> Finding:
    from llm import embedded

    path = embedded.weights_path()
    if path is not None:
        return Finding(about, f"{config.EMBEDDED_NAME}, {path.stat().st_size / 1e6:.0f} MB")
    return Finding(about, f"the weights of {config.EMBEDDED_NAME} are not installed", embedded.FIX if needed else "")


def _base(args: Namespace, backend: Backend) -> Finding:
    from base import location

    name, notes = preflight.choose_base(args, backend.name, list(personas(args)))
    if name == location.EMBEDDED:
        base = _embedded("Reward base", needed=True)
        return replace(base, said="; ".join([base.said, "no reward model", *notes]))
    folder = location.find_local(name)
    if folder is not None:
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return Finding("Reward base", f"{name}, {size / 1e9:.1f} GB in {folder}")
    embedded = f"or --base_model {location.EMBEDDED}"
    if not location.is_hub_id(name):
        return Finding("Reward base", f"there is no folder {name}", f"give a folder or a hub id, {embedded}")
    if why := location.out_of_reach(name):
        return Finding("Reward base", f"{name}: {why}", f"hf download {name}, {embedded}")
    return Finding("Reward base", f"{name}, fetched from the hub at its first use")


# ── Ratings and machine ──────────────────────────────────────────────────────────────────────────────────


def _ratings(args: Namespace, backend: Backend) -> Iterator[Finding]:
    if backend.ratings is None:
        yield Finding("Ratings", "estimated from the data: answering styles were never on the Arena")
        return
    from stages import arena

    with tempfile.TemporaryDirectory() as scratch:  # a copy: reading the table may repair or make its file
        kept = args.cache_dir / config.ARENA_FILE
        if kept.is_file():
            shutil.copyfile(kept, Path(scratch, config.ARENA_FILE))
        table = arena.load_table(Path(scratch), offline=True)
    later = "" if kept.is_file() else "; none cached yet, the run asks the hub first"
    yield Finding("Arena ratings", f"{table.origin}, {table.label}{later}")
    for tag, rating in (preflight.rated(backend, table).ratings or {}).items():
        yield Finding(f"  {tag}", f"{'unrated' if rating.elo is None else f'{rating.elo:.0f}'} · {rating.source}")


def _gpu(args: Namespace) -> Iterator[Finding]:
    """Says something only where ``--device cuda`` finds no GPU."""
    if args.device == "cuda" and base_device.gpu() is None and not Path("/dev/nvidia0").exists():
        yield Finding("Device", "nvidia-smi finds no GPU for --device cuda", "--device cpu")


def _machine(args: Namespace) -> Iterator[Finding]:
    yield from _gpu(args)
    yield Finding("GPU", str(base_device.gpu() or "none found by nvidia-smi"))
    memory = base_device.main_memory()
    sizes = f", {memory[0]:.1f} of {memory[1]:.1f} GiB of memory free" if memory else ""
    yield Finding("Processor", f"{os.cpu_count()} cores{sizes}")
    disk = _existing(args.cache_dir.absolute())
    yield Finding("Disk", f"{shutil.disk_usage(disk).free / GIB:.0f} GiB free at {disk}")


# ── Costs ────────────────────────────────────────────────────────────────────────────────────────────────


def cost_lines(jobs: Sequence[Job], costs: Costs) -> Iterator[str]:
    """What is cached, what is left to do and about how long it takes, persona by persona."""
    weighs = jobs[0].llm.weighs_options
    kept = [replace(job, anew=()) for job in jobs]  # what is there, whether this run leaves it aside or not
    for job, cached in zip(jobs, kept, strict=True):
        calls = costs.personas[job.name]
        stages = ", ".join(f"{count} for {stage.replace('_', ' ')}" for stage, count in by_stage(calls).items())
        said = f"{preflight.listed(by_model(calls))} ({stages})" if calls else "none, everything is cached"
        yield f"Cached for {job.name}: {_cached(cached)}"
        yield f"Calls still to make for {job.name}: {said}"
        yield from (f"  {reason}" for reason in uncounted.reasons(job))
    if costs.comparison:
        said = preflight.listed(by_model(costs.comparison))
        yield f"Calls still to make for the comparison of the personas: {said}"
    total = costs.total()
    if total and weighs:
        yield "A call is one text: a draft of a prompt, an answer, or an answer read by one reader."
    if total and jobs[0].llm.backend == "openai":
        yield from openai_server.token_lines(costs)
    if total:
        yield _estimate(total, _timings(kept), 1 if weighs else jobs[0].params.concurrency)


def _cached(job: Job) -> str:
    kept = []
    for stage in ("prompts", "responses", "preferences", "ground_truth"):
        with job.store(STAGE_FILES[stage], stage, read_only=True) as store:
            kept.append(f"{len(store)} {stage.replace('_', ' ')}")
    recorded = job.samples_dir and (job.samples_dir / config.RESPONSES_FILE.format(name=job.name)).exists()
    return ", ".join(kept) + (", and the recorded run" if recorded and job.llm.weighs_options else "")


def _timings(jobs: Sequence[Job]) -> dict[tuple[str, str], float]:
    """(stage, model) → mean seconds of one call, over what is cached; (stage, "") over all models."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for job in jobs:
        for stage in ("responses", "preferences"):
            with job.store(STAGE_FILES[stage], stage, read_only=True) as store:
                for item in store.items():
                    if isinstance(item.value, dict) and isinstance(item.value.get("seconds"), int | float):
                        model = str(item.value.get("model", item.names.get("judge", job.judge)))
                        asked = job.contestants.get(model)
                        tag = job.judge if job.llm.weighs_options else (asked and asked.ollama_tag) or model
                        for key in {(stage, tag), (stage, "")}:
                            found[key].append(item.value["seconds"])
    return {key: fmean(values) for key, values in found.items()}


def _estimate(calls: Calls, seconds: Mapping[tuple[str, str], float], at_once: int) -> str:
    """Seconds were measured with as many calls in flight, so the wall time is their sum over that number."""
    time, untimed = 0.0, 0
    for (stage, model), number in calls.items():
        like = {"prompts": "responses", "ground_truth": "preferences"}.get(stage, stage)
        each = seconds.get((like, model), seconds.get((like, "")))
        if each is None:
            untimed += number
        else:
            time += number * each / at_once
    if untimed == calls.total():
        return f"{calls.total()} calls in all; how long they take can be said once some answers are cached."
    rest = f", and {untimed} calls of a kind that was never timed" if untimed else ""
    return f"{calls.total()} calls in all: about {duration(time)} by the timings in the cache{rest}."


def duration(seconds: float) -> str:
    """Two units at most: 45 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
