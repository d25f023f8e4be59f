"""How each Ollama model is asked: by what it says of itself, else by an earlier run's probe of it, else by a probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llm import thinking
from llm.calls import Calls
from llm.ollama_server import OllamaServer, ShowInfo
from llm.thinking import Manner, ProbeAnswer, Probed, Think


class Manners:
    """``server_of``: where a model is; ``context``: the tokens that it is asked with; ``kept``: earlier probes."""

    def __init__(
        self,
        server_of: Callable[[str], OllamaServer],
        context: Callable[[ShowInfo], int],
        keep_alive: str,
        kept: Mapping[str, Probed],
    ) -> None:
        self._server_of, self._context, self._keep_alive = server_of, context, keep_alive
        self._kept = dict(kept)
        self._found: dict[tuple[str, bool], Manner] = {}

    @property
    def probed(self) -> Mapping[str, Probed]:
        """What is known by probes, of this run and of earlier ones."""
        return self._kept

    def known(self, tag: str, *, judge: bool) -> Manner | None:
        """How a model is asked, where that takes no probe; None where it takes one."""
        server = self._server_of(tag)
        show = server.show(tag)
        if not show.thinking:
            return Manner()
        if show.family in thinking.HARMONY:
            why = thinking.why_no_judge(tag, show.family, "") if judge else ""
            return Manner("low", "low", why)
        kept, installed = self._kept.get(tag), server.find(tag)
        same = kept and installed and (kept.digest, kept.server) == (installed.digest, server.known_version())
        return kept.manner if kept and same and (kept.judge or not judge) else None

    def of(self, tag: str, *, judge: bool) -> Manner:
        """How a model is asked; one that can think is probed for it, once, and a judge also for a structured answer."""
        if (tag, judge) not in self._found:
            self._found[tag, judge] = self.known(tag, judge=judge) or self._probed(tag, judge)
        return self._found[tag, judge]

    def _probed(self, tag: str, judge: bool) -> Manner:
        server = self._server_of(tag)
        if judge:
            manner = self.of(tag, judge=False)
            reply = self._probe(server, tag, manner.structured, ProbeAnswer)
            try:
                ProbeAnswer.model_validate_json(reply.message.content or "")
            except ValueError:  # not kept: what refuses a run is looked at again by the next
                why = thinking.why_no_judge(tag, server.show(tag).family, server.known_version())
                return Manner(manner.plain, manner.structured, why)
        else:
            reply = self._probe(server, tag, False)
            content, cut = reply.message.content or "", reply.done_reason == "length"
            thought = thinking.is_thought(content, reply.message.thinking, cut=cut)
            manner = Manner(thought, False)  # under a schema the answer begins at once: no room to think
        if installed := server.find(tag):
            self._kept[tag] = Probed(installed.digest, server.known_version(), manner, judge)
        return manner

    def _probe(self, server: OllamaServer, tag: str, think: Think, schema: type[ProbeAnswer] | None = None) -> Any:
        """The server's reply to a question with a one-letter answer."""
        options = {
            "seed": 0,
            "temperature": 0.0,
            "num_ctx": self._context(server.show(tag)),
            "num_predict": thinking.PROBE_TOKENS,
        }
        server.make_room(tag)
        with Calls() as calls:
            return server.persist(
                calls,
                f"a probe of {tag}",
                lambda _: server.once(
                    calls,
                    lambda client: client.chat(
                        model=tag,
                        messages=[{"role": "user", "content": thinking.PROBE}],
                        format=schema.model_json_schema() if schema else None,
                        options=options,
                        think=think,
                        keep_alive=self._keep_alive,
                    ),
                    model=tag,
                ),
            )
