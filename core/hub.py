"""Requests to a model hub that come to an end within seconds, whether it can be reached or not."""

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")

REACH_SECONDS = 5.0
LOAD_SECONDS = 90.0  # a table of some hundred rows on a slow line


def endpoint() -> str:
    """The hub's address: ``HF_ENDPOINT`` or the public one."""
    return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or "https://huggingface.co"


def status(path: str) -> int:
    """The HTTP status of an address on the hub; 0 where nothing answers, or the environment says to stay off it."""
    import httpx

    if os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "ON", "YES", "TRUE"}:
        return 0
    ask = functools.partial(httpx.head, f"{endpoint()}{path}", timeout=REACH_SECONDS, follow_redirects=True)
    try:
        return within(REACH_SECONDS, ask).status_code
    except (OSError, ValueError, ImportError, httpx.HTTPError, httpx.InvalidURL):  # ImportError: a SOCKS proxy
        return 0


def beside(job: Callable[[], T]) -> Future[T]:
    """Begin the job in a daemon thread, which does not keep the program from ending, as an executor's would."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(job())
        except BaseException as error:  # raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def within(seconds: float, job: Callable[[], T]) -> T:
    """The job's result or its exception; TimeoutError after ``seconds``.

    The job then stays behind: neither a name look-up nor the hub's client can be interrupted from outside.
    """
    future = beside(job)
    if not wait([future], seconds).done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return future.result()


def load_dataset(name: str, part: str | None, **options: Any) -> Any:
    """A data set of the hub. Raises OSError where the hub is out of reach, and whatever its client raises."""
    if not 0 < status("") < 400:  # the client would try again and again
        raise OSError(f"{endpoint()} is out of reach, or HF_HUB_OFFLINE is set")
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    return datasets.load_dataset(name, part, **options)
