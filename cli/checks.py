"""What is there, what is missing and how to get it: all of it with ``--check``, what is missing before every run.

Looks only: no model is asked, nothing is written, neither torch nor transformers is imported.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import config
from cli import preflight
from cli.preflight import Backend
from config import ExperimentConfig
from core.errors import MissingError, UsageError

if TYPE_CHECKING:
    from llm.ollama import ModelInfo, OllamaModel

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``mend``: the command that gets it, where it is missing."""

    about: str
    said: str
    mend: str = ""


def check(args: Namespace, backend: Backend, params: ExperimentConfig) -> int:
    """Print all findings and what the run would cost. The exit status: 3 where something is missing, else 0."""
    from cli import costs

    _require_usable(args)
    found = [*missing_or_there(args, backend, params), *_ratings(args, backend), *_machine(args)]
    for finding in found:
        print(f"{'MISSING  ' if finding.mend else 'ok       '}{finding.about}: {finding.said}")
    for note in backend.notes:
        print(f"Note: {note}")
    print()
    for line in costs.lines(args, backend, params):
        print(line)
    missing = [finding for finding in found if finding.mend]
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
    calls = preflight.calls_to_make(args, backend, params)
    found = list(_device(args))
    if args.rank is not None or args.vote:  # these say themselves what they still need
        pass
    elif sum(calls.values()) > 0 or args.refresh:
        found += missing_or_there(args, backend, params)
    elif not any(args.cache_dir.glob("features_*")):
        found.append(_base(args, backend))
    missing = [finding for finding in found if finding.mend]
    if missing:
        raise MissingError(_sentence(missing))


def _sentence(missing: list[Finding]) -> str:
    lines = [f"- {finding.about}: {finding.said}\n    {finding.mend}" for finding in missing]
    what = "One thing is missing" if len(missing) == 1 else f"{len(missing)} things are missing"
    return "\n".join([f"{what}; nothing was asked, all that is cached is kept:", *lines])


# ── Folders and templates ────────────────────────────────────────────────────────────────────────────────


def _require_usable(args: Namespace) -> None:
    from stages.tasks import TEMPLATES, load_template

    for flag in ("cache_dir", "results_dir"):
        folder = getattr(args, flag)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise UsageError(f"--{flag} {folder}: {there} is a file, not a folder. Choose another --{flag}.")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"--{flag} {folder}: {there} can't be written. Choose another --{flag}, or chmod u+w it.")
    for name in TEMPLATES:
        load_template(config.PROMPTS_DIR, name)


# ── Models and base ──────────────────────────────────────────────────────────────────────────────────────


def missing_or_there(args: Namespace, backend: Backend, params: ExperimentConfig) -> Iterator[Finding]:
    """The server, each model and the reward base."""
    calls = preflight.calls_to_make(args, backend, params)
    if backend.name == "ollama":
        yield from _server(args, backend, calls)
    else:
        yield _embedded("Embedded model", needed=sum(calls.values()) > 0)
    yield _base(args, backend)


def _server(args: Namespace, backend: Backend, calls: Mapping[str, int]) -> Iterator[Finding]:
    llm: OllamaModel = backend.llm  # type: ignore[assignment]
    if not backend.answers:
        left = sum(calls.values())
        flags = " and ".join(preflight.ollama_flags(args))
        instead = f"without {flags}" if flags else "without it"
        mend = f"`ollama serve`; OLLAMA_HOST=… where it runs elsewhere; or --backend embedded {instead}"
        said = f"no server answers at {llm.display_host}"
        yield Finding("Ollama", said if left else f"{said}, and everything is cached", mend if left else "")
        return
    yield Finding("Ollama", f"version {llm.version()} answers at {llm.display_host}")
    installed = llm.installed()
    for tag in dict.fromkeys([*backend.contestants, backend.judge]):
        roles = [
            role
            for role, is_it in (("contestant", tag in backend.contestants), ("judge", tag == backend.judge))
            if is_it
        ]
        yield _model(llm, tag, " and ".join(roles), installed, calls[tag])


def _model(llm: OllamaModel, tag: str, role: str, installed: Mapping[str, ModelInfo], calls: int) -> Finding:
    from llm.interface import nearest_tags

    info = installed.get(tag) or installed.get(f"{tag}:latest")
    about = f"{tag} ({role})"
    if info is None:
        near = nearest_tags(tag, installed)
        similar = f"; installed and similar: {', '.join(near)}" if near else ""
        left = "" if calls else ", and nothing is left to ask it"
        return Finding(about, f"not installed{left}{similar}", f"ollama pull {tag}" if calls else "")
    shown = llm.show(tag)
    context = f"context {shown.context_length:,} tokens" if shown.context_length else "context not told"
    thinks = ", can think (told not to)" if shown.thinking else ""
    size = f"{info.size_bytes / 1e9:.1f} GB {info.parameter_size} {info.quantization}".rstrip()
    return Finding(about, f"{size}, {context}{thinks}")


def _embedded(about: str, *, needed: bool) -> Finding:
    from llm import embedded

    path = embedded.weights_path()
    if path is not None:
        return Finding(about, f"{config.EMBEDDED_NAME}, {path.stat().st_size / 1e6:.0f} MB")
    return Finding(about, f"the weights of {config.EMBEDDED_NAME} are not installed", embedded.FIX if needed else "")


def _base(args: Namespace, backend: Backend) -> Finding:
    from base import location as base_location
    from core import hub

    name, notes = preflight.choose_base(args, backend.name)
    if name == base_location.EMBEDDED:
        base = _embedded("Reward base", needed=True)
        return Finding(base.about, "; ".join([base.said, "no reward model", *notes]), base.mend)
    folder = base_location.find_local(name)
    if folder is not None:
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return Finding("Reward base", f"{name}, {size / 1e9:.1f} GB in {folder}")
    embedded = f"or --base_model {base_location.EMBEDDED}"
    if not base_location.is_hub_id(name):
        return Finding("Reward base", f"there is no folder {name}", f"give a folder or a hub id, {embedded}")
    status = base_location.hub_status(name)
    if status == "there":
        return Finding("Reward base", f"{name}, fetched from the hub at its first use")
    why = {
        "unknown": "the hub has no such model that can be read without an account",
        "offline": "it is not in the hub's cache, and HF_HUB_OFFLINE forbids to ask the hub",
    }.get(status, f"it is not in the hub's cache, and {hub.endpoint()} did not answer")
    return Finding("Reward base", f"{name}: {why}", f"hf download {name}, {embedded}")


# ── Ratings and machine ──────────────────────────────────────────────────────────────────────────────────


def _ratings(args: Namespace, backend: Backend) -> Iterator[Finding]:
    if backend.name == "embedded":
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
    for tag, rating in preflight.rated(backend, table).ratings.items():  # type: ignore[union-attr]
        yield Finding(f"  {tag}", f"{'unrated' if rating.elo is None else f'{rating.elo:.0f}'} · {rating.source}")


def _device(args: Namespace) -> Iterator[Finding]:
    if args.device == "cuda" and preflight.gpu_memory() is None and not Path("/dev/nvidia0").exists():
        yield Finding("Device", "nvidia-smi finds no GPU for --device cuda", "--device cpu")


def _machine(args: Namespace) -> Iterator[Finding]:
    memory = preflight.gpu_memory()
    yield from _device(args)
    yield Finding("GPU", "none found by nvidia-smi" if memory is None else f"{memory:.0f} GiB")
    try:
        ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        yield Finding("Processor", f"{os.cpu_count()} cores, {ram:.0f} GiB of memory")
    except (ValueError, OSError, AttributeError):  # not every system tells
        yield Finding("Processor", f"{os.cpu_count()} cores")
    disk = next(path for path in (args.cache_dir.absolute(), *args.cache_dir.absolute().parents) if path.exists())
    yield Finding("Disk", f"{shutil.disk_usage(disk).free / GIB:.0f} GiB free at {disk}")
