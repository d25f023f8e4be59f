"""What ``--rank`` says about a prompt: in the terminal, and as a line of JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import config
from core.records import Response
from report import words as wording

if TYPE_CHECKING:
    from cli.learned import Learned
    from stages.tasks import Job


@dataclass(frozen=True, slots=True)
class Place:
    """One contestant in one system's ranking."""

    model: str
    score: float
    """Elo points; or reward above the mean of the contestants on this prompt."""
    spread: float
    """Standard deviation of the score over the trainings of the cross-validation."""
    first: int
    """How many of these trainings put it first; a shared first place counts for each."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What using a contestant takes; None where it is not known."""

    tokens_per_second: float | None
    size_bytes: int | None
    parameter_size: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is said about one prompt."""

    prompt: str
    rankings: Mapping[str, Sequence[Place]]
    """By system, best first."""
    by: str
    """The system that chose the best response: the better one on prompts it had not seen."""
    best: Response
    costs: Mapping[str, Cost]


def as_json(answer: Answer, job: Job, known: Learned) -> str:
    """One line of JSON, ASCII throughout so that no terminal or pipe can spoil it."""
    document = {
        "schema_version": config.SCHEMA_VERSION,
        "prompt": answer.prompt,
        "persona": job.name,
        "backend": job.llm.backend,
        "base_model": known.base,
        **{system: [asdict(place) for place in ranking] for system, ranking in answer.rankings.items()},
        "folds": len(known.fold_ratings),
        "best": {
            "model": answer.best.model,
            "by": answer.by,
            "text": answer.best.text,
            "truncated": answer.best.truncated,
        },
        "models": {model: asdict(cost) for model, cost in answer.costs.items()},
        "evidence": dict(known.evidence),
        "shows_only_how_the_suite_works": job.llm.backend == "embedded",
    }
    return json.dumps(document, allow_nan=False)


def lines(answer: Answer, known: Learned) -> list[str]:
    """The page for one prompt: both rankings, speed and size, how far to trust them, and the best response in full."""
    folds, width = len(known.fold_ratings), max(map(len, answer.costs))
    titles = {
        "reward_model": ("Reward model: for this prompt, from what each model answered", "reward", 2),
        "elo_offset": ("Elo offset: one ranking for all prompts", "rating", 0),
    }
    said = ["", f"Prompt: {wording.plain(answer.prompt)}"]
    for system, (title, unit, digits) in titles.items():
        said += ["", title, f"   {'':{width}}  {unit:>7}  ± folds  first in"]
        for number, place in enumerate(answer.rankings[system], start=1):
            score = wording.number(place.score, digits, signed=digits > 0)
            spread = wording.number(place.spread, digits)
            said.append(
                f"{number}. {wording.plain(place.model):{width}}  {score:>7}  {spread:>7}  {place.first} of {folds}"
            )
    said += ["", f"   {'':{width}}  tokens/s  size"]
    said += [f"   {wording.plain(model):{width}}  {_cost(cost)}" for model, cost in answer.costs.items()]
    cut = " (cut at --num_predict)" if answer.best.truncated else ""
    title = f"Best response, by the {wording.SYSTEMS[answer.by]}: {wording.plain(answer.best.model)}{cut}"
    text = wording.plain(answer.best.text, lines=True)
    return [*said, "", *_sure(answer, known), "", title, "─" * len(title), text, "─" * len(title)]


def _cost(cost: Cost) -> str:
    speed = wording.number(cost.tokens_per_second, 1)
    size = f"{cost.size_bytes / 1e9:.1f} GB" if cost.size_bytes is not None else ""
    parameters = f"{wording.plain(cost.parameter_size)} parameters" if cost.parameter_size else ""
    return f"{speed:>8}  {', '.join(filter(None, (size, parameters))) or wording.MISSING}"


def _sure(answer: Answer, known: Learned) -> list[str]:
    """How far all of this can be relied on."""
    tau = known.evidence["kendall_tau"]
    figures = [
        f"{wording.SYSTEMS[system]} {wording.estimate(tau[system]['mean'], tau[system]['ci95'])}"
        for system in reversed(wording.CONTENDERS)
    ]
    first = {system: ranking[0].model for system, ranking in answer.rankings.items()}
    agree = "Both systems put the same model first." if len(set(first.values())) == 1 else (
        "The systems disagree about the first place."
    )  # fmt: skip
    said = [
        f"{agree} On prompts it had not seen each had a mean τ of: {'; '.join(figures)}.",
        *(wording.plain(warning) for warning in known.evidence["warnings"]),
        f"± is the standard deviation over the {len(known.fold_ratings)} trainings of the cross-validation. They share "
        "most of their prompts: it is rather too small than too large.",
        "tokens/s: over all kept responses, as they were asked (--concurrency side by side).",
    ]
    return [line for sentence in said for line in textwrap.wrap(sentence, 80)]
