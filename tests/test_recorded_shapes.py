"""The tests' stand-ins for Ollama answer in the shapes that real ones were recorded to answer in.

golden/ollama_shapes.json: of each exchange with an Ollama 0.24 and a 0.32 the request, its texts counted in words, the
status, and keys and names of types of the reply; of a list its first entry. Only requests that the suite makes.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from fake_ollama import FakeOllama, Model
from fake_openai import FakeOpenAI

SHAPES = Path(__file__).parent / "golden" / "ollama_shapes.json"
RECORDED: dict[str, list[dict[str, Any]]] = json.loads(SHAPES.read_text(encoding="utf-8"))
MODELS = {"smol:latest": Model(), "q05:latest": Model(), "q05raw:latest": Model(template="{{ .Prompt }}")}


def shape(value: Any) -> Any:
    """Keys and names of types in place of values."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(inner) for inner in value[:1]] if isinstance(value, list) else type(value).__name__


def reply_to(url: str, exchange: dict[str, Any]) -> tuple[int, Any]:
    """(status, reply) of a stand-in to a recorded kind of request, its texts of as many words."""
    body = exchange["request"]
    if body and "messages" in body:
        body = {**body, "messages": [{"role": "user", "content": "word " * words} for words in body["messages"]]}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, method=exchange["method"])) as reply:
            return reply.status, json.load(reply)
    except HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def lacking(found: Any, recorded: Any, path: str = "reply") -> Iterator[str]:
    """What a shape lacks of a recorded one; more than that it may have. Of a file's facts few are read."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for name in recorded.keys() - {"model_info"}:
            yield from lacking(found.get(name), recorded[name], f"{path}.{name}")
    elif isinstance(recorded, list) and isinstance(found, list):
        for inner in recorded:
            yield from lacking(found[0] if found else None, inner, f"{path}[0]")
    elif found != recorded:
        yield f"{path} is {found}, recorded: {recorded}"


@pytest.mark.parametrize("version", list(RECORDED))
def test_the_stand_ins_answer_each_recorded_kind_of_request_in_the_recorded_shape(version: str) -> None:
    wrong = []
    with ExitStack() as stack:
        ollama = stack.enter_context(FakeOllama(models=MODELS, version=f"{version}.0", probabilities=lambda _: {}))
        names = [name for tag in MODELS for name in (tag.removesuffix(":latest"), tag)]
        openai = stack.enter_context(FakeOpenAI(models=names, ollama=True, probabilities=lambda _: {}))
        for exchange in RECORDED[version]:
            path = exchange["path"]
            url = openai.url + path.removeprefix("/v1") if path.startswith("/v1") else ollama.url + path
            status, reply = reply_to(url, exchange)
            told = [f"status {status}, recorded: {exchange['status']}"] * (status != exchange["status"])
            wrong += [f"{exchange['kind']}: {said}" for said in (*told, *lacking(shape(reply), exchange["reply"]))]
    assert wrong == []
