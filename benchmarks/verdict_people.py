"""How often a winner is named on people's votes where both systems are equally good, and where one is better.

    python benchmarks/verdict_people.py [--worlds 2000] [--out results/verdict_people.json]

Nothing is trained: the two systems are simple enough that two thousand worlds take minutes. What is done is kept in
parts of a hundred, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from verdict_worlds import Rng, rate, shown

from elo_system import SCALE, EloSystem
from evaluation import Array
from evidence.intervals import winner
from people.ballots import Ints
from people.scores import Values, clustered

FOLDS = 5
PART = 100
K = EloSystem({"a": None}).k


@dataclass(frozen=True)
class Votes:
    """n decided votes and what lies behind them."""

    user: Ints
    prompt: Ints
    a: Ints
    b: Ints
    won: Array
    """[n] 1 where a was preferred."""
    utility: Array
    """[prompts, models] of everyone."""
    own: Array
    """[users, models] of each person's own."""
    fold: Ints
    """[prompts]."""

    def right(self, score_a: Array, score_b: Array) -> Array:
        """[n] 1 for a vote predicted right, ½ for a tied score."""
        return np.asarray(0.5 + 0.5 * np.sign(score_a - score_b) * np.sign(self.won - 0.5))


def draw(users: int, prompts: int, models: int, each: int, rng: Rng) -> Votes:
    """A common order of the models, tastes by prompt and a little of each person's own."""
    n = users * each
    utility = rng.standard_normal(models) + 0.7 * rng.standard_normal((prompts, models))
    own = 0.5 * rng.standard_normal((users, models))
    user, prompt = np.repeat(np.arange(users), each), rng.integers(prompts, size=n)
    a = rng.integers(models, size=n)
    b = (a + rng.integers(1, models, size=n)) % models
    gap = 2.0 * (utility[prompt, a] + own[user, a] - utility[prompt, b] - own[user, b])
    won = (rng.random(n) < 1.0 / (1.0 + np.exp(-gap))).astype(float)
    return Votes(user, prompt, a, b, won, utility, own, rng.permutation(np.arange(prompts) % FOLDS))


# ── Two systems: [n] of each, 1 for a vote predicted right ───────────────────────────────────────────────


def halves(votes: Votes, rng: Rng) -> tuple[Array, Array]:
    """Each learns the models' win rates from a half of everyone's votes outside the fold."""
    models, half = votes.own.shape[1], rng.permutation(len(votes.won)) % 2
    found = []
    for side in (0, 1):
        hit = np.empty(len(votes.won))
        for f in range(FOLDS):
            test = votes.fold[votes.prompt] == f
            used = ~test & (half == side)
            wins = np.bincount(votes.a[used], votes.won[used], models)
            wins += np.bincount(votes.b[used], 1.0 - votes.won[used], models)
            games = np.bincount(votes.a[used], minlength=models) + np.bincount(votes.b[used], minlength=models)
            level = (wins + 1.0) / (games + 2.0)
            hit[test] = votes.right(level[votes.a], level[votes.b])[test]
        found.append(hit)
    return found[0], found[1]


def elo_orders(votes: Votes, rng: Rng) -> tuple[Array, Array]:
    """System A twice, everyone from the common order, each time with another order of their own votes."""
    users = len(votes.own)
    found = []
    user, first, second, won = (column.tolist() for column in (votes.user, votes.a, votes.b, votes.won))
    start = 100.0 * votes.utility.mean(0)
    for _ in "ab":
        order, hit = rng.permutation(len(votes.won)), np.empty(len(votes.won))
        for f in range(FOLDS):
            ratings = np.tile(start, (users, 1)).tolist()
            for i in order[votes.fold[votes.prompt[order]] != f].tolist():
                row, a, b = ratings[user[i]], first[i], second[i]
                step = K * (won[i] - 1.0 / (1.0 + 10.0 ** ((row[b] - row[a]) / SCALE)))
                row[a] += step
                row[b] -= step
            level, test = np.array(ratings), votes.fold[votes.prompt] == f
            hit[test] = votes.right(level[votes.user, votes.a], level[votes.user, votes.b])[test]
        found.append(hit)
    return found[0], found[1]


def readers(votes: Votes, rng: Rng, noise: tuple[float, float] = (1.0, 1.0), lucky: float = 0.0) -> tuple[Array, Array]:
    """Each reads every text with an error of its own that all voters on it share; ``lucky``: how much the error's size
    varies from fold to fold."""
    found = []
    for size in noise:
        luck = np.exp(lucky * rng.standard_normal(FOLDS))[votes.fold][:, None]
        read = votes.utility + size * luck * rng.standard_normal(votes.utility.shape)
        found.append(votes.right(read[votes.prompt, votes.a], read[votes.prompt, votes.b]))
    return found[0], found[1]


def acquaintances(votes: Votes, rng: Rng) -> tuple[Array, Array]:
    """Each knows every person with an error of its own that holds for all of that person's votes."""
    found = []
    for _ in "ab":
        known = votes.utility.mean(0) + votes.own + 0.7 * rng.standard_normal(votes.own.shape)
        found.append(votes.right(known[votes.user, votes.a], known[votes.user, votes.b]))
    return found[0], found[1]


Systems = Callable[[Votes, Rng], tuple[Array, Array]]
SIZES = {"12 people, 25 prompts, 40 votes each": (12, 25, 6, 40), "59 people, 80 prompts, 21 each": (59, 80, 6, 21)}
EQUAL: dict[str, Systems] = {
    "halves of everyone's votes": halves,
    "two orders for Elo": elo_orders,
    "two readers of texts": readers,
    "two readers, lucky trainings": lambda votes, rng: readers(votes, rng, lucky=0.4),
    "two who know the people": acquaintances,
}
UNEQUAL: dict[str, Systems] = {"B reads better": lambda votes, rng: readers(votes, rng, noise=(1.0, 0.6))}


def part(name: str, size: str, seed: list[int]) -> dict[str, float]:
    """How many of PART worlds name a winner, by the rule with and without the correction, and the mean difference."""
    rng, counts = np.random.default_rng(seed), {"corrected": 0, "uncorrected": 0}
    total = 0.0
    for _ in range(PART):
        votes = draw(*SIZES[size], rng)
        a, b = (EQUAL | UNEQUAL)[name](votes, rng)
        values = Values(b - a, votes.user, votes.prompt)
        plain = clustered(values)
        assert plain is not None
        total += plain.difference
        if winner(plain) != "none":  # the corrected rule names nobody else
            counts["uncorrected"] += 1
            counts["corrected"] += winner(clustered(values, folds=votes.fold)) != "none"
    return {**counts, "difference": total / PART}


def main() -> None:
    """Do what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=2000, help="of each kind")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path("results/verdict_people.json"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, dict[str, float]] = json.loads(args.out.read_text()) if args.out.exists() else {}
    for s, size in enumerate(SIZES):
        for k, name in enumerate(EQUAL | UNEQUAL):
            rows = []
            for i in range(args.worlds // PART):
                key = f"{size}/{name}/{args.seed}/{i}"
                if key not in done:
                    done[key] = part(name, size, [args.seed, s, k, i])
                    args.out.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
                rows.append(done[key])
            of = PART * len(rows)
            cells = {rule: shown(rate(int(sum(r[rule] for r in rows)), of)) for rule in ("corrected", "uncorrected")}
            mean = np.mean([r["difference"] for r in rows])
            print(f"{size}: {name:30s} {mean:+.3f} " + "  ".join(f"{k} {c}" for k, c in cells.items()), flush=True)


if __name__ == "__main__":
    main()
