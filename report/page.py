"""The report as one HTML file: no script, nothing loaded, every text of a model or a user escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import plots
from report import words as wording
from report.drawing import panel_figure, to_svg
from report.words import METRICS, SYSTEMS, dig, is_number, plain

if TYPE_CHECKING:
    from jinja2 import Environment

Results = Mapping[str, Any]

TEMPLATES_DIR = Path(__file__).resolve().parent / "templates"
TEMPLATE = "report.html.j2"
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
UNSAID_VERDICTS = {
    "reward_model": "The reward model ranks better than the Elo offset.",
    "elo_offset": "The Elo offset ranks better than the reward model.",
    "none": "No winner: these data cannot tell the two systems apart.",
}


def write_report(results: Results, path: Path) -> None:
    """Write the report of one persona as a self-contained HTML file."""
    from core.store import write_atomically

    write_atomically(path, render_report(results))


def render_report(results: Results) -> str:
    """The report's HTML from the results dict; what the results lack is shown as "–" or left out."""
    template = _environment().get_template(TEMPLATE)
    return template.render(
        results=results,
        verdict=dig(results, "verdict", "sentence") or UNSAID_VERDICTS.get(str(results.get("winner")), "No verdict."),
        charts=_charts(results),
        prompt_rows=_by_difference(results.get("per_prompt") or ()),
        held_out=_held_out(results),
        examples=[_example(example) for example in results.get("examples") or ()],
        shown_systems=[name for name in SYSTEMS if dig(results, "cross_validated", name)],
        curve_remark=plots.curve_remark(results),
        trained_once=plots.trained_once(results),
        main_metric=wording.main_metric(results),
        people=_people(results),
        SYSTEMS=SYSTEMS,
        METRICS=METRICS,
        QUALITY=QUALITY,
        HYPOTHESES=wording.HYPOTHESES,
    )


def _environment() -> Environment:
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=ChainableUndefined,  # most keys of the results are optional
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = (wording.number, wording.interval, wording.estimate, wording.p_value)
    environment.filters.update({show.__name__: _typeset(show) for show in figures})
    environment.filters.update(anything=_anything, rating=wording.rating, is_number=is_number)
    environment.globals.update(
        split_gain=wording.difference,
        split_words=wording.split,
        prompts_needed=wording.prompts_needed,
        because=wording.because,
        evidence=wording.evidence,
        personal_gains=wording.personal_gains,
    )
    return environment


def _shown(value: object) -> object:
    """Every value on its way into the page: hidden characters made visible, nothing at all as "–"."""
    from jinja2 import Undefined
    from markupsafe import Markup

    if value is None or isinstance(value, Undefined):
        return wording.MISSING
    return plain(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _anything(value: Any) -> str:
    from jinja2 import Undefined

    return wording.anything(None if isinstance(value, Undefined) else value)


def _typeset(show: Callable[..., str]) -> Callable[..., str]:
    """A minus sign instead of the hyphen that a terminal gets, and no line break inside "p = 0.01"."""
    signs = str.maketrans({"-": "\N{MINUS SIGN}", " ": "\N{NO-BREAK SPACE}"})
    return lambda *values, **options: show(*values, **options).translate(signs)


# ── Charts ───────────────────────────────────────────────────────────────────────────────────────────────


def _charts(results: Results) -> dict[str, Any]:
    """SVG by section; small panels, so that a narrow window can stack them instead of shrinking them."""
    charts: dict[str, Any] = {"curves": {}}
    if dig(results, "curves", "points") or results.get("learning_curve"):
        for metrics in (plots.CORRELATIONS, plots.ACCURACIES):
            limits = plots.curve_limits(results, metrics)
            for metric in filter(lambda metric: plots.has_curve(results, metric), metrics):
                charts["curves"][metric] = _chart(f"curve-{metric}", plots.curve_panel, results, metric, limits)
    if results.get("cross_validated"):
        charts["comparison"] = _chart("comparison", plots.comparison_panel, results, wording.main_metric(results))
    if dig(results, "training_history", "preference_loss"):
        charts["history"] = _chart("history", plots.history_panel, results)
    return charts


def _chart(name: str, draw: Callable[..., None], *arguments: Any) -> str:
    from markupsafe import Markup

    figure, axes = panel_figure()
    draw(axes, *arguments)
    return Markup(to_svg(figure, name))  # noqa: S704 - drawn by matplotlib, which escapes its texts


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────


def _by_difference(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Prompts with their difference, best for the reward model first, with the bar's start and width in percent.

    The bars share one scale on which 0 is at 50 %; prompts without a difference come last.
    """
    known = [row for row in rows if is_number(row.get("difference"))]
    unknown = [row for row in rows if not is_number(row.get("difference"))]
    widest = max((abs(row["difference"]) for row in known), default=0.0) or 1.0
    bars = []
    for row in sorted(known, key=lambda row: -float(row["difference"])):
        width = 50 * abs(row["difference"]) / widest
        bars.append({**row, "start": 50 - width if row["difference"] < 0 else 50, "width": width})
    return bars + [{**row, "start": 50, "width": 0} for row in unknown]


def _people(results: Results) -> list[Mapping[str, Any]]:
    """The people with the most votes."""
    rows = dig(results, "people", "by_person") or ()
    return sorted(rows, key=lambda row: -int(row.get("votes") or 0))[:SHOWN_PEOPLE]


def _held_out(results: Results) -> list[tuple[str, Mapping[str, Any]]]:
    """Each contestant, then all of them, as left out of training."""
    found = dig(results, "hypotheses", "generalization") or {}
    rows = list((found.get("by_contestant") or {}).items())
    return [*rows, ("All contestants", found)] if rows else []


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    """One prompt with its responses by their true place, and the three rankings as (place, model)."""
    responses = example.get("responses") or ()
    columns = {"Truth": "truth_place", "Elo offset": "elo_place", "Reward model": "reward_place"}
    return {
        "prompt": example.get("prompt"),
        "responses": _in_order(responses, "truth_place"),
        "rankings": {
            title: [(response.get(key), response.get("model")) for response in _in_order(responses, key)]
            for title, key in columns.items()
        },
    }


def _in_order(responses: Iterable[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    return sorted(responses, key=lambda response: response[key] if is_number(response.get(key)) else math.inf)
