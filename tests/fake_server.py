"""What the stand-ins for servers share: a port of this machine, calls that are counted, slots, faults.

    with FakeOllama(brain=my_brain, latency=0.01) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        ...
        assert server.calls_by_model["gemma3:4b"] == 25

    brain           request (the whole JSON body of the call) → what the model says; default: fake_brain.default_brain
    models          name → Model(…), or just names
    latency         seconds for each answer, or a callable: request → seconds, or None where it waits itself
    faults          (request, n) → one of FAULTS or None, n: how often exactly this request came before
    probabilities   request → the shares of a verdict's labels, where log-probabilities are asked for; None: none

stop() also cuts what is in flight, as a killed server does; start(): the same port again.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from fake_brain import default_brain, key

Json = dict[str, Any]
FAULTS = (
    "500", "429",  # an error in the server's own shape, which drives a terminal
    "drop", "hang",  # the connection is closed without an answer; no answer until the client gives up
    "cut_body",  # 200 with a body that ends in the middle
    "cut_json", "length", "wrong_shape", "empty",  # the content is half (length: and says so), of another shape, ""
    "abort",  # the reply says that it broke off
)  # fmt: skip


@dataclass
class Call:
    """One question. ``started`` and ``finished`` are seconds of ``time.monotonic``."""

    model: str
    request: Json
    started: float
    finished: float = 0.0
    fault: str | None = None

    def spoil(self, content: str) -> str:
        """The content as this call's fault leaves it."""
        half = content[: len(content) // 2]
        spoilt = {"cut_json": half, "length": half, "wrong_shape": '{"something": ["else"]}', "empty": ""}
        return spoilt.get(self.fault or "", content)


class FakeServer:
    """See the head of this file."""

    handler: type[Handler]

    def __init__(
        self,
        brain: Callable[[Json], str] = default_brain,
        *,
        models: Mapping[str, Any] | Iterable[str],
        latency: float | Callable[[Json], float | None] = 0.0,
        faults: Callable[[Json, int], str | None] | None = None,
        probabilities: Callable[[Json], dict[str, float]] | None = None,
    ) -> None:
        self.brain, self.faults, self.latency, self.port = brain, faults, latency, 0
        self.models: Any = dict(models) if isinstance(models, Mapping) else dict.fromkeys(models)
        self.probabilities = probabilities
        self.calls: list[Call] = []
        self.calls_by_model: Counter[str] = Counter()
        self.max_in_flight = 0
        self.stopping = threading.Event()
        self.in_flight: Counter[str] = Counter()
        self.turn = threading.Condition()
        self.sockets: set[socket.socket] = set()
        self._repeats: Counter[str] = Counter()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        self.stopping = threading.Event()
        self._server = _Listener(("127.0.0.1", self.port), type("Handler", (self.handler,), {"fake": self}))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self.stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            for connection in list(self.sockets):
                cut(connection)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def note(self, request: Json) -> Call:
        """The call, with the fault that it meets."""
        with self.turn:
            call = Call(str(request["model"]), request, time.monotonic())
            self.calls.append(call)
            self.calls_by_model[call.model] += 1
            call.fault = self.faults(request, self._repeats[key(request)]) if self.faults else None
            self._repeats[key(request)] += 1
        assert call.fault is None or call.fault in FAULTS, f"no such fault: {call.fault}"
        return call

    def load(self, model: str) -> None:
        """Called before an answer is computed."""

    def speak(self, content: str, limit: int) -> tuple[str, int, bool]:
        """What is said of it, how many tokens that is, and whether it was cut: one token a word."""
        words = re.findall(r"\s*\S+", content)
        said = content if limit >= len(words) else "".join(words[: max(0, limit)])
        return said, max(0, min(limit, len(words))), limit < len(words)

    def compute(self, call: Call, reply: Callable[[Call], Json]) -> Json:
        """The reply, after its latency."""
        self.load(call.model)
        with self.turn:
            self.in_flight[call.model] += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight.total())
        try:
            time.sleep((self.latency(call.request) if callable(self.latency) else self.latency) or 0)
            return reply(call)
        finally:
            with self.turn:
                self.in_flight[call.model] -= 1
                self.turn.notify_all()
            call.finished = time.monotonic()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


def cut(connection: socket.socket) -> None:
    with suppress(OSError):  # already gone
        connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    fake: Any
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.fake.sockets.add(self.connection)

    def finish(self) -> None:
        self.fake.sockets.discard(self.connection)
        super().finish()

    def log_message(self, *args: object) -> None:
        """Silent: ``calls`` has it all."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.admits():
            self.post(json.loads(body)) if body else self.get()

    def do_POST(self) -> None:
        self.do_GET()

    def admits(self) -> bool:
        """Whether the caller may ask; refused here where not."""
        return True

    def refuse(self, status: int, said: str) -> None:
        """An error in the server's own shape."""
        self.send(status, {"error": said})

    def answer(self, call: Call, reply: Callable[[Call], Any]) -> None:
        """The reply, or the fault that takes its place."""
        data = json.dumps(self.fake.compute(call, reply)).encode()
        match call.fault:
            case "drop" | "hang":
                if call.fault == "hang":
                    self.fake.stopping.wait()
                self.close_connection = True
                cut(self.connection)
            case "500" | "429":
                self.refuse(int(call.fault), "the runner is \x1b[2Jgone")
            case _:
                self.send_raw(200, data[: len(data) // 2] if call.fault == "cut_body" else data)

    def send(self, status: int, body: Any) -> None:
        self.send_raw(status, json.dumps(body).encode())

    def send_raw(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
