"""The systems compared with each other, H1 sample efficiency and H2 generalization to unseen models, ready for JSON.

A verdict is *supported* where the 95 % interval of a system's advantage lies above 0, *not supported* where it lies
below ``RELEVANT`` (there may be an advantage, but none worth naming) and *inconclusive* between the two. Each
hypothesis has two rivals, and its verdict is the weaker of those against either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth
from evaluation import BOUNDS, METRICS, Array, Curve, Metrics, Round
from evidence.intervals import Difference, Groups, difference, difference_json, mean_interval, side, winner
from report.words import CONTENDERS

RELEVANT = 0.05  # smallest advantage worth naming, in τ (H1) and in pair accuracy (H2): less than one pair in 20
RIVALS = ("elo_offset", "reward_model")  # of the combined system

Placed = Mapping[tuple[str, str], float]
"""{(prompt id, contestant): share of its pairs that a ranker orders right which never saw it in training}"""


@dataclass(frozen=True, slots=True)
class Scores:
    """One metric of every system on the same n prompts (or votes), each under a training that did not see it."""

    metric: str
    values: Mapping[Any, Sequence[float] | Array]  # {system, or point of its curve: [n]}
    groups: Groups

    def mean(self, system: str | int) -> dict[str, Any]:
        """{mean, ci95}, null without values."""
        values = np.asarray(self.values[system], dtype=np.float64)
        interval = mean_interval(values, *BOUNDS[self.metric], self.groups)
        return {"mean": self.groups.mean(values) if len(values) else None, "ci95": list(interval) if interval else None}

    def gain(self, better: str, worse: str) -> Difference | None:
        """Mean of ``better`` − ``worse``."""
        low, high = BOUNDS[self.metric]
        return difference(self.values[better], self.values[worse], self.groups, high - low)


def scores_of(crossed: Mapping[Any, Mapping[str, Metrics]], fold: Mapping[str, int]) -> dict[str, Scores]:
    """{metric: Scores} of {system: {prompt id: metrics}}. ``fold``: in which each prompt tested."""
    prompts, found = list(next(iter(crossed.values()))), {}
    groups = Groups([fold[prompt_id] for prompt_id in prompts])
    for metric in METRICS:
        values = {s: [getattr(rows[p], metric) for p in prompts] for s, rows in crossed.items()}
        found[metric] = Scores(metric, values, groups)
    return found


def compared(scores: Mapping[str, Scores], main: str) -> dict[str, Any]:
    """The systems against each other, decided by the metric ``main``: the document's keys from ``cross_validated`` to
    ``verdict``.

    Recommended is the combined system unless a rival surely beats it (of two such the one with the higher mean).
    ``stronger_baselines`` surely beat Systems A and B alike: then the winner is one of the beaten.
    """
    values = scores[main]
    over = {rival: values.gain("combined", rival) for rival in RIVALS}
    worse = [rival for rival in RIVALS if side(over[rival]) < 0]
    return {
        "cross_validated": {s: {m: one.mean(s) for m, one in scores.items()} for s in values.values},
        "improvement": {m: difference_json(one.gain("reward_model", "elo_offset")) for m, one in scores.items()},
        "winner": winner(values.gain("reward_model", "elo_offset")),
        "comparisons": {
            f"combined-{rival}": {m: difference_json(one.gain("combined", rival)) for m, one in scores.items()}
            for rival in RIVALS
        },
        "recommended": max(worse, key=lambda rival: values.mean(rival)["mean"]) if worse else "combined",
        "verdict": {
            "better_than": ["combined"] if worse else [rival for rival in RIVALS if side(over[rival]) > 0],
            "stronger_baselines": [
                s for s in values.values
                if s not in CONTENDERS and all(side(values.gain(s, rival)) > 0 for rival in RIVALS)
            ],
        },
    }  # fmt: skip


def pooled(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """{prompts, and what ``compared`` says} of the contenders' τ over all personas' prompts together: five times "none"
    may hide one answer."""
    rows = [(persona, row) for persona, document in documents.items() for row in document["per_prompt"]]
    folds = [(persona, row["fold"]) for persona, row in rows]  # training data is shared within a persona alone
    groups = Groups(folds, k=min(document["config"]["folds"] for document in documents.values()))
    tau = Scores("kendall_tau", {s: [row[s]["kendall_tau"] for _, row in rows] for s in CONTENDERS}, groups)
    return {"prompts": len(rows), **compared({tau.metric: tau}, tau.metric)}


def verdict(advantage: Difference | None) -> str:
    """Whether an advantage supports a hypothesis that claims one."""
    if side(advantage) > 0:
        return "supported"
    return "not supported" if advantage is not None and advantage.ci95[1] < RELEVANT else "inconclusive"


def _against_all(found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Results against each rival as one: the weakest verdict, and beside them all figures against the first."""
    verdicts = [one["verdict"] for one in found.values()]
    weakest = min(verdicts, key=("not supported", "inconclusive", "supported").index)
    return next(iter(found.values())) | {"verdict": weakest} | dict(found)


def bands(curve: Curve, fold: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """{metric: [{mean, ci95}]}: over orders and prompts, at each point."""
    return {metric: [scores.mean(n) for n in curve] for metric, scores in scores_of(curve, fold).items()}


def sample_efficiency(curves: Mapping[str, Curve], name: str, fold: Mapping[str, int]) -> dict[str, Any]:
    """H1: the system ``name`` needs fewer preferences than System A. ``curves``: {system: its cross-validated curves}
    over the same orders, points and prompts.

    Its rivals are ``elo_offset``, System A from the Arena, and ``from_flat``, the same with all contestants equal in
    the beginning: being quicker than someone who starts from the wrong end is no sign of learning quickly. Tested on
    the area between the curves in τ, paired by prompt: orders are no sample of anything, so they are averaged first.
    """
    found, last = {}, max(curves[name])
    tau = {s: scores_of(curve, fold)["kendall_tau"] for s, curve in curves.items()}
    # under each prompt's curve, divided by its width: [prompts], in units of τ
    area = {s: np.asarray(np.trapezoid([*t.values.values()], [*t.values], axis=0) / last) for s, t in tau.items()}
    for key, elo in (("from_arena", "elo_offset"), ("from_flat", "from_flat")):
        advantage = difference(area[name], area[elo], tau[name].groups)
        found[key] = {
            "verdict": verdict(advantage),
            "area_between_curves": difference_json(advantage),
            "elo_offset_final": tau[elo].mean(last)["mean"],
            f"{name}_final": tau[name].mean(last)["mean"],
        }
    return _against_all(found)


def pair_accuracy(scores: Mapping[str, float], truth: GroundTruth, model: str) -> float | None:
    """Share of the model's pairs, of those that the truth orders, in ``scores``' right order, a tied score half."""
    hits = [
        0.5 if scores[m] == scores[model] else float((scores[m] > scores[model]) == (true > truth.scores[model]))
        for m, true in truth.scores.items()
        if true != truth.scores[model]
    ]
    return sum(hits) / len(hits) if hits else None


def held_out(ranker: Ranker, rounds: Sequence[Round], models: Sequence[str]) -> Placed:
    """Each contestant held out in turn, each prompt a test prompt once; all trainings are one ``fit_many``."""
    runs = [(model, *one) for model in models for one in rounds]
    fitted = ranker.fit_many([TrainingSet.of(own.preferences, own.prompt_ids, model) for model, own, _ in runs])
    placed = {
        (truth.prompt_id, model): pair_accuracy(one.scores(truth.prompt_id), truth, model)
        for one, (model, _, tests) in zip(fitted, runs, strict=True)
        for truth in tests
    }
    return {cell: share for cell, share in placed.items() if share is not None}


def generalization(placed: Mapping[str, Placed], name: str) -> dict[str, Any]:
    """H2: the system ``name`` ranks a contestant never seen in training better than its rivals do. ``placed``: {system:
    its shares of the same cells}.

    The rivals are ``elo_offset``, the contestant's global Elo, and ``bradley_terry``, someone who knows nothing of it:
    the others by Bradley–Terry and the unseen one at their mean. Tested on the accuracy of its pairs, by prompt or by
    contestant, whichever is less sure: a claim about unseen models needs more than many prompts.
    """
    found, cells = {}, list(placed[name])
    groups = Groups(units=[[prompt_id for prompt_id, _ in cells], [model for _, model in cells]])
    scores = Scores("ranking_accuracy", {s: [own[cell] for cell in cells] for s, own in placed.items()}, groups)
    for key, rival in (("against_elo", "elo_offset"), ("against_others_mean", "bradley_terry")):
        gain = scores.gain(name, rival)
        means = {system: scores.mean(system)["mean"] for system in (rival, name)}
        found[key] = {"verdict": verdict(gain), "pair_accuracy": means | difference_json(gain)}
    return _against_all(found)
