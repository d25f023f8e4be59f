"""A session in a real terminal: single keys, no Enter, and the terminal as it was afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SESSION = """
import sys
from pathlib import Path
from config import ExperimentConfig
from core.records import Prompt, Response
from people.next_pair import TopTwo
from people.session import open_session
from people.terminal import Screen, in_terminal
prompts = [Prompt(f"p{i}", f"prompt {i}") for i in range(4)]
texts = [Response(p.id, model, f"{model} {p.id}") for p in prompts for model in ("one", "two")]
with open_session(prompts, texts, Path(sys.argv[1]), TopTwo(texts, {}, ExperimentConfig()), {}, 0) as session:
    in_terminal(session, Screen())
"""
QUESTION = "q: quit > "


class Person:
    """Somebody at a terminal that runs a session."""

    def __init__(self, path: Path) -> None:
        self.own, theirs = os.openpty()
        self.before = termios.tcgetattr(theirs)
        command = [sys.executable, "-c", SESSION, str(path)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        self.theirs = theirs
        self.seen = ""

    def sees(self, text: str) -> str:
        """Everything shown up to the next ``text``."""
        while text not in self.seen:
            self.seen += os.read(self.own, 4096).decode()
        before, _, self.seen = self.seen.partition(text)
        return before

    def presses(self, key: bytes) -> None:
        """A key once the question is there and the terminal waits for it."""
        while termios.tcgetattr(self.theirs)[3] & termios.ICANON:
            time.sleep(0.01)
        os.write(self.own, key)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    someone = Person(tmp_path / "votes.jsonl")
    yield someone
    someone.process.kill()
    someone.process.wait()
    os.close(someone.own)
    os.close(someone.theirs)


def test_keys_vote_without_enter_and_the_terminal_is_as_it_was(person: Person, tmp_path: Path) -> None:
    assert "Pair 1 of 4" in person.sees(QUESTION)
    for number, key in ((2, b"a"), (3, b"x")):
        person.presses(key)
        page = person.sees(QUESTION)
        assert "\x1b[2J" in page and f"Pair {number} of 4" in page, "a page of its own"
    person.presses(b"\x1b[A")
    assert "Please answer" in person.sees(QUESTION), "the arrow's last letter is no vote"
    person.presses(b"\x04")
    assert "2 votes saved" in person.sees("pairs left: 2") + "pairs left: 2"
    assert person.process.wait(timeout=60) == 0
    assert termios.tcgetattr(person.theirs) == person.before
    assert len((tmp_path / "votes.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_end_from_outside_keeps_the_votes_and_restores_the_terminal(
    person: Person, tmp_path: Path, sent: signal.Signals
) -> None:
    person.sees(QUESTION)
    person.presses(b"b")
    person.sees(QUESTION)
    while termios.tcgetattr(person.theirs)[3] & termios.ICANON:
        time.sleep(0.01)
    person.process.send_signal(sent)
    person.sees("1 vote saved")
    person.process.wait(timeout=60)
    assert termios.tcgetattr(person.theirs) == person.before
    assert len((tmp_path / "votes.jsonl").read_text().splitlines()) == 1
