"""The PNG plots and the panels that they share with the page.

``build_*`` return a matplotlib Figure, ``plot_*`` write it. No window is opened and pyplot is never imported, so a
program that plots on its own is left alone.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from report.drawing import (
    GREY,
    INK,
    OTHER_STYLE,
    STYLES,
    TEXT,
    dress,
    floats,
    legend_below,
    line,
    short,
    titled_figure,
    whole_ticks,
    write_png,
)
from report.words import CONTENDERS, METRICS, SYSTEMS, dig, is_number, number, split

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Results = Mapping[str, Any]

# Metrics on one scale share one y-axis.
CORRELATIONS, ACCURACIES = ("kendall_tau", "spearman_rho"), ("ranking_accuracy", "top_1_accuracy", "top_3_accuracy")
COIN_FLIP = math.log(2)


class Curve(NamedTuple):
    """A system's learning curve; ``low`` and ``high`` are empty where there is no band."""

    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


# ── Learning curves ──────────────────────────────────────────────────────────────────────────────────────


def plot_learning_curves(results: Results, path: Path) -> None:
    """Write the learning curves of all metrics as PNG."""
    write_png(build_learning_curves(results), path)


def build_learning_curves(results: Results) -> Figure:
    """Five panels: the correlations above, the accuracies below, each row on one y-axis. Fewer where a metric is
    nowhere defined: votes that rank no whole prompt give neither τ nor top-k."""
    rows = [[m for m in row if has_curve(results, m)] for row in (CORRELATIONS, ACCURACIES)]
    rows = [row for row in rows if row] or [["ranking_accuracy"]]
    columns = max(3 if len(rows) > 1 else 2, *map(len, rows))
    figure = titled_figure(
        10.0 / 3.0 * columns, 3.3 * len(rows), f"Learning curves, persona {_persona(results)}", results.get("label")
    )
    grid = figure.add_gridspec(len(rows), columns)
    for row, metrics in enumerate(rows):
        limits = curve_limits(results, metrics)
        for column, metric in enumerate(metrics):
            axes = figure.add_subplot(grid[row, column])
            curve_panel(axes, results, metric, limits)
    key = figure.add_subplot(grid[0, columns - 1])
    key.set_axis_off()
    _legend(key, figure.axes[0], curve_remark(results))
    return figure


def curve_panel(axes: Axes, results: Results, metric: str, limits: tuple[float, float]) -> None:
    """One metric over the number of preferences, at its true x-values."""
    for system in CONTENDERS:
        curve = learning_curve(results, system, metric)
        every = max(1, len(curve.x) // 9)
        first = every // 2 if system == "reward_model" else 0  # markers of two close curves take turns
        style = line(system, marker="") if _is_level(results, system) else line(system)
        axes.plot(curve.x, curve.mean, label=_curve_label(results, system), markevery=(first, every), **style)
        if curve.low:
            axes.fill_between(curve.x, curve.low, curve.high, color=STYLES[system]["color"], alpha=0.18, linewidth=0)
    level = global_level(results, metric)
    if is_number(level):
        axes.axhline(level, label=SYSTEMS["global_elo"], **line("global_elo", marker=""))
    axes.set_ylim(*limits)
    whole_ticks(axes)
    dress(axes, METRICS[metric], "Own votes used per person" if results.get("people") else "Preferences used")


def learning_curve(results: Results, system: str, metric: str) -> Curve:
    """From ``curves`` where it has the system, else from ``learning_curve``; a system trained once is level."""
    banded = dig(results, "curves", system, metric)
    if banded:
        x = [float(point) for point in results["curves"]["points"]]
        low, high = (floats(banded.get(side) or ()) for side in ("lo", "hi"))
        curve = Curve(x, floats(banded["mean"]), low, high if low else [])
    else:
        rows = results.get("learning_curve") or ()
        x = [float(row["preferences"]) for row in rows]
        curve = Curve(x, floats(dig(row, system, metric) for row in rows), [], [])
    level = dig(results, "final", system, metric)
    if system == "reward_model" and trained_once(results) and is_number(level) and all(map(math.isnan, curve.mean)):
        x = curve.x or learning_curve(results, "elo_offset", metric).x
        return Curve(x, [float(level)] * len(x), [], [])
    return curve


def has_curve(results: Results, metric: str) -> bool:
    """False where nothing of this metric can be drawn: votes that rank no whole prompt give no τ."""
    return any(not math.isnan(v) for system in CONTENDERS for v in learning_curve(results, system, metric).mean)


def trained_once(results: Results) -> bool:
    """True where System B was trained once, on all preferences."""
    said = dig(results, "curves", "trained_once")
    return not dig(results, "config", "incremental") if said is None else bool(said)


def global_level(results: Results, metric: str) -> Any:
    """Global Elo never learns: its one value, on the prompts that the curves were measured on."""
    if dig(results, "curves", "points"):
        return dig(results, "cross_validated", "global_elo", metric, "mean")
    return dig(results, "final", "global_elo", metric)


def curve_limits(results: Results, metrics: Iterable[str]) -> tuple[float, float]:
    """One y-range for all of ``metrics``: everything drawn fits, and noise is not blown up to fill it."""
    values = [level for metric in metrics if is_number(level := global_level(results, metric))]
    for metric in metrics:
        for system in CONTENDERS:
            values += [v for part in learning_curve(results, system, metric)[1:] for v in part if not math.isnan(v)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = max(0.05 * (high - low), (0.3 - (high - low)) / 2)
    return low - margin, high + margin


def _curve_label(results: Results, system: str) -> str:
    return f"{SYSTEMS[system]} (trained once)" if _is_level(results, system) else SYSTEMS[system]


def _is_level(results: Results, system: str) -> bool:
    return system == "reward_model" and trained_once(results)


def curve_remark(results: Results) -> str:
    """What the curves were measured on."""
    if not dig(results, "curves", "points"):
        return f"Documented split: {split(results)}."
    if results.get("people"):
        return (
            "Cross-validated: every prompt a test prompt once; whoever has fewer votes keeps all. Bands: 95 % interval "
            "of the mean over people, clustered by person and prompt."
        )
    return "Cross-validated: every prompt a test prompt once. Bands: 95 % interval of the mean over prompts."


# ── Comparison of metrics ────────────────────────────────────────────────────────────────────────────────


def plot_metric_comparison(results: Results, path: Path) -> None:
    """Write the comparison of all systems on all metrics as PNG."""
    write_png(build_metric_comparison(results), path)


def build_metric_comparison(results: Results) -> Figure:
    """A panel for each metric that is defined, with one row a system: cross-validated mean, its interval, and the
    documented split."""
    shown = [metric for metric in METRICS if _is_compared(results, metric)] or ["ranking_accuracy"]
    width = 11.0 if len(shown) > 2 else 7.2
    figure = titled_figure(width, 4.1, f"Metrics, persona {_persona(results)}", results.get("label"))
    panels: Sequence[Axes] = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, shown, strict=True):
        comparison_panel(axes, results, metric)
    for scale in (CORRELATIONS, ACCURACIES):
        alike = [axes for axes, metric in zip(panels, shown, strict=True) if metric in scale]
        ranges = [axes.get_xlim() for axes in alike]
        for axes in alike:
            axes.set_xlim(min(low for low, _ in ranges), max(high for _, high in ranges))
    legend_below(figure, 2)
    return figure


def _is_compared(results: Results, metric: str) -> bool:
    """True where any system has a figure of this metric."""
    figures = (
        figure
        for system in SYSTEMS
        for figure in (dig(results, "final", system, metric), dig(results, "cross_validated", system, metric, "mean"))
    )
    return any(map(is_number, figures))


def comparison_panel(axes: Axes, results: Results, metric: str) -> None:
    """Every system's mean with its 95 % interval as a row, the documented split as a hollow mark."""
    systems = [s for s in SYSTEMS if dig(results, "cross_validated", s) or dig(results, "final", s)]
    folds = number(dig(results, "config", "folds"), 0)
    hollow: dict[str, Any] = {"linestyle": "", "marker": "d", "mfc": "none", "mec": INK, "ms": 5}
    axes.plot([], [], color=INK, marker="o", linewidth=2, label=f"cross-validated ({folds} folds), 95 % interval")
    axes.plot([], [], label=f"documented split ({split(results)})", **hollow)
    for row, system in enumerate(systems):
        _estimate(axes, row, dig(results, "cross_validated", system, metric) or {}, STYLES.get(system, OTHER_STYLE))
        once = dig(results, "final", system, metric)
        if is_number(once):
            axes.plot(once, row + 0.28, **hollow)
    if metric in CORRELATIONS:
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(systems)), [SYSTEMS[system] for system in systems])
    axes.set_ylim(len(systems) - 0.4, -0.6)
    dress(axes, "", METRICS[metric])


def _estimate(axes: Axes, row: float, cell: Mapping[str, Any], style: Mapping[str, Any], label: str = "") -> None:
    mean, bounds = cell.get("mean"), cell.get("ci95")
    if not is_number(mean):
        return
    if bounds and all(map(is_number, bounds)):
        axes.hlines(row, bounds[0], bounds[1], color=style["color"], linewidth=2)
    axes.plot(mean, row, linestyle="", marker=style["marker"], color=style["color"], ms=6.5, label=label or None)


# ── Training history ─────────────────────────────────────────────────────────────────────────────────────


def plot_training_history(results: Results, path: Path) -> None:
    """Write both losses per epoch as PNG."""
    write_png(build_training_history(results), path)


def build_training_history(results: Results) -> Figure:
    """Both losses of the reward head after each epoch."""
    figure = titled_figure(7.2, 4.2, f"Training of the reward model, persona {_persona(results)}", results.get("label"))
    history_panel(figure.subplots(), results)
    legend_below(figure, 3)
    return figure


def history_panel(axes: Axes, results: Results) -> None:
    """Cross-entropies in nats, unweighted; the regularization enters the sum with λ."""
    history = results.get("training_history") or {}
    weight = dig(results, "config", "lambda_reg")
    with_weight = f" (enters with λ = {weight:g})" if is_number(weight) else ""
    kinds = {
        "preference_loss": ("Preferences", "reward_model"),
        "regularization_loss": (f"Rank regularization{with_weight}", "elo_offset"),
    }
    for key, (label, style) in kinds.items():
        losses = floats(history.get(key) or ())
        axes.plot(range(1, len(losses) + 1), losses, label=label, markevery=max(1, len(losses) // 12), **line(style))
    axes.axhline(COIN_FLIP, label="Coin flip (ln 2)", **line("global_elo", marker=""))
    whole_ticks(axes)
    dress(axes, "Cross-entropy (nats)", "Epoch")


# ── All personas ─────────────────────────────────────────────────────────────────────────────────────────


def plot_personas(all_results: Results, path: Path) -> None:
    """Write both systems per persona, and how alike the personas' preferences are, as PNG."""
    write_png(build_personas(all_results), path)


def build_personas(all_results: Results) -> Figure:
    """``all_results``: {"personas": {NAME: results}, "similarity": {NAME: {NAME: τ}}, "label"}."""
    names = list(all_results.get("personas") or ())
    figure = titled_figure(10.4, max(4.2, 1.9 + 0.5 * len(names)), "All personas", all_results.get("label"))
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _personas_panel(left, all_results)
    _similarity_panel(right, all_results.get("similarity") or {})
    legend_below(figure, 3)
    return figure


def _personas_panel(axes: Axes, all_results: Results) -> None:
    personas = all_results.get("personas") or {}
    for row, results in enumerate(personas.values()):
        for system, shift in (("elo_offset", -0.18), ("reward_model", 0.0), ("global_elo", 0.18)):
            cell = dig(results, "cross_validated", system, "kendall_tau") or {}
            _estimate(axes, row + shift, cell, STYLES[system], SYSTEMS[system] if row == 0 else "")
    axes.set_yticks(range(len(personas)), [short(name) for name in personas], parse_math=False)
    axes.set_ylim(len(personas) - 0.5, -0.5)
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    dress(axes, "", "Kendall's τ, cross-validated, 95 % interval")


def _similarity_panel(axes: Axes, similarity: Mapping[str, Mapping[str, Any]]) -> None:
    if not similarity:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "Similarity was not judged", ha="center", **TEXT)
        return
    names = list(similarity)
    cells = [floats(dig(similarity, a, b) for b in names) for a in names]
    image = axes.imshow(cells, vmin=-1, vmax=1, cmap="cividis", aspect="auto")
    for i, row in enumerate(cells):
        for j, value in enumerate(row):
            ink = "black" if value > 0 or math.isnan(value) else "white"
            axes.text(j, i, number(value, 2), ha="center", va="center", fontsize=9, color=ink)
    labels = [short(name) for name in names]
    axes.set_yticks(range(len(names)), labels, parse_math=False, fontsize=9)
    slanted: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), labels, parse_math=False, fontsize=9, **slanted)
    axes.set_title("How alike the preferences are (Kendall's τ)", **TEXT)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.05)
    bar.ax.tick_params(labelsize=8)


# ── What they share ──────────────────────────────────────────────────────────────────────────────────────


def _legend(key: Axes, source: Axes, remark: str) -> None:
    handles, labels = source.get_legend_handles_labels()
    key.legend(handles, labels, loc="upper left", frameon=False, fontsize=9.5, labelcolor=INK, handlelength=3.5)
    key.text(0.04, 0.6, "\n".join(textwrap.wrap(remark, 38)), va="top", **TEXT)


def _persona(results: Results) -> str:
    return short(results.get("persona") or "–")
