"""Both systems for every person, trained on the prompts outside one test part.

What a person brings: their own votes on the training prompts. What they start from: everyone else's Bradley–Terry
(System A) and a head trained on other people's votes (System B). Nobody's vote on a test prompt is used by anybody,
and nothing that a person starts from has seen a vote of theirs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ballots import Array, Ballots, Ints, Mask, split_by
from baselines import RandomRanking
from config import ExperimentConfig
from crowd import leave_one_out, strengths, win_counts
from elo_system import UNRATED_START, EloSystem, starting_ratings
from features import Features
from ranking import TrainingSet
from records import Preference
from reward_model import RewardModel

GROUPS = 10  # of people: a head shared by a tenth of them is trained on the other nine tenths
SHARED_VISITS = 100_000  # a shared head meets at most so many votes, each up to max_epochs times …
SHARED_STEPS = 4_000  # … in at most so many steps: more votes make larger batches, not a longer run
CURVE_POINTS = 25

Ratings = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who votes on what, and all that training is done with."""

    ballots: Ballots
    features: Features
    lengths: Array
    """[texts] of the responses, in characters."""
    settings: ExperimentConfig
    given: Ratings
    """Global ratings for a person alone, who has nobody else to start from."""

    @property
    def order(self) -> Ints:
        """[n] votes in the order, drawn by the seed, in which everyone's are used."""
        rng = np.random.default_rng(self.settings.random_seed)
        return np.asarray(rng.permutation(len(self.ballots.preferences)), dtype=np.intp)

    @property
    def groups(self) -> list[Ints]:
        """People by the shared head that they start from: a draw by the seed."""
        people = len(self.ballots.users)
        drawn = np.random.default_rng([self.settings.random_seed, 1]).permutation(people)
        return np.array_split(drawn, min(GROUPS, people))

    def chosen(self, votes: Ints) -> tuple[Preference, ...]:
        """These votes as records."""
        return tuple(self.ballots.preferences[i] for i in votes)


@dataclass(frozen=True, slots=True)
class Predicted:
    """Scores of every model in every cell, filled part by part; NaN: not tested, or no such response."""

    systems: dict[str, Array]
    """{system: [cells, models]}."""
    curves: dict[str, NDArray[np.float32]]
    """{contender: [points, cells, models]}, after so many own votes; one point for a system trained once."""

    @classmethod
    def empty(cls, crowd: Crowd, points: int) -> Predicted:
        shape = len(crowd.ballots.cell_user), len(crowd.ballots.models)
        names = ("global_elo", "shared_reward", "base_reward", "bradley_terry", "longest_response", "random")
        counts = {"elo_offset": points, "reward_model": points if crowd.settings.incremental else 1}
        curves = {name: np.full((n, *shape), np.nan, dtype=np.float32) for name, n in counts.items()}
        return cls({name: np.full(shape, np.nan) for name in names}, curves)

    def final(self) -> dict[str, NDArray[np.floating]]:
        """{system: [cells, models]}, both contenders with all of each person's training votes."""
        return {name: curve[-1] for name, curve in self.curves.items()} | self.systems


def curve_counts(crowd: Crowd, parts: Sequence[Mask]) -> tuple[int, ...]:
    """Own votes at the points of the learning curve: 0, every, 2 · every, … and the most that anyone trains on.

    Where that makes more than ``CURVE_POINTS`` points, every is doubled until it does not.
    """
    ballots, every = crowd.ballots, crowd.settings.evaluation_frequency
    most = max(int(np.bincount(ballots.user[~test[ballots.prompt]]).max(initial=0)) for test in parts)
    while math.ceil(most / every) + 1 > CURVE_POINTS:
        every *= 2
    return (*range(0, most, every), most)


# ── One part ─────────────────────────────────────────────────────────────────────────────────────────────


def train_part(crowd: Crowd, test: Mask, counts: Sequence[int], into: Predicted) -> None:
    """Train on all prompts but ``test`` [p] and fill in every system's scores of the test cells."""
    ballots = crowd.ballots
    training = crowd.order[~test[ballots.prompt[crowd.order]]]
    own = split_by(ballots.user, training, len(ballots.users))
    cells = ballots.cells_of(test)
    tested = np.concatenate(cells)
    owner = ballots.cell_user[tested]
    wins = _wins(ballots, training)
    everyone_else = others_ratings(crowd, wins)
    rows = ballots.text[ballots.cell_prompt[tested]]
    into.systems["global_elo"][tested] = everyone_else[owner]
    into.systems["bradley_terry"][tested] = strengths(wins)[owner]
    into.systems["base_reward"][tested] = crowd.features.base_score[rows]
    into.systems["longest_response"][tested] = crowd.lengths[rows]
    into.systems["random"][tested] = _random(crowd)[ballots.cell_prompt[tested]]
    into.curves["elo_offset"][:, tested] = elo_offsets(crowd, everyone_else, own, counts)[:, owner]
    _train_heads(crowd, test, training, own, counts, cells, into)
    for scores in (*into.systems.values(), *into.curves.values()):
        scores[..., tested, :] = np.where(rows < 0, np.nan, scores[..., tested, :])


def _wins(ballots: Ballots, votes: Ints) -> Array:
    """[users, models, models] how often each user preferred which."""
    user, a, b = (column[votes] for column in (ballots.user, ballots.a, ballots.b))
    return win_counts(user, a, b, ballots.outcome[votes], len(ballots.users), len(ballots.models))


def others_ratings(crowd: Crowd, wins: Array) -> Array:
    """[users, models] what each person starts from: everyone else's Bradley–Terry, or the given ratings."""
    if len(crowd.ballots.users) > 1:
        return UNRATED_START + strengths(leave_one_out(wins))
    start = starting_ratings(crowd.given)
    return np.array([[start[model] for model in crowd.ballots.models]])


def elo_offsets(crowd: Crowd, start: Array, own: Sequence[Ints], counts: Sequence[int]) -> Array:
    """[points, users, models] ratings of System A after so many own votes, one after the other; whoever has fewer
    keeps all of theirs."""
    models = crowd.ballots.models
    ratings = np.empty((len(counts), *start.shape))
    for user, votes in enumerate(own):
        system = EloSystem(dict(zip(models, start[user].tolist(), strict=True)), crowd.settings.elo_k)
        used = 0
        for point, count in enumerate(counts):
            for preference in crowd.chosen(votes[used:count]):
                system.update(preference)
            used = max(used, count)
            ratings[point, user] = list(system.ratings.values())
    return ratings


def _random(crowd: Crowd) -> Array:
    """[prompts, models]."""
    ranker = RandomRanking(crowd.ballots.models, crowd.settings.random_seed)
    return np.array([list(ranker.scores(prompt).values()) for prompt in crowd.ballots.prompts])


# ── System B ─────────────────────────────────────────────────────────────────────────────────────────────


def shared_settings(settings: ExperimentConfig, votes: int) -> ExperimentConfig:
    """Those of a head that learns from many people: the same, within ``SHARED_VISITS`` and ``SHARED_STEPS``."""
    epochs = max(1, min(settings.max_epochs, SHARED_VISITS // max(1, votes)))
    batch = max(settings.batch_size, math.ceil(epochs * votes / SHARED_STEPS))
    return dataclasses.replace(settings, max_epochs=epochs, batch_size=batch)


def crowd_ratings(crowd: Crowd, votes: Ints) -> Ratings:
    """{model: Bradley–Terry of these votes} for the rank regularization, None for whom they leave unjudged; the
    given ratings where there are no votes."""
    if not len(votes):
        return crowd.given
    wins = _wins(crowd.ballots, votes).sum(axis=0)
    judged = (wins + wins.T).sum(axis=1) > 0.0
    ratings = UNRATED_START + strengths(wins)
    return {m: float(r) if known else None for m, r, known in zip(crowd.ballots.models, ratings, judged, strict=True)}


def fit_shared(crowd: Crowd, votes: Ints, prompt_ids: Sequence[str]) -> RewardModel:
    """A head of all these votes; without any it is the untouched base."""
    settings = shared_settings(crowd.settings, len(votes))
    model = RewardModel(crowd.features, crowd_ratings(crowd, votes), settings)
    return model.fit(crowd.chosen(votes), prompt_ids=prompt_ids)


def fit_personal(
    crowd: Crowd, shared: RewardModel, ratings: Ratings, votes: Sequence[Ints], prompt_ids: Sequence[str]
) -> list[RewardModel]:
    """A head for each list of own votes, all trained side by side from ``shared``; without votes it is ``shared``."""
    found = [shared] * len(votes)
    some = [i for i, own in enumerate(votes) if len(own)]
    sets = [TrainingSet(crowd.chosen(votes[i]), tuple(prompt_ids)) for i in some]
    if sets:
        model = RewardModel(crowd.features, ratings, crowd.settings)
        for i, fitted in zip(some, model.fit_many(sets, start=shared), strict=True):
            found[i] = fitted
    return found


def _train_heads(
    crowd: Crowd,
    test: Mask,
    training: Ints,
    own: Sequence[Ints],
    counts: Sequence[int],
    cells: Sequence[Ints],
    into: Predicted,
) -> None:
    """Group by group: the shared head of everybody outside it, then a head of their own for all in it."""
    ballots = crowd.ballots
    train_ids = [p for p, out in zip(ballots.prompts, test, strict=True) if not out]
    points = counts if crowd.settings.incremental else counts[-1:]
    for group in crowd.groups:
        outside = training[~np.isin(ballots.user[training], group)]
        shared = fit_shared(crowd, outside, train_ids)
        people = [int(user) for user in group if len(cells[user])]
        wanted = list(dict.fromkeys((user, min(n, len(own[user]))) for user in people for n in points))
        votes = [own[user][:n] for user, n in wanted]
        fitted = fit_personal(crowd, shared, crowd_ratings(crowd, outside), votes, train_ids)
        heads = dict(zip(wanted, fitted, strict=True))
        for user in people:
            rows = ballots.text[ballots.cell_prompt[cells[user]]]
            into.systems["shared_reward"][cells[user]] = _rewards(shared, crowd.features, rows)
            for point, n in enumerate(points):
                head = heads[user, min(n, len(own[user]))]
                into.curves["reward_model"][point, cells[user]] = _rewards(head, crowd.features, rows)


def _rewards(model: RewardModel, features: Features, rows: Ints) -> Array:
    """Rewards of the texts in ``rows`` [cells, models]; those of row −1 mean nothing."""
    flat = rows.ravel()
    rewards = model.score_features(features.mean[flat], features.last[flat], features.base_score[flat])
    return rewards.reshape(rows.shape)
