"""What the tests of servers share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_brain import last_text
from fake_ollama import FakeOllama
from fake_openai import FakeOpenAI

from llm.interface import Request
from llm.ollama import OllamaModel
from llm.openai import OpenAIModel

SERVERS: dict[str, Any] = {"ollama": FakeOllama, "openai": FakeOpenAI}
ROOT = Path(__file__).parent.parent


def echo(request: dict[str, Any]) -> str:
    return f"{request['model']} says: {last_text(request)}"


def model_of(server: Any, **params: Any) -> Any:
    """It asks again at once, and has more patience than any busy machine needs."""
    make = OllamaModel if isinstance(server, FakeOllama) else OpenAIModel
    return make(server.url, **{"retry_wait": 0.001, "timeout": 120.0, **params})


def questions(tag: str, count: int) -> list[Request]:
    return [Request(tag, f"question {i}", label=f"prompt-{i} answered by {tag}") for i in range(count)]


def first_times(fault: str, times: int = 1) -> Callable[[dict[str, Any], int], str | None]:
    """A fault for the first so many chat calls, whatever they ask."""
    left = [fault] * times
    return lambda request, n: left.pop() if left else None
