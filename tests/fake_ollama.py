"""An HTTP server that speaks Ollama's API. Beside the parameters of fake_server:

    version         "0.33.0": from 0.30 on the keys of structured answers are sorted

Four characters are a token. A prompt beyond num_ctx gets 400, as recorded of 0.24 and of 0.32, where ``truncate`` is
false, and by 0.30 and later also where num_ctx is above 8,192; else, and always before 0.12, it is cut to num_ctx, or
to its half and two tokens more by 0.30 and later. A chat without messages and keep_alive 0 unloads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fake_brain import log_probabilities
from fake_server import Call, FakeServer, Handler

Json = dict[str, Any]
DEFAULT_TAGS = ("llama3:8b", "llama3.1:8b", "gemma3:4b", "qwen3:8b", "phi4-mini:3.8b", "mistral:7b")
WHEN = "2026-11-30T07:29:59.773121984Z"
THOUGHT = 100  # tokens
TOKEN_NANOSECONDS = 20_000_000


@dataclass(frozen=True)
class Model:
    """An installed model."""

    context_length: int = 32768
    capabilities: tuple[str, ...] = ("completion",)
    digest: str = ""
    family: str = "llama"
    template: str = "{{- range .Messages }}<|im_start|>{{ .Role }}{{ .Content }}<|im_end|>{{ end }}"
    facts: Mapping[str, str] = field(default_factory=dict)
    """What its file says of itself: {"general.basename": …}."""


class _Handler(Handler):
    def get(self) -> None:
        models = self.fake.models
        match self.path:
            case "/api/version":
                self.send(200, {"version": self.fake.version})
            case "/api/tags":
                self.send(200, {"models": [_listed(tag, model) for tag, model in models.items()]})
            case "/api/ps":
                self.send(200, {"models": [_listed(tag, models[tag]) for tag in self.fake.loaded]})
            case _:
                self.send_raw(404, b"404 page not found")

    def post(self, request: Json) -> None:
        fake, tag = self.fake, str(request.get("model", request.get("name")))
        tag = next((name for name in fake.models if name.lower() in (tag.lower(), f"{tag}:latest".lower())), tag)
        request = {**request, "model": tag}
        if self.path not in ("/api/show", "/api/chat"):
            self.send_raw(404, b"404 page not found")
        elif tag not in fake.models:
            self.refuse(404, f"model '{tag}' not found")
        elif self.path == "/api/show":
            self.send(200, _shown(fake.models[tag]))
        elif not request["messages"]:
            unloads = request.get("keep_alive") == 0
            (fake.unload if unloads else fake.load)(tag)
            nothing = {"model": tag, "created_at": WHEN, "message": {"role": "assistant", "content": ""}}
            self.send(200, {**nothing, "done": True, "done_reason": "unload" if unloads else "load"})
        elif refused := fake.overflow(request):
            fake.note(request)
            self.refuse(400, refused)
        else:
            self.answer(fake.note(request), fake.reply)


class FakeOllama(FakeServer):
    """See the head of this file."""

    handler = _Handler

    def __init__(self, *brain: Any, version: str = "0.33.0", **params: Any) -> None:
        super().__init__(*brain, **{"models": DEFAULT_TAGS, **params})
        self.models = {tag: model or Model() for tag, model in self.models.items()}
        self.version = version
        self.loads: list[str] = []  # in this order
        self.loaded: list[str] = []  # now
        self.peak_loaded = 0

    @property
    def age(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    def load(self, model: str) -> None:
        with self.turn:
            if model not in self.loaded:
                self.loads.append(model)
                self.loaded.append(model)
            self.peak_loaded = max(self.peak_loaded, len(self.loaded))

    def unload(self, tag: str) -> None:
        """Give its memory back, once nothing of it is in flight."""
        with self.turn:
            self.turn.wait_for(lambda: not self.in_flight[tag])
            if tag in self.loaded:
                self.loaded.remove(tag)

    def overflow(self, request: Json) -> str | None:
        """The refusal of a prompt beyond the context, in the words of this version."""
        read, context = self._read(request)
        cuts = request.get("truncate", True) and not (context > 8192 and self.age >= (0, 30))
        if read <= context or cuts or self.age < (0, 12):
            return None
        if self.age < (0, 30):
            return "the input length exceeds the context length"
        said = f"request ({read} tokens) exceeds the available context size ({context} tokens), try increasing it"
        kind = {"code": 400, "message": said, "type": "exceed_context_size_error"}
        return json.dumps({"error": {**kind, "n_prompt_tokens": read, "n_ctx": context}})

    def _read(self, request: Json) -> tuple[int, int]:
        """(tokens of the prompt, tokens of the context)."""
        text = "".join(str(message["content"]) for message in request["messages"])
        return len(text) // 4 + 1, (request.get("options") or {}).get("num_ctx", 4096)

    def reply(self, call: Call) -> Json:
        content = self.brain(call.request)
        if "format" in call.request and self.age >= (0, 30):
            with suppress(ValueError):
                content = json.dumps(json.loads(content), sort_keys=True)
        thought, content = _think(self.models[call.model], call.request, call.spoil(content))
        limit = (call.request.get("options") or {}).get("num_predict", 10_000) - THOUGHT * thought
        said, written, is_cut = self.speak(content, limit)
        written += THOUGHT * thought
        read, context = self._read(call.request)
        kept = context if self.age < (0, 30) else context - (context - 4) // 2
        weighed: Json = {}
        if self.probabilities and call.request.get("logprobs"):
            weighed["logprobs"] = log_probabilities(said, self.probabilities(call.request))
        return {
            "model": call.model,
            "created_at": WHEN,
            "message": {"role": "assistant", "content": said, **({"thinking": "Let me see."} if thought else {})},
            "done": call.fault != "abort",
            "done_reason": "length" if is_cut or call.fault == "length" else "stop",
            **weighed,
            "total_duration": 727514426,
            "load_duration": 65888481,
            "prompt_eval_count": read if read <= context else kept,
            "prompt_eval_duration": 115458814,
            "eval_count": written,
            "eval_duration": written * TOKEN_NANOSECONDS,
        }


def _think(model: Model, request: Json, content: str) -> tuple[bool, str]:
    """(whether a thought stands beside the content, the content) of a model that can think, by what it is told."""
    if "thinking" not in model.capabilities:
        return False, content
    told = request.get("think", True)
    if model.family == "gptoss":
        return True, "" if "format" in request else content
    return told is not False, content


# ── What is there ────────────────────────────────────────────────────────────────────────────────────────


def _details(model: Model) -> Json:
    own = {"family": model.family, "families": [model.family], "parameter_size": "8.0B"}
    lengths = {"context_length": model.context_length, "embedding_length": 576}
    return {**own, **lengths, "quantization_level": "Q4_K_M", "format": "gguf"}


def _listed(tag: str, model: Model) -> Json:
    """An entry of the list, and of what is loaded: versions say more or less of this."""
    digest = model.digest or hashlib.sha256(tag.encode()).hexdigest()
    named = {"name": tag, "model": tag, "size": 4_700_000_000, "digest": digest, "details": _details(model)}
    state = {"modified_at": WHEN, "expires_at": WHEN, "size_vram": 0, "context_length": model.context_length}
    return {**named, **state, "capabilities": list(model.capabilities)}


def _shown(model: Model) -> Json:
    length = {"general.architecture": model.family, f"{model.family}.context_length": model.context_length}
    return {
        "modelfile": f"TEMPLATE {model.template}",
        "parameters": 'stop "<|im_end|>"',
        "template": model.template,
        "details": _details(model),
        "model_info": {**length, **model.facts},
        "capabilities": list(model.capabilities),
        "modified_at": WHEN,
    }
