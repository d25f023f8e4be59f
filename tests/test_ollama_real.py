"""What Ollama's own source says that a server does, and what the suite makes of it, over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_brain import default_brain, last_text
from fake_ollama import FakeOllama, Model
from ollama_helpers import PromptList, always, echo, model_of, questions, unused_address

import main
from core.errors import MissingError, UsageError
from llm import retry
from llm.addresses import is_cloud, on_this_machine, parse_host, parse_hosts, usual_tag
from llm.interface import Choice, Completion, Decision, LeftOut, Request
from llm.ollama import OllamaModel
from llm.ollama_server import RefusedError
from llm.replies import bounded, verdict_schema
from stages.judging import ranking_schema

TAGS = ("llama3:8b", "gemma3:4b", "mistral:7b")
THINKS = ("completion", "thinking")


def run(folder: Path, *flags: str) -> int:
    folders = ["--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results")]
    models = ["--models", *TAGS] if "--models" not in flags else []
    return main.main(["--base_model", "embedded", *folders, "--num_prompts", "5", *models, *flags])


def check(folder: Path, *flags: str) -> int:
    return run(folder, "--check", *flags)


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


def test_a_server_that_refuses_connections_is_said_in_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert retry.RESTART + 1.0 < 10.0
    monkeypatch.setattr(retry, "RESTART", 0.5)
    with pytest.raises(MissingError, match="ollama serve"):
        list(OllamaModel(unused_address()).complete(questions(TAGS[0], 1)))


# ── Answers of no use ────────────────────────────────────────────────────────────────────────────────────


def test_what_a_schema_allows_is_never_cut_at_its_token_limit() -> None:
    verdict = bounded(verdict_schema(("A", "B", "tie")), 256)["properties"]
    assert verdict["reason"]["maxLength"] == 512
    assert verdict["winner"] == verdict_schema(("A", "B", "tie")).model_json_schema()["properties"]["winner"]
    prompts = bounded(PromptList, 200 * 10 + 200)["properties"]["prompts"]
    assert (prompts["minItems"], prompts["maxItems"], prompts["items"]["maxLength"]) == (1, 11, 400)
    ranking = bounded(ranking_schema("ABC"), 256)["properties"]["ranking"]
    assert ranking["minItems"] == ranking["maxItems"] == 3
    with FakeOllama() as server:
        list(model_of(server).choose([Choice(TAGS[0], "which?", ("A", "B"))]))
    assert server.calls[0].request["format"]["properties"]["reason"]["maxLength"] == 512


def test_a_prompt_beyond_the_context_is_left_out_and_the_server_not_blamed() -> None:
    with FakeOllama(brain=echo, faults=always("overflow")) as server:
        [(_, answer)] = model_of(server).complete([Request(TAGS[0], "long")])
    assert isinstance(answer, LeftOut)
    assert "longer than the context of llama3:8b" in answer.reason
    assert "OLLAMA_HOST" not in answer.reason
    assert len(server.calls) == 1, "another draw would be as long"


def test_an_embedding_model_is_no_contestant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    models = {**{tag: Model() for tag in TAGS}, "nomic-embed-text": Model(capabilities=("embedding",))}
    with FakeOllama(models=models) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        with pytest.raises(MissingError, match="it only embeds"):
            list(model_of(server).complete([Request("nomic-embed-text", "why?")]))
        assert check(tmp_path, "--models", *TAGS, "nomic-embed-text") == 3
    assert "MISSING  nomic-embed-text (contestant): it only embeds" in capsys.readouterr().out


# ── Thinking ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_that_thinks_whatever_it_is_told_is_asked_so_that_its_thought_stands_apart() -> None:
    def brain(request: dict[str, Any]) -> str:
        return default_brain(request) if "format" in request else echo(request)

    models = {tag: Model(capabilities=THINKS, thinks="anyway") for tag in TAGS[:1]}
    with FakeOllama(brain=brain, models=models) as server:
        model = model_of(server)
        [(_, answer)] = model.complete([Request(TAGS[0], "why?", num_predict=20)])
        [(_, decision)] = model.choose([Choice(TAGS[0], "which?", ("A", "B"))])
    assert isinstance(answer, Completion) and isinstance(decision, Decision)
    assert answer.text == "llama3:8b says: why?"
    probe, plain, structured = server.calls
    assert (probe.request["think"], plain.request["think"], structured.request["think"]) == (False, True, False)
    assert plain.request["options"]["num_predict"] == 20 + 2048
    assert structured.request["options"]["num_predict"] == 256


def test_gpt_oss_is_told_to_think_little_and_is_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    models = {**{tag: Model() for tag in TAGS}, "gpt-oss:20b": Model(32768, THINKS, family="gptoss", thinks="harmony")}
    with FakeOllama(models=models) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        [(_, answer)] = model_of(server).complete([Request("gpt-oss:20b", "why?")])
        assert isinstance(answer, Completion)
        assert server.calls[0].request["think"] == "low"
        assert check(tmp_path, "--judge", "gpt-oss:20b") == 3
        assert "MISSING  gpt-oss:20b (judge): gpt-oss:20b gives no structured answers" in capsys.readouterr().out
        assert check(tmp_path, "--models", *TAGS, "gpt-oss:20b") == 0, "it may answer"


def test_check_asks_no_model_and_a_run_asks_those_that_think_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """What a probe showed is kept for the same model at the same server."""
    models = {tag: Model(capabilities=THINKS if tag == TAGS[0] else ("completion",)) for tag in TAGS}

    def probes() -> int:
        return sum("alphabet" in last_text(call.request) for call in server.calls)

    monkeypatch.setattr(main, "run_personas", lambda *_: 0)  # what comes before it is looked at here
    with FakeOllama(models=models, version="0.30.9", brain=letter) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert check(tmp_path) == 0
        assert server.calls == [] and "one question at the start of the run" in capsys.readouterr().out
        assert run(tmp_path) == 3
        assert "need Ollama 0.31.2" in capsys.readouterr().err
        assert server.loaded == [], "what was probed is unloaded"
        server.version = "0.31.2"
        assert (probes(), run(tmp_path), probes()) == (2, 0, 4)
        assert (run(tmp_path), probes()) == (0, 4)
        capsys.readouterr()
        assert check(tmp_path) == 0
        assert "can think (told not to)" in capsys.readouterr().out
        server.models = {**models, TAGS[0]: Model(digest="another", capabilities=THINKS)}
        assert check(tmp_path) == 0
        assert "one question at the start of the run" in capsys.readouterr().out
        assert probes() == 4


def letter(request: dict[str, Any]) -> str:
    return json.dumps({"letter": "A"}) if "alphabet" in last_text(request) else default_brain(request)


# ── Refused, addresses, tags ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("backend", ["auto", "ollama"])
@pytest.mark.parametrize(
    ("server", "said"), [({"credentials": "user:right"}, "user and password"), ({"foreign": True}, "Host: localhost")]
)
def test_a_server_that_refuses_is_not_one_that_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, backend: str, server: Any, said: str
) -> None:
    with FakeOllama(**server) as refusing:
        monkeypatch.setenv("OLLAMA_HOST", refusing.url)
        assert check(tmp_path, "--backend", backend) == 3
    errors = capsys.readouterr().err
    assert "refused the request" in errors
    assert said in errors
    assert "ollama serve" not in errors


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://0.0.0.0:99", "http://127.0.0.1:99"),
        ("[::]:99", "http://[::1]:99"),
        ("::", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ('"127.0.0.1:5"', "http://127.0.0.1:5"),
        (" 'http://h' ", "http://h:80"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_addresses_mean_what_the_servers_own_client_takes_them_for(given: str, url: str) -> None:
    assert parse_host(given) == (url, None)


def test_several_addresses_are_a_list_and_another_programs_scheme_is_named() -> None:
    assert [url for url, _ in parse_hosts("http://a:1, b:2,,http://a:1")] == ["http://a:1", "http://b:2"]
    with pytest.raises(UsageError, match="tcp://"):
        OllamaModel("tcp://127.0.0.1:11434")
    assert on_this_machine("http://127.0.0.1:1") and on_this_machine("http://[::1]:1")
    assert not on_this_machine("http://192.0.2.1:1") and not on_this_machine("http://far.example:1")


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


# ── Several servers ──────────────────────────────────────────────────────────────────────────────────────


def test_models_are_spread_over_servers_and_asked_side_by_side() -> None:
    with FakeOllama(brain=echo, latency=0.02) as a, FakeOllama(brain=echo, latency=0.02, models=TAGS[1:]) as b:
        model = OllamaModel(f"{a.url},{b.url}", retry_wait=0.001)
        requests = [request for tag in TAGS for request in questions(tag, 8)]
        answers = dict(model.complete(requests))
        assert sorted(answers) == list(range(24))
        assert a.calls_by_model == {TAGS[0]: 8, TAGS[2]: 8} and b.calls_by_model == {TAGS[1]: 8}
        ends = [max(call.finished for call in server.calls) for server in (a, b)]
        starts = [min(call.started for call in server.calls) for server in (a, b)]
        assert max(starts) < min(ends), "side by side"


def test_what_a_lost_server_had_to_do_goes_to_another_that_has_the_model() -> None:
    received: list[int] = []
    with FakeOllama(brain=echo, latency=0.01) as a, FakeOllama(brain=echo, latency=0.01) as b:
        model = OllamaModel(f"{a.url},{b.url}", retry_wait=0.001)
        requests = [request for tag in TAGS[:2] for request in questions(tag, 40)]
        for index, _ in model.complete(requests):
            received.append(index)
            if len(received) == 20:
                b.stop()
        assert sorted(received) == list(range(80)), "all of them, each once"
        assert a.calls_by_model[TAGS[1]] >= 20
        a.models = {TAGS[0]: Model()}
        with pytest.raises(MissingError, match=f"has {TAGS[1]}"):
            list(OllamaModel(f"{a.url},{b.url}", retry_wait=0.001).complete(questions(TAGS[1], 1)))


def test_one_tag_with_two_digests_is_refused() -> None:
    models = {TAGS[0]: Model(digest="other")}
    with FakeOllama() as a, FakeOllama(models=models) as b, pytest.raises(UsageError, match="not the same model"):
        OllamaModel(f"{a.url},{b.url}").identity(TAGS[0])
