"""What a system chooses for itself, System A its K and System B its epochs: on inner prompts of its own training set.

Chosen anew whenever there are a quarter more preferences, on the first 160, 200, 250, … of them: a longer set chooses
like a shorter one that begins the same, and never by what comes later. What is tested on is in no training set.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.ranking import TrainingSet
from core.records import Preference
from evaluation import folds

CHOOSE_FROM = 160  # preferences: with fewer, inner prompts choose no better than the default (docs/head_choice.md)
Array = NDArray[np.float64]


class Part(NamedTuple):
    """A training set without some of its prompts, and the preferences on these."""

    training: TrainingSet
    tests: tuple[Preference, ...]


def beginning(s: TrainingSet) -> TrainingSet | None:
    """The first 160, 200, … preferences, by which ``s`` chooses; None where it has fewer, or all on one prompt."""
    n = CHOOSE_FROM
    while n + n // 4 <= len(s.preferences):
        n += n // 4
    first = s.preferences[:n]
    if len(first) < n or len({p.prompt_id for p in first}) < 2:
        return None
    return dataclasses.replace(s, preferences=first)


def parts(s: TrainingSet, n: int, seed: int) -> list[Part]:
    """``s`` split by prompt into n parts that test, or as many as it has judged prompts."""
    judged = tuple(dict.fromkeys(p.prompt_id for p in s.preferences))
    found = []
    for held in map(set, folds(judged, min(n, len(judged)), seed)):
        kept, tests = (tuple(p for p in s.preferences if (p.prompt_id in held) == out) for out in (False, True))
        found.append(Part(TrainingSet(kept, tuple(i for i in s.prompt_ids if i not in held), s.held_out), tests))
    return found


def cross_entropies(margins: Array, tests: Sequence[Preference]) -> list[Array]:
    """Σ cross-entropy of the preferences on each prompt [choices], from ``margins`` [choices, tests] in logits."""
    found: dict[str, Array] = defaultdict(lambda: np.zeros(len(margins)))
    losses = np.logaddexp(0.0, margins) - np.array([p.outcome for p in tests]) * margins
    for test, loss in zip(tests, losses.T, strict=True):
        found[test.prompt_id] += loss
    return list(found.values())


def good_enough(losses: Sequence[Array]) -> NDArray[np.bool_]:
    """[choices] whose loss is not above the least by more than a standard error of the difference.

    ``losses`` of each prompt [choices] (Breiman et al., *Classification and Regression Trees*, 1984, the 1 SE rule).
    """
    by_prompt = np.array(losses)
    above = by_prompt - by_prompt[:, [by_prompt.sum(axis=0).argmin()]]
    error = above.std(axis=0, ddof=1) * np.sqrt(len(above))
    return np.asarray(above.sum(axis=0) <= error)
