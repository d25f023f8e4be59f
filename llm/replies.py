"""What Ollama's replies say: installed models, what a model can do, and answers, checked before anyone uses them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError, create_model

from llm.interface import Completion, Request
from llm.ollama_http import FailedAttemptError

if TYPE_CHECKING:
    from ollama import ChatResponse


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the server's list says of an installed model."""

    tag: str
    digest: str
    size_bytes: int
    parameter_size: str = ""
    quantization: str = ""
    family: str = ""


@dataclass(frozen=True, slots=True)
class ShowInfo:
    """What the server says of one model. ``context_length`` is in tokens, None where it doesn't say."""

    tag: str
    capabilities: tuple[str, ...] = ()
    context_length: int | None = None

    @property
    def thinking(self) -> bool:
        """Whether it can think, and so has to be told not to."""
        return "thinking" in self.capabilities


class Verdict(BaseModel):
    """What a choice is answered with; ``verdict_schema`` narrows ``winner`` to the options."""

    winner: str
    reason: str


def verdict_schema(options: Sequence[str]) -> type[Verdict]:
    """``{"winner": one of options, in that order, "reason": string}``."""
    return create_model("Verdict", __base__=Verdict, winner=(Literal[tuple(options)], ...))  # type: ignore[arg-type]


_THOUGHTS = (
    re.compile(r"<think>.*?</think>", re.DOTALL),
    re.compile(r"(?:\A|\n)\s*<think>.*\Z", re.DOTALL),  # never closed: all the rest is thinking
    re.compile(r"\A.*?</think>", re.DOTALL),  # some templates open it before the answer begins
)
_HALVES = re.compile("[\ud800-\udfff]")  # half an emoji can't be sent on to a judge: it has no UTF-8
_FENCED = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?\s*```\Z", re.DOTALL | re.IGNORECASE)


def without_thinking(text: str) -> str:
    """``text`` without leaked ``<think>…</think>``, closed or not."""
    for thought in _THOUGHTS:
        text = thought.sub("", text)
    return text.strip()


def read_reply(request: Request, reply: ChatResponse, seconds: float) -> Completion:
    """The answer in a reply, validated where the request has a schema. Raises FailedAttemptError where it is no use."""
    if reply.done is False:
        raise FailedAttemptError("the answer broke off", redraw=True)
    text = without_thinking(_HALVES.sub("\ufffd", reply.message.content or ""))
    at_limit = reply.done_reason == "length"
    if not text:
        spent = (
            f"the whole budget of {request.num_predict} tokens went into thinking" if at_limit else "an empty answer"
        )
        raise FailedAttemptError(spent, redraw=True, hint="A higher --num_predict or another model may help.")
    if request.schema and at_limit:
        what = f"the structured answer was cut at {request.num_predict} tokens"
        raise FailedAttemptError(what, redraw=True, hint="Another --judge may help.")
    return Completion(
        text=text,
        tokens=reply.eval_count or 0,
        seconds=seconds,
        truncated=at_limit,
        parsed=_parse(request.schema, text) if request.schema else None,
        prompt_tokens=reply.prompt_eval_count or 0,
    )


def _parse(schema: type[BaseModel], text: str) -> BaseModel:
    fenced = _FENCED.match(text)
    try:
        return schema.model_validate_json(fenced.group(1) if fenced else text)
    except ValidationError as error:
        where = "; ".join(".".join(map(str, e["loc"])) + ": " + e["msg"] for e in error.errors()[:2])
        what = f"the answer is not the JSON that was asked for ({where.removeprefix(': ')})"
        raise FailedAttemptError(what, redraw=True, hint="Another --judge may help.") from error


def model_info(listed: Any) -> ModelInfo:
    details = listed.details
    return ModelInfo(
        tag=listed.model,
        digest=listed.digest or "",
        size_bytes=int(listed.size or 0),
        parameter_size=(details and details.parameter_size) or "",
        quantization=(details and details.quantization_level) or "",
        family=(details and details.family) or "",
    )


def show_info(tag: str, shown: Any) -> ShowInfo:
    lengths = [v for k, v in (shown.modelinfo or {}).items() if k.endswith(".context_length") and isinstance(v, int)]
    return ShowInfo(tag, tuple(shown.capabilities or ()), lengths[0] if lengths else None)
