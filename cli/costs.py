"""What a run would still cost: calls to each model, and the time they take by the cache's own timings."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

import config
from cli import known_models, preflight
from cli.known_models import Recorded
from cli.plan import comparison_calls, outstanding_by_stage
from cli.preflight import Backend
from config import ExperimentConfig
from stages.tasks import Job

Calls = Mapping[tuple[str, str], int]
"""(stage, model) → calls."""


def lines(args: Namespace, backend: Backend, params: ExperimentConfig) -> Iterator[str]:
    """What is cached, what is left to do and about how long it takes, persona by persona."""
    own = [_counted(one) for one in preflight.every_job(args, backend, params)]
    if backend.name == "ollama" and backend.answers:
        now = known_models.seen(backend.llm, [*backend.contestants, backend.judge])  # type: ignore[arg-type]
        if tags := known_models.changed(backend.known, now):
            cost = known_models.cost_of_change(own, backend.known)
            yield "Note: " + known_models.change_sentence(tags, cost, args.cache_dir)
    seconds = timings(own)
    total: Counter[tuple[str, str]] = Counter()
    for one in own:
        calls = outstanding_by_stage(one)
        total += calls
        yield f"Cached for {one.name}: {_cached(one)}"
        yield f"Calls still to make for {one.name}: {_said(calls)}"
    between = comparison_calls(own)
    if between:
        yield f"Calls still to make for the comparison of the personas: {_by_model(between)}"
        total += Counter({("preferences", model): count for model, count in between.items()})
    if total:
        yield _estimate(total, seconds, 1 if own[0].llm.weighs_options else params.concurrency)


def _counted(job: Job) -> Job:
    """Counts also where a model is missing."""
    return job if job.llm.weighs_options else dataclasses.replace(job, llm=Recorded(job.llm, {}))


def _cached(job: Job) -> str:
    kept = []
    for stage, file in _STAGES.items():
        with job.store(file, stage, read_only=True) as store:
            kept.append(f"{len(store)} {stage.replace('_', ' ')}")
    recorded = job.samples_dir and (job.samples_dir / config.RESPONSES_FILE.format(name=job.name)).exists()
    return ", ".join(kept) + (", and the recorded run" if recorded and job.llm.weighs_options else "")


_STAGES = {
    "prompts": config.PROMPTS_FILE,
    "responses": config.RESPONSES_FILE,
    "preferences": config.PREFERENCES_FILE,
    "ground_truth": config.GROUND_TRUTH_FILE,
}


def _said(calls: Calls) -> str:
    if not calls:
        return "none, everything is cached"
    by_stage: Counter[str] = Counter()
    by_model: Counter[str] = Counter()
    for (stage, model), count in calls.items():
        by_stage[stage] += count
        by_model[model] += count
    stages = ", ".join(f"{count} for {stage.replace('_', ' ')}" for stage, count in by_stage.items())
    return f"{_by_model(by_model)} ({stages})"


def _by_model(calls: Mapping[str, int]) -> str:
    return ", ".join(f"{count} to {model}" for model, count in calls.items())


# ── Time ─────────────────────────────────────────────────────────────────────────────────────────────────


def timings(params: Sequence[Job]) -> dict[tuple[str, str], float]:
    """(stage, model) → mean seconds of one call, over what is cached; (stage, "") over all models."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for job in params:
        for stage in ("responses", "preferences"):
            with job.store(_STAGES[stage], stage, read_only=True) as store:
                for item in store.items():
                    value = item.value
                    if isinstance(value, dict) and isinstance(value.get("seconds"), int | float):
                        found[stage, ""].append(value["seconds"])
                        found[stage, _asked(job, stage, value)].append(value["seconds"])
    return {key: fmean(values) for key, values in found.items()}


def _asked(job: Job, stage: str, value: Mapping[str, object]) -> str:
    contestant = job.contestants.get(str(value.get("model")))
    if stage == "preferences" or job.llm.weighs_options:
        return job.judge
    return str((contestant and contestant.ollama_tag) or value.get("model"))


def _estimate(calls: Calls, seconds: Mapping[tuple[str, str], float], at_once: int) -> str:
    """Seconds were measured with as many calls in flight, so the wall time is their sum over that number."""
    total, untimed = 0.0, 0
    for (stage, model), count in calls.items():
        like = {"prompts": "responses", "ground_truth": "preferences"}.get(stage, stage)
        each = seconds.get((like, model), seconds.get((like, "")))
        if each is None:
            untimed += count
        total += count * (each or 0.0) / at_once
    if untimed == sum(calls.values()):
        return f"{untimed} calls in all; how long they take can be said once some answers are cached."
    rest = f", and {untimed} calls of a kind that was never timed" if untimed else ""
    return f"{sum(calls.values())} calls in all: about {duration(total)} by the timings in the cache{rest}."


def duration(seconds: float) -> str:
    """Two units at most: 45 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
