"""Texts from files, servers and people: when two are one, and how they reach a terminal or a page."""

import functools
import math
import re
import textwrap
import unicodedata
from collections.abc import Iterable

_OUTER = re.compile(r"\A[\s\u200b\u2060\ufeff]+|[\s\u200b\u2060\ufeff]+\Z")  # white space, also what has no width
# Joiners belong to words and emoji; every other format character can hide or reorder what follows it.
_HARMLESS_FORMATS = frozenset("\u200c\u200d")
WIDTH = 80  # columns of a terminal


# ── When two are one ─────────────────────────────────────────────────────────────────────────────────────


@functools.lru_cache(maxsize=4096)  # votes repeat prompts and names
def normal(text: str) -> str:
    """The form by which texts are compared: Unicode's NFC, line ends made one, outer white space gone."""
    return _OUTER.sub("", unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")))


class Names:
    """One name for every spelling of it: white space, letter case and ``:latest`` make no second model or person."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """``known``: names whose spelling is the one to use."""
        self._spellings: dict[str, dict[str, None]] = {}
        for name in known:
            self.of(name)

    def of(self, name: str) -> str:
        """The name in the spelling that came first."""
        name = " ".join(normal(name).split())
        spellings = self._spellings.setdefault(name.casefold().removesuffix(":latest"), {})
        spellings.setdefault(name)
        return next(iter(spellings))

    @property
    def notes(self) -> list[str]:
        """The names that were given in several spellings."""
        several = [names for names in self._spellings.values() if len(names) > 1]
        return [f"one name for {' = '.join(names)}" for names in several]


# ── How they are shown ───────────────────────────────────────────────────────────────────────────────────


def plain(text: object, *, lines: bool = False) -> str:
    """``text`` without anything that steers a terminal or reorders a page.

    Control and format characters (escape sequences, direction overrides, lone surrogates) become a visible
    U+FFFD. White space becomes a space; with ``lines`` line ends and tabs stay.
    """

    def shown(character: str) -> str:
        if character in "\n\t":
            return character if lines else " "
        hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in _HARMLESS_FORMATS
        return "\ufffd" if hidden else character

    return "".join(map(shown, re.sub("\r\n|[\u2028\u2029]", "\n", str(text))))


def width(text: str) -> int:
    """Columns of a terminal that a text takes: two for CJK and emoji, none for what joins the character before it."""
    return sum(
        0 if unicodedata.combining(c) or c in _HARMLESS_FORMATS else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def percent(value: float | None) -> str:
    """A share in whole percent, never 0 or 100 % where it is neither; "–" where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if 0.0 < value < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= value < 1.0 else f"{100.0 * value:.0f} %"


def p_said(p: float | None) -> str:
    """A p-value: "p = 0.110"; below a thousandth no more digits are claimed."""
    return f"p = {'–' if p is None else f'{p:.3f}'}" if p is None or p >= 0.001 else "p < 0.001"


def count(number: int, thing: str, several: str = "") -> str:
    """A number with its noun: "1 tie", "1,200 votes"; ``several``: a plural that is not the noun with an s."""
    return f"{number:,} {thing if number == 1 else several or thing + 's'}"


def wrapped(text: str, *, hanging: str = "") -> list[str]:
    """``text`` in lines of at most 80 characters; words, model names and figures are never broken."""
    whole = text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(whole, WIDTH, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
