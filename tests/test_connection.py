"""How servers are reached: addresses as people write them, and whatever the environment holds."""

from __future__ import annotations

import os
import sys

import pytest
from fake_ollama import FakeOllama
from fake_openai import FakeOpenAI
from ollama._client import _parse_host

from core.errors import UsageError
from llm.connection import client_options, parse_host
from llm.ollama import OllamaModel
from llm.openai import OpenAIModel


@pytest.mark.parametrize("host", ["", "1.2.3.4", ":56789", "https://1.2.3.4", "[0001:002:003:0004::1]:56789"])
def test_addresses_are_read_as_the_official_client_reads_them(host: str) -> None:
    assert _parse_host(parse_host(host)[0]) == _parse_host(host)


def test_addresses_as_people_write_them_are_understood() -> None:
    assert parse_host("[::]:99") == ("http://[::1]:99", None)
    assert parse_host("\"'127.0.0.1:5' ,") == ("http://127.0.0.1:5", None)
    assert parse_host("http://user:p%40ss@h") == ("http://h", ("user", "p@ss"))


def test_nothing_in_the_environment_stands_before_this_machine_and_what_stands_before_others_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://u:hunter2@h:port")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with FakeOllama() as ollama, FakeOpenAI() as openai:
        assert len(OllamaModel(ollama.url).installed()) == 6
        assert len(OpenAIModel(openai.url).listed()) == 4
    for far in (OllamaModel("http://far.invalid").version, OpenAIModel("https://far.invalid").listed):
        with pytest.raises(UsageError, match="ALL_PROXY names no proxy") as caught:
            far()
        assert "hunter2" not in str(caught.value)


def test_proxies_are_read_as_other_programs_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    far, socks = "http://192.0.2.2:11434", "socks5://h:1"
    monkeypatch.setitem(sys.modules, "socksio", None)
    for named, proxy in (
        ({"NO_PROXY": "localhost,[::1],fe80::/10"}, None),
        ({"ALL_PROXY": socks, "NO_PROXY": "192.0.2.2"}, None),
        ({"HTTPS_PROXY": socks, "ALL_PROXY": "h:2"}, "http://h:2"),
    ):
        monkeypatch.setattr(os, "environ", named)
        client_options.cache_clear()
        for model in (OllamaModel(far), OpenAIModel(far)):
            assert model._ask(lambda _: client_options(far)["proxy"], 1.0) == proxy
    assert "httpx[socks]" in OllamaModel("https://far.invalid").trouble
