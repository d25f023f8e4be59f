"""Calls that a run still has to make, counted from the stages' own tasks and the cache: nothing is asked or written.

count(job, listed)                # {("responses", "gemma3:4b"): 25, ("preferences", "llama3:8b"): 750}

Exact as far as the cache reaches. A text that is not there yet stands as one that nobody wrote: what would be asked
about it has a hash that no item has, and so counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

import config
from core.records import Prompt, Response
from stages import likelihood
from stages.judging import list_tasks, pair_tasks
from stages.tasks import Job, answered_by_all, open_tasks
from stages.writing import collect_responses, generate_prompts, response_tasks

Calls = Counter[tuple[str, str]]
"""Calls by (stage, model); for a model that weighs texts, a call is one text."""
UNWRITTEN = "\0 not there yet: "


def by_model(counts: Iterable[Calls]) -> Counter[str]:
    """Calls of all stages, by model."""
    calls: Counter[str] = Counter()
    for counted in counts:
        for (_, model), number in counted.items():
            calls[model] += number
    return calls


def count(job: Job, listed: Collection[str] = (), *, anew: Collection[str] = ()) -> Calls:
    """Count what ``make_data(job, clock, listed)`` would ask. ``anew``: stages of which nothing counts as cached."""
    job = replace(job, silent=True, anew=anew)
    calls, judge, weighs = Calls(), job.judge, job.llm.weighs_options
    written = {prompt.id: prompt for prompt in generate_prompts(job)}
    prompts = [written.get(id_) or Prompt(id_, UNWRITTEN + id_) for id_ in job.prompt_ids]
    missing = len(prompts) - len(written)
    calls["prompts", judge] = -(-missing // (1 if weighs else job.params.prompts_per_request))
    responses = collect_responses(job, prompts)
    tasks = [] if job.responses else open_tasks(job, config.RESPONSES_FILE, response_tasks(job, prompts))
    for task in tasks:
        calls["responses", judge if weighs else task.question.model] += 1
        responses.append(Response(text=UNWRITTEN + task.key, **task.about))
    prompts = answered_by_all(job, prompts, responses)
    if weighs:
        groups = likelihood.reading_groups(job)
        for group, tasks in likelihood.reading_tasks(job, prompts, responses).items():
            calls["preferences", judge] += len(groups[group]) * len(open_tasks(job, config.PREFERENCES_FILE, tasks))
    else:
        tasks = pair_tasks(job, prompts, responses)
        calls["preferences", judge] = len(open_tasks(job, config.PREFERENCES_FILE, tasks))
    chosen = [p for p in prompts if p.id in listed and job.params.ground_truth != "round_robin"]
    tasks = list_tasks(job, chosen, responses)
    calls["ground_truth", judge] = len(open_tasks(job, config.GROUND_TRUTH_FILE, tasks))
    return +calls
