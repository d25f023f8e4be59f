"""The data: prompts → responses → judgements → truths, each stage reading the records of the stage before it.

data = make_data(job, Clock())

A stage turns what it wants to know into tasks, looks each up in the cache by the hash of exactly what it would be made
from, asks a language model for the rest, and keeps every answer at once (``stages.tasks``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import config
from core.clock import Clock
from core.records import GroundTruth, Judgement, Preference, Prompt, Response
from stages.judging import judge_pairs, preferences_from, rank_listwise, round_robin_truths, shortened, with_markers
from stages.likelihood import judge_by_likelihood
from stages.tasks import Job, most_left_out, require_enough
from stages.writing import collect_responses, generate_prompts

__all__ = ["Data", "collect_responses", "generate_prompts", "make_data"]


@dataclass(frozen=True)
class Data:
    """Answers of the language models for one persona. Splits and orders are none of its business."""

    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    judgements: tuple[Judgement, ...]
    preferences: tuple[Preference, ...]  # one for each pair of each prompt, in the order of the prompts
    truths: tuple[GroundTruth, ...]  # round-robin truth of every prompt
    listwise: tuple[GroundTruth, ...] = ()  # truth of the prompts ``listed``, ranked as lists
    # ids of all prompts, also of those left out: splits are drawn over them, so that a gap moves no other prompt
    planned: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)  # {prompts, responses, pairs, rankings: no usable answer}
    shortened: int = 0  # responses that the judge was not shown in full
    with_markers: int = 0  # prompts and responses in which chat markers were broken for the judge


def make_data(job: Job, clock: Clock, listed: Collection[str] = (), *, ask: bool = True) -> Data:
    """Everything that is asked for one persona.

    ``listed``: ids of the prompts that are also ranked as a list (``params.ground_truth`` listwise or both: see
    ``evidence.design.listed``).
    ``ask`` False: what the cache holds. Nothing is asked, written or said; a prompt that lacks anything is left out.
    """
    models = list(job.contestants)
    with clock.stage("prompts"):
        written = generate_prompts(job, ask=ask)
    with clock.stage("responses"):
        answered = collect_responses(job, written, ask=ask)
        have = {(r.prompt_id, r.model) for r in answered}
        prompts = [p for p in written if all((p.id, model) in have for model in models)]
    with clock.stage("preferences"):
        judge = judge_by_likelihood if job.llm.weighs_options else judge_pairs
        judgements = judge(job, prompts, answered, ask=ask)
    preferences = preferences_from(judgements)
    left_out = {
        "responses": len(job.prompt_ids) * len(models) - len(answered),
        "pairs": len(prompts) * math.comb(len(models), 2) - len(preferences),
    }
    truths = round_robin_truths(preferences, len(models))
    true = {truth.prompt_id for truth in truths}  # a prompt without a truth tests nothing: it is left out whole
    prompts, responses = [p for p in prompts if p.id in true], [r for r in answered if r.prompt_id in true]
    left_out["prompts"] = len(job.prompt_ids) - len(prompts)
    chosen = [p for p in prompts if p.id in listed and job.params.ground_truth != "round_robin"]
    if ask:
        without = {id_: f"too little of {id_} was judged" for id_ in job.prompt_ids if id_ not in true}
        require_enough(without, most_left_out(len(job.prompt_ids)), "prompts")
    with clock.stage("ground_truth"):
        if ask:  # they follow from the preferences and are printed out for people to read
            with job.store(config.GROUND_TRUTH_FILE) as store:
                rows = {f"{t.prompt_id}/{t.method}": {"scores": dict(t.scores), "ranking": t.ranking} for t in truths}
                store.print_out(rows)
        listwise, left_out["rankings"] = rank_listwise(job, chosen, responses, ask=ask) if chosen else ([], 0)
    if ask:
        job.llm.unload()  # the reward base needs the memory
    return Data(
        prompts=tuple(prompts),
        responses=tuple(responses),
        judgements=tuple(j for j in judgements if j.prompt_id in true),
        preferences=tuple(p for p in preferences if p.prompt_id in true),
        truths=tuple(truths),
        listwise=tuple(listwise),
        planned=job.prompt_ids,
        left_out=left_out,
        shortened=0 if job.llm.weighs_options else shortened(job, prompts, responses, {p.id for p in chosen}),
        with_markers=0 if job.llm.weighs_options else with_markers(prompts, responses),
    )
