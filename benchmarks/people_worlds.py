"""Simulated people whose tastes are known: votes and features, without any text or model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from base.features import Features
from core.records import Preference, Prompt, Response
from people.read import Votes


@dataclass(frozen=True, slots=True)
class World:
    """Everybody likes what ``common`` says of a response's features, and each person something of their own."""

    people: int = 20
    votes_each: int = 60
    prompts: int = 40
    models: int = 5
    width: int = 12
    common: float = 1.0
    """Standard deviation of utilities that all share."""
    personal: float = 0.0
    """Standard deviation of utilities of one's own; 0: all people are the same."""
    ties: float = 0.1
    seed: int = 0
    names: tuple[str, ...] = ()
    """Of the models; those without one are called model 0, model 1, …"""

    def draw(self) -> tuple[Votes, Features]:
        """The votes, in an order of their own, and the features of all responses."""
        rng = np.random.default_rng(self.seed)
        texts = rng.normal(size=(self.models, self.width)) + rng.normal(size=(self.prompts, self.models, self.width))
        spread = np.sqrt(2.0 * self.width)
        shared = self.common * (texts @ rng.normal(size=self.width)) / spread
        own = self.personal * (texts @ rng.normal(size=(self.width, self.people))) / spread
        utility = shared[..., None] + own  # [prompts, models, people]
        names = (*self.names, *(f"model {i}" for i in range(len(self.names), self.models)))
        prompts = tuple(Prompt(f"q{i}", f"Question {i}?") for i in range(self.prompts))
        votes = tuple(
            self._vote(rng, utility, names, user) for user in range(self.people) for _ in range(self.votes_each)
        )
        responses = tuple(
            Response(p.id, m, f"Answer of {m} to {p.id}: " + "x" * int(rng.integers(200)))
            for p in prompts
            for m in names
        )
        index = {(r.prompt_id, r.model): i for i, r in enumerate(responses)}
        mean = texts.reshape(-1, self.width).astype(np.float32)
        features = Features(index, mean, mean, np.zeros(len(mean), np.float32), has_score=False, base="simulated")
        users = tuple(dict.fromkeys(v.user for v in votes))
        return Votes(votes, prompts, responses, users, names, skipped={}), features

    def _vote(self, rng: np.random.Generator, utility: np.ndarray, names: tuple[str, ...], user: int) -> Preference:
        prompt = int(rng.integers(self.prompts))
        a, b = (int(i) for i in rng.choice(self.models, 2, replace=False))
        gap = 2.0 * (utility[prompt, a, user] - utility[prompt, b, user])
        preferred = float(rng.random() < 1.0 / (1.0 + np.exp(-gap)))
        outcome = 0.5 if rng.random() < self.ties else preferred
        return Preference(f"q{prompt}", names[a], names[b], outcome, f"person {user}")
