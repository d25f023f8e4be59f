"""The paired improvement, H1 sample efficiency and H2 generalization to unseen models, ready for JSON.

A verdict is *supported* where the 95 % interval of System B's advantage lies above 0 (and p < 0.05), *not
supported* where it lies below ``RELEVANT`` (there may be an advantage, but none worth naming) and *inconclusive*
between the two. Each hypothesis has two rivals, and its verdict is the weaker of those against either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference
from evaluation import BOUNDS, METRICS, Array, Curves, Metrics, mean_metrics, training_ids
from evidence.intervals import ALPHA, Difference, clustered_difference, is_better, mean_interval, paired_difference

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


def weaker(*verdicts: Verdict) -> Verdict:
    """The one that claims least: a hypothesis holds only against every rival."""
    return min(verdicts, key=("not supported", "inconclusive", "supported").index)


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
    return {metric: _paired(results, parts, seed, better, worse, metric) for metric in METRICS}


def _paired(
    results: CrossValidated, parts: Sequence[Sequence[str]], seed: int, better: str, worse: str, metric: str
) -> Difference | None:
    """One metric's mean of ``better`` − ``worse``, paired by prompt."""
    prompts = [p for p in results[better] if p in results[worse]]
    fold = fold_of(parts)
    a, b = ([getattr(results[system][p], metric) for p in prompts] for system in (better, worse))
    low, high = BOUNDS[metric]
    return paired_difference(a, b, seed, [fold[p] for p in prompts], reach=high - low)


def improvement_json(differences: Mapping[str, Difference | None]) -> dict[str, Any]:
    """The ``improvement`` key: {metric: difference_json}."""
    return {metric: difference_json(difference) for metric, difference in differences.items()}


def difference_json(difference: Difference | None) -> dict[str, Any]:
    """{difference, ci95, p_value}, all null where nothing could be paired."""
    return difference.as_dict() if difference else {"difference": None, "ci95": None, "p_value": None}


def recommended(
    combined_minus: Mapping[str, Difference | None], means: Mapping[str, float | None]
) -> tuple[str, tuple[str, ...]]:
    """Whose ranking to take, the combined system's unless a rival beats it by the winner's rule, and which of the two
    others, or of them the combined one, it beats.

    ``combined_minus``: {rival: the difference in the main metric}. Of two rivals that beat it the one with the higher
    of ``means``.
    """
    better = [name for name, gain in combined_minus.items() if gain and gain.ci95[1] < 0.0 and gain.p_value < ALPHA]
    if better:
        return max(better, key=lambda name: means[name] or 0.0), ("combined",)
    return "combined", tuple(name for name, gain in combined_minus.items() if is_better(gain))


def stronger_baselines(
    results: CrossValidated,
    parts: Sequence[Sequence[str]],
    seed: int,
    systems: Sequence[str] = ("reward_model", "elo_offset"),
) -> list[str]:
    """Baselines whose τ is above that of each of the systems by the winner's rule: a winner among the beaten deserves a
    warning."""
    stronger = []
    for name in results:
        gains = [_paired(results, parts, seed, name, system, "kendall_tau") for system in systems]
        if name not in (*systems, "combined") and all(is_better(gain) for gain in gains):
            stronger.append(name)
    return stronger


# ── H1: sample efficiency ────────────────────────────────────────────────────────────────────────────────


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


def sample_efficiency(
    elo_offset: Curves,
    flat: Curves,
    learner: Curves,
    seed: int,
    parts: Sequence[Sequence[str]],
    name: str = "reward_model",
) -> dict[str, Any]:
    """H1: System B (or the ``learner`` called ``name``) needs fewer preferences than System A. From
    cross-validated curves over the same orders.

    ``flat``: System A with every contestant at the same rating in the beginning, for where the Arena's order is a
    handicap: being quicker than someone who starts from the wrong end is no sign of learning quickly. What stands
    beside ``from_arena`` and ``from_flat`` is that of the former, System A as documented.
    """
    found = {
        "from_arena": _quicker(elo_offset, learner, seed, parts, name),
        "from_flat": _quicker(flat, learner, seed, parts, name),
    }
    return found["from_arena"] | {"verdict": weaker(*(rival["verdict"] for rival in found.values()))} | found


def _quicker(
    elo_offset: Curves, learner: Curves, seed: int, parts: Sequence[Sequence[str]], name: str
) -> dict[str, Any]:
    """How much quicker the learner called ``name`` learns than one System A.

    Tested on the area between the curves in τ, paired by prompt: orders are drawn at will and are no sample of
    anything, so they are averaged first. ``parts``: the folds. Raises ValueError for other points or prompts.
    """
    if (elo_offset.counts, elo_offset.prompt_ids) != (learner.counts, learner.prompt_ids):
        raise ValueError("both curves must have the same points and prompts")
    fold = fold_of(parts)
    groups = [fold[p] for p in elo_offset.prompt_ids]
    a, b = area_per_prompt(elo_offset), area_per_prompt(learner)
    advantage = paired_difference(b.tolist(), a.tolist(), seed, groups)
    elo_final, own_final = (c.points[-1].metrics.kendall_tau for c in (elo_offset, learner))
    return {
        "verdict": verdict(advantage),
        "area_between_curves": difference_json(advantage),
        "prompts": len(elo_offset.prompt_ids),
        "orders": len(elo_offset.values["kendall_tau"]),
        "elo_offset_final": elo_final,
        f"{name}_final": own_final,
        f"{name}_needs_for_elo_final": preferences_needed(learner, elo_final),
        f"elo_needs_for_{name}_final": preferences_needed(elo_offset, own_final),
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
    runs = [(model, i) for model in models for i in range(len(parts))]
    fitted = ranker.fit_many([TrainingSet.of(preferences, training_ids(parts, i), model) for model, i in runs])
    return [
        placement(one.scores(prompt_id), known[prompt_id], model)
        for one, (model, i) in zip(fitted, runs, strict=True)
        for prompt_id in parts[i]
    ]


def generalization(
    elo_offset: Sequence[Placement],
    others_mean: Sequence[Placement],
    learner: Sequence[Placement],
    name: str = "reward_model",
) -> dict[str, Any]:
    """H2: System B (or the ``learner`` called ``name``) ranks a contestant never seen in training better than its
    global Elo does, and better than someone who knows nothing of it.

    ``others_mean``: the others by Bradley–Terry, the unseen contestant at their mean. What stands beside
    ``against_elo`` and ``against_others_mean`` is that of the former. Raises ValueError for other contestants or
    prompts.
    """
    found = {
        "against_elo": _placed_better(elo_offset, learner, ("elo_offset", name)),
        "against_others_mean": _placed_better(others_mean, learner, ("bradley_terry", name)),
    }
    return found["against_elo"] | {"verdict": weaker(*(rival["verdict"] for rival in found.values()))} | found


def _placed_better(rival: Sequence[Placement], learner: Sequence[Placement], names: tuple[str, str]) -> dict[str, Any]:
    """How much better the learner places unseen contestants than the rival; ``names`` of the rival and the learner.

    Tested on the accuracy of its pairs. The interval is clustered by prompt and by contestant: a claim about
    unseen models needs more than many prompts, and six contestants leave five degrees of freedom. The interval
    by prompt alone, for these six and no other, stands beside it.
    """
    if [(p.prompt_id, p.model) for p in rival] != [(p.prompt_id, p.model) for p in learner]:
        raise ValueError("both systems must place the same contestants on the same prompts")
    pairs = list(zip(rival, learner, strict=True))
    by_contestant: dict[str, Any] = {}
    for model in dict.fromkeys(p.model for p in rival):
        own = [pair for pair in pairs if pair[0].model == model]
        means, difference = _compared(own, "pair_accuracy", names, by_model=False)
        by_contestant[model] = {
            "pair_accuracy": means | difference_json(difference),
            "place_error": _compared(own, "place_error", names)[0],
        }
    accuracy, advantage = _compared(pairs, "pair_accuracy", names)
    _, among_these = _compared(pairs, "pair_accuracy", names, by_model=False)
    place, nearer = _compared(pairs, "place_error", names, reach=float(len(by_contestant)))
    return {
        "verdict": verdict(advantage),
        "pair_accuracy": accuracy | difference_json(advantage),
        "pair_accuracy_these_contestants": difference_json(among_these),
        "place_error": place | difference_json(nearer),
        "by_contestant": by_contestant,
    }


def _compared(
    pairs: Sequence[tuple[Placement, Placement]],
    figure: str,
    names: tuple[str, str],
    *,
    reach: float = 1.0,
    by_model: bool = True,
) -> tuple[dict[str, float | None], Difference | None]:
    """Both systems' means of a figure and their difference, clustered by prompt and, with ``by_model``, by contestant.

    Where the truth orders none of the contestant's pairs there is no accuracy: such prompts are left out.
    """
    known = [(a, b) for a, b in pairs if getattr(a, figure) is not None]
    theirs, learner = ([getattr(pair[i], figure) for pair in known] for i in (0, 1))
    means = {
        name: float(np.mean(values)) if known else None for name, values in zip(names, (theirs, learner), strict=True)
    }
    gains = [b - a for a, b in zip(theirs, learner, strict=True)]
    models = [a.model if by_model else "" for a, _ in known]
    return means, clustered_difference(gains, [a.prompt_id for a, _ in known], models, reach)
