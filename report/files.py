"""The files of a run: results, plots and report, those of an earlier run kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import config
from core.files import as_json, keep_previous, write_atomically
from report import plots
from report.page import render_personas, render_report
from report.words import Document

PLOTS = {
    config.CURVES_PLOT: plots.learning_curves,
    config.COMPARISON_PLOT: plots.metric_comparison,
    config.HISTORY_PLOT: plots.training_history,
}


def write_results(document: Document, results_dir: Path) -> list[Path]:
    """Write all files of a run. Returns their paths."""
    name, write = document["persona"], partial(_write, results_dir)
    return [
        write(config.RESULTS_FILE, name, as_json(document)),
        write(config.HISTORY_FILE, name, as_json(document["training_history"])),
        *(write(file, name, plots.png(figure, document)) for file, figure in PLOTS.items()),
        write(config.REPORT_FILE, name, render_report(document)),
    ]


def write_together(together: Document, results_dir: Path) -> list[Path]:
    """Write the files of all personas together. Returns their paths."""
    write = partial(_write, results_dir)
    return [
        write(config.RESULTS_FILE, "all", as_json(together)),
        write(config.REPORT_FILE, "all", render_personas(together)),
    ]


def _write(folder: Path, file: str, name: str, content: bytes | str) -> Path:
    """Move the file of an earlier run to ``previous/`` and write this one's, which is made by now: no plot or template
    that fails loses anything."""
    path = folder / file.format(name=name)
    keep_previous(path)
    write_atomically(path, content)
    return path
