"""Why cached items do not count for a command: what ``--check`` says beside the calls that are still to make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cli.counting import by_stage, count
from cli.flags import STAGE_FILES
from core.store import Item
from stages.tasks import Job

STAGES = ("prompts", "responses", "preferences", "ground_truth")  # in their order: each is made from those before it


def reasons(job: Job) -> Iterator[str]:
    """One sentence for each stage that is asked again though items on the same prompts are cached."""
    calls = by_stage(count([job], {}).personas[job.name])
    everything = tuple(STAGE_FILES[stage] for stage in STAGES)
    needed = by_stage(count([replace(job, anew=everything, samples_dir=None)], {}).personas[job.name])
    before: list[str] = []  # earlier stages that are made anew
    for stage in STAGES:
        if not calls[stage]:
            continue
        items = _items(job, stage)
        one_a_call = stage == "responses" or (stage != "prompts" and not job.llm.weighs_options)
        used = needed[stage] - calls[stage]
        unused = len(items) - used if one_a_call else 0 if used else len(items)
        if unused > 0:
            yield f"{unused} cached {stage.replace('_', ' ')} do not count: {_why(job, stage, items, before)}."
        before.append(stage.replace("_", " "))


def _items(job: Job, stage: str) -> list[Item]:
    """The cached items of a stage that are on this job's prompts and, for responses, by its contestants."""
    ids = set(job.prompt_ids)
    with replace(job, anew=()).store(STAGE_FILES[stage], stage, read_only=True) as store:
        items = [item for item in store.items() if item.key.partition("/")[0] in ids]
    if stage == "responses":
        items = [item for item in items if item.key.partition("/")[2] in job.contestants]
    return items


def _why(job: Job, stage: str, items: Sequence[Item], before: Sequence[str]) -> str:
    if STAGE_FILES[stage] in job.anew:
        return "--refresh leaves them aside"
    judges = {item.names["judge"] for item in items if "judge" in item.names}
    if judges and job.judge not in judges:
        return f"they are by {', '.join(sorted(judges))}, and this command's judge is {job.judge}"
    if before:
        return f"the {' and '.join(before)} that they rest on are made anew"
    return (
        "they were made by another version of the model, with another --seed or --num_predict, another template, "
        "persona or setting in config.py"
    )
