"""How much more than a good base the votes of a planted world hold: System C with the best of all fixed spreads.

    python benchmarks/combined_ceiling.py           # the 20 worlds of combined_worlds.py, half a minute

The spreads are chosen on the very prompts that are tested, the same for all worlds of a row: about the most that a way
to estimate them from votes could find. What is reported elsewhere estimates them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

from combined_worlds import KINDS, World, plant, recorded

import config
import evaluation
from combined import Combined, Spreads
from config import ExperimentConfig
from core.ranking import Ranker, TrainingSet
from evidence.baselines import BaseReward
from evidence.intervals import Difference, paired_difference

GRID = tuple(product((0.0, 0.5), (0.0, 0.3, 1.0), (0.5, 1.5, 4.0), (0.15, 0.3, 0.5, 0.8, 1.2, 2.0, 4.0)))


def taus(systems: Iterable[Ranker], worlds: Sequence[World]) -> list[float]:
    """Mean Kendall's τ of each world's system on its test prompts."""
    pairs = zip(systems, worlds, strict=True)
    return [evaluation.evaluate(system, world.truths).mean.kendall_tau or 0.0 for system, world in pairs]


def gains(worlds: Sequence[World]) -> tuple[Difference, Difference, Spreads]:
    """What System C adds to the base alone: with estimated spreads, with the best fixed ones, and those."""
    scores = [{key: float(w.features.base_score[row]) for key, row in w.features.index.items()} for w in worlds]
    base = taus(map(BaseReward, scores), worlds)
    systems = [Combined(w.features, w.ratings, ExperimentConfig()) for w in worlds]
    sets = [[TrainingSet.of(w.preferences, w.train)] for w in worlds]
    found = {}
    for spreads in (None, *(Spreads(*row) for row in GRID)):
        fits = (c.fit_many(s, None, spreads)[0] for c, s in zip(systems, sets, strict=True))
        found[spreads] = paired_difference(taus(fits, worlds), base, 0)
    known = {spreads: gain for spreads, gain in found.items() if gain is not None}
    estimated = known.pop(None)
    best = max(known, key=lambda spreads: known[spreads].difference)
    assert best is not None
    return estimated, known[best], best


def main() -> None:
    """A line for each kind of world with a base."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--cache_dir", type=Path, default=config.ROOT / "cache")
    args = parser.parse_args()
    runs = [recorded(persona, args.cache_dir) for persona in config.PERSONAS]
    for name, kind in KINDS.items():
        if kind.base_tau:
            estimated, best, spreads = gains([plant(kind, seed, runs) for seed in range(args.worlds)])
            said = [f"{d.difference:+.3f} [{d.ci95[0]:+.3f}, {d.ci95[1]:+.3f}]" for d in (estimated, best)]
            print(f"{name}: C − base {said[0]} with estimated spreads, {said[1]} with {spreads}")


if __name__ == "__main__":
    main()
