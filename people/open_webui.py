"""Open WebUI's feedback export: ratings of single answers, with the chat as it was then.

A feedback (https://github.com/open-webui/open-webui, ResponseMessage.svelte and models/feedbacks.py) holds who rated
(``user_id``), thumbs up, down or neither (``data.rating`` 1, -1, 0), perhaps 1 to 10 (``data.details.rating``), which
message (``meta.message_id``), and the chat as it was then (``snapshot``), where messages form a tree.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

from core.tables import BadRows, LeftOut, Row, Rows, each_row, figure_of, text_in
from llm.answers import without_thinking
from people.rows import Vote, text_of_turn

UNRATED = (0.0, math.nan)  # between up and down


class _Rating(NamedTuple):
    """One feedback. Whoever turns a thumb round keeps the old figure beside it: figures count within one thumb only."""

    row: int
    asked: tuple[str, str, str]  # who rated, the prompt's id and its text
    texts: dict[str, str]  # {model: text} of all answers to the prompt: the rated one, and every other model's first
    model: str  # whose answer is rated
    score: tuple[float, float]  # thumb (1 up, -1 down, 0 neither) and figure (1 to 10, NaN where none was given)
    when: float  # seconds since 1970, 0 where the export does not say


def open_webui(rows: Rows) -> tuple[list[Vote], BadRows]:
    """A vote for every two models of whose answers to one prompt a person rated at least one. Of several ratings of a
    model's answers the last counts."""
    ratings, out = each_row(rows, _rating)
    groups: defaultdict[tuple[str, str, str], list[_Rating]] = defaultdict(list)
    for rating in sorted(ratings, key=lambda rating: rating.when):
        groups[rating.asked].append(rating)
    votes: list[Vote] = []
    for (user, _, prompt), group in groups.items():
        texts, last = dict[str, str](), dict[str, _Rating]()
        for rating in group:
            if before := last.get(rating.model):
                out[before.row] = LeftOut("the same answer, or another of the same model, was rated in another row")
            last[rating.model] = rating
            texts = rating.texts | texts | {rating.model: rating.texts[rating.model]}
        if len(texts) == 1:
            out |= {rating.row: LeftOut("no other model answered the prompt") for rating in last.values()}
        for a, b in combinations(texts, 2):
            if given := [last[model].row for model in (a, b) if model in last]:
                first, second = (last[model].score if model in last else UNRATED for model in (a, b))
                outcome = 0.5 + 0.5 * (first > second) - 0.5 * (first < second)
                votes.append(Vote(user, "", prompt, a, texts[a], b, texts[b], outcome, min(given)))
    return votes, out


def _rating(number: int, row: Row) -> _Rating:
    """Raises ValueError for what Open WebUI does not write, LeftOut for what is no rating of a first answer."""
    user, data, meta = text_in(row, "user_id", figures=True), _object(row, "data"), _object(row, "meta")
    if data.get("rating") in (None, ""):
        raise LeftOut("the feedback holds no rating")
    thumb, details = figure_of(data["rating"]), data.get("details")
    if thumb not in (1.0, -1.0, 0.0):
        raise ValueError(f"data.rating is none of 1, -1, 0: {data['rating']!s:.40}")
    chat = row.get("snapshot")
    if not (isinstance(chat, Mapping) and chat.get("chat")):
        raise LeftOut("it has no snapshot of the chat, so no texts")
    while "chat" in chat:  # the chat, perhaps with a record around it
        chat = _object(chat, "chat")
    messages = _object(_object(chat, "history"), "messages")
    message = _object(messages, text_in(meta, "message_id"), "the rated message")
    parent_id = str(message.get("parentId"))
    root = parent = _object(messages, parent_id, "the prompt of the rated message")
    while isinstance(above := messages.get(str(root.get("parentId"))), Mapping) and above.get("role") == "system":
        root = above  # a chat may begin with one
    if root.get("parentId") is not None:
        raise LeftOut("the rating is of a later turn")
    model, text = _answer(message)
    texts: dict[str, str] = {}
    for other in messages.values():
        if isinstance(other, Mapping) and str(other.get("parentId")) == parent_id:
            with contextlib.suppress(ValueError):  # no text (a picture, say), failed or unfinished
                who, said = _answer(other)
                texts |= {who: said} if said.strip() and who not in texts else {}
    asked = user, parent_id, text_of_turn(parent.get("content"), "the prompt")
    detail = figure_of(details.get("rating")) if isinstance(details, Mapping) else math.nan
    when = figure_of(row.get("updated_at"))
    return _Rating(number, asked, texts | {model: text}, model, (thumb, detail), when if when > 0 else 0.0)


def _object(row: Row, name: str, place: str = "") -> Mapping[str, Any]:
    value = row.get(name)
    if not isinstance(value, Mapping):
        raise ValueError(f"{place or name} is missing")
    return value


def _answer(message: Mapping[str, Any]) -> tuple[str, str]:
    """Who answered, and what. In the arena mode ``model`` is the arena's own name and hides who it was."""
    if message.get("error") or message.get("done") is False:
        raise LeftOut("the rated answer was not finished")
    model = text_in(message, "selectedModelId" if message.get("selectedModelId") else "model")
    return model, answer_alone(text_of_turn(message.get("content"), "the rated answer"))


# ── Answers alone ────────────────────────────────────────────────────────────────────────────────────────

# The chat folds thoughts, tool calls and code that was run into blocks of this kind, with its own lines after ">".
_FOLDED = r"""(?P<folds>^<details\b[^>]*\btype=["']?(?:reasoning|tool_calls|code_interpreter)\b[^>]*>)"""
_TAGS = re.compile(
    rf"^>.*$|{_FOLDED}|(?P<opens><details\b[^>]*>)|(?P<closes></details>[ \t]*\n*)", re.MULTILINE | re.IGNORECASE
)


def answer_alone(text: str) -> str:
    """An answer without what the chat folds away, blocks within blocks included, and without leaked thoughts."""
    kept, depth, end = "", 0, 0
    for tag in _TAGS.finditer(text):
        if tag["folds"] and not depth:
            kept, depth, end = kept + text[end : tag.start()], 1, len(text)  # one that never ends takes the rest
        elif depth and tag["closes"]:
            depth, end = depth - 1, tag.end()
        elif depth and (tag["folds"] or tag["opens"]):
            depth += 1
    return without_thinking(kept + text[end:])
