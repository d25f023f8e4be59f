"""The systems for every person, trained on the prompts outside a test part.

What a person brings: their own votes on the training prompts. What they start from: everyone else's Bradley–Terry
(System A), a head trained on other people's votes (System B), everyone else's fit (System C). Nobody's vote on a test
prompt is used by anybody, and nothing that a person starts from has seen a vote of theirs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np

import evaluation
from base.features import Features
from combined import Combined
from core.ranking import TrainingSet
from core.records import Preference
from elo_system import UNRATED_START, EloSystem, starting_ratings
from evidence.baselines import RandomRanking
from people.ballots import Array, Crowd, Ints, Mask, Ratings, leave_one_out, strengths
from people.scores import BASELINES, CONTENDERS, Predicted, Values, difference, hits, people_mean
from reward_model import RewardModel

CURVE_POINTS = 25
BLOCK = 2048  # people trained and scored side by side: what they bring is in memory together
SHARED_VISITS = 100_000  # a shared head meets at most so many votes, each up to max_epochs times

# How strongly own votes may move a shared head, in learning rates. With simulated people 1 finds a quarter of what
# personal taste there is and 10 all of it; where all people are the same 10 loses 0.01 of accuracy (docs/people.md).
STRENGTHS = (1.0, 3.0, 10.0)
INNER_FOLDS = 5  # of the training prompts, …
INNER_TESTS = 2  # … of which so many are tested on to choose,
INNER_GROUPS = 3  # with so many shared heads,
INNER_PEOPLE = 100  # on at most so many people
ONE_ERROR = 0.32  # p of a difference of one standard error


def predict(crowd: Crowd, parts: Sequence[Mask], counts: tuple[int, ...]) -> Predicted:
    """Every system's scores on each test part [prompts] after training on the prompts outside it."""
    shape = len(crowd.ballots.cell_user), len(crowd.ballots.models)
    points = {name: len(counts) if crowd.params.incremental else 1 for name in CONTENDERS} | {"elo_offset": len(counts)}
    found = Predicted(
        tested=np.logical_or.reduce(parts),
        counts=counts,
        systems={name: np.full(shape, np.nan) for name in BASELINES},
        curves={name: np.full((n, *shape), np.nan, dtype=np.float32) for name, n in points.items()},
        flat=np.full((len(counts), *shape), np.nan, dtype=np.float32),
        strengths=[],
    )
    for part in parts:
        _train_part(crowd, part, found)
    return found


def curve_counts(crowd: Crowd, parts: Sequence[Mask]) -> tuple[int, ...]:
    """Own votes at the points of the learning curve: 0, every, 2 · every, … and the most that anyone trains on.

    Where that makes more than ``CURVE_POINTS`` points, every is doubled until it does not.
    """
    ballots, every = crowd.ballots, crowd.params.evaluation_frequency
    most = max(int(np.bincount(ballots.user[~test[ballots.prompt]]).max(initial=0)) for test in parts)
    while math.ceil(most / every) + 1 > CURVE_POINTS:
        every *= 2
    return (*range(0, most, every), most)


def _train_part(crowd: Crowd, test: Mask, into: Predicted) -> None:
    """Train on all prompts but ``test`` and fill in every system's scores of the test cells."""
    ballots = crowd.ballots
    training = crowd.order[~test[ballots.prompt[crowd.order]]]
    own = ballots.by_user(training)
    wins = ballots.wins(training)
    everyone_else = others_ratings(crowd, wins)
    cells = np.flatnonzero(test[ballots.cell_prompt])
    user, prompt = ballots.cell_user[cells], ballots.cell_prompt[cells]
    texts = ballots.text[prompt]
    random = RandomRanking(ballots.models, crowd.params.random_seed)
    at_random = np.array([list(random.scores(prompt_id).values()) for prompt_id in ballots.prompt_ids])
    into.systems["global_elo"][cells] = everyone_else[user]
    into.systems["bradley_terry"][cells] = strengths(wins)[user]
    into.systems["base_reward"][cells] = crowd.features.base_score[texts]
    into.systems["longest_response"][cells] = crowd.lengths[texts]
    into.systems["random"][cells] = at_random[prompt]
    into.curves["elo_offset"][:, cells] = _elo_offsets(crowd, everyone_else, own, into.counts)[:, user]
    if crowd.params.incremental:  # H1 alone asks for it
        flat = np.full_like(everyone_else, UNRATED_START)
        into.flat[:, cells] = _elo_offsets(crowd, flat, own, into.counts)[:, user]
    _train_heads(crowd, test, training, own, into)
    _fit_combined(crowd, test, training, own, into)
    missing = (ballots.text < 0)[ballots.cell_prompt] & test[ballots.cell_prompt, None]
    for scores in into.systems.values():
        scores[missing] = np.nan
    for curve in (*into.curves.values(), into.flat):
        curve[:, missing] = np.nan


def _in_blocks(function: Callable[..., Sequence[Any]], *columns: Sequence[Any]) -> list[Any]:
    """``function(*columns)``, a block of rows at a time: it makes one result of each row, whatever the others are."""
    starts = range(0, len(columns[0]), BLOCK)
    return [result for start in starts for result in function(*(column[start : start + BLOCK] for column in columns))]


# ── System A ─────────────────────────────────────────────────────────────────────────────────────────────


def others_ratings(crowd: Crowd, wins: Array) -> Array:
    """[users, models] what each person starts from: everyone else's Bradley–Terry, or the given ratings."""
    if len(crowd.ballots.users) > 1:
        return UNRATED_START + strengths(leave_one_out(wins))
    start = starting_ratings(crowd.given)
    return np.array([[start[model] for model in crowd.ballots.models]])


def _elo_offsets(crowd: Crowd, start: Array, own: Sequence[Ints], counts: Sequence[int]) -> Array:
    """[points, users, models] ratings of System A after so many own votes, one after the other; whoever has fewer
    keeps all of theirs."""
    ratings = np.empty((len(counts), *start.shape))
    for user, votes in enumerate(own):
        begin = dict(zip(crowd.ballots.models, start[user].tolist(), strict=True))
        system = EloSystem(begin, crowd.params.elo_k)
        for point, (before, count) in enumerate(pairwise((0, *counts))):
            for preference in crowd.chosen(votes[before:count]):
                system.update(preference)
            ratings[point, user] = list(system.ratings.values())
    return ratings


# ── System B ─────────────────────────────────────────────────────────────────────────────────────────────


def _train_heads(crowd: Crowd, test: Mask, training: Ints, own: Sequence[Ints], into: Predicted) -> None:
    """A shared head for each group, of everybody outside it; from there a head of their own for all in it."""
    ballots = crowd.ballots
    train_ids = [p for p, out in zip(ballots.prompt_ids, test, strict=True) if not out]
    strength = choose_strength(crowd, training, train_ids)
    into.strengths.append(strength)
    outside = [training[~np.isin(ballots.user[training], group)] for group in crowd.groups]
    shared = _fit_shared(crowd, outside, train_ids)
    cells = ballots.cells_by_user(test)
    texts = _texts_of(crowd, cells)
    points = into.counts if crowd.params.incremental else into.counts[-1:]
    # whoever has fewer votes than a point needs has the same head there as at their last one: trained only once
    asked = [(int(user), g) for g, group in enumerate(crowd.groups) for user in group if len(cells[user])]
    wanted = list(dict.fromkeys((user, min(n, len(own[user])), g) for user, g in asked for n in points))
    votes = [own[user][:n] for user, n, _ in wanted]
    scored = _score_personal(
        crowd, shared, [g for *_, g in wanted], votes, [texts[user] for user, *_ in wanted], train_ids, strength
    )
    scores = {(user, n): found for (user, n, _), found in zip(wanted, scored, strict=True)}
    for user, g in asked:
        into.systems["shared_reward"][cells[user]] = _rewards(crowd.features, shared[g], texts[user])
        for point, n in enumerate(points):
            into.curves["reward_model"][point, cells[user]] = scores[user, min(n, len(own[user]))]


def _texts_of(crowd: Crowd, cells: Sequence[Ints]) -> list[Ints]:
    """Of each user the rows [cells, models] of the responses in their cells."""
    return [crowd.ballots.text[crowd.ballots.cell_prompt[of]] for of in cells]


def _shared_ratings(crowd: Crowd, votes: Ints) -> Ratings:
    """Bradley–Terry of these votes for the rank regularization, whom they leave unjudged unrated; the given ratings
    where there are no votes."""
    if not len(votes):
        return crowd.given
    wins = crowd.ballots.wins(votes).sum(axis=0)
    judged = (wins + wins.T).sum(axis=1) > 0.0
    found = (UNRATED_START + strengths(wins)).tolist()
    return {m: rating if known else None for m, rating, known in zip(crowd.ballots.models, found, judged, strict=True)}


def _fit_shared(crowd: Crowd, votes: Sequence[Ints], prompt_ids: Sequence[str]) -> list[RewardModel]:
    """A head for each list of votes, side by side; without votes it is the untouched base."""
    models = []
    for given in votes:
        epochs = max(1, min(crowd.params.max_epochs, SHARED_VISITS // max(1, len(given))))
        params = dataclasses.replace(crowd.params, max_epochs=epochs)
        model = RewardModel(crowd.features, _shared_ratings(crowd, given), params, crowd.device)
        models.append(model.fit(crowd.chosen(given), prompt_ids=prompt_ids))
    return models


def _score_personal(
    crowd: Crowd,
    shared: Sequence[RewardModel],
    start: Sequence[int],
    votes: Sequence[Ints],
    texts: Sequence[Ints],
    prompt_ids: Sequence[str],
    strength: float,
) -> list[Array]:
    """What a head of one's own makes of the ``texts``, for each list of own votes; without votes it is the shared one.

    ``start``: from which of the ``shared`` heads each goes on, ascending. ``strength`` multiplies the learning rate.
    """
    params = dataclasses.replace(crowd.params, learning_rate=strength * crowd.params.learning_rate)
    model = RewardModel(crowd.features, crowd.given, params, crowd.device)
    scoring = partial(_heads_scores, crowd.features, model, shared, tuple(prompt_ids))
    return _in_blocks(scoring, start, [crowd.chosen(own) for own in votes], texts)


def _heads_scores(
    features: Features,
    model: RewardModel,
    shared: Sequence[RewardModel],
    prompt_ids: tuple[str, ...],
    start: Sequence[int],
    votes: Sequence[tuple[Preference, ...]],
    texts: Sequence[Ints],
) -> list[Array]:
    """A block of people: the heads that go on from the same one side by side, and each head's rewards of its texts."""
    found = list[Array]()
    for number, people in groupby(zip(start, votes, texts, strict=True), key=itemgetter(0)):
        _, voted, rows = zip(*people, strict=True)
        sets = [TrainingSet(own, prompt_ids) for own in voted]
        heads = model.fit_many(sets, [shared[number]] * len(sets))
        found += [_rewards(features, head, of) for head, of in zip(heads, rows, strict=True)]
    return found


def _rewards(features: Features, model: RewardModel, texts: Ints) -> Array:
    """Rewards of the ``texts`` [k, l], rows of the features; those of row −1 mean nothing."""
    rows = texts.ravel()
    found = model.score_features(features.mean[rows], features.last[rows], features.base_score[rows])
    return found.reshape(texts.shape)


# ── System C ─────────────────────────────────────────────────────────────────────────────────────────────


def _fit_combined(crowd: Crowd, test: Mask, training: Ints, own: Sequence[Ints], into: Predicted) -> None:
    """Everyone's fit, without each person in turn what they start from, and a fit of their own from there."""
    ballots = crowd.ballots
    train_ids = [p for p, out in zip(ballots.prompt_ids, test, strict=True) if not out]
    everyone = Combined(crowd.features, crowd.given, crowd.params)
    votes = [crowd.chosen(numbers) for numbers in own]
    points = into.counts if crowd.params.incremental else into.counts[-1:]
    cells = ballots.cells_by_user(test)
    texts = _texts_of(crowd, cells)
    asked = [user for user in range(len(votes)) if len(cells[user])]
    wanted = [tuple(dict.fromkeys(min(n, len(votes[user])) for n in points)) for user in asked]
    if len(votes) == 1:
        everyone.fit((), prompt_ids=train_ids)
    else:
        everyone.fit(crowd.chosen(training), prompt_ids=train_ids)
    scoring = partial(_fits_scores, crowd.features, everyone, tuple(train_ids), len(votes) > 1)
    scored = _in_blocks(scoring, [votes[user] for user in asked], wanted, [texts[user] for user in asked])
    for user, counts, (shared, own_scores) in zip(asked, wanted, scored, strict=True):
        into.systems["shared_combined"][cells[user]] = shared
        for point, n in enumerate(points):
            into.curves["combined"][point, cells[user]] = own_scores[counts.index(min(n, len(votes[user])))]


def _fits_scores(
    features: Features,
    everyone: Combined,
    prompt_ids: tuple[str, ...],
    several: bool,
    votes: Sequence[tuple[Preference, ...]],
    counts: Sequence[tuple[int, ...]],
    texts: Sequence[Ints],
) -> list[tuple[Array, list[Array]]]:
    """A block of people: the scores of their texts by everyone else's fit, and by their own after each of the
    ``counts`` of their votes. Unless there are ``several`` there is nobody else."""
    starts = everyone.leaving_out(votes) if several else [everyone] * len(votes)
    cells = list(features.index)

    def scores(fit: Combined, rows: Ints) -> Array:
        of_prompt = {prompt_id: fit.scores(prompt_id) for prompt_id, _ in {cells[row] for row in rows.ravel()}}
        return np.array([of_prompt[cells[row][0]][cells[row][1]] for row in rows.ravel()]).reshape(rows.shape)

    sets = [TrainingSet(own[:n], prompt_ids) for own, ns in zip(votes, counts, strict=True) for n in ns]
    begin = [start for start, ns in zip(starts, counts, strict=True) for _ in ns]
    fits = iter(everyone.fit_many(sets, begin if several else None))
    return [
        (scores(start, rows), [scores(next(fits), rows) for _ in ns])
        for ns, rows, start in zip(counts, texts, starts, strict=True)
    ]


# ── How strongly own votes move a head ───────────────────────────────────────────────────────────────────


def choose_strength(crowd: Crowd, training: Ints, prompt_ids: Sequence[str]) -> float:
    """The strength that predicts votes on inner test prompts best, all drawn from the training prompts.

    The weakest unless another is better by more than a standard error (Breiman et al., *Classification and
    Regression Trees*, 1984, the 1 SE rule): a head of one's own has to earn its place.
    """
    if len(prompt_ids) < INNER_FOLDS:
        return STRENGTHS[0]
    ballots = crowd.ballots
    scores = np.full((len(STRENGTHS), len(ballots.cell_user), len(ballots.models)), np.nan)
    for part in evaluation.folds(prompt_ids, INNER_FOLDS, crowd.params.random_seed)[:INNER_TESTS]:
        _try_strengths(crowd, training, [p for p in prompt_ids if p not in part], part, scores)
    right = hits(scores, ballots)
    known = np.flatnonzero(~np.isnan(right[0]))
    values = [Values(row[known], ballots.user[known], ballots.prompt[known]) for row in right]
    means = [people_mean(v) or 0.0 for v in values]
    best = means.index(max(means))  # the weakest of equals
    gain = difference(values[best], values[0])
    return STRENGTHS[best] if gain and gain.difference > 0.0 and gain.p_value < ONE_ERROR else STRENGTHS[0]


def _try_strengths(crowd: Crowd, training: Ints, train: Sequence[str], test: Sequence[str], scores: Array) -> None:
    """Fill in ``scores`` [strengths, cells, models] on the ``test`` prompts after training on the ``train`` prompts."""
    ballots = crowd.ballots
    own = ballots.by_user(training[ballots.mask(train)[ballots.prompt[training]]])
    cells = ballots.cells_by_user(ballots.mask(test))
    everyone = np.random.default_rng([crowd.params.random_seed, 2]).permutation(len(ballots.users))
    groups = np.array_split(everyone[:INNER_PEOPLE], min(INNER_GROUPS, len(everyone)))
    others = [everyone[~np.isin(everyone, group)] for group in groups]
    outside = [np.concatenate([*(own[user] for user in rest), np.zeros(0, np.intp)]) for rest in others]
    shared = _fit_shared(crowd, outside, train)
    asked = [(user, g) for g, group in enumerate(groups) for user in group]
    votes, texts = [own[user] for user, _ in asked], _texts_of(crowd, [cells[user] for user, _ in asked])
    for i, strength in enumerate(STRENGTHS):
        found = _score_personal(crowd, shared, [g for _, g in asked], votes, texts, train, strength)
        for (user, _), values in zip(asked, found, strict=True):
            scores[i, cells[user]] = values


# ── What is kept for later ───────────────────────────────────────────────────────────────────────────────


def learned(crowd: Crowd) -> tuple[EloSystem, RewardModel, Combined]:
    """All systems from all votes: for several people what a new person starts from, for one person alone what was
    learned of them."""
    votes, ids = crowd.chosen(crowd.order), crowd.ballots.prompt_ids
    (reward,) = _fit_shared(crowd, [crowd.order], ids)
    combined = Combined(crowd.features, crowd.given, crowd.params).fit(votes, prompt_ids=ids)
    if len(crowd.ballots.users) > 1:
        return EloSystem(_shared_ratings(crowd, crowd.order), crowd.params.elo_k), reward, combined
    return EloSystem(crowd.given, crowd.params.elo_k).fit(votes), reward, combined
