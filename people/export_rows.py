"""Exports with one comparison a row: the Arena's data sets and alpaca_eval's annotations.

votes, bad, left_out = each_row(rows, arena_vote)
votes[0].outcome
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from core.tables import BadRows, Row, Rows, as_text

EVERYONE = "everyone"  # who voted, where the data do not say
T = TypeVar("T")


class Vote(NamedTuple):
    """One comparison."""

    row: int
    """Number of the row that it comes from."""
    user: str
    prompt: str
    models: tuple[str, str]
    responses: tuple[str, str]
    outcome: float
    """In [0, 1]: 1 means the first is preferred."""
    rated: tuple[bool, bool] = (True, True)
    """Whether the person said something about each response; the other one of a pair is only compared with it."""
    longer: bool = False
    """True where the conversation went on after the first turn before the vote was given."""


class Export(NamedTuple):
    """Everything in an export. Each row is in ``votes`` (several may make one vote), in ``bad`` or in ``left_out``."""

    votes: list[Vote]
    bad: BadRows
    left_out: dict[int, str]
    """{row number: why}: good rows that are no votes on first answers."""
    notes: list[str]


class LeftOut(Exception):  # noqa: N818 - nothing is wrong
    """A good row that is no vote on first answers."""


def each_row(rows: Rows, read: Callable[[int, Row], T]) -> tuple[list[T], BadRows, dict[int, str]]:
    """Everything that ``read`` makes of the rows, and why others are wrong or left out."""
    found: list[T] = []
    bad: BadRows = {}
    left_out: dict[int, str] = {}
    for number, row in rows.items():
        try:
            found.append(read(number, row))
        except LeftOut as reason:
            left_out[number] = str(reason)
        except ValueError as error:
            bad[number] = str(error)
    return found, bad, left_out


def text_of(row: Row, name: str) -> str:
    """A column's text. Raises ValueError where it is missing or blank."""
    text = as_text(row.get(name))
    if text is None or not text.strip():
        raise ValueError(f"{name} is missing")
    return text


def _models(row: Row, first: str, second: str) -> tuple[str, str]:
    """The models of both sides."""
    models = text_of(row, first), text_of(row, second)
    if models[0] == models[1]:
        raise LeftOut("the same model answers on both sides")
    return models


def figure_of(value: Any) -> float:
    """A number, NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


# ── The Arena's data sets ────────────────────────────────────────────────────────────────────────────────

_WINNERS = {
    "model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5, "tie (both bad)": 0.5, "tie (inconsistent)": 0.5,
    "both_bad": 0.5, "bothbad": 0.5,
}  # fmt: skip
_YES = ("1", "1.0", "true")


def arena_vote(number: int, row: Row) -> Vote:
    """Who won, and the first turns of two conversations."""
    # MT-bench asks about each of two turns by itself; everywhere else a vote is on a whole conversation
    by_turn = bool(row.get("turn")) and not {"anony", "tstamp"} & row.keys()
    if by_turn and figure_of(row["turn"]) > 1:
        raise LeftOut("the vote is on a later turn")
    outcome, models = _winner(row), _models(row, "model_a", "model_b")
    (prompt, a, turns), (other, b, _) = _first_turn(row, "a"), _first_turn(row, "b")
    if prompt != other:
        raise ValueError("conversation_a and conversation_b begin with different prompts")
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    judges = (as_text(row.get(name)) for name in ("judge", "judge_hash"))
    user = next((judge for judge in judges if judge and judge.strip()), EVERYONE)
    return Vote(number, user, prompt, models, (a, b), outcome, longer=turns > 1 and not by_turn)


def _winner(row: Row) -> float:
    """1 where a wins, 0 where b does, 0.5 for every tie."""
    if "winner" in row:
        outcome = _WINNERS.get(str(row["winner"]).strip().lower())
        if outcome is None:
            raise ValueError(f"winner {row['winner']!s:.40} is none of {', '.join(_WINNERS)}")
        return outcome
    won = [name for name in ("model_a", "model_b", "tie") if str(row.get(f"winner_{name}")).lower() in _YES]
    if len(won) != 1:
        raise ValueError("not one of winner_model_a, winner_model_b, winner_tie is 1")
    return _WINNERS[won[0]]


def _first_turn(row: Row, side: str) -> tuple[str, str, int]:
    """The first prompt of a side's conversation, its answer, and how many prompts there are."""
    name = f"conversation_{side}"
    if name not in row:  # the 55k: lists of the turns' texts
        prompts, answers = _listed(row, "prompt"), _listed(row, f"response_{side}")
        prompt = text_of_turn(next(iter(prompts), None), "the first turn of prompt")
        return prompt, text_of_turn(next(iter(answers), None), f"the first turn of response_{side}"), len(prompts)
    turns = _listed(row, name)
    if not all(isinstance(turn, Mapping) for turn in turns):
        raise ValueError(f"{name} holds turns without a role")
    asked = [i for i, turn in enumerate(turns) if turn.get("role") == "user"]
    if not asked or asked[0] + 1 >= len(turns) or turns[asked[0] + 1].get("role") != "assistant":
        raise ValueError(f"{name} has no prompt of a user that an assistant answers")
    prompt, answer = (turns[i].get("content") for i in (asked[0], asked[0] + 1))
    texts = text_of_turn(prompt, f"the first prompt of {name}"), text_of_turn(answer, f"the first answer of {name}")
    return *texts, len(asked)


def _listed(row: Row, name: str) -> list[Any]:
    """A column that holds a list, itself or as JSON (in a CSV)."""
    value = row.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{name} is no list of turns: {value:.40}") from None
    if not isinstance(value, list):
        raise ValueError(f"{name} is missing" if value is None else f"{name} is no list of turns")
    return value


def text_of_turn(content: Any, place: str) -> str:
    """The text of a turn's content: a text, or a list of parts that all are texts."""
    texts = []
    for part in content if isinstance(content, list) else [{"text": content}]:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
        if not isinstance(text, str) or as_text(text) is None:
            raise ValueError(f"{place} is no text")
        texts.append(text)
    return "\n".join(texts)


# ── alpaca_eval ──────────────────────────────────────────────────────────────────────────────────────────


def alpaca_eval_vote(number: int, row: Row) -> Vote:
    """Two outputs, and a preference from 1 (the first) to 2."""
    written = as_text(row.get("preference")) or ""
    if written.strip().lower() in ("", "nan", "none"):
        raise LeftOut("the annotator gave no preference")
    preference = figure_of(written) or 1.5  # earlier versions write 0 for a draw
    if not 1 <= preference <= 2:
        raise ValueError(f"preference {written:.40} is no number in [1, 2]")
    models, prompt = _models(row, "generator_1", "generator_2"), text_of(row, "instruction")
    if given := as_text(row.get("input")):  # what the instruction is about, in some of its data sets
        prompt += f"\n\n{given}"
    outputs = text_of_turn(row.get("output_1"), "output_1"), text_of_turn(row.get("output_2"), "output_2")
    return Vote(number, as_text(row.get("annotator")) or EVERYONE, prompt, models, outputs, round(2 - preference, 12))
