"""How servers are reached: addresses, keys and passwords, refusals, and whatever the environment holds."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeOllama
from fake_openai import FakeOpenAI
from ollama._client import _parse_host
from ollama_helpers import ROOT

import main
from core.errors import UsageError
from llm.addresses import parse_host
from llm.connection import _certificates
from llm.ollama import OllamaModel
from llm.openai import OpenAIModel

# ── Address and credentials ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "host",
    ["", "1.2.3.4", ":56789", "https://1.2.3.4", "https://example.com:56789/path/", "[0001:002:003:0004::1]:56789"],
)
def test_addresses_are_read_as_the_official_client_reads_them(host: str) -> None:
    url, auth = parse_host(host)
    assert auth is None
    assert _parse_host(url) == _parse_host(host)


@pytest.mark.parametrize(
    ("given", "url", "auth"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434", None),
        ("[::]:99", "http://[::1]:99", None),
        ("\"'127.0.0.1:5' ,", "http://127.0.0.1:5", None),
        ("127.0.0.1:5/v1/", "http://127.0.0.1:5", None),
        ("https://h/ollama/api/chat", "https://h/ollama", None),
        ("http://user:p%40ss@h", "http://h", ("user", "p@ss")),
    ],
)
def test_addresses_as_people_write_them_are_understood(given: str, url: str, auth: Any) -> None:
    assert parse_host(given) == (url, auth)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [(OllamaModel, ("http://u:hunter2@h:port", "http://u:hunter2/x@h", "ftp://hunter2", "h:99999", "a:1,b:2")),
     (OpenAIModel, ("http://u:hunter2@host/v1", "https://host/v1?key=hunter2", "ftp://hunter2", "http://h:hunter2/v1"))],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_quoting_it(make: Any, wrong: tuple[str, ...]) -> None:
    for address in wrong:
        with pytest.raises(UsageError, match=r"OLLAMA_HOST|OPENAI_BASE_URL") as caught:
            make(address)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_certificate_that_nobody_known_signed_is_named_with_the_variable_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Signed by itself, as in many a home and company."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ROOT / "tests" / "self_signed.pem")
    with FakeOllama() as ollama, FakeOpenAI() as openai:
        for server in (ollama, openai):
            assert server._server
            server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        monkeypatch.setenv("OPENAI_BASE_URL", openai.url.replace("http", "https"))
        monkeypatch.setenv("OLLAMA_HOST", ollama.url.replace("http", "https"))
        for backend in (["ollama"], ["openai", "--models", "a-8b", "b-7b", "--judge", "c-4b"], ["auto"]):
            folders = ["--cache_dir", str(tmp_path), "--base_model", "embedded"]
            assert main.main(["--check", *folders, "--backend", *backend]) == (0 if backend == ["auto"] else 3)
            assert "SSL_CERT_FILE=FILE.pem" in capsys.readouterr().out
        monkeypatch.setenv("SSL_CERT_FILE", str(ROOT / "tests" / "self_signed.pem"))
        _certificates.cache_clear()
        assert OllamaModel().version()
        assert OpenAIModel().listed()
    _certificates.cache_clear()


# ── The environment ──────────────────────────────────────────────────────────────────────────────────────

ASK = """
import sys
import llm.ollama
assert not {"ollama", "httpx", "torch", "numpy"} & sys.modules.keys(), "imports are light"
from core.errors import SuiteError
from llm.ollama import OllamaModel
from llm.openai import OpenAIModel
for ask in (lambda: OllamaModel().installed(), lambda: OpenAIModel().listed(),
            lambda: OllamaModel("http://far.invalid").version(), lambda: OpenAIModel("http://far.invalid").listed(),
            lambda: OpenAIModel("https://far.invalid").listed()):
    try:
        print(len(ask()), "found")
    except SuiteError as error:
        print(type(error).__name__, str(error).replace("\\n", " "))
"""
NOBODY, SOCKS = "MissingError No ", 'pip install "httpx[socks]"'


@pytest.mark.parametrize(
    ("variables", "far", "far_https"),
    [
        ({"ALL_PROXY": "socks5://u:hunter2@127.0.0.1:1", "OLLAMA_HOST": "{ollama} "}, SOCKS, SOCKS),
        ({"all_proxy": "socks://127.0.0.1:1/", "OLLAMA_HOST": "{ollama},"}, "HTTP_PROXY", "HTTPS_PROXY"),
        ({"NO_PROXY": "localhost,[::1]", "HTTP_PROXY": "http://127.0.0.1:1"}, NOBODY, NOBODY),
        ({"NO_PROXY": "fe80::/10,::1/128,far.invalid", "ALL_PROXY": "socks5://127.0.0.1:1"}, NOBODY, NOBODY),
        ({"HTTP_PROXY": "http://u:hunter2@h:port", "SSL_CERT_FILE": "/no/hunter2"}, "HTTP_PROXY", "SSL_CERT_FILE"),
    ],
)
def test_nothing_in_the_environment_stands_before_this_machine_and_what_stands_before_others_is_said(
    variables: dict[str, str], far: str, far_https: str
) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with FakeOllama() as ollama, FakeOpenAI() as openai:
        given = {name: value.format(ollama=ollama.url) for name, value in variables.items()}
        environment = {**plain, "OLLAMA_HOST": ollama.url, "OPENAI_BASE_URL": openai.url, **given}
        done = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    here, there, *afar = done.stdout.splitlines()
    assert (here, there) == ("6 found", "4 found")
    assert [want in said for want, said in zip((far, far, far_https), afar, strict=True)] == [True] * 3, done.stdout
    assert "hunter2" not in done.stdout
