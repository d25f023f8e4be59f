"""What the rows of bench.py share: a figure is measured as pairs, ours and the reference by turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``ours`` and ``reference`` are medians, ``spread`` the least and greatest ratio of a pair."""

    name: str
    ours: float
    reference: float
    ratio: float
    spread: tuple[float, float]
    pairs: int
    target: str
    note: str = ""


def seconds(job: Callable[[], object]) -> float:
    """How long one call took."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def compare(
    name: str, ours: Callable[[], float], reference: Callable[[], float], pairs: int, target: str, note: str = ""
) -> Row:
    """ours / reference over pairs measured by turns; both return their figure."""
    measured = [(ours(), reference()) for _ in range(pairs)]
    ratios = [a / b for a, b in measured]
    a, b = (float(np.median(column)) for column in zip(*measured, strict=True))
    return Row(name, a, b, float(np.median(ratios)), (min(ratios), max(ratios)), pairs, target, note)
