"""What a change of the code must not move by itself: recorded runs, hashes of items, questions over HTTP.

``GOLDEN=all pytest tests/test_golden.py`` measures all personas; figures that were meant to move: ``GOLDEN=write``, and
the commit says by how much and why.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import whole_run
from fake_brain import key
from fake_ollama import FakeOllama
from tiny_models import smollm2

import config
import main
from core.clock import Clock
from core.store import read_items
from data_generation import make_data
from llm.embedded import EmbeddedModel
from stages.tasks import Job

GOLDEN = Path(__file__).parent / "golden"
WHICH = os.environ.get("GOLDEN", "")
# Processors round differently: a near tie may turn, and a mean over five test prompts moves by a few hundredths.
ROUNDING = 0.05
MEASURED = (
    "counts", "judge_quality", "leaderboard", "likes", "final", "cross_validated", "improvement", "comparisons",
    "winner", "recommended", "hypotheses", "training_history",
)  # fmt: skip
LEFT_ASIDE = ("sentence", "reason", "tokens_per_s", "spearman_rho", "top_1_accuracy", "top_3_accuracy")
POINTS = 20  # of a learning curve's points, every so many-th is held


def figures(document: Mapping[str, Any]) -> dict[str, Any]:
    """{path: figure or verdict} of what a results document measured, sentences left out."""
    kept = {name: document[name] for name in MEASURED}
    kept["answer"] = {name: document["answer"][name] for name in ("best", "tied_with", "unlikely", "more_prompts")}
    kept["learning_curve"] = document["learning_curve"][::POINTS]
    kept["per_prompt"] = {row["prompt_id"]: row["difference"] for row in document["per_prompt"]}
    return dict(_leaves(kept, ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name in value.keys() - set(LEFT_ASIDE):
            yield from _leaves(value[name], f"{path}/{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}/{number}")
    else:
        yield path, float(f"{value:.7g}") if isinstance(value, float) else value


def moved(found: Mapping[str, Any], golden: Mapping[str, Any]) -> list[str]:
    """One line for each figure that is gone or moved by more than rounding does; new figures are no difference."""
    lines = []
    for path, was in golden.items():
        now = found.get(path, "missing")
        numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (now, was))
        if not (math.isclose(now, was, rel_tol=ROUNDING, abs_tol=ROUNDING) if numbers else now == was):
            lines.append(f"{path}: {was} → {now}")
    return lines


class Silent(EmbeddedModel):
    """The embedded model's identity without its voice."""

    def complete(self, requests: Sequence[Any]) -> Any:
        raise AssertionError(f"asked anew: {requests[0].label}")

    def choose(self, choices: Sequence[Any]) -> Any:
        raise AssertionError(f"asked anew: {choices[0].label}")


@pytest.mark.parametrize("persona", config.PERSONAS)
def test_the_recorded_run_answers_every_question(persona: str, tmp_path: Path) -> None:
    """No hash of an item has moved, none is asked or lost, and no recorded one is read by nobody."""
    params = config.ExperimentConfig(num_predict=config.EMBEDDED_NUM_PREDICT)
    judge = config.EMBEDDED_NAME
    job = Job(persona, config.PERSONAS[persona], config.EMBEDDED_MODELS, judge, Silent(), params, tmp_path)
    data = make_data(job, Clock())
    assert (len(data.prompts), len(data.responses), len(data.preferences)) == (25, 150, 375)
    hashes = {}
    for path in tmp_path.glob(f"*_{persona}.json"):
        items = json.loads(path.read_text(encoding="utf-8"))["items"]
        said = "\n".join(sorted(f"{item['key']}\t{item.get('made_from', '')}" for item in items))
        hashes[path.name] = f"{len(items)} items, {hashlib.sha256(said.encode()).hexdigest()[:16]}"
    for path in config.SAMPLES_DIR.glob(f"*_{persona}.json"):
        assert read_items(tmp_path / path.name) == read_items(path)
    assert hashes == json.loads((GOLDEN / "hashes.json").read_text(encoding="utf-8"))[persona]


def test_a_recorded_run_measures_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # float32: bfloat16 is not every processor's
    monkeypatch.setattr("llm.embedded.load_smollm2", lambda _: smollm2())
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    for mode, flags in (("once", []), ("incremental", ["--incremental"])):
        path = GOLDEN / f"{mode}.json"
        golden, lines = json.loads(path.read_text(encoding="utf-8")), list[str]()
        for persona in config.PERSONAS if WHICH else ("coder",):
            assert main.main(["--persona", persona, "--backend", "embedded", *folders, *flags]) == 0
            found = figures(whole_run.document(tmp_path, persona))
            lines += moved(found, golden[persona])
            golden[persona] = found
        if WHICH == "write":
            path.write_text(json.dumps(golden, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
        assert WHICH == "write" or lines == []


def test_a_run_over_http_asks_the_same_questions_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: str
) -> None:
    with FakeOllama(models=whole_run.TAGS) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert whole_run.run_here(tmp_path, tiny_base, *whole_run.SMALL, "--concurrency", "1") == 0
        asked = [f"{call.model} {key(call.request)[:16]}" for call in server.calls]
    assert asked == json.loads((GOLDEN / "http.json").read_text(encoding="utf-8"))
