"""The systems compared with each other, H1 sample efficiency and H2 generalization to unseen models, ready for JSON.

A verdict is *supported* where the 95 % interval of a system's advantage lies above 0, *not supported* where it lies
below ``RELEVANT`` (there may be an advantage, but none worth naming) and *inconclusive* between the two. Each
hypothesis has two rivals, and its verdict is the weaker of those against either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference
from evaluation import BOUNDS, METRICS, Array, Curves, Metrics, training_ids
from evidence.document import Compared
from evidence.intervals import (
    Difference,
    Groups,
    difference,
    difference_json,
    is_better,
    is_worse,
    mean_interval,
    winner,
)

Verdict = Literal["supported", "not supported", "inconclusive", "not tested"]
RELEVANT = 0.05
"""The smallest advantage worth naming, in τ (H1) and in pair accuracy (H2): it moves less than one pair in 20."""

CONTENDERS = ("elo_offset", "reward_model", "combined")
RIVALS = ("elo_offset", "reward_model")  # of the combined system

CrossValidated = Mapping[str, Mapping[str, Metrics]]
"""{system: {prompt id: metrics}}"""


def fold_of(parts: Sequence[Sequence[str]]) -> dict[str, int]:
    """{prompt id: its fold}."""
    return {prompt_id: i for i, part in enumerate(parts) for prompt_id in part}


# ── The systems against each other ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Scores:
    """One metric of every system on the same n prompts (or votes), each under a training that did not see it."""

    metric: str
    values: Mapping[str, Sequence[float] | Array]
    """{system: [n]}"""
    groups: Groups

    def mean(self, system: str) -> dict[str, Any]:
        """{mean, ci95}, null without values."""
        values = np.asarray(self.values[system], dtype=np.float64)
        interval = mean_interval(values, *BOUNDS[self.metric], self.groups)
        return {"mean": self.groups.mean(values) if len(values) else None, "ci95": list(interval) if interval else None}

    def gain(self, better: str, worse: str) -> Difference | None:
        """Mean of ``better`` − ``worse``."""
        low, high = BOUNDS[self.metric]
        return difference(self.values[better], self.values[worse], self.groups, high - low)


def scores_of(crossed: CrossValidated, parts: Sequence[Sequence[str]]) -> dict[str, Scores]:
    """{metric: Scores} of what was cross-validated in the folds ``parts``."""
    fold = fold_of(parts)
    prompts = list(next(iter(crossed.values()), {}))
    groups = Groups([fold[p] for p in prompts])
    return {
        metric: Scores(metric, {s: [getattr(rows[p], metric) for p in prompts] for s, rows in crossed.items()}, groups)
        for metric in METRICS
    }


def compared(scores: Mapping[str, Scores], main: str) -> Compared:
    """The systems against each other, decided by the metric ``main``.

    Recommended is the combined system unless a rival surely beats it (of two such the one with the higher mean). Of
    baselines that surely beat Systems A and B alike it is warned: then the winner is one of the beaten.
    """
    values = scores[main]
    gains = {m: one.gain("reward_model", "elo_offset") for m, one in scores.items()}
    over = {rival: values.gain("combined", rival) for rival in RIVALS}
    worse = [rival for rival in RIVALS if is_worse(over[rival])]
    return {
        "cross_validated": {s: {m: one.mean(s) for m, one in scores.items()} for s in values.values},
        "improvement": {m: difference_json(gain) for m, gain in gains.items()},
        "winner": winner(gains[main]),
        "comparisons": {
            f"combined-{rival}": {m: difference_json(one.gain("combined", rival)) for m, one in scores.items()}
            for rival in RIVALS
        },
        "recommended": max(worse, key=lambda rival: values.mean(rival)["mean"]) if worse else "combined",
        "verdict": {
            "sentence": "",
            "better_than": ["combined"] if worse else [rival for rival in RIVALS if is_better(over[rival])],
            "prompts_needed": None,
            "stronger_baselines": [
                s for s in values.values
                if s not in CONTENDERS and all(is_better(values.gain(s, rival)) for rival in RIVALS)
            ],
            "warnings": [],
        },
    }  # fmt: skip


def pooled(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The contenders' τ over all personas' prompts together, from every persona's ``per_prompt``: five times "none" may
    hide one answer. {prompts, cross_validated, improvement, winner} as for one persona.

    Folds share training data within a persona and never beyond it, so a group is a persona's fold.
    """
    rows = [(persona, row) for persona, document in documents.items() for row in document["per_prompt"]]
    folds = [(persona, row["fold"]) for persona, row in rows]
    groups = Groups(folds, k=min(document["config"]["folds"] for document in documents.values()))
    tau = Scores("kendall_tau", {s: [row[s]["kendall_tau"] for _, row in rows] for s in CONTENDERS}, groups)
    gain = tau.gain("reward_model", "elo_offset")
    return {
        "prompts": len(rows),
        "cross_validated": {s: {"kendall_tau": tau.mean(s)} for s in CONTENDERS},
        "improvement": {"kendall_tau": difference_json(gain)},
        "winner": winner(gain),
    }


# ── Verdicts ─────────────────────────────────────────────────────────────────────────────────────────────


def verdict(advantage: Difference | None) -> Verdict:
    """Whether an advantage supports a hypothesis that claims one."""
    if is_better(advantage):
        return "supported"
    return "not supported" if advantage is not None and advantage.ci95[1] < RELEVANT else "inconclusive"


def not_tested(reason: str) -> dict[str, Any]:
    """A hypothesis that this run could not test, and why."""
    return {"verdict": "not tested", "reason": reason}


def _against_all(found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Results against each rival as one: the weakest verdict, and beside them all figures against the first."""
    verdicts = [one["verdict"] for one in found.values()]
    weakest = min(verdicts, key=("not supported", "inconclusive", "supported").index)
    return next(iter(found.values())) | {"verdict": weakest} | dict(found)


# ── H1: sample efficiency ────────────────────────────────────────────────────────────────────────────────


def sample_efficiency(
    rivals: Mapping[str, Curves], learner: Curves, parts: Sequence[Sequence[str]], name: str = "reward_model"
) -> dict[str, Any]:
    """H1: the ``learner`` called ``name`` needs fewer preferences than System A, by cross-validated curves over the
    same orders.

    ``rivals``: {"from_arena": System A, "from_flat": the same with all contestants equal in the beginning}: being
    quicker than someone who starts from the wrong end is no sign of learning quickly. Tested on the area between the
    curves in τ, paired by prompt: orders are drawn at will and no sample of anything, so they are averaged first.
    Raises ValueError for other points or prompts.
    """
    fold, found = fold_of(parts), {}
    for key, elo in rivals.items():
        if (elo.counts, elo.prompt_ids) != (learner.counts, learner.prompt_ids):
            raise ValueError("both curves must have the same points and prompts")
        groups = Groups([fold[p] for p in elo.prompt_ids])
        advantage = difference(area_per_prompt(learner), area_per_prompt(elo), groups)
        elo_final, own_final = (c.points[-1].metrics.kendall_tau for c in (elo, learner))
        found[key] = {
            "verdict": verdict(advantage),
            "area_between_curves": difference_json(advantage),
            "elo_offset_final": elo_final,
            f"{name}_final": own_final,
            f"{name}_needs_for_elo_final": preferences_needed(learner, elo_final),
            f"elo_needs_for_{name}_final": preferences_needed(elo, own_final),
        }
    return _against_all(found)


def area_per_prompt(curves: Curves) -> Array:
    """Area under each prompt's curve of τ, mean over orders, divided by its width: [prompts], in units of τ."""
    values = curves.values["kendall_tau"].mean(0)
    if len(curves.counts) == 1:
        return np.asarray(values[0])
    return np.asarray(np.trapezoid(values, curves.counts, axis=0) / (curves.counts[-1] - curves.counts[0]))


def preferences_needed(curves: Curves, target: float | None) -> int | None:
    """The first point from which on the mean τ stays at ``target`` or above; None where it ends below."""
    reached: int | None = None
    for n, metrics in reversed(curves.points):
        if target is None or metrics.kendall_tau is None or metrics.kendall_tau < target:
            break
        reached = n
    return reached


# ── H2: generalization to unseen models ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a ranker puts a contestant that it never saw in training, on one test prompt."""

    prompt_id: str
    model: str
    place_error: float
    """|predicted place − true place|; tied contestants share the mean of their places."""
    pair_accuracy: float | None
    """Share of its pairs that the truth orders and the ranker orders so too (a tied score: half); None: no such."""


def placement(scores: Mapping[str, float], truth: GroundTruth, model: str) -> Placement:
    """How well ``scores`` place ``model`` among the truth's contestants."""
    others = [m for m in truth.scores if m != model]
    above = {m: float(np.sign(scores[m] - scores[model]) if scores[m] != scores[model] else 0.0) for m in others}
    truly = {m: float(np.sign(truth.scores[m] - truth.scores[model])) for m in others}
    # a place is 1 + those above + half of those tied, so that two places differ by half the differences in sign
    error = abs(sum(above.values()) - sum(truly.values())) / 2.0
    hits = [0.5 + 0.5 * above[m] * truly[m] for m in others if truly[m]]
    return Placement(truth.prompt_id, model, error, sum(hits) / len(hits) if hits else None)


def held_out_placements(
    ranker: Ranker,
    preferences: Sequence[Preference],
    truths: Iterable[GroundTruth],
    parts: Sequence[Sequence[str]],
    models: Sequence[str],
) -> list[Placement]:
    """Each contestant held out in turn, each prompt a test prompt once; all trainings are one ``fit_many``."""
    known = {truth.prompt_id: truth for truth in truths}
    runs = [(model, i) for model in models for i in range(len(parts))]
    fitted = ranker.fit_many([TrainingSet.of(preferences, training_ids(parts, i), model) for model, i in runs])
    return [
        placement(one.scores(prompt_id), known[prompt_id], model)
        for one, (model, i) in zip(fitted, runs, strict=True)
        for prompt_id in parts[i]
    ]


def generalization(
    rivals: Mapping[str, tuple[str, Sequence[Placement]]], learner: Sequence[Placement], name: str = "reward_model"
) -> dict[str, Any]:
    """H2: the ``learner`` called ``name`` ranks a contestant never seen in training better than its rivals do.

    ``rivals``: {"against_elo": its global Elo, "against_others_mean": someone who knows nothing of it, the others by
    Bradley–Terry and the unseen one at their mean}, each with the system's name. Tested on the accuracy of its pairs,
    by prompt or by contestant, whichever is less sure: a claim about unseen models needs more than many prompts, and
    six contestants leave five degrees of freedom. Raises ValueError for other contestants or prompts.
    """
    return _against_all({key: _placed_better(*rival, learner, name) for key, rival in rivals.items()})


def _placed_better(rival: str, theirs: Sequence[Placement], learner: Sequence[Placement], name: str) -> dict[str, Any]:
    """How much better the learner places unseen contestants than one rival."""
    if [(p.prompt_id, p.model) for p in theirs] != [(p.prompt_id, p.model) for p in learner]:
        raise ValueError("both systems must place the same contestants on the same prompts")

    def compared(model: str | None = None) -> tuple[dict[str, Any], Difference | None]:
        """Both means of both figures, for one contestant or all, and the difference in pairs ordered right. A prompt on
        which the truth orders none of the pairs has no pair accuracy."""
        pairs = [(a, b) for a, b in zip(theirs, learner, strict=True) if model in (None, a.model)]
        old, new = ([p.pair_accuracy for p in side if p.pair_accuracy is not None] for side in zip(*pairs, strict=True))
        known = [a for a, _ in pairs if a.pair_accuracy is not None]
        gain = difference(new, old, Groups(units=[[p.prompt_id for p in known], [p.model for p in known]]), 1.0)
        accuracy = {s: float(np.mean(v)) if known else None for s, v in ((rival, old), (name, new))}
        place = {s: float(np.mean([pair[i].place_error for pair in pairs])) for i, s in enumerate((rival, name))}
        return {"pair_accuracy": accuracy | difference_json(gain), "place_error": place}, gain

    found, advantage = compared()
    alone = {model: compared(model)[0] for model in dict.fromkeys(p.model for p in learner)}
    return {"verdict": verdict(advantage), **found, "by_contestant": alone}
