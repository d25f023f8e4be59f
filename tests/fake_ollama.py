"""An HTTP server that speaks Ollama's API, for tests and for trying the suite without Ollama.

By hand:  python tests/fake_ollama.py --port 11434          (then `python main.py --backend ollama` in another window)

In a test:

    with FakeOllama(brain=my_brain, latency=0.01) as server:      # listens on 127.0.0.1, a free port
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        ...
        assert server.calls_by_model["gemma3:4b"] == 25 and server.switches <= 7

It answers GET /api/version, /api/tags and /api/ps, POST /api/show and /api/chat (whole, never as a stream), and 404
with {"error": …} for a model it does not have.

FakeOllama(...)
    brain(request) -> str    what the model says; ``request`` is the whole JSON body of the call. Default:
                             fake_brain.default_brain, which obeys any ``format`` schema. fake_brain.last_text(request)
                             is what was asked, fake_brain.shown(text) the responses that a judge is shown, by label.
    models                   tag → Model(context_length, capabilities, size, digest, …), or just tags
    latency                  seconds for each answer, or a callable: request → seconds, or None where it waits itself
    load_seconds             seconds for loading a model that is not loaded; one is loaded at a time
    unload_seconds           seconds until a model that was told to leave memory has left it
    slots                    answers computed side by side (OLLAMA_NUM_PARALLEL); further ones wait, first come first
                             served (None: no limit)
    faults                   callable (request, n) → name of a fault or None, n: how often exactly this request came
                             before; or a Faults(rates={name: probability}, seed). Names: FAULTS below.
    credentials              "user:password": everything else gets 401
    foreign                  True: the Host is not the server's own, and everything gets an empty 403
    probabilities            callable: request → {"A": …, "B": …, "tie": …}, the shares of a verdict's labels, for
                             requests that ask for log-probabilities; None: it gives none, as before 0.12.11
    prompt_tokens            callable: text → its tokens (default: characters / 4); beyond num_ctx 400, as recorded of
                             0.24 and of 0.32, where ``truncate`` is false, and by 0.30 and later also where num_ctx is
                             above 8,192; else, and always before 0.12, the prompt is cut to num_ctx, or to its half
                             and two tokens more by 0.30 and later
    version                  "0.33.0": from 0.30 on the keys of structured answers are sorted

What it saw, all safe to read while it runs
    calls                    a Call for each POST to /api/chat, in order of arrival
    calls_by_model           answered or faulted calls by tag          max_in_flight    most calls at once
    loads, switches          tags in the order in which they were loaded, and how many that were (the first counts)
    loaded, peak_loaded      tags in memory now, and the most there ever were
    unloads                  tags whose memory was given back by a chat without messages and keep_alive 0
    requests                 every (method, path) with its headers
start(), stop()              stop() also cuts what is in flight, as a killed server does; start() again: the same port
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any, Self

from fake_brain import default_brain, key, log_probabilities
from fake_ollama_http import WHEN, Listener, cut, handler

Json = dict[str, Any]
MAX_LOADED = 3  # models in memory at once, as the real server has it for one GPU
DEFAULT_TAGS = ("llama3:8b", "llama3.1:8b", "gemma3:4b", "qwen3:8b", "phi4-mini:3.8b", "mistral:7b")
FAULTS = (
    "500", "503",  # with {"error": …}
    "404",  # the model has vanished
    "drop",  # the connection is closed without an answer
    "hang",  # no answer until the client gives up
    "not_json", "list_body",  # 200 with a body that is no JSON, or a list
    "list_error", "text_error", "escape_error",  # 5xx with a body that is a list, HTML, or drives a terminal
    "cut_body",  # the HTTP body ends in the middle
    "cut_json", "fenced", "wrong_shape",  # the content is half, inside ```json, or JSON of another shape
    "empty",  # the content is ""
    "think", "think_unclosed", "think_orphan",  # <think> leaks into the content: before it, around it, only its end
    "think_budget",  # thinking used up the whole budget: content "", done_reason "length"
    "length",  # the content is cut, done_reason "length"
    "abort",  # 30 times the same token: the reply ends with done false
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """An installed model."""

    context_length: int = 32768
    capabilities: tuple[str, ...] = ("completion",)
    size: int = 4_700_000_000
    digest: str = ""
    parameter_size: str = "8.0B"
    family: str = "llama"
    thinks: str = "as told"
    """Of models that can: "as told", "anyway" (also where it is told not to) or "harmony" (gpt-oss)."""
    template: str = "{{- range .Messages }}<|im_start|>{{ .Role }}{{ .Content }}<|im_end|>{{ end }}"
    facts: Mapping[str, str] = field(default_factory=dict)
    """What its file says of itself: {"general.basename": …}."""
    signed_in: bool = True
    """Of models in the cloud: whether ollama.com knows this server."""


@dataclass(frozen=True)
class Faults:
    """Faults by probability. Which request meets which is decided by its own content and how often it came before, so
    that threads can't change it."""

    rates: Mapping[str, float]
    seed: int = 0

    def __call__(self, request: Json, n: int) -> str | None:
        draw = random.Random(f"{self.seed}/{n}/{key(request)}").random()
        for name, rate in self.rates.items():
            if draw < rate:
                return name
            draw -= rate
        return None


@dataclass
class Call:
    """One question. ``started`` and ``finished`` are seconds of ``time.monotonic``."""

    model: str
    request: Json
    started: float
    finished: float = 0.0
    fault: str | None = None


# ── The server ───────────────────────────────────────────────────────────────────────────────────────────


class FakeOllama:
    """See the head of this file."""

    def __init__(
        self,
        brain: Callable[[Json], str] = default_brain,
        *,
        models: Mapping[str, Model] | Iterable[str] = DEFAULT_TAGS,
        latency: float | Callable[[Json], float | None] = 0.0,
        load_seconds: float = 0.0,
        slots: int | None = None,
        faults: Callable[[Json, int], str | None] | None = None,
        credentials: str | None = None,
        prompt_tokens: Callable[[str], int] = lambda text: len(text) // 4 + 1,
        probabilities: Callable[[Json], dict[str, float]] | None = None,
        version: str = "0.33.0",
        port: int = 0,
        foreign: bool = False,
        unload_seconds: float = 0.0,
    ) -> None:
        self.brain, self.faults, self.version = brain, faults, version
        self.models = dict(models) if isinstance(models, Mapping) else {tag: Model() for tag in models}
        self.latency, self.load_seconds, self.prompt_tokens = latency, load_seconds, prompt_tokens
        self.credentials, self.foreign, self.probabilities = credentials, foreign, probabilities
        self.unload_seconds = unload_seconds
        self.calls: list[Call] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.calls_by_model: Counter[str] = Counter()
        self.loads: list[str] = []
        self.loaded: list[str] = []
        self.unloads: list[str] = []
        self.peak_loaded = 0
        self.max_in_flight = 0
        self.port = port
        self.stopping = threading.Event()
        self._slots = threading.Semaphore(slots) if slots else None
        self._turn = threading.Condition()
        self._in_flight: Counter[str] = Counter()
        self._repeats: Counter[str] = Counter()
        self._sockets: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def switches(self) -> int:
        return len(self.loads)

    def start(self) -> Self:
        self.stopping = threading.Event()
        self._server = Listener(("127.0.0.1", self.port), handler(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in list(self._sockets):
            cut(connection)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def note(self, request: Json) -> Call:
        """The call, with the fault that it meets."""
        tag = str(request.get("model"))
        with self._turn:
            call = Call(tag, request, time.monotonic())
            self.calls.append(call)
            self.calls_by_model[tag] += 1
            call.fault = self.faults(request, self._repeats[key(request)]) if self.faults else None
            self._repeats[key(request)] += 1
        assert call.fault is None or call.fault in FAULTS, f"no such fault: {call.fault}"
        return call

    def answer(self, request: Json) -> tuple[Call, Json]:
        """Compute one answer: (the call, its reply), with queue, load, latency and faults."""
        call, tag = self.note(request), str(request.get("model"))
        self._enter(tag)
        try:
            if self._slots:
                self._slots.acquire()
            seconds = self.latency(request) if callable(self.latency) else self.latency
            time.sleep(seconds or 0)
            reply = self._reply(call)
        finally:
            if self._slots:
                self._slots.release()
            with self._turn:
                self._in_flight[tag] -= 1
                self._turn.notify_all()
            call.finished = time.monotonic()
        return call, reply

    def _enter(self, tag: str) -> None:
        """Wait until ``tag`` is loaded."""
        with self._turn:
            while tag not in self.loaded and len(self.loaded) == MAX_LOADED:
                idle = [other for other in self.loaded if not self._in_flight[other]]
                if idle:
                    self.loaded.remove(idle[0])
                else:
                    self._turn.wait()
            if tag in self.loaded:
                self.loaded.remove(tag)
            else:
                self.loads.append(tag)
                time.sleep(self.load_seconds)
            self.loaded.append(tag)  # the most recently used is the last
            self.peak_loaded = max(self.peak_loaded, len(self.loaded))
            self._in_flight[tag] += 1
            self.max_in_flight = max(self.max_in_flight, self._in_flight.total())

    def load(self, tag: str) -> None:
        """Take it into memory and ask it nothing."""
        self._enter(tag)
        with self._turn:
            self._in_flight[tag] -= 1
            self._turn.notify_all()

    def unload(self, tag: str) -> None:
        """Give its memory back, once nothing of it is in flight."""
        with self._turn:
            while self._in_flight[tag]:
                self._turn.wait()
            self.unloads.append(tag)
        if self.unload_seconds:
            threading.Timer(self.unload_seconds, self._leave, [tag]).start()
        else:
            self._leave(tag)

    def _leave(self, tag: str) -> None:
        with self._turn:
            if tag in self.loaded:
                self.loaded.remove(tag)
            self._turn.notify_all()

    @property
    def age(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    def overflow(self, request: Json) -> Json | None:
        """The refusal of a prompt beyond the context, in the words of this version."""
        read, context = self._read(request)
        cuts = request.get("truncate", True) and not (context > 8192 and self.age >= (0, 30))
        if read <= context or cuts or self.age < (0, 12):
            return None
        if self.age < (0, 30):
            return {"error": "the input length exceeds the context length"}
        said = f"request ({read} tokens) exceeds the available context size ({context} tokens), try increasing it"
        kind = {"code": 400, "message": said, "type": "exceed_context_size_error"}
        return {"error": json.dumps({"error": {**kind, "n_prompt_tokens": read, "n_ctx": context}})}

    def _read(self, request: Json) -> tuple[int, int]:
        """(tokens of the prompt, tokens of the context)."""
        text = "".join(str(message["content"]) for message in request["messages"])
        return self.prompt_tokens(text), (request.get("options") or {}).get("num_ctx", 4096)

    def _reply(self, call: Call) -> Json:
        options = call.request.get("options") or {}
        content = self.brain(call.request)
        if "format" in call.request and self.age >= (0, 30):
            with suppress(ValueError):
                content = json.dumps(json.loads(content), sort_keys=True)
        thought, content = _think(self.models[call.model], call.request, spoil(content, call.fault))
        limit = options.get("num_predict", -1)
        if limit >= 0 and thought:
            limit = max(0, limit - THOUGHT)
        words = re.findall(r"\s*\S+", content)  # one token a word
        cut = call.fault in ("length", "think_budget") or 0 <= limit < len(words)
        said = "".join(words[:limit]) if 0 <= limit < len(words) else content
        read, context = self._read(call.request)
        kept = context if self.age < (0, 30) else context - (context - 4) // 2
        written = (min(len(words), limit) if limit >= 0 else len(words)) + THOUGHT * thought
        weighed: Json = {}
        if self.probabilities and call.request.get("logprobs"):
            weighed["logprobs"] = log_probabilities(said, self.probabilities(call.request))
        return {
            "model": call.model,
            "created_at": WHEN,
            "message": {"role": "assistant", "content": said, **({"thinking": "Let me see."} if thought else {})},
            "done": call.fault != "abort",
            "done_reason": "length" if cut else "stop",
            **weighed,
            "total_duration": 727514426,
            "load_duration": 65888481,
            "prompt_eval_count": read if read <= context else kept,
            "prompt_eval_duration": 115458814,
            "eval_count": written,
            "eval_duration": written * TOKEN_NANOSECONDS,
        }


def spoil(content: str, fault: str | None) -> str:
    half = content[: len(content) // 2]
    return {
        "cut_json": half,
        "length": half,
        "fenced": f"```json\n{content}\n```",
        "wrong_shape": '{"something": ["else"]}',
        "empty": "",
        "think_budget": "",
        "think": f"<think>\nLet me see. {half}\n</think>\n\n{content}",
        "think_unclosed": f"<think>\nLet me see. {content}",
        "think_orphan": f"Let me see.\n</think>\n{content}",
    }.get(fault or "", content)


THOUGHT = 100  # tokens
TOKEN_NANOSECONDS = 20_000_000


def _think(model: Model, request: Json, content: str) -> tuple[bool, str]:
    """(whether a thought stands beside the content, the content) of a model that can think, by what it is told."""
    if "thinking" not in model.capabilities:
        return False, content
    told = request.get("think", True)
    if model.thinks == "harmony":
        return True, "" if "format" in request else content
    if "format" in request:
        return told is not False, content
    if told is False and model.thinks == "anyway":
        return False, "Let me see. " + "hm " * (THOUGHT - 4) + f"\n</think>\n{content}"
    return told is not False, content


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A server that speaks Ollama's API and makes its answers up.")
    parser.add_argument("--port", type=int, default=11434)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds for each answer")
    parser.add_argument("--models", nargs="+", default=list(DEFAULT_TAGS), metavar="TAG")
    args = parser.parse_args()
    with FakeOllama(port=args.port, latency=args.latency, models=args.models) as server:
        print(f"Made-up answers at {server.url}, models: {', '.join(server.models)}. Ctrl-C ends it.", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"\n{len(server.calls)} calls answered")


if __name__ == "__main__":
    main()
