"""Both systems for every person, trained on the prompts outside one test part.

What a person brings: their own votes on the training prompts. What they start from: everyone else's Bradley–Terry
(System A) and a head trained on other people's votes (System B). Nobody's vote on a test prompt is used by anybody,
and nothing that a person starts from has seen a vote of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elo_system import UNRATED_START, EloSystem, starting_ratings
from evidence.baselines import RandomRanking
from people.ballots import Array, Crowd, Ints, Mask, split_by
from people.crowd import leave_one_out, strengths
from people.heads import choose_strength, crowd_ratings, fit_personal, fit_shared, rewards

CURVE_POINTS = 25


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
        counts = {"elo_offset": points, "reward_model": points if crowd.params.incremental else 1}
        curves = {name: np.full((n, *shape), np.nan, dtype=np.float32) for name, n in counts.items()}
        return cls({name: np.full(shape, np.nan) for name in names}, curves)

    def final(self) -> dict[str, NDArray[np.floating]]:
        """{system: [cells, models]}, both contenders with all of each person's training votes."""
        return {name: curve[-1] for name, curve in self.curves.items()} | self.systems


def curve_counts(crowd: Crowd, parts: Sequence[Mask]) -> tuple[int, ...]:
    """Own votes at the points of the learning curve: 0, every, 2 · every, … and the most that anyone trains on.

    Where that makes more than ``CURVE_POINTS`` points, every is doubled until it does not.
    """
    ballots, every = crowd.ballots, crowd.params.evaluation_frequency
    most = max(int(np.bincount(ballots.user[~test[ballots.prompt]]).max(initial=0)) for test in parts)
    while math.ceil(most / every) + 1 > CURVE_POINTS:
        every *= 2
    return (*range(0, most, every), most)


# ── One part ─────────────────────────────────────────────────────────────────────────────────────────────


def train_part(crowd: Crowd, test: Mask, counts: Sequence[int], into: Predicted) -> float:
    """Train on all prompts but ``test`` [p] and fill in every system's scores of the test cells.

    Returns how strongly own votes moved the heads (``people_heads.choose_strength``).
    """
    ballots = crowd.ballots
    training = crowd.order[~test[ballots.prompt[crowd.order]]]
    own = split_by(ballots.user, training, len(ballots.users))
    cells = ballots.cells_of(test)
    tested = np.concatenate(cells)
    owner = ballots.cell_user[tested]
    wins = ballots.wins(training)
    everyone_else = others_ratings(crowd, wins)
    rows = ballots.text[ballots.cell_prompt[tested]]
    into.systems["global_elo"][tested] = everyone_else[owner]
    into.systems["bradley_terry"][tested] = strengths(wins)[owner]
    into.systems["base_reward"][tested] = crowd.features.base_score[rows]
    into.systems["longest_response"][tested] = crowd.lengths[rows]
    into.systems["random"][tested] = _random(crowd)[ballots.cell_prompt[tested]]
    into.curves["elo_offset"][:, tested] = elo_offsets(crowd, everyone_else, own, counts)[:, owner]
    strength = _train_heads(crowd, test, training, own, counts, cells, into)
    for found in (into.systems, into.curves):
        for scores in found.values():
            scores[..., tested, :] = np.where(rows < 0, np.nan, scores[..., tested, :])
    return strength


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
        system = EloSystem(dict(zip(models, start[user].tolist(), strict=True)), crowd.params.elo_k)
        used = 0
        for point, count in enumerate(counts):
            for preference in crowd.chosen(votes[used:count]):
                system.update(preference)
            used = max(used, count)
            ratings[point, user] = list(system.ratings.values())
    return ratings


def _random(crowd: Crowd) -> Array:
    """[prompts, models]."""
    ranker = RandomRanking(crowd.ballots.models, crowd.params.random_seed)
    return np.array([list(ranker.scores(prompt).values()) for prompt in crowd.ballots.prompts])


def _train_heads(
    crowd: Crowd,
    test: Mask,
    training: Ints,
    own: Sequence[Ints],
    counts: Sequence[int],
    cells: Sequence[Ints],
    into: Predicted,
) -> float:
    """Group by group: the shared head of everybody outside it, then a head of their own for all in it."""
    ballots = crowd.ballots
    train_ids = [p for p, out in zip(ballots.prompts, test, strict=True) if not out]
    strength = choose_strength(crowd, training, train_ids)
    points = counts if crowd.params.incremental else counts[-1:]
    for group in crowd.groups:
        outside = training[~np.isin(ballots.user[training], group)]
        shared = fit_shared(crowd, outside, train_ids)
        people = [int(user) for user in group if len(cells[user])]
        wanted = list(dict.fromkeys((user, min(n, len(own[user]))) for user in people for n in points))
        votes = [own[user][:n] for user, n in wanted]
        fitted = fit_personal(crowd, shared, crowd_ratings(crowd, outside), votes, train_ids, strength)
        heads = dict(zip(wanted, fitted, strict=True))
        for user in people:
            rows = ballots.text[ballots.cell_prompt[cells[user]]]
            into.systems["shared_reward"][cells[user]] = rewards(shared, crowd.features, rows)
            for point, n in enumerate(points):
                head = heads[user, min(n, len(own[user]))]
                into.curves["reward_model"][point, cells[user]] = rewards(head, crowd.features, rows)
    return strength
