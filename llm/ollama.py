"""Ask an Ollama server through the official client.

model = OllamaModel()                       # OLLAMA_HOST, else http://127.0.0.1:11434
for index, completion in model.complete([Request("gemma3:4b", "How do I sort a list?", label="prompt 1")]):
    ...
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from core.errors import MissingError
from llm.addresses import find_tag, parse_host, read_key
from llm.answers import TOP_LOGPROBS, UselessError, bounded, read_logprobs
from llm.asking import PATIENCE, THOUGHT_TOKENS, Draw, PassingError, Server, failure
from llm.connection import ContextError, client_options
from llm.interface import Completion

if TYPE_CHECKING:
    from ollama import Client, ListResponse

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

KEEP_ALIVE = "30m"  # a model must not be unloaded while the suite reads or writes its caches
UNLOAD_SECONDS = 10.0  # a server waits up to five for the GPU's word that the memory is free
# Tags and families that think whatever they are told.
THINKS_ANYWAY = ("gpt-oss", "gptoss", "deepseek-r1", "magistral", "qwq", "thinking", "reasoning")
PULL = "Get it with:\n  ollama pull {}"
NO_TEMPLATE = (
    "has no chat template here: it goes on with a question's text in place of answering. A newer Ollama (0.30) takes "
    "the one in the model's file; else give it a Modelfile with a TEMPLATE"
)


class ShowInfo(NamedTuple):
    """A model as the server describes it."""

    context_length: int | None  # in tokens, None where the server doesn't say
    thinking: bool  # it can think, and so has to be told not to
    by_level: bool  # it takes only a level of thinking
    thought_tokens: int  # that it may need before its answer, whatever it is told
    chats: bool  # False for a model that only embeds
    bare: bool  # it has no chat template, and so goes on with the question's text
    file_name: str  # by the file itself: Qwen2.5-Coder-1.5B-Instruct; empty where it doesn't tell


class OllamaModel(Server):
    """The Ollama implementation of ``LanguageModel``. Its constructor contacts nobody.

    host: as in OLLAMA_HOST (None: that variable, else the default). num_ctx: context in tokens, never more than a model
    has; one for the whole run, since a change makes the server load the model anew. known_digests: tag → digest as an
    earlier run recorded them, for when the server is off. asking: as for ``Server``. Raises UsageError where the host
    is no address.
    """

    backend = "ollama"
    absent = (
        "No Ollama server answers at {}: {}. Start one with `ollama serve`, set OLLAMA_HOST to where it runs, or use "
        "--backend embedded."
    )
    enlarge = "Set num_ctx in config.py, as far as the model goes, to"

    def __init__(
        self,
        host: str | None = None,
        *,
        num_ctx: int = 8192,
        known_digests: Mapping[str, str] | None = None,
        **asking: Any,
    ) -> None:
        url, self._auth = parse_host(os.environ.get("OLLAMA_HOST", "") if host is None else host)
        super().__init__(url, **asking)
        read_key("OLLAMA_API_KEY")  # the client sends it by itself
        self.trouble = ""
        """Why it does not answer, where ``available`` found that it doesn't."""
        self._num_ctx, self._known_digests = num_ctx, dict(known_digests or {})
        self._shown: dict[str, ShowInfo] = {}
        self._bare: set[str] = set()  # models without a chat template, which was said
        self._loaded: set[str] = set()  # models that were asked and not unloaded since

    # ── What is there ────────────────────────────────────────────────────────────────────────────────────

    @functools.cached_property
    def available(self) -> bool:
        """Whether the server answers us: looked at once, settled within seconds."""
        try:
            self.version()
        except MissingError as error:
            self.trouble = str(error)
        return not self.trouble

    def version(self) -> str:
        """The server's version. Raises MissingError where it refuses, or says nothing."""
        _client_class()  # before the clock starts: the first import takes a second on a busy machine

        def ask(client: Client) -> str:  # which has no call for it
            return str(client._request_raw("GET", "/api/version").json()["version"])  # type: ignore[no-untyped-call]

        return self._at_once(lambda: self._ask(ask, PATIENCE))

    def installed(self) -> dict[str, ListResponse.Model]:
        """tag → what the server has, asked anew at each call. Raises MissingError where it doesn't answer."""
        listed = self._look_up("the list of models", lambda client: client.list())
        return {model.model: model for model in listed.models if model.model}

    def show(self, tag: str) -> ShowInfo:
        """An installed model's context and abilities, asked once. Raises MissingError where it isn't installed."""
        if tag not in self._shown:
            shown = self._look_up(f"what {tag} can do", lambda client: client.show(tag), model=tag)
            facts, able = shown.modelinfo or {}, shown.capabilities or ()
            lengths = (v for k, v in facts.items() if k.endswith(".context_length") and isinstance(v, int))
            names = [facts.get(f"general.{part}") for part in ("basename", "size_label", "finetune")]
            family = (getattr(shown.details, "family", None) or "").lower()
            self._shown[tag] = ShowInfo(
                context_length=next(lengths, None),
                thinking="thinking" in able,
                by_level=family in ("gptoss", "gpt-oss"),
                thought_tokens=THOUGHT_TOKENS * any(name in f"{tag.lower()} {family}" for name in THINKS_ANYWAY),
                chats=not able or "completion" in able,  # older servers do not say
                bare=(shown.template or "").replace(" ", "") == "{{.Prompt}}",
                file_name="-".join(name for name in names if isinstance(name, str)),
            )
        return self._shown[tag]

    @functools.cached_property
    def _digests(self) -> dict[str, str]:
        """tag → digest, as the server lists them; empty where it is off."""
        return {tag: model.digest or "" for tag, model in self.installed().items()} if self.available else {}

    def identity(self, model: str) -> dict[str, Any]:
        """Backend, tag and digest. With the server off, or without the model, the digest that an earlier run recorded;
        MissingError where none did."""
        tag = find_tag(model, self._digests)
        digest = self._digests[tag] if tag else self._known_digests.get(model)
        if digest is None:
            raise MissingError(self.trouble or f"{self.address} has no model {model}. {PULL.format(model)}")
        return {"backend": self.backend, "tag": model, "digest": digest}

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
        if self.show(model).bare and model not in self._bare:
            self._bare.add(model)
            log.warning("%s %s.", model, NO_TEMPLATE)
        for other in self._loaded - {model}:
            self._unload(other)
        self._loaded.add(model)

    def _unload(self, tag: str) -> None:
        self._loaded.discard(tag)
        with suppress(PassingError, MissingError):  # the server unloads it by itself in the end
            # a chat without messages, to be kept alive for no time
            self._ask(lambda client: client.chat(tag, messages=[], keep_alive=0), UNLOAD_SECONDS)

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, draw: Draw) -> Completion:
        from ollama import ChatResponse

        request, show = draw.request, self.show(draw.request.model)
        context = self._context(request.model)
        # where a schema in words takes the place of one that was not obeyed, a model may have to think first
        room = show.thought_tokens or (THOUGHT_TOKENS if draw.in_words and show.thinking else 0)
        sent: dict[str, Any] = {
            "model": request.model,
            "messages": draw.messages(schema=draw.in_words),
            "stream": False,
            "options": {
                "seed": draw.seed,
                "temperature": draw.temperature,
                "num_ctx": context,
                "num_predict": request.num_predict + room,
            },
            "keep_alive": KEEP_ALIVE,
            "truncate": False,  # refuse a prompt beyond the context, in place of answering a part of it
        }
        if request.schema and not draw.in_words:
            sent["format"] = bounded(request.schema, request.num_predict)
        if show.thinking:  # servers refuse the word for models that can't
            sent["think"] = "low" if show.by_level else False
        if draw.weighed:
            sent |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        start = time.perf_counter()

        def ask(client: Client) -> ChatResponse:
            return client._request(ChatResponse, "POST", "/api/chat", json=sent)  # its chat() knows no "truncate"

        reply = self._ask(ask, draw.seconds, model=request.model)
        if not reply.done or reply.done_reason not in (None, "stop", "length"):  # None: of old versions
            raise UselessError("the answer broke off")
        if (reply.prompt_eval_count or 0) >= context:  # versions that don't know "truncate" cut it to that
            raise ContextError
        waited, own = time.perf_counter() - start, (reply.eval_duration or 0) / 1e9
        return Completion(
            text=reply.message.content or "",
            tokens=reply.eval_count,
            seconds=own or waited,
            truncated=reply.done_reason == "length",
            side_by_side=0 if own else self._concurrency,
            spoken=read_logprobs(reply.logprobs),
        )

    def _context(self, model: str) -> int:
        """Tokens of context that a model is asked with."""
        return min(self._num_ctx, self.show(model).context_length or self._num_ctx)

    # ── Requests ─────────────────────────────────────────────────────────────────────────────────────────

    def _look_up(self, about: str, ask: Callable[[Client], T], model: str = "") -> T:
        return self._persist(about, lambda: self._ask(ask, self._timeout, model=model))

    def _ask(self, ask: Callable[[Client], T], seconds: float, *, model: str = "") -> T:
        """One attempt, with a client and a connection of its own. Raises PassingError where another one may succeed,
        ContextError for a prompt that is too long, MissingError where none will."""
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

    def _mend(self, status: int, said: str, model: str) -> str:  # noqa: ARG002
        is_gone = status == 404 and model
        return PULL.format(model) if is_gone else "Check OLLAMA_HOST, and the user and password in it."


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
