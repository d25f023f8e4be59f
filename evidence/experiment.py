"""Everything that is measured of one persona's data, as the results document.

document = measure(job, data, systems, clock)     # systems: evidence.design.make_systems
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import config
import evaluation
from combined import Combined
from config import ExperimentConfig
from core.clock import Clock
from core.ranking import Ranker
from core.records import Preference
from data_generation import Data
from elo_system import EloSystem
from evaluation import CurveFold, Curves, Metrics
from evidence import hypotheses, leaderboard
from evidence.baselines import BradleyTerry
from evidence.design import Design, Systems, design
from evidence.document import Document, make_document, training_history
from evidence.intervals import difference_json
from evidence.judge_quality import TIE, agreement, agreement_with_person, judge_quality
from report.words import CONTENDERS
from reward_model import RewardModel
from stages.tasks import Job

EXAMPLES = 3  # test prompts shown with all their responses
ORDERS = 2  # of the preferences, that a cross-validated curve is averaged over
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "Reward model": {},
    "Combined": {},
    **{f"Reward model, λ = {weight:g}": {"lambda_reg": weight} for weight in (0.0, 0.01, 0.1, 0.3, 1.0, 3.0)},
    "Reward model, linear head": {"hidden_width": 0},
    "Reward model, no base score": {"base_score": False},
    "Combined, no strength of a model": {"prior_models": 0.0},
    "Combined, no taste in texts": {"prior_texts": 0.0},
    "Combined, no base score": {"base_score": False},
    "Combined, no Arena": {},
}
"""Variants of Systems B and C, both as configured first, and what each changes in the parameters."""


def measure(job: Job, data: Data, systems: Systems, clock: Clock, own: Sequence[Preference] = ()) -> Document:
    """Measure who is best, the documented split, the cross-validation, H1 and H2: the results document.

    ``own``: a person's own votes on the same responses. Trains the systems; they end up fitted on the documented split.
    """
    params, plan = job.params, design(data, job.params)
    elo = {model: rating.elo for model, rating in systems.ratings.items()}
    with clock.stage("training"):
        for ranker in systems.every:
            ranker.fit(plan.training, prompt_ids=plan.train_ids)
        final = {r.name: evaluation.per_prompt(r, plan.test_truths) for r in systems.every}
        fold = CurveFold(plan.train_ids, [plan.training], plan.test_truths)
        split = _curves(systems, [fold], params, final)
    with clock.stage("cross_validation"):
        crossed = evaluation.cross_validate(systems.every, plan.preferences, plan.truths, plan.folds)
    with clock.stage("hypotheses"):
        folds = evaluation.curve_folds(plan.preferences, plan.truths, plan.folds, ORDERS, params.random_seed)
        curves = _curves(systems, folds, params, crossed)
        tested = put_to_test(systems, curves, folds, plan, params)
    with clock.stage("ablation"):
        ablations = ablation_table(params, systems, plan) if job.ablate else []
    measured = {
        "main_metric": "kendall_tau",
        "counts": counts(data, params),
        "judge_quality": {
            **judge_quality(data.judgements, data.responses, job.judging_contestant),
            "listwise_agreement": agreement(data.truths, data.listwise),
            "agreement_with_person": agreement_with_person(own, data.preferences),
        },
        "final": {name: evaluation.mean_metrics(found.values())._asdict() for name, found in final.items()},
        **hypotheses.compared(hypotheses.scores_of(crossed, plan.folds), "kendall_tau"),
        "learning_curve": [
            {"preferences": points[0][0]} | {name: m._asdict() for name, (_, m) in zip(split, points, strict=True)}
            for points in zip(*(curve.points for curve in split.values()), strict=True)
        ],
        "curves": {
            "points": list(curves["elo_offset"].counts),
            "trained_once": not params.incremental,
            **{name: hypotheses.bands(curve, plan.folds) for name, curve in curves.items()},
        },
        "hypotheses": tested,
        "per_prompt": per_prompt(crossed, plan.folds, data),
        "examples": examples(systems, data, plan),
        "people": None,
        "training_history": training_history(systems.reward.history),
        "ablation": ablations,
        "timings_s": clock.seconds,
    }
    job = replace(job, notes=(*job.notes, *answer_notes(job, data)))
    answer = leaderboard.answer(data.preferences, data.responses, elo, params.random_seed, job.sizes)
    return make_document(job, systems.features, list(systems.ratings.values()), answer, measured)


def answer_notes(job: Job, data: Data) -> list[str]:
    """A note on the answers that met the length limit, by model: a cut answer loses. A note on speeds that are none of
    the server's own."""
    notes, limit = [], job.params.num_predict
    cut, given = (Counter(r.model for r in data.responses if r.truncated or every) for every in (False, True))
    if cut and job.llm.backend != "embedded":  # whose recorded answers are nearly all cut, at a limit chosen for that
        shares = ", ".join(f"{model}: {n} of {given[model]}" for model, n in cut.most_common())
        notes.append(f"{shares} answers cut at {limit} tokens: --num_predict {2 * limit}")
    if at_once := max(r.side_by_side for r in data.responses):
        notes.append(f"Tok/s as asked, {at_once} side by side, where the server does not tell its own")
    return notes


def counts(data: Data, params: ExperimentConfig) -> dict[str, Any]:
    """Numbers of all records; ``preferences`` and ``ties`` are those that train, ``left_out`` by kind."""
    plan = design(data, params)
    near = TIE if any(not j.ordered or j.log_odds is not None for j in data.judgements) else 0.0
    # in words a pair that turns with the order is no tie
    said = {(j.prompt_id, j.first, j.second) for j in data.judgements if near or j.outcome == 0.5}
    return {
        "prompts": len(data.prompts),
        "train_prompts": len(plan.train_ids),
        "test_prompts": len(plan.test_ids),
        "pairs": len(plan.preferences),
        "preferences": len(plan.training),
        "ties": sum(
            abs(p.outcome - 0.5) <= near and (p.prompt_id, p.model_a, p.model_b) in said for p in plan.training
        ),
        "ground_truth_rankings": len(plan.test_truths),
        "judge_calls": len(data.judgements),
        "truncated_responses": sum(r.truncated for r in data.responses),
        "shortened_responses": data.shortened,
        "texts_with_chat_markers": data.with_markers,
        "left_out": {what: data.left_out.get(what, 0) for what in ("prompts", "responses", "pairs", "rankings")},
    }


# ── Learning curves, hypotheses, ablations ───────────────────────────────────────────────────────────────


def _curves(
    systems: Systems, folds: Sequence[CurveFold], params: ExperimentConfig, once: Mapping[str, Mapping[str, Metrics]]
) -> dict[str, Curves]:
    """System A's curve, which learns by updates, and where the run is incremental B's and C's, trained at each point;
    else the level of their one training, of which ``once`` has {system: {prompt id: metrics}}."""
    every = params.evaluation_frequency
    found = {systems.elo.name: evaluation.learning_curves(systems.elo, folds, every)}
    for system in (systems.reward, systems.combined):
        if params.incremental:
            found[system.name] = evaluation.learning_curves(system, folds, every)
        else:
            found[system.name] = evaluation.level(once[system.name], found[systems.elo.name].counts)
    return found


def put_to_test(
    systems: Systems, curves: Mapping[str, Curves], folds: Sequence[CurveFold], plan: Design, params: ExperimentConfig
) -> dict[str, Any]:
    """H1 from the ``curves`` cross-validated on ``folds``, and H2 with each contestant held out of training in turn,
    both on Systems B and C."""
    models = list(systems.ratings)
    placed = {
        system.name: hypotheses.held_out(system, plan.preferences, plan.truths, plan.folds, models)
        for system in (*systems.contenders, BradleyTerry(models))
    }
    if params.incremental:
        flat = EloSystem(dict.fromkeys(models), params.elo_k)
        curves = {**curves, "from_flat": evaluation.learning_curves(flat, folds, params.evaluation_frequency)}
    tested = {
        name: {
            "sample_efficiency": hypotheses.sample_efficiency(curves, name, plan.folds)
            if params.incremental
            else hypotheses.not_tested("Learning curves need --incremental."),
            "generalization": hypotheses.generalization(placed, name),
        }
        for name in ("reward_model", "combined")
    }
    return {**tested["reward_model"], "combined": tested["combined"]}


def ablation_table(base: ExperimentConfig, systems: Systems, plan: Design) -> list[dict[str, Any]]:
    """[{name, kendall_tau: {mean, ci95}, difference: {difference, ci95, p_value}}], one row a variant.

    ``difference``: mean τ minus that of the first row, the reward model as configured, paired by prompt; null in that
    row.
    """
    features, given = systems.features, {model: rating.elo for model, rating in systems.ratings.items()}
    crossed, first = {}, next(iter(ABLATIONS))
    for name, changes in ABLATIONS.items():
        params, ratings = replace(base, **changes), given if "Arena" not in name else dict.fromkeys(given)
        if changes and (params == base or ("base score" in name and not features.has_score)):
            continue  # it would repeat another row
        ranker: Ranker = Combined(features, ratings, params)
        if name.startswith("Reward model"):
            ranker = RewardModel(features, ratings, params)
        found = evaluation.cross_validate([ranker], plan.preferences, plan.truths, plan.folds)
        crossed[name] = found[ranker.name]
    tau = hypotheses.scores_of(crossed, plan.folds)["kendall_tau"]
    return [
        {
            "name": name,
            "kendall_tau": tau.mean(name),
            "difference": difference_json(tau.gain(name, first) if name != first else None),
        }
        for name in crossed
    ]


# ── Prompt by prompt ─────────────────────────────────────────────────────────────────────────────────────


def per_prompt(
    crossed: Mapping[str, Mapping[str, Metrics]], folds: Sequence[Sequence[str]], data: Data
) -> list[dict[str, Any]]:
    """Cross-validated metrics of the contenders, prompt by prompt."""
    fold, text = hypotheses.fold_of(folds), {p.id: p.text for p in data.prompts}
    return [
        {
            "prompt_id": p,
            "prompt": text[p],
            "fold": fold[p],
            "difference": crossed["reward_model"][p].kendall_tau - metrics.kendall_tau,  # type: ignore[operator]
            **{system: crossed[system][p]._asdict() for system in CONTENDERS},
        }
        for p, metrics in crossed["elo_offset"].items()
    ]


def examples(systems: Systems, data: Data, plan: Design) -> list[dict[str, Any]]:
    """Test prompts with their responses and the place that truth and each contender give each."""
    texts = {(r.prompt_id, r.model): r.text for r in data.responses}
    prompts = {p.id: p.text for p in data.prompts}
    names, shown = ("elo_place", "reward_place", "combined_place"), []
    for truth in plan.test_truths[:EXAMPLES]:
        scores = [truth.scores, *(system.scores(truth.prompt_id) for system in systems.contenders)]
        places = dict(zip(("truth_place", *names), map(_places, scores), strict=True))
        responses = [
            {"model": model, "text": texts[truth.prompt_id, model]}
            | {name: place[model] for name, place in places.items()}
            for model in truth.ranking
        ]
        shown.append({"prompt": prompts[truth.prompt_id], "responses": responses})
    return shown


def _places(scores: Mapping[str, float]) -> dict[str, int]:
    """1 + how many have a higher score; those with the same score share a place."""
    return {model: 1 + sum(other > score for other in scores.values()) for model, score in scores.items()}


def keep_for_readers(job: Job, data: Data, systems: Systems) -> None:
    """Train A and B on every prompt and write them down, for people who look: no run reads them again."""
    preferences = design(data, job.params).preferences
    systems.elo.fit(preferences).save(job.cache_dir / config.ELO_STATE_FILE.format(name=job.name))
    systems.reward.fit(preferences).save(job.cache_dir / config.REWARD_HEAD_FILE.format(name=job.name))


def together(documents: Mapping[str, Document], job: Job) -> dict[str, Any]:
    """The results document of ``--persona all``: every persona's own, and the methods over all their prompts. ``job``:
    any of the personas'."""
    return {
        "schema_version": config.SCHEMA_VERSION,
        "backend": job.llm.backend,
        "label": job.label,
        "judge": job.judge,
        "seed": job.params.random_seed,
        "pooled": hypotheses.pooled(documents),
        "personas": dict(documents),
    }
