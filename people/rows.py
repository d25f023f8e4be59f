"""Votes row by row: our own columns, the Arena's data sets and alpaca_eval's annotations.

votes, bad, left_out = each_row(rows, arena_vote)
votes[0].figure
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from core.errors import UsageError
from core.records import Preference
from core.tables import BadRows, Row, Rows, figure_of, id_in, text_in

VOTE_COLUMNS = ("user", "prompt_id", "prompt", "model_a", "response_a", "model_b", "response_b", "outcome")
SCORE_COLUMNS = ("user", "prompt_id", "prompt", "model", "response", "score")
EVERYONE = "everyone"  # who voted, where the data do not say
T = TypeVar("T")


class Vote(NamedTuple):
    """One comparison of two responses, or a score of one."""

    row: int
    """Number of the row that it comes from."""
    user: str
    prompt_id: str
    """The file's; empty where it has none."""
    prompt: str
    models: tuple[str, ...]
    responses: tuple[str, ...]
    figure: float
    """The outcome, 1 where the first is preferred; or the score."""
    rated: tuple[bool, ...] = (True, True)
    """True for each response that the person said something about; the other one is only compared with it."""
    longer: bool = False
    """True where the conversation went on after the first turn before the vote was given."""

    def claims(self) -> Iterator[tuple[tuple[str, str], str]]:
        """The text of the prompt, by its id and no model, and of each response, by prompt and model."""
        yield (self.prompt_id, ""), self.prompt
        for model, response in zip(self.models, self.responses, strict=True):
            yield (self.prompt_id, model), response

    def preference(self) -> Preference:
        """The vote as a record."""
        return Preference(self.prompt_id, self.models[0], self.models[1], self.figure, self.user)


class Found(NamedTuple):
    """Everything in a file. Each row is in ``votes`` (several may make one vote), in ``bad`` or in ``left_out``."""

    votes: list[Vote]
    bad: BadRows
    left_out: dict[int, str]
    """{row number: why}: good rows that are no votes on first answers."""
    notes: tuple[str, ...] = ()


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


# ── Outcomes ─────────────────────────────────────────────────────────────────────────────────────────────

WINNERS = {
    "model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5, "tie (both bad)": 0.5, "tie (inconsistent)": 0.5,
    "both_bad": 0.5, "bothbad": 0.5,
}  # fmt: skip
_YES = ("1", "1.0", "true")


def refuse_coding(values: Iterable[object], source: str, usual: str, *, low: float = 0.0, high: float = 1.0) -> None:
    """Raise UsageError where the figures of a whole column mean something else than numbers from ``low`` to ``high``.

    Leaving the rows out that don't fit would misread the others: of −1, 0, 1 the ties would count as defeats.
    """
    figures = [figure for value in values if math.isfinite(figure := figure_of(value))]
    found, outside = set(figures), [figure for figure in figures if not low <= figure <= high]
    many = len(outside) > max(1, 0.1 * len(figures))
    if -1 in found:
        coding = "-1, 0, 1"
    elif (low and found == {0, 1}) or (not low and found & {2, 3} and found <= {0, 1, 2, 3}):
        coding = ", ".join(f"{figure:g}" for figure in sorted(found))
    elif many and min(found) >= 0 and 2 <= max(found) <= 100:
        coding = f"0 to {max(found):g}"
    else:
        return
    raise UsageError(f"{source}: the votes are coded {coding}, and {usual}. Nothing was changed. Write them so.")


def _outcome(row: Row) -> float:
    """A number in [0, 1], or a word of the Arena's."""
    value = row.get("outcome")
    if value is None or value == "":
        raise ValueError("outcome is missing")
    word = value.strip().lower() if isinstance(value, str) else ""
    outcome = WINNERS.get(word, figure_of(value))
    if not 0.0 <= outcome <= 1.0:
        raise ValueError(f"outcome is no number in [0, 1]: {value!s:.40}")
    return outcome


# ── Our own columns ──────────────────────────────────────────────────────────────────────────────────────


def own_vote(number: int, row: Row) -> Vote:
    """A row with VOTE_COLUMNS."""
    return _own(number, row, ("_a", "_b"), _outcome)


def own_score(number: int, row: Row) -> Vote:
    """A row with SCORE_COLUMNS."""
    return _own(number, row, ("",), _score)


def _own(number: int, row: Row, sides: tuple[str, ...], figure: Callable[[Row], float]) -> Vote:
    user, prompt_id = text_in(row, "user", figures=True), id_in(row) or ""
    prompt, models = text_in(row, "prompt"), tuple(text_in(row, f"model{side}") for side in sides)
    # an empty response is one: models do answer nothing, and people vote on it
    responses = tuple(text_in(row, f"response{side}", empty=True) for side in sides)
    return Vote(number, user, prompt_id, prompt, models, responses, figure(row), tuple(True for _ in sides))


def _score(row: Row) -> float:
    value = row.get("score")
    if value is None or value == "":
        raise ValueError("score is missing")
    if not math.isfinite(score := figure_of(value)):
        raise ValueError(f"score is no number: {value!s:.40}")
    return score


# ── The Arena's data sets ────────────────────────────────────────────────────────────────────────────────


def arena_vote(number: int, row: Row) -> Vote:
    """Who won, and the first turns of two conversations."""
    # MT-bench asks about each of two turns by itself; everywhere else a vote is on a whole conversation
    by_turn = bool(row.get("turn")) and not {"anony", "tstamp"} & row.keys()
    if by_turn and figure_of(row["turn"]) > 1:
        raise LeftOut("the vote is on a later turn")
    if figure_of(row.get("evaluation_order")) > 1:  # the 140k: its conversation begins with a follow-up
        raise LeftOut("a follow-up in its session (evaluation_order above 1), no first turn")
    outcome, models = _winner(row), (text_in(row, "model_a"), text_in(row, "model_b"))
    (prompt, a, turns), (other, b, _) = _first_turn(row, "a"), _first_turn(row, "b")
    if prompt != other:
        raise ValueError("conversation_a and conversation_b begin with different prompts")
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    longer = turns > 1 and not by_turn
    return Vote(number, _who(row, "judge", "judge_hash"), "", prompt, models, (a, b), outcome, longer=longer)


def _who(row: Row, *names: str) -> str:
    """The first of these columns that says who voted."""
    for name in names:
        try:
            return text_in(row, name, figures=True)
        except ValueError:
            continue
    return EVERYONE


def _winner(row: Row) -> float:
    """1 where a wins, 0 where b does, 0.5 for every tie."""
    if "winner" in row:
        outcome = WINNERS.get(str(row["winner"]).strip().lower())
        if outcome is None:
            raise ValueError(f"winner is none of {', '.join(WINNERS)}: {row['winner']!s:.40}")
        return outcome
    won = [name for name in ("model_a", "model_b", "tie") if str(row.get(f"winner_{name}")).lower() in _YES]
    if len(won) != 1:
        raise ValueError("not one of winner_model_a, winner_model_b, winner_tie is 1")
    return WINNERS[won[0]]


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
        try:
            texts.append(text_in({place: text}, place, empty=True))
        except ValueError:
            raise ValueError(f"{place} is no text") from None
    return "\n".join(texts)


# ── alpaca_eval ──────────────────────────────────────────────────────────────────────────────────────────


def alpaca_eval_vote(number: int, row: Row) -> Vote:
    """Two outputs, and a preference from 1 (the first) to 2."""
    written = row.get("preference")
    if written is None or str(written).strip().lower() in ("", "nan", "none"):
        raise LeftOut("the annotator gave no preference")
    preference = figure_of(written) or 1.5  # earlier versions write 0 for a draw
    if not 1 <= preference <= 2:
        raise ValueError(f"preference is no number in [1, 2]: {written!s:.40}")
    models, prompt = (text_in(row, "generator_1"), text_in(row, "generator_2")), text_in(row, "instruction")
    if row.get("input"):  # what the instruction is about, in some of its data sets
        prompt += f"\n\n{text_in(row, 'input')}"
    outputs = text_of_turn(row.get("output_1"), "output_1"), text_of_turn(row.get("output_2"), "output_2")
    return Vote(number, _who(row, "annotator"), "", prompt, models, outputs, round(2 - preference, 12))
