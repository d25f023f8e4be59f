"""A run on a server with the OpenAI API: what --check says of it, and a default-sized one through faults."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from begun import jobs_of
from fake_ollama import FakeOllama, Faults
from fake_openai import FakeOpenAI, Model
from ollama_helpers import unused_address
from tiny_models import save_model

import main
from core.clock import Clock
from data_generation import Data, make_data
from evidence.leaderboard import tokens_per_second

KEY = "sk-very-secret-0123"
NAMES = ("meta-llama/Llama-3.1-8B-Instruct", "gemma-3-4b-it", "gpt-of-mine", "llama3:8b", "qwen3", "vicuna-7b")
PERFECT = {name: Model() for name in (*NAMES, "judge-70b")}
ODD = {
    **PERFECT,
    NAMES[1]: Model(refuses=frozenset({"max_tokens", "seed"})),
    "judge-70b": Model(refuses=frozenset({"response_format"})),
}
FAULTS = Faults({"429": 0.04, "500": 0.03, "drop": 0.03, "cut_body": 0.03, "cut_json": 0.03})


def faulty(request: dict[str, Any], n: int) -> str | None:
    """Half an answer is a fault where it should be JSON; else nobody could know."""
    fault = FAULTS(request, n)
    structured = "obeys this schema" in request["messages"][-1]["content"] or "response_format" in request
    return "cut_body" if fault == "cut_json" and not structured else fault


def flags(tmp_path: Path, *more: str) -> list[str]:
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    return ["--backend", "openai", "--models", *NAMES, "--judge", "judge-70b", *folders, *more]


def made(tmp_path: Path, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    (job,) = jobs_of(*flags(tmp_path))
    job.llm._retry_wait = 0.001  # type: ignore[attr-defined]
    return make_data(job, Clock(), job.prompt_ids[20:])


def untimed(data: Data) -> Data:
    return replace(data, responses=tuple(replace(response, seconds=0.0) for response in data.responses))


def test_what_a_server_leaves_away_is_null_and_can_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--num_prompts", "5", "--models", *NAMES[:2])
    with FakeOpenAI(models=PERFECT, shape=lambda reply: {**reply, "usage": {"completion_tokens": None}}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        (job,) = jobs_of(*flags(tmp_path, *few))
        made_now = make_data(job, Clock())
    read_back = make_data(job, Clock(), ask=False)
    assert read_back.responses == made_now.responses
    assert {(r.tokens, r.side_by_side) for r in read_back.responses} == {(None, job.params.concurrency)}
    assert tokens_per_second(read_back.responses) == {}


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("base"), "llama"))


def test_a_default_sized_run_survives_faults_and_refusals_and_asks_nothing_twice(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "ranking")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FakeOpenAI(models=PERFECT, key=KEY) as perfect:
        expected = made(tmp_path / "perfect", perfect, monkeypatch)
    with FakeOpenAI(models=ODD, key=KEY, faults=faulty) as server:
        data = made(tmp_path / "odd", server, monkeypatch)
    assert (len(data.prompts), len(data.responses), len(data.judgements)) == (25, 150, 750)
    assert len(server.calls) - len(server.answered) > 50
    assert len(server.answered) == len(set(server.answered)) == len(perfect.answered) == len(perfect.calls)
    assert untimed(data) == untimed(expected)
    assert "judge-70b refuses response_format" in caplog.text
    # and where all that a run needs is cached, the whole program needs no server
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    few = ("--num_prompts", "5", "--models", *NAMES[:3], "--base_model", base)
    assert main.main(flags(tmp_path / "odd", *few)) == 0
    results = json.loads((tmp_path / "odd" / "results" / "evaluation_results_coder.json").read_text(encoding="utf-8"))
    assert (results["backend"], results["judge"]) == ("openai", "judge-70b")
    assert {(model["backend"], model["ollama_tag"]) for model in results["models"]} == {("openai", None)}
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 8
    assert not [data for data in (*written, caplog.text.encode()) if KEY.encode() in data]


def test_ratings_are_matched_by_name_and_no_model_is_an_ollama_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI(models=PERFECT) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        (job,) = jobs_of(*flags(tmp_path))
    assert job.ratings is not None
    elo = {name: rating.elo for name, rating in job.ratings.items()}
    assert elo == dict(zip(NAMES, (1193.0, 1293.0, None, 1171.0, None, 1038.0), strict=True))
    assert "size (none) is not listed" in job.ratings["qwen3"].source, "Ollama's default size is not this server's"
    assert {c.ollama_tag for c in job.contestants.values()} == {None}
    assert {rating.ollama_tag for rating in job.ratings.values()} == {None}


def test_check_says_what_the_server_lists_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {**PERFECT, "judge-70b": Model(context=8000)}
    with FakeOpenAI(models=models) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        main.main(flags(tmp_path, "--check"))
        said = capsys.readouterr().out
        del models["judge-70b"]
        server.models = models
        assert main.main(flags(tmp_path, "--check")) == 3
        lacking = capsys.readouterr().out
        assert main.main(flags(tmp_path)) == 3
        assert "MISSING  judge-70b (judge): not in the server's list" in lacking
        assert "--models and --judge with names of the server's list" in capsys.readouterr().err
    assert f"{server.url} answers and lists 7 models" in said
    assert "ok       judge-70b (judge): listed, context 8,000 tokens" in said
    assert "no digest" in said
    assert not server.calls


def test_check_names_a_server_that_is_off_a_wrong_key_and_models_that_nobody_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(flags(tmp_path, "--check")) == 3
    assert "No server with the OpenAI API answers at http://127.0.0.1:9/v1" in capsys.readouterr().out
    with FakeOpenAI(key="another") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main.main(flags(tmp_path)) == 3
        assert "OPENAI_API_KEY" in capsys.readouterr().err
        server.open_list = True
        assert main.main(flags(tmp_path, "--check")) == 3
        assert "OPENAI_API_KEY" in capsys.readouterr().out
        server.key = None
        monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("/v1", "/v2"))
        assert main.main(flags(tmp_path, "--check")) == 3
        assert "it mostly ends in /v1" in capsys.readouterr().out
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/chat/completions")
        assert main.main(["--backend", "openai", "--models", "a-8b", "b-7b"]) == 2
        assert "The server has a-8b, b-7b, c-4b, judge-70b" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_the_paid_address_is_named_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert main.main(flags(tmp_path)) == 3
    said = capsys.readouterr()
    assert "https://api.openai.com/v1 is asked, which bills every token" in said.out
    assert "OPENAI_API_KEY is not set" in said.err


def test_a_server_of_this_kind_where_ollama_was_looked_for_is_named_and_never_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeOpenAI() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url.removesuffix("/v1"))
        assert main.main(["--backend", "ollama", "--check", "--cache_dir", str(tmp_path)]) == 3
        asked_for = capsys.readouterr().out
        (job,) = jobs_of("--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results"))
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OLLAMA_HOST", unused_address())
        (named,) = jobs_of("--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results"))
    hint = f"OPENAI_BASE_URL={server.url} python main.py --backend openai"
    assert hint in asked_for
    assert job.llm.backend == "embedded"
    assert hint in job.notes[0]
    assert f"{server.url} answers" in named.notes[0], "also where the variable names it and the flag is forgotten"
    assert not server.calls


def test_ollama_asked_as_an_openai_server_is_recognised_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["smol:latest", "q05:latest", "q15:latest"]
    own = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    command = ["--backend", "openai", "--models", "smol", "q05", "--judge", "q15", *own, "--check"]
    for ollama in (True, False):
        with FakeOpenAI(models=names, ollama=ollama) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            main.main([*command, "--base_model", "embedded"])
        said = capsys.readouterr().out
        assert ("OPENAI_BASE_URL names an Ollama server" in said) is ollama
        assert (f"OLLAMA_HOST={server.url.removesuffix('/v1')} with --backend ollama" in said) is ollama
        assert ("MISSING  smol (contestant): not in the server's list" in said) is not ollama


def test_where_ollama_answers_too_the_flag_for_the_other_server_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeOllama() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        main.main(["--check", "--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")])
    said = "Ollama answers and is asked; the server that OPENAI_BASE_URL names: --backend openai"
    assert capsys.readouterr().out.splitlines()[0] == said
