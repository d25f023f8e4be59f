"""--rank and --vote through the command line: over HTTP, with a tiny base on the disk."""

from __future__ import annotations

import io
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from begun import jobs_of
from fake_brain import default_brain
from fake_ollama import DEFAULT_TAGS, FakeOllama
from tiny_models import save_model
from vote_files import save, vote

import main
from base.features import compute_features
from cli.rank import verdict
from core.clock import Clock
from core.files import fingerprint
from core.records import Prompt
from data_generation import make_data
from evidence.design import design, make_systems
from stages.writing import collect_responses

ASKED = "How do I sort a list of words by their length?"
RUN = ["--backend", "ollama", "--num_prompts", "5"]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in cache/ and results/, and its base in base/."""
    folder = tmp_path_factory.mktemp("run")
    save_model(folder / "base", "llama")
    with FakeOllama() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", server.url)
        assert main.main([*RUN, *folders(folder / "cache")]) == 0
    return folder


@pytest.fixture
def cache(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of its cache, with its results and base beside it."""
    shutil.copytree(finished_run / "results", tmp_path / "results")
    (tmp_path / "base").symlink_to(finished_run / "base")
    return Path(shutil.copytree(finished_run / "cache", tmp_path / "cache"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    with FakeOllama() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        yield running


def folders(cache: Path) -> list[str]:
    here, base = cache.parent, (cache.parent / "base").resolve()
    return ["--cache_dir", str(cache), "--results_dir", str(here / "results"), "--base_model", str(base)]


def rank(cache: Path, prompt: str, *flags: str) -> int:
    return main.main([*RUN, *folders(cache), "--rank", prompt, *flags])


def ranked(cache: Path, prompt: str, capsys: pytest.CaptureFixture[str], *flags: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert rank(cache, prompt, "--json", *flags) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_prompt_costs_one_question_to_each_model_and_then_nothing(
    cache: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(cache, ASKED) == 0
    first = capsys.readouterr().out
    assert dict(server.calls_by_model) == dict.fromkeys(DEFAULT_TAGS, 1)
    listed = first.split("Best with")[1].splitlines()[2:8]
    assert {line.split()[1] for line in listed} == set(DEFAULT_TAGS)
    best = first.split("Response of ")[1].splitlines()
    texts = {call.model: default_brain(call.request) for call in server.calls}
    assert "\n".join(best[2:-1]) == texts[best[0].split(": ")[1]], "in full"
    server.stop()
    assert rank(cache, ASKED) == 0, "the server is off now"
    assert capsys.readouterr().out.split("Prompt:")[1] == first.split("Prompt:")[1]
    assert rank(cache, "And what of this?") == 3
    assert capsys.readouterr().err.startswith("\nNo Ollama server answers"), "it is not waited for"


def test_scores_are_those_of_a_training_on_every_prompt(
    cache: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = ranked(cache, ASKED, capsys)
    asked = len(server.calls)
    (job,) = jobs_of(*RUN, *folders(cache))
    data = make_data(job, Clock())
    prompt = Prompt(f"asked-{fingerprint(ASKED)}", ASKED)
    responses = [*data.responses, *collect_responses(job, [prompt])]
    assert len(server.calls) == asked, "all of it is kept"
    features = compute_features(job.base_model, [*data.prompts, prompt], responses, cache_dir=cache, name="coder")
    systems = make_systems(job, data, features)
    for system in systems.contenders:
        scores = system.fit(design(data, job.params).preferences).scores(prompt.id)
        mean = statistics.fmean(scores.values())
        found = {place["model"]: place["score"] for place in line[system.name]}
        assert found == pytest.approx({model: score - mean for model, score in scores.items()}, abs=1e-4)
    assert line["p_best"] == pytest.approx(systems.combined.posterior(prompt.id).best_chances(), abs=0.01)
    assert line["best"]["p_best"] == line["p_best"][line["best"]["model"]] == max(line["p_best"].values())
    measured = json.loads((cache.parent / "results" / "evaluation_results_coder.json").read_text(encoding="utf-8"))
    assert line["evidence"]["cross_validated"]["combined"] == measured["cross_validated"]["combined"]["kendall_tau"]


def test_json_lines_of_standard_input_and_nothing_else(
    cache: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = f"\n{ASKED}\n   \nWhat is a caf\ud83d?\r\n{ASKED}  \n".encode("utf-8", "surrogatepass")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), encoding="ascii"))
    lines = ranked(cache, "-", capsys)
    assert [line["prompt"] for line in lines] == [ASKED, "What is a caf\ufffd\ufffd\ufffd?", ASKED]
    assert lines[0] == lines[2]
    assert len(server.calls) == 12, "a prompt that comes twice is asked once"
    for line in lines:
        assert sum(line["p_best"].values()) == pytest.approx(1.0)
        assert line["prompt"] in line["best"]["text"] and "```" in line["best"]["text"], "the fake's coder likes code"
        for system in ("elo_offset", "reward_model", "combined"):
            scores = [place["score"] for place in line[system]]
            assert scores == sorted(scores, reverse=True) and len(scores) == 6


def test_without_a_run_there_is_nothing_to_rank_by_and_after_one_all_that_it_left_counts(
    cache: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = str(cache.parent / "empty")
    assert main.main([*RUN, "--num_predict", "96", "--cache_dir", empty, "--rank", ASKED]) == 3
    offered = capsys.readouterr().err.splitlines()[-1].strip()
    assert offered == f"python main.py --persona coder --backend ollama --num_predict 96 --cache_dir {empty}"
    assert not server.calls
    assert main.main([*RUN[:2], *folders(cache), "--num_prompts", "6"]) == 0
    (six,), (all_,) = (ranked(cache, ASKED, capsys, "--num_prompts", number) for number in ("6", "25"))
    assert all_["evidence"]["prompts"] == 6
    scores = [{place["model"]: place["score"] for place in found["combined"]} for found in (six, all_)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4), "all that the cache holds, however many"


@pytest.mark.parametrize(
    ("flags", "not_imported"),
    [
        (["--rank", ASKED], "transformers datasets pandas matplotlib evalica torch._dynamo scipy.stats"),
        (["--check"], "transformers datasets pandas matplotlib evalica scipy.stats torch"),
        (["--help"], "transformers datasets pandas matplotlib evalica scipy.stats torch numpy pydantic ollama"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_imports_nothing_heavy_that_it_does_not_use(
    cache: Path, server: FakeOllama, flags: list[str], not_imported: str
) -> None:
    assert "--rank" not in flags or rank(cache, ASKED) == 0, "the prompt was asked before"
    said = f"print(sorted(set({not_imported.split()}) & set(sys.modules)))"
    asked = [*RUN, *folders(cache), *flags]
    code = f"import atexit, sys; atexit.register(lambda: {said}); import main; main.main({asked})"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(main.__file__).parent, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_hostile_texts_do_nothing_to_the_terminal(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeOllama(brain=lambda _: "\x1b]0;owned\x07 \x9b2J says \u202eolleh\r\nand\tmore {prompt} %s") as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert rank(cache, "clear \x1b[2J \ud83d {title} %d \u202e?", "--models", *DEFAULT_TAGS[:2]) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r", "\ud83d"} & set(out)
    assert "{title} %d" in out and "{prompt} %s" in out


def test_how_sure_the_first_place_is() -> None:
    crossed = {"combined": {"ci95": [0.1, 0.5]}, "elo_offset": {"ci95": [-0.1, 0.5]}}
    found = {"main_metric": "kendall_tau", "recommended": "combined", "cross_validated": crossed}
    assert [verdict(found, p_best) for p_best in (0.96, 0.6, 0.4)] == ["sure", "likely", "open"]
    assert verdict(found | {"recommended": "elo_offset"}, 0.99) == verdict(None, 0.99) == "no evidence"


def test_votes_rank_the_models_that_were_voted_on(
    cache: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who liked one model of two in nearly every vote gets it first."""
    models = {"model_a": "gemma3:4b", "model_b": "mistral:7b"}
    rows = [vote(user="me", prompt_id=f"p{i}", prompt=f"Question {i}?", response_a=f"A long answer to {i}.",
                 response_b=f"No {i}.", outcome=float(i % 8 > 0), **models) for i in range(40)]  # fmt: skip
    flags = ["--preferences", save(cache.parent / "mine.jsonl", rows), *folders(cache)]

    assert main.main([*flags, "--rank", ASKED, "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["persona"], set(line["p_best"])) == ("mine", {"gemma3:4b", "mistral:7b"})
    assert line["elo_offset"][0]["model"] == "gemma3:4b" == line["best"]["model"]
    assert (line["evidence"], line["best"]["verdict"]) == (None, "no evidence")
    assert dict(server.calls_by_model) == {"gemma3:4b": 1, "mistral:7b": 1}
