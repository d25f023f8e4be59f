"""The whole program over real HTTP: counts, order of calls, resuming without a server, planted tastes recovered."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from fake_brain import default_brain, last_text, shown
from fake_ollama import DEFAULT_TAGS, FakeOllama

import main

CODE = (
    "def total(items): return sum(item.price for item in items)",
    "for row in cursor.fetchall(): print(row['id'], row['name'])",
    "if not path.exists(): raise FileNotFoundError(path)",
    "assert parse('1,2,3') == [1, 2, 3]",
    "with open(name) as file: data = json.load(file)",
    "result = [f(x) for x in range(10) if x % 2 == 0]",
)
STORY = (
    "The old sailor looked at the grey sea and sighed.",
    "Her grandmother had always kept a candle in the window.",
    "A soft wind carried the smell of rain through the garden.",
    "Nobody in the village remembered the name of the stranger.",
    "He laughed, and the whole kitchen seemed to grow warmer.",
    "At dusk the children ran home along the river.",
)


def number(*about: object) -> int:
    return int(hashlib.sha256(repr(about).encode()).hexdigest()[:12], 16)


def run(tmp_path: Path, *flags: str) -> int:
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    return main.main(["--backend", "ollama", *folders, *flags])


def results(tmp_path: Path, persona: str = "coder") -> dict[str, Any]:
    text = (tmp_path / "results" / f"evaluation_results_{persona}.json").read_text(encoding="utf-8")
    return dict(json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")))


class Judge:
    """A brain whose answers show ``strength(prompt, model)`` lines of code out of five, and a judge with a taste."""

    def __init__(self, *, by_model: bool) -> None:
        self.by_model = by_model

    def strength(self, prompt: str, model: str) -> int:
        place = DEFAULT_TAGS.index(model)
        return place if self.by_model else (place * 5 + number(prompt) // 7) % 6

    def __call__(self, request: dict[str, Any]) -> str:
        text = last_text(request)
        labels = shown(text)
        if labels:
            score = {label: sum(line in response for line in CODE) for label, response in labels.items()}
            return json.dumps({"choice": max(score, key=lambda label: score[label]), "reason": "more code"})
        if "format" in request:
            return default_brain(request)
        model = request["model"]
        code, draw = self.strength(text, model), random.Random(number(text, model))
        lines = draw.sample(CODE, code) + draw.sample(STORY, 5 - code)
        draw.shuffle(lines)
        return "\n".join(lines)


@pytest.fixture
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tiny_models import save_model

    return str(save_model(tmp_path_factory.mktemp("base"), "llama"))


def test_a_default_run_asks_what_it_must_and_a_second_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeOllama(latency=0.002, load_seconds=0.02) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert run(tmp_path, "--base_model", tiny_base) == 0
        first = results(tmp_path)
        assert first["counts"] | {"truncated_responses": 0, "ties": 0} == {
            "prompts": 25,
            "train_prompts": 20,
            "test_prompts": 5,
            "preferences": 300,
            "ties": 0,
            "ground_truth_rankings": 5,
            "judge_calls": 750,
            "truncated_responses": 0,
            "shortened_responses": 0,
            "texts_with_chat_markers": 0,
            "left_out": {"prompts": 0, "responses": 0, "pairs": 0, "rankings": 0},
        }
        assert first["device"] in ("cpu", "cuda"), "what auto came to, not what was asked for"
        assert first["machine"]["cores"] and "gpu_free_gib" in first["machine"]
        assert [point["preferences"] for point in first["learning_curve"]] == list(range(0, 301, 5))
        assert server.switches <= 7
        assert server.max_in_flight > 1
        assert {tag: server.calls_by_model[tag] for tag in DEFAULT_TAGS[1:]} == dict.fromkeys(DEFAULT_TAGS[1:], 25)
        asked = len(server.calls)
        assert run(tmp_path, "--base_model", tiny_base, "--num_prompts", "30") == 0
        new = server.calls[asked:]
        assert len(new) == 1 + 5 * 6 + 5 * 30, "five more prompts, their responses and their pairs in both orders"
    assert run(tmp_path, "--base_model", tiny_base, "--lambda_reg", "0") == 0, (
        "the server is off, another λ asks nothing"
    )
    again = results(tmp_path)
    assert again["config"]["lambda_reg"] == 0.0
    assert again["final"]["elo_offset"] == first["final"]["elo_offset"]
    assert again["final"]["combined"] == first["final"]["combined"]
    assert len(list((tmp_path / "results" / "previous").glob("evaluation_results_coder_*.json"))) == 2
    out = capsys.readouterr().out
    assert "Using cached responses for persona: coder" in out
    assert "Data: 25 prompts (20 train, 5 test), 300 preferences (" in out
    assert out.rindex("Written to") > out.rindex("WHICH MODEL IS BEST")
    assert {row["model"] for row in first["leaderboard"]} == set(DEFAULT_TAGS)
    assert {row["parameters"] for row in first["leaderboard"]} == {"8.0B"}, "the server's word"


@pytest.mark.parametrize("by_model", [False, True], ids=["prompt-specific", "one order of models"])
def test_planted_tastes_are_recovered_by_the_right_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: str, by_model: bool
) -> None:
    with FakeOllama(brain=Judge(by_model=by_model)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        small = ["--concurrency", "8", "--num_prompts", "20"]
        assert run(tmp_path, "--base_model", tiny_base, *small) == 0
    found = results(tmp_path)
    tau = {name: metrics["kendall_tau"]["mean"] for name, metrics in found["cross_validated"].items()}
    if by_model:
        assert found["final"]["elo_offset"]["kendall_tau"] >= 0.9
        assert tau["elo_offset"] >= 0.9
    else:
        assert found["final"]["reward_model"]["kendall_tau"] >= 0.75
        assert tau["reward_model"] >= 0.75
        assert tau["reward_model"] > tau["elo_offset"] + 0.3
        assert found["winner"] == "reward_model"
