"""A simulated person: features of responses, what it likes of them, and its preferences."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.special import expit

from base.features import Features
from core.ranking import Ranker
from core.records import Preference

MODELS = tuple("abcdef")
RATINGS: dict[str, float | None] = {"a": 1000.0, "b": 1040.0, "c": 1080.0, "d": 1120.0, "e": 1160.0, "f": None}
PROMPTS = tuple(f"p{i:02d}" for i in range(30))
TRAIN, TEST = PROMPTS[:20], PROMPTS[20:]
WIDTH = 20
Likes = dict[tuple[str, str], float]


def make_features(*, has_score: bool = True) -> Features:
    """30 prompts × 6 models; what lies between prompts is larger than what lies within them."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(180, WIDTH)) * np.linspace(3.0, 0.3, WIDTH)
    states += 2.0 * np.repeat(rng.normal(size=(30, WIDTH)), 6, axis=0)
    index = {(f"p{i // 6:02d}", MODELS[i % 6]): i for i in range(180)}
    score = 7.0 * rng.normal(size=180) + 3.0 if has_score else np.zeros(180)
    last = states[:, ::-1] + rng.normal(size=states.shape)
    return Features(index, states.astype("f4"), last.astype("f4"), score.astype("f4"), has_score, "tiny")


def planted_likes(features: Features, models: float, texts: float, hidden: float, seed: int) -> Likes:
    """What a person likes: a strength for each model, a direction of the states, and what nothing shows."""
    rng = np.random.default_rng(seed)
    states = features.mean.reshape(30, 6, WIDTH).astype(float)
    states -= states.mean(axis=1, keepdims=True)
    direction = states @ rng.normal(size=WIDTH)
    liked = models * rng.normal(size=6) + texts * direction / direction.std() + hidden * rng.normal(size=(30, 6))
    return {key: float(liked.ravel()[row]) for key, row in features.index.items()}


def preferences(liked: Likes, seed: int = 5) -> list[Preference]:
    """Every pair of every training prompt, judged with logistic noise, in a drawn order."""
    rng = np.random.default_rng(seed)
    pairs = [(p, a, b) for p in TRAIN for a, b in combinations(MODELS, 2)]
    chances = expit([3.0 * (liked[p, a] - liked[p, b]) for p, a, b in pairs])
    made = [Preference(*pair, float(rng.random() < chance)) for pair, chance in zip(pairs, chances, strict=True)]
    return [made[i] for i in rng.permutation(len(made))]


def all_scores(system: Ranker) -> np.ndarray:
    """[prompts, models]"""
    return np.array([[system.scores(p)[m] for m in MODELS] for p in PROMPTS])
