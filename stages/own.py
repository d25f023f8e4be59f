"""A user's own prompts, answers and person, read from files in the place of what models would write.

prompts, notes = read_prompts(Path("mine.txt"))
answers = read_answers([Path("llama.json"), Path("gemma.json")])
persona = read_persona(Path("me.toml"))

Ids of prompts come from their texts: another line costs that line only, and the order of a file changes nothing.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, with_config

from config import DEFAULT_ASKS, Persona
from core.errors import UsageError
from core.files import fingerprint
from core.records import Prompt
from core.tables import BadRows, Rows, each_row, read_rows, refuse_bad_rows, text_in, text_of
from core.text import Names, normal
from llm.answers import without_thinking
from stages.tasks import wrong_fields

FEWEST_PROMPTS = 5  # fewer leave nothing to test on
# columns, and alpaca_eval's words for them
PROMPT, MODEL, RESPONSE = ("prompt", "instruction"), ("model", "generator"), ("response", "output")


def prompt_id(text: str) -> str:
    """The id of a prompt that no model wrote."""
    return f"own-{fingerprint(normal(text))}"


# ── Prompts ──────────────────────────────────────────────────────────────────────────────────────────────


def read_prompts(path: Path) -> tuple[list[Prompt], tuple[str, ...]]:
    """The different prompts of a file, in its order, and what is to be said of it.

    A ``.txt`` has one a line, the others a column ``prompt``. Raises UsageError where they can't be read.
    """
    if path.suffix.lower() == ".txt":
        lines = normal(text_of(path)).split("\n")
        rows: Rows = {number: {"prompt": line} for number, line in enumerate(lines, start=1) if line.strip()}
        bad: BadRows = {}
    else:
        rows, bad = _read(path, PROMPT)
    texts, wrong = each_row(rows, lambda _, row: normal(text_in(row, *PROMPT)))
    refuse_bad_rows(bad | wrong, path, len(rows) + len(bad))
    different = list(dict.fromkeys(texts))
    repeats = len(texts) - len(different)
    notes = (f"{path.name}: {len(different)} prompts; repeats dropped: {repeats}",) if repeats else ()
    return [Prompt(prompt_id(text), text) for text in different], notes


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers that need not be asked for, as the files have them."""

    prompts: tuple[Prompt, ...]
    texts: Mapping[tuple[str, str], str]  # (prompt id, model) → response
    ids: Mapping[str, str]  # where the files have a column ``prompt_id``: theirs → ours
    notes: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Sorted by name."""
        return tuple(sorted({model for _, model in self.texts}))


def read_answers(paths: Sequence[Path], *, skip_bad_rows: bool = False) -> Answers:
    """The answers of one file or several: ``prompt, model, response``, or alpaca_eval's ``instruction, generator,
    output``. The first of two answers of one model to one prompt counts, without thoughts that leaked into it.

    Raises UsageError as ``read_prompts`` does; ``skip_bad_rows`` leaves single wrong rows out.
    """
    prompts, ids, models = dict[str, Prompt](), dict[str, str](), Names()
    answers, counts = dict[tuple[str, str], str](), Counter[str]()
    for path in dict.fromkeys(paths):
        rows, bad = _read(path, PROMPT, MODEL, RESPONSE)
        total = len(rows) + len(bad)
        for number, row in rows.items():
            try:
                text, model = normal(text_in(row, *PROMPT)), models.of(text_in(row, *MODEL))
                response = text_in(row, *RESPONSE, empty=True)  # models do answer nothing
                own = prompt_id(text)
                given = text_in(row, "prompt_id", figures=True, default=own)
                if ids.setdefault(given, own) != own:
                    raise ValueError(f"prompt_id stands for another prompt in an earlier row: {given}")
            except ValueError as error:
                bad[number] = str(error)
                continue
            prompts[own] = Prompt(own, text)
            alone = without_thinking(response)
            thought = alone != response.strip()
            counts["answers whose thoughts at the beginning are not part of them"] += thought
            counts["second answers of a model to the same prompt, left out"] += (own, model) in answers
            answers.setdefault((own, model), alone if thought else response)
        refuse_bad_rows(bad, path, total, skip=skip_bad_rows)
        counts["wrong rows, left out"] += len(bad)
    notes = (*(f"{what}: {count}" for what, count in counts.items() if count), *models.notes)
    return Answers(tuple(prompts.values()), answers, ids, notes)


def _read(path: Path, *wanted: Sequence[str]) -> tuple[Rows, BadRows]:
    """The rows of a file. Raises UsageError naming the ``wanted`` columns that it has under none of their names."""
    rows, bad = read_rows(path)
    there = dict.fromkeys(name for row in rows.values() for name in row)
    lacking = [names[0] for names in wanted if there.keys().isdisjoint(names)]
    if lacking and not bad:
        raise UsageError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(there) or 'none'}.")
    return rows, bad


# ── A person ─────────────────────────────────────────────────────────────────────────────────────────────


_PERSONA = TypeAdapter(with_config(ConfigDict(extra="forbid", str_strip_whitespace=True))(Persona))


def read_persona(path: Path) -> Persona:
    """The person that a ``.toml`` or ``.json`` file describes. Raises UsageError naming the file and the field."""
    text = text_of(path)
    try:
        values = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be read: {error}") from None
    return check_persona(values, str(path))


def check_persona(values: object, source: str) -> Persona:
    """The persona of these fields, with what only the embedded model needs made up where it is missing.

    Raises UsageError naming every field that can't be used.
    """
    try:
        found = _PERSONA.validate_python(values)
        if not (found.title and found.description):
            raise ValueError("title or description is missing")
    except ValueError as error:
        known = ", ".join(field.name for field in fields(Persona))
        raise UsageError(f"{source} can't be used: {wrong_fields(error)}. It may have {known}.") from None
    answerer = found.answerer or f"You are this person: {found.title}. {found.description}"
    return replace(found, answerer=answerer, asks=found.asks or DEFAULT_ASKS)
