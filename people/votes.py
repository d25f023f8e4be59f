"""Human votes: one row a vote, or one row a scored response; every wrong row is named.

votes = load_votes("votes.jsonl")
votes.preferences[0].user, votes.users, votes.skipped
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from core import hub
from core.errors import MissingError, UsageError
from core.records import Preference, Prompt, Response
from people.joining import joined
from stages.material import Answers

VOTE_COLUMNS = ("user", "prompt_id", "prompt", "model_a", "response_a", "model_b", "response_b", "outcome")
SCORE_COLUMNS = ("user", "prompt_id", "prompt", "model", "response", "score")
# PRISM's words (Kirk et al. 2024). An interaction is one prompt with its responses; a conversation has several.
ALIASES = {
    "user": ("user_id",), "prompt_id": ("interaction_id", "conversation_id"), "prompt": ("user_prompt",),
    "model": ("model_name",), "response": ("model_response",),
}  # fmt: skip
_HUB_CONFIGS = {"HannahRoseKirk/prism-alignment": "utterances"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_ENDINGS = (".jsonl", ".ndjson", ".csv", ".parquet")
_LONGEST_CELL = 2**31 - 1  # Python's csv stops at 128 KiB unless told otherwise
_SHOWN = 10

Row = Mapping[str, str | None]
"""{column: text as it was written}; None for what is missing or no text."""
Table = dict[int, Row]
"""Rows by their number in the file, from 1; a CSV's header and empty lines are not counted."""
BadRows = dict[int, str]
"""{row number: why the row cannot be used}."""


@dataclass(frozen=True, slots=True)
class Votes:
    """What people said. Everything is in the order in which it first appeared."""

    preferences: tuple[Preference, ...]
    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    """One a (prompt, model): everyone who voted on it read the same text."""
    users: tuple[str, ...]
    models: tuple[str, ...]
    skipped: Mapping[int, str]
    """{row number: why it was left out}."""
    notes: tuple[str, ...] = ()


def load_votes(
    source: str, *, skip_bad_rows: bool = False, cache_dir: Path | None = None, answers: Answers | None = None
) -> Votes:
    """Votes from a ``.jsonl``, ``.csv`` or ``.parquet`` file or a hub id ("owner/name" or "owner/name:config").

    Either the columns VOTE_COLUMNS (``outcome`` in [0, 1]: 1 means a preferred), or SCORE_COLUMNS: a user's
    scores of the responses to one prompt become one vote for each pair of models, 1, 0 or, where the scores are
    equal, 0.5. Only the order of scores counts, since every person has a scale of their own. With a column ``turn``
    only the first turn is used: later ones answer a conversation that the other models did not see.

    ``answers``: the texts of votes that carry none.
    ``cache_dir`` is where ``datasets`` keeps what it downloads (None: its own place); a file leaves nothing.

    Raises UsageError for what cannot be read and, unless ``skip_bad_rows``, for wrong rows: the first ten and
    how many. MissingError where a hub is needed and out of reach.
    """
    path = Path(source)
    is_hub_id = not path.exists() and path.suffix.lower() not in _ENDINGS and _HUB_ID.fullmatch(source)
    table, bad = _read_hub(source, cache_dir) if is_hub_id else _read_file(path)
    notes: tuple[str, ...] = ()
    if answers is not None:
        table, notes = joined(table, answers, source)
    votes = to_votes(table, bad, source, skip_bad_rows=skip_bad_rows)
    return dataclasses.replace(votes, notes=(*notes, *votes.notes))


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────
# Every value is kept as the text that was written: a reader that guesses types makes 82.1 of the prompt 82.10.


def _read_hub(source: str, cache_dir: Path | None) -> tuple[Table, BadRows]:
    if not hub.reachable():
        raise MissingError(
            f"{source} is neither a file here nor to be had from the model hub, which is out of reach. Nothing was "
            "changed. Download it where there is a network and pass the file: --preferences FILE.parquet"
        )
    import datasets

    name, _, config = source.partition(":")
    try:
        with hub.quiet_datasets():
            found = datasets.load_dataset(
                name, config or _HUB_CONFIGS.get(name), cache_dir=str(cache_dir) if cache_dir else None
            )
    except Exception as error:  # the hub's client raises errors of many libraries; each ends the run with its text
        raise UsageError(f"{source} could not be loaded from the hub: {_first_line(error)}") from error
    return _arrow_rows(found["train" if "train" in found else next(iter(found))].data.table), {}


def _read_file(path: Path) -> tuple[Table, BadRows]:
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if not path.is_file():
        raise UsageError(f"{path} is not a file; votes lie in one .jsonl, .csv or .parquet file")
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(f"{path} has an unknown ending; known are {', '.join(_ENDINGS)}")
    try:
        if path.suffix.lower() == ".csv":
            return _read_csv(path)
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet

            return _arrow_rows(pyarrow.parquet.read_table(path)), {}
        return read_lines(path)
    except (ValueError, OSError, NotImplementedError, csv.Error) as error:  # pyarrow's are of the first three
        raise UsageError(f"{path} cannot be read as {path.suffix}: {_first_line(error)}") from error


def read_lines(path: Path) -> tuple[Table, BadRows]:
    """The rows of a JSON Lines file, and the lines that are none."""
    table: Table = {}
    bad: BadRows = {}
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(filter(bytes.strip, lines), start=1):
        try:
            row = json.loads(line.decode("utf-8"), parse_int=str, parse_float=str)
        except (ValueError, RecursionError) as error:
            bad[number] = f"not readable as JSON: {_first_line(error)}"
            continue
        if isinstance(row, dict):
            table[number] = {name: _text(value) for name, value in row.items()}
        else:
            bad[number] = "not readable as JSON: it is no JSON object"
    return table, bad


def _text(value: object) -> str | None:
    """A JSON value as text; None where it is missing or no text (nested, or half a character)."""
    if value is None or isinstance(value, dict | list):
        return None
    text = str(value)
    return None if re.search("[\ud800-\udfff]", text) else sys.intern(text)  # votes repeat prompts and responses


def _read_csv(path: Path) -> tuple[Table, BadRows]:
    csv.field_size_limit(_LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        names = reader.fieldnames or ()
        if len(set(names)) != len(names):
            raise UsageError(f"{path} has a column twice: {', '.join(names)}")
        table: Table = dict(enumerate(reader, start=1))
    bad = {number: "it has more cells than the header" for number, row in table.items() if None in row}
    return _without(table, bad), bad


def _arrow_rows(table: Any) -> Table:
    """The rows of an Arrow table without its nested columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {n: table[n] for n in table.column_names if not pa.types.is_nested(table.schema.field(n).type)}
    texts = pa.table({name: pc.cast(column, pa.large_string()) for name, column in columns.items()})
    return dict(enumerate(texts.to_pylist(), start=1))


def _first_line(error: BaseException) -> str:
    """The first line of the innermost cause: ``datasets`` wraps what a parser said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


# ── Checking ─────────────────────────────────────────────────────────────────────────────────────────────


class _Said(NamedTuple):
    """A good row of either layout."""

    user: str
    prompt_id: str
    prompt: str
    models: tuple[str, ...]
    """Two of a vote, a first; one of a score."""
    responses: tuple[str, ...]
    """Theirs."""
    figure: float
    """Outcome or score."""

    def claims(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What this row says that a prompt, by its id, and a response, by prompt and model, are."""
        yield (self.prompt_id,), self.prompt
        for model, response in zip(self.models, self.responses, strict=True):
            yield (self.prompt_id, model), response


def to_votes(table: Table, bad: BadRows, source: str, *, skip_bad_rows: bool, keep: str = "first") -> Votes:
    """Checked votes of the rows in ``table``; ``bad`` could not be read. ``keep``: whether the "first" or the "last"
    of two texts that claim to be one response is right. Raises UsageError as ``load_votes`` does."""
    total, notes = len(table) + len(bad), []
    if not table:
        raise UsageError(_complaint(source, bad, total, usable=False) if bad else f"{source} has no rows")
    table, layout = _named(table, source)
    if layout == SCORE_COLUMNS:
        turns = {number: _number(row.get("turn") or "") for number, row in table.items()}
        first = min((turn for turn in turns.values() if not math.isnan(turn)), default=0.0)
        later = {number: "" for number, turn in turns.items() if turn > first}
        table = _without(table, later)
        notes += [f"{len(later)} responses of later turns were left out"] if later else []
    rows, wrong = _parsed(table, layout)
    clashes = _clashes(rows, keep)
    rows = _without(rows, clashes)
    bad = dict(sorted({**bad, **wrong, **clashes}.items()))
    if not rows or (bad and not skip_bad_rows):
        raise UsageError(_complaint(source, bad, total, usable=bool(rows)))
    said = list(rows.values())
    if layout == VOTE_COLUMNS:
        preferences = [Preference(one.prompt_id, one.models[0], one.models[1], one.figure, one.user) for one in said]
    else:
        preferences = _pairs(said)
    if not preferences:
        raise UsageError(f"{source} has no two responses of different models scored by one user on one prompt")
    return _votes(said, preferences, bad, tuple(notes))


def _named(table: Table, source: str) -> tuple[Table, tuple[str, ...]]:
    """The rows with our names for their columns, and which of the two layouts they have."""
    columns = list(dict.fromkeys(name for row in table.values() for name in row))
    ours = {name: name for name in columns}
    for name, others in ALIASES.items():
        theirs = next((other for other in others if other in columns), None)
        if name not in columns and theirs is not None:
            ours[theirs] = name
    lacking = {layout: [c for c in layout if c not in ours.values()] for layout in (VOTE_COLUMNS, SCORE_COLUMNS)}
    layout = min(lacking, key=lambda kind: len(lacking[kind]))
    if lacking[layout]:
        raise UsageError(
            f"{source} lacks the columns {', '.join(lacking[layout])}; it has {', '.join(ours.values())}. "
            f"Votes need {', '.join(VOTE_COLUMNS)}; scores need {', '.join(SCORE_COLUMNS)}"
        )
    return {number: {ours[name]: text for name, text in row.items()} for number, row in table.items()}, layout


def _parsed(table: Table, layout: tuple[str, ...]) -> tuple[dict[int, _Said], BadRows]:
    """Good rows, and why the others are not."""
    good: dict[int, _Said] = {}
    bad: BadRows = {}
    scored: set[tuple[str, str, str]] = set()
    for number, row in table.items():
        try:
            good[number] = _parse(row, layout, scored)
        except ValueError as error:
            bad[number] = str(error)
    return good, bad


def _parse(row: Row, layout: tuple[str, ...], scored: set[tuple[str, str, str]]) -> _Said:
    """Raises ValueError with the reason why a row cannot be used. ``scored``: (user, prompt, model) of each score so
    far; the row's own is added."""
    values = {name: row.get(name) or "" for name in layout}
    for name in layout:  # an empty response is one: models do answer nothing, and people vote on it
        if row.get(name) is None or not (name.startswith("response") or values[name].strip()):
            raise ValueError(f"{name} is missing")
    user, prompt_id, prompt, *sides, written = values.values()
    models, figure = sides[::2], _number(written)
    if layout == VOTE_COLUMNS:
        if not 0.0 <= figure <= 1.0:
            raise ValueError(f"outcome {written:.40} is no number in [0, 1]")
        if models[0] == models[1]:
            raise ValueError(f"{models[0]} is on both sides")
    else:
        if not math.isfinite(figure):
            raise ValueError(f"score {written:.40} is no number")
        if (user, prompt_id, models[0]) in scored:
            raise ValueError(f"this user scored {models[0]} on this prompt before")
        scored.add((user, prompt_id, models[0]))
    return _Said(user, prompt_id, prompt, tuple(models), tuple(sides[1::2]), figure)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _clashes(rows: Mapping[int, _Said], keep: str) -> BadRows:
    """A prompt_id with another prompt, and a model with another response to it, than in the ``keep`` row."""
    right: dict[tuple[str, ...], str] = {}
    for said in list(rows.values())[:: 1 if keep == "first" else -1]:
        for key, text in said.claims():
            right.setdefault(key, text)
    found: BadRows = {}
    for number, said in rows.items():
        wrong = [key for key, text in said.claims() if right[key] != text]
        if wrong:
            prompt_id, *model = wrong[0]
            answer = f"{model[0]} answers prompt {prompt_id} with another text" if model else ""
            what = answer or f"prompt_id {prompt_id} stands for another prompt"
            found[number] = f"{what} in the {keep} row with it; one text each"
    return found


def _pairs(scores: list[_Said]) -> list[Preference]:
    """A vote for every two responses that one user scored on one prompt, in the order of the rows."""
    cells: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, score in enumerate(scores):
        cells[score.user, score.prompt_id].append(row)
    found = []
    for i, j in sorted(pair for cell in cells.values() for pair in combinations(cell, 2)):
        a, b = scores[i], scores[j]
        outcome = 0.5 if a.figure == b.figure else float(a.figure > b.figure)
        found.append(Preference(a.prompt_id, a.models[0], b.models[0], outcome, a.user))
    return found


def _votes(said: list[_Said], preferences: list[Preference], bad: BadRows, notes: tuple[str, ...]) -> Votes:
    voted = {p.prompt_id for p in preferences}
    used = [one for one in said if one.prompt_id in voted]
    prompts = {one.prompt_id: one.prompt for one in used}
    responses = {(one.prompt_id, m): text for one in used for m, text in zip(one.models, one.responses, strict=True)}
    return Votes(
        preferences=tuple(preferences),
        prompts=tuple(Prompt(*prompt) for prompt in prompts.items()),
        responses=tuple(Response(prompt_id, model, text) for (prompt_id, model), text in responses.items()),
        users=tuple(dict.fromkeys(p.user for p in preferences)),
        models=tuple(dict.fromkeys(model for _, model in responses)),
        skipped=bad,
        notes=notes,
    )


def _without(rows: Mapping[int, Any], bad: BadRows) -> dict[int, Any]:
    return {number: row for number, row in rows.items() if number not in bad}


def _complaint(source: str, bad: BadRows, total: int, *, usable: bool) -> str:
    lines = [f"{source}: {len(bad)} of {total} rows cannot be used:"]
    lines += [f"  row {row}: {reason}" for row, reason in list(bad.items())[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  … and {len(bad) - _SHOWN} more")
    lines.append("Nothing was changed. Correct them" + (", or leave them out: --skip_bad_rows" if usable else ""))
    return "\n".join(lines)
