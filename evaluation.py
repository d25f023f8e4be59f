"""How good rankings are: metrics per prompt, splits, cross-validation, learning curves.

It loops over ``Ranker``s without asking which is which. Intervals and tests are in hypotheses.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference

Array = NDArray[np.float64]
TOP_K = 3


@dataclass(frozen=True, slots=True)
class Metrics:
    """One prompt's five metrics, or their mean over prompts (None: no prompt on which they are defined)."""

    kendall_tau: float | None
    spearman_rho: float | None
    ranking_accuracy: float | None
    top_1_accuracy: float | None
    top_3_accuracy: float | None

    def as_dict(self) -> dict[str, float | None]:
        return asdict(self)


METRICS = tuple(field.name for field in fields(Metrics))
# Lowest and highest possible value of each.
BOUNDS = {name: (-1.0 if name in ("kendall_tau", "spearman_rho") else 0.0, 1.0) for name in METRICS}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A ranker on a set of prompts."""

    mean: Metrics
    per_prompt: dict[str, Metrics]
    left_out: int
    """Prompts without any order in the truth: no ranking can be right or wrong there."""


class CurvePoint(NamedTuple):
    """The metrics after so many preferences."""

    preferences: int
    metrics: Metrics


# ── Metrics ──────────────────────────────────────────────────────────────────────────────────────────────


def _signs(x: Array) -> Array:
    """sign(x_i − x_j) for every pair: [..., m] → [..., m, m]. By comparison, so that infinities order too."""
    i, j = x[..., :, None], x[..., None, :]
    return (i > j).astype(np.float64) - (i < j)


def _correlation(x: Array, y: Array) -> Array:
    """Σxy / √(Σx² Σy²) over the last axis, 0 where either is all zero: abstaining earns nothing."""
    scale = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return np.asarray((x * y).sum(-1) / np.where(scale == 0.0, 1.0, scale))


def kendall_tau(x: Array, y: Array) -> Array:
    """Kendall's τ-b of x and y, [..., m] → [...], 0 where either is all tied.

    τ-b is the correlation of the pairs' signs (Kendall, *Rank Correlation Methods*, 1948): so it agrees with
    SciPy's, and a whole stack of prompts takes one call.
    """
    flat = (*np.shape(x)[:-1], -1)
    return _correlation(_signs(np.asarray(x)).reshape(flat), _signs(np.asarray(y)).reshape(flat))


def prompt_metrics(scores: Mapping[str, float], truth: GroundTruth, k: int = TOP_K) -> Metrics | None:
    """The five metrics of one prompt over the truth's models; None where the truth is all tied.

    Ties in the prediction count at their expectation under random breaking. A tie in the truth that the best
    ``k`` cut through is broken in the prediction's favour: either of two true seconds is a true second. With
    fewer than ``k`` models k is their number. Raises ValueError where a model has no score or a score is NaN.
    """
    models = list(truth.scores)
    missing = [m for m in models if m not in scores or math.isnan(scores[m])]
    if missing:
        raise ValueError(f"no score for {', '.join(missing)} on prompt {truth.prompt_id!r}")
    x = np.array([scores[m] for m in models], dtype=np.float64)
    y = np.array([truth.scores[m] for m in models], dtype=np.float64)
    if np.isnan(y).any():
        raise ValueError(f"a true score is NaN on prompt {truth.prompt_id!r}")
    sx, sy = _signs(x), _signs(y)
    ordered = float((sy * sy).sum())
    if ordered == 0.0:
        return None
    return Metrics(
        kendall_tau=float(_correlation(sx.ravel(), sy.ravel())),
        # a row of signs sums to 2 · average rank − m − 1, and ρ is the correlation of average ranks
        spearman_rho=float(_correlation(sx.sum(-1), sy.sum(-1))),
        ranking_accuracy=0.5 + 0.5 * float((sx * sy).sum()) / ordered,
        top_1_accuracy=_top_overlap(x.tolist(), y.tolist(), 1),
        top_3_accuracy=_top_overlap(x.tolist(), y.tolist(), k),
    )


def _top(values: Sequence[float], k: int) -> tuple[set[int], set[int], int]:
    """Who is surely among the best k, who is tied for the rest of the places, and how many places those are."""
    cut = sorted(values, reverse=True)[k - 1]
    sure = {i for i, value in enumerate(values) if value > cut}
    tied = {i for i, value in enumerate(values) if value == cut}
    return sure, tied, k - len(sure)


def _top_overlap(x: Sequence[float], y: Sequence[float], k: int) -> float:
    """Expected share of the k best by x that are among the k best by y; k = 1: the chance that x's best is a best."""
    k = min(k, len(x))
    sure_x, tied_x, places_x = _top(x, k)
    sure_y, tied_y, places_y = _top(y, k)
    expected = len(sure_x & sure_y) + places_x * len(tied_x & sure_y) / len(tied_x)
    already, shared = len(sure_x & tied_y), len(tied_x & tied_y)
    draws = math.comb(len(tied_x), places_x)
    for h in range(min(shared, places_x) + 1):  # hypergeometric: h of the drawn are tied in the truth too
        ways = math.comb(shared, h) * math.comb(len(tied_x) - shared, places_x - h)
        expected += min(places_y, already + h) * ways / draws
    return expected / k


def mean_metrics(values: Iterable[Metrics]) -> Metrics:
    """The mean of each metric over the prompts on which it is defined; None where there are none."""
    rows = list(values)
    means: dict[str, float | None] = {}
    for name in METRICS:
        known = [v for v in (getattr(row, name) for row in rows) if v is not None]
        means[name] = math.fsum(known) / len(known) if known else None
    return Metrics(**means)


def evaluate(ranker: Ranker, truths: Iterable[GroundTruth]) -> Evaluation:
    """The metrics of ``ranker`` as it is now, on every prompt of ``truths``."""
    per_prompt: dict[str, Metrics] = {}
    left_out = 0
    for truth in truths:
        metrics = prompt_metrics(ranker.scores(truth.prompt_id), truth)
        if metrics is None:
            left_out += 1
        else:
            per_prompt[truth.prompt_id] = metrics
    return Evaluation(mean_metrics(per_prompt.values()), per_prompt, left_out)


# ── Splits ───────────────────────────────────────────────────────────────────────────────────────────────


def split(prompt_ids: Sequence[str], train_count: int, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Train and test prompts by the seed, each in their first order. Raises ValueError unless both get some."""
    if not 0 < train_count < len(prompt_ids):
        raise ValueError(f"{train_count} of {len(prompt_ids)} prompts cannot train: some must, and some must test")
    drawn = np.random.default_rng(seed).permutation(len(prompt_ids))
    train, test = sorted(drawn[:train_count]), sorted(drawn[train_count:])
    return tuple(prompt_ids[i] for i in train), tuple(prompt_ids[i] for i in test)


def folds(prompt_ids: Sequence[str], n: int, seed: int) -> tuple[tuple[str, ...], ...]:
    """``n`` test parts whose sizes differ by at most one; every prompt is in exactly one.

    Raises ValueError for fewer than 2 parts or fewer prompts than parts.
    """
    if not 2 <= n <= len(prompt_ids):
        raise ValueError(f"{len(prompt_ids)} prompts cannot make {n} folds")
    parts = np.array_split(np.random.default_rng(seed).permutation(len(prompt_ids)), n)
    return tuple(tuple(prompt_ids[i] for i in sorted(part)) for part in parts)


def shuffled(preferences: Sequence[Preference], seed: int | Sequence[int]) -> tuple[Preference, ...]:
    """The preferences in an order drawn by the seed: a point of a curve is then a sample and not a prompt."""
    return tuple(preferences[i] for i in np.random.default_rng(seed).permutation(len(preferences)))


def _training_ids(parts: Sequence[Sequence[str]], test: int) -> tuple[str, ...]:
    return tuple(prompt_id for i, part in enumerate(parts) if i != test for prompt_id in part)


def _by_prompt(truths: Iterable[GroundTruth], parts: Sequence[Sequence[str]]) -> list[list[GroundTruth]]:
    known = {truth.prompt_id: truth for truth in truths}
    missing = [p for part in parts for p in part if p not in known]
    if missing:
        raise ValueError(f"no ground truth for prompts {', '.join(missing[:5])}: every prompt is a test prompt once")
    return [[known[p] for p in part] for part in parts]


# ── Cross-validation ─────────────────────────────────────────────────────────────────────────────────────


def cross_validate(
    rankers: Sequence[Ranker],
    preferences: Sequence[Preference],
    truths: Iterable[GroundTruth],
    parts: Sequence[Sequence[str]],
) -> dict[str, dict[str, Metrics]]:
    """Each prompt's metrics under the training that did not see it: {ranker name: {prompt id: metrics}}.

    ``parts`` are the test parts (see ``folds``). Prompts whose truth is all tied are missing from the result.
    """
    tests = _by_prompt(truths, parts)
    sets = [TrainingSet.of(preferences, _training_ids(parts, i)) for i in range(len(parts))]
    result: dict[str, dict[str, Metrics]] = {}
    for ranker in rankers:
        fitted = ranker.fit_many(sets)
        result[ranker.name] = {}
        for one, test in zip(fitted, tests, strict=True):
            result[ranker.name].update(evaluate(one, test).per_prompt)
    return result


# ── Learning curves ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Curves:
    """Learning curves over several orders of the preferences."""

    counts: tuple[int, ...]
    """Preferences at each point: 0, every, 2 · every, … and the last."""
    prompt_ids: tuple[str, ...]
    """The test prompts whose truth orders anything."""
    values: Mapping[str, Array]
    """{metric: [orders, points, prompts]}"""
    left_out: int = 0

    @property
    def points(self) -> list[CurvePoint]:
        """The mean over orders and prompts at each point."""
        means = {
            name: [float(v) for v in array.mean((0, 2))] if self.prompt_ids else [None] * len(self.counts)
            for name, array in self.values.items()
        }
        return [CurvePoint(n, Metrics(**{name: means[name][i] for name in METRICS})) for i, n in enumerate(self.counts)]


def counts(total: int, every: int) -> tuple[int, ...]:
    """0, every, 2 · every, … and ``total``."""
    if every < 1:
        raise ValueError(f"a curve needs a point at least every preference, got every {every}")
    return (*range(0, total, every), total)


def learning_curve(
    ranker: Ranker,
    preferences: Sequence[Preference],
    truths: Iterable[GroundTruth],
    every: int,
    prompt_ids: Collection[str],
    *,
    once: bool = False,
) -> list[CurvePoint]:
    """The metrics on ``truths`` after 0, every, 2 · every, … of ``preferences``, taken in their order.

    ``prompt_ids`` are the training prompts. ``once``: trained a single time on all of them, so that every point
    has that training's value. All points are one ``fit_many``.
    """
    return _curves(ranker, [[preferences]], [list(truths)], [prompt_ids], every, once).points


def curves(
    ranker: Ranker,
    preferences: Sequence[Preference],
    truths: Iterable[GroundTruth],
    every: int,
    prompt_ids: Collection[str],
    shuffles: int,
    seed: int,
    *,
    once: bool = False,
) -> Curves:
    """``learning_curve`` over several orders drawn by the seed, the same for every ranker; one ``fit_many``."""
    orders = [shuffled(preferences, [seed, i]) for i in range(shuffles)]
    return _curves(ranker, [orders], [list(truths)], [prompt_ids], every, once)


def cross_validated_curves(
    ranker: Ranker,
    preferences: Sequence[Preference],
    truths: Iterable[GroundTruth],
    parts: Sequence[Sequence[str]],
    every: int,
    shuffles: int,
    seed: int,
    *,
    once: bool = False,
) -> Curves:
    """``curves`` with every prompt a test prompt once. They end where the fold with the fewest preferences does."""
    tests = _by_prompt(truths, parts)
    ids = [_training_ids(parts, i) for i in range(len(parts))]
    kept = [TrainingSet.of(preferences, train).preferences for train in ids]
    orders = [[shuffled(own, [seed, i]) for i in range(shuffles)] for own in kept]
    return _curves(ranker, orders, tests, ids, every, once)


def _curves(
    ranker: Ranker,
    orders: Sequence[Sequence[Sequence[Preference]]],
    tests: Sequence[Sequence[GroundTruth]],
    train_ids: Sequence[Collection[str]],
    every: int,
    once: bool,
) -> Curves:
    """``orders`` [folds][orders], ``tests`` [folds], ``train_ids`` [folds] → curves over all folds' prompts."""
    at = counts(min(len(order) for fold in orders for order in fold), every)
    trained_at = at[-1:] if once else at
    sets = [
        TrainingSet(tuple(order[:n]), tuple(ids))
        for fold, ids in zip(orders, train_ids, strict=True)
        for order in fold
        for n in trained_at
    ]
    fitted = iter(ranker.fit_many(sets))
    blocks: list[Any] = []  # [folds] of [orders, points, the fold's prompts, metrics]
    prompt_ids: list[str] = []
    for fold, test in zip(orders, tests, strict=True):
        block = [[evaluate(next(fitted), test).per_prompt for _ in trained_at] for _ in fold]
        names = list(block[0][0])
        prompt_ids += names
        rows = [[[_row(point[name]) for name in names] for point in order] for order in block]
        blocks.append(np.array(rows, dtype=np.float64).reshape(len(fold), len(trained_at), len(names), len(METRICS)))
    stacked = np.concatenate(blocks, axis=2)
    if once:
        stacked = np.repeat(stacked, len(at), axis=1)
    left_out = sum(map(len, tests)) - len(prompt_ids)
    return Curves(at, tuple(prompt_ids), {name: stacked[..., i] for i, name in enumerate(METRICS)}, left_out)


def _row(metrics: Metrics) -> list[float]:
    return [getattr(metrics, name) for name in METRICS]
