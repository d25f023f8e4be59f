"""An HTTP server that speaks the OpenAI API, for tests and for trying the suite without such a server.

By hand:  python tests/fake_openai.py --port 1234
          (then `OPENAI_BASE_URL=http://127.0.0.1:1234/v1 python main.py --backend openai --models a b c --judge d`)

It answers GET /v1/models and POST /v1/chat/completions (never as a stream), and 404 for a model it does not have.

FakeOpenAI(...)
    brain(request) -> str    as for fake_ollama.FakeOllama: the schema of ``response_format`` is given to it as
                             ``format``, and so is one that stands in words at the end of the prompt
    models                   model → Model(context, refuses), or just names
    key                      the API key; everything else gets 401. None: nobody is asked for one
    open_list                True: the list of models needs no key, as llama.cpp's
    lists                    False: GET /v1/models is 404
    faults                   callable (request, n) → name of a fault or None, or a fake_ollama.Faults; names: FAULTS
    pause                    what ``Retry-After`` says with a 429
    latency                  seconds for each answer
    probabilities            as for FakeOllama
    overflows                callable (tokens, context) → (status, body) of a prompt beyond a model's context
    shape                    callable: reply → the reply that is sent in its place
    timed                    True: replies tell the server's own time, 20 ms a token, as llama.cpp's do
    ollama                   True: it is Ollama's, which also answers GET /api/version

What it saw: calls (a fake_ollama.Call for each POST, those that were refused too), answered (questions that got an
answer), requests (method, path, headers in lower case).
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from fake_brain import IN_WORDS, default_brain, key, last_text, log_probabilities
from fake_ollama import Call, spoil
from fake_ollama_http import Listener, cut

Json = dict[str, Any]
FAULTS = (
    "429", "500", "quota", "drop", "hang", "cut_body", "not_json", "odd", "strange", "cut_json", "fenced", "empty",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model of the server. ``refuses``: parameters that get a 400 that names them. ``chats`` False: 400, always.
    ``loaded``: its context stands in the list as llama.cpp has it."""

    context: int | None = None
    refuses: frozenset[str] = frozenset()
    chats: bool = True
    loaded: bool = False


def llama_overflow(tokens: int, context: int) -> tuple[int, Any]:
    said = f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
    error = {"code": 400, "message": said, "type": "exceed_context_size_error"}
    return 400, {"error": {**error, "n_prompt_tokens": tokens, "n_ctx": context}}


class FakeOpenAI:
    """See the head of this file."""

    def __init__(
        self,
        brain: Callable[[Json], str] = default_brain,
        *,
        models: Mapping[str, Model] | Iterable[str] = ("a-8b", "b-7b", "c-4b", "judge-70b"),
        key: str | None = None,
        lists: bool = True,
        faults: Callable[[Json, int], str | None] | None = None,
        pause: str = "0",
        latency: float = 0.0,
        port: int = 0,
        probabilities: Callable[[Json], dict[str, float]] | None = None,
        overflows: Callable[[int, int], tuple[int, Any]] = llama_overflow,
        shape: Callable[[Json], Any] = lambda reply: reply,
        timed: bool = False,
        ollama: bool = False,
        open_list: bool = False,
    ) -> None:
        self.open_list = open_list
        self.overflows, self.shape, self.timed, self.ollama = overflows, shape, timed, ollama
        self.brain, self.faults, self.key, self.lists = brain, faults, key, lists
        self.pause, self.latency, self.probabilities = pause, latency, probabilities
        self.models = dict(models) if isinstance(models, Mapping) else {name: Model() for name in models}
        self.calls: list[Call] = []
        self.answered: list[str] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.port = port
        self.stopping = threading.Event()
        self._repeats: Counter[str] = Counter()
        self._turn = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._server = Listener(("127.0.0.1", self.port), type("Handler", (_Handler,), {"fake": self}))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def note(self, request: Json) -> Call:
        """The call, with the fault that it meets."""
        call = Call(str(request.get("model")), request, time.monotonic())
        with self._turn:
            self.calls.append(call)
            call.fault = self.faults(request, self._repeats[key(request)]) if self.faults else None
            self._repeats[key(request)] += 1
        assert call.fault is None or call.fault in FAULTS, f"no such fault: {call.fault}"
        return call

    def say(self, call: Call) -> tuple[str, bool, Json]:
        """What the model says, whether it was cut at its limit, and the tokens it took."""
        time.sleep(self.latency)
        content = spoil(self.brain(as_ollama(call.request)), call.fault)
        words = re.findall(r"\s*\S+", content)  # one token a word
        limit = call.request.get("max_tokens", call.request.get("max_completion_tokens", len(words)))
        if call.fault is None:
            self.answered.append(key({k: call.request.get(k) for k in ("model", "messages", "seed")}))
        read = len(last_text(call.request)) // 4 + 1
        usage = {"prompt_tokens": read, "completion_tokens": min(limit, len(words)), "total_tokens": read + len(words)}
        return content if limit >= len(words) else "".join(words[:limit]), limit < len(words), usage


def as_ollama(request: Json) -> Json:
    """The request as a brain reads it: the schema as ``format``, whether it stands in the request or in the prompt."""
    text = last_text(request)
    asked, _, words = text.partition(IN_WORDS)
    schema = (request.get("response_format") or {}).get("json_schema", {}).get("schema") or (
        words and json.loads(words)
    )
    plain: Json = {"model": request["model"], "messages": [{"role": "user", "content": asked}]}
    # the same answer whichever way it was asked for
    return {**plain, "format": {k: v for k, v in schema.items() if k != "additionalProperties"}} if schema else plain


class _Handler(BaseHTTPRequestHandler):
    fake: FakeOpenAI
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        """Silent: ``calls`` has it all."""

    def do_GET(self) -> None:
        if not self._admitted():
            return
        if self.path == "/api/version" and self.fake.ollama:
            self._send(200, {"version": "0.32.0"})
            return
        if self.path != "/v1/models" or not self.fake.lists:
            self._refuse(404, "unknown path")
            return
        listed = [
            {
                "id": name,
                "object": "model",
                "created": 1,
                "owned_by": "me",
                **({"max_model_len": m.context} if m.context and not m.loaded else {}),
                **({"meta": {"n_ctx": m.context, "n_ctx_train": 32768}} if m.loaded else {}),
            }
            for name, m in self.fake.models.items()
        ]
        self._send(200, {"object": "list", "data": listed})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._admitted():
            return
        request = json.loads(body)
        model = self.fake.models.get(str(request.get("model")))
        if self.path != "/v1/chat/completions":
            self._refuse(404, "unknown path")
        elif not request:
            self._refuse(400, "you must provide a model parameter")
        elif model is None:
            self._refuse(404, f"The model `{request.get('model')}` does not exist")
        else:
            self._answer(self.fake.note(request), model)

    def _admitted(self) -> bool:
        self.fake.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        sent = self.headers.get("Authorization", "")
        free = self.command == "GET" and self.fake.open_list
        if free or self.fake.key is None or sent == f"Bearer {self.fake.key}":
            return True
        self._refuse(401, f"Incorrect API key provided: {sent.removeprefix('Bearer ')}")  # some repeat it
        return False

    def _answer(self, call: Call, model: Model) -> None:
        refused = next((name for name in call.request if name in model.refuses), None)
        if not model.chats:
            self._refuse(400, "This is not a chat model")
        elif refused:
            self._refuse(400, f"Unsupported parameter: '{refused}' is not supported with this model.", refused)
        elif model.context and (tokens := len(last_text(call.request)) // 4 + 1) > model.context:
            status, body = self.fake.overflows(tokens, model.context)
            self._send(status, body)
        elif not self._failed(call):
            text, is_cut, usage = self.fake.say(call)
            message = {"role": "assistant", "content": text}
            said: Json = {"index": 0, "message": message, "finish_reason": "length" if is_cut else "stop"}
            if self.fake.probabilities and call.request.get("logprobs"):
                shares = self.fake.probabilities(as_ollama(call.request))
                said["logprobs"] = {"content": log_probabilities(text, shares)}
            reply = {"id": "x", "object": "chat.completion", "created": 1, "model": call.model}
            reply |= {"choices": [said], "usage": usage}
            if self.fake.ollama:
                reply["system_fingerprint"] = "fp_ollama"
            if self.fake.timed:
                reply["timings"] = {"predicted_n": usage["completion_tokens"], "predicted_per_second": 50.0}
                reply["timings"]["predicted_ms"] = 20.0 * usage["completion_tokens"]
            data = json.dumps(self.fake.shape(reply)).encode()
            self._send_raw(200, data[: len(data) // 2] if call.fault == "cut_body" else data)

    def _failed(self, call: Call) -> bool:
        """Whether the fault has taken the place of an answer."""
        if call.fault in ("drop", "hang"):
            if call.fault == "hang":
                self.fake.stopping.wait()
            self.close_connection = True
            cut(self.connection)
        elif call.fault == "429":
            self._refuse(429, "Rate limit reached", headers={"Retry-After": self.fake.pause})
        elif call.fault == "500":
            self._refuse(500, "The server had an error")
        elif call.fault == "strange":
            self._refuse(400, "something is wrong with the format of this message (seed, temperature)")
        elif call.fault == "quota":
            self._send(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
        elif call.fault in ("not_json", "odd"):
            self._send_raw(200, b"<html>gateway</html>" if call.fault == "not_json" else b'{"choices": []}')
        else:
            return False
        return True

    def _refuse(
        self, status: int, said: str, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        error = {"message": said, "type": "invalid_request_error", "param": param, "code": None}
        self._send_raw(status, json.dumps({"error": error}).encode(), headers=headers)

    def _send(self, status: int, body: Json) -> None:
        self._send_raw(status, json.dumps(body).encode())

    def _send_raw(
        self, status: int, data: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A server that speaks the OpenAI API and makes its answers up.")
    parser.add_argument("--port", type=int, default=1234)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds for each answer")
    parser.add_argument("--models", nargs="+", default=["a", "b", "c", "d"], metavar="MODEL")
    args = parser.parse_args()
    with FakeOpenAI(port=args.port, latency=args.latency, models=args.models) as server:
        print(f"Made-up answers at {server.url}, models: {', '.join(server.models)}. Ctrl-C ends it.", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"\n{len(server.answered)} questions answered")


if __name__ == "__main__":
    main()
