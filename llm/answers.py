"""Read a model's answer, whichever server gave it: thoughts taken off, structured answers validated."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any, Literal

from pydantic import BaseModel, ValidationError, create_model

from llm.interface import Choice, Completion, Decision, Request

_THOUGHT = re.compile(
    r"\A\s*<(think|thinking|thought|reasoning)>.*?(</\1>|\Z)|\A\s*\[THINK\].*?(\[/THINK\]|\Z)",
    re.DOTALL | re.IGNORECASE,
)
# Some templates open the thought before the answer begins, and only its end is seen.
_END_OF_THOUGHT = re.compile(r"\A(?:(?!<think>|```).)*?^\s*</think>\s*$", re.DOTALL | re.MULTILINE)
_SURROGATES = re.compile("[\ud800-\udfff]")  # half an emoji has no UTF-8: it can't be sent on to a judge


class UselessError(Exception):
    """An answer of no use, to be drawn again. ``silent``: it holds nothing that could be meant as an answer."""

    def __init__(self, what: str, *, silent: bool = False) -> None:
        super().__init__(what)
        self.silent = silent


def without_thinking(text: str) -> str:
    """``text`` without a thought that leaked into it: a marked block at its very beginning, closed or not."""
    return _END_OF_THOUGHT.sub("", _THOUGHT.sub("", text, count=1), count=1).strip()


def read_answer(request: Request, said: Completion) -> Completion:
    """``said`` without thoughts, and validated where the request has a schema. Raises UselessError."""
    text = without_thinking(_SURROGATES.sub("\ufffd", said.text))
    if not text:
        spent = f"the whole budget of {request.num_predict} tokens went into thinking"
        raise UselessError(spent if said.truncated else "an empty answer", silent=True)
    if not request.schema:
        return dataclasses.replace(said, text=text)
    if said.truncated:
        raise UselessError(f"the structured answer was cut at {request.num_predict} tokens")
    # models that are told the schema in words put words or a fence around the JSON
    found = text if text.startswith("{") else text[text.find("{") : text.rfind("}") + 1]
    try:
        parsed = request.schema.model_validate_json(found)
    except ValidationError as error:
        where = "; ".join(".".join(map(str, e["loc"])) + ": " + e["msg"] for e in error.errors()[:2])
        what = f"the answer is not the JSON that was asked for ({where.removeprefix(': ')})"
        raise UselessError(what, silent="{" not in text) from error
    return dataclasses.replace(said, text=text, parsed=parsed)


# ── Schemas ──────────────────────────────────────────────────────────────────────────────────────────────

CHARACTERS_A_TOKEN = 2  # of a schema's strings, rather too few than too many: no allowed answer then meets its limit
ITEM_CHARACTERS = 400  # of one string in a list
MOST_REPEATS = 1000  # a server's grammar takes no more repetitions than about twice as many


def bounded(schema: type[BaseModel], num_predict: int) -> dict[str, Any]:
    """The JSON schema with strings and lists so short that no answer is cut at its token limit, and of a list of
    labels each once: a model at temperature 0 may otherwise repeat itself until it is cut."""
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
    """The answer to a choice; ``verdict_schema`` narrows ``winner`` to the options."""

    winner: str
    reason: str


@functools.cache
def verdict_schema(options: tuple[str, ...]) -> type[Verdict]:
    """``{"winner": one of options, in that order, "reason": string}``."""
    return create_model("Verdict", __base__=Verdict, winner=(Literal[options], ...))  # type: ignore[arg-type]


def as_request(choice: Choice) -> Request:
    """The choice as a request whose answer is the winner and a reason."""
    same = {f.name: getattr(choice, f.name) for f in dataclasses.fields(choice) if f.name != "options"}
    return Request(**same, schema=verdict_schema(choice.options))


def as_decision(answer: Completion) -> Decision:
    """The answer to ``as_request`` as a decision."""
    verdict = answer.parsed
    assert isinstance(verdict, Verdict)
    return Decision(verdict.winner, verdict.reason, tokens=answer.tokens, seconds=answer.seconds)
