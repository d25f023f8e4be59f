"""Who is asked, and one thing that was looked at before: what the command line's modules tell each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from config import Contestant
from core.errors import UsageError
from core.records import Rating
from llm.interface import LanguageModel


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier run saw of a model; ``context`` in tokens, None where the server did not say."""

    digest: str
    """Empty where no server tells one."""
    context: int | None = None
    server: str | None = None
    """The version of the server that had it: another one may sample differently."""


@dataclass(frozen=True)
class Backend:
    """Who is asked."""

    name: str
    llm: LanguageModel
    judge: str
    contestants: Mapping[str, Contestant]
    ratings: Mapping[str, Rating] | None
    """None: estimated from the data (embedded contestants). A server's are empty until ``begin``."""
    label: str
    notes: tuple[str, ...] = ()
    answers: bool = True
    """False: a server that does not answer."""
    judge_context: int | None = None
    """Tokens that the judge can be shown at most; None: as configured."""
    known: Mapping[str, Known] = dataclasses.field(default_factory=dict)
    """The servers' models as an earlier run saw them."""
    given: bool = False
    """True: the contestants' answers are there already, and none of them is asked."""

    @property
    def asked(self) -> list[str]:
        """The models that are asked: the contestants, where their answers are not given, and the judge."""
        return list(dict.fromkeys([*(() if self.given else self.contestants), self.judge]))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix``: the command that gets it, where it is missing."""

    about: str
    said: str
    fix: str = ""


def at_least_two(names: Sequence[str]) -> list[str]:
    """The names without repeats. Raises UsageError where they are no contest."""
    unique = list(dict.fromkeys(names))
    if len(unique) < 2:
        raise UsageError(f"--models {' '.join(names)}: a ranking needs at least two different contestants.")
    return unique


def is_name(name: str) -> bool:
    """Whether a server may have a model of this name."""
    return name.split() == [name] and name.isprintable() and not name.startswith("-")
