"""An Ollama server as the suite knows it: what it is sent, its models, their contexts and thoughts."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeOllama, Model
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama_helpers import echo, first_times, model_of, questions

import main
from core.errors import MissingError
from llm import asking
from llm.interface import Choice, Completion, Decision, Request, estimate_tokens, shorten
from llm.ollama import OllamaModel

TAGS = ("llama3:8b", "gemma3:4b", "mistral:7b")
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
    assert sent["keep_alive"] == "30m"
    assert not {"format", "think"} & sent.keys()
    assert [other["options"]["num_ctx"] for other in others] == [2048, 2048, 8192, 8192]


# ── What is there ────────────────────────────────────────────────────────────────────────────────────────


def test_the_server_and_its_models_are_described_and_looked_up_once() -> None:
    facts = {"general.basename": "Qwen2.5-Coder", "general.size_label": "1.5B"}
    models = {"qwen:latest": Model(40960, THINKS, "abc", "qwen2", facts=facts), "Gemma3:4b": Model(digest="d2")}
    with FakeOllama(models=models, version="0.12.3") as server:
        model = model_of(server)
        assert model.available and model.version() == "0.12.3"
        for _ in range(20):
            assert [model.identity(tag)["digest"] for tag in ("qwen", "gemma3:4B")] == ["abc", "d2"]
        show = model.show("qwen:latest")
        with pytest.raises(MissingError, match="ollama pull qwen3:7b"):
            model.identity("qwen3:7b")
    assert (show.thinking, show.context_length, show.file_name) == (True, 40960, "Qwen2.5-Coder-1.5B")
    assert [path for _, path, _ in server.requests].count("/api/tags") == 1


def test_whether_a_server_answers_is_settled_also_where_it_is_mute_or_its_name_is_looked_up_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.1)
    with socket.socket() as mute:  # takes connections and never says a word
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(MissingError, match=r"no answer within 0\.1 s"):
            OllamaModel(f"127.0.0.1:{mute.getsockname()[1]}").version()
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end.wait())
    assert not OllamaModel("far.example:11434").available
    end.set()


# ── Thinking ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_that_thinks_whatever_it_is_told_has_room_for_it_and_its_thought_is_taken_off() -> None:
    tag = "qwen3:4b-thinking-2507"
    with FakeOllama(echo, models={tag: Model(capabilities=THINKS, thinks="anyway"), TAGS[0]: Model()}) as server:
        answers = model_of(server).complete([Request(name, "why?", num_predict=20) for name in (tag, TAGS[0])])
        texts = [answer.text for _, answer in answers if isinstance(answer, Completion)]
    assert texts == [f"{tag} says: why?", f"{TAGS[0]} says: why?"]
    assert [call.request["options"]["num_predict"] for call in server.calls] == [20 + 2048, 20]
    assert [call.request.get("think", "absent") for call in server.calls] == [False, "absent"]


def test_a_model_that_says_nothing_under_a_schema_is_told_it_in_words_from_then_on() -> None:
    models = {"gpt-oss:20b": Model(32768, THINKS, family="gptoss", thinks="harmony"), TAGS[0]: Model()}
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


# ── Models of no use ─────────────────────────────────────────────────────────────────────────────────────


def test_check_names_models_that_only_embed_or_have_no_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    odd = {"embed": Model(capabilities=("embedding",)), "raw": Model(template="{{ .Prompt }}")}
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    with FakeOllama(echo, models={**{tag: Model() for tag in TAGS}, **odd}) as server:
        model = model_of(server)
        for _ in range(2):
            list(model.complete([*questions("raw", 2), *questions(TAGS[0], 2)]))
        assert caplog.text.count("has no chat template here") == 1, "once in a run"
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        named = ["--models", "Llama3:8b", "raw", "embed", "--base_model", "embedded"]
        assert main.main(["--check", *folders, "--num_prompts", "5", *named]) == 3
        out = capsys.readouterr().out
    assert "llama3:8b (contestant and judge)" in out
    assert "MISSING  embed (contestant): it only embeds" in out
    assert "raw (contestant): has no chat template here" in out


# ── Lengths ──────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400), st.integers(16, 200))
def test_a_fitted_text_is_within_its_budget_and_cut_in_the_middle_visibly(text: str, budget: int) -> None:
    fitted, cut = shorten(text, budget)
    assert estimate_tokens(fitted) <= budget and (cut or fitted == text)
    if cut:
        head, mark, tail = fitted.partition("\n[… ")
        number, _, rest = tail.partition(" characters cut …]\n")
        assert mark and text.startswith(head) and text.endswith(rest)
        assert int(number) == len(text) - len(head) - len(rest) > 0
