"""The report as one HTML file: no script, nothing loaded, every text of a model or a user escaped."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from core.text import plain
from report import plots, tables, words

TEMPLATES_DIR = Path(__file__).resolve().parent / "templates"
# a line break that a model wrote is one, as in the chats that people read it in
MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")
MARKDOWN.validateLink = lambda url: url.startswith(("https://", "http://"))  # type: ignore[method-assign]


def render(name: str, **shown: Any) -> str:
    """The page ``name``: the "report" of a document, of the "personas" together, or a "vote" of a session."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = rendered
    environment.globals.update(words=words, tables=tables, plots=plots, drawn=_drawn)
    return environment.get_template(f"{name}.html.j2").render(**shown)


def _shown(value: object) -> object:
    """Every value on its way into the page: hidden characters made visible, nothing at all as "–"."""
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
    return Markup(MARKDOWN.render(plain(text, lines=True)))  # noqa: S704  the parser has escaped it
