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
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from core.text import plain
from report import words
from report.words import CONTENDERS, METRICS, SYSTEMS, Document, split, subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CORRELATIONS = ("kendall_tau", "spearman_rho")  # from −1 to 1; accuracies begin at 0
COIN_FLIP = math.log(2)

BLUE, VERMILION, GREEN, GREY, INK, GRID = "#0072b2", "#d55e00", "#009e73", "#6b6b70", "black", "#d9d9de"
LINES: dict[str, dict[str, Any]] = {
    "elo_offset": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "reward_model": {"color": VERMILION, "marker": "s", "linestyle": (0, (5, 2))},
    "combined": {"color": GREEN, "marker": "^", "linestyle": (0, (7, 2, 1.5, 2))},
    "global_elo": {"color": GREY, "marker": "D", "linestyle": (0, (1, 1.5))},
}
OTHER_LINE: dict[str, Any] = {"color": GREY, "marker": "D"}
LEVEL = {"marker": ""}  # a constant has no points to mark
HOLLOW: dict[str, Any] = {"color": INK, "linestyle": "", "marker": "d", "mfc": "none", "ms": 5}

# Quiet grid, no box, texts that are never formulas.
STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,
    "axes.titlesize": "medium",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.6,
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), GRID),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), INK),
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.handlelength": 3,
    "savefig.dpi": 200,
    "svg.fonttype": "none",  # texts in the reader's own fonts: half the size of outlines
    "svg.hashsalt": "report",  # the same page for the same results
}


# ── From a figure to a file ──────────────────────────────────────────────────────────────────────────────


def png(figure: Callable[..., Figure], *arguments: Any) -> bytes:
    """The figure that ``figure(*arguments)`` makes, on white."""
    return _saved(figure, arguments, format="png", facecolor="white")


def svg(figure: Callable[..., Figure], *arguments: Any) -> bytes:
    """The figure that ``figure(*arguments)`` makes, without a background; the page turns its colours in the dark."""
    return _saved(figure, arguments, format="svg", transparent=True, metadata={"Date": None})


def _saved(figure: Callable[..., Figure], arguments: Sequence[Any], **options: Any) -> bytes:
    import matplotlib

    target = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A name in letters that the font lacks shows boxes; nothing that the user could fix.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure(*arguments).savefig(target, **options)
    return target.getvalue()


# ── What all figures share ───────────────────────────────────────────────────────────────────────────────


def titled_figure(width: float, height: float, title: str, note: str) -> Figure:
    """A figure with its title, who answered and judged below it, and room for both kept free; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure((width, height))
    lines = textwrap.wrap(plain(note), int(width * 15))
    figure.text(0.012, 1 - 0.1 / height, short(title, int(width * 9)), va="top", weight="bold", fontsize=12)
    figure.text(0.012, 1 - 0.34 / height, "\n".join(lines), va="top", fontsize=8.5)
    top = 1 - (0.38 + 0.15 * len(lines)) / height
    figure.set_layout_engine("constrained", rect=(0, 0, 1, top), w_pad=0.12, h_pad=0.1)
    return figure


def panel(draw: Callable[..., None], *arguments: Any) -> Figure:
    """One panel alone, for the page: small, so that a narrow window can stack several instead of shrinking them."""
    from matplotlib.figure import Figure

    figure = Figure((4.2, 2.9), layout="constrained")
    draw(figure.subplots(), *arguments)
    return figure


def _panels(
    draw: Callable[..., None],
    document: Document,
    metrics: Sequence[str],
    size: tuple[float, float],
    title: str,
    note: str,
) -> Figure:
    """A panel for each metric, three or five in a row, over one legend; without metrics the reason why."""
    title = f"{title}, {short(subject(document), 32)}"
    note = ". ".join(filter(None, [document["label"], note if metrics else document["verdict"]["sentence"]]))
    if not metrics:
        return titled_figure(7.2, 1.2, title, note)
    columns = min(len(metrics), round(10 / size[0]))
    rows = math.ceil(len(metrics) / columns)
    figure = titled_figure(max(7.2, size[0] * columns), size[1] * rows + 0.8, title, note)
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    for axes, metric in zip_longest(grid.flat, metrics):
        if metric is None:
            axes.set_axis_off()
        else:
            draw(axes, document, metric)
    _legend_below(figure, 2)
    return figure


def _legend_below(figure: Figure, columns: int) -> None:
    """The first panel's legend below all panels, outside the data."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=columns)


def short(text: object, limit: int = 24) -> str:
    """At most ``limit`` characters, the cut visible."""
    whole = plain(text)
    return whole if len(whole) <= limit else f"{whole[: limit - 1]}…"


def _limits(metric: str) -> tuple[float, float]:
    """All values that a metric can take: what is drawn fits, and noise is not blown up to fill the panel."""
    return (-1.05 if metric in CORRELATIONS else -0.05), 1.05


def _whole_ticks(axes: Axes) -> None:
    """Ticks at whole numbers: there is no half preference and no half epoch."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))


# ── The answer ───────────────────────────────────────────────────────────────────────────────────────────


def leaderboard_panel(axes: Axes, document: Document) -> None:
    """One row a model, best first; in colour what the sentence names, hollow what it only can't rule out."""
    rows, answer = document["leaderboard"], document["answer"]
    axes.figure.set_figheight(0.75 + 0.28 * max(2, len(rows)))  # type: ignore[union-attr]
    for place, row in enumerate(rows):
        color = BLUE if row["model"] in (answer["best"], *answer["tied_with"]) else GREY
        fill = "none" if row["model"] in answer["unlikely"] else color
        axes.hlines(place, *(100.0 * bound for bound in row["win_rate"]["ci95"]), color=color, linewidth=3)
        axes.plot(100.0 * row["win_rate"]["mean"], place, marker="o", color=color, mfc=fill, ms=7)
    axes.axvline(50.0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=0)
    axes.set_yticks(range(len(rows)), [short(row["model"]) for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0.0, 100.0), xlabel="Wins, %")
    axes.grid(False, axis="y")


# ── Learning curves ──────────────────────────────────────────────────────────────────────────────────────


def learning_curves(document: Document) -> Figure:
    """A panel for each metric that has a curve."""
    metrics, remark = curve_metrics(document), curve_remark(document)
    return _panels(curve_panel, document, metrics, (3.4, 2.9), "Learning curves", remark)


def curve_key(document: Document) -> Figure:
    """The legend of the learning curves alone, for the page."""
    figure = panel(curve_panel, document, document["main_metric"])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.axes[0].remove()
    columns = 1 if document["curves"]["trained_once"] else 2  # labels are long then
    figure.set_figheight(0.25 * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc="center left", ncols=columns, handlelength=2.2, columnspacing=1.2, borderpad=0)
    return figure


def curve_metrics(document: Document) -> list[str]:
    """The metrics that have a curve: votes that rank no whole prompt give neither τ nor top-k."""
    elo = document["curves"]["elo_offset"]
    return [m for m in METRICS if m in elo and any(value is not None for value in elo[m]["mean"])]


def curve_panel(axes: Axes, document: Document, metric: str) -> None:
    """One metric over the number of preferences, at its true x-values, with its band."""
    curves = document["curves"]
    for place, system in enumerate(CONTENDERS):
        level = system != "elo_offset" and curves["trained_once"]
        line = LINES[system] | (LEVEL if level else {})
        label = f"{SYSTEMS[system]} (trained once)" if level else SYSTEMS[system]
        every = max(1, len(curves["points"]) // 9)
        first = place * every // len(CONTENDERS)  # markers of close curves take turns
        # What is missing becomes NaN, a gap.
        mean, low, high = (
            [math.nan if value is None else float(value) for value in curves[system][metric][part]]
            for part in ("mean", "lo", "hi")
        )
        axes.plot(curves["points"], mean, label=label, markevery=(first, every), **line)
        axes.fill_between(curves["points"], low, high, color=line["color"], alpha=0.18, linewidth=0)
    # Global Elo never learns: its one value, on the prompts that the curves were measured on.
    constant = document["cross_validated"]["global_elo"][metric]["mean"]
    if constant is not None:
        axes.axhline(constant, label=SYSTEMS["global_elo"], **LINES["global_elo"] | LEVEL)
    axes.set(ylim=_limits(metric), ylabel=METRICS[metric])
    axes.set_xlabel("Own votes used per person" if document["people"] else "Preferences used")
    _whole_ticks(axes)


def curve_remark(document: Document) -> str:
    """The prompts that the curves were measured on, and their bands."""
    if document["people"]:
        return (
            "Cross-validated: every prompt a test prompt once; whoever has fewer votes keeps all. Bands: 95 % interval "
            "of the mean over people, clustered by person."
        )
    return "Cross-validated: every prompt a test prompt once. Bands: 95 % interval of the mean over prompts."


# ── Comparison of metrics ────────────────────────────────────────────────────────────────────────────────


def metric_comparison(document: Document) -> Figure:
    """A panel for each metric that is defined, with one row a system."""
    return _panels(comparison_panel, document, words.metrics(document), (2.2, 3.3), "Metrics", "")


def comparison_panel(axes: Axes, document: Document, metric: str) -> None:
    """Every system's mean with its 95 % interval as a row, the documented split as a hollow mark."""
    systems = words.systems(document)
    folds = document["config"]["folds"]
    axes.plot([], [], color=INK, marker="o", label=f"cross-validated ({folds} folds), 95 % interval")
    axes.plot([], [], label=f"documented split ({split(document)})", **HOLLOW)
    for row, system in enumerate(systems):
        found, once = document["cross_validated"][system][metric], document["final"][system][metric]
        line = LINES.get(system, OTHER_LINE)
        if found["ci95"] is not None:
            axes.hlines(row, *found["ci95"], color=line["color"], linewidth=2)
            axes.plot(found["mean"], row, color=line["color"], marker=line["marker"], ms=6.5)
        if once is not None:
            axes.plot(once, row + 0.28, **HOLLOW)
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(systems)), [SYSTEMS[system] for system in systems])
    axes.set(ylim=(len(systems) - 0.4, -0.6), xlim=_limits(metric))
    axes.set_xlabel(METRICS[metric])
    axes.label_outer()  # systems are named once, on the left


# ── Training history ─────────────────────────────────────────────────────────────────────────────────────


def training_history(document: Document) -> Figure:
    """Both losses of the reward head after each epoch."""
    title = f"Training of the reward model, {short(subject(document), 32)}"
    figure = titled_figure(7.2, 4.2, title, document["label"])
    history_panel(figure.subplots(), document)
    _legend_below(figure, 3)
    return figure


def history_panel(axes: Axes, document: Document) -> None:
    """Cross-entropies in nats, unweighted; the regularization enters the sum with λ."""
    history = document["training_history"]
    regularization = f"Rank regularization (enters with λ = {document['config']['lambda_reg']:g})"
    epochs = range(1, len(history["preference_loss"]) + 1)
    every = max(1, len(epochs) // 12)
    axes.plot(epochs, history["preference_loss"], label="Preferences", markevery=every, **LINES["reward_model"])
    axes.plot(epochs, history["regularization_loss"], label=regularization, markevery=every, **LINES["elo_offset"])
    axes.axhline(COIN_FLIP, label="Coin flip (ln 2)", **LINES["global_elo"] | LEVEL)
    axes.set(ylabel="Cross-entropy (nats)", xlabel="Epoch")
    _whole_ticks(axes)
