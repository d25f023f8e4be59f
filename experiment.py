"""One run for one persona: data, both systems, their scores, and the results that everything shown is made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import config
import evaluation
from base.features import Features, compute_features
from cli import learned
from core.findings import About, Findings, Run
from core.ranking import Ranker
from core.records import Prompt, Rating
from elo_system import EloSystem
from evaluation import Metrics
from evidence import hypotheses
from evidence.ablation import ablation_table
from evidence.baselines import BaseReward, BradleyTerry, GlobalElo, LongestResponse, RandomRanking
from evidence.intervals import mean_interval, prompts_needed, winner
from evidence.judge_quality import judge_quality
from report import console as report
from report.results import document
from reward_model import RewardModel
from stages.context import shortened
from stages.dataset import Clock, Data, estimated_ratings, make_data
from stages.tasks import Job

CURVE_ORDERS = 3  # orders of the preferences that a learning curve is averaged over
TIE = 0.05  # an outcome nearer to 0.5 than this is counted as a tie where a judge answers in degrees


def make_rankers(
    data: Data, features: Features, ratings: Mapping[str, float | None], params: config.ExperimentConfig
) -> list[Ranker]:
    """Both systems and what they must beat. A new system is one line here."""
    base_scores = {key: float(features.base_score[row]) for key, row in features.index.items()}
    lengths = {(r.prompt_id, r.model): float(len(r.text)) for r in data.responses}
    return [
        EloSystem(ratings, params.elo_k),
        RewardModel(features, ratings, params),
        GlobalElo(ratings),
        BaseReward(base_scores),
        BradleyTerry(list(ratings)),
        LongestResponse(lengths),
        RandomRanking(list(ratings), params.random_seed),
    ]


# ── Evaluation ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Fitted:
    """Both systems trained on the documented split, and what was measured on it."""

    elo: EloSystem
    reward: RewardModel
    final: dict[str, dict[str, float | None]]
    learning_curve: list[dict[str, Any]]


def learn(data: Data, rankers: Sequence[Ranker], params: config.ExperimentConfig) -> Fitted:
    """Train on the documented split, evaluating every so many preferences."""
    order = data.training.preferences
    report.print_training(len(order), params.evaluation_frequency)
    elo, reward = rankers[0], rankers[1]
    every, truths = params.evaluation_frequency, data.test_truths
    curve_a = evaluation.learning_curve(elo, order, truths, every, data.train_ids)
    curve_b = evaluation.learning_curve(reward, order, truths, every, data.train_ids, once=not params.incremental)
    curve = []
    for a, b in zip(curve_a, curve_b, strict=True):
        curve.append(
            {"preferences": a.preferences, "elo_offset": a.metrics.as_dict(), "reward_model": b.metrics.as_dict()}
        )
    fitted = [ranker.fit(order, prompt_ids=data.train_ids) for ranker in rankers]
    final = {r.name: evaluation.evaluate(r, truths).mean.as_dict() for r in fitted}
    assert isinstance(elo, EloSystem) and isinstance(reward, RewardModel)
    return Fitted(elo, reward, final, curve)


def _bands(curves: evaluation.Curves, parts: Sequence[Sequence[str]]) -> dict[str, dict[str, list[float | None]]]:
    """Mean over orders and prompts at each point, with the 95 % interval over prompts."""
    fold = hypotheses.fold_of(parts)
    folds = [fold[p] for p in curves.prompt_ids]
    bands: dict[str, dict[str, list[float | None]]] = {}
    for metric, values in curves.values.items():
        by_prompt = values.mean(0)  # [points, prompts]
        intervals = [mean_interval(row.tolist(), *evaluation.BOUNDS[metric], folds) for row in by_prompt]
        bands[metric] = {
            "mean": by_prompt.mean(1).tolist() if curves.prompt_ids else [None] * len(by_prompt),
            "lo": [i[0] if i else None for i in intervals],
            "hi": [i[1] if i else None for i in intervals],
        }
    return bands


def put_to_test(
    data: Data, rankers: Sequence[Ranker], parts: Sequence[Sequence[str]], params: config.ExperimentConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """H1 and H2, and the cross-validated learning curves that H1 rests on."""
    elo, reward = rankers[0], rankers[1]
    curves_a, curves_b = (
        evaluation.cross_validated_curves(
            ranker, data.preferences, data.truths, parts, params.evaluation_frequency, CURVE_ORDERS,
            params.random_seed, once=ranker is reward and not params.incremental,
        )
        for ranker in (elo, reward)
    )  # fmt: skip
    h1 = (
        hypotheses.sample_efficiency(curves_a, curves_b, params.random_seed, parts)
        if params.incremental
        else hypotheses.not_tested("Sample efficiency needs learning curves of both systems: run with --incremental.")
    )
    models = list(reward.scores(data.prompts[0].id))
    placed = [
        hypotheses.held_out_placements(ranker, data.preferences, data.truths, parts, models) for ranker in (elo, reward)
    ]
    curves = {
        "points": list(curves_a.counts),
        "trained_once": not params.incremental,
        "elo_offset": _bands(curves_a, parts),
        "reward_model": _bands(curves_b, parts),
    }
    return {"sample_efficiency": h1, "generalization": hypotheses.generalization(*placed)}, curves


def per_prompt(
    results: Mapping[str, Mapping[str, Metrics]], parts: Sequence[Sequence[str]], prompts: Sequence[Prompt]
) -> list[dict[str, Any]]:
    """Cross-validated metrics of both systems, prompt by prompt."""
    fold, text = hypotheses.fold_of(parts), {p.id: p.text for p in prompts}
    a, b = results["elo_offset"], results["reward_model"]
    return [
        {
            "prompt_id": p,
            "prompt": text[p],
            "fold": fold[p],
            "difference": b[p].kendall_tau - a[p].kendall_tau,  # type: ignore[operator]
            "elo_offset": a[p].as_dict(),
            "reward_model": b[p].as_dict(),
        }
        for p in a
    ]


def examples(data: Data, fitted: Fitted, count: int = 3) -> list[dict[str, Any]]:
    """Test prompts with their responses and the place that truth and both systems give each."""
    texts, prompts = {(r.prompt_id, r.model): r.text for r in data.responses}, {p.id: p.text for p in data.prompts}
    shown = []
    for truth in data.test_truths[:count]:
        orders = (truth.ranking, fitted.elo.ranking(truth.prompt_id), fitted.reward.ranking(truth.prompt_id))
        places = [{model: i + 1 for i, model in enumerate(order)} for order in orders]
        shown.append(
            {
                "prompt": prompts[truth.prompt_id],
                "responses": [
                    {
                        "model": model,
                        "text": texts[truth.prompt_id, model],
                        "truth_place": places[0][model],
                        "elo_place": places[1][model],
                        "reward_place": places[2][model],
                    }
                    for model in truth.ranking
                ],
            }
        )
    return shown


# ── Results ──────────────────────────────────────────────────────────────────────────────────────────────


def run_persona(job: Job, run: Run, device: str, ratings: Mapping[str, Rating] | None) -> tuple[dict[str, Any], Fitted]:
    """The whole experiment for one persona: its results dict, and both systems as learned on the documented split.

    ``ratings`` None: they are estimated (embedded contestants).
    """
    clock, params = Clock(), job.params
    report.print_generation(job.name)
    data = make_data(job, clock)
    rated = ratings if ratings is not None else estimated_ratings(job, data)
    counted = counts(job, data)
    report.print_counts(counted)
    elo = {model: rating.elo for model, rating in rated.items()}
    with clock.stage("features"):
        features = compute_features(
            run.base_model,
            data.prompts,
            data.responses,
            cache_dir=job.cache_dir,
            name=job.name,
            device=run.device,
        )
    rankers = make_rankers(data, features, elo, params)
    with clock.stage("training"):
        fitted = learn(data, rankers, params)
    parts = evaluation.folds([p.id for p in data.prompts], params.folds, params.random_seed)
    with clock.stage("cross_validation"):
        crossed = evaluation.cross_validate(rankers, data.preferences, data.truths, parts)
    with clock.stage("hypotheses"):
        tested, curves = put_to_test(data, [fitted.elo, fitted.reward], parts, params)
    with clock.stage("ablation"):
        rows = ablation_table(data, features, elo, params, parts) if run.ablate else []
    findings = Findings(
        main_metric="kendall_tau",
        counts=counted,
        judge_quality=judge_figures(job, data),
        final=fitted.final,
        **_verdict(crossed, parts, params),
        learning_curve=fitted.learning_curve,
        curves=curves,
        hypotheses=tested,
        per_prompt=per_prompt(crossed, parts, data.prompts),
        examples=examples(data, fitted),
        training_history={
            "preference_loss": [epoch.preference for epoch in fitted.reward.history],
            "regularization_loss": [epoch.regularization for epoch in fitted.reward.history],
        },
        ablation=rows,
        timings_s=clock.seconds,
    )
    results = document(_about(job, run, device, features, rated), findings)
    learned.keep(job, run.base_model, data, (fitted.elo, fitted.reward), parts, results)
    return results, fitted


def counts(job: Job, data: Data) -> dict[str, int]:
    """How much of everything there is; ``preferences`` and ``ties`` are those that train."""
    training = data.training.preferences
    tie = TIE if job.llm.weighs_options else 0.0
    listed = data.test_ids if job.params.ground_truth != "round_robin" else ()
    return {
        "prompts": len(data.prompts),
        "train_prompts": len(data.train_ids),
        "test_prompts": len(data.test_ids),
        "preferences": len(training),
        "ties": sum(abs(p.outcome - 0.5) <= tie for p in training),
        "ground_truth_rankings": len(data.test_truths),
        "judge_calls": len(data.judgements),
        "truncated_responses": sum(r.truncated for r in data.responses),
        "shortened_responses": shortened(job, data.prompts, data.responses, listed),
        "server_cuts": getattr(job.llm, "server_cuts", 0),
    }


def judge_figures(job: Job, data: Data) -> dict[str, Any]:
    """How good the judge is, as far as its own judgements show it."""
    judge = next((m for m, c in job.contestants.items() if c.ollama_tag == job.judge), None)
    figures = judge_quality(data.judgements, data.responses, judge)
    return {**figures, "listwise_agreement": data.listwise_agreement, "noise_ceiling": data.noise_ceiling}


def _verdict(
    crossed: Mapping[str, Mapping[str, Metrics]], parts: Sequence[Sequence[str]], params: config.ExperimentConfig
) -> dict[str, Any]:
    gains = hypotheses.improvement(crossed, parts, params.random_seed)
    tau = gains["kendall_tau"]
    inflation = 1.0 + len(parts) / (len(parts) - 1.0)
    return {
        "cross_validated": hypotheses.cross_validated(crossed, parts),
        "improvement": hypotheses.improvement_json(gains),
        "winner": winner(tau),
        "stronger_baselines": tuple(hypotheses.stronger_baselines(crossed)),
        "prompts_needed": prompts_needed(tau.difference, tau.sd, inflation=inflation) if tau else None,
    }


def _about(job: Job, run: Run, device: str, features: Features, ratings: Mapping[str, Rating]) -> About:
    judge_plays = any(c.ollama_tag == job.judge for c in job.contestants.values())
    note = f"The judge {job.judge} is also a contestant: it may prefer its own answers."
    return About(
        persona=job.name,
        backend=job.llm.backend,
        judge=job.judge,
        run=run,
        params=job.params,
        base_is_reward_model=features.has_score,
        device=device,
        models=tuple(
            dataclasses.replace(ratings[model], model=model, ollama_tag=contestant.ollama_tag)
            for model, contestant in job.contestants.items()
        ),
        notes=(note,) if judge_plays else (),
    )
