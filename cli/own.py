"""What a user brings, read once and before anything is asked: a person, prompts, answers that are there already."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli import personas
from config import Contestant, Persona
from core.errors import UsageError
from core.records import Prompt, Response
from stages.own import FEWEST_PROMPTS, Answers, read_answers, read_prompts


@dataclass(frozen=True)
class Own:
    """What was found in the files that the flags name."""

    personas: Mapping[str, Persona]
    """By name: all whose preferences this run learns; none with ``--preferences``."""
    prompts: tuple[Prompt, ...] = ()
    """In the order of their ids, so that the order in the file changes no split."""
    responses: tuple[Response, ...] = ()
    models: tuple[str, ...] = ()
    """Whose responses they are."""
    answers: Answers | None = None
    """All that ``--responses`` names, for votes to be joined to."""
    notes: tuple[str, ...] = ()

    @property
    def contestants(self) -> dict[str, Contestant]:
        """The models of ``responses``: none of them is asked, so none has a tag."""
        return dict.fromkeys(self.models, Contestant(None, None, None))


def read(args: Namespace) -> Own:
    """Read every file that ``args`` names. Raises UsageError naming the file, and the row or field."""
    answers = read_answers([Path(name) for name in args.responses]) if args.responses else None
    if args.preferences:
        return Own({}, answers=answers, notes=answers.notes if answers else ())
    who = personas.find(args.persona, args.cache_dir, args.results_dir, topics_needed=_writes(args))
    prompts, notes = read_prompts(Path(args.prompts)) if args.prompts else ([], ())
    models: tuple[str, ...] = ()
    responses: tuple[Response, ...] = ()
    if answers is not None:
        models = _models(args, answers)
        answered = answers.complete(models)
        wanted = prompts or list(answers.prompts)
        prompts = [prompt for prompt in wanted if prompt in answered]
        if len(prompts) < FEWEST_PROMPTS:
            raise UsageError(
                f"--responses: only {len(prompts)} of {len(wanted)} prompts have an answer of each of "
                f"{', '.join(models)}; at least {FEWEST_PROMPTS} are needed. Nothing was asked. Add answers, or "
                "choose models that answered the same prompts: --models A B"
            )
        notes += answers.notes
        if len(prompts) < len(wanted):
            notes += (f"prompts that not every model answered, left out: {len(wanted) - len(prompts)}",)
    prompts = sorted(prompts[: args.num_prompts], key=lambda prompt: prompt.id)
    if answers is not None:
        responses = answers.responses(prompts, models)
    return Own(who, tuple(prompts), responses, models, notes=notes)


def _writes(args: Namespace) -> bool:
    """True where prompts of the persona are written."""
    return not (args.prompts or args.responses) and args.rank is None


def _models(args: Namespace, answers: Answers) -> tuple[str, ...]:
    """The contestants: the models of the files, or those of them that ``--models`` names."""
    chosen = tuple(dict.fromkeys(args.models or answers.models))
    if odd := [model for model in chosen if model not in answers.models]:
        raise UsageError(f"--models {odd[0]}: the models of --responses are {', '.join(answers.models)}.")
    if len(chosen) < 2:
        raise UsageError(f"--responses: a ranking needs at least two models; there is only {', '.join(chosen)}.")
    return chosen
