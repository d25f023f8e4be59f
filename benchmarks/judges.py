"""Whether the suite tells what a judge reads, on simulated judges of known habits.

python benchmarks/judges.py --runs 500      # 25 prompts, six models, both orders

A judge's log-odds for the response shown first are its liking for the place, what it reads in the two texts, and noise
that is drawn anew for every judgement: place + content(first) − content(second) + noise.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from core.records import Judgement
from evidence.leaderboard import answer
from stages.judging import preferences_from
from stages.reads import what_is_read

import config  # isort: skip

MODELS = tuple("abcdef")
PLACE, NOISE = 0.9, 0.25  # log-odds: a 1.5B judge's on MT-bench's answers
# kind: (log-odds of e times the length, log-odds of one standard deviation of taste)
JUDGES = {
    "noise": (0.0, 0.0),
    "length alone": (0.4, 0.0),
    "length and a taste beside it": (0.4, 0.15),
    "a taste alone": (0.0, 0.15),
}


def judged(kind: str, seed: int, prompts: int, *, words: bool) -> tuple[list[Judgement], dict[tuple[str, str], int]]:
    """One judge's judgements and the lengths of the texts. ``words``: only the likelier label is told."""
    rng = np.random.default_rng(seed)
    by_length, by_taste = JUDGES[kind]
    habit, liked = rng.normal(0.0, 0.3, len(MODELS)), rng.normal(0.0, 0.7, len(MODELS))  # of the models
    judgements: list[Judgement] = []
    lengths: dict[tuple[str, str], int] = {}
    for number in range(prompts):
        prompt = f"p{number}"
        long = 6.0 + habit + rng.normal(0.0, 0.4, len(MODELS))  # ln of characters
        content = by_length * long + by_taste * (liked + rng.normal(0.0, 0.7, len(MODELS)))
        lengths |= {(prompt, model): round(float(np.exp(x))) for model, x in zip(MODELS, long, strict=True)}
        for i, j in permutations(range(len(MODELS)), 2):
            odds = float(PLACE + content[i] - content[j] + rng.normal(0.0, NOISE))
            shown = None if words else odds
            judgements.append(Judgement(prompt, MODELS[i], MODELS[j], float(odds > 0.0), log_odds=shown))
    return judgements, lengths


def leader(judgements: Sequence[Judgement]) -> str | None:
    """The model that the suite names as the best."""
    preferences = preferences_from(judgements)
    found = answer(preferences, (), dict.fromkeys(MODELS), config.EXPERIMENT_CONFIG.random_seed)
    best: str | None = found["answer"]["best"]
    return best


def main() -> None:
    """Print one row a kind of judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--prompts", type=int, nargs="+", default=[25])
    args = parser.parse_args()
    print("| judge | read by | prompts | place | length | answers | not said | a leader named |\n|" + "---|" * 8)
    for kind in JUDGES:
        for words in (False, True):
            for prompts in args.prompts:
                said, named = Counter[str | None](), 0
                for seed in range(args.runs):
                    judgements, lengths = judged(kind, seed, prompts, words=words)
                    said[what_is_read(judgements, lengths).reads] += 1
                    named += leader(judgements) is not None
                shares = [said[read] for read in ("place", "length", "answers", None)] + [named]
                cells = " | ".join(f"{100.0 * share / args.runs:.1f} %" for share in shares)
                print(f"| {kind} | {'words' if words else 'probabilities'} | {prompts} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
