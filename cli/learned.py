"""What a run learned, kept for ``--rank``: all systems, fitted on every prompt, and what they were learned from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shlex
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
from base import location as base_location
from cli import personas
from cli.earlier import LEARNED_FILE, VOTES
from cli.flags import command_like
from cli.own import Own
from combined import Combined
from core.errors import MissingError, SuiteError, UsageError
from core.files import fingerprint, read, read_tensors, write_json
from elo_system import EloSystem
from report.words import CONTENDERS
from reward_model import RewardModel

if TYPE_CHECKING:
    from base.features import Features
    from stages.tasks import Job

SYSTEM_FILES = (config.ELO_STATE_FILE, config.REWARD_HEAD_FILE, config.COMBINED_FILE)
FORMAT = 2
GIVEN = "given"  # the identity of a model whose answers came from a file


@dataclass(frozen=True)
class Learned:
    """All systems as a run left them, fitted on every prompt."""

    elo: EloSystem
    base: str
    evidence: Mapping[str, Any]
    """What that run measured on prompts that were not trained on: whom to take, each system's figures, warnings."""
    _ratings: Mapping[str, float | None]
    _history: Sequence[Sequence[float]]
    _head: Path
    _combined: Path
    _command: str

    def over(self, features: Features) -> tuple[RewardModel, Combined]:
        """Systems B and C over ``features``.

        Raises UsageError for one that is damaged, of another run or gives no figures, with the command of ``load``.
        """
        with _fixed_by(self._command):
            reward = RewardModel.load(self._head, features, dict.fromkeys(self.elo.ratings))  # training needs ratings
            combined = Combined.load(self._combined, features, self._ratings)
            if [list(epoch) for epoch in reward.history] != [list(epoch) for epoch in self._history]:
                raise UsageError(f"{self._head} is of another run than the files beside it.")
            for path, system in ((self._head, reward), (self._combined, combined)):
                scores = [score for prompt_id, _ in features.index for score in system.scores(prompt_id).values()]
                if not all(map(math.isfinite, scores)):
                    raise UsageError(f"{path} gives scores that are no figures: its training did not converge.")
        return reward, combined


@contextlib.contextmanager
def _fixed_by(command: str) -> Iterator[None]:
    """Every error inside names the command that learns anew."""
    try:
        yield
    except SuiteError as error:
        raise type(error)(f"{error}\nThis learns it anew: {command}") from error


# ── Keeping ──────────────────────────────────────────────────────────────────────────────────────────────


def keep(
    folder: Path,
    name: str,
    elo: EloSystem,
    reward: RewardModel,
    combined: Combined,
    *,
    ratings: Mapping[str, float | None],
    origin: Mapping[str, Any],
    document: Mapping[str, Any],
) -> None:
    """Write down the systems as fitted on every prompt. ``ratings``: System C's global ones; ``origin``: ``made_from``
    or ``made_from_votes``."""
    elo_path, head, both = (folder / f.format(name=name) for f in SYSTEM_FILES)
    elo.save(elo_path)
    reward.save(head)
    combined.save(both)
    for old in folder.glob(f"reward_head_{name}_fold*.safetensors"):
        old.unlink()  # earlier versions kept the cross-validation's heads
    body = {
        "format": FORMAT,
        "made_from": origin,
        "command": document["command"],
        "evidence": _evidence(document),
        "elo_offsets": elo.offsets,
        "ratings": ratings,
        "history": reward.history,
        "files": {path.name: _digest(path) for path in (head, both)},
    }
    write_json(folder / LEARNED_FILE.format(name=name), {"checksum": _checksum(body), **body})


def made_from(job: Job, base: str) -> dict[str, Any]:
    """What must still be so for what was learned to be of use."""
    contestants = {
        name: fingerprint(GIVEN if job.responses else job.llm.identity(c.ollama_tag or name), c.system, c.opening)
        for name, c in job.contestants.items()
    }
    return {
        "backend": job.llm.backend,
        "num_prompts": job.params.num_prompts,
        "own": bool(job.prompts),
        "persona": fingerprint(job.persona),
        "contestants": contestants,
        "base": base,
        "base_identity": base_location.identity(base, job.cache_dir),
    }


def made_from_votes(source: str, models: Sequence[str], prompts: int, base: str, cache_dir: Path) -> dict[str, Any]:
    """The same for people's votes: whoever answers under a model's name is taken for it. ``source``: where they lie."""
    return {
        "backend": VOTES,
        "source": source,
        "votes": _digest_of(Path(source)),
        "num_prompts": prompts,
        "persona": None,
        "contestants": dict.fromkeys(models),
        "base": base,
        "base_identity": base_location.identity(base, cache_dir),
    }


def _evidence(document: Mapping[str, Any]) -> dict[str, Any]:
    """How far what was learned can be trusted, from the run's results."""
    crossed, metric = document["cross_validated"], document["main_metric"]
    return {
        "recommended": document["recommended"],
        "winner": document["winner"],
        "main_metric": metric,
        "cross_validated": {system: crossed[system][metric] for system in CONTENDERS},
        "warnings": document["verdict"]["warnings"],
        "preferences": document["counts"]["preferences"],
        "prompts": document["counts"]["prompts"],
    }


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _digest_of(votes: Path) -> str | None:
    return _digest(votes) if votes.is_file() else None  # a hub's


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ── Taking up again ──────────────────────────────────────────────────────────────────────────────────────


def base_of(job: Job) -> str | None:
    """The base on which the last run of this persona learned, or would learn; None where nobody knows yet."""
    try:
        return str(_read(job.cache_dir / LEARNED_FILE.format(name=job.name))["made_from"]["base"])
    except SuiteError:
        return base_location.EMBEDDED if job.llm.weighs_options else None


def outdated_votes(args: Namespace) -> str | None:
    """The command that learns the votes of the run that ``--persona`` names, where they changed since or were never
    learned: own votes need no run of their own before ``--rank``. None where there is nothing new."""
    name = args.persona
    if name in (None, *config.PERSONAS) or Path(name).suffix.lower() in personas.ENDINGS:
        return None
    path = args.cache_dir / LEARNED_FILE.format(name=name)
    if path.exists():
        document = _read(path)
        now = _digest_of(Path(document["made_from"].get("source", "")))
        return document["command"] if now not in (None, document["made_from"].get("votes")) else None
    own = config.VOTES_DIR / f"{name}.jsonl"
    return (
        command_like(["--preferences", str(own)], args, ("base_model", "cache_dir", "results_dir"))
        if own.is_file()
        else None
    )


def recalled(args: Namespace) -> Namespace:
    """The arguments for ``--rank`` after a run on votes: the models that were voted on are asked.

    Raises UsageError where no run of that name has left what it learned.
    """
    if args.persona in (None, *config.PERSONAS) or Path(args.persona).suffix.lower() in personas.ENDINGS:
        return args
    path = args.cache_dir / LEARNED_FILE.format(name=args.persona)
    if not path.exists():
        runs = sorted(file.stem.removeprefix("learned_") for file in args.cache_dir.glob(LEARNED_FILE.format(name="*")))
        raise UsageError(
            f"--persona {args.persona}: no run of this name has learned anything in {args.cache_dir}. "
            f"There are: {', '.join(runs) or 'none'}. Votes are learned with: python main.py --preferences FILE"
        )
    origin = _read(path)["made_from"]
    if origin["backend"] != VOTES:  # a person of their own, whose file --persona names
        return args
    models = args.models or list(origin["contestants"])
    styles = all(model in config.EMBEDDED_MODELS for model in models)
    backend = args.backend if args.backend != "auto" else ("embedded" if styles else "ollama")
    who = Own({args.persona: config.Persona(args.persona, "", "", (), ())})
    return Namespace(**{**vars(args), "models": models, "backend": backend, "own": who})


def load(job: Job, base: str | None, command: str) -> Learned:
    """What the last run of this persona learned. ``base``: the one asked for, None for whichever the run used.

    Raises MissingError where a file is missing and UsageError where one is damaged or outdated, both with the command
    that makes them: ``command``, and what the last run had beyond it.
    """
    folder, name = job.cache_dir, job.name
    with _fixed_by(command):
        document = _read(folder / LEARNED_FILE.format(name=name))
    # the prompts, answers and votes of one's own stand in no flag of --rank
    origin = document["made_from"]
    own = origin.get("own") or origin["backend"] == VOTES
    command = document["command"] if own else _like_before(command, origin)
    with _fixed_by(command):
        reasons = _outdated(job, document["made_from"], base)
        if reasons:
            raise UsageError(f"What was learned for {name} is outdated: {'; '.join(reasons)}.")
        return _systems(folder, name, document, command)


def _read(path: Path) -> dict[str, Any]:
    """What ``keep`` wrote, whole and of this version."""
    data = read(path)
    if data is None:
        raise MissingError(f"Nothing to rank with: {path} is missing.")
    try:
        document: dict[str, Any] = json.loads(data)
        if document.pop("checksum") != _checksum(document):
            raise ValueError("its checksum does not fit")
        if document["format"] != FORMAT:
            raise ValueError(f"it has format {document['format']}, this version reads {FORMAT}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} can't be read ({error}); it was left as it is.") from error
    return document


def _like_before(command: str, known: Mapping[str, Any]) -> str:
    """The command with the number of prompts and the base that the last run had, where it names none itself."""
    extra = []
    if known["num_prompts"] != config.EXPERIMENT_CONFIG.num_prompts:
        extra += ["--num_prompts", str(known["num_prompts"])]
    usual = (known["backend"], known["base"]) == ("embedded", base_location.EMBEDDED)
    if "--base_model" not in command and not usual:
        extra += ["--base_model", known["base"]]
    return " ".join([command, shlex.join(extra)]) if extra else command


def _systems(folder: Path, name: str, document: Mapping[str, Any], command: str) -> Learned:
    elo_path, head, both = (folder / f.format(name=name) for f in SYSTEM_FILES)
    for path in (elo_path, head, both):
        if not path.exists():
            raise MissingError(f"Nothing to rank with: {path} is missing.")
    for path in (head, both):
        try:
            read_tensors(path)  # a cut or emptied file is known without features, and so before anything is asked
        except ValueError as error:
            raise UsageError(f"{path} can't be read ({error}); it was left as it is.") from error
        if _digest(path) != document["files"][path.name]:
            raise UsageError(f"{path} is damaged or of another run.")
    elo = EloSystem.load(elo_path)
    if elo.offsets != document["elo_offsets"]:
        raise UsageError(f"{elo_path} is of another run than {folder / LEARNED_FILE.format(name=name)}.")
    base, evidence = document["made_from"]["base"], document["evidence"]
    return Learned(elo, base, evidence, document["ratings"], document["history"], head, both, command)


def _outdated(job: Job, known: Mapping[str, Any], base: str | None) -> list[str]:
    """Why it is of no use any more. A subset of the contestants is fine: what was learned about them holds."""
    then = known["contestants"]
    if fingerprint(GIVEN, "", "") in then.values():
        return ["the answers that it was learned from were given with --responses: their models can't be asked"]
    now = made_from(job, base or known["base"])
    unknown = [name for name in now["contestants"] if name not in then]
    changed = [name for name, mark in now["contestants"].items() if then.get(name) not in (None, mark)]
    reasons = []
    if unknown:
        backend = "" if known["backend"] == VOTES else f"--backend {known['backend']} "
        flags = f"{backend}--models {' '.join(then)}"
        reasons.append(f"it knows nothing of {', '.join(unknown)} (to rank those it knows: {flags})")
    if changed:
        reasons.append(f"{', '.join(changed)} changed since (pulled again, or another entry in config.py)")
    if known["persona"] not in (None, now["persona"]):
        reasons.append(f"the persona {job.name} changed since")
    if base not in (None, known["base"]):
        reasons.append(f"it was learned on the base {known['base']}, not {base}")
    elif now["base_identity"] not in (None, known["base_identity"]):
        reasons.append(f"the base {known['base']} changed since")
    return reasons
