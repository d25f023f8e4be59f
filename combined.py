"""System C: what the models are worth and what the texts show, learned together.

    system = Combined(features, {"llama3:8b": 1171.0, "gemma3:4b": 1293.0}, params).fit(preferences)
    system.scores("coder-007")                          # {model: s, in logits}
    system.posterior("coder-007").best_chances()        # {model: the chance that it is the best for this prompt}

    P(a ≻ b | x) = σ(s_a − s_b),  s(x, m, y) = α·g_m + θ_m + β·b(x, y) + w·φ(x, y)
    loss         = Σ cross-entropy of P against the outcome + ½ Σ ((coefficient − prior mean) / τ)²

Given are three things that no preference changes: g, the global rating in logits, centred on the contestants (unrated:
0); b, the frozen base's score over its spread within prompts; φ, the base's pooled states at one scale (‖φ‖² is 1 in
the mean), rotated to their principal axes but not whitened.

Learned are the coefficients, some 140: how far to trust the ratings (α) and the base (β), what each model is worth
beside them (θ), and a taste over what a text shows (w). The second sum keeps each near its prior mean, the closer the
smaller its prior width τ (``config.py``). Prior means are α = 1, θ = 0, β = 1, w = 0: before any preference it is the
Arena and the untouched base. For a person among others the prior means of θ, β and w are everyone else's fit, and α
stays as it is there. The loss is convex, and Newton's method is at its one minimum within ten steps. All is done in
v = (coefficient − prior mean) / τ, in which the prior is standard normal and τ may be 0 (a part that stays).

How sure it is: the curvature of the loss alone would count the 15 pairs of a prompt as 15 witnesses, where six answers
testify. So coefficients have the sandwich covariance (Huber, 1967; White, 1982) with prompts as witnesses; scores are
multiplied by the slope that predicts prompts held out of the fit best; and each text has a variance of its own besides.
A model's chance to be the best is the share of draws of the scores in which it is. Measured in docs/results.md.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import NamedTuple, Self

import numpy as np
from scipy.linalg import solve
from scipy.special import expit

from base.features import Features
from base.scaler import Array, Ints, Texts
from config import ExperimentConfig
from core.ranking import Ranker, TrainingSet
from core.records import Preference
from elo_system import LOGIT

SMALL = 1e-9  # of Newton: the last step in prior widths, a rise of the loss that is rounding, the least part of a step
ONE_STEP = 0.01  # of the preferences can be left out by one Newton step
INNER_FOLDS = 5  # of the training prompts, held out in turn to learn how sure a fit is
SLOPE_WIDTH = 2.0  # prior standard deviation of the calibration slope around 1
FACTORS = (1.0, 0.3, 0.05)  # of the prior widths of people among others: where all are alike nobody moves far
SAMPLE = 100  # people, at most, whose preferences choose the factors
RESIDUAL = 0.5  # variance of what no coefficient explains of one text's score, after the slope; docs/results.md


# ── The fit ──────────────────────────────────────────────────────────────────────────────────────────────


class Pairs(NamedTuple):
    """n pairs of responses, each with how often and how it was judged: pairs that repeat are counted."""

    key: Ints  # [n] number of the pair, ascending
    prompt: Ints  # [n] number of its prompt
    times: Array  # [n] judgements
    wins: Array  # [n] sum of the outcomes for a
    slopes: Array  # [n, p] by how much each coordinate of v moves s_a − s_b
    offset: Array  # [n] s_a − s_b at the prior mean, v = 0

    def margin(self, v: Array) -> Array:
        """[n] s_a − s_b."""
        return np.asarray(self.offset + self.slopes @ v)

    def loss(self, v: Array) -> float:
        """Σ cross-entropy + ½ ‖v‖²; convex."""
        margin = self.margin(v)
        return float((self.times * np.logaddexp(0.0, margin) - self.wins * margin).sum() + 0.5 * v @ v)

    def gradient(self, v: Array) -> Array:
        """[p] of the loss."""
        return np.asarray(self.slopes.T @ (self.times * expit(self.margin(v)) - self.wins) + v)

    def hessian(self, v: Array) -> Array:
        """[p, p] of the loss."""
        chance = expit(self.margin(v))
        root = self.slopes * np.sqrt(self.times * chance * (1.0 - chance))[:, None]
        return np.asarray(root.T @ root + np.eye(len(v)))


def newton(pairs: Pairs, v: Array, rounds: int = 100) -> Array:
    """v [p] at the minimum of the loss, from any start; ten steps are usual, ``rounds`` the most."""
    for _ in range(rounds):
        step = solve(pairs.hessian(v), pairs.gradient(v), assume_a="pos")
        # Where σ is flat, as where votes contradict a sure prior, a whole step goes far beyond the minimum.
        before, size = pairs.loss(v), 1.0
        while pairs.loss(v - size * step) > before + SMALL * (1.0 + before) and size > SMALL:
            size /= 2.0
        v = v - size * step
        if np.abs(step).max() < SMALL:
            break
    return v


class Fit(NamedTuple):
    """What was learned. Never changed, so that copies may share it."""

    inputs: Array  # [texts, p] (g, one column a model, b, φ) of every text there is
    prior: Array  # [p] prior mean of the coefficients
    tau: Array  # [p] prior widths
    pairs: Pairs
    v: Array  # [p]

    @property
    def coefficients(self) -> Array:
        """[p] α, θ, β, w."""
        return np.asarray(self.prior + self.tau * self.v)

    @property
    def evidence(self) -> float:
        """ln P(judgements), by Laplace's method (MacKay, "Bayesian interpolation", 1992)."""
        return -self.pairs.loss(self.v) - 0.5 * float(np.linalg.slogdet(self.pairs.hessian(self.v))[1])


# ── How sure it is ───────────────────────────────────────────────────────────────────────────────────────


def certainty(pairs: Pairs, v: Array, seed: int) -> tuple[Array, float]:
    """Sandwich covariance [p, p] of the fit v, H⁻¹ (P + Σ_x u_x u_xᵀ) H⁻¹, and its calibration slope.

    H is the Hessian, P = 1 the prior's precision, u_x the gradient of prompt x. u_x and the slope are taken where x was
    held out: where it trained, the fit has bent its errors towards 0.
    """
    margins = pairs.margin(v)
    judged = np.random.default_rng(seed).permutation(np.unique(pairs.prompt))
    for fold in np.array_split(judged, INNER_FOLDS):
        out = np.isin(pairs.prompt, fold)
        # two rounds are near enough: it starts at the whole fit
        rest = newton(Pairs._make(column[~out] for column in pairs), v, rounds=2)
        margins[out] = pairs.margin(rest)[out]
    errors = pairs.times * expit(margins) - pairs.wins
    # One witness a prompt: the gradients of its pairs are added up before they are squared.
    gradients = np.zeros((int(pairs.prompt.max(initial=-1)) + 1, len(v)))
    np.add.at(gradients, pairs.prompt, pairs.slopes * errors[:, None])
    inverse = np.linalg.inv(pairs.hessian(v))
    pulled = gradients @ inverse
    # The slope κ in [0, 1] at which σ(κ · margin) predicts the pairs best (Cox, Biometrika, 1958): one more fit of the
    # same kind, with one coefficient whose prior is normal around 1.
    scaled = pairs._replace(slopes=SLOPE_WIDTH * margins[:, None], offset=margins)
    slope = 1.0 + SLOPE_WIDTH * float(newton(scaled, np.zeros(1))[0])
    return inverse @ inverse + pulled.T @ pulled, min(1.0, max(0.0, slope))


class Posterior(NamedTuple):
    """What is believed of the scores of m responses to one prompt: a normal distribution, ``RESIDUAL`` included."""

    models: tuple[str, ...]
    mean: Array  # [m]
    covariance: Array  # [m, m]

    def draw(self, draws: int, seed: int) -> Array:
        """[draws, m] scores."""
        rng = np.random.default_rng(seed)
        return rng.multivariate_normal(self.mean, self.covariance, draws, check_valid="ignore", method="eigh")

    def best_chances(self, draws: int = 2000) -> dict[str, float]:
        """{model: the share of draws in which its score is the highest}."""
        best = self.draw(draws, seed=0).argmax(axis=1)
        return dict(zip(self.models, (np.bincount(best, minlength=len(self.models)) / draws).tolist(), strict=True))


# ── The system ───────────────────────────────────────────────────────────────────────────────────────────


class Combined(Ranker):
    """System C."""

    name = "combined"

    def __init__(self, features: Features, ratings: Mapping[str, float | None], params: ExperimentConfig) -> None:
        """``ratings``: global Elo by contestant, None or absent: unrated."""
        self._params, self._texts = params, Texts(features, params)
        models = list(dict.fromkeys([*ratings, *(model for _, model in features.index)]))
        rated = {model: rating for model, rating in ratings.items() if rating is not None}
        centre = sum(rated.values()) / max(1, len(rated))
        self._whose = np.zeros((len(features.mean), 1 + len(models)))  # [texts, (g, one column a model)]
        self._prompt_of = np.zeros(len(features.mean), np.intp)
        for number, rows in enumerate(self._texts.of.values()):
            for model, row in rows.items():
                self._whose[row, [0, 1 + models.index(model)]] = LOGIT * (rated.get(model, centre) - centre), 1.0
                self._prompt_of[row] = number
        self._certainty: tuple[Array, float] | None = None  # of the fit, worked out when first asked for
        self._fit = self._start(TrainingSet((), ()))

    def fit_many(self, sets: Sequence[TrainingSet], start: Sequence[Self] | None = None) -> list[Self]:
        """All fits, each from its own set alone.

        ``start``: fits (of everyone else), one a set, whose θ, β and w are the prior means and whose α and scaler stay.
        Then the prior widths of all are the parameters' times the factors with the highest evidence.
        """
        if start is None:
            begin = cache(self._start)  # a scaler costs more than a few votes
            return [self._with(self._around(begin(replace(s, preferences=())), s)) for s in sets]
        people = [(one._fit, s) for one, s in zip(start, sets, strict=True)]
        # One choice for all: the votes of one person are too few to tell how far people differ.
        sample = people[:: 1 + len(people) // SAMPLE]
        factors = max(product(FACTORS, FACTORS), key=lambda f: sum(self._around(*each, f).evidence for each in sample))
        return [self._with(self._around(fit, s, factors)) for fit, s in people]

    def leaving_out(self, groups: Sequence[Sequence[Preference]]) -> list[Self]:
        """This fit without each group of its preferences, for instance as a ``start`` of whoever gave them.

        One Newton step away from the whole fit, which is exact but for second order; as many more as it takes where
        a group is more than ``ONE_STEP`` of the preferences.
        """
        fit, whole = self._fit, self._fit.pairs
        hessian, left = whole.hessian(fit.v), []
        for group in groups:
            own = self._pairs(group, fit.inputs, fit.prior, fit.tau)
            at = np.searchsorted(whole.key, own.key)
            rest = whole._replace(times=whole.times.copy(), wins=whole.wins.copy())
            rest.times[at] -= own.times
            rest.wins[at] -= own.wins
            # At the minimum the whole gradient is 0: that of the rest is the group's, turned round. The prior, which
            # each of them has, counts once.
            curvature, pull = hessian - own.hessian(fit.v) + np.eye(len(fit.v)), own.gradient(fit.v) - fit.v
            v = fit.v + solve(curvature, pull, assume_a="pos")
            many = own.times.sum() > ONE_STEP * whole.times.sum()
            left.append(self._with(fit._replace(pairs=rest, v=newton(rest, v) if many else v)))
        return left

    def scores(self, prompt_id: str) -> dict[str, float]:
        """s of every contestant's response to this prompt, in logits."""
        rows = self._texts.of[prompt_id]
        values = self._fit.inputs[list(rows.values())] @ self._fit.coefficients
        return dict(zip(rows, values.tolist(), strict=True))

    def posterior(self, prompt_id: str) -> Posterior:
        """What is believed of the responses to this prompt."""
        fit, rows = self._fit, self._texts.of[prompt_id]
        self._certainty = self._certainty or certainty(fit.pairs, fit.v, self._params.random_seed)
        # The slope scales the whole score and its errors alike; a text's own variance is not learned and stays.
        (of_v, slope), inputs = self._certainty, fit.inputs[list(rows.values())]
        covariance = slope**2 * ((inputs * fit.tau) @ of_v @ (inputs * fit.tau).T) + RESIDUAL * np.eye(len(rows))
        return Posterior(tuple(rows), slope * (inputs @ fit.coefficients), covariance)

    def _with(self, fit: Fit) -> Self:
        fitted = copy.copy(self)
        fitted._fit, fitted._certainty = fit, None
        return fitted

    def _start(self, s: TrainingSet) -> Fit:
        """The Arena and the untouched base; scale and axes of texts are those of the training texts."""
        (of_texts, base, _), p = self._texts.seen(s), self._params
        inputs = np.column_stack([self._whose, base, of_texts])
        prior = self._each(inputs.shape[1], 1.0, 0.0, 1.0, 0.0)
        tau = self._each(inputs.shape[1], p.prior_arena, p.prior_models, p.prior_base, p.prior_texts)
        return Fit(inputs, prior, tau, self._pairs((), inputs, prior, tau), np.zeros(len(tau)))

    def _around(self, before: Fit, s: TrainingSet, factors: tuple[float, float] | None = None) -> Fit:
        """The fit of a set around what was known ``before``; ``factors``: of the widths of θ, and of β and w."""
        prior, tau = before.coefficients, before.tau
        if factors:  # a person among others, for whom α stays
            tau = tau * self._each(len(tau), 0.0, factors[0], factors[1], factors[1])
        pairs = self._pairs(s.preferences, before.inputs, prior, tau)
        return Fit(before.inputs, prior, tau, pairs, newton(pairs, np.zeros(len(tau))))

    def _each(self, width: int, arena: float, models: float, base: float, texts: float) -> Array:
        """[width] the part of each coefficient: α, θ (one a model), β and w."""
        m = self._whose.shape[1] - 1
        return np.repeat([arena, models, base, texts], [1, m, 1, width - m - 2])

    def _pairs(self, preferences: Sequence[Preference], inputs: Array, prior: Array, tau: Array) -> Pairs:
        rows, outcomes = self._texts.pairs(preferences), np.array([p.outcome for p in preferences])
        number = rows.min(axis=1) * len(inputs) + rows.max(axis=1)  # the same pair either way round
        key, which = np.unique(number, return_inverse=True)
        won = np.where(rows[:, 0] < rows[:, 1], outcomes, 1.0 - outcomes)
        times, wins = (np.asarray(np.bincount(which, each, len(key)), float) for each in (np.ones(len(won)), won))
        a, b = np.divmod(key, max(1, len(inputs)))
        difference = inputs[a] - inputs[b]
        return Pairs(key, self._prompt_of[a], times, wins, difference * tau, difference @ prior)
