"""Votes given elsewhere, known by their columns: Open WebUI's feedback, the Arena's data sets, alpaca_eval's.

kind = recognize(columns, source)          # None: none of these
found = read(kind, rows)
found.votes, found.left_out, found.notes
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection

from core.errors import UsageError
from people import open_webui
from people.export_rows import EVERYONE, Export, Vote, read_alpaca_eval, read_arena
from people.reading import Rows

_SECOND_TEXT = "on a second text of one model to the same prompt"

KINDS = ("Open WebUI's feedback export", "the Arena's data sets", "alpaca_eval's annotations")
OPEN_WEBUI, ARENA, ALPACA_EVAL = KINDS
_READERS = {OPEN_WEBUI: open_webui.read, ARENA: read_arena, ALPACA_EVAL: read_alpaca_eval}
# Columns that only this kind has, each alone (or both of a pair), and those that it must have (one of "a|b").
_SIGNS = {
    OPEN_WEBUI: ({"snapshot"}, {"data", "meta"}),
    ARENA: ({"conversation_a"}, {"conversation_b"}, {"winner_model_a"}, {"winner_model_b"}),
    ALPACA_EVAL: ({"generator_1"}, {"generator_2"}, {"output_1"}, {"output_2"}),
}
_NEEDS = {
    OPEN_WEBUI: ("user_id", "data", "meta"),
    ARENA: ("model_a", "model_b", "winner|winner_model_a", "conversation_a|prompt", "conversation_b|response_b"),
    ALPACA_EVAL: ("instruction", "output_1", "generator_1", "output_2", "generator_2", "preference"),
}


def recognize(columns: Collection[str], source: str) -> str | None:
    """Which of ``KINDS`` has such columns, None where none has. Raises UsageError where one of them is lacking."""
    for kind in KINDS:
        if not any(sign <= set(columns) for sign in _SIGNS[kind]):
            continue
        lacking = [need for need in _NEEDS[kind] if not any(name in columns for name in need.split("|"))]
        if lacking:
            names = ", ".join(need.replace("|", " or ") for need in lacking)
            raise UsageError(
                f"{source} looks like {kind} and lacks: {names}. Its columns are {', '.join(columns)}. Nothing was "
                "changed. Rename the column that is meant, or export it anew"
            )
        return kind
    return None


def read(kind: str, rows: Rows) -> Export:
    """The votes of an export. A model's second text to one prompt is left out with the votes on it."""
    found = _READERS[kind](rows)
    kept, second = one_text_each(found.votes)
    left_out = dict(sorted({**second, **found.left_out}.items()))
    said = f"read as {kind}: {len(kept)} votes from {len(rows)} rows"
    reasons = [f"{count} left out: {reason}" for reason, count in Counter(left_out.values()).most_common()]
    if any(vote.user == EVERYONE for vote in kept):
        reasons.append("it does not say who voted: all count as one person")
    return dataclasses.replace(found, votes=kept, left_out=left_out, notes=("; ".join([said, *reasons, *found.notes]),))


def one_text_each(votes: Collection[Vote]) -> tuple[tuple[Vote, ...], dict[int, str]]:
    """The votes on one text a (prompt, model), the rated one, else the first; and the rows of the others."""
    right: dict[tuple[str, str], str] = {}
    for rated in (True, False):
        for vote in votes:
            for model, text, said in zip(vote.models, vote.responses, vote.rated, strict=True):
                if said is rated:
                    right.setdefault((vote.prompt, model), text)
    kept, second = [], {}
    for vote in votes:
        texts = tuple(right[vote.prompt, model] for model in vote.models)
        if texts == vote.responses:
            kept.append(vote)
        else:
            second[vote.row] = _SECOND_TEXT
    return tuple(kept), second
