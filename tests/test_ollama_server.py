"""What is known of an Ollama server: its models, its address, its context; and the fake server itself."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
from fake_brain import shown
from fake_ollama import FakeOllama, Model
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama._client import _parse_host
from ollama_helpers import ROOT, always, echo, first_times, model_of, unused_address

from core.errors import MissingError, UsageError
from llm import ollama_server
from llm.addresses import parse_host
from llm.interface import Request, estimate_tokens, nearest_tags, shorten
from llm.ollama import OllamaModel

# ── What is there ────────────────────────────────────────────────────────────────────────────────────────


def test_the_server_and_its_models_are_described() -> None:
    models = {
        "qwen3:8b": Model(40960, ("completion", "thinking"), 5_200_000_000, "abc", "8.2B", "qwen3"),
        "gemma3:4b": Model(),
    }
    with FakeOllama(models=models, version="0.12.3") as server:
        model = model_of(server)
        assert model.available()
        assert model.version() == "0.12.3"
        listed, show = model.installed(), model.show("qwen3:8b")
        assert model.identity("qwen3:8b") == {"backend": "ollama", "tag": "qwen3:8b", "digest": "abc"}
        with pytest.raises(MissingError, match="ollama pull qwen3:7b"):
            model.identity("qwen3:7b")
    assert list(listed) == ["qwen3:8b", "gemma3:4b"]
    qwen = listed["qwen3:8b"]
    assert (qwen.digest, qwen.size_bytes, qwen.parameter_size) == ("abc", 5_200_000_000, "8.2B")
    assert qwen.quantization == "Q4_K_M"
    assert show.thinking
    assert show.context_length == 40960


def test_a_tag_without_a_size_means_the_latest_and_identities_are_looked_up_once() -> None:
    with FakeOllama(models={"mistral:latest": Model(digest="d1"), "gemma3:4b": Model(digest="d2")}) as server:
        model = model_of(server)
        for _ in range(20):
            assert [model.identity(tag)["digest"] for tag in ("mistral", "gemma3:4b")] == ["d1", "d2"]
    assert [path for _, path, _ in server.requests] == ["/api/version", "/api/tags"]


def test_with_the_server_off_recorded_digests_serve() -> None:
    model = OllamaModel(unused_address(), known_digests={"gemma3:4b": "d2"})
    assert not model.available()
    assert model.identity("gemma3:4b") == {"backend": "ollama", "tag": "gemma3:4b", "digest": "d2"}
    with pytest.raises(MissingError, match="ollama serve"):
        model.identity("qwen3:8b")
    with pytest.raises(MissingError, match="--backend embedded"):
        model.version()


def test_whether_a_server_answers_is_settled_also_where_it_is_mute_or_its_name_is_looked_up_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ollama_server.PATIENCE <= 3
    monkeypatch.setattr(ollama_server, "PATIENCE", 0.1)
    with socket.socket() as mute:  # takes connections and never says a word
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(MissingError, match=r"no answer within 0\.1 s"):
            OllamaModel(f"127.0.0.1:{mute.getsockname()[1]}").version()
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end.wait())
    assert not OllamaModel("far.example:11434").available()
    end.set()


def test_something_else_on_the_port_is_not_ollama() -> None:
    with FakeOllama() as server:
        assert not OllamaModel(server.url + "/elsewhere").available()


# ── Context ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("length", "read", "cut"),
    [
        (3000, 800, False),  # fits
        (3000, 5, False),  # fits; the rest was in the prompt cache of an older server
        (30000, 9000, True),  # cut to its beginning and a half, as newer servers do
        (23000, 9000, True),  # also where the estimate was that it fits: a judge is shown no other prompts
        (30000, 8192, True),  # cut to the whole context, as older ones do
        (30000, 7000, False),  # a cautious estimate above the context, yet all was read
    ],
)
def test_a_prompt_that_the_server_cut_is_said(
    length: int, read: int, cut: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOllama(brain=echo, prompt_tokens=lambda _: read) as server, caplog.at_level("WARNING", "ranking.llm"):
        model = model_of(server)
        list(model.complete([Request("gemma3:4b", "x" * length, label="judge 1", num_predict=50)]))
    assert (model.server_cuts == 1) is cut
    assert ("judge 1: the server cut the prompt" in caplog.text) is cut


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400), st.integers(16, 200))
def test_a_fitted_text_is_within_its_budget_and_cut_in_the_middle_visibly(text: str, budget: int) -> None:
    fitted, cut = shorten(text, budget)
    assert estimate_tokens(fitted) <= budget
    if not cut:
        assert fitted == text
        return
    head, mark, tail = fitted.partition("\n[… ")
    number, _, rest = tail.partition(" characters cut …]\n")
    assert mark
    assert text.startswith(head)
    assert text.endswith(rest)
    assert int(number) == len(text) - len(head) - len(rest) > 0


def test_estimates_are_cautious() -> None:
    assert [estimate_tokens(text) for text in ("", "a", "abcd", "日本")] == [0, 1, 2, 2]
    assert shorten("word " * 1000, 0)[0].strip() == "[… 5000 characters cut …]"


def test_near_tags_are_found() -> None:
    installed = ["llama3:8b", "llama3.1:8b", "gemma3:4b", "qwen3:8b", "phi4-mini:3.8b"]
    assert nearest_tags("qwen3:7b", installed)[0] == "qwen3:8b"
    assert nearest_tags("gemma:4b", installed)[0] == "gemma3:4b"
    assert nearest_tags("phi4:3.8b", installed)[0] == "phi4-mini:3.8b"
    assert nearest_tags("qwen3:235b-a22b-instruct", installed)[0] == "qwen3:8b"
    assert nearest_tags("zzz", installed) == []


# ── Address and credentials ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "host",
    ["", "1.2.3.4", ":56789", "1.2.3.4:56789", "http://1.2.3.4", "https://1.2.3.4", "https://example.com:56789/path/",
     "example.com/path", "[0001:002:003:0004::1]:56789", "https://[0001:002:003:0004::1]", "example.com:56789/", "HTTP://h"],
)  # fmt: skip
def test_addresses_are_read_as_the_official_client_reads_them(host: str) -> None:
    url, auth = parse_host(host)
    assert auth is None
    assert _parse_host(url) == _parse_host(host.lower())


NO_ADDRESSES = ["http://u:hunter2@h:port", "http://u:hunter2/x@h", "http://u:12/hunter2@h", "ftp://hunter2"]
NO_ADDRESSES += ["h:99999", "a b", "a\x1b", "a..b", "é" * 80]


@pytest.mark.parametrize("host", NO_ADDRESSES)
def test_an_address_that_is_none_is_refused_without_quoting_it(host: str) -> None:
    with pytest.raises(UsageError, match="OLLAMA_HOST") as caught:
        OllamaModel(host)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_host_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOllama(version="9.9") as server:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.port}")
        assert OllamaModel().version() == "9.9"
    monkeypatch.delenv("OLLAMA_HOST")
    assert OllamaModel().display_host == "http://127.0.0.1:11434"


def test_a_proxy_does_not_stand_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{unused_address()}")
    with FakeOllama() as server:
        assert model_of(server).available()


def test_credentials_are_sent_and_never_told(caplog: pytest.LogCaptureFixture) -> None:
    with (
        FakeOllama(brain=echo, credentials="user:p@ss hunter2", faults=first_times("500")) as server,
        caplog.at_level(logging.DEBUG),
    ):
        model = OllamaModel(f"http://user:p%40ss%20hunter2@127.0.0.1:{server.port}", retry_wait=0.001)
        [(_, answer)] = model.complete([Request("gemma3:4b", "why?", label="prompt-1")])
        assert model.available()
        assert answer.text
        server.faults = always("500")
        with pytest.raises(MissingError) as lasting:
            list(model.complete([Request("gemma3:4b", "again")]))
        identity = model.identity("gemma3:4b")
    assert "prompt-1: gemma3:4b took" in caplog.text
    told = caplog.text + str(lasting.value) + repr(lasting.value.__cause__) + json.dumps(identity) + model.display_host
    secrets = ("hunter2", "p%40ss", "dXNlcjpw")  # also as the header carries it
    assert not [secret for secret in secrets if secret in told]


def test_wrong_credentials_are_said_at_once() -> None:
    with FakeOllama(credentials="user:right") as server:
        model = OllamaModel(f"http://user:wrong@127.0.0.1:{server.port}")
        with pytest.raises(MissingError, match="user and password in OLLAMA_HOST") as caught:
            model.installed()
    assert len(server.requests) == 1
    assert "wrong" not in str(caught.value)


def test_a_servers_words_can_not_drive_the_terminal() -> None:
    with FakeOllama(faults=always("escape_error")) as server, pytest.raises(MissingError, match="gone") as caught:
        list(model_of(server).complete([Request("gemma3:4b", "x")]))
    assert "\x1b" not in str(caught.value)


# ── Weight ───────────────────────────────────────────────────────────────────────────────────────────────


def test_imports_are_light() -> None:
    heavy = ("ollama", "httpx", "torch", "numpy")
    code = f"import sys, llm.ollama; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ── The fake itself ──────────────────────────────────────────────────────────────────────────────────────


def test_the_fake_reads_what_a_judge_is_shown() -> None:
    template = (ROOT / "prompts" / "preference_evaluation.txt").read_text(encoding="utf-8")
    values = {"response_a": "first\n--- response A ends x", "response_b": "second", "mark": "m1", "prompt": "p"}
    text = template
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    assert shown(text) == {"A": values["response_a"], "B": "second"}


def test_the_fake_serves_as_a_program() -> None:
    port = unused_address().rpartition(":")[2]
    command = [sys.executable, str(ROOT / "tests" / "fake_ollama.py"), "--port", port]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert port in run.stdout.readline()
    assert httpx.get(f"http://127.0.0.1:{port}/api/version", trust_env=False).json() == {"version": "0.33.0"}
    run.send_signal(signal.SIGINT)
    assert "0 calls" in run.communicate()[0]
    assert run.returncode == 0
