"""Text from files, servers and people as it may reach a terminal or a page, and the one way to say a share."""

from __future__ import annotations

import math
import unicodedata

# Joiners belong to words and emoji; every other format character can hide or reorder what follows it.
_HARMLESS_FORMATS = frozenset("\u200c\u200d")


def plain(text: object, *, lines: bool = False) -> str:
    """``text`` without anything that steers a terminal or reorders a page.

    Control and format characters (escape sequences, direction overrides, lone surrogates) become a visible
    U+FFFD. White space becomes a space; with ``lines`` line ends and tabs stay.
    """
    unified = str(text).replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return "".join(_plain_character(character, lines) for character in unified)


def _plain_character(character: str, lines: bool) -> str:
    if character in "\n\t":
        return character if lines else " "
    hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in _HARMLESS_FORMATS
    return "\ufffd" if hidden else character


def percent(value: float | None) -> str:
    """A share in whole percent, never 0 or 100 % where it is neither; "–" where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if 0.0 < value < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= value < 1.0 else f"{100.0 * value:.0f} %"
