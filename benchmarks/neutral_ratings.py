"""Is "everyone else" neutral? How a global rating estimated from readers agrees with a truth that it must not know.

    python benchmarks/neutral_ratings.py [--worlds 2000]

Nobody likes or dislikes what others do: every reader draws each log-likelihood apart, with a part that all
share (some texts are likelier to everybody). The truth is the persona less the mean of the reference readers R, as the
embedded judge has it. The mean Kendall's τ between it and a rating must be 0 within ±0.02.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

Array = NDArray[np.float64]
PROMPTS, MODELS, READERS = 25, 6, 6


def world(rng: np.random.Generator) -> dict[str, float]:
    """Mean τ over prompts between the truth and each rating of one world."""
    shared = rng.normal(0.0, 1.0, (PROMPTS, MODELS))

    def reader() -> Array:
        style = rng.normal(0.0, 0.7, MODELS)  # what this reader thinks of each model …
        return np.asarray(shared + style + rng.normal(0.0, 0.5, (PROMPTS, MODELS)))  # … and of each text

    persona, neutral = reader(), reader()
    reference = [reader() for _ in range(READERS)]
    others = [reader() for _ in range(READERS)]
    personas = [reader() for _ in range(4)]
    truth = persona - np.mean(reference, axis=0)
    ratings = {
        "R over the neutral assistant": np.mean(reference, axis=0) - neutral,
        "other readers over the neutral assistant": np.mean(others, axis=0) - neutral,
        "other personas over R": np.mean(personas, axis=0) - np.mean(reference, axis=0),
    }
    return {name: mean_tau(truth, rating.mean(axis=0)) for name, rating in ratings.items()}


def mean_tau(truth: Array, rating: Array) -> float:
    """τ of one rating for all prompts against each prompt's truth, mean over prompts."""
    return float(np.mean([kendalltau(row, rating).statistic for row in truth]))


def main() -> None:
    """Print the mean τ of each rating with its standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=2000)
    rng = np.random.default_rng(0)
    worlds = [world(rng) for _ in range(parser.parse_args().worlds)]
    for name in worlds[0]:
        values = np.array([found[name] for found in worlds])
        print(f"{name:<42} τ {values.mean():+.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}")


if __name__ == "__main__":
    main()
