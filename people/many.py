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

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import config
from base.features import Features
from combined import Combined
from config import ExperimentConfig
from core.clock import Clock, bar
from core.ranking import Ranker, TrainingSet
from core.records import Preference, Rating
from data_generation import Data
from elo_system import LOGIT, UNRATED_START, EloSystem, starting_ratings
from evaluation import METRICS, Round
from evidence import leaderboard
from evidence.baselines import base_reward, bradley_terry, global_elo, longest_response, random_ranking, wins_of
from evidence.design import design, read_texts
from evidence.experiment import counts, make_document
from evidence.hypotheses import Scores, compared
from evidence.intervals import Groups, difference_json
from people.read import Votes
from report import console, files
from report.words import CONTENDERS, Document
from reward_model import RewardModel
from stages import arena
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


class Crowd:
    """Who votes on what, and all that training is done with."""

    def __init__(self, votes: Votes, features: Features, rated: Mapping[str, Rating], params: ExperimentConfig) -> None:
        """``rated``: the Arena's ratings for a person alone, who has nobody else to start from; empty for several."""
        self.votes, self.features, self.params = votes, features, params
        self.given = {model: rated[model].elo if model in rated else None for model in votes.models}
        ids = tuple(prompt.id for prompt in votes.prompts)
        self.data = Data(votes.prompts, votes.responses, (), votes.preferences, (), planned=ids)
        self.plan = design(self.data, params)  # what trains and what tests, the same for everybody


# ── Training ─────────────────────────────────────────────────────────────────────────────────────────────


def fitted(crowd: Crowd, training: TrainingSet) -> Iterator[tuple[str, Sequence[Ranker]]]:
    """(system, a ranker for each person) after ``training``, system by system, so that a thousand people's heads are
    not held beside a thousand people's fits."""
    several, models, params = len(crowd.votes.users) > 1, crowd.votes.models, crowd.params
    votes, ids = training.preferences, training.prompt_ids
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
    votes, ids, params = crowd.plan.preferences, crowd.data.planned, crowd.params
    reward = RewardModel(crowd.features, crowd.given, params).fit(votes[:SHARED_VOTES], prompt_ids=ids)
    both = Combined(crowd.features, crowd.given, params).fit(votes, prompt_ids=ids)
    if len(crowd.votes.users) == 1:
        return EloSystem(crowd.given, params.elo_k).fit(votes), reward, both
    (strengths,) = _on_elo_scale(crowd.votes.models, wins_of(votes, crowd.votes.models)[None])
    return EloSystem(strengths, params.elo_k), reward, both


# ── Scoring ──────────────────────────────────────────────────────────────────────────────────────────────


def predicted(crowd: Crowd, rounds: Sequence[Round]) -> tuple[list[Preference], dict[str, list[float]]]:
    """The decided votes [n] on the prompts that did not train in each of the ``rounds``, and {system: [n] 1 where it
    predicts that vote right, ½ for a tied score, else 0}. Ties train, and are not scored."""
    votes, hits = list[Preference](), defaultdict[str, list[float]](list)
    for training, _ in bar(rounds, len(rounds), "folds"):
        seen = set(training.prompt_ids)
        tested = [vote for vote in crowd.plan.preferences if vote.prompt_id not in seen and vote.outcome != 0.5]
        votes += tested
        for system, rankers in fitted(crowd, training):
            ranker = dict(zip(crowd.votes.users, rankers, strict=True))
            for vote in tested:
                scores = ranker[vote.user].scores(vote.prompt_id)
                gap = (scores[vote.model_a] - scores[vote.model_b]) * (vote.outcome - 0.5)
                hits[system].append(0.5 + 0.5 * (gap > 0.0) - 0.5 * (gap < 0.0))
    return votes, hits


def scored(crowd: Crowd, votes: Sequence[Preference], hits: Mapping[str, Sequence[float]]) -> dict[str, Scores]:
    """{metric: Scores} of what was ``predicted``: the accuracy vote by vote, every person with the same weight; no
    value of the other metrics, which need whole rankings."""
    several = len(crowd.votes.users) > 1
    count = Counter(vote.user for vote in votes)
    weights = np.array([len(votes) / len(count) / count[vote.user] for vote in votes])
    clusters = [vote.user if several else vote.prompt_id for vote in votes]
    groups = Groups([crowd.plan.fold[vote.prompt_id] for vote in votes], (clusters,), weights)
    nothing = {system: list[float]() for system in hits}
    return {m: Scores(m, nothing, Groups()) for m in METRICS} | {ACCURACY: Scores(ACCURACY, hits, groups)}


# ── For the results ──────────────────────────────────────────────────────────────────────────────────────


def measure(crowd: Crowd, clock: Clock) -> Document:
    """Everything that votes show of the systems: ``final`` on the documented split, all else on every prompt
    cross-validated. A curve has two points: what everyone starts from, and all own votes."""
    plan = crowd.plan
    with clock.stage("training"):
        once = scored(crowd, *predicted(crowd, [plan.split]))
    with clock.stage("cross_validation"):
        found = predicted(crowd, plan.rounds)
    with clock.stage("evaluation"):
        scores = scored(crowd, *found)
        final = {s: {m: one.mean(s)["mean"] for m, one in once.items()} for s in once[ACCURACY].values}
        decided = compared(scores, ACCURACY)
        crossed = decided["cross_validated"]
        most = max(Counter(vote.user for vote in plan.split[0].preferences).values(), default=0)
        known = {0: STARTS, most: {s: s for s in CONTENDERS}}
        gains = {s: scores[ACCURACY].gain(s, start) for s, start in STARTS.items()}
        untested = {key: {"verdict": "not tested", "reason": reason} for key, reason in UNTESTED.items()}
        return {
            "main_metric": ACCURACY,
            "counts": {
                **counts(crowd.data, crowd.params),
                "users": len(crowd.votes.users),
                "votes": len(plan.preferences),
                "decided_votes": sum(vote.outcome != 0.5 for vote in plan.preferences),
            },
            "judge_quality": {},
            "final": final,
            **decided,
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
    with clock.stage("features"):
        features = read_texts(job, votes.prompts, votes.responses, refresh=refresh)
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
    table = arena.load_table(cache_dir, refresh=refresh)
    rated = arena.rate(votes.models, table)
    proxies = tuple(f"{name}: rated by {rating.source}" for name, rating in rated.items() if rating.proxy)
    return rated, (GIVEN, *table.notes, *proxies)
