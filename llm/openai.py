"""Any server with the OpenAI API: LM Studio, llama.cpp, vLLM, a cloud. Asked through the official client.

model = OpenAIModel()                       # OPENAI_BASE_URL and OPENAI_API_KEY; without the former the paid API itself
for index, completion in model.complete([Request("qwen3-4b", "How do I sort a list?", label="prompt 1")]):
    ...
"""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import logging
import os
import re
import time
import urllib.request
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from core.errors import MissingError, UsageError
from core.hub import within
from llm.calls import PASSING, BadReplyError, Calls, certificates, check_reply, is_loopback
from llm.interface import Choice, Completion, Decision, Request
from llm.replies import as_decision, as_request, read_answer
from llm.retry import KEPT, REDRAW_TEMPERATURE, FailedAttemptError, persist

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionChunk

log = logging.getLogger("ranking.llm")
T = TypeVar("T")

PAID_ADDRESS = "https://api.openai.com/v1"
PATIENCE = 5.0  # seconds in which a living server lists its models
LONGEST_PAUSE = (
    120.0  # seconds: a server that asks for a longer pause ends the run, which goes on when it is called again
)
# What different servers call the context of a model in their lists: vLLM, OpenRouter, Groq, Mistral.
CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")
REFUSALS = frozenset({400, 415, 422, 501})  # statuses with which a server says that it does not know a parameter
# Parameters that some model or server refuses, and what asking without them means.
OPTIONAL = {
    "response_format": "JSON is asked for in words, and validated",
    "max_tokens": "max_completion_tokens stands for it",
    "temperature": "it answers at its own temperature, whatever the settings say",
    "seed": "the same question asked again may be answered otherwise",
    "stream_options": "its tokens are not counted",
    "stream": "the answer is read as a stream",
}


class OpenAIModel:
    """The ``LanguageModel`` behind any OpenAI API. Its constructor contacts nobody.

    base_url, api_key: None means OPENAI_BASE_URL and OPENAI_API_KEY. concurrency: requests in flight at once.
    timeout: seconds for one request. retry_wait: seconds before the second attempt, doubled before each further one.

    ``address`` is for messages: an address with a password in it is a UsageError. ``paid``: nobody named an address.
    """

    backend = "openai"
    weighs_options = False

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
        self.address = parse_address(named or PAID_ADDRESS)
        self._key = (os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key).strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UsageError("OPENAI_API_KEY holds characters that no key has; it was copied with something else?")
        self._concurrency = concurrency
        self._timeout = timeout
        self._retry_wait = retry_wait
        self._without: dict[str, frozenset[str]] = {}  # model → the OPTIONAL parameters that it refused
        self._listed: dict[str, int | None] | None = None

    # ── What is there ────────────────────────────────────────────────────────────────────────────────────

    def listed(self) -> Mapping[str, int | None]:
        """model → its context in tokens, None where the server doesn't say; asked once, settled within seconds.

        Empty where the server lists no models. Raises MissingError where none answers or the key is refused.
        """
        if self._listed is None:
            self._listed = self._list()
        return self._listed

    def _list(self) -> dict[str, int | None]:
        import openai  # noqa: F401 - before the clock starts: the first import takes a second on a busy machine

        if self.paid and not self._key:
            raise MissingError(
                f"OPENAI_API_KEY is not set, and {self.address} answers nobody without one. Set it, or set "
                "OPENAI_BASE_URL to a server of your own (http://127.0.0.1:1234/v1)."
            )
        try:
            with Calls() as calls:
                # A look-up of the server's name can't be cut: it is left behind.
                found = within(PATIENCE, lambda: self._once(calls, lambda client: list(client.models.list())))
        except BadReplyError as reply:
            if reply.status in (404, 405, 501):
                return {}
            raise self._refused(reply) from None
        except (FailedAttemptError, TimeoutError) as error:
            raise MissingError(
                f"No server with the OpenAI API answers at {self.address}: {error}. Start one there, or set "
                "OPENAI_BASE_URL to where it runs (it mostly ends in /v1)."
            ) from error
        return {model.id: _context(model.model_extra or {}) for model in found if model.id}

    def identity(self, model: str) -> dict[str, Any]:
        """Backend and model and, unless it is this machine, the host. No server of this kind tells a digest: a model
        that changes behind its name is not noticed."""
        host = {} if is_loopback(self.address) else {"host": urlsplit(self.address).hostname}
        return {"backend": self.backend, "model": model, **host}

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────

    def complete(self, requests: Sequence[Request]) -> Generator[tuple[int, Completion]]:
        """Yield (index, completion) as they finish, ``concurrency`` in flight; a run of requests to one model is done
        before the next model is touched.

        An attempt that failed in passing is repeated, an answer that can't be used is drawn anew with another seed.
        Raises MissingError for what can't be had, after everything that did finish has been yielded. Whoever stops
        listening (Ctrl-C, or the generator closed) cuts what is in flight.
        """
        if any(r.opening for r in requests):
            raise ValueError("only the embedded model can be given the opening words of its answer")
        with Calls(self._concurrency) as calls:
            for _, group in itertools.groupby(enumerate(requests), key=lambda item: item[1].model):
                yield from calls.each(functools.partial(self._answer, calls), group)

    def choose(self, choices: Sequence[Choice]) -> Generator[tuple[int, Decision]]:
        """Yield (index, decision) as they finish; otherwise as ``complete``."""
        with closing(self.complete([as_request(choice) for choice in choices])) as answers:
            for index, answer in answers:
                yield index, as_decision(answer)

    def _answer(self, calls: Calls, request: Request) -> Completion:
        completion = persist(
            request.label or f"a question to {request.model}",
            lambda redraws: read_answer(request, self._attempt(calls, request, redraws)),
            address=self.address,
            time_limit=self._timeout,
            first_wait=self._retry_wait,
            ended=calls.ended,
        )
        log.debug(
            "%s: %s took %.2f s, %d tokens read, %d written",
            request.label, request.model, completion.seconds, completion.prompt_tokens, completion.tokens,
        )  # fmt: skip
        return completion

    def _attempt(self, calls: Calls, request: Request, redraws: int) -> Completion:
        """One answer, asked for without what the model refuses."""
        while True:
            sent = parameters(request, self._without.get(request.model, frozenset()), redraws)
            start = time.perf_counter()
            try:
                said = self._once(calls, lambda client, sent=sent: _say(client, sent))  # type: ignore[misc]
            except BadReplyError as reply:
                name = refused_parameter(reply, sent)
                if name is None:
                    raise self._refused(reply, request.model) from reply
                self._drop(request.model, name)
                continue
            return Completion(
                said.text, said.tokens, time.perf_counter() - start, said.truncated, prompt_tokens=said.prompt_tokens
            )

    def _drop(self, model: str, name: str) -> None:
        """Ask the model without this parameter from now on, said once."""
        before = self._without.get(model, frozenset())
        self._without[model] = before | {name}
        if name not in before:
            log.warning("%s refuses %s: %s.", model, name, OPTIONAL[name])

    def _once(self, calls: Calls, ask: Callable[[OpenAI], T]) -> T:
        """One attempt within the time limit, with a client and a connection of its own.

        Raises FailedAttemptError where there was no reply or none of use, BadReplyError for one that says error.
        """
        import openai

        with calls.call(self._timeout) as call:
            try:
                with openai.DefaultHttpx2Client(
                    timeout=openai.Timeout(None, connect=PATIENCE),  # the call has one for the whole
                    event_hooks={"request": [call.watch], "response": [check_reply]},
                    verify=certificates(),
                    trust_env=not is_loopback(self.address),  # no proxy leads to this machine's own loopback
                    follow_redirects=False,  # it would take the key along
                ) as http:
                    key = self._key or "none"  # the client insists on one, servers of one's own do not
                    return ask(openai.OpenAI(base_url=self.address, api_key=key, http_client=http, max_retries=0))
            except openai.APIStatusError as error:
                raise BadReplyError(error.status_code, "another address was named") from error
            # The official client checks no shapes: what lacks something fails where it is read.
            except (OSError, openai.APIError, ValueError, TypeError, AttributeError, LookupError) as error:
                if call.was_cut:
                    hint = "A longer --timeout or a lower --concurrency may help."
                    raise FailedAttemptError(f"no answer within {self._timeout:g} s", hint=hint) from error
                if isinstance(error, (OSError, openai.APIError)):
                    hint = "Is the server running, and OPENAI_BASE_URL right?"
                    raise FailedAttemptError("the connection failed", hint=hint) from error
                raise FailedAttemptError("the server's answer is not that of an OpenAI API") from error

    def _refused(self, reply: BadReplyError, model: str = "") -> Exception:
        """What a reply that says error means for whoever asked."""
        said = str(reply)
        if self._key:  # some servers repeat it
            said = re.sub(re.escape(self._key[:8]) + r"\S*", "…", said)
        if reply.status == 402 or "insufficient_quota" in reply.body:
            return MissingError(f"{self.address}: the account has no credit left ({said}). {KEPT}")
        if reply.wait > LONGEST_PAUSE:
            return MissingError(f"{self.address} asks for a pause of {reply.wait:.0f} s ({said}). {KEPT}")
        if reply.status in PASSING or reply.status > 501:  # clouds have more than the standard's
            return FailedAttemptError(f"the server answered {said}", wait=reply.wait)
        fix = "Check OPENAI_BASE_URL; it mostly ends in /v1."
        if reply.status in (401, 403):
            fix = "Set OPENAI_API_KEY to a key that is valid there."
        elif model:
            fix = f"Is {model} the name of a chat model of this server? --check shows what it has."
        return MissingError(f"{self.address} refused the request ({said}). {KEPT} {fix}")


# ── What is sent and what comes back ─────────────────────────────────────────────────────────────────────


def parameters(request: Request, without: frozenset[str], redraws: int) -> dict[str, Any]:
    """The body of the request, without the OPTIONAL parameters that the model refused."""
    prompt = request.prompt
    if request.schema and (redraws or "response_format" in without):  # some servers take the format and ignore it
        schema = json.dumps(request.schema.model_json_schema())
        prompt += f"\n\nAnswer with nothing but one JSON object that obeys this schema:\n{schema}"
    system = [{"role": "system", "content": request.system}] if request.system else []
    sent: dict[str, Any] = {
        "model": request.model,
        "messages": [*system, {"role": "user", "content": prompt}],
        "seed": (request.seed + redraws * 7919) & 0x7FFFFFFF,
        "temperature": max(request.temperature, REDRAW_TEMPERATURE) if redraws else request.temperature,
        "max_tokens": request.num_predict,
    }
    if request.schema:
        # "strict" allows no other keys, and pydantic's schema does not say so by itself
        strict = {**request.schema.model_json_schema(), "additionalProperties": False}
        named = {"name": request.schema.__name__, "strict": True, "schema": strict}
        sent["response_format"] = {"type": "json_schema", "json_schema": named}
    if "stream" in without:
        sent |= {"stream": True, "stream_options": {"include_usage": True}}
    kept = {name: value for name, value in sent.items() if name not in without or name == "stream"}
    return kept | ({"max_completion_tokens": request.num_predict} if "max_tokens" in without else {})


def refused_parameter(reply: BadReplyError, sent: Mapping[str, Any]) -> str | None:
    """Which of the OPTIONAL parameters the server refused: one that it names, else the format of the answer."""
    if reply.status not in REFUSALS:
        return None
    possible = [name for name in OPTIONAL if name in sent or name == "stream"]
    if sent.get("stream"):
        possible.remove("stream")  # it is asked for already
    said = reply.body.replace("json_schema", "response_format")
    named = [name for name in possible if re.search(rf"\b{name}\b", said)]
    return next(iter(named), "response_format" if "response_format" in sent else None)


def _say(client: OpenAI, sent: Mapping[str, Any]) -> Completion:
    """What the model said, whether it came whole or as a stream. Raises FailedAttemptError where it broke off."""
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    reply = client.chat.completions.create(**sent)
    if isinstance(reply, str):  # a stream that nobody asked for
        events = re.findall(r"^data:\s*(\{.*\})\s*$", reply, re.MULTILINE)
        return _joined(ChatCompletionChunk.construct(**json.loads(event)) for event in events)
    if not isinstance(reply, ChatCompletion):
        return _joined(reply)
    said, usage = reply.choices[0], reply.usage
    return Completion(
        said.message.content or "",
        usage.completion_tokens if usage else 0,
        0.0,
        truncated=said.finish_reason == "length",
        prompt_tokens=usage.prompt_tokens if usage else 0,
    )


def _joined(chunks: Iterable[ChatCompletionChunk]) -> Completion:
    """The parts of a stream in one; the last ones say why it ended and how many tokens it took."""
    texts, ended, usage = [], None, None
    for chunk in chunks:
        usage = chunk.usage or usage
        for said in chunk.choices or []:
            texts.append((said.delta and said.delta.content) or "")
            ended = said.finish_reason or ended
    if ended is None:
        raise FailedAttemptError("the answer broke off")
    written, read = (usage.completion_tokens, usage.prompt_tokens) if usage else (0, 0)
    return Completion("".join(texts), written, 0.0, truncated=ended == "length", prompt_tokens=read)


def _context(said: Mapping[str, Any]) -> int | None:
    """The context in tokens from what a server's list says of a model."""
    return next((said[key] for key in CONTEXT_KEYS if isinstance(said.get(key), int)), None)


def parse_address(url: str) -> str:
    """The address as the official client wants it: no scheme means http, no path /v1.

    Raises UsageError, without quoting what may hold a password, for one that is no address or holds credentials.
    """
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        plain = parts.port != 0 and url.isprintable() and not any(c in url for c in " @?#")
        if not (plain and parts.hostname and parts.scheme in ("http", "https")):
            raise ValueError
    except ValueError:
        raise UsageError(
            "OPENAI_BASE_URL is not an address such as http://127.0.0.1:1234/v1. A key belongs into OPENAI_API_KEY."
        ) from None
    return url.rstrip("/") if parts.path.strip("/") else f"{url.rstrip('/')}/v1"


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
