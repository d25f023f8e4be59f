"""The plots: figures from the results document, for PNG files and, in light and dark colours, for the page.

Colours are those of Okabe and Ito (jfly.uni-koeln.de/color); every system also has its own marker and dashes, so that
a print in grey can be read. No window is opened and pyplot is never imported, so a program that plots on its own is
left alone.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from core.text import plain
from report import words
from report.words import CONTENDERS, METRICS, SYSTEMS, Document, is_number, number, split, subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Metrics on one scale share one y-axis.
CORRELATIONS, ACCURACIES = ("kendall_tau", "spearman_rho"), ("ranking_accuracy", "top_1_accuracy", "top_3_accuracy")
COIN_FLIP = math.log(2)

# Colours are named by their place in matplotlib's cycle, which ``style`` sets: one figure can be drawn light and dark.
BLUE, VERMILION, GREEN, GREY, INK = "C0", "C1", "C2", "C3", "C4"
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#6b6b70", "#1b1b1f", "#d9d9de")  # the last one is the grid's
DARK = ("#56b4e9", "#e69f00", "#2fc99b", "#9b9ba3", "#ececf0", "#3a3a42")
LINES: dict[str, dict[str, Any]] = {
    "elo_offset": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "reward_model": {"color": VERMILION, "marker": "s", "linestyle": (0, (5, 2))},
    "combined": {"color": GREEN, "marker": "^", "linestyle": (0, (7, 2, 1.5, 2))},
    "global_elo": {"color": GREY, "marker": "D", "linestyle": (0, (1, 1.5))},
}
OTHER_LINE: dict[str, Any] = {"color": GREY, "marker": "D"}
HOLLOW: dict[str, Any] = {"color": INK, "linestyle": "", "marker": "d", "mfc": "none", "ms": 5}


# ── From a figure to a file ──────────────────────────────────────────────────────────────────────────────


def style(*, dark: bool = False) -> AbstractContextManager[None]:
    """How everything is drawn inside a ``with``: quiet grid, no box, texts that are never formulas."""
    import matplotlib
    from cycler import cycler

    *cycle, grid = DARK if dark else LIGHT
    sizes = ("font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
    look: Any = {
        **dict.fromkeys(sizes, 9),
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), cycle[-1]),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), grid),
        "axes.prop_cycle": cycler(color=cycle),
        "text.parse_math": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
        "legend.frameon": False,
        "legend.handlelength": 3,
        "savefig.dpi": 200,
        "svg.fonttype": "none",  # texts in the reader's own fonts: half the size of outlines
        "svg.hashsalt": "report",  # the same page for the same results
    }
    context: AbstractContextManager[None] = matplotlib.rc_context(look)
    return context


def png(figure: Callable[..., Figure], *arguments: Any) -> bytes:
    """The figure that ``figure(*arguments)`` makes, as PNG on white."""
    with style():
        return _saved(figure(*arguments), format="png")


def svg(figure: Callable[..., Figure], *arguments: Any, dark: bool = False) -> bytes:
    """The figure that ``figure(*arguments)`` makes, as SVG without a background, in light or dark colours."""
    with style(dark=dark):
        return _saved(figure(*arguments), format="svg", transparent=True, metadata={"Date": None})


def _saved(figure: Figure, **options: Any) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings():
        # A name in letters that the font lacks shows boxes; nothing that the user could fix.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(target, **options)
    return target.getvalue()


# ── What all figures share ───────────────────────────────────────────────────────────────────────────────


def titled_figure(width: float, height: float, title: str, label: str) -> Figure:
    """A figure with its title, who answered and judged below it, and room for both kept free; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure((width, height))
    note = textwrap.wrap(plain(label), int(width * 15))
    figure.text(0.012, 1 - 0.1 / height, short(title, int(width * 9)), va="top", weight="bold", fontsize=12)
    figure.text(0.012, 1 - 0.34 / height, "\n".join(note), va="top", fontsize=8.5)
    top = 1 - (0.38 + 0.15 * len(note)) / height
    figure.set_layout_engine("constrained", rect=(0, 0, 1, top), w_pad=0.12, h_pad=0.1)
    return figure


def panel(draw: Callable[..., None], *arguments: Any) -> Figure:
    """One panel alone, for the page: small, so that a narrow window can stack several instead of shrinking them."""
    from matplotlib.figure import Figure

    figure = Figure((4.2, 2.9), layout="constrained")
    draw(figure.subplots(), *arguments)
    return figure


def short(text: object, limit: int = 24) -> str:
    """At most ``limit`` characters, the cut visible."""
    whole = plain(text)
    return whole if len(whole) <= limit else f"{whole[: limit - 1]}…"


def _title(what: str, document: Document) -> str:
    return f"{what}, {short(subject(document), 32)}"


def _nothing(what: str, document: Document) -> Figure:
    """Why there is nothing to draw."""
    return titled_figure(7.2, 1.2, _title(what, document), f"{document['label']}. {document['verdict']['sentence']}")


def _legend_below(figure: Figure, columns: int) -> None:
    """The first panel's legend below all panels, outside the data."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=columns)


def _whole_ticks(axes: Axes) -> None:
    """There is no half preference and no half epoch."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))


def _floats(values: Iterable[float | None]) -> list[float]:
    """Numbers for a plot; what is missing becomes NaN, a gap."""
    return [math.nan if value is None else float(value) for value in values]


# ── Learning curves ──────────────────────────────────────────────────────────────────────────────────────


def learning_curves(document: Document) -> Figure:
    """A panel for each metric that has a curve: correlations above, accuracies below, each row on one y-axis."""
    rows = [row for row in (curve_metrics(document, kind) for kind in (CORRELATIONS, ACCURACIES)) if row]
    if not rows:
        return _nothing("Learning curves", document)
    columns = max(3 if len(rows) > 1 else 2, *map(len, rows))
    size = 10.0 / 3.0 * columns, 3.3 * len(rows)
    figure = titled_figure(*size, _title("Learning curves", document), document["label"])
    grid = figure.add_gridspec(len(rows), columns)
    for row, metrics in enumerate(rows):
        limits = curve_limits(document, metrics)
        for column, metric in enumerate(metrics):
            curve_panel(figure.add_subplot(grid[row, column]), document, metric, limits)
    key = figure.add_subplot(grid[0, columns - 1])
    key.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    key.legend(handles, labels, loc="upper left")
    key.text(0.04, 0.6, "\n".join(textwrap.wrap(curve_remark(document), 38)), va="top")
    return figure


def curve_key(document: Document) -> Figure:
    """The legend of the learning curves alone, for the page."""
    from matplotlib.figure import Figure

    figure = Figure((4.2, 0.5))
    axes = figure.subplots()
    curve_panel(axes, document, document["main_metric"], (0, 1))
    handles, labels = axes.get_legend_handles_labels()
    axes.remove()
    columns = 1 if document["curves"]["trained_once"] else 2  # labels are long then
    figure.set_figheight(0.25 * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc="center left", ncols=columns, handlelength=2.2, columnspacing=1.2, borderpad=0)
    return figure


def curve_panel(axes: Axes, document: Document, metric: str, limits: tuple[float, float]) -> None:
    """One metric over the number of preferences, at its true x-values, with its band."""
    curves = document["curves"]
    for place, system in enumerate(CONTENDERS):
        level = system != "elo_offset" and curves["trained_once"]
        line = LINES[system] | ({"marker": ""} if level else {})
        label = f"{SYSTEMS[system]} (trained once)" if level else SYSTEMS[system]
        every = max(1, len(curves["points"]) // 9)
        first = place * every // len(CONTENDERS)  # markers of close curves take turns
        mean, low, high = (_floats(curves[system][metric][part]) for part in ("mean", "lo", "hi"))
        axes.plot(curves["points"], mean, label=label, markevery=(first, every), **line)
        axes.fill_between(curves["points"], low, high, color=line["color"], alpha=0.18, linewidth=0)
    constant = global_level(document, metric)
    if constant is not None:
        axes.axhline(constant, label=SYSTEMS["global_elo"], **LINES["global_elo"] | {"marker": ""})
    axes.set(ylim=limits, ylabel=METRICS[metric])
    axes.set_xlabel("Own votes used per person" if document["people"] else "Preferences used")
    _whole_ticks(axes)


def curve_metrics(document: Document, metrics: Iterable[str]) -> list[str]:
    """Those of ``metrics`` that have a curve: votes that rank no whole prompt give neither τ nor top-k."""
    curves = document["curves"]["elo_offset"]
    return [m for m in metrics if m in curves and any(value is not None for value in curves[m]["mean"])]


def global_level(document: Document, metric: str) -> float | None:
    """Global Elo never learns: its one value, on the prompts that the curves were measured on."""
    return cast("float | None", document["cross_validated"]["global_elo"][metric]["mean"])


def curve_limits(document: Document, metrics: Iterable[str]) -> tuple[float, float]:
    """One y-range for all of ``metrics``: everything drawn fits, and noise is not blown up to fill it."""
    drawn: list[float | None] = []
    for metric in metrics:
        drawn.append(global_level(document, metric))
        for system in CONTENDERS:
            for values in document["curves"][system][metric].values():
                drawn += values
    known = [value for value in drawn if is_number(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    margin = max(0.05 * (high - low), (0.3 - (high - low)) / 2)
    return low - margin, high + margin


def curve_remark(document: Document) -> str:
    """What the curves were measured on."""
    if document["people"]:
        return (
            "Cross-validated: every prompt a test prompt once; whoever has fewer votes keeps all. Bands: 95 % interval "
            "of the mean over people, clustered by person."
        )
    return "Cross-validated: every prompt a test prompt once. Bands: 95 % interval of the mean over prompts."


# ── Comparison of metrics ────────────────────────────────────────────────────────────────────────────────


def metric_comparison(document: Document) -> Figure:
    """A panel for each metric that is defined, with one row a system."""
    shown = words.metrics(document)
    if not shown:
        return _nothing("Metrics", document)
    width = 11.0 if len(shown) > 2 else 7.2
    figure = titled_figure(width, 4.1, _title("Metrics", document), document["label"])
    panels: Sequence[Axes] = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, shown, strict=True):
        comparison_panel(axes, document, metric)
    for scale in (CORRELATIONS, ACCURACIES):
        alike = [axes for axes, metric in zip(panels, shown, strict=True) if metric in scale]
        ranges = [axes.get_xlim() for axes in alike]
        for axes in alike:
            axes.set_xlim(min(low for low, _ in ranges), max(high for _, high in ranges))
    _legend_below(figure, 2)
    return figure


def comparison_panel(axes: Axes, document: Document, metric: str) -> None:
    """Every system's mean with its 95 % interval as a row, the documented split as a hollow mark."""
    systems = words.systems(document)
    folds = document["config"]["folds"]
    axes.plot([], [], color=INK, marker="o", label=f"cross-validated ({folds} folds), 95 % interval")
    axes.plot([], [], label=f"documented split ({split(document)})", **HOLLOW)
    for row, system in enumerate(systems):
        _estimate(axes, row, document["cross_validated"][system][metric], LINES.get(system, OTHER_LINE))
        once = document["final"][system][metric]
        if once is not None:
            axes.plot(once, row + 0.28, **HOLLOW)
    if metric in CORRELATIONS:
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(systems)), [SYSTEMS[system] for system in systems])
    axes.set(ylim=(len(systems) - 0.4, -0.6), xlabel=METRICS[metric])


def _estimate(axes: Axes, row: float, cell: Mapping[str, Any], line: Mapping[str, Any], label: str = "") -> None:
    if cell["ci95"] is not None:
        axes.hlines(row, *cell["ci95"], color=line["color"], linewidth=2)
    if cell["mean"] is not None:
        axes.plot(cell["mean"], row, linestyle="", marker=line["marker"], color=line["color"], ms=6.5, label=label)


# ── Training history ─────────────────────────────────────────────────────────────────────────────────────


def training_history(document: Document) -> Figure:
    """Both losses of the reward head after each epoch."""
    figure = titled_figure(7.2, 4.2, _title("Training of the reward model", document), document["label"])
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
    axes.axhline(COIN_FLIP, label="Coin flip (ln 2)", **LINES["global_elo"] | {"marker": ""})
    axes.set(ylabel="Cross-entropy (nats)", xlabel="Epoch")
    _whole_ticks(axes)


# ── All personas ─────────────────────────────────────────────────────────────────────────────────────────


def personas(together: Document) -> Figure:
    """The contenders per persona, and how alike the personas' preferences are.

    ``together``: {"personas": {NAME: document}, "similarity": {NAME: {NAME: τ}}, "label"}.
    """
    names = list(together["personas"])
    labels = [short(name) for name in names]
    figure = titled_figure(10.4, max(4.2, 1.9 + 0.5 * len(names)), "All personas", together["label"])
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for row, document in enumerate(together["personas"].values()):
        for system, shift in zip((*CONTENDERS, "global_elo"), (-0.27, -0.09, 0.09, 0.27), strict=True):
            cell = document["cross_validated"][system]["kendall_tau"]
            _estimate(left, row + shift, cell, LINES[system], SYSTEMS[system] if row == 0 else "")
    left.set_yticks(range(len(names)), labels)
    left.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    left.set(ylim=(len(names) - 0.5, -0.5), xlabel="Kendall's τ, cross-validated, 95 % interval")

    cells = [[together["similarity"][a][b] for b in names] for a in names]
    image = right.imshow(cells, vmin=-1, vmax=1, cmap="cividis", aspect="auto")
    for i, row_of_cells in enumerate(cells):
        for j, value in enumerate(row_of_cells):
            right.text(j, i, number(value, 2), ha="center", va="center", color="black" if value > 0 else "white")
    right.set_yticks(range(len(names)), labels)
    right.set_xticks(range(len(names)), labels, rotation=35, ha="right", rotation_mode="anchor")
    right.set_title("How alike the preferences are (Kendall's τ)")
    right.grid(False)
    figure.colorbar(image, ax=right, fraction=0.05)
    _legend_below(figure, 4)
    return figure
