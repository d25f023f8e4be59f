"""Ask a server: requests side by side, again after a failure, anew after an answer of no use.

A failure that may pass (a dropped connection, HTTP 429 or 5xx) is repeated with waits that double; a server that is
away is waited for. An answer of no use is drawn again with another seed and a higher temperature, and left out after
the last draw; a question beyond the context is left out at once. All else ends the asking with a MissingError, after
what was in flight has finished.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from core.errors import MissingError
from core.hub import within
from llm.answers import UselessError, Verdict, as_decision, as_request, bounded, read_answer, unknown_mark
from llm.connection import ContextError, read_overflow, said_by
from llm.interface import Choice, Completion, Decision, LeftOut, Request, estimate_tokens

log = logging.getLogger("ranking.llm")
Q = TypeVar("Q", Request, Choice)
A = TypeVar("A")

ATTEMPTS = 7  # where 13 % of all attempts fail, one question in a million is lost
AWAY_SECONDS = 120.0  # a server that is updated or restarted at night is waited for
AWAY_PAUSE = 5.0
DRAWS = 6  # answers of no use before a question is given up
WARMER = 0.2  # temperature added with each redraw: at 0 another seed would draw the same useless answer again
THOUGHT_TOKENS = 2048  # that a model may need before its answer
MARKED_ANSWERS = 5  # of a model with one unknown mark at their beginning: no chance
FIRST_JUDGEMENTS = 3  # a judge that fails in all of these will fail in the others
MOST_BYTES_A_TOKEN = 8  # in no language does a tokenizer put more into one, on average over a prompt
PATIENCE = 5.0  # seconds in which a living server takes a connection, and says what it is
KEPT = "All answers so far are kept: the same command goes on from there."


class PassingError(Exception):
    """A failure that another attempt may not meet.

    weight: how many of the ``ATTEMPTS`` it counts as, 4 where a whole time limit passed. away: nobody listens there.
    wait: seconds for which the server asks to be left alone. hint: what helps if it lasts.
    """

    def __init__(self, what: str, *, weight: int = 1, away: bool = False, wait: float = 0.0, hint: str = "") -> None:
        super().__init__(what)
        self.weight, self.away, self.wait, self.hint = weight, away, wait, hint


def failure(error: BaseException, seconds: float, hint: str) -> Exception:
    """The failure that an error of httpx, or of httpx2, which the OpenAI client uses, stands for."""
    kind = type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in f"{error} {error.__cause__} {error.__context__}":
        return MissingError(
            "the server's certificate is signed by nobody who is known here (by itself, or by a company's own "
            "authority). SSL_CERT_FILE=FILE.pem names a file of certificates to trust"
        )
    if kind in ("ConnectError", "ConnectTimeout", "ConnectionError"):
        return PassingError("the connection failed", weight=0, away=True, hint=hint)
    if kind.endswith("Timeout"):
        hint = "A longer --timeout or a lower --concurrency may help."
        return PassingError(f"no answer within {seconds:g} s", weight=4, hint=hint)
    return PassingError("the connection broke", hint=hint)


def side_by_side(
    ask: Callable[[Q, threading.Event], A], questions: Sequence[tuple[int, Q]], at_once: int
) -> Generator[tuple[int, A]]:
    """Yield (index, answer) as they finish, begun in order, ``at_once`` in flight.

    After a failure nothing more is begun; it is raised when what was in flight has finished. ``ask`` is given an event
    that is set then, and when the generator is closed. The threads are daemons, not an executor's: those would keep
    the program from ending until the last answer in flight has come.
    """
    todo, stop = iter(questions), threading.Event()
    done: queue.SimpleQueue[tuple[int, A] | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            for index, question in todo:
                if stop.is_set():
                    break
                done.put((index, ask(question, stop)))
            done.put(None)
        except BaseException as error:  # raised below
            stop.set()
            done.put(error)

    ends: list[BaseException | None] = []
    try:
        for _ in range(at_once):
            threading.Thread(target=work, name="asking", daemon=True).start()
        while len(ends) < at_once:
            if isinstance(item := done.get(), tuple):
                yield item
            else:
                ends.append(item)
    finally:
        stop.set()
    if error := next(filter(None, ends), None):
        raise error


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of an answer. ``seconds``: the time limit; ``in_words``: the schema stands in the prompt alone."""

    request: Request
    number: int
    seconds: float
    in_words: bool

    @property
    def seed(self) -> int:
        return (self.request.seed + self.number * 7919) & 0x7FFFFFFF

    @property
    def temperature(self) -> float:
        """The request's, warmer with each redraw."""
        return round(self.request.temperature + WARMER * self.number, 3)

    @property
    def weighed(self) -> bool:
        """Whether log-probabilities are asked for: of verdicts alone."""
        return self.request.schema is not None and issubclass(self.request.schema, Verdict)

    def messages(self, *, schema: bool) -> list[dict[str, str]]:
        """The chat that is sent, with or without the ``schema`` in words."""
        request, words = self.request, ""
        if schema and request.schema:
            words = json.dumps(bounded(request.schema, request.num_predict, strings=False))
            words = f"\n\nAnswer with nothing but one JSON object that obeys this schema:\n{words}"
        system = [{"role": "system", "content": request.system}] if request.system else []
        return [*system, {"role": "user", "content": request.prompt + words}]


class Server:
    """The half of a ``LanguageModel`` that all servers share. ``address`` is for messages: it holds no password.

    concurrency: requests in flight at once. timeout: seconds for one answer. retry_wait: seconds before the second
    attempt, doubled before each further one.
    """

    backend: str
    absent: str
    """Said where none answers, with its address and the reason."""
    enlarge: str
    """How its context is made larger, up to the figure."""
    weighs_options = False

    def __init__(self, address: str, *, concurrency: int = 2, timeout: float = 300.0, retry_wait: float = 1.0) -> None:
        self.address = address
        self._concurrency, self._timeout, self._retry_wait = concurrency, timeout, retry_wait
        self._in_words: dict[str, bool] = {}  # model → whether its structured answers are asked for in words
        self._judges: set[str] = set()  # models of which a judgement was usable
        self._given_up: Counter[str] = Counter()  # model → judgements that stayed unusable
        self._marked: dict[tuple[str, str], Iterator[int]] = {}  # (model, mark) → how many answers begin with it
        self._away_until = 0.0  # until when it need not be said again that nobody listens

    def _say(self, draw: Draw) -> Completion:
        """Ask once. Raises PassingError, UselessError, ContextError or MissingError."""
        raise NotImplementedError

    def _mend(self, status: int, said: str, model: str) -> str:
        """What helps against a refusal that will last; ``model``: the one that was asked, if any."""
        raise NotImplementedError

    def _begin(self, model: str) -> None:
        """Called before a group of requests to one model."""

    def _context(self, model: str) -> int | None:
        """Tokens of context that a model is asked with, None where they are not known."""

    def unload(self) -> None:
        """Free the memory that models fill, where the server can be told to."""

    def complete(self, requests: Sequence[Request]) -> Generator[tuple[int, Completion | LeftOut]]:
        """Yield (index, completion) as they finish, ``concurrency`` in flight; all of one model before the next.

        A request has ``timeout`` seconds for each of those in flight, since a server may answer one after the other.
        Raises MissingError for what can't be had, after everything that did finish. Closing the generator (as Ctrl-C
        does) waits for nothing.
        """
        return self._grouped(requests, self._answer)

    def choose(self, choices: Sequence[Choice]) -> Generator[tuple[int, Decision | LeftOut]]:
        """Yield (index, decision) as they finish; otherwise as ``complete``."""
        return self._grouped(choices, self._decide)

    def _grouped(self, asked: Sequence[Q], ask: Callable[[float, Q, threading.Event], A]) -> Generator[tuple[int, A]]:
        for model, group in itertools.groupby(enumerate(asked), key=lambda item: item[1].model):
            questions = list(group)
            self._begin(model)
            at_once = min(self._concurrency, len(questions))
            timed = functools.partial(ask, self._timeout * at_once)
            with closing(side_by_side(timed, questions, at_once)) as answers:
                yield from answers

    def _decide(self, seconds: float, choice: Choice, stop: threading.Event) -> Decision | LeftOut:
        """Ask for a verdict. Raises MissingError where the first judgements of a model all fail: it can't judge."""
        model, answer = choice.model, self._answer(seconds, as_request(choice), stop)
        if isinstance(answer, Completion):
            self._judges.add(model)
            return as_decision(choice, answer)
        self._given_up[model] += answer.draws > 0
        if self._given_up[model] >= FIRST_JUDGEMENTS and model not in self._judges:
            raise MissingError(
                f"{model} gave no usable judgement, {FIRST_JUDGEMENTS} times in a row; the last time: {answer.reason}. "
                "All other answers are kept. Take another --judge."
            )
        return answer

    def _answer(self, seconds: float, request: Request, stop: threading.Event) -> Completion | LeftOut:
        """Draw until an answer is of use.

        Some models obey no schema (gpt-oss says nothing under one). Until a structured answer has come from a model,
        a draw that says nothing is followed by one of the other form; the form that worked is kept.
        """
        about, reason = request.label or f"a question to {request.model}", ""
        in_words = self._in_words.get(request.model, False)
        context, size = self._context(request.model), len(((request.system or "") + request.prompt).encode())
        if context and size > MOST_BYTES_A_TOKEN * context:  # it would be read for minutes, and then refused
            return self._too_long(request, ContextError())
        for number in range(DRAWS):
            draw = functools.partial(self._say, Draw(request, number, seconds, in_words))
            try:
                answer = read_answer(request, self._persist(about, draw, stop))
            except ContextError as error:
                return self._too_long(request, error)
            except UselessError as error:
                reason = str(error)
                log.debug("%s: %s; drawn again", about, reason)
                if error.silent and request.schema and request.model not in self._in_words:
                    in_words = not in_words
                if stop.is_set():  # the asking is over: another draw would be for nobody
                    raise MissingError(f"{about}: {reason}") from None
                continue
            if request.schema:
                self._in_words.setdefault(request.model, in_words)
            else:
                mark = unknown_mark(answer.text)
                begun = self._marked.setdefault((request.model, mark), itertools.count(1))
                if mark and next(begun) == MARKED_ANSWERS:
                    said = "%s: %d answers begin with %s. If a thought follows, it is judged as part of the answer."
                    log.warning(said, request.model, MARKED_ANSWERS, mark)
            log.debug("%s: %s took %.2f s, %s tokens", request.label, request.model, answer.seconds, answer.tokens)
            return answer
        return LeftOut(f"{reason}, in each of {DRAWS} draws", DRAWS)

    def _too_long(self, request: Request, error: ContextError) -> LeftOut:
        """Leave out a question beyond the context, and say which context would do."""
        tokens = error.tokens or estimate_tokens((request.system or "") + request.prompt)
        room = -(-(tokens + request.num_predict) // 1024) * 1024
        what = f"it is longer than the context of {request.model}: about {tokens:,} tokens"
        return LeftOut(f"{what}. {self.enlarge} {room}")

    def _persist(self, about: str, attempt: Callable[[], A], stop: threading.Event | None = None) -> A:
        """Call ``attempt`` until it succeeds, waiting twice as long before each further time.

        Raises MissingError after ``ATTEMPTS`` failures, where nobody listened for ``AWAY_SECONDS``, or once ``stop`` is
        set.
        """
        stop, wait, weight, tried, since = stop or threading.Event(), self._retry_wait, 0, 0, None
        while True:
            try:
                return attempt()
            except PassingError as error:
                tried, weight, now = tried + 1, weight + error.weight, time.monotonic()
                since = (since or now) if error.away else None  # nobody has listened since then
                last = weight >= ATTEMPTS or (since is not None and now - since >= AWAY_SECONDS)
                if error.away and now > self._away_until and not stop.is_set():  # said once for all in flight
                    self._away_until = now + AWAY_SECONDS
                    log.warning("%s: %s; waiting for it, up to %.0f s", self.address, error, AWAY_SECONDS)
                if last or stop.wait(min(wait, AWAY_PAUSE) if error.away else max(wait, error.wait)):
                    said = f"{about}: {error} ({tried} attempts at {self.address}). {KEPT} {error.hint}"
                    raise MissingError(said.rstrip()) from error
                if not error.away:
                    log.info("%s: %s; asked again (attempt %d)", about, error, tried + 1)
                wait *= 2

    def _at_once(self, ask: Callable[[], A]) -> A:
        """What the server says within seconds. Raises MissingError where none answers, and what ``ask`` raises."""
        try:
            # a look-up of the server's name has no time limit of its own: it is left behind
            return within(PATIENCE, ask)
        except (PassingError, TimeoutError) as error:
            raise MissingError(self.absent.format(self.address, error)) from error

    def _refused(self, status: int, said: str, model: str = "", wait: float = 0.0) -> Exception:
        """The exception that an HTTP status of an error stands for."""
        if too_long := read_overflow(status, said):
            return too_long
        words = said_by(status, said)
        if status in (408, 429) or (status >= 500 and status != 501):
            hint = (
                f"If {model} can't be loaded there, leave it out of --models or take another --judge." if model else ""
            )
            return PassingError(f"the server answered {words}", wait=wait, hint=hint)
        return MissingError(f"{self.address} refused the request ({words}). {KEPT} {self._mend(status, said, model)}")
