"""The table of baselines and ablations, on the same folds and draws as the main result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import evaluation
from base.features import Features
from config import EXPERIMENT_CONFIG, ExperimentConfig
from core.ranking import Ranker
from core.records import Judgement, Preference
from data_generation import Data
from elo_system import EloSystem
from evidence import hypotheses
from evidence.baselines import (
    BaseReward,
    BradleyTerry,
    BradleyTerryArenaPrior,
    GlobalElo,
    LongestResponse,
    RandomRanking,
)
from reward_model import RewardModel

LAMBDAS = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0)
REFERENCE = "Reward model"
"""What the other rows are compared with: it stands first."""

Ratings = Mapping[str, float | None]


@dataclass(frozen=True)
class Variant:
    """One row: what is trained, and on which preferences."""

    name: str
    ranker: Ranker
    preferences: Sequence[Preference]


def ablation_table(
    data: Data, features: Features, ratings: Ratings, params: ExperimentConfig, parts: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """[{name, METRIC: {mean, ci95}, difference: {difference, ci95, p_value}}], one row a variant.

    Every prompt is a test prompt once, in the folds ``parts``. ``difference``: mean τ minus that of the first row, the
    reward model as configured, paired by prompt; it is not in that row. The truth is the same for all.
    """
    crossed = {}
    for variant in variants(data, features, ratings, params):
        found = evaluation.cross_validate([variant.ranker], variant.preferences, data.truths, parts)
        crossed[variant.name] = found[variant.ranker.name]
    table = hypotheses.cross_validated(crossed, parts)
    rows: list[dict[str, Any]] = [{"name": name, **metrics} for name, metrics in table.items()]
    for row in rows[1:]:
        gain = hypotheses.improvement(crossed, parts, params.random_seed, better=row["name"], worse=rows[0]["name"])
        row["difference"] = hypotheses.difference_json(gain["kendall_tau"])
    return rows


def variants(data: Data, features: Features, ratings: Ratings, params: ExperimentConfig) -> Iterator[Variant]:
    """All rows of the table, the reward model as configured first. Names have at most 38 characters."""
    yield Variant(f"{REFERENCE}, λ = {params.lambda_reg:g}", RewardModel(features, ratings, params), data.preferences)
    for name, ranker in _baselines(data, features, ratings, params):
        yield Variant(name, ranker, data.preferences)
    for name, changes in _changes(features, params):
        changed = dataclasses.replace(params, **changes)
        yield Variant(f"{REFERENCE}, {name}", RewardModel(features, ratings, changed), data.preferences)
    once = one_order(data.preferences, data.judgements, params.random_seed)
    if once:
        yield Variant(f"{REFERENCE}, judged in one order", RewardModel(features, ratings, params), once)
        yield Variant("Elo offset, judged in one order", EloSystem(ratings, params.elo_k), once)


def _baselines(
    data: Data, features: Features, ratings: Ratings, params: ExperimentConfig
) -> Iterator[tuple[str, Ranker]]:
    yield "Elo offset", EloSystem(ratings, params.elo_k)
    yield "Global Elo", GlobalElo(ratings)
    yield "Untouched base", BaseReward({key: float(features.base_score[row]) for key, row in features.index.items()})
    yield "Bradley–Terry, own preferences", BradleyTerry(list(ratings))
    yield "Bradley–Terry with the Arena prior", BradleyTerryArenaPrior(ratings)
    yield "Longest response", LongestResponse({(r.prompt_id, r.model): float(len(r.text)) for r in data.responses})
    yield "Random", RandomRanking(list(ratings), params.random_seed)


def _changes(features: Features, params: ExperimentConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is changed of the configured reward model, one thing at a time."""
    for weight in LAMBDAS:
        if weight != params.lambda_reg:
            yield f"λ = {weight:g}", {"lambda_reg": weight}
    weight = params.lambda_reg or EXPERIMENT_CONFIG.lambda_reg  # without a weight there is no regularizer to change
    for regularizer, title in (("ranknet", "RankNet"), ("listmle", "ListMLE")):
        yield f"{title}, λ = {weight:g}", {"lambda_reg": weight, "regularizer": regularizer}
    yield "linear head", {"hidden_width": 0}
    if features.has_score:
        yield "no base score", {"base_score": False}


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
