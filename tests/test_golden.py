"""What a change of the code must not move by itself: recorded runs, hashes of items, questions over HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import whole_run
from fake_brain import key
from fake_ollama import FakeOllama
from golden_figures import GOLDEN, differences, figures, golden, item_hashes
from tiny_models import save_model

import config
import main
from core.clock import Clock
from core.store import read_items
from data_generation import make_data
from llm.embedded import EmbeddedModel
from stages.tasks import Job

# Processors round differently: a near tie may turn, and a mean over five test prompts moves by a few hundredths.
ROUNDING = 0.05


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
    frozen = json.loads((GOLDEN / "hashes.json").read_text(encoding="utf-8"))
    assert item_hashes(tmp_path, persona) == frozen[persona]
    for path in config.SAMPLES_DIR.glob(f"*_{persona}.json"):
        assert read_items(tmp_path / path.name) == read_items(path)


def test_a_recorded_run_measures_what_it_did(tmp_path: Path) -> None:
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    for mode, flags in (("once", []), ("incremental", ["--incremental"])):
        assert main.main(["--persona", "coder", "--backend", "embedded", *folders, *flags]) == 0
        written = (tmp_path / "results" / config.RESULTS_FILE.format(name="coder")).read_text(encoding="utf-8")
        assert differences(figures(json.loads(written)), golden(mode, "coder"), ROUNDING) == []


def test_a_run_over_http_asks_the_same_questions_in_the_same_order(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", "qwen")
    with FakeOllama(models=whole_run.TAGS) as server:
        whole_run.run(server, tmp_path, str(base), *whole_run.SMALL, "--concurrency", "1")
        asked = [f"{call.model} {key(call.request)[:16]}" for call in server.calls]
    assert asked == json.loads((GOLDEN / "http.json").read_text(encoding="utf-8"))
