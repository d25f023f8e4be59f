"""Ask an Ollama server through the official client."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from core.errors import MissingError
from llm.answers import bounded, common_body, read_answer
from llm.asking import THOUGHT_TOKENS, PassingError, Server
from llm.connection import PATIENCE, ContextError, find_tag, parse_host, read_key
from llm.interface import Completion, Request

if TYPE_CHECKING:
    from ollama import Client, ListResponse

log = logging.getLogger("ranking.llm")

PULL = "Get it with:\n  ollama pull {}"
KEEP_ALIVE = "30m"  # a model must not be unloaded while the suite reads or writes its caches
UNLOAD_SECONDS = 10.0  # a server waits up to five for the GPU's word that the memory is free
# Tags and families that think whatever they are told.
THINKS_ANYWAY = ("gpt-oss", "gptoss", "deepseek-r1", "magistral", "qwq", "thinking", "reasoning")
NO_TEMPLATE = (
    "has no chat template here: it goes on with a question's text in place of answering. Ollama 0.30 takes the one in "
    "the model's file; else give it a Modelfile with a TEMPLATE"
)


class ShowInfo(NamedTuple):
    """A model as the server describes it."""

    context_length: int | None  # in tokens, None where the server doesn't say
    thinking: bool  # it can think, and so has to be told not to
    family: str
    bare: bool  # it has no chat template, and so goes on with the question's text
    file_name: str  # by the file itself: Qwen2.5-Coder-1.5B-Instruct; empty where it doesn't tell


class OllamaModel(Server):
    """The ``LanguageModel`` behind an Ollama server. Its constructor contacts nobody.

    host: None means OLLAMA_HOST. num_ctx: context in tokens, never more than a model has; one for the whole run, since
    a change makes the server load the model anew. digests: tag → digest by an earlier run, for when the server is
    off. asking: as for ``Server``. Raises UsageError where the host is no address.
    """

    backend = "ollama"
    kind = "Ollama server"
    mend = "Start one with `ollama serve`, or set OLLAMA_HOST, user and password too; --backend embedded needs none."
    enlarge = "Set num_ctx in config.py, as far as the model goes, to"

    def __init__(
        self, host: str | None = None, *, num_ctx: int = 8192, digests: Mapping[str, str] | None = None, **asking: Any
    ) -> None:
        url, self._auth = parse_host(os.environ.get("OLLAMA_HOST", "") if host is None else host)
        super().__init__(url, read_key("OLLAMA_API_KEY"), **asking)  # which the client sends by itself
        self._num_ctx, self._known_digests = num_ctx, digests or {}
        self._shown: dict[str, ShowInfo] = {}
        self._loaded: set[str] = set()  # models that were asked and not unloaded since

    @functools.cached_property
    def trouble(self) -> str:
        """Why the server does not answer us, looked at once and settled within seconds; empty where it does."""
        try:
            self.version()
        except MissingError as error:
            return str(error)
        return ""

    def version(self) -> str:
        """The server's version. Raises MissingError where it refuses, or says nothing."""
        # the client has no call for it
        return self._at_once(lambda client: str(client._request_raw("GET", "/api/version").json()["version"]))

    def installed(self) -> dict[str, ListResponse.Model]:
        """tag → what the server has, asked anew at each call. Raises MissingError where it doesn't answer."""
        ask = functools.partial(self._ask, lambda client: client.list(), self._timeout)
        return {model.model: model for model in self._persist("the list of models", ask).models if model.model}

    def show(self, tag: str) -> ShowInfo:
        """An installed model's context and abilities, asked once. Raises MissingError where it isn't installed."""
        if tag not in self._shown:
            ask = functools.partial(self._ask, lambda client: client.show(tag), self._timeout, tag)
            shown = self._persist(f"what {tag} can do", ask)
            facts, able = shown.modelinfo or {}, shown.capabilities or ()
            names = [f"general.{part}" for part in ("basename", "size_label", "finetune")]
            self._shown[tag] = ShowInfo(
                context_length=facts.get(f"{facts.get('general.architecture')}.context_length"),
                thinking="thinking" in able,
                family=(getattr(shown.details, "family", None) or "").lower(),
                bare=(shown.template or "").replace(" ", "") == "{{.Prompt}}",
                file_name="-".join(str(facts[name]) for name in names if name in facts),
            )
        return self._shown[tag]

    @functools.cached_property
    def _digests(self) -> dict[str, str]:
        """tag → digest, as the server lists them; empty where it is off."""
        return {tag: model.digest or "" for tag, model in self.installed().items()} if not self.trouble else {}

    def identity(self, model: str) -> dict[str, Any]:
        """Backend, tag and digest. With the server off, or without the model, the digest that an earlier run recorded;
        MissingError where none did."""
        tag = find_tag(model, self._digests)
        digest = self._digests[tag] if tag else self._known_digests.get(model)
        if digest is None:
            raise MissingError(self.trouble or f"{self.address} has no model {model}. {PULL.format(model)}")
        return {"backend": self.backend, "tag": model, "digest": digest}

    def unload(self, keep: str = "") -> None:
        """Free the memory that the models asked here fill, but for one to ``keep``, and wait until it is free."""
        gone, end = self._loaded - {keep}, time.monotonic() + UNLOAD_SECONDS
        self._loaded -= gone
        with suppress(PassingError, MissingError):  # the server unloads them by itself in the end
            for tag in gone:  # a chat without messages, to be kept alive for no time
                self._ask(lambda client: client.chat(tag, messages=[], keep_alive=0), UNLOAD_SECONDS)  # noqa: B023
            # the server says that it will unload a model before it has
            while gone and time.monotonic() < end:
                running = [str(model.model) for model in self._ask(lambda client: client.ps(), PATIENCE).models]
                gone = {tag for tag in gone if find_tag(tag, running)}
                time.sleep(0.1 if gone else 0.0)

    def _begin(self, model: str) -> None:
        if self.show(model).bare:
            log.warning("%s %s.", model, NO_TEMPLATE)
        self.unload(keep=model)
        self._loaded.add(model)

    def _say(self, request: Request, seconds: float, *, in_words: bool) -> Completion:
        show, context = self.show(request.model), self._context(request.model)
        named = f"{request.model.lower()} {show.family}"
        # where a schema in words takes the place of one that was not obeyed, a model may have to think first
        thinks = any(name in named for name in THINKS_ANYWAY) or (in_words and show.thinking)
        limit = request.num_predict + THOUGHT_TOKENS * thinks
        options = {"seed": request.seed, "temperature": request.temperature, "num_ctx": context, "num_predict": limit}
        body = common_body(request) | {"stream": False, "options": options, "keep_alive": KEEP_ALIVE}
        body["truncate"] = False  # refuse a prompt beyond the context, in place of answering a part of it
        if request.schema and not in_words:
            body["format"] = bounded(request.schema, request.num_predict)
        if show.thinking:  # servers refuse the word for models that can't
            body["think"] = "low" if show.family in ("gptoss", "gpt-oss") else False
        return self._ask(functools.partial(self._converse, request, body), seconds, request.model)

    def _converse(self, request: Request, body: Mapping[str, Any], client: Client) -> Completion:
        from ollama import ChatResponse

        start = time.perf_counter()
        # the client's chat() knows no "truncate"
        reply: ChatResponse = client._request(ChatResponse, "POST", "/api/chat", json=body)
        waited, own = time.perf_counter() - start, (reply.eval_duration or 0) / 1e9
        if (reply.prompt_eval_count or 0) >= body["options"]["num_ctx"]:  # what doesn't know "truncate" cut it to that
            raise ContextError
        end = (reply.done_reason or "stop") if reply.done else "not done"  # old versions give no reason
        text = reply.message.content or ""
        answer = read_answer(request, text, end, reply.eval_count, own or waited, reply.logprobs)
        return answer if own else replace(answer, side_by_side=self._concurrency)

    def _remedy(self, status: int, said: str, model: str) -> str:
        gone = status == 404 and model and "model" in said  # not so of a path that is none
        return PULL.format(model) if gone else "Check OLLAMA_HOST, and the user and password in it."

    def _context(self, model: str) -> int:
        return min(self._num_ctx, self.show(model).context_length or self._num_ctx)

    def _opener(self) -> Callable[..., Client]:
        # the credentials apart: the official client drops those that stand in the address
        return functools.partial(_client_class(), host=self.address, auth=self._auth)


@functools.cache
def _client_class() -> type[Client]:
    """The official client. Importing it makes one from the environment, which fails on a list in OLLAMA_HOST, a SOCKS
    proxy and much else: the environment is hidden from it meanwhile."""
    hidden = dict(os.environ)
    os.environ.clear()
    try:
        from ollama import Client
    finally:
        os.environ.update(hidden)
    return Client
