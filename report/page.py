"""The report as one HTML file: no script, nothing loaded, every text of a model or a user escaped."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.text import plain
from report import answer, plots, tables, words

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markupsafe import Markup

TEMPLATES_DIR = Path(__file__).resolve().parent / "templates"


def render(name: str, **shown: Any) -> str:
    """The page ``name``: the "report" of a document, of the "personas" together, or a "vote" of a session."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = rendered
    environment.globals.update(words=words, tables=tables, answer=answer, plots=plots, drawn=_drawn)
    return environment.get_template(f"{name}.html.j2").render(**shown)


def _shown(value: object) -> object:
    """Every value on its way into the page: hidden characters made visible, nothing at all as "–"."""
    from markupsafe import Markup

    if value is None:
        return words.MISSING
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return plain(value, lines=True).replace(" %", "\N{NO-BREAK SPACE}%")


def _drawn(draw: Callable[..., None], *arguments: Any) -> str:
    """A panel as a data URI. As an image nothing in it can reach the page: its names, styles and texts are its own."""
    return f"data:image/svg+xml;base64,{base64.b64encode(plots.svg(draw, *arguments)).decode()}"


def rendered(text: str) -> Markup:
    """Markdown as HTML that is safe: HTML in it stays text, a picture becomes a link, links lead to the web alone."""
    from markupsafe import Markup

    return Markup(_parser().render(plain(text, lines=True)))  # noqa: S704  the parser has escaped it


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # a line break that a model wrote is one, as in the chats that people read it in
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")
    parser.validateLink = lambda url: url.startswith(("https://", "http://"))  # type: ignore[method-assign]
    return parser
