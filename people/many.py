"""A person among others: every system for each person, started from everyone else, scored on the person's own votes.

    crowd = Crowd(votes, features, given, params)
    found = measure(crowd, clock)                       # the results' keys
    found["people"]["personal_gain"]["combined"]        # what own votes add to everyone else's

Prompts are split once for everybody: several people vote on the same pair of responses, and a split within each person
would show one person's test votes to another's training. Nobody's vote on a test prompt trains anything, and nothing
that a person starts from has seen a vote of theirs. What they start from: everyone else's Bradley–Terry (System A), a
head trained on the people outside their group (System B), everyone's fit without their votes (System C).

Every figure is a mean within each person, then over people, so that a busy voter counts once. Intervals are clustered
by person, corrected for cross-validation, or by fold, where all voters on a prompt are together, if that is wider. By
prompt too they would be wider and name no fewer false winners (benchmarks/verdict.py).
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

import evaluation
from base.features import Features
from combined import Combined
from config import ExperimentConfig
from core.clock import Clock
from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference
from elo_system import LOGIT, UNRATED_START, EloSystem, starting_ratings
from evaluation import METRICS, prompt_metrics
from evidence.baselines import base_reward, bradley_terry, global_elo, longest_response, random_ranking, wins_of
from evidence.document import Measured
from evidence.hypotheses import CONTENDERS, Scores, compared, not_tested
from evidence.intervals import Groups, difference_json
from people.figures import ceiling, longer_rate, whole_rankings
from people.read import Votes
from reward_model import RewardModel

ACCURACY = "ranking_accuracy"
STARTS = {"elo_offset": "global_elo", "reward_model": "shared_reward", "combined": "shared_combined"}
"""{system: what it knows of a person before their first vote}"""

GROUPS = 10  # of people: a head shared by a tenth of them is trained on the other nine tenths
SHARED_VOTES = 5_000  # a shared head learns from at most so many: more people then cost it nothing
STRENGTH = 3.0  # learning rates with which own votes move a shared head: docs/method.md

NO_CURVES = "Sample efficiency is tested on personas: of people only the start and the end are measured."
UNSEEN = "Generalization to unseen models is tested on personas, not on votes."

Cell = tuple[int, str]
"""A person, by number, on a prompt."""


@dataclass(frozen=True)
class Crowd:
    """Who votes on what, and all that training is done with."""

    votes: Votes
    features: Features
    given: Mapping[str, float | None]
    """The Arena's ratings for a person alone, who has nobody else to start from; None of each model for several."""
    params: ExperimentConfig
    device: str = "cpu"

    @cached_property
    def preferences(self) -> tuple[Preference, ...]:
        """In the order, drawn by the seed, in which everyone's are used."""
        return evaluation.shuffled(self.votes.preferences, self.params.random_seed)

    @cached_property
    def person(self) -> dict[str, int]:
        """{name: number}."""
        return {name: i for i, name in enumerate(self.votes.users)}

    @cached_property
    def fold(self) -> dict[str, int]:
        """{prompt id: the part of the cross-validation in which it tests}."""
        ids, seed = [prompt.id for prompt in self.votes.prompts], (self.params.random_seed, evaluation.FOLD_STREAM)
        return {p: i for i, part in enumerate(evaluation.folds(ids, self.params.folds, seed)) for p in part}

    @cached_property
    def rankings(self) -> dict[Cell, GroundTruth]:
        """Whole rankings by a person, by number, on a prompt."""
        return {(self.person[user], p): truth for (user, p), truth in whole_rankings(self.votes).items()}

    def training(self, tested: frozenset[str]) -> tuple[list[tuple[Preference, ...]], tuple[str, ...]]:
        """Each person's votes on the prompts that don't test, and those prompts."""
        own: list[list[Preference]] = [[] for _ in self.votes.users]
        for vote in self.preferences:
            if vote.prompt_id not in tested:
                own[self.person[vote.user]].append(vote)
        ids = tuple(prompt.id for prompt in self.votes.prompts if prompt.id not in tested)
        return [tuple(votes) for votes in own], ids


# ── Training ─────────────────────────────────────────────────────────────────────────────────────────────


def fitted(crowd: Crowd, tested: frozenset[str]) -> Iterator[tuple[str, Sequence[Ranker]]]:
    """(system, a ranker for each person) after training on all prompts but the ``tested`` ones, system by system, so
    that a thousand people's heads are not held beside a thousand people's fits."""
    own, ids = crowd.training(tested)
    yield from _ratings(crowd, own)
    sets = [TrainingSet(votes, ids) for votes in own]
    votes = [vote for vote in crowd.preferences if vote.prompt_id not in tested]
    model = RewardModel(crowd.features, crowd.given, crowd.params, crowd.device)
    shared = _shared_heads(model, crowd, votes, ids)
    yield "shared_reward", shared
    faster = dataclasses.replace(crowd.params, learning_rate=STRENGTH * crowd.params.learning_rate)
    yield "reward_model", RewardModel(crowd.features, crowd.given, faster, crowd.device).fit_many(sets, shared)
    several = len(own) > 1
    everyone = Combined(crowd.features, crowd.given, crowd.params)
    everyone.fit(votes if several else [], prompt_ids=ids)
    others = everyone.leaving_out(own) if several else [everyone]
    yield "shared_combined", others
    yield "combined", everyone.fit_many(sets, others if several else None)
    models, seed = crowd.votes.models, crowd.params.random_seed
    for ranker in (
        base_reward(crowd.features),
        longest_response(crowd.votes.responses),
        random_ranking(models, seed),
    ):
        yield ranker.name, [ranker] * len(own)


def _ratings(crowd: Crowd, own: Sequence[Sequence[Preference]]) -> Iterator[tuple[str, Sequence[Ranker]]]:
    """System A from everyone else's Bradley–Terry, and Bradley–Terry of own votes alone; all people in one solution."""
    models = crowd.votes.models
    wins = np.stack([wins_of(votes, models) for votes in own])
    others = np.maximum(wins.sum(axis=0) - wins, 0.0).round(9)  # exactly nothing is left of a person's own votes
    starts = [dict(zip(models, row, strict=True)) for row in (UNRATED_START + bradley_terry(others) / LOGIT).tolist()]
    if len(own) == 1:
        starts = [starting_ratings(crowd.given)]
    yield "global_elo", [global_elo(start) for start in starts]
    k = crowd.params.elo_k
    yield "elo_offset", [EloSystem(start, k).fit(votes) for start, votes in zip(starts, own, strict=True)]
    yield "bradley_terry", [global_elo(dict(zip(models, row, strict=True))) for row in bradley_terry(wins).tolist()]


def _shared_heads(
    model: RewardModel, crowd: Crowd, votes: Sequence[Preference], ids: tuple[str, ...]
) -> list[RewardModel]:
    """For each person a head trained on everybody outside their group; the untouched base for a person alone."""
    people = len(crowd.votes.users)
    drawn = np.random.default_rng([crowd.params.random_seed, 1]).permutation(people).tolist()
    group = {person: i % GROUPS for i, person in enumerate(drawn)}
    sets = []
    for number in range(min(GROUPS, people)):
        outside = (vote for vote in votes if group[crowd.person[vote.user]] != number)
        sets.append(TrainingSet(tuple(islice(outside, SHARED_VOTES)), ids))
    heads = model.fit_many(sets)
    return [heads[group[person]] for person in range(people)]


def learned(crowd: Crowd) -> tuple[EloSystem, RewardModel, Combined]:
    """All systems from all votes: for several people what a new person starts from, for one person alone what was
    learned of them."""
    own, ids = crowd.training(frozenset())
    votes = crowd.preferences
    reward = RewardModel(crowd.features, crowd.given, crowd.params, crowd.device)
    reward.fit(votes[:SHARED_VOTES], prompt_ids=ids)
    both = Combined(crowd.features, crowd.given, crowd.params).fit(votes, prompt_ids=ids)
    if len(own) == 1:
        return EloSystem(crowd.given, crowd.params.elo_k).fit(votes), reward, both
    strengths = (UNRATED_START + bradley_terry(wins_of(votes, crowd.votes.models)) / LOGIT).tolist()
    return EloSystem(dict(zip(crowd.votes.models, strengths, strict=True)), crowd.params.elo_k), reward, both


# ── Scoring ──────────────────────────────────────────────────────────────────────────────────────────────


class Predicted:
    """How well every system predicts the votes on the ``parts``, each part after training on all other prompts."""

    def __init__(self, crowd: Crowd, parts: Sequence[frozenset[str]]) -> None:
        self.crowd = crowd
        self.cells: dict[Cell, list[Preference]] = defaultdict(list)
        """The decided votes: ties train, and are not scored."""
        for vote in crowd.preferences:
            if vote.outcome != 0.5:
                self.cells[crowd.person[vote.user], vote.prompt_id].append(vote)
        self.hits: dict[str, dict[Cell, list[float]]] = defaultdict(dict)
        """{system: {cell: of each decided vote 1 where it was predicted right, ½ for a tied score, 0 where wrong}}"""
        self.metrics: dict[str, dict[Cell, evaluation.Metrics]] = defaultdict(dict)
        for part in parts:
            for system, rankers in fitted(crowd, part):
                self._score(system, rankers, part)

    def _score(self, system: str, rankers: Sequence[Ranker], part: frozenset[str]) -> None:
        hits, metrics = self.hits[system], self.metrics[system]
        for cell in dict.fromkeys([*self.cells, *self.crowd.rankings]):
            person, prompt_id = cell
            if prompt_id not in part:
                continue
            scores = rankers[person].scores(prompt_id)
            if votes := self.cells.get(cell):
                gaps = [(scores[v.model_a] - scores[v.model_b]) * (v.outcome - 0.5) for v in votes]
                hits[cell] = [0.5 + 0.5 * (gap > 0.0) - 0.5 * (gap < 0.0) for gap in gaps]
            if cell in self.crowd.rankings and (found := prompt_metrics(scores, self.crowd.rankings[cell])):
                metrics[cell] = found

    def scores(self) -> dict[str, Scores]:
        """{metric: Scores}: the accuracy vote by vote, the others ranking by ranking."""
        hits = next(iter(self.hits.values()), {})
        voted = [cell for cell, values in hits.items() for _ in values]
        accuracy = {s: [x for values in cells.values() for x in values] for s, cells in self.hits.items()}
        ranked = list(next(iter(self.metrics.values()), {}))
        found = {}
        for metric in METRICS:
            own = {s: [getattr(m, metric) for m in self.metrics[s].values()] for s in self.hits}
            found[metric] = Scores(metric, own, self._groups(ranked))
        return found | {ACCURACY: Scores(ACCURACY, accuracy, self._groups(voted))}

    def _groups(self, cells: Sequence[Cell]) -> Groups:
        people, prompts = [person for person, _ in cells], [prompt_id for _, prompt_id in cells]
        count = Counter(people)
        weights = np.array([len(cells) / len(count) / count[person] for person in people])
        units = people if len(self.crowd.votes.users) > 1 else prompts
        return Groups([self.crowd.fold[p] for p in prompts], (units,), weights)


# ── For the results ──────────────────────────────────────────────────────────────────────────────────────


def measure(crowd: Crowd, clock: Clock) -> Measured:
    """Everything that votes show of the systems: ``final`` on the documented split, all else on every prompt
    cross-validated. A curve has two points: what everyone starts from, and all own votes."""
    ids = [prompt.id for prompt in crowd.votes.prompts]
    _, test = evaluation.split(ids, crowd.params.train_prompts, crowd.params.random_seed)
    folds = [frozenset(p for p in ids if crowd.fold[p] == i) for i in range(crowd.params.folds)]
    with clock.stage("training"):
        once = Predicted(crowd, [frozenset(test)]).scores()
    with clock.stage("cross_validation"):
        crossed = Predicted(crowd, folds)
    with clock.stage("evaluation"):
        scores = crossed.scores()
        systems = list(scores[ACCURACY].values)
        final = {s: {m: one.mean(s)["mean"] for m, one in once.items()} for s in systems}
        found = compared(scores, ACCURACY)
        ends = {s: [found["cross_validated"][x][ACCURACY] for x in (STARTS[s], s)] for s in CONTENDERS}
        most = max(map(len, crowd.training(frozenset(test))[0]))
        return {
            "main_metric": ACCURACY,
            "counts": counts(crowd, frozenset(test)),
            "judge_quality": {"longer_response_rate": longer_rate(crowd.votes)},
            "final": final,
            **found,
            "learning_curve": [
                {"preferences": n} | {s: {ACCURACY: final[name][ACCURACY]} for s, name in known.items()}
                for n, known in ((0, STARTS), (most, {s: s for s in CONTENDERS}))
            ],
            "curves": {"points": [0, most], "trained_once": False}
            | {
                s: {
                    ACCURACY: {
                        "mean": [point["mean"] for point in points],
                        "lo": [point["ci95"] and point["ci95"][0] for point in points],
                        "hi": [point["ci95"] and point["ci95"][1] for point in points],
                    }
                }
                for s, points in ends.items()
            },
            "hypotheses": _untested() | {"combined": _untested()},
            "per_prompt": per_prompt(crossed),
            "examples": [],
            "training_history": {},
            "ablation": [],
            "timings_s": {},
            "people": {
                "personal_gain": {
                    s: difference_json(scores[ACCURACY].gain(s, start)) | {"over": start} for s, start in STARTS.items()
                },
                "by_person": by_person(crossed),
                "ceiling": ceiling(crowd.votes.preferences),
            },
        }


def _untested() -> dict[str, Any]:
    return {"sample_efficiency": not_tested(NO_CURVES), "generalization": not_tested(UNSEEN)}


def counts(crowd: Crowd, tested: frozenset[str]) -> dict[str, int]:
    """How much of everything there is; ``preferences`` and ``ties`` are those that train, as in every result."""
    votes = crowd.votes.preferences
    training = [vote for vote in votes if vote.prompt_id not in tested]
    return {
        "prompts": len(crowd.votes.prompts),
        "train_prompts": len(crowd.votes.prompts) - len(tested),
        "test_prompts": len(tested),
        "preferences": len(training),
        "ties": sum(vote.outcome == 0.5 for vote in training),
        "ground_truth_rankings": sum(prompt_id in tested for _, prompt_id in crowd.rankings),
        "judge_calls": 0,
        "users": len(crowd.votes.users),
        "votes": len(votes),
        "decided_votes": sum(vote.outcome != 0.5 for vote in votes),
        "responses": len(crowd.votes.responses),
    }


def by_person(tested: Predicted) -> list[dict[str, Any]]:
    """Every person's number of votes and accuracies, null without decided votes."""
    votes = tested.crowd.votes.preferences
    given, decided = Counter(v.user for v in votes), Counter(v.user for v in votes if v.outcome != 0.5)
    accuracy = {s: means_by(tested, s, lambda cell: cell[0]) for s in tested.hits}
    return [
        {"user": user, "votes": given[user], "decided_votes": decided[user]}
        | {s: means.get(i) for s, means in accuracy.items()}
        for user, i in tested.crowd.person.items()
    ]


def per_prompt(tested: Predicted) -> list[dict[str, Any]]:
    """The contenders' share of the decided votes on each prompt that has any, over whoever voted."""
    shares = {s: means_by(tested, s, lambda cell: cell[1]) for s in CONTENDERS if s in tested.hits}
    return [
        {
            "prompt_id": p.id,
            "prompt": p.text,
            "fold": tested.crowd.fold[p.id],
            "difference": shares["reward_model"][p.id] - shares["elo_offset"][p.id],
            **{s: {ACCURACY: means[p.id]} for s, means in shares.items()},
        }
        for p in tested.crowd.votes.prompts
        if shares and p.id in shares["elo_offset"]
    ]


def means_by(tested: Predicted, system: str, label: Callable[[Cell], Hashable]) -> dict[Hashable, float]:
    """{label: share of its decided votes that the system predicts}."""
    found: dict[Hashable, list[float]] = defaultdict(list)
    for cell, values in tested.hits[system].items():
        found[label(cell)] += values
    return {key: sum(values) / len(values) for key, values in found.items()}
