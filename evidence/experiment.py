"""Everything that is measured of one persona's data, as the results document.

document = measure(job, data, plan, systems, clock)     # plan and systems: evidence.design
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import config
import evaluation
from core.clock import Clock
from core.records import Preference
from data_generation import Data
from evaluation import Metrics
from evidence import curves, hypotheses
from evidence.ablation import ablation_table
from evidence.design import Design, Systems, heads_device
from evidence.document import Document, Measured, make_document, training_history
from evidence.intervals import prompts_needed
from evidence.judge_quality import TIE, agreement, agreement_with_person, judge_quality
from evidence.leaderboard import who_is_best
from stages.tasks import Job

EXAMPLES = 3  # test prompts shown with all their responses


def measure(
    job: Job, data: Data, plan: Design, systems: Systems, clock: Clock, own: Sequence[Preference] = ()
) -> Document:
    """Measure who is best, the documented split, the cross-validation, H1 and H2: the results document.

    ``own``: a person's own votes on the same responses. Trains the systems; they end up fitted on the documented split.
    """
    params = job.params
    parameters = {model: said for model, (_, said) in job.sizes.items() if said}
    answer = who_is_best(data, systems.ratings, parameters, params)
    with clock.stage("training"):
        for ranker in systems.every:
            ranker.fit(plan.training.preferences, prompt_ids=plan.train_ids)
        final = {r.name: evaluation.evaluate(r, plan.test_truths).mean.as_dict() for r in systems.every}
        points = curves.learning_curve(systems.contenders, plan, params)
    with clock.stage("cross_validation"):
        crossed = evaluation.cross_validate(systems.every, plan.preferences, plan.truths, plan.folds)
    scores = hypotheses.scores_of(crossed, plan.folds)
    compared, tau = hypotheses.compared(scores, "kendall_tau"), scores["kendall_tau"].gain("reward_model", "elo_offset")
    if tau:
        inflation = 1.0 + params.folds / (params.folds - 1.0)
        compared["verdict"]["prompts_needed"] = prompts_needed(tau.difference, tau.sd, inflation=inflation)
    with clock.stage("hypotheses"):
        learned = {system.name: curves.cross_validated(system, plan, params) for system in systems.contenders}
        tested = curves.put_to_test(systems, learned, plan, params)
    rows = ablation(job, data, plan, systems, clock) if job.ablate else []
    measured: Measured = {
        "main_metric": "kendall_tau",
        "counts": counts(data, plan),
        "judge_quality": judge_figures(data, plan, job.judging_contestant, own),
        "final": final,
        **compared,
        "learning_curve": points,
        "curves": {
            "points": list(learned["elo_offset"].counts),
            "trained_once": not params.incremental,
            **{name: curves.bands(curve, plan.folds) for name, curve in learned.items()},
        },
        "hypotheses": tested,
        "per_prompt": per_prompt(crossed, plan.folds, data),
        "examples": examples(systems, data, plan),
        "people": None,
        "training_history": training_history(systems.reward.history),
        "ablation": rows,
        "timings_s": clock.seconds,
    }
    return make_document(job, systems.features, list(systems.ratings.values()), answer, measured)


def counts(data: Data, plan: Design) -> dict[str, Any]:
    """Numbers of all records; ``preferences`` and ``ties`` are those that train, ``left_out`` by kind."""
    training = plan.training.preferences
    graded = any(not j.ordered or j.log_odds is not None for j in data.judgements)
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
        "texts_with_chat_markers": data.with_markers,
        "server_cuts": data.server_cuts,
        "left_out": {what: data.left_out.get(what, 0) for what in ("prompts", "responses", "pairs", "rankings")},
    }


def judge_figures(data: Data, plan: Design, judge: str | None, own: Sequence[Preference]) -> dict[str, Any]:
    """Quality of the judge, as far as its own judgements and a person's votes show it."""
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


def ablation(job: Job, data: Data, plan: Design, systems: Systems, clock: Clock) -> list[dict[str, Any]]:
    """The table of baselines and ablations, on the same folds and draws as the main result."""
    elo = {model: rating.elo for model, rating in systems.ratings.items()}
    device = heads_device(job, systems.features)
    with clock.stage("ablation"):
        return ablation_table(
            data, plan.preferences, plan.truths, systems.features, elo, job.params, plan.folds, device
        )


def keep_for_readers(systems: Systems, plan: Design, job: Job) -> None:
    """Train A and B on every prompt and write them down, for people who look: no run reads them again."""
    systems.elo.fit(plan.preferences).save(job.cache_dir / config.ELO_STATE_FILE.format(name=job.name))
    systems.reward.fit(plan.preferences).save(job.cache_dir / config.REWARD_HEAD_FILE.format(name=job.name))


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
