"""A server that misbehaves over real HTTP: what is asked again, what is an error, what is kept."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from fake_brain import last_text
from fake_ollama import FakeOllama, Faults
from ollama_helpers import PromptList, always, echo, first_times, model_of, requests_to

from core.errors import MissingError
from llm.interface import Choice, Completion, Request
from llm.ollama_http import ATTEMPTS

# ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────

PASSING = ("500", "503", "drop", "not_json", "list_body", "list_error", "text_error", "cut_body")


@pytest.mark.parametrize("fault", PASSING)
def test_passing_trouble_is_asked_again_as_it_was(fault: str) -> None:
    with FakeOllama(brain=echo, faults=first_times(fault, 3)) as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "why?", seed=3, label="prompt-1")])
    assert answer.text == "gemma3:4b says: why?"
    assert len(server.calls) == 4
    assert all(call.request == server.calls[0].request for call in server.calls)


@pytest.mark.parametrize("fault", PASSING)
def test_trouble_that_stays_ends_with_what_it_was_about(fault: str) -> None:
    with FakeOllama(brain=echo, faults=always(fault)) as server, pytest.raises(MissingError) as caught:
        list(model_of(server).complete([Request("gemma3:4b", "why?", label="coder-003 answered by gemma3:4b")]))
    message = str(caught.value)
    assert "coder-003 answered by gemma3:4b" in message and "7 attempts" in message
    assert "kept" in message and "same command" in message
    assert caught.value.exit_status == 3 and len(server.calls) == ATTEMPTS


BROKEN = ("cut_json", "wrong_shape", "length", "empty", "think_unclosed", "think_budget")


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_structured_answer_is_drawn_anew(fault: str) -> None:
    with FakeOllama(faults=first_times(fault, 2)) as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "- a topic", schema=PromptList, seed=3)])
    assert isinstance(answer.parsed, PromptList) and answer.parsed.prompts
    assert len({call.request["options"]["seed"] for call in server.calls}) == 3
    assert [call.request["options"]["temperature"] > 0 for call in server.calls] == [False, True, True]


@pytest.mark.parametrize("fault", BROKEN)
def test_a_structured_answer_that_stays_broken_is_an_error_and_never_an_outcome(fault: str) -> None:
    choice = Choice("gemma3:4b", "which?", ("A", "B", "tie"), label="coder-001: a against b")
    with FakeOllama(faults=always(fault)) as server, pytest.raises(MissingError, match="coder-001: a against b"):
        list(model_of(server).choose([choice]))
    assert len(server.calls) == ATTEMPTS


@pytest.mark.parametrize("fault", ["fenced", "think", "think_orphan"])
def test_structured_answers_survive_fences_and_thoughts(fault: str) -> None:
    with FakeOllama(faults=always(fault)) as server:
        [(_, decision)] = model_of(server).choose([Choice("gemma3:4b", "which?", ("A", "B"))])
    assert decision.winner in "AB" and len(server.calls) == 1


def test_json_with_code_fences_in_its_strings_is_left_alone() -> None:
    said = json.dumps({"prompts": ["```json\n[1]\n``` what is this?"]})
    with FakeOllama(brain=lambda _: said) as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "x", schema=PromptList)])
    assert answer.parsed == PromptList(prompts=["```json\n[1]\n``` what is this?"])


@pytest.mark.parametrize("fault", ["think", "think_orphan"])
def test_leaked_thinking_is_stripped(fault: str) -> None:
    with FakeOllama(brain=echo, faults=always(fault)) as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "why?")])
    assert answer.text == "gemma3:4b says: why?"


def test_a_plain_answer_may_speak_of_the_tag() -> None:
    said = "Some models write <think> and then their thoughts."
    with FakeOllama(brain=lambda _: said) as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "why?")])
    assert answer.text == said


@pytest.mark.parametrize("fault", ["empty", "think_unclosed", "think_budget"])
def test_an_empty_answer_is_a_failure(fault: str) -> None:
    with FakeOllama(brain=echo, faults=always(fault)) as server, pytest.raises(MissingError, match="num_predict"):
        list(model_of(server).complete([Request("gemma3:4b", "why?")]))
    assert len(server.calls) == ATTEMPTS


def test_a_plain_answer_at_its_limit_is_an_answer() -> None:
    with FakeOllama(brain=lambda _: "one two three four") as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "count", num_predict=3)])
    assert answer == Completion("one two three", 3, answer.seconds, truncated=True, prompt_tokens=2)


def test_a_hanging_server_is_asked_twice_and_not_for_ever() -> None:
    start = time.perf_counter()
    with (
        FakeOllama(faults=always("hang")) as server,
        pytest.raises(MissingError, match=r"no answer within 0\.2 s") as caught,
    ):
        list(model_of(server, timeout=0.2).complete([Request("gemma3:4b", "why?")]))
    assert "--timeout" in str(caught.value)
    assert len(server.calls) == 2 and time.perf_counter() - start < 3


def test_a_vanished_model_is_said_at_once_and_the_finished_answers_arrive() -> None:
    def plan(request: dict[str, Any], n: int) -> str | None:
        return "404" if last_text(request) == "question 6" else None

    received = []
    with FakeOllama(brain=echo, latency=0.01, faults=plan) as server, pytest.raises(MissingError) as caught:
        for index, _ in model_of(server).complete(requests_to(("gemma3:4b", "mistral:7b"), 20)):
            received.append(index)
    assert "ollama pull gemma3:4b" in str(caught.value)
    assert set(range(6)) <= set(received)
    answered = sum(1 for call in server.calls if call.fault is None)
    assert len(received) == answered < 12  # nothing that was answered is lost, nothing more was begun
    assert server.calls_by_model["mistral:7b"] == 0


def test_an_unknown_model_names_the_command() -> None:
    with FakeOllama(models=["gemma3:4b"]) as server, pytest.raises(MissingError, match="ollama pull qwen3:8b"):
        list(model_of(server).complete([Request("qwen3:8b", "why?")]))
    assert not server.calls


def test_a_server_that_dies_half_way_loses_nothing_that_was_answered() -> None:
    received = []
    with FakeOllama(brain=echo, latency=0.005) as server, pytest.raises(MissingError, match="ollama serve"):
        for index, _ in model_of(server).complete(requests_to(("gemma3:4b",), 100)):
            received.append(index)
            if len(received) == 20:
                server.stop()
    assert 20 <= len(received) < 100


def test_a_server_that_restarts_is_waited_for() -> None:
    with FakeOllama(brain=echo, latency=0.005) as server:
        answers = model_of(server, retry_wait=0.1).complete(requests_to(("gemma3:4b",), 40))
        received = [next(answers)[0]]
        server.stop()
        threading.Timer(0.2, server.start).start()
        received += [index for index, _ in answers]
        time.sleep(0.2)
    assert sorted(received) == list(range(40))


def test_a_run_with_faults_ends_with_the_same_data_as_one_without() -> None:
    faults = Faults({"500": 0.05, "drop": 0.03, "cut_json": 0.05, "list_error": 0.02, "think": 0.02}, seed=7)
    choices = [Choice("llama3:8b", f"pair {i}", ("A", "B", "tie"), seed=i) for i in range(300)]

    def brain(request: dict[str, Any]) -> str:  # the same whatever the seed, as a sure judge
        return json.dumps({"winner": "AB"[len(last_text(request)) % 2], "reason": "x" * 30})

    runs = []
    for plan in (None, faults):
        with FakeOllama(brain=brain, faults=plan) as server:
            runs.append({i: d.winner for i, d in model_of(server).choose(choices)})
    assert runs[0] == runs[1] and len(runs[0]) == 300
    assert sum(call.fault is not None for call in server.calls) > 20
