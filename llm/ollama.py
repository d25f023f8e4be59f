"""Ollama: the implementation of ``llm.interface.LanguageModel`` that asks a server, through the official client.

model = OllamaModel()                       # OLLAMA_HOST, else http://127.0.0.1:11434
for index, completion in model.complete([Request("gemma3:4b", "How do I sort a list?", label="prompt 1")]):
    ...
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from core.errors import MissingError, UsageError
from core.hub import within
from llm.calls import PASSING, BadReplyError, Calls, certificates, check_reply, is_loopback
from llm.interface import Choice, Completion, Decision, Request, estimate_tokens
from llm.replies import as_decision, as_request, read_answer
from llm.retry import KEPT, REDRAW_TEMPERATURE, FailedAttemptError, persist

if TYPE_CHECKING:
    from ollama import Client

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

DEFAULT_NUM_CTX = 8192
KEEP_ALIVE = "30m"  # a model must not be unloaded while the suite reads or writes its caches
PATIENCE = 3.0  # seconds in which a living server takes a connection, and says its version


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

    @property
    def thinking(self) -> bool:
        """Whether it can think, and so has to be told not to."""
        return "thinking" in self.capabilities


class OllamaModel:
    """The Ollama implementation of ``LanguageModel``. Its constructor contacts nobody.

    host: as in OLLAMA_HOST (None: that variable, else the default). concurrency: requests in flight at once.
    timeout: seconds for one request. num_ctx: context in tokens by tag, set once for a run since a change makes the
    server load the model anew. known_digests: tag → digest as an earlier run recorded them, for when the server is off.
    retry_wait: seconds before the second attempt, doubled before each further one.

    ``display_host`` is the server's address without credentials, for messages. ``server_cuts`` counts the answers
    before which the server cut the prompt itself. Raises UsageError where the host is no address.
    """

    backend = "ollama"
    weighs_options = False

    def __init__(
        self,
        host: str | None = None,
        *,
        concurrency: int = 4,
        timeout: float = 300.0,
        num_ctx: Mapping[str, int] | None = None,
        known_digests: Mapping[str, str] | None = None,
        retry_wait: float = 1.0,
    ) -> None:
        self.display_host, self._auth = parse_host(os.environ.get("OLLAMA_HOST", "") if host is None else host)
        self._concurrency = concurrency
        self._timeout = timeout
        self._num_ctx = dict(num_ctx or {})
        self._known_digests = dict(known_digests or {})
        self._retry_wait = retry_wait
        self._identities: dict[str, dict[str, Any]] = {}
        self._tags: dict[str, ModelInfo] | None = None
        self._shown: dict[str, ShowInfo] = {}
        self.server_cuts = 0

    # ── What is there ────────────────────────────────────────────────────────────────────────────────────

    def available(self) -> bool:
        """Whether an Ollama server answers, settled within three seconds."""
        try:
            self.version()
        except MissingError as error:
            log.debug("%s", error)
            return False
        return True

    def version(self) -> str:
        """The server's version. Raises MissingError where none answers within three seconds."""
        import ollama  # noqa: F401 - before the clock starts: the first import takes a second on a busy machine

        def ask(client: Client) -> str:
            reply = client._client.get("/api/version")  # the official client has no call for it
            return str(reply.json()["version"])

        try:
            with Calls() as calls:
                # A look-up of the server's name can't be cut: it is left behind.
                return within(PATIENCE, lambda: self._once(calls, ask))
        except (FailedAttemptError, TimeoutError) as error:
            raise MissingError(
                f"No Ollama server answers at {self.display_host}: {error}. Start one with `ollama serve`, set "
                "OLLAMA_HOST to where it runs, or use --backend embedded."
            ) from error

    def installed(self) -> dict[str, ModelInfo]:
        """tag → what the server has, asked anew at each call. Raises MissingError where it doesn't answer."""
        listed = self._look_up("the list of models", lambda client: client.list())
        return {m.model: _model_info(m) for m in listed.models if m.model}

    def show(self, tag: str) -> ShowInfo:
        """Capabilities and context length of an installed model, asked once. Raises MissingError where it isn't."""
        if tag not in self._shown:
            shown = self._look_up(f"what {tag} can do", lambda client: client.show(tag), model=tag)
            facts = (shown.modelinfo or {}).items()
            lengths = [v for k, v in facts if k.endswith(".context_length") and isinstance(v, int)]
            self._shown[tag] = ShowInfo(tag, tuple(shown.capabilities or ()), lengths[0] if lengths else None)
        return self._shown[tag]

    def identity(self, model: str) -> dict[str, Any]:
        """Backend, tag and digest. With the server off, or without the model, the digest that an earlier run recorded;
        MissingError where none did."""
        if model not in self._identities:
            self._identities[model] = {"backend": self.backend, "tag": model, "digest": self._digest(model)}
        return self._identities[model]

    def _digest(self, tag: str) -> str:
        if self._tags is None:
            self._tags = self.installed() if self.available() else {}
        for name in (tag, f"{tag}:latest"):  # a tag without a size means the latest
            if name in self._tags:
                return self._tags[name].digest
        if tag in self._known_digests:
            return self._known_digests[tag]
        if self._tags:
            raise MissingError(f"{self.display_host} has no model {tag}. Get it with:\n  ollama pull {tag}")
        raise MissingError(
            f"No Ollama server answers at {self.display_host}, and no earlier run recorded which {tag} it has. Start "
            "it with `ollama serve`, set OLLAMA_HOST to where it runs, or use --backend embedded."
        )

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────

    def complete(self, requests: Sequence[Request]) -> Generator[tuple[int, Completion]]:
        """Yield (index, completion) as they finish, ``concurrency`` in flight; a run of requests to one model is done
        before the next model is touched.

        An attempt that failed in passing is repeated, an answer that can't be used is drawn anew with another seed.
        Raises MissingError for what can't be had, after everything that did finish has been yielded. Whoever stops
        listening (Ctrl-C, or the generator closed) cuts what is in flight, which tells the server to stop as well.
        """
        if any(r.opening for r in requests):
            raise ValueError("only the embedded model can be given the opening words of its answer")
        with Calls(self._concurrency) as calls:
            for model, group in itertools.groupby(enumerate(requests), key=lambda item: item[1].model):
                show = self.show(model)
                for index, completion in calls.each(functools.partial(self._answer, calls, show), group):
                    self._notice_cut(show, requests[index], completion)
                    yield index, completion

    def choose(self, choices: Sequence[Choice]) -> Generator[tuple[int, Decision]]:
        """Yield (index, decision) as they finish; otherwise as ``complete``."""
        with closing(self.complete([as_request(choice) for choice in choices])) as answers:
            for index, answer in answers:
                yield index, as_decision(answer)

    def _answer(self, calls: Calls, show: ShowInfo, request: Request) -> Completion:
        def attempt(redraws: int) -> Completion:
            start = time.perf_counter()
            system = [{"role": "system", "content": request.system}] if request.system else []
            reply = self._once(
                calls,
                lambda client: client.chat(
                    model=request.model,
                    messages=[*system, {"role": "user", "content": request.prompt}],
                    format=request.schema.model_json_schema() if request.schema else None,
                    options=self._options(show, request, redraws),
                    think=False if show.thinking else None,  # servers refuse the word for models that can't
                    keep_alive=KEEP_ALIVE,
                ),
                model=request.model,
            )
            if reply.done is False:
                raise FailedAttemptError("the answer broke off", redraw=True)
            said = Completion(
                text=reply.message.content or "",
                tokens=reply.eval_count or 0,
                seconds=time.perf_counter() - start,
                truncated=reply.done_reason == "length",
                prompt_tokens=reply.prompt_eval_count or 0,
            )
            return read_answer(request, said)

        completion = self._persist(calls, request.label or f"a question to {request.model}", attempt)
        log.debug(
            "%s: %s took %.2f s, %d tokens read, %d written",
            request.label, request.model, completion.seconds, completion.prompt_tokens, completion.tokens,
        )  # fmt: skip
        return completion

    def _options(self, show: ShowInfo, request: Request, redraws: int) -> dict[str, Any]:
        return {
            "seed": (request.seed + redraws * 7919) & 0x7FFFFFFF,
            "temperature": max(request.temperature, REDRAW_TEMPERATURE) if redraws else request.temperature,
            "num_ctx": self._context(show),
            "num_predict": request.num_predict,
        }

    def _context(self, show: ShowInfo) -> int:
        """The context in tokens that a model is asked with: as configured, but never more than it has."""
        wanted = self._num_ctx.get(show.tag, DEFAULT_NUM_CTX)
        return min(wanted, show.context_length or wanted)

    def _notice_cut(self, show: ShowInfo, request: Request, completion: Completion) -> None:
        """Count and say it where the server cut the prompt.

        A prompt beyond the context is cut to all of it or (newer servers) to its half, and only what is left is
        counted. A low count alone proves nothing: older servers leave out what they still had in their prompt cache.
        So either the context was full at the end, or the prompt may not have fitted and the count is below its half.
        """
        context = self._context(show)
        estimate = estimate_tokens((request.system or "") + request.prompt)
        full = completion.prompt_tokens + completion.tokens >= context
        halved = estimate > context and 0 < completion.prompt_tokens < estimate / 2
        if full or halved:
            self.server_cuts += 1
            log.warning(
                "%s: the server cut the prompt itself (about %d tokens sent, %d read, context %d of %s)",
                request.label, estimate, completion.prompt_tokens, context, request.model,
            )  # fmt: skip

    def _look_up(self, about: str, ask: Callable[[Client], T], *, model: str = "") -> T:
        with Calls() as calls:
            return self._persist(calls, about, lambda _: self._once(calls, ask, model=model))

    def _persist(self, calls: Calls, about: str, attempt: Callable[[int], T]) -> T:
        return persist(
            about,
            attempt,
            address=self.display_host,
            time_limit=self._timeout,
            first_wait=self._retry_wait,
            ended=calls.ended,
        )

    def _once(self, calls: Calls, ask: Callable[[Client], T], *, model: str = "") -> T:
        """One attempt within the time limit, with a client and a connection of its own.

        Raises FailedAttemptError where another attempt may succeed, MissingError where none will.
        """
        import httpx
        from ollama import Client

        with calls.call(self._timeout) as call:
            try:
                with Client(
                    host=self.display_host,
                    auth=self._auth,  # the official client drops credentials that stand in the address
                    timeout=httpx.Timeout(None, connect=PATIENCE),  # the call has one for the whole
                    event_hooks={"request": [call.watch], "response": [check_reply]},
                    verify=certificates(),
                    trust_env=not is_loopback(self.display_host),  # no proxy leads to this machine's own loopback
                ) as client:
                    return ask(client)
            # The official client makes OSErrors of some of httpx's errors, and ValueErrors of odd bodies.
            except (BadReplyError, OSError, httpx.RequestError, ValueError, KeyError) as error:
                if call.was_cut:
                    hint = "A longer --timeout or a lower --concurrency may help."
                    raise FailedAttemptError(f"no answer within {self._timeout:g} s", hint=hint) from error
                if isinstance(error, BadReplyError):
                    raise self._refused(error, model) from error
                if isinstance(error, (OSError, httpx.RequestError)):
                    hint = "Is the server running (`ollama serve`)?"
                    raise FailedAttemptError("the connection failed", hint=hint) from error
                raise FailedAttemptError(f"the server's answer is not Ollama's ({type(error).__name__})") from error

    def _refused(self, reply: BadReplyError, model: str) -> Exception:
        """What an HTTP status that says error means for whoever asked."""
        if reply.status in PASSING:
            return FailedAttemptError(f"the server answered {reply}")
        if reply.status == 404 and model:
            return MissingError(
                f"{self.display_host} has no model {model} ({reply}). {KEPT} Get the model with:\n  ollama pull {model}"
            )
        fix = "Check the user and password in OLLAMA_HOST." if reply.status in (401, 403) else "Check OLLAMA_HOST."
        return MissingError(f"{self.display_host} refused the request ({reply}). {KEPT} {fix}")


# ── Address and list ─────────────────────────────────────────────────────────────────────────────────────


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


def _model_info(listed: Any) -> ModelInfo:
    details = listed.details
    return ModelInfo(
        digest=listed.digest or "",
        size_bytes=int(listed.size or 0),
        parameter_size=(details and details.parameter_size) or "",
        quantization=(details and details.quantization_level) or "",
    )
