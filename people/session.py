"""A session of own votes: which pair comes next, what a key does, how sure the order is, wherever it is asked.

session = Session(job, prompts, responses)
while session.pair:
    session.press("a")      # on the disk when this returns, in the format that --preferences reads
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from core.files import append_line, drop_last_line
from core.records import Prompt, Response
from core.text import count, normal, percent
from people.next_pair import TopTwo
from people.read import USER, on_these, own_votes_file, read_own_votes
from people.rows import VOTE_COLUMNS, Vote
from stages.tasks import Job

# Each key, and the vote that is kept of it: 1 prefers the response on the left, 0.5 is a tie.
VOTES: Mapping[str, Mapping[str, Any]] = {
    "a": {"outcome": 1.0}, "b": {"outcome": 0.0}, "t": {"outcome": 0.5}, "x": {"outcome": 0.5, "both_bad": True},
}  # fmt: skip
UNDO = "u"


class Session:
    """One person's votes on pair after pair. Each is on the disk before the next pair is chosen.

    A number stands for one pair on the same sides throughout a session, undone votes or not.
    """

    def __init__(self, job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> None:
        """Go on with the votes kept for the job's persona by the pairs that this person has not voted on."""
        self.path, self.about = own_votes_file(job.name), {"persona": job.name, "backend": job.llm.backend}
        self.models = TopTwo(job, responses)
        self.votes = [p for p in on_these(read_own_votes(self.path), prompts, responses) if p.user == USER]
        """This person's on these texts, of earlier sessions too."""
        voted = {(p.prompt_id, frozenset((p.model_a, p.model_b))) for p in self.votes}
        rng, self._left = random.Random(job.params.random_seed), list[Vote]()  # noqa: S311
        for prompt in prompts:
            for two in combinations([r for r in responses if r.prompt_id == prompt.id], 2):
                a, b = rng.sample(two, 2)  # the sides
                pair = Vote(USER, prompt.id, prompt.text, a.model, a.text, b.model, b.text)
                if (prompt.id, pair.models) not in voted and normal(a.text) != normal(b.text):
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
            self._shown.append(self._left.pop(self.models.next_pair([pair.models for pair in self._left])))

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
