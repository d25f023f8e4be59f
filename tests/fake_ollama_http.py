"""Ollama's API over HTTP for ``fake_ollama.FakeOllama``, which computes the answers."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_ollama import Call, FakeOllama, Model

Json = dict[str, Any]
WHEN = "2026-11-30T07:29:59.773121984Z"
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
FILE: Json = {
    "general.file_type": 15,
    "general.languages": None,
    "general.license": "apache-2.0",
    "general.organization": "Somebody",
    "general.parameter_count": 134515008,
    "general.quantization_version": 2,
    "general.type": "model",
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.add_space_prefix": False,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.merges": None,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.padding_token_id": 2,
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.token_type": None,
    "tokenizer.ggml.tokens": None,
    "tokenizer.ggml.unknown_token_id": 0,
}
"""What every file says of itself, names left out: a model's own are its ``facts``."""
ARCHITECTURE: Json = {
    "attention.head_count": 9,
    "attention.head_count_kv": 3,
    "attention.layer_norm_rms_epsilon": 1e-05,
    "block_count": 30,
    "embedding_length": 576,
    "feed_forward_length": 1536,
    "rope.dimension_count": 64,
    "rope.freq_base": 100000,
    "vocab_size": 49152,
}


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


def cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # already gone


def handler(server: FakeOllama) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"fake": server})


class _Handler(BaseHTTPRequestHandler):
    fake: FakeOllama
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.fake._sockets.add(self.connection)

    def finish(self) -> None:
        self.fake._sockets.discard(self.connection)
        super().finish()

    def log_message(self, *args: object) -> None:
        """Silent: ``calls`` has it all."""

    def do_GET(self) -> None:
        if self._admitted():
            if self.path == "/api/version":
                self._send(200, {"version": self.fake.version})
            elif self.path == "/api/tags":
                self._send(200, {"models": [_tagged(tag, m, self.fake.age) for tag, m in self.fake.models.items()]})
            elif self.path == "/api/ps":
                self._send(200, {"models": [_loaded(tag, self.fake.models[tag]) for tag in self.fake.loaded]})
            else:
                self._send_raw(404, b"404 page not found", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._admitted():
            return
        request = json.loads(body)
        tag = str(request.get("model", request.get("name")))
        tag = next((name for name in self.fake.models if name.lower() in (tag.lower(), f"{tag}:latest".lower())), tag)
        request = {**request, "model": tag}
        if self.path not in ("/api/show", "/api/chat"):
            self._send_raw(404, b"404 page not found", "text/plain")
        elif tag not in self.fake.models:
            self._send(404, {"error": f"model '{tag}' not found"})
        elif self.path == "/api/show":
            self._send(200, _shown(self.fake.models[tag]))
        elif request.get("stream", True):
            self._send(501, {"error": "this stand-in can't stream"})
        elif not request["messages"]:
            unloads = request.get("keep_alive") == 0
            (self.fake.unload if unloads else self.fake.load)(tag)
            nothing = {"model": tag, "created_at": WHEN, "message": {"role": "assistant", "content": ""}}
            self._send(200, {**nothing, "done": True, "done_reason": "unload" if unloads else "load"})
        elif "completion" not in self.fake.models[tag].capabilities:
            self._send(400, {"error": f'"{tag}" does not support chat'})
        elif not self.fake.models[tag].signed_in:
            self._send(401, {"error": "unauthorized", "signin_url": "https://ollama.com/connect?name=x&key=y"})
        elif wrong := _wrong(request, self.fake.models[tag], self.fake.age):
            self._send(wrong[0], {"error": wrong[1]})
        elif refused := self.fake.overflow(request):
            self.fake.note(request)
            self._send(400, refused)
        else:
            self._answer(request)

    def _admitted(self) -> bool:
        self.fake.requests.append((self.command, self.path, dict(self.headers)))
        if self.fake.foreign:
            self._send_raw(403, b"", "text/plain")
            return False
        wanted = self.fake.credentials
        sent = self.headers.get("Authorization", "")
        if wanted is None or sent == "Basic " + base64.b64encode(wanted.encode()).decode():
            return True
        self._send(401, {"error": "unauthorized"})
        return False

    def _answer(self, request: Json) -> None:
        call, reply = self.fake.answer(request)
        if not self._failed(call):
            data = json.dumps(reply).encode()
            self._send_raw(200, data[: len(data) // 2] if call.fault == "cut_body" else data, "application/json")

    def _failed(self, call: Call) -> bool:
        """Whether the fault has taken the place of an answer."""
        if call.fault in ("drop", "hang"):
            if call.fault == "hang":
                self.fake.stopping.wait()
            self.close_connection = True
            cut(self.connection)
            return True
        failures: dict[str | None, tuple[int, bytes]] = {
            "500": (500, b'{"error":"llama runner process has terminated"}'),
            "503": (503, b'{"error":"server busy, please try again"}'),
            "404": (404, json.dumps({"error": f"model '{call.model}' not found"}).encode()),
            "not_json": (200, b"<html>gateway</html>"),
            "list_body": (200, b"[]"),
            "list_error": (500, b'["something", "went wrong"]'),
            "escape_error": (500, b'{"error":"\\u001b[2Jgone"}'),
            "text_error": (502, b"<html>502 Bad Gateway</html>"),
        }
        if call.fault not in failures:
            return False
        self._send_raw(*failures[call.fault], "application/json")
        return True

    def _send(self, status: int, body: Json) -> None:
        self._send_raw(status, json.dumps(body).encode(), "application/json; charset=utf-8")

    def _send_raw(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _wrong(request: Json, model: Model, age: tuple[int, ...]) -> tuple[int, str] | None:
    """The refusal of a request that asks for what there is not."""
    options, schema = request.get("options") or {}, request.get("format")
    for name in ("seed", "num_ctx", "num_predict"):
        if not isinstance(options.get(name, 0), int):
            return 500, f'option "{name}" must be of type integer'
    if request.get("think") and "thinking" not in model.capabilities:
        return 400, f'"{request["model"]}" does not support thinking'
    if not 0 <= request.get("top_logprobs", 0) <= 20:
        return 400, "top_logprobs must be between 0 and 20"
    if isinstance(schema, dict) and schema.get("type", "object") not in TYPES:
        if age < (0, 30):
            return 500, "invalid JSON schema in format"
        said = f"JSON schema conversion failed:\nUnrecognized schema: {json.dumps(schema)}"
        return 400, json.dumps({"error": {"code": 400, "message": said, "type": "invalid_request_error"}})
    return None


def _details(model: Model) -> Json:
    return {
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": "Q4_K_M",
        "format": "gguf",
    }


def _listed(tag: str, model: Model) -> Json:
    digest = model.digest or hashlib.sha256(tag.encode()).hexdigest()
    return {"name": tag, "model": tag, "size": model.size, "digest": digest, "details": _details(model)}


def _tagged(tag: str, model: Model, age: tuple[int, ...]) -> Json:
    listed = {**_listed(tag, model), "modified_at": WHEN}
    if age < (0, 30):
        return listed
    lengths = {"context_length": model.context_length, "embedding_length": 576}
    return {**listed, "details": {**_details(model), **lengths}, "capabilities": list(model.capabilities)}


def _loaded(tag: str, model: Model) -> Json:
    return {**_listed(tag, model), "expires_at": WHEN, "size_vram": 0, "context_length": model.context_length}


def _shown(model: Model) -> Json:
    own = {f"{model.family}.{name}": value for name, value in ARCHITECTURE.items()}
    info = {"general.architecture": model.family, f"{model.family}.context_length": model.context_length}
    return {
        "modelfile": f"TEMPLATE {model.template}",
        "parameters": 'stop "<|im_end|>"',
        "template": model.template,
        "details": _details(model),
        "model_info": {**FILE, **own, **info, **model.facts},
        "capabilities": list(model.capabilities),
        "modified_at": WHEN,
    }
