"""Human votes as columns of numbers: what training and scoring for many people at once work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from base.features import Features
from config import ExperimentConfig
from core.records import Preference
from people.crowd import win_counts
from people.votes import Votes

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Ballots:
    """n votes of u users on p prompts and m models. A *cell* is one user on one prompt."""

    preferences: tuple[Preference, ...]
    users: tuple[str, ...]
    prompts: tuple[str, ...]
    """Their ids."""
    prompt_texts: tuple[str, ...]
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
    def decided(self) -> Mask:
        """[n] True where one side was preferred: ties train, and are not scored."""
        return np.asarray(self.outcome != 0.5)

    def mask(self, prompt_ids: Sequence[str]) -> Mask:
        """[p] True for these prompts."""
        wanted = set(prompt_ids)
        return np.array([p in wanted for p in self.prompts], dtype=np.bool_)

    def wins(self, votes: Ints) -> Array:
        """[u, m, m] how often each user preferred which model to which in these votes."""
        user, a, b = (column[votes] for column in (self.user, self.a, self.b))
        return win_counts(user, a, b, self.outcome[votes], len(self.users), len(self.models))

    def cells_of(self, chosen: Mask) -> list[Ints]:
        """The cells of each user, [u] arrays, on the prompts that are ``chosen`` [p]."""
        return split_by(self.cell_user, np.flatnonzero(chosen[self.cell_prompt]), len(self.users))


Ratings = Mapping[str, float | None]
GROUPS = 10  # of people: a head shared by a tenth of them is trained on the other nine tenths


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

    def chosen(self, votes: Ints) -> tuple[Preference, ...]:
        """These votes as records."""
        return tuple(self.ballots.preferences[i] for i in votes)


def tabulate(votes: Votes, rows: Mapping[tuple[str, str], int]) -> Ballots:
    """``votes`` as columns; ``rows`` gives each (prompt id, model)'s row among the features."""
    users, models = _numbers(votes.users), _numbers(votes.models)
    prompts = _numbers([p.id for p in votes.prompts])
    user, prompt, a, b = (
        np.array(column, dtype=np.intp)
        for column in zip(
            *((users[p.user], prompts[p.prompt_id], models[p.model_a], models[p.model_b]) for p in votes.preferences),
            strict=True,
        )
    )
    cells, cell = np.unique(user * len(prompts) + prompt, return_inverse=True)
    text = np.full((len(prompts), len(models)), -1, dtype=np.intp)
    for (prompt_id, model), row in rows.items():
        text[prompts[prompt_id], models[model]] = row
    outcome = np.array([p.outcome for p in votes.preferences], dtype=np.float64)
    return Ballots(
        votes.preferences, votes.users, tuple(prompts), tuple(p.text for p in votes.prompts), votes.models,
        user, prompt, a, b, outcome,
        cell.astype(np.intp), cells // len(prompts), cells % len(prompts), text,
    )  # fmt: skip


def split_by(labels: Ints, chosen: Ints, count: int) -> list[Ints]:
    """``chosen`` indices into ``labels``, apart by label 0 … count − 1, each in the order given."""
    own = labels[chosen]
    ends = np.cumsum(np.bincount(own, minlength=count))[:-1]
    return np.split(chosen[np.argsort(own, kind="stable")], ends)


def _numbers(names: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}
