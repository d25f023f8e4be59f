"""Who a run is for: a persona of config.py, or a person that a file describes.

python main.py --persona me.toml --prompts mine.txt
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import config
from config import Persona
from core.errors import UsageError
from core.files import read

ENDINGS = (".toml", ".json")

Text = Annotated[str, Field(min_length=1)]


class _Described(BaseModel):
    """What a file may say of a person."""

    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)
    title: Text
    description: Text
    topics: list[Text] = []
    answerer: str = ""
    asks: list[Text] = []


def find(asked: str | None, results_dir: Path, *, topics_needed: bool) -> dict[str, Persona]:
    """The personas that ``--persona`` asks for, by name: one, all of config.py, or the one that a file describes.

    ``topics_needed``: prompts are to be written. Raises UsageError naming what is wrong, also a missing field.
    """
    asked = config.DEFAULT_PERSONA if asked is None else asked
    if asked == "all":
        return {name: _configured(name, topics_needed) for name in config.PERSONAS}
    if asked in config.PERSONAS:
        return {asked: _configured(asked, topics_needed)}
    path = Path(asked)
    if path.suffix.lower() not in ENDINGS:
        near = difflib.get_close_matches(asked, [*config.PERSONAS, "all"], n=1)
        guess = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"--persona {asked!r} is not known. {guess}There are {', '.join(config.PERSONAS)} and all, and a file that "
            "describes a person, such as persona.example.toml."
        )
    return {name_of(path, results_dir): _checked(_values(path), str(path), topics_needed)}


def name_of(path: Path, results_dir: Path) -> str:
    """What a person's files are named after: the stem, in characters that any disk takes. Raises UsageError where that
    is taken: results and what was learned would be replaced."""
    name = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.")[:100] or "me"
    taken = ""
    if name.lower() in (*config.PERSONAS, "all"):
        taken = f"{name} is a persona of config.py"
    elif earlier_backend(name, results_dir) == "votes":
        taken = f"{name} is an earlier run on votes"
    if taken:
        raise UsageError(
            f"--persona {path}: results are named after the file, and {taken}. Nothing was changed. Rename the file, "
            f"for instance to my_{name}{path.suffix}"
        )
    return name


def earlier_backend(name: str, results_dir: Path) -> str | None:
    """The backend of an earlier run of this name, by its results (``votes``: people's); None where there was none."""
    try:
        text = (results_dir / config.RESULTS_FILE.format(name=name)).read_text(encoding="utf-8")
        return str(json.loads(text)["backend"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or of no use to anyone
        return None


def _values(path: Path) -> Mapping[str, Any]:
    data = None if path.is_dir() else read(path)
    if data is None:
        shown = shlex.quote(str(path))
        raise UsageError(f"--persona {path}: there is no such file. To begin: cp persona.example.toml {shown}")
    try:
        text = data.decode("utf-8-sig")
        values = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--persona {path} can't be read: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"--persona {path} is no JSON object with title, description and topics.")
    return values


def _configured(name: str, topics_needed: bool) -> Persona:
    return _checked(_as_lists(config.PERSONAS[name]), f"persona {name!r} in config.py", topics_needed)


def _as_lists(persona: Persona) -> dict[str, Any]:
    """Its fields, those that are empty left out, so that they are missed by name."""
    fields = dataclasses.asdict(persona)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items() if value}


def _checked(values: Mapping[str, Any], source: str, topics_needed: bool) -> Persona:
    """The persona, with what only the embedded model needs made up where it is missing."""
    try:
        found = _Described.model_validate(values)
    except ValidationError as error:
        known = ", ".join(_Described.model_fields)
        raise UsageError(
            f"{source} can't be used: {'; '.join(map(_complaint, error.errors()))}. It may have {known}."
        ) from None
    if topics_needed and not found.topics:
        raise UsageError(f"{source} lacks topics: prompts are written on them. Add some, or give --prompts FILE.")
    answerer = found.answerer or f"You are this person: {found.title}. {found.description}"
    asks = tuple(found.asks) or config.DEFAULT_ASKS
    return Persona(found.title, found.description, answerer, asks, tuple(found.topics))


def _complaint(error: Any) -> str:
    field = ".".join(str(part + 1 if isinstance(part, int) else part) for part in error["loc"])
    known = {"missing": "is missing", "extra_forbidden": "is unknown", "string_too_short": "is empty"}
    return f"{field} {known.get(error['type'], 'is wrong: ' + error['msg'].lower())}"
