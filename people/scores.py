"""How well scores predict people's votes: accuracy on decided votes, and rankings where someone ranked a whole prompt.

Every figure is a mean within each person, then over people, so that a busy voter counts once. Intervals are clustered
by person and by prompt (``intervals.clustered_difference``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.findings import Answer, Findings
from core.records import GroundTruth
from evaluation import BOUNDS, METRICS, prompt_metrics
from evidence.hypotheses import difference_json, improvement_json, not_tested, recommended, verdict, weaker
from evidence.intervals import Difference, clustered_difference, is_better, winner
from people.ballots import Array, Ballots, Crowd, Ints, Mask
from people.ceiling import ceiling
from report.words import SYSTEMS, p_value
from reward_model import EpochLoss

Float = NDArray[np.floating]

ACCURACY = "ranking_accuracy"
CONTENDERS = ("elo_offset", "reward_model", "combined")
RIVALS = ("elo_offset", "reward_model")  # of the combined system
BASELINES = (
    "global_elo",
    "shared_reward",
    "shared_combined",
    "base_reward",
    "bradley_terry",
    "longest_response",
    "random",
)
STARTS = {"elo_offset": "global_elo", "reward_model": "shared_reward", "combined": "shared_combined"}
"""What each system knows of a person before their first vote."""

NEEDS_CURVES = "Sample efficiency needs learning curves of all systems: run with --incremental."
UNSEEN = "Generalization to unseen models is tested on personas, not on votes."
NO_VOTES = "Nobody has both own votes to learn from and decided votes to be tested on."


@dataclass(frozen=True, slots=True)
class Predicted:
    """Scores of every model in every cell on the tested prompts; NaN: not tested, or no such response."""

    tested: Mask
    """[prompts]."""
    counts: tuple[int, ...]
    """Own votes at the points of the learning curve."""
    systems: dict[str, Array]
    """{baseline: [cells, models]}."""
    curves: dict[str, NDArray[np.float32]]
    """{contender: [points, cells, models]}, after so many own votes; one point for a system trained once."""
    flat: NDArray[np.float32]
    """[points, cells, models] of System A with all models at the same rating in the beginning."""
    strengths: list[float]
    """How strongly own votes moved the heads, for each test part."""

    def final(self) -> dict[str, Float]:
        """{system: [cells, models]}, the contenders with all of each person's training votes."""
        return {name: curve[-1] for name, curve in self.curves.items()} | self.systems


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """One metric's values [k] with the person and the prompt of each."""

    value: Array
    user: Ints
    prompt: Ints


Scored = Mapping[str, Values]
"""{metric: values}; a metric that is nowhere defined has none."""


# ── Scores of votes ──────────────────────────────────────────────────────────────────────────────────────


def hits(scores: Float, ballots: Ballots) -> Array:
    """[..., cells, models] → [..., votes]: 1 for a decided vote predicted right, ½ for a tied score, 0 for wrong.

    NaN for votes that were ties or not tested.
    """
    margin = scores[..., ballots.cell, ballots.a] - scores[..., ballots.cell, ballots.b]
    right = 0.5 + 0.5 * np.sign(margin) * np.sign(ballots.outcome - 0.5)
    return np.asarray(np.where(ballots.decided, right, np.nan), dtype=np.float64)


def accuracies(curve: Float, ballots: Ballots, test: Mask) -> list[Values]:
    """The ``hits`` at each point of [points, cells, models] on the ``test`` prompts [p]."""
    known = np.flatnonzero(ballots.decided & test[ballots.prompt])
    return [Values(row[known], ballots.user[known], ballots.prompt[known]) for row in hits(curve, ballots)]


def whole_rankings(ballots: Ballots) -> dict[int, GroundTruth]:
    """{cell: what its votes say} where someone compared every pair of a prompt's three or more responses."""
    low, high = np.minimum(ballots.a, ballots.b), np.maximum(ballots.a, ballots.b)
    pairs = np.stack([ballots.cell, low, high])
    (cell, low, high), pair, votes = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    # a pair that was voted on twice counts once, by its mean outcome
    won = np.bincount(pair, np.where(ballots.a < ballots.b, ballots.outcome, 1.0 - ballots.outcome)) / votes
    answered = ballots.text[ballots.cell_prompt] >= 0  # [cells, models]
    number = answered.sum(axis=1)
    complete = (np.bincount(cell, minlength=len(number)) == number * (number - 1) // 2) & (number > 2)
    points = np.zeros(answered.shape)
    np.add.at(points, (cell, low), won)
    np.add.at(points, (cell, high), 1.0 - won)
    rankings = {}
    for i in np.flatnonzero(complete).tolist():
        scores = {ballots.models[m]: float(points[i, m]) for m in np.flatnonzero(answered[i])}
        rankings[i] = GroundTruth(ballots.prompts[ballots.cell_prompt[i]].id, scores, "votes")
    return rankings


def scored(scores: Float, ballots: Ballots, rankings: Mapping[int, GroundTruth], test: Mask) -> Scored:
    """All metrics of one system [cells, models] on the ``test`` prompts [p]."""
    found = {}
    for cell, truth in rankings.items():
        if test[ballots.cell_prompt[cell]]:
            metrics = prompt_metrics(dict(zip(ballots.models, scores[cell].tolist(), strict=True)), truth)
            if metrics is not None:
                found[cell] = metrics
    cells = np.array(list(found), dtype=np.intp)
    values = {}
    for metric in METRICS:
        column = np.array([getattr(metrics, metric) for metrics in found.values()], dtype=np.float64)
        values[metric] = Values(column, ballots.cell_user[cells], ballots.cell_prompt[cells])
    return values | {ACCURACY: accuracies(scores[None], ballots, test)[0]}


# ── Means over people ────────────────────────────────────────────────────────────────────────────────────


def people_mean(values: Values) -> float | None:
    """Mean within each person, then over people; None without values."""
    return float(_linearized(values).mean()) if len(values.value) else None


def _linearized(values: Values) -> Array:
    """[k] whose plain mean is θ, the mean over people, and whose deviations from it are w (x − θ) with a person's
    weight w shared among their values: with them clustered variances are those of θ (a ratio's linearization)."""
    _, owner, counts = np.unique(values.user, return_inverse=True, return_counts=True)
    weight = len(values.value) / (len(counts) * counts[owner])
    mean = float((weight * values.value).mean())
    return np.asarray(mean + weight * (values.value - mean))


def clustered(values: Values, reach: float = 1.0, folds: Ints | None = None) -> Difference | None:
    """Mean over people of values within ±``reach``, with its interval by person and by prompt; None without values.

    ``folds`` [prompts]: the fold of each, for differences that come from a cross-validation.
    """
    if not len(values.value):
        return None
    parts = None if folds is None else folds[values.prompt].tolist()
    linearized = _linearized(values).tolist()
    return clustered_difference(linearized, values.user.tolist(), values.prompt.tolist(), reach, parts)


def difference(better: Values, worse: Values, metric: str = ACCURACY, folds: Ints | None = None) -> Difference | None:
    """Mean over people of ``better`` − ``worse``, paired value by value."""
    low, high = BOUNDS[metric]
    return clustered(Values(better.value - worse.value, better.user, better.prompt), high - low, folds)


def estimate(values: Values, metric: str = ACCURACY) -> dict[str, Any]:
    """{mean, ci95}; both null without values."""
    low, high = BOUNDS[metric]
    middle = (low + high) / 2.0
    found = clustered(Values(values.value - middle, values.user, values.prompt), (high - low) / 2.0)
    if found is None:
        return {"mean": None, "ci95": None}
    return {"mean": middle + found.difference, "ci95": [middle + bound for bound in found.ci95]}


# ── What was measured ────────────────────────────────────────────────────────────────────────────────────


def findings(
    crowd: Crowd, once: Predicted, crossed: Predicted, history: Sequence[EpochLoss], answer: Answer
) -> Findings:
    """Everything that is measured: ``once`` on the documented split, ``crossed`` on all prompts cross-validated,
    ``history`` of the head that is kept."""
    ballots = crowd.ballots
    rankings = whole_rankings(ballots)
    split = {name: scored(scores, ballots, rankings, once.tested) for name, scores in once.final().items()}
    values = {name: scored(scores, ballots, rankings, crossed.tested) for name, scores in crossed.final().items()}
    fold = np.argmax(np.stack(crowd.folds), axis=0)
    gains, *over = (
        {m: difference(values[better][m], values[worse][m], m, fold) for m in METRICS}
        for better, worse in (("reward_model", "elo_offset"), *(("combined", rival) for rival in RIVALS))
    )
    against = dict(zip(RIVALS, over, strict=True))
    right = {name: own[ACCURACY] for name, own in values.items()}
    flat = accuracies(crossed.flat, ballots, crossed.tested)
    split_curves, curves = ({name: _curve(p, name, ballots) for name in CONTENDERS} for p in (once, crossed))
    tested = {
        name: {
            "sample_efficiency": sample_efficiency(crossed.counts, curves["elo_offset"], flat, curves[name], fold, name)
            if crowd.params.incremental
            else not_tested(NEEDS_CURVES),
            "generalization": not_tested(UNSEEN),
        }
        for name in ("reward_model", "combined")
    }
    taken, beaten = recommended(
        {rival: found[ACCURACY] for rival, found in against.items()},
        {rival: people_mean(right[rival]) for rival in RIVALS},
    )
    return Findings(
        main_metric=ACCURACY,
        counts=_counts(ballots, once.tested, rankings),
        judge_quality={"longer_response_rate": _longer_rate(ballots, crowd.lengths)},
        final={name: {m: people_mean(own[m]) for m in METRICS} for name, own in split.items()},
        cross_validated={name: {m: estimate(own[m], m) for m in METRICS} for name, own in values.items()},
        answer=answer,
        improvement=improvement_json(gains),
        winner=winner(gains[ACCURACY]),
        comparisons={f"combined-{rival}": improvement_json(found) for rival, found in against.items()},
        recommended=taken,
        better_than=beaten,
        stronger_baselines=tuple(
            name
            for name in BASELINES
            if all(is_better(difference(right[name], right[system], folds=fold)) for system in RIVALS)
        ),
        prompts_needed=None,
        learning_curve=[
            {"preferences": n} | {name: {ACCURACY: people_mean(curve[i])} for name, curve in split_curves.items()}
            for i, n in enumerate(once.counts)
        ],
        curves={"points": list(crossed.counts), "trained_once": not crowd.params.incremental}
        | {name: {ACCURACY: _band(curve)} for name, curve in curves.items()},
        hypotheses={**tested["reward_model"], "combined": tested["combined"]},
        per_prompt=_per_prompt(crowd, values),
        training_history={
            "preference_loss": [epoch.preference for epoch in history],
            "regularization_loss": [epoch.regularization for epoch in history],
        },
        people=_people(ballots, values, fold) | {"ceiling": ceiling(ballots)} | {"strengths": crossed.strengths},
    )


def _counts(ballots: Ballots, tested: Mask, rankings: Mapping[int, GroundTruth]) -> dict[str, int]:
    """How much of everything there is; ``preferences`` and ``ties`` are those that train, as in every result."""
    training = ~tested[ballots.prompt]
    return {
        "prompts": len(ballots.prompts),
        "train_prompts": int((~tested).sum()),
        "test_prompts": int(tested.sum()),
        "preferences": int(training.sum()),
        "ties": int((training & ~ballots.decided).sum()),
        "ground_truth_rankings": sum(bool(tested[ballots.cell_prompt[cell]]) for cell in rankings),
        "judge_calls": 0,
        "users": len(ballots.users),
        "votes": len(ballots.preferences),
        "decided_votes": int(ballots.decided.sum()),
        "responses": int((ballots.text >= 0).sum()),
    }


def _longer_rate(ballots: Ballots, lengths: Array) -> float | None:
    """Share of the decided votes won by the longer response, those of equal length left out."""
    length = lengths[ballots.text]
    longer = np.sign(length[ballots.prompt, ballots.a] - length[ballots.prompt, ballots.b])
    counted = ballots.decided & (longer != 0)
    return float((longer == np.sign(ballots.outcome - 0.5))[counted].mean()) if counted.any() else None


def _curve(predicted: Predicted, system: str, ballots: Ballots) -> list[Values]:
    """Its accuracy at each point; a system trained once has the same at all of them."""
    found = accuracies(predicted.curves[system], ballots, predicted.tested)
    return found if len(found) > 1 else found * len(predicted.counts)


def _band(points: Sequence[Values]) -> dict[str, list[float | None]]:
    """{mean, lo, hi} of a learning curve, point by point."""
    rows = [estimate(values) for values in points]
    low, high = ([row["ci95"][end] if row["ci95"] else None for row in rows] for end in (0, 1))
    return {"mean": [row["mean"] for row in rows], "lo": low, "hi": high}


def sample_efficiency(
    counts: Sequence[int],
    elo: Sequence[Values],
    flat: Sequence[Values],
    learner: Sequence[Values],
    fold: Ints,
    name: str,
) -> dict[str, Any]:
    """H1 on people for the ``learner`` called ``name``, against System A from everyone else's ratings (``from_arena``)
    and from ``flat`` ones."""
    if len(counts) < 2 or not len(elo[0].value):
        return not_tested(NO_VOTES)
    found = {
        "from_arena": _quicker(counts, elo, learner, fold, name),
        "from_flat": _quicker(counts, flat, learner, fold, name),
    }
    return found["from_arena"] | {"verdict": weaker(*(rival["verdict"] for rival in found.values()))} | found


def _quicker(
    counts: Sequence[int], elo: Sequence[Values], learner: Sequence[Values], fold: Ints, name: str
) -> dict[str, Any]:
    """The area between the curves in ranking accuracy, per decided vote, over own votes used."""
    gap = np.stack([b.value - a.value for a, b in zip(elo, learner, strict=True)])
    area = np.trapezoid(gap, counts, axis=0) / (counts[-1] - counts[0])
    advantage = clustered(Values(np.asarray(area), elo[0].user, elo[0].prompt), folds=fold)
    found = difference_json(advantage)
    a, b = people_mean(elo[-1]), people_mean(learner[-1])
    low, high = found["ci95"]
    return {
        "verdict": verdict(advantage),
        "area_between_curves": found,
        "elo_offset_final": a,
        f"{name}_final": b,
        "sentence": (
            f"Area between the learning curves in ranking accuracy, {SYSTEMS[name].lower()} minus Elo offset: "
            f"{found['difference']:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}], {p_value(found['p_value'])}; "
            f"in the end {b:.3f} against {a:.3f}."
        ),
    }


def _people(ballots: Ballots, values: Mapping[str, Scored], fold: Ints) -> dict[str, Any]:
    """What a person's own votes add to what they start from, and every person's figures."""
    gains = {
        name: difference(values[name][ACCURACY], values[start][ACCURACY], folds=fold) for name, start in STARTS.items()
    }
    people = len(ballots.users)
    votes = np.bincount(ballots.user, minlength=people).tolist()
    decided = np.bincount(ballots.user[ballots.decided], minlength=people).tolist()
    accuracy = {name: _means_by(own[ACCURACY].user, own[ACCURACY].value, people) for name, own in values.items()}
    return {
        "personal_gain": {name: difference_json(gain) | {"over": STARTS[name]} for name, gain in gains.items()},
        "by_person": [
            {"user": user, "votes": votes[i], "decided_votes": decided[i]}
            | {name: means[i] for name, means in accuracy.items()}
            for i, user in enumerate(ballots.users)
        ],
    }


def _per_prompt(crowd: Crowd, values: Mapping[str, Scored]) -> list[dict[str, Any]]:
    """The contenders' share of the decided votes on each prompt that has any, over whoever voted."""
    prompts, rows = crowd.ballots.prompts, []
    fold = np.argmax(np.stack(crowd.folds), axis=0).tolist()
    scores = [values[name][ACCURACY] for name in CONTENDERS]
    means = [_means_by(own.prompt, own.value, len(prompts)) for own in scores]
    for prompt, part, *shares in zip(prompts, fold, *means, strict=True):
        a, b, _ = shares
        if a is not None and b is not None:
            row = {"prompt_id": prompt.id, "prompt": prompt.text, "fold": part, "difference": b - a}
            own = {name: {ACCURACY: share} for name, share in zip(CONTENDERS, shares, strict=True)}
            rows.append(row | own)
    return rows


def _means_by(label: Ints, value: Array, count: int) -> list[float | None]:
    """Mean of the values of each label 0 … ``count`` − 1, None without any."""
    number = np.bincount(label, minlength=count)
    total = np.bincount(label, weights=value, minlength=count)
    return [float(t / n) if n else None for t, n in zip(total, number, strict=True)]
