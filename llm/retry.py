"""Asking again: what may succeed at another attempt, and how often and how long it is tried."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from core.errors import MissingError

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

ATTEMPTS = 7  # where 13 % of all attempts fail, one question in a million is lost
DRAWS = 7  # answers that are of no use before a question is given up
LONGEST_WAIT = 30.0  # seconds between two attempts, where the server does not ask for more
RESTART = 8.0  # seconds in which a server that refuses connections may have been started again
WARMER = 0.2  # temperature added with each redraw: at 0 another seed would draw the same useless answer again
WARMEST = 1.3
KEPT = "All answers so far are kept: the same command goes on from there."


class FailedAttemptError(Exception):
    """An attempt failed and another may succeed.

    ``redraw``: the answer was at fault, so another one must be drawn. ``hint``: what a user can do if it goes on.
    ``connection``: it "failed", was "refused" since nobody listens at the server's address, or "hung" until the time
    limit was over. ``wait``: seconds that the server asks for before the next attempt.
    """

    def __init__(
        self,
        what: str,
        *,
        redraw: bool = False,
        hint: str = "",
        connection: Literal["", "failed", "refused", "hung"] = "",
        wait: float = 0.0,
    ) -> None:
        super().__init__(what)
        self.redraw = redraw
        self.hint = hint
        self.connection = connection
        self.wait = wait


class LostServerError(MissingError):
    """A server is not there, or not any more."""


class GivenUpError(MissingError):
    """No answer to one question is of any use, however often it is drawn; the server itself is well."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def warmed(temperature: float, redraws: int) -> float:
    """The temperature of a redraw: warmer each time."""
    return round(min(temperature + WARMER * redraws, max(WARMEST, temperature)), 3)


def persist(
    about: str,
    attempt: Callable[[int], T],
    *,
    address: str,
    time_limit: float,
    first_wait: float,
    ended: threading.Event,
) -> T:
    """Call ``attempt(number of redraws so far)`` until it succeeds.

    An answer that is of no use is drawn anew at once, ``DRAWS`` times in all. Other trouble is waited for, twice as
    long before each attempt, from ``first_wait``, and at least as long as the server asks for: ``ATTEMPTS`` times in a
    row, and not begun again after two time limits, so that a server that hangs is asked twice and not seven times;
    where nobody listens, ``RESTART`` seconds.
    Once ``ended`` is set nothing is tried again. Where no attempt succeeded it raises MissingError, naming ``about``
    and ``address``: GivenUpError where the answers were at fault, LostServerError where the server is gone.
    """
    tried = redraws = failures = hung = 0
    since, dead_since = time.monotonic(), None
    while True:
        try:
            return attempt(redraws)
        except FailedAttemptError as failure:
            error = failure
        now, wait = time.monotonic(), 0.0
        tried += 1
        dead_since = (dead_since or now) if error.connection == "refused" else None
        if error.redraw:
            redraws, failures, hung, since = redraws + 1, 0, 0, now
            over = redraws == DRAWS
        else:
            failures += 1
            hung += error.connection == "hung"
            wait = max(error.wait, min(first_wait * 2 ** (failures - 1), LONGEST_WAIT))
            left = since + 2 * time_limit - now
            if dead_since is not None:
                left = min(left, dead_since + RESTART - now)
                wait = min(wait, max(left, 0.0))  # one last attempt at the end
            over = failures == ATTEMPTS or left <= 0.0 or hung == 2
        if not over:
            say = log.debug if error.redraw else log.info
            say("%s: %s; asked again (attempt %d)", about, error, tried + 1)
        if over or ended.wait(wait):
            said = f"{about}: {error} ({tried} attempts at {address}). {KEPT} {error.hint}".rstrip()
            if error.redraw:
                raise GivenUpError(said, f"{error}, in each of {redraws} draws") from error
            raise (LostServerError if error.connection else MissingError)(said) from error
