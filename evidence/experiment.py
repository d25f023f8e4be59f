"""The experiment on one persona's data: what trains and what tests, the systems and their rivals, what they show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import evaluation
from base.features import Features, compute_features
from combined import Combined
from config import ExperimentConfig
from core.clock import Clock
from core.errors import MissingError
from core.findings import Answer, Findings, Run
from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference, Rating
from data_generation import Data
from elo_system import EloSystem
from evaluation import Metrics
from evidence import curves, hypotheses
from evidence.ablation import ablation_table
from evidence.baselines import BradleyTerry, base_reward, global_elo, longest_response, random_ranking
from evidence.intervals import prompts_needed
from evidence.judge_quality import TIE, agreement, agreement_with_person, judge_quality
from reward_model import RewardModel

EXAMPLES = 3  # test prompts shown with all their responses


# ── Design ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Design:
    """Which preferences train and which prompts test."""

    preferences: tuple[Preference, ...]
    """One for each pair of each prompt in an order drawn by the seed: neither a point of a learning curve nor Elo's
    last updates then hang on one prompt."""
    truths: tuple[GroundTruth, ...]
    """Truth of every prompt, for whatever is cross-validated: round robin, or listwise where that was asked for."""
    train_ids: tuple[str, ...]
    test_ids: tuple[str, ...]
    """The documented split."""
    test_truths: tuple[GroundTruth, ...]
    """Truths of its test prompts."""
    folds: tuple[tuple[str, ...], ...]
    """The parts of the cross-validation: every prompt is in one of them."""

    @property
    def training(self) -> TrainingSet:
        """The documented split's preferences."""
        return TrainingSet.of(self.preferences, self.train_ids)


def documented_split(prompt_ids: Sequence[str], params: ExperimentConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids of the training and of the test prompts."""
    return evaluation.split(prompt_ids, params.train_prompts, params.random_seed)


def listed(prompt_ids: Sequence[str], params: ExperimentConfig) -> tuple[str, ...]:
    """Prompts whose responses are also ranked as a list: all, where that is the truth; the test prompts, where it only
    stands beside the round robin."""
    if params.ground_truth == "listwise":
        return tuple(prompt_ids)
    return documented_split(prompt_ids, params)[1] if params.ground_truth == "both" else ()


def design(data: Data, params: ExperimentConfig) -> Design:
    """Split the data as the parameters say. Raises MissingError where no prompt that tests has been answered."""
    here = {prompt.id for prompt in data.prompts}
    ids = data.planned or [prompt.id for prompt in data.prompts]
    train, test = (tuple(i for i in part if i in here) for part in documented_split(ids, params))
    if not test:
        raise MissingError("Every prompt that would have tested is left out. Run again with a higher --num_prompts.")
    parts = evaluation.folds(ids, params.folds, (params.random_seed, evaluation.FOLD_STREAM))
    kept = [tuple(i for i in part if i in here) for part in parts]
    truths = data.listwise if params.ground_truth == "listwise" else data.truths
    return Design(
        evaluation.shuffled(data.preferences, params.random_seed),
        truths,
        train,
        test,
        tuple(truth for truth in truths if truth.prompt_id in test),
        tuple(part for part in kept if part),
    )


# ── Systems ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Systems:
    """The systems that are compared, and what they must beat. A new one is one field or one line."""

    elo: EloSystem
    reward: RewardModel
    combined: Combined
    baselines: tuple[Ranker, ...]

    @property
    def contenders(self) -> tuple[Ranker, ...]:
        """Those that learn from the preferences what the baselines do not."""
        return self.elo, self.reward, self.combined

    @property
    def every(self) -> tuple[Ranker, ...]:
        return *self.contenders, *self.baselines


def make_systems(
    data: Data,
    features: Features,
    ratings: Mapping[str, Rating],
    params: ExperimentConfig,
    device: str,
) -> Systems:
    """All systems as they are before any preference."""
    elo = {model: rating.elo for model, rating in ratings.items()}
    return Systems(
        EloSystem(elo, params.elo_k, params.random_seed),
        RewardModel(features, elo, params, device),
        Combined(features, elo, params),
        (
            global_elo(elo),
            base_reward(features),
            BradleyTerry(list(elo)),
            longest_response(data.responses),
            random_ranking(list(elo), params.random_seed),
        ),
    )


def fit(systems: Systems, plan: Design, clock: Clock) -> Systems:
    """All systems trained on the documented split."""
    with clock.stage("training"):
        for ranker in systems.every:
            ranker.fit(plan.training.preferences, prompt_ids=plan.train_ids)
    return systems


def fit_all(systems: Systems, plan: Design) -> Systems:
    """The contenders as they are kept for later: trained on every prompt."""
    for ranker in systems.contenders:
        ranker.fit(plan.preferences)
    return systems


# ── What they show ───────────────────────────────────────────────────────────────────────────────────────


def evaluate(
    systems: Systems,
    data: Data,
    plan: Design,
    params: ExperimentConfig,
    clock: Clock,
    answer: Answer,
    *,
    judge: str | None = None,
    own: Sequence[Preference] = (),
) -> Findings:
    """Measure everything else than who is best: the documented split, the cross-validation, H1 and H2.

    ``systems``: as fitted on the documented split; ``judge``: the contestant who also judges, where there is one;
    ``own``: a person's votes on the same responses.
    """
    with clock.stage("training"):
        final = {r.name: evaluation.evaluate(r, plan.test_truths).mean.as_dict() for r in systems.every}
        points = curves.learning_curve(systems.contenders, plan, params)
    with clock.stage("cross_validation"):
        crossed = evaluation.cross_validate(systems.every, plan.preferences, plan.truths, plan.folds)
    with clock.stage("hypotheses"):
        learned = {system.name: curves.cross_validated(system, plan, params) for system in systems.contenders}
        tested = curves.put_to_test(systems, learned, plan, params)
    scores = hypotheses.scores_of(crossed, plan.folds)
    tau = scores["kendall_tau"].gain("reward_model", "elo_offset")
    inflation = 1.0 + params.folds / (params.folds - 1.0)
    return Findings(
        main_metric="kendall_tau",
        counts=counts(data, plan),
        judge_quality=judge_figures(data, plan, judge, own),
        final=final,
        answer=answer,
        **hypotheses.compared(scores, "kendall_tau"),
        prompts_needed=prompts_needed(tau.difference, tau.sd, inflation=inflation) if tau else None,
        learning_curve=points,
        curves={
            "points": list(learned["elo_offset"].counts),
            "trained_once": not params.incremental,
            **{name: curves.bands(curve, plan.folds) for name, curve in learned.items()},
        },
        hypotheses=tested,
        per_prompt=per_prompt(crossed, plan.folds, data),
        training_history={
            "preference_loss": [epoch.preference for epoch in systems.reward.history],
            "regularization_loss": [epoch.regularization for epoch in systems.reward.history],
        },
        examples=examples(systems, data, plan),
        timings_s=clock.seconds,
    )


def counts(data: Data, plan: Design) -> dict[str, Any]:
    """How much of everything there is; ``preferences`` and ``ties`` are those that train, ``left_out`` by what."""
    training = plan.training.preferences
    graded = any(not judgement.ordered for judgement in data.judgements)
    near = TIE if graded else 0.0
    return {
        "prompts": len(data.prompts),
        "train_prompts": len(plan.train_ids),
        "test_prompts": len(plan.test_ids),
        "preferences": len(training),
        "ties": sum(abs(p.outcome - 0.5) <= near for p in training),
        "ground_truth_rankings": len(plan.test_truths),
        "judge_calls": len(data.judgements),
        "truncated_responses": sum(r.truncated for r in data.responses),
        "shortened_responses": data.shortened,
        "server_cuts": data.server_cuts,
        "left_out": {what: data.left_out.get(what, 0) for what in ("prompts", "responses", "pairs", "rankings")},
    }


def judge_figures(data: Data, plan: Design, judge: str | None, own: Sequence[Preference]) -> dict[str, Any]:
    """How good the judge is, as far as its own judgements and a person's votes show it."""
    round_robin = [truth for truth in data.truths if truth.prompt_id in plan.test_ids]
    return {
        **judge_quality(data.judgements, data.responses, judge),
        "listwise_agreement": agreement(round_robin, data.listwise) if data.listwise else None,
        # nothing can agree with a noisy truth more than that truth agrees with itself
        "noise_ceiling": agreement(*data.rounds) if data.rounds else None,
        "agreement_with_person": agreement_with_person(own, data.preferences),
    }


# ── Prompt by prompt ─────────────────────────────────────────────────────────────────────────────────────


def per_prompt(
    crossed: Mapping[str, Mapping[str, Metrics]], folds: Sequence[Sequence[str]], data: Data
) -> list[dict[str, Any]]:
    """Cross-validated metrics of the contenders, prompt by prompt."""
    fold, text = hypotheses.fold_of(folds), {p.id: p.text for p in data.prompts}
    elo, reward = crossed["elo_offset"], crossed["reward_model"]
    return [
        {
            "prompt_id": p,
            "prompt": text[p],
            "fold": fold[p],
            "difference": reward[p].kendall_tau - elo[p].kendall_tau,  # type: ignore[operator]
            "elo_offset": elo[p].as_dict(),
            "reward_model": reward[p].as_dict(),
            "combined": crossed["combined"][p].as_dict(),
        }
        for p in elo
    ]


def examples(systems: Systems, data: Data, plan: Design) -> list[dict[str, Any]]:
    """Test prompts with their responses and the place that truth and each contender give each."""
    texts = {(r.prompt_id, r.model): r.text for r in data.responses}
    prompts = {p.id: p.text for p in data.prompts}
    shown = []
    for truth in plan.test_truths[:EXAMPLES]:
        elo, reward, both = (system.ranking(truth.prompt_id) for system in systems.contenders)
        responses = [
            {
                "model": model,
                "text": texts[truth.prompt_id, model],
                "truth_place": place,
                "elo_place": elo.index(model) + 1,
                "reward_place": reward.index(model) + 1,
                "combined_place": both.index(model) + 1,
            }
            for place, model in enumerate(truth.ranking, start=1)
        ]
        shown.append({"prompt": prompts[truth.prompt_id], "responses": responses})
    return shown


def ablated(
    findings: Findings,
    data: Data,
    features: Features,
    ratings: Mapping[str, Rating],
    plan: Design,
    params: ExperimentConfig,
    clock: Clock,
    device: str,
) -> Findings:
    """The findings with the table of baselines and ablations, on the same folds and draws as the main result."""
    elo = {model: rating.elo for model, rating in ratings.items()}
    with clock.stage("ablation"):
        rows = ablation_table(data, plan.preferences, plan.truths, features, elo, params, plan.folds, device)
    return dataclasses.replace(findings, ablation=rows)


# ── What was run ─────────────────────────────────────────────────────────────────────────────────────────


def read_texts(data: Data, run: Run, name: str, clock: Clock) -> Features:
    """Each text through the frozen base, once ever."""
    with clock.stage("features"):
        return compute_features(
            run.bases,
            data.prompts,
            data.responses,
            cache_dir=run.cache_dir,
            name=name,
            device=run.device,
            reader=run.cluster.reader if run.cluster else None,
        )
