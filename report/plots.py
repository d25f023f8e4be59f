"""The plots: figures from the results document, as PNG files on white and as SVG for the page.

Colours are those of Okabe and Ito (jfly.uni-koeln.de/color); every system also has its own marker and dashes, so that
a print in grey can be read. No window is opened and pyplot is never imported, so a program that plots on its own is
left alone.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from core.text import plain
from report import words
from report.words import CONTENDERS, METRICS, SYSTEMS, Document

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Draw = Callable[[Axes, Document, str], None]
    """Draws one metric, or all that there is, into a panel."""

ACCURACIES, CORRELATIONS = (-0.05, 1.05), (-1.05, 1.05)  # all values fit, and noise is not blown up to fill the panel
LIMITS = dict.fromkeys(METRICS, ACCURACIES) | {"kendall_tau": CORRELATIONS, "spearman_rho": CORRELATIONS}
PANEL, PANELS_IN_A_ROW = (3.4, 2.9), 3  # inches

BLUE, VERMILION, GREEN, GREY, INK, GRID = "#0072b2", "#d55e00", "#009e73", "#6b6b70", "black", "#d9d9de"
LINES: dict[str, dict[str, Any]] = {
    "elo_offset": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "reward_model": {"color": VERMILION, "marker": "s", "linestyle": (0, (5, 2))},
    "combined": {"color": GREEN, "marker": "^", "linestyle": (0, (7, 2, 1.5, 2))},
    "global_elo": {"color": GREY, "marker": "D", "linestyle": (0, (1, 1.5))},
}
LEVEL = {"marker": ""}  # a constant has no points to mark


# Quiet grid, no box, texts that are never formulas.
STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), GRID),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), INK),
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.handlelength": 3,
    "figure.constrained_layout.w_pad": 0.12,
    "savefig.dpi": 200,
    "svg.fonttype": "none",  # texts in the reader's own fonts: half the size of outlines
    "svg.hashsalt": "report",  # the same page for the same results
}
WHOLE: Any = {"nbins": 6, "steps": [1, 2, 5, 10], "integer": True}  # ticks: there is no half preference or epoch


def png(*what: Any) -> bytes:
    """The figure of ``panels``, on white."""
    return _saved(lambda: panels(*what), format="png", facecolor="white")


def svg(draw: Draw, document: Document, metric: str = "") -> bytes:
    """One panel over its legend, small enough for a narrow window and without a background; the page turns its colours
    in the dark."""
    from matplotlib.figure import Figure

    def panel() -> Figure:
        figure = Figure((4.2, 3.6), layout="constrained")
        draw(axes := figure.subplots(), document, metric)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left")
        return figure

    return _saved(panel, format="svg", transparent=True, metadata={"Date": None})


def _saved(make: Callable[[], Figure], **options: Any) -> bytes:
    import matplotlib

    target = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A name in letters that the font lacks shows boxes; nothing that the user could fix.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        make().savefig(target, **options)
    return target.getvalue()


def panels(draw: Draw, document: Document, metrics: Sequence[str], title: str, note: str = "") -> Figure:
    """A panel for each metric over one legend, below the title and who answered and judged; without metrics the reason
    why."""
    from matplotlib.figure import Figure

    columns = min(len(metrics), PANELS_IN_A_ROW)
    rows = math.ceil(len(metrics) / PANELS_IN_A_ROW)
    width = max(7.2, PANEL[0] * columns)
    said = ". ".join(filter(None, [document["label"], note if metrics else document["verdict"]["sentence"]]))
    lines = textwrap.wrap(plain(said).replace(" %", "\N{NO-BREAK SPACE}%"), int(width * 14))
    heading = [f"{title}, {short(words.subject(document), 32)}", *lines]
    figure = Figure((width, PANEL[1] * rows + 0.8), layout="constrained")
    figure.suptitle("\n".join(heading), x=0.012, ha="left", fontsize=9)
    for number, metric in enumerate(metrics, start=1):
        draw(figure.add_subplot(rows, columns, number), document, metric)
    if metrics:  # the first panel's legend for all
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def short(text: object, limit: int = 24) -> str:
    """At most ``limit`` characters, the cut visible."""
    whole = plain(text)
    return whole if len(whole) <= limit else f"{whole[: limit - 1]}…"


def leaderboard_panel(axes: Axes, document: Document, _: str) -> None:
    """One row a model, best first; in colour those that the answer names."""
    rows, answer = document["leaderboard"], document["answer"]
    axes.figure.set_figheight(0.75 + 0.28 * max(2, len(rows)))  # type: ignore[union-attr]
    for place, row in enumerate(rows):
        color = BLUE if row["model"] in (answer["best"], *answer["tied_with"]) else GREY
        axes.hlines(place, *(100.0 * bound for bound in row["win_rate"]["ci95"]), color=color, linewidth=3)
        axes.plot(100.0 * row["win_rate"]["mean"], place, marker="o", color=color, ms=7, clip_on=False, zorder=3)
    axes.axvline(50.0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=0)
    axes.set_yticks(range(len(rows)), [short(row["model"]) for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0.0, 100.0), xlabel="Wins, %")
    axes.grid(False, axis="y")


def curve_panel(axes: Axes, document: Document, metric: str) -> None:
    """One metric over the number of preferences, at its true x-values, with its band."""
    curves = document["curves"]
    every = max(1, len(curves["points"]) // 9)
    for system in CONTENDERS:
        label, line = SYSTEMS[system], LINES[system]
        if curves["trained_once"] and system != "elo_offset":
            label, line = f"{label} (trained once)", line | LEVEL
        points = curves[system][metric]
        low, high = zip(*(point["ci95"] or (math.nan, math.nan) for point in points), strict=True)
        axes.plot(curves["points"], [point["mean"] for point in points], label=label, markevery=every, **line)
        axes.fill_between(curves["points"], low, high, color=line["color"], alpha=0.18, linewidth=0)
    constant = document["cross_validated"]["global_elo"][metric]["mean"]  # it never learns
    if constant is not None:
        axes.axhline(constant, label=SYSTEMS["global_elo"], **LINES["global_elo"] | LEVEL)
    axes.set(ylim=LIMITS[metric], ylabel=METRICS[metric])
    axes.set_xlabel("Own votes used per person" if document["people"] else "Preferences used")
    axes.locator_params("x", **WHOLE)


def curve_remark(document: Document) -> str:
    """The prompts that the curves were measured on, and their bands."""
    over = "people, clustered by person" if document["people"] else "prompts"
    return f"Cross-validated: every prompt a test prompt once. Bands: 95 % interval of the mean over {over}."


def comparison_panel(axes: Axes, document: Document, metric: str) -> None:
    """Every system's mean with its 95 % interval as a row."""
    systems = words.systems(document)
    axes.plot([], [], color=INK, marker="o", label="cross-validated, 95 % interval")
    for row, system in enumerate(systems):
        found, line = document["cross_validated"][system][metric], LINES.get(system, LINES["global_elo"])
        if found["ci95"] is not None:
            axes.hlines(row, *found["ci95"], color=line["color"], linewidth=2)
            axes.plot(found["mean"], row, color=line["color"], marker=line["marker"], ms=6.5)
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(systems)), [SYSTEMS[system] for system in systems])
    axes.set(ylim=(len(systems) - 0.4, -0.6), xlim=LIMITS[metric], xlabel=METRICS[metric])
    axes.tick_params(labelleft=axes.get_subplotspec().is_first_col())  # type: ignore[union-attr]


def history_panel(axes: Axes, document: Document, _: str) -> None:
    """Both losses of the reward head after each epoch, unweighted; the regularization enters the sum with λ."""
    history = document["training_history"]
    regularization = f"Rank regularization (enters with λ = {document['config']['lambda_reg']:g})"
    epochs = range(1, len(history["preference_loss"]) + 1)
    axes.plot(epochs, history["preference_loss"], label="Preferences", **LINES["reward_model"])
    axes.plot(epochs, history["regularization_loss"], label=regularization, **LINES["elo_offset"])
    axes.axhline(math.log(2), label="Coin flip (ln 2)", **LINES["global_elo"] | LEVEL)
    axes.set(ylabel="Cross-entropy (nats)", xlabel="Epoch")
    axes.locator_params("x", **WHOLE)
