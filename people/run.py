"""Real people's votes instead of generated data: every person gets both systems, and all are compared as one.

    python main.py --preferences votes.jsonl

People are split by nothing; prompts are, once for everybody: several people vote on the same pair of responses, and a
split within each person would show one person's test votes to another's training.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import config
import evaluation
from base.features import Features, compute_features
from core.errors import UsageError
from core.findings import Findings, Run
from core.records import GroundTruth
from elo_system import EloSystem
from people import scores as ps
from people.ballots import Ballots, Crowd, Mask, Ratings, tabulate
from people.heads import crowd_ratings, fit_shared
from people.results import Tested, about_run, measured
from people.training import Predicted, curve_counts, train_part
from people.votes import Votes, load_votes
from report import console as report
from report.results import document
from reward_model import RewardModel
from stages.dataset import Clock


def run(args: argparse.Namespace, params: config.ExperimentConfig, command: str) -> int:
    """What ``--preferences FILE`` asks for; the exit status. Raises UsageError and MissingError."""
    from cli import preflight
    from core.store import lock
    from report import files as result_files

    name = run_name(args.preferences)
    _check_flags(args)
    clock = Clock()
    with clock.stage("votes"):  # before the lock: a file that can't be read leaves nothing behind
        votes = load_votes(args.preferences, skip_bad_rows=args.skip_bad_rows, cache_dir=args.cache_dir)
    params = fitting(params, len(votes.prompts))
    with lock(args.cache_dir):
        base, notes = preflight.choose_base(args, args.backend)
        label = _label(votes, base)
        report.print_header(name, label)
        notes = (*notes, *votes.notes, *_skipped(votes))
        for note in notes:
            print(f"Note: {note}")
        with clock.stage("features"):
            features = compute_features(
                base,
                votes.prompts,
                votes.responses,
                cache_dir=args.cache_dir,
                name=name,
                device=args.device,
                refresh=bool(args.refresh),
            )
        crowd = assemble(votes, features, params, args.cache_dir)
        asked = Run(base, args.device, label, command, args.cache_dir, args.results_dir, notes)
        results, elo, reward = experiment(crowd, asked, name, preflight.device(args), clock)
        report.print_final(results)
        paths = result_files.write_results(results, args.results_dir)
        elo.save(args.cache_dir / config.ELO_STATE_FILE.format(name=name))
        reward.save(args.cache_dir / config.REWARD_HEAD_FILE.format(name=name))
    print("\nWritten: " + ", ".join(str(path) for path in paths))
    return 0


# ── What was asked for ───────────────────────────────────────────────────────────────────────────────────


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


def fitting(params: config.ExperimentConfig, prompts: int) -> config.ExperimentConfig:
    """The parameters for so many prompts. Raises UsageError where they are too few."""
    try:
        return dataclasses.replace(params, num_prompts=prompts)
    except ValueError as error:
        raise UsageError(
            f"The votes are on {prompts} prompts: {error}. Prompts are split for training and testing, so votes on "
            "more of them are needed."
        ) from None


def _check_flags(args: argparse.Namespace) -> None:
    for flag in ("models", "judge", "ablate"):
        if getattr(args, flag):
            raise UsageError(f"--{flag} does not go with --preferences: the votes name their models and judges.")
    if args.ground_truth != "round_robin":
        raise UsageError("--ground_truth does not go with --preferences: people's own votes are the truth.")


def _label(votes: Votes, base: str) -> str:
    people = f"{len(votes.users)} {'person' if len(votes.users) == 1 else 'people'}"
    kind = f"{config.EMBEDDED_NAME}, which is no reward model" if base == "embedded" else base
    return f"human votes of {people}; responses are read by {kind}"


def _skipped(votes: Votes) -> tuple[str, ...]:
    return (f"{len(votes.skipped)} wrong rows were left out",) if votes.skipped else ()


def assemble(votes: Votes, features: Features, params: config.ExperimentConfig, cache_dir: Path) -> Crowd:
    """All that training is done with. Arena ratings are looked up only for a person alone."""
    lengths = np.zeros(len(features.index))
    for response in votes.responses:
        lengths[features.index[response.prompt_id, response.model]] = len(response.text)
    given: Ratings = dict.fromkeys(votes.models)
    if len(votes.users) == 1:
        from stages import arena

        table = arena.load_table(cache_dir)
        contestants, matches = arena.contestants_for(votes.models, table)
        given = {model: rating.elo for model, rating in arena.ratings_for(contestants, table, matches).items()}
    return Crowd(tabulate(votes, features.index), features, lengths, params, given)


# ── The experiment ───────────────────────────────────────────────────────────────────────────────────────


def experiment(
    crowd: Crowd, asked: Run, name: str, device: str, clock: Clock
) -> tuple[dict[str, Any], EloSystem, RewardModel]:
    """The results document, and what a new person starts from (one person alone: what was learned of them)."""
    ballots, params = crowd.ballots, crowd.params
    train, test = evaluation.split(ballots.prompts, params.train_prompts, params.random_seed)
    parts = [ballots.mask(p) for p in evaluation.folds(ballots.prompts, params.folds, params.random_seed)]
    tested = ballots.mask(test)
    counts = curve_counts(crowd, [tested, *parts])
    rankings = ps.whole_rankings(ballots)
    counted = count(ballots, tested, rankings)
    report.print_counts(counted)
    report.print_training(counted["preferences"], params.evaluation_frequency)
    with clock.stage("training"):
        once = Predicted.empty(crowd, len(counts))
        train_part(crowd, tested, counts, once)
        elo, reward = learned(crowd, tested, train)
    with clock.stage("cross_validation"):
        crossed = Predicted.empty(crowd, len(counts))
        strengths = [train_part(crowd, part, counts, crossed) for part in parts]
    with clock.stage("evaluation"):
        found = measured(crowd, Tested(once, tested), Tested(crossed, np.ones_like(tested)), counts, rankings, parts)
    found["people"]["strengths"] = strengths
    history = {
        "preference_loss": [epoch.preference for epoch in reward.history],
        "regularization_loss": [epoch.regularization for epoch in reward.history],
    }
    findings = Findings(counts=counted, training_history=history, timings_s=clock.seconds, **found)
    results = document(about_run(crowd, asked, name, device, elo), findings)
    report.print_points(results)
    return results, elo, reward


def count(ballots: Ballots, tested: Mask, rankings: Mapping[int, GroundTruth]) -> dict[str, int]:
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


def learned(crowd: Crowd, tested: Mask, train: Sequence[str]) -> tuple[EloSystem, RewardModel]:
    """Both systems as kept for later, from all votes outside ``tested``: for several people what a new person starts
    from, for one person alone what was learned of them."""
    votes = crowd.order[~tested[crowd.ballots.prompt[crowd.order]]]
    reward = fit_shared(crowd, votes, train)
    if len(crowd.ballots.users) > 1:
        return EloSystem(crowd_ratings(crowd, votes), crowd.params.elo_k), reward
    return EloSystem(crowd.given, crowd.params.elo_k).fit(crowd.chosen(votes)), reward
