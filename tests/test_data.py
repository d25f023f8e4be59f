"""The data stages on a scripted model: what is asked, what is reused, what it comes to."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from begun import ids_for_testing, jobs_of

import config
from config import Contestant, ExperimentConfig
from core.clock import Clock
from core.records import Preference, Prompt, Response
from data_generation import Data, count, make_data
from evaluation import listed
from evidence import design
from llm.interface import Choice, Completion, Decision, Request
from stages.judging import ranking_schema, round_robin_truths
from stages.likelihood import judge_by_likelihood, recorded_preferences
from stages.tasks import Job
from stages.writing import PromptList

MODELS = ("a", "b", "c")
SIX = ExperimentConfig(num_prompts=6, prompts_per_request=4)


class Scripted:
    """A language model that answers at once and keeps what it was asked."""

    backend = "scripted"

    def __init__(
        self, *, weighs_options: bool = False, digests: dict[str, str] | None = None, written: int = 0
    ) -> None:
        self.weighs_options, self.digests, self.written = weighs_options, digests or {}, written
        self.requests: list[Request] = []
        self.choices: list[Choice] = []

    def identity(self, model: str) -> dict[str, Any]:
        return {"backend": self.backend, "tag": model, "digest": self.digests.get(model, "1")}

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        for i, request in enumerate(requests):
            self.requests.append(request)
            parsed: Any = None
            if request.schema is PromptList:
                parsed = PromptList(prompts=[self.prompt() for _ in range(int(request.prompt.split("exactly ")[1][0]))])
            elif request.schema is not None:  # a ranking: the longest response first
                lengths = {block.split()[0]: len(block) for block in request.prompt.split("--- response ")[1::2]}
                parsed = request.schema(ranking=sorted(lengths, key=lambda x: -lengths[x]))
            made_by = f"{request.model} {self.digests.get(request.model)} {request.num_predict}"
            text = f"{made_by} says {request.prompt} {'x' * ord(request.model[0])}"
            tokens = None if request.model == "a" else 3  # as of a server that does not tell
            yield i, Completion(text, tokens, 0.1, parsed=parsed)

    def unload(self) -> None:
        """There is nothing."""

    def prompt(self) -> str:
        self.written += 1
        return f"prompt number{self.written} about subject{self.written} please word{self.written}"

    def choose(self, choices: Sequence[Choice]) -> Iterator[tuple[int, Decision]]:
        for i, choice in enumerate(choices):
            self.choices.append(choice)
            scores = tuple(-len(o) / 100 if choice.system == "taste" else -1.0 for o in choice.options)
            weighed = Decision(choice.options[0], scores=scores)
            yield i, weighed if self.weighs_options else Decision("A", "it came first")


@pytest.fixture
def job(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Job:
    templates = shutil.copytree(config.PROMPTS_DIR, tmp_path_factory.mktemp("templates"), dirs_exist_ok=True)
    monkeypatch.setattr(config, "PROMPTS_DIR", templates)
    contestants = {name: Contestant() for name in MODELS}
    return Job("coder", config.PERSONAS["coder"], contestants, "judge", Scripted(), SIX, tmp_path, None)


def made(job: Job) -> Data:
    return make_data(job, Clock(), listed(job.prompt_ids, job.params))


def foreseen(job: Job) -> Counter[str]:
    return count(job, listed(job.prompt_ids, job.params))


def asked(job: Job) -> tuple[int, int, int]:
    """(prompt requests, response requests, judge questions) of a run, which are those that were counted before it."""
    llm = Scripted(digests=job.llm.digests, written=100)  # type: ignore[attr-defined]
    again = replace(job, llm=llm)
    expected = foreseen(again)
    made(again)
    prompts = sum(r.schema is PromptList for r in llm.requests)
    found = prompts, len(llm.requests) - prompts, len(llm.choices)
    judged = expected.pop(job.judge, 0)
    assert (judged, expected.total()) == (found[0] + found[2], found[1])
    return found


def test_every_contestant_answers_every_prompt_and_every_pair_is_judged_in_both_orders(job: Job) -> None:
    data = made(job)
    assert [p.id for p in data.prompts] == [f"coder-{i:03d}" for i in range(1, 7)]
    assert len({p.text for p in data.prompts}) == 6
    assert [(r.model, r.prompt_id) for r in data.responses] == [(m, p.id) for m in MODELS for p in data.prompts]
    pairs = {(j.prompt_id, j.model_a, j.model_b) for j in data.judgements}
    assert len(pairs) == len(data.judgements) == 6 * 6
    assert all((p, second, first) in pairs for p, first, second in pairs)
    assert {p.outcome for p in data.preferences} == {0.5}, "a judge that says A in both orders has no taste"
    assert len(data.preferences) == 6 * 3 and [t.prompt_id for t in data.truths] == [p.id for p in data.prompts]
    assert not data.listwise, "the round robin is the truth"


def template(job: Job) -> Job:
    with (config.PROMPTS_DIR / "preference_evaluation.txt").open("a", encoding="utf-8") as file:
        file.write("\nBe kind.\n")
    return job


def edited(change: Callable[[dict[str, Any]], object] | None) -> Callable[[Job], Job]:
    """A prompt changed in its cache file by hand; None deletes it."""

    def then(job: Job) -> Job:
        document = json.loads(job.path(config.PROMPTS_FILE).read_text(encoding="utf-8"))
        item = next(item for item in document["items"] if item["key"] == "coder-003")
        document["items"].remove(item) if change is None else change(item["value"])
        job.path(config.PROMPTS_FILE).write_text(json.dumps(document), encoding="utf-8")
        return job

    return then


CHANGES: dict[str, tuple[Callable[[Job], Job], tuple[int, int, int]]] = {
    "nothing": (lambda job: job, (0, 0, 0)),
    "two more prompts": (lambda job: replace(job, params=replace(SIX, num_prompts=8)), (1, 2 * 3, 2 * 6)),
    "a contestant": (
        lambda job: replace(job, contestants={**job.contestants, "d": Contestant()}), (0, 6, 6 * 6)
    ),
    "longer answers": (lambda job: replace(job, params=replace(SIX, num_predict=9)), (0, 18, 36)),
    "a judge": (lambda job: replace(job, judge="other"), (2, 18, 36)),
    "a template": (template, (0, 0, 36)),
    "a model pulled again": (lambda job: replace(job, llm=Scripted(digests={"b": "2"})), (0, 6, 6 * 4)),
    "an edited prompt": (edited(lambda value: value.update(text="How do I write a haiku?")), (0, 3, 6)),
    "a deleted prompt": (edited(None), (1, 3, 6)),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_an_item_is_asked_again_only_where_what_it_was_made_from_changed_and_that_is_foreseen(
    job: Job, change: Callable[[Job], Job], expected: tuple[int, int, int]
) -> None:
    made(job)
    assert asked(change(job)) == expected


@pytest.mark.parametrize("truth", ["both", "listwise"])
def test_lists_are_counted_as_they_are_asked_and_are_the_truth_where_that_is_wanted(job: Job, truth: str) -> None:
    made(job)
    job = replace(job, params=replace(SIX, ground_truth=truth))
    listed = job.prompt_ids if truth == "listwise" else ids_for_testing(job)
    assert count(job, listed) == {"judge": len(listed) * SIX.listwise_shuffles}
    data = make_data(job, Clock(), listed)
    assert [t.prompt_id for t in data.listwise] == list(listed) and not count(job, listed)
    assert make_data(job, Clock(), listed, ask=False) == data
    for ranked in data.listwise:
        assert ranked.ranking == ("c", "b", "a"), "the longest response is c's, whatever label it had"
    plan = design.design(data, job.params)
    wanted = data.listwise if truth == "listwise" else data.truths
    assert all(t in wanted for _, truths in (plan.split, *plan.rounds) for t in truths)
    requests = [r.prompt for r in job.llm.requests if r.schema not in (None, PromptList)]  # type: ignore[attr-defined]
    assert len({tuple(text.split("--- response ")[1::2]) for text in requests}) > len(listed), "in several orders"


def test_a_cache_alone_gives_what_is_whole_in_it_and_nothing_is_asked_or_written(job: Job) -> None:
    silent = replace(job, llm=(llm := Scripted()))
    assert make_data(silent, Clock(), ask=False).prompts == ()
    assert not list(job.cache_dir.iterdir())
    whole = made(job)
    held = {path: path.read_bytes() for path in job.cache_dir.iterdir()}
    assert make_data(silent, Clock(), ask=False) == whole
    other = replace(silent, judge="other", prompts=whole.prompts)
    assert make_data(other, Clock(), ask=False).preferences == (), "nobody has judged as this one"
    assert held == {path: path.read_bytes() for path in job.cache_dir.iterdir()}
    assert llm.requests == llm.choices == []


def test_what_a_refresh_sets_aside_is_asked_again_and_nothing_is_deleted(job: Job) -> None:
    made(job)
    assert foreseen(replace(job, anew=("preferences", "ground_truth"))) == {"judge": 36}
    before = {path.name.split(".")[0] for path in job.cache_dir.iterdir()}
    folders = ["--cache_dir", str(job.cache_dir), "--results_dir", str(job.cache_dir / "results")]
    jobs_of("--backend", "embedded", "--refresh", "preferences", "responses", *folders)
    aside = [path.name for path in (job.cache_dir / "previous").iterdir()]
    assert {name.rsplit("_", 1)[0] for name in aside} == before - {"generated_prompts_coder"}
    assert asked(job) == (0, 18, 36)


# ── The embedded model ───────────────────────────────────────────────────────────────────────────────────

READ = [Response("coder-001", m, "x" * n) for m, n in zip(MODELS, (2, 4, 9), strict=True)]


@pytest.fixture
def weighing(job: Job) -> Job:
    """A judge by likelihood, to whom the persona likes short responses."""
    persona = replace(config.PERSONAS["coder"], answerer="taste")
    return replace(job, llm=Scripted(weighs_options=True), judge=config.EMBEDDED_NAME, persona=persona)


def test_readings_by_likelihood_make_graded_outcomes_without_an_order(weighing: Job) -> None:
    judgements = judge_by_likelihood(weighing, [Prompt("coder-001", "p")], READ)
    assert [(j.model_a, j.model_b) for j in judgements] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert judgements[1].outcome == pytest.approx(0.8022, abs=1e-3), "σ((0.09 − 0.02) / 0.05)"


def test_recorded_preferences_are_everyone_elses(weighing: Job, tmp_path: Path) -> None:
    for name in ("coder", "student"):
        judge_by_likelihood(replace(weighing, name=name), [Prompt("coder-001", "p")], READ)
    samples = replace(weighing, samples_dir=tmp_path, contestants=dict(list(weighing.contestants.items())[:2]))

    def users(name: str) -> list[tuple[str, str, str]]:
        return [(p.user, p.model_a, p.model_b) for p in recorded_preferences(replace(samples, name=name))]

    assert users("coder") == [("student", "a", "b")]
    assert users("me") == [("coder", "a", "b"), ("student", "a", "b")]
    assert not recorded_preferences(replace(samples, samples_dir=None))


# ── Truths ───────────────────────────────────────────────────────────────────────────────────────────────


def test_round_robin_orders_by_mean_outcome_and_a_ranking_names_each_once() -> None:
    truth = round_robin_truths(
        [Preference("p", "a", "b", 1.0), Preference("p", "a", "c", 0.5), Preference("p", "b", "c", 0.0)], 3
    )[0]
    assert dict(truth.scores) == {"a": 0.75, "b": 0.0, "c": 0.75}
    assert truth.ranking == ("a", "c", "b")
    for ranking in (["A", "B"], ["A", "B", "B"], ["A", "B", "D"]):
        with pytest.raises(ValueError, match="ranking"):
            ranking_schema("ABC").model_validate({"ranking": ranking})
