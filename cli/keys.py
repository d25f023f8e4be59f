"""Questions that one key answers: a terminal is read key by key, anything else line by line."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CLEAR = "\x1b[2J\x1b[H"
END = "\x04"  # Ctrl-D


class Screen:
    """Pages and questions, on the terminal or through pipes."""

    def __init__(self) -> None:
        self._keys = _terminal() and sys.stdin.isatty()

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
        if not self._keys:
            return input(question)
        print(question, end="", flush=True)
        key = _pressed()
        print(key if key.isprintable() else "", flush=True)
        if key in ("", END):
            raise EOFError
        return key


def _terminal() -> bool:
    """Whether this system's terminals can be read key by key."""
    try:
        import termios  # noqa: F401
    except ImportError:  # Windows
        return False
    return True


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
