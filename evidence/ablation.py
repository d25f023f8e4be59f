"""The table of baselines and ablations, on the same folds and draws as the main result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import evaluation
from base.features import Features
from combined import Combined
from config import ExperimentConfig
from core.ranking import Ranker
from core.records import GroundTruth, Judgement, Preference
from data_generation import Data
from elo_system import EloSystem
from evidence import hypotheses
from evidence.baselines import BradleyTerry, base_reward, global_elo, longest_response, random_ranking
from evidence.intervals import difference_json
from reward_model import RewardModel

LAMBDAS = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0)

Ratings = Mapping[str, float | None]


class Variant(NamedTuple):
    """One row: what is trained, and on which preferences."""

    name: str
    ranker: Ranker
    preferences: Sequence[Preference]


def ablation_table(
    data: Data,
    preferences: Sequence[Preference],
    truths: Sequence[GroundTruth],
    features: Features,
    ratings: Ratings,
    params: ExperimentConfig,
    parts: Sequence[Sequence[str]],
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """[{name, METRIC: {mean, ci95}, difference: {difference, ci95, p_value}}], one row a variant.

    ``preferences``: the data's, in the order in which they are learned. Every prompt is a test prompt once, in the
    folds ``parts``. ``difference``: mean τ minus that of the first row, the reward model as configured, paired by
    prompt; it is not in that row. The truth is the same for all.
    """
    crossed = {}
    for variant in variants(data, preferences, features, ratings, params, device):
        found = evaluation.cross_validate([variant.ranker], variant.preferences, truths, parts)
        crossed[variant.name] = found[variant.ranker.name]
    scores = hypotheses.scores_of(crossed, parts)
    rows: list[dict[str, Any]] = []
    for name in crossed:
        row: dict[str, Any] = {"name": name, **{metric: one.mean(name) for metric, one in scores.items()}}
        if rows:
            row["difference"] = difference_json(scores["kendall_tau"].gain(name, rows[0]["name"]))
        rows.append(row)
    return rows


def variants(
    data: Data,
    preferences: Sequence[Preference],
    features: Features,
    ratings: Ratings,
    params: ExperimentConfig,
    device: str = "cpu",
) -> Iterator[Variant]:
    """All rows of the table, the reward model as configured first. Names have at most 38 characters. ``device``: where
    heads are trained."""

    def reward(name: str, **changes: Any) -> Variant:
        """The configured reward model with something changed."""
        changed = dataclasses.replace(params, **changes)
        return Variant(f"Reward model, {name}", RewardModel(features, ratings, changed, device), preferences)

    def combined(name: str, **changes: Any) -> Variant:
        """System C with something changed."""
        changed = dataclasses.replace(params, **changes)
        return Variant(f"Combined, {name}", Combined(features, ratings, changed), preferences)

    yield reward(f"λ = {params.lambda_reg:g}")
    models = list(ratings)
    yield Variant("Elo offset", EloSystem(ratings, params.elo_k), preferences)
    yield Variant("Combined", Combined(features, ratings, params), preferences)
    yield Variant("Global Elo", global_elo(ratings), preferences)
    yield Variant("Untouched base", base_reward(features), preferences)
    yield Variant("Bradley–Terry, own preferences", BradleyTerry(models), preferences)
    yield Variant("Longest response", longest_response(data.responses), preferences)
    yield Variant("Random", random_ranking(models, params.random_seed), preferences)

    for weight in LAMBDAS:
        if weight != params.lambda_reg:
            yield reward(f"λ = {weight:g}", lambda_reg=weight)
    yield reward("linear head", hidden_width=0)
    if features.has_score:
        yield reward("no base score", base_score=False)

    yield combined("no strength of a model", prior_models=0.0)
    yield combined("no taste in texts", prior_texts=0.0)
    if features.has_score:
        yield combined("no base score", base_score=False)
    yield Variant("Combined, no Arena", Combined(features, dict.fromkeys(ratings), params), preferences)

    once = one_order(preferences, data.judgements, params.random_seed)
    if once:
        yield reward("judged in one order")._replace(preferences=once)
        yield Variant("Elo offset, judged in one order", EloSystem(ratings, params.elo_k), once)


def one_order(preferences: Sequence[Preference], judgements: Sequence[Judgement], seed: int) -> list[Preference]:
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
    return shown
