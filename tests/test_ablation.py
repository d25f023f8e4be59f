"""The table of ablations: which variants it has, on which folds, and what each gains."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from base.features import Features
from config import ExperimentConfig, Persona
from core.records import GroundTruth, Preference, Prompt, Rating, Response
from data_generation import Data
from evidence.design import design, make_systems
from evidence.experiment import ABLATIONS, ablation_table
from llm.embedded import EmbeddedModel
from stages.tasks import Job

RATINGS = {model: Rating(model, elo, "") for model, elo in zip("abcd", (1300.0, 1200.0, 1100.0, 1000.0), strict=True)}
PROMPTS = tuple(f"p{i:02d}" for i in range(10))


def make_data() -> Data:
    """A judge that likes d best, then c, …: the Arena's order upside down."""
    preferences = tuple(Preference(p, a, b, 0.0) for p in PROMPTS for a, b in combinations(RATINGS, 2))
    truths = tuple(GroundTruth(p, {m: float(i) for i, m in enumerate(RATINGS)}) for p in PROMPTS)
    responses = tuple(Response(p, m, "x" * (ord(m) - 90)) for p in PROMPTS for m in RATINGS)
    return Data(tuple(Prompt(p, p) for p in PROMPTS), responses, (), preferences, truths, planned=PROMPTS)


def make_features(*, has_score: bool) -> Features:
    """States that show which model wrote a text, and more."""
    states = np.random.default_rng(0).normal(size=(40, 40)).astype("f4")
    states[:, :4] += 3.0 * np.eye(4)[np.arange(40) % 4]
    index = {(PROMPTS[i // 4], "abcd"[i % 4]): i for i in range(40)}
    return Features(index, states, states, states[:, 0] * has_score, has_score, "tiny")


@pytest.mark.parametrize("has_score", [True, False])
def test_the_table_has_every_variant_once_trained_on_the_device_asked_for(has_score: bool, devices: set[str]) -> None:
    params = ExperimentConfig(num_prompts=10, max_epochs=1, lambda_reg=0.3)
    job = Job("p", Persona(), {}, "judge", EmbeddedModel(), params, Path(), ratings=RATINGS, device="cuda")
    data = make_data()
    rows = ablation_table(job, make_systems(job, data, make_features(has_score=has_score)), design(data, params))
    assert devices == {"cuda"}
    table = {row["name"]: row for row in rows}
    repeated = {"Reward model, λ = 0.3"}
    if not has_score:
        repeated |= {"Reward model, no base score", "Combined, no base score"}
    assert list(table) == [name for name in ABLATIONS if name not in repeated]
    assert rows[0]["difference"]["difference"] is None
    first, last = (row["kendall_tau"]["mean"] for row in (rows[0], rows[-1]))
    assert rows[-1]["difference"]["difference"] == pytest.approx(last - first, abs=1e-4)
