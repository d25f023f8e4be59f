"""Everything a user brings, read once and before anything is asked: a person, prompts, answers, votes.

python main.py --persona me.toml --prompts mine.txt       me.toml: see persona.example.toml
"""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import config
from config import Persona
from core.errors import UsageError
from core.records import Prompt, Response
from core.text import Names
from people.read import Votes, load_votes, run_name
from stages.own import FEWEST_PROMPTS, check_persona, read_answers, read_persona, read_prompts


@dataclass(frozen=True)
class Own:
    """The content of the files that the flags name."""

    personas: Mapping[str, Persona]  # by name: all whose preferences this run learns; empty ones of people who vote
    prompts: tuple[Prompt, ...] = ()  # own ones by their ids, so that the order in the file changes no split
    responses: tuple[Response, ...] = ()
    votes: Votes | None = None  # of ``--preferences``, on ``prompts``
    notes: tuple[str, ...] = ()


def read(args: Namespace) -> Own:
    """Read every file that ``args`` names. Raises UsageError naming the file, and the row or field."""
    answers = None
    if args.responses:
        answers = read_answers([Path(name) for name in args.responses], skip_bad_rows=args.skip_bad_rows)
    if args.preferences:
        votes = load_votes(args.preferences, skip_bad_rows=args.skip_bad_rows, answers=answers)
        name, notes = run_name(args.preferences), answers.notes if answers else ()
        return Own({name: Persona()}, votes.prompts, votes=votes, notes=notes)
    who = find_personas(args.persona, topics_needed=not (args.prompts or args.responses))
    prompts, notes = read_prompts(Path(args.prompts)) if args.prompts else ([], ())
    models: tuple[str, ...] = ()
    if answers:
        names = Names(answers.models)
        models = tuple(dict.fromkeys(map(names.of, args.models or answers.models)))
        if odd := [model for model in models if model not in answers.models]:
            raise UsageError(f"--models {odd[0]}: the models of --responses are {', '.join(answers.models)}.")
        wanted = prompts or list(answers.prompts)
        prompts = [p for p in wanted if all((p.id, model) in answers.texts for model in models)]
        notes += answers.notes
        if len(prompts) < len(wanted):
            notes += (f"prompts that not every model answered, left out: {len(wanted) - len(prompts)}",)
    if (args.prompts or answers) and len(prompts) < FEWEST_PROMPTS:
        having = f" with an answer of each of {', '.join(models)}" * bool(answers)
        files = ", ".join([args.prompts] if args.prompts else args.responses)
        raise UsageError(
            f"{files}: prompts{having}: {len(prompts)}; fewer than {FEWEST_PROMPTS} leave nothing to test on. "
            "Nothing was asked. Add some and run again."
        )
    chosen = sorted(prompts[: args.num_prompts], key=lambda prompt: prompt.id)
    texts = answers.texts if answers else {}
    responses = tuple(Response(p.id, model, texts[p.id, model]) for model in models for p in chosen)
    return Own(who, tuple(chosen), responses, notes=notes)


def find_personas(asked: str | None, *, topics_needed: bool) -> dict[str, Persona]:
    """The personas that ``--persona`` asks for, by name: one, all of config.py, or the one that a file describes.

    ``topics_needed``: prompts are to be written. Raises UsageError naming what is wrong, also a missing field.
    """
    asked, found = asked or config.DEFAULT_PERSONA, {}
    for name in config.PERSONAS if asked == "all" else [asked]:
        if name in config.PERSONAS:
            source = f"persona {name!r} in config.py"
            found[name] = check_persona(config.PERSONAS[name], source)
        elif Path(name).suffix.lower() in (".toml", ".json"):
            source, name = name, run_name(name)
            found[name] = read_persona(Path(source))
        else:
            raise UsageError(
                f"--persona {name!r} is not known. There are {', '.join(config.PERSONAS)} and all, and a file that "
                "describes a person: cp persona.example.toml me.toml, and edit it."
            )
        if topics_needed and not found[name].topics:
            raise UsageError(f"{source} lacks topics: prompts are written on them. Add some, or give --prompts FILE.")
    return found
