"""The simulated persona's preferences as far as the cache has them, for whoever votes on the same responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.records import Preference

if TYPE_CHECKING:
    from stages.tasks import Job


def judged(job: Job) -> Sequence[Preference]:
    """The judge's preferences on the prompts that are whole in the cache. Nothing is asked."""
    from core.clock import Clock
    from core.errors import MissingError
    from data_generation import make_data

    try:
        return make_data(job, Clock(), ask=False).preferences
    except MissingError:  # its server is off and nobody knows its models
        return ()
