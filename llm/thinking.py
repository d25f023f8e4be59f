"""Models that think before they answer: what a probe shows of one, and how it is then asked.

Ollama 0.33: ``think: false`` is obeyed by most models that can think, ignored by some (qwen3's 2507 builds, qwen3-vl),
and unknown to gpt-oss, which takes only "low", "medium" and "high". A schema is obeyed by a model that thinks since
0.31.2, and never by gpt-oss.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

HARMONY = ("gptoss", "gpt-oss")  # families that take a level and can't be told not to think
STRUCTURED_SINCE = (0, 31, 2)  # the server's version
THOUGHT_TOKENS = 2048  # beside the answer's own limit, for a model that thinks whatever it is told
PROBE = "Which of the letters A and B comes first in the alphabet? Answer with that letter alone."
PROBE_TOKENS = 512  # a letter takes two, and most thoughts about one have come to their end by then

Think = bool | Literal["low"] | None
"""What a request says of thinking; None: nothing, as for models that can't."""


class ProbeAnswer(BaseModel):
    """What a judge is probed with."""

    letter: Literal["A", "B"]


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model is asked. ``cannot_judge``: why it can't, where that is known."""

    plain: Think = None
    structured: Think = None
    cannot_judge: str = ""

    @property
    def thinks_anyway(self) -> bool:
        """Whether it thinks before a plain answer, whatever it is told."""
        return bool(self.plain)

    @property
    def said(self) -> str:
        """In words, for whoever looks at the models."""
        if self.thinks_anyway:
            return f"thinks whatever it is told: up to {THOUGHT_TOKENS} more tokens an answer"
        return "can think (told not to)" if self.plain is False else ""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe showed of a model: of this digest, at a server of this version."""

    digest: str
    server: str
    manner: Manner
    judge: bool
    """Whether it was probed for a structured answer too."""


def is_thought(content: str, thinking: str | None, *, cut: bool) -> bool:
    """Whether a reply to ``think: false`` shows that the model thought all the same. A template that opens the thought
    itself leaves only its end in the content, and not even that where the reply was ``cut`` before."""
    return bool((thinking or "").strip()) or "<think>" in content or "</think>" in content or cut


def is_older(version: str, than: tuple[int, ...]) -> bool:
    """Whether a server's version is older; one that can't be read is not."""
    numbers = tuple(int(n) for n in re.findall(r"\d+", version.partition("-")[0])[:3])
    return bool(numbers) and any(numbers) and numbers < than


def why_no_judge(tag: str, family: str, version: str) -> str:
    """Why a model that thinks gave no answer of the shape that was asked for."""
    since = ".".join(map(str, STRUCTURED_SINCE))
    if family in HARMONY:
        return f"{tag} gives no structured answers: its family answers nothing where a schema is asked for"
    if is_older(version, STRUCTURED_SINCE):
        return f"structured answers of models that think need Ollama {since}, and the server has {version}"
    return f"{tag} gave no structured answer when it was probed"
