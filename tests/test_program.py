"""The whole program over real HTTP: counts, order of calls, resuming without a server, planted tastes recovered."""

from __future__ import annotations

import hashlib
import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_brain import default_brain, last_text, shown
from fake_ollama import DEFAULT_TAGS, FakeOllama
from whole_run import document as results
from whole_run import run_here as run

import config

CODE = [f"result_{i} = [row['name'] for row in cursor.fetchall() if row['id'] % {i + 2} == 0]" for i in range(6)]
STORY = [
    "The old sailor looked at the grey sea and sighed.",
    "Her grandmother had always kept a candle in the window.",
    "A soft wind carried the smell of rain through the garden.",
    "Nobody in the village remembered the name of the stranger.",
    "He laughed, and the whole kitchen seemed to grow warmer.",
]


def number(*about: object) -> int:
    return int(hashlib.sha256(repr(about).encode()).hexdigest()[:12], 16)


def judge(request: dict[str, Any], *, by_model: bool = False) -> str:
    """A brain whose answers show so many lines of code out of five, by model or by prompt and model, and a judge that
    likes code."""
    text = last_text(request)
    if labels := shown(text):
        best = sorted(labels, key=lambda label: -sum(line in labels[label] for line in CODE))
        lists = "ranking" in json.dumps(request["format"])
        return json.dumps({"ranking": best} if lists else {"choice": best[0], "reason": "more code"})
    if "format" in request:
        return default_brain(request)
    place, draw = DEFAULT_TAGS.index(request["model"]), random.Random(number(text, request["model"]))
    code = place if by_model else (place * 5 + number(text) // 7) % 6
    lines = draw.sample(CODE, code) + draw.sample(STORY, 5 - code)
    draw.shuffle(lines)
    return "\n".join(lines)


def test_a_default_run_asks_what_it_must_and_a_second_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: str
) -> None:
    with FakeOllama(latency=0.002) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert run(tmp_path, tiny_base) == 0
        first = results(tmp_path)
        made = {"prompts": 25, "train_prompts": 20, "test_prompts": 5, "preferences": 300, "ground_truth_rankings": 5}
        assert first["counts"].items() >= (made | {"judge_calls": 750, "shortened_responses": 0}).items()
        assert [point["preferences"] for point in first["learning_curve"]] == list(range(0, 301, 5))
        assert len(server.loads) <= 7 and server.max_in_flight > 1
        assert {tag: server.calls_by_model[tag] for tag in DEFAULT_TAGS[1:]} == dict.fromkeys(DEFAULT_TAGS[1:], 25)
    assert run(tmp_path, tiny_base, "--lambda_reg", "0") == 0, "the server is off"
    again = results(tmp_path)
    assert again["config"]["lambda_reg"] == 0.0
    assert again["final"]["combined"] == first["final"]["combined"]
    assert len(list((tmp_path / "results" / "previous").glob("evaluation_results_coder_*.json"))) == 1
    assert {row["model"] for row in first["leaderboard"]} == set(DEFAULT_TAGS)


def test_a_planted_taste_for_texts_is_recovered_by_the_system_that_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: str
) -> None:
    with FakeOllama(brain=judge) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert run(tmp_path, tiny_base, "--concurrency", "8", "--num_prompts", "20") == 0
    found = results(tmp_path)
    tau = {name: metrics["kendall_tau"]["mean"] for name, metrics in found["cross_validated"].items()}
    assert tau["reward_model"] >= 0.75 and tau["reward_model"] > tau["elo_offset"] + 0.3
    assert found["winner"] == "reward_model"


def test_all_personas_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: str) -> None:
    """With both truths: a test prompt is also ranked as a list, in several shuffles."""
    two = ("coder", "student")
    monkeypatch.setattr(config, "PERSONAS", {name: config.PERSONAS[name] for name in two})
    flags = ["--persona", "all", "--num_prompts", "5", "--models", *DEFAULT_TAGS[:3], "--ground_truth", "both"]
    with FakeOllama(brain=partial(judge, by_model=True)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert run(tmp_path, tiny_base, *flags) == 0
        lists = [call for call in server.calls if "ranking" in json.dumps(call.request.get("format"))]
        assert len(lists) == 2 * config.ExperimentConfig().listwise_shuffles
    together = results(tmp_path, "all")
    tau = together["pooled"]["cross_validated"]["elo_offset"]["kendall_tau"]["mean"]
    assert tau >= 0.9, "a planted order of models is recovered by the system that knows them"
    assert together["personas"] == {name: results(tmp_path, name) for name in two}
    assert together["pooled"]["prompts"] == 10 and (tmp_path / "results" / "report_all.html").exists()
