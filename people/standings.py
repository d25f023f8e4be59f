"""Everybody's order of the models, from votes that rarely rank a whole prompt: Bradley–Terry, prompts and people drawn
anew.

Rows are those of ``evidence.leaderboard``. A win rate is the mean over the others of σ(θ_m − θ_j). Its error is the
spread over draws of the prompts and, where there are several, of the people, each vote counting the product of how
often both were drawn (Owen, *The Pigeonhole Bootstrap*, Annals of Applied Statistics 1, 2007: never too narrow).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from elo_system import SCALE
from evidence.intervals import ALPHA, Interval, mean_interval, paired_p_value, prompts_needed
from evidence.leaderboard import SAME, Answer, Facts, Standings, answer, in_order, leading_shares, surely_better
from evidence.traits import likings
from people.ballots import Array, Ballots, Crowd, strengths
from people.read import Votes

DRAWS = 2_000  # each is a fit: the spread is then known to 2 %
VOTES_AT_ONCE = 5_000_000  # draws × votes held in memory


def who_is_best(votes: Votes, crowd: Crowd) -> Answer:
    """Everybody's order, whose own best each model is, and what is liked."""
    facts = Facts(crowd.given, votes.responses, own_best=own_best(crowd.ballots))
    found = standings(crowd.ballots, crowd.params.random_seed)
    return answer(found, facts, likings(votes.preferences, votes.responses))


def standings(ballots: Ballots, seed: int) -> Standings:
    """The models by everybody's votes."""
    from scipy.stats import t

    every = np.arange(len(ballots.user))
    rates = win_rates(ballots.wins(every).sum(axis=0))
    drawn = np.concatenate([win_rates(wins) for wins in _drawn_wins(ballots, seed)])
    clusters = _clusters(ballots)
    factor, degrees = math.sqrt(clusters / max(clusters - 1.0, 1.0)), max(clusters - 1, 1)
    gap = rates[:, None] - rates
    errors = factor * (drawn[:, :, None] - drawn[:, None, :]).std(axis=0, ddof=1).round(SAME)
    ratio = np.divide(np.abs(gap), errors, out=np.zeros_like(gap), where=errors > 0.0)
    unseen = [paired_p_value([x] * clusters, reach=1.0) for x in gap.ravel()]  # where every draw is the same
    better = surely_better(rates, np.where(errors > 0.0, 2.0 * t.sf(ratio, degrees), np.reshape(unseen, gap.shape)))
    spreads = float(t.ppf(1.0 - ALPHA / 2.0, degrees)) * factor * drawn.std(axis=0, ddof=1).round(SAME)
    intervals = [
        _interval(rate, half) if half > 0.0 else mean_interval([rate] * clusters, 0.0, 1.0) or (0.0, 1.0)
        for rate, half in zip(rates.tolist(), spreads.tolist(), strict=True)
    ]
    compared = np.bincount(np.concatenate([ballots.a, ballots.b]), minlength=len(rates))
    rows = in_order(ballots.models, rates, better, intervals, leading_shares(drawn), _outcomes(ballots), compared)
    return Standings(rows, *_more(ballots, rates, errors, better))


def own_best(ballots: Ballots) -> dict[str, int]:
    """{model: how many people's own votes put it alone first}; empty where only one votes."""
    if len(ballots.users) == 1:
        return {}
    wins = ballots.wins(np.arange(len(ballots.user)))
    judged = (wins + wins.swapaxes(-1, -2)).sum(axis=-1) > 0.0
    own = np.where(judged, strengths(wins).round(6), -np.inf)
    first = (own == own.max(axis=-1, keepdims=True)) & judged
    alone = first[first.sum(axis=-1) == 1]
    return dict(zip(ballots.models, alone.sum(axis=0).tolist(), strict=True))


def win_rates(wins: Array) -> Array:
    """[..., models, models] how often each won against which → [..., models] mean over the others of σ(θ_m − θ_j)."""
    theta = strengths(wins) * (math.log(10.0) / SCALE)
    chances = 0.5 + 0.5 * np.tanh(0.5 * (theta[..., :, None] - theta[..., None, :]))
    models = wins.shape[-1]
    return np.asarray((chances.sum(axis=-1) - 0.5) / (models - 1))


def _drawn_wins(ballots: Ballots, seed: int) -> Iterator[Array]:
    """[some draws, models, models], ``DRAWS`` in all."""
    from scipy.sparse import csr_array

    rng, models, votes = np.random.default_rng(seed), len(ballots.models), len(ballots.user)
    row = np.concatenate([ballots.a * models + ballots.b, ballots.b * models + ballots.a])
    value = np.concatenate([ballots.outcome, 1.0 - ballots.outcome])
    table = csr_array((value, (row, np.tile(np.arange(votes), 2))), shape=(models * models, votes))
    voted, people = np.unique(ballots.prompt, return_inverse=True)[1], len(ballots.users)
    prompts = int(voted.max()) + 1
    size = max(1, min(DRAWS, VOTES_AT_ONCE // votes))
    for start in range(0, DRAWS, size):
        count = min(size, DRAWS - start)
        weight = rng.multinomial(prompts, np.full(prompts, 1.0 / prompts), size=count)[:, voted]
        if people > 1:
            weight = weight * rng.multinomial(people, np.full(people, 1.0 / people), size=count)[:, ballots.user]
        yield np.asarray((table @ weight.T).T).reshape(count, models, models)


def _clusters(ballots: Ballots) -> int:
    """The smaller number of what was drawn."""
    kinds = [len(np.unique(ballots.prompt))] + ([len(ballots.users)] if len(ballots.users) > 1 else [])
    return min(kinds)


def _interval(rate: float, half: float) -> Interval:
    """``rate`` ± ``half`` on the scale of log-odds, which it never leaves."""
    slope = rate * (1.0 - rate)
    middle, width = math.log(rate / (1.0 - rate)), half / slope
    return 1.0 / (1.0 + math.exp(width - middle)), 1.0 / (1.0 + math.exp(-width - middle))


def _outcomes(ballots: Ballots) -> Array:
    """[prompts, models] mean outcome of each model over whoever voted, NaN where nobody did."""
    shape = (len(ballots.prompts), len(ballots.models))
    points, games = np.zeros(shape), np.zeros(shape)
    for model, outcome in ((ballots.a, ballots.outcome), (ballots.b, 1.0 - ballots.outcome)):
        np.add.at(points, (ballots.prompt, model), outcome)
        np.add.at(games, (ballots.prompt, model), 1.0)
    return np.asarray(np.divide(points, games, out=np.full(shape, np.nan), where=games > 0.0))


def _more(ballots: Ballots, rates: Array, errors: Array, better: NDArray[np.bool_]) -> tuple[int | None, int | None]:
    """How many more prompts, and where several vote how many more people with them, would tell the first two apart;
    None where they are, or where nobody can say.

    The error falls as 1/√k where there are k times as many of both.
    """
    first, second = np.argsort(-rates, kind="stable")[:2].tolist()
    gap, error = round(float(rates[first] - rates[second]), SAME), float(errors[first, second])
    if better[first, second] or not error > 0.0:
        return None, None
    clusters, undecided = _clusters(ballots), len(rates) * (len(rates) - 1) // 2 - int(better.sum())
    needed = prompts_needed(gap, error * math.sqrt(clusters), level=ALPHA / undecided)
    if needed is None:
        return None, None
    growth, people = max(0.0, needed / clusters - 1.0), len(ballots.users)
    prompts = max(1, math.ceil(growth * len(np.unique(ballots.prompt))))
    return prompts, max(1, math.ceil(growth * people)) if people > 1 else None
