"""Human votes at scale, and two controls without which a personal gain means little.

    python benchmarks/people_controls.py [--people 1000] [--votes_each 100] [--personal 0.5]     simulated people
    python benchmarks/people_controls.py --file votes.jsonl [--shuffles 5] [--cache_dir cache]   real ones, shuffled

``--file`` runs the votes as they are, then with people's names shuffled within each prompt: everybody then has the same
mixture of tastes, so whatever personal gain is left comes from the method.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from people_worlds import World

from base.features import Features, compute_features
from config import EXPERIMENT_CONFIG
from evidence.intervals import Difference
from people import run as people
from people import scores as ps
from people import training
from people.read import Votes, load_votes
from people.training import curve_counts, predict


def personal_gains(votes: Votes, features: Features, cache_dir: Path) -> dict[str, Difference | None]:
    """Cross-validated change of ranking accuracy through own votes, by system; prints every system's accuracy."""
    rated, _ = people.arena_ratings(votes, cache_dir)
    crowd = people.assemble(votes, features, people.fitting(EXPERIMENT_CONFIG, len(votes.prompts)), rated)
    predicted = predict(crowd, crowd.folds, curve_counts(crowd, crowd.folds))
    values = {
        name: ps.accuracies(scores[None], crowd.ballots, predicted.tested)[0]
        for name, scores in predicted.final().items()
    }
    accuracy = ", ".join(f"{name} {ps.people_mean(own):.3f}" for name, own in values.items())
    print(f"  {accuracy} strengths {predicted.strengths}")
    fold = np.argmax(np.stack(crowd.folds), axis=0)
    return {name: ps.difference(values[name], values[start], folds=fold) for name, start in ps.STARTS.items()}


def shuffled(votes: Votes, seed: int) -> Votes:
    """The same votes with the names of those who voted on a prompt dealt anew among them."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[int]] = defaultdict(list)
    for i, vote in enumerate(votes.preferences):
        rows[vote.prompt_id].append(i)
    names = [vote.user for vote in votes.preferences]
    for own in rows.values():
        for i, j in zip(own, rng.permutation(own), strict=True):
            names[i] = votes.preferences[j].user
    changed = (dataclasses.replace(v, user=name) for v, name in zip(votes.preferences, names, strict=True))
    return dataclasses.replace(votes, preferences=tuple(changed))


def timed(part: Callable[..., None], spent: dict[str, float]) -> Callable[..., None]:
    """This part of a training, its seconds of processor time counted."""

    def counted(*args: object) -> None:
        start = time.process_time()
        part(*args)
        spent[part.__name__] = spent.get(part.__name__, 0.0) + time.process_time() - start

    return counted


def report(title: str, votes: Votes, features: Features, cache_dir: Path) -> None:
    start = time.perf_counter()
    print(title, flush=True)
    for name, gain in personal_gains(votes, features, cache_dir).items():
        if gain is not None:
            low, high = gain.ci95
            print(f"  {name}: own votes {gain.difference:+.3f} [{low:+.3f}, {high:+.3f}], p = {gain.p_value:.3f}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {time.perf_counter() - start:.1f} s, at most {memory:.2f} GiB", flush=True)


def main() -> None:
    """Measure what the flags ask for, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--votes_each", type=int, default=100)
    parser.add_argument("--personal", type=float, default=0.5)
    parser.add_argument("--file")
    parser.add_argument("--base_model", default="embedded")
    parser.add_argument("--shuffles", type=int, default=5)
    parser.add_argument("--cache_dir", type=Path, default=Path("cache"))
    args = parser.parse_args()
    spent: dict[str, float] = {}
    training._train_heads, training._fit_combined = (
        timed(part, spent) for part in (training._train_heads, training._fit_combined)
    )
    if not args.file:
        world = World(args.people, args.votes_each, prompts=80, models=6, width=64, personal=args.personal)
        report(f"{args.people} people x {args.votes_each} votes", *world.draw(), args.cache_dir)
        print("  processor time:", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items()))
        return
    votes = load_votes(args.file)
    features = compute_features(
        args.base_model, votes.prompts, votes.responses, cache_dir=args.cache_dir, name=people.run_name(args.file)
    )
    report("as they are", votes, features, args.cache_dir)
    for seed in range(args.shuffles):
        report(f"names shuffled within each prompt, {seed}", shuffled(votes, seed), features, args.cache_dir)


if __name__ == "__main__":
    main()
