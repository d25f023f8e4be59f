"""The methods over all personas' prompts together: five times "none" may hide one answer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import config
from evaluation import BOUNDS, METRICS
from evidence.hypotheses import difference_json
from evidence.intervals import mean_interval, paired_difference, winner
from stages.tasks import Job


def together(documents: Mapping[str, Mapping[str, Any]], job: Job) -> dict[str, Any]:
    """The results document of ``--persona all``: every persona's own, and the methods over all their prompts. ``job``:
    any of the personas'."""
    return {
        "schema_version": config.SCHEMA_VERSION,
        "backend": job.llm.backend,
        "label": job.label,
        "judge": job.judge,
        "seed": job.params.random_seed,
        "pooled": pooled(documents, job.params.random_seed),
        "personas": dict(documents),
    }


def pooled(documents: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """The key ``pooled``: {prompts, cross_validated{SYSTEM: {METRIC: {mean, ci95}}}, comparisons{"B-A": {METRIC: …}},
    winner}, from every persona's ``per_prompt``.

    Groups are persona × fold: folds share training data within a persona, and never beyond it.
    """
    rows = [(persona, row) for persona, document in documents.items() for row in document["per_prompt"]]
    groups = [(persona, row["fold"]) for persona, row in rows]
    folds = min((document["config"]["folds"] for document in documents.values()), default=2)
    systems = [s for s, cells in rows[0][1].items() if isinstance(cells, Mapping)] if rows else []

    def values(system: str, metric: str) -> list[float]:
        return [float(row[system][metric]) for _, row in rows]

    def mean(system: str, metric: str) -> dict[str, Any]:
        found = values(system, metric)
        interval = mean_interval(found, *BOUNDS[metric], groups, folds)
        return {"mean": sum(found) / len(found), "ci95": list(interval) if interval else None}

    def difference(better: str, worse: str, metric: str) -> Any:
        low, high = BOUNDS[metric]
        return paired_difference(values(better, metric), values(worse, metric), seed, groups, high - low, folds)

    pairs = [(b, a) for a, b in combinations(systems, 2)]
    named = difference("reward_model", "elo_offset", "kendall_tau") if rows else None
    return {
        "prompts": len(rows),
        "cross_validated": {s: {m: mean(s, m) for m in METRICS} for s in systems},
        "comparisons": {f"{b}-{a}": {m: difference_json(difference(b, a, m)) for m in METRICS} for b, a in pairs},
        "winner": winner(named),
    }
