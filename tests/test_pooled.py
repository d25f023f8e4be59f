"""All personas' prompts together: groups are persona and fold, and several weak answers can make a sure one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evaluation import METRICS
from evidence.intervals import paired_difference
from evidence.pooled import pooled


def documents(gain: float, personas: int = 5) -> dict[str, Any]:
    """Personas with 25 prompts each, on which the reward model's metrics are better by about ``gain``."""
    rng, found = np.random.default_rng(0), {}
    for i in range(personas):
        rows = []
        for prompt in range(25):
            elo, more = rng.uniform(0.2, 0.5), gain + 0.3 * rng.uniform(-0.5, 0.5)
            row = {"prompt_id": f"{i}-{prompt}", "fold": prompt % 5, "elo_offset": dict.fromkeys(METRICS, elo)}
            rows.append(row | {"reward_model": dict.fromkeys(METRICS, elo + more)})
        found[f"persona {i}"] = {"per_prompt": rows, "config": {"folds": 5}}
    return found


def test_what_no_persona_shows_alone_all_of_them_show_together() -> None:
    made = documents(0.03)
    one = pooled({"persona 0": made["persona 0"]}, 0)
    whole = pooled(made, 0)
    assert (one["winner"], whole["winner"]) == ("none", "reward_model")
    assert (one["prompts"], whole["prompts"]) == (25, 125)
    assert list(whole["cross_validated"]) == ["elo_offset", "reward_model"]
    gain = whole["comparisons"]["reward_model-elo_offset"]["kendall_tau"]
    means = (whole["cross_validated"][s]["kendall_tau"]["mean"] for s in ("reward_model", "elo_offset"))
    assert gain["difference"] == pytest.approx(float(np.subtract(*means)))


def test_equal_methods_have_no_winner_and_no_personas_no_figures() -> None:
    assert pooled(documents(0.0), 0)["winner"] == "none"
    assert pooled({}, 0) == {"prompts": 0, "cross_validated": {}, "comparisons": {}, "winner": "none"}


def test_the_correction_is_that_of_one_cross_validation() -> None:
    values = np.random.default_rng(1).normal(0.1, 0.3, 100).tolist()
    groups = [(i % 4, i // 4 % 5) for i in range(100)]
    narrow, wide = (paired_difference(values, [0.0] * 100, 0, groups, folds=folds) for folds in (None, 5))
    assert narrow and wide and narrow.difference == wide.difference
    assert wide.ci95[1] - wide.ci95[0] >= narrow.ci95[1] - narrow.ci95[0]
