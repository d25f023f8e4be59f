"""Own votes in the terminal: two anonymous responses, a key, kept at once in the format that --preferences reads."""

from __future__ import annotations

import random
import re
import shutil
import textwrap
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cli import agreement
from cli.flags import command_like
from cli.keys import Screen
from core.errors import MissingError
from core.files import append_line, drop_last_line, lock
from core.records import Preference, Prompt, Response
from people.asking import SURE, TOLD_FROM, Asking, Standing
from people.own_votes import USER, on_these, own_votes_file, read_own_votes
from people.votes import Votes
from stages.material import FEWEST_PROMPTS

if TYPE_CHECKING:
    from base.features import Features
    from cli.backend import Backend
    from stages.tasks import Job

# What a key or a word stands for, as it is kept: 1 the left one is preferred, 0.5 a tie.
_VOTES: Mapping[str, Mapping[str, Any]] = {
    "a": {"outcome": 1.0}, "b": {"outcome": 0.0}, "t": {"outcome": 0.5}, "x": {"outcome": 0.5, "both_bad": True},
}  # fmt: skip
MOST_TOLD = 200  # votes: more are "hundreds"
_WORDS = {"tie": "t", "both bad": "x", "undo": "u", "quit": "q"}
_KEYS = "a: A is better  b: B is better  t: tie  x: both bad  u: undo  q: quit"
# Escape sequences; then all control characters but line ends and tabs, and the marks that turn text around.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.?")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def vote(args: Namespace, job: Job, backend: Backend) -> int:
    """Votes on pairs of this persona's responses, each kept at once; then what they say and what learns from them.

    Responses that read the same are no choice and left out.
    """
    from cli.learned import base_of
    from data_generation import collect_responses, generate_prompts

    prompts = generate_prompts(job)
    responses = collect_responses(job, prompts)
    path = own_votes_file(job.name, args.cache_dir)
    ratings = {model: rating.elo for model, rating in (backend.ratings or {}).items()}
    if args.base_model == "auto":  # what follows from these votes reads no text anew that the persona's run has read
        args = Namespace(**{**vars(args), "base_model": base_of(job) or "auto"})
    features = _kept_features(args.base_model, job, prompts, responses) if args.base_model != "auto" else None
    asking = Asking(responses, features, ratings, job.params)
    about = {"persona": job.name, "backend": job.llm.backend}
    vote_session(pairs_of(prompts, responses), path, asking, Screen(), about=about, seed=job.params.random_seed)
    votes = read_own_votes(path)
    if votes is None:
        print("No votes yet.")
        return 0
    own = on_these(votes, prompts, responses)
    if own:
        asking.learn(own)
        print(_wrapped(_by_your_votes(asking.standing(), len(own))))
        print(_wrapped(agreement.sentence(job, own)))
    print("\n".join(_next_steps(args, votes, path)))
    return 0


def _kept_features(base: str, job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> Features | None:
    """Features of all responses where a run has left them; nothing is computed while somebody waits."""
    from base.features import Base, compute_features

    def closed(name: str, kind: str) -> Base:
        raise MissingError(f"{name} is not opened on {kind}")

    try:
        return compute_features(base, prompts, responses, cache_dir=job.cache_dir, name=job.name, open_base=closed)
    except MissingError:
        return None


def _by_your_votes(standing: Standing, votes: int) -> str:
    chances = ", ".join(f"{model} {_percent(chance)}" for model, chance in standing.chances.items())
    return f"By your {_count(votes, 'vote')}, the chance that each model is the best: {chances}. {_more(standing)}"


def _next_steps(args: Namespace, votes: Votes, path: Path) -> list[str]:
    like = ("base_model", "cache_dir")
    given = f"{_count(len(votes.preferences), 'vote')} on {_count(len(votes.prompts), 'prompt')} in all."
    learn = command_like(["--preferences", str(path)], args, like)
    if (more := FEWEST_PROMPTS - len(votes.prompts)) > 0:
        needed = f"Votes on {FEWEST_PROMPTS} prompts are needed before anything can learn from them: on {more} more."
        return [
            _wrapped(f"{given} {needed}"),
            "The same command goes on with the pairs that are left; then:",
            f"  {learn}",
        ]
    rank = command_like(["--persona", path.stem, "--rank", "PROMPT"], args, like)
    return [_wrapped(f"{given} Which model for a prompt, by your votes (it learns them first)?"), f"  {rank}",
            "All systems on your votes, with tables and plots:", f"  {learn}"]  # fmt: skip


# ── A session ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models' responses to one prompt."""

    prompt_id: str
    prompt: str
    model_a: str
    response_a: str
    model_b: str
    response_b: str

    def turned(self) -> Pair:
        """The same with the sides changed."""
        return Pair(self.prompt_id, self.prompt, self.model_b, self.response_b, self.model_a, self.response_a)

    def preference(self, outcome: float) -> Preference:
        """A vote on it."""
        return Preference(self.prompt_id, self.model_a, self.model_b, outcome, USER)


class Shown(Protocol):
    """What a session needs of a screen."""

    def page(self, text: str) -> None: ...
    def say(self, text: str) -> None: ...
    def ask(self, question: str) -> str: ...


def pairs_of(prompts: Sequence[Prompt], responses: Iterable[Response]) -> list[Pair]:
    """Every two responses to one prompt that do not read the same."""
    of: dict[str, list[Response]] = {p.id: [] for p in prompts}
    for response in responses:
        of[response.prompt_id].append(response)
    return [
        Pair(prompt.id, prompt.text, a.model, a.text, b.model, b.text)
        for prompt in prompts
        for a, b in combinations(of[prompt.id], 2)
        if a.text.strip() != b.text.strip()
    ]


def vote_session(
    pairs: Sequence[Pair], path: Path, asking: Asking, screen: Shown, *, about: Mapping[str, str], seed: int = 0
) -> int:
    """Ask for a vote on pair after pair that this person has not voted on; the number of votes given and kept.

    ``asking`` chooses the pairs, the sides are drawn from ``seed``; model names are never shown. ``about`` is kept with
    every vote. End of input means quit; Ctrl-C comes through. Every vote given before is kept. Raises UsageError where
    another session is going on.
    """
    with lock(path.parent, timeout=0):
        session = _Session(pairs, path, asking, about)
        draw = random.Random(seed)  # noqa: S311 - no secret
        try:
            session.run(screen, draw)
        except EOFError:
            screen.say("")  # the question's line has no end yet
        except KeyboardInterrupt:
            screen.say("")
            raise
        finally:
            screen.say(session.said())
        return len(session.given)


class _Session:
    """What was voted and what is left."""

    def __init__(self, pairs: Sequence[Pair], path: Path, asking: Asking, about: Mapping[str, str]) -> None:
        self._path, self._asking, self._about = path, asking, about
        prompts = [Prompt(pair.prompt_id, pair.prompt) for pair in pairs]
        texts = [
            Response(p.prompt_id, m, t)
            for p in pairs
            for m, t in ((p.model_a, p.response_a), (p.model_b, p.response_b))
        ]
        self._votes = [p for p in on_these(read_own_votes(path), prompts, texts) if p.user == USER]
        voted = {(p.prompt_id, frozenset((p.model_a, p.model_b))) for p in self._votes}
        self._left = [p for p in pairs if (p.prompt_id, frozenset((p.model_a, p.model_b))) not in voted]
        self._again: list[Pair] = []
        """Pairs that were shown and are not voted on, the next one last."""
        self.given: list[tuple[Pair, str]] = []
        """Votes of this session: pair and key."""

    def run(self, screen: Shown, draw: random.Random) -> None:
        """Until nothing is left, or somebody quits."""
        note = ""
        while self._again or self._left:
            self._asking.learn(self._votes)
            if not self._again:
                self._again.append(self._next(draw))
            total = len(self._votes) + len(self._again) + len(self._left)
            screen.page(_page(self._again[-1], len(self._votes) + 1, total, note or self._status()))
            note = ""
            key = _answer(screen)
            if key == "q":
                return
            if key == "u":
                note = self._undo()
            else:
                self._keep(self._again.pop(), key)

    def _next(self, draw: random.Random) -> Pair:
        chosen = self._asking.next_pair([(p.prompt_id, p.model_a, p.model_b) for p in self._left])
        pair = self._left.pop(chosen)
        return pair.turned() if draw.random() < 0.5 else pair

    def _keep(self, pair: Pair, key: str) -> None:
        append_line(self._path, {"user": USER, **asdict(pair), **_VOTES[key], **self._about})
        self._votes.append(pair.preference(_VOTES[key]["outcome"]))
        self.given.append((pair, key))

    def _undo(self) -> str:
        if not self.given:
            return "Nothing to undo in this session."
        drop_last_line(self._path)
        self._votes.pop()
        self._again.append(self.given.pop()[0])
        return "The last vote is taken back; here is its pair again."

    def _status(self) -> str:
        return _so_far(self._asking.standing(), len(self._votes)) if self._votes else ""

    def said(self) -> str:
        """What was given and kept, for the end."""
        keys = [key for _, key in self.given]
        ties, bad = keys.count("t") + keys.count("x"), keys.count("x")
        detail = f" (ties: {ties}, of which both bad: {bad})" if ties else ""
        left = len(self._again) + len(self._left)
        return f"{_count(len(keys), 'vote')} saved in {self._path}{detail}; pairs left: {left}"


def _answer(screen: Shown) -> str:
    """One of a, b, t, x, u, q."""
    while True:
        answer = screen.ask(f"{_KEYS} > ").strip().lower()
        answer = _WORDS.get(answer, answer)
        if answer in _VOTES or answer in ("u", "q"):
            return answer
        screen.say("Please answer a, b, t, x, u or q.")


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────


def _so_far(standing: Standing, votes: int) -> str:
    """Without names: who knows what leads would look for it."""
    chance = _percent(next(iter(standing.chances.values())))
    return f"{_count(votes, 'vote')} so far: the model ahead is the best with a chance of {chance}. {_more(standing)}"


def _more(standing: Standing) -> str:
    if standing.ahead >= SURE:
        return f"It is ahead of the second with {_percent(standing.ahead)}."
    if standing.more_votes is None:
        return f"How many more would separate the best two is said from {TOLD_FROM} votes on."
    if standing.more_votes > MOST_TOLD:
        return "It would take hundreds of votes to separate the best two."
    return f"Roughly {_count(standing.more_votes, 'more vote')} would separate the best two."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _percent(chance: float) -> str:
    return f"{100.0 * min(max(chance, 0.01), 0.99):.0f}\u00a0%"  # no line ends before the sign


def _wrapped(text: str, width: int = 80) -> str:
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False))


def _page(pair: Pair, number: int, total: int, status: str) -> str:
    width = min(100, max(20, shutil.get_terminal_size().columns))
    parts = [_rule(f"Pair {number} of {total}", width), _readable(pair.prompt, width)]
    for label, text in (("A", pair.response_a), ("B", pair.response_b)):
        parts += [_rule(f"Response {label}", width), _readable(text, width) or "(no answer)"]
    return "\n".join((*parts, "─" * width, *([_wrapped(status, width)] if status else [])))


def _rule(title: str, width: int) -> str:
    return f"── {title} ".ljust(width, "─")


def _readable(text: str, width: int) -> str:
    """Text that does nothing to the terminal but to be read, long lines wrapped, indentation kept."""
    plain = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))).expandtabs(4)
    lines = (
        textwrap.wrap(line, width, replace_whitespace=False, drop_whitespace=False) or [""]
        for line in plain.split("\n")
    )
    return "\n".join(piece for line in lines for piece in line).strip("\n")
