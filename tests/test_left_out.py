"""Questions to which no answer is of any use, over real HTTP: they cost their item, not the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from begun import ids_for_testing, job_on
from fake_brain import last_text, shown
from fake_ollama import FakeOllama
from whole_run import CALLS, SMALL, TAGS, results, run_here

from core.clock import Clock
from core.errors import MissingError
from core.records import Preference
from data_generation import make_data
from evidence.design import design
from llm.asking import DRAWS
from stages.judging import round_robin_truths
from stages.tasks import Job


class Hopeless:
    """One response to each of these topics, and the first ``orders`` of pairs about ``pair``, are never of any use."""

    def __init__(self, *topics: str, pair: str = "\0", orders: int = 1) -> None:
        self.topics, self.pair, self.orders = topics, pair, orders
        self.first: list[str] = []

    def __call__(self, request: dict[str, Any], n: int) -> str | None:
        text = last_text(request)
        if "format" not in request and request["model"] == TAGS[2]:
            return "length"  # a cut answer is one
        if "format" not in request:
            return "abort" if request["model"] == TAGS[1] and any(t in text for t in self.topics) else None
        if shown(text) and self.pair in text and text not in self.first and len(self.first) < self.orders:
            self.first.append(text)
        return "abort" if text in self.first else None


def training_topics(job: Job) -> list[str]:
    """What the prompts that train are about: they are written topic by topic."""
    training = [i for i in job.prompt_ids if i not in ids_for_testing(job)]
    return [job.persona.topics[job.prompt_ids.index(i)] for i in training]


def test_a_run_ends_with_what_was_hopeless_counted_said_and_never_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_base: str
) -> None:
    with FakeOllama() as server:
        one, other, *_ = training_topics(job_on(server, tmp_path, TAGS, TAGS[0]))
        server.faults = Hopeless(one, pair=other)
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert run_here(tmp_path, tiny_base, *SMALL) == 0
        said = capsys.readouterr().out
        asked = len(server.calls)
        assert run_here(tmp_path, tiny_base, *SMALL, "--ablate") == 0
        assert len(server.calls) == asked, "what is left out is not asked again"
    assert asked == CALLS - 6 + 2 * (DRAWS - 1), "a prompt without all responses is not judged"
    counts = results(tmp_path)["counts"]
    assert counts["left_out"] == {"prompts": 1, "responses": 1, "pairs": 1, "rankings": 0}
    assert (counts["prompts"], counts["preferences"], counts["test_prompts"]) == (4, 3 * 3 - 1, 1)
    left_out = "Left out, since no usable answer could be had: prompts: 1, responses: 1, pairs: 1."
    assert left_out in " ".join(said.split())
    assert "Note: mistral:7b: 4 of 4 answers cut at 512 tokens: --num_predict 1024" in said.splitlines()


def test_more_than_a_tenth_is_too_much_and_ends_the_run_at_once(tmp_path: Path) -> None:
    with FakeOllama() as server:
        job = job_on(server, tmp_path, TAGS, TAGS[0])
        server.faults = Hopeless(*training_topics(job)[:2])
        with pytest.raises(MissingError, match=r"2 of the responses.*at most 1.*--refresh"):
            make_data(job, Clock())
        assert len(make_data(job, Clock(), ask=False).prompts) == 0, "nothing was judged, and nothing is refused"


def test_a_gap_moves_no_other_prompt_and_a_prompt_without_a_truth_is_left_out_whole(tmp_path: Path) -> None:
    def fault(request: dict[str, Any], n: int) -> str | None:
        return "abort" if "ranking" in str(request.get("format")) and next(rankings, None) is None else None

    with FakeOllama() as server:
        job = job_on(server, tmp_path, TAGS, TAGS[0], ground_truth="listwise")
        rankings = iter(range(3))  # the last of four shuffles is hopeless
        server.faults = fault
        whole = make_data(job, Clock(), ids_for_testing(job))
        assert whole.left_out["rankings"] == 1 and len(whole.listwise) == 1
        # both pairs in which a model is shown first
        server.faults = Hopeless(pair=training_topics(job)[0], orders=2)
        less = make_data(dataclasses.replace(job, cache_dir=tmp_path / "gap"), Clock(), ids_for_testing(job))
    assert less.left_out == {"responses": 0, "pairs": 2, "prompts": 1, "rankings": 0}
    for records in (less.prompts, less.responses, less.judgements, less.preferences, less.truths):
        assert len({getattr(r, "prompt_id", None) or r.id for r in records}) == 4
    before, after = design(whole, job.params), design(less, job.params)
    assert after.test_ids == before.test_ids and set(after.split[0].prompt_ids) < set(before.split[0].prompt_ids)
    assert len(after.fold) == 4


def test_a_truth_needs_all_opponents_of_each_model_but_one() -> None:
    for pairs, truths in (("ab ac ad bc bd cd", 1), ("ab ac bd cd", 1), ("ab ac ad bc", 0)):
        preferences = [Preference("p", a, b, 1.0) for a, b in pairs.split()]
        assert len(round_robin_truths(preferences, 4)) == truths, pairs
