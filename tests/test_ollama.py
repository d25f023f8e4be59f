"""Asking Ollama over real HTTP: what is sent, in which order, how many at once, and stopping."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fake_brain import last_text
from fake_ollama import DEFAULT_TAGS, FakeOllama, Model
from ollama_helpers import ROOT, echo, model_of, questions

from core.errors import MissingError
from llm import asking
from llm.interface import Choice, Request
from llm.ollama import OllamaModel

# ── What is asked ────────────────────────────────────────────────────────────────────────────────────────


def test_every_request_says_all_its_options_and_the_answer_comes_back_whole() -> None:
    with FakeOllama(brain=echo) as server:
        request = Request("gemma3:4b", "why?", system="Be brief.", temperature=0.7, num_predict=99, seed=5)
        [(index, answer)] = model_of(server, num_ctx=4096).complete([request])
    sent = server.calls[0].request
    assert (index, answer.text, answer.truncated) == (0, "gemma3:4b says: why?", False)
    assert answer.tokens == 3
    assert answer.prompt_tokens == 4
    assert answer.seconds > 0
    assert sent["options"] == {"seed": 5, "temperature": 0.7, "num_ctx": 4096, "num_predict": 99}
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]
    assert sent["keep_alive"] == "30m"
    assert "format" not in sent


def test_only_models_that_can_think_are_told_not_to() -> None:
    models = {"qwen3:8b": Model(capabilities=("completion", "thinking")), "gemma3:4b": Model()}
    with FakeOllama(brain=echo, models=models) as server:  # answers 400 where the word comes unasked for
        list(model_of(server).complete([Request("gemma3:4b", "b"), Request("qwen3:8b", "a")]))
    assert len(server.calls) == 2
    told = {call.model: call.request.get("think", "absent") for call in server.calls}
    assert told == {"qwen3:8b": False, "gemma3:4b": "absent"}


def test_the_context_is_the_same_all_along_and_never_more_than_the_model_has() -> None:
    with FakeOllama(brain=echo, models={"small": Model(context_length=2048), "big": Model()}) as server:
        model = model_of(server)
        list(model.complete([*questions("small", 3), *questions("big", 3)]))
        list(model.complete([Request("small", "x" * 9000, num_predict=7)]))
    assert {(c.model, c.request["options"]["num_ctx"]) for c in server.calls} == {("small", 2048), ("big", 8192)}


def test_choices_are_constrained_to_their_options_in_order() -> None:
    def brain(request: dict[str, Any]) -> str:
        return json.dumps({"choice": "B" if "b wins" in last_text(request) else "tie", "reason": "so it is"})

    with FakeOllama(brain=brain) as server:
        choices = [Choice("llama3:8b", text, ("A", "B", "tie")) for text in ("b wins", "equal")]
        decisions = dict(model_of(server).choose(choices))
    assert (decisions[0].winner, decisions[1].winner, decisions[0].reason) == ("B", "tie", "so it is")
    schema = server.calls[0].request["format"]
    assert schema["properties"]["choice"]["enum"] == ["A", "B", "tie"]
    assert list(schema["properties"]) == schema["required"] == ["choice", "reason"]


def test_opening_words_are_refused_rather_than_dropped() -> None:
    with pytest.raises(ValueError, match="embedded"):
        list(OllamaModel("127.0.0.1:1").complete([Request("m", "x", opening="Once")]))


# ── Order, and how many at once ──────────────────────────────────────────────────────────────────────────


def test_models_are_asked_one_after_the_other() -> None:
    tags = DEFAULT_TAGS[:3]
    with FakeOllama(brain=echo, latency=lambda r: hash(last_text(r)) % 9 / 1000) as server:
        requests = [request for tag in tags for request in questions(tag, 9)]
        answers = dict(model_of(server).complete(requests))
    assert sorted(answers) == list(range(27))
    assert all(answers[i].text == f"{r.model} says: {r.prompt}" for i, r in enumerate(requests))
    assert server.loads == list(tags)
    for earlier, later in itertools.pairwise(tags):
        done = max(c.finished for c in server.calls if c.model == earlier)
        assert done <= min(c.started for c in server.calls if c.model == later)


def test_as_many_are_in_flight_as_are_allowed_and_they_are_begun_in_order() -> None:
    together = threading.Barrier(4)  # no answer is given unless four are asked for at once

    with FakeOllama(brain=echo, latency=lambda _: together.wait(120) and None) as server:
        assert len(list(model_of(server, concurrency=4).complete(questions("gemma3:4b", 12)))) == 12
    assert server.max_in_flight == 4
    begun = [int(last_text(call.request).split()[1]) for call in server.calls]
    assert [sorted(begun[i : i + 4]) for i in (0, 4, 8)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_answers_come_as_they_finish() -> None:
    others_are_here = threading.Event()

    def wait(request: dict[str, Any]) -> None:
        if last_text(request) == "question 0":
            others_are_here.wait(120)

    with FakeOllama(brain=echo, latency=wait) as server:
        answers = model_of(server, concurrency=2).complete(questions("gemma3:4b", 3))
        assert {next(answers)[0], next(answers)[0]} == {1, 2}
        others_are_here.set()
        assert [index for index, _ in answers] == [0]


# ── Stopping ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def stubborn() -> Iterator[FakeOllama]:
    """A server that answers question 0 and keeps all others waiting until it stops."""

    def wait(request: dict[str, Any]) -> None:
        if last_text(request) != "question 0":
            server.stopping.wait()

    with FakeOllama(brain=echo, latency=wait) as server:
        yield server


def test_whoever_stops_listening_does_not_wait_and_nothing_more_is_begun(stubborn: FakeOllama) -> None:
    answers = model_of(stubborn, concurrency=2).complete(questions("gemma3:4b", 9))
    assert next(answers)[0] == 0
    answers.close()  # returns while the server owes its answers
    assert all(call.finished == 0 for call in stubborn.calls if last_text(call.request) != "question 0")
    assert len(stubborn.calls) <= 3


def test_ctrl_c_ends_the_asking_while_the_server_owes_answers(stubborn: FakeOllama) -> None:
    received = []
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    with pytest.raises(KeyboardInterrupt):
        for index, _ in model_of(stubborn, concurrency=2).complete(questions("gemma3:4b", 9)):
            received.append(index)
            threading.Timer(0.1, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
    assert received == [0]
    assert len(stubborn.calls) <= 3


def test_a_program_ends_while_the_server_owes_answers(stubborn: FakeOllama) -> None:
    """No thread that waits for an answer keeps it."""
    code = (
        "from llm.interface import Request; from llm.ollama import OllamaModel; "
        "asked = [Request('gemma3:4b', f'question {i}') for i in (0, 1)]; "
        f"print(next(OllamaModel({stubborn.url!r}).complete(asked)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "") and "question 0" in done.stdout


def test_nothing_is_said_to_be_asked_again_once_the_asking_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ended = threading.Event()

    def fault(request: dict[str, Any], n: int) -> str | None:
        return {"question 0": "404", "question 1": "500"}.get(last_text(request))

    def wait(request: dict[str, Any]) -> None:
        if last_text(request) == "question 1":
            ended.wait(120)

    with FakeOllama(brain=echo, latency=wait, faults=fault) as server:
        threading.Timer(0.5, ended.set).start()
        with pytest.raises(MissingError, match="no model"):
            list(model_of(server, concurrency=2).complete(questions("gemma3:4b", 2)))
    assert len(server.calls) == 2
    assert "asked again" not in caplog.text


def test_a_wait_for_another_attempt_ends_with_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()
    monkeypatch.setattr(asking.log, "info", lambda *_: waits.set())

    def wait(request: dict[str, Any]) -> None:
        if last_text(request) == "question 0":
            waits.wait(120)

    def fault(request: dict[str, Any], n: int) -> str | None:
        return "500" if last_text(request) == "question 1" else None

    with FakeOllama(brain=echo, latency=wait, faults=fault) as server:
        answers = model_of(server, concurrency=2, retry_wait=1000.0).complete(questions("gemma3:4b", 2))
        assert next(answers)[0] == 0
        answers.close()
        for thread in threading.enumerate():
            if thread.name == "asking":
                thread.join(120)
                assert not thread.is_alive()
    assert len(server.calls) == 2
