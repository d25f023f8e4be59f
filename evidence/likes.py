"""Likes of a person, in words: a few traits that anybody can see in a text, and which of them are surely liked.

One logit of the outcome on the differences in all traits within a prompt, log-odds = Σ_k w_k (trait_k(a) − trait_k(b)),
so that length is not taken for lists. The prompt is the witness: its fifteen pairs are left out together; of several
people, the person too, and the larger error counts. Holm's correction for the number of traits: what is named is sure.
It is what goes with being preferred, not what causes it.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, stdtr, stdtrit

from combined import Pairs, newton
from core.records import Preference, Response
from evidence.intervals import ALPHA, Array, Ints, holm, numbered

LEAST_WITNESSES = 6.0  # effective prompts (or people) that show a trait: from fewer no error can be estimated
RIDGE = 1e-3  # keeps the fit finite where a trait decides every pair


class Trait(NamedTuple):
    """A figure that can be seen in a text."""

    name: str
    measure: Callable[[str], float]
    more: tuple[str, str]  # words for what is liked where the weight is positive, and for a difference of 1
    less: tuple[str, str]  # where it is negative, and for a difference of −1


def _lines(text: str, pattern: str) -> float:
    """Share of the lines, empty ones left out, that begin with the pattern."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return sum(bool(re.match(pattern, line)) for line in lines) / len(lines) if lines else 0.0


def _words(text: str, pattern: str) -> float:
    """Matches in ten words."""
    return 10.0 * len(re.findall(pattern, text)) / max(1, len(text.split()))


TRAITS = (
    Trait("length", lambda t: math.log2(1 + len(t)),
          ("longer answers", "twice the length"), ("shorter answers", "half the length")),
    Trait("lists", lambda t: _lines(t, r"([-*•]|\d+[.)])\s"),
          ("lists", "all lines in a list"), ("running text", "no line in a list")),
    Trait("code", lambda t: float("```" in t),
          ("code", "a block of code"), ("answers without code", "no block of code")),
    Trait("headings", lambda t: _lines(t, r"#{1,6}\s|\*\*[^*]+\*\*:?$"),
          ("headings", "all lines headings"), ("no headings", "no line a heading")),
    Trait("digits", lambda t: _words(t, r"\d+"),
          ("figures", "one figure in ten words"), ("words, not figures", "one figure less in ten words")),
    Trait("first_person", lambda t: _words(t, r"\b(?:I|I'm|I've|my|me|we|our)\b"),
          ("the first person", "one such word in ten"), ("impersonal answers", "one such word less in ten")),
)  # fmt: skip


def likings(preferences: Sequence[Preference], responses: Iterable[Response]) -> list[dict[str, Any]]:
    """The traits that are surely liked, surest first: {trait, likes, weight, ci95, unit, p_value, wins} each.

    ``weight``: log-odds for a difference of ``unit``, positive in the direction that is liked; ``p_value`` corrected
    for the number of traits; ``wins``: how often such a text is preferred to one that is otherwise alike.
    """
    values = {(r.prompt_id, r.model): np.array([trait.measure(r.text) for trait in TRAITS]) for r in responses}
    kept = [p for p in preferences if {(p.prompt_id, p.model_a), (p.prompt_id, p.model_b)} <= values.keys()]
    x = np.array([values[p.prompt_id, p.model_a] - values[p.prompt_id, p.model_b] for p in kept])
    outcome = np.array([p.outcome for p in kept])
    kinds = numbered([p.prompt_id for p in kept]), numbered([p.user for p in kept])
    witnesses = [numbers for numbers in kinds if numbers.max(initial=0) > 0]
    fewest = min((int(numbers.max()) + 1 for numbers in witnesses), default=0)
    enough = np.full(len(TRAITS), fewest > 0)  # traits that enough witnesses of each kind have seen
    for numbers in witnesses:
        by_witness = np.stack([np.bincount(numbers, column**2) for column in x.T])  # [traits, witnesses]
        total, squares = by_witness.sum(axis=1), (by_witness**2).sum(axis=1)
        enough &= np.divide(total**2, squares, out=np.zeros(len(total)), where=squares > 0.0) >= LEAST_WITNESSES
    seen = np.flatnonzero(enough).tolist()
    if not seen or fewest < len(seen) + LEAST_WITNESSES:  # the witnesses are too few for all of them
        return []
    weights, p_values, half = np.zeros((3, len(seen)))
    for numbers in witnesses:
        weights, errors, effective = clustered_logit(x[:, seen], outcome, numbers)
        degrees = np.maximum(effective - 1.0, 1.0)
        p_values = np.maximum(p_values, 2.0 * stdtr(degrees, -np.abs(weights) / np.maximum(errors, 1e-12)))
        half = np.maximum(half, stdtrit(degrees, 1.0 - ALPHA / 2.0) * errors)
    corrected, found = holm(p_values), []
    for i in np.argsort(corrected, kind="stable").tolist():
        if corrected[i] < ALPHA:
            trait, size = TRAITS[seen[i]], float(abs(weights[i]))
            likes, unit = trait.more if weights[i] > 0.0 else trait.less
            ci95 = [size - float(half[i]), size + float(half[i])]
            wins = {"mean": float(expit(size)), "ci95": expit(ci95).tolist()}
            about = {"trait": trait.name, "likes": likes, "weight": size, "ci95": ci95, "unit": unit}
            found.append(about | {"p_value": float(corrected[i]), "wins": wins})
    return found


def clustered_logit(x: Array, outcome: Array, cluster: Ints) -> tuple[Array, Array, Array]:
    """(weights, their standard errors, effective clusters), [k] each, of a logit without intercept on x [n, k].

    Outcomes [n] in [0, 1]. Errors by the jackknife: each ``cluster`` left out by one Newton step, which holds with few
    clusters where the usual sandwich is too narrow (MacKinnon, Nielsen & Webb, *Fast and Reliable Jackknife and
    Bootstrap Methods for Cluster-Robust Inference*, Journal of Applied Econometrics 38, 2023). Effective clusters:
    (Σ h)² / Σ h², h a cluster's part of the weight's information (after Carter, Schnepel & Steigerwald, 2017).
    """
    n, size = x.shape
    scale = np.sqrt((x**2).mean(axis=0))
    z, width = x / scale, RIDGE**-0.5  # the ridge is a prior of this width around 0
    pairs = Pairs(np.arange(n), cluster, np.ones(n), outcome, z * width, np.zeros(n))
    v = newton(pairs, np.zeros(size))
    weights, hessian, chance = v * width, pairs.hessian(v) * RIDGE, expit(pairs.margin(v))
    groups = int(cluster.max()) + 1
    scores, parts = np.zeros((groups, size)), np.zeros((groups, size, size))
    np.add.at(scores, cluster, z * (outcome - chance)[:, None])
    np.add.at(parts, cluster, z[:, :, None] * z[:, None, :] * (chance * (1.0 - chance))[:, None, None])
    without = np.linalg.solve(hessian - parts, scores[:, :, None])[:, :, 0]  # the weights less those without a cluster
    errors = np.sqrt((groups - 1.0) / groups * (without**2).sum(axis=0))
    inverse = np.linalg.inv(hessian)
    shares = np.einsum("ki,gij,jk->gk", inverse, parts, inverse)
    return weights / scale, errors / scale, shares.sum(axis=0) ** 2 / (shares**2).sum(axis=0)
