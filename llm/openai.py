"""Ask any server with the OpenAI API through the official client: LM Studio, llama.cpp, vLLM, a cloud.

model = OpenAIModel()                       # OPENAI_BASE_URL and OPENAI_API_KEY; without the former the paid API itself
for index, completion in model.complete([Request("qwen3-4b", "How do I sort a list?", label="prompt 1")]):
    ...
"""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from core.errors import MissingError
from core.text import plain
from llm.addresses import is_loopback, parse_address, read_key
from llm.answers import TOP_LOGPROBS, UselessError, bounded, read_logprobs
from llm.asking import PATIENCE, THOUGHT_TOKENS, Draw, PassingError, Server, failure
from llm.connection import ContextError, client_options, get_json, read_overflow, said_by
from llm.interface import Completion

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

PAID_ADDRESS = "https://api.openai.com/v1"
LONGEST_PAUSE = 120.0  # seconds, however long a server asks to be left alone
# A model's context in the lists of vLLM, of most clouds and of llama.cpp.
CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "n_ctx")
# Parameters that some model or server refuses with 400 or 422, and the words that name them.
OPTIONAL = {
    "response_format": "response_format|json_schema|schema|grammar",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "seed": "seed",
    "logprobs": "(top_)?logprobs",
}
# Ends of an answer in the words of different servers: by itself, and at its limit. Any other is a failure.
WHOLE = frozenset({"stop", "eos", "eos_token", "stop_sequence", "end_turn"})
CUT = frozenset({"length", "max_tokens", "model_length"})


class OpenAIModel(Server):
    """The ``LanguageModel`` behind any OpenAI API. Its constructor contacts nobody.

    base_url, api_key: None means OPENAI_BASE_URL and OPENAI_API_KEY. asking: as for ``Server``. An address with a
    password in it is a UsageError. ``paid``: nobody named an address.
    """

    backend = "openai"
    absent = (
        "No server with the OpenAI API answers at {}: {}. Start one there, or set OPENAI_BASE_URL to where it runs (it "
        "mostly ends in /v1)."
    )
    enlarge = "Start the server with a larger context (llama.cpp: -c, for each of its slots), at least"

    def __init__(self, base_url: str | None = None, api_key: str | None = None, **asking: Any) -> None:
        named = (os.environ.get("OPENAI_BASE_URL", "") if base_url is None else base_url).strip()
        self.paid = not named
        super().__init__(parse_address(named or PAID_ADDRESS), **asking)
        self._key = read_key("OPENAI_API_KEY", api_key)
        self._without: dict[str, frozenset[str]] = {}  # model → the OPTIONAL parameters that it refused
        self._listed: dict[str, int | None] | None = None
        self.told: dict[str, int] = {}  # model → its context, by a refusal

    # ── What is there ────────────────────────────────────────────────────────────────────────────────────

    def listed(self) -> Mapping[str, int | None]:
        """model → its context in tokens, None where the server doesn't say; asked once, settled within seconds.

        Empty where the server lists no models. Raises MissingError where none answers or the key is refused.
        """
        import openai  # before the clock starts: the first import takes a second on a busy machine

        if self._listed is not None:
            return self._listed
        if self.paid and not self._key:
            raise MissingError(
                f"OPENAI_API_KEY is not set, and {self.address} answers nobody without one. Set it, or set "
                "OPENAI_BASE_URL to a server of your own (http://127.0.0.1:1234/v1)."
            )
        try:
            found = self._at_once(lambda: self._ask(lambda client: list(client.models.list()), PATIENCE))
        except openai.APIStatusError as error:
            if error.status_code not in (404, 405, 501):
                raise self._read_refusal(error) from None
            found = []
        self._listed = {}
        for model in found:
            told = model.model_extra or {}
            facts = {**(told.get("meta") or {}), **told}
            self._listed[model.id] = next((facts[k] for k in CONTEXT_KEYS if isinstance(facts.get(k), int)), None)
        return self._listed

    def identity(self, model: str) -> dict[str, Any]:
        """Backend and model and, unless it is this machine, the host. No server of this kind tells a digest: a model
        that changes behind its name is not noticed."""
        host = {} if is_loopback(self.address) else {"host": urlsplit(self.address).hostname}
        return {"backend": self.backend, "model": model, **host}

    def require_admission(self) -> None:
        """Raise MissingError where the address or the key is not that of a chat: a list of models needs neither.

        An empty question, which no server answers: it is refused for what it lacks, once the key is right.
        """
        import openai

        try:
            self._ask(lambda client: client.post("/chat/completions", body={}, cast_to=object), PATIENCE)
        except openai.APIStatusError as error:
            nowhere = error.status_code in (404, 405) and "model" not in error.response.text
            if error.status_code in (401, 403) or nowhere:
                raise self._read_refusal(error) from None
        except PassingError:
            return  # whether it answers shows when it is asked

    def is_ollama(self) -> bool:
        """Whether Ollama answers here, whose own API tells contexts and digests."""
        root = self.address.removesuffix("/v1")
        said = None if self.paid else get_json(f"{root}/api/version", PATIENCE)
        return isinstance(said, dict) and "version" in said

    def _context(self, model: str) -> int | None:
        return self.told.get(model) or (self._listed or {}).get(model)

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, draw: Draw) -> Completion:
        """Ask once. A parameter is believed refused where the refusal names it and the question succeeds without it."""
        import openai

        model, without = draw.request.model, self._without.get(draw.request.model, frozenset())
        while True:
            sent = parameters(draw, without)
            try:
                said = self._ask(functools.partial(_converse, sent=sent, side_by_side=self._concurrency), draw.seconds)
            except openai.APIStatusError as error:
                refusal, words = self._read_refusal(error, model), error.response.text
                if isinstance(refusal, ContextError) and refusal.context:
                    self.told[model] = refusal.context
                known = {name for name in OPTIONAL if name in sent and re.search(rf"\b({OPTIONAL[name]})\b", words)}
                if not known or error.status_code not in (400, 422) or isinstance(refusal, ContextError):
                    raise refusal from error
                without |= known
                continue
            if without != self._without.get(model, frozenset()):
                self._without[model] = without
                log.warning("%s refuses %s: it is asked without.", model, ", ".join(sorted(without)))
            return said

    def _ask(self, ask: Callable[[OpenAI], T], seconds: float) -> T:
        """One attempt, with a client and a connection of its own. Raises PassingError where there was no reply or none
        of use, the client's APIStatusError for one that says error."""
        import httpx2
        import openai

        try:
            with openai.DefaultHttpx2Client(
                timeout=openai.Timeout(seconds, connect=PATIENCE),
                follow_redirects=False,  # it would take the key along
                **client_options(self.address),
            ) as http:
                key = self._key or "none"  # the client insists on one, servers of one's own do not
                # no retries of the client's own: they would wait seven times for a server that hangs
                return ask(openai.OpenAI(base_url=self.address, api_key=key, http_client=http, max_retries=0))
        except openai.APIStatusError:
            raise
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, httpx2.HTTPError) else error
            raise failure(cause, seconds, "Is the server running, and OPENAI_BASE_URL right?") from error
        # The client checks no shapes: what lacks something fails where it is read.
        except (openai.APIError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise PassingError("the server's answer is not that of an OpenAI API") from error

    def _read_refusal(self, error: APIStatusError, model: str = "") -> Exception:
        """The exception that a reply that says error stands for."""
        if too_long := read_overflow(
            error.status_code, error.response.text
        ):  # llama.cpp's figures stand beside its words
            return too_long
        said = error.response.text
        said = str(error.body.get("message", said)) if isinstance(error.body, dict) else said
        if self._key:  # some servers repeat it
            said = re.sub(re.escape(self._key[:8]) + r"\S*", "…", said)
        asked = error.response.headers.get("retry-after", "")
        pause = min(float(asked), LONGEST_PAUSE) if asked.isdecimal() else 0.0
        return self._refused(error.status_code, said, model, pause)

    def _mend(self, status: int, said: str, model: str) -> str:
        if status in (401, 403):
            return "Set OPENAI_API_KEY to a key that is valid there."
        if model and "model" in said:
            return f"Is {model} the name of a chat model of this server? --check shows what it has."
        return "Check OPENAI_BASE_URL; it mostly ends in /v1."


# ── What is sent and what comes back ─────────────────────────────────────────────────────────────────────


def parameters(draw: Draw, without: frozenset[str]) -> dict[str, Any]:
    """The body of a request, without the OPTIONAL parameters that the model refused."""
    request = draw.request
    in_words = draw.in_words or "response_format" in without
    limit = "max_completion_tokens" if "max_tokens" in without else "max_tokens"
    sent: dict[str, Any] = {
        "model": request.model,
        "messages": draw.messages(schema=in_words or draw.number > 0),  # some servers take the format and ignore it
        "seed": draw.seed,
        "temperature": draw.temperature,
        limit: request.num_predict + THOUGHT_TOKENS * draw.in_words,
    }
    if request.schema and not in_words:
        # "strict" allows no other keys, which pydantic's schema does not say, and in some clouds no lengths of texts
        strict = {**bounded(request.schema, request.num_predict, strings=False), "additionalProperties": False}
        named = {"name": request.schema.__name__, "strict": True, "schema": strict}
        sent["response_format"] = {"type": "json_schema", "json_schema": named}
    if draw.weighed and "logprobs" not in without:
        sent |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return {name: value for name, value in sent.items() if name not in without}


def _converse(client: OpenAI, sent: Mapping[str, Any], side_by_side: int) -> Completion:
    """The model's answer. ``side_by_side``: requests in flight, for servers that don't tell their own time."""
    start = time.perf_counter()
    reply = client.chat.completions.create(**sent)
    waited = time.perf_counter() - start
    if reply.choices is None:  # some report errors with a status of success
        raise PassingError(f"the server answered {said_by(200, getattr(reply, 'error', ''))}")
    said, tokens = reply.choices[0], getattr(reply.usage, "completion_tokens", None)
    if said.finish_reason not in WHOLE | CUT:
        raise UselessError(f"the answer broke off ({plain(said.finish_reason)})")
    content: Any = said.message.content  # it may come in parts, some of which are thoughts
    parts = content if isinstance(content, list) else [{"type": "text", "text": str(content or "")}]
    own = (getattr(reply, "timings", None) or {}).get("predicted_ms")
    return Completion(
        "".join(part["text"] for part in parts if part.get("type") in ("text", "output_text")),
        tokens if type(tokens) is int and tokens >= 0 else None,
        own / 1000 if own else waited,
        truncated=said.finish_reason in CUT,
        side_by_side=0 if own else side_by_side,
        spoken=read_logprobs(said.logprobs and said.logprobs.content),
    )


def speaks_here(address: str) -> bool:
    """Whether a server with the OpenAI API lists models at this address."""
    listed = get_json(f"{address}/models", PATIENCE)
    return isinstance(listed, dict) and isinstance(listed.get("data"), list)
