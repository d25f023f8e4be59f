"""One Ollama server: what it has, and one request to it at a time, with what its refusals mean."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from core.errors import MissingError
from core.hub import within
from llm.addresses import Credentials, find_tag, is_cloud, on_this_machine
from llm.calls import PASSING, BadReplyError, Calls, certificates, check_reply, is_loopback
from llm.retry import KEPT, FailedAttemptError, GivenUpError, persist

if TYPE_CHECKING:
    from ollama import Client

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

PATIENCE = 3.0  # seconds in which a living server takes a connection, and says its version
UNLOAD_SECONDS = 10.0  # a server waits up to five for the GPU's word that the memory is free
OVERFLOW = ("exceed_context_size", "exceeds the available context", "longer than the context length")


class RefusedError(MissingError):
    """A server that answers, but not to us."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the server's list says of an installed model."""

    digest: str
    size_bytes: int
    parameter_size: str = ""
    quantization: str = ""


@dataclass(frozen=True, slots=True)
class ShowInfo:
    """What the server says of one model. ``context_length`` is in tokens, None where it doesn't say."""

    tag: str
    capabilities: tuple[str, ...] = ()
    context_length: int | None = None
    family: str = ""

    @property
    def thinking(self) -> bool:
        """Whether it can think, and so has to be told not to."""
        return "thinking" in self.capabilities

    @property
    def chats(self) -> bool:
        """False for a model that only embeds; older servers do not say."""
        return not self.capabilities or "completion" in self.capabilities


class OllamaServer:
    """A server at ``url``. ``timeout``: seconds for one answer; ``retry_wait``: before the second attempt."""

    def __init__(self, url: str, auth: Credentials | None, *, timeout: float, retry_wait: float) -> None:
        self.url = url
        self.loaded: set[str] = set()
        """Models that were asked here and not unloaded since."""
        self._auth, self._timeout, self._retry_wait = auth, timeout, retry_wait
        self._tags: dict[str, ModelInfo] | None = None
        self._shown: dict[str, ShowInfo] = {}
        self._version = ""

    # ── What is there ────────────────────────────────────────────────────────────────────────────────────

    def version(self) -> str:
        """The server's version. Raises RefusedError where it refuses to say, MissingError where none answers within
        three seconds."""
        import ollama  # noqa: F401 - before the clock starts: the first import takes a second on a busy machine

        def ask(client: Client) -> str:
            reply = client._client.get("/api/version")  # the official client has no call for it
            return str(reply.json()["version"])

        try:
            with Calls() as calls:
                # A look-up of the server's name can't be cut: it is left behind.
                self._version = within(PATIENCE, lambda: self.once(calls, ask))
        except (FailedAttemptError, TimeoutError) as error:
            raise MissingError(
                f"No Ollama server answers at {self.url}: {error}. Start one with `ollama serve`, set OLLAMA_HOST to "
                "where it runs, or use --backend embedded."
            ) from error
        return self._version

    def known_version(self) -> str:
        """The version as it was last said; asked for where it never was."""
        return self._version or self.version()

    def installed(self) -> dict[str, ModelInfo]:
        """Tag → what the server has, asked anew at each call. Raises MissingError where it doesn't answer."""
        listed = self._look_up("the list of models", lambda client: client.list())
        self._tags = {m.model: _model_info(m) for m in listed.models if m.model}
        return self._tags

    def find(self, tag: str) -> ModelInfo | None:
        """What the server has under a tag, by a list that is asked for once."""
        tags = self.installed() if self._tags is None else self._tags
        name = find_tag(tag, tags)
        return tags[name] if name else None

    def show(self, tag: str) -> ShowInfo:
        """What an installed model can do, asked once. Raises MissingError where it isn't installed."""
        if tag not in self._shown:
            shown = self._look_up(f"what {tag} can do", lambda client: client.show(tag), model=tag)
            facts = (shown.modelinfo or {}).items()
            lengths = [v for k, v in facts if k.endswith(".context_length") and isinstance(v, int)]
            family = (shown.details and shown.details.family) or ""
            self._shown[tag] = ShowInfo(tag, tuple(shown.capabilities or ()), lengths[0] if lengths else None, family)
        return self._shown[tag]

    def unload(self, keep: str = "") -> None:
        """Free the memory that models asked here fill, all but ``keep``: on this machine, where others need it."""
        gone = []
        for tag in self.loaded - {keep}:
            self.loaded.discard(tag)
            if is_cloud(tag) or not on_this_machine(self.url):
                continue
            try:
                with Calls() as calls:
                    self.once(calls, functools.partial(_expire, tag))
                gone.append(tag)
            except (FailedAttemptError, MissingError) as error:  # the server unloads it by itself in the end
                log.debug("%s could not be unloaded: %s", tag, error)
        if not keep:  # the next model waits at the server itself
            self._wait_for_memory(gone)

    def _wait_for_memory(self, tags: Sequence[str]) -> None:
        """Wait until the server has unloaded these models: it says that it will before it has."""
        end = time.monotonic() + UNLOAD_SECONDS
        with Calls() as calls, suppress(FailedAttemptError, MissingError):
            while tags and time.monotonic() < end:
                running = [str(model.model) for model in self.once(calls, lambda client: client.ps()).models]
                tags = [tag for tag in tags if find_tag(tag, running)]
                time.sleep(0.1 if tags else 0.0)

    def make_room(self, tag: str) -> None:
        """Let ``tag`` be the one model of ours that fills memory."""
        self.unload(keep=tag)
        self.loaded.add(tag)

    # ── Requests ─────────────────────────────────────────────────────────────────────────────────────────

    def _look_up(self, about: str, ask: Callable[[Client], T], *, model: str = "") -> T:
        with Calls() as calls:
            return self.persist(calls, about, lambda _: self.once(calls, ask, model=model))

    def persist(self, calls: Calls, about: str, attempt: Callable[[int], T], at_once: int = 1) -> T:
        """``retry.persist`` at this server, of which ``at_once`` requests wait for each other."""
        return persist(
            about,
            attempt,
            address=self.url,
            time_limit=self._timeout * at_once,
            first_wait=self._retry_wait,
            ended=calls.ended,
        )

    def once(self, calls: Calls, ask: Callable[[Client], T], *, model: str = "", at_once: int = 1) -> T:
        """One attempt with a client and a connection of its own, within the time limit: that of one answer for each of
        the ``at_once`` requests in flight, since by default a server answers one after the other.

        Raises FailedAttemptError where another attempt may succeed, MissingError where none will.
        """
        import httpx
        from ollama import Client

        limit = self._timeout * at_once
        with calls.call(limit) as call:
            try:
                with Client(
                    host=self.url,
                    auth=self._auth,  # the official client drops credentials that stand in the address
                    timeout=httpx.Timeout(None, connect=PATIENCE),  # the call has one for the whole
                    event_hooks={"request": [call.watch], "response": [check_reply]},
                    verify=certificates(),
                    trust_env=not is_loopback(self.url),  # no proxy leads to this machine's own loopback
                ) as client:
                    return ask(client)
            # The official client makes OSErrors of some of httpx's errors, and ValueErrors of odd bodies.
            except (BadReplyError, OSError, httpx.RequestError, ValueError, KeyError) as error:
                if call.was_cut:
                    hint = "A longer --timeout or a lower --concurrency may help."
                    queue = f" ({self._timeout:g} s for each of {at_once} in flight)" if at_once > 1 else ""
                    what = f"no answer within {limit:g} s{queue}"
                    raise FailedAttemptError(what, hint=hint, connection="hung") from error
                if isinstance(error, BadReplyError):
                    raise self._refused(error, model) from error
                if isinstance(error, (OSError, httpx.RequestError)):
                    hint = "Is the server running (`ollama serve`)?"
                    how: Literal["failed", "refused"] = "refused" if _nobody_listens(error) else "failed"
                    raise FailedAttemptError("the connection failed", hint=hint, connection=how) from error
                raise FailedAttemptError(f"the server's answer is not Ollama's ({type(error).__name__})") from error

    def _refused(self, reply: BadReplyError, model: str) -> Exception:
        """What an HTTP status that says error means for whoever asked."""
        said = str(reply)
        if reply.status in PASSING:
            return FailedAttemptError(f"the server answered {reply}")
        if reply.status == 404 and model:
            return MissingError(
                f"{self.url} has no model {model} ({reply}). {KEPT} Get the model with:\n  ollama pull {model}"
            )
        if reply.status == 400 and any(words in reply.body for words in OVERFLOW):
            reason = f"it is longer than the context of {model} ({reply})"
            return GivenUpError(f"{self.url} did not take a question to {model}: {reason}. {KEPT}", reason)
        if "does not support chat" in said:
            return MissingError(f"{model} answers no questions ({reply}): it only embeds. {KEPT} Take another model.")
        kind = RefusedError if reply.status in (401, 403) else MissingError
        return kind(f"{self.url} refused the request ({reply}). {KEPT} {_way_in(reply, model)}")


def _expire(tag: str, client: Client) -> None:
    """A chat without messages, to be kept alive for no time, unloads the model."""
    client.chat(model=tag, messages=[], keep_alive=0)


def _way_in(reply: BadReplyError, model: str) -> str:
    """What helps where a server refuses."""
    if reply.status == 401 and is_cloud(model):
        return f"{model} is computed by ollama.com: sign the server in with `ollama signin`, or leave the model out."
    if reply.status == 403 and not reply.said:
        return (
            "A refusal without a word is Ollama's answer to a foreign Host: let the proxy or tunnel before it send "
            "`Host: localhost:11434`, or start the server with OLLAMA_HOST=0.0.0.0."
        )
    if reply.status in (401, 403):
        return "Check the user and password in OLLAMA_HOST, or use --backend embedded."
    return "Check OLLAMA_HOST."


def _nobody_listens(error: BaseException) -> bool:
    """Whether a connection was refused, by whatever the client made of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _model_info(listed: Any) -> ModelInfo:
    details = listed.details
    return ModelInfo(
        digest=listed.digest or "",
        size_bytes=int(listed.size or 0),
        parameter_size=(details and details.parameter_size) or "",
        quantization=(details and details.quantization_level) or "",
    )
