"""Which head: pooling, hidden width, components, scale, reach, decay, λ, epochs. Prints a Markdown table.

    python benchmarks/head_choice.py                # 10 worlds a cell, a quarter of an hour

Kendall's τ on prompts that no training saw, in planted worlds like those of combined_worlds.py but of other draws: what
is chosen here is never chosen on the recorded personas, nor on human votes, which are reported elsewhere.
"""

from __future__ import annotations

from typing import Any

from combined_worlds import Kind, World, flags, mean_tau, plant, recorded

import config
from config import ExperimentConfig
from core.ranking import TrainingSet
from reward_model import RewardModel

FIRST_SEED = 5000  # of worlds: other ones than those that are reported
COUNTS = (100, 300)
KINDS = {
    "texts only": Kind(0.0),
    "half hidden": Kind(0.3, hidden=0.5),
    "loud base": Kind(0.0, base_tau=0.27),
    "good base": Kind(0.0, base_tau=0.54),
}
VARIANTS: tuple[dict[str, object], ...] = (
    {},
    {"base_reach": 0.0},
    {"base_reach": 13.0},
    {"base_reach": 120.0},
    {"pooling": "mean"},
    {"pooling": "last"},
    {"hidden_width": 0},
    {"hidden_width": 32},
    {"components": 32},
    {"components": 64},
    {"input_scale": 1.5},
    {"input_scale": 6.0},
    {"weight_decay": 10.0},
    {"lambda_reg": 0.0},
    {"lambda_reg": 1.0},
    {"max_epochs": 20},
)


def taus(world: World, changes: dict[str, Any]) -> list[float]:
    """Mean τ on the world's test prompts after each of ``COUNTS`` preferences."""
    params = ExperimentConfig(**changes)
    sets = [TrainingSet.of(world.preferences[:n], world.train) for n in COUNTS]
    fitted = RewardModel(world.features, world.ratings, params).fit_many(sets)
    return [mean_tau(model, world) for model in fitted]


def main() -> None:
    """Measure every variant in every world."""
    args = flags(__doc__, worlds=10).parse_args()
    runs = [recorded(persona, args.cache_dir) for persona in config.PERSONAS]
    worlds = {name: [plant(kind, FIRST_SEED + i, runs) for i in range(args.worlds)] for name, kind in KINDS.items()}
    print("| changed |", " | ".join(f"{name}, {n}" for name in worlds for n in COUNTS), "| mean |")
    print("|---" * (len(KINDS) * len(COUNTS) + 2) + "|")
    for changes in VARIANTS:
        means = []
        for group in worlds.values():
            found = [taus(world, changes) for world in group]
            means += [sum(column) / len(found) for column in zip(*found, strict=True)]
        changed = ", ".join(f"{name} {value}" for name, value in changes.items()) or "nothing"
        print(f"| {changed} |", " | ".join(f"{m:.3f}" for m in means), f"| {sum(means) / len(means):.3f} |", flush=True)


if __name__ == "__main__":
    main()
