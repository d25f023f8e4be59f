"""Human votes: one row a vote, or one row a scored response; every wrong row is named.

votes = load_votes("votes.jsonl")
votes.preferences[0].user, votes.users, votes.skipped
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import UsageError
from core.files import fingerprint
from core.records import Preference, Prompt, Response
from people import exports
from people.export_rows import Export
from people.joining import joined
from people.reading import BadRows, Rows, as_text, read_source
from stages.own import Answers

VOTE_COLUMNS = ("user", "prompt_id", "prompt", "model_a", "response_a", "model_b", "response_b", "outcome")
SCORE_COLUMNS = ("user", "prompt_id", "prompt", "model", "response", "score")
# PRISM's words (Kirk et al. 2024). An interaction is one prompt with its responses; a conversation has several.
ALIASES = {
    "user": ("user_id",), "prompt_id": ("interaction_id", "conversation_id"), "prompt": ("user_prompt",),
    "model": ("model_name",), "response": ("model_response",),
}  # fmt: skip
_SHOWN = 10

Row = Mapping[str, str | None]
"""{column: text as it was written}; None for what is missing or no text."""
Table = dict[int, Row]
"""Rows by their number, with our names for their columns."""


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
    """{row number: why it can't be used}, left out as asked."""
    notes: tuple[str, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)
    """{row number: why}: good rows of an export that are no votes on first answers."""
    personas: tuple[str, ...] = ()
    """Whose responses they are on, where the rows of own votes say so."""


def load_votes(
    source: str, *, skip_bad_rows: bool = False, cache_dir: Path | None = None, answers: Answers | None = None
) -> Votes:
    """Votes from a ``.jsonl``, ``.json``, ``.csv`` or ``.parquet`` file or a hub id ("owner/name" or
    "owner/name:config").

    An export that ``exports`` knows by its columns (Open WebUI's feedback, the Arena's data sets, alpaca_eval's
    annotations). Else either the columns VOTE_COLUMNS (``outcome`` in [0, 1]: 1 means a preferred), or SCORE_COLUMNS: a
    user's scores of the responses to one prompt become one vote for each pair of models, 1, 0 or, where the scores are
    equal, 0.5. Only the order of scores counts, since every person has a scale of their own. With a column ``turn``
    only the first turn is used: later ones answer a conversation that the other models did not see.

    ``answers``: the texts of votes that carry none.
    ``cache_dir`` is where ``datasets`` keeps what it downloads (None: its own place); a file leaves nothing.

    Raises UsageError for what cannot be read and, unless ``skip_bad_rows``, for wrong rows: the first ten and
    how many. MissingError where a hub is needed and out of reach.
    """
    rows, bad = read_source(source, cache_dir)
    notes: tuple[str, ...] = ()
    if answers is not None:
        rows, notes = joined(rows, answers, source)
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    kind = None if set(VOTE_COLUMNS) <= set(columns) else exports.recognize(columns, source)
    if kind is None:
        votes = to_votes(rows, bad, source, skip_bad_rows=skip_bad_rows)
    else:
        votes = _of_export(exports.read(kind, rows), bad, source, skip_bad_rows=skip_bad_rows)
    return dataclasses.replace(votes, notes=(*notes, *votes.notes))


def _of_export(found: Export, unreadable: BadRows, source: str, *, skip_bad_rows: bool) -> Votes:
    """Checked votes of an export. Raises UsageError for wrong rows, and where nothing is left."""
    total = found.rows + len(unreadable)
    bad = dict(sorted({**unreadable, **found.bad}.items()))
    if bad and not (found.votes and skip_bad_rows):
        raise UsageError(_complaint(source, bad, total, usable=bool(found.votes)))
    if not found.votes:
        raise UsageError(_complaint(source, found.left_out, total, usable=False))
    said = [_Said(v.user, fingerprint(v.prompt), v.prompt, v.models, v.responses, v.outcome) for v in found.votes]
    preferences = [Preference(s.prompt_id, s.models[0], s.models[1], s.figure, s.user) for s in said]
    return dataclasses.replace(_votes(said, preferences, bad, found.notes), left_out=found.left_out)


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


def to_votes(rows: Rows, bad: BadRows, source: str, *, skip_bad_rows: bool, keep: str = "first") -> Votes:
    """Checked votes of ``rows``; ``bad`` could not be read. ``keep``: whether the "first" or the "last"
    of two texts that claim to be one response is right. Raises UsageError as ``load_votes`` does."""
    total, notes = len(rows) + len(bad), []
    if not rows:
        raise UsageError(_complaint(source, bad, total, usable=False) if bad else f"{source} has no rows")
    table, layout = _named(rows, source)
    if layout == SCORE_COLUMNS:
        turns = {number: _number(row.get("turn") or "") for number, row in table.items()}
        first = min((turn for turn in turns.values() if not math.isnan(turn)), default=0.0)
        later = {number: "" for number, turn in turns.items() if turn > first}
        table = _without(table, later)
        notes += [f"{len(later)} responses of later turns were left out"] if later else []
    good, wrong = _parsed(table, layout)
    clashes = _clashes(good, keep)
    good = _without(good, clashes)
    bad = dict(sorted({**bad, **wrong, **clashes}.items()))
    if not good or (bad and not skip_bad_rows):
        raise UsageError(_complaint(source, bad, total, usable=bool(good)))
    said = list(good.values())
    own = [table[number] for number in good]
    if both_bad := sum(row.get("both_bad") in ("True", "true") for row in own):
        notes.append(f"{both_bad} of the ties are on two responses that are both bad")
    if layout == VOTE_COLUMNS:
        preferences = [Preference(one.prompt_id, one.models[0], one.models[1], one.figure, one.user) for one in said]
    else:
        preferences = _pairs(said)
    if not preferences:
        raise UsageError(f"{source} has no two responses of different models scored by one user on one prompt")
    found = _votes(said, preferences, bad, tuple(notes))
    return dataclasses.replace(found, personas=tuple(dict.fromkeys(p for row in own if (p := row.get("persona")))))


def _named(rows: Rows, source: str) -> tuple[Table, tuple[str, ...]]:
    """The rows as text with our names for their columns, and which of the two layouts they have."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
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
    named: Table = {number: {ours[n]: as_text(value) for n, value in row.items()} for number, row in rows.items()}
    return named, layout


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


def _complaint(source: str, bad: Mapping[int, str], total: int, *, usable: bool) -> str:
    lines = [f"{source}: {len(bad)} of {total} rows cannot be used:"]
    lines += [f"  row {row}: {reason}" for row, reason in list(bad.items())[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  … and {len(bad) - _SHOWN} more")
    lines.append("Nothing was changed. Correct them" + (", or leave them out: --skip_bad_rows" if usable else ""))
    return "\n".join(lines)
