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
from cli.counting import test_ids
from core.clock import Clock
from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Prompt, Rating
from data_generation import Data as Made
from data_generation import make_data
from elo_system import EloSystem
from evaluation import Metrics
from evidence import hypotheses
from evidence.ablation import ablation_table
from evidence.baselines import (
    BaseReward,
    BradleyTerry,
    GlobalElo,
    LongestResponse,
    RandomRanking,
    estimated_ratings,
)
from evidence.intervals import Difference, mean_interval, prompts_needed, winner
from evidence.judge_quality import agreement, judge_quality
from report import console as report
from report.words import SYSTEMS
from reward_model import RewardModel
from stages.tasks import Job

CURVE_ORDERS = 3  # orders of the preferences that a learning curve is averaged over
TIE = 0.05  # an outcome nearer to 0.5 than this is counted as a tie where a judge answers in degrees


@dataclass(frozen=True)
class Data(Made):
    """The data with the documented split, the preferences in an order drawn by the seed."""

    train_ids: tuple[str, ...] = ()
    test_ids: tuple[str, ...] = ()
    test_truths: tuple[GroundTruth, ...] = ()

    @property
    def training(self) -> TrainingSet:
        """The documented split's preferences."""
        return TrainingSet.of(self.preferences, self.train_ids)


def with_split(made: Made, params: config.ExperimentConfig) -> Data:
    """The data split as documented."""
    train, test = evaluation.split([p.id for p in made.prompts], params.train_prompts, params.random_seed)
    truths = made.listwise if params.ground_truth == "listwise" else [t for t in made.truths if t.prompt_id in test]
    fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    fields["preferences"] = tuple(evaluation.shuffled(list(made.preferences), params.random_seed))
    return Data(**fields, train_ids=train, test_ids=test, test_truths=tuple(truths))


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
    for index, (a, b) in enumerate(zip(curve_a, curve_b, strict=True)):
        before = curve_a[index - 1].preferences if index else 0
        if index:
            report.print_point(index, before + 1, a.preferences, a.metrics.kendall_tau, b.metrics.kendall_tau)
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


@dataclass(frozen=True)
class Run:
    """What a run was asked for beyond its job."""

    base_model: str
    device: str
    """As asked for: ``auto`` may fall back to the processor."""
    place: str
    """What that comes to on this machine, for the results."""
    label: str
    command: str
    notes: tuple[str, ...] = ()
    ablate: bool = False


def run_persona(job: Job, run: Run, ratings: Mapping[str, Rating] | None) -> tuple[dict[str, Any], Fitted, Data]:
    """The whole experiment for one persona: its results dict, and both systems as learned on the documented split.

    ``ratings`` None: they are estimated (embedded contestants).
    """
    clock, params = Clock(), job.params
    report.print_generation(job.name)
    data = with_split(make_data(job, clock, test_ids(job)), params)
    rated = ratings if ratings is not None else estimated_ratings(data.readers, list(job.contestants))
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
        rows = ablation_table(data, data.preferences, features, elo, params, parts) if run.ablate else []
    results = {
        **_about(job, run, features, rated),
        "counts": counted,
        "judge_quality": judge_figures(job, data),
        "final": fitted.final,
        **_verdict(crossed, parts, params),
        "learning_curve": fitted.learning_curve,
        "curves": curves,
        "hypotheses": tested,
        "per_prompt": per_prompt(crossed, parts, data.prompts),
        "examples": examples(data, fitted),
        "training_history": {
            "preference_loss": [epoch.preference for epoch in fitted.reward.history],
            "regularization_loss": [epoch.regularization for epoch in fitted.reward.history],
        },
        "ablation": rows,
        "timings_s": clock.seconds,
    }
    learned.keep(job, run.base_model, data, (fitted.elo, fitted.reward), parts, results)
    return results, fitted, data


def counts(job: Job, data: Data) -> dict[str, int]:
    """How much of everything there is; ``preferences`` and ``ties`` are those that train."""
    training = data.training.preferences
    tie = TIE if job.llm.weighs_options else 0.0
    return {
        "prompts": len(data.prompts),
        "train_prompts": len(data.train_ids),
        "test_prompts": len(data.test_ids),
        "preferences": len(training),
        "ties": sum(abs(p.outcome - 0.5) <= tie for p in training),
        "ground_truth_rankings": len(data.test_truths),
        "judge_calls": len(data.judgements),
        "truncated_responses": sum(r.truncated for r in data.responses),
        "shortened_responses": data.shortened,
        "server_cuts": data.server_cuts,
    }


def judge_figures(job: Job, data: Data) -> dict[str, Any]:
    """How good the judge is, as far as its own judgements show it."""
    judge = next((m for m, c in job.contestants.items() if c.ollama_tag == job.judge), None)
    figures = judge_quality(data.judgements, data.responses, judge)
    robin = [t for t in data.truths if t.prompt_id in data.test_ids]
    listwise = agreement(robin, data.listwise) if data.listwise else None
    return {
        **figures,
        "listwise_agreement": listwise,
        "noise_ceiling": agreement(*data.rounds) if data.rounds else None,
    }


def _verdict(
    crossed: Mapping[str, Mapping[str, Metrics]], parts: Sequence[Sequence[str]], params: config.ExperimentConfig
) -> dict[str, Any]:
    gains = hypotheses.improvement(crossed, parts, params.random_seed)
    tau = gains["kendall_tau"]
    best = winner(tau)
    stronger = hypotheses.stronger_baselines(crossed)
    said = {
        "reward_model": "The personalized reward model ranks this persona's contestants better than the Elo offset.",
        "elo_offset": "The Elo offset ranks this persona's contestants better than the personalized reward model.",
        "none": "Neither system can be called better: the difference is within what chance alone does.",
    }
    names = ", ".join(SYSTEMS[name] for name in stronger)
    warnings = [f"A baseline has a higher cross-validated τ than both systems: {names}."] if stronger else []
    table = hypotheses.cross_validated(crossed, parts)
    global_tau = table["global_elo"]["kendall_tau"]["ci95"]
    if global_tau and global_tau[1] < 0.0:
        warnings.append(
            "The global Elo orders these contestants worse than chance: System A starts from it, and H2 has a weak "
            "rival."
        )
    return {
        "cross_validated": table,
        "improvement": hypotheses.improvement_json(gains),
        "winner": best,
        "verdict": {
            "sentence": said[best],
            "prompts_needed": _needed(tau, len(parts)),
            "warnings": warnings,
        },
    }


def _needed(difference: Difference | None, folds: int) -> str:
    inflation = 1.0 + folds / (folds - 1.0)
    needed = prompts_needed(difference.difference, difference.sd, inflation=inflation) if difference else None
    if difference is None or needed is None:
        return "No difference was seen, so no number of prompts can be given."
    return (
        f"To tell a difference of {difference.difference:+.2f} from chance (p < 0.05, power 80 %) "
        f"about {needed} prompts are needed; there are {difference.n}."
    )


def _about(job: Job, run: Run, features: Features, ratings: Mapping[str, Rating]) -> dict[str, Any]:
    is_reward = features.has_score
    judge_plays = any(c.ollama_tag == job.judge for c in job.contestants.values())
    notes = list(run.notes)
    if judge_plays:
        notes.append(f"The judge {job.judge} is also a contestant: it may prefer its own answers.")
    return {
        "schema_version": config.SCHEMA_VERSION,
        "persona": job.name,
        "backend": job.llm.backend,
        "label": run.label,
        "judge": job.judge,
        "base_model": run.base_model,
        "base_is_reward_model": is_reward,
        "device": run.place,
        "seed": job.params.random_seed,
        "config": dataclasses.asdict(job.params),
        "models": [
            {
                "name": model,
                "ollama_tag": contestant.ollama_tag,
                "arena_name": ratings[model].arena_name,
                "elo": ratings[model].elo,
                "elo_source": ratings[model].source,
                "proxy": ratings[model].proxy,
            }
            for model, contestant in job.contestants.items()
        ],
        "versions": versions(),
        "command": run.command,
        "notes": notes,
    }


def versions() -> dict[str, str]:
    """Python's and the main libraries' versions, read without importing them."""
    import platform
    from importlib.metadata import version

    names = ("torch", "transformers", "datasets", "ollama", "scipy", "numpy", "evalica")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
