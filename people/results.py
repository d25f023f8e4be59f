"""The results dict of a run on human votes, in the same words and keys as that of a persona."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.findings import About, Run
from core.records import GroundTruth, Rating
from elo_system import EloSystem
from evidence.hypotheses import difference_json, not_tested
from evidence.intervals import winner
from people import scores as ps
from people.ballots import Array, Ballots, Crowd, Mask
from people.scores import ACCURACY, Scored
from people.training import Predicted

CONTENDERS = ("elo_offset", "reward_model")
SYSTEMS = (
    *CONTENDERS, "global_elo", "shared_reward", "base_reward", "bradley_terry", "longest_response", "random",
)  # fmt: skip
STARTS = {"elo_offset": "global_elo", "reward_model": "shared_reward"}
"""What each system knows of a person before their first vote."""

RATED = "Bradley-Terry over everyone's training votes; each person starts from everyone else's"
GIVEN = "the Arena's, where it lists the model: one person alone has nobody else to start from"
NEEDS_CURVES = "Sample efficiency needs learning curves of both systems: run with --incremental."
UNSEEN = "Generalization to unseen models is tested on personas: here even the global ratings are learned from votes."


@dataclass(frozen=True, slots=True)
class Tested:
    """Predictions and the prompts [p] that they were made for."""

    predicted: Predicted
    prompts: Mask


def about_run(crowd: Crowd, run: Run, name: str, device: str, elo: EloSystem) -> About:
    """What was run: everything in the contract that is no measurement."""
    alone = len(crowd.ballots.users) == 1
    ratings = crowd.given if alone else elo.ratings
    return About(
        persona=name,
        backend="votes",
        judge="the people themselves",
        run=run,
        params=crowd.params,
        base_is_reward_model=crowd.features.has_score,
        device=device,
        models=tuple(Rating(model, ratings[model], GIVEN if alone else RATED) for model in crowd.ballots.models),
    )


def measured(
    crowd: Crowd,
    once: Tested,
    crossed: Tested,
    counts: Sequence[int],
    rankings: Mapping[int, GroundTruth],
    parts: Sequence[Mask],
) -> dict[str, Any]:
    """Everything in the contract that is a measurement: ``once`` on the documented split, ``crossed`` on all."""
    ballots = crowd.ballots
    split, values = (
        {n: ps.scored(s, ballots, rankings, t.prompts) for n, s in t.predicted.final().items()} for t in (once, crossed)
    )
    return {
        "final": {name: ps.means(split[name]) for name in SYSTEMS},
        "cross_validated": {name: ps.estimates(values[name]) for name in SYSTEMS},
        **_verdict(values),
        **_curves(crowd, counts, once, crossed),
        "people": _people(ballots, values),
        "per_prompt": _per_prompt(ballots, values, parts),
        "judge_quality": {"longer_response_rate": _longer_rate(ballots, crowd.lengths)},
    }


# ── Verdict ──────────────────────────────────────────────────────────────────────────────────────────────


def _verdict(values: Mapping[str, Scored]) -> dict[str, Any]:
    gains = ps.differences(values["reward_model"], values["elo_offset"])
    accuracy = {name: ps.people_mean(values[name][ACCURACY]) for name in SYSTEMS}
    known = [accuracy[name] for name in CONTENDERS if accuracy[name] is not None]
    stronger = [
        name
        for name in SYSTEMS
        if name not in CONTENDERS and known and (accuracy[name] or 0.0) > max(a for a in known if a is not None)
    ]
    return {
        "main_metric": ACCURACY,
        "improvement": {metric: difference_json(gain) for metric, gain in gains.items()},
        "winner": winner(gains[ACCURACY]),
        "stronger_baselines": tuple(stronger),
        "prompts_needed": None,
    }


# ── Learning curves ──────────────────────────────────────────────────────────────────────────────────────


def _curves(crowd: Crowd, counts: Sequence[int], once: Tested, crossed: Tested) -> dict[str, Any]:
    """``learning_curve`` on the documented split, ``curves`` and H1 over all prompts cross-validated; the number of
    preferences is that of a person's own training votes."""
    incremental, ballots = crowd.params.incremental, crowd.ballots
    split = {name: _points(once, name, ballots, counts) for name in CONTENDERS}
    points = {name: _points(crossed, name, ballots, counts) for name in CONTENDERS}
    h1 = ps.sample_efficiency(counts, *points.values()) if incremental else not_tested(NEEDS_CURVES)
    return {
        "learning_curve": [
            {"preferences": n} | {name: {ACCURACY: ps.people_mean(split[name][i])} for name in CONTENDERS}
            for i, n in enumerate(counts)
        ],
        "curves": {
            "points": list(counts),
            "trained_once": not incremental,
            **{name: {ACCURACY: ps.band(points[name])} for name in CONTENDERS},
        },
        "hypotheses": {"sample_efficiency": h1, "generalization": not_tested(UNSEEN)},
    }


def _points(tested: Tested, system: str, ballots: Ballots, counts: Sequence[int]) -> list[ps.Values]:
    found = ps.curve_points(tested.predicted.curves[system], ballots, tested.prompts)
    return found * len(counts) if len(found) == 1 else found


# ── People and prompts ───────────────────────────────────────────────────────────────────────────────────


def _people(ballots: Ballots, values: Mapping[str, Scored]) -> dict[str, Any]:
    """What a person's own votes add to what they start from, and every person's figures."""
    gains = {name: ps.difference(values[name][ACCURACY], values[start][ACCURACY]) for name, start in STARTS.items()}
    given, decided = (np.bincount(ballots.user[m], minlength=len(ballots.users)) for m in (..., ballots.decided))
    accuracy = {name: _means_by(values[name][ACCURACY], "user", len(ballots.users)) for name in SYSTEMS}
    return {
        "personal_gain": {name: difference_json(gain) | {"over": STARTS[name]} for name, gain in gains.items()},
        "by_person": [
            {"user": user, "votes": int(given[i]), "decided_votes": int(decided[i])}
            | {name: accuracy[name][i] for name in SYSTEMS}
            for i, user in enumerate(ballots.users)
        ],
    }


def _per_prompt(ballots: Ballots, values: Mapping[str, Scored], parts: Sequence[Mask]) -> list[dict[str, Any]]:
    """Both systems' share of the decided votes on each prompt, over whoever voted."""
    a, b = (_means_by(values[name][ACCURACY], "prompt", len(ballots.prompts)) for name in CONTENDERS)
    fold = np.argmax(np.stack(parts), axis=0)
    return [
        {
            "prompt_id": ballots.prompts[i],
            "prompt": ballots.prompt_texts[i],
            "fold": int(fold[i]),
            "difference": elo_and_reward[1] - elo_and_reward[0],
            "elo_offset": {ACCURACY: elo_and_reward[0]},
            "reward_model": {ACCURACY: elo_and_reward[1]},
        }
        for i in range(len(ballots.prompts))
        for elo_and_reward in [(a[i], b[i])]
        if elo_and_reward[0] is not None and elo_and_reward[1] is not None
    ]


def _means_by(values: ps.Values, label: str, count: int) -> list[float | None]:
    """Mean of each user's or prompt's values, None without any."""
    labels = getattr(values, label)
    number = np.bincount(labels, minlength=count)
    total = np.bincount(labels, weights=values.value, minlength=count)
    return [float(t / n) if n else None for t, n in zip(total, number, strict=True)]


def _longer_rate(ballots: Ballots, lengths: Array) -> float | None:
    """Share of the decided votes won by the longer response, those of equal length left out."""
    longer = np.sign(
        lengths[ballots.text[ballots.prompt, ballots.a]] - lengths[ballots.text[ballots.prompt, ballots.b]]
    )
    counted = ballots.decided & (longer != 0)
    return float((longer == np.sign(ballots.outcome - 0.5))[counted].mean()) if counted.any() else None
