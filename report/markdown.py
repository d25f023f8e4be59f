"""Answers as their models meant them to be read: Markdown made into HTML that can do no harm."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from core.text import plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markupsafe import Markup


def rendered(text: str) -> Markup:
    """The HTML of ``text``: HTML in it stays text, a picture becomes a link, and links lead to the web alone."""
    from markupsafe import Markup

    return Markup(_parser().render(plain(text, lines=True)))  # noqa: S704  the parser has escaped it


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # a line break that a model wrote is one, as in the chats that people read it in
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")
    parser.validateLink = lambda url: url.startswith(("https://", "http://"))  # type: ignore[method-assign]
    return parser
