"""The immutable records that flow from stage to stage. They do not know where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """Something a person asks."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Response:
    """One contestant's answer to one prompt."""

    prompt_id: str
    model: str
    text: str
    tokens: int | None = 0
    """None where the server did not tell."""
    seconds: float = 0.0
    truncated: bool = False
    """True where the answer reached its own token limit: it is an answer, only a cut one."""
    side_by_side: int = 0
    """Requests in flight where ``seconds`` is the time waited; 0 where it is the time of its tokens alone."""


@dataclass(frozen=True, slots=True)
class Preference:
    """A comparison of two responses: 1 where ``model_a``'s was always preferred, 0.5 for a tie, 0 never.

    A judgement is one of the order in which a judge was shown the two, with ``log_odds``, ln p(a) − ln p(b), where its
    probabilities are known.
    """

    prompt_id: str
    model_a: str
    model_b: str
    outcome: float
    user: str = ""
    log_odds: float | None = None


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """One prompt's true scores, higher is better; equal scores are true ties."""

    prompt_id: str
    scores: Mapping[str, float]

    @property
    def ranking(self) -> tuple[str, ...]:
        """Models, best first; true ties in alphabetical order."""
        return tuple(sorted(self.scores, key=lambda model: (-self.scores[model], model)))


@dataclass(frozen=True, slots=True)
class Rating:
    """A contestant's global rating on the Elo scale (None: unrated) and where it comes from."""

    model: str
    elo: float | None
    source: str
    arena_name: str | None = None
    proxy: bool = False
    """True where ``arena_name`` is a relative that stands in: it must be called a proxy wherever it shows."""
