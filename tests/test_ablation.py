"""The table of ablations: which variants it has, where they are trained, and what each gains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from planted import MODELS, RATINGS, TRAIN, make_features, planted_likes, preferences

from config import ExperimentConfig, Persona
from core.records import GroundTruth, Prompt, Rating
from data_generation import Data
from evidence.design import design, make_systems
from evidence.experiment import ABLATIONS, ablation_table
from llm.embedded import EmbeddedModel
from stages.tasks import Job


def test_the_table_has_every_variant_once_trained_on_the_device_of_the_features(devices: set[str]) -> None:
    features = replace(make_features(has_score=False), device="cuda")
    params = ExperimentConfig(num_prompts=10, max_epochs=1, lambda_reg=0.3)
    ratings = {model: Rating(model, elo, "") for model, elo in RATINGS.items()}
    job = Job("p", Persona(), {}, "judge", EmbeddedModel(), params, Path(), ratings=ratings)
    liked = planted_likes(features, 1.0, 1.0, 0.0, seed=1)
    ids, prompts = TRAIN[:10], tuple(Prompt(p, p) for p in TRAIN[:10])
    truths = tuple(GroundTruth(p, {m: liked[p, m] for m in MODELS}) for p in ids)
    judged = tuple(p for p in preferences(liked) if p.prompt_id in ids)
    data = Data(prompts, (), (), judged, truths, planned=ids)
    rows = ablation_table(params, make_systems(job, data, features), design(data, params))
    repeated = {"Reward model, λ = 0.3", "Reward model, no base score", "Combined, no base score"}
    assert [row["name"] for row in rows] == [name for name in ABLATIONS if name not in repeated]
    assert devices == {"cuda"} and rows[0]["difference"]["difference"] is None
    first, last = (row["kendall_tau"]["mean"] for row in (rows[0], rows[-1]))
    assert rows[-1]["difference"]["difference"] == pytest.approx(last - first, abs=1e-4)
