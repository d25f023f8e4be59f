"""The answer of ``--rank`` to a prompt: in the terminal, and as a line of JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import config
from core.records import Response
from core.text import padded, percent, plain, width
from report import words as wording
from stages.tasks import Job

TITLES = {
    "combined": "Combined: for this prompt, from what is known of each model and what it answered",
    "reward_model": "Reward model: for this prompt, from what each model answered",
    "elo_offset": "Elo offset: one ranking for all prompts",
}
NO_EVIDENCE = "no evidence"
VERDICTS = {
    "sure": "{model} is the best for this prompt: its chance is {chance}.",
    "likely": "{model} is probably the best for this prompt: its chance is {chance}.",
    "open": "Open: no model has an even chance to be the best for this prompt; {model} comes first with {chance}.",
    "not measured": "{model} comes first for this prompt: its chance to be the best is {chance}.",
    "no evidence": "No evidence: on prompts that it had not seen this ranking was not surely better than chance.",
}

Evidence = Mapping[str, Any]
"""Measurements on prompts that were not trained on: the recommended system, each system's figures, warnings."""


@dataclass(frozen=True, slots=True)
class Place:
    """One contestant in one system's ranking."""

    model: str
    score: float
    """Elo points; or reward or logits above the mean of the contestants on this prompt."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Speed and size of a contestant; None where they are not known."""

    tokens_per_second: float | None
    size_bytes: int | None
    parameter_size: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything said about one prompt."""

    prompt: str
    rankings: Mapping[str, Sequence[Place]]
    """By system, best first."""
    p_best: Mapping[str, float]
    """Each contestant's chance to be the best for this prompt, by System C."""
    by: str
    """The recommended system, whose first is ``best``."""
    verdict: str
    """sure, likely, open or no evidence."""
    best: Response
    costs: Mapping[str, Cost]
    base: str
    """The reward base that read the texts."""
    evidence: Evidence | None


def as_json(answer: Answer, job: Job) -> str:
    """One line of JSON, ASCII throughout so that no terminal or pipe can spoil it."""
    document = {
        "schema_version": config.SCHEMA_VERSION,
        "prompt": answer.prompt,
        "persona": job.name,
        "backend": job.llm.backend,
        "base_model": answer.base,
        **{system: [asdict(place) for place in ranking] for system, ranking in answer.rankings.items()},
        "p_best": dict(answer.p_best),
        "best": {
            "model": answer.best.model,
            "p_best": answer.p_best[answer.best.model],
            "verdict": answer.verdict,
            "by": answer.by,
            "text": answer.best.text,
            "truncated": answer.best.truncated,
        },
        "models": {model: asdict(cost) for model, cost in answer.costs.items()},
        "evidence": answer.evidence,
        "shows_only_how_the_suite_works": job.llm.backend == "embedded",
    }
    return json.dumps(document, allow_nan=False)


def lines(answer: Answer, run: str) -> list[str]:
    """The page for one prompt: the models with each one's chance to be the best, speed and size, how far to trust it,
    the other systems in brief, and the first one's response in full. ``run``: the command that measures how far.

    Sorted by the first figure that is shown; without places where the order is not surely better than chance.
    """
    columns, chances = max(width(plain(model)) for model in answer.costs), answer.p_best
    placed = answer.evidence is None or answer.verdict != NO_EVIDENCE
    said = ["", f"Prompt: {plain(answer.prompt)}", "", TITLES[answer.by]]
    ranking, scored = answer.rankings[answer.by], answer.by != "combined"
    if not scored:
        ranking = sorted(ranking, key=lambda place: (-chances[place.model], place.model))
    said += [f"   {'':{columns}}  {'score  ' if scored else ''}best with  tokens/s  size"]
    for number, place in enumerate(ranking, start=1):
        score = f"{_score(place, answer.by):>5}  " if scored else ""
        figures = f"{score}{percent(chances[place.model]):>9}  {_cost(answer.costs[place.model])}"
        said.append(f"{f'{number}.' if placed else '·':2} {padded(plain(place.model), columns)}  {figures}")
    cut = " (cut at --num_predict)" if answer.best.truncated else ""
    title = f"Response of {'the first' if placed else 'one of them'}: {plain(answer.best.model)}{cut}"
    text = plain(answer.best.text, lines=True)
    return [*said, "", *_sure(answer, run), "", title, "─" * len(title), text, "─" * len(title)]


def _cost(cost: Cost) -> str:
    speed = wording.number(cost.tokens_per_second, 1)
    size = f"{cost.size_bytes / 1e9:.1f} GB" if cost.size_bytes is not None else ""
    parameters = f"{plain(cost.parameter_size)} parameters" if cost.parameter_size else ""
    return f"{speed:>8}  {', '.join(filter(None, (size, parameters))) or wording.MISSING}"


def _sure(answer: Answer, run: str) -> list[str]:
    """Reliability in sentences: the chance of the first, the other systems, their figures, warnings."""
    evidence, first = answer.evidence, plain(answer.best.model)
    said = VERDICTS[answer.verdict if evidence else "not measured"]
    told = [
        said.format(model=first, chance=percent(answer.p_best[answer.best.model])),
        *(f"{wording.SYSTEMS[system]}: {_order(answer, system)}." for system in TITLES if system != answer.by),
    ]
    if evidence:
        metric = evidence["main_metric"]
        name = "τ" if metric == "kendall_tau" else wording.METRICS[metric].lower()
        figures = (
            f"{wording.SYSTEMS[system]} {wording.estimate(found['mean'], found['ci95'])}"
            for system, found in evidence["cross_validated"].items()
        )
        told += [f"On prompts not seen in training, mean {name}: {'; '.join(figures)}."]
        told += [plain(warning) for warning in evidence["warnings"]]
    told += [
        "Chances: by the combined system. tokens/s: over all kept responses, by the server's own clock; where it tells "
        "none, as they were asked, --concurrency side by side."
    ]
    wrapped = [line for sentence in told for line in textwrap.wrap(sentence, 80)]
    return wrapped if evidence else [*wrapped, "How far to trust this was not measured yet. This does:", f"  {run}"]


def _order(answer: Answer, system: str) -> str:
    return ", ".join(f"{plain(place.model)} ({_score(place, system)})" for place in answer.rankings[system])


def _score(place: Place, system: str) -> str:
    digits = 0 if system == "elo_offset" else 2
    return wording.number(place.score, digits, signed=digits > 0)
