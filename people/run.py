"""Real people's votes instead of generated data: every person gets both systems, and all are compared as one.

    python main.py --preferences votes.jsonl

People are split by nothing; prompts are, once for everybody: several people vote on the same pair of responses, and a
split within each person would show one person's test votes to another's training.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import config
from base.features import compute_features
from combined import Combined
from config import ExperimentConfig
from core.clock import Clock
from core.errors import UsageError
from core.findings import About, Answer, Findings, Run
from core.records import Rating
from elo_system import EloSystem
from evidence import leaderboard
from evidence.likes import likings
from people.many import Crowd, learned, measure
from people.votes import Votes, load_votes
from report import console, words
from reward_model import RewardModel
from stages.material import Answers

RATED = "Bradley-Terry over everyone's training votes; each person starts from everyone else's"
GIVEN = "one person alone has nobody else to start from: ratings are the Arena's, where it lists the model"


class Kept(NamedTuple):
    """What was learned of all votes, for later."""

    systems: tuple[EloSystem, RewardModel, Combined]
    ratings: Mapping[str, float | None]
    """System C's global ratings."""


def read(source: str, *, skip_bad_rows: bool, cache_dir: Path, answers: Answers | None = None) -> tuple[str, Votes]:
    """The name of a run on the votes in ``source`` (a file or a hub id), and the votes; ``answers``: the texts of votes
    that carry none. Raises UsageError and MissingError where they can't be used; nothing is written."""
    name = run_name(source)
    return name, load_votes(source, skip_bad_rows=skip_bad_rows, cache_dir=cache_dir, answers=answers)


def run(name: str, votes: Votes, params: ExperimentConfig, run: Run, *, refresh: bool) -> tuple[dict[str, Any], Kept]:
    """The experiment on votes: write its files, then say what they hold. Returns the results document and the systems.

    ``run.label`` is made here, from the votes. ``refresh`` computes all features anew and asks the hub for ratings.
    """
    from report.files import write_results
    from report.results import document

    clock = Clock()
    params = fitting(params, len(votes.prompts))
    rated, about_ratings = arena_ratings(votes, run.cache_dir, refresh=refresh)
    left_out = (f"{len(votes.skipped)} wrong rows were left out",) if votes.skipped else ()
    rows = (f"the votes row by row: {run.command} --check",) if votes.notes or votes.skipped else ()
    notes = (*run.notes, *votes.notes, *left_out, *rows, *about_ratings)
    run = dataclasses.replace(run, label=_label(votes, run.base_model), notes=notes)
    console.print_header(name, run.label, run.notes, "Votes")
    with clock.stage("features"):
        features = compute_features(
            run.bases, votes.prompts, votes.responses,
            cache_dir=run.cache_dir, name=name, device=run.device, refresh=refresh, also=votes.personas,
            reader=run.cluster.reader if run.cluster else None,
        )  # fmt: skip
    run = run.read_by(features.base, features.device, features.notes)
    run = dataclasses.replace(run, label=_label(votes, run.base_model))
    given = {model: rated[model].elo if model in rated else None for model in votes.models}
    device = run.device if run.cluster is None else "cpu"  # a cluster's GPUs read texts
    crowd = Crowd(votes, features, given, params, device)
    measured = measure(crowd, clock)
    with clock.stage("training"):
        systems = learned(crowd)
    history = systems[1].history
    found = Findings(
        **measured, answer=who_is_best(crowd), timings_s=clock.seconds,
        training_history={
            "preference_loss": [epoch.preference for epoch in history],
            "regularization_loss": [epoch.regularization for epoch in history],
        },
    )  # fmt: skip
    ratings = systems[0].ratings
    models = tuple(rated.values()) or tuple(Rating(model, rating, RATED) for model, rating in ratings.items())
    about = About(name, "votes", "the people themselves", run, params, features.has_score, models)
    results = document(about, found)
    paths = write_results(results, run.results_dir)
    console.print_counts(results["counts"])
    console.print_training(results["counts"]["preferences"], params.evaluation_frequency)
    console.print_points(results)
    console.print_final(results, told=run.notes)
    console.print_answer(results)
    console.print_files(paths)
    return results, Kept(systems, given)


def who_is_best(crowd: Crowd) -> Answer:
    """Everybody's order of the models, whose own best each is, and what is liked."""
    votes = crowd.votes
    found = leaderboard.standings(votes.preferences, votes.models, crowd.params.random_seed)
    own, likes = leaderboard.own_best(votes.preferences, votes.models), likings(votes.preferences, votes.responses)
    return leaderboard.answer(found, crowd.given, votes.responses, likes, own_best=own)


def run_name(source: str) -> str:
    """What the run's files are named after: the file's stem, or the hub id, in characters that any disk takes.

    Raises UsageError where that is a persona's name, whose results and learned state would be replaced.
    """
    stem = Path(source).stem if Path(source).suffix else source
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:100] or "votes"
    if name in config.PERSONAS or name == "all":
        raise UsageError(
            f"{source}: results are named after the file, and {name} is a persona. Nothing was changed. Rename the "
            f"file, for instance to votes_{name}{Path(source).suffix}"
        )
    return name


def fitting(params: ExperimentConfig, prompts: int) -> ExperimentConfig:
    """The parameters for so many prompts. Raises UsageError where they are too few."""
    try:
        return dataclasses.replace(params, num_prompts=prompts)
    except ValueError as error:
        raise UsageError(
            f"The votes are on {prompts} prompts: {error}. Prompts are split for training and testing, so votes on "
            "more of them are needed."
        ) from None


def _label(votes: Votes, base: str) -> str:
    """Who votes and what reads the responses."""
    kind = f"{config.EMBEDDED_NAME}, which is no reward model" if base == "embedded" else base
    return f"human votes of {words.people(len(votes.users))}; responses are read by {kind}"


def arena_ratings(votes: Votes, cache_dir: Path, *, refresh: bool = False) -> tuple[dict[str, Rating], tuple[str, ...]]:
    """The models' Arena ratings and what is to be said of them, for a person alone: nothing where others vote too."""
    if len(votes.users) > 1:
        return {}, ()
    from stages import arena

    table = arena.load_table(cache_dir, refresh=refresh)
    contestants, matches = arena.contestants_for(votes.models, table)
    found = arena.ratings_for(contestants, table, matches)
    proxies = tuple(f"{name}: rated by {rating.source}" for name, rating in found.items() if rating.proxy)
    rated = {name: dataclasses.replace(rating, ollama_tag=None) for name, rating in found.items()}
    return rated, (GIVEN, *table.notes, *proxies)
