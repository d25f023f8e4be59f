"""A server with the OpenAI API over real HTTP: what is sent, what it may refuse, what --check says, a whole run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from begun import jobs_of
from fake_brain import default_brain
from fake_openai import FakeOpenAI, Model
from fake_server import by_chance
from ollama_helpers import first_times, model_of, unused_address
from tiny_models import save_model

import main
from cli.seen import keeping_told
from core.clock import Clock
from core.errors import MissingError, UsageError
from data_generation import Data, make_data
from llm.interface import Choice, Request
from llm.openai import OpenAIModel

KEY = "sk-very-secret-0123"
QUESTION = Request("a-8b", "why?", seed=3, label="coder-003 answered by a-8b")
NAMES = ("meta-llama/Llama-3.1-8B-Instruct", "gemma-3-4b-it", "gpt-of-mine", "llama3:8b", "qwen3", "vicuna-7b")
PERFECT = {name: Model() for name in (*NAMES, "judge-70b")}
ODD = {
    **PERFECT,
    NAMES[1]: Model(refuses=frozenset({"max_tokens", "seed"})),
    "judge-70b": Model(refuses=frozenset({"response_format"})),
}


def test_the_question_goes_out_with_all_that_changes_its_answer() -> None:
    request = Request("a-8b", "why?", system="Be brief.", temperature=0.7, num_predict=5, seed=3)
    with FakeOpenAI(lambda _: "one two three four five six") as server:
        [(_, answer)] = model_of(server).complete([request])
        server.brain = default_brain
        list(model_of(server).choose([Choice("a-8b", "which?", ("A", "B"))]))
    plain, constrained = (call.request for call in server.calls)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]
    assert plain == {"model": "a-8b", "messages": messages, "seed": 3, "temperature": 0.7, "max_tokens": 5}
    assert (answer.text, answer.tokens) == ("one two three four five", 5)
    assert answer.truncated
    schema = constrained["response_format"]["json_schema"]
    assert schema["strict"] and schema["schema"]["additionalProperties"] is False
    assert constrained["messages"][-1]["content"] == "which?"


@pytest.mark.parametrize("parameter", ["response_format", "max_tokens", "temperature", "seed", "logprobs", "model"])
def test_a_parameter_that_a_model_refuses_is_left_out_where_it_succeeds_without_and_said(
    parameter: str, caplog: pytest.LogCaptureFixture
) -> None:
    models = {"a-8b": Model(refuses=frozenset({parameter})), "b-7b": Model()}
    with FakeOpenAI(models=models) as server:
        choices = [Choice(name, f"which {i}?", ("A", "B")) for name in models for i in range(3)]
        model = model_of(server, concurrency=1)
        if parameter == "model":
            with pytest.raises(MissingError, match="'model' is not supported"):
                list(model.choose(choices))
            return
        decisions = dict(model.choose(choices))
    assert all(decisions[i].winner in ("A", "B") for i in range(6))
    assert len(server.calls) == 6 + 1, "one refusal, then nothing that was refused is sent again"
    assert parameter in server.calls[-1].request, "the other model is asked with it"
    assert ("max_completion_tokens" in server.calls[1].request) is (parameter == "max_tokens")
    assert caplog.text.count(f"a-8b refuses {parameter}") == 1


def test_retry_after_is_waited_for() -> None:
    with FakeOpenAI(faults=first_times("429"), pause="1") as server:
        list(model_of(server).complete([QUESTION]))
    first, second = (call.started for call in server.calls)
    assert second - first >= 1


# ── Address, key, list ───────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_key_is_said_without_repeating_it() -> None:
    with FakeOpenAI(key="another") as server:
        model = model_of(server, api_key=KEY)
        for ask in (lambda: list(model.complete([QUESTION])), model.listed):
            with pytest.raises(MissingError, match="OPENAI_API_KEY") as caught:
                ask()
            assert KEY not in str(caught.value)
    assert {headers["authorization"] for _, _, headers in server.requests} == {f"Bearer {KEY}"}


def test_an_address_is_completed_and_tells_the_identity_unless_it_is_this_machine() -> None:
    assert [OpenAIModel(host).address for host in ("127.0.0.1:1", "https://host/api/v1/")] == [
        "http://127.0.0.1:1/v1", "https://host/api/v1"
    ]  # fmt: skip
    here = [OpenAIModel(f"http://{host}/v1") for host in ("127.0.0.1:1", "localhost:2", "[::1]:3")]
    assert [model.identity("a") for model in here] == [{"backend": "openai", "model": "a"}] * 3
    assert OpenAIModel("https://llm.example.org/v1").identity("a")["host"] == "llm.example.org"
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as caught:
        OpenAIModel("host", "pass”word")
    assert "pass" not in str(caught.value)


# ── A run, and --check ───────────────────────────────────────────────────────────────────────────────────

FAULTS = by_chance({"429": 0.04, "500": 0.03, "drop": 0.03, "cut_body": 0.06})


def flags(tmp_path: Path, *more: str) -> list[str]:
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    return ["--backend", "openai", "--models", *NAMES, "--judge", "judge-70b", *folders, *more]


def made(tmp_path: Path, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    (job,) = jobs_of(*flags(tmp_path, "--num_prompts", "10", "--models", *NAMES[:3]))
    job.llm._retry_wait = 0.001  # type: ignore[attr-defined]
    data = make_data(job, Clock(), job.prompt_ids[8:])
    assert make_data(job, Clock(), job.prompt_ids[8:], ask=False) == data, "what was written can be read back"
    return replace(data, responses=tuple(replace(response, seconds=0.0) for response in data.responses))


def test_a_run_survives_faults_and_refusals_and_asks_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "ranking")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    untold: dict[str, Any] = {"key": KEY, "shape": lambda reply: {**reply, "usage": {"completion_tokens": None}}}
    with FakeOpenAI(models=PERFECT, **untold) as perfect:
        expected = made(tmp_path / "perfect", perfect, monkeypatch)
    with FakeOpenAI(models=ODD, **untold, faults=FAULTS) as server:
        data = made(tmp_path / "odd", server, monkeypatch)
    assert (len(data.prompts), len(data.responses), len(data.judgements)) == (10, 30, 60)
    assert len(server.calls) - len(server.answered) > 10
    assert len(server.answered) == len(set(server.answered)) == len(perfect.answered) == len(perfect.calls)
    assert data == expected
    assert {response.tokens for response in data.responses} == {None}, "what a server does not tell is null"
    # and where all that a run needs is cached, the whole program needs no server
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    base = str(save_model(tmp_path / "base", "llama"))
    assert main.main(flags(tmp_path / "odd", "--num_prompts", "5", "--models", *NAMES[:3], "--base_model", base)) == 0
    results = json.loads((tmp_path / "odd" / "results" / "evaluation_results_coder.json").read_text(encoding="utf-8"))
    assert (results["backend"], results["judge"]) == ("openai", "judge-70b")
    assert {(model["backend"], model["ollama_tag"]) for model in results["models"]} == {("openai", None)}
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [data for data in (*written, caplog.text.encode()) if KEY.encode() in data]


def test_check_says_what_the_server_lists_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(status: int) -> str:
        assert main.main(flags(tmp_path, "--check", "--base_model", "embedded")) == status
        return capsys.readouterr().out

    assert "No server with the OpenAI API answers at http://127.0.0.1:9/v1" in check(3)
    with FakeOpenAI(models={**PERFECT, "judge-70b": Model(context=8000)}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        said = check(0)
        assert f"{server.url} answers and lists 7 models" in said
        assert "ok       judge-70b (judge): listed, context 8,000 tokens" in said
        server.models["judge-70b:latest"] = server.models.pop("judge-70b")
        assert "MISSING  judge-70b (judge): not in the server's list" in check(3)
        server.ollama = True  # where "x" is "x:latest", and its own API tells more
        assert f"OLLAMA_HOST={server.url.removesuffix('/v1')} with --backend ollama" in check(0)
        server.lists = False
        assert "answers and lists no models" in check(0)
        server.lists, server.key, server.open_list = True, "another", True
        assert "OPENAI_API_KEY" in check(3)
        server.key = None
        monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("/v1", "/v2"))
        assert "it mostly ends in /v1" in check(3)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main.main(["--backend", "openai", "--models", "a-8b", "b-7b"]) == 2
        assert f"The server has {NAMES[1]}, " in capsys.readouterr().err, "models that nobody named"
    assert not (tmp_path / "cache").exists() and not server.calls
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert main.main(flags(tmp_path)) == 3
    said, errors = capsys.readouterr()
    assert "https://api.openai.com/v1 is asked, which bills every token" in said
    assert "OPENAI_API_KEY is not set" in errors


def test_a_server_of_this_kind_where_ollama_was_looked_for_is_named_and_never_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    with FakeOpenAI() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url.removesuffix("/v1"))
        assert main.main(["--backend", "ollama", "--check", *folders]) == 3
        asked_for = capsys.readouterr().out
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OLLAMA_HOST", unused_address())
        (job,) = jobs_of(*folders)
        (asked,) = jobs_of(*flags(tmp_path))
        with keeping_told(asked):
            asked.llm.told["judge-70b"] = 1400  # type: ignore[attr-defined]
        assert [each.judge_context for each in (asked, *jobs_of(*flags(tmp_path)))] == [None, 1400]
    assert f"OPENAI_BASE_URL={server.url} python main.py --backend openai" in asked_for
    assert job.llm.backend == "embedded" and f"{server.url} answers" in job.notes[0]
    assert not server.calls
