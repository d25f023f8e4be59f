"""Votes row by row: our own columns, the Arena's data sets, alpaca_eval's annotations and Open WebUI's feedback.

arena_vote(1, row).outcome      # 0.5 for a tie; LeftOut for a later turn, ValueError for a wrong row
"""

import contextlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any, NamedTuple

from core.errors import UsageError
from core.records import Preference
from core.tables import SINGLE, BadRows, LeftOut, Row, Rows, figure_of, text_in
from llm.answers import without_thinking

EVERYONE = "everyone"  # who voted, where the data do not say


class Vote(NamedTuple):
    """One comparison of two responses, in the columns of our own files."""

    user: str
    prompt_id: str
    """The file's; empty where it has none."""
    prompt: str
    model_a: str
    response_a: str
    model_b: str
    response_b: str
    outcome: float = math.nan
    """1 where a is preferred, NaN before anybody voted."""
    row: int = 0
    """Number of the row that it comes from."""

    def claims(self) -> Iterator[tuple[tuple[str, str], str]]:
        """The text of the prompt, by its id and no model, and of each response, by prompt and model."""
        yield (self.prompt_id, ""), self.prompt
        yield (self.prompt_id, self.model_a), self.response_a
        yield (self.prompt_id, self.model_b), self.response_b

    def preference(self) -> Preference:
        """The vote as a record."""
        return Preference(self.prompt_id, self.model_a, self.model_b, self.outcome, self.user)


VOTE_COLUMNS = Vote._fields[:-1]


# ── Outcomes ─────────────────────────────────────────────────────────────────────────────────────────────

WINNERS = {
    "model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5, "tie (both bad)": 0.5, "tie (inconsistent)": 0.5,
    "both_bad": 0.5, "bothbad": 0.5,
}  # fmt: skip


def refuse_coding(rows: Rows, source: str, column: str) -> None:
    """Raise UsageError where the figures of a whole column mean something else than outcomes or preferences.

    Leaving the rows out that don't fit would misread the others: of −1, 0, 1 the ties would count as defeats.
    """
    figures = [figure for row in rows.values() if math.isfinite(figure := figure_of(row.get(column)))]
    found, outside = set(figures), sum(not 0.0 <= figure <= 1.0 for figure in figures)
    few = -1 in found or (found & {2, 3} and found <= {0, 1, 2, 3})
    usual = "outcomes are 0, 0.5 and 1, or between: 1 where a is preferred"
    if column == "preference":
        few, outside = {0, 1} <= found <= {-1, 0, 0.5, 1}, 0
        usual = "preferences go from 1, the first, to 2, with 0 for a draw"
    if few or outside > max(1, SINGLE * len(figures)):
        coding = ", ".join(f"{f:g}" for f in sorted(found)[:5]) if few else f"{min(found):g} to {max(found):g}"
        raise UsageError(f"{source}: the votes are coded {coding}, and {usual}. Nothing was changed. Write them so.")


def _leave_out_later_turns(row: Row) -> None:
    """Later turns answer what the other model did not see."""
    # MT-bench asks about each of two turns by itself; the 33k's "turn" counts those of a conversation
    turns = figure_of(row.get("evaluation_order")), math.nan if "tstamp" in row else figure_of(row.get("turn"))
    if any(turn > 1 for turn in turns):
        raise LeftOut("on a later turn")


# ── Our own columns ──────────────────────────────────────────────────────────────────────────────────────


def own_vote(number: int, row: Row) -> Vote:
    """A row with VOTE_COLUMNS; the outcome is a number in [0, 1] or a word of the Arena's."""
    _leave_out_later_turns(row)
    user, prompt = text_in(row, "user", figures=True), text_in(row, "prompt")
    prompt_id = text_in(row, "prompt_id", figures=True, default="")
    outcome = WINNERS.get(str(row.get("outcome")).strip().lower(), figure_of(row.get("outcome")))
    if not 0.0 <= outcome <= 1.0:
        raise ValueError(f"outcome is no number in [0, 1]: {row.get('outcome')!s:.40}; write 1, 0 or 0.5")
    # an empty response is one: models do answer nothing, and people vote on it
    a, b = ((text_in(row, f"model_{side}"), text_in(row, f"response_{side}", empty=True)) for side in "ab")
    return Vote(user, prompt_id, prompt, *a, *b, outcome, number)


# ── The Arena's data sets ────────────────────────────────────────────────────────────────────────────────


def arena_vote(number: int, row: Row) -> Vote:
    """Who won, and the first turns of two conversations."""
    _leave_out_later_turns(row)
    flags = (name for name in ("model_a", "model_b", "tie") if figure_of(row.get(f"winner_{name}")) == 1)
    winner = row["winner"] if "winner" in row else " and ".join(flags)  # the 55k has a flag for each
    outcome = WINNERS.get(str(winner).strip().lower())
    if outcome is None:
        raise ValueError(f"winner is none of {', '.join(WINNERS)}: {winner!s:.40}")
    (prompt, a), (other, b) = _first_turn(row, "a"), _first_turn(row, "b")
    if prompt != other:
        raise ValueError("conversation_a and conversation_b begin with different prompts")
    user = text_in(row, "judge", figures=True, default="")
    user = user or text_in(row, "judge_hash", figures=True, default=EVERYONE)
    return Vote(user, "", prompt, text_in(row, "model_a"), a, text_in(row, "model_b"), b, outcome, number)


def _first_turn(row: Row, side: str) -> tuple[str, str]:
    name = f"conversation_{side}"
    if name in row:
        turns = [turn for turn in _listed(row, name) if isinstance(turn, Mapping)]
        first = [turn for turn in turns if turn.get("role") in ("user", "assistant")][:2]
        if [turn["role"] for turn in first] != ["user", "assistant"]:
            raise ValueError(f"{name} has no prompt of a user that an assistant answers")
        prompt, answer = (turn.get("content") for turn in first)
    else:  # the 55k: lists of the turns' texts
        prompt, answer = (next(iter(_listed(row, column)), None) for column in ("prompt", f"response_{side}"))
    return text_of_turn(prompt, "the first prompt"), text_of_turn(answer, f"the first answer of model_{side}")


def _listed(row: Row, name: str) -> list[Any]:
    """A column that holds a list, itself or as JSON (in a CSV)."""
    value = row.get(name)
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, list):
        raise ValueError(f"{name} is no list of turns: {value!s:.40}")
    return value


def text_of_turn(content: Any, place: str) -> str:
    """The text of a turn's content: a text, or a list of parts that all are texts."""
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [p.get("text") if isinstance(p, Mapping) and p.get("type", "text") == "text" else None for p in parts]
    return "\n".join(text_in({place: text}, place, empty=True) for text in texts)


# ── alpaca_eval ──────────────────────────────────────────────────────────────────────────────────────────


def alpaca_vote(number: int, row: Row) -> Vote:
    """Two outputs, and a preference from 1 (the first) to 2."""
    written = row.get("preference")
    if written is None or str(written).strip().lower() in ("", "nan", "none"):
        raise LeftOut("the annotator gave no preference")
    preference = figure_of(written) or 1.5  # earlier versions write 0 for a draw
    if not 1 <= preference <= 2:
        raise ValueError(f"preference is no number in [1, 2]: {written!s:.40}")
    prompt = text_in(row, "instruction")
    if row.get("input"):  # what the instruction is about, in some of its data sets
        prompt += f"\n\n{text_in(row, 'input')}"
    a, b = ((text_in(row, f"generator_{i}"), text_of_turn(row.get(f"output_{i}"), f"output_{i}")) for i in (1, 2))
    user = text_in(row, "annotator", figures=True, default=EVERYONE)
    return Vote(user, "", prompt, *a, *b, round(2 - preference, 12), number)


# ── Open WebUI ───────────────────────────────────────────────────────────────────────────────────────────

# A feedback (https://github.com/open-webui/open-webui, ResponseMessage.svelte and models/feedbacks.py) holds who rated
# (``user_id``), thumbs up, down or neither (``data.rating`` 1, -1, 0), perhaps 1 to 10 (``data.details.rating``), which
# message (``meta.message_id``), and the chat as it was then (``snapshot``), where messages form a tree.
UNRATED = (0.0, math.nan)  # between up and down


class _Rating(NamedTuple):
    """One feedback. Whoever turns a thumb round keeps the old figure beside it: figures count within one thumb only."""

    row: int
    asked: tuple[str, str, str]  # who rated, the prompt's id and its text
    texts: dict[str, str]  # {model: text} of all answers to the prompt: the rated one, and every other model's first
    model: str  # whose answer is rated
    score: tuple[float, float]  # thumb (1 up, -1 down, 0 neither) and figure (1 to 10, NaN where none was given)
    when: float  # seconds since 1970, 0 where the export does not say


def by_ratings(ratings: Iterable[_Rating], out: BadRows) -> list[Vote]:
    """A vote for every two models of whose answers to one prompt a person rated at least one. Of several ratings of a
    model's answers the last counts; the others, and those without another model's answer, go ``out``."""
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
    return votes


def open_webui_rating(number: int, row: Row) -> _Rating:
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
    message = _object(messages, text_in(meta, "message_id"), "the rated message (meta.message_id)")
    parent_id = str(message.get("parentId"))
    root = parent = _object(messages, parent_id, "the prompt of the rated message (parentId)")
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
    model = text_in(message, "selectedModelId" if str(message.get("selectedModelId") or "").strip() else "model")
    return model, answer_alone(text_of_turn(message.get("content"), "the rated answer"))


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
