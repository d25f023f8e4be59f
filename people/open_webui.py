"""Open WebUI's feedback export: ratings of single answers, turned into comparisons of answers to one prompt.

A feedback (https://github.com/open-webui/open-webui, ResponseMessage.svelte and models/feedbacks.py) holds who rated
(``user_id``), thumbs up, down or neither (``data.rating`` 1, -1, 0), perhaps 1 to 10 (``data.details.rating``), which
message (``meta.message_id``), and the chat as it was then (``snapshot``), where messages form a tree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from people.export_rows import Export, Vote, text_of
from people.reading import BadRows, Rows, as_text

NO_TEXT = "it has no snapshot of the chat, so no texts"
LATER_TURN = "the rating is of a later turn"
NO_OTHERS = "no other model answered the prompt"
RATED_AGAIN = "the same answer, or another one of the same model, was rated in another row"
FAILED = "the rated answer is an error message"
# What a model thought before it answered, as the chat shows it: folded.
_REASONING = re.compile(r'<details\s+type="reasoning"[^>]*>.*?</details>\s*', re.DOTALL | re.IGNORECASE)

Message = Mapping[str, Any]


class _Rating(NamedTuple):
    row: int
    thumb: float
    """1 up, -1 down, 0 neither."""
    detail: float | None
    """1 to 10."""
    when: int
    """Seconds since 1970; 0 where the export does not say."""


@dataclass
class _Asked:
    """Everything that one person said about the answers to one prompt."""

    prompt: str
    answers: dict[str, Message] = field(default_factory=dict)
    """{message id: message}, in the order in which they were given."""
    ratings: dict[str, _Rating] = field(default_factory=dict)
    """{message id: the person's last rating of it}."""


def read(rows: Rows) -> Export:
    """The votes in the feedback. All that one person rated of the answers to one prompt is merged first."""
    asked: dict[tuple[str, str], _Asked] = {}
    bad: BadRows = {}
    left_out: dict[int, str] = {}
    for number, row in rows.items():
        try:
            reason = _gather(number, row, asked, left_out)
        except ValueError as error:
            bad[number] = str(error)
        else:
            if reason:
                left_out[number] = reason
    votes: list[Vote] = []
    unused = thoughts = 0
    for (user, _), one in asked.items():
        found, second = _compare(user, one, left_out)
        votes += found
        unused += second
        thoughts += sum(bool(_REASONING.search(answer["content"])) for answer in one.answers.values())
    notes = [f"{unused} further answers of a model that had answered before were not used"] if unused else []
    notes += [f"the reasoning before {thoughts} answers is not part of them"] if thoughts else []
    return Export(len(rows), tuple(votes), bad, left_out, tuple(notes))


def _gather(
    number: int, row: Mapping[str, Any], asked: dict[tuple[str, str], _Asked], left_out: dict[int, str]
) -> str | None:
    """Add a feedback to what its person said about its prompt; or why it is left out. Raises ValueError."""
    user = text_of(row, "user_id")
    data, meta = _object(row, "data"), _object(row, "meta")
    rating = _rating(number, row, data)
    messages = _messages(row)
    if messages is None:
        return NO_TEXT
    message = messages.get(text_of(meta, "message_id"))
    if not isinstance(message, Mapping):
        raise ValueError("the snapshot does not hold the rated message (meta.message_id)")
    parent = messages.get(str(message.get("parentId")))
    if not isinstance(parent, Mapping):
        raise ValueError("the rated message answers no prompt (parentId)")
    if parent.get("parentId") is not None:
        return LATER_TURN
    prompt = as_text(parent.get("content"))
    if prompt is None or not prompt.strip():
        raise ValueError("the prompt is no text")
    if message.get("error"):
        return FAILED
    if not isinstance(message.get("content"), str) or as_text(message["content"]) is None:
        raise ValueError("the rated answer is no text")
    if _model(message) is None:
        raise ValueError("the rated answer names no model")
    name, parent_id = text_of(meta, "message_id"), str(message["parentId"])
    one = asked.setdefault((user, parent_id), _Asked(prompt))
    one.answers = _siblings(messages, parent, parent_id) | one.answers
    one.answers[name] = message
    before = one.ratings.get(name)
    if before is not None and before.when > rating.when:
        return RATED_AGAIN
    if before is not None:
        left_out[before.row] = RATED_AGAIN
    one.ratings[name] = rating
    return None


def _object(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = row.get(name)
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} is missing")
    return found


def _rating(number: int, row: Mapping[str, Any], data: Mapping[str, Any]) -> _Rating:
    """Raises ValueError for a rating that Open WebUI does not give."""
    written = data.get("rating")
    thumb = {"1": 1.0, "-1": -1.0, "0": 0.0}.get(str(written).removesuffix(".0"))
    if thumb is None:
        raise ValueError(f"data.rating {written!s:.40} is none of 1, -1, 0")
    details = data.get("details")
    fine = details.get("rating") if isinstance(details, Mapping) else None
    try:
        detail = None if fine is None else float(fine)
    except (TypeError, ValueError):
        detail = math.nan
    if detail is not None and not 1 <= detail <= 10:
        raise ValueError(f"data.details.rating {fine!s:.40} is no number from 1 to 10")
    when = as_text(row.get("updated_at")) or ""
    return _Rating(number, thumb, detail, int(when) if when.isdecimal() else 0)


def _messages(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """{message id: message} of the snapshot, None where there is none. Raises ValueError where it is damaged."""
    chat = row["snapshot"].get("chat") if isinstance(row.get("snapshot"), Mapping) else None
    if not chat:
        return None
    for name in ("chat", "history", "messages"):
        inner = chat.get(name) if isinstance(chat, Mapping) else None
        if inner is None and name == "chat":  # the chat itself, not the record around it
            continue
        chat = inner
    if not isinstance(chat, Mapping):
        raise ValueError("the snapshot holds no messages (snapshot.chat.chat.history.messages)")
    return chat


def _siblings(messages: Mapping[str, Any], parent: Message, parent_id: str) -> dict[str, Message]:
    """The answers to a prompt: children of its message with a text and a model, no failed or empty ones."""
    order = parent.get("childrenIds") if isinstance(parent.get("childrenIds"), list) else []
    found = {str(id): messages.get(str(id)) for id in order or []}
    found |= {id: m for id, m in messages.items() if isinstance(m, Mapping) and str(m.get("parentId")) == parent_id}
    return {
        id: m
        for id, m in found.items()
        if isinstance(m, Mapping) and m.get("role", "assistant") == "assistant" and not m.get("error")
        and isinstance(m.get("content"), str) and (as_text(m["content"]) or "").strip() and _model(m)
    }  # fmt: skip


def _model(message: Message) -> str | None:
    """Who answered. In the arena mode ``model`` is the arena's own name and hides who it was."""
    name = as_text(message.get("selectedModelId")) or as_text(message.get("model"))
    return name if name and name.strip() else None


def _compare(user: str, one: _Asked, left_out: dict[int, str]) -> tuple[list[Vote], int]:
    """A vote for every two models of which at least one was rated; and how many answers were second ones."""
    chosen: dict[str, str] = {}
    for rated in (True, False):  # a model's rated answer, else its first
        for id, answer in one.answers.items():
            if (id in one.ratings) is rated and (model := _model(answer)) is not None:
                chosen.setdefault(model, id)
    kept = set(chosen.values())
    left_out.update({rating.row: RATED_AGAIN for id, rating in one.ratings.items() if id not in kept})
    if len(chosen) == 1:
        left_out.update({one.ratings[id].row: NO_OTHERS for id in kept if id in one.ratings})
    votes = []
    for a, b in combinations([id for id in one.answers if id in kept], 2):
        ratings = one.ratings.get(a), one.ratings.get(b)
        row = min((rating.row for rating in ratings if rating), default=None)
        if row is None:
            continue
        sides = [(str(_model(one.answers[id])), _REASONING.sub("", one.answers[id]["content"])) for id in (a, b)]
        models, texts = (sides[0][0], sides[1][0]), (sides[0][1], sides[1][1])
        said = ratings[0] is not None, ratings[1] is not None
        votes.append(Vote(row, user, one.prompt, models, texts, _outcome(*ratings), said))
    return votes, len(one.answers) - len(chosen)


def _outcome(a: _Rating | None, b: _Rating | None) -> float:
    """Whether ``a`` is better than ``b``: 1, 0 or, for a tie, 0.5. An answer not rated lies between up and down."""
    if a is not None and b is not None and a.thumb == b.thumb:
        # whoever turns a thumb round keeps the old figure beside it: figures count within one thumb only
        if a.detail is None or b.detail is None or a.detail == b.detail:
            return 0.5
        return float(a.detail > b.detail)
    first, second = (0.0 if rating is None else rating.thumb for rating in (a, b))
    return 0.5 if first == second else float(first > second)
