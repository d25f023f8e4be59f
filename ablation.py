"""The table of baselines and ablations, on the same folds and draws as the main result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from config import ExperimentConfig
from dataset import Data
from features import Features


def ablation_table(
    data: Data,
    features: Features,
    ratings: Mapping[str, float | None],
    settings: ExperimentConfig,
    parts: Sequence[Sequence[str]],
) -> list[dict[str, Any]]:
    """[{name, METRIC: {mean, ci95}}], one row a variant, cross-validated on ``parts``."""
    raise NotImplementedError
