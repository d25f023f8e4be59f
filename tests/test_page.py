"""What is drawn and written says what the results say: plots, files and page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import sample_results as sample

from core.text import plain
from report import files, page, plots, words

STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
Document = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Document:
    return sample.persona()


@pytest.fixture(scope="module")
def html(document: Document) -> str:
    return page.render_report(document)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second a page."""
    monkeypatch.setattr(plots, "svg", lambda *_, **__: b"<svg/>")


# ── Plots ────────────────────────────────────────────────────────────────────────────────────────────────


def lines_of(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.get_lines()}


def test_learning_curves_lie_at_the_true_x_values_with_their_bands() -> None:
    document = sample.persona(prompts=5)
    points = document["curves"]["points"] = [x * x for x in range(13)]
    panels = [axes for axes in plots.learning_curves(document).axes if axes.axison]
    assert [axes.get_ylabel() for axes in panels] == list(words.METRICS.values())
    for axes, metric in zip(panels, sample.METRICS, strict=True):
        assert axes.get_xlabel() == "Preferences used"
        for system in words.CONTENDERS:
            line = lines_of(axes)[words.SYSTEMS[system]]
            assert list(line.get_xdata()) == points
            assert list(line.get_ydata()) == document["curves"][system][metric]["mean"]
        level = document["cross_validated"]["global_elo"][metric]["mean"]
        assert list(lines_of(axes)["Global Elo"].get_ydata()) == [level] * 2
        assert len(axes.collections) == len(words.CONTENDERS)  # one band a system
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert panels[2].get_ylim() == panels[3].get_ylim() == panels[4].get_ylim()


def test_votes_have_a_panel_for_the_one_metric_that_they_know() -> None:
    curves, comparison = plots.learning_curves(sample.votes()), plots.metric_comparison(sample.votes())
    assert [axes.get_ylabel() for axes in curves.axes if axes.axison] == ["Ranking accuracy"]
    assert curves.axes[0].get_xlabel() == "Own votes used per person"
    assert [axes.get_xlabel() for axes in comparison.axes] == ["Ranking accuracy"]


def test_systems_differ_in_more_than_colour_and_one_trained_once_is_a_level_line(document: Document) -> None:
    with plots.style():
        drawn = lines_of(plots.learning_curves(document).axes[0])
    looks = [(line.get_color(), line.get_marker(), str(line._dash_pattern)) for line in drawn.values()]
    assert [len(set(kind)) for kind in zip(*looks, strict=True)] == [4, 4, 4]
    once = lines_of(plots.learning_curves(sample.persona(incremental=False)).axes[0])
    for line in (once["Reward model (trained once)"], once["Combined (trained once)"]):
        assert (len(set(line.get_ydata())), line.get_marker()) == (1, "")


def test_the_comparison_draws_intervals_and_the_documented_split(document: Document) -> None:
    figure = plots.metric_comparison(document)
    shown = [system for system in words.SYSTEMS if system in document["final"]]
    for axes, metric in zip(figure.axes, sample.METRICS, strict=True):
        assert axes.get_xlabel() == words.METRICS[metric]
        intervals = [collection.get_segments()[0][:, 0].tolist() for collection in axes.collections]
        assert intervals == [document["cross_validated"][system][metric]["ci95"] for system in shown]
        hollow = [x for line in axes.get_lines() if line.get_marker() == "d" for x in line.get_xdata()]
        assert hollow == [document["final"][system][metric] for system in shown]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [words.SYSTEMS[s] for s in shown]


def test_the_history_and_all_personas_are_drawn_as_they_are(document: Document) -> None:
    drawn = lines_of(plots.training_history(document).axes[0])
    labels = ("Preferences", "Rank regularization (enters with λ = 0.1)")
    for label, losses in zip(labels, document["training_history"].values(), strict=True):
        assert (list(drawn[label].get_xdata()), list(drawn[label].get_ydata())) == (list(range(1, 11)), losses)
    together = sample.personas()
    figure, names = plots.personas(together), list(together["personas"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    shown = np.asarray(figure.axes[1].get_images()[0].get_array())
    assert np.allclose(shown, [[together["similarity"][a][b] for b in names] for a in names])


@pytest.mark.parametrize("make", [sample.hostile, sample.votes])
def test_no_ink_touches_the_edge_texts_do_not_overlap_and_the_label_is_said(make: Callable[[], Document]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    document = make()
    together = sample.personas() | {"label": document["label"]}
    for draw in (plots.learning_curves, plots.metric_comparison, plots.training_history, plots.personas):
        with plots.style():
            figure = draw(together if draw is plots.personas else document)
            figure.set_dpi(80)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            image = np.asarray(canvas.buffer_rgba())[..., :3]
            boxes = [text.get_window_extent() for text in figure.texts]
            boxes += [axes.get_tightbbox() for axes in figure.axes if axes.axison]
            boxes += [legend.get_window_extent() for legend in figure.legends]
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (edge == 255).all(), draw
        assert 0.01 < (image < 250).any(axis=2).mean() < 0.6, draw
        assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)], draw
        noted = " ".join(text.get_text().replace("\n", " ") for text in figure.texts)
        assert plain(document["label"]) in noted


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_leaves_its_files_and_moves_those_of_an_earlier_one(tmp_path: Path, no_pictures: None) -> None:
    from matplotlib.image import imread

    document = sample.persona(prompts=5) | {"persona": "日本"}  # the plots' font lacks these letters
    (tmp_path / "evaluation_results_日本.json").write_text("earlier", encoding="utf-8")
    written = files.write_results(document, tmp_path)
    assert json.loads(written[0].read_text(encoding="utf-8")) == document
    assert json.loads(written[1].read_text(encoding="utf-8")) == document["training_history"]
    for path in written[2:5]:
        image = imread(path)
        assert image.shape[1] >= 1400 and image.std() > 0.05
    assert written[5].read_text(encoding="utf-8") == page.render_report(document)
    assert [path.read_text(encoding="utf-8") for path in (tmp_path / "previous").iterdir()] == ["earlier"]
    assert {path for path in tmp_path.iterdir() if path.is_file()} == set(written)


def test_a_plot_that_fails_loses_no_measurement(
    document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(plots, "png", fail)
    with pytest.raises(MemoryError):
        files.write_results(document, tmp_path)
    assert json.loads((tmp_path / "evaluation_results_coder.json").read_text(encoding="utf-8")) == document


# ── Page ─────────────────────────────────────────────────────────────────────────────────────────────────


class Page(HTMLParser):
    """Tags, attributes and text of a page; open tags that never close are an error."""

    VOID = frozenset({"meta", "img", "source"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def sections_of(html: str) -> list[str]:
    return re.findall(r'<section id="([\w-]+)">', html)


def test_the_page_is_self_contained(html: str) -> None:
    parsed = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "svg"} & set(parsed.tags)
    assert not re.search(r"https?://|@import|url\(", html)
    for name, value in parsed.attributes:
        assert name not in {"href", "action", "data", "background"} and not name.startswith("on")
        assert name not in {"src", "srcset"} or value.startswith("data:image/svg+xml;base64,")
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in parsed.attributes
    assert len(html) < 700_000


def test_every_picture_is_there_in_light_and_in_dark_and_says_what_it_shows(html: str, document: Document) -> None:
    uri = r'"data:image/svg\+xml;base64,([^"]+)"'
    dark_one = rf'<source media="\(prefers-color-scheme: dark\)" srcset={uri}>'
    pictures = re.findall(rf'<picture>{dark_one}<img src={uri} alt="[^"]{{20,}}"></picture>', html)
    assert len(pictures) == html.count("<img") == 1 + 1 + 5 + 1 + 1
    for encoded in pictures:
        dark, light = (base64.b64decode(data).decode() for data in encoded)
        assert "#56b4e9" in dark and "#0072b2" not in dark
        assert "#0072b2" in light and "#56b4e9" not in light
        said = ["".join(ElementTree.fromstring(image).itertext()) for image in (dark, light)]
        assert said[0] == said[1]
    assert plots.svg(plots.curve_key, document) == plots.svg(plots.curve_key, document), (
        "the same results, the same page"
    )


def test_all_sections_are_there_with_their_figures_the_answer_first_and_methods_folded(
    html: str, document: Document
) -> None:
    assert sections_of(html) == [
        "answer", "examples", "verdict", "results", "hypotheses", "curves", "systems", "prompts", "held-out",
        "ablation", "judge", "training", "models", "reproduce",
    ]  # fmt: skip
    assert sections_of(html.split('<details id="details">')[0]) == ["answer", "examples"]
    text = re.sub(r"\s+", " ", Page(html).text.split("Personalized LLM ranking · persona")[1])
    first = [
        "code_block or numbered_steps is your best model",
        sample.LABEL,
        "“You” means the persona coder",
        "You prefer shorter answers (half the length: 60 % [55, 65]) and code",
        "3 prompts with responses",
        "The personalized reward model ranks",
        "about 18 prompts",
        "Documented split alone",
        "Documented split: 20 prompts train, 5 test",
    ]
    assert sorted(first, key=text.index) == first
    for said in (
        "0.41 [0.32, 0.50]",
        f"{document['final']['elo_offset']['kendall_tau']:.2f}",
        "+0.160, 95 % interval [+0.060, +0.260], p = 0.012",
        "The reward model needs 45 preferences for the Elo offset's final τ; the Elo offset never reaches",
        "All contestants 0.640.67 +0.03 [−0.07, +0.13]0.67 1.521.37 1.37",  # eight cells
        "Recommended for --rank: Combined, surely better than Elo offset.",
        "1320 (proxy: Qwen3-30B-A3B)",
        "python main.py --persona coder --incremental",
        "(Kendall's ζ): 1 without circles0.90",
        "−0.08 [−0.18, +0.02]",  # the ablation's difference
    ):
        assert said in text


def test_the_page_of_votes_has_people_and_no_empty_section(no_pictures: None) -> None:
    html = page.render_report(sample.votes())
    assert 'class="loud"' not in html, "an ordinary backend stands in no warning box"
    assert sections_of(html) == [
        "answer", "verdict", "results", "hypotheses", "curves", "systems", "prompts", "people", "judge", "training",
        "models", "reproduce",
    ]  # fmt: skip
    assert html.count("<bdi>person ") == 12 and "with the most votes" not in html
    one = sample.votes()
    alone = page.render_report(one | {"counts": one["counts"] | {"users": 1}})
    assert "people" not in sections_of(alone) and "Shared" not in Page(alone).text
    assert "Shared" in Page(html).text
    nothing = page.render_report(sample.votes(decided=False))
    assert not {"curves", "prompts", "results", "systems", "people"} & set(sections_of(nothing))
    assert "No method is recommended on evidence" in Page(nothing).text
    assert '<span class="whole">--rank</span>' in nothing, "an option's name is not broken at a line's end"
    assert "Kendall" not in Page(html).text, "a column of dashes is not drawn"
    assert "Name on the Arena" not in page.render_report(sample.votes() | {"models": sample.persona()["models"][:3]})
    assert "None" not in Page(html).text + Page(nothing).text


def test_prompts_are_sorted_by_difference_and_bars_share_one_scale(html: str, document: Document) -> None:
    section = html.split('<section id="prompts">')[1].split("</section>")[0]
    bars = [[float(a), float(b)] for a, b in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", section)]
    differences = sorted((row["difference"] for row in document["per_prompt"]), reverse=True)
    widest = max(map(abs, differences))
    assert re.findall(r"<strong>(.+?)</strong>", section) == [f"{d:+.2f}".replace("-", "−") for d in differences]
    for difference, bar in zip(differences, bars, strict=True):
        width = 50 * difference / widest
        assert bar == pytest.approx([50 + min(0, width), abs(width)], abs=0.1)


def test_the_rankings_of_an_example_stand_beside_the_truth_the_recommended_one_first(html: str) -> None:
    cards = html.split('<section id="examples">')[1].split('<div class="card"><h3>')[1:5]
    assert [card.split("<")[0] for card in cards] == ["Truth", "Combined", "Elo offset", "Reward model"]
    orders = [re.findall(r"<bdi>(\w+)</bdi>", card)[:6] for card in cards]
    first, second, *others = sample.MODELS
    assert orders[1] == list(reversed(sample.MODELS))
    del orders[1]
    assert orders == [[first, second, *others], [others[-1], first, second, *others[:-1]], [second, first, *others]]


def test_hostile_texts_stay_text_in_the_page(no_pictures: None) -> None:
    html = page.render_report(sample.hostile())
    parsed = Page(html)
    assert "script" not in parsed.tags
    assert "<script>alert(1)</script>\ufffd[31m" in parsed.text
    assert "{{ 7*7 }}" in parsed.text  # a text is never a template
    assert not STEERS.search(html)
    html.encode("utf-8")


def test_every_contestant_is_on_the_page_and_a_missing_key_is_an_error(no_pictures: None, document: Document) -> None:
    from jinja2 import UndefinedError

    assert page.render_report(sample.many_models()).count("<bdi>registry.example/") == 40
    with pytest.raises(UndefinedError, match="command"):
        page.render_report({key: value for key, value in document.items() if key != "command"})


def test_the_page_of_all_personas_says_who_is_best_for_whom_and_links_to_each() -> None:
    together = sample.personas()
    html = page.render_personas(together)
    assert sections_of(html.split('<details id="details">')[0]) == ["answer"]
    for name in together["personas"]:
        assert f'<a href="report_{name}.html"><bdi>{name}</bdi></a>' in html
    text = re.sub(r"\s+", " ", Page(html).text)
    assert text.count("code_block or numbered_steps is your best model") == 5
    assert "Over all 25 prompts of all personas" in text and "Comparisons won" in text
