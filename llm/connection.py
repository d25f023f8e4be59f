"""Reach a server over HTTP: its proxy and certificates, and the errors that it answers with."""

from __future__ import annotations

import functools
import http.client
import importlib.util
import json
import re
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from core.errors import MissingError, UsageError
from core.text import plain
from llm.addresses import is_loopback

if TYPE_CHECKING:
    import ssl

SAID_CHARACTERS = 200  # of a server's error message: some send whole pages


def client_options(url: str) -> dict[str, Any]:
    """Options with which an httpx client reaches ``url``, whatever the environment holds.

    The client itself reads no variable: it fails on entries of NO_PROXY that every other program takes. Raises
    UsageError or MissingError naming the variable that can't be used.
    """
    return {"trust_env": False, "proxy": _proxy(url), "verify": _certificates(url.startswith("https"))}


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for ``url``; None for loopback, to which no proxy leads."""
    import httpx

    parts, named = urlsplit(url), urllib.request.getproxies()
    proxy = (named.get(parts.scheme) or named.get("all") or "").strip()
    if not proxy or is_loopback(url) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    variables = f"{parts.scheme.upper()}_PROXY or ALL_PROXY"
    try:
        scheme = httpx.Proxy(proxy).url.scheme
    except (ValueError, httpx.InvalidURL):  # it is not repeated: it may hold a password
        example = "http://host:8080 or socks5://host:1080"
        raise UsageError(f"{variables} names no proxy such as {example}. Mend or unset it.") from None
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise MissingError(
            f"{variables} names a SOCKS proxy, for which a package is missing. Get it, or unset the variable:\n"
            '  pip install "httpx[socks]"'
        )
    return proxy


@functools.cache  # reading the certificates takes 30 ms, a new client without it 0.1 ms
def _certificates(secure: bool) -> ssl.SSLContext:
    import httpx

    try:
        return httpx.create_ssl_context(trust_env=secure)
    except OSError as error:
        raise UsageError(f"SSL_CERT_FILE or SSL_CERT_DIR can't be read: {error}. Mend or unset it.") from None


def said_by(status: int, said: object) -> str:
    """A server's error in words, made printable and short."""
    words = plain(said)[:SAID_CHARACTERS].strip()
    return f"HTTP {status}: {words}" if words else f"HTTP {status}, without a word"


def get_json(url: str, seconds: float) -> Any:
    """What a GET answers, None where that is no JSON. Without a client, whose import takes a second."""
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=seconds) as reply:
            return json.load(reply)
    except (OSError, ValueError, http.client.HTTPException):
        return None


# A prompt beyond the context in the words of Ollama, llama.cpp, LM Studio, vLLM and its engine, OpenAI and Anthropic.
_OVERFLOW = re.compile("context.?(length|size|window)|n_ctx|maximum model length|prompt is too long", re.IGNORECASE)
_CONTEXT = re.compile(r'(?:n_ctx"?|context.?(?:length|size|window)|model length)[^\d"]{1,20}?(\d{3,})', re.IGNORECASE)


class ContextError(Exception):
    """A prompt that is too long: its tokens and those of the context, each None where that is not said."""

    def __init__(self, tokens: int | None = None, context: int | None = None) -> None:
        super().__init__("the prompt is longer than the context")
        self.tokens, self.context = tokens, context


def read_overflow(status: int, said: str) -> ContextError | None:
    """The error that a refusal of a prompt that is too long stands for; None for any other refusal."""
    if status != 400 or not _OVERFLOW.search(said):
        return None
    context = _CONTEXT.search(said)
    return ContextError(max(map(int, re.findall(r"\d{3,}", said)), default=None), int(context[1]) if context else None)
