"""Own votes in the terminal: two anonymous responses, one key."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import textwrap

from core.text import plain
from people.session import VOTES, Pair, Session

WORDS = {"tie": "t", "both bad": "x", "undo": "u", "quit": "q"}
KEYS = "a: A is better  b: B is better  t: tie  x: both bad  u: undo  q: quit"
CLEAR = "\x1b[2J\x1b[H"
END = "\x04"  # Ctrl-D


def in_terminal(session: Session, screen: Screen) -> None:
    """Ask for a vote on pair after pair, model names never shown. End of input means quit; Ctrl-C comes through."""
    try:
        while session.pair:
            screen.page(_page(session.pair, session.number, session.total, session.progress()))
            if (key := _key(screen)) == "q":
                break
            session.press(key)
    except (EOFError, KeyboardInterrupt) as end:
        screen.say("")  # the question's line has no end yet
        if isinstance(end, KeyboardInterrupt):
            raise
    finally:
        screen.say(session.saved())


def _key(screen: Screen) -> str:
    """One of a, b, t, x, u, q."""
    while True:
        answer = screen.ask(f"{KEYS} > ").strip().lower()
        answer = WORDS.get(answer, answer)
        if answer in VOTES or answer in ("u", "q"):
            return answer
        screen.say("Please answer a, b, t, x, u or q.")


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

        What was typed before the question is dropped: it was meant for another pair. A key of several characters (an
        arrow, a pasted text) is handed over whole: its last letter alone could pass for a vote.
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
            tty.setcbreak(terminal)  # Ctrl-C still interrupts
            key = os.read(terminal, 1024).decode("utf-8", "replace")
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
            signal.signal(signal.SIGTERM, ends)
        self.say(key if key.isprintable() else "")
        if key in ("", END):
            raise EOFError
        return key


def _page(pair: Pair, number: int, total: int, note: str) -> str:
    width = min(100, max(20, shutil.get_terminal_size().columns))
    parts = {f"Pair {number} of {total}": pair.prompt, "Response A": pair.response_a, "Response B": pair.response_b}
    lines = []
    for title, text in parts.items():
        lines += [f"── {title} ".ljust(width, "─"), _readable(text, width) or "(no answer)"]
    return "\n".join([*lines, "─" * width, wrapped(note)]).rstrip("\n")


def wrapped(text: str, width: int = 80) -> str:
    """One paragraph."""
    return "\n".join(textwrap.wrap(plain(text), width, break_on_hyphens=False))


def _readable(text: str, width: int) -> str:
    """Long lines wrapped, indentation kept, and nothing in it that steers the terminal."""
    lines = plain(text, lines=True).expandtabs(4).split("\n")
    wrapped = (textwrap.wrap(line, width, replace_whitespace=False, drop_whitespace=False) or [""] for line in lines)
    return "\n".join(piece for line in wrapped for piece in line).strip("\n")
