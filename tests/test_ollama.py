"""Asking Ollama over real HTTP: what is sent, in which order, how fast, and stopping."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from fake_brain import last_text
from fake_ollama import DEFAULT_TAGS, FakeOllama, Model
from ollama_helpers import ROOT, echo, model_of, requests_to

from llm.interface import Choice, Request
from llm.ollama import OllamaModel
from stages import judging

# ── What is asked ────────────────────────────────────────────────────────────────────────────────────────


def test_every_request_says_all_its_options_and_the_answer_comes_back_whole() -> None:
    with FakeOllama(brain=echo) as server:
        request = Request("gemma3:4b", "why?", system="Be brief.", temperature=0.7, num_predict=99, seed=5)
        [(index, answer)] = model_of(server, num_ctx={"gemma3:4b": 4096}).complete([request])
    sent = server.calls[0].request
    assert (index, answer.text, answer.truncated) == (0, "gemma3:4b says: why?", False)
    assert answer.tokens == 3 and answer.prompt_tokens == 4 and answer.seconds > 0
    assert sent["options"] == {"seed": 5, "temperature": 0.7, "num_ctx": 4096, "num_predict": 99}
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}]
    assert sent["keep_alive"] == "30m" and "format" not in sent


def test_only_models_that_can_think_are_told_not_to() -> None:
    models = {"qwen3:8b": Model(capabilities=("completion", "thinking")), "gemma3:4b": Model()}
    with FakeOllama(brain=echo, models=models) as server:  # answers 400 where the word comes unasked for
        list(model_of(server).complete([Request("qwen3:8b", "a"), Request("gemma3:4b", "b")]))
    assert {call.model: call.request.get("think", "absent") for call in server.calls} == {
        "qwen3:8b": False,
        "gemma3:4b": "absent",
    }


def test_the_context_is_the_same_all_along_and_never_more_than_the_model_has() -> None:
    with FakeOllama(brain=echo, models={"small": Model(context_length=2048), "big": Model()}) as server:
        model = model_of(server)
        list(model.complete([*requests_to(("small", "big"), 3)]))
        list(model.complete([Request("small", "x" * 9000, num_predict=7)]))
        assert model.context("small") == 2048
    assert {(c.model, c.request["options"]["num_ctx"]) for c in server.calls} == {("small", 2048), ("big", 8192)}


def test_choices_are_constrained_to_their_options_in_order() -> None:
    def brain(request: dict[str, Any]) -> str:
        return json.dumps({"winner": "B" if "b wins" in last_text(request) else "tie", "reason": "so it is"})

    with FakeOllama(brain=brain) as server:
        options = ("A", "B", "tie")
        choices = [Choice("llama3:8b", text, options, seed=i) for i, text in enumerate(["b wins", "equal"])]
        decisions = dict(model_of(server).choose(choices))
    assert (decisions[0].winner, decisions[1].winner, decisions[0].reason) == ("B", "tie", "so it is")
    properties = server.calls[0].request["format"]["properties"]
    assert properties["winner"]["enum"] == ["A", "B", "tie"]
    assert list(properties) == ["winner", "reason"]


def test_rankings_arrive_validated() -> None:
    schema = judging.ranking_schema("ABC")
    with FakeOllama() as server:
        [(_, answer)] = model_of(server).complete([Request("llama3:8b", "rank", schema=schema)])
    assert sorted(answer.parsed.ranking) == ["A", "B", "C"]  # type: ignore[union-attr]


def test_opening_words_are_refused_rather_than_dropped() -> None:
    with pytest.raises(ValueError, match="embedded"):
        list(OllamaModel("127.0.0.1:1").complete([Request("m", "x", opening="Once")]))


# ── Order and speed ──────────────────────────────────────────────────────────────────────────────────────


def test_models_are_asked_one_after_the_other() -> None:
    with FakeOllama(brain=echo, latency=lambda r: 0.001 * (len(last_text(r)) + hash(last_text(r)) % 9)) as server:
        requests = requests_to(DEFAULT_TAGS, 9)
        answers = dict(model_of(server).complete(requests))
    assert sorted(answers) == list(range(54))
    assert all(answers[i].text == f"{r.model} says: {r.prompt}" for i, r in enumerate(requests))
    assert server.loads == list(DEFAULT_TAGS)
    for earlier, later in itertools.pairwise(DEFAULT_TAGS):
        done = max(c.finished for c in server.calls if c.model == earlier)
        assert done <= min(c.started for c in server.calls if c.model == later)


def test_wall_time_is_calls_times_latency_over_slots() -> None:
    latency, calls, slots = 0.1, 60, 4
    with FakeOllama(brain=echo, latency=latency) as server:
        model = model_of(server, concurrency=slots)
        start = time.perf_counter()
        list(model.complete([Request("gemma3:4b", f"q{i}") for i in range(calls)]))
        wall = time.perf_counter() - start
    assert server.max_in_flight == slots
    assert wall <= 1.2 * calls * latency / slots


def test_answers_come_as_they_finish() -> None:
    with FakeOllama(brain=echo, latency=lambda r: 0.3 if "slow" in last_text(r) else 0.0) as server:
        order = [i for i, _ in model_of(server).complete([Request("gemma3:4b", t) for t in ("slow", "b", "c")])]
    assert order[-1] == 0


# ── Stopping ─────────────────────────────────────────────────────────────────────────────────────────────


def test_whoever_stops_listening_does_not_wait() -> None:
    with FakeOllama(brain=echo, latency=lambda r: 0.0 if last_text(r) == "q0" else 5.0) as server:
        answers = model_of(server, concurrency=2).complete([Request("gemma3:4b", f"q{i}") for i in range(9)])
        assert next(answers)[0] == 0
        start = time.perf_counter()
        answers.close()
        assert time.perf_counter() - start < 1
        assert len(server.calls) <= 3


def test_ctrl_c_ends_a_run_at_once() -> None:
    program = (
        "import sys; from llm import Request; from ollama_client import OllamaModel\n"
        "try:\n"
        "    for i, _ in OllamaModel(sys.argv[1]).complete([Request('gemma3:4b', str(n)) for n in range(9)]):\n"
        "        print(i, flush=True)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped', flush=True); sys.exit(130)\n"
    )
    with FakeOllama(brain=echo, latency=lambda r: 0.0 if last_text(r) == "0" else 30.0) as server:
        run = subprocess.Popen([sys.executable, "-c", program, server.url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None and run.stdout.readline() == "0\n"
        start = time.perf_counter()
        run.send_signal(signal.SIGINT)
        rest, _ = run.communicate(timeout=10)
        assert (rest, run.returncode) == ("stopped\n", 130)
        assert time.perf_counter() - start < 2
