"""Own votes in the terminal: two anonymous responses, one key."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap

from core.text import plain, wrapped
from people.rows import Vote
from people.session import UNDO, VOTES, Session

KEYS = "a: A is better  b: B is better  t: tie  x: both bad  u: undo  q: quit"
CTRL_D = "\x04"


def in_terminal(session: Session) -> None:
    """Ask for a vote on pair after pair, model names never shown. Ctrl-C comes through."""
    while session.pair:
        say(_page(session, session.pair))
        print(f"{KEYS} > ", end="", flush=True)
        key = _key()
        say("")  # ends the question's line
        if key == "q":
            break
        if key in (*VOTES, UNDO):
            session.press(key)
        else:
            session.note = "Please answer a, b, t, x, u or q."


def _key() -> str:
    """One key press on a terminal, elsewhere a line; "q" where the input ends.

    What was typed before the question is dropped: it was meant for another pair. A key of several characters (an arrow,
    a pasted text) is handed over whole: its last letter alone could pass for a vote.
    """
    if sys.platform == "win32" or not sys.stdin.isatty():
        return (sys.stdin.readline() or "q").strip().lower()
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)  # Ctrl-C still interrupts
        key = os.read(terminal, 1024).decode("utf-8", "replace").lower()
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    return "q" if key in ("", CTRL_D) else key


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
