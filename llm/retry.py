"""Asking again: what may succeed at another attempt, and how often and how long it is tried."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from core.errors import MissingError

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

ATTEMPTS = 7  # about a minute of waiting; where 13 % of all attempts fail, one question in a million is lost
LONGEST_WAIT = 30.0  # seconds between two attempts, where the server does not ask for more
REDRAW_TEMPERATURE = 0.3  # at 0 another seed would draw the same useless answer again
KEPT = "All answers so far are kept: the same command goes on from there."


class FailedAttemptError(Exception):
    """An attempt failed and another may succeed.

    ``redraw``: the answer was at fault, so another one must be drawn. ``hint``: what a user can do if it goes on.
    ``wait``: seconds that the server asks for before the next attempt.
    """

    def __init__(self, what: str, *, redraw: bool = False, hint: str = "", wait: float = 0.0) -> None:
        super().__init__(what)
        self.redraw = redraw
        self.hint = hint
        self.wait = wait


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

    Capped in number and in time: not begun again after two time limits, so that a server that hangs is asked twice and
    not seven times. The wait before another attempt doubles from ``first_wait``, and is at least what the server asks
    for; once ``ended`` is set it is over at once and nothing is tried again. Raises MissingError, naming ``about`` and
    ``address``, where no attempt succeeded.
    """
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        sleep_using_event,
        stop_after_attempt,
        stop_after_delay,
        stop_when_event_set,
        wait_exponential,
    )

    redraws = 0

    def note(state: RetryCallState) -> None:
        nonlocal redraws
        failure = state.outcome.exception() if state.outcome else None
        redraws += isinstance(failure, FailedAttemptError) and failure.redraw
        log.info("%s: %s; asked again (attempt %d)", about, failure, state.attempt_number + 1)

    doubled = wait_exponential(multiplier=first_wait, max=LONGEST_WAIT)

    def wait(state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        return max(doubled(state), failure.wait if isinstance(failure, FailedAttemptError) else 0.0)

    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(2 * time_limit) | stop_when_event_set(ended),
        wait=wait,
        retry=retry_if_exception_type(FailedAttemptError),
        before_sleep=note,
        sleep=sleep_using_event(ended),
        reraise=True,
    )
    try:
        return retrying(lambda: attempt(redraws))
    except FailedAttemptError as failure:
        tried = retrying.statistics.get("attempt_number", ATTEMPTS)
        said = f"{about}: {failure} ({tried} attempts at {address}). {KEPT} {failure.hint}"
        raise MissingError(said.rstrip()) from failure
