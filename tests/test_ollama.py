"""An Ollama server as the suite knows it: what it is sent, its models and how they think."""

from __future__ import annotations

import socket
import threading

import pytest
from fake_ollama import FakeOllama, Model
from ollama_helpers import echo, first_times, model_of, questions

from core.errors import MissingError
from llm import asking
from llm.interface import Choice, Decision, Request
from llm.ollama import OllamaModel

THINKS = ("completion", "thinking")


def test_every_request_says_all_its_options_in_one_context_that_the_model_has() -> None:
    models = {"gemma3:4b": Model(), "small": Model(context_length=2048)}
    with FakeOllama(echo, models=models) as server:
        request = Request("gemma3:4b", "why?", system="Be brief.", temperature=0.7, num_predict=2, seed=5)
        [(index, answer)] = model_of(server, num_ctx=4096).complete([request])
        list(model_of(server).complete([*questions("small", 2), *questions("gemma3:4b", 2)]))
    sent, *others = (call.request for call in server.calls)
    assert (index, answer.text, answer.tokens, answer.truncated) == (0, "gemma3:4b says:", 2, True)
    assert sent["options"] == {"seed": 5, "temperature": 0.7, "num_ctx": 4096, "num_predict": 2}
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]
    assert not {"format", "think"} & sent.keys()
    assert [other["options"]["num_ctx"] for other in others] == [2048, 2048, 8192, 8192]


def test_a_model_is_known_by_its_digest_and_by_what_is_in_its_file() -> None:
    facts = {"general.basename": "Qwen2.5-Coder", "general.size_label": "1.5B"}
    models = {"qwen:latest": Model(40960, THINKS, "abc", "qwen2", facts=facts), "Gemma3:4b": Model(digest="d2")}
    with FakeOllama(models=models) as server:
        model = model_of(server)
        assert [model.identity(tag)["digest"] for tag in ("qwen", "gemma3:4B")] == ["abc", "d2"]
        show = model.show("qwen:latest")
        with pytest.raises(MissingError, match="ollama pull qwen3:7b"):
            model.identity("qwen3:7b")
    assert (show.thinking, show.context_length, show.file_name) == (True, 40960, "Qwen2.5-Coder-1.5B")


def test_a_server_whose_name_is_looked_up_for_ever_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.1)
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end.wait())
    assert "No Ollama server answers" in OllamaModel("far.example:11434").trouble
    end.set()


def test_a_model_that_says_nothing_under_a_schema_is_told_it_in_words_from_then_on() -> None:
    models = {"gpt-oss:20b": Model(32768, THINKS, family="gptoss"), "llama3:8b": Model()}
    with FakeOllama(models=models) as server:
        model = model_of(server, concurrency=1)
        for tag in models:
            (_, first), *_ = model.choose([Choice(tag, "which?", ("A", "B"))])
            server.faults = first_times("empty")  # one silent answer is no reason to change the form that worked
            (_, second), *_ = model.choose([Choice(tag, "and which?", ("A", "B"))])
            server.faults = None
            assert isinstance(first, Decision) and isinstance(second, Decision)
    thinking, other = server.calls[:4], server.calls[4:]
    assert ["format" in call.request for call in thinking] == [True, False, False, False]
    assert {call.request["think"] for call in thinking} == {"low"}
    assert thinking[1].request["options"]["num_predict"] > 2048, "room for thoughts"
    assert ["format" in call.request for call in other] == [True] * 3


def test_a_model_without_a_chat_template_is_named_once_in_a_run(caplog: pytest.LogCaptureFixture) -> None:
    with FakeOllama(echo, models={"raw": Model(template="{{ .Prompt }}")}) as server:
        list(model_of(server).complete(questions("raw", 2)))
    assert caplog.text.count("has no chat template here") == 1
