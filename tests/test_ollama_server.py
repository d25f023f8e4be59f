"""An Ollama server as the suite knows it: its models, memory, queue, context and thoughts."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeOllama, Model
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama_helpers import PromptList, echo, first_times, model_of, questions, unused_address

import main
from core.errors import MissingError
from llm import asking, ollama
from llm.addresses import is_cloud, usual_tag
from llm.answers import bounded, verdict_schema
from llm.interface import Choice, Completion, Decision, Request, estimate_tokens, nearest_tags, shorten
from llm.ollama import OllamaModel, RefusedError
from stages.judging import ranking_schema

TAGS = ("llama3:8b", "gemma3:4b", "mistral:7b")
VERDICT = verdict_schema(("A", "B", "tie"), reason=True)
THINKS = ("completion", "thinking")


def check(folder: Path, *flags: str) -> int:
    folders = ["--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results")]
    models = ["--models", *TAGS] if "--models" not in flags else []
    return main.main(["--base_model", "embedded", *folders, "--num_prompts", "5", *models, "--check", *flags])


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
    assert (qwen.digest, qwen.size, qwen.details.parameter_size) == ("abc", 5_200_000_000, "8.2B")
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
    assert ollama.PATIENCE <= 3
    monkeypatch.setattr(ollama, "PATIENCE", 0.1)
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


# ── Memory and queue ─────────────────────────────────────────────────────────────────────────────────────


def test_a_model_gives_its_memory_back_when_its_group_ends_and_the_last_one_when_it_is_told() -> None:
    with FakeOllama(brain=echo) as server:
        model = model_of(server)
        for tag in TAGS:
            list(model.complete(questions(tag, 3)))
        list(model.complete([*questions(TAGS[0], 2), *questions(TAGS[1], 2)]))
        assert server.loaded == [TAGS[1]]
        model.unload()
        assert server.loaded == []
    assert server.peak_loaded == 1
    assert server.unloads == [*TAGS[:2], TAGS[2], *TAGS[:2]]
    assert server.loads == [*TAGS, *TAGS[:2]]


def test_memory_that_is_given_back_only_in_a_while_is_waited_for() -> None:
    """The reward base is chosen by what is free then."""
    with FakeOllama(brain=echo, unload_seconds=0.3) as server:
        model = model_of(server)
        list(model.complete(questions(TAGS[0], 1)))
        model.unload()
        assert server.loaded == []


def test_the_queue_at_a_server_is_not_the_time_of_an_answer() -> None:
    with FakeOllama(brain=echo, latency=0.5, slots=1) as server:
        answers = list(model_of(server, concurrency=4, timeout=1.5).complete(questions(TAGS[0], 8)))
    assert len(answers) == len(server.calls) == 8


def test_a_server_that_is_away_is_waited_for_with_one_line_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOllama(brain=echo, latency=0.005) as server:
        model = model_of(server, retry_wait=0.05)
        answers = model.complete(questions(TAGS[0], 20))
        received = [next(answers)[0]]
        server.stop()
        threading.Timer(1.0, server.start).start()  # four attempts are over by then
        received += [index for index, _ in answers]
        assert sorted(received) == list(range(20))
        assert caplog.text.count("waiting for it, up to 120 s") == 1
        server.stop()
        monkeypatch.setattr(asking, "AWAY_SECONDS", 0.1)
        with pytest.raises(MissingError, match=r"kept.*ollama serve"):
            list(model.complete(questions(TAGS[0], 1)))


# ── Answers of no use ────────────────────────────────────────────────────────────────────────────────────


def test_what_a_schema_allows_is_never_cut_at_its_token_limit() -> None:
    verdict = bounded(VERDICT, 256)["properties"]
    assert verdict["reason"]["maxLength"] == 512
    assert verdict["choice"] == VERDICT.model_json_schema()["properties"]["choice"]
    prompts = bounded(PromptList, 200 * 10 + 200)["properties"]["prompts"]
    assert (prompts["minItems"], prompts["maxItems"], prompts["items"]["maxLength"]) == (1, 11, 400)
    ranking = bounded(ranking_schema("ABC"), 256)["properties"]["ranking"]
    assert ranking["minItems"] == ranking["maxItems"] == 3
    with FakeOllama() as server:
        list(model_of(server).choose([Choice(TAGS[0], "which?", ("A", "B"))]))
    assert server.calls[0].request["format"]["properties"]["reason"]["maxLength"] == 512


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


# ── Thinking ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_that_thinks_whatever_it_is_told_has_room_for_it_and_its_thought_is_taken_off() -> None:
    tag = "qwen3:4b-thinking-2507"
    with FakeOllama(brain=echo, models={tag: Model(capabilities=THINKS, thinks="anyway"), TAGS[0]: Model()}) as server:
        answers = model_of(server).complete([Request(name, "why?", num_predict=20) for name in (tag, TAGS[0])])
        texts = [answer.text for _, answer in answers if isinstance(answer, Completion)]
    assert texts == [f"{tag} says: why?", f"{TAGS[0]} says: why?"]
    assert [call.request["options"]["num_predict"] for call in server.calls] == [20 + 2048, 20]
    assert server.calls[0].request["think"] is False


def test_a_model_that_says_nothing_under_a_schema_is_told_it_in_words_from_then_on() -> None:
    tag = "gpt-oss:20b"
    choices = [Choice(tag, f"which {i}?", ("A", "B")) for i in range(3)]
    with FakeOllama(models={tag: Model(32768, THINKS, family="gptoss", thinks="harmony")}) as server:
        decisions = [decision for _, decision in model_of(server, concurrency=1).choose(choices)]
    assert all(isinstance(decision, Decision) and decision.winner in "AB" for decision in decisions)
    assert ["format" in call.request for call in server.calls] == [True, False, False, False]
    assert {call.request["think"] for call in server.calls} == {"low"}


def test_one_silent_answer_does_not_switch_schemas_off() -> None:
    choices = [Choice(TAGS[0], f"which {i}?", ("A", "B")) for i in range(3)]
    with FakeOllama() as server:
        model = model_of(server, concurrency=1)
        list(model.choose(choices[:1]))
        server.faults = first_times("empty", 2)
        list(model.choose(choices[1:]))
    assert len(server.calls) == 5 and all("format" in call.request for call in server.calls)


# ── Models of no use ───────────────────────────────────────────────────────────────────────────────────


def test_an_embedding_model_is_no_contestant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    models = {**{tag: Model() for tag in TAGS}, "nomic-embed-text": Model(capabilities=("embedding",))}
    with FakeOllama(models=models) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        with pytest.raises(MissingError, match="does not support chat"):
            list(model_of(server).complete([Request("nomic-embed-text", "why?")]))
        assert check(tmp_path, "--models", *TAGS, "nomic-embed-text") == 3
    assert "MISSING  nomic-embed-text (contestant): it only embeds" in capsys.readouterr().out


def test_a_model_without_a_chat_template_is_named_in_check_and_once_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bare = Model(template="{{ .Prompt }}", facts={"general.basename": "Qwen2.5-Coder", "general.size_label": "0.5B"})
    with FakeOllama(brain=echo, models={**{tag: Model() for tag in TAGS}, "q05raw": bare}) as server:
        model = model_of(server)
        for _ in range(2):
            list(model.complete([*questions("q05raw", 2), *questions(TAGS[0], 2)]))
        assert caplog.text.count("has no chat template here") == 1
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        check(tmp_path, "--models", *TAGS, "q05raw")
    assert "q05raw (contestant): has no chat template here" in capsys.readouterr().out
    assert model.show("q05raw").file_name == "Qwen2.5-Coder-0.5B"


def test_a_tag_is_written_in_one_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    known = ["llama3:8b", "MyModel:latest"]
    assert [usual_tag(tag, known) for tag in ("library/llama3:8b", "Llama3:8b", "registry.ollama.ai/library/x:1")] == [
        "llama3:8b", "llama3:8b", "x:1"
    ]  # fmt: skip
    assert usual_tag("hf.co/Some/Model:Q4", known) == "hf.co/Some/Model:Q4"
    with FakeOllama() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert model_of(server).identity("Mistral:7B")["digest"] == model_of(server).identity("mistral:7b")["digest"]
        assert check(tmp_path, "--models", "Llama3:8b", "library/gemma3:4b", "--judge", "library/llama3:8b") == 0
    out = capsys.readouterr().out
    assert "llama3:8b (contestant and judge)" in out
    assert "5 to gemma3:4b" in out


def test_a_model_in_the_cloud_is_no_judge_and_needs_signing_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert [is_cloud(tag) for tag in ("a:cloud", "a:120b-cloud", "my-cloud-model", "a:8b")] == [
        True,
        True,
        False,
        False,
    ]
    cloud = "gpt-oss:120b-cloud"
    with FakeOllama(models={**{tag: Model() for tag in TAGS}, cloud: Model(signed_in=False)}) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert check(tmp_path, "--judge", cloud) == 3
        with pytest.raises(RefusedError, match="ollama signin"):
            list(model_of(server).complete([Request(cloud, "why?")]))
    assert f"MISSING  {cloud} (judge): models in the cloud give no structured answers" in capsys.readouterr().out
