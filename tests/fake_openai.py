"""An HTTP server that speaks the OpenAI API. A brain is given the schema as ``format``, also one that stands in words
at the end of the prompt. Beside the parameters of fake_server:

    key             the API key; everything else gets 401. None: nobody is asked for one
    overflows       (tokens, context) → message of the 400 for a prompt beyond a model's context
    shape           reply → the reply that is sent in its place
    ollama          True: it is Ollama's, which also answers GET /api/version
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fake_brain import IN_WORDS, last_text, log_probabilities
from fake_server import Call, FakeServer, Handler

Json = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A model of the server. ``refuses``: parameters and words of schemas that get a 400 that names them."""

    context: int | None = None
    refuses: frozenset[str] = frozenset()


def as_ollama(request: Json) -> Json:
    """The request as a brain reads it: the schema as ``format``, whether it stands in the request or in the prompt."""
    asked, _, words = last_text(request).partition(IN_WORDS)
    schema = (request.get("response_format") or {}).get("json_schema", {}).get("schema")
    schema = schema or (words and json.loads(words))
    plain: Json = {"model": request["model"], "messages": [{"role": "user", "content": asked}]}
    # the same answer whichever way it was asked for
    return {**plain, "format": {k: v for k, v in schema.items() if k != "additionalProperties"}} if schema else plain


class _Handler(Handler):
    def admits(self) -> bool:
        sent = self.headers.get("Authorization", "")
        if self.fake.key is None or sent == f"Bearer {self.fake.key}":
            return True
        self.refuse(401, f"Incorrect API key provided: {sent.removeprefix('Bearer ')}")  # some repeat it
        return False

    def get(self) -> None:
        if self.path == "/api/version" and self.fake.ollama:
            self.send(200, {"version": "0.32.0"})
        elif self.path == "/v1/models":
            common = {"object": "model", "created": 1, "owned_by": "me"}
            listed = [
                {"id": name, **common, **({"meta": {"n_ctx": model.context}} if model.context else {})}
                for name, model in self.fake.models.items()
            ]
            self.send(200, {"object": "list", "data": listed})
        else:
            self.refuse(404, "unknown path")

    def post(self, request: Json) -> None:
        model = self.fake.models.get(str(request.get("model")))
        if self.path != "/v1/chat/completions":
            self.refuse(404, "unknown path")
        elif not request:
            self.refuse(400, "you must provide a model parameter")
        elif model is None:
            self.refuse(404, f"The model `{request.get('model')}` does not exist")
        else:
            call, tokens = self.fake.note(request), len(last_text(request)) // 4 + 1
            if refused := next((name for name in model.refuses if f'"{name}"' in json.dumps(request)), None):
                what = "Unsupported parameter" if refused in request else "Invalid schema for response_format"
                self.refuse(400, f"{what}: '{refused}' is not supported with this model.")
            elif model.context and tokens > model.context:
                self.refuse(400, self.fake.overflows(tokens, model.context))
            else:
                self.answer(call, self.fake.reply)

    def refuse(self, status: int, said: str) -> None:
        error = {"message": said, "type": "invalid_request_error", "param": None, "code": None}
        self.send(status, {"error": error})


class FakeOpenAI(FakeServer):
    """See the head of this file."""

    handler = _Handler

    def __init__(
        self,
        *brain: Any,
        key: str | None = None,
        overflows: Callable[[int, int], str] = "{} tokens exceed the context size ({})".format,
        shape: Callable[[Json], Any] = lambda reply: reply,
        ollama: bool = False,
        **params: Any,
    ) -> None:
        super().__init__(*brain, **{"models": ("a-8b", "b-7b", "c-4b", "judge-70b"), **params})
        self.models = {name: model or Model() for name, model in self.models.items()}
        self.key, self.overflows, self.shape, self.ollama = key, overflows, shape, ollama

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    def reply(self, call: Call) -> Any:
        request = call.request
        limit = int(request.get("max_tokens") or request.get("max_completion_tokens") or 10_000)
        said, written, is_cut = self.speak(call.spoil(self.brain(as_ollama(request))), limit)
        read = len(last_text(request)) // 4 + 1
        choice: Json = {"index": 0, "message": {"role": "assistant", "content": said}}
        choice["finish_reason"] = "error" if call.fault == "abort" else "length" if is_cut else "stop"
        if self.probabilities and request.get("logprobs"):
            choice["logprobs"] = {"content": log_probabilities(said, self.probabilities(as_ollama(request)))}
        reply = {"id": "x", "object": "chat.completion", "created": 1, "model": call.model, "choices": [choice]}
        reply["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        if self.ollama:
            reply["system_fingerprint"] = "fp_ollama"
        return self.shape(reply)
