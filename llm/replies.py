"""What is made of a model's reply, whichever server gave it: the answer without thinking, structured ones validated."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any, Literal

from pydantic import BaseModel, ValidationError, create_model

from llm.interface import Choice, Completion, Decision, Request
from llm.retry import FailedAttemptError

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


def read_answer(request: Request, said: Completion) -> Completion:
    """What the model said, without thinking and validated where the request has a schema.

    Raises FailedAttemptError, for another draw, where it is no use.
    """
    text = without_thinking(_HALVES.sub("\ufffd", said.text))
    if not text:
        thought = f"the whole budget of {request.num_predict} tokens went into thinking"
        what = thought if said.truncated else "an empty answer"
        raise FailedAttemptError(what, redraw=True, hint="A higher --num_predict or another model may help.")
    if not request.schema:
        return dataclasses.replace(said, text=text)
    hint = "Another --judge may help."
    if said.truncated:
        what = f"the structured answer was cut at {request.num_predict} tokens"
        raise FailedAttemptError(what, redraw=True, hint=hint)
    fenced = _FENCED.match(text)
    try:
        parsed = request.schema.model_validate_json(fenced.group(1) if fenced else text)
    except ValidationError as error:
        where = "; ".join(".".join(map(str, e["loc"])) + ": " + e["msg"] for e in error.errors()[:2])
        what = f"the answer is not the JSON that was asked for ({where.removeprefix(': ')})"
        raise FailedAttemptError(what, redraw=True, hint=hint) from error
    return dataclasses.replace(said, text=text, parsed=parsed)


# ── Schemas ──────────────────────────────────────────────────────────────────────────────────────────────

CHARACTERS_A_TOKEN = 2  # of a schema's strings, rather too few than too many: no allowed answer then meets its limit
ITEM_CHARACTERS = 400  # of one string in a list
MOST_REPEATS = 1000  # a server's grammar takes no more repetitions than about twice as many


def bounded(schema: type[BaseModel], num_predict: int) -> dict[str, Any]:
    """The JSON schema as it is sent: no string and no list so long that the answer would be cut at its token limit, and
    of a list of labels each once. A model at temperature 0 may otherwise repeat itself until it is."""
    characters = CHARACTERS_A_TOKEN * num_predict

    def bound(node: dict[str, Any], longest: int) -> dict[str, Any]:
        if node.get("type") == "string" and "enum" not in node and "const" not in node:
            return {**node, "maxLength": min(longest, MOST_REPEATS)}
        if node.get("type") == "array":
            labels = node["items"].get("enum")
            least, most = (len(labels), len(labels)) if labels else (1, max(1, characters // ITEM_CHARACTERS))
            items = bound(node["items"], ITEM_CHARACTERS)
            return {**node, "items": items, "minItems": least, "maxItems": min(most, MOST_REPEATS)}
        properties = {name: bound(inner, longest) for name, inner in node.get("properties", {}).items()}
        return {**node, "properties": properties} if properties else node

    return bound(schema.model_json_schema(), characters)


# ── Choices ──────────────────────────────────────────────────────────────────────────────────────────────


class Verdict(BaseModel):
    """What a choice is answered with; ``verdict_schema`` narrows ``winner`` to the options."""

    winner: str
    reason: str


@functools.cache
def verdict_schema(options: tuple[str, ...]) -> type[Verdict]:
    """``{"winner": one of options, in that order, "reason": string}``."""
    return create_model("Verdict", __base__=Verdict, winner=(Literal[options], ...))  # type: ignore[arg-type]


def as_request(choice: Choice) -> Request:
    """The choice as a question whose answer is the winner and a reason."""
    return Request(
        model=choice.model,
        prompt=choice.prompt,
        system=choice.system,
        schema=verdict_schema(choice.options),
        temperature=choice.temperature,
        num_predict=choice.num_predict,
        seed=choice.seed,
        label=choice.label,
    )


def as_decision(answer: Completion) -> Decision:
    """The answer to ``as_request`` as a decision."""
    verdict = answer.parsed
    assert isinstance(verdict, Verdict)
    return Decision(verdict.winner, verdict.reason, tokens=answer.tokens, seconds=answer.seconds)
