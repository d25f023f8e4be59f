"""A server with the OpenAI API over real HTTP: what is sent, what it may refuse, what --check says."""

from __future__ import annotations

from pathlib import Path

import pytest
from begun import jobs_of
from fake_brain import default_brain
from fake_openai import FakeOpenAI, Model
from ollama_helpers import model_of

import main
from cli.job import keeping_told
from core.errors import MissingError
from llm.interface import Choice, Completion, Request
from llm.openai import OpenAIModel
from stages.writing import PromptList

KEY = "sk-very-secret-0123"
QUESTION = Request("a-8b", "why?", seed=3, label="coder-003 answered by a-8b")


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


@pytest.mark.parametrize("parameter", ["response_format", "max_tokens", "logprobs"])
def test_a_parameter_that_a_model_refuses_is_left_out_where_it_succeeds_without_and_said(
    parameter: str, caplog: pytest.LogCaptureFixture
) -> None:
    models = {"a-8b": Model(refuses=frozenset({parameter})), "b-7b": Model()}
    with FakeOpenAI(models=models) as server:
        choices = [Choice(name, f"which {i}?", ("A", "B")) for name in models for i in range(3)]
        model = model_of(server, concurrency=1)
        decisions = dict(model.choose(choices))
    assert all(decisions[i].winner in ("A", "B") for i in range(6))
    assert len(server.calls) == 6 + 1, "one refusal, then nothing that was refused is sent again"
    assert parameter in server.calls[-1].request, "the other model is asked with it"
    assert ("max_completion_tokens" in server.calls[1].request) is (parameter == "max_tokens")
    assert caplog.text.count(f"a-8b refuses {parameter}") == 1


def test_a_schema_refused_after_another_went_well_is_asked_for_in_words() -> None:
    with FakeOpenAI(models={"a-8b": Model(refuses=frozenset({"minItems"}))}) as server:
        model = model_of(server)
        next(model.choose([Choice("a-8b", "which?", ("A", "B"))]))
        [(_, answer)] = model.complete([Request("a-8b", "which?", schema=PromptList)])
    assert isinstance(answer, Completion) and len(server.calls) == 3


def test_a_failure_under_a_status_of_success_is_told_in_the_servers_words() -> None:
    said = {"error": {"message": 'The "provider" is\noverloaded…'}}
    with FakeOpenAI(shape=lambda _: said) as server, pytest.raises(MissingError, match=r'"provider" is over.*…'):
        list(model_of(server).complete([QUESTION]))


def test_a_wrong_key_is_said_without_repeating_it() -> None:
    with FakeOpenAI(key="another") as server, pytest.raises(MissingError, match="OPENAI_API_KEY") as caught:
        list(model_of(server, api_key=KEY).complete([QUESTION]))
    assert KEY not in str(caught.value)


def test_a_quota_that_is_used_up_ends_the_asking_at_once() -> None:
    said = '{"error": {"message": "You exceeded it.", "code": "insufficient_quota"}}'
    with pytest.raises(MissingError, match="HTTP 429: You exceeded it"):
        raise OpenAIModel("http://127.0.0.1:1/v1")._refusal(429, said, "a-8b")


def test_an_address_tells_the_identity_unless_it_is_this_machine() -> None:
    here = [OpenAIModel(f"http://{host}/v1") for host in ("127.0.0.1:1", "localhost:2", "[::1]:3")]
    assert [model.identity("a") for model in here] == [{"backend": "openai", "model": "a"}] * 3
    assert OpenAIModel("https://llm.example.org/v1").identity("a")["host"] == "llm.example.org"


def test_check_says_what_the_server_lists_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    flags = ["--backend", "openai", "--models", "a-8b", "b-7b", "--judge", "judge-70b", "--base_model", "embedded"]

    def check(status: int) -> str:
        assert main.main(["--check", *flags, *folders]) == status
        return capsys.readouterr().out

    assert "No server with the OpenAI API answers at http://127.0.0.1:9/v1" in check(3)
    with FakeOpenAI(models={"a-8b": Model(), "b-7b": Model(), "judge-70b": Model(context=8000)}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert "ok       judge-70b (judge): listed, context 8,000 tokens" in check(0)
        server.models["judge-70b:latest"] = server.models.pop("judge-70b")
        assert "MISSING  judge-70b (judge): not in the server's list" in check(3)
        server.ollama = True  # where "x" is "x:latest", and its own API tells more
        assert f"OLLAMA_HOST={server.url.removesuffix('/v1')} with --backend ollama" in check(0)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("/v1", "/v2"))
        assert "it mostly ends in /v1" in check(3)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        (job,) = jobs_of(*folders)
        (asked,) = jobs_of(*flags, *folders)
        with keeping_told(asked):
            asked.llm.told["judge-70b"] = 1400  # type: ignore[attr-defined]
        assert [each.judge_context for each in (asked, *jobs_of(*flags, *folders))] == [None, 1400]
    assert job.llm.backend == "embedded" and f"{server.url} answers" in job.notes[0], "named and never chosen"
    assert not server.calls
