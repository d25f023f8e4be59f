"""The picture of the answer: every model's win rate with its interval, those that may be the best in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from report.plots import BLUE, GREY, short
from report.words import Document

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def leaderboard(document: Document) -> Figure:
    """One row a model, best first; in colour what the sentence names, hollow what it only can't rule out."""
    from matplotlib.figure import Figure

    rows = document["leaderboard"]
    figure = Figure((4.2, 0.75 + 0.28 * max(2, len(rows))), layout="constrained")
    axes = figure.subplots()
    answer = document["answer"]
    for place, row in enumerate(rows):
        color = BLUE if row["model"] in (answer["best"], *answer["tied_with"]) else GREY
        fill = "none" if row["model"] in answer["unlikely"] else color
        axes.hlines(place, *(100.0 * bound for bound in row["win_rate"]["ci95"]), color=color, linewidth=3)
        axes.plot(100.0 * row["win_rate"]["mean"], place, marker="o", color=color, mfc=fill, ms=7)
    axes.axvline(50.0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=0)
    axes.set_yticks(range(len(rows)), [short(row["model"]) for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0.0, 100.0), xlabel="Wins, %")
    axes.grid(False, axis="y")
    return figure
