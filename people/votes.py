"""Human votes: one row a vote, or one row a scored response; every wrong row is named.

votes = load_votes("votes.jsonl")
votes.preferences[0].user, votes.users, votes.skipped
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UsageError
from core.records import Preference, Prompt, Response
from people.vote_files import ALIASES, SCORE_COLUMNS, VOTE_COLUMNS, BadRow, read_table

__all__ = ["SCORE_COLUMNS", "VOTE_COLUMNS", "BadRow", "Votes", "load_votes", "to_votes"]

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Votes:
    """What people said. Everything is in the order in which it first appeared."""

    preferences: tuple[Preference, ...]
    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    """One a (prompt, model): everyone who voted on it read the same text."""
    users: tuple[str, ...]
    models: tuple[str, ...]
    categories: Mapping[str, str]
    """Category of each prompt that has one."""
    skipped: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()


def load_votes(source: str, *, skip_bad_rows: bool = False, cache_dir: Path | None = None) -> Votes:
    """Votes from a ``.jsonl``, ``.csv`` or ``.parquet`` file or a hub id ("owner/name" or "owner/name:config").

    Either the columns VOTE_COLUMNS (``outcome`` in [0, 1]: 1 means a preferred), or SCORE_COLUMNS: a user's
    scores of the responses to one prompt become one vote for each pair of models, 1, 0 or, where the scores are
    equal, 0.5. Only the order of scores counts, since every person has a scale of their own. An optional column
    ``category`` is kept; with a column ``turn`` only the first turn is used, later ones answer a conversation
    that the other models did not see.

    ``cache_dir`` is where ``datasets`` keeps what it downloads (None: its own place); a file leaves nothing.

    Raises UsageError for what cannot be read and, unless ``skip_bad_rows``, for wrong rows: the first ten and
    how many. MissingError where a hub is needed and out of reach.
    """
    table, bad = read_table(source, cache_dir)
    return to_votes(table, bad, source, skip_bad_rows=skip_bad_rows)


# ── Checking ─────────────────────────────────────────────────────────────────────────────────────────────


def to_votes(table: Any, bad: list[BadRow], source: str, *, skip_bad_rows: bool, keep: str = "first") -> Votes:
    """Checked votes of a frame of text columns. ``keep``: whether the "first" or the "last" of two texts that
    claim to be one response is right."""
    table, kind = _named(table, bad, source)
    notes: tuple[str, ...] = ()
    total = len(table) + len(bad)
    if kind == SCORE_COLUMNS:
        table, notes = _first_turn(table)
    bad = [*bad, *_wrong_values(table, kind)]
    table = _without(table, bad)
    clashes = _wrong_texts(table, kind, keep)
    bad = sorted([*bad, *clashes])
    table = _without(table, clashes)
    if table.empty or (bad and not skip_bad_rows):
        raise UsageError(_complaint(source, bad, total, usable=not table.empty))
    responses = _stacked(table, kind).drop_duplicates(["prompt_id", "model"])
    pairs = table if kind == VOTE_COLUMNS else _pairs(table)
    if len(pairs) == 0:
        raise UsageError(f"{source} has no two responses of different models scored by one user on one prompt")
    return _records(table, pairs, responses, tuple(bad), notes)


def _named(table: Any, bad: list[BadRow], source: str) -> tuple[Any, tuple[str, ...]]:
    """The frame with our column names, and which of the two layouts it has."""
    if len(table) == 0:
        raise UsageError(_complaint(source, bad, len(bad), usable=False) if bad else f"{source} has no rows")
    for name, others in ALIASES.items():
        other = next((o for o in others if o in table.columns), None)
        if name not in table.columns and other is not None:
            table = table.rename(columns={other: name})
    lacking = {kind: [c for c in kind if c not in table.columns] for kind in (VOTE_COLUMNS, SCORE_COLUMNS)}
    kind = min(lacking, key=lambda k: len(lacking[k]))
    if lacking[kind]:
        raise UsageError(
            f"{source} lacks the columns {', '.join(lacking[kind])}; it has {', '.join(map(str, table.columns))}. "
            f"Votes need {', '.join(VOTE_COLUMNS)}; scores need {', '.join(SCORE_COLUMNS)}"
        )
    return table, kind


def _first_turn(table: Any) -> tuple[Any, tuple[str, ...]]:
    import pandas as pd

    if "turn" not in table.columns:
        return table, ()
    turn = pd.to_numeric(table["turn"], errors="coerce")
    first = table[turn.eq(turn.min()) | turn.isna()]
    left_out = len(table) - len(first)
    return first, (f"{left_out} responses of later turns were left out",) if left_out else ()


def _wrong_values(table: Any, kind: tuple[str, ...]) -> list[BadRow]:
    """Missing values, figures that are none, one model on both sides: the first reason of each row."""
    import numpy as np
    import pandas as pd

    found: dict[int, str] = {}

    def mark(wrong: Any, reason: Callable[[int], str]) -> None:
        for row in table.index[wrong.to_numpy(dtype=bool)]:
            found.setdefault(int(row), reason(row))

    for name in kind:  # an empty response is one: models do answer nothing, and people vote on it
        blank = table[name].str.strip().eq("") & (not name.startswith("response"))
        mark(table[name].isna() | blank, lambda _, name=name: f"{name} is missing")  # type: ignore[misc]
    figure = kind[-1]
    number = pd.to_numeric(table[figure], errors="coerce")
    if kind == VOTE_COLUMNS:
        mark(~number.between(0, 1), lambda row: f"outcome {table.at[row, figure]!s:.40} is no number in [0, 1]")
        mark(table["model_a"].eq(table["model_b"]), lambda row: f"{table.at[row, 'model_a']} is on both sides")
    else:
        mark(~np.isfinite(number), lambda row: f"score {table.at[row, figure]!s:.40} is no number")
        twice = table.duplicated(["user", "prompt_id", "model"])
        mark(twice, lambda row: f"this user scored {table.at[row, 'model']} on this prompt before")
    return [BadRow(row, reason) for row, reason in found.items()]


def _wrong_texts(table: Any, kind: tuple[str, ...], keep: str) -> list[BadRow]:
    """A prompt_id with another prompt, and a model with another response to it, than in the ``keep`` row."""
    found: dict[int, str] = {}
    for row in table.index[_differs(table, ["prompt_id"], "prompt", keep)]:
        found[int(row)] = f"prompt_id {table.at[row, 'prompt_id']} stands for another prompt in the {keep} row with it"
    stacked = _stacked(table, kind)
    wrong = stacked[_differs(stacked, ["prompt_id", "model"], "response", keep)]
    for row, prompt_id, model in zip(wrong.index, wrong["prompt_id"], wrong["model"], strict=True):
        reason = f"{model} answers prompt {prompt_id} with another text in the {keep} row with it; one text each"
        found.setdefault(int(row), reason)
    return [BadRow(row, reason) for row, reason in found.items()]


def _differs(table: Any, key: list[str], text: str, keep: str) -> Any:
    """Boolean array: rows whose text is not that of the ``keep`` row of the same key. Numbers stand for texts."""
    import pandas as pd

    codes = pd.Series(pd.factorize(table[text])[0], index=table.index)
    keys = [pd.factorize(table[name])[0] for name in key]
    return codes.ne(codes.groupby(keys).transform(keep)).to_numpy()


def _without(table: Any, bad: list[BadRow]) -> Any:
    rows = [row for row, _ in bad]
    return table[~table.index.isin(rows)] if rows else table


def _stacked(table: Any, kind: tuple[str, ...]) -> Any:
    """One row a response, in the table's order and with its row numbers: prompt_id, model, response."""
    import pandas as pd

    names = ["prompt_id", "model", "response"]
    if kind == SCORE_COLUMNS:
        return table[names]
    sides = [table[["prompt_id", f"model_{s}", f"response_{s}"]].set_axis(names, axis=1) for s in "ab"]
    return pd.concat(sides).sort_index(kind="stable")


def _pairs(table: Any) -> Any:
    """Every pair of responses that one user scored on one prompt."""
    import numpy as np
    import pandas as pd

    scored = table[["user", "prompt_id", "model"]].assign(at=np.arange(len(table)), score=pd.to_numeric(table["score"]))
    both = scored.merge(scored, on=["user", "prompt_id"], suffixes=("_a", "_b"))
    both = both[both["at_a"] < both["at_b"]]
    return both.assign(outcome=(np.sign(both["score_a"] - both["score_b"]) + 1) / 2)


def _records(table: Any, pairs: Any, responses: Any, bad: tuple[BadRow, ...], notes: tuple[str, ...]) -> Votes:
    import pandas as pd

    used = set(pairs["prompt_id"])
    responses = responses[responses["prompt_id"].isin(used)]
    prompts = table[table["prompt_id"].isin(used)].drop_duplicates("prompt_id")
    columns = (pairs[name].tolist() for name in ("prompt_id", "model_a", "model_b"))
    outcomes = pd.to_numeric(pairs["outcome"]).astype(float).tolist()
    categories = prompts["category"].dropna() if "category" in prompts else []
    return Votes(
        preferences=tuple(map(Preference, *columns, outcomes, pairs["user"].tolist())),
        prompts=tuple(map(Prompt, prompts["prompt_id"].tolist(), prompts["prompt"].tolist())),
        responses=tuple(map(Response, *(responses[name].tolist() for name in responses))),
        users=tuple(dict.fromkeys(pairs["user"].tolist())),
        models=tuple(dict.fromkeys(responses["model"].tolist())),
        categories=dict(zip(prompts["prompt_id"].loc[categories.index], categories, strict=True))
        if len(categories)
        else {},
        skipped=bad,
        notes=notes,
    )


def _complaint(source: str, bad: list[BadRow], total: int, *, usable: bool) -> str:
    lines = [f"{source}: {len(bad)} of {total} rows cannot be used:"]
    lines += [f"  row {row}: {reason}" for row, reason in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  … and {len(bad) - _SHOWN} more")
    lines.append("Nothing was changed. Mend them" + (", or leave them out: --skip_bad_rows" if usable else ""))
    return "\n".join(lines)
