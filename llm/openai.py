"""Ask any server with the OpenAI API through the official client: LM Studio, llama.cpp, vLLM, a cloud.

model = OpenAIModel()                       # OPENAI_BASE_URL and OPENAI_API_KEY; without the former the paid API itself
for index, completion in model.complete([Request("qwen3-4b", "How do I sort a list?", label="prompt 1")]):
    ...
"""

from __future__ import annotations

import functools
import http.client
import json
import logging
import os
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from core.errors import MissingError
from core.hub import within
from llm.addresses import is_loopback, parse_address, read_key
from llm.answers import TOP_LOGPROBS, read_logprobs
from llm.asking import KEPT, Draw, PassingError, Server, failure
from llm.connection import client_options, said_by, wait_asked
from llm.interface import Completion

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

PAID_ADDRESS = "https://api.openai.com/v1"
PATIENCE = 5.0  # seconds in which a living server lists its models
LONGEST_PAUSE = 120.0  # seconds: a server that asks for a longer one ends the run, which goes on when called again
# What different servers call the context of a model in their lists: vLLM, OpenRouter, Groq, Mistral.
CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")
REFUSALS = frozenset({400, 415, 422, 501})  # statuses with which a server says that it does not know a parameter
# Parameters that some model or server refuses, and what asking without them means.
OPTIONAL = {
    "response_format": "JSON is asked for in words, and validated",
    "max_tokens": "max_completion_tokens stands for it",
    "temperature": "it answers at its own temperature, whatever the settings say",
    "seed": "the same question asked again may be answered otherwise",
    "logprobs": "its verdicts come without probabilities",
    "stream_options": "its tokens are not counted",
    "stream": "the answer is read as a stream",
}


class OpenAIModel(Server):
    """The ``LanguageModel`` behind any OpenAI API. Its constructor contacts nobody.

    base_url, api_key: None means OPENAI_BASE_URL and OPENAI_API_KEY. concurrency: requests in flight at once.
    timeout: seconds for one request. retry_wait: seconds before the second attempt, doubled before each further one.

    An address with a password in it is a UsageError. ``paid``: nobody named an address.
    """

    backend = "openai"

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        concurrency: int = 4,
        timeout: float = 300.0,
        retry_wait: float = 1.0,
    ) -> None:
        named = (os.environ.get("OPENAI_BASE_URL", "") if base_url is None else base_url).strip()
        self.paid = not named
        address = parse_address(named or PAID_ADDRESS)
        super().__init__(address, concurrency=concurrency, timeout=timeout, retry_wait=retry_wait)
        self._key = read_key("OPENAI_API_KEY", api_key)
        self._without: dict[str, frozenset[str]] = {}  # model → the OPTIONAL parameters that it refused
        self._listed: dict[str, int | None] | None = None

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
            # a look-up of the server's name has no time limit of its own: it is left behind
            found = within(PATIENCE, lambda: self._ask(lambda client: list(client.models.list()), PATIENCE))
        except openai.APIStatusError as error:
            if error.status_code not in (404, 405, 501):
                raise self._refused(error) from None
            found = []
        except (PassingError, TimeoutError) as error:
            raise MissingError(
                f"No server with the OpenAI API answers at {self.address}: {error}. Start one there, or set "
                "OPENAI_BASE_URL to where it runs (it mostly ends in /v1)."
            ) from error
        self._listed = {model.id: _context(model.model_extra or {}) for model in found if model.id}
        return self._listed

    def identity(self, model: str) -> dict[str, Any]:
        """Backend and model and, unless it is this machine, the host. No server of this kind tells a digest: a model
        that changes behind its name is not noticed."""
        host = {} if is_loopback(self.address) else {"host": urlsplit(self.address).hostname}
        return {"backend": self.backend, "model": model, **host}

    def unload(self) -> None:
        """Nothing to unload: no such server can be told to."""

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, draw: Draw) -> Completion:
        """Ask once, without what the model refuses."""
        import openai

        model = draw.request.model
        while True:
            without = self._without.get(model, frozenset())
            sent = parameters(draw, without)
            try:
                return self._ask(functools.partial(_converse, sent=sent), draw.seconds)
            except openai.APIStatusError as error:
                name = refused_parameter(error, sent)
                if name is None:
                    raise self._refused(error, model) from error
                if name not in self._without.get(model, frozenset()):
                    log.warning("%s refuses %s: %s.", model, name, OPTIONAL[name])
                self._without[model] = without | {name}

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

    def _refused(self, error: APIStatusError, model: str = "") -> Exception:
        """The exception that a reply that says error stands for."""
        status, body = error.status_code, error.response.text
        inner = error.body if isinstance(error.body, dict) else {}
        inner = inner.get("error", inner)
        said = said_by(status, inner.get("message", inner) if isinstance(inner, dict) else inner or body)
        if self._key:  # some servers repeat it
            said = re.sub(re.escape(self._key[:8]) + r"\S*", "…", said)
        pause = wait_asked(error.response.headers)
        if status == 402 or "insufficient_quota" in body:
            return MissingError(f"{self.address}: the account has no credit left ({said}). {KEPT}")
        if pause > LONGEST_PAUSE:
            return MissingError(f"{self.address} asks for a pause of {pause:.0f} s ({said}). {KEPT}")
        if status in (408, 429) or (status >= 500 and status != 501):
            return PassingError(f"the server answered {said}", wait=pause)
        fix = "Check OPENAI_BASE_URL; it mostly ends in /v1."
        if status in (401, 403):
            fix = "Set OPENAI_API_KEY to a key that is valid there."
        elif model:
            fix = f"Is {model} the name of a chat model of this server? --check shows what it has."
        return MissingError(f"{self.address} refused the request ({said}). {KEPT} {fix}")


# ── What is sent and what comes back ─────────────────────────────────────────────────────────────────────


def parameters(draw: Draw, without: frozenset[str]) -> dict[str, Any]:
    """The body of a request, without the OPTIONAL parameters that the model refused."""
    request = draw.request
    in_words = draw.in_words or "response_format" in without
    sent: dict[str, Any] = {
        "model": request.model,
        "messages": draw.messages(schema=in_words or draw.number > 0),  # some servers take the format and ignore it
        "seed": draw.seed,
        "temperature": draw.temperature,
        "max_tokens": request.num_predict,
    }
    if request.schema and not in_words:
        # "strict" allows no other keys, and pydantic's schema does not say so by itself
        strict = {**request.schema.model_json_schema(), "additionalProperties": False}
        named = {"name": request.schema.__name__, "strict": True, "schema": strict}
        sent["response_format"] = {"type": "json_schema", "json_schema": named}
    if draw.weighed and "logprobs" not in without:
        sent |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    if "stream" in without:
        sent["stream_options"] = {"include_usage": True}
    if "max_tokens" in without:
        sent["max_completion_tokens"] = request.num_predict
    kept = {name: value for name, value in sent.items() if name not in without}
    return kept | ({"stream": True} if "stream" in without else {})


def refused_parameter(error: APIStatusError, sent: Mapping[str, Any]) -> str | None:
    """Which of the OPTIONAL parameters the server refused: one that it names, else the format of the answer."""
    if error.status_code not in REFUSALS:
        return None
    possible = [name for name in OPTIONAL if (name not in sent if name == "stream" else name in sent)]
    said = error.response.text.replace("json_schema", "response_format").replace("top_logprobs", "logprobs")
    named = [name for name in possible if re.search(rf"\b{name}\b", said)]
    return next(iter(named), "response_format" if "response_format" in sent else None)


def _converse(client: OpenAI, sent: Mapping[str, Any]) -> Completion:
    """The model's answer, also where it comes as a stream."""
    start = time.perf_counter()
    reply = client.chat.completions.create(**sent)
    if sent.get("stream"):
        chunks = list(reply)
        parts = [chunk.choices[0] for chunk in chunks if chunk.choices]
        text = "".join((part.delta and part.delta.content) or "" for part in parts)
        ended = next((part.finish_reason for part in parts if part.finish_reason), None)
        usage = next((chunk.usage for chunk in chunks if chunk.usage), None)
        spoken = [token for part in parts if part.logprobs for token in part.logprobs.content or ()]
        if ended is None:
            raise PassingError("the answer broke off")
    elif reply.choices is None:  # some report errors with a status of success
        raise PassingError(f"the server answered {said_by(200, getattr(reply, 'error', ''))}")
    else:
        said, usage = reply.choices[0], reply.usage
        text, ended = said.message.content or "", said.finish_reason
        spoken = list((said.logprobs and said.logprobs.content) or ())
    read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    seconds = time.perf_counter() - start
    cut, tokens = ended == "length", read_logprobs(spoken)
    return Completion(text, written, seconds, truncated=cut, prompt_tokens=read, spoken=tokens)


def _context(said: Mapping[str, Any]) -> int | None:
    """The context in tokens from what a server's list says of a model."""
    return next((said[key] for key in CONTEXT_KEYS if isinstance(said.get(key), int)), None)


def speaks_here(address: str) -> bool:
    """Whether a server with the OpenAI API lists models at this address. Asked without the client: every run that finds
    no Ollama comes here, and the client takes a second to import."""
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(address) else []
    try:
        with urllib.request.build_opener(*handlers).open(f"{address}/v1/models", timeout=PATIENCE) as reply:
            return isinstance(json.load(reply).get("data"), list)
    except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
        log.debug("no OpenAI API at %s: %s", address, error)
        return False
