"""Calls to a server side by side: a time limit for the whole of each, and an end to all of them at any moment.

Errors in replies, certificates and proxies are here too: whatever is true of any server that is asked through httpx.

with Calls(concurrency=2) as calls:
    for index, answer in calls.each(ask, enumerate(questions)):     # as they finish
        ...

where ``ask``, in a thread of the pool, sends its request with a client that the call watches:

with calls.call(seconds) as call, httpx.Client(event_hooks={"request": [call.watch]}) as client:
    client.post(...)
"""

from __future__ import annotations

import functools
import ipaddress
import json
import math
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl

    import httpx

Q = TypeVar("Q")
A = TypeVar("A")

PASSING = frozenset({200, 408, 429, 500, 502, 503, 504})  # HTTP statuses whose trouble may be gone at the next attempt


class Call:
    """One request over a connection of its own, which any thread may cut."""

    def __init__(self) -> None:
        self.was_cut = False
        self._socket: socket.socket | None = None

    def watch(self, request: httpx.Request) -> None:
        """httpx's hook before a request is sent. Raises ConnectionAbortedError where the call was cut already."""
        if self.was_cut:
            raise ConnectionAbortedError("cut before it was sent")
        request.extensions["trace"] = self._trace

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """httpx's report of each step of a request; TLS puts another socket in the place of the first."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.was_cut:  # while it was connecting
                self.cut()

    def cut(self) -> None:
        """Hang up: the thread that waits for the answer goes on at once with an error, and the server can stop."""
        self.was_cut = True
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                # Neither closing the socket nor closing the client would wake a thread that reads from it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Calls:
    """The calls of one asking, ``concurrency`` at once; on leaving, no more are begun and those in flight are cut."""

    def __init__(self, concurrency: int = 1) -> None:
        self.ended = threading.Event()
        self._concurrency = concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="asking")
        self._in_flight: set[Call] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for call in list(self._in_flight):
            call.cut()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def call(self, seconds: float) -> Iterator[Call]:
        """One request, cut after ``seconds``. httpx's own limit is for each read: a server that sends a byte now and
        then would never reach it."""
        call = Call()
        watchdog = threading.Timer(seconds, call.cut)
        watchdog.daemon = True
        watchdog.start()
        self._in_flight.add(call)
        try:
            if self.ended.is_set():
                call.cut()
            yield call
        finally:
            self._in_flight.discard(call)
            watchdog.cancel()

    def each(self, ask: Callable[[Q], A], questions: Iterable[tuple[int, Q]]) -> Iterator[tuple[int, A]]:
        """Yield (index, answer) as they finish, begun in order.

        Where one fails, what is in flight may still finish and nothing more is begun; the failure is raised at the end.
        """
        waiting = deque(questions)
        done: queue.SimpleQueue[tuple[int, A] | None] = queue.SimpleQueue()

        def work() -> None:
            while not self.ended.is_set():
                try:
                    index, question = waiting.popleft()
                except IndexError:
                    return
                try:
                    done.put((index, ask(question)))
                except BaseException:
                    waiting.clear()
                    raise

        workers = [self._pool.submit(work) for _ in range(min(self._concurrency, len(waiting)))]
        for worker in workers:
            worker.add_done_callback(lambda _: done.put(None))
        for _ in workers:
            yield from iter(done.get, None)  # until one of them, whichever, is at its end
        for worker in workers:
            worker.result()


# ── What any server over HTTP needs ──────────────────────────────────────────────────────────────────────


class BadReplyError(Exception):
    """An HTTP status that says error, or a body that is no JSON object or holds an ``error``.

    ``body`` is all that the server said, ``wait`` the seconds for which it asks to be left alone.
    """

    def __init__(self, status: int, said: str, body: str = "", wait: float = 0.0) -> None:
        super().__init__(f"HTTP {status}: {said}")
        self.status, self.body, self.wait = status, body, wait


def check_reply(response: httpx.Response) -> None:
    """Raise BadReplyError with what the server said of an error: httpx's hook after the headers of a reply.

    What it said is shortened and made printable, so that it can't drive a terminal. A stream of events is let through.
    """
    if response.has_redirect_location:
        return
    if response.is_success and response.headers.get("content-type", "").startswith("text/event-stream"):
        return
    body = response.read().decode("utf-8", "replace")
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    if response.is_success and isinstance(data, dict) and data.get("error") is None:
        return
    error = (data.get("error") or body) if isinstance(data, dict) else body
    said = str(error.get("message", error) if isinstance(error, dict) else error)
    printable = "".join(c if c.isprintable() else " " for c in said[:200]).strip()
    raise BadReplyError(response.status_code, printable, body, wait_asked(response.headers))


def wait_asked(headers: Mapping[str, str]) -> float:
    """Seconds for which ``Retry-After`` asks not to be asked again, as a number or as a date; 0 where it doesn't."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


@functools.cache
def certificates() -> ssl.SSLContext:
    """Whom to trust, read once: it takes 30 ms, and a new client without it 0.1 ms."""
    import httpx

    return httpx.create_ssl_context()


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own loopback, to which no proxy leads."""
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
