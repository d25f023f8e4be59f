"""What the data can carry: the paired improvement, H1 sample efficiency and H2 generalization, ready for JSON.

A verdict is *supported* where the 95 % interval of System B's advantage lies above 0 (and p < 0.05), *not
supported* where it lies below ``RELEVANT`` (there may be an advantage, but none worth naming) and *inconclusive*
between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference
from evaluation import BOUNDS, METRICS, Array, Curves, Metrics, mean_metrics
from evidence.intervals import ALPHA, Difference, clustered_difference, mean_interval, paired_difference

Verdict = Literal["supported", "not supported", "inconclusive", "not tested"]
RELEVANT = 0.05
"""The smallest advantage worth naming, in τ (H1) and in pair accuracy (H2): it moves less than one pair in 20."""

CrossValidated = Mapping[str, Mapping[str, Metrics]]  # {system: {prompt id: metrics}}


def verdict(advantage: Difference | None) -> Verdict:
    """What an advantage of System B says about a hypothesis that claims one."""
    if advantage is None:
        return "inconclusive"
    low, high = advantage.ci95
    if low > 0.0 and advantage.p_value < ALPHA:
        return "supported"
    return "not supported" if high < RELEVANT else "inconclusive"


def fold_of(parts: Sequence[Sequence[str]]) -> dict[str, int]:
    """{prompt id: its fold}."""
    return {prompt_id: i for i, part in enumerate(parts) for prompt_id in part}


# ── Cross-validated metrics ──────────────────────────────────────────────────────────────────────────────


def cross_validated(results: CrossValidated, parts: Sequence[Sequence[str]]) -> dict[str, dict[str, Any]]:
    """The ``cross_validated`` key: {system: {metric: {mean, ci95}}}, nulls where no prompt has an order."""
    fold = fold_of(parts)
    table: dict[str, dict[str, Any]] = {}
    for system, per_prompt in results.items():
        mean = mean_metrics(per_prompt.values()).as_dict()
        folds = [fold[p] for p in per_prompt]
        table[system] = {}
        for metric in METRICS:
            interval = mean_interval([getattr(m, metric) for m in per_prompt.values()], *BOUNDS[metric], folds)
            table[system][metric] = {"mean": mean[metric], "ci95": list(interval) if interval else None}
    return table


def improvement(
    results: CrossValidated,
    parts: Sequence[Sequence[str]],
    seed: int,
    better: str = "reward_model",
    worse: str = "elo_offset",
) -> dict[str, Difference | None]:
    """Each metric's mean of ``better`` − ``worse``, paired by prompt; ``improvement_json`` makes the key of it."""
    a, b = results[better], results[worse]
    prompts = [p for p in a if p in b]
    fold = fold_of(parts)
    groups = [fold[p] for p in prompts]
    return {
        metric: paired_difference(
            [getattr(a[p], metric) for p in prompts],
            [getattr(b[p], metric) for p in prompts],
            seed,
            groups,
            reach=BOUNDS[metric][1] - BOUNDS[metric][0],
        )
        for metric in METRICS
    }


def improvement_json(differences: Mapping[str, Difference | None]) -> dict[str, Any]:
    """The ``improvement`` key: {metric: {difference, ci95, p_value}}."""
    return {metric: difference_json(difference) for metric, difference in differences.items()}


def difference_json(difference: Difference | None) -> dict[str, Any]:
    return difference.as_dict() if difference else {"difference": None, "ci95": None, "p_value": None}


def stronger_baselines(results: CrossValidated, systems: Sequence[str] = ("reward_model", "elo_offset")) -> list[str]:
    """Baselines whose mean τ is above that of both systems: a winner among the beaten deserves a warning."""
    tau = {name: mean_metrics(per_prompt.values()).kendall_tau for name, per_prompt in results.items()}
    best = max((t for name, t in tau.items() if name in systems and t is not None), default=None)
    if best is None:
        return []
    return [name for name, t in tau.items() if name not in systems and t is not None and t > best]


# ── H1: sample efficiency ────────────────────────────────────────────────────────────────────────────────


def area_per_prompt(curves: Curves, metric: str = "kendall_tau") -> Array:
    """Area under each prompt's curve, mean over orders, divided by its width: [prompts], in units of the metric."""
    values = curves.values[metric].mean(0)
    if len(curves.counts) == 1:
        return np.asarray(values[0])
    width = curves.counts[-1] - curves.counts[0]
    return np.asarray(np.trapezoid(values, np.asarray(curves.counts, dtype=np.float64), axis=0) / width)


def preferences_needed(curves: Curves, target: float, metric: str = "kendall_tau") -> int | None:
    """The first point from which on the mean curve stays at ``target`` or above; None where it ends below."""
    mean = curves.values[metric].mean((0, 2))
    reached: int | None = None
    for n, value in zip(reversed(curves.counts), mean[::-1], strict=True):
        if value < target:
            break
        reached = n
    return reached


def sample_efficiency(
    elo_offset: Curves, reward_model: Curves, seed: int, parts: Sequence[Sequence[str]] | None = None
) -> dict[str, Any]:
    """H1: System B needs fewer preferences than System A. From curves over the same prompts and orders.

    Tested on the area between the curves in τ, paired by prompt: orders are drawn at will and are no sample of
    anything, so they are averaged first. ``parts``: the folds, for curves from a cross-validation.
    """
    if (elo_offset.counts, elo_offset.prompt_ids) != (reward_model.counts, reward_model.prompt_ids):
        raise ValueError("both curves must have the same points and prompts")
    fold = fold_of(parts) if parts else None
    groups = [fold[p] for p in elo_offset.prompt_ids] if fold else None
    a, b = area_per_prompt(elo_offset), area_per_prompt(reward_model)
    advantage = paired_difference(b.tolist(), a.tolist(), seed, groups)
    final = {name: c.points[-1].metrics.kendall_tau for name, c in (("a", elo_offset), ("b", reward_model))}
    return {
        "verdict": verdict(advantage),
        "area_between_curves": difference_json(advantage),
        "prompts": len(elo_offset.prompt_ids),
        "orders": len(elo_offset.values["kendall_tau"]),
        "elo_offset_final": final["a"],
        "reward_model_final": final["b"],
        "reward_model_needs_for_elo_final": None
        if final["a"] is None
        else preferences_needed(reward_model, final["a"]),
        "elo_needs_for_reward_model_final": None if final["b"] is None else preferences_needed(elo_offset, final["b"]),
    }


def not_tested(reason: str) -> dict[str, Any]:
    """A hypothesis that this run could not test, and why."""
    return {"verdict": "not tested", "reason": reason}


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


def _place(scores: Mapping[str, float], model: str) -> float:
    above = sum(s > scores[model] for s in scores.values())
    tied = sum(s == scores[model] for s in scores.values()) - 1
    return 1.0 + above + tied / 2.0


def placement(scores: Mapping[str, float], truth: GroundTruth, model: str) -> Placement:
    """How well ``scores`` place ``model`` among the truth's contestants."""
    predicted = {m: scores[m] for m in truth.scores}
    others = [m for m in predicted if m != model and truth.scores[m] != truth.scores[model]]
    hits = [
        0.5 if predicted[m] == predicted[model]
        else float((predicted[m] < predicted[model]) == (truth.scores[m] < truth.scores[model]))
        for m in others
    ]  # fmt: skip
    error = abs(_place(predicted, model) - _place(truth.scores, model))
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
    train_ids = [[p for j, part in enumerate(parts) if j != i for p in part] for i in range(len(parts))]
    runs = [(model, i) for model in models for i in range(len(parts))]
    fitted = ranker.fit_many([TrainingSet.of(preferences, train_ids[i], held_out=model) for model, i in runs])
    return [
        placement(one.scores(prompt_id), known[prompt_id], model)
        for one, (model, i) in zip(fitted, runs, strict=True)
        for prompt_id in parts[i]
    ]


def generalization(elo_offset: Sequence[Placement], reward_model: Sequence[Placement]) -> dict[str, Any]:
    """H2: System B ranks a contestant never seen in training better than its global Elo does.

    Tested on the accuracy of its pairs. The interval is clustered by prompt and by contestant: a claim about
    unseen models needs more than many prompts, and six contestants leave five degrees of freedom. The interval
    by prompt alone, for these six and no other, stands beside it.
    """
    a = {(p.prompt_id, p.model): p for p in elo_offset}
    b = {(p.prompt_id, p.model): p for p in reward_model}
    if a.keys() != b.keys():
        raise ValueError("both systems must place the same contestants on the same prompts")
    accuracy = _paired(a, b, "pair_accuracy")
    place = _paired(a, b, "place_error")
    advantage = _clustered(accuracy, 1.0)
    return {
        "verdict": verdict(advantage),
        "pair_accuracy": _both(accuracy) | difference_json(advantage),
        "pair_accuracy_these_contestants": difference_json(_clustered(accuracy, 1.0, by_model=False)),
        "place_error": _both(place) | difference_json(_clustered(place, float(len({m for _, m in a})))),
        "by_contestant": {model: _contestant(accuracy, place, model) for model in dict.fromkeys(m for _, m in a)},
    }


Key = tuple[str, str]  # (prompt id, model)
Pairs = dict[Key, tuple[float, float]]  # the values of elo_offset and reward_model


def _paired(a: Mapping[Key, Placement], b: Mapping[Key, Placement], field: str) -> Pairs:
    both = {key: (getattr(a[key], field), getattr(b[key], field)) for key in a}
    return {key: values for key, values in both.items() if None not in values}


def _clustered(pairs: Pairs, reach: float, *, by_model: bool = True) -> Difference | None:
    prompts = [prompt_id for prompt_id, _ in pairs]
    models = [model for _, model in pairs] if by_model else [""] * len(pairs)
    return clustered_difference([b - a for a, b in pairs.values()], prompts, models, reach)


def _both(pairs: Pairs) -> dict[str, float | None]:
    if not pairs:
        return {"elo_offset": None, "reward_model": None}
    a, b = np.array(list(pairs.values())).mean(0)
    return {"elo_offset": float(a), "reward_model": float(b)}


def _contestant(accuracy: Pairs, place: Pairs, model: str) -> dict[str, Any]:
    def own(pairs: Pairs) -> Pairs:
        return {key: values for key, values in pairs.items() if key[1] == model}

    difference = _clustered(own(accuracy), 1.0, by_model=False)
    return {
        "pair_accuracy": _both(own(accuracy)) | difference_json(difference),
        "place_error": _both(own(place)),
    }
