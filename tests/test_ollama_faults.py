"""A server that misbehaves over real HTTP: what is asked again, what is an error, what is kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fake_brain import last_text
from fake_ollama import FakeOllama
from ollama_helpers import always, echo, first_times, model_of, questions

from core.errors import MissingError
from llm import asking
from llm.asking import ATTEMPTS, DRAWS
from llm.interface import Choice, Completion, Decision, LeftOut, Request

# ── The server ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fault", ["500", "503", "drop", "not_json", "list_body", "list_error", "text_error", "cut_body"]
)
def test_trouble_that_passes_is_asked_again_as_it_was_and_what_stays_says_what_it_was_about(fault: str) -> None:
    request = Request("gemma3:4b", "why?", seed=3, label="coder-003 answered by gemma3:4b")
    with FakeOllama(brain=echo, faults=first_times(fault, 3)) as server:
        model = model_of(server)
        [(_, answer)] = model.complete([request])
        assert answer.text == "gemma3:4b says: why?"
        assert len(server.calls) == 4
        assert all(call.request == server.calls[0].request for call in server.calls)
        server.faults = always(fault)
        with pytest.raises(MissingError) as caught:
            list(model.complete([request]))
    message = str(caught.value)
    for part in (request.label, "7 attempts", "kept", "same command"):
        assert part in message
    assert caught.value.exit_status == 3
    assert len(server.calls) == 4 + ATTEMPTS


def test_a_server_that_never_answers_is_asked_twice_and_not_for_ever() -> None:
    with (
        FakeOllama(faults=always("hang")) as server,
        pytest.raises(MissingError, match=r"no answer within 0\.4 s.*--timeout"),
    ):
        list(model_of(server, timeout=0.4).complete([Request("gemma3:4b", "why?")]))
    assert len(server.calls) <= 2


def test_a_vanished_model_is_said_at_once_and_the_finished_answers_arrive() -> None:
    def plan(request: dict[str, Any], n: int) -> str | None:
        return "404" if last_text(request) == "question 6" else None

    received = []
    requests = [*questions("gemma3:4b", 20), *questions("mistral:7b", 20)]
    with FakeOllama(brain=echo, latency=0.01, faults=plan) as server, pytest.raises(MissingError) as caught:
        for index, _ in model_of(server).complete(requests):
            received.append(index)
    assert "ollama pull gemma3:4b" in str(caught.value)
    assert set(range(6)) <= set(received)
    answered = sum(call.fault is None for call in server.calls)
    assert len(received) == answered < 20, "nothing that was answered is lost, nothing more was begun"
    assert server.calls_by_model["mistral:7b"] == 0


def test_an_unknown_model_names_the_command() -> None:
    with FakeOllama(models=["gemma3:4b"]) as server, pytest.raises(MissingError, match="ollama pull qwen3:8b"):
        list(model_of(server).complete([Request("qwen3:8b", "why?")]))
    assert not server.calls


def test_a_server_that_dies_half_way_loses_nothing_that_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "AWAY_SECONDS", 0.1)
    received = []
    with FakeOllama(brain=echo, latency=0.005) as server, pytest.raises(MissingError, match="ollama serve"):
        for index, _ in model_of(server).complete(questions("gemma3:4b", 100)):
            received.append(index)
            if len(received) == 20:
                server.stop()
    assert 20 <= len(received) < 100


# ── The answers ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fault", ["cut_json", "wrong_shape", "length", "empty", "think_unclosed", "think_budget", "abort"]
)
def test_a_broken_structured_answer_is_drawn_anew_warmer_each_time_and_then_left_out(fault: str) -> None:
    choice = Choice("gemma3:4b", "which?", ("A", "B", "tie"), label="coder-001: a against b", seed=3)
    with FakeOllama(faults=first_times(fault, 2)) as server:
        model = model_of(server)
        [(_, decision)] = model.choose([choice])
        server.faults = always(fault)
        [(_, given_up), (_, second)] = model.choose([choice, dataclasses.replace(choice, prompt="and which?")])
        options = [call.request["options"] for call in server.calls if last_text(call.request).startswith("which?")]
    assert isinstance(decision, Decision) and decision.winner in choice.options
    assert isinstance(given_up, LeftOut) and isinstance(second, LeftOut), "one bad answer does not stop the others"
    assert f"{DRAWS} draws" in given_up.reason
    assert len(server.calls) == 3 + 2 * DRAWS
    assert len({o["seed"] for o in options}) == DRAWS
    temperatures = [o["temperature"] for o in options[3:]]
    assert temperatures[0] == 0.0 and temperatures == sorted(set(temperatures))


@pytest.mark.parametrize("fault", ["fenced", "think", "think_orphan"])
def test_structured_answers_survive_fences_and_thoughts(fault: str) -> None:
    with FakeOllama(faults=always(fault)) as server:
        [(_, decision)] = model_of(server).choose([Choice("gemma3:4b", "which?", ("A", "B"))])
    assert decision.winner in ("A", "B")
    assert len(server.calls) == 1


@pytest.mark.parametrize("fault", ["empty", "think_unclosed", "think_budget"])
def test_an_empty_answer_is_a_failure(fault: str) -> None:
    with FakeOllama(brain=echo, faults=always(fault)) as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "why?")])
    assert isinstance(answer, LeftOut)
    assert len(server.calls) == DRAWS


def test_a_plain_answer_at_its_limit_is_an_answer() -> None:
    with FakeOllama(brain=lambda _: "one two three four") as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "count", num_predict=3)])
    assert answer == Completion("one two three", 3, answer.seconds, truncated=True, prompt_tokens=2)
