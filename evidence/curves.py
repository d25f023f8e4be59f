"""Learning curves of the contenders, and the two hypotheses put to the test with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import evaluation
from config import ExperimentConfig
from core.ranking import Ranker
from elo_system import EloSystem
from evaluation import CurveFold, Curves
from evidence import hypotheses
from evidence.baselines import BradleyTerry
from evidence.design import Design, Systems
from evidence.intervals import Groups, mean_interval

ORDERS = 3  # of the preferences, that a cross-validated curve is averaged over
NEEDS_CURVES = "Learning curves need --incremental."


def on_the_split(contenders: Sequence[Ranker], plan: Design, params: ExperimentConfig) -> list[dict[str, Any]]:
    """Every contender's metrics on the documented split after every so many preferences."""
    fold = CurveFold(plan.train_ids, [plan.training.preferences], plan.test_truths)
    found = {system.name: _curves(system, [fold], params).points for system in contenders}
    return [
        {"preferences": points[0].preferences}
        | {name: point.metrics.as_dict() for name, point in zip(found, points, strict=True)}
        for points in zip(*found.values(), strict=True)
    ]


def cross_validated(system: Ranker, plan: Design, params: ExperimentConfig) -> Curves:
    """A system's curves with every prompt a test prompt once."""
    folds = evaluation.curve_folds(plan.preferences, plan.truths, plan.folds, ORDERS, params.random_seed)
    return _curves(system, folds, params)


def _curves(system: Ranker, folds: Sequence[CurveFold], params: ExperimentConfig) -> Curves:
    """Trained at each point where the run is incremental, and System A always: it learns by updates."""
    once = not (params.incremental or isinstance(system, EloSystem))
    return evaluation.learning_curves(system, folds, params.evaluation_frequency, once=once)


def bands(curves: Curves, folds: Sequence[Sequence[str]]) -> dict[str, dict[str, list[float | None]]]:
    """Mean over orders and prompts at each point, with the 95 % interval over prompts."""
    fold = hypotheses.fold_of(folds)
    groups = Groups([fold[p] for p in curves.prompt_ids])
    found: dict[str, dict[str, list[float | None]]] = {}
    for metric, values in curves.values.items():
        by_prompt = values.mean(0)  # [points, prompts]
        intervals = [mean_interval(row, *evaluation.BOUNDS[metric], groups) for row in by_prompt]
        found[metric] = {
            "mean": by_prompt.mean(1).tolist() if curves.prompt_ids else [None] * len(by_prompt),
            "lo": [i[0] if i else None for i in intervals],
            "hi": [i[1] if i else None for i in intervals],
        }
    return found


def put_to_test(
    systems: Systems, curves: Mapping[str, Curves], plan: Design, params: ExperimentConfig
) -> dict[str, Any]:
    """H1 from the cross-validated ``curves`` and H2 with each contestant held out of training in turn, both on Systems
    B and C."""
    models = list(systems.elo.ratings)
    unrated = EloSystem(dict.fromkeys(models), params.elo_k)

    def placed(system: Ranker) -> list[hypotheses.Placement]:
        return hypotheses.held_out_placements(system, plan.preferences, plan.truths, plan.folds, models)

    quicker, placing, tested = {}, {}, {}
    if params.incremental:
        quicker = {"from_arena": curves["elo_offset"], "from_flat": cross_validated(unrated, plan, params)}
    for key, rival in (("against_elo", systems.elo), ("against_others_mean", BradleyTerry(models))):
        placing[key] = rival.name, placed(rival)
    for system in (systems.reward, systems.combined):
        name, curve = system.name, curves[system.name]
        tested[name] = {
            "sample_efficiency": hypotheses.sample_efficiency(quicker, curve, plan.folds, name)
            if quicker
            else hypotheses.not_tested(NEEDS_CURVES),
            "generalization": hypotheses.generalization(placing, placed(system), name),
        }
    return {**tested["reward_model"], "combined": tested["combined"]}
