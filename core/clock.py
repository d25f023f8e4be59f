"""Seconds that the stages of a run take, and how far a long step is."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

log = logging.getLogger("ranking.progress")

QUIET = 2.0  # seconds that a step may take without a bar
MINUTE = 60.0


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside under this name; a name that comes again goes on counting."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


def bar(items: Iterable[Any] | None, total: int, what: str) -> Any:
    """``items`` with a bar and the time left in a terminal, elsewhere with a log line a minute: "responses: 12 of 60".

    ``None`` for items that come in batches: ``with bar(None, 60, "texts") as done: done.update(8)``.
    """
    from tqdm import tqdm

    def log_line(text: str) -> None:
        if line := text.strip():
            log.info("%s", line)

    how: Any = {"delay": QUIET}
    if not sys.stderr.isatty():
        how = {"delay": MINUTE, "mininterval": MINUTE, "miniters": 1, "bar_format": "{desc}: {n} of {total}"}
        how["file"] = SimpleNamespace(write=log_line, flush=lambda: None)
    return tqdm(items, total=total, desc=what, leave=False, **how)
