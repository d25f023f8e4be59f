"""Answers as their models meant them to be read: Markdown made into HTML that can do no harm."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from core.text import plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markupsafe import Markup

TOP_HEADING = 4  # an answer's headings stand below those of the page


def rendered(text: str) -> Markup:
    """The HTML of ``text``: HTML in it stays text, a picture becomes a link, and links lead to the web alone."""
    from markupsafe import Markup

    parser = _parser()
    tokens = parser.parse(plain(text, lines=True))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, TOP_HEADING - 1 + int(token.tag[1:]))}"
        for inline in token.children or ():
            if inline.type == "link_open":
                inline.attrs["rel"] = "noreferrer"
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704  the parser has escaped it


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # a line break that a model wrote is one, as in the chats that people read it in
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")
    parser.validateLink = lambda url: url.startswith(("https://", "http://"))  # type: ignore[method-assign]
    return parser
