"""The worlds of leaderboard.py that have texts: the recorded ones, with tastes that are planted or none at all."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from verdict_worlds import Rng, rate

from evaluation import Array
from evidence.traits import TRAITS, sure

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
NAMES = [trait.name for trait in TRAITS]


def recorded() -> Array:
    """[prompts, models, traits] of every recorded response, all personas."""
    rows: dict[str, list[list[float]]] = {}
    for path in sorted(SAMPLES.glob("model_responses_*.json")):
        items = json.loads(path.read_text(encoding="utf-8"))["items"]
        for item in items.values() if isinstance(items, dict) else items:
            value = item["value"]
            rows.setdefault(value["prompt_id"], []).append([trait.measure(value["text"]) for trait in TRAITS])
    return np.array(list(rows.values()))


@dataclass(frozen=True)
class Texts:
    """Preferences on drawn recorded prompts: Σ weight · trait + a response's and a model's own quality, in log-odds."""

    prompts: int
    weights: tuple[tuple[str, float], ...] = ()
    """(trait, log-odds for a difference of 1); none: the texts of a prompt are shuffled among its models."""
    spread: float = 1.0
    by_model: float = 0.0
    graded: bool = False

    def draw(self, texts: Array, rng: Rng) -> tuple[Array, Array, Any]:
        """(differences [n, traits], outcomes [n], prompt [n])."""
        x = texts[rng.permutation(len(texts))[: self.prompts]]
        models = x.shape[1]
        quality = self.spread * rng.standard_normal(x.shape[:2]) + self.by_model * rng.standard_normal(models)
        if self.weights:
            quality = quality + sum(weight * x[:, :, NAMES.index(name)] for name, weight in self.weights)
        else:
            x = np.stack([row[rng.permutation(models)] for row in x])
        a, b = np.triu_indices(models, 1)
        chance = 1.0 / (1.0 + np.exp(quality[:, b] - quality[:, a]))
        outcome = chance if self.graded else (rng.random((2, *chance.shape)) < chance).mean(axis=0)
        differences = (x[:, a] - x[:, b]).reshape(-1, x.shape[2])
        return differences, outcome.ravel(), np.repeat(np.arange(self.prompts), len(a))

    def named(self, worlds: int, rng: Rng) -> dict[str, Any]:
        """Shares of worlds in which each planted trait is named, and in which one is that was not planted."""
        texts, planted = recorded(), dict(self.weights)
        hits, wrong = dict.fromkeys(planted, 0), 0
        for _ in range(worlds):
            differences, outcome, prompt = self.draw(texts, rng)
            found = {liking.trait for liking in sure(differences, outcome, [prompt])}
            for name in planted:
                hits[name] += name in found
            wrong += bool(found - planted.keys())
        return {name: rate(count, worlds) for name, count in hits.items()} | {"wrongly named": rate(wrong, worlds)}


SHORT_CODE = (("length", -1.0), ("code", 1.5))
TEXTS = {
    **{f"shuffled texts, {n} prompts": Texts(n) for n in (5, 12, 25, 100)},
    "shuffled texts, 12 prompts, models differ": Texts(12, (), 3.0, 1.0),
    "shuffled texts, 25 prompts, models differ": Texts(25, (), 3.0, 1.0),
    "shuffled texts, 25 prompts, graded": Texts(25, (), 1.0, 1.0, graded=True),
    "shuffled texts, 100 prompts, graded": Texts(100, (), 1.0, 1.0, graded=True),
    "planted: shorter, code; 25 prompts": Texts(25, SHORT_CODE),
    "planted: shorter, code; 100 prompts": Texts(100, SHORT_CODE),
}
