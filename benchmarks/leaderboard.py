"""Do the leaderboard's ranges of places hold, and are the traits that it names real? Planted worlds, known truth.

    python benchmarks/leaderboard.py [--worlds 2000] [--out results/leaderboard.json]
    python benchmarks/leaderboard.py --only traits --worlds 500

Every finished row is written at once; the same command goes on after the last one. Shares have their 95 %
Clopper–Pearson interval. "Hold": every model's range has a place of its group of equals in it. "Alone": one model is
named as the only best one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trait_worlds import TEXTS
from verdict_worlds import Rng, rate, shown

from core.records import Prompt
from evidence.leaderboard import Array, paired_p_values, surely_better
from people import standings as people
from people.ballots import Ballots

Ranges = tuple[np.ndarray, np.ndarray]
"""([models] first, [models] last possible place)."""


def outcomes(rng: Rng, prompts: int, strength: Array, spread: float = 1.0, kind: str = "asked") -> Array:
    """[prompts, models] mean outcomes where each response's quality is its model's strength + noise of ``spread``.

    ``kind``: "asked" twice a pair (both orders), or "graded" outcomes.
    """
    models = len(strength)
    quality = strength + spread * rng.standard_normal((prompts, models))
    chance = 1.0 / (1.0 + np.exp(quality[:, None, :] - quality[:, :, None]))  # [prompts, a, b] that a wins
    if kind == "graded":
        outcome = chance
    else:
        draws = rng.random((2, prompts, models, models)) < chance
        outcome = draws.mean(axis=0)
    a, b = np.triu_indices(models, 1)
    whole = np.zeros_like(chance)
    whole[:, a, b] = outcome[:, a, b]
    whole[:, b, a] = 1.0 - outcome[:, a, b]
    return np.asarray(whole.sum(axis=2) / (models - 1))


@dataclass(frozen=True)
class World:
    """Equal or unequal models, and how they are judged."""

    strength: tuple[float, ...]
    spread: float = 1.0
    kind: str = "asked"

    def ranges(self, rng: Rng, prompts: int) -> Ranges:
        """The ranges of places."""
        x = outcomes(rng, prompts, np.array(self.strength), self.spread, self.kind)
        better = surely_better(x.mean(axis=0), paired_p_values(x))
        return 1 + better.sum(axis=0), len(better) - better.sum(axis=1)


EQUAL = {
    "6 equal models": World((0.0,) * 6),
    "3 equal models": World((0.0,) * 3),
    "2 equal models, prompts decide": World((0.0,) * 2, 6.0),
    "6 equal models, prompts decide": World((0.0,) * 6, 6.0),
    "6 equal models, graded": World((0.0,) * 6, 1.0, "graded"),
    "12 equal models": World((0.0,) * 12),
}
PLANTED = {
    "three better, three worse": World((1.0, 1.0, 1.0, 0.0, 0.0, 0.0)),
    "a ladder of six": World((1.5, 1.2, 0.9, 0.6, 0.3, 0.0)),
    "one far ahead": World((3.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "two far ahead, graded": World((2.0, 2.0, 0.0, 0.0, 0.0, 0.0), 1.0, "graded"),
}


def holds(ranges: Ranges, strength: Array) -> bool:
    """Whether every model's range has a place in it that is truly its own."""
    first = 1 + (strength[:, None] < strength).sum(axis=1)
    last = len(strength) - (strength[:, None] > strength).sum(axis=1)
    return bool(((ranges[0] <= last) & (ranges[1] >= first)).all())


def counted(draw: Callable[[Rng], Ranges], strength: Array, worlds: int, rng: Rng) -> dict[str, Any]:
    """Shares of worlds in which the ranges hold, one model stands alone, and it is the one that is truly best."""
    best = np.flatnonzero(strength == strength.max())
    held = alone = right = 0
    for _ in range(worlds):
        ranges = draw(rng)
        first = np.flatnonzero(ranges[0] == 1)
        held += holds(ranges, strength)
        alone += len(first) == 1
        right += len(first) == 1 and first.tolist() == best.tolist()
    return {"holds": rate(held, worlds), "alone": rate(alone, worlds), "rightly alone": rate(right, worlds)}


# ── Votes of people ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Voters:
    """People who each vote on one drawn pair of each of some drawn prompts."""

    people: int
    prompts: int
    votes_each: int
    strength: tuple[float, ...]
    own: float = 0.0
    """Spread of a person's own taste for each model."""

    def ballots(self, rng: Rng) -> Ballots:
        """Everyone's votes, each on another prompt."""
        models = len(self.strength)
        quality = np.array(self.strength) + rng.standard_normal((self.prompts, models))
        taste = self.own * rng.standard_normal((self.people, models))
        user = np.repeat(np.arange(self.people), self.votes_each)
        each = [rng.permutation(self.prompts)[: self.votes_each] for _ in range(self.people)]
        prompt = np.concatenate(each)
        a = rng.integers(models, size=len(user))
        b = (a + 1 + rng.integers(models - 1, size=len(user))) % models
        score = quality[prompt] + taste[user]
        row = np.arange(len(user))
        outcome = (rng.random(len(user)) < 1.0 / (1.0 + np.exp(score[row, b] - score[row, a]))).astype(float)
        prompts = tuple(Prompt(f"p{i}", "") for i in range(self.prompts))
        empty = np.zeros(0, dtype=np.intp)
        return Ballots(
            (), tuple(f"u{i}" for i in range(self.people)), prompts, tuple(f"m{i}" for i in range(models)),
            user, prompt, a, b, outcome, empty, empty, empty, np.zeros((self.prompts, models), dtype=np.intp),
        )  # fmt: skip

    def ranges(self, rng: Rng) -> Ranges:
        """The ranges of places, in the models' own order."""
        found = people.standings(self.ballots(rng), int(rng.integers(2**31)))
        rows = sorted(found.rows, key=lambda row: row.model)
        return np.array([row.low for row in rows]), np.array([row.high for row in rows])


VOTERS = {
    "1 person, 20 votes, 6 equal models": Voters(1, 20, 20, (0.0,) * 6),
    "1 person, 100 votes, 6 equal models": Voters(1, 100, 100, (0.0,) * 6),
    "1 person, 20 votes, 2 equal models": Voters(1, 20, 20, (0.0,) * 2),
    "20 people × 20 of 40 prompts, 6 equal models": Voters(20, 40, 20, (0.0,) * 6, 0.5),
    "60 people × 30 of 80 prompts, 6 equal models": Voters(60, 80, 30, (0.0,) * 6, 0.5),
    "1 person, 100 votes, a ladder of six": Voters(1, 100, 100, (1.5, 1.2, 0.9, 0.6, 0.3, 0.0)),
    "60 people × 30 of 80 prompts, a ladder of six": Voters(60, 80, 30, (1.5, 1.2, 0.9, 0.6, 0.3, 0.0), 0.5),
}


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────


def questions(worlds: int, only: str) -> Iterator[tuple[str, Callable[[Rng], dict[str, Any]]]]:
    """Every row's name and what measures it."""
    if only in ("all", "places"):
        for (name, world), prompts in product((EQUAL | PLANTED).items(), (5, 25, 100)):
            draw = partial(world.ranges, prompts=prompts)
            yield f"{name}, {prompts} prompts", partial(counted, draw, np.array(world.strength), worlds)
    if only in ("all", "votes"):
        for name, voters in VOTERS.items():
            yield name, partial(counted, voters.ranges, np.array(voters.strength), worlds)
    if only in ("all", "traits"):
        for name, texts in TEXTS.items():
            yield name, partial(texts.named, worlds)


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=2000)
    parser.add_argument("--only", choices=["all", "places", "votes", "traits"], default="all")
    parser.add_argument("--match", default="", help="only rows whose name begins so")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path("results/leaderboard.json"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    for name, measure in questions(args.worlds, args.only):
        if not name.startswith(args.match):
            continue
        key = f"{name} × {args.worlds}"
        if key not in rows:
            rows[key] = measure(np.random.default_rng([args.seed, crc32(name.encode())]))
            args.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{name:52s} " + "  ".join(f"{what} {shown(cell)}" for what, cell in rows[key].items()), flush=True)


if __name__ == "__main__":
    main()
