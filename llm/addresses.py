"""Addresses of servers and names of their models, read as the servers themselves read them."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, unquote, urlsplit

from core.errors import UsageError

_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a server listens on everything
_API = re.compile(r"/(api|v1)(/.*)?$")  # of Ollama, as tools write it behind the address


def parse_host(host: str) -> tuple[str, tuple[str, str] | None]:
    """(address without credentials, (user, password) or None) from a host as Ollama's own client reads it.

    No scheme means http and port 11434, no host or every interface (0.0.0.0) this machine. A path to its API (/api,
    /v1 and below) is left away. Raises UsageError, without quoting what may hold a password.
    """
    wrong = (
        "OLLAMA_HOST is not one address such as 127.0.0.1:11434 or https://user:password@host:443: http and https are "
        "spoken, and special characters in a user's name or password must be percent-encoded."
    )
    address, parts = _split(host, wrong, 11434)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return address + _API.sub("", parts.path).rstrip("/"), auth


def parse_address(url: str) -> str:
    """The address as the official client wants it: no scheme means http, no path /v1.

    Raises UsageError, without quoting what may hold a password, for one that is no address or holds credentials.
    """
    wrong = "OPENAI_BASE_URL is not an address such as http://127.0.0.1:1234/v1. A key belongs into OPENAI_API_KEY."
    address, parts = _split(url, wrong)
    if "@" in url:
        raise UsageError(wrong)
    return address + (parts.path.rstrip("/") or "/v1")


def _split(text: str, wrong: str, port: int | None = None) -> tuple[str, SplitResult]:
    """(scheme, host and port; all parts). ``port``: of an address without a scheme."""
    text = text.strip(" \t\r\n\"',")
    scheme, divider, rest = text.rpartition("://")
    try:
        parts = urlsplit(f"{scheme or 'http'}://{rest}")
        asked = parts.port or (None if divider else port)
        name = _HERE.get(parts.hostname or "", parts.hostname or "")
        plain = re.fullmatch(r"[!-~]*", text) and not re.search("[,?#]", text) and "@" not in parts.path
        if not (plain and parts.scheme in ("http", "https") and re.fullmatch(r"[\w.:%-]+", name)):
            raise ValueError
    except ValueError:
        raise UsageError(wrong) from None
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
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


# ── Names of models ──────────────────────────────────────────────────────────────────────────────────────


def find_tag(tag: str, installed: Iterable[str]) -> str | None:
    """The installed name that answers to a tag: itself, in other letters, or as ``:latest``; None where none does."""
    names = {name.casefold(): name for name in installed}
    return names.get(tag.casefold()) or names.get(f"{tag}:latest".casefold())
