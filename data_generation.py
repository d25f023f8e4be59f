"""The data: prompts → responses → judgements → truths, each stage reading the records of the stage before it.

data = make_data(job, Clock())
calls = count(job)      # what it would ask: {"gemma3:4b": 25, "llama3:8b": 753}

A stage turns what it wants to know into tasks, looks each up in the cache by the hash of exactly what it would be made
from, asks a language model for the rest, and keeps every answer at once (``stages.tasks``).
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import config
from core.clock import Clock
from core.records import GroundTruth, Preference, Prompt, Response
from stages import judging
from stages.judging import preferences_from, rank_listwise, round_robin_truths
from stages.likelihood import judge_by_likelihood, reading_tasks
from stages.tasks import Job, open_tasks, require_enough
from stages.writing import collect_responses, generate_prompts, response_tasks

UNWRITTEN = "\0 not there yet: "  # stands as a text that nobody wrote: what is asked about it has a hash of no item


@dataclass(frozen=True)
class Data:
    """Answers of the language models for one persona. Splits and orders are none of its business."""

    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    judgements: tuple[Preference, ...]  # in the orders in which they were shown
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

    ``listed``: ids of the prompts that are also ranked as a list (``evaluation.listed``).
    ``ask`` False: what the cache holds. Nothing is asked, written or said; a prompt that lacks anything is left out.
    """
    job, models = replace(job, silent=not ask), list(job.contestants)
    with clock.stage("prompts"):
        written = generate_prompts(job)
    with clock.stage("responses"):
        answered = collect_responses(job, written)
        prompts = _answered_by_all(job, written, answered)
    with clock.stage("preferences"):
        judge = judge_by_likelihood if job.llm.weighs_options else judging.judge_pairs
        judgements = judge(job, prompts, answered)
    preferences = preferences_from(judgements)
    left_out = {
        "responses": len(job.prompt_ids) * len(models) - len(answered),
        "pairs": len(prompts) * math.comb(len(models), 2) - len(preferences),
    }
    truths = round_robin_truths(preferences, len(models))
    true = {truth.prompt_id for truth in truths}  # a prompt without a truth tests nothing: it is left out whole
    prompts, responses = [p for p in prompts if p.id in true], [r for r in answered if r.prompt_id in true]
    left_out["prompts"] = len(job.prompt_ids) - len(prompts)
    with clock.stage("ground_truth"):
        if ask:
            without = {id_: f"too little of {id_} was judged" for id_ in job.prompt_ids if id_ not in true}
            require_enough(without, len(job.prompt_ids), "prompts")
            with job.store(config.GROUND_TRUTH_FILE) as store:  # for people to read: they follow from the preferences
                rows = {f"{t.prompt_id}/round_robin": {"scores": dict(t.scores), "ranking": t.ranking} for t in truths}
                store.print_out(rows)
        listwise, left_out["rankings"] = rank_listwise(job, [p for p in prompts if p.id in listed], responses)
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
        shortened=0 if job.llm.weighs_options else judging.shortened(job, prompts, responses, listed),
        with_markers=0 if job.llm.weighs_options else judging.with_markers(prompts, responses),
    )


def count(job: Job, listed: Collection[str] = ()) -> Counter[str]:
    """Count what ``make_data(job, clock, listed)`` would ask each model, exactly as far as the cache reaches, else the
    most there can be; nothing is asked or written. Where a model weighs texts, a call is one text."""
    job = replace(job, silent=True)
    calls, judge, weighs = Counter[str](), job.judge, job.llm.weighs_options
    written = {prompt.id: prompt for prompt in generate_prompts(job)}
    prompts = [written.get(id_) or Prompt(id_, UNWRITTEN + id_) for id_ in job.prompt_ids]
    missing = len(prompts) - len(written)
    calls[judge] = -(-missing // (1 if weighs else job.params.prompts_per_request))
    responses = collect_responses(job, prompts)
    tasks = [] if job.responses else open_tasks(job, config.RESPONSES_FILE, response_tasks(job, prompts))
    for task in tasks:
        calls[judge if weighs else task.question.model] += 1
        responses.append(Response(text=UNWRITTEN + task.id[0], **task.about))
    prompts = _answered_by_all(job, prompts, responses)
    if weighs:
        for readers, readings in reading_tasks(job, prompts, responses):
            calls[judge] += len(readers) * len(open_tasks(job, config.PREFERENCES_FILE, readings))
    else:
        tasks = judging.pair_tasks(job, prompts, responses)
        calls[judge] += len(open_tasks(job, config.PREFERENCES_FILE, tasks))
    tasks = judging.list_tasks(job, [p for p in prompts if p.id in listed], responses)
    calls[judge] += len(open_tasks(job, config.GROUND_TRUTH_FILE, tasks))
    return +calls


def _answered_by_all(job: Job, prompts: Iterable[Prompt], responses: Iterable[Response]) -> list[Prompt]:
    have = {(r.prompt_id, r.model) for r in responses}
    return [p for p in prompts if all((p.id, model) in have for model in job.contestants)]
