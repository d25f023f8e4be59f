"""Own votes in the terminal: two anonymous responses, one letter."""

from __future__ import annotations

import shutil
import sys
import textwrap

from core.text import plain, wrapped
from people.rows import Vote
from people.session import UNDO, VOTES, Session

KEYS = "a: A is better  b: B is better  t: tie  x: both bad  u: undo  q: quit"


def in_terminal(session: Session) -> None:
    """Ask for a vote on pair after pair, model names never shown. Ctrl-C comes through; the end of the input is "q"."""
    while session.pair:
        say(_page(session, session.pair))
        print(f"{KEYS} > ", end="", flush=True)
        key = (sys.stdin.readline() or "q").strip().lower()
        if key == "q":
            break
        if key in (*VOTES, UNDO):
            session.press(key)
        else:
            session.note = "Please answer a, b, t, x, u or q, and press Enter."


def say(text: str) -> None:
    """Print a text without anything in it that steers the terminal."""
    print(plain(text, lines=True), flush=True)


def _page(session: Session, pair: Vote) -> str:
    """A pair with its texts, long lines wrapped and indentation kept."""
    width = min(100, max(20, shutil.get_terminal_size().columns))
    place = f"Pair {session.number} of {session.total}"
    lines = []
    for title, text in {place: pair.prompt, "Response A": pair.response_a, "Response B": pair.response_b}.items():
        given = plain(text, lines=True).expandtabs(4).strip("\n").split("\n")
        broken = (textwrap.wrap(line, width, replace_whitespace=False, drop_whitespace=False) or [""] for line in given)
        body = "\n".join(piece for line in broken for piece in line)
        lines += ["", f"── {title} ".ljust(width, "─"), body if body.strip() else "(no answer)"]
    return "\n".join([*lines, "─" * width, *wrapped(session.progress())]).rstrip("\n")
