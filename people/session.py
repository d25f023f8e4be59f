"""Own votes in the terminal: two anonymous responses, one key, kept at once in the format that --preferences reads."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from core.files import append_line, drop_last_line, lock
from core.records import Preference, Prompt, Response
from core.text import normal, plain
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
    path = own_votes_file(job.name)
    models = TopTwo(responses, {m: rating.elo for m, rating in (job.ratings or {}).items()}, job.params)
    about, screen = {"persona": job.name, "backend": job.llm.backend}, Screen()
    vote_session(prompts, responses, path, models, screen, about=about, seed=job.params.random_seed)
    votes = read_own_votes(path)
    if not votes:
        screen.say("No votes yet.")
        return 0
    if own := on_these(votes, prompts, responses):
        models.learn(own)
        found = models.standing()
        chances = ", ".join(f"{model} {_percent(chance)}" for model, chance in found.chances.items())
        by = f"By your {_count(len(own), 'vote')}, the chance that each model is the best: {chances}."
        screen.say(_wrapped(f"{by} {_more(found)}"))
        screen.say(_wrapped(agreement(job.name, own, judged())))
    on = len({vote.prompt_id for vote in votes})
    given, learn = f"{_count(len(votes), 'vote')} on {_count(on, 'prompt')} in all.", ("--preferences", str(path))
    if (more := FEWEST_PROMPTS - on) > 0:
        needed = f"Votes on {FEWEST_PROMPTS} prompts are needed before anything can learn from them: on {more} more."
        screen.say(_wrapped(f"{given} {needed} The same command goes on with the pairs that are left; then:"))
    else:
        rank = command(*learn, "--rank", "PROMPT")
        screen.say(f"{given} This ranks the models for a prompt by your votes:\n  {rank}")
        screen.say("All systems on your votes, with tables and plots:")
    screen.say(f"  {command(*learn)}")
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


class Pair(NamedTuple):
    """Two models' responses to one prompt, as the columns of a vote."""

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


def pairs_of(prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Pair]:
    """Every two responses to one prompt that do not read the same."""
    return [
        Pair(prompt.id, prompt.text, a.model, a.text, b.model, b.text)
        for prompt in prompts
        for a, b in combinations([r for r in responses if r.prompt_id == prompt.id], 2)
        if normal(a.text) != normal(b.text)
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

    Model names are never shown. ``about`` is kept with every vote. End of input means quit; Ctrl-C comes through, and
    every vote is kept. Raises UsageError where another session is going on.
    """
    with lock(path.parent, timeout=0):
        votes = [p for p in on_these(read_own_votes(path), prompts, responses) if p.user == USER]
        voted = {(p.prompt_id, frozenset((p.model_a, p.model_b))) for p in votes}
        left = [pair for pair in pairs_of(prompts, responses) if (pair.prompt_id, pair.models) not in voted]
        shown: list[Pair] = []  # without a vote yet, the one to vote on last
        given: list[tuple[Pair, str]] = []  # votes of this session: pair and key
        draw, note = random.Random(seed), ""  # noqa: S311 - no secret
        try:
            while shown or left:
                models.learn(votes)
                if not shown:
                    pair = left.pop(models.next_pair([pair.models for pair in left]))
                    if draw.random() < 0.5:  # the sides
                        pair = Pair(*pair[:2], *pair[4:], *pair[2:4])
                    shown.append(pair)
                number, total = len(votes) + 1, len(votes) + len(shown) + len(left)
                screen.page(_page(shown[-1], number, total, note or _so_far(models.standing(), len(votes))))
                note, key = "", _key(screen)
                if key == "q":
                    break
                if key == "u" and not given:
                    note = "Nothing to undo in this session."
                elif key == "u":
                    drop_last_line(path)
                    votes.pop()
                    shown.append(given.pop()[0])
                    note = "The last vote is taken back; here is its pair again."
                else:
                    pair = shown.pop()
                    append_line(path, {"user": USER, **pair._asdict(), **VOTES[key], **about})  # on the disk by now
                    votes.append(Preference(pair.prompt_id, pair.model_a, pair.model_b, VOTES[key]["outcome"], USER))
                    given.append((pair, key))
        except (EOFError, KeyboardInterrupt) as end:
            screen.say("")  # the question's line has no end yet
            if isinstance(end, KeyboardInterrupt):
                raise
        finally:
            bad = sum(key == "x" for _, key in given)
            ties = bad + sum(key == "t" for _, key in given)
            detail = f" (ties: {ties}, of which both bad: {bad})" if ties else ""
            saved = f"{_count(len(given), 'vote')} saved in {path}{detail}"
            screen.say(f"{saved}; pairs left: {len(shown) + len(left)}")
        return len(given)


def _key(screen: Screen) -> str:
    """One of a, b, t, x, u, q."""
    while True:
        answer = screen.ask(f"{KEYS} > ").strip().lower()
        answer = WORDS.get(answer, answer)
        if answer in VOTES or answer in ("u", "q"):
            return answer
        screen.say("Please answer a, b, t, x, u or q.")


# ── The terminal ─────────────────────────────────────────────────────────────────────────────────────────


class Screen:
    """Pages and questions: a terminal is read key by key, anything else line by line."""

    def page(self, text: str) -> None:
        """A text alone on a cleared terminal; where it is longer than that, how to see its beginning."""
        alone = sys.stdout.isatty()
        print(CLEAR if alone else "\n", end="")
        self.say(text)
        if alone and text.count("\n") + 2 > shutil.get_terminal_size().lines:
            self.say("(scroll up for the beginning)")

    def say(self, text: str) -> None:
        """One more line."""
        print(plain(text, lines=True), flush=True)

    def ask(self, question: str) -> str:
        """A key, or the line that stands for one. Raises EOFError where the input ends.

        A key of several characters (an arrow, a pasted text) is handed over whole: its last letter alone could pass
        for a vote.
        """
        if sys.platform == "win32" or not sys.stdin.isatty():
            return input(question)
        import termios
        import tty

        print(question, end="", flush=True)
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        ends = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the terminal is put back
        try:
            tty.setcbreak(terminal)  # Ctrl-C still interrupts; what was typed before was meant for another pair
            key = os.read(terminal, 1024).decode("utf-8", "replace")
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
            signal.signal(signal.SIGTERM, ends)
        self.say(key if key.isprintable() else "")
        if key in ("", END):
            raise EOFError
        return key


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────


def _page(pair: Pair, number: int, total: int, note: str) -> str:
    width = min(100, max(20, shutil.get_terminal_size().columns))
    parts = {f"Pair {number} of {total}": pair.prompt, "Response A": pair.response_a, "Response B": pair.response_b}
    lines = []
    for title, text in parts.items():
        lines += [f"── {title} ".ljust(width, "─"), _readable(text, width) or "(no answer)"]
    return "\n".join([*lines, "─" * width, _wrapped(note)]).rstrip("\n")


def _so_far(standing: Standing, votes: int) -> str:
    """Without names: who knows what leads would look for it."""
    chance = _percent(next(iter(standing.chances.values())))
    so_far = f"{_count(votes, 'vote')} so far: the model ahead is the best with a chance of {chance}."
    return f"{so_far} {_more(standing)}" if votes else ""


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


def _readable(text: str, width: int) -> str:
    """Long lines wrapped, indentation kept, and nothing in it that steers the terminal."""
    lines = plain(text, lines=True).expandtabs(4).split("\n")
    wrapped = (textwrap.wrap(line, width, replace_whitespace=False, drop_whitespace=False) or [""] for line in lines)
    return "\n".join(piece for line in wrapped for piece in line).strip("\n")
