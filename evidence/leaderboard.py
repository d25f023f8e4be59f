"""The answer: the models in order, how sure each place is, and which can't be told apart.

    found = standings(preferences, models, seed)                  # a persona's, or people's votes
    found.rows[0]["model"], found.rows[0]["places"], found.more_prompts

It says what the preferences of all prompts show and predicts nothing. The order is Bradley–Terry's; a model's win rate
is the mean over the others of σ(θ_m − θ_j), which on a whole round robin is the share of its comparisons that it won.
Its error is the spread over draws of the prompts, for fifteen pairs of six answers are one witness, not fifteen; of
several people, of the people too, each vote counting the product of how often both were drawn (Owen, *The Pigeonhole
Bootstrap*, Annals of Applied Statistics 1, 2007: never too narrow).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from core.records import Preference, Response
from evidence.baselines import bradley_terry
from evidence.intervals import ALPHA, Array, Interval, holm, mean_interval, prompts_needed

Ints = NDArray[np.intp]

DRAWS = 2_000  # the spread is then known to 2 %, a share of draws to 0.011
WEIGHTS_AT_ONCE = 5_000_000  # draws × people on prompts, held in memory
TIES = 0.01  # imagined for each model, so that no draw is without a maximum: a win rate moves by less than 0.0002
UNLIKELY = 0.025  # share of draws: two equal models in one of 20 worlds leave one of them below it
SAME = 6  # decimals to which two figures of the same outcomes agree in any order


@dataclass(frozen=True, slots=True)
class Standings:
    """All models, best first, and what it would take to know more."""

    rows: Sequence[Mapping[str, Any]]
    """{model, place, places{lo, hi}, win_rate{mean, ci95}, p_best, best_on, judged_on, comparisons}.

    ``place``: 1 + how many have a higher win rate; ``lo``: 1 + how many are surely better; ``hi``: the number of models
    less how many are surely worse. ``p_best``: share of draws in which it leads, ties shared; no chance, for of two
    equal models it is about uniform. ``best_on`` of the prompts ``judged_on`` no model has a higher mean outcome."""
    more_prompts: int | None
    """How many more would separate the first two; None where they are told apart or where nobody can say."""
    more_people: int | None = None
    """How many more people it would take beside the prompts; None where only one votes."""


class _Columns(NamedTuple):
    """n preferences as numbers, and how many there are of each kind."""

    prompt: Ints
    user: Ints
    a: Ints
    b: Ints
    outcome: Array
    models: int

    @classmethod
    def of(cls, preferences: Sequence[Preference], models: Sequence[str]) -> _Columns:
        number = {model: i for i, model in enumerate(models)}
        prompt, user = ({x: i for i, x in enumerate(dict.fromkeys(getattr(p, kind) for p in preferences))}
                        for kind in ("prompt_id", "user"))  # fmt: skip
        rows = [(prompt[p.prompt_id], user[p.user], number[p.model_a], number[p.model_b]) for p in preferences]
        at = np.array(rows, np.intp).reshape(-1, 4)
        return cls(at[:, 0], at[:, 1], at[:, 2], at[:, 3], np.array([p.outcome for p in preferences]), len(models))

    @property
    def prompts(self) -> int:
        return int(self.prompt.max()) + 1

    @property
    def people(self) -> int:
        return int(self.user.max()) + 1

    @property
    def clusters(self) -> int:
        """The smaller number of what is drawn anew."""
        return min(self.prompts, self.people) if self.people > 1 else self.prompts

    def wins(self, group: Ints) -> Array:
        """[groups, models, models] how often each was preferred to which within each group."""
        found = np.zeros((int(group.max()) + 1, self.models, self.models))
        np.add.at(found, (group, self.a, self.b), self.outcome)
        np.add.at(found, (group, self.b, self.a), 1.0 - self.outcome)
        return found

    def drawn_wins(self, seed: int) -> Iterator[Array]:
        """[some draws, models, models] with prompts, and people where there are several, drawn anew; DRAWS in all."""
        from scipy.sparse import csr_array

        rng = np.random.default_rng(seed)
        cells, cell = np.unique(self.prompt * self.people + self.user, return_inverse=True)  # a person on a prompt
        pair = np.concatenate([self.a * self.models + self.b, self.b * self.models + self.a])
        value = np.concatenate([self.outcome, 1.0 - self.outcome])
        wins = csr_array((value, (pair, np.tile(cell, 2))), shape=(self.models**2, len(cells)))
        size = max(1, min(DRAWS, WEIGHTS_AT_ONCE // len(cells)))
        for start in range(0, DRAWS, size):
            count = min(size, DRAWS - start)
            weight = _drawn(rng, self.prompts, count)[:, cells // self.people]
            if self.people > 1:
                weight = weight * _drawn(rng, self.people, count)[:, cells % self.people]
            yield np.asarray((wins @ weight.T).T).reshape(count, self.models, self.models)


def _drawn(rng: np.random.Generator, items: int, count: int) -> Ints:
    """[count, items] how often each is drawn in as many draws as there are items."""
    return rng.multinomial(items, np.full(items, 1.0 / items), size=count)


# ── What the preferences show ────────────────────────────────────────────────────────────────────────────


def standings(preferences: Sequence[Preference], models: Sequence[str], seed: int) -> Standings:
    """The models by at least one preference.

    Every two win rates are compared by the error of their difference over the draws, Holm's correction over all pairs
    at 5 %: all ranges of places then hold together (Mogstad et al., *Inference for Ranks*, Review of Economic Studies
    91, 2024).
    """
    from scipy.special import stdtr, stdtrit

    votes = _Columns.of(preferences, models)
    rates = win_rates(votes.wins(np.zeros_like(votes.a))[0])
    drawn = np.concatenate([win_rates(wins) for wins in votes.drawn_wins(seed)])
    clusters = votes.clusters
    factor, degrees = math.sqrt(clusters / max(clusters - 1.0, 1.0)), max(clusters - 1, 1)
    gap, upper = rates[:, None] - rates, np.triu_indices(len(rates), 1)
    errors = factor * (drawn[:, :, None] - drawn[:, None, :]).std(axis=0, ddof=1).round(SAME)
    ratio = np.divide(np.abs(gap), errors, out=np.zeros_like(gap), where=errors > 0.0)
    alike = 2.0 * (1.0 + np.abs(gap)) ** -clusters  # where every draw is the same, as in ``difference``
    p_values = np.minimum(1.0, np.where(errors > 0.0, 2.0 * stdtr(degrees, -ratio), alike))
    sure = np.zeros_like(gap, bool)
    sure[upper] = holm(p_values[upper]) < ALPHA
    better = (sure | sure.T) & (gap > 0.0)
    spread = float(stdtrit(degrees, 1.0 - ALPHA / 2.0)) * factor * drawn.std(axis=0, ddof=1).round(SAME)
    intervals = [_interval(rate, half, clusters) for rate, half in zip(rates.tolist(), spread.tolist(), strict=True)]
    rows = _rows(votes, models, rates, better, intervals, drawn)
    return Standings(rows, *_more(votes, rates, errors, better))


def win_rates(wins: Array) -> Array:
    """[..., models, models] how often each won against which → [..., models] mean over the others of σ(θ_m − θ_j)."""
    from scipy.special import expit

    theta = bradley_terry(wins, TIES)
    chances = expit(theta[..., :, None] - theta[..., None, :])
    return np.asarray((chances.sum(axis=-1) - 0.5) / (wins.shape[-1] - 1))


def _interval(rate: float, half: float, clusters: int) -> Interval:
    """``rate`` ± ``half`` on the scale of log-odds, which it never leaves; where no draw differs, by their number."""
    from scipy.special import expit

    if half <= 0.0 or not 0.0 < rate < 1.0:
        return mean_interval([min(max(rate, 0.0), 1.0)] * clusters, 0.0, 1.0) or (0.0, 1.0)
    middle, width = math.log(rate / (1.0 - rate)), half / (rate * (1.0 - rate))
    return float(expit(middle - width)), float(expit(middle + width))


def _rows(
    votes: _Columns,
    models: Sequence[str],
    rates: Array,
    better: NDArray[np.bool_],
    intervals: Sequence[Interval],
    drawn: Array,
) -> list[dict[str, Any]]:
    """A row for each model, best first, equal ones by name."""
    values, ahead = rates.round(SAME), drawn.round(SAME)
    leads = ahead == ahead.max(axis=1, keepdims=True)
    leading = (leads / leads.sum(axis=1, keepdims=True)).mean(axis=0)
    wins = votes.wins(votes.prompt)
    games = (wins + wins.swapaxes(1, 2)).sum(axis=2)
    outcomes = np.divide(wins.sum(axis=2), games, out=np.full(games.shape, -1.0), where=games > 0.0).round(SAME)
    best_on = ((outcomes == outcomes.max(axis=1, keepdims=True)) & (games > 0.0)).sum(axis=0)
    rows: list[dict[str, Any]] = [
        {
            "model": model,
            "place": 1 + int((values > values[i]).sum()),
            "places": {"lo": 1 + int(better[:, i].sum()), "hi": len(models) - int(better[i].sum())},
            "win_rate": {"mean": float(rates[i]), "ci95": list(intervals[i])},
            "p_best": float(leading[i]),
            "best_on": int(best_on[i]),
            "judged_on": int((games[:, i] > 0.0).sum()),
            "comparisons": round(float(games[:, i].sum())),
        }
        for i, model in enumerate(models)
    ]
    return sorted(rows, key=lambda row: (row["place"], row["model"]))


def _more(votes: _Columns, rates: Array, errors: Array, better: NDArray[np.bool_]) -> tuple[int | None, int | None]:
    """How many more prompts, and where several vote how many more people with them, would tell the first two apart at
    the level that Holm has reached; None where they are, or where nobody can say. The error falls as 1/√n."""
    first, second = np.argsort(-rates, kind="stable")[:2].tolist()
    gap, error = round(float(rates[first] - rates[second]), SAME), float(errors[first, second])
    if better[first, second] or not error > 0.0:
        return None, None
    undecided = len(rates) * (len(rates) - 1) // 2 - int(better.sum())
    needed = prompts_needed(gap, error * math.sqrt(votes.clusters), level=ALPHA / undecided)
    if needed is None:
        return None, None
    growth = max(0.0, needed / votes.clusters - 1.0)
    prompts = max(1, math.ceil(growth * votes.prompts))
    return prompts, max(1, math.ceil(growth * votes.people)) if votes.people > 1 else None


# ── For the results ──────────────────────────────────────────────────────────────────────────────────────


class Answer(TypedDict):
    """The models and their texts as the preferences of all prompts show them; nothing here is predicted."""

    answer: dict[str, Any]
    """{best, tied_with[], unlikely[], more_prompts, more_people}: the leader (None where nothing is known), the models
    that can't be told from it, those of them that hardly any draw puts first, and what would tell the first two
    apart."""
    leaderboard: Sequence[Mapping[str, Any]]
    """[{model, place, places, win_rate, …}], best first."""
    likes: Sequence[Mapping[str, Any]]
    """What is surely liked in a text, surest first."""


def answer(
    found: Standings,
    elo: Mapping[str, float | None],
    responses: Sequence[Response] = (),
    likes: Sequence[Mapping[str, Any]] = (),
    parameters: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """What is known of the models, ready for JSON. ``elo``: global ratings; ``parameters``: {model: "8.0B"}."""
    rated = [rating for rating in elo.values() if rating is not None]
    places = {m: None if rating is None else 1 + sum(r > rating for r in rated) for m, rating in elo.items()}
    speed, moved = tokens_per_second(responses), _moved_places(found.rows, elo)
    rows = [
        {
            **row,
            "global_place": places[row["model"]],
            "moved": moved.get(row["model"]),
            "elo": elo[row["model"]],
            "tokens_per_s": speed.get(row["model"]),
            "side_by_side": max((r.side_by_side for r in timed(responses) if r.model == row["model"]), default=0),
            "parameters": parameters.get(row["model"]),
        }
        for row in found.rows
    ]
    first = [row for row in found.rows if row["places"]["lo"] == 1]
    best, *tied = [row["model"] for row in first] if len(first) < len(found.rows) else [None]
    said = {
        "best": best,
        "tied_with": tied,
        "unlikely": [row["model"] for row in first if best and row["p_best"] < UNLIKELY],
        "more_prompts": found.more_prompts,
        "more_people": found.more_people,
    }
    return {"answer": said, "leaderboard": rows, "likes": likes}


def _moved_places(rows: Sequence[Mapping[str, Any]], elo: Mapping[str, float | None]) -> dict[str, int]:
    """{model: places by which it stands higher (+) here than by its global rating}, both counted among the rated models
    alone; empty where the ratings order nothing."""
    given = {row["model"]: rating for row in rows if (rating := elo[row["model"]]) is not None}
    if len(set(given.values())) < 2:
        return {}
    here = {row["model"]: row["place"] for row in rows if row["model"] in given}
    return {
        model: sum(other > rating for other in given.values()) - sum(p < here[model] for p in here.values())
        for model, rating in given.items()
    }


def tokens_per_second(responses: Sequence[Response]) -> dict[str, float]:
    """{model: tokens over seconds of all its timed responses}; models without any are left out."""
    told = [(r.model, r.tokens or 0, r.seconds) for r in timed(responses)]
    return {
        model: sum(tokens for m, tokens, _ in told if m == model) / sum(seconds for m, _, seconds in told if m == model)
        for model in dict.fromkeys(model for model, _, _ in told)
    }


def timed(responses: Sequence[Response]) -> list[Response]:
    """Those whose tokens and seconds are known."""
    return [r for r in responses if r.tokens and r.seconds > 0.0]
