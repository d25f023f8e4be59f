"""Votes as columns of numbers, for training and scoring many people at once, and Bradley–Terry for all of them.

    ballots = tabulate(votes, features.index)
    wins = ballots.wins(np.arange(len(ballots.user)))   # [users, models, models]
    strengths(leave_one_out(wins))                      # [users, models] of everyone else's votes, Elo scale

One Newton iteration solves all users' small systems together, where a fit per user and fold would take minutes for a
thousand people. The model is that of ``baselines.BradleyTerry`` (one imagined tie of each judged model with an average
one), and a test holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

import evaluation
from base.features import Features
from config import ExperimentConfig
from core.records import Preference, Prompt
from elo_system import SCALE
from people.read import Votes

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]
Ratings = Mapping[str, float | None]

GROUPS = 10  # of people: a head shared by a tenth of them is trained on the other nine tenths
_ROUNDS = 500
_TOLERANCE = 1e-10
_LARGEST_STEP = 1.0  # in natural units: an undamped Newton step overshoots where one model nearly always wins


@dataclass(frozen=True, slots=True, eq=False)
class Ballots:
    """n votes of u users on p prompts and m models. A *cell* is one user on one prompt."""

    preferences: tuple[Preference, ...]
    users: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]
    user: Ints
    """[n] number of the user; ``prompt``, ``a`` and ``b`` likewise."""
    prompt: Ints
    a: Ints
    b: Ints
    outcome: Array
    """[n] in [0, 1]."""
    cell: Ints
    """[n] number of the vote's cell."""
    cell_user: Ints
    """[cells]."""
    cell_prompt: Ints
    """[cells]."""
    text: Ints
    """[p, m] row of the response among the features, −1 where the model did not answer."""

    @property
    def prompt_ids(self) -> tuple[str, ...]:
        return tuple(prompt.id for prompt in self.prompts)

    @property
    def decided(self) -> Mask:
        """[n] True where one side was preferred: ties train, and are not scored."""
        return np.asarray(self.outcome != 0.5)

    def mask(self, prompt_ids: Sequence[str]) -> Mask:
        """[p] True for these prompts."""
        wanted = set(prompt_ids)
        return np.array([prompt.id in wanted for prompt in self.prompts], dtype=np.bool_)

    def by_user(self, votes: Ints) -> list[Ints]:
        """``votes`` of each user, in the order given."""
        return _split(votes, self.user, len(self.users))

    def cells_by_user(self, prompts: Mask) -> list[Ints]:
        """Each user's cells on these ``prompts`` [p]."""
        return _split(np.flatnonzero(prompts[self.cell_prompt]), self.cell_user, len(self.users))

    def wins(self, votes: Ints) -> Array:
        """[u, m, m] how often each user preferred which model to which in ``votes``: an outcome o counts o for a over
        b and 1 − o back."""
        counts = np.zeros((len(self.users), len(self.models), len(self.models)))
        user, a, b = self.user[votes], self.a[votes], self.b[votes]
        np.add.at(counts, (user, a, b), self.outcome[votes])
        np.add.at(counts, (user, b, a), 1.0 - self.outcome[votes])
        return counts


def _split(items: Ints, label: Ints, count: int) -> list[Ints]:
    """``items`` apart by their label, 0 … ``count`` − 1, each part in the order given."""
    own = label[items]
    ends = np.cumsum(np.bincount(own, minlength=count))[:-1]
    return np.split(items[np.argsort(own, kind="stable")], ends)


def tabulate(votes: Votes, rows: Mapping[tuple[str, str], int]) -> Ballots:
    """``votes`` as columns; ``rows`` gives each (prompt id, model)'s row among the features."""
    users = {name: i for i, name in enumerate(votes.users)}
    models = {name: i for i, name in enumerate(votes.models)}
    prompts = {prompt.id: i for i, prompt in enumerate(votes.prompts)}
    user = np.array([users[p.user] for p in votes.preferences], dtype=np.intp)
    prompt = np.array([prompts[p.prompt_id] for p in votes.preferences], dtype=np.intp)
    cells, cell = np.unique(user * len(prompts) + prompt, return_inverse=True)
    text = np.full((len(prompts), len(models)), -1, dtype=np.intp)
    for (prompt_id, model), row in rows.items():
        text[prompts[prompt_id], models[model]] = row
    return Ballots(
        preferences=votes.preferences,
        users=votes.users,
        prompts=votes.prompts,
        models=votes.models,
        user=user,
        prompt=prompt,
        a=np.array([models[p.model_a] for p in votes.preferences], dtype=np.intp),
        b=np.array([models[p.model_b] for p in votes.preferences], dtype=np.intp),
        outcome=np.array([p.outcome for p in votes.preferences], dtype=np.float64),
        cell=cell.astype(np.intp),
        cell_user=cells // len(prompts),
        cell_prompt=cells % len(prompts),
        text=text,
    )


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who votes on what, and all that training is done with."""

    ballots: Ballots
    features: Features
    lengths: Array
    """[texts] of the responses, in characters."""
    params: ExperimentConfig
    given: Ratings
    """Global ratings for a person alone, who has nobody else to start from."""
    device: str = "cpu"
    """Where heads are trained, as ``RewardModel`` takes it."""

    @property
    def order(self) -> Ints:
        """[n] votes in the order, drawn by the seed, in which everyone's are used."""
        rng = np.random.default_rng(self.params.random_seed)
        return np.asarray(rng.permutation(len(self.ballots.preferences)), dtype=np.intp)

    @property
    def groups(self) -> list[Ints]:
        """People by the shared head that they start from: a draw by the seed."""
        people = len(self.ballots.users)
        drawn = np.random.default_rng([self.params.random_seed, 1]).permutation(people)
        return np.array_split(drawn, min(GROUPS, people))

    @property
    def folds(self) -> list[Mask]:
        """[p] the test prompts of each part of the cross-validation."""
        parts = evaluation.folds(
            self.ballots.prompt_ids, self.params.folds, (self.params.random_seed, evaluation.FOLD_STREAM)
        )
        return [self.ballots.mask(part) for part in parts]

    def chosen(self, votes: Ints) -> tuple[Preference, ...]:
        """These votes as records."""
        return tuple(self.ballots.preferences[i] for i in votes)


# ── Bradley–Terry ────────────────────────────────────────────────────────────────────────────────────────


def leave_one_out(wins: Array) -> Array:
    """[users, models, models]: all votes but each user's own. Nothing of theirs is in it: whole numbers and halves
    are subtracted exactly; what rounding leaves of other outcomes is cut to 0."""
    rest = wins.sum(axis=0) - wins
    return np.where(rest < 1e-9, 0.0, rest)


def strengths(wins: Array) -> Array:
    """[..., models, models] → [..., models] on the Elo scale, mean 0 over the models judged; the others stand at 0.

    Newton's method on the concave log-likelihood Σ n_ab ln σ(θ_a − θ_b) + ½ Σ_a [ln σ(θ_a) + ln σ(−θ_a)], the second
    sum over the models judged (Newman, JMLR 24, 2023). Raises ArithmeticError where it does not converge.
    """
    games = wins + wins.swapaxes(-1, -2)
    judged = games.sum(axis=-1) > 0.0
    won = wins.sum(axis=-1)
    known = np.maximum(judged.sum(axis=-1, keepdims=True), 1)
    theta = np.zeros(judged.shape)
    for _ in range(_ROUNDS):
        step = _newton_step(theta, games, won, judged)
        largest = np.abs(step).max(axis=-1, keepdims=True, initial=_LARGEST_STEP)
        theta += step * (_LARGEST_STEP / largest)
        # What all have in common cancels in the end, and the imagined ties, which alone hold it, drown in the rounding
        # of a million votes.
        apart = np.where(judged, step - step.sum(axis=-1, keepdims=True) / known, 0.0)
        if np.abs(apart).max(initial=0.0) < _TOLERANCE:
            break
    else:
        raise ArithmeticError("Bradley-Terry did not converge")
    theta -= theta.sum(axis=-1, keepdims=True) / known  # whoever was not judged is still at 0
    return np.asarray(np.where(judged, theta, 0.0) * (SCALE / math.log(10.0)))


def _newton_step(theta: Array, games: Array, won: Array, judged: Mask) -> Array:
    """H⁻¹ g of every user at once: [..., models]; 0 for a model that nobody judged."""
    expected = expit(theta[..., :, None] - theta[..., None, :])
    tie = expit(theta)  # what is expected of the imagined tie with an average model
    gradient = np.where(judged, won - (games * expected).sum(axis=-1) + 0.5 - tie, 0.0)
    weight = games * expected * (1.0 - expected)
    hessian = -weight
    index = np.arange(theta.shape[-1])
    hessian[..., index, index] += np.where(judged, weight.sum(axis=-1) + tie * (1.0 - tie), 1.0)
    return np.asarray(np.linalg.solve(hessian, gradient[..., None])[..., 0])
