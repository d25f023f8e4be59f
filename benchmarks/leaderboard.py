"""Do the leaderboard's ranges of places hold, and are the likes that it names real? Planted worlds of known truth.

    python benchmarks/leaderboard.py [--worlds 2000] [--only places|votes|likes] [--match NAME]

Shares have their 95 % Clopper–Pearson interval. "Hold": every model's range has a place of its group of equals in it.
"Alone": one model is named as the only best one. Each row is printed when it is done.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from verdict import Rng, rate, shown

from core.records import Preference
from evaluation import Array
from evidence.leaderboard import standings
from evidence.likes import TRAITS, sure

LADDER = (1.5, 1.2, 0.9, 0.6, 0.3, 0.0)
SAMPLES = Path(__file__).resolve().parent.parent / "samples"
NAMES = [trait.name for trait in TRAITS]


class World(NamedTuple):
    """A persona whose responses' qualities are their model's strength + noise of ``spread``, in log-odds."""

    strength: tuple[float, ...]
    spread: float = 1.0
    graded: bool = False
    """Outcomes in degrees; else each pair is judged twice."""

    def preferences(self, prompts: int, rng: Rng) -> list[Preference]:
        found, quality = [], self.strength + self.spread * rng.standard_normal((prompts, len(self.strength)))
        for i, row in enumerate(quality.tolist()):
            for a, b in combinations(range(len(row)), 2):
                chance = 1.0 / (1.0 + np.exp(row[b] - row[a]))
                outcome = chance if self.graded else float((rng.random(2) < chance).mean())
                found.append(Preference(f"p{i}", str(a), str(b), outcome))
        return found


class Voters(NamedTuple):
    """People who each vote on one drawn pair of each of some drawn prompts."""

    people: int
    prompts: int
    votes_each: int
    strength: tuple[float, ...]
    own: float = 0.0
    """Spread of a person's own taste for each model."""

    def preferences(self, rng: Rng) -> list[Preference]:
        models, found = len(self.strength), []
        quality = self.strength + rng.standard_normal((self.prompts, models))
        taste = self.own * rng.standard_normal((self.people, models))
        for user in range(self.people):
            for prompt in rng.permutation(self.prompts)[: self.votes_each].tolist():
                a, b = rng.choice(models, 2, replace=False).tolist()
                score = quality[prompt] + taste[user]
                outcome = float(rng.random() < 1.0 / (1.0 + np.exp(score[b] - score[a])))
                found.append(Preference(f"p{prompt}", str(a), str(b), outcome, f"u{user}"))
        return found


PLACES = {
    "6 equal models": World((0.0,) * 6),
    "3 equal models": World((0.0,) * 3),
    "2 equal models, prompts decide": World((0.0,) * 2, 6.0),
    "6 equal models, prompts decide": World((0.0,) * 6, 6.0),
    "6 equal models, graded": World((0.0,) * 6, graded=True),
    "12 equal models": World((0.0,) * 12),
    "three better, three worse": World((1.0, 1.0, 1.0, 0.0, 0.0, 0.0)),
    "a ladder of six": World(LADDER),
    "one far ahead": World((3.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "two far ahead, graded": World((2.0, 2.0, 0.0, 0.0, 0.0, 0.0), graded=True),
}
VOTES = {
    "1 person, 20 votes, 6 equal models": Voters(1, 20, 20, (0.0,) * 6),
    "1 person, 100 votes, 6 equal models": Voters(1, 100, 100, (0.0,) * 6),
    "1 person, 20 votes, 2 equal models": Voters(1, 20, 20, (0.0,) * 2),
    "20 people × 20 of 40 prompts, 6 equal models": Voters(20, 40, 20, (0.0,) * 6, 0.5),
    "60 people × 30 of 80 prompts, 6 equal models": Voters(60, 80, 30, (0.0,) * 6, 0.5),
    "1 person, 100 votes, a ladder of six": Voters(1, 100, 100, LADDER),
    "60 people × 30 of 80 prompts, a ladder of six": Voters(60, 80, 30, LADDER, 0.5),
}


def places(
    draw: Callable[[Rng], list[Preference]], strength: tuple[float, ...], worlds: int, rng: Rng
) -> dict[str, Any]:
    """Shares of worlds in which the ranges hold, one model stands alone, and it is the one that is truly best."""
    models = [str(i) for i in range(len(strength))]
    truly = {
        m: (1 + sum(x > s for x in strength), sum(x >= s for x in strength))
        for m, s in zip(models, strength, strict=True)
    }
    best = [m for m in models if truly[m][0] == 1]
    held = alone = right = 0
    for _ in range(worlds):
        found = standings(draw(rng), models, int(rng.integers(2**31))).rows
        first = [row["model"] for row in found if row["places"]["lo"] == 1]
        ranges = {row["model"]: row["places"] for row in found}
        held += all(
            ranges[m]["lo"] <= last and ranges[m]["hi"] >= best_place for m, (best_place, last) in truly.items()
        )
        alone += len(first) == 1
        right += first == best and len(first) == 1
    return {"holds": rate(held, worlds), "alone": rate(alone, worlds), "rightly alone": rate(right, worlds)}


# ── Likes ────────────────────────────────────────────────────────────────────────────────────────────────


def recorded() -> Array:
    """[prompts, models, traits] of every recorded response, all personas."""
    rows: dict[str, list[list[float]]] = {}
    for path in sorted(SAMPLES.glob("model_responses_*.json")):
        items = json.loads(path.read_text(encoding="utf-8"))["items"]
        for item in items.values() if isinstance(items, dict) else items:
            value = item["value"]
            rows.setdefault(value["prompt_id"], []).append([trait.measure(value["text"]) for trait in TRAITS])
    return np.array(list(rows.values()))


class Texts(NamedTuple):
    """Preferences on drawn recorded prompts: Σ weight · trait + a response's and a model's own quality, in log-odds."""

    prompts: int
    weights: tuple[tuple[str, float], ...] = ()
    """(trait, log-odds for a difference of 1); none: the texts of a prompt are dealt anew among its models."""
    spread: float = 1.0
    by_model: float = 0.0
    graded: bool = False

    def named(self, worlds: int, rng: Rng) -> dict[str, Any]:
        """Shares of worlds in which each planted trait is named, and in which one is that was not planted."""
        texts, planted = recorded(), dict(self.weights)
        names = [self._drawn(texts, rng) for _ in range(worlds)]
        wrong = sum(bool(found - planted.keys()) for found in names)
        hits = {name: rate(sum(name in found for found in names), worlds) for name in planted}
        return hits | {"wrongly named": rate(wrong, worlds)}

    def _drawn(self, texts: Array, rng: Rng) -> set[str]:
        x = texts[rng.permutation(len(texts))[: self.prompts]]
        models = x.shape[1]
        quality = self.spread * rng.standard_normal(x.shape[:2]) + self.by_model * rng.standard_normal(models)
        for name, weight in self.weights:
            quality = quality + weight * x[:, :, NAMES.index(name)]
        if not self.weights:
            x = np.stack([row[rng.permutation(models)] for row in x])
        a, b = np.triu_indices(models, 1)
        chance = 1.0 / (1.0 + np.exp(quality[:, b] - quality[:, a]))
        outcome = chance if self.graded else (rng.random((2, *chance.shape)) < chance).mean(axis=0)
        differences = (x[:, a] - x[:, b]).reshape(-1, x.shape[2])
        return {
            liking["trait"]
            for liking in sure(differences, outcome.ravel(), [np.repeat(np.arange(self.prompts), len(a))])
        }


SHORT_CODE = (("length", -1.0), ("code", 1.5))
LIKES = {
    **{f"shuffled texts, {n} prompts": Texts(n) for n in (5, 12, 25, 100)},
    "shuffled texts, 12 prompts, models differ": Texts(12, (), 3.0, 1.0),
    "shuffled texts, 25 prompts, graded": Texts(25, (), 1.0, 1.0, graded=True),
    "planted: shorter, code; 25 prompts": Texts(25, SHORT_CODE),
    "planted: shorter, code; 100 prompts": Texts(100, SHORT_CODE),
}


def questions(worlds: int, only: str) -> Iterator[tuple[str, Callable[[Rng], dict[str, Any]]]]:
    """Every row's name and what measures it."""
    if only in ("all", "places"):
        for name, world in PLACES.items():
            for n in (5, 25, 100):
                yield f"{name}, {n} prompts", partial(places, partial(world.preferences, n), world.strength, worlds)
    if only in ("all", "votes"):
        for name, voters in VOTES.items():
            yield name, partial(places, voters.preferences, voters.strength, worlds)
    if only in ("all", "likes"):
        for name, texts in LIKES.items():
            yield name, partial(texts.named, worlds)


def main() -> None:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=2000)
    parser.add_argument("--only", choices=["all", "places", "votes", "likes"], default="all")
    parser.add_argument("--match", default="", help="only rows whose name begins so")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    for name, measure in questions(args.worlds, args.only):
        if name.startswith(args.match):
            found = measure(np.random.default_rng([args.seed, crc32(name.encode())]))
            print(f"{name:52s} {shown(found)}", flush=True)


if __name__ == "__main__":
    main()
