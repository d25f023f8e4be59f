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
from sample_results import persona

import config
import main
from cli import compare, preflight
from cli.compare import similarity
from cli.counting import count_comparison, ids_for_testing
from cli.flags import configure, parser
from config import Contestant, ExperimentConfig
from core.clock import Clock
from core.records import GroundTruth, Prompt, Response
from data_generation import Data, make_data, rankings_by
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
    params = ExperimentConfig(num_prompts=10)
    jobs = [
        Job(name, dataclasses.replace(persona, answerer=you), contestants, "judge", llm, params, tmp_path, None)  # type: ignore[arg-type]
        for name, you in (("one", "You like x"), ("two", "You like x"), ("three", "You like y"))
    ]
    data = []
    for job in jobs:
        prompts = [Prompt(prompt_id, f"What is {prompt_id}?") for prompt_id in job.prompt_ids]
        responses = [Response(p.id, m, t) for p in prompts for m, t in texts.items()]
        data.append(Data(tuple(prompts), tuple(responses), (), (), ()))
    foreseen = count_comparison(jobs, data)
    assert not llm.read
    tested = [prompt_id for job in jobs for prompt_id in ids_for_testing(job)]
    ranked = {job.name: rankings_by(job, jobs, data, tested) for job in jobs}
    for name, best_first in (("one", ("m1", "m2", "m3")), ("two", ("m1", "m2", "m3")), ("three", ("m3", "m2", "m1"))):
        assert [t.prompt_id for t in ranked[name]] == tested
        assert {t.ranking for t in ranked[name]} == {best_first}
    readers = len(config.REFERENCE_READERS) + 1
    assert len(llm.read) == len(tested) * (readers + 3), "each by the reference readers once and by each persona once"
    assert foreseen == {("preferences", "judge"): 3 * len(llm.read)}, "a call is one text read by one reader"
    assert {job.name: rankings_by(job, jobs, data, tested) for job in jobs} == ranked
    assert len(llm.read) == len(tested) * (readers + 3), "everything is cached"
    assert not count_comparison(jobs, data)


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


FLAGS = ("--backend", "ollama", "--num_prompts", "5", "--models", *TAGS, "--base_model", "embedded")


def flags_of(tmp_path: Path, *flags: str) -> list[str]:
    return [*FLAGS, "--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results"), *flags]


def jobs_of(tmp_path: Path, *flags: str) -> list[Job]:
    """The jobs of a run of all personas that has begun."""
    args = parser().parse_args(flags_of(tmp_path, "--persona", "all", *flags))
    params = configure(args, "ollama")
    backend = preflight.begin(args, preflight.choose_backend(args, params), params)
    return preflight.every_job(args, backend, params)


def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """What --check says; what a run logs is captured from then on."""
    assert main.main(flags_of(tmp_path, "--check", *flags)) == 0
    return capsys.readouterr().out


def calls_said(out: str, about: str) -> int:
    """Calls to the judge and prompt writer in the first line of ``out`` with ``about``."""
    line = next(line for line in out.split("\n") if about in line)
    return int(line.split(" to llama3:8b")[0].split()[-1])


def made(jobs: list[Job]) -> list[Data]:
    return [make_data(job, Clock(), ids_for_testing(job)) for job in jobs]


def compared(tmp_path: Path, jobs: list[Job], data: list[Data]) -> dict[str, Any]:
    documents = {job.name: {**persona(), "persona": job.name} for job in jobs}
    compare.run(jobs, data, documents, label="ollama", results_dir=tmp_path / "results")
    found: dict[str, Any] = json.loads((tmp_path / "results" / "evaluation_results_all.json").read_bytes())
    assert found["personas"] == json.loads(json.dumps(documents))
    return found


def test_all_personas_are_compared_at_the_cost_that_was_said_and_a_second_time_without_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "PERSONAS", {name: config.PERSONAS[name] for name in THREE})
    with FakeOllama(brain=Tastes(), models=TAGS) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        out = checked(tmp_path, capsys, "--persona", "all")
        said = [calls_said(out, f"make for {name}:") for name in (*THREE, "the comparison of the personas")]
        assert not server.calls
        jobs = jobs_of(tmp_path)
        data = made(jobs)
        found = compared(tmp_path, jobs, data)
        assert sum(said) == server.calls_by_model["llama3:8b"]
    out = capsys.readouterr().out
    tests = 3 * 1  # personas × test prompts
    assert said[-1] == tests * 2 * PAIRS == calls_said(out, "How alike are the personas?")
    assert found["similarity_prompts"] == tests
    assert found["similarity"]["coder"] == pytest.approx({"coder": 1.0, "academic": -1.0, "student": 1.0})
    assert found["similarity"]["academic"]["student"] == pytest.approx(-1.0)
    assert (tmp_path / "results" / "personas_all.png").read_bytes().startswith(b"\x89PNG")
    jobs = jobs_of(tmp_path)
    assert made(jobs) == data, "the server is off now"
    assert compared(tmp_path, jobs, data)["similarity"] == found["similarity"]
    assert "How alike are the personas?" not in capsys.readouterr().out, "nothing is asked, so no cost is said"
    kept = {path.name.split("_all_")[0] for path in (tmp_path / "results" / "previous").glob("*_all_*")}
    assert kept == {"evaluation_results", "personas", "report"}


def test_both_truths_ask_for_two_more_rounds_and_say_so_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "PERSONAS", {"coder": config.PERSONAS["coder"]})
    with FakeOllama(brain=Tastes(), models=TAGS) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert not made(jobs_of(tmp_path))[0].rounds
        alone = len(server.calls)
        foreseen = calls_said(checked(tmp_path, capsys, "--ground_truth", "both"), "Calls still to make for coder")
        (data,) = made(jobs_of(tmp_path, "--ground_truth", "both"))
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
