"""Ask a server: requests side by side, again after a failure, anew after an answer of no use.

A failure that may pass (a dropped connection, HTTP 429 or 5xx) is repeated with waits that double; a server that is
away is waited for. An answer of no use is drawn again with another seed and a higher temperature, and left out after
the last draw; a question beyond the context is left out at once. All else ends the asking with a MissingError, after
what was in flight has finished.
"""

import functools
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import fields
from threading import Event
from typing import Any, TypeVar

from core.errors import MissingError, UsageError
from core.hub import beside, within
from llm.answers import ANY_MARK, UselessError, redrawn, verdict_probabilities, verdict_schema
from llm.connection import PATIENCE, ContextError, client_options, read_overflow, said_by
from llm.interface import Choice, Completion, Decision, LeftOut, Request, estimate_tokens

log = logging.getLogger("ranking.llm")
Q = TypeVar("Q", Request, Choice)
A = TypeVar("A")

ATTEMPTS = 7  # where 13 % of all attempts fail, one question in a million is lost
AWAY_SECONDS = 120.0  # a server that is updated or restarted at night is waited for
DRAWS = 6  # answers of no use before a question is given up
THOUGHT_TOKENS = 2048  # that a model may need before its answer
MARKED_ANSWERS = 5  # of a model with one unknown mark at their beginning: no chance
FIRST_JUDGEMENTS = 3  # a judge that fails in all of these will fail in the others
MOST_BYTES_A_TOKEN = 8  # in no language does a tokenizer put more into one, on average over a prompt
KEPT = "All answers so far are kept: the same command goes on from there."


class PassingError(Exception):
    """A failure that another attempt may not meet.

    weight: how many of the ``ATTEMPTS`` it counts as: 4 where a whole time limit passed, 0 where nobody listens, who is
    waited for. pause: seconds that the server asks for. hint: what helps if it lasts.
    """

    def __init__(self, what: str, *, weight: int = 1, pause: float = 0.0, hint: str = "") -> None:
        super().__init__(what)
        self.weight, self.pause, self.hint = weight, pause, hint


class RefusedError(MissingError):
    """A refusal that will last: its HTTP status and what was said, as it came."""

    def __init__(self, what: str, status: int, said: str) -> None:
        super().__init__(what)
        self.status, self.said = status, said


def side_by_side(
    ask: Callable[[Q, Event], A], questions: Sequence[tuple[int, Q]], at_once: int
) -> Generator[tuple[int, A]]:
    """Yield (index, answer) as they finish, begun in order, ``at_once`` in flight.

    After a failure nothing more is begun; it is raised when what was in flight has finished. ``ask`` is given an event
    that is set then, and when the generator is closed.
    """
    todo, stop, failed = iter(questions), Event(), None
    asked: dict[Future[A], int] = {}
    try:
        while True:
            free = 0 if failed else at_once - len(asked)
            for index, question in itertools.islice(todo, free):
                asked[beside(functools.partial(ask, question, stop))] = index
            if not asked:
                break
            for future in wait(asked, return_when=FIRST_COMPLETED).done:
                index = asked.pop(future)
                if error := future.exception():
                    failed = failed or error
                    stop.set()
                else:
                    yield index, future.result()
    finally:
        stop.set()
    if failed:
        raise failed


class Server:
    """The half of a ``LanguageModel`` that all servers share. ``address`` is for messages: it holds no password.

    key: of an API, or empty. concurrency: requests in flight at once. timeout: seconds for one answer. retry_wait:
    seconds before the second attempt, doubled before each further one.
    """

    backend: str
    kind: str  # in words: "Ollama server"
    mend: str  # what helps where none answers
    enlarge: str  # how its context is made larger, up to the figure
    doubts_schema = False  # True where some take a schema and ignore it: further draws say it in words too
    weighs_options = False

    def __init__(
        self, address: str, key: str, *, concurrency: int = 2, timeout: float = 300.0, retry_wait: float = 1.0
    ) -> None:
        self.address, self._key = address, key
        self._concurrency, self._timeout, self._retry_wait = concurrency, timeout, retry_wait
        self._in_words: dict[str, bool] = {}  # model → whether its structured answers are asked for in words
        self._judges: set[str] = set()  # models of which a judgement was usable
        self._given_up: Counter[str] = Counter()  # model → judgements that stayed unusable
        self._marked: Counter[tuple[str, str]] = Counter()  # (model, mark) → how many answers begin with it
        self.told: dict[str, int] = {}  # model → its context, by a refusal
        self._away_until = 0.0  # until when it need not be said again that nobody listens

    def _opener(self) -> Callable[..., Any]:
        """Import the official client. Returns what makes one, of options of httpx."""
        raise NotImplementedError

    def _say(self, request: Request, seconds: float, *, in_words: bool) -> Completion:
        """Ask once; raises as ``_ask``, or UselessError. ``in_words``: the schema stands in the prompt alone."""
        raise NotImplementedError

    def _remedy(self, status: int, said: str, model: str) -> str:
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

        Each has ``timeout`` seconds for each of those in flight: a server may answer one after the other. Raises
        MissingError for what can't be had, after all that did finish. Closing the generator waits for nothing.
        """
        return self._grouped(requests, self._answer)

    def choose(self, choices: Sequence[Choice]) -> Generator[tuple[int, Decision | LeftOut]]:
        """Yield (index, decision) as they finish; otherwise as ``complete``."""
        return self._grouped(choices, self._decide)

    def _grouped(self, asked: Sequence[Q], ask: Callable[[float, Q, Event], A]) -> Generator[tuple[int, A]]:
        for model, group in itertools.groupby(enumerate(asked), key=lambda item: item[1].model):
            questions = list(group)
            self._begin(model)
            at_once = min(self._concurrency, len(questions))
            timed = functools.partial(ask, self._timeout * at_once)
            yield from side_by_side(timed, questions, at_once)

    def _decide(self, seconds: float, choice: Choice, stop: Event) -> Decision | LeftOut:
        """Ask for a verdict. Raises MissingError where the first judgements of a model all fail: it can't judge."""
        model, schema = choice.model, verdict_schema(choice.options, reason=choice.reason)
        same = {f.name: getattr(choice, f.name) for f in fields(Request) if hasattr(choice, f.name)}
        answer = self._answer(seconds, Request(**same, schema=schema), stop)
        if isinstance(answer, Completion):
            self._judges.add(model)
            said, shares = vars(answer.parsed), verdict_probabilities(choice.options, answer)
            return Decision(said["choice"], said.get("reason", ""), probabilities=shares, seconds=answer.seconds)
        self._given_up[model] += answer.draws > 0
        if self._given_up[model] >= FIRST_JUDGEMENTS and model not in self._judges:
            raise MissingError(
                f"{model} gave no usable judgement, {FIRST_JUDGEMENTS} times in a row; the last time: {answer.reason}. "
                "All other answers are kept. Take another --judge."
            )
        return answer

    def _answer(self, seconds: float, request: Request, stop: Event) -> Completion | LeftOut:
        """Draw until an answer is of use.

        Some models obey no schema (gpt-oss says nothing under one). Until a structured answer has come from a model,
        a draw that says nothing is followed by one of the other form; the form that worked is kept.
        """
        about, model, reason = request.label or f"a question to {request.model}", request.model, ""
        in_words, context = self._in_words.get(model, False), self._context(model)
        text = (request.system or "") + request.prompt
        hopeless = context and len(text.encode()) > MOST_BYTES_A_TOKEN * context
        for number in range(DRAWS):
            drawn = redrawn(request, number, in_words=in_words or (self.doubts_schema and number > 0))
            say = functools.partial(self._say, drawn, seconds, in_words=in_words)
            try:
                if hopeless:  # it would be read for minutes, and then refused
                    raise ContextError
                answer = self._persist(about, say, stop)
            except ContextError as error:
                if error.context:
                    self.told[model] = error.context
                tokens = error.tokens or estimate_tokens(text)
                room = -(-(tokens + request.num_predict) // 1024) * 1024
                what = f"it is longer than the context of {model}: about {tokens:,} tokens. {self.enlarge} {room}"
                return LeftOut(what)
            except UselessError as error:
                reason = str(error)
                log.debug("%s: %s; drawn again", about, reason)
                if error.silent and request.schema:
                    in_words = self._in_words.get(model, not in_words)
                if stop.is_set():  # the asking is over: another draw would be for nobody
                    raise MissingError(f"{about}: {reason}") from None
                continue
            if request.schema:
                self._in_words.setdefault(model, in_words)
            elif mark := ANY_MARK.match(answer.text):
                self._marked[model, mark[0]] += 1
                if self._marked[model, mark[0]] == MARKED_ANSWERS:
                    said = "%s: %d answers begin with %s. If a thought follows, it is judged as part of the answer."
                    log.warning(said, model, MARKED_ANSWERS, mark[0])
            log.debug("%s: %s took %.2f s, %s tokens", request.label, model, answer.seconds, answer.tokens)
            return answer
        return LeftOut(f"{reason}, in each of {DRAWS} draws", DRAWS)

    def _persist(self, about: str, attempt: Callable[[], A], stop: Event | None = None) -> A:
        """Call ``attempt`` until it succeeds, waiting twice as long before each further time.

        Raises MissingError after too many failures, too long without a server, or once ``stop`` is set.
        """
        stop, pause, weight, tried, first = stop or Event(), self._retry_wait, 0, 0, 0.0
        while True:
            try:
                return attempt()
            except PassingError as error:
                tried, weight, away, now = tried + 1, weight + error.weight, not error.weight, time.monotonic()
                first = (first or now) if away else 0.0  # nobody has listened since then
                if away and now > self._away_until and not stop.is_set():  # said once for all in flight
                    self._away_until = now + AWAY_SECONDS
                    log.warning("%s: %s; waiting for it, up to %.0f s", self.address, error, AWAY_SECONDS)
                last = weight >= ATTEMPTS or (away and now - first >= AWAY_SECONDS)
                if last or stop.wait(min(pause, PATIENCE) if away else max(pause, error.pause)):
                    said = f"{about}: {error} ({tried} attempts at {self.address}). {KEPT} {error.hint}"
                    raise MissingError(said.rstrip()) from error
                if not away:
                    log.info("%s: %s; asked again (attempt %d)", about, error, tried + 1)
                pause *= 2

    def _at_once(self, ask: Callable[[Any], A]) -> A:
        """What the server says within seconds. Raises MissingError where none answers, or it refuses."""
        self._opener()  # before the clock starts: the first import takes a second on a busy machine
        try:
            # a look-up of the server's name has no time limit of its own: it is left behind
            return within(PATIENCE, lambda: self._ask(ask, PATIENCE))
        except (PassingError, TimeoutError) as error:
            raise MissingError(f"No {self.kind} answers at {self.address}: {error}. {self.mend}") from error

    def _ask(self, ask: Callable[[Any], A], seconds: float, model: str = "") -> A:
        """One attempt, with a client and a connection of its own. Raises PassingError where another one may succeed,
        ContextError for a prompt that is too long, MissingError where none will."""
        opener, timeout = self._opener(), (PATIENCE, seconds, seconds, seconds)
        try:
            opened = opener(timeout=timeout, **client_options(self.address))
        except ImportError as error:
            raise MissingError(
                f"{self.address}: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a SOCKS proxy, for which a package is "
                'missing. Get it, or unset the variable:\n  pip install "httpx[socks]"'
            ) from error
        except Exception as error:  # it is not repeated: it may hold a password
            raise UsageError(
                f"{type(error).__name__}: for {self.address} HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names no proxy such "
                "as http://host:8080 or socks5://host:1080, or SSL_CERT_FILE no certificates. Mend or unset it."
            ) from error
        try:
            with opened as client:
                return ask(client)
        except (PassingError, UselessError, ContextError):
            raise
        except Exception as error:  # of httpx or of httpx2, or whatever a reply of another shape leads to
            raise self._failure(error, seconds, model) from error

    def _failure(self, error: Any, seconds: float, model: str) -> Exception:
        """The exception that an error of a client stands for."""
        if (status := getattr(error, "status_code", None)) is not None:
            if (response := getattr(error, "response", None)) is None:
                return self._refusal(status, str(error.error), model)
            asked = response.headers.get("retry-after", "")
            pause = min(float(asked), AWAY_SECONDS) if asked.isdecimal() else 0.0
            return self._refusal(status, response.text, model, pause)
        kinds = {type(each).__name__ for each in (error, error.__cause__)}
        if "CERTIFICATE_VERIFY_FAILED" in f"{error} {error.__cause__} {error.__context__}":
            return MissingError(
                f"{self.address}: its certificate is signed by nobody who is known here (by itself, or by a company's "
                "own authority). SSL_CERT_FILE=FILE.pem names a file of certificates to trust."
            )
        if kinds & {"ConnectError", "ConnectTimeout", "ConnectionError"}:
            return PassingError("the connection failed", weight=0, hint=self.mend)
        if any(kind.endswith("Timeout") for kind in kinds):
            hint = "A longer --timeout or a lower --concurrency may help."
            return PassingError(f"no answer within {seconds:g} s", weight=4, hint=hint)
        return PassingError(f"the connection broke, or no {self.kind} answers ({type(error).__name__})", hint=self.mend)

    def _refusal(self, status: int, said: str, model: str, pause: float = 0.0) -> Exception:
        """The exception that an HTTP status of an error stands for."""
        if too_long := read_overflow(status, said):
            return too_long
        words = said_by(status, said, self._key)
        if status in (408, 429, 500, *range(502, 600)) and "insufficient_quota" not in said:
            hint = f"If {model} can't be loaded there, leave it out of --models or take another --judge." * bool(model)
            return PassingError(f"the server answered {words}", pause=pause, hint=hint)
        remedy = self._remedy(status, said, model)
        return RefusedError(f"{self.address} refused the request ({words}). {KEPT} {remedy}", status, said)
