"""Several Ollama servers side by side: each asks its own models, and what one leaves when it is lost goes to others."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from core.errors import MissingError
from llm.calls import Calls
from llm.interface import Completion, LeftOut, Request
from llm.ollama_server import OllamaServer
from llm.retry import LostServerError

Group = tuple[str, list[tuple[int, Request]]]
"""A model, and its questions by their index."""
Answers = Generator[tuple[int, Completion | LeftOut]]


class Pins(Protocol):
    """Who knows which server a model is pinned to."""

    def server_of(self, tag: str) -> OllamaServer: ...

    def lose(self, server: OllamaServer) -> None: ...


@dataclass(frozen=True, slots=True)
class _Ended:
    """A server is through with its groups, or could not go on."""

    server: OllamaServer
    rest: list[Group]
    error: BaseException | None = None


def side_by_side(
    groups: Sequence[Group],
    pins: Pins,
    concurrency: int,
    ask: Callable[[OllamaServer, Calls, Group], Answers],
) -> Answers:
    """Yield (index, answer) of all groups as they finish, each server's groups one after the other.

    Where a server is lost, what it still had to do is pinned anew once the others are through. Any other failure, and a
    model that no server left has, is raised when what the others were doing is done.
    """
    todo, failure = list(groups), None
    while todo and failure is None:
        lanes: dict[OllamaServer, list[Group]] = defaultdict(list)
        for group in todo:
            lanes[pins.server_of(group[0])].append(group)
        todo = []
        done: queue.SimpleQueue[tuple[int, Completion | LeftOut] | _Ended] = queue.SimpleQueue()
        stop = threading.Event()
        with ExitStack() as stack:
            for server, lane in lanes.items():
                calls = stack.enter_context(Calls(concurrency))
                work = (server, lane, calls, ask, done, stop)
                threading.Thread(target=_work, args=work, daemon=True, name="asking a server").start()
            running = len(lanes)
            while running:
                item = done.get()
                if not isinstance(item, _Ended):
                    yield item
                    continue
                running -= 1
                if isinstance(item.error, LostServerError):
                    pins.lose(item.server)
                    todo += item.rest
                elif item.error is not None:
                    failure = failure or item.error
                    stop.set()
        if failure is None and todo:
            failure = _nowhere(todo, pins)
    if failure is not None:
        raise failure


def _nowhere(groups: Sequence[Group], pins: Pins) -> MissingError | None:
    """The error of the first group that no server is left for."""
    for model, _ in groups:
        try:
            pins.server_of(model)
        except MissingError as error:
            return error
    return None


def _work(
    server: OllamaServer,
    lane: Sequence[Group],
    calls: Calls,
    ask: Callable[[OllamaServer, Calls, Group], Answers],
    done: queue.SimpleQueue[tuple[int, Completion | LeftOut] | _Ended],
    stop: threading.Event,
) -> None:
    """One server's groups, in order; nothing more is begun once ``stop`` is set."""
    for number, (model, questions) in enumerate(lane):
        if stop.is_set():
            break
        left = dict(questions)
        try:
            for index, answer in ask(server, calls, (model, questions)):
                del left[index]
                done.put((index, answer))
        except BaseException as error:  # handed to whoever listens
            done.put(_Ended(server, [(model, list(left.items())), *lane[number + 1 :]], error))
            return
    done.put(_Ended(server, []))
