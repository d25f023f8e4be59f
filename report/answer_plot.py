"""The picture of the answer: every model's win rate with its interval, those that may be the best in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from report.plots import BLUE, GREY, short
from report.words import Document

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def leaderboard(document: Document) -> Figure:
    """One row a model, best first; the line is what chance alone would win."""
    from matplotlib.figure import Figure

    rows = document["leaderboard"]
    figure = Figure((4.2, 0.75 + 0.28 * max(2, len(rows))), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        color = BLUE if row["places"]["lo"] == 1 else GREY
        axes.hlines(place, *(100.0 * bound for bound in row["win_rate"]["ci95"]), color=color, linewidth=3)
        axes.plot(100.0 * row["win_rate"]["mean"], place, marker="o", color=color, ms=7)
    axes.axvline(50.0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=0)
    axes.set_yticks(range(len(rows)), [short(row["model"]) for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0.0, 100.0), xlabel="Comparisons won, %")
    axes.grid(False, axis="y")
    return figure
