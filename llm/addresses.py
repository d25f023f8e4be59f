"""Addresses of servers and names of their models, read as the servers themselves read them."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from core.errors import UsageError

_PORTS = {"http": 80, "https": 443}
_ENDPOINT = re.compile(r"/(api|v1)(/.*)?$")  # of Ollama, as tools write it behind the address
_CHAT = re.compile(r"/(chat/completions|completions|models)/?$")
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a server listens, not where it is asked


def parse_host(host: str) -> tuple[str, tuple[str, str] | None]:
    """(address without credentials, (user, password) or None) from a host as Ollama's own client reads it.

    No scheme means http and port 11434, a scheme its own port, no host or every interface (0.0.0.0) this machine, and
    ollama.com alone https. A path to its API (/api, /v1 and below) is left away. Raises UsageError, without quoting
    what may hold a password.
    """
    host = host.strip(" \t\r\n\"',")
    if "," in host:
        raise UsageError("OLLAMA_HOST names several servers, and one is asked: keep one address there.")
    scheme, divider, rest = host.rpartition("://")
    scheme = scheme.lower() if divider else "http"
    if not divider and rest == "ollama.com":
        scheme, divider = "https", "://"
    try:
        with suppress(ValueError):
            rest = f"[{ipaddress.IPv6Address(rest)}]"  # a bare one
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port or (_PORTS[scheme] if divider else 11434)
        name = parts.hostname or "127.0.0.1"
        odd = not re.fullmatch(r"[\w.:%-]+", name.encode("idna").decode()) or not rest.isprintable() or " " in rest
        if odd or any(c in parts.path + parts.query + parts.fragment for c in "@?#") or scheme not in _PORTS:
            raise ValueError
    except (ValueError, KeyError):
        raise UsageError(
            "OLLAMA_HOST is not an address such as 127.0.0.1:11434 or https://user:password@host:443: http and https "
            "are spoken, and special characters in a user's name or password must be percent-encoded."
        ) from None
    name = _EVERY_INTERFACE.get(name, name)
    path = _ENDPOINT.sub("", parts.path).strip("/")
    url = f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}/{path}".rstrip("/")
    return url, (unquote(parts.username), unquote(parts.password or "")) if parts.username else None


def parse_address(url: str) -> str:
    """The address as the official client wants it: no scheme means http, no path /v1, and no path to a chat.

    Raises UsageError, without quoting what may hold a password, for one that is no address or holds credentials.
    """
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        plain = parts.port != 0 and url.isprintable() and not any(c in url for c in " @?#")
        if not (plain and parts.hostname and parts.scheme in ("http", "https")):
            raise ValueError
    except ValueError:
        raise UsageError(
            "OPENAI_BASE_URL is not an address such as http://127.0.0.1:1234/v1. A key belongs into OPENAI_API_KEY."
        ) from None
    url = _CHAT.sub("", url).rstrip("/")
    return url if urlsplit(url).path.strip("/") else f"{url}/v1"


def read_key(name: str, value: str | None = None) -> str:
    """The key in the variable ``name``, or a given one. Raises UsageError, without quoting it, for one that is none."""
    key = (os.environ.get(name, "") if value is None else value).strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"{name} holds characters that no key has; it was copied with something else?")
    return key


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own loopback."""
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


# ── Names of models ──────────────────────────────────────────────────────────────────────────────────────


def usual_tag(tag: str, known: Iterable[str]) -> str:
    """The tag as it is usually written: without the library's own address, and in the letters of a known tag, since
    the server takes capitals for small letters."""
    for place in ("registry.ollama.ai/", "library/"):
        if tag.lower().startswith(place):
            tag = tag[len(place) :]
    return find_tag(tag, known) or tag


def find_tag(tag: str, installed: Iterable[str]) -> str | None:
    """The installed name that answers to a tag: itself, in other letters, or as ``:latest``; None where none does."""
    names = list(installed)
    if tag in names:
        return tag
    wanted = (tag.casefold(), f"{tag}:latest".casefold())
    return next((name for name in names if name.casefold() in wanted), None)


def is_cloud(tag: str) -> bool:
    """Whether ollama.com computes the model's answers: ``gpt-oss:120b-cloud``, ``glm-4.6:cloud``."""
    suffix = tag.rpartition(":")[2].lower() if ":" in tag else ""
    return suffix == "cloud" or suffix.endswith("-cloud")
