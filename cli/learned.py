"""What a run learned, kept for ``--rank``: both systems, what they were learned from, and the cross-validation's own.

The trainings of the cross-validation show how sure a score is: each left out another part of the prompts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
from base import location as base_location
from core.errors import MissingError, SuiteError, UsageError
from core.files import fingerprint, read, read_tensors, write_json
from core.ranking import TrainingSet
from elo_system import EloSystem
from reward_model import RewardModel

if TYPE_CHECKING:
    from base.features import Features
    from core.findings import Run
    from data_generation import Data
    from evidence.experiment import Design, Systems
    from stages.tasks import Job

LEARNED_FILE = "learned_{name}.json"
FOLD_HEAD_FILE = "reward_head_{name}_fold{fold}.safetensors"
FORMAT = 1
GIVEN = "given"  # the identity of a model whose answers came from a file


@dataclass(frozen=True)
class Learned:
    """Both systems as a run left them."""

    elo: EloSystem
    fold_ratings: tuple[Mapping[str, float], ...]
    """Ratings (global + offset) of each training of the cross-validation."""
    base: str
    evidence: Mapping[str, Any]
    """What that run measured: winner, cross-validated τ of both systems, warnings, preferences and prompts."""
    _history: Sequence[Sequence[float]]
    _heads: tuple[Path, ...]
    """The head of the documented split, then those of the folds."""
    _command: str

    def rewards(self, features: Features) -> tuple[RewardModel, list[RewardModel]]:
        """System B over ``features``: as learned on the documented split, and each training of the cross-validation.

        Raises UsageError for a head that is damaged, of another run or gives no figures, with the command of ``load``.
        """
        with _fixed_by(self._command):
            ratings = dict.fromkeys(self.elo.ratings)  # only training looks at global ratings
            first, *folds = (RewardModel.load(path, features, ratings) for path in self._heads)
            if [list(epoch) for epoch in first.history] != [list(epoch) for epoch in self._history]:
                raise UsageError(f"{self._heads[0]} is of another run than the files beside it.")
            for path, head in zip(self._heads, (first, *folds), strict=True):
                scores = [score for prompt_id, _ in features.index for score in head.scores(prompt_id).values()]
                if not all(map(math.isfinite, scores)):
                    raise UsageError(f"{path} gives scores that are no figures: its training did not converge.")
        return first, folds


@contextlib.contextmanager
def _fixed_by(command: str) -> Iterator[None]:
    """Every error inside names the command that learns anew."""
    try:
        yield
    except SuiteError as error:
        raise type(error)(f"{error}\nThis learns it anew: {command}") from error


# ── Keeping ──────────────────────────────────────────────────────────────────────────────────────────────


def keep(job: Job, run: Run, data: Data, systems: Systems, plan: Design, document: Mapping[str, Any]) -> None:
    """Write down both systems as learned on the documented split, each training of the cross-validation, and what all
    of it was made from."""
    folder, name, elo, reward = job.cache_dir, job.name, systems.elo, systems.reward
    elo.save(folder / config.ELO_STATE_FILE.format(name=name))
    reward.save(folder / config.REWARD_HEAD_FILE.format(name=name))
    every = [p.id for p in data.prompts]
    sets = [TrainingSet.of(plan.preferences, [i for i in every if i not in part]) for part in plan.folds]
    for old in folder.glob(FOLD_HEAD_FILE.format(name=name, fold="*")):
        old.unlink()
    heads = {}
    for number, head in enumerate(reward.fit_many(sets), start=1):
        path = folder / FOLD_HEAD_FILE.format(name=name, fold=number)
        head.save(path)
        heads[path.name] = _digest(path)
    body = {
        "format": FORMAT,
        "made_from": made_from(job, run.base_model),
        "command": run.command,
        "evidence": _evidence(document),
        "elo_offsets": elo.offsets,
        "fold_ratings": [fold.ratings for fold in elo.fit_many(sets)],
        "history": reward.history,
        "fold_heads": heads,
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
        "base_identity": base_location.identity(base),
    }


def _evidence(document: Mapping[str, Any]) -> dict[str, Any]:
    """How far what was learned can be trusted, from the run's results."""
    crossed = document["cross_validated"]
    return {
        "winner": document["winner"],
        "kendall_tau": {system: crossed[system]["kendall_tau"] for system in (EloSystem.name, RewardModel.name)},
        "warnings": document["verdict"]["warnings"],
        "preferences": document["counts"]["preferences"],
        "prompts": document["counts"]["train_prompts"],
    }


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ── Taking up again ──────────────────────────────────────────────────────────────────────────────────────


def load(job: Job, base: str | None, command: str) -> Learned:
    """What the last run of this persona learned. ``base``: the one asked for, None for whichever the run used.

    Raises MissingError where a file is missing and UsageError where one is damaged or outdated, both with the command
    that makes them: ``command``, and what the last run had beyond it.
    """
    folder, name = job.cache_dir, job.name
    with _fixed_by(command):
        document = _read(folder / LEARNED_FILE.format(name=name))
    # the prompts and answers of one's own stand in no flag of --rank
    own = document["made_from"].get("own")
    command = document["command"] if own else _like_before(command, document["made_from"])
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
    elo_path, head = (folder / f.format(name=name) for f in (config.ELO_STATE_FILE, config.REWARD_HEAD_FILE))
    digests = document["fold_heads"]
    for path in (elo_path, head, *(folder / file for file in digests)):
        if not path.exists():
            raise MissingError(f"Nothing to rank with: {path} is missing.")
    try:
        read_tensors(head)  # a cut or emptied file is known without features, and so before anything is asked
    except ValueError as error:
        raise UsageError(f"{head} can't be read ({error}); it was left as it is.") from error
    for file, digest in digests.items():
        if _digest(folder / file) != digest:
            raise UsageError(f"{folder / file} is damaged or of another run.")
    elo = EloSystem.load(elo_path)
    if elo.offsets != document["elo_offsets"]:
        raise UsageError(f"{elo_path} is of another run than {folder / LEARNED_FILE.format(name=name)}.")
    heads = (head, *(folder / file for file in digests))
    base, history = document["made_from"]["base"], document["history"]
    return Learned(elo, tuple(document["fold_ratings"]), base, document["evidence"], history, heads, command)


def _outdated(job: Job, known: Mapping[str, Any], base: str | None) -> list[str]:
    """Why it is of no use any more. A subset of the contestants is fine: what was learned about them holds."""
    then = known["contestants"]
    if fingerprint(GIVEN, "", "") in then.values():
        return ["the answers that it was learned from were given with --responses: their models can't be asked"]
    now = made_from(job, base or known["base"])
    unknown = [name for name in now["contestants"] if name not in then]
    changed = [name for name, mark in now["contestants"].items() if then.get(name, mark) != mark]
    reasons = []
    if unknown:
        flags = f"--backend {known['backend']} --models {' '.join(then)}"
        reasons.append(f"it knows nothing of {', '.join(unknown)} (to rank those it knows: {flags})")
    if changed:
        reasons.append(f"{', '.join(changed)} changed since (pulled again, or another entry in config.py)")
    if now["persona"] != known["persona"]:
        reasons.append(f"the persona {job.name} changed since")
    if base not in (None, known["base"]):
        reasons.append(f"it was learned on the base {known['base']}, not {base}")
    elif now["base_identity"] not in (None, known["base_identity"]):
        reasons.append(f"the base {known['base']} changed since")
    return reasons
