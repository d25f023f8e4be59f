"""How much more than a good base the votes of a planted world hold: System C with the best of all fixed spreads.

    python benchmarks/combined_ceiling.py           # the 20 worlds of combined_worlds.py, a minute

The spreads are chosen on the very prompts that are tested, the same for all worlds of a row: about the most that a way
to estimate them from votes could find. What is reported elsewhere estimates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from combined_worlds import KINDS, World, flags, mean_tau, plant, recorded

import config
from combined import Combined, Spreads
from config import ExperimentConfig
from core.ranking import TrainingSet
from evidence.baselines import base_reward
from evidence.intervals import Difference, difference

GRID = tuple(product((0.0, 0.5, 1.0, 2.0), (0.0, 0.3, 1.0), (0.5, 1.5, 4.0), (0.15, 0.3, 0.5, 0.8, 1.2, 2.0, 4.0)))


def gains(worlds: Sequence[World]) -> tuple[Difference, Difference, Spreads]:
    """What System C adds to the base alone: with estimated spreads, with the best fixed ones, and those."""
    base = [mean_tau(base_reward(world.features), world) for world in worlds]
    systems = [Combined(world.features, world.ratings, ExperimentConfig()) for world in worlds]
    sets = [[TrainingSet.of(world.preferences, world.train)] for world in worlds]

    def gain(spreads: Spreads | None) -> Difference:
        fits = [system.fit_many(own, None, spreads)[0] for system, own in zip(systems, sets, strict=True)]
        found = difference([mean_tau(fit, world) for fit, world in zip(fits, worlds, strict=True)], base)
        assert found is not None, "several worlds"
        return found

    fixed = {spreads: gain(spreads) for spreads in (Spreads(*row) for row in GRID)}
    best = max(fixed, key=lambda spreads: fixed[spreads].difference)
    return gain(None), fixed[best], best


def main() -> None:
    """A line for each kind of world with a base."""
    args = flags(__doc__, worlds=20).parse_args()
    runs = [recorded(persona, args.cache_dir) for persona in config.PERSONAS]
    for name, kind in KINDS.items():
        if kind.base_tau:
            estimated, best, spreads = gains([plant(kind, seed, runs) for seed in range(args.worlds)])
            said = [f"{d.difference:+.3f} [{d.ci95[0]:+.3f}, {d.ci95[1]:+.3f}]" for d in (estimated, best)]
            print(f"{name}: C − base {said[0]} with estimated spreads, {said[1]} with {spreads}")


if __name__ == "__main__":
    main()
