"""Everything that is measured of one persona's data, as the results document.

document = measure(job, data, systems, clock)     # systems: evidence.design.make_systems
"""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import config
import evaluation
from base.features import Features
from combined import Combined
from config import ExperimentConfig
from core.clock import Clock
from core.records import Rating
from data_generation import Data
from elo_system import EloSystem
from evaluation import Curve, Metrics, Round
from evidence import hypotheses, leaderboard
from evidence.baselines import BradleyTerry
from evidence.design import Design, Systems, design
from evidence.intervals import difference_json
from evidence.judge_quality import TIE, agreement, judge_quality
from report import words
from report.words import CONTENDERS, Document
from reward_model import RewardModel
from stages.tasks import Job

LIBRARIES = ("torch", "transformers", "datasets", "ollama", "openai", "scipy", "numpy")
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


def measure(job: Job, data: Data, systems: Systems, clock: Clock) -> Document:
    """Measure who is best, the documented split, the cross-validation, H1 and H2: the results document. The systems
    end up fitted on the documented split."""
    params, plan = job.params, design(data, job.params)
    training, truths = plan.split
    rankers = *systems.contenders, *systems.baselines
    elo = {model: rating.elo for model, rating in systems.ratings.items()}
    with clock.stage("training"):
        for ranker in rankers:
            ranker.fit(training.preferences, prompt_ids=training.prompt_ids)
        final = {r.name: evaluation.per_prompt(r, truths) for r in rankers}
        split = _curves(systems, [plan.split], params, final)
    with clock.stage("cross_validation"):
        crossed = evaluation.cross_validate(rankers, plan.rounds)
    with clock.stage("hypotheses"):
        orders = evaluation.reordered(plan.rounds, ORDERS, params.random_seed)
        curves = _curves(systems, orders, params, crossed)
        tested = put_to_test(systems, curves, orders, plan, params)
    with clock.stage("ablation"):
        ablations = ablation_table(params, systems, plan) if job.ablate else []
    measured = {
        "main_metric": "kendall_tau",
        "counts": counts(data, params),
        "judge_quality": {
            **judge_quality(data.judgements, data.responses, job.judge),
            "listwise_agreement": agreement(data.truths, data.listwise),
        },
        "final": {name: evaluation.mean_metrics(found.values())._asdict() for name, found in final.items()},
        **hypotheses.compared(hypotheses.scores_of(crossed, plan.fold), "kendall_tau"),
        "learning_curve": [
            {"preferences": n} | {s: evaluation.mean_metrics(curve[n].values())._asdict() for s, curve in split.items()}
            for n in split["elo_offset"]
        ],
        "curves": {
            "points": list(curves["elo_offset"]),
            "trained_once": not params.incremental,
            **{name: hypotheses.bands(curve, plan.fold) for name, curve in curves.items()},
        },
        "hypotheses": tested,
        "per_prompt": per_prompt(crossed, data, plan),
        "examples": examples(systems, data, plan),
        "people": None,
        "training_history": systems.reward.history,
        "ablation": ablations,
        "timings_s": clock.seconds,
    }
    job = replace(job, notes=(*job.notes, *answer_notes(job, data)))
    answer = leaderboard.answer(data.preferences, data.responses, elo, params.random_seed, job.sizes)
    ratings = list(systems.ratings.values())
    return make_document(job, systems.features, ratings, answer | measured)


def make_document(job: Job, features: Features, ratings: Sequence[Rating], measured: Document) -> Document:
    """The document of a persona's run, or of people's votes: what it was, what was ``measured``, and the sentences made
    from its own figures."""
    tagged = job.llm.backend == "ollama" and not job.responses
    found: Document = {
        "schema_version": config.SCHEMA_VERSION,
        "persona": job.name,
        "backend": job.llm.backend,
        "label": job.label,
        "judge": job.judge,
        "base_model": features.base,
        "base_is_reward_model": features.has_score,
        "device": features.device.replace("auto", "cuda" if job.machine.get("gpu") else "cpu"),
        "seed": job.params.random_seed,
        "config": asdict(job.params),
        "models": [
            {"name": r.model, "backend": job.llm.backend, "ollama_tag": r.model if tagged else None}
            | {"arena_name": r.arena_name, "elo": r.elo, "elo_source": r.source, "proxy": r.proxy}
            for r in ratings
        ],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "machine": job.machine,
        "command": job.command,
        "notes": words.noted((*job.notes, *features.notes)),
        **measured,
    }
    judge = measured["judge_quality"]
    turns = not judge.get("reads") and (judge.get("flip_rate") or 0.0) > 0.5
    if judge.get("reads") == "place" or turns:
        found["answer"]["more_prompts"] = None  # more of them tell nothing, or nobody knows yet whether they do
    found["answer"] |= {"sentence": words.sentence(found), "whose": words.whose(found), "ask": job.ask}
    found["verdict"] |= {"sentence": words.verdict(found), "warnings": words.warnings(found)}
    return found


def answer_notes(job: Job, data: Data) -> list[str]:
    """Notes on answers that met the length limit, for a cut answer loses, and on speeds that no server told."""
    notes, limit, given = [], job.params.num_predict, Counter(r.model for r in data.responses)
    cut = Counter(r.model for r in data.responses if r.truncated)
    if cut and job.llm.backend != "embedded":  # whose recorded answers are nearly all cut, at a limit chosen for that
        shares = ", ".join(f"{model}: {n} of {given[model]}" for model, n in cut.most_common())
        notes.append(f"{shares} answers cut at {limit} tokens: --num_predict {2 * limit}")
    if at_once := max(r.side_by_side for r in data.responses):
        notes.append(f"Tok/s as asked, {at_once} side by side, where the server does not tell its own")
    return notes


def counts(data: Data, params: ExperimentConfig) -> dict[str, Any]:
    """Numbers of all records; ``preferences`` and ``ties`` are those that train, ``left_out`` by kind."""
    plan = design(data, params)
    (training, truths), spoken = plan.split, (j for j in data.judgements if j.log_odds is None)
    # in words a pair that turns with the order is no tie
    decided = {(j.prompt_id, j.model_a, j.model_b) for j in spoken if j.outcome in (0.0, 1.0)}
    near = [(p.prompt_id, p.model_a, p.model_b) for p in training.preferences if abs(p.outcome - 0.5) <= TIE]
    return {
        "prompts": len(data.prompts),
        "train_prompts": len(training.prompt_ids),
        "test_prompts": len(plan.test_ids),
        "pairs": len(plan.preferences),
        "preferences": len(training.preferences),
        "ties": sum(pair not in decided for pair in near),
        "ground_truth_rankings": len(truths),
        "judge_calls": len(data.judgements),
        "truncated_responses": sum(r.truncated for r in data.responses),
        "shortened_responses": data.shortened,
        "texts_with_chat_markers": data.with_markers,
        "left_out": {what: data.left_out.get(what, 0) for what in ("prompts", "responses", "pairs", "rankings")},
    }


def _curves(
    systems: Systems, rounds: Sequence[Round], params: ExperimentConfig, once: Mapping[str, Mapping[str, Metrics]]
) -> dict[str, Curve]:
    """System A's curve, which learns by updates, and where the run is incremental B's and C's, trained at each point;
    else the level of their one training, of which ``once`` has {system: {prompt id: metrics}}."""
    found: dict[str, Curve] = {}
    for system in systems.contenders:
        if params.incremental or system is systems.elo:
            found[system.name] = evaluation.learning_curve(system, rounds, params.evaluation_frequency)
        else:
            found[system.name] = dict.fromkeys(found[systems.elo.name], once[system.name])
    return found


def put_to_test(
    systems: Systems, curves: Mapping[str, Curve], orders: Sequence[Round], plan: Design, params: ExperimentConfig
) -> dict[str, Any]:
    """H1 by the ``curves`` over ``orders``, and H2 with each contestant held out in turn, both of Systems B and C."""
    models = list(systems.ratings)
    placed = {
        system.name: hypotheses.held_out(system, plan.rounds, models)
        for system in (*systems.contenders, BradleyTerry(models))
    }
    if params.incremental:
        flat = EloSystem(dict.fromkeys(models), params.elo_k)
        curves = {**curves, "from_flat": evaluation.learning_curve(flat, orders, params.evaluation_frequency)}
    tested = {}
    for name in ("reward_model", "combined"):
        quicker = {"verdict": "not tested", "reason": "Learning curves need --incremental."}
        if params.incremental:
            quicker = hypotheses.sample_efficiency(curves, name, plan.fold)
        tested[name] = {"sample_efficiency": quicker, "generalization": hypotheses.generalization(placed, name)}
    return tested["reward_model"] | {"combined": tested["combined"]}


def ablation_table(base: ExperimentConfig, systems: Systems, plan: Design) -> list[dict[str, Any]]:
    """[{name, kendall_tau: {mean, ci95}, difference: {difference, ci95, p_value}}], one row a variant; ``difference``
    to the first row, the reward model as configured, paired by prompt."""
    given = {model: rating.elo for model, rating in systems.ratings.items()}
    crossed: dict[str, dict[str, Metrics]] = {}
    for name, changes in ABLATIONS.items():
        params, ratings = replace(base, **changes), given if "Arena" not in name else dict.fromkeys(given)
        if changes and params == base:
            continue  # it would repeat the row as configured
        kind: type[RewardModel | Combined] = RewardModel if name.startswith("Reward model") else Combined
        ranker = kind(systems.features, ratings, params)
        ranker.name = name
        crossed |= evaluation.cross_validate([ranker], plan.rounds)
    tau = hypotheses.scores_of(crossed, plan.fold)["kendall_tau"]
    first, *others = crossed
    gains = {first: None} | {name: tau.gain(name, first) for name in others}
    return [
        {"name": name, "kendall_tau": tau.mean(name), "difference": difference_json(gain)}
        for name, gain in gains.items()
    ]


def per_prompt(crossed: Mapping[str, Mapping[str, Metrics]], data: Data, plan: Design) -> list[dict[str, Any]]:
    """Cross-validated metrics of the contenders, prompt by prompt."""
    text = {p.id: p.text for p in data.prompts}
    return [
        {
            "prompt_id": p,
            "prompt": text[p],
            "fold": plan.fold[p],
            "difference": crossed["reward_model"][p].kendall_tau - metrics.kendall_tau,  # type: ignore[operator]
            **{system: crossed[system][p]._asdict() for system in CONTENDERS},
        }
        for p, metrics in crossed["elo_offset"].items()
    ]


def examples(systems: Systems, data: Data, plan: Design) -> list[dict[str, Any]]:
    """Test prompts with their responses and the place that truth and each contender give each; equal ones share it."""
    texts = {(r.prompt_id, r.model): r.text for r in data.responses}
    prompts, shown = {p.id: p.text for p in data.prompts}, []
    for truth in plan.split[1][:EXAMPLES]:
        by = {"truth_place": truth.scores}
        by |= {words.PLACES[system.name]: system.scores(truth.prompt_id) for system in systems.contenders}
        responses = [
            {"model": model, "text": texts[truth.prompt_id, model]}
            | {key: 1 + sum(s > scores[model] for s in scores.values()) for key, scores in by.items()}
            for model in truth.ranking
        ]
        shown.append({"prompt": prompts[truth.prompt_id], "responses": responses})
    return shown


def keep_for_readers(job: Job, data: Data, systems: Systems) -> None:
    """Train A and B on every prompt and write them down, for people who look: no run reads them again."""
    preferences = design(data, job.params).preferences
    systems.elo.fit(preferences).save(job.cache_dir / config.ELO_STATE_FILE.format(name=job.name))
    systems.reward.fit(preferences).save(job.cache_dir / config.REWARD_HEAD_FILE.format(name=job.name))


def together(documents: Mapping[str, Document]) -> Document:
    """The results document of ``--persona all``: every persona's own, and the methods over all their prompts."""
    one = next(iter(documents.values()))
    shared = {key: one[key] for key in ("schema_version", "backend", "label", "judge", "seed")}
    return shared | {"pooled": hypotheses.pooled(documents), "personas": dict(documents)}
