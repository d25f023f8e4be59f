"""The files of a run: results, plots and report, those of an earlier run kept; what was learned goes into the cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import config
from core.files import keep_previous, write_atomically
from elo_system import EloSystem
from report import plots
from report.page import write_report
from reward_model import RewardModel


def write_results(
    results: Mapping[str, Any], elo: EloSystem, reward: RewardModel, results_dir: Path, cache_dir: Path
) -> list[Path]:
    """All result files of a run, those of an earlier run moved to ``previous/`` first; what was learned goes into the
    cache. Returns the paths written."""
    name = str(results["persona"])
    names = [
        config.RESULTS_FILE, config.HISTORY_FILE, config.CURVES_PLOT, config.COMPARISON_PLOT, config.HISTORY_PLOT,
        config.REPORT_FILE,
    ]  # fmt: skip
    paths = [results_dir / pattern.format(name=name) for pattern in names]
    keep_previous(paths)
    write_atomically(paths[0], json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    write_atomically(paths[1], json.dumps(results["training_history"], indent=2) + "\n")
    plots.plot_learning_curves(results, paths[2])
    plots.plot_metric_comparison(results, paths[3])
    plots.plot_training_history(results, paths[4])
    write_report(results, paths[5])
    elo.save(cache_dir / config.ELO_STATE_FILE.format(name=name))
    reward.save(cache_dir / config.REWARD_HEAD_FILE.format(name=name))
    return paths
