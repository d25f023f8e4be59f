"""Which base reads a persona's texts where ``--base_model`` names none: the one that has read most of them, else the
largest that the GPU has room for; where memory runs out after all, the next smaller one, at last on the processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# Skywork-Reward-V2 by what must be free on a GPU in GiB, largest first; RewardBench 93.7, 93.4, 85.2; all Apache-2.0.
SKYWORK = {
    "Skywork/Skywork-Reward-V2-Qwen3-8B": 20.0,  # 15.3 GiB of weights; a card of 24 GB reports 23.99 GiB in all
    "Skywork/Skywork-Reward-V2-Qwen3-4B": 10.0,  # 7.5 GiB
    "Skywork/Skywork-Reward-V2-Qwen3-0.6B": 0.0,
}


class Place(Protocol):
    """Where a base may run: this machine (``base.device``) or another."""

    def kinds(self, asked: str) -> tuple[str, ...]:
        """Kinds of device in the order in which they are tried. Raises MissingError where none is as asked for."""

    def room(self) -> float:
        """GiB that a base may take on a GPU, at two bytes a weight."""


def fitting(bases: Sequence[str], free_gib: float) -> int:
    """The position of the first base, largest first, that has room in ``free_gib`` of a GPU's memory; else the last."""
    return next((i for i, base in enumerate(bases) if free_gib >= SKYWORK.get(base, 0.0)), len(bases) - 1)


def attempts(bases: Sequence[str], kept: Sequence[int], asked: str, place: Place) -> list[tuple[str, str]]:
    """(base, device) in the order in which they are tried, where a text is still to be read.

    ``bases``: largest first. ``kept``: how many of the texts each has read. ``asked``: the device, as by the flag.
    Raises MissingError where the GPU asked for is not there.
    """
    places = place.kinds(asked)
    if any(kept):
        first = kept.index(max(kept))
    elif places[0] == "cuda":
        first = fitting(bases, place.room())
    else:
        first = len(bases) - 1
    return [*((base, places[0]) for base in bases[first:]), *((bases[-1], kind) for kind in places[1:])]
