"""Asking servers over real HTTP: the order, how many at once, stopping; what is asked again, left out, an error."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import threading
from unittest.mock import Mock

import pytest
from fake_brain import last_text
from fake_ollama import DEFAULT_TAGS, FakeOllama
from ollama_helpers import ROOT, SERVERS, echo, first_times, model_of, questions

from core.errors import MissingError
from llm import asking
from llm.asking import ATTEMPTS, DRAWS, PassingError
from llm.interface import Choice, Decision, LeftOut, Request

KINDS = pytest.mark.parametrize("kind", list(SERVERS))
TAG = "gemma3:4b"


def test_models_are_asked_one_after_the_other_and_give_their_memory_back() -> None:
    tags = DEFAULT_TAGS[:3]
    with FakeOllama(echo) as server:
        requests, model = [request for tag in tags for request in questions(tag, 9)], model_of(server)
        answers = dict(model.complete(requests))
        assert server.loaded == [tags[2]]
        model.unload()
    assert all(answers[i].text == f"{r.model} says: {r.prompt}" for i, r in enumerate(requests))
    assert (server.loads, server.loaded, server.peak_loaded) == (list(tags), [], 1)
    for earlier, later in itertools.pairwise(tags):
        done = max(c.finished for c in server.calls if c.model == earlier)
        assert done <= min(c.started for c in server.calls if c.model == later)


def test_as_many_are_in_flight_as_are_allowed() -> None:
    together = threading.Barrier(4)  # no answer is given unless four are asked for at once
    with FakeOllama(echo, latency=lambda _: together.wait(120) and None) as server:
        assert len(list(model_of(server, concurrency=4).complete(questions(TAG, 12)))) == 12
    assert server.max_in_flight == 4


def test_a_program_ends_while_the_server_owes_answers() -> None:
    """No thread that waits for an answer keeps it."""
    server = FakeOllama(echo)
    server.latency = lambda request: last_text(request) != "question 0" and server.stopping.wait() and None
    with server:
        code = (
            "from llm.interface import Request; from llm.ollama import OllamaModel; "
            f"asked = [Request({TAG!r}, f'question {{i}}') for i in (0, 1)]; "
            f"print(next(OllamaModel({server.url!r}).complete(asked)))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "") and "question 0" in done.stdout


@KINDS
@pytest.mark.parametrize("fault", ["500", "429", "drop", "cut_body"])
def test_trouble_that_passes_is_asked_again_and_what_stays_says_what_it_was_about(kind: str, fault: str) -> None:
    request = Request(TAG, "why?", seed=3, label=f"coder-003 answered by {TAG}")
    with SERVERS[kind](echo, models=[TAG], faults=first_times(fault, 3)) as server:
        model = model_of(server)
        [(_, answer)] = model.complete([request])
        assert answer.text == f"{TAG} says: why?"
        assert len(server.calls) == 4
        assert all(call.request == server.calls[0].request for call in server.calls)
        server.faults = lambda request, n: fault
        with pytest.raises(MissingError) as caught:
            list(model.complete([request]))
    for part in (request.label, "7 attempts", "kept", "same command"):
        assert part in str(caught.value)
    assert fault != "500" or f"{TAG} can't be loaded there" in str(caught.value)
    assert len(server.calls) == 4 + ATTEMPTS


@KINDS
def test_a_server_that_never_answers_is_asked_twice_and_not_for_ever(kind: str) -> None:
    lasting = pytest.raises(MissingError, match=r"no answer within 0\.4 s.*--timeout")
    with SERVERS[kind](models=[TAG], faults=lambda request, n: "hang") as server, lasting:
        list(model_of(server, timeout=0.4).complete([Request(TAG, "why?")]))
    assert len(server.calls) <= 2


def test_a_server_that_is_away_is_waited_for_with_one_line_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOllama(echo, latency=0.005) as server:
        model = model_of(server, retry_wait=0.05)
        answers = model.complete(questions(TAG, 20))
        received = [next(answers)[0]]
        server.stop()
        threading.Timer(1.0, server.start).start()  # four attempts are over by then
        received += [index for index, _ in answers]
        assert sorted(received) == list(range(20))
        assert caplog.text.count("waiting for it, up to 120 s") == 1
        server.stop()
        monkeypatch.setattr(asking, "AWAY_SECONDS", 0.1)
        with pytest.raises(MissingError, match=r"kept.*ollama serve"):
            list(model.complete(questions(TAG, 1)))


def test_the_wait_for_a_server_counts_from_when_it_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "AWAY_SECONDS", 0.2)
    attempt = Mock(side_effect=[PassingError("HTTP 500"), PassingError("away", weight=0), "answer"])
    assert model_of(FakeOllama(), retry_wait=0.3)._persist("it", attempt) == "answer"


@KINDS
@pytest.mark.parametrize("fault", ["cut_json", "wrong_shape", "abort"])
def test_a_broken_structured_answer_is_drawn_anew_warmer_each_time_and_then_left_out(kind: str, fault: str) -> None:
    choice = Choice(TAG, "which?", ("A", "B", "tie"), label="coder-001: a against b", seed=3)
    with SERVERS[kind](models=[TAG], faults=first_times(fault, 2)) as server:
        model = model_of(server)
        [(_, decision)] = model.choose([choice])
        server.faults = lambda request, n: fault
        [(_, given_up), (_, second)] = model.choose([choice, dataclasses.replace(choice, prompt="and which?")])
        asked = [call.request for call in server.calls if last_text(call.request).startswith("which?")]
    assert isinstance(decision, Decision) and decision.winner in choice.options
    assert isinstance(given_up, LeftOut) and isinstance(second, LeftOut), "one bad answer does not stop the others"
    assert f"{DRAWS} draws" in given_up.reason
    assert len(server.calls) == 3 + 2 * DRAWS
    options = [request.get("options", request) for request in asked]
    assert len({o["seed"] for o in options}) == DRAWS
    temperatures = [o["temperature"] for o in options[3:]]
    assert temperatures[0] == 0.0 and temperatures == sorted(set(temperatures))
    assert kind == "ollama" or "obeys this schema" in last_text(server.calls[1].request)
