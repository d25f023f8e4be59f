"""The tests' stand-ins for Ollama answer in the shapes that real ones were recorded to answer in.

golden/ollama_shapes.json: made by recorded_shapes.py from the recordings of an Ollama 0.24 and a 0.32.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.error import HTTPError

import pytest
from fake_ollama import FakeOllama, Model
from fake_openai import FakeOpenAI
from recorded_shapes import SHAPES, shape

RECORDED: dict[str, list[dict[str, Any]]] = json.loads(SHAPES.read_text(encoding="utf-8"))
NAMES = {"general.basename": "SmolLM2", "general.finetune": "Instruct", "general.size_label": "135M"}
MODELS = {
    "smol:latest": Model(facts=NAMES),
    "q05:latest": Model(family="qwen2", facts=NAMES),
    "q05raw:latest": Model(family="qwen2", facts=NAMES, template="{{ .Prompt }}"),
}


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
    """What a shape lacks of a recorded one; more than that it may have."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for name, inner in recorded.items():
            if name in found:
                yield from lacking(found[name], inner, f"{path}.{name}")
            else:
                yield f"{path}.{name} is missing"
    elif isinstance(recorded, list) and isinstance(found, list):
        if recorded:
            yield from lacking(found[0] if found else None, recorded[0], f"{path}[0]")
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
            if status != exchange["status"]:
                wrong.append(f"{exchange['kind']}: {status}, recorded: {exchange['status']}")
            wrong += [f"{exchange['kind']}: {line}" for line in lacking(shape(reply), exchange["reply"])]
    assert wrong == []


def test_both_recordings_are_read_whole() -> None:
    assert {version: len(exchanges) for version, exchanges in RECORDED.items()} == {"0.24": 32, "0.32": 33}


def test_what_a_shape_lacks_is_named() -> None:
    recorded = shape({"a": 1, "b": [{"c": "x"}], "d": None})
    assert not list(lacking(shape({"a": 2, "b": [{"c": "y", "more": 1}], "d": None, "e": 1}), recorded))
    assert list(lacking(shape({"a": 1.0, "b": []}), recorded)) == [
        "reply.a is float, recorded: int",
        "reply.b[0] is None, recorded: {'c': 'str'}",
        "reply.d is missing",
    ]
