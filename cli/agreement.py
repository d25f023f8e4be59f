"""The simulated persona's preferences as far as the cache has them, for whoever votes on the same responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from core.records import Preference

if TYPE_CHECKING:
    from stages.tasks import Job


def judged(job: Job) -> Sequence[Preference]:
    """The judge's preferences where it has given all of them, else none. Nothing is asked."""
    from cli.counting import Counting
    from core.clock import Clock
    from core.errors import MissingError
    from data_generation import make_data

    clock = Clock()
    llm = Counting(job, {}, clock)
    try:
        data = make_data(replace(job, llm=llm, read_only=True), clock)
    except MissingError:  # too many left out: the persona's own run says which
        return ()
    return () if llm.taken() else data.preferences
