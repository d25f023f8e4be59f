"""Ollama: the implementation of ``llm.interface.LanguageModel`` that asks servers, through the official client.

model = OllamaModel()                       # OLLAMA_HOST, else http://127.0.0.1:11434
for index, completion in model.complete([Request("gemma3:4b", "How do I sort a list?", label="prompt 1")]):
    ...
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

from core.errors import MissingError, UsageError
from llm import thinking
from llm.addresses import parse_hosts
from llm.calls import Calls
from llm.interface import Choice, Completion, Decision, LeftOut, Request, estimate_tokens
from llm.manners import Manners
from llm.ollama_hosts import Group, side_by_side
from llm.ollama_server import ModelInfo, OllamaServer, RefusedError, ShowInfo
from llm.replies import as_decision, as_request, bounded, read_answer
from llm.retry import FailedAttemptError, GivenUpError, warmed
from llm.thinking import Manner, Probed

log = logging.getLogger("ranking.llm")

DEFAULT_NUM_CTX = 8192
KEEP_ALIVE = "30m"  # a model must not be unloaded while the suite reads or writes its caches
KEPT_TOKENS = (4, 5)  # at a prompt's beginning when the server cuts it: num_keep's default, and a BOS


class OllamaModel:
    """The Ollama implementation of ``LanguageModel``. Its constructor contacts nobody.

    host: as in OLLAMA_HOST (None: that variable, else the default), or several divided by commas: each model is pinned
    to one of those that have it. concurrency: requests in flight at once at each. timeout: seconds for one answer.
    num_ctx: context in tokens by tag, set once for a run since a change makes the server load the model anew.
    known_digests: tag → digest as an earlier run recorded them, for when the server is off. known_probes: what its
    probes of models that think showed. retry_wait: seconds before the second attempt, doubled before each further one.

    ``display_host`` is the servers' addresses without credentials, for messages. ``manners`` tells how each model is
    asked. ``server_cuts`` counts the answers before which a server cut the prompt itself. Raises UsageError where a
    host is no address.
    """

    backend = "ollama"
    weighs_options = False

    def __init__(
        self,
        host: str | None = None,
        *,
        concurrency: int = 2,
        timeout: float = 300.0,
        num_ctx: Mapping[str, int] | None = None,
        known_digests: Mapping[str, str] | None = None,
        known_probes: Mapping[str, Probed] | None = None,
        retry_wait: float = 1.0,
    ) -> None:
        hosts = parse_hosts(os.environ.get("OLLAMA_HOST", "") if host is None else host)
        self.servers = [OllamaServer(url, auth, timeout=timeout, retry_wait=retry_wait) for url, auth in hosts]
        self.display_host = ", ".join(server.url for server in self.servers)
        self._concurrency = concurrency
        self._num_ctx = dict(num_ctx or {})
        self._known_digests = dict(known_digests or {})
        self._identities: dict[str, dict[str, Any]] = {}
        self._lost: set[str] = set()
        self._asked_who_answers = False
        self._pins: dict[str, OllamaServer] = {}
        self.manners = Manners(self.server_of, self._context, KEEP_ALIVE, known_probes or {})
        self.server_cuts = 0

    # ── What is there ────────────────────────────────────────────────────────────────────────────────────

    def available(self) -> bool:
        """Whether an Ollama server answers, settled within three seconds. Raises RefusedError where one answers, but
        not to us."""
        self._asked_who_answers, self._lost = True, set()
        for server in self.servers:
            try:
                server.version()
            except RefusedError:
                raise
            except MissingError as error:
                log.debug("%s", error)
                self._lost.add(server.url)
        return bool(self.answering())

    def answering(self) -> list[OllamaServer]:
        """The servers that answered when they were last asked."""
        return [server for server in self.servers if server.url not in self._lost]

    def version(self) -> str:
        """The servers' version, or versions. Raises MissingError where none answers within three seconds."""
        living = self.answering() or self.servers
        return ", ".join(dict.fromkeys(server.version() for server in living))

    def installed(self) -> dict[str, ModelInfo]:
        """tag → what the servers have, asked anew at each call. Raises MissingError where they don't answer."""
        living = self.answering() or self.servers
        return {tag: info for server in reversed(living) for tag, info in server.installed().items()}

    def show(self, tag: str) -> ShowInfo:
        """What an installed model can do, asked once. Raises MissingError where it isn't installed."""
        return self.server_of(tag).show(tag)

    def identity(self, model: str) -> dict[str, Any]:
        """Backend, tag and digest. With the server off, or without the model, the digest that an earlier run recorded;
        MissingError where none did, UsageError where two servers have two models of one name."""
        if model not in self._identities:
            self._identities[model] = {"backend": self.backend, "tag": model, "digest": self._digest(model)}
        return self._identities[model]

    def _digest(self, tag: str) -> str:
        if not self._asked_who_answers:
            self.available()
        found = {server.url: info.digest for server in self.answering() if (info := server.find(tag))}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{digest[:12]} at {url}" for url, digest in found.items())
            raise UsageError(
                f"{tag} is not the same model everywhere: {listed}. `ollama pull {tag}` on each, or take one server "
                "out of OLLAMA_HOST."
            )
        if found:
            return next(iter(found.values()))
        if tag in self._known_digests:
            return self._known_digests[tag]
        if self.answering():
            raise MissingError(f"{self.display_host} has no model {tag}. Get it with:\n  ollama pull {tag}")
        raise MissingError(
            f"No Ollama server answers at {self.display_host}, and no earlier run recorded which {tag} it has. Start "
            "it with `ollama serve`, set OLLAMA_HOST to where it runs, or use --backend embedded."
        )

    def server_of(self, tag: str) -> OllamaServer:
        """The server that a model is pinned to: of those that have it, the one with the fewest so far. Raises
        MissingError where none has it."""
        if len(self.servers) == 1:
            return self.servers[0]
        if tag not in self._pins:
            if not self._asked_who_answers:
                self.available()
            having = [server for server in self.answering() if server.find(tag)]
            if not having:
                raise MissingError(f"No server at {self.display_host} has {tag}. Get it with:\n  ollama pull {tag}")
            pinned = list(self._pins.values())
            self._pins[tag] = min(having, key=lambda server: sum(other is server for other in pinned))
        return self._pins[tag]

    def lose(self, server: OllamaServer) -> None:
        """Go on without a server: its models are pinned anew."""
        log.warning("%s does not answer any more; what it had to do goes to the other servers", server.url)
        self._lost.add(server.url)
        self._pins = {tag: pinned for tag, pinned in self._pins.items() if pinned is not server}

    def unload(self) -> None:
        """Free the memory of this machine that models fill."""
        for server in self.answering():
            server.unload()

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────

    def complete(self, requests: Sequence[Request]) -> Generator[tuple[int, Completion | LeftOut]]:
        """Yield (index, completion) as they finish, ``concurrency`` in flight; a run of requests to one model is done
        before the next model of its server is touched, and its memory given back.

        An attempt that failed in passing is repeated, an answer that can't be used is drawn anew with another seed and
        a higher temperature; one that is still of no use after the last draw is left out. Raises MissingError for what
        can't be had, after everything that did finish has been yielded. Whoever stops listening (Ctrl-C, or the
        generator closed) cuts what is in flight, which tells the server to stop as well.
        """
        if any(r.opening for r in requests):
            raise ValueError("only the embedded model can be given the opening words of its answer")
        by_model = itertools.groupby(enumerate(requests), key=lambda item: item[1].model)
        groups: list[Group] = [(model, list(group)) for model, group in by_model]
        if len(self.servers) > 1:
            yield from side_by_side(groups, self, self._concurrency, self._ask_group)
            return
        with Calls(self._concurrency) as calls:
            for group in groups:
                yield from self._ask_group(self.servers[0], calls, group)

    def choose(self, choices: Sequence[Choice]) -> Generator[tuple[int, Decision | LeftOut]]:
        """Yield (index, decision) as they finish; otherwise as ``complete``."""
        with closing(self.complete([as_request(choice) for choice in choices])) as answers:
            for index, answer in answers:
                yield index, answer if isinstance(answer, LeftOut) else as_decision(answer)

    def _ask_group(
        self, server: OllamaServer, calls: Calls, group: Group
    ) -> Generator[tuple[int, Completion | LeftOut]]:
        model, questions = group
        show, manner = server.show(model), self.manners.of(model, judge=False)
        server.make_room(model)
        requests = dict(questions)
        at_once = min(self._concurrency, len(questions))
        ask = functools.partial(self._answer, server, calls, show, manner, at_once)
        for index, answer in calls.each(ask, questions):
            if isinstance(answer, Completion):
                self._notice_cut(show, requests[index], answer)
            yield index, answer

    def _answer(
        self, server: OllamaServer, calls: Calls, show: ShowInfo, manner: Manner, at_once: int, request: Request
    ) -> Completion | LeftOut:
        think = manner.structured if request.schema else manner.plain

        def attempt(redraws: int) -> Completion:
            start = time.perf_counter()
            system = [{"role": "system", "content": request.system}] if request.system else []
            reply = server.once(
                calls,
                lambda client: client.chat(
                    model=request.model,
                    messages=[*system, {"role": "user", "content": request.prompt}],
                    format=bounded(request.schema, request.num_predict) if request.schema else None,
                    options=self._options(show, request, redraws, thinking.THOUGHT_TOKENS if think else 0),
                    think=think,  # None for models that can't: servers refuse the word for them
                    keep_alive=KEEP_ALIVE,
                ),
                model=request.model,
                at_once=at_once,
            )
            if reply.done is False:  # the server's answer to thirty times the same token
                raise FailedAttemptError("the answer broke off", redraw=True)
            said = Completion(
                text=reply.message.content or "",
                tokens=reply.eval_count or 0,
                seconds=time.perf_counter() - start,
                truncated=reply.done_reason == "length",
                prompt_tokens=reply.prompt_eval_count or 0,
            )
            return read_answer(request, said)

        about = request.label or f"a question to {request.model}"
        try:
            completion = server.persist(calls, about, attempt, at_once=at_once)
        except GivenUpError as given_up:
            return LeftOut(given_up.reason)
        log.debug(
            "%s: %s took %.2f s, %d tokens read, %d written",
            request.label, request.model, completion.seconds, completion.prompt_tokens, completion.tokens,
        )  # fmt: skip
        return completion

    def _options(self, show: ShowInfo, request: Request, redraws: int, thought: int) -> dict[str, Any]:
        return {
            "seed": (request.seed + redraws * 7919) & 0x7FFFFFFF,
            "temperature": warmed(request.temperature, redraws),
            "num_ctx": self._context(show),
            "num_predict": request.num_predict + thought,
        }

    def _context(self, show: ShowInfo) -> int:
        """The context in tokens that a model is asked with: as configured, but never more than it has."""
        wanted = self._num_ctx.get(show.tag, DEFAULT_NUM_CTX)
        return min(wanted, show.context_length or wanted)

    def _notice_cut(self, show: ShowInfo, request: Request, completion: Completion) -> None:
        """Count and say it where the server cut the prompt.

        A prompt beyond the context is cut to all of it or (newer servers) to its beginning and a half, and only what is
        left is counted. A low count alone proves nothing: older servers leave out what they still had in their prompt
        cache. So either the context was full at the end, or exactly as many tokens were read as a cut leaves, of a text
        that may have had more than the context: it can't have more tokens than bytes.
        """
        context = self._context(show)
        text = (request.system or "") + request.prompt
        full = completion.prompt_tokens + completion.tokens >= context
        left = [context - (context - kept) // 2 for kept in KEPT_TOKENS]
        halved = completion.prompt_tokens in left and len(text.encode("utf-8", "replace")) >= context
        if full or halved:
            self.server_cuts += 1
            log.warning(
                "%s: the server cut the prompt itself (about %d tokens sent, %d read, context %d of %s)",
                request.label, estimate_tokens(text), completion.prompt_tokens, context, request.model,
            )  # fmt: skip
