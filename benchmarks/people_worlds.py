"""Human votes at scale: simulated people whose tastes are known, or a file of votes.

    python benchmarks/people_worlds.py [--people 1000] [--votes_each 100] [--personal 0.5]
    python benchmarks/people_worlds.py --file votes.jsonl [--base_model embedded] [--cache_dir cache]

Prints every system's accuracy, what own votes add to each, seconds and memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from base.features import Features
from config import EXPERIMENT_CONFIG
from core.clock import Clock
from core.records import Preference, Prompt, Response
from people.many import ACCURACY, Crowd, arena_ratings, measure
from people.read import Votes, load_votes, run_name


@dataclass(frozen=True, slots=True)
class World:
    """Everybody likes what ``common`` says of a response's features, and each person something of their own."""

    people: int = 20
    votes_each: int = 60
    prompts: int = 40
    models: int = 5
    width: int = 12
    common: float = 1.0
    """Standard deviation of utilities that all share."""
    personal: float = 0.0
    """Standard deviation of utilities of one's own; 0: all people are the same."""
    ties: float = 0.1
    seed: int = 0
    names: tuple[str, ...] = ()
    """Of the models; those without one are called model 0, model 1, …"""

    def draw(self) -> tuple[Votes, Features]:
        """The votes, in an order of their own, and the features of all responses."""
        rng = np.random.default_rng(self.seed)
        texts = rng.normal(size=(self.models, self.width)) + rng.normal(size=(self.prompts, self.models, self.width))
        spread = np.sqrt(2.0 * self.width)
        shared = self.common * (texts @ rng.normal(size=self.width)) / spread
        own = self.personal * (texts @ rng.normal(size=(self.width, self.people))) / spread
        utility = shared[..., None] + own  # [prompts, models, people]
        names = (*self.names, *(f"model {i}" for i in range(len(self.names), self.models)))
        prompts = tuple(Prompt(f"q{i}", f"Question {i}?") for i in range(self.prompts))
        voters = np.repeat(np.arange(self.people), self.votes_each).tolist()
        votes = tuple(self._vote(rng, utility, names, user) for user in voters)
        responses = tuple(
            Response(p.id, m, f"Answer of {m} to {p.id}: " + "x" * int(rng.integers(200)))
            for p in prompts
            for m in names
        )
        index = {(r.prompt_id, r.model): i for i, r in enumerate(responses)}
        mean = texts.reshape(-1, self.width).astype(np.float32)
        features = Features(index, mean, mean, np.zeros(len(mean), np.float32), has_score=False, base="simulated")
        users = tuple(dict.fromkeys(v.user for v in votes))
        return Votes(votes, prompts, responses, users, names, left_out={}), features

    def _vote(self, rng: np.random.Generator, utility: np.ndarray, names: tuple[str, ...], user: int) -> Preference:
        prompt = int(rng.integers(self.prompts))
        a, b = (int(i) for i in rng.choice(self.models, 2, replace=False))
        gap = 2.0 * (utility[prompt, a, user] - utility[prompt, b, user])
        preferred = float(rng.random() < 1.0 / (1.0 + np.exp(-gap)))
        outcome = 0.5 if rng.random() < self.ties else preferred
        return Preference(f"q{prompt}", names[a], names[b], outcome, f"person {user}")


def main() -> None:
    """Measure what the flags ask for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--votes_each", type=int, default=100)
    parser.add_argument("--personal", type=float, default=0.5)
    parser.add_argument("--file")
    parser.add_argument("--base_model", default="embedded")
    parser.add_argument("--cache_dir", type=Path, default=Path("cache"))
    args = parser.parse_args()
    if args.file:
        from base.features import compute_features

        name, votes = run_name(args.file), load_votes(args.file)
        features = compute_features(
            args.base_model, votes.prompts, votes.responses, cache_dir=args.cache_dir, name=name
        )
    else:
        votes, features = World(args.people, args.votes_each, 80, 6, 64, personal=args.personal).draw()
    rated, _ = arena_ratings(votes, args.cache_dir)
    start = time.perf_counter()
    crowd = Crowd(votes, features, rated, replace(EXPERIMENT_CONFIG, num_prompts=len(votes.prompts)))
    found = measure(crowd, Clock())
    print(f"{len(votes.users)} people, {len(votes.preferences):,} votes")
    for system, cells in found["cross_validated"].items():
        mean, (low, high) = cells[ACCURACY]["mean"], cells[ACCURACY]["ci95"]
        print(f"  {system:18s} {mean:.3f} [{low:.3f}, {high:.3f}]")
    for system, gain in (found["people"] or {})["personal_gain"].items():
        low, high = gain["ci95"]
        print(f"  {system}: own votes {gain['difference']:+.3f} [{low:+.3f}, {high:+.3f}], p = {gain['p_value']:.3f}")
    memory, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, time.process_time()
    print(f"  {time.perf_counter() - start:.1f} s, {cpu:.1f} s of processor time, at most {memory:.2f} GiB")


if __name__ == "__main__":
    main()
