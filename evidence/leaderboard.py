"""The person's answer: their models in order, how sure each place is, and which can't be told apart.

    found = who_is_best(data, ratings, {}, params)
    found.best, found.tied_with, found.leaderboard

It says what the preferences of all prompts show and predicts nothing. The unit is the prompt: fifteen pairs of six
answers are one witness, not fifteen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from config import ExperimentConfig
from core.records import Preference, Rating, Response
from data_generation import Data
from evidence.intervals import ALPHA, Interval, holm, mean_interval, paired_p_value, prompts_needed
from evidence.traits import Liking, likings

Array = NDArray[np.float64]
DRAWS = 10_000  # of the prompts: a share of them is then within 0.01 of its limit
UNLIKELY = 0.025  # share of draws: two equal models in one of 20 worlds leave one of them below it
SAME = 9  # decimals to which two sums of the same outcomes agree in any order


@dataclass(frozen=True, slots=True)
class Standing:
    """One model's place and how sure it is."""

    model: str
    place: int
    """1 + how many have a higher win rate."""
    low: int
    """1 + how many are surely better."""
    high: int
    """The number of models less how many are surely worse."""
    win_rate: float
    """Share of comparisons with the others that it wins, a tie being half a win."""
    ci95: Interval
    p_best: float
    """Share of draws of the prompts in which it leads, ties shared. No chance: for two equal models it is about
    uniform."""
    best_on: int
    """Prompts on which no model has a higher mean outcome."""
    judged_on: int
    """Prompts on which it was judged."""
    comparisons: int
    """How often it was judged against another."""


@dataclass(frozen=True, slots=True)
class Standings:
    """All models, best first, and what it would take to know more."""

    rows: tuple[Standing, ...]
    more_prompts: int | None
    """How many more would separate the first two; None where they are told apart or where nobody can say."""
    more_people: int | None = None
    """How many more people it would take beside the prompts; None where only one votes."""


# ── What the preferences show ────────────────────────────────────────────────────────────────────────────


def mean_outcomes(preferences: Sequence[Preference], models: Sequence[str]) -> Array:
    """[prompts, models] mean outcome of each model against the others; prompts that lack a model are left out."""
    column = {model: i for i, model in enumerate(models)}
    row = {prompt_id: i for i, prompt_id in enumerate(dict.fromkeys(p.prompt_id for p in preferences))}
    points, games = np.zeros((len(row), len(column))), np.zeros((len(row), len(column)))
    for p in preferences:
        for model, outcome in ((p.model_a, p.outcome), (p.model_b, 1.0 - p.outcome)):
            points[row[p.prompt_id], column[model]] += outcome
            games[row[p.prompt_id], column[model]] += 1.0
    whole = (games > 0.0).all(axis=1)
    return np.asarray(points[whole] / games[whole])


def standings(outcomes: Array, models: Sequence[str], seed: int) -> Standings:
    """The models by their mean ``outcomes`` [prompts, models], at least one prompt.

    Every pair is compared by the paired differences of its outcomes, prompt by prompt: a two-sided t test.
    """
    prompts, rates = len(outcomes), outcomes.mean(axis=0)
    better = surely_better(rates, paired_p_values(outcomes))
    weights = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1.0 / prompts), size=DRAWS)
    intervals = [mean_interval(column.tolist(), 0.0, 1.0) or (0.0, 1.0) for column in outcomes.T]
    compared = np.full(len(models), prompts * (len(models) - 1))
    rows = in_order(models, rates, better, intervals, leading_shares(weights @ outcomes), outcomes, compared)
    return Standings(rows, _more_prompts(outcomes, better, *np.argsort(-rates, kind="stable")[:2].tolist()))


def paired_p_values(outcomes: Array) -> Array:
    """[models, models] p of each two models being equally good, from ``outcomes`` [prompts, models]."""
    width = outcomes.shape[1]
    p_values = np.ones((width, width))
    for a, b in combinations(range(width), 2):
        p_values[a, b] = p_values[b, a] = paired_p_value(outcomes[:, a] - outcomes[:, b], reach=1.0)
    return p_values


def surely_better(rates: Array, p_values: Array) -> NDArray[np.bool_]:
    """[models, models] True where the row's model is surely better than the column's.

    ``p_values`` [models, models] of every pair. Holm's correction over all pairs at 5 %: all ranges of places then hold
    together (Mogstad et al., *Inference for Ranks*, Review of Economic Studies 91, 2024).
    """
    upper = np.triu_indices(len(rates), 1)
    corrected = np.ones_like(p_values)
    corrected[upper] = holm(p_values[upper])
    sure = np.minimum(corrected, corrected.T) < ALPHA
    return np.asarray(sure & (rates[:, None] > rates))


def leading_shares(rates: Array) -> Array:
    """[models] share of the draws [draws, models] in which each leads; of a tie each has its part."""
    values = rates.round(SAME)
    leads = values == values.max(axis=1, keepdims=True)
    return np.asarray((leads / leads.sum(axis=1, keepdims=True)).mean(axis=0))


def in_order(
    models: Sequence[str],
    rates: Array,
    better: NDArray[np.bool_],
    intervals: Sequence[Interval],
    leading: Array,
    outcomes: Array,
    compared: NDArray[np.intp],
) -> tuple[Standing, ...]:
    """A row for each model, best first, equal ones by name; everything is given in the order of ``models``.

    ``outcomes`` [prompts, models], NaN where a model was not judged; ``compared`` [models]: how often it was.
    """
    values, judged = rates.round(SAME), ~np.isnan(outcomes)
    on_prompt = np.where(judged, outcomes.round(SAME), -1.0)
    best_on = ((on_prompt == on_prompt.max(axis=1, keepdims=True)) & judged).sum(axis=0)
    rows = [
        Standing(
            model=model,
            place=1 + int((values > values[i]).sum()),
            low=1 + int(better[:, i].sum()),
            high=len(models) - int(better[i].sum()),
            win_rate=float(rates[i]),
            ci95=intervals[i],
            p_best=float(leading[i]),
            best_on=int(best_on[i]),
            judged_on=int(judged[:, i].sum()),
            comparisons=int(compared[i]),
        )
        for i, model in enumerate(models)
    ]
    return tuple(sorted(rows, key=lambda row: (row.place, row.model)))


def _more_prompts(outcomes: Array, better: NDArray[np.bool_], first: int, second: int) -> int | None:
    """More prompts than there are that would tell these two apart, at the level that Holm has reached."""
    if better[first, second]:
        return None
    undecided = len(better) * (len(better) - 1) // 2 - int(better.sum())
    difference = outcomes[:, first] - outcomes[:, second]
    sd = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    mean = round(float(difference.mean()), SAME)
    needed = prompts_needed(mean, sd, level=ALPHA / undecided) if sd > 0.0 else None
    return None if needed is None else max(1, needed - len(outcomes))


# ── For the results ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Answer:
    """What the preferences of all prompts say of the models and of their texts; nothing here is predicted."""

    best: str | None
    """The leader; None where nothing is known."""
    tied_with: tuple[str, ...]
    """The models that can't be told from the leader."""
    unlikely: tuple[str, ...]
    """Those of them that hardly any draw puts first."""
    more_prompts: int | None
    """How many more would separate the first two; None where they are separate, or where that can't be said."""
    more_people: int | None
    """How many more people it would take beside the prompts; None for one person and for a persona."""
    leaderboard: Sequence[Mapping[str, Any]]
    """[{model, place, places, win_rate, …}], best first."""
    likes: Sequence[Mapping[str, Any]] = ()
    """[{trait, likes, weight, ci95, unit, p_value}], what is surely liked in a text, surest first."""


def who_is_best(
    data: Data, ratings: Mapping[str, Rating], parameters: Mapping[str, str], params: ExperimentConfig
) -> Answer:
    """The models in order and what is liked, from the preferences of all prompts.

    ``parameters``: how large the models are, in their server's words.
    """
    models = list(ratings)
    found = standings(mean_outcomes(data.preferences, models), models, params.random_seed)
    facts = Facts({model: rating.elo for model, rating in ratings.items()}, data.responses, parameters)
    return answer(found, facts, likings(data.preferences, data.responses))


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the models beyond the preferences."""

    elo: Mapping[str, float | None]
    """Global ratings."""
    responses: Sequence[Response] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    """{model: "8.0B"}, the server's word."""
    own_best: Mapping[str, int] = field(default_factory=dict)
    """{model: how many people's own votes put it first}; empty for a persona and for one person."""


def answer(found: Standings, facts: Facts, likes: Sequence[Liking] = ()) -> Answer:
    """What is known of the models, ready for JSON."""
    rated = [elo for elo in facts.elo.values() if elo is not None]
    speed, moved = tokens_per_second(facts.responses), moved_places(found.rows, facts.elo)
    rows = []
    for row in found.rows:
        elo = facts.elo[row.model]
        rows.append(
            {
                "model": row.model,
                "place": row.place,
                "places": {"lo": row.low, "hi": row.high},
                "win_rate": {"mean": row.win_rate, "ci95": list(row.ci95)},
                "p_best": row.p_best,
                "best_on": row.best_on,
                "judged_on": row.judged_on,
                "comparisons": row.comparisons,
                "own_best_of": facts.own_best.get(row.model),
                "global_place": None if elo is None else 1 + sum(other > elo for other in rated),
                "moved": moved.get(row.model),
                "elo": elo,
                "tokens_per_s": speed.get(row.model),
                "parameters": facts.parameters.get(row.model),
            }
        )
    first = [row.model for row in found.rows if row.low == 1]
    unknown = len(first) == len(found.rows)
    return Answer(
        best=None if unknown else first[0],
        tied_with=() if unknown else tuple(first[1:]),
        unlikely=() if unknown else tuple(r.model for r in found.rows if r.low == 1 and r.p_best < UNLIKELY),
        more_prompts=found.more_prompts,
        more_people=found.more_people,
        leaderboard=rows,
        likes=[liking.as_dict() for liking in likes],
    )


def moved_places(rows: Sequence[Standing], elo: Mapping[str, float | None]) -> dict[str, int]:
    """{model: places by which it stands higher (+) here than by its global rating}, both counted among the rated models
    alone; empty where the ratings order nothing."""
    given = {row.model: rating for row in rows if (rating := elo[row.model]) is not None}
    if len(set(given.values())) < 2:
        return {}
    here = {row.model: row.place for row in rows if row.model in given}
    return {
        model: sum(other > rating for other in given.values()) - sum(p < here[model] for p in here.values())
        for model, rating in given.items()
    }


def tokens_per_second(responses: Sequence[Response]) -> dict[str, float]:
    """{model: tokens over seconds of all its timed responses}; models without any are left out."""
    tokens: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for r in responses:
        if r.tokens > 0 and r.seconds > 0.0:
            tokens[r.model] = tokens.get(r.model, 0) + r.tokens
            seconds[r.model] = seconds.get(r.model, 0.0) + r.seconds
    return {model: tokens[model] / seconds[model] for model in tokens}
