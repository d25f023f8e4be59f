"""System B for many people: heads shared by a crowd, and heads of one's own that start from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

import evaluation
from base.features import Features
from config import ExperimentConfig
from core.ranking import TrainingSet
from elo_system import UNRATED_START
from people.ballots import Array, Crowd, Ints, Ratings, split_by
from people.crowd import strengths
from people.scores import Values, difference, people_mean
from reward_model import RewardModel

SHARED_VISITS = 100_000  # a shared head meets at most so many votes, each up to max_epochs times …
SHARED_STEPS = 4_000  # … in at most so many steps: more votes make larger batches, not a longer run

# How strongly own votes may move a shared head, in learning rates. With simulated people 1 finds a quarter of what
# personal taste there is and 10 all of it; where all people are the same 10 loses 0.01 of accuracy (docs/people.md).
STRENGTHS = (1.0, 3.0, 10.0)
INNER_FOLDS = 5  # of the training prompts, …
INNER_TESTS = 2  # … of which so many are tested on to choose,
INNER_GROUPS = 3  # with so many shared heads,
INNER_PEOPLE = 100  # on at most so many people
ONE_ERROR = 0.32  # p of a difference of one standard error


def shared_settings(params: ExperimentConfig, votes: int) -> ExperimentConfig:
    """Those of a head that learns from many people: the same, within ``SHARED_VISITS`` and ``SHARED_STEPS``."""
    epochs = max(1, min(params.max_epochs, SHARED_VISITS // max(1, votes)))
    batch = max(params.batch_size, math.ceil(epochs * votes / SHARED_STEPS))
    return dataclasses.replace(params, max_epochs=epochs, batch_size=batch)


def crowd_ratings(crowd: Crowd, votes: Ints) -> Ratings:
    """{model: Bradley–Terry of these votes} for the rank regularization, None for whom they leave unjudged; the
    given ratings where there are no votes."""
    if not len(votes):
        return crowd.given
    wins = crowd.ballots.wins(votes).sum(axis=0)
    judged = (wins + wins.T).sum(axis=1) > 0.0
    ratings = UNRATED_START + strengths(wins)
    return {m: float(r) if known else None for m, r, known in zip(crowd.ballots.models, ratings, judged, strict=True)}


def fit_shared(crowd: Crowd, votes: Ints, prompt_ids: Sequence[str]) -> RewardModel:
    """A head of all these votes; without any it is the untouched base."""
    params = shared_settings(crowd.params, len(votes))
    model = RewardModel(crowd.features, crowd_ratings(crowd, votes), params)
    return model.fit(crowd.chosen(votes), prompt_ids=prompt_ids)


def fit_personal(
    crowd: Crowd,
    shared: RewardModel,
    ratings: Ratings,
    votes: Sequence[Ints],
    prompt_ids: Sequence[str],
    strength: float = 1.0,
) -> list[RewardModel]:
    """A head for each list of own votes, all trained side by side from ``shared``; without votes it is ``shared``.

    ``strength`` multiplies the learning rate.
    """
    params = dataclasses.replace(crowd.params, learning_rate=strength * crowd.params.learning_rate)
    found = [shared] * len(votes)
    some = [i for i, own in enumerate(votes) if len(own)]
    sets = [TrainingSet(crowd.chosen(votes[i]), tuple(prompt_ids)) for i in some]
    if sets:
        model = RewardModel(crowd.features, ratings, params)
        for i, fitted in zip(some, model.fit_many(sets, start=shared), strict=True):
            found[i] = fitted
    return found


def rewards(model: RewardModel, features: Features, rows: Ints) -> Array:
    """Rewards of the texts in ``rows`` [k, l]; those of row −1 mean nothing."""
    flat = rows.ravel()
    found = model.score_features(features.mean[flat], features.last[flat], features.base_score[flat])
    return found.reshape(rows.shape)


# ── How strongly ─────────────────────────────────────────────────────────────────────────────────────────


def choose_strength(crowd: Crowd, training: Ints, prompt_ids: Sequence[str]) -> float:
    """The strength that predicts votes on inner test prompts best, all drawn from the training prompts.

    The weakest unless another is better by more than a standard error (Breiman et al., *Classification and
    Regression Trees*, 1984, the 1 SE rule): a head of one's own has to earn its place.
    """
    if len(prompt_ids) < INNER_FOLDS:
        return STRENGTHS[0]
    parts = evaluation.folds(prompt_ids, INNER_FOLDS, crowd.params.random_seed)[:INNER_TESTS]
    right = np.full((len(STRENGTHS), len(crowd.ballots.preferences)), np.nan)
    for part in parts:
        _try_strengths(crowd, training, [p for p in prompt_ids if p not in set(part)], part, right)
    known = np.flatnonzero(~np.isnan(right[0]))
    values = [Values(row[known], crowd.ballots.user[known], crowd.ballots.prompt[known]) for row in right]
    means = [people_mean(v) for v in values]
    best = max(range(len(STRENGTHS)), key=lambda i: (means[i] or 0.0, -i))
    gain = difference(values[best], values[0])
    return STRENGTHS[best] if gain and gain.difference > 0.0 and gain.p_value < ONE_ERROR else STRENGTHS[0]


def _try_strengths(crowd: Crowd, training: Ints, train: Sequence[str], test: Sequence[str], right: Array) -> None:
    """Fill in ``right`` [strengths, votes] for decided votes on ``test`` prompts after training on ``train``."""
    ballots = crowd.ballots
    own, asked = (
        split_by(ballots.user, training[ballots.mask(prompts)[ballots.prompt[training]]], len(ballots.users))
        for prompts in (train, test)
    )
    everyone = np.random.default_rng([crowd.params.random_seed, 2]).permutation(len(ballots.users))
    for group in np.array_split(everyone[:INNER_PEOPLE], min(INNER_GROUPS, len(everyone))):
        outside = np.concatenate([np.zeros(0, np.intp), *(own[u] for u in everyone if u not in set(group.tolist()))])
        shared, ratings = fit_shared(crowd, outside, train), crowd_ratings(crowd, outside)
        for i, strength in enumerate(STRENGTHS):
            heads = fit_personal(crowd, shared, ratings, [own[u] for u in group], train, strength)
            for user, head in zip(group, heads, strict=True):
                votes = asked[user][ballots.decided[asked[user]]]
                sides = np.stack([ballots.text[ballots.prompt[votes], x[votes]] for x in (ballots.a, ballots.b)], 1)
                reward = rewards(head, crowd.features, sides)
                sign = np.sign(reward[:, 0] - reward[:, 1]) * np.sign(ballots.outcome[votes] - 0.5)
                right[i, votes] = 0.5 + 0.5 * sign
