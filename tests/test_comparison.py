"""``--persona all`` and the noise ceiling, over HTTP: what they ask, what they keep, what they say."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from begun import ids_for_testing, jobs_of
from fake_brain import default_brain, last_text, shown
from fake_ollama import FakeOllama

import config
import main
from config import ExperimentConfig
from core.clock import Clock
from data_generation import Data, make_data
from stages.tasks import Job

TAGS = ("llama3:8b", "gemma3:4b", "mistral:7b")
PAIRS = 6  # ordered pairs of three contestants
FLAGS = ("--backend", "ollama", "--num_prompts", "5", "--models", *TAGS, "--base_model", "embedded")


class ByLength:
    """A judge that likes long answers, with noise at a temperature above 0."""

    def __call__(self, request: dict[str, Any]) -> str:
        labels = shown(last_text(request))
        if not labels:
            return default_brain(request)
        noise = 30 * bool(request["options"]["temperature"])
        draw = random.Random(request["options"]["seed"])
        score = {label: len(response) + draw.gauss(0, noise) for label, response in labels.items()}
        best = sorted(labels, key=lambda label: -score[label])
        if "ranking" in json.dumps(request["format"]):
            return json.dumps({"ranking": best})
        return json.dumps({"choice": best[0], "reason": "its length"})


def flags_of(tmp_path: Path, *flags: str) -> list[str]:
    return [*FLAGS, "--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results"), *flags]


def calls_said(out: str, about: str) -> int:
    """Calls to the judge and prompt writer in the first line of ``out`` with ``about``."""
    line = next(line for line in out.split("\n") if about in line)
    return int(line.split(" to llama3:8b")[0].split()[-1])


def made(job: Job) -> Data:
    return make_data(job, Clock(), ids_for_testing(job))


def test_all_personas_stand_side_by_side_at_the_cost_that_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = ("coder", "student")
    monkeypatch.setattr(config, "PERSONAS", {name: config.PERSONAS[name] for name in two})
    with FakeOllama(brain=ByLength(), models=TAGS) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert main.main(flags_of(tmp_path, "--persona", "all", "--check")) == 0
        said = capsys.readouterr().out
        assert not server.calls
        assert main.main(flags_of(tmp_path, "--persona", "all")) == 0
        assert sum(calls_said(said, f"make for {name}:") for name in two) == server.calls_by_model["llama3:8b"]
        asked = len(server.calls)
        assert main.main(flags_of(tmp_path, "--persona", "all")) == 0
        assert len(server.calls) == asked
    out = capsys.readouterr().out
    assert "ALL PERSONAS" in out and out.rindex("report_all.html") > out.rindex("report_student.html")
    results = tmp_path / "results"
    together = json.loads((results / "evaluation_results_all.json").read_text(encoding="utf-8"))
    assert set(together) == {"schema_version", "backend", "label", "judge", "seed", "pooled", "personas"}
    for name in two:
        own = json.loads((results / f"evaluation_results_{name}.json").read_text(encoding="utf-8"))
        assert together["personas"][name] == own
    assert together["pooled"]["prompts"] == 10
    assert (results / "personas_all.png").read_bytes().startswith(b"\x89PNG")
    kept = {path.name.split("_all_")[0] for path in (results / "previous").glob("*_all_*")}
    assert kept == {"evaluation_results", "personas", "report"}


def test_both_truths_ask_for_two_more_rounds_and_say_so_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ("--ground_truth", "both")
    with FakeOllama(brain=ByLength(), models=TAGS) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert main.main(flags_of(tmp_path, "--check")) == 0  # what is logged is captured from here on
        (job,) = jobs_of(*flags_of(tmp_path))
        assert not made(job).rounds
        alone = len(server.calls)
        capsys.readouterr()
        assert main.main(flags_of(tmp_path, *both, "--check")) == 0
        foreseen = calls_said(capsys.readouterr().out, "Calls still to make for coder")
        data = made(*jobs_of(*flags_of(tmp_path, *both)))
        new = server.calls[alone:]
    shuffles = ExperimentConfig().listwise_shuffles
    assert calls_said(capsys.readouterr().out, "Noise ceiling:") == 2 * PAIRS
    assert len(new) == 2 * PAIRS + shuffles == foreseen
    rounds = [call.request for call in new if "ranking" not in json.dumps(call.request["format"])]
    assert {request["options"]["temperature"] for request in rounds} == {ExperimentConfig().noise_temperature}
    assert len({request["options"]["seed"] for request in rounds}) == 2 * PAIRS
    robin = {t.prompt_id: t.ranking for t in data.truths}
    assert [t.ranking for t in data.listwise] == [robin[t.prompt_id] for t in data.listwise]
    assert data.rounds[0] != data.rounds[1], "the judge is noisy at this temperature"
