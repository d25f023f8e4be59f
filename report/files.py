"""The files of a run: results, plots and report, those of an earlier run kept."""

from functools import partial
from pathlib import Path

import config
from core.files import as_json, keep_previous, write_atomically
from report import page, plots, words
from report.words import Document


def write_results(document: Document, results_dir: Path) -> list[Path]:
    """Write all files of a run. Returns their paths."""
    write, metrics = partial(_write, results_dir, document["persona"]), words.metrics(document)
    curves = plots.curve_panel, document, metrics, "Learning curves", plots.curve_remark(document)
    return [
        write(config.RESULTS_FILE, as_json(document)),
        write(config.HISTORY_FILE, as_json(document["training_history"])),
        write(config.CURVES_PLOT, plots.png(*curves)),
        write(config.COMPARISON_PLOT, plots.png(plots.comparison_panel, document, metrics, "Metrics")),
        write(
            config.HISTORY_PLOT, plots.png(plots.history_panel, document, ["losses"], "Training of the reward model")
        ),
        write(config.REPORT_FILE, page.render("report", document=document)),
    ]


def write_together(together: Document, results_dir: Path) -> list[Path]:
    """Write the files of all personas together. Returns their paths."""
    write = partial(_write, results_dir, "all")
    return [
        write(config.RESULTS_FILE, as_json(together)),
        write(config.REPORT_FILE, page.render("personas", together=together, report=config.REPORT_FILE)),
    ]


def _write(folder: Path, name: str, file: str, content: bytes | str) -> Path:
    """Move the file of an earlier run to ``previous/`` and write this one's, which is made by now: no plot or template
    that fails loses anything."""
    path = folder / file.format(name=name)
    keep_previous(path)
    write_atomically(path, content)
    return path
