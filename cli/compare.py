"""Are the personas different at all? Every persona ranks every persona's test prompts, and the rankings are compared.

Called for ``--persona all``, when each persona's own run is done.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import config
from cli.counting import by_model, count_comparison, ids_for_testing
from core.files import keep_previous, write_atomically, write_json
from core.records import GroundTruth
from data_generation import Data, rankings_by
from evaluation import kendall_tau
from evidence.hypotheses import pooled
from evidence.intervals import Groups, Interval, mean_interval
from stages.tasks import Job

log = logging.getLogger("ranking.data")

Rankings = Mapping[str, Mapping[str, GroundTruth]]
"""{who ranked: {prompt id: its ranking}}."""


def run(
    jobs: Sequence[Job],
    data: Sequence[Data],
    documents: Mapping[str, Mapping[str, Any]],
    *,
    label: str,
    results_dir: Path,
) -> None:
    """Compare the personas of ``jobs`` and write the file, the figure, the page and the table of all.

    ``data`` and ``documents`` (by name) are what each persona's own run left. What was not judged yet is judged now;
    the number of calls is said first.
    """
    from report import console, plots
    from report.page import write_personas

    calls = by_model(count_comparison(jobs, data))
    if calls:
        said = ", ".join(f"{count} to {model}" for model, count in calls.items())
        log.info("How alike are the personas? Each judges the test prompts of the others, calls: %s", said)
    owner = {prompt_id: job.name for job in jobs for prompt_id in ids_for_testing(job)}
    rankings = {job.name: {t.prompt_id: t for t in rankings_by(job, jobs, data, owner)} for job in jobs}
    owner = {prompt_id: name for prompt_id, name in owner.items() if all(prompt_id in r for r in rankings.values())}
    together = {
        "schema_version": config.SCHEMA_VERSION,
        "backend": jobs[0].llm.backend,
        "label": label,
        "judge": jobs[0].judge,
        "seed": jobs[0].params.random_seed,
        **similarity(rankings, owner),
        "pooled": pooled(documents),
        "personas": dict(documents),
    }
    names = (config.RESULTS_FILE, config.PERSONAS_PLOT, config.REPORT_FILE)
    paths = [results_dir / pattern.format(name="all") for pattern in names]
    keep_previous(paths)
    write_json(paths[0], together)
    write_atomically(paths[1], plots.png(plots.personas, together))
    write_personas(together, paths[2])
    console.print_personas(together)
    console.print_files(paths)


def similarity(rankings: Rankings, owner: Mapping[str, str]) -> dict[str, Any]:
    """{"similarity": {P: {Q: mean τ-b}}, "similarity_ci95": {P: {Q: [lo, hi]}}, "similarity_prompts": n}.

    Over all prompts, whoever asked them (``owner``: {prompt id: persona}). Prompts of one persona resemble each
    other, so the intervals are clustered by it. A prompt that one of the two calls all tied counts 0.
    """
    alike: dict[str, dict[str, float]] = {p: dict.fromkeys(rankings, 1.0) for p in rankings}
    bounds: dict[str, dict[str, Interval | None]] = {p: dict.fromkeys(rankings) for p in rankings}
    for p, q in combinations(rankings, 2):
        taus = [kendall_tau(rankings[p][prompt_id].scores, rankings[q][prompt_id].scores) for prompt_id in owner]
        alike[p][q] = alike[q][p] = fmean(taus)
        bounds[p][q] = bounds[q][p] = mean_interval(taus, groups=Groups(list(owner.values())))
    return {"similarity": alike, "similarity_ci95": bounds, "similarity_prompts": len(owner)}
