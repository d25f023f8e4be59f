"""Human votes: one row a vote, or one row a scored response; every wrong row is named.

votes = load_votes("votes.jsonl")
votes.preferences[0].user, votes.users, votes.skipped
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import config
from core import hub
from core.errors import MissingError, UsageError
from core.files import fingerprint, move
from core.records import Preference, Prompt, Response
from core.tables import ENDINGS, BadRows, Rows, arrow_rows, as_text, columns_of, first_line, read_rows, refuse_bad_rows
from core.text import plain
from people import exports
from people.export_rows import figure_of
from stages.own import Answers, prompt_id

VOTE_COLUMNS = ("user", "prompt_id", "prompt", "model_a", "response_a", "model_b", "response_b", "outcome")
SCORE_COLUMNS = ("user", "prompt_id", "prompt", "model", "response", "score")
# PRISM's words (Kirk et al. 2024). An interaction is one prompt with its responses; a conversation has several.
ALIASES = {
    "user": ("user_id",), "prompt_id": ("interaction_id", "conversation_id"), "prompt": ("user_prompt",),
    "model": ("model_name",), "response": ("model_response",),
}  # fmt: skip
USER = "me"  # the name under which own votes are kept

Table = dict[int, Mapping[str, str | None]]
"""Rows by their number, as texts with our names for their columns; None for what is missing or no text."""


@dataclass(frozen=True, slots=True)
class Votes:
    """Preferences of people, and what they are on. Everything is in the order in which it first appeared."""

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


class Said(NamedTuple):
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

    def claims(self) -> Iterator[tuple[tuple[str, str], str]]:
        """The text of the prompt, by its id and no model, and of each response, by prompt and model."""
        yield (self.prompt_id, ""), self.prompt
        for model, response in zip(self.models, self.responses, strict=True):
            yield (self.prompt_id, model), response

    def preference(self) -> Preference:
        """The vote as a record."""
        return Preference(self.prompt_id, self.models[0], self.models[1], self.figure, self.user)


def load_votes(
    source: str, *, skip_bad_rows: bool = False, cache_dir: Path | None = None, answers: Answers | None = None
) -> Votes:
    """Votes from a ``.jsonl``, ``.json``, ``.csv`` or ``.parquet`` file or a hub id ("owner/name" or
    "owner/name:config").

    An export that ``exports`` knows by its columns, or VOTE_COLUMNS (``outcome`` in [0, 1]: 1 means a preferred), or
    SCORE_COLUMNS: a user's scores of the responses to one prompt become one vote for each pair of models, 1, 0 or,
    where the scores are equal, 0.5. Only the order of scores counts, since every person has a scale of their own. With
    a column ``turn`` only the first turn is used: later ones answer a conversation that the other models did not see.

    ``answers``: the texts of votes that carry none. ``cache_dir``: where ``datasets`` keeps what it downloads.

    Raises UsageError for what cannot be read and, unless ``skip_bad_rows``, for wrong rows; MissingError where a hub is
    needed and out of reach.
    """
    path = Path(source)
    is_hub_id = not path.exists() and path.suffix.lower() not in ENDINGS and _HUB_ID.fullmatch(source)
    rows, bad = (_hub_rows(source, cache_dir), {}) if is_hub_id else read_rows(path)
    columns = columns_of(rows)
    kind = None if set(VOTE_COLUMNS) <= set(columns) else exports.recognize(columns, source)
    if kind is None:
        return _of_rows(rows, bad, source, skip_bad_rows, answers)
    if answers is not None:
        raise UsageError(_HAVE_TEXTS.format(source))
    found = exports.read_export(kind, rows)
    bad, total = dict(sorted({**bad, **found.bad}.items())), len(rows) + len(bad)
    refuse_bad_rows(bad, source, total, skip=skip_bad_rows if found.votes else None)
    if not found.votes:
        refuse_bad_rows(found.left_out, source, total)
    said = [Said(v.user, fingerprint(v.prompt), v.prompt, v.models, v.responses, v.outcome) for v in found.votes]
    return _votes(said, [one.preference() for one in said], bad, found.notes, left_out=found.left_out)


def _of_rows(rows: Rows, bad: BadRows, source: str, skip_bad_rows: bool, answers: Answers | None) -> Votes:
    """Checked votes of rows in either layout; ``bad`` could not be read."""
    if not rows:
        refuse_bad_rows(bad, source, len(bad))
        raise UsageError(f"{source} has no rows")
    table, notes = _named(rows), list[str]()
    if answers is not None:
        table, notes = _joined(table, answers, source)
    total, layout = len(table) + len(bad), _layout(table, source)
    if layout == SCORE_COLUMNS:
        turns = {number: figure_of(row.get("turn")) for number, row in table.items()}
        first = min((turn for turn in turns.values() if not math.isnan(turn)), default=0.0)
        later = {number for number, turn in turns.items() if turn > first}
        table = {number: row for number, row in table.items() if number not in later}
        notes += [f"{len(later)} responses of later turns were left out"] if later else []
    good, wrong = _checked(table, layout)
    bad = dict(sorted({**bad, **wrong}.items()))
    refuse_bad_rows(bad, source, total, skip=skip_bad_rows if good else None)
    said, own = list(good.values()), [table[number] for number in good]
    if both_bad := sum(row.get("both_bad") in ("True", "true") for row in own):
        notes.append(f"{both_bad} of the ties are on two responses that are both bad")
    preferences = _pairs(said) if layout == SCORE_COLUMNS else [one.preference() for one in said]
    if not preferences:
        raise UsageError(f"{source} has no two responses of different models scored by one user on one prompt")
    personas = tuple(dict.fromkeys(persona for row in own if (persona := row.get("persona"))))
    return _votes(said, preferences, bad, notes, personas=personas)


def _votes(
    said: Sequence[Said],
    preferences: Sequence[Preference],
    bad: BadRows,
    notes: Sequence[str],
    left_out: Mapping[int, str] | None = None,
    personas: tuple[str, ...] = (),
) -> Votes:
    voted = {p.prompt_id for p in preferences}
    texts = {key: text for one in said if one.prompt_id in voted for key, text in one.claims()}
    return Votes(
        preferences=tuple(preferences),
        prompts=tuple(Prompt(prompt, text) for (prompt, model), text in texts.items() if not model),
        responses=tuple(Response(*key, text) for key, text in texts.items() if key[1]),
        users=tuple(dict.fromkeys(p.user for p in preferences)),
        models=tuple(dict.fromkeys(model for _, model in texts if model)),
        skipped=bad,
        notes=tuple(notes),
        left_out=left_out or {},
        personas=personas,
    )


# ── A hub's data sets ────────────────────────────────────────────────────────────────────────────────────

_HUB_CONFIGS = {"HannahRoseKirk/prism-alignment": "utterances"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def _hub_rows(source: str, cache_dir: Path | None) -> Rows:
    if not hub.reachable():
        raise MissingError(
            f"{source} is neither a file here nor to be had from the model hub, which is out of reach. Nothing was "
            "changed. Download it where there is a network and pass the file: --preferences FILE.parquet"
        )
    import datasets

    name, _, part = source.partition(":")
    try:
        with hub.quiet_datasets():
            folder = str(cache_dir) if cache_dir else None
            found = datasets.load_dataset(name, part or _HUB_CONFIGS.get(name), cache_dir=folder)
    except Exception as error:  # the hub's client raises errors of many libraries; each ends the run with its text
        raise UsageError(f"{source} could not be loaded from the hub: {first_line(error)}") from error
    return arrow_rows(found["train" if "train" in found else next(iter(found))].data.table)


# ── Checking ─────────────────────────────────────────────────────────────────────────────────────────────


def _named(rows: Rows) -> Table:
    """The rows as text with our names for their columns."""
    columns = columns_of(rows)
    ours = {name: name for name in columns}
    for name, others in ALIASES.items():
        theirs = next((other for other in others if other in columns), None)
        if name not in columns and theirs is not None:
            ours[theirs] = name
    return {number: {ours[str(n)]: as_text(value) for n, value in row.items()} for number, row in rows.items()}


def _layout(table: Table, source: str) -> tuple[str, ...]:
    """VOTE_COLUMNS or SCORE_COLUMNS. Raises UsageError where columns are lacking."""
    columns = columns_of(table)
    lacking = {layout: [c for c in layout if c not in columns] for layout in (VOTE_COLUMNS, SCORE_COLUMNS)}
    layout = min(lacking, key=lambda kind: len(lacking[kind]))
    if lacking[layout]:
        raise UsageError(
            f"{source} lacks the columns {', '.join(lacking[layout])}; it has {', '.join(columns)}. "
            f"Votes need {', '.join(VOTE_COLUMNS)}; scores need {', '.join(SCORE_COLUMNS)}"
        )
    return layout


def _checked(table: Table, layout: tuple[str, ...]) -> tuple[dict[int, Said], BadRows]:
    """Good rows, and why the others are none: a prompt and a response have the text of the first row with them."""
    good: dict[int, Said] = {}
    bad: BadRows = {}
    scored: set[tuple[str, str, str]] = set()
    texts: dict[tuple[str, str], str] = {}
    for number, row in table.items():
        try:
            said = _parse(row, layout)
            if layout == SCORE_COLUMNS:
                score = said.user, said.prompt_id, said.models[0]
                if score in scored:
                    raise ValueError(f"this user scored {said.models[0]} on this prompt before")
                scored.add(score)
            if clashes := [key for key, text in said.claims() if texts.setdefault(key, text) != text]:
                prompt, model = clashes[0]
                other = f"{model} answers prompt {prompt} with another text"
                other = other if model else f"prompt_id {prompt} stands for another prompt"
                raise ValueError(f"{other} in the first row with it; one text each")
            good[number] = said
        except ValueError as error:
            bad[number] = str(error)
    return good, bad


def _parse(row: Mapping[str, str | None], layout: tuple[str, ...]) -> Said:
    """Raises ValueError with the reason why a row cannot be used."""
    for name in layout:  # an empty response is one: models do answer nothing, and people vote on it
        if row.get(name) is None or not (name.startswith("response") or (row[name] or "").strip()):
            raise ValueError(f"{name} is missing")
    user, prompt_id, prompt, *sides, written = (row[name] or "" for name in layout)
    models, figure = tuple(sides[::2]), figure_of(written)
    if layout == VOTE_COLUMNS and not 0.0 <= figure <= 1.0:
        raise ValueError(f"outcome {written:.40} is no number in [0, 1]")
    if not math.isfinite(figure):
        raise ValueError(f"score {written:.40} is no number")
    if len(set(models)) < len(models):
        raise ValueError(f"{models[0]} is on both sides")
    return Said(user, prompt_id, prompt, models, tuple(sides[1::2]), figure)


def _pairs(scores: Sequence[Said]) -> list[Preference]:
    """A vote for every two responses that one user scored on one prompt, in the order of the rows."""
    cells: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, score in enumerate(scores):
        cells[score.user, score.prompt_id].append(row)
    twos = sorted(pair for cell in cells.values() for pair in combinations(cell, 2))
    return [
        Preference(
            a.prompt_id, a.models[0], b.models[0], 0.5 * ((a.figure > b.figure) + (a.figure >= b.figure)), a.user
        )
        for a, b in ((scores[i], scores[j]) for i, j in twos)
    ]


# ── Votes without texts ──────────────────────────────────────────────────────────────────────────────────

_HAVE_TEXTS = "--responses: the votes in {} have their texts already. Leave --responses out."


def _joined(table: Table, answers: Answers, source: str) -> tuple[Table, list[str]]:
    """The rows with prompt and responses from ``answers``, by the prompt's text or else its id, and how many were left
    out because a text is in none of them.

    Raises UsageError where the votes have their texts, or none finds its own.
    """
    asked = {prompt.id: prompt.text for prompt in answers.prompts}
    found: Table = {}
    without, strange, bare = set[str](), set[str](), 0
    for number, row in table.items():
        models = {side.replace("model", "response"): row.get(side) for side in ("model", "model_a", "model_b")}
        missing = {text: model for text, model in models.items() if model and row.get(text) is None}
        prompt, given = row.get("prompt"), row.get("prompt_id")
        if not missing or not (prompt or given):  # whole already, or wrong: it is named with the other wrong rows
            found[number] = row
            continue
        bare += 1
        own = prompt_id(prompt) if prompt else answers.ids.get(given or "", "")
        texts = {text: answers.texts.get((own, model)) for text, model in missing.items()}
        if None in texts.values():
            without.add(prompt or given or "")
            strange |= {model for model in models.values() if model} - set(answers.models)
        else:
            found[number] = {**row, **texts, "prompt_id": own, "prompt": asked[own]}
    if not bare:
        raise UsageError(_HAVE_TEXTS.format(source))
    if not found:
        those = f"; they have no {', '.join(sorted(strange))}" if strange else ""
        raise UsageError(
            f"None of the {bare} votes in {source} finds its texts in --responses, by prompt and model{those}. "
            "Nothing was changed. Prompts are compared by their whole text, or by prompt_id where votes have no prompt."
        )
    left = len(table) - len(found)
    note = f"votes whose texts are in no file of --responses, left out: {left}, on {len(without)} prompts"
    return found, [note] if left else []


# ── Own votes ────────────────────────────────────────────────────────────────────────────────────────────


def own_votes_file(name: str, cache_dir: Path) -> Path:
    """Where the own votes of a persona lie. Those that an earlier version kept in the cache are moved there."""
    path, old = (folder / config.VOTES_FILE.format(name=name) for folder in (config.VOTES_DIR, cache_dir))
    if old.exists() and not path.exists():
        move(old, path)
        print(plain(f"Your votes in {old} are now in {path}: the cache may be deleted, your votes may not."))
    return path


def read_own_votes(path: Path) -> list[Said]:
    """All votes that sessions have kept in a file; lines that do not parse (a torn last one) are left out.

    Raises UsageError for a file of other things."""
    rows, bad = read_rows(path) if path.exists() else ({}, {})
    found = []
    for number, row in _named(rows).items():
        try:
            found.append(_parse(row, VOTE_COLUMNS))
        except ValueError as error:
            bad[number] = str(error)
    if len(bad) > 1:
        refuse_bad_rows(bad, path, len(bad) + len(found), skip=True)
    return found


def on_these(votes: Iterable[Said], prompts: Iterable[Prompt], responses: Iterable[Response]) -> list[Preference]:
    """The votes on just these texts: not those on what other models, seeds or backends answered under the same ids."""
    texts = {(prompt.id, ""): prompt.text for prompt in prompts}
    texts |= {(response.prompt_id, response.model): response.text for response in responses}
    return [vote.preference() for vote in votes if all(texts.get(key) == text for key, text in vote.claims())]
