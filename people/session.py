"""Own votes in the terminal: two anonymous responses, one key, kept at once in the format that --preferences reads."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from core.files import append_line, drop_last_line, lock
from core.records import Preference, Prompt, Response
from core.text import plain
from evidence.judge_quality import FEWEST_SHARED, agreement_with_person
from people.next_pair import SURE, TOLD_FROM, Standing, TopTwo
from people.read import USER, on_these, own_votes_file, read_own_votes
from stages.own import FEWEST_PROMPTS
from stages.tasks import Job

# Each key, and the vote that is kept of it: 1 prefers the response on the left, 0.5 is a tie.
VOTES: Mapping[str, Mapping[str, Any]] = {
    "a": {"outcome": 1.0}, "b": {"outcome": 0.0}, "t": {"outcome": 0.5}, "x": {"outcome": 0.5, "both_bad": True},
}  # fmt: skip
WORDS = {"tie": "t", "both bad": "x", "undo": "u", "quit": "q"}
KEYS = "a: A is better  b: B is better  t: tie  x: both bad  u: undo  q: quit"
MOST_TOLD = 200  # votes: more are "hundreds"
CLEAR = "\x1b[2J\x1b[H"
END = "\x04"  # Ctrl-D


def vote(job: Job, command: Callable[..., str], judged: Callable[[], Sequence[Preference]]) -> int:
    """Votes on pairs of this persona's responses, each kept at once; then the order of the models by them.

    Responses that read the same are no choice and left out. ``command`` makes a command line of these flags that goes
    on with this run's cache and base; ``judged`` gives the simulated persona's preferences, as far as they are cached.
    """
    from data_generation import collect_responses, generate_prompts

    prompts = generate_prompts(job)
    responses = collect_responses(job, prompts)
    path = own_votes_file(job.name, job.cache_dir)
    models = TopTwo(responses, {m: rating.elo for m, rating in (job.ratings or {}).items()}, job.params)
    about = {"persona": job.name, "backend": job.llm.backend}
    vote_session(prompts, responses, path, models, Screen(), about=about, seed=job.params.random_seed)
    votes = read_own_votes(path)
    if not votes:
        print("No votes yet.")
        return 0
    if own := on_these(votes, prompts, responses):
        models.learn(own)
        found = models.standing()
        chances = ", ".join(f"{model} {_percent(chance)}" for model, chance in found.chances.items())
        by = f"By your {_count(len(own), 'vote')}, the chance that each model is the best: {chances}. {_more(found)}"
        print(_wrapped(by))
        print(_wrapped(agreement(job.name, own, judged())))
    on = len({vote.prompt_id for vote in votes})
    given = f"{_count(len(votes), 'vote')} on {_count(on, 'prompt')} in all."
    learn, rank = command("--preferences", str(path)), command("--preferences", str(path), "--rank", "PROMPT")
    if (more := FEWEST_PROMPTS - on) > 0:
        needed = f"Votes on {FEWEST_PROMPTS} prompts are needed before anything can learn from them: on {more} more."
        print(_wrapped(f"{given} {needed}"))
        print(f"The same command goes on with the pairs that are left; then:\n  {learn}")
    else:
        print(_wrapped(f"{given} This ranks the models for a prompt by your votes:"), f"  {rank}", sep="\n")
        print(f"All systems on your votes, with tables and plots:\n  {learn}")
    return 0


def agreement(persona: str, votes: Sequence[Preference], judged: Sequence[Preference]) -> str:
    """How far the judge, as this persona, agrees with ``votes`` on the same responses."""
    who = f"The simulated {persona}"
    if not judged:
        return f"{who} has not judged these pairs: whether it agrees with you is said once its own run is done."
    found = agreement_with_person(votes, judged)
    if found["kappa"] is None:
        return (
            f"Whether the simulated {persona} agrees with you is said from {FEWEST_SHARED} pairs on that you both "
            f"decide; there are {found['pairs']}."
        )
    low, high = found["ci95"]
    return (
        f"{who} agrees with you on {100.0 * found['share']:.0f} % of the {found['pairs']} pairs that you both decide: "
        f"κ = {found['kappa']:.2f} [{low:.2f}, {high:.2f}], where 0 is chance and 1 always."
    )


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

    @property
    def models(self) -> frozenset[str]:
        """Both."""
        return frozenset((self.model_a, self.model_b))

    def turned(self) -> Pair:
        """The same with the sides changed."""
        return Pair(self.prompt_id, self.prompt, self.model_b, self.response_b, self.model_a, self.response_a)


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
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    path: Path,
    models: TopTwo,
    screen: Screen,
    *,
    about: Mapping[str, str],
    seed: int = 0,
) -> int:
    """Ask for a vote on pair after pair that this person has not voted on; the number of votes given and kept.

    ``models`` chooses the pairs, the sides are drawn from ``seed``; model names are never shown. ``about`` is kept with
    every vote. End of input means quit; Ctrl-C comes through. Every vote given before is kept. Raises UsageError where
    another session is going on.
    """
    with lock(path.parent, timeout=0):
        votes = [p for p in on_these(read_own_votes(path), prompts, responses) if p.user == USER]
        voted = {(p.prompt_id, frozenset((p.model_a, p.model_b))) for p in votes}
        left = [pair for pair in pairs_of(prompts, responses) if (pair.prompt_id, pair.models) not in voted]
        session = _Session(path, models, about, random.Random(seed), votes, left)  # noqa: S311 - no secret
        try:
            note = ""
            while session.turn():
                screen.page(session.page(note))
                note, key = "", _key(screen)
                if key == "q":
                    break
                if key == "u":
                    note = session.undo()
                else:
                    session.keep(key)
        except (EOFError, KeyboardInterrupt) as end:
            screen.say("")  # the question's line has no end yet
            if isinstance(end, KeyboardInterrupt):
                raise
        finally:
            screen.say(session.summary())
        return len(session.given)


def _key(screen: Screen) -> str:
    """One of a, b, t, x, u, q."""
    while True:
        answer = screen.ask(f"{KEYS} > ").strip().lower()
        answer = WORDS.get(answer, answer)
        if answer in VOTES or answer in ("u", "q"):
            return answer
        screen.say("Please answer a, b, t, x, u or q.")


@dataclass
class _Session:
    """Votes so far, and pairs that are left."""

    path: Path
    models: TopTwo
    about: Mapping[str, str]
    draw: random.Random
    votes: list[Preference]
    """Of all sessions, on the responses at hand."""
    left: list[Pair]
    shown: list[Pair] = field(default_factory=list)
    """Pairs that were shown and have no vote, the one to vote on last."""
    given: list[tuple[Pair, str]] = field(default_factory=list)
    """Votes of this session: pair and key."""

    def turn(self) -> bool:
        """Learn what was voted and choose the next pair; False where none is left."""
        if not (self.shown or self.left):
            return False
        self.models.learn(self.votes)
        if not self.shown:
            pair = self.left.pop(self.models.next_pair([pair.models for pair in self.left]))
            self.shown.append(pair.turned() if self.draw.random() < 0.5 else pair)
        return True

    def page(self, note: str) -> str:
        """The pair, and below it ``note`` or how sure the order is by now."""
        pair, total = self.shown[-1], len(self.votes) + len(self.shown) + len(self.left)
        width = min(100, max(20, shutil.get_terminal_size().columns))
        parts = [_rule(f"Pair {len(self.votes) + 1} of {total}", width), _readable(pair.prompt, width)]
        for label, text in (("A", pair.response_a), ("B", pair.response_b)):
            parts += [_rule(f"Response {label}", width), _readable(text, width) or "(no answer)"]
        if self.votes and not note:  # without names: who knows what leads would look for it
            found = self.models.standing()
            chance = _percent(next(iter(found.chances.values())))
            so_far = f"{_count(len(self.votes), 'vote')} so far: the model ahead is the best with a chance of {chance}."
            note = f"{so_far} {_more(found)}"
        return "\n".join([*parts, "─" * width, *([_wrapped(note, width)] if note else [])])

    def keep(self, key: str) -> None:
        """The vote on the pair that is shown, on the disk on return."""
        pair = self.shown.pop()
        append_line(self.path, {"user": USER, **asdict(pair), **VOTES[key], **self.about})
        self.votes.append(Preference(pair.prompt_id, pair.model_a, pair.model_b, VOTES[key]["outcome"], USER))
        self.given.append((pair, key))

    def undo(self) -> str:
        """Take back this session's last vote; what to say."""
        if not self.given:
            return "Nothing to undo in this session."
        drop_last_line(self.path)
        self.votes.pop()
        self.shown.append(self.given.pop()[0])
        return "The last vote is taken back; here is its pair again."

    def summary(self) -> str:
        """Votes given and kept, for the end."""
        keys = [key for _, key in self.given]
        ties, bad = keys.count("t") + keys.count("x"), keys.count("x")
        detail = f" (ties: {ties}, of which both bad: {bad})" if ties else ""
        left = len(self.shown) + len(self.left)
        return f"{_count(len(keys), 'vote')} saved in {self.path}{detail}; pairs left: {left}"


# ── The terminal ─────────────────────────────────────────────────────────────────────────────────────────


class Screen:
    """Pages and questions: a terminal is read key by key, anything else line by line."""

    def page(self, text: str) -> None:
        """A text alone on a cleared terminal; where it is longer than that, how to see its beginning."""
        alone = sys.stdout.isatty()
        print(CLEAR + text if alone else "\n" + text, flush=True)
        if alone and text.count("\n") + 2 > shutil.get_terminal_size().lines:
            print("(scroll up for the beginning)", flush=True)

    def say(self, text: str) -> None:
        """One more line."""
        print(text, flush=True)

    def ask(self, question: str) -> str:
        """A key, or the line that stands for one. Raises EOFError where the input ends."""
        if sys.platform == "win32" or not sys.stdin.isatty():
            return input(question)
        print(question, end="", flush=True)
        key = _pressed()
        print(key if key.isprintable() else "", flush=True)
        if key in ("", END):
            raise EOFError
        return key


def _pressed() -> str:
    """One key, without Enter. What was typed before the question is dropped: it was meant for another pair. A key of
    several characters (an arrow, a pasted text) is handed over whole: its last letter alone could pass for a vote."""
    import tty

    fd = sys.stdin.fileno()
    with _restored(fd):
        tty.setcbreak(fd)  # Ctrl-C still interrupts
        return os.read(fd, 1024).decode("utf-8", "replace")


@contextmanager
def _restored(fd: int) -> Iterator[None]:
    """The terminal as it was, also where the program is told to end."""
    import termios

    before = termios.tcgetattr(fd)
    ends = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, ends)


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────


def _more(standing: Standing) -> str:
    if standing.ahead >= SURE:
        return f"It is ahead of the second with {_percent(standing.ahead)}."
    if standing.more_votes is None:
        return f"How many more would separate the best two is said from {TOLD_FROM} votes on."
    if standing.more_votes > MOST_TOLD:
        return "It would take hundreds of votes to separate the best two."
    return f"Roughly {_count(standing.more_votes, 'more vote')} would separate the best two."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _percent(chance: float) -> str:
    return f"{100.0 * min(max(chance, 0.01), 0.99):.0f}\u00a0%"  # no line ends before the sign


def _wrapped(text: str, width: int = 80) -> str:
    return "\n".join(textwrap.wrap(plain(text), width, break_on_hyphens=False))


def _rule(title: str, width: int) -> str:
    return f"── {title} ".ljust(width, "─")


def _readable(text: str, width: int) -> str:
    """Long lines wrapped, indentation kept, and nothing in it that steers the terminal."""
    lines = plain(text, lines=True).expandtabs(4).split("\n")
    wrapped = (textwrap.wrap(line, width, replace_whitespace=False, drop_whitespace=False) or [""] for line in lines)
    return "\n".join(piece for line in wrapped for piece in line).strip("\n")
