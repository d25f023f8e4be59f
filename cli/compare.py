"""Are the personas different at all? Every persona ranks every persona's test prompts, and the rankings are compared.

Called for ``--persona all``, when each persona's own run is done.
"""

from __future__ import annotations

import json
import logging
from argparse import Namespace
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

import config
from cli import preflight
from cli.plan import comparison_calls, test_prompts
from core.files import keep_previous, write_atomically
from core.records import GroundTruth, Prompt, Response
from evaluation import kendall_tau
from evidence.intervals import Interval, mean_interval
from report import console as report
from report import plots
from stages.judging import (
    REFERENCE_GROUP,
    Texts,
    judge_pairs,
    likelihood_advantages,
    preferences_from,
    read_responses,
    reference_readers,
    round_robin_truths,
)
from stages.tasks import Job

log = logging.getLogger("ranking.data")

Tests = Mapping[str, tuple[Sequence[Prompt], Texts]]
"""{persona: (its test prompts, its responses)}."""
Rankings = Mapping[str, Mapping[str, GroundTruth]]
"""{who ranked: {prompt id: its ranking}}."""


def run(
    args: Namespace,
    backend: preflight.Backend,
    params: config.ExperimentConfig,
    every: Mapping[str, Mapping[str, Any]],
) -> None:
    """Compare the personas of ``every`` ({persona: its results}) and write the file, the figure and the table of all.

    What was not judged yet is judged now; the number of calls is said first.
    """
    own = [preflight.job(args, backend, params, name) for name in every]
    tests = {job.name: test_prompts(job) for job in own}
    calls = ", ".join(f"{count} to {model}" for model, count in comparison_calls(own).items())
    if calls:
        log.info("How alike are the personas? Each judges the test prompts of the others, calls: %s", calls)
    rankings = {reader.name: {t.prompt_id: t for t in rankings_by(reader, own, tests)} for reader in own}
    owner = {p.id: name for name, (prompts, _) in tests.items() for p in prompts}
    together = {
        "schema_version": config.SCHEMA_VERSION,
        "backend": backend.name,
        "label": backend.label,
        "judge": backend.judge,
        "seed": params.random_seed,
        **similarity(rankings, owner),
        "personas": dict(every),
    }
    paths = [args.results_dir / pattern.format(name="all") for pattern in (config.RESULTS_FILE, config.PERSONAS_PLOT)]
    keep_previous(paths)
    write_atomically(paths[0], json.dumps(together, indent=2, ensure_ascii=False) + "\n")
    plots.plot_personas(together, paths[1])
    report.print_personas(together)
    print("\nWritten: " + ", ".join(str(path) for path in paths))


# ── Judging as somebody else ─────────────────────────────────────────────────────────────────────────────


def rankings_by(reader: Job, owners: Sequence[Job], tests: Tests) -> list[GroundTruth]:
    """How ``reader``'s persona ranks the responses to the test prompts of each of ``owners``.

    A judge that is asked judges every pair in both orders, as it does its own; kept among ``reader``'s preferences.
    """
    if reader.llm.weighs_options:
        return [truth for owner in owners for truth in _weighed(reader, owner, *tests[owner.name])]
    prompts = [prompt for owner in owners for prompt in tests[owner.name][0]]
    texts = {key: text for owner in owners for key, text in tests[owner.name][1].items()}
    responses = [
        Response(prompt.id, model, texts[prompt.id, model]) for prompt in prompts for model in reader.contestants
    ]
    return round_robin_truths(preferences_from(judge_pairs(reader, prompts, responses)))


def _weighed(reader: Job, owner: Job, prompts: Sequence[Prompt], texts: Texts) -> list[GroundTruth]:
    """By one more reading of each response, kept beside the reference readers' readings of it among ``owner``'s.

    The advantages are the scores themselves: a round robin between them has the same order.
    """
    answerer = {reader.name: reader.persona.answerer}
    with owner.store(config.PREFERENCES_FILE, "preferences") as store:
        reference = read_responses(owner, store, prompts, texts, reference_readers(), REFERENCE_GROUP)
        own = read_responses(owner, store, prompts, texts, answerer, reader.name)
    advantage = likelihood_advantages(own, reference)
    return [GroundTruth(p.id, {m: advantage[p.id, m] for m in owner.contestants}, "likelihood") for p in prompts]


# ── How alike ────────────────────────────────────────────────────────────────────────────────────────────


def similarity(rankings: Rankings, owner: Mapping[str, str]) -> dict[str, Any]:
    """{"similarity": {P: {Q: mean τ-b}}, "similarity_ci95": {P: {Q: [lo, hi]}}, "similarity_prompts": n}.

    Over all prompts, whoever asked them (``owner``: {prompt id: persona}). Prompts of one persona resemble each
    other, so the intervals are clustered by it. A prompt that one of the two calls all tied counts 0.
    """
    alike: dict[str, dict[str, float]] = {p: dict.fromkeys(rankings, 1.0) for p in rankings}
    bounds: dict[str, dict[str, Interval | None]] = {p: dict.fromkeys(rankings) for p in rankings}
    for p, q in combinations(rankings, 2):
        taus = [_tau(rankings[p][prompt_id], rankings[q][prompt_id]) for prompt_id in owner]
        alike[p][q] = alike[q][p] = fmean(taus)
        bounds[p][q] = bounds[q][p] = mean_interval(taus, groups=list(owner.values()))
    return {"similarity": alike, "similarity_ci95": bounds, "similarity_prompts": len(owner)}


def _tau(a: GroundTruth, b: GroundTruth) -> float:
    return float(kendall_tau(np.array(list(a.scores.values())), np.array([b.scores[model] for model in a.scores])))
