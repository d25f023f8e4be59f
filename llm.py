"""One small interface to a language model, and the one over HTTP: Ollama.

The other implementation, a small real model in this process, is ``embedded.EmbeddedModel``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Request:
    """Something to be completed. All that changes the answer is in here."""

    model: str
    prompt: str
    system: str | None = None
    opening: str = ""
    """Words with which the answer begins (embedded styles only); they are part of the answer's text."""
    schema: type[BaseModel] | None = None
    """Where given, the answer is constrained to it and arrives validated in ``Completion.parsed``."""
    temperature: float = 0.0
    num_predict: int = 512
    seed: int = 0
    label: str = ""
    """What it is about ("coder-003 answered by gemma3:4b"), for messages only."""


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. ``tokens`` were generated in ``seconds``; ``truncated``: it reached ``num_predict``."""

    text: str
    tokens: int
    seconds: float
    truncated: bool = False
    parsed: BaseModel | None = None
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice among ``options``: words to say (Ollama) or whole continuations to be weighed (embedded)."""

    model: str
    prompt: str
    options: tuple[str, ...]
    system: str | None = None
    temperature: float = 0.0
    num_predict: int = 256
    seed: int = 0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """``winner`` is one of the options. ``scores``: mean log-likelihood per token (nats) of each option where the
    model weighs them, else empty."""

    winner: str
    reason: str = ""
    scores: tuple[float, ...] = ()
    tokens: int = 0
    seconds: float = 0.0


class LanguageModel(Protocol):
    """What the data stages need of a language model."""

    backend: str
    """"ollama" or "embedded"."""
    weighs_options: bool
    """True where ``choose`` weighs each option by its likelihood, so that a judgement has no order of showing."""

    def identity(self, model: str) -> dict[str, Any]:
        """Exactly which model this is (tag and digest): part of the hash of everything it answers."""

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) as they finish. Requests to one model should stand together."""

    def choose(self, choices: Sequence[Choice]) -> Iterator[tuple[int, Decision]]:
        """Yield (index, decision) as they finish. Choices by one model should stand together."""
