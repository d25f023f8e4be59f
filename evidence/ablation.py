"""The table of ablations, on the same folds and draws as the main result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import evaluation
from base.features import Features
from combined import Combined
from config import ExperimentConfig
from core.ranking import Ranker
from core.records import Judgement, Preference
from data_generation import Data
from elo_system import EloSystem
from evidence import hypotheses
from evidence.design import Design
from evidence.intervals import difference_json
from reward_model import RewardModel

LAMBDAS = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0)


def ablation_table(
    data: Data,
    plan: Design,
    features: Features,
    ratings: Mapping[str, float | None],
    params: ExperimentConfig,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """[{name, METRIC: {mean, ci95}, difference: {difference, ci95, p_value}}], one row a variant.

    Names have at most 38 characters. ``difference``: mean τ minus that of the first row, the reward model as
    configured, paired by prompt; it is not in that row. ``device``: where heads are trained.
    """

    def reward(**changes: Any) -> Ranker:
        return RewardModel(features, ratings, dataclasses.replace(params, **changes), device)

    def combined(**changes: Any) -> Ranker:
        return Combined(features, ratings, dataclasses.replace(params, **changes))

    variants = {f"Reward model, λ = {params.lambda_reg:g}": reward(), "Combined": combined()}
    for weight in LAMBDAS:
        if weight != params.lambda_reg:
            variants[f"Reward model, λ = {weight:g}"] = reward(lambda_reg=weight)
    variants["Reward model, linear head"] = reward(hidden_width=0)
    variants["Combined, no strength of a model"] = combined(prior_models=0.0)
    variants["Combined, no taste in texts"] = combined(prior_texts=0.0)
    variants["Combined, no Arena"] = Combined(features, dict.fromkeys(ratings), params)
    if features.has_score:
        variants["Reward model, no base score"] = reward(base_score=False)
        variants["Combined, no base score"] = combined(base_score=False)
    runs = [(name, ranker, plan.preferences) for name, ranker in variants.items()]
    if once := one_order(plan.preferences, data.judgements, params.random_seed):
        runs.append(("Reward model, judged in one order", reward(), once))
        runs.append(("Elo offset, judged in one order", EloSystem(ratings, params.elo_k), once))

    crossed = {}
    for name, ranker, preferences in runs:
        crossed[name] = evaluation.cross_validate([ranker], preferences, plan.truths, plan.folds)[ranker.name]
    scores = hypotheses.scores_of(crossed, plan.folds)
    rows: list[dict[str, Any]] = []
    for name in crossed:
        row: dict[str, Any] = {"name": name, **{metric: one.mean(name) for metric, one in scores.items()}}
        if rows:
            row["difference"] = difference_json(scores["kendall_tau"].gain(name, rows[0]["name"]))
        rows.append(row)
    return rows


def one_order(preferences: Sequence[Preference], judgements: Sequence[Judgement], seed: int) -> tuple[Preference, ...]:
    """What the preferences would be had each pair been shown once, in an order drawn by the seed; empty where the judge
    sees no order. (Always the same of two contestants first would turn position bias into a liking for it.)"""
    seen = {(j.prompt_id, j.first, j.second): j.outcome for j in judgements if j.ordered}
    swap = np.random.default_rng(seed).random(len(preferences)) < 0.5
    shown = []
    for p, swapped in zip(preferences, swap, strict=True):
        forth = seen.get((p.prompt_id, p.model_a, p.model_b))
        back = seen.get((p.prompt_id, p.model_b, p.model_a))
        if forth is not None and back is not None:
            shown.append(dataclasses.replace(p, outcome=1.0 - back if swapped else forth))
    return tuple(shown)
