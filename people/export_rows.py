"""Exports with one vote a row: the Arena's data sets and alpaca_eval's annotations.

read_arena(rows).votes[0].outcome
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from people.reading import BadRows, Rows, as_text

EVERYONE = "everyone"  # who voted, where the data do not say
_SAME_MODEL = "the same model answers on both sides"


class Vote(NamedTuple):
    """One comparison, and the row that it comes from."""

    row: int
    user: str
    prompt: str
    models: tuple[str, str]
    responses: tuple[str, str]
    outcome: float
    """In [0, 1]: 1 means the first is preferred."""
    rated: tuple[bool, bool] = (True, True)
    """Whether the person said something about each response; the other one of a pair is only compared with it."""


@dataclass(frozen=True)
class Export:
    """What an export holds. Every row is in ``votes`` (several may make one vote), in ``bad`` or in ``left_out``."""

    rows: int
    votes: tuple[Vote, ...]
    bad: BadRows
    """{row number: why it is wrong}."""
    left_out: Mapping[int, str]
    """{row number: why it is no vote on first answers}, though nothing is wrong with it."""
    notes: tuple[str, ...] = ()


class _LeftOut(Exception):  # noqa: N818 — no error
    """This row is right and no vote that can be used."""


_WINNERS = {
    "model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5, "tie (both bad)": 0.5, "tie (inconsistent)": 0.5,
    "both_bad": 0.5, "bothbad": 0.5,
}  # fmt: skip
_YES, _NO = ("1", "1.0", "true", "True"), ("0", "0.0", "false", "False")


def read_arena(rows: Rows) -> Export:
    """The first turns of the Arena's data sets: who won, and two conversations."""
    # MT-bench asks about each of two turns by itself. Everywhere else a vote is on a whole conversation.
    by_turn = not any("anony" in row or "tstamp" in row for row in rows.values())
    longer = 0

    def vote(number: int, row: Mapping[str, Any]) -> Vote:
        nonlocal longer
        if by_turn and _number(row.get("turn")) > 1:
            raise _LeftOut("the vote is on a later turn")
        found, turns = _arena(number, row)
        longer += turns > 1 and not (by_turn and row.get("turn"))
        return found

    found = _each(rows, vote)
    note = f"{longer} votes were given after more turns than the first, which alone is read"
    return dataclasses.replace(found, notes=(note,) if longer else ())


def read_alpaca_eval(rows: Rows) -> Export:
    """The annotations of alpaca_eval: two outputs, and a preference from 1 (the first) to 2."""
    return _each(rows, _alpaca_eval)


def _each(rows: Rows, vote: Callable[[int, Mapping[str, Any]], Vote]) -> Export:
    """What ``vote`` makes of each row."""
    votes: list[Vote] = []
    bad: BadRows = {}
    left_out: dict[int, str] = {}
    for number, row in rows.items():
        try:
            votes.append(vote(number, row))
        except _LeftOut as reason:
            left_out[number] = str(reason)
        except ValueError as error:
            bad[number] = str(error)
    return Export(len(rows), tuple(votes), bad, left_out)


def _arena(number: int, row: Mapping[str, Any]) -> tuple[Vote, int]:
    """The vote of a row, and how many turns it was given after."""
    outcome = _winner(row)
    models = text_of(row, "model_a"), text_of(row, "model_b")
    if models[0] == models[1]:
        raise _LeftOut(_SAME_MODEL)
    if "conversation_a" in row:
        (prompt, a, turns), (other, b, _) = _first_turn(row, "conversation_a"), _first_turn(row, "conversation_b")
    else:  # 55k: each a JSON list of its turns' texts
        prompts, answers, others = (_listed(row, name) for name in ("prompt", "response_a", "response_b"))
        prompt = other = _turn_text(next(iter(prompts), None), "the first turn of prompt")
        a = _turn_text(next(iter(answers), None), "the first turn of response_a")
        b = _turn_text(next(iter(others), None), "the first turn of response_b")
        turns = len(prompts)
    if prompt != other:
        raise ValueError("conversation_a and conversation_b begin with different prompts")
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    judges = (as_text(row.get(name)) for name in ("judge", "judge_hash"))
    user = next((judge for judge in judges if judge and judge.strip()), EVERYONE)
    return Vote(number, user, prompt, models, (a, b), outcome), turns


def _winner(row: Mapping[str, Any]) -> float:
    """1 where a wins, 0 where b does, 0.5 for every tie."""
    if "winner" in row:
        outcome = _WINNERS.get(str(row["winner"]).strip().lower())
        if outcome is None:
            raise ValueError(f"winner {row['winner']!s:.40} is none of {', '.join(_WINNERS)}")
        return outcome
    flags = {name: str(row.get(f"winner_{name}")) for name in ("model_a", "model_b", "tie")}
    won = [name for name, flag in flags.items() if flag in _YES]
    if len(won) != 1 or not all(flag in _YES + _NO for flag in flags.values()):
        raise ValueError(f"not one of winner_model_a, winner_model_b, winner_tie is 1: {', '.join(flags.values())}")
    return _WINNERS[won[0]]


def _first_turn(row: Mapping[str, Any], name: str) -> tuple[str, str, int]:
    """The first prompt and its answer in a conversation, and how many prompts it has."""
    turns = _listed(row, name)
    if not all(isinstance(turn, Mapping) for turn in turns):
        raise ValueError(f"{name} holds turns without a role")
    asked = [i for i, turn in enumerate(turns) if turn.get("role") == "user"]
    if not asked or asked[0] + 1 >= len(turns) or turns[asked[0] + 1].get("role") != "assistant":
        raise ValueError(f"{name} has no prompt of a user that an assistant answers")
    first = asked[0]
    prompt = _turn_text(turns[first].get("content"), f"the first prompt of {name}")
    return prompt, _turn_text(turns[first + 1].get("content"), f"the first answer of {name}"), len(asked)


def _listed(row: Mapping[str, Any], name: str) -> list[Any]:
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


def _turn_text(content: Any, what: str) -> str:
    """The text of a turn's content: a text, or a list of parts that all are texts."""
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
        if not isinstance(text, str) or as_text(text) is None:
            raise ValueError(f"{what} is no text")
        texts.append(text)
    return "\n".join(texts)


def _alpaca_eval(number: int, row: Mapping[str, Any]) -> Vote:
    written = as_text(row.get("preference"))
    preference = _number(written)
    if not written or written.strip().lower() in ("nan", "none"):
        raise _LeftOut("the annotator gave no preference")
    if preference == 0:  # how earlier versions write a draw
        preference = 1.5
    if not 1 <= preference <= 2:
        raise ValueError(f"preference {written:.40} is no number in [1, 2]")
    models = text_of(row, "generator_1"), text_of(row, "generator_2")
    if models[0] == models[1]:
        raise _LeftOut(_SAME_MODEL)
    prompt = text_of(row, "instruction")
    if given := as_text(row.get("input")):  # what the instruction is about, in some of its data sets
        prompt += f"\n\n{given}"
    responses = as_text(row.get("output_1")), as_text(row.get("output_2"))
    if responses[0] is None or responses[1] is None:
        raise ValueError(f"{'output_1' if responses[0] is None else 'output_2'} is no text")
    user = as_text(row.get("annotator")) or EVERYONE
    return Vote(number, user, prompt, models, (responses[0], responses[1]), round(2 - preference, 12))


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A column's text. Raises ValueError where it is missing or blank."""
    text = as_text(row.get(name))
    if text is None or not text.strip():
        raise ValueError(f"{name} is missing")
    return text


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
