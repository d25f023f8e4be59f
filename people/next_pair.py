"""Which pair a person should see next, and how sure the order of their models is by now.

    models = TopTwo(job, responses)
    models.learn(preferences)
    models.next_pair(pairs_left)
    models.standing()

Top-two sampling (Russo, *Simple Bayesian Algorithms for Best-Arm Identification*, COLT 2016): of two draws from the
posterior the best model of each, drawn again until they differ. The least sure pair would often be two bad models. The
posterior is that of System C's model part, over all prompts at hand: texts are left aside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from base.features import Features
from combined import RESIDUAL, Combined, Posterior
from core.records import Preference, Response
from core.text import count, percent
from stages.tasks import Job

AT_RANDOM = 5  # every so manieth pair is drawn at random: what the posterior is wrong about comes up too
REDRAWS = 100  # of the second of two draws; a model that leads in all of them is the best
TOLD_FROM = 10  # votes, before which nobody can say how many it takes
MOST_TOLD = 200  # votes: for more nobody sits, and of equals it would be billions
SURE = 0.95  # chance that the first is ahead of the second, from which they count as told apart


class TopTwo:
    """The posterior of the models after the votes so far."""

    def __init__(self, job: Job, responses: Sequence[Response]) -> None:
        ratings = {model: rating.elo for model, rating in (job.ratings or {}).items()}
        self._prompts = tuple(dict.fromkeys(r.prompt_id for r in responses))
        self._models = tuple(dict.fromkeys(r.model for r in responses))
        self._answers = np.array([sum(r.model == model for r in responses) for model in self._models])
        texts = [*((r.prompt_id, r.model) for r in responses), *(("", model) for model in self._models)]
        blank = np.zeros((len(texts), 1), np.float32)  # texts that all look the same
        features = Features({text: i for i, text in enumerate(texts)}, blank, blank, blank[:, 0], False, "")
        self._system = Combined(features, {model: ratings.get(model) for model in self._models}, job.params)
        self._rng = np.random.default_rng(job.params.random_seed)

    def learn(self, preferences: Sequence[Preference]) -> None:
        """Take these votes for all that were given."""
        self._votes = len(preferences)
        self._system.fit(preferences, prompt_ids=self._prompts)
        found = self._system.posterior("")
        # the residual of one text; of a mean of n texts it is the n-th part
        unseen = RESIDUAL * np.diag(1.0 - 1.0 / self._answers)
        self._posterior = Posterior(found.models, found.mean, found.covariance - unseen)

    def next_pair(self, left: Sequence[frozenset[str]]) -> int:
        """Which of the pairs of models that are ``left`` (at least one) to show."""
        if (self._votes + 1) % AT_RANDOM:
            drawn = self._posterior.draw(1 + REDRAWS, int(self._rng.integers(2**32))).argmax(axis=1)
            for second in drawn[drawn != drawn[0]]:
                wanted = {self._models[drawn[0]], self._models[second]}
                if fitting := [i for i, pair in enumerate(left) if pair == wanted]:
                    return int(self._rng.choice(fitting))
        return int(self._rng.integers(len(left)))

    def standing(self) -> tuple[dict[str, float], str]:
        """{model: chance that it is the best over all prompts} by the votes learned, best first; and in words how many
        more would separate the best two, without names, empty as long as nobody can say."""
        from scipy.special import ndtr, ndtri

        mean, covariance = self._posterior.mean, self._posterior.covariance
        first, second = np.argsort(-mean, kind="stable")[:2].tolist()
        gap = float(mean[first] - mean[second])
        spread = math.sqrt(covariance[first, first] + covariance[second, second] - 2.0 * covariance[first, second])
        ahead, said = float(ndtr(gap / spread)), ""
        if ahead >= SURE:
            said = f"It is ahead of the second with {percent(ahead)}."
        elif self._votes >= TOLD_FROM:  # the spread shrinks with the root of the votes, the gap stays
            more = math.ceil(self._votes * ((ndtri(SURE) * spread / max(gap, 1e-6)) ** 2 - 1.0))
            said = f"Roughly {count(more, 'more vote')} would separate the best two."
            if more > MOST_TOLD:
                said = "It would take hundreds of votes to separate the best two."
        chances = sorted(self._posterior.best_chances().items(), key=lambda chance: -chance[1])
        # never 0 or 1: a few votes prove nothing
        return {model: min(max(chance, 0.01), 0.99) for model, chance in chances}, said
