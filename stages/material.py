"""What a user brings in the place of what models would write: prompts of their own, answers that are there already.

prompts, notes = read_prompts(Path("mine.txt"))
answers = read_answers([Path("llama.json"), Path("gemma.json")])

Ids come from the texts: another line costs that line only, and the order of a file changes nothing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UsageError
from core.files import fingerprint, read
from core.records import Prompt, Response

PROMPT_ENDINGS = (".txt", ".jsonl", ".csv")
ANSWER_ENDINGS = (".jsonl", ".json", ".csv")
FEWEST_PROMPTS = 5  # fewer leave nothing to test on
SHOWN = 10  # wrong rows that are named, and how many more there are
_LONGEST_CELL = 2**31 - 1  # Python's csv stops at 128 KiB unless told otherwise
# alpaca_eval's words
ALIASES = {"prompt": "instruction", "model": "generator", "response": "output"}

Rows = Mapping[int, Mapping[str, Any]]
"""Rows by their number in the file, from 1; a CSV's header and empty lines are not counted."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers that need not be asked for, as the files have them."""

    prompts: tuple[Prompt, ...]
    texts: Mapping[tuple[str, str], str]
    """(prompt id, model) → response."""
    ids: Mapping[str, str]
    """Where the files have a column ``prompt_id``: theirs → ours."""
    notes: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Whose answers they are, by name."""
        return tuple(sorted({model for _, model in self.texts}))

    def complete(self, models: Collection[str]) -> list[Prompt]:
        """The prompts that all ``models`` answered."""
        return [p for p in self.prompts if all((p.id, model) in self.texts for model in models)]

    def responses(self, prompts: Iterable[Prompt], models: Iterable[str]) -> tuple[Response, ...]:
        """The records of these models' responses to these prompts."""
        return tuple(Response(p.id, model, self.texts[p.id, model]) for model in models for p in prompts)


def prompt_id(text: str) -> str:
    """The id of a prompt that no model wrote."""
    return f"own-{fingerprint(text.strip())}"


# ── Prompts and answers ──────────────────────────────────────────────────────────────────────────────────


def read_prompts(path: Path) -> tuple[list[Prompt], tuple[str, ...]]:
    """The different prompts of a file, in its order, and what is to be said of it.

    A ``.txt`` has one a line, the others a column ``prompt``. Raises UsageError where it can't be read, a row is wrong,
    or fewer than five are left.
    """
    if path.suffix.lower() == ".txt":
        lines = re.split(r"\r\n|\r|\n", _text_of(path))
        rows: Rows = {number: {"prompt": line} for number, line in enumerate(lines, start=1) if line.strip()}
    else:
        rows = read_rows(path, PROMPT_ENDINGS)
    texts, wrong = [], {}
    for number, row in rows.items():
        try:
            texts.append(_value(row, "prompt"))
        except ValueError as error:
            wrong[number] = str(error)
    _require_good(path, wrong, rows)
    different = list(dict.fromkeys(texts))
    repeats = len(texts) - len(different)
    if len(different) < FEWEST_PROMPTS:
        raise UsageError(
            f"{path} holds {len(different)} different prompts; at least {FEWEST_PROMPTS} are needed, for fewer leave "
            "nothing to test on. Nothing was asked. Add some and run again."
        )
    notes = (f"{path.name}: {len(different)} prompts; repeats dropped: {repeats}",) if repeats else ()
    return [Prompt(prompt_id(text), text) for text in different], notes


def read_answers(paths: Sequence[Path]) -> Answers:
    """The answers of one file or several: ``prompt, model, response``, or alpaca_eval's ``instruction, generator,
    output``. The first of two answers of one model to one prompt counts. Raises UsageError as ``read_prompts`` does."""
    texts: dict[str, str] = {}  # prompt id → prompt
    answers: dict[tuple[str, str], str] = {}
    ids: dict[str, str] = {}
    repeats = 0
    for path in dict.fromkeys(paths):
        rows, wrong = read_rows(path, ANSWER_ENDINGS), {}
        for number, row in rows.items():
            try:
                text, model, answer = _value(row, "prompt"), _value(row, "model"), _value(row, "response", blank=True)
                own = prompt_id(text)
                given = str(row.get("prompt_id") or own)
                if ids.setdefault(given, own) != own:
                    raise ValueError(f"prompt_id {given} stands for another prompt in an earlier row")
            except ValueError as error:
                wrong[number] = str(error)
                continue
            texts[own] = text
            repeats += (own, model) in answers
            answers.setdefault((own, model), answer)
        _require_good(path, wrong, rows)
    notes = (f"second answers of a model to the same prompt, left out: {repeats}",) if repeats else ()
    return Answers(tuple(Prompt(*prompt) for prompt in texts.items()), answers, ids, notes)


def _value(row: Mapping[str, Any], name: str, *, blank: bool = False) -> str:
    """A row's text. Raises ValueError with the reason where it is none. ``blank``: it is taken as it stands and may be
    empty, for models do answer nothing; else without white space around it."""
    value = row.get(name, row.get(ALIASES[name]))
    if value is None or (value == "" and not blank):
        raise ValueError(f"{name} is missing")
    if not isinstance(value, str) or re.search("[\ud800-\udfff]", value):
        raise ValueError(f"{name} is no text")
    if blank:
        return value
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return value.strip()


def _require_good(path: Path, wrong: Mapping[int, str], rows: Rows) -> None:
    """Raises UsageError that names the wrong rows, or the column that none has."""
    total, columns = len(rows), dict.fromkeys(str(name) for row in rows.values() for name in row)
    if not total:
        raise UsageError(f"{path} is empty.")
    if len(wrong) == total and len(set(wrong.values())) == 1:
        raise UsageError(f"{path}: {next(iter(wrong.values()))} in every row; its columns are {', '.join(columns)}.")
    if wrong:
        lines = [f"{path}: {len(wrong)} of {total} rows cannot be used:"]
        lines += [f"  row {number}: {reason}" for number, reason in list(wrong.items())[:SHOWN]]
        lines += [f"  … and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise UsageError("\n".join([*lines, "Nothing was asked. Correct them and run again."]))


# ── Rows of a file ───────────────────────────────────────────────────────────────────────────────────────


def read_rows(path: Path, endings: Sequence[str]) -> Rows:
    """The rows of a ``.jsonl``, ``.json`` (an array) or ``.csv`` file. Raises UsageError where it can't be read."""
    kind = path.suffix.lower()
    if kind not in endings:
        raise UsageError(f"{path} has an unknown ending; known are {', '.join(endings)}")
    text = _text_of(path)
    try:
        if kind == ".csv":
            return _csv_rows(path, text)
        found = json.loads(text) if kind == ".json" else _lines_of_json(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} can't be read as {kind}: {error}") from None
    if not isinstance(found, list):
        raise UsageError(f"{path} is no JSON array of objects.")
    if odd := [number for number, row in enumerate(found, start=1) if not isinstance(row, dict)]:
        raise UsageError(f"{path}: row {odd[0]} is no JSON object.")
    return dict(enumerate(found, start=1))


def _lines_of_json(text: str) -> list[Any]:
    found: list[Any] = []
    for line in filter(str.strip, text.split("\n")):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"row {len(found) + 1}: {error}") from None
    return found


def _csv_rows(path: Path, text: str) -> Rows:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        rows = dict(enumerate(csv.DictReader(io.StringIO(text, newline=""), strict=True), start=1))
    except csv.Error as error:
        raise UsageError(f"{path} can't be read as .csv: {error}") from None
    if odd := [number for number, row in rows.items() if None in row]:
        raise UsageError(f"{path}: row {odd[0]} has more cells than the header. Put texts with commas in quotes.")
    return rows


def _text_of(path: Path) -> str:
    data = read(path) if not path.is_dir() else b""
    if data is None:
        raise UsageError(f"{path} does not exist.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a file.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8.") from None
