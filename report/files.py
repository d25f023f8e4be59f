"""The files of a run: results, plots and report, those of an earlier run kept."""

from __future__ import annotations

from pathlib import Path

import config
from core.files import keep_previous, write_atomically, write_json
from report import plots
from report.page import render_personas, render_report
from report.words import Document

PLOTS = {
    config.CURVES_PLOT: plots.learning_curves,
    config.COMPARISON_PLOT: plots.metric_comparison,
    config.HISTORY_PLOT: plots.training_history,
}


def write_results(document: Document, results_dir: Path) -> list[Path]:
    """Write all files of a run, those of an earlier run moved to ``previous/`` first. Returns their paths.

    What was measured is written before anything is drawn: no plot that fails can lose it.
    """
    names = [config.RESULTS_FILE, config.HISTORY_FILE, *PLOTS, config.REPORT_FILE]
    paths = {name: results_dir / name.format(name=document["persona"]) for name in names}
    keep_previous(paths.values())
    write_json(paths[config.RESULTS_FILE], document)
    write_json(paths[config.HISTORY_FILE], document["training_history"])
    for name, figure in PLOTS.items():
        write_atomically(paths[name], plots.png(figure, document))
    write_atomically(paths[config.REPORT_FILE], render_report(document))
    return list(paths.values())


def write_together(together: Document, results_dir: Path) -> list[Path]:
    """Write the files of all personas together. Returns their paths."""
    results, page = (results_dir / name.format(name="all") for name in (config.RESULTS_FILE, config.REPORT_FILE))
    keep_previous([results, page])
    write_json(results, together)
    write_atomically(page, render_personas(together))
    return [results, page]
