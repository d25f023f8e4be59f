"""The interface to a language model, and the length of texts for any of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Request:
    """A question to a model. All that changes the answer is in here, and in the hash of what is made of it."""

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
    """Its subject ("coder-003 answered by gemma3:4b"), for messages only: not in the hash."""


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. ``tokens`` (None: not told) were generated in ``seconds``; ``truncated``: it reached
    ``num_predict``."""

    text: str
    tokens: int | None
    seconds: float
    truncated: bool = False
    parsed: BaseModel | None = None
    side_by_side: int = 0
    """Requests in flight where ``seconds`` is the time waited; 0 where it is the server's own time for the tokens."""
    spoken: tuple[tuple[str, Mapping[str, float]], ...] = ()
    """Each token, and the log-probability of those that were likeliest in its place; where a server gives them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice among ``options``: words to say (a server) or whole continuations to be weighed (embedded)."""

    model: str
    prompt: str
    options: tuple[str, ...]
    reason: bool = True
    """Whether a sentence that explains it is asked for too."""
    system: str | None = None
    temperature: float = 0.0
    num_predict: int = 256
    seed: int = 0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """``winner`` is one of the options. ``scores``: mean log-likelihood per token (nats) of each option where the
    model weighs them, else empty. ``probabilities``: option → its share where the verdict's token was drawn, where a
    server gives log-probabilities."""

    winner: str
    reason: str = ""
    scores: tuple[float, ...] = ()
    probabilities: Mapping[str, float] | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Stands for an answer that stayed unusable after so many ``draws``; 0 where the question can't be asked."""

    reason: str
    draws: int = 0


class LanguageModel(Protocol):
    """A language model as the data stages use it. Requests to one model should stand together."""

    backend: str
    """"ollama", "openai" or "embedded"."""
    weighs_options: bool
    """True where ``choose`` weighs each option by its likelihood, so that a judgement has no order of showing."""

    def identity(self, model: str) -> dict[str, Any]:
        """The model as exactly as it can be known: part of the hash of everything it answers."""

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion | LeftOut]]:
        """Yield (index, completion) as they finish."""

    def choose(self, choices: Sequence[Choice]) -> Iterator[tuple[int, Decision | LeftOut]]:
        """Yield (index, decision) as they finish."""

    def unload(self) -> None:
        """Free the memory that models fill: they are not asked for a while."""


BYTES_PER_TOKEN = 3  # English has about 4.5, code 3 to 4, Chinese 3: an estimate that is rather too high than too low
CUT_MARK = "\n[… {} characters cut …]\n"


def estimate_tokens(text: str) -> int:
    """About how many tokens ``text`` is for any model, rather too many than too few."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def shorten(text: str, budget_tokens: int) -> str:
    """Cut ``text`` in the middle, with a visible mark, to about ``budget_tokens`` at most, or to the mark alone."""
    if estimate_tokens(text) <= budget_tokens:
        return text
    data = text.encode("utf-8", "replace")
    room = max(0, budget_tokens * BYTES_PER_TOKEN - len(CUT_MARK.format(len(text)).encode()))
    head = data[: room - room // 2].decode("utf-8", "ignore")
    tail = data[len(data) - room // 2 :].decode("utf-8", "ignore")
    return head + CUT_MARK.format(len(text) - len(head) - len(tail)) + tail
