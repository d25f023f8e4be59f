"""Does the suite claim no more than is so? Simulated experiments of known truth, without training.

    python benchmarks/calibration.py [--worlds 1000] [--only winner people h1 h2 places]

Every figure is the share of experiments in % with its 95 % Clopper–Pearson interval. Wanted: a winner in at most 5 %
where both systems are equal, and ranges of places that hold in 95 %. docs/method.md has the tables, and those of more
worlds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from zlib import crc32

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.records import GroundTruth, Preference
from evaluation import Array
from evidence.hypotheses import generalization, pair_accuracy, verdict
from evidence.intervals import Groups, difference, winner
from evidence.leaderboard import standings

MODELS, FOLDS = 6, 5
Rng = np.random.Generator
Found = list[str]
"""What was said in each experiment."""


def fold_of(prompts: int) -> np.ndarray:
    return np.arange(prompts) % FOLDS


def sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


# ── Two systems on a persona's prompts ───────────────────────────────────────────────────────────────────

Taus = tuple[Array, Array]
"""τ of System A and of System B, [experiments, prompts]"""


def kendall_tau(x: Array, y: Array) -> Array:
    """τ of scores without ties, [..., m] → [...]: millions of prompts at once, where SciPy takes one a call."""
    i, j = np.triu_indices(x.shape[-1], 1)
    return np.asarray(np.mean(np.sign(x[..., i] - x[..., j]) * np.sign(y[..., i] - y[..., j]), axis=-1))


def read_at(tau: float, truth: Array, rng: Rng) -> Array:
    """Scores whose expected τ with the truth is ``tau``: correlation sin(π τ / 2) (Greiner's relation)."""
    r = np.sin(np.pi * tau / 2.0)
    return np.asarray(r * truth + np.sqrt(1.0 - r * r) * rng.standard_normal(truth.shape))


def trained_means(labels: Array) -> Array:
    """The simplest learner: a prompt's prediction is the mean of ``labels`` [s, n, m] of the other folds' prompts."""
    fold, predicted = fold_of(labels.shape[1]), np.empty_like(labels)
    for f in range(FOLDS):
        predicted[:, fold == f] = labels[:, fold != f].mean(1, keepdims=True)
    return predicted


def tastes(s: int, n: int, rng: Rng, common: float = 0.3) -> Array:
    """[s, n, models] true scores of which the share ``common`` holds for all prompts."""
    held = rng.standard_normal((s, 1, MODELS))
    return np.asarray(np.sqrt(common) * held + np.sqrt(1.0 - common) * rng.standard_normal((s, n, MODELS)))


def independent(s: int, n: int, rng: Rng, advantage: float = 0.0, luck: float = 0.0) -> Taus:
    """A has τ 0.4, B more by ``advantage``; ``luck``: share of the differences' variance that a fold has in common."""
    truth = rng.standard_normal((s, n, MODELS))
    a, b = (kendall_tau(read_at(tau, truth, rng), truth) for tau in (0.4, 0.4 + advantage))
    spread = float((b - a).std()) * np.sqrt(luck / (1.0 - luck))
    return a, b + (spread * rng.standard_normal((s, FOLDS)))[:, fold_of(n)]


def nothing_to_learn(s: int, n: int, rng: Rng) -> Taus:
    """Tastes that hold nothing from prompt to prompt: A learns the mean, B weighs prompts by how alike they are."""
    truth, text, fold = rng.standard_normal((s, n, MODELS)), rng.standard_normal((s, n, 8)), fold_of(n)
    read = ((text @ text.transpose(0, 2, 1)) * (fold[:, None] != fold)) @ truth
    return kendall_tau(trained_means(truth), truth), kendall_tau(read, truth)


def equal_learners(s: int, n: int, rng: Rng) -> Taus:
    """A common taste that both learn equally well, each with its own error on each prompt's labels."""
    truth = tastes(s, n, rng)
    a, b = (kendall_tau(trained_means(truth + 0.5 * rng.standard_normal(truth.shape)), truth) for _ in "ab")
    return a, b


def tastes_for_models(s: int, n: int, rng: Rng) -> Taus:
    """Nearly one order of the contestants for all prompts: A learns it, B only half sees it in the texts."""
    truth = tastes(s, n, rng, 0.8)
    return kendall_tau(trained_means(truth), truth), kendall_tau(read_at(0.3, truth, rng), truth)


def winners(draw: Callable[[int, int, Rng], Taus], prompts: int, worlds: int, rng: Rng) -> Found:
    groups = Groups(fold_of(prompts).tolist())
    return [winner(difference(b, a, groups)) for a, b in zip(*draw(worlds, prompts, rng), strict=True)]


# ── Two systems on people's votes ────────────────────────────────────────────────────────────────────────


def winners_on_votes(people: int, prompts: int, each: int, luck: float, error: float, worlds: int, rng: Rng) -> Found:
    """Systems that read every text with an error of their own which all voters on it share: of a size that differs from
    fold to fold by ``luck``, in B ``error`` times as large."""
    n, named = people * each, Found()
    for _ in range(worlds):
        utility = rng.standard_normal(MODELS) + 0.7 * rng.standard_normal((prompts, MODELS))
        own = 0.5 * rng.standard_normal((people, MODELS))
        user, prompt, a = np.repeat(np.arange(people), each), rng.integers(prompts, size=n), rng.integers(6, size=n)
        b = (a + rng.integers(1, MODELS, size=n)) % MODELS
        gap = utility[prompt, a] + own[user, a] - utility[prompt, b] - own[user, b]
        won = np.where(rng.random(n) < sigmoid(2.0 * gap), 1.0, -1.0)
        fold, hits = rng.permutation(fold_of(prompts)), []
        for size in (1.0, error):
            sizes = size * np.exp(luck * rng.standard_normal(FOLDS))[fold][:, None]
            score = utility + sizes * rng.standard_normal(utility.shape)
            hits.append(0.5 + 0.5 * np.sign((score[prompt, a] - score[prompt, b]) * won))
        groups = Groups(fold[prompt].tolist(), (user.tolist(),))
        named.append(winner(difference(hits[1], hits[0], groups, reach=1.0)))
    return named


# ── The hypotheses ───────────────────────────────────────────────────────────────────────────────────────


def sample_efficiency(errors: tuple[float, float], worlds: int, rng: Rng) -> Found:
    """H1: areas under the curves of two learners of one taste, who err by so many tastes; labels err less and less."""
    truth = tastes(worlds, 25, rng)
    own = [error * rng.standard_normal(truth.shape) for error in errors]
    areas = np.zeros((2, worlds, 25))
    for seen in (0.2, 0.4, 0.6, 0.8, 1.0):
        labels = truth + np.sqrt(1.0 / seen - 1.0) * rng.standard_normal(truth.shape)
        areas += [kendall_tau(trained_means(labels + error), truth) / 5.0 for error in own]
    groups = Groups(fold_of(25).tolist())
    return [verdict(difference(b, a, groups)) for a, b in zip(*areas, strict=True)]


def unseen_models(kind: str, worlds: int, rng: Rng) -> Found:
    """H2: B has another rating of the unseen model, of equal quality; or reads nothing and puts it in the middle, where
    A's ratings are upside down; or reads texts at τ 0.5."""
    names, said = [f"m{i}" for i in range(MODELS)], []
    for _ in range(worlds):
        common = rng.standard_normal(MODELS)
        truth = np.sqrt(0.3) * common + np.sqrt(0.7) * rng.standard_normal((25, MODELS))
        middle = (common.sum() - common) / (MODELS - 1.0)
        elo, other = (0.5 * common + rng.standard_normal(MODELS) for _ in "ab")
        if kind == "upside down":
            elo, other = -common, middle + 0.3 * rng.standard_normal(MODELS)
        texts = read_at(0.5, truth, rng)
        placed: list[dict[tuple[str, str], float]] = [{}, {}, {}]
        for held, name in enumerate(names):
            for i, (scores, read) in enumerate(zip(truth.tolist(), texts, strict=True)):
                one = GroundTruth("p", dict(zip(names, scores, strict=True)))
                guesses = [np.where(np.arange(MODELS) == held, x[held], common) for x in (elo, middle, other)]
                if kind == "texts":
                    guesses[2] = read
                for own, guess in zip(placed, guesses, strict=True):
                    right = pair_accuracy(dict(zip(names, guess.tolist(), strict=True)), one, name)
                    own[f"p{i}", name] = right or 0.0  # the truth orders every pair
        systems = dict(zip(("elo_offset", "bradley_terry", "reward_model"), placed, strict=True))
        said.append(generalization(systems, "reward_model")["verdict"])
    return said


# ── Places of models ─────────────────────────────────────────────────────────────────────────────────────

LADDER = (1.5, 1.2, 0.9, 0.6, 0.3, 0.0)


def round_robin(strength: tuple[float, ...], prompts: int, spread: float, rng: Rng) -> list[Preference]:
    """Each pair judged twice on responses of quality strength + noise of ``spread``, in log-odds."""
    quality = strength + spread * rng.standard_normal((prompts, len(strength)))
    return [
        Preference(f"p{i}", str(a), str(b), float((rng.random(2) < sigmoid(row[a] - row[b])).mean()))
        for i, row in enumerate(quality)
        for a, b in combinations(range(len(strength)), 2)
    ]


def votes(strength: tuple[float, ...], people: int, prompts: int, each: int, rng: Rng) -> list[Preference]:
    """People who vote on one drawn pair of each of some drawn prompts; several have a taste of their own."""
    found, quality = [], strength + rng.standard_normal((prompts, len(strength)))
    taste = (0.5 if people > 1 else 0.0) * rng.standard_normal((people, len(strength)))
    for user in range(people):
        for prompt in rng.permutation(prompts)[:each].tolist():
            a, b = rng.choice(len(strength), 2, replace=False).tolist()
            score = quality[prompt] + taste[user]
            won = float(rng.random() < sigmoid(score[a] - score[b]))
            found.append(Preference(f"p{prompt}", str(a), str(b), won, f"u{user}"))
    return found


def places(strength: tuple[float, ...], draw: Callable[[Rng], list[Preference]], worlds: int, rng: Rng) -> Found:
    """Whether every model's range has a place of its group of equals in it, and whether one is named the only best."""
    models, said = [str(i) for i in range(len(strength))], []
    for _ in range(worlds):
        ranges = {row["model"]: row["places"] for row in standings(draw(rng), models, int(rng.integers(2**31)))[0]}
        holds = all(
            ranges[m]["lo"] <= sum(x >= s for x in strength) and ranges[m]["hi"] >= 1 + sum(x > s for x in strength)
            for m, s in zip(models, strength, strict=True)
        )
        alone = sum(places["lo"] == 1 for places in ranges.values()) == 1
        said.append(("holds" if holds else "broken") + (", one alone at the top" if alone else ""))
    return said


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────

PROMPTS: dict[str, Callable[[int, int, Rng], Taus]] = {
    "equal: independent prompts": independent,
    "equal: fold effect 0.2": partial(independent, luck=0.2),
    "equal: nothing to learn": nothing_to_learn,
    "equal: two learners": equal_learners,
    "B better by 0.2": partial(independent, advantage=0.2),
    "A better: tastes for models": tastes_for_models,
}
EQUAL = (0.0,) * MODELS
ROWS: dict[str, dict[str, Callable[[int, Rng], Found]]] = {
    "winner": {
        f"{name}, {n} prompts": partial(winners, draw, n) for name, draw in PROMPTS.items() for n in (5, 25, 100)
    },
    "people": {
        "equal: two readers, 59 people": partial(winners_on_votes, 59, 80, 21, 0.0, 1.0),
        "equal: two lucky readers, 59 people": partial(winners_on_votes, 59, 80, 21, 0.4, 1.0),
        "B reads better, 59 people": partial(winners_on_votes, 59, 80, 21, 0.0, 0.6),
    },
    "h1": {
        "H1: both learn equally fast": partial(sample_efficiency, (0.5, 0.5)),
        "H1: B ahead": partial(sample_efficiency, (2.0, 0.5)),
    },
    "h2": {
        "H2: another rating of equal quality": partial(unseen_models, "equal rating"),
        "H2: B reads the texts at τ 0.5": partial(unseen_models, "texts"),
        "H2: B reads nothing, ratings upside down": partial(unseen_models, "upside down"),
    },
    "places": {
        "6 equal models, 25 prompts": partial(places, EQUAL, partial(round_robin, EQUAL, 25, 1.0)),
        "6 equal models, prompts decide": partial(places, EQUAL, partial(round_robin, EQUAL, 25, 6.0)),
        "a ladder of six, 25 prompts": partial(places, LADDER, partial(round_robin, LADDER, 25, 1.0)),
        "6 equal models, 1 person, 100 votes": partial(places, EQUAL, partial(votes, EQUAL, 1, 100, 100)),
        "6 equal models, 60 people × 30 votes": partial(places, EQUAL, partial(votes, EQUAL, 60, 80, 30)),
    },
}


def main() -> None:
    """Measure what the flags ask for; each row is printed when it is done."""
    from scipy.stats import binomtest

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    args = parser.parse_args()
    for name, measure in (row for group in args.only for row in ROWS[group].items()):
        said = measure(args.worlds, np.random.default_rng(crc32(name.encode())))
        cells = []
        for word in sorted(set(said)):
            low, high = binomtest(said.count(word), len(said)).proportion_ci(0.95, "exact")
            cells.append(f"{word} {100 * said.count(word) / len(said):.1f} [{100 * low:.1f}, {100 * high:.1f}]")
        print(f"{name:45s} {' · '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
