"""Reach a server over HTTP: its proxy and certificates, and the errors that it answers with."""

from __future__ import annotations

import functools
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from core.text import plain
from llm.addresses import is_loopback

if TYPE_CHECKING:
    import ssl

SAID_CHARACTERS = 200  # of a server's error message: some send whole pages
ENVIRONMENT = (
    "What the environment says of {} can't be used: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names no proxy such as "
    'http://host:8080 (socks5://host:1080 needs pip install "httpx[socks]"), NO_PROXY no hosts, or SSL_CERT_FILE or '
    "SSL_CERT_DIR no certificates. Mend or unset it."
)


def client_options(url: str) -> dict[str, Any]:
    """Options with which an httpx client reaches ``url``: this machine past every proxy, others as the environment
    says. Raises OSError where its certificates can't be read."""
    return {"trust_env": not is_loopback(url), "verify": _certificates(url.startswith("https"))}


@functools.cache  # reading the certificates takes 30 ms, a new client without it 0.1 ms
def _certificates(secure: bool) -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context(trust_env=secure)


def get_json(url: str, seconds: float) -> Any:
    """What a GET answers, None where that is no JSON. Without OpenAI's client, whose import takes a second."""
    import httpx

    with suppress(Exception):  # whatever it is, nothing of use answers there
        return httpx.get(url, timeout=seconds, **client_options(url)).json()
    return None


_MESSAGE = re.compile(r'"message": ?"(.*?)"[,}]')


def said_by(status: int, said: object) -> str:
    """A server's error in words, printable and short: the message in it, where it is JSON."""
    message = _MESSAGE.search(str(said))
    return f"HTTP {status}: {plain(message[1] if message else said)[:SAID_CHARACTERS].strip()}"


# A prompt beyond the context in the words of Ollama, llama.cpp, LM Studio, vLLM and its engine, TGI, OpenAI, Anthropic.
_OVERFLOW = re.compile(
    "context.?(length|size|window)|n_ctx|maximum model length|prompt is too long|`inputs` (tokens|must have)",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    r'(?:n_ctx"?|context.?(?:length|size|window)|model length|<=)[^\d"]{1,20}?(\d{3,})', re.IGNORECASE
)


class ContextError(Exception):
    """A prompt that is too long: its tokens and those of the context, each None where that is not said."""

    def __init__(self, tokens: int | None = None, context: int | None = None) -> None:
        super().__init__("the prompt is longer than the context")
        self.tokens, self.context = tokens, context


def read_overflow(status: int, said: str) -> ContextError | None:
    """The error that a refusal of a prompt that is too long stands for; None for any other refusal."""
    if status not in (400, 413, 422) or not _OVERFLOW.search(said):
        return None
    context = _CONTEXT.search(said)
    return ContextError(max(map(int, re.findall(r"\d{3,}", said)), default=None), int(context[1]) if context else None)
