"""What votes show: every figure of a run on people's votes, from what each system predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.records import GroundTruth
from evaluation import METRICS
from evidence.document import Measured, training_history
from evidence.hypotheses import difference_json, improvement_json, not_tested, recommended, verdict, weaker
from evidence.intervals import is_better, winner
from people.ballots import Array, Ballots, Crowd, Ints, Mask
from people.ceiling import ceiling
from people.scores import (
    ACCURACY,
    BASELINES,
    CONTENDERS,
    STARTS,
    Predicted,
    Scored,
    Values,
    accuracies,
    clustered,
    difference,
    estimate,
    people_mean,
    scored,
    whole_rankings,
)
from report.words import SYSTEMS, p_value
from reward_model import EpochLoss

RIVALS = ("elo_offset", "reward_model")  # of the combined system
NEEDS_CURVES = "Sample efficiency needs learning curves of all systems: run with --incremental."
UNSEEN = "Generalization to unseen models is tested on personas, not on votes."
NO_VOTES = "Nobody has both own votes to learn from and decided votes to be tested on."


def findings(crowd: Crowd, once: Predicted, crossed: Predicted, history: Sequence[EpochLoss]) -> Measured:
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
    return {
        "main_metric": ACCURACY,
        "counts": _counts(ballots, once.tested, rankings),
        "judge_quality": {"longer_response_rate": _longer_rate(ballots, crowd.lengths)},
        "final": {name: {m: people_mean(own[m]) for m in METRICS} for name, own in split.items()},
        "cross_validated": {name: {m: estimate(own[m], m) for m in METRICS} for name, own in values.items()},
        "improvement": improvement_json(gains),
        "winner": winner(gains[ACCURACY]),
        "recommended": taken,
        "comparisons": {f"combined-{rival}": improvement_json(found) for rival, found in against.items()},
        "verdict": {
            "sentence": "",
            "better_than": list(beaten),
            "prompts_needed": None,
            "stronger_baselines": [
                name
                for name in BASELINES
                if all(is_better(difference(right[name], right[system], folds=fold)) for system in RIVALS)
            ],
            "warnings": [],
        },
        "learning_curve": [
            {"preferences": n} | {name: {ACCURACY: people_mean(curve[i])} for name, curve in split_curves.items()}
            for i, n in enumerate(once.counts)
        ],
        "curves": {"points": list(crossed.counts), "trained_once": not crowd.params.incremental}
        | {name: {ACCURACY: _band(curve)} for name, curve in curves.items()},
        "hypotheses": {**tested["reward_model"], "combined": tested["combined"]},
        "per_prompt": _per_prompt(crowd, values),
        "examples": [],
        "people": _people(ballots, values, fold) | {"ceiling": ceiling(ballots)} | {"strengths": crossed.strengths},
        "training_history": training_history(history),
        "ablation": [],
        "timings_s": {},
    }


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
