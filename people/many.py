"""A person among others: every system for each person, started from everyone else, scored on the person's own votes.

    run(job, load_votes("votes.jsonl"))
    found = measure(Crowd(votes, features, rated, params), clock)
    found["people"]["personal_gain"]["combined"]        # what own votes add to everyone else's

Prompts are split once for everybody: several people vote on the same pair of responses, and a split within each person
would show one person's test votes to another's training. Nobody's vote on a test prompt trains anything, and nothing
that a person starts from has seen a vote of theirs. What they start from: everyone else's Bradley–Terry (System A), a
head trained on the people outside their group (System B), everyone's fit without their votes (System C).

Every figure is a mean within each person, then over people, so that a busy voter counts once. Intervals are clustered
by person, corrected for cross-validation, or by fold, where all voters on a prompt are together, if that is wider. By
prompt too they would be wider and name no fewer false winners (docs/method.md).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

import config
from base.features import Features
from combined import Combined
from config import ExperimentConfig
from core.clock import Clock, bar
from core.ranking import Ranker, TrainingSet
from core.records import Preference, Rating
from elo_system import LOGIT, UNRATED_START, EloSystem, starting_ratings
from evaluation import METRICS
from evidence import leaderboard
from evidence.baselines import base_reward, bradley_terry, global_elo, longest_response, random_ranking, wins_of
from evidence.design import Design, design, read_texts
from evidence.experiment import Document, counts, make_document
from evidence.hypotheses import Scores, compared, fold_of
from evidence.intervals import Groups, difference_json
from people.read import Votes
from report import console, files
from report.words import CONTENDERS
from reward_model import RewardModel
from stages.tasks import Job

ACCURACY = "ranking_accuracy"
STARTS = {"elo_offset": "global_elo", "reward_model": "shared_reward", "combined": "shared_combined"}
"""{system: what it knows of a person before their first vote}"""

GROUPS = 10  # of people: a head shared by a tenth of them is trained on the other nine tenths
SHARED_VOTES = 5_000  # a shared head learns from at most so many: more people then cost it nothing
STRENGTH = 3.0  # learning rates with which own votes move a shared head: docs/method.md

UNTESTED = {
    "sample_efficiency": "Sample efficiency is tested on personas: of people only the start and the end are measured.",
    "generalization": "Generalization to unseen models is tested on personas, not on votes.",
}

RATED = "Bradley-Terry over everyone's training votes; each person starts from everyone else's"
GIVEN = "one person alone has nobody else to start from: ratings are the Arena's, where it lists the model"

Hits = Mapping[str, Sequence[tuple[Preference, float]]]
"""{system: [(a decided vote, 1 where it was predicted right, ½ for a tied score, else 0)]}, the same votes for each"""


@dataclass(frozen=True)
class Crowd:
    """Who votes on what, and all that training is done with."""

    votes: Votes
    features: Features
    rated: Mapping[str, Rating]
    """The Arena's ratings for a person alone, who has nobody else to start from; empty for several."""
    params: ExperimentConfig

    @cached_property
    def plan(self) -> Design:
        """What trains and what tests, for everybody; preferences in the order in which everyone's are used."""
        return design(self.votes.data, self.params)

    @cached_property
    def given(self) -> dict[str, float | None]:
        """{model: its rating}."""
        return {model: self.rated[model].elo if model in self.rated else None for model in self.votes.models}


# ── Training ─────────────────────────────────────────────────────────────────────────────────────────────


def fitted(crowd: Crowd, tested: Collection[str]) -> Iterator[tuple[str, Sequence[Ranker]]]:
    """(system, a ranker for each person) after training on all prompts but the ``tested`` ones, system by system, so
    that a thousand people's heads are not held beside a thousand people's fits."""
    several, models, params = len(crowd.votes.users) > 1, crowd.votes.models, crowd.params
    votes = [vote for vote in crowd.plan.preferences if vote.prompt_id not in tested]
    ids = tuple(prompt_id for prompt_id in crowd.votes.data.planned if prompt_id not in tested)
    by_user: dict[str, list[Preference]] = {user: [] for user in crowd.votes.users}
    for vote in votes:
        by_user[vote.user].append(vote)
    own = list(map(tuple, by_user.values()))
    sets = [TrainingSet(votes, ids) for votes in own]

    wins = np.stack([wins_of(votes, models) for votes in own])
    others = np.maximum(wins.sum(axis=0) - wins, 0.0).round(9)  # exactly nothing is left of a person's own votes
    starts = _on_elo_scale(models, others) if several else [starting_ratings(crowd.given)]
    yield "global_elo", [global_elo(start) for start in starts]
    yield "elo_offset", [EloSystem(start, params.elo_k).fit(s) for start, s in zip(starts, own, strict=True)]
    yield "bradley_terry", [global_elo(strengths) for strengths in _on_elo_scale(models, wins)]

    # a head for each tenth of the people, drawn by the seed, trained on everybody else: of a person alone on nobody
    drawn = np.random.default_rng([params.random_seed, 1]).permutation(len(own)).tolist()
    group = {crowd.votes.users[person]: i % GROUPS for i, person in enumerate(drawn)}
    outside = [[v for v in votes if group[v.user] != i][:SHARED_VOTES] for i in range(min(GROUPS, len(own)))]
    model = RewardModel(crowd.features, crowd.given, params)
    heads = model.fit_many([TrainingSet(tuple(outsiders), ids) for outsiders in outside])
    shared = [heads[group[user]] for user in crowd.votes.users]
    yield "shared_reward", shared
    faster = replace(params, learning_rate=STRENGTH * params.learning_rate)
    yield "reward_model", RewardModel(crowd.features, crowd.given, faster).fit_many(sets, shared)

    everyone = Combined(crowd.features, crowd.given, params).fit(votes if several else [], prompt_ids=ids)
    without = everyone.leaving_out(own) if several else [everyone]
    yield "shared_combined", without
    yield "combined", everyone.fit_many(sets, without if several else None)

    longest, chance = longest_response(crowd.votes.responses), random_ranking(models, params.random_seed)
    for ranker in (base_reward(crowd.features), longest, chance):
        yield ranker.name, [ranker] * len(own)


def _on_elo_scale(models: Sequence[str], wins: np.ndarray) -> list[dict[str, float]]:
    """Bradley–Terry strengths of each table of ``wins`` [people, models, models], all in one solution."""
    ratings = UNRATED_START + bradley_terry(wins) / LOGIT
    return [dict(zip(models, row, strict=True)) for row in ratings.tolist()]


def learned(crowd: Crowd) -> tuple[EloSystem, RewardModel, Combined]:
    """All systems from all votes: for several people what a new person starts from, for one person alone what was
    learned of them."""
    votes, ids, params = crowd.plan.preferences, crowd.votes.data.planned, crowd.params
    reward = RewardModel(crowd.features, crowd.given, params).fit(votes[:SHARED_VOTES], prompt_ids=ids)
    both = Combined(crowd.features, crowd.given, params).fit(votes, prompt_ids=ids)
    if len(crowd.votes.users) == 1:
        return EloSystem(crowd.given, params.elo_k).fit(votes), reward, both
    (strengths,) = _on_elo_scale(crowd.votes.models, wins_of(votes, crowd.votes.models)[None])
    return EloSystem(strengths, params.elo_k), reward, both


# ── Scoring ──────────────────────────────────────────────────────────────────────────────────────────────


def predicted(crowd: Crowd, parts: Sequence[Collection[str]]) -> Hits:
    """How well every system predicts the decided votes on the ``parts``, each part after training on all other prompts:
    ties train, and are not scored."""
    hits: dict[str, list[tuple[Preference, float]]] = defaultdict(list)
    for part in bar(map(frozenset, parts), len(parts), "folds"):
        tested = [vote for vote in crowd.plan.preferences if vote.prompt_id in part and vote.outcome != 0.5]
        for system, rankers in fitted(crowd, part):
            ranker = dict(zip(crowd.votes.users, rankers, strict=True))
            for vote in tested:
                scores = ranker[vote.user].scores(vote.prompt_id)
                gap = (scores[vote.model_a] - scores[vote.model_b]) * (vote.outcome - 0.5)
                hits[system].append((vote, 0.5 + 0.5 * (gap > 0.0) - 0.5 * (gap < 0.0)))
    return hits


def scored(crowd: Crowd, hits: Hits) -> dict[str, Scores]:
    """{metric: Scores}: the accuracy vote by vote, every person with the same weight; no value of the other metrics,
    which need whole rankings."""
    votes, several = [vote for vote, _ in next(iter(hits.values()))], len(crowd.votes.users) > 1
    count = Counter(vote.user for vote in votes)
    weights = np.array([len(votes) / len(count) / count[vote.user] for vote in votes])
    fold = fold_of(crowd.plan.folds)
    clusters = [vote.user if several else vote.prompt_id for vote in votes]
    groups = Groups([fold[vote.prompt_id] for vote in votes], (clusters,), weights)
    values = {system: [hit for _, hit in found] for system, found in hits.items()}
    nothing = {system: list[float]() for system in hits}
    return {m: Scores(m, nothing, Groups()) for m in METRICS} | {ACCURACY: Scores(ACCURACY, values, groups)}


# ── For the results ──────────────────────────────────────────────────────────────────────────────────────


def measure(crowd: Crowd, clock: Clock) -> Document:
    """Everything that votes show of the systems: ``final`` on the documented split, all else on every prompt
    cross-validated. A curve has two points: what everyone starts from, and all own votes."""
    plan = crowd.plan
    with clock.stage("training"):
        once = scored(crowd, predicted(crowd, [plan.test_ids]))
    with clock.stage("cross_validation"):
        hits = predicted(crowd, plan.folds)
    with clock.stage("evaluation"):
        scores = scored(crowd, hits)
        final = {s: {m: one.mean(s)["mean"] for m, one in once.items()} for s in hits}
        found = compared(scores, ACCURACY)
        crossed = found["cross_validated"]
        most = max(Counter(vote.user for vote in plan.training).values(), default=0)
        known = {0: STARTS, most: {s: s for s in CONTENDERS}}
        gains = {s: scores[ACCURACY].gain(s, start) for s, start in STARTS.items()}
        untested = {key: {"verdict": "not tested", "reason": reason} for key, reason in UNTESTED.items()}
        return {
            "main_metric": ACCURACY,
            "counts": {
                **counts(crowd.votes.data, crowd.params),
                "users": len(crowd.votes.users),
                "votes": len(plan.preferences),
                "decided_votes": sum(vote.outcome != 0.5 for vote in plan.preferences),
            },
            "judge_quality": {},
            "final": final,
            **found,
            "learning_curve": [
                {"preferences": n} | {s: {ACCURACY: final[name][ACCURACY]} for s, name in systems.items()}
                for n, systems in known.items()
            ],
            "curves": {"points": list(known), "trained_once": False}
            | {s: {ACCURACY: [crossed[systems[s]][ACCURACY] for systems in known.values()]} for s in CONTENDERS},
            "hypotheses": untested | {"combined": untested},
            "examples": [],
            "ablation": [],
            "people": {"personal_gain": {s: difference_json(gain) | {"over": STARTS[s]} for s, gain in gains.items()}},
        }


# ── The run ──────────────────────────────────────────────────────────────────────────────────────────────


def run(job: Job, votes: Votes, *, refresh: bool = False) -> None:
    """The experiment on votes: write its files, then say what they hold. ``refresh``: features and ratings anew."""
    clock = Clock()
    rated, about_ratings = arena_ratings(votes, job.cache_dir, refresh=refresh)
    rows = (f"the votes row by row: {job.command} --check",) if votes.notes else ()
    job = replace(job, notes=(*job.notes, *votes.notes, *rows, *about_ratings))
    console.print_header(job.name, job.label, job.notes, "Votes")
    features = read_texts(job, votes.data, clock, refresh=refresh, also=votes.personas)
    crowd = Crowd(votes, features, rated, job.params)
    measured = measure(crowd, clock)
    with clock.stage("training"):
        elo, reward, _ = learned(crowd)
    measured |= {"training_history": reward.history, "timings_s": clock.seconds}
    models = list(rated.values()) or [Rating(model, rating, RATED) for model, rating in elo.ratings.items()]
    answer = leaderboard.answer(votes.preferences, votes.responses, crowd.given, job.params.random_seed)
    document = make_document(job, features, models, answer | measured)
    paths = files.write_results(document, job.results_dir)
    elo.save(job.cache_dir / config.ELO_STATE_FILE.format(name=job.name))
    reward.save(job.cache_dir / config.REWARD_HEAD_FILE.format(name=job.name))
    console.print_counts(document["counts"])
    console.print_results(document, told=(*job.notes, *features.notes))
    console.print_files(paths)


def arena_ratings(votes: Votes, cache_dir: Path, *, refresh: bool = False) -> tuple[dict[str, Rating], tuple[str, ...]]:
    """The models' Arena ratings and what is to be said of them, for a person alone: nothing where others vote too."""
    if len(votes.users) > 1:
        return {}, ()
    from stages import arena

    table = arena.load_table(cache_dir, refresh=refresh)
    rated = arena.rate(votes.models, table)
    proxies = tuple(f"{name}: rated by {rating.source}" for name, rating in rated.items() if rating.proxy)
    return rated, (GIVEN, *table.notes, *proxies)
