"""Votes given elsewhere, known by their columns: Open WebUI's feedback, the Arena's data sets, alpaca_eval's.

kind = recognize(columns, source)     # None: none of these
found = read_export(kind, rows)
found.votes, found.bad, found.left_out, found.notes
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from itertools import combinations
from typing import Any, NamedTuple

from core.errors import UsageError
from core.tables import Row, Rows, as_text
from people.export_rows import (
    EVERYONE,
    Export,
    LeftOut,
    Vote,
    alpaca_eval_vote,
    arena_vote,
    each_row,
    figure_of,
    text_of,
    text_of_turn,
)


def recognize(columns: Collection[str], source: str) -> str | None:
    """The kind of export that has such columns, None where none has. Raises UsageError where one of them is lacking."""
    for kind, (signs, needs, _) in _KINDS.items():
        if not any(set(sign.split("+")) <= set(columns) for sign in signs.split()):
            continue
        lacking = [need for need in needs.split() if not any(name in columns for name in need.split("|"))]
        if lacking:
            raise UsageError(
                f"{source} looks like {kind} and lacks: {', '.join(lacking).replace('|', ' or ')}. Its columns are "
                f"{', '.join(columns)}. Nothing was changed. Rename the column that is meant, or export it anew"
            )
        return kind
    return None


def read_export(kind: str, rows: Rows) -> Export:
    """The votes of an export. A model's second text to one prompt is left out with the votes on it."""
    found = _KINDS[kind][2](rows)
    texts: dict[tuple[str, str], str] = {}  # the rated one, else the first
    for rated in (True, False):
        for vote in found.votes:
            for model, text, said in zip(vote.models, vote.responses, vote.rated, strict=True):
                if said is rated:
                    texts.setdefault((vote.prompt, model), text)
    kept, left_out = [], found.left_out
    for vote in found.votes:
        if tuple(texts[vote.prompt, model] for model in vote.models) == vote.responses:
            kept.append(vote)
        else:
            left_out.setdefault(vote.row, "on a second text of one model to the same prompt")
    notes = [f"read as {kind}: {len(kept)} votes from {len(rows)} rows"]
    notes += [f"{count} left out: {reason}" for reason, count in Counter(left_out.values()).most_common()]
    if any(vote.user == EVERYONE for vote in kept):
        notes.append("it does not say who voted: all count as one person")
    if longer := sum(vote.longer for vote in found.votes):
        notes.append(f"{longer} votes were given after more turns than the first, which alone is read")
    return Export(kept, found.bad, dict(sorted(left_out.items())), ["; ".join([*notes, *found.notes])])


# ── Open WebUI ───────────────────────────────────────────────────────────────────────────────────────────
#
# A feedback (https://github.com/open-webui/open-webui, ResponseMessage.svelte and models/feedbacks.py) holds who rated
# (``user_id``), thumbs up, down or neither (``data.rating`` 1, -1, 0), perhaps 1 to 10 (``data.details.rating``), which
# message (``meta.message_id``), and the chat as it was then (``snapshot``), where messages form a tree.

_RATED_AGAIN = "the same answer, or another one of the same model, was rated in another row"
_THUMBS = {"1": 1.0, "-1": -1.0, "0": 0.0}
# A model's thoughts before its answer, as the chat shows them: folded.
_REASONING = re.compile(r'<details\s+type="reasoning"[^>]*>.*?</details>\s*', re.DOTALL | re.IGNORECASE)


class _Rating(NamedTuple):
    """One feedback."""

    row: int
    asked: tuple[str, str, str]
    """Who rated, the prompt's id and its text."""
    texts: dict[str, str]
    """{model: text} of all answers to the prompt: the rated one, and every other model's first."""
    model: str
    """Whose answer is rated."""
    thumb: float
    """1 up, -1 down, 0 neither."""
    detail: float | None
    """1 to 10."""
    when: int
    """Seconds since 1970; 0 where the export does not say."""


def _open_webui(rows: Rows) -> Export:
    """A vote for every two models of whose answers to one prompt a person rated at least one. Of several ratings of a
    model's answers the last counts."""
    ratings, bad, left_out = each_row(rows, _rating)
    groups: defaultdict[tuple[str, str], list[_Rating]] = defaultdict(list)
    for rating in ratings:
        groups[rating.asked[:2]].append(rating)
    votes: list[Vote] = []
    thoughts = 0
    for group in groups.values():
        user, _, prompt = group[0].asked
        last: dict[str, _Rating] = {}
        for rating in sorted(group, key=lambda rating: rating.when):
            if before := last.get(rating.model):
                left_out[before.row] = _RATED_AGAIN
            last[rating.model] = rating
        texts: dict[str, str] = {}
        for rating in group:
            texts = rating.texts | texts
        texts |= {model: rating.texts[model] for model, rating in last.items()}
        if len(texts) == 1:
            left_out.update({rating.row: "no other model answered the prompt" for rating in last.values()})
        thoughts += sum(bool(_REASONING.search(text)) for text in texts.values())
        for a, b in combinations(texts, 2):
            first, second = last.get(a), last.get(b)
            if first or second:
                row = min(rating.row for rating in (first, second) if rating)
                sides = _REASONING.sub("", texts[a]), _REASONING.sub("", texts[b])
                rated = first is not None, second is not None
                votes.append(Vote(row, user, prompt, (a, b), sides, _outcome(first, second), rated))
    notes = [f"the reasoning before {thoughts} answers is not part of them"] if thoughts else []
    return Export(votes, bad, left_out, notes)


def _outcome(a: _Rating | None, b: _Rating | None) -> float:
    """Whether ``a`` is better than ``b``: 1, 0 or, for a tie, 0.5. An answer not rated lies between up and down."""
    first, second = (0.0 if rating is None else rating.thumb for rating in (a, b))
    if a and b and first == second and a.detail is not None and b.detail is not None:
        # whoever turns a thumb round keeps the old figure beside it: figures count within one thumb only
        first, second = a.detail, b.detail
    return 0.5 if first == second else float(first > second)


def _rating(number: int, row: Row) -> _Rating:
    """Raises ValueError for what Open WebUI does not write, LeftOut for what is no rating of a first answer."""
    user, data, meta = text_of(row, "user_id"), _object(row.get("data"), "data"), _object(row.get("meta"), "meta")
    thumb = _THUMBS.get(str(data.get("rating")).removesuffix(".0"))
    if thumb is None:
        raise ValueError(f"data.rating {data.get('rating')!s:.40} is none of 1, -1, 0")
    details = data.get("details")
    fine = details.get("rating") if isinstance(details, Mapping) else None
    detail = None if fine is None else figure_of(fine)
    if detail is not None and not 1 <= detail <= 10:
        raise ValueError(f"data.details.rating {fine!s:.40} is no number from 1 to 10")
    messages = _messages(row)
    message = _object(messages.get(text_of(meta, "message_id")), "the rated message (meta.message_id)")
    parent_id = str(message.get("parentId"))
    parent = _object(messages.get(parent_id), "the prompt of the rated message (parentId)")
    if parent.get("parentId") is not None:
        raise LeftOut("the rating is of a later turn")
    prompt = text_of_turn(parent.get("content"), "the prompt")
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    if message.get("error"):
        raise LeftOut("the rated answer is an error message")
    model, text = _model(message), text_of_turn(message.get("content"), "the rated answer")
    if model is None:
        raise ValueError("the rated answer names no model")
    texts = _answers(messages, parent_id) | {model: text}
    when = as_text(row.get("updated_at")) or ""
    seconds = int(when) if when.isdecimal() else 0
    return _Rating(number, (user, parent_id, prompt), texts, model, thumb, detail, seconds)


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is missing")
    return value


def _messages(row: Row) -> Mapping[str, Any]:
    """{message id: message} of the snapshot. Raises LeftOut where there is none, ValueError where it is damaged."""
    snapshot = row.get("snapshot")
    chat = snapshot.get("chat") if isinstance(snapshot, Mapping) else None
    if not chat:
        raise LeftOut("it has no snapshot of the chat, so no texts")
    if isinstance(chat, Mapping) and "chat" in chat:  # a record around the chat itself
        chat = chat["chat"]
    for name in ("history", "messages"):
        chat = chat.get(name) if isinstance(chat, Mapping) else None
    return _object(chat, "the chat in the snapshot (snapshot.chat.chat.history.messages)")


def _answers(messages: Mapping[str, Any], parent_id: str) -> dict[str, str]:
    """{model: its first text} of the answers to a prompt, failed and empty ones aside."""
    found: dict[str, str] = {}
    for message in messages.values():
        if isinstance(message, Mapping) and str(message.get("parentId")) == parent_id and not message.get("error"):
            model, text = _model(message), message.get("content")
            if model and isinstance(text, str) and (as_text(text) or "").strip():
                found.setdefault(model, text)
    return found


def _model(message: Mapping[str, Any]) -> str | None:
    """Who answered. In the arena mode ``model`` is the arena's own name and hides who it was."""
    name = as_text(message.get("selectedModelId")) or as_text(message.get("model"))
    return name if name and name.strip() else None


# ── Recognition ──────────────────────────────────────────────────────────────────────────────────────────

# {kind: (columns that only this kind has, each alone or a "+b" together; columns that it must have, one of "a|b";
# its reader)}
_KINDS: Mapping[str, tuple[str, str, Callable[[Rows], Export]]] = {
    "Open WebUI's feedback export": ("snapshot data+meta", "user_id data meta", _open_webui),
    "the Arena's data sets": (
        "conversation_a conversation_b winner_model_a winner_model_b",
        "model_a model_b winner|winner_model_a conversation_a|prompt conversation_b|response_b",
        lambda rows: Export(*each_row(rows, arena_vote), []),
    ),
    "alpaca_eval's annotations": (
        "generator_1 generator_2 output_1 output_2",
        "instruction output_1 generator_1 output_2 generator_2 preference",
        lambda rows: Export(*each_row(rows, alpaca_eval_vote), []),
    ),
}
