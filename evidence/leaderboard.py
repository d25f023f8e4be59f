"""The answer: the models in order, how sure each place is, and which can't be told apart.

    rows, more_prompts = standings(preferences, models, seed)     # a persona's, or people's votes
    rows[0]["model"], rows[0]["places"]
    answer(preferences, responses, elo, seed)                     # the same and what is liked, as the results have it

It says what the preferences of all prompts show and predicts nothing. The order is Bradley–Terry's; a model's win rate
is the mean over the others of σ(θ_m − θ_j), which on a whole round robin is the share of its comparisons that it won.
Its error is the spread over draws of the prompts, for fifteen pairs of six answers are one witness, not fifteen; of
several people, of the people too, each vote counting the product of how often both were drawn (Owen, *The Pigeonhole
Bootstrap*, Annals of Applied Statistics 1, 2007: never too narrow).
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtr, stdtrit

from core.clock import bar
from core.records import Preference, Response
from evidence.baselines import bradley_terry
from evidence.intervals import ALPHA, Array, Interval, Ints, holm, mean_interval, numbered
from evidence.likes import likings

DRAWS = 2_000  # the spread is then known to 2 %, a share of draws to 0.011
WEIGHTS_AT_ONCE = 5_000_000  # draws × people on prompts, held in memory
TIES = 0.01  # imagined for each model, so that no draw is without a maximum: a win rate moves by less than 0.0002
UNLIKELY = 0.025  # share of draws: two equal models in one of 20 worlds leave one of them below it
SAME = 6  # decimals to which two figures of the same outcomes agree in any order
POWER = 0.8  # with which ``more_prompts`` would tell a difference of the size seen


class _Votes:
    """Preferences as numbers."""

    def __init__(self, preferences: Sequence[Preference], models: Sequence[str]) -> None:
        self.prompt = numbered([p.prompt_id for p in preferences])
        self.user = numbered([p.user for p in preferences])
        self.prompts, self.people = int(self.prompt.max()) + 1, int(self.user.max()) + 1
        # the smaller number of what is drawn anew
        self.clusters = min(self.prompts, self.people) if self.people > 1 else self.prompts
        self.models, number = len(models), {model: i for i, model in enumerate(models)}
        a, b = (np.array([number[getattr(p, model)] for p in preferences]) for model in ("model_a", "model_b"))
        outcome = np.array([p.outcome for p in preferences])
        self._pair = np.concatenate([a * self.models + b, b * self.models + a])
        self._won = np.concatenate([outcome, 1.0 - outcome])

    def wins(self, group: Ints) -> Any:
        """Sparse [groups, models²]: how often each was preferred to which within each group."""
        from scipy.sparse import csr_array

        shape = int(group.max()) + 1, self.models**2
        return csr_array((self._won, (np.tile(group, 2), self._pair)), shape=shape)

    def drawn_rates(self, seed: int) -> Array:
        """[DRAWS, models] win rates with prompts, and people where there are several, drawn anew."""
        rng, found = np.random.default_rng(seed), []
        cells, cell = np.unique(self.prompt * self.people + self.user, return_inverse=True)  # a person on a prompt
        wins, size = self.wins(cell), max(1, min(DRAWS, WEIGHTS_AT_ONCE // len(cells)))
        for start in bar(range(0, DRAWS, size), math.ceil(DRAWS / size), "draws of the leaderboard"):
            weight = np.ones((min(size, DRAWS - start), len(cells)), np.intp)
            for items, drawn in ((self.prompts, cells // self.people), (self.people, cells % self.people)):
                if items > 1:
                    weight *= rng.multinomial(items, np.full(items, 1.0 / items), size=len(weight))[:, drawn]
            found.append(win_rates((weight @ wins).reshape(-1, self.models, self.models)))
        return np.concatenate(found)


def standings(
    preferences: Sequence[Preference], models: Sequence[str], seed: int
) -> tuple[list[dict[str, Any]], int | None]:
    """The models by at least one preference, best first, and ``_more_prompts``: {model, place, places{lo, hi},
    win_rate{mean, ci95}, p_best, best_on, judged_on, comparisons} each.

    ``place``: 1 + how many have a higher win rate; ``lo``: 1 + how many are surely better; ``hi``: the number of models
    less how many are surely worse. ``p_best``: share of draws in which it leads, ties shared; no chance, for of two
    equal models it is about uniform. ``best_on`` of the prompts ``judged_on`` no model has a higher mean outcome.

    Every two win rates are compared by the error of their difference over the draws, Holm's correction over all pairs
    at 5 %: all ranges of places then hold together (Mogstad et al., *Inference for Ranks*, Review of Economic Studies
    91, 2024).
    """
    votes = _Votes(preferences, models)
    rates = win_rates(votes.wins(np.zeros_like(votes.prompt)).toarray().reshape(len(models), -1))
    drawn, clusters = votes.drawn_rates(seed), votes.clusters
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

    ahead = drawn.round(SAME)
    leads = ahead == ahead.max(axis=1, keepdims=True)
    p_best = (leads / leads.sum(axis=1, keepdims=True)).mean(axis=0)
    rows = [
        {
            "model": model,
            "place": 1 + int((rates.round(SAME) > rates.round(SAME)[i]).sum()),
            "places": {"lo": 1 + int(better[:, i].sum()), "hi": len(models) - int(better[i].sum())},
            "win_rate": {"mean": float(rates[i]), "ci95": list(intervals[i])},
            "p_best": float(p_best[i]),
            **counted,
        }
        for i, (model, counted) in enumerate(zip(models, _counted(votes), strict=True))
    ]
    rows.sort(key=lambda row: (row["place"], row["model"]))
    return rows, _more_prompts(votes, rates, errors, better)


def win_rates(wins: Array) -> Array:
    """[..., models, models] how often each won against which → [..., models] mean over the others of σ(θ_m − θ_j)."""
    theta = bradley_terry(wins, TIES)
    chances = expit(theta[..., :, None] - theta[..., None, :])
    return np.asarray((chances.sum(axis=-1) - 0.5) / (wins.shape[-1] - 1))


def _interval(rate: float, half: float, clusters: int) -> Interval:
    """``rate`` ± ``half`` on the scale of log-odds, which it never leaves; where no draw differs, by their number."""
    if half <= 0.0 or not 0.0 < rate < 1.0:
        return mean_interval([min(max(rate, 0.0), 1.0)] * clusters, 0.0, 1.0) or (0.0, 1.0)
    width = half / (rate * (1.0 - rate))
    return float(expit(logit(rate) - width)), float(expit(logit(rate) + width))


def _counted(votes: _Votes) -> list[dict[str, int]]:
    """Each model's best_on, judged_on and comparisons."""
    wins = votes.wins(votes.prompt).toarray().reshape(-1, votes.models, votes.models)
    games = (wins + wins.swapaxes(1, 2)).sum(axis=2)  # [prompts, models]
    outcomes = np.divide(wins.sum(axis=2), games, out=np.full(games.shape, -1.0), where=games > 0.0).round(SAME)
    best = (outcomes == outcomes.max(axis=1, keepdims=True)) & (games > 0.0)
    return [
        {"best_on": int(own.sum()), "judged_on": int((met > 0.0).sum()), "comparisons": round(float(met.sum()))}
        for own, met in zip(best.T, games.T, strict=True)
    ]


def _more_prompts(votes: _Votes, rates: Array, errors: Array, better: NDArray[np.bool_]) -> int | None:
    """How many more prompts would separate the first two, at the level that Holm has reached: the error falls as 1/√n.
    None where they are told apart, where nobody can say, and where several people vote, of whom more are needed."""
    first, second = np.argsort(-rates, kind="stable")[:2].tolist()
    gap, error = round(float(rates[first] - rates[second]), SAME), float(errors[first, second])
    if votes.people > 1 or better[first, second] or not (gap > 0.0 and error > 0.0):
        return None
    undecided = len(rates) * (len(rates) - 1) // 2 - int(better.sum())
    level, deviation = ALPHA / undecided, error * math.sqrt(votes.prompts)

    def enough(n: int) -> bool:
        quantiles = float(stdtrit(n - 1, 1.0 - level / 2.0) + stdtrit(n - 1, POWER))
        return math.sqrt(n) * gap >= quantiles * deviation

    return max(1, bisect_left(range(1_000_000), True, lo=6, key=enough) - votes.prompts)


def answer(
    preferences: Sequence[Preference],
    responses: Sequence[Response],
    elo: Mapping[str, float | None],
    seed: int,
    parameters: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The document's ``answer``, ``leaderboard`` and ``likes``. ``elo``: every model's global rating; ``parameters``:
    {model: "8.0B"}.

    ``best`` is the leader (None where nothing is known), ``tied_with`` are the models that can't be told from it,
    ``unlikely`` those of them that hardly any draw puts first.
    """
    rows, more_prompts = standings(preferences, list(elo), seed)
    speed, rated = tokens_per_second(responses), [rating for rating in elo.values() if rating is not None]
    for row in rows:
        model, rating = row["model"], elo[row["model"]]
        row["global_place"] = None if rating is None else 1 + sum(other > rating for other in rated)
        row |= {"elo": rating, "tokens_per_s": speed.get(model), "parameters": (parameters or {}).get(model)}
    first = [row for row in rows if row["places"]["lo"] == 1]
    best, *tied = [row["model"] for row in first] if len(first) < len(rows) else [None]
    unlikely = [row["model"] for row in first if best and row["p_best"] < UNLIKELY]
    said = {"best": best, "tied_with": tied, "unlikely": unlikely, "more_prompts": more_prompts}
    return {"answer": said, "leaderboard": rows, "likes": likings(preferences, responses)}


def tokens_per_second(responses: Sequence[Response]) -> dict[str, float]:
    """{model: tokens over seconds of all its timed responses}; models without any are left out."""
    timed: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for r in responses:
        if r.tokens and r.seconds > 0.0:
            timed[r.model].append((r.tokens, r.seconds))
    return {model: sum(tokens for tokens, _ in own) / sum(s for _, s in own) for model, own in timed.items()}
