"""The report as one HTML file: no script, nothing loaded, every text of a model or a user escaped."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
from core.text import plain
from report import answer, plots, tables, words
from report.words import Document

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markupsafe import Markup

TEMPLATES_DIR = Path(__file__).resolve().parent / "templates"


def render_report(document: Document) -> str:
    """The report of one run."""
    return _render("report.html.j2", document=document)


def render_personas(together: Document) -> str:
    """The page of all personas, with a link to each one's own; ``together`` as in the results of all."""
    return _render("personas.html.j2", together=together, report=config.REPORT_FILE)


def render_vote(**shown: Any) -> str:
    """The page that asks for a vote, or the end of its session; ``keys.js`` is to be served beside it."""
    return _render("vote.html.j2", **shown)


def _render(template: str, **values: Any) -> str:
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
    return environment.get_template(template).render(**values)


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
