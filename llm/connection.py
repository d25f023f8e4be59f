"""Reach a server: its address and names as it reads them itself, its proxy and certificates, and what it refuses."""

import functools
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from core.errors import UsageError
from core.text import plain

PATIENCE = 5.0  # seconds in which a living server takes a connection, and says what it is
SAID_CHARACTERS = 200  # of a server's error message: some send whole pages
KEY_CHARACTERS = 8  # by which a key is known: shorter ones are dummies, and parts of words
_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a server listens on everything
_API = re.compile(r"/(api|v1)(/.*)?$")  # of Ollama, as tools write it behind the address


def parse_host(host: str) -> tuple[str, tuple[str, str] | None]:
    """(address without credentials, (user, password) or None) from a host as Ollama's own client reads it.

    No scheme means http and port 11434, no host or every interface (0.0.0.0) this machine; a path to its API is left
    away. Raises UsageError, which quotes nothing: it may hold a password.
    """
    address, parts = _split(host, "OLLAMA_HOST", "http://127.0.0.1:11434 or https://user:p%40ss@host:443", 11434)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return address + _API.sub("", parts.path).rstrip("/"), auth


def parse_address(url: str) -> str:
    """The address as OpenAI's client wants it: no scheme means http, no path /v1. Raises as ``parse_host``."""
    address, parts = _split(url, "OPENAI_BASE_URL", "http://127.0.0.1:1234/v1; a key belongs into OPENAI_API_KEY")
    return address + (parts.path.rstrip("/") or "/v1")


def _split(text: str, variable: str, example: str, port: int | None = None) -> tuple[str, SplitResult]:
    """(scheme, host and port; all parts). ``port``: of an address without a scheme, in which a user may stand."""
    text = text.strip(" \t\r\n\"',")
    scheme, divider, rest = text.rpartition("://")
    try:
        parts = urlsplit(f"{scheme or 'http'}://{rest}")
        asked = parts.port or (None if divider else port)
        name = _HERE.get(parts.hostname or "", parts.hostname or "")
        written = re.fullmatch(r"[!-~]*", text) and not re.search("[,?#]", text) and "@" not in parts.path
        known = parts.scheme in ("http", "https") and re.fullmatch(r"[\w.:%-]+", name)
        if not written or not known or ("@" in text and not port):
            raise ValueError
    except ValueError:
        raise UsageError(f"{variable} is not one address such as {example}.") from None
    host = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{host}" + (f":{asked}" if asked else ""), parts


def read_key(name: str, value: str | None = None) -> str:
    """The key in the variable ``name``, or a given one. Raises UsageError, without quoting it, for one that is none."""
    key = (os.environ.get(name, "") if value is None else value).strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"{name} holds characters that no key has; it was copied with something else?")
    return key


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own loopback."""
    name = urlsplit(url).hostname or ""
    return name in ("localhost", "::1") or name.startswith("127.")


def find_tag(tag: str, installed: Iterable[str]) -> str | None:
    """The installed name that answers to a tag: itself, in other letters, or as ``:latest``; None where none does."""
    names = {name.casefold(): name for name in installed}
    return names.get(tag.casefold()) or names.get(f"{tag}:latest".casefold())


@functools.cache  # reading the certificates takes 30 ms
def client_options(url: str) -> dict[str, Any]:
    """Options with which an httpx client reaches ``url``: this machine past every proxy, others as the environment
    says, which the client itself does not read: it fails on entries of NO_PROXY that every other program takes.

    Raises OSError where its certificates can't be read.
    """
    import httpx

    parts, named = urlsplit(url), getproxies()
    proxy: str | None = (named.get(parts.scheme) or named.get("all") or "").strip() or None
    if is_loopback(url) or proxy_bypass(parts.hostname or ""):
        proxy = None
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    certificates = httpx.create_ssl_context(trust_env=parts.scheme == "https")
    return {"trust_env": False, "proxy": proxy, "verify": certificates}


def get_json(url: str) -> dict[str, Any]:
    """The JSON object that a GET answers, else empty. Without OpenAI's client, whose import takes a second."""
    import httpx

    with suppress(Exception):  # whatever it is, nothing of use answers there
        return dict(httpx.get(url, timeout=PATIENCE, **client_options(url)).json())
    return {}


def said_by(status: int, said: str, key: str = "") -> str:
    """A server's error in words, printable and short: the message in it, where it is JSON, without the key."""
    words: Any = said
    with suppress(ValueError):
        words = json.loads(said)
    for name in ("error", "detail", "message"):
        words = (words.get(name) or words) if isinstance(words, dict) else words
    words = plain(words)
    if len(key) >= KEY_CHARACTERS:  # some servers repeat it
        words = re.sub(re.escape(key[:KEY_CHARACTERS]) + r"\S*", "…", words)
    return f"HTTP {status}: {words.strip()[:SAID_CHARACTERS]}".rstrip(": ")


# A prompt beyond the context in the words of Ollama, llama.cpp, LM Studio, vLLM and its engine, TGI, OpenAI, Anthropic.
_OVERFLOW = re.compile("(?i)context.?(length|size|window)|n_ctx|model length|prompt is too long|`inputs` (tokens|must)")
_CONTEXT = re.compile(r'(?i)(?:n_ctx"?|context.?(?:length|size|window)|model length|<=)[^\d"]{1,20}?(\d{3,})')


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
