"""Whether a model hub can be reached, settled in seconds, and calls to it that come to an end."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

REACH_SECONDS = 5.0
LOAD_SECONDS = 90.0  # a table of some hundred rows on a slow line
_REFUSED = (403, 407)  # a proxy's or a captive portal's answer, not the hub's


def offline() -> bool:
    """True where the environment asks the Hugging Face libraries to stay off the network."""
    asked = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.strip().upper() in {"1", "ON", "YES", "TRUE"} for value in asked)


def endpoint() -> str:
    """The hub's address: ``HF_ENDPOINT`` or the public one."""
    return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or "https://huggingface.co"


def reachable(timeout: float = REACH_SECONDS) -> bool:
    """True where the hub answers one small request within ``timeout`` seconds, name look-up included.

    The hub's own client would try five times with growing pauses.
    """
    if offline():
        return False
    try:
        return within(timeout, lambda: _answers(endpoint(), timeout))
    except TimeoutError:
        return False


def _answers(address: str, timeout: float) -> bool:
    if not address.startswith(("https://", "http://")):
        return False
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - scheme checked above
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500 and error.code not in _REFUSED
    except (OSError, ValueError):  # no route, no name, no certificate; a malformed address
        return False


def within(seconds: float, job: Callable[[], T]) -> T:
    """The job's result or its exception; TimeoutError after ``seconds``.

    The job then stays behind in a daemon thread, which does not keep the program from ending: neither a name
    look-up nor the hub's client can be interrupted from outside.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(job())
        except BaseException as error:  # handed to the caller below
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if failed:
        raise failed[0]
    return done[0]


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """``datasets`` without its progress bars and log lines, both as they were afterwards."""
    import datasets

    bars, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
