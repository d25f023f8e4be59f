"""The whole program over real HTTP with real signals: killed, interrupted, doubled, its server failing."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import whole_run
from fake_brain import default_brain
from fake_ollama import FakeOllama, Model
from whole_run import CALLS, SMALL, TAGS, kept, results, run_here


@pytest.fixture
def here(tiny_base: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(server: FakeOllama, folder: Path, *flags: str) -> int:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        return run_here(folder, tiny_base, *SMALL, *flags)

    return run


@pytest.fixture(scope="module")
def clean(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without any trouble."""
    folder = tmp_path_factory.mktemp("clean")
    with FakeOllama(brain=whole_run.steady_brain) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", server.url)
        assert run_here(folder, tiny_base, *SMALL) == 0
    return folder


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(
    tmp_path: Path, tiny_base: str, here: Callable[..., int], clean: Path
) -> None:
    """20 times in benchmarks/faults.py."""
    with FakeOllama(brain=whole_run.steady_brain, latency=0.05) as server:
        go_on = lambda server, folder, *_: here(server, folder)  # noqa: E731
        whole_run.kill_and_go_on(server, tmp_path, tiny_base, random.Random(3), go_on)
    assert kept(tmp_path) == kept(clean)
    assert results(tmp_path) == results(clean)


def test_ctrl_c_keeps_everything_and_says_how_to_go_on(
    tmp_path: Path, tiny_base: str, here: Callable[..., int]
) -> None:
    with FakeOllama(latency=0.1) as server:
        process = whole_run.start(server, tmp_path, tiny_base, *SMALL)
        whole_run.stop_after(process, server, 20, 0.05, signal.SIGINT)
        out, errors = process.communicate()
        assert process.returncode == 130
        assert "Traceback" not in out + errors and "asked again" not in out + errors
        assert f"kept in {tmp_path / 'cache'}/; the same command goes on" in errors
        assert not list((tmp_path / "cache").glob("*.journal")), "what was kept is in its file"
        asked, found = len(server.calls), whole_run.answered_calls(kept(tmp_path))
        assert asked - found <= 4, "what was in flight"
        assert here(server, tmp_path) == 0
        assert len(server.calls) - asked == CALLS - found


def test_a_failing_server_leaves_no_mark_on_the_results(tmp_path: Path, here: Callable[..., int], clean: Path) -> None:
    """At the default size in benchmarks/faults.py."""
    with FakeOllama(brain=whole_run.steady_brain, faults=whole_run.faulty) as server:
        assert here(server, tmp_path, "--concurrency", "8") == 0
        assert sum(call.fault is not None for call in server.calls) >= 3
    assert kept(tmp_path) == kept(clean)
    assert {**results(tmp_path), "config": None} == {**results(clean), "config": None}


def test_two_runs_at_once_ask_every_question_once(tmp_path: Path, tiny_base: str, here: Callable[..., int]) -> None:
    """Ten times in benchmarks/faults.py."""
    with FakeOllama(latency=0.02) as server:
        other = whole_run.start(server, tmp_path, tiny_base, *SMALL)
        while not server.calls and other.poll() is None:
            time.sleep(0.005)
        assert here(server, tmp_path) == 0
        said = other.communicate()
        assert other.returncode == 0, said
        assert len(server.calls) == CALLS
    assert kept(tmp_path)["responses"]


# ── What changed since, what it will cost, what did not fit ──────────────────────────────────────────────


def test_a_model_that_was_pulled_again_is_said_with_its_cost_before_anything_is_asked(
    tmp_path: Path, here: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeOllama() as server:
        assert here(server, tmp_path) == 0
        server.models = {**server.models, TAGS[1]: Model(digest="another")}
        capsys.readouterr()
        before = len(server.calls)
        assert here(server, tmp_path, "--check") == 0
        foreseen = capsys.readouterr().out
        assert here(server, tmp_path) == 0
        said = capsys.readouterr().out
        asked = server.calls[before:]
    sentence = f"{TAGS[1]} changed since the cache was filled (pulled again?); their answers and what was judged"
    assert sentence in foreseen and f"5 to {TAGS[1]}" in foreseen
    said = " ".join(said.split())
    assert said.index(sentence) < said.index("Using cached prompts"), "before anything is asked"
    assert sum(call.model == TAGS[1] for call in asked) == 5


def test_a_small_judges_context_cuts_visibly_and_is_counted_also_with_the_server_off(
    tmp_path: Path, here: Callable[..., int]
) -> None:
    def long(request: dict[str, Any]) -> str:
        return default_brain(request) if "format" in request else "begin " + "word " * 400 + "end"

    models = {tag: Model(context_length=1400 if tag == TAGS[0] else 32768) for tag in TAGS}
    with FakeOllama(brain=long, models=models) as server:
        assert here(server, tmp_path) == 0
        judged = [call.request for call in server.calls if "response A begins" in str(call.request["messages"])]
        assert {request["options"]["num_ctx"] for request in judged} == {1400}
        text = judged[0]["messages"][-1]["content"]
        assert text.count("characters cut …]") == text.count("begin word") == text.count("word end") == 2
    first = results(tmp_path)
    assert here(server, tmp_path) == 0, "the server is off now"
    counts = results(tmp_path)["counts"]
    assert counts == first["counts"]
    assert counts["shortened_responses"] == 15
