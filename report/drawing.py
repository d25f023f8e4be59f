"""Drawing without pyplot: sizes, colours, lines, and how a figure becomes a PNG or a part of a page.

Colours are those of Okabe and Ito (jfly.uni-koeln.de/color); every system also has its own marker and dashes, so that
a print in grey can be read. Nothing here knows what is drawn.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report.words import is_number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200
INK, GRID = "#1b1b1f", "#d9d9de"
BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#6b6b70"
# In a page these follow its light or dark colours.
PAGE_COLOURS = {
    INK: "currentColor",
    GRID: "var(--grid)",
    BLUE: "var(--elo)",
    VERMILION: "var(--reward)",
    GREY: "var(--grey)",
}
STYLES: dict[str, dict[str, Any]] = {
    "elo_offset": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "reward_model": {"color": VERMILION, "marker": "s", "linestyle": (0, (5, 2))},
    "global_elo": {"color": GREY, "marker": "D", "linestyle": (0, (1, 1.5))},
}
OTHER_STYLE: dict[str, Any] = {"color": GREY, "marker": "D", "linestyle": "-"}
TEXT: dict[str, Any] = {"color": INK, "fontsize": 9, "parse_math": False}


def panel_figure(width: float = 4.2, height: float = 2.9) -> tuple[Figure, Axes]:
    """An empty panel of its own, sizes in inches, for ``to_svg``."""
    figure = _canvas(width, height)
    figure.set_layout_engine("constrained")
    return figure, figure.subplots()


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element for a page: its text is the page's, its colours follow light and dark.

    ``name`` must differ from figure to figure in one page, so that their inner references do.
    """
    import matplotlib

    target = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    svg = target.getvalue()
    svg = svg[svg.index("<svg") :]
    # Its style element would hold for the whole page; its metadata names what made it and when.
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(?<=<svg)[^>]*?(viewBox="[^"]*")[^>]*', r' \1 aria-hidden="true"', svg)
    referred = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in referred else "", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for colour, variable in PAGE_COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg.strip()


def _canvas(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def titled_figure(width: float, height: float, title: str, label: object) -> Figure:
    """A figure with its title, the loud label as a note below it, and room for both kept free."""
    figure = _canvas(width, height)
    heading = short(title, int(width * 9))
    note = textwrap.wrap(plain(label or ""), int(width * 15))
    figure.text(0.012, 1 - 0.1 / height, heading, va="top", weight="bold", **{**TEXT, "fontsize": 12})
    figure.text(0.012, 1 - 0.34 / height, "\n".join(note), va="top", **{**TEXT, "fontsize": 8.5})
    top = 1 - (0.38 + 0.15 * len(note)) / height
    # Room in inches around every panel.
    figure.set_layout_engine("constrained", rect=(0, 0, 1, top), w_pad=0.12, h_pad=0.1)
    return figure


def dress(axes: Axes, ylabel: str, xlabel: str) -> None:
    """Labels, a quiet grid and no box."""
    axes.set_xlabel(xlabel, **TEXT)
    axes.set_ylabel(ylabel, **TEXT)
    axes.tick_params(labelsize=9, color=GRID, labelcolor=INK)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(GRID)


def whole_ticks(axes: Axes) -> None:
    """Ticks of the x-axis on whole numbers: there is no half preference and no half epoch."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))


def legend_below(figure: Figure, columns: int) -> None:
    """The first panel's legend below all panels, outside the data."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    look: dict[str, Any] = {"frameon": False, "fontsize": 9, "labelcolor": INK, "handlelength": 3}
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, **look)


def line(system: str, **changes: Any) -> dict[str, Any]:
    """How a system's line looks, as arguments for ``plot``."""
    return {**STYLES[system], "linewidth": 1.8, "markersize": 4.5, **changes}


def floats(values: Iterable[Any]) -> list[float]:
    """Numbers for a plot; what is missing becomes NaN, a gap."""
    return [float(value) if is_number(value) else math.nan for value in values]


def short(text: object, limit: int = 24) -> str:
    """At most ``limit`` characters, the cut visible."""
    whole = plain(text)
    return whole if len(whole) <= limit else f"{whole[: limit - 1]}…"


def write_png(figure: Figure, path: Path) -> None:
    """Write the figure as PNG; a file of that name is replaced only by a whole one."""
    from core.store import write_atomically

    target = io.BytesIO()
    with warnings.catch_warnings():
        # A name in letters that the font lacks shows boxes; nothing that the user could mend.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(target, format="png", dpi=DPI)
    write_atomically(path, target.getvalue())
