"""Who a run is for: a persona of config.py, or a person that a file describes.

python main.py --write_persona me.toml
python main.py --persona me.toml --prompts mine.txt
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import shlex
from pathlib import Path

import config
from cli import earlier
from config import Persona
from core.errors import UsageError
from core.files import write_atomically
from stages import own

ENDINGS = (".toml", ".json")
EXAMPLE = {
    "title": "Amateur gardener",
    "description": (
        "Someone with a small garden and little time. Values concrete advice for a cool climate, quantities and dates, "
        "and an honest word on what may go wrong; has no use for sales talk."
    ),
    "topics": ["tomatoes", "poor soil", "slugs", "a hedge for birds", "pruning an apple tree", "compost"],
}
_REMARKS = {
    "title": "Who you are, in a few words.",
    "description": "Who you are and what you value in an answer: the judge is told this.",
    "topics": "What you ask about: prompts are written on these. Not needed with --prompts mine.txt.",
}
_OPTIONAL = """
# Only the embedded model needs these two, and makes them up where they are missing:
# how you would answer yourself, and how your requests begin.
# answerer = "You are a gardener. You answer with plants, dates and quantities."
# asks = ["How do I", "When should I", "What is wrong with"]
"""


def find(asked: str | None, cache_dir: Path, results_dir: Path, *, topics_needed: bool) -> dict[str, Persona]:
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
            "describes a person: --write_persona me.toml writes an example."
        )
    name = name_of(path, cache_dir, results_dir)
    return {name: _with_topics(own.read_persona(path), str(path), topics_needed)}


def name_of(path: Path, cache_dir: Path, results_dir: Path) -> str:
    """What a person's files are named after: the stem, in characters that any disk takes. Raises UsageError where that
    is taken: results and what was learned would be replaced."""
    name = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.")[:100] or "me"
    taken = ""
    if name.lower() in (*config.PERSONAS, "all"):
        taken = f"{name} is a persona of config.py"
    elif earlier.kind(name, cache_dir, results_dir) == earlier.VOTES:
        taken = f"{name} is an earlier run on votes"
    if taken:
        raise UsageError(
            f"--persona {path}: results are named after the file, and {taken}. Nothing was changed. Rename the file, "
            f"for instance to my_{name}{path.suffix}"
        )
    return name


def _configured(name: str, topics_needed: bool) -> Persona:
    source = f"persona {name!r} in config.py"
    return _with_topics(own.check_persona(dataclasses.asdict(config.PERSONAS[name]), source), source, topics_needed)


def _with_topics(found: Persona, source: str, topics_needed: bool) -> Persona:
    if topics_needed and not found.topics:
        raise UsageError(f"{source} lacks topics: prompts are written on them. Add some, or give --prompts FILE.")
    return found


# ── An example ───────────────────────────────────────────────────────────────────────────────────────────


def write_example(path: Path, cache_dir: Path, results_dir: Path) -> int:
    """Write an example of a person's file. Raises UsageError rather than replace a file."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--write_persona {path}: a person's file ends in .toml or .json, for instance me.toml")
    name_of(path, cache_dir, results_dir)
    if path.exists():
        raise UsageError(f"--write_persona {path}: it is there already and was left as it is. Choose another name.")
    if path.suffix.lower() == ".json":
        text = json.dumps(EXAMPLE, indent=2) + "\n"
    else:  # a JSON text or list of texts is TOML too
        text = "".join(f"# {_REMARKS[key]}\n{key} = {json.dumps(value)}\n" for key, value in EXAMPLE.items())
        text += _OPTIONAL
    write_atomically(path, text)
    shown = shlex.quote(str(path))
    print(f"{path} is an example: edit it, then")
    print(f"  python main.py --persona {shown}                       prompts are written on its topics")
    print(f"  python main.py --persona {shown} --prompts mine.txt    your own prompts, one a line")
    return 0
