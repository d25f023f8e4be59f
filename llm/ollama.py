"""Ask an Ollama server through the official client.

model = OllamaModel()                       # OLLAMA_HOST, else http://127.0.0.1:11434
for index, completion in model.complete([Request("gemma3:4b", "How do I sort a list?", label="prompt 1")]):
    ...
"""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from core.errors import MissingError
from core.hub import within
from llm.addresses import find_tag, is_cloud, parse_host, read_key
from llm.answers import UselessError, bounded
from llm.asking import KEPT, Draw, HopelessError, PassingError, Server, failure
from llm.connection import client_options, said_by
from llm.interface import Completion, Request, estimate_tokens

if TYPE_CHECKING:
    from ollama import Client

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

DEFAULT_NUM_CTX = 8192
KEEP_ALIVE = "30m"  # a model must not be unloaded while the suite reads or writes its caches
KEPT_TOKENS = (4, 5)  # at a prompt's beginning when the server cuts it: num_keep's default, and a BOS
PATIENCE = 3.0  # seconds in which a living server takes a connection, and says its version
UNLOAD_SECONDS = 10.0  # a server waits up to five for the GPU's word that the memory is free
OVERFLOW = re.compile("exceed.*context|longer than the context")  # a prompt beyond it, in the words of all versions
# Tags and families that think whatever they are told, and the tokens that they may think beside their answer.
THINKS_ANYWAY = ("gpt-oss", "gptoss", "deepseek-r1", "magistral", "qwq", "thinking", "reasoning")
THOUGHT_TOKENS = 2048


class RefusedError(MissingError):
    """A server that answers, but not to us."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An installed model by the server's list."""

    digest: str
    size_bytes: int
    parameter_size: str = ""
    quantization: str = ""


@dataclass(frozen=True, slots=True)
class ShowInfo:
    """A model as the server describes it. ``context_length`` is in tokens, None where it doesn't say."""

    tag: str
    capabilities: tuple[str, ...] = ()
    context_length: int | None = None
    family: str = ""
    contents: str = ""
    """Name, size and kind of the model by its own file (GGUF): ``Qwen2.5-Coder 1.5B Instruct``."""

    @property
    def thinking(self) -> bool:
        """Whether it can think, and so has to be told not to."""
        return "thinking" in self.capabilities

    @property
    def chats(self) -> bool:
        """False for a model that only embeds; older servers do not say."""
        return not self.capabilities or "completion" in self.capabilities

    @property
    def think(self) -> bool | Literal["low"] | None:
        """Its ``think`` in a request: None for models that can't, since servers refuse the word for them."""
        if not self.thinking:
            return None
        return "low" if self.family in ("gptoss", "gpt-oss") else False  # gpt-oss takes only levels

    @property
    def thought_tokens(self) -> int:
        """Tokens that it may need before its answer."""
        names = f"{self.tag} {self.family}".lower()
        return THOUGHT_TOKENS if any(name in names for name in THINKS_ANYWAY) else 0


class OllamaModel(Server):
    """The Ollama implementation of ``LanguageModel``. Its constructor contacts nobody.

    host: as in OLLAMA_HOST (None: that variable, else the default). concurrency: requests in flight at once. timeout:
    seconds for one answer. num_ctx: context in tokens, never more than a model has; one for the whole run, since a
    change makes the server load the model anew. known_digests: tag → digest as an earlier run recorded them, for when
    the server is off. retry_wait: seconds before the second attempt, doubled before each further one.

    ``display_host`` is the address without credentials. ``server_cuts`` counts the answers before which the server cut
    the prompt itself. Raises UsageError where the host is no address.
    """

    backend = "ollama"

    def __init__(
        self,
        host: str | None = None,
        *,
        concurrency: int = 2,
        timeout: float = 300.0,
        num_ctx: int = DEFAULT_NUM_CTX,
        known_digests: Mapping[str, str] | None = None,
        retry_wait: float = 1.0,
    ) -> None:
        url, self._auth = parse_host(os.environ.get("OLLAMA_HOST", "") if host is None else host)
        super().__init__(url, concurrency=concurrency, timeout=timeout, retry_wait=retry_wait)
        read_key("OLLAMA_API_KEY")  # the client sends it by itself
        self.display_host = url
        self.server_cuts = 0
        self._num_ctx = num_ctx
        self._known_digests = dict(known_digests or {})
        self._answers: bool | None = None  # None: nobody asked yet
        self._tags: dict[str, ModelInfo] | None = None
        self._shown: dict[str, ShowInfo] = {}
        self._loaded: set[str] = set()  # models that were asked and not unloaded since

    # ── What is there ────────────────────────────────────────────────────────────────────────────────────

    def available(self) -> bool:
        """Whether the server answers, settled within seconds. Raises RefusedError where it answers, but not to us."""
        try:
            self._answers = bool(self.version())
        except RefusedError:
            raise
        except MissingError as error:
            log.debug("%s", error)
            self._answers = False
        return self._answers

    def version(self) -> str:
        """The server's version. Raises RefusedError where it refuses, MissingError where it says nothing for 3 s."""
        _client_class()  # before the clock starts: the first import takes a second on a busy machine

        def ask(client: Client) -> str:
            reply = client._request_raw("GET", "/api/version")  # type: ignore[no-untyped-call] # it has no call for it
            return str(reply.json()["version"])

        try:
            # a look-up of the server's name has no time limit of its own: it is left behind
            return within(PATIENCE, lambda: self._ask(ask, PATIENCE))
        except (PassingError, TimeoutError) as error:
            raise MissingError(
                f"No Ollama server answers at {self.address}: {error}. Start one with `ollama serve`, set OLLAMA_HOST "
                "to where it runs, or use --backend embedded."
            ) from error

    def installed(self) -> dict[str, ModelInfo]:
        """tag → what the server has, asked anew at each call. Raises MissingError where it doesn't answer."""
        listed = self._look_up("the list of models", lambda client: client.list())
        self._tags = {
            model.model: ModelInfo(
                digest=model.digest or "",
                size_bytes=int(model.size or 0),
                parameter_size=getattr(model.details, "parameter_size", None) or "",
                quantization=getattr(model.details, "quantization_level", None) or "",
            )
            for model in listed.models
            if model.model
        }
        return self._tags

    def show(self, tag: str) -> ShowInfo:
        """An installed model's context and abilities, asked once. Raises MissingError where it isn't installed."""
        if tag not in self._shown:
            shown = self._look_up(f"what {tag} can do", lambda client: client.show(tag), model=tag)
            facts = dict(shown.modelinfo or {})
            lengths = (v for k, v in facts.items() if k.endswith(".context_length") and isinstance(v, int))
            family = getattr(shown.details, "family", None) or ""
            parts = (facts.get(f"general.{part}") for part in ("basename", "size_label", "finetune"))
            contents = " ".join(str(part) for part in parts if part)
            self._shown[tag] = ShowInfo(tag, tuple(shown.capabilities or ()), next(lengths, None), family, contents)
        return self._shown[tag]

    def identity(self, model: str) -> dict[str, Any]:
        """Backend, tag and digest. With the server off, or without the model, the digest that an earlier run recorded;
        MissingError where none did."""
        if self._answers is None:
            self.available()
        digest = self._known_digests.get(model)
        if self._answers:
            tags = self.installed() if self._tags is None else self._tags
            tag = find_tag(model, tags)
            digest = tags[tag].digest if tag else digest
        if digest is not None:
            return {"backend": self.backend, "tag": model, "digest": digest}
        if self._answers:
            raise MissingError(f"{self.address} has no model {model}. Get it with:\n  ollama pull {model}")
        raise MissingError(
            f"No Ollama server answers at {self.address}, and no earlier run recorded which {model} it has. Start it "
            "with `ollama serve`, set OLLAMA_HOST to where it runs, or use --backend embedded."
        )

    # ── Memory ───────────────────────────────────────────────────────────────────────────────────────────

    def unload(self) -> None:
        """Free the memory that the models asked here fill, and wait until it is free."""
        gone, end = set(self._loaded), time.monotonic() + UNLOAD_SECONDS
        for tag in gone:
            self._unload(tag)
        # the server says that it will unload a model before it has
        with suppress(PassingError, MissingError):
            while gone and time.monotonic() < end:
                running = [str(model.model) for model in self._ask(lambda client: client.ps(), PATIENCE).models]
                gone = {tag for tag in gone if find_tag(tag, running)}
                time.sleep(0.1 if gone else 0.0)

    def _begin(self, model: str) -> None:
        """Let ``model`` be the one model of ours that fills memory."""
        self.show(model)
        for other in self._loaded - {model}:
            self._unload(other)
        if not is_cloud(model):
            self._loaded.add(model)

    def _unload(self, tag: str) -> None:
        self._loaded.discard(tag)
        try:  # a chat without messages, to be kept alive for no time
            self._ask(lambda client: client.chat(tag, messages=[], keep_alive=0), UNLOAD_SECONDS)
        except (PassingError, HopelessError, MissingError) as error:  # the server unloads it by itself in the end
            log.debug("%s could not be unloaded: %s", tag, error)

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, draw: Draw) -> Completion:
        request, show = draw.request, self.show(draw.request.model)
        schema = None if draw.in_words else request.schema
        options = {
            "seed": draw.seed,
            "temperature": draw.temperature,
            "num_ctx": self._context(show),
            "num_predict": request.num_predict + show.thought_tokens,
        }
        start = time.perf_counter()
        reply = self._ask(
            lambda client: client.chat(
                model=request.model,
                messages=draw.messages(schema=draw.in_words),
                format=bounded(schema, request.num_predict) if schema else None,
                options=options,
                think=show.think,
                keep_alive=KEEP_ALIVE,
            ),
            draw.seconds,
            model=request.model,
        )
        if reply.done is False:  # the server's answer to thirty times the same token
            raise UselessError("the answer broke off")
        return Completion(
            text=reply.message.content or "",
            tokens=reply.eval_count or 0,
            seconds=time.perf_counter() - start,
            truncated=reply.done_reason == "length",
            prompt_tokens=reply.prompt_eval_count or 0,
        )

    def _context(self, show: ShowInfo) -> int:
        """Tokens of context that a model is asked with."""
        return min(self._num_ctx, show.context_length or self._num_ctx)

    def _notice(self, request: Request, answer: Completion) -> None:
        """Count and say it where the server cut the prompt.

        It cuts to the whole context or (newer ones) to the prompt's beginning and half of the rest, and counts only
        what is left. So either the context was full at the end, or exactly as many tokens were read as a cut leaves,
        of a text that may have had more than the context: it has no more tokens than bytes.
        """
        context = self._context(self.show(request.model))
        text = (request.system or "") + request.prompt
        full = answer.prompt_tokens + answer.tokens >= context
        left = [context - (context - kept) // 2 for kept in KEPT_TOKENS]
        halved = answer.prompt_tokens in left and len(text.encode("utf-8", "replace")) >= context
        if full or halved:
            self.server_cuts += 1
            log.warning(
                "%s: the server cut the prompt itself (about %d tokens sent, %d read, context %d of %s)",
                request.label, estimate_tokens(text), answer.prompt_tokens, context, request.model,
            )  # fmt: skip

    # ── Requests ─────────────────────────────────────────────────────────────────────────────────────────

    def _look_up(self, about: str, ask: Callable[[Client], T], model: str = "") -> T:
        return self._persist(about, lambda: self._ask(ask, self._timeout, model=model))

    def _ask(self, ask: Callable[[Client], T], seconds: float, *, model: str = "") -> T:
        """One attempt, with a client and a connection of its own. Raises PassingError where another one may succeed,
        HopelessError for this request alone, MissingError where none will."""
        import httpx

        timeout = httpx.Timeout(seconds, connect=PATIENCE)
        options = client_options(self.address)
        client_class, response_error = _client_class()
        try:  # the credentials apart: the official client drops those that stand in the address
            with client_class(host=self.address, auth=self._auth, timeout=timeout, **options) as client:
                return ask(client)
        except response_error as error:
            raise self._refused(error.status_code, str(error.error), model) from error
        except (httpx.HTTPError, OSError) as error:
            raise failure(error, seconds, "Is the server running (`ollama serve`)?") from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:  # bodies of another shape
            raise PassingError(f"the server's answer is not Ollama's ({type(error).__name__})") from error

    def _refused(self, status: int, said: str, model: str) -> Exception:
        """The exception that an HTTP status of an error stands for."""
        words = said_by(status, said)
        if status in (408, 429) or status >= 500:
            return PassingError(f"the server answered {words}")
        if status == 404 and model:
            return MissingError(
                f"{self.address} has no model {model} ({words}). {KEPT} Get the model with:\n  ollama pull {model}"
            )
        if status == 400 and OVERFLOW.search(said):
            return HopelessError(f"it is longer than the context of {model} ({words})")
        way_in = "Check OLLAMA_HOST."
        if status == 401 and is_cloud(model):
            way_in = f"ollama.com computes {model}: sign in with `ollama signin`, or leave the model out."
        elif status == 403 and not said:
            way_in = (
                "A refusal without a word is Ollama's answer to a foreign Host: let the proxy or tunnel before it send "
                "`Host: localhost:11434`, or start the server with OLLAMA_HOST=0.0.0.0."
            )
        elif status in (401, 403):
            way_in = "Check the user and password in OLLAMA_HOST, or use --backend embedded."
        kind = RefusedError if status in (401, 403) else MissingError
        return kind(f"{self.address} refused the request ({words}). {KEPT} {way_in}")


@functools.cache
def _client_class() -> tuple[type[Client], type[Any]]:
    """The official client and its ResponseError.

    Importing them makes a client from the environment, which fails on a list in OLLAMA_HOST, a SOCKS proxy and much
    else: what it would read is hidden from it meanwhile.
    """
    read = ("ollama_host", "ollama_api_key", "ssl_cert_file", "ssl_cert_dir")
    names = [name for name in os.environ if name.lower() in read or name.lower().endswith("_proxy")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        from ollama import Client, ResponseError
    finally:
        os.environ.update(hidden)
    return Client, ResponseError
