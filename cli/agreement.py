"""Does the simulated persona agree with the person who voted? Said after --vote, from judgements that are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.records import Preference
from evidence.judge_quality import FEWEST_SHARED, agreement_with_person

if TYPE_CHECKING:
    from stages.tasks import Job


def sentence(job: Job, votes: Sequence[Preference]) -> str:
    """How far the judge, as this persona, agrees with ``votes`` on the job's own responses. Nothing is asked."""
    judged = _judged(job)
    who = f"The simulated {job.name}"
    if not judged:
        return f"{who} has not judged these pairs: whether it agrees with you is said once its own run is done."
    found = agreement_with_person(votes, judged)
    if found["kappa"] is None:
        return (
            f"Whether the simulated {job.name} agrees with you is said from {FEWEST_SHARED} pairs on that you both "
            f"decide; there are {found['pairs']}."
        )
    low, high = found["ci95"]
    return (
        f"{who} agrees with you on {100.0 * found['share']:.0f} % of the {found['pairs']} pairs that you both decide: "
        f"κ = {found['kappa']:.2f} [{low:.2f}, {high:.2f}], where 0 is chance and 1 always."
    )


def _judged(job: Job) -> Sequence[Preference]:
    """The judge's preferences on the prompts that it has judged; nothing is asked."""
    from core.clock import Clock
    from core.errors import MissingError
    from data_generation import make_data

    try:
        return make_data(job, Clock(), ask=False).preferences
    except MissingError:  # its server is off and nobody knows its models
        return ()
