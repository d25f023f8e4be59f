"""Ask any server with the OpenAI API through the official client: LM Studio, llama.cpp, vLLM, a cloud."""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from core.errors import MissingError
from llm.answers import UselessError, bounded, common_body, read_answer
from llm.asking import THOUGHT_TOKENS, PassingError, RefusedError, Server
from llm.connection import PATIENCE, get_json, is_loopback, parse_address, read_key, said_by
from llm.interface import Completion, Request

if TYPE_CHECKING:
    from openai import OpenAI

log = logging.getLogger("ranking.llm")

PAID_ADDRESS = "https://api.openai.com/v1"
# A model's context in the lists of vLLM, of most clouds and of llama.cpp.
CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "n_ctx")
# Parameters that some model or server refuses with 400 or 422, in words that name them.
OPTIONAL = ("max_tokens", "temperature", "seed", "logprobs")


class OpenAIModel(Server):
    """The ``LanguageModel`` behind any OpenAI API. Its constructor contacts nobody.

    base_url, api_key: None means OPENAI_BASE_URL and OPENAI_API_KEY. asking: as for ``Server``. ``paid``: nobody named
    an address. Raises UsageError for an address with a password in it.
    """

    backend = "openai"
    doubts_schema = True
    kind = "server with the OpenAI API"
    mend = "Start one, or set OPENAI_BASE_URL to where it runs (it mostly ends in /v1) and OPENAI_API_KEY to its key."
    enlarge = "Start the server with a larger context (llama.cpp: -c, for each of its slots), at least"

    def __init__(self, base_url: str | None = None, api_key: str | None = None, **asking: Any) -> None:
        named = (os.environ.get("OPENAI_BASE_URL", "") if base_url is None else base_url).strip()
        self.paid = not named
        super().__init__(parse_address(named or PAID_ADDRESS), read_key("OPENAI_API_KEY", api_key), **asking)
        self._without: dict[str, frozenset[str]] = {}  # model → the OPTIONAL parameters that it refused
        self._listed: dict[str, int | None] | None = None

    def listed(self) -> Mapping[str, int | None]:
        """model → its context in tokens, None where the server doesn't say; asked once, settled within seconds.

        Empty where the server lists no models. Raises MissingError where none answers or the key is refused.
        """
        if self._listed is None:
            if self.paid and not self._key:
                raise MissingError(
                    f"OPENAI_API_KEY is not set, and {self.address} answers nobody without one. Set it, or set "
                    "OPENAI_BASE_URL to a server of your own (http://127.0.0.1:1234/v1)."
                )
            try:
                found = self._at_once(lambda client: [(model.id, model.to_dict()) for model in client.models.list()])
            except RefusedError as error:
                if error.status not in (404, 405, 501):
                    raise
                found = []
            self._listed = {}
            for name, told in found:
                meta = told.get("meta")
                facts = {**(meta if isinstance(meta, dict) else {}), **told}
                self._listed[name] = next((facts[k] for k in CONTEXT_KEYS if isinstance(facts.get(k), int)), None)
        return self._listed

    def identity(self, model: str) -> dict[str, Any]:
        """Backend and model and, unless it is this machine, the host. No server of this kind tells a digest: a model
        that changes behind its name is not noticed."""
        host = {} if is_loopback(self.address) else {"host": urlsplit(self.address).hostname}
        return {"backend": self.backend, "model": model, **host}

    def require_admission(self) -> None:
        """Raise MissingError where the address or the key is not that of a chat, by an empty question, which is refused
        for what it lacks once they are right: a list of models needs neither."""
        try:
            self._ask(lambda client: client.post("/chat/completions", body={}, cast_to=object), PATIENCE)
        except PassingError:
            return  # whether it answers shows when it is asked
        except RefusedError as error:
            if error.status in (401, 403) or (error.status in (404, 405) and "model" not in error.said):
                raise

    def is_ollama(self) -> bool:
        """Whether Ollama answers here, whose own API tells contexts and digests."""
        return "version" in get_json(f"{self.address.removesuffix('/v1')}/api/version")

    def _context(self, model: str) -> int | None:
        return self.told.get(model) or (self._listed or {}).get(model)

    def _say(self, request: Request, seconds: float, *, in_words: bool) -> Completion:
        """Ask once. A parameter is believed refused where the refusal names it and the question succeeds without it."""
        model = request.model
        without = before = self._without.get(model, frozenset())
        while True:
            sent = parameters(request, without, in_words=in_words)
            try:
                said = self._ask(functools.partial(self._converse, request, sent), seconds, model)
            except RefusedError as error:
                if error.status not in (400, 422):
                    raise
                if "response_format" in sent and re.search("response_format|schema|grammar", error.said):
                    log.warning("%s refuses response_format: it is asked without.", model)
                    self._in_words[model] = True  # other schemas may have gone well before
                    raise UselessError("it refuses a schema", silent=True) from error
                known = {name for name in OPTIONAL if name in sent and re.search(rf"\b(top_)?{name}\b", error.said)}
                if not known:
                    raise
                without |= known
                continue
            if without != before:
                self._without[model] = without
                log.warning("%s refuses %s: it is asked without.", model, ", ".join(sorted(without)))
            return said

    def _converse(self, request: Request, sent: Mapping[str, Any], client: OpenAI) -> Completion:
        """The model's answer. What lacks something fails where it is read: the client checks no shapes."""
        start = time.perf_counter()
        reply = client.chat.completions.create(**sent)
        waited = time.perf_counter() - start
        if not reply.choices:  # some report errors with a status of success
            raise PassingError(f"the server answered {said_by(200, reply.to_json(), self._key)}")
        said = reply.choices[0]
        content: Any = said.message.content  # it may come in parts, some of which are thoughts
        parts = content if isinstance(content, list) else [{"type": "text", "text": str(content or "")}]
        text = "".join(part["text"] for part in parts if part.get("type") in ("text", "output_text"))
        tokens, logprobs = getattr(reply.usage, "completion_tokens", None), said.logprobs and said.logprobs.content
        own = (getattr(reply, "timings", None) or {}).get("predicted_ms")
        answer = read_answer(request, text, said.finish_reason, tokens, own / 1000 if own else waited, logprobs)
        return answer if own else replace(answer, side_by_side=self._concurrency)

    def _remedy(self, status: int, said: str, model: str) -> str:
        if status in (401, 403):
            return "Set OPENAI_API_KEY to a key that is valid there."
        if status in (402, 429):
            return "The account has no credit left there."
        if model and "model" in said:
            return f"Is {model} the name of a chat model of this server? --check shows what it has."
        return "Check OPENAI_BASE_URL; it mostly ends in /v1."

    def _opener(self) -> Callable[..., OpenAI]:
        import openai

        def make(**options: Any) -> OpenAI:
            http = openai.DefaultHttpx2Client(follow_redirects=False, **options)  # they would take the key along
            key = self._key or "none"  # the client insists on one, servers of one's own do not
            # no retries of the client's own: they would wait seven times for a server that hangs
            return openai.OpenAI(base_url=self.address, api_key=key, http_client=http, max_retries=0)

        return make


def parameters(request: Request, without: frozenset[str], *, in_words: bool) -> dict[str, Any]:
    """The body of a request, without the OPTIONAL parameters that the model refused."""
    limit = "max_completion_tokens" if "max_tokens" in without else "max_tokens"
    tokens = request.num_predict + THOUGHT_TOKENS * in_words
    sent = common_body(request) | {"seed": request.seed, "temperature": request.temperature, limit: tokens}
    if request.schema and not in_words:
        # "strict" allows no other keys, which pydantic's schema does not say, and in some clouds no lengths of texts
        strict = {**bounded(request.schema, request.num_predict, strings=False), "additionalProperties": False}
        named = {"name": request.schema.__name__, "strict": True, "schema": strict}
        sent["response_format"] = {"type": "json_schema", "json_schema": named}
    return {name: value for name, value in sent.items() if name.removeprefix("top_") not in without}
