"""Ollama: the implementation of ``llm.LanguageModel`` that asks a server.

model = OllamaModel()                       # OLLAMA_HOST, else http://127.0.0.1:11434
for index, completion in model.complete([Request("gemma3:4b", "How do I sort a list?", label="prompt 1")]):
    ...
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from core.errors import MissingError
from llm.interface import Choice, Completion, Decision, Request, estimate_tokens
from llm.ollama_http import FailedAttemptError, Server, background_loop
from llm.replies import ModelInfo, ShowInfo, Verdict, model_info, read_reply, show_info, verdict_schema

if TYPE_CHECKING:
    from ollama import AsyncClient

log = logging.getLogger("ranking.llm")

DEFAULT_NUM_CTX = 8192
KEEP_ALIVE = "30m"  # a model must not be unloaded while the suite reads or writes its caches
PATIENCE = 3.0  # seconds in which a living server says its version
REDRAW_TEMPERATURE = 0.3  # at 0 another seed would draw the same useless answer again


class OllamaModel:
    """The Ollama implementation of ``llm.LanguageModel``. Its constructor contacts nobody.

    host: as in OLLAMA_HOST (None: that variable, else the default). concurrency: requests in flight at once.
    timeout: seconds for one request. num_ctx: context in tokens by tag, set once for a run since a change makes the
    server load the model anew. known_digests: tag → digest as an earlier run recorded them, for when the server is off.
    retry_wait: seconds before the second attempt, doubled before each further one.

    ``server_cuts`` counts the answers before which the server cut the prompt itself.
    Raises UsageError where the host is no address.
    """

    backend = "ollama"
    weighs_options = False

    def __init__(
        self,
        host: str | None = None,
        *,
        concurrency: int = 4,
        timeout: float = 300.0,
        num_ctx: Mapping[str, int] | None = None,
        known_digests: Mapping[str, str] | None = None,
        retry_wait: float = 1.0,
    ) -> None:
        self._server = Server(host, timeout=timeout, concurrency=concurrency, retry_wait=retry_wait)
        self._concurrency = concurrency
        self._num_ctx = dict(num_ctx or {})
        self._known_digests = dict(known_digests or {})
        self._identities: dict[str, dict[str, Any]] = {}
        self._tags: dict[str, ModelInfo] | None = None
        self._shown: dict[str, ShowInfo] = {}
        self.server_cuts = 0

    @property
    def display_host(self) -> str:
        """The server's address without credentials, for messages."""
        return self._server.url

    # ── What is there ────────────────────────────────────────────────────────────────────────────────────

    def available(self) -> bool:
        """Whether an Ollama server answers, settled within three seconds."""
        try:
            self.version()
        except MissingError as error:
            log.debug("%s", error)
            return False
        return True

    def version(self) -> str:
        """The server's version. Raises MissingError where none answers within three seconds."""

        async def ask(client: AsyncClient) -> str:
            reply = await client._client.get("/api/version")  # the official client has no call for it
            return str(reply.json()["version"])

        try:
            return self._server.call(lambda client: self._server.once(ask(client), seconds=PATIENCE))
        except FailedAttemptError as error:
            raise MissingError(
                f"No Ollama server answers at {self.display_host}: {error}. Start one with `ollama serve`, set "
                "OLLAMA_HOST to where it runs, or use --backend embedded."
            ) from error

    def installed(self) -> dict[str, ModelInfo]:
        """tag → what the server has, asked anew at each call. Raises MissingError where it doesn't answer."""

        async def ask(client: AsyncClient) -> dict[str, ModelInfo]:
            listed = await self._server.persist("the list of models", lambda _: self._server.once(client.list()))
            return {m.model: model_info(m) for m in listed.models if m.model}

        return self._server.call(ask)

    def show(self, tag: str) -> ShowInfo:
        """Capabilities and context length of an installed model. Raises MissingError where it is not installed."""
        return self._server.call(lambda client: self._show(client, tag))

    async def _show(self, client: AsyncClient, tag: str) -> ShowInfo:
        if tag not in self._shown:
            shown = await self._server.persist(
                f"what {tag} can do", lambda _: self._server.once(client.show(tag), model=tag)
            )
            self._shown[tag] = show_info(tag, shown)
        return self._shown[tag]

    def context(self, tag: str) -> int:
        """The context in tokens with which ``tag`` is asked: as configured, but never more than the model has."""
        return self._context(self.show(tag))

    def identity(self, model: str) -> dict[str, Any]:
        """Backend, tag and digest. With the server off, or without the model, the digest that an earlier run recorded;
        MissingError where none did."""
        if model not in self._identities:
            self._identities[model] = {"backend": self.backend, "tag": model, "digest": self._digest(model)}
        return self._identities[model]

    def _digest(self, tag: str) -> str:
        if self._tags is None:
            self._tags = self.installed() if self.available() else {}
        for name in (tag, f"{tag}:latest"):  # a tag without a size means the latest
            if name in self._tags:
                return self._tags[name].digest
        if tag in self._known_digests:
            return self._known_digests[tag]
        if self._tags:
            raise MissingError(f"{self.display_host} has no model {tag}. Get it with:\n  ollama pull {tag}")
        raise MissingError(
            f"No Ollama server answers at {self.display_host}, and no earlier run recorded which {tag} it has. Start "
            "it with `ollama serve`, set OLLAMA_HOST to where it runs, or use --backend embedded."
        )

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────

    def complete(self, requests: Sequence[Request]) -> Generator[tuple[int, Completion]]:
        """Yield (index, completion) as they finish, ``concurrency`` in flight; a run of requests to one model is done
        before the next model is touched.

        An attempt that failed in passing is repeated, an answer that can't be used is drawn anew with another seed.
        Raises MissingError for what can't be had, after everything that did finish has been yielded.
        """
        if any(r.opening for r in requests):
            raise ValueError("only the embedded model can be given the opening words of its answer")
        done: queue.SimpleQueue[tuple[int, Completion] | None] = queue.SimpleQueue()
        with background_loop() as loop:
            work = asyncio.run_coroutine_threadsafe(self._answer_all(requests, done), loop)
            work.add_done_callback(lambda _: done.put(None))
            while (finished := done.get()) is not None:
                yield finished
            work.result()

    def choose(self, choices: Sequence[Choice]) -> Generator[tuple[int, Decision]]:
        """Yield (index, decision) as they finish; otherwise as ``complete``."""
        schemas = {options: verdict_schema(options) for options in {c.options for c in choices}}
        requests = [
            Request(
                model=c.model,
                prompt=c.prompt,
                system=c.system,
                schema=schemas[c.options],
                temperature=c.temperature,
                num_predict=c.num_predict,
                seed=c.seed,
                label=c.label,
            )
            for c in choices
        ]
        with closing(self.complete(requests)) as answers:
            for index, answer in answers:
                verdict = answer.parsed
                assert isinstance(verdict, Verdict)
                yield index, Decision(verdict.winner, verdict.reason, tokens=answer.tokens, seconds=answer.seconds)

    async def _answer_all(self, requests: Sequence[Request], done: queue.SimpleQueue[Any]) -> None:
        async with self._server.client() as client:
            for model, group in itertools.groupby(enumerate(requests), key=lambda item: item[1].model):
                await self._answer_group(client, await self._show(client, model), list(group), done)

    async def _answer_group(
        self, client: AsyncClient, show: ShowInfo, group: Sequence[tuple[int, Request]], done: queue.SimpleQueue[Any]
    ) -> None:
        waiting = list(reversed(group))

        async def work() -> None:
            while waiting:
                index, request = waiting.pop()
                try:
                    done.put((index, await self._answer(client, show, request)))
                except BaseException:
                    waiting.clear()  # what is in flight may finish, nothing more is begun
                    raise

        ends = await asyncio.gather(
            *(work() for _ in range(min(self._concurrency, len(group)))), return_exceptions=True
        )
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _answer(self, client: AsyncClient, show: ShowInfo, request: Request) -> Completion:
        return await self._server.persist(
            request.label or f"a question to {request.model}", lambda redraws: self._ask(client, show, request, redraws)
        )

    async def _ask(self, client: AsyncClient, show: ShowInfo, request: Request, redraws: int) -> Completion:
        start = time.perf_counter()
        asking = client.chat(
            model=request.model,
            messages=_messages(request),
            format=request.schema.model_json_schema() if request.schema else None,
            options=self._options(show, request, redraws),
            think=False if show.thinking else None,  # servers refuse the word for models that can't
            keep_alive=KEEP_ALIVE,
        )
        reply = await self._server.once(asking, model=request.model)
        completion = read_reply(request, reply, time.perf_counter() - start)
        log.debug(
            "%s: %s took %.2f s, %d tokens read, %d written",
            request.label, request.model, completion.seconds, completion.prompt_tokens, completion.tokens,
        )  # fmt: skip
        self._notice_cut(show, request, completion)
        return completion

    def _options(self, show: ShowInfo, request: Request, redraws: int) -> dict[str, Any]:
        temperature = max(request.temperature, REDRAW_TEMPERATURE) if redraws else request.temperature
        return {
            "seed": (request.seed + redraws * 7919) & 0x7FFFFFFF,
            "temperature": temperature,
            "num_ctx": self._context(show),
            "num_predict": request.num_predict,
        }

    def _context(self, show: ShowInfo) -> int:
        wanted = self._num_ctx.get(show.tag, DEFAULT_NUM_CTX)
        return min(wanted, show.context_length or wanted)

    def _notice_cut(self, show: ShowInfo, request: Request, completion: Completion) -> None:
        """Warn where the server cut the prompt.

        A prompt beyond the context is cut to all of it or (newer servers) to its half, and only what is left is
        counted. A low count alone proves nothing: older servers leave out what they still had in their prompt cache.
        So either the context was full at the end, or the prompt may not have fitted and the count is below its half.
        """
        context = self._context(show)
        estimate = estimate_tokens((request.system or "") + request.prompt)
        full = completion.prompt_tokens + completion.tokens >= context
        halved = estimate > context and 0 < completion.prompt_tokens < estimate / 2
        if full or halved:
            self.server_cuts += 1
            log.warning(
                "%s: the server cut the prompt itself (about %d tokens sent, %d read, context %d of %s)",
                request.label, estimate, completion.prompt_tokens, context, request.model,
            )  # fmt: skip


def _messages(request: Request) -> list[dict[str, str]]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, {"role": "user", "content": request.prompt}]
