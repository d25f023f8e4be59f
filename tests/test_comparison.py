"""``--persona all`` and the noise ceiling: what they ask, what they keep, and that planted likenesses come out."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from fake_brain import default_brain, last_text, shown
from fake_ollama import FakeOllama

import config
import main
from cli.compare import rankings_by, similarity
from config import Contestant, ExperimentConfig
from core.records import GroundTruth, Prompt
from llm.interface import Choice, Decision
from stages.tasks import Job

TAGS = ("llama3:8b", "gemma3:4b", "mistral:7b")
PAIRS = 6  # ordered pairs of three contestants
THREE = ("coder", "academic", "student")


# ── How alike ──


def test_similarity_is_the_mean_tau_over_all_prompts_whoever_asked_them() -> None:
    ranked = {
        "a": {"a-1": {"x": 3, "y": 2, "z": 1}, "b-1": {"x": 1, "y": 2, "z": 3}},
        "b": {"a-1": {"x": 3, "y": 2, "z": 1}, "b-1": {"x": 1, "y": 3, "z": 2}},  # τ = 1 and 1/3
        "c": {"a-1": {"x": 1, "y": 2, "z": 3}, "b-1": {"x": 3, "y": 2, "z": 1}},  # the reverse of a
    }
    rankings = {who: {p: GroundTruth(p, dict(s)) for p, s in own.items()} for who, own in ranked.items()}
    found = similarity(rankings, {"a-1": "a", "b-1": "b"})
    assert found["similarity"]["a"] == pytest.approx({"a": 1.0, "b": 2 / 3, "c": -1.0})
    assert found["similarity"]["b"]["c"] == found["similarity"]["c"]["b"] == pytest.approx(-2 / 3)
    low, high = found["similarity_ci95"]["a"]["b"]
    assert -1 <= low < 2 / 3 < high <= 1
    assert found["similarity_ci95"]["a"]["a"] is None
    assert found["similarity_prompts"] == 2


def test_models_in_another_order_are_matched_by_name() -> None:
    one, other = GroundTruth("p", {"x": 2, "y": 1}), GroundTruth("p", {"y": 1, "x": 2})
    assert similarity({"a": {"p": one}, "b": {"p": other}}, {"p": "a"})["similarity"]["a"]["b"] == 1.0


class Weigher:
    """A model that weighs texts: whoever's system prompt names a letter likes it."""

    backend, weighs_options = "embedded", True

    def __init__(self) -> None:
        self.read: list[Choice] = []

    def identity(self, model: str) -> dict[str, Any]:
        return {"model": model}

    def choose(self, choices: list[Choice]) -> Any:
        for i, choice in enumerate(choices):
            self.read.append(choice)
            liked = (choice.system or "-")[-1]
            yield i, Decision(choice.options[0], scores=tuple(float(o.count(liked)) for o in choice.options))


def test_a_judge_that_weighs_reads_the_others_texts_once_and_the_reference_readings_are_reused(tmp_path: Path) -> None:
    llm, persona = Weigher(), config.PERSONAS["coder"]
    texts = {"m1": "xx", "m2": "xyy", "m3": "yyyz"}
    contestants = dict.fromkeys(texts, Contestant(None, None, None))
    params = ExperimentConfig(num_prompts=5)
    owner, like, unlike = (
        Job(name, dataclasses.replace(persona, answerer=you), contestants, "judge", llm, params, tmp_path, None)  # type: ignore[arg-type]
        for name, you in (("one", "You like x"), ("two", "You like x"), ("three", "You like y"))
    )
    prompts = [Prompt("one-001", "What?"), Prompt("one-002", "Who?")]
    tests = {"one": (prompts, {(p.id, m): t for p in prompts for m, t in texts.items()})}
    ranked = {s.name: rankings_by(s, [owner], tests)[1].ranking for s in (owner, like, unlike)}
    assert ranked == {"one": ("m1", "m2", "m3"), "two": ("m1", "m2", "m3"), "three": ("m3", "m2", "m1")}
    readers = len(config.REFERENCE_READERS) + 1
    assert len(llm.read) == 2 * (readers + 3), "each prompt by the reference readers once and by each persona once"
    for s in (owner, like, unlike):
        rankings_by(s, [owner], tests)
    assert len(llm.read) == 2 * (readers + 3), "everything is cached"


# ── The program over HTTP ──


class Tastes:
    """Coder and student judge alike, by length; the academic judges the other way round."""

    def __call__(self, request: dict[str, Any]) -> str:
        text = last_text(request)
        labels = shown(text)
        if not labels:
            return default_brain(request)
        sign = -1 if "scien" in text.split("--- request")[0] else 1
        noisy = request["options"]["temperature"] > 0
        draw = random.Random(request["options"]["seed"])
        score = {
            label: sign * len(response) + (draw.gauss(0, 30) if noisy else 0) for label, response in labels.items()
        }
        best = sorted(labels, key=lambda label: -score[label])
        if "ranking" in json.dumps(request["format"]):
            return json.dumps({"ranking": best})
        return json.dumps({"winner": best[0], "reason": "its length"})


@pytest.fixture
def tiny_base(tmp_path: Path) -> str:
    from tiny_models import save_model

    return str(save_model(tmp_path / "base", "llama"))


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A persona's own figures take most of the time, and test_report draws them."""
    for name in ("plots.plot_learning_curves", "plots.plot_metric_comparison", "plots.plot_training_history"):
        monkeypatch.setattr(name, lambda _results, path: path.touch())
    monkeypatch.setattr("report.files.write_report", lambda _results, path: path.touch())


def run(tmp_path: Path, base: str, *flags: str) -> int:
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    small = ["--num_prompts", "5", "--models", *TAGS, "--eval_freq", "100", "--base_model", base]
    return main.main(["--backend", "ollama", *folders, *small, *flags])


def results(tmp_path: Path, name: str) -> dict[str, Any]:
    path = tmp_path / "results" / f"evaluation_results_{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda n: pytest.fail(f"{n} is not JSON")))


def calls_said(out: str, about: str) -> int:
    """Calls to the judge and prompt writer in the first line of ``out`` with ``about``."""
    line = next(line for line in out.split("\n") if about in line)
    return int(line.split(" to llama3:8b")[0].split()[-1])


def test_all_personas_are_run_and_compared_and_a_second_time_without_a_server(
    tmp_path: Path, tiny_base: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "PERSONAS", {name: config.PERSONAS[name] for name in THREE})
    with FakeOllama(brain=Tastes(), models=TAGS) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert run(tmp_path, tiny_base, "--persona", "all", "--check") == 0
        out = capsys.readouterr().out
        said = [calls_said(out, f"make for {name}:") for name in (*THREE, "the comparison of the personas")]
        assert not server.calls
        assert run(tmp_path, tiny_base, "--persona", "all") == 0
        out = capsys.readouterr().out
        assert sum(said) == server.calls_by_model["llama3:8b"]
    tests = 3 * 1  # personas × test prompts
    assert said[-1] == tests * 2 * PAIRS == calls_said(out, "How alike are the personas?")
    found = results(tmp_path, "all")
    assert found["schema_version"] == config.SCHEMA_VERSION
    assert found["label"] == "ollama"
    assert found["similarity_prompts"] == tests
    assert found["similarity"]["coder"] == pytest.approx({"coder": 1.0, "academic": -1.0, "student": 1.0})
    assert found["similarity"]["academic"]["student"] == pytest.approx(-1.0)
    assert {name: results(tmp_path, name) for name in THREE} == found["personas"]
    assert (tmp_path / "results" / "personas_all.png").read_bytes().startswith(b"\x89PNG")
    assert "ALL PERSONAS" in out
    assert "How alike the preferences are" in out
    assert run(tmp_path, tiny_base, "--persona", "all") == 0, "the server is off now"
    assert results(tmp_path, "all")["similarity"] == found["similarity"]
    assert "How alike are the personas?" not in capsys.readouterr().out, "nothing is asked, so no cost is said"
    kept = {path.name.split("_all_")[0] for path in (tmp_path / "results" / "previous").glob("*_all_*")}
    assert kept == {"evaluation_results", "personas"}


def test_both_truths_ask_for_two_more_rounds_and_say_so_first(
    tmp_path: Path, tiny_base: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeOllama(brain=Tastes(), models=TAGS) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert run(tmp_path, tiny_base) == 0
        assert results(tmp_path, "coder")["judge_quality"]["noise_ceiling"] is None
        alone = len(server.calls)
        capsys.readouterr()
        assert run(tmp_path, tiny_base, "--ground_truth", "both", "--check") == 0
        foreseen = calls_said(capsys.readouterr().out, "Calls still to make for coder")
        assert run(tmp_path, tiny_base, "--ground_truth", "both") == 0
        out = capsys.readouterr().out
        new = server.calls[alone:]
    shuffles = ExperimentConfig().listwise_shuffles
    assert calls_said(out, "Noise ceiling:") == 2 * PAIRS
    assert len(new) == 2 * PAIRS + shuffles == foreseen
    rounds = [call.request for call in new if "ranking" not in json.dumps(call.request["format"])]
    assert {request["options"]["temperature"] for request in rounds} == {ExperimentConfig().noise_temperature}
    assert len({request["options"]["seed"] for request in rounds}) == 2 * PAIRS
    quality = results(tmp_path, "coder")["judge_quality"]
    assert quality["listwise_agreement"] == pytest.approx(1.0)
    assert -1.0 <= quality["noise_ceiling"] <= 1.0
    assert run(tmp_path, tiny_base, "--ground_truth", "both") == 0, "the server is off now"
    assert results(tmp_path, "coder")["judge_quality"] == quality
