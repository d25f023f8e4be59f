"""How good rankings are: metrics per prompt, splits, cross-validation, learning curves.

Everything loops over ``Ranker``s without asking which is which. Intervals and tests are in evidence/.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from config import ExperimentConfig
from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference

Array = NDArray[np.float64]
Places = tuple[tuple[int, int], ...]
"""Each model's (predicted, true) place, 0 the lowest; equal scores share one. Sorted, so that rankings that repeat are
recognized: it is all that a metric depends on."""
Round = tuple[TrainingSet, Sequence[GroundTruth]]
"""What trains and what tests."""

TOP_K = 3
CACHED_PAIRS = 2**14  # of rankings; without ties, n models have n! of them


class Metrics(NamedTuple):
    """One prompt's five metrics, or their mean over prompts (None: no prompt on which they are defined)."""

    kendall_tau: float | None
    spearman_rho: float | None
    ranking_accuracy: float | None
    top_1_accuracy: float | None
    top_3_accuracy: float | None


METRICS = Metrics._fields
# Lowest and highest possible value of each.
BOUNDS = {name: (-1.0 if name in ("kendall_tau", "spearman_rho") else 0.0, 1.0) for name in METRICS}


# ── Metrics ──────────────────────────────────────────────────────────────────────────────────────────────


def _correlations(places: Places) -> tuple[float, float]:
    """Kendall's τ-b and Spearman's ρ; both 0 where either ranking is all tied: abstaining earns nothing.

    τ-b is the cosine of all pairs' signs, ρ that of the ranks (Kendall, *Rank Correlation Methods*, 1948), which SciPy
    computes too: importing ``scipy.stats`` for it takes a tenth of a run.
    """
    pairs = [np.sign(np.subtract.outer(ranked, ranked)) for ranked in np.array(places, np.float64).T]
    return _cosine(*pairs), _cosine(*(signs.sum(axis=1) for signs in pairs))  # sums are mean ranks, but for a factor


def _cosine(x: Array, y: Array) -> float:
    squares = float((x**2).sum() * (y**2).sum())
    return float((x * y).sum()) / math.sqrt(squares) if squares else 0.0


def prompt_metrics(scores: Mapping[str, float], truth: GroundTruth) -> Metrics | None:
    """The five metrics of one prompt over the truth's models; None where the truth is all tied.

    Ties in the prediction count at their expectation under random breaking. A tie in the truth that the best three
    cut through is broken in the prediction's favour: either of two true thirds is a true third. Infinite scores are
    scores. Raises ValueError where a model has no score or a score is NaN.
    """
    missing = [m for m in truth.scores if m not in scores or math.isnan(scores[m])]
    if missing:
        raise ValueError(f"no score for {', '.join(missing)} on prompt {truth.prompt_id!r}")
    # floats are compared here, once: all that follows counts whole places
    both = [scores[m] for m in truth.scores], [*truth.scores.values()]
    place, true = ({value: i for i, value in enumerate(sorted(set(values)))} for values in both)
    return _metrics(tuple(sorted((place[a], true[b]) for a, b in zip(*both, strict=True))))


@lru_cache(CACHED_PAIRS)
def _metrics(places: Places) -> Metrics | None:
    x, y = [a for a, _ in places], [b for _, b in places]
    hits = [
        0.5 if x[i] == x[j] else float((x[i] < x[j]) == (y[i] < y[j]))
        for i, j in combinations(range(len(places)), 2)
        if y[i] != y[j]
    ]
    if not hits:
        return None
    return Metrics(*_correlations(places), sum(hits) / len(hits), _top_overlap(x, y, 1), _top_overlap(x, y, TOP_K))


def _top_overlap(x: Sequence[int], y: Sequence[int], k: int) -> float:
    """Expected share of the k best by x, some drawn among equals, that are among the k best by y, however equals of y
    are drawn; k is at most the number of models."""
    k = min(k, len(x))
    (sure_x, tied_x), (sure_y, tied_y) = _top(x, k), _top(y, k)
    draws = [sure_x.union(drawn) for drawn in combinations(tied_x, k - len(sure_x))]
    hits = [len(best & sure_y) + min(k - len(sure_y), len(best & tied_y)) for best in draws]
    return sum(hits) / len(hits) / k


def _top(places: Sequence[int], k: int) -> tuple[set[int], set[int]]:
    """Who is surely among the best k, and who is tied for the rest of the seats."""
    cut = sorted(places, reverse=True)[k - 1]
    return {i for i, place in enumerate(places) if place > cut}, {i for i, place in enumerate(places) if place == cut}


def mean_metrics(values: Iterable[Metrics]) -> Metrics:
    """The mean of each metric over the prompts on which it is defined; None where there are none."""
    rows = list(values)
    known = [[v for v in (row[i] for row in rows) if v is not None] for i in range(len(METRICS))]
    # the exact sum: a mean must not depend on the order of the prompts
    return Metrics(*(math.fsum(column) / len(column) if column else None for column in known))


def per_prompt(ranker: Ranker, truths: Iterable[GroundTruth]) -> dict[str, Metrics]:
    """The metrics of ``ranker`` as it is now, on every prompt of ``truths`` that orders anything."""
    found = {truth.prompt_id: prompt_metrics(ranker.scores(truth.prompt_id), truth) for truth in truths}
    return {prompt_id: metrics for prompt_id, metrics in found.items() if metrics is not None}


# ── Splits ───────────────────────────────────────────────────────────────────────────────────────────────


def split(prompt_ids: Sequence[str], train_count: int, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Train and test prompts by the seed, each in their first order."""
    drawn = np.random.default_rng(seed).permutation(len(prompt_ids))
    train, test = sorted(drawn[:train_count]), sorted(drawn[train_count:])
    return tuple(prompt_ids[i] for i in train), tuple(prompt_ids[i] for i in test)


def listed(prompt_ids: Sequence[str], params: ExperimentConfig) -> tuple[str, ...]:
    """Prompts whose responses are also ranked as a list: all, or the test prompts beside their round robin, or none."""
    if params.ground_truth == "listwise":
        return tuple(prompt_ids)
    _, test = split(prompt_ids, params.train_prompts, params.random_seed)
    return test if params.ground_truth == "both" else ()


def folds(prompt_ids: Sequence[str], n: int, seed: int) -> dict[str, int]:
    """{prompt id: number of its fold}, fold by fold; the sizes of the ``n`` folds differ by at most one."""
    # a stream of its own: by the seed alone the documented split's test prompts were the last fold
    parts = np.array_split(np.random.default_rng((seed, 1_000)).permutation(len(prompt_ids)), n)
    return {prompt_ids[i]: number for number, part in enumerate(parts) for i in sorted(part)}


def shuffled(preferences: Sequence[Preference], seed: int | Sequence[int]) -> tuple[Preference, ...]:
    """The preferences in an order drawn by the seed: a point of a curve is then a sample and not a prompt."""
    return tuple(preferences[i] for i in np.random.default_rng(seed).permutation(len(preferences)))


def rounds(preferences: Sequence[Preference], truths: Iterable[GroundTruth], fold: Mapping[str, int]) -> list[Round]:
    """For each ``fold`` (see ``folds``) what trains on all others, and its truths, which test."""
    known = {truth.prompt_id: truth for truth in truths}
    found: list[Round] = []
    for test in dict.fromkeys(fold.values()):
        others = [prompt_id for prompt_id, number in fold.items() if number != test]
        own = [known[prompt_id] for prompt_id, number in fold.items() if number == test and prompt_id in known]
        found.append((TrainingSet.of(preferences, others), own))
    return found


def reordered(rounds: Iterable[Round], orders: int, seed: int) -> list[Round]:
    """Each round in so many orders of its preferences, drawn by the seed."""
    return [
        (replace(own, preferences=shuffled(own.preferences, [seed, j])), tests)
        for own, tests in rounds
        for j in range(orders)
    ]


# ── Cross-validation ─────────────────────────────────────────────────────────────────────────────────────


def cross_validate(rankers: Sequence[Ranker], rounds: Sequence[Round]) -> dict[str, dict[str, Metrics]]:
    """Each prompt's metrics under the training that did not see it: {ranker name: {prompt id: metrics}}.

    Prompts without a truth, or whose truth is all tied, are missing from the result.
    """
    sets, tests = zip(*rounds, strict=True)
    result = {}
    for ranker in rankers:
        tested = zip(ranker.fit_many(sets), tests, strict=True)
        result[ranker.name] = {p: found for fitted, test in tested for p, found in per_prompt(fitted, test).items()}
    return result


# ── Learning curves ──────────────────────────────────────────────────────────────────────────────────────

Curve = Mapping[int, Mapping[str, Metrics]]
"""{preferences: {prompt id: metrics after so many of them}}, from 0 to all."""


def learning_curve(ranker: Ranker, rounds: Sequence[Round], every: int) -> Curve:
    """The metrics after 0, every, 2 · every, … preferences, up to as many as the round with the fewest has.

    A prompt's metrics are the mean over its rounds. All rounds and points are one ``fit_many``.
    """
    # folds differ by a prompt or so, and a point must be the mean of as many preferences in each
    total = min(len(s.preferences) for s, _ in rounds)
    counts = (*range(0, total, every), total)
    fitted = iter(ranker.fit_many([replace(s, preferences=s.preferences[:n]) for s, _ in rounds for n in counts]))
    points: dict[int, dict[str, list[Metrics]]] = {n: defaultdict(list) for n in counts}
    for _, truths in rounds:
        for row in points.values():
            for prompt_id, found in per_prompt(next(fitted), truths).items():
                row[prompt_id].append(found)
    return {n: {prompt_id: mean_metrics(found) for prompt_id, found in row.items()} for n, row in points.items()}
