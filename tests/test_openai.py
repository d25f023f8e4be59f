"""A server with the OpenAI API over real HTTP: what is sent, what it may refuse, what is asked again."""

from __future__ import annotations

import time

import pytest
from fake_openai import FakeOpenAI, Model
from ollama_helpers import PromptList, always, first_times, unused_address

from core.errors import MissingError, UsageError
from llm.addresses import parse_address
from llm.asking import ATTEMPTS
from llm.connection import wait_asked
from llm.interface import Choice, Request
from llm.openai import PAID_ADDRESS, OpenAIModel

KEY = "sk-very-secret-0123"
QUESTION = Request("a-8b", "why?", seed=3, label="coder-003 answered by a-8b")
CHOICE = Choice("a-8b", "which?", ("A", "B", "tie"), label="coder-001: a against b", seed=3)


def model_of(server: FakeOpenAI, key: str = "", **params: float) -> OpenAIModel:
    return OpenAIModel(server.url, key, **{"retry_wait": 0.001, "timeout": 120.0, **params})  # type: ignore[arg-type]


# ── What is sent and what comes back ─────────────────────────────────────────────────────────────────────


def test_the_question_goes_out_with_all_that_changes_its_answer() -> None:
    request = Request("a-8b", "why?", system="Be brief.", temperature=0.7, num_predict=5, seed=3)
    with FakeOpenAI(brain=lambda _: "one two three four five six") as server:
        [(_, answer)] = model_of(server).complete([request])
    [call] = server.calls
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]
    sent = {"model": "a-8b", "messages": messages, "seed": 3, "temperature": 0.7, "max_tokens": 5}
    assert {k: v for k, v in call.request.items() if k != "stream"} == sent
    assert (answer.text, answer.tokens, answer.prompt_tokens) == ("one two three four five", 5, 2)
    assert answer.truncated


def test_a_structured_answer_is_asked_for_with_its_schema_and_nothing_beside_it() -> None:
    with FakeOpenAI() as server:
        [(_, decision)] = model_of(server).choose([CHOICE])
    [call] = server.calls
    schema = call.request["response_format"]["json_schema"]
    assert schema["strict"] and schema["schema"]["additionalProperties"] is False
    assert schema["schema"]["properties"]["choice"]["enum"] == ["A", "B", "tie"]
    assert call.request["messages"][-1]["content"] == "which?"
    assert decision.winner in CHOICE.options


@pytest.mark.parametrize("parameter", ["response_format", "max_tokens", "temperature", "seed", "logprobs"])
def test_a_parameter_that_a_model_refuses_is_left_out_once_and_for_all_and_said(
    parameter: str, caplog: pytest.LogCaptureFixture
) -> None:
    models = {"a-8b": Model(refuses=frozenset({parameter})), "b-7b": Model()}
    with FakeOpenAI(models=models) as server:
        model = model_of(server, concurrency=1)
        choices = [Choice(name, f"which {i}?", ("A", "B")) for name in models for i in range(3)]
        decisions = dict(model.choose(choices))
    assert all(decisions[i].winner in ("A", "B") for i in range(6))
    assert len(server.calls) == 6 + 1, "one refusal, then nothing that was refused is sent again"
    assert parameter in server.calls[-1].request, "the other model is asked with it"
    assert ("max_completion_tokens" in server.calls[1].request) is (parameter == "max_tokens")
    assert caplog.text.count(f"a-8b refuses {parameter}") == 1


# ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["429", "500", "drop", "cut_body", "not_json", "odd"])
def test_trouble_that_passes_is_asked_again_as_it_was_and_what_stays_says_what_it_was_about(fault: str) -> None:
    with FakeOpenAI(faults=first_times(fault, 3)) as server:
        model = model_of(server)
        [(_, answer)] = model.complete([QUESTION])
        assert answer.text
        assert len(server.calls) == 4
        assert all(call.request == server.calls[0].request for call in server.calls)
        server.faults = always(fault)
        with pytest.raises(MissingError) as caught:
            list(model.complete([QUESTION]))
    for part in (QUESTION.label, "7 attempts", "kept", "same command"):
        assert part in str(caught.value)
    assert len(server.calls) == 4 + ATTEMPTS


def test_a_server_that_never_answers_is_asked_twice_and_not_for_ever() -> None:
    with FakeOpenAI(faults=always("hang")) as server, pytest.raises(MissingError, match=r"no answer within 0\.4 s"):
        list(model_of(server, timeout=0.4).complete([QUESTION]))
    assert len(server.calls) <= 2


def test_retry_after_is_waited_for_and_an_unreasonable_one_ends_the_run_at_once() -> None:
    with FakeOpenAI(faults=first_times("429"), pause="1") as server:
        list(model_of(server).complete([QUESTION]))
        first, second = (call.started for call in server.calls)
        assert second - first >= 1
        server.faults, server.pause = always("429"), "3600"
        with pytest.raises(MissingError, match=r"a pause of 3600 s.*kept"):
            list(model_of(server).complete([QUESTION]))
        assert len(server.calls) == 3
        server.faults = always("quota")
        with pytest.raises(MissingError, match=r"no credit left.*kept"):
            list(model_of(server).complete([QUESTION]))
        assert len(server.calls) == 4


def test_retry_after_is_a_number_or_a_date() -> None:
    assert wait_asked({"retry-after": "7.5"}) == 7.5
    in_an_hour = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))
    assert wait_asked({"retry-after": in_an_hour}) > 3000
    assert [wait_asked({"retry-after": text}) for text in ("", "soon", "-3", "nan", "inf")] == [0.0] * 5


@pytest.mark.parametrize("fault", ["cut_json", "empty"])
def test_a_broken_structured_answer_is_drawn_anew_and_told_the_schema_in_words(fault: str) -> None:
    with FakeOpenAI(faults=first_times(fault, 2)) as server:
        [(_, decision)] = model_of(server).choose([CHOICE])
    assert decision.winner in CHOICE.options
    assert len({call.request["seed"] for call in server.calls}) == 3
    assert "obeys this schema" in server.calls[1].request["messages"][-1]["content"]


def test_a_model_that_cannot_chat_and_one_that_is_not_there_are_said_at_once() -> None:
    models = {"a-8b": Model(chats=False), "b-7b": Model()}
    with FakeOpenAI(models=models) as server:
        with pytest.raises(MissingError, match=r"not a chat model.*kept"):
            list(model_of(server).complete([QUESTION]))
        assert len(server.calls) == 1
        with pytest.raises(MissingError, match=r"`c` does not exist.*--check"):
            list(model_of(server).complete([Request("c", "why?")]))
        [(_, answer)] = model_of(server).complete([Request("b-7b", "why?", schema=PromptList)])
    assert isinstance(answer.parsed, PromptList)


def test_who_stops_listening_cuts_what_is_in_flight() -> None:
    with FakeOpenAI(faults=lambda request, n: None if request["messages"][0]["content"] == "0" else "hang") as server:
        answers = model_of(server, concurrency=1).complete([Request("a-8b", str(i)) for i in range(9)])
        next(answers)
        answers.close()  # as Ctrl-C does
        assert len(server.calls) <= 2


# ── Address, key, list ───────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_key_is_said_without_repeating_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with FakeOpenAI(key="another") as server:
        model = model_of(server, KEY)
        with pytest.raises(MissingError, match="OPENAI_API_KEY") as asked:
            list(model.complete([QUESTION]))
        with pytest.raises(MissingError, match="OPENAI_API_KEY") as listed:
            model.listed()
    assert KEY not in caplog.text + str(asked.value) + str(listed.value) + str(model.identity("a-8b"))
    assert {headers["authorization"] for _, _, headers in server.requests} == {f"Bearer {KEY}"}


def test_the_list_tells_the_contexts_and_may_be_missing() -> None:
    with FakeOpenAI(models={"a": Model(context=4096), "b": Model()}) as server:
        assert model_of(server).listed() == {"a": 4096, "b": None}
        server.lists = False
        assert model_of(server).listed() == {}
    with pytest.raises(MissingError, match=r"No server .*OPENAI_BASE_URL"):
        OpenAIModel(f"http://{unused_address()}/v1").listed()


def test_without_an_address_it_is_the_paid_one_which_answers_nobody_without_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    model = OpenAIModel()
    assert (model.paid, model.address) == (True, PAID_ADDRESS)
    with pytest.raises(MissingError, match="OPENAI_API_KEY is not set"):
        model.listed()


def test_a_model_is_known_by_its_name_and_a_host_that_is_not_this_machine() -> None:
    here = [
        OpenAIModel(f"http://{host}:{port}/v1") for host, port in (("127.0.0.1", 1), ("localhost", 2), ("[::1]", 3))
    ]
    assert [model.identity("a") for model in here] == [{"backend": "openai", "model": "a"}] * 3
    assert OpenAIModel("https://llm.example.org/v1").identity("a")["host"] == "llm.example.org"


def test_addresses_are_completed_and_wrong_ones_and_wrong_keys_refused_without_repeating_them() -> None:
    assert parse_address("127.0.0.1:1234") == "http://127.0.0.1:1234/v1"
    assert parse_address("https://host/api/v1/") == "https://host/api/v1"
    for wrong in (
        "http://user:pass@host/v1",
        "https://host/v1?key=pass",
        "ftp://pass",
        "http://host:pass/v1",
        "http://",
    ):
        with pytest.raises(UsageError, match="OPENAI_API_KEY") as caught:
            parse_address(wrong)
        assert "pass" not in str(caught.value)
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as caught:
        OpenAIModel("host", "pass”word")
    assert "pass" not in str(caught.value)
