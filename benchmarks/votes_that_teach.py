"""How many votes until the best model is named: top-two sampling against pairs at random, in planted worlds.

    python benchmarks/votes_that_teach.py                # 100 worlds a row, minutes; prints docs/people.md's table
    python benchmarks/votes_that_teach.py --worlds 20

A world: 25 prompts, six models with a style each, texts around their style, and a person whose liking is √ρ · (a
strength of each model) + √(1 − ρ) · (a direction of the texts) + 0.3 · chance, all in standard deviations, 1.5 logits
each. The best is the model of the highest mean liking over the prompts; whoever asks sees no text. As drawn, the first
two are often nearly the same, and nobody can name the best; so half of the rows are of worlds in which it is ahead by
at least LEAD. A vote is drawn from σ(difference); no pair comes twice.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more threads only spin on matrices this small

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import ExperimentConfig
from core.records import Preference, Response
from people.next_pair import SURE, TopTwo

MODELS, PROMPTS, WIDTH = "abcdef", 25, 16
SHARPNESS, HIDDEN = 1.5, 0.3
RIGHT = 0.9  # wanted share of worlds in which the best is named
SHOWN = (10, 20, 40, 80, 120)
LEAD = 0.75  # logits in which the best is at least ahead of the second, where a world has a clear best
FORECAST = 10  # votes after which it is looked at how many more are said to be needed
FIRST_SEED = 50_000  # the rule was chosen on worlds of other seeds


class World(NamedTuple):
    """A person and what they could be asked about."""

    liking: np.ndarray
    """[prompts, models] in logits."""
    responses: list[Response]


def plant(rho: float, lead: float, seed: int) -> World:
    """The world of this seed, its best model raised until it is ahead by ``lead`` logits."""
    rng = np.random.default_rng([seed, round(100 * rho)])
    shape = PROMPTS, len(MODELS)
    states = 0.7 * rng.standard_normal((len(MODELS), WIDTH)) + rng.standard_normal((*shape, WIDTH))
    direction = rng.standard_normal(WIDTH)
    text = states @ direction
    text -= text.mean(axis=1, keepdims=True)
    strength = rng.standard_normal(len(MODELS))
    strength -= strength.mean()
    liking = np.sqrt(rho) * strength / strength.std() + np.sqrt(1.0 - rho) * text / text.std()
    liking = SHARPNESS * (liking + HIDDEN * rng.standard_normal(shape))
    second, best = np.sort(liking.mean(axis=0))[-2:]
    liking[:, liking.mean(axis=0).argmax()] += max(0.0, lead - (best - second))
    responses = [Response(f"p{p}", model, "") for p in range(PROMPTS) for model in MODELS]
    return World(liking, responses)


class Step(NamedTuple):
    """What is said after a number of votes, and what is so."""

    named: bool
    """The first one is the best."""
    chance: float
    """Said of it."""
    more: int | None
    """Votes that are said to separate the first two."""


def asked(world: World, top_two: bool, votes: int, seed: int) -> Iterator[Step]:
    """A person votes."""
    models = TopTwo(world.responses, {}, ExperimentConfig(random_seed=seed))
    left = [(f"p{p}", a, b) for p in range(PROMPTS) for a, b in combinations(MODELS, 2)]
    rng, given = np.random.default_rng([seed, 1]), []
    best = MODELS[int(world.liking.mean(axis=0).argmax())]
    for _ in range(votes):
        pairs = [frozenset((a, b)) for _, a, b in left]
        prompt, a, b = left.pop(models.next_pair(pairs) if top_two else int(rng.integers(len(left))))
        row = world.liking[int(prompt[1:])]
        chance = 1.0 / (1.0 + np.exp(row[MODELS.index(b)] - row[MODELS.index(a)]))
        given.append(Preference(prompt, a, b, float(rng.random() < chance)))
        models.learn(given)
        now = models.standing()
        first, said = next(iter(now.chances.items()))
        yield Step(first == best, said, now.more_votes)


def needed(named: np.ndarray) -> int | None:
    """Votes from which on the best is named in RIGHT of the worlds [worlds, votes] for good; None: not by the last."""
    short = np.flatnonzero(named.mean(axis=0) < RIGHT)
    after = int(short[-1]) + 2 if len(short) else 1
    return after if after <= named.shape[1] else None


def interval(named: np.ndarray) -> str:
    """95 % of ``needed``, worlds drawn anew."""
    rng = np.random.default_rng(0)
    drawn = [needed(named[rng.integers(len(named), size=len(named))]) or np.inf for _ in range(2000)]
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return ", ".join(f"{end:.0f}" if np.isfinite(end) else f"more than {named.shape[1]}" for end in (low, high))


def forecasts(runs: list[list[Step]]) -> str:
    """How well "about so many more" holds: what was said after FORECAST votes against what it took."""
    ratios = []
    for run in runs:
        said = run[FORECAST - 1].more
        took = next((n for n, step in enumerate(run[FORECAST:], start=1) if step.more == 0), None)
        if said and FORECAST + said <= len(run) // 2:  # else the end of the run would cut long ones off
            ratios.append((FORECAST + took) / (FORECAST + said) if took else np.inf)
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9], method="nearest") if ratios else [np.nan] * 3
    return f"{middle:.1f} [{low:.1f}, {high:.1f}] in {len(ratios)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--votes", type=int, default=max(SHOWN))
    args = parser.parse_args()
    shown = [n for n in SHOWN if n <= args.votes]
    print(
        "| world | pairs | best named after "
        + " / ".join(map(str, shown))
        + f" | votes for {RIGHT:.0%} | sure | took / said |"
    )
    print("|---|---|---|---|---|---|")
    for rho, lead in product((1.0, 0.5), (0.0, LEAD)):
        for top_two in (False, True):
            seeds = range(FIRST_SEED, FIRST_SEED + args.worlds)
            runs = [list(asked(plant(rho, lead, seed), top_two, args.votes, seed)) for seed in seeds]
            named = np.array([[step.named for step in run] for run in runs])
            sure = np.array([[step.chance >= SURE for step in run] for run in runs])
            stopped = [row[int(s.argmax())] for row, s in zip(named, sure, strict=True) if s.any()]
            shares = " / ".join(f"{100 * named[:, n - 1].mean():.0f}" for n in shown)
            votes = needed(named) or f"more than {args.votes}"
            said = f"{len(stopped)}, right in {sum(stopped)}"
            kind = ("models only" if rho == 1.0 else "models and texts") + (", a clear best" if lead else "")
            votes = f"{votes} [{interval(named)}]"
            rule = "top-two" if top_two else "random"
            print(f"| {kind} | {rule} | {shares} | {votes} | {said} | {forecasts(runs)} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
