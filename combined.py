"""System C: what the models are worth and what the texts show, learned together.

    system = Combined(features, {"llama3:8b": 1171.0, "gemma3:4b": 1293.0}, params).fit(preferences)
    system.ranking("coder-007")                         # best first
    system.posterior("coder-007").best_chances()        # {model: the chance that it is the best for this prompt}

P(a ≻ b | x) = σ(s_a − s_b),  s(x, m, y) = α·g_m + θ_m + β·b(x, y) + w·φ(x, y)

g: the global rating in logits, centred on the contestants (unrated: 0). b: the base's score over its spread within
prompts. φ: the pooled states, each over its spread within prompts, all at one scale (‖φ‖² is 1 in the mean), rotated to
their principal axes but not whitened. Maximum a posteriori with prior means α = 1, θ = 0, β = 1, w = 0: before any
preference it is the Arena and the untouched base. Measured in docs/combined.md.

How far each part may move (τ, ``Spreads``) comes from a fit's own preferences by MacKay's updates ("Bayesian
interpolation", Neural Computation 4, 1992) inside the Newton iterations. Chosen on planted worlds like those of
benchmarks/combined_worlds.py, never on a recorded run: from a few votes the updates alone run off to 0 (mean Kendall's
τ after 20 of them 0.375 for 0.421), so each τ starts from EXPECTED and that counts as WITNESSES parameters; between 1
and 8 witnesses, or EXPECTED doubled or halved, the mean moved by less than 0.006. α is treated like every other part.
Whitened axes lost 0.04, states at their raw scales 0.003, half the components nothing; one more random effect for each
response gained nothing. People among others keep EXPECTED as it is: a tenth of it lost nothing where all are the same,
and found less where they are not.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

import evaluation
from base.features import Features
from base.scaler import Scaler, pool
from config import ExperimentConfig
from core import pairwise
from core.errors import UsageError
from core.pairwise import Array, Belief, Ints, Pairs, Posterior, Problem
from core.ranking import Ranker, TrainingSet
from core.records import Preference

LOGIT = math.log(10.0) / 400.0  # one Elo point in logits

INNER_FOLDS = 5  # of the training prompts, held out in turn to learn how sure a fit is


class Spreads(NamedTuple):
    """τ, how far each part may move from its prior mean: standard deviations in logits, 0 for a part that stays."""

    arena: float
    models: float
    base: float
    texts: float


EXPECTED = Spreads(0.5, 1.0, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Learned:
    """One fit. Never changed, so that copies may share it."""

    view: Scaler
    inputs: Array
    """[texts, p] (g, one column a model, b, φ) of every text there is."""
    coefficients: Array
    """[p]: α, θ, β, w."""
    spreads: Spreads
    problem: Problem | None = None
    """What it was learned from; None for one that leaves a group out."""
    prompt_ids: tuple[str, ...] = ()


class Combined(Ranker):
    """System C. ``spreads`` are the τ of the last fit."""

    name = "combined"

    def __init__(
        self,
        features: Features,
        ratings: Mapping[str, float | None],
        params: ExperimentConfig,
        fixed: Collection[str] = (),
    ) -> None:
        """``ratings``: global Elo by contestant, None or absent: unrated. ``fixed``: parts (``Spreads``) that stay at
        their prior mean, for the ablation."""
        self._features, self._params = features, params
        self._states = pool(features.mean, features.last, params.pooling)
        self._base_score = features.base_score.astype(np.float64) * (features.has_score and params.base_score)
        self._models = tuple(dict.fromkeys([*ratings, *(model for _, model in features.index)]))
        self._global = global_logits(self._models, ratings)
        self._expected = Spreads(*(0.0 if f in fixed else t for f, t in zip(Spreads._fields, EXPECTED, strict=True)))
        self._responses: dict[str, dict[str, int]] = {}
        self._model_of = [""] * len(self._states)
        for (prompt_id, model), row in features.index.items():
            self._responses.setdefault(prompt_id, {})[model] = row
            self._model_of[row] = model
        nothing = np.zeros(0, np.intp)
        self._learned = self._unfitted(
            Scaler.of(self._states[nothing], self._base_score[nothing], nothing, params.components)
        )
        self._belief: Belief | None = None
        self._blanks: dict[tuple[tuple[str, ...], str | None], Learned] = {}  # kept: a view costs more than a few votes

    @property
    def spreads(self) -> Spreads:
        """τ of the last fit."""
        return self._learned.spreads

    def fit(
        self,
        preferences: Sequence[Preference],
        *,
        prompt_ids: Collection[str] | None = None,
        held_out: str | None = None,
    ) -> Self:
        """Learn from the start; without preferences it is the Arena and the untouched base."""
        fitted = self.fit_many([TrainingSet.of(preferences, prompt_ids, held_out)])[0]
        self._learned, self._belief = fitted._learned, None
        return self

    def fit_many(
        self, sets: Sequence[TrainingSet], start: Sequence[Self] | None = None, spreads: Spreads | None = None
    ) -> list[Self]:
        """All fits, each from its own set alone; sets on the same prompts share how texts are seen.

        ``start``: fits (of everyone else), one a set, whose θ, β and w are the prior means and whose α and view of
        texts stay. ``spreads``: τ that are given (``common_spreads``) instead of estimated from each set.
        """
        blanks = self._problems(sets, start)
        return [self._with(*self._solved([blank], start is not None, spreads)) for blank in blanks]

    def common_spreads(self, sets: Sequence[TrainingSet], start: Sequence[Self]) -> Spreads:
        """τ that people share around everyone else's fits."""
        blanks = self._problems(sets, start)
        return self._solved(blanks, True, None)[0].spreads if blanks else self._expected

    def leaving_out(self, groups: Sequence[Sequence[Preference]]) -> list[Self]:
        """This fit without each group of its preferences (``pairwise.left_out``), for scores and as a ``start``.

        Raises ValueError where nothing was fitted, or where a group was no part of it.
        """
        learned = self._learned
        if learned.problem is None:
            raise ValueError("nothing was fitted here that could be left out")
        parts = [self._pairs(group, learned.prompt_ids) for group in groups]
        rest = pairwise.left_out(learned.problem, learned.coefficients, self._tau(learned), parts)
        return [self._with(dataclasses.replace(learned, coefficients=c, problem=None)) for c in rest]

    def scores(self, prompt_id: str) -> dict[str, float]:
        """s of every contestant's response to this prompt, in logits."""
        rows = self._responses[prompt_id]
        values = self._learned.inputs[list(rows.values())] @ self._learned.coefficients
        return dict(zip(rows, values.tolist(), strict=True))

    def text_scores(self, rows: Ints) -> Array:
        """s of texts by their rows in the features, in logits."""
        return np.asarray(self._learned.inputs[rows] @ self._learned.coefficients)

    def posterior(self, prompt_id: str) -> Posterior:
        """What is believed of the responses to this prompt. Raises ValueError for a fit from ``leaving_out``."""
        rows = self._responses[prompt_id]
        return self._believed(tuple(rows), self._learned.inputs[list(rows.values())])

    def best_chances(self, prompt_id: str, draws: int = 2000, seed: int = 0) -> dict[str, float]:
        """{model: the chance that its response to this prompt is the best}."""
        return self.posterior(prompt_id).best_chances(draws, seed)

    def posterior_of(
        self, models: Sequence[str], mean: NDArray[Any], last: NDArray[Any], base_score: NDArray[Any]
    ) -> Posterior:
        """What is believed of new responses to one prompt, from their vectors: ``mean`` and ``last`` [m, d],
        ``base_score`` [m]. A model that was no contestant counts as unrated, its θ as 0."""
        states = pool(mean, last, self._params.pooling)
        used = base_score.astype(np.float64) * (self._features.has_score and self._params.base_score)
        return self._believed(tuple(models), self._inputs(self._learned.view, models, states, used))

    # ── Fitting ──

    def _inputs(self, view: Scaler, models: Sequence[str], states: NDArray[Any], base_score: NDArray[Any]) -> Array:
        """[texts, p] of texts by their models."""
        number = {model: i for i, model in enumerate(self._models)}
        numbers = np.array([number.get(model, -1) for model in models], np.intp)
        one_hot = np.equal.outer(numbers, np.arange(len(self._models))).astype(np.float64)
        known = one_hot @ self._global
        return np.column_stack([known, one_hot, view.base(base_score), view.inputs(states)])

    def _unfitted(self, view: Scaler) -> Learned:
        """The Arena and the untouched base, texts seen by ``view``."""
        inputs = self._inputs(view, self._model_of, self._states, self._base_score)
        part = self._part(inputs.shape[1])
        prior = np.array([1.0, 0.0, 1.0, 0.0])[part]
        return Learned(view, inputs, prior, self._expected, Problem.of(inputs, self._pairs((), ()), prior))

    def _part(self, width: int) -> Ints:
        """[p] which field of ``Spreads`` each coefficient belongs to."""
        m = len(self._models)
        return np.repeat(np.arange(4), [1, m, 1, width - m - 2])

    def _tau(self, learned: Learned) -> Array:
        return np.asarray(np.array(learned.spreads)[self._part(len(learned.coefficients))])

    def _problems(self, sets: Sequence[TrainingSet], start: Sequence[Self] | None) -> list[Learned]:
        """Every fit before it is solved, its coefficients at their prior mean."""
        prepared = []
        for i, s in enumerate(sets):
            key = s.prompt_ids, s.held_out
            if start is None and key not in self._blanks:
                self._blanks[key] = self._unfitted(self._view(s))
            blank = self._blanks[key] if start is None else start[i]._learned
            ids = tuple(dict.fromkeys([*s.prompt_ids, *(p.prompt_id for p in s.preferences)]))
            problem = Problem.of(blank.inputs, self._pairs(s.preferences, ids), blank.coefficients)
            prepared.append(dataclasses.replace(blank, problem=problem, prompt_ids=ids))
        return prepared

    def _view(self, s: TrainingSet) -> Scaler:
        """From the training texts, the held-out contestant's not among them."""
        rows, prompts = [], []
        for number, prompt_id in enumerate(s.prompt_ids):
            for model, row in self._responses.get(prompt_id, {}).items():
                if model != s.held_out:
                    rows.append(row)
                    prompts.append(number)
        at = np.array(rows, np.intp)
        return Scaler.of(self._states[at], self._base_score[at], np.array(prompts, np.intp), self._params.components)

    def _pairs(self, preferences: Sequence[Preference], prompt_ids: Sequence[str]) -> Pairs:
        """Raises UsageError for a preference about a response without features."""
        index, number = self._features.index, {p: i for i, p in enumerate(prompt_ids)}
        table: dict[tuple[int, int, int], tuple[float, float]] = {}
        for p in preferences:
            try:
                a, b = index[p.prompt_id, p.model_a], index[p.prompt_id, p.model_b]
            except KeyError as error:
                raise UsageError(f"A preference is about a response without features: {error}") from error
            key = (min(a, b), max(a, b), number[p.prompt_id])
            count, wins = table.get(key, (0.0, 0.0))
            table[key] = count + 1.0, wins + (p.outcome if a < b else 1.0 - p.outcome)
        rows = sorted(table)  # the order in which preferences come changes no bit
        keys = np.array(rows, np.intp).reshape(-1, 3)
        sums = np.array([table[row] for row in rows]).reshape(-1, 2)
        return Pairs(keys[:, 0], keys[:, 1], sums[:, 0], sums[:, 1], keys[:, 2])

    def _solved(self, blanks: Sequence[Learned], start: bool, spreads: Spreads | None) -> list[Learned]:
        """The fits, all with the same τ: given, or from all of them."""
        expected = np.array(self._expected._replace(arena=0.0) if start else self._expected)
        problems = [blank.problem for blank in blanks if blank.problem is not None]
        given = None if spreads is None else np.array(spreads)
        solved, tau = pairwise.maximum(problems, self._part(len(blanks[0].coefficients)), expected, given)
        found = Spreads(*tau.tolist())
        return [dataclasses.replace(b, coefficients=c, spreads=found) for b, c in zip(blanks, solved, strict=True)]

    def _with(self, learned: Learned) -> Self:
        fitted = copy.copy(self)
        fitted._learned, fitted._belief = learned, None
        return fitted

    def _believed(self, models: tuple[str, ...], inputs: Array) -> Posterior:
        belief = self.belief()
        mean = belief.trust * (inputs @ self._learned.coefficients)
        covariance = belief.trust**2 * (inputs @ belief.covariance @ inputs.T)
        return Posterior(models, mean, covariance + belief.residual * np.eye(len(models)))

    def belief(self) -> Belief:
        """How sure this fit is, worked out when first asked for."""
        if self._belief is None:
            learned = self._learned
            if learned.problem is None:
                raise ValueError("how sure a fit is without a group is not known")
            judged = [learned.prompt_ids[i] for i in np.unique(learned.problem.pairs.prompt)]
            number = {p: i for i, p in enumerate(learned.prompt_ids)}
            parts = min(INNER_FOLDS, len(judged))
            folds = evaluation.folds(judged, parts, self._params.random_seed) if parts > 1 else ()
            held_out = [np.array([number[p] for p in fold], np.intp) for fold in folds]
            self._belief = pairwise.belief_of(learned.problem, learned.coefficients, self._tau(learned), held_out)
        return self._belief


def global_logits(models: Sequence[str], ratings: Mapping[str, float | None]) -> Array:
    """[m] global ratings in logits, centred on the rated ones; 0 for an unrated one."""
    rated = [r for r in ratings.values() if r is not None]
    centre = sum(rated) / len(rated) if rated else 0.0
    known = {model: LOGIT * (r - centre) for model, r in ratings.items() if r is not None}
    return np.array([known.get(model, 0.0) for model in models])
