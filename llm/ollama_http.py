"""One Ollama server over HTTP: its address, its credentials, what goes wrong with it, and trying again.

The official client does the talking. It runs on an event loop in a thread of its own, so that a time limit covers a
request as a whole and whoever stops listening (Ctrl-C) drops what is in flight, which tells the server to stop as well.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from core.errors import MissingError, UsageError

if TYPE_CHECKING:
    import httpx
    from ollama import AsyncClient
    from tenacity import RetryCallState

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

ATTEMPTS = 7  # about a minute of waiting; where 13 % of all attempts fail, one question in a million is lost
LONGEST_WAIT = 30.0  # seconds between two attempts
PASSING = frozenset({200, 408, 429, 500, 502, 503, 504})  # HTTP statuses whose trouble may be gone at the next attempt


class FailedAttemptError(Exception):
    """An attempt failed and another may succeed.

    ``redraw``: the answer was at fault, so another one must be drawn. ``hint``: what a user can do if it goes on.
    """

    def __init__(self, what: str, *, redraw: bool = False, hint: str = "") -> None:
        super().__init__(what)
        self.redraw = redraw
        self.hint = hint


class _BadReplyError(Exception):
    """An HTTP status that says error, or a body that is no JSON object."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP {status}: {said}")
        self.status = status


class Server:
    """A server at ``host``, written as in OLLAMA_HOST (None: that variable, else http://127.0.0.1:11434).

    url: its address without credentials, for messages as well. Contacts nobody until asked.
    Raises UsageError where ``host`` is no address.
    """

    def __init__(self, host: str | None, *, timeout: float, concurrency: int, retry_wait: float) -> None:
        self.url, self._auth = parse_host(os.environ.get("OLLAMA_HOST", "") if host is None else host)
        self._timeout = timeout
        self._concurrency = concurrency
        self._retry_wait = retry_wait

    def client(self) -> AsyncClient:
        """A new official client; use it in ``async with``."""
        import httpx
        from ollama import AsyncClient

        return AsyncClient(
            host=self.url,
            auth=self._auth,  # the official client drops credentials that stand in the address
            timeout=None,  # ``once`` sets one for the whole
            limits=httpx.Limits(max_connections=self._concurrency),
            event_hooks={"response": [_check_reply]},
            trust_env=not _is_loopback(self.url),  # no proxy leads to this machine's own loopback
        )

    def call(self, ask: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """The result of one asynchronous question, waited for."""

        async def work() -> T:
            async with self.client() as client:
                return await ask(client)

        with background_loop() as loop:
            return asyncio.run_coroutine_threadsafe(work(), loop).result()

    async def once(self, asking: Awaitable[T], *, model: str = "", seconds: float | None = None) -> T:
        """One attempt within ``seconds`` (None: the server's time limit).

        Raises FailedAttemptError where another attempt may succeed, MissingError where none will.
        """
        import httpx

        limit = self._timeout if seconds is None else seconds
        try:
            async with asyncio.timeout(limit):
                return await asking
        except _BadReplyError as reply:
            if reply.status in PASSING:
                raise FailedAttemptError(f"the server answered {reply}") from reply
            raise self._refused(reply, model) from reply
        except (TimeoutError, httpx.TimeoutException) as error:
            hint = "A longer --timeout or a lower --concurrency may help."
            raise FailedAttemptError(f"no answer within {limit:g} s", hint=hint) from error
        except (OSError, httpx.RequestError) as error:  # the official client makes OSErrors of httpx's
            raise FailedAttemptError("the connection failed", hint="Is the server running (`ollama serve`)?") from error
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
        ) as error:  # what the official client makes of odd bodies
            raise FailedAttemptError(f"the server's answer is not Ollama's ({type(error).__name__})") from error

    def _refused(self, reply: _BadReplyError, model: str) -> MissingError:
        kept = "All answers so far are kept: the same command goes on from there."
        if reply.status == 404 and model:
            return MissingError(
                f"{self.url} has no model {model} ({reply}). {kept} Get the model with:\n  ollama pull {model}"
            )
        mend = "Check the user and password in OLLAMA_HOST." if reply.status in (401, 403) else "Check OLLAMA_HOST."
        return MissingError(f"{self.url} refused the request ({reply}). {kept} {mend}")

    async def persist(self, about: str, attempt: Callable[[int], Awaitable[T]]) -> T:
        """``attempt(number of redraws so far)`` until it succeeds.

        Capped in number and in time (two time limits, so that a server that hangs is asked twice, not seven times);
        then MissingError, naming ``about``.
        """
        from tenacity import (
            AsyncRetrying,
            retry_if_exception_type,
            stop_after_attempt,
            stop_after_delay,
            wait_exponential,
        )

        redraws = 0

        async def trial() -> T:
            nonlocal redraws
            try:
                return await attempt(redraws)
            except FailedAttemptError as failure:
                redraws += failure.redraw
                raise

        def say(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            log.info("%s: %s; asked again (attempt %d)", about, error, state.attempt_number + 1)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(2 * self._timeout),
            wait=wait_exponential(multiplier=self._retry_wait, max=LONGEST_WAIT),
            retry=retry_if_exception_type(FailedAttemptError),
            before_sleep=say,
            reraise=True,
        )
        try:
            return await retrying(trial)
        except FailedAttemptError as failure:
            tried = retrying.statistics.get("attempt_number", ATTEMPTS)
            raise MissingError(
                f"{about}: {failure} ({tried} attempts at {self.url}). All answers so far are kept: the same command "
                f"goes on from there. {failure.hint}".rstrip()
            ) from failure


def parse_host(host: str) -> tuple[str, tuple[str, str] | None]:
    """(address without credentials, (user, password) or None) from a host as the official client reads it.

    No scheme means http and port 11434, a scheme its own port, no host this machine. Raises UsageError, without
    quoting what may hold a password.
    """
    scheme, divider, rest = host.strip().rpartition("://")
    scheme = scheme.lower() if divider else "http"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port or ({"http": 80, "https": 443}[scheme] if divider else 11434)
        name = parts.hostname or "127.0.0.1"
        odd = not re.fullmatch(r"[\w.:%-]+", name.encode("idna").decode()) or not rest.isprintable() or " " in rest
        if odd or any(c in parts.path + parts.query + parts.fragment for c in "@?#") or "://" in scheme:
            raise ValueError
    except (ValueError, KeyError):
        raise UsageError(
            "OLLAMA_HOST is not an address such as 127.0.0.1:11434 or https://user:password@host:443. Special "
            "characters in a user's name or password must be percent-encoded."
        ) from None
    url = f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}/{parts.path.strip('/')}".rstrip("/")
    return url, (unquote(parts.username), unquote(parts.password or "")) if parts.username else None


def _is_loopback(url: str) -> bool:
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


async def _check_reply(response: httpx.Response) -> None:
    """Errors are read here: the official client raises AttributeError where an error's body is no object."""
    if response.has_redirect_location:
        return
    body = (await response.aread()).decode("utf-8", "replace")
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    if response.is_success and isinstance(data, dict) and "error" not in data:
        return
    said = str(data["error"]) if isinstance(data, dict) and "error" in data else body
    raise _BadReplyError(response.status_code, "".join(c if c.isprintable() else " " for c in said[:200]).strip())


@contextmanager
def background_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop running in a thread; on leaving, what still runs on it is cancelled."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="ollama", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
