"""A session of own votes: which pair comes next, what a key does, how sure the order is, wherever it is asked.

with open_session(prompts, responses, path, models, about, seed) as session:
    while session.pair:
        session.press("a")      # on the disk when this returns, in the format that --preferences reads
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from core.files import append_line, drop_last_line, lock
from core.records import Preference, Prompt, Response
from core.text import normal
from people.next_pair import SURE, TOLD_FROM, Standing, TopTwo
from people.read import USER, on_these, read_own_votes

# Each key, and the vote that is kept of it: 1 prefers the response on the left, 0.5 is a tie.
VOTES: Mapping[str, Mapping[str, Any]] = {
    "a": {"outcome": 1.0}, "b": {"outcome": 0.0}, "t": {"outcome": 0.5}, "x": {"outcome": 0.5, "both_bad": True},
}  # fmt: skip
MOST_TOLD = 200  # votes: more are "hundreds"


class Pair(NamedTuple):
    """Two models' responses to one prompt."""

    prompt_id: str
    prompt: str
    model_a: str
    response_a: str
    model_b: str
    response_b: str

    @property
    def models(self) -> frozenset[str]:
        """Both."""
        return frozenset((self.model_a, self.model_b))

    def turned(self) -> Pair:
        """The same with the sides changed."""
        return Pair(self.prompt_id, self.prompt, self.model_b, self.response_b, self.model_a, self.response_a)


def pairs_of(prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Pair]:
    """Every two responses to one prompt that do not read the same."""
    return [
        Pair(prompt.id, prompt.text, a.model, a.text, b.model, b.text)
        for prompt in prompts
        for a, b in combinations([r for r in responses if r.prompt_id == prompt.id], 2)
        if normal(a.text) != normal(b.text)
    ]


class Session:
    """One person's votes on pair after pair. Each is on the disk before the next pair is chosen.

    A number stands for one pair on the same sides throughout a session, undone votes or not.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Response],
        path: Path,
        models: TopTwo,
        about: Mapping[str, str],
        seed: int,
    ) -> None:
        self.path, self._models, self.about, self._draw = path, models, about, random.Random(seed)  # noqa: S311
        self._votes = [p for p in on_these(read_own_votes(path), prompts, responses) if p.user == USER]
        voted = {(p.prompt_id, frozenset((p.model_a, p.model_b))) for p in self._votes}
        self._left = [pair for pair in pairs_of(prompts, responses) if (pair.prompt_id, pair.models) not in voted]
        self._shown: list[Pair] = []  # without a vote yet, the one to vote on last
        self.given: list[tuple[Pair, str]] = []
        """Votes of this session: pair and key."""
        self.note = ""
        """What there is to say of the last key."""
        self._go_on()

    @property
    def pair(self) -> Pair | None:
        """The pair to vote on; None where all are done."""
        return self._shown[-1] if self._shown else None

    @property
    def number(self) -> int:
        """The pair's number, those of earlier sessions counted."""
        return len(self._votes) + 1

    @property
    def total(self) -> int:
        """All pairs that there are."""
        return len(self._votes) + self.pairs_left

    @property
    def pairs_left(self) -> int:
        """Pairs without a vote."""
        return len(self._shown) + len(self._left)

    def press(self, key: str) -> None:
        """Keep the vote of one of the keys VOTES, or take this session's last one back (u)."""
        self.note = "Nothing to undo in this session." if key == "u" and not self.given else ""
        if key == "u" and self.given:
            drop_last_line(self.path)
            self._votes.pop()
            self._shown.append(self.given.pop()[0])
            self.note = "The last vote is taken back; here is its pair again."
        elif key != "u":
            pair = self._shown[-1]
            append_line(self.path, {"user": USER, **pair._asdict(), **VOTES[key], **self.about})  # on the disk by now
            self._votes.append(Preference(pair.prompt_id, pair.model_a, pair.model_b, VOTES[key]["outcome"], USER))
            self.given.append((self._shown.pop(), key))
        self._go_on()

    def _go_on(self) -> None:
        self._models.learn(self._votes)
        if self._left and not self._shown:
            pair = self._left.pop(self._models.next_pair([pair.models for pair in self._left]))
            self._shown.append(pair.turned() if self._draw.random() < 0.5 else pair)

    def progress(self) -> str:
        """The note, else how sure the best is by now and what would separate the best two."""
        return self.note or so_far(self._models.standing(), len(self._votes))

    def saved(self) -> str:
        """What this session kept."""
        keys = [key for _, key in self.given]
        ties, bad = keys.count("t") + keys.count("x"), keys.count("x")
        detail = f" (ties: {ties}, of which both bad: {bad})" if ties else ""
        return f"{count(len(keys), 'vote')} saved in {self.path}{detail}; pairs left: {self.pairs_left}"


class End(NamedTuple):
    """What is said, with names, when a session is over."""

    title: str
    chances: Mapping[str, float]
    """{model: chance that it is the best}, most likely first; empty without a vote."""
    remarks: Sequence[str]
    commands: Sequence[tuple[str, str]]
    """What to do next, and its command line."""


@contextmanager
def open_session(
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    path: Path,
    models: TopTwo,
    about: Mapping[str, str],
    seed: int,
) -> Iterator[Session]:
    """Go on with the votes in ``path`` by the pairs that this person has not voted on.

    ``models`` chooses the pairs, the sides are drawn from ``seed``; ``about`` is kept with every vote. Every vote given
    before is kept. Raises UsageError where another session is going on.
    """
    with lock(path.parent, timeout=0):
        yield Session(prompts, responses, path, models, about, seed)


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────


def so_far(standing: Standing, votes: int) -> str:
    """Without names: who knows what leads would look for it."""
    chance = percent_sure(next(iter(standing.chances.values())))
    so_far = f"{count(votes, 'vote')} so far: the model ahead is the best with a chance of {chance}."
    return f"{so_far} {more(standing)}" if votes else ""


def more(standing: Standing) -> str:
    """How many more votes would separate the best two."""
    if standing.ahead >= SURE:
        return f"It is ahead of the second with {percent_sure(standing.ahead)}."
    if standing.more_votes is None:
        return f"How many more would separate the best two is said from {TOLD_FROM} votes on."
    if standing.more_votes > MOST_TOLD:
        return "It would take hundreds of votes to separate the best two."
    return f"Roughly {count(standing.more_votes, 'more vote')} would separate the best two."


def count(number: int, thing: str) -> str:
    """A number with its noun."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def percent_sure(chance: float) -> str:
    """A chance in percent, never 0 or 100: a few votes prove nothing."""
    return f"{100.0 * min(max(chance, 0.01), 0.99):.0f}\u00a0%"  # no line ends before the sign
