"""Where Ollama servers are and what their models are called, read as the server itself reads it."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from core.errors import UsageError
from llm.calls import is_loopback

Credentials = tuple[str, str]
"""(user, password)"""

_PORTS = {"http": 80, "https": 443}
_OTHER_SCHEMES = ("tcp", "udp", "unix", "ws", "wss", "ssh")  # of other programs' variables, such as DOCKER_HOST
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a server listens, not where it is asked


def parse_hosts(hosts: str) -> list[tuple[str, Credentials | None]]:
    """``parse_host`` of each address of a list divided by commas, without repeats; of an empty one, the default."""
    given = [host for host in hosts.split(",") if host.strip(" \"'")] or [""]
    return list(dict.fromkeys(parse_host(host) for host in given))


def parse_host(host: str) -> tuple[str, Credentials | None]:
    """(address without credentials, (user, password) or None) from a host as Ollama's own client reads it.

    No scheme means http and port 11434, a scheme its own port, no host or every interface (0.0.0.0) this machine, and
    ollama.com alone https. Raises UsageError, without quoting what may hold a password.
    """
    scheme, divider, rest = host.strip(" \t\r\n\"'").rpartition("://")
    scheme = scheme.lower() if divider else "http"
    if scheme in _OTHER_SCHEMES:
        raise UsageError(f"OLLAMA_HOST begins with {scheme}://, which Ollama does not speak: write http:// there.")
    if not divider and rest == "ollama.com":
        scheme, divider = "https", "://"
    if _is_bare_ipv6(rest):
        rest = f"[{rest}]"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port or (_PORTS[scheme] if divider else 11434)
        name = parts.hostname or "127.0.0.1"
        odd = not re.fullmatch(r"[\w.:%-]+", name.encode("idna").decode()) or not rest.isprintable() or " " in rest
        if odd or any(c in parts.path + parts.query + parts.fragment for c in "@?#") or "://" in scheme:
            raise ValueError
        if scheme not in _PORTS:
            raise ValueError
    except (ValueError, KeyError):
        raise UsageError(
            "OLLAMA_HOST is not an address such as 127.0.0.1:11434 or https://user:password@host:443, nor several of "
            "them divided by commas. Special characters in a user's name or password must be percent-encoded."
        ) from None
    name = _EVERY_INTERFACE.get(name, name)
    url = f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}/{parts.path.strip('/')}".rstrip("/")
    return url, (unquote(parts.username), unquote(parts.password or "")) if parts.username else None


def _is_bare_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def on_this_machine(url: str) -> bool:
    """Whether a server at this address shares this machine's memory. A name is only compared, never looked up."""
    name = urlsplit(url).hostname or ""
    if is_loopback(url) or name == socket.gethostname().lower():
        return True
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(name).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((name, 9))  # sends nothing; the way to an address of our own begins at that address
            return str(probe.getsockname()[0]) == str(ipaddress.ip_address(name))
    except (ValueError, OSError):
        return False


# ── Names of models ──────────────────────────────────────────────────────────────────────────────────────

_DEFAULT_PLACES = ("registry.ollama.ai/", "library/")


def usual_tag(tag: str, known: Iterable[str]) -> str:
    """The tag as it is usually written: without the library's own address, and in the letters of a known tag, since
    the server takes capitals for small letters."""
    for place in _DEFAULT_PLACES:
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
