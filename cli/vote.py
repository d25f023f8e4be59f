"""Own votes in the terminal: two anonymous responses, a letter, kept at once in the format that --preferences reads."""

from __future__ import annotations

import random
import re
import shlex
import shutil
import textwrap
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import config
from cli.flags import command_like
from core.files import append_line, drop_last_line, lock, move, read
from core.records import Response
from people.reading import read_json
from people.votes import Votes, to_votes

if TYPE_CHECKING:
    from stages.tasks import Job

_OUTCOMES = {"a": 1.0, "b": 0.0, "t": 0.5, "tie": 0.5}
_QUESTION = "Better: A or B? t: tie, u: undo, q: quit > "
# Escape sequences; then all control characters but line ends and tabs, and the marks that turn text around.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.?")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


USER = "me"  # the name under which own votes are kept


def vote(args: Namespace, job: Job) -> int:
    """Votes on pairs of this persona's responses, each kept at once; then how many there are and what learns from them.

    Responses that read the same are no choice and left out.
    """
    from data_generation import collect_responses, generate_prompts

    prompts = generate_prompts(job)
    of: dict[str, list[Response]] = {p.id: [] for p in prompts}
    for response in collect_responses(job, prompts):
        of[response.prompt_id].append(response)
    pairs = [
        Pair(prompt.id, prompt.text, a.model, a.text, b.model, b.text)
        for prompt in prompts
        for a, b in combinations(of[prompt.id], 2)
        if a.text.strip() != b.text.strip()
    ]
    path = own_votes_file(job.name, args.cache_dir)
    vote_session(pairs, path, user=USER, seed=job.params.random_seed)
    votes = read_own_votes(path)
    if votes is None:
        print("No votes yet.")
        return 0
    about = f"{len(votes.preferences)} votes on {len(votes.prompts)} prompts in all."
    print(f"{about} Both systems learn from them with:")
    print("  " + command_like(["--preferences", str(path)], args, ("base_model", "cache_dir")))
    return 0


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

    @property
    def _sides(self) -> frozenset[tuple[str, str]]:
        return frozenset({(self.model_a, self.response_a), (self.model_b, self.response_b)})


def own_votes_file(name: str, cache_dir: Path) -> Path:
    """Where the own votes of a persona lie. Those that an earlier version kept in the cache are moved there, and that
    is said."""
    path, old = (folder / config.VOTES_FILE.format(name=name) for folder in (config.VOTES_DIR, cache_dir))
    votes = read(old) if old.resolve() != path.resolve() else None
    if votes is not None and read(path) in (None, votes):
        move(old, path)
        print(f"Your votes in {old} are now in {path}: the cache may be deleted, your votes may not.")
    elif votes is not None:
        here, there = shlex.quote(str(path)), shlex.quote(str(old))
        print(f"{old} holds votes that are not in {path}. To add them: cat {there} >> {here} && rm {there}")
    return path


def read_own_votes(path: Path) -> Votes | None:
    """The votes that sessions have kept in a file, None where there is none yet.

    Lines that do not parse (a torn last one) and votes on a response that has changed since are left out and
    stand in ``skipped``. Raises UsageError where no line is left.
    """
    if not path.exists():
        return None
    rows, bad = read_json(path)
    torn = len(bad) == 1 and not path.read_bytes().endswith(b"\n")
    if len(rows) == 0 and (not bad or torn):
        return None
    return to_votes(rows, bad, str(path), skip_bad_rows=True, keep="last")


def vote_session(
    pairs: Iterable[Pair], path: Path, *, user: str, ask: Callable[[str], str] = input,
    show: Callable[[str], None] = print, seed: int = 0,
) -> int:  # fmt: skip
    """Ask for a vote on each pair this user has not voted on; the number of votes given and kept.

    Pairs and sides come in an order drawn from ``seed``; model names are never shown. End of input and Ctrl-C
    mean quit: every vote given before is kept. Raises UsageError where another session is going on.
    """
    with lock(path.parent, timeout=0):
        return _session(pairs, path, user, ask, show, random.Random(seed))  # noqa: S311 - no secret


def _session(
    pairs: Iterable[Pair], path: Path, user: str, ask: Callable[[str], str], show: Callable[[str], None],
    draw: random.Random,
) -> int:  # fmt: skip
    known = _voted(path, user)
    todo = [
        pair.turned() if draw.random() < 0.5 else pair for pair in pairs if (pair.prompt_id, pair._sides) not in known
    ]
    draw.shuffle(todo)
    given = 0
    try:
        while given < len(todo):
            show(_page(todo[given], given + 1, len(todo)))
            answer = _answer(ask, show)
            if answer == "q":
                break
            if answer in _OUTCOMES:  # 1: A preferred, 0: B, 0.5: tie
                append_line(path, {"user": user, **asdict(todo[given]), "outcome": _OUTCOMES[answer]})
                given += 1
            elif given == 0:
                show("Nothing to undo in this session.")
            else:
                drop_last_line(path)
                given -= 1
                show("The last vote is taken back; here is its pair again.")
    except (EOFError, KeyboardInterrupt):
        show("")  # the question's line has no end yet
    show(f"{given} vote{'' if given == 1 else 's'} saved in {path}; {len(todo) - given} left")
    return given


def _voted(path: Path, user: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Prompts and pairs of responses that this user has voted on; a changed response is a new pair."""
    votes = read_own_votes(path)
    if votes is None:
        return set()
    text = {(r.prompt_id, r.model): r.text for r in votes.responses}
    return {
        (p.prompt_id, frozenset((m, text[p.prompt_id, m]) for m in (p.model_a, p.model_b)))
        for p in votes.preferences
        if p.user == user
    }


def _answer(ask: Callable[[str], str], show: Callable[[str], None]) -> str:
    """One of a, b, t, tie, u, q."""
    while True:
        answer = ask(_QUESTION).strip().lower()
        answer = {"undo": "u", "quit": "q"}.get(answer, answer)
        if answer in _OUTCOMES or answer in {"u", "q"}:
            return answer
        show("Please answer a, b, t, u or q.")


def _page(pair: Pair, number: int, total: int) -> str:
    width = min(100, max(20, shutil.get_terminal_size().columns))
    parts = [_rule(f"Prompt {number} of {total}", width), _readable(pair.prompt, width)]
    for label, text in (("A", pair.response_a), ("B", pair.response_b)):
        parts += [_rule(f"Response {label}", width), _readable(text, width) or "(no answer)"]
    return "\n".join(("", *parts, "─" * width))


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
