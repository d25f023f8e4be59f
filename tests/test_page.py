"""Plots, files and page show what was found."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import sample_results as sample
from test_report import STEERS, golden

from report import files, page, plots, words

Document = dict[str, Any]
PICTURE = re.compile(r'src="data:image/svg\+xml;base64,([^"]*)"')


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second a page."""
    monkeypatch.setattr(plots, "svg", lambda *_, **__: b"")


# ── Plots ────────────────────────────────────────────────────────────────────────────────────────────────


def lines_of(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.get_lines()}


def drawn(document: Document) -> Any:
    return plots.panels(plots.curve_panel, document, words.metrics(document), "Learning curves")


def test_learning_curves_lie_at_the_true_x_values_with_their_bands() -> None:
    document = sample.persona()
    points = document["curves"]["points"] = [x * x for x in range(len(document["curves"]["points"]))]
    panels = [axes for axes in drawn(document).axes if axes.axison]
    assert [axes.get_ylabel() for axes in panels] == list(words.METRICS.values())
    for axes, metric in zip(panels, words.METRICS, strict=True):
        for system in words.CONTENDERS:
            line = lines_of(axes)[words.SYSTEMS[system]]
            assert list(line.get_xdata()) == points
            assert list(line.get_ydata()) == [point["mean"] for point in document["curves"][system][metric]]
        assert len(axes.collections) == len(words.CONTENDERS)  # one band a system
    once = lines_of(drawn(sample.persona(incremental=False)).axes[0])
    assert len(set(once["Combined (trained once)"].get_ydata())) == 1


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_leaves_its_files_and_moves_those_of_an_earlier_one(
    tmp_path: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = sample.persona() | {"persona": "日本"}  # the plots' font lacks these letters
    results, shown = tmp_path / "evaluation_results_日本.json", tmp_path / "report_日本.html"
    shown.write_text("an earlier page", encoding="utf-8")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(plots, "png", lambda *_: 1 / 0)
        files.write_results(document, tmp_path)
    assert json.loads(results.read_text(encoding="utf-8")) == document, "a plot that fails loses no measurement"
    assert shown.read_text(encoding="utf-8") == "an earlier page", "and moves no page that it does not replace"
    results.write_text("earlier", encoding="utf-8")
    written = files.write_results(document, tmp_path)
    assert written[5].read_text(encoding="utf-8") == page.render("report", document=document)
    assert "earlier" in [path.read_text(encoding="utf-8") for path in (tmp_path / "previous").iterdir()]
    assert {path for path in tmp_path.iterdir() if path.is_file()} == set(written)


# ── Page ─────────────────────────────────────────────────────────────────────────────────────────────────


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def bare(html: str) -> str:
    """A page without its style and its empty lines."""
    return re.sub(r"\n\s*\n+", "\n", re.sub(r"<style>.*</style>", "", html, flags=re.DOTALL))


def test_the_page_says_what_was_found(no_pictures: None) -> None:
    golden("page_persona.html", bare(page.render("report", document=sample.persona())))
    golden("page_personas.html", bare(page.render("personas", together=sample.personas(), report="report_{name}.html")))


def test_the_page_is_self_contained() -> None:
    document = sample.persona()
    html = page.render("report", document=document)
    parsed = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "svg"} & set(parsed.tags)
    assert not re.search(r"https?://|@import|url\(", html)
    for name, value in parsed.attributes:
        assert name not in {"href", "action", "data", "background", "srcset"} and not name.startswith("on")
        assert name != "src" or value.startswith("data:image/svg+xml;base64,")
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in parsed.attributes
    pictures = [base64.b64decode(data) for data in PICTURE.findall(html)]
    assert len(pictures) == parsed.tags.count("img") == 4
    assert plots.svg(plots.history_panel, document) == pictures[-1], "the same results, the same page"


def test_hostile_texts_stay_text_in_the_page(no_pictures: None) -> None:
    html = page.render("report", document=sample.hostile())
    parsed = Page(html)
    assert "script" not in parsed.tags and not STEERS.search(html)
    assert parsed.text.count("<script>alert(1)</script>\ufffd[31m") > 10
    assert parsed.text.count("{{ 7*7 }}") > 10, "a text is never a template"
    for decided in (True, False):
        assert "None" not in Page(page.render("report", document=sample.votes(users=1, decided=decided))).text
