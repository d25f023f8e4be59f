"""The report as one HTML file: no script, nothing loaded, every text of a model or a user escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
from core.files import write_atomically
from core.text import plain
from report import answer, answer_plot, plots, words
from report.words import METRICS, SYSTEMS, Document

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES_DIR = Path(__file__).resolve().parent / "templates"
TEMPLATE = "report.html.j2"
PERSONAS_TEMPLATE = "personas.html.j2"
SHOWN_PEOPLE = 100  # a page of a thousand rows is read by nobody; the JSON has all
QUALITY = {
    "flip_rate": "Pairs whose winner changes with the order shown (flip rate)",
    "inconsistent_rate": "Pairs judged differently in the two orders, ties counted",
    "first_position_rate": "Share won by what was shown first",
    "longer_response_rate": "Share won by the longer response",
    "circular_triads": "Circular triads (A over B over C over A); by chance 0.25",
    "consistency": "Consistency (Kendall's ζ): 1 without circles",
    "noise_ceiling": "Noise ceiling: τ between two rounds of judging",
    "listwise_agreement": "τ between round-robin and listwise truth",
    "self_win_rate": "Share won by the judge's own responses, where it is a contestant",
}
UNBROKEN = re.compile(r" (?=%)|(?<=p) (?=[=<])|(?<=[=<]) (?=\d)|(?<=\d,) (?=[−+]?[\d.]+\])")
PLACES = {"elo_offset": "elo_place", "reward_model": "reward_place", "combined": "combined_place"}


def write_report(document: Document, path: Path) -> None:
    """Write the report of one run as a self-contained HTML file."""
    write_atomically(path, render_report(document))


def render_report(document: Document) -> str:
    """The report's HTML."""
    several = document["people"] is not None and document["counts"]["users"] > 1
    systems = words.systems(document)
    quality = document["judge_quality"]
    people = [
        row
        for row in (document["people"]["by_person"] if several else [])
        if any(row[system] is not None for system in systems)
    ]
    template = _environment().get_template(TEMPLATE)
    return template.render(
        leaderboard=answer.columns(document),
        likes=answer.likes(document),
        next_step=answer.next_step(document),
        ask=answer.ask(document),
        remarks=answer.remarks(document),
        metrics={metric: METRICS[metric] for metric in words.metrics(document)},
        arena_names=any(model["arena_name"] for model in document["models"]),
        document=document,
        charts=_charts(document),
        prompt_rows=_by_difference(document),
        people=sorted(people, key=lambda row: -int(row["votes"]))[:SHOWN_PEOPLE],
        judged={title: quality[key] for key, title in QUALITY.items() if quality.get(key) is not None},
        held_out=_held_out(document),
        shown_systems=systems,
        curve_remark=plots.curve_remark(document),
        words=words,
        places=_places(document),
    )


def write_personas(together: Document, path: Path) -> None:
    """Write the page of all personas; ``together`` as the console prints it."""
    write_atomically(path, render_personas(together))


def render_personas(together: Document) -> str:
    """Its HTML, with a link to each persona's own page."""
    pooled = together["pooled"]
    template = _environment().get_template(PERSONAS_TEMPLATE)
    return template.render(
        together=together,
        best=answer.by_persona(together),
        models=answer.models_of(together),
        mark=answer.MARK,
        played=answer.played(together),
        next_step=answer.next_step,
        rows=[*together["personas"].items(), (f"all {pooled['prompts']} prompts", pooled)],
        systems=[system for system in SYSTEMS if system in pooled["cross_validated"]],
        report=config.REPORT_FILE,
        words=words,
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for show in (words.number, words.interval, words.p_value):
        environment.filters[show.__name__] = _typeset(show)
    environment.filters.update(anything=words.anything, rating=words.rating, parts=_parts)
    return environment


def _shown(value: object) -> object:
    """Every value on its way into the page: hidden characters made visible, nothing at all as "–"."""
    from markupsafe import Markup

    if value is None:
        return words.MISSING
    return plain(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _typeset(show: Callable[..., str]) -> Callable[..., str]:
    """No line break inside "p = 0.01"."""
    return lambda *values, **options: show(*values, **options).replace(" ", "\N{NO-BREAK SPACE}")


def _parts(text: str) -> list[str]:
    """A sentence cut at the names of options ("--rank"), which are every second part, so that neither they nor a
    percentage, an interval or a p-value are broken at a line's end."""
    return re.split(r"(--\w+)", UNBROKEN.sub("\N{NO-BREAK SPACE}", text))


# ── Charts ───────────────────────────────────────────────────────────────────────────────────────────────


def _charts(document: Document) -> dict[str, Any]:
    """The pictures of each section."""
    curves = {}
    for kind in (plots.CORRELATIONS, plots.ACCURACIES):
        metrics = plots.curve_metrics(document, kind)
        limits = plots.curve_limits(document, metrics)
        for metric in metrics:
            curves[metric] = _picture(plots.panel, plots.curve_panel, document, metric, limits)
    return {
        "leaderboard": _picture(answer_plot.leaderboard, document) if document["leaderboard"] else None,
        "key": _picture(plots.curve_key, document) if curves else None,
        "curves": curves,
        "comparison": _picture(plots.panel, plots.comparison_panel, document, document["main_metric"])
        if words.metrics(document)
        else None,
        "history": _picture(plots.panel, plots.history_panel, document),
    }


def _picture(figure: Callable[..., Any], *arguments: Any) -> dict[str, str]:
    """One figure for a light and for a dark page, as data URIs.

    As an image nothing in it can reach the page: its names, styles and texts are its own.
    """
    drawn = {"light": plots.svg(figure, *arguments), "dark": plots.svg(figure, *arguments, dark=True)}
    return {mode: f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}" for mode, data in drawn.items()}


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────


def _by_difference(document: Document) -> list[dict[str, Any]]:
    """Prompts, best for the reward model first, with the start and width of each difference's bar in percent.

    The bars share one scale on which 0 is at 50 %.
    """
    rows = sorted(document["per_prompt"], key=lambda row: -float(row["difference"]))
    widest = max((abs(row["difference"]) for row in rows), default=0.0) or 1.0
    bars = []
    for row in rows:
        width = 50 * abs(row["difference"]) / widest
        bars.append({**row, "start": 50 - width if row["difference"] < 0 else 50, "width": width})
    return bars


def _held_out(document: Document) -> list[tuple[str, Any, Any]]:
    """Each contestant, then all of them, as left out of training, placed by the reward model and by System C."""
    found, combined = (words.tested(document, system)["generalization"] for system in ("reward_model", "combined"))
    if found["verdict"] == "not tested":
        return []
    each = [(model, row, combined["by_contestant"][model]) for model, row in found["by_contestant"].items()]
    return [*each, ("All contestants", found, combined)]


def _places(document: Document) -> dict[str, str]:
    """{title: key of the place in an example's responses}, the truth and the recommended system first."""
    systems = sorted(PLACES, key=lambda system: system != document["recommended"])
    return {"Truth": "truth_place"} | {SYSTEMS[system]: PLACES[system] for system in systems}
