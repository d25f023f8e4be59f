"""Everything that is measured of one persona's data, as the results document.

document = measure(job, data, plan, systems, clock)     # plan and systems: evidence.design
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import config
import evaluation
from core.clock import Clock
from core.records import Preference, Response
from data_generation import Data
from evaluation import Metrics
from evidence import curves, hypotheses, leaderboard
from evidence.ablation import ablation_table
from evidence.design import Design, Systems, heads_device
from evidence.document import Document, Measured, make_document, training_history
from evidence.intervals import prompts_needed
from evidence.judge_quality import TIE, agreement, agreement_with_person, judge_quality
from evidence.leaderboard import standings
from evidence.likes import likings
from stages.tasks import Job

EXAMPLES = 3  # test prompts shown with all their responses


def measure(
    job: Job, data: Data, plan: Design, systems: Systems, clock: Clock, own: Sequence[Preference] = ()
) -> Document:
    """Measure who is best, the documented split, the cross-validation, H1 and H2: the results document.

    ``own``: a person's own votes on the same responses. Trains the systems; they end up fitted on the documented split.
    """
    params = job.params
    found = standings(data.preferences, list(systems.ratings), params.random_seed)
    sizes = {model: said for model, (_, said) in job.sizes.items() if said}
    likes = likings(data.preferences, data.responses)
    elo = {model: rating.elo for model, rating in systems.ratings.items()}
    answer = leaderboard.answer(found, elo, data.responses, likes, sizes)
    with clock.stage("training"):
        for ranker in systems.every:
            ranker.fit(plan.training.preferences, prompt_ids=plan.train_ids)
        final = {r.name: evaluation.evaluate(r, plan.test_truths).as_dict() for r in systems.every}
        points = curves.on_the_split(systems.contenders, plan, params)
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
    ablations = []
    if job.ablate:
        with clock.stage("ablation"):
            device = heads_device(job, systems.features)
            ablations = ablation_table(data, plan, systems.features, elo, params, device)
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
        "ablation": ablations,
        "timings_s": clock.seconds,
    }
    job = replace(job, notes=(*job.notes, *cut_answers(job, data.responses)))
    return make_document(job, systems.features, list(systems.ratings.values()), answer, measured)


def cut_answers(job: Job, responses: Sequence[Response]) -> list[str]:
    """A note on the answers that met the length limit, by model: a cut answer loses."""
    if job.llm.backend == "embedded":  # nearly all of the recorded ones are cut, at a limit chosen for that
        return []
    cut, given = (Counter(r.model for r in responses if r.truncated or every) for every in (False, True))
    if not cut:
        return []
    limit, shares = job.params.num_predict, (f"{model}: {n} of {given[model]}" for model, n in cut.most_common())
    return [f"{', '.join(shares)} answers cut at {limit} tokens: --num_predict {2 * limit}"]


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
        "left_out": {what: data.left_out.get(what, 0) for what in ("prompts", "responses", "pairs", "rankings")},
    }


def judge_figures(data: Data, plan: Design, judge: str | None, own: Sequence[Preference]) -> dict[str, Any]:
    """Quality of the judge, as far as its own judgements and a person's votes show it."""
    round_robin = [truth for truth in data.truths if truth.prompt_id in plan.test_ids]
    return {
        **judge_quality(data.judgements, data.responses, judge),
        "listwise_agreement": agreement(round_robin, data.listwise) if data.listwise else None,
        "noise_ceiling": None,
        "agreement_with_person": agreement_with_person(own, data.preferences),
    }


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
            **{system: crossed[system][p].as_dict() for system in hypotheses.CONTENDERS},
        }
        for p, metrics in crossed["elo_offset"].items()
    ]


def examples(systems: Systems, data: Data, plan: Design) -> list[dict[str, Any]]:
    """Test prompts with their responses and the place that truth and each contender give each."""
    texts = {(r.prompt_id, r.model): r.text for r in data.responses}
    prompts = {p.id: p.text for p in data.prompts}
    shown = []
    for truth in plan.test_truths[:EXAMPLES]:
        true = _places(truth.scores)
        elo, reward, both = (_places(system.scores(truth.prompt_id)) for system in systems.contenders)
        responses = [
            {
                "model": model,
                "text": texts[truth.prompt_id, model],
                "truth_place": true[model],
                "elo_place": elo[model],
                "reward_place": reward[model],
                "combined_place": both[model],
            }
            for model in truth.ranking
        ]
        shown.append({"prompt": prompts[truth.prompt_id], "responses": responses})
    return shown


def _places(scores: Mapping[str, float]) -> dict[str, int]:
    """1 + how many have a higher score; those with the same score share a place."""
    return {model: 1 + sum(other > score for other in scores.values()) for model, score in scores.items()}


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
