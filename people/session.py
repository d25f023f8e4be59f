"""A session of own votes: which pair comes next, what a key does, how sure the order is, wherever it is asked.

session = Session(job, prompts, responses)
while session.pair:
    session.press("a")      # on the disk when this returns, in the format that --preferences reads
"""

import math
import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

import config
from base.features import Features
from combined import RESIDUAL, Combined, Posterior
from core.files import append_line, drop_last_line
from core.records import Preference, Prompt, Response
from core.text import count, normal, percent
from people.read import USER, on_these, read_own_votes
from people.rows import VOTE_COLUMNS, Vote
from stages.tasks import Job

# Each key, and the vote that is kept of it: 1 prefers the response on the left, 0.5 is a tie.
VOTES: Mapping[str, Mapping[str, Any]] = {
    "a": {"outcome": 1.0}, "b": {"outcome": 0.0}, "t": {"outcome": 0.5}, "x": {"outcome": 0.5, "both_bad": True},
}  # fmt: skip
UNDO = "u"

AT_RANDOM = 5  # every so manieth pair is drawn at random: what the posterior is wrong about comes up too
REDRAWS = 100  # of the second of two draws; a model that leads in all of them is the best
TOLD_FROM = 10  # votes, before which nobody can say how many it takes
MOST_TOLD = 200  # votes: for more nobody sits, and of equals it would be billions
SURE = 0.95  # chance that the first is ahead of the second, from which they count as told apart


class Session:
    """One person's votes on pair after pair. Each is on the disk before the next pair is chosen.

    A number stands for one pair on the same sides throughout a session, undone votes or not.
    """

    def __init__(self, job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> None:
        """Go on with the votes kept for the job's persona by the pairs that this person has not voted on."""
        self.path = config.VOTES_DIR / config.VOTES_FILE.format(name=job.name)
        self.about = {"persona": job.name, "backend": job.llm.backend}
        self.models = TopTwo(job, responses)
        self.votes = [p for p in on_these(read_own_votes(self.path), prompts, responses) if p.user == USER]
        """This person's on these texts, of earlier sessions too."""
        voted = {(p.prompt_id, frozenset((p.model_a, p.model_b))) for p in self.votes}
        rng, self._left = random.Random(job.params.random_seed), list[Vote]()  # noqa: S311
        for prompt in prompts:
            for two in combinations([r for r in responses if r.prompt_id == prompt.id], 2):
                a, b = rng.sample(two, 2)  # the sides
                pair = Vote(USER, prompt.id, prompt.text, a.model, a.text, b.model, b.text)
                if (prompt.id, frozenset((a.model, b.model))) not in voted and normal(a.text) != normal(b.text):
                    self._left.append(pair)
        self.total = len(self.votes) + len(self._left)  # pairs
        self._shown: list[Vote] = []
        self.done = 0
        """Pairs voted on in this session, the first of those that were shown."""
        self.note = ""
        """What there is to say of the last key."""
        self._go_on()

    @property
    def pair(self) -> Vote | None:
        """The pair to vote on; None where all are done."""
        return self._shown[self.done] if self.done < len(self._shown) else None

    @property
    def number(self) -> int:
        """The pair's number, those of earlier sessions counted."""
        return len(self.votes) + 1

    def press(self, key: str) -> None:
        """Keep the vote of one of the keys VOTES, or take this session's last one back (UNDO)."""
        self.note = ""
        if key != UNDO:
            vote = self._shown[self.done]._replace(outcome=VOTES[key]["outcome"])
            append_line(self.path, {**dict(zip(VOTE_COLUMNS, vote, strict=False)), **VOTES[key], **self.about})
            self.votes.append(vote.preference())  # on the disk by now
            self.done += 1
        elif self.done:
            drop_last_line(self.path)
            self.votes.pop()
            self.done -= 1
            self.note = "The last vote is taken back; here is its pair again."
        else:
            self.note = "Nothing to undo in this session."
        self._go_on()

    def _go_on(self) -> None:
        self.models.learn(self.votes)
        if self._left and self.pair is None:
            pairs = [frozenset((pair.model_a, pair.model_b)) for pair in self._left]
            self._shown.append(self._left.pop(self.models.next_pair(pairs)))

    def progress(self) -> str:
        """The note, else how sure the best is by now and what would separate the best two. Without names: who knows
        what leads would look for it."""
        if self.note or not self.votes:
            return self.note
        chances, more = self.models.standing()
        chance = percent(next(iter(chances.values())))
        so_far = f"{count(len(self.votes), 'vote')} so far: the model ahead is the best with a chance of {chance}."
        return f"{so_far} {more}"

    def saved(self) -> str:
        """What this session kept, in words."""
        return f"{count(self.done, 'vote')} saved in {self.path}; pairs left: {self.total - len(self.votes)}"


class TopTwo:
    """The posterior of the models after the votes so far, which chooses the pair to see next.

    Top-two sampling (Russo, *Simple Bayesian Algorithms for Best-Arm Identification*, COLT 2016): of two draws from the
    posterior the best model of each, drawn again until they differ. The least sure pair would often be two bad models.
    The posterior is that of System C's model part, over all prompts at hand: texts are left aside.
    """

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
