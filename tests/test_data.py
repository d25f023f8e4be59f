"""The data stages on a scripted model: what is asked, what is reused, what a judge is shown."""

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
from hypothesis import given
from hypothesis import strategies as st

import config
from config import Contestant, ExperimentConfig
from core.clock import Clock
from core.errors import MissingError, UsageError
from core.records import Judgement, Preference, Prompt, Response
from data_generation import Data, make_data
from evidence.design import design, listed
from llm.interface import Choice, Completion, Decision, Request
from stages.counting import count
from stages.judging import preferences_from, rank_listwise, ranking_schema, round_robin_truths
from stages.likelihood import judge_by_likelihood, read_responses, recorded_preferences
from stages.tasks import Job, fill, load_template
from stages.writing import PromptList, collect_responses, generate_prompts

MODELS = ("a", "b", "c")


class Scripted:
    """A language model that answers at once and keeps what it was asked."""

    backend = "scripted"

    def __init__(self, *, weighs_options: bool = False, digests: dict[str, str] | None = None) -> None:
        self.weighs_options = weighs_options
        self.digests = digests or {}
        self.requests: list[Request] = []
        self.choices: list[Choice] = []
        self.written = 0

    def identity(self, model: str) -> dict[str, Any]:
        return {"backend": self.backend, "tag": model, "digest": self.digests.get(model, "1")}

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        for i, request in enumerate(requests):
            self.requests.append(request)
            parsed: Any = None
            if request.schema is PromptList:
                count = request.prompt.count("\n- ") and int(request.prompt.split("with exactly ")[1].split()[0])
                parsed = PromptList(prompts=[self.prompt() for _ in range(count)])
            elif request.schema is not None:  # a ranking: the longest response first
                blocks = request.prompt.split("--- response ")[1::2]
                lengths = {block[0]: len(block) for block in blocks}
                parsed = request.schema(ranking=sorted(lengths, key=lambda x: -lengths[x]))
            made_by = f"{request.model} {self.digests.get(request.model)} {request.num_predict}"
            text = f"{made_by} says {request.prompt} {'x' * ord(request.model[0])}"
            yield i, Completion(text, 3, 0.1, parsed=parsed)

    def unload(self) -> None:
        """There is nothing."""

    def prompt(self) -> str:
        self.written += 1
        return f"prompt number{self.written} about subject{self.written} please word{self.written}"

    def choose(self, choices: Sequence[Choice]) -> Iterator[tuple[int, Decision]]:
        for i, choice in enumerate(choices):
            self.choices.append(choice)
            if self.weighs_options:
                scores = tuple(-len(o) / 100 if choice.system == "taste" else -1.0 for o in choice.options)
                yield i, Decision(choice.options[0], scores=scores)
            else:
                yield i, Decision("A", "it came first")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        name="coder",
        persona=config.PERSONAS["coder"],
        contestants={name: Contestant(None, None, name) for name in MODELS},
        judge="judge",
        llm=Scripted(),
        params=ExperimentConfig(num_prompts=6, prompts_per_request=4),
        cache_dir=tmp_path,
        samples_dir=None,
    )


def made(job: Job) -> Data:
    return make_data(job, Clock(), ids_for_testing(job))


def foreseen(job: Job, **options: Any) -> Counter[tuple[str, str]]:
    return count(job, ids_for_testing(job), **options)


def asked(job: Job) -> tuple[int, int, int]:
    """(prompt requests, response requests, judge questions) of a run, which are those that were counted before it."""
    again = replace(job, llm=Scripted(digests=job.llm.digests))  # type: ignore[attr-defined]
    again.llm.written = 100  # type: ignore[attr-defined]
    expected = foreseen(again)
    made(again)
    requests = again.llm.requests  # type: ignore[attr-defined]
    prompts = sum(r.schema is PromptList for r in requests)
    found = {"prompts": prompts, "responses": len(requests) - prompts, "preferences": len(again.llm.choices)}  # type: ignore[attr-defined]
    by_stage: Counter[str] = Counter()
    for (stage, _), calls in expected.items():
        by_stage[stage] += calls
    assert by_stage == +Counter(found)
    return prompts, len(requests) - prompts, found["preferences"]


def test_every_contestant_answers_every_prompt_and_every_pair_is_judged_in_both_orders(job: Job) -> None:
    data = made(job)
    prompts, responses, judgements = data.prompts, data.responses, data.judgements
    assert [p.id for p in prompts] == [f"coder-{i:03d}" for i in range(1, 7)]
    assert len({p.text for p in prompts}) == 6
    assert [(r.model, r.prompt_id) for r in responses] == [(m, p.id) for m in MODELS for p in prompts]
    pairs = {(j.prompt_id, j.first, j.second) for j in judgements}
    assert len(pairs) == len(judgements) == 6 * 6
    assert all((p, second, first) in pairs for p, first, second in pairs)
    assert {p.outcome for p in data.preferences} == {0.5}, "a judge that says A in both orders has no taste"
    assert len(data.preferences) == 6 * 3 and [t.prompt_id for t in data.truths] == [p.id for p in prompts]
    assert not data.listwise, "the round robin is the truth, whatever prompts were listed"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, (0, 0, 0)),
        ({"params": ExperimentConfig(num_prompts=6, prompts_per_request=4, lambda_reg=5.0)}, (0, 0, 0)),
        ({"params": ExperimentConfig(num_prompts=8, prompts_per_request=4)}, (1, 2 * 3, 2 * 6)),
        ({"params": ExperimentConfig(num_prompts=5, prompts_per_request=4)}, (0, 0, 0)),
        ({"contestants": {n: Contestant(None, None, n) for n in (*MODELS, "d")}}, (0, 6, 6 * 6)),
        ({"params": ExperimentConfig(num_prompts=6, prompts_per_request=4, num_predict=9)}, (0, 18, 36)),
        ({"judge": "other"}, (2, 18, 36)),
        ({"params": ExperimentConfig(num_prompts=6, prompts_per_request=4, random_seed=1)}, (2, 18, 36)),
    ],
    ids=["nothing", "lambda", "two more prompts", "one fewer", "a contestant", "longer answers", "a judge", "a seed"],
)  # fmt: skip
def test_an_item_is_asked_again_only_where_what_it_was_made_from_changed_and_that_is_foreseen(
    job: Job, change: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    made(job)
    assert asked(replace(job, **change)) == expected


def test_an_edited_judge_template_judges_anew_and_keeps_the_responses(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    shutil.copytree(config.PROMPTS_DIR, folder)
    path = folder / "preference_evaluation.txt"
    path.write_text(path.read_text(encoding="utf-8") + "\nBe kind.\n", encoding="utf-8")
    made(job)
    assert asked(replace(job, prompts_dir=folder)) == (0, 0, 36)


def test_a_model_that_was_pulled_again_answers_again(job: Job) -> None:
    made(job)
    job.llm.digests["b"] = "2"  # type: ignore[attr-defined]
    assert asked(job) == (0, 6, 6 * 4), "its responses are other texts now, in four of six pairs"


def test_two_truths_are_counted_as_they_are_asked(job: Job) -> None:
    both = replace(job, params=replace(job.params, ground_truth="both"))
    made(job)
    tests, shuffles = len(ids_for_testing(both)), job.params.listwise_shuffles
    assert foreseen(both) == {("ground_truth", "judge"): tests * shuffles}
    data = made(both)
    assert [t.prompt_id for t in data.listwise] == list(ids_for_testing(both))
    assert not foreseen(both)
    assert make_data(both, Clock(), ids_for_testing(both), ask=False) == data


def test_a_listwise_truth_is_that_of_every_prompt_and_of_all_that_is_measured(job: Job) -> None:
    made(job)
    by_list = replace(job, params=replace(job.params, ground_truth="listwise"))
    every = listed(job.prompt_ids, by_list.params)
    assert count(by_list, every) == {("ground_truth", "judge"): 6 * job.params.listwise_shuffles}
    data = make_data(by_list, Clock(), every)
    plan = design(data, by_list.params)
    assert [t.prompt_id for t in plan.truths] == list(job.prompt_ids)
    assert {t.method for t in (*plan.truths, *plan.test_truths)} == {"listwise"}
    assert [t.prompt_id for t in plan.test_truths] == list(plan.test_ids)
    assert not count(by_list, every)


def test_a_cache_alone_gives_what_is_whole_in_it_and_nothing_is_asked_or_written(job: Job) -> None:
    class Silent(Scripted):
        def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
            raise AssertionError("asked")

        def choose(self, choices: Sequence[Choice]) -> Iterator[tuple[int, Decision]]:
            raise AssertionError("asked")

    silent = replace(job, llm=Silent())
    assert make_data(silent, Clock(), ask=False).prompts == ()
    assert not list(job.cache_dir.iterdir())
    whole = made(job)
    held = {path: path.read_bytes() for path in job.cache_dir.iterdir()}
    assert make_data(silent, Clock(), ask=False) == whole
    more = replace(silent, params=replace(job.params, num_prompts=8))
    assert make_data(more, Clock(), ask=False).prompts == whole.prompts, "two more are not written yet"
    assert foreseen(more) == {
        ("prompts", "judge"): 1,
        **{("responses", m): 2 for m in MODELS},
        ("preferences", "judge"): 12,
    }
    other = replace(silent, judge="other", prompts=whole.prompts)
    assert make_data(other, Clock(), ask=False).preferences == (), "nobody has judged as this one"
    assert held == {path: path.read_bytes() for path in job.cache_dir.iterdir()}


def test_what_a_refresh_sets_aside_is_counted_as_missing_and_a_model_that_nobody_knows_too(job: Job) -> None:
    class Gone(Scripted):
        def identity(self, model: str) -> dict[str, Any]:
            raise MissingError("no server answers")

    made(job)
    assert foreseen(job, anew=("preferences", "ground_truth")) == {("preferences", "judge"): 36}
    assert count(replace(job, llm=Gone())) == {
        ("prompts", "judge"): 2,
        **{("responses", m): 6 for m in MODELS},
        ("preferences", "judge"): 36,
    }
    assert not count(job)


def test_refresh_sets_a_stage_and_what_follows_aside_and_nothing_is_deleted(job: Job) -> None:
    made(job)
    before = {path.name.split(".")[0] for path in job.cache_dir.iterdir()}
    folders = ["--cache_dir", str(job.cache_dir), "--results_dir", str(job.cache_dir / "results")]
    jobs_of("--backend", "embedded", "--refresh", "preferences", "responses", *folders)
    aside = [path.name for path in (job.cache_dir / "previous").iterdir()]
    assert {name.rsplit("_", 1)[0] for name in aside} == before - {"generated_prompts_coder"}
    assert asked(job) == (0, 18, 36)


# ── A cache that somebody opens ──────────────────────────────────────────────────────────────────────────


def edit(job: Job, file: str, change: Callable[[dict[str, Any]], object], key: str) -> None:
    """Change one item of a cache file by hand."""
    path = job.cache_dir / file.format(name="coder")
    document = json.loads(path.read_text(encoding="utf-8"))
    change(next(item for item in document["items"] if item["key"] == key))
    path.write_text(json.dumps(document), encoding="utf-8")


def test_an_edited_prompt_costs_only_what_follows_from_it(job: Job) -> None:
    made(job)
    edit(job, config.PROMPTS_FILE, lambda item: item["value"].update(text="How do I write a haiku?"), "coder-003")
    assert asked(job) == (0, 3, 6)
    assert generate_prompts(job)[2].text == "How do I write a haiku?"


def test_a_deleted_prompt_is_asked_again_and_no_other(job: Job) -> None:
    made(job)
    path = job.cache_dir / config.PROMPTS_FILE.format(name="coder")
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["items"][1]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert asked(job) == (1, 3, 6)


def test_an_edited_judgement_counts_and_older_words_for_a_winner_are_read_on(job: Job) -> None:
    made(job)
    for winner, outcome in (("b", 0.0), ("tie", 0.5), ("B", 0.0), ("A", 1.0)):
        edit(
            job, config.PREFERENCES_FILE, lambda i, winner=winner: i["value"].update(winner=winner), "coder-001/a vs b"
        )
        assert made(job).judgements[0] == Judgement("coder-001", "a", "b", outcome, "it came first")


@pytest.mark.parametrize(
    ("file", "key", "change", "names"),
    [
        (config.PROMPTS_FILE, "coder-002", lambda v: v.pop("text"), "text"),
        (config.PROMPTS_FILE, "coder-002", lambda v: v.update(text=None), "text"),
        (config.RESPONSES_FILE, "coder-002/b", lambda v: v.pop("model"), "model"),
        (config.PREFERENCES_FILE, "coder-002/a vs c", lambda v: v.pop("winner"), "winner"),
        (config.PREFERENCES_FILE, "coder-002/a vs c", lambda v: v.update(winner="d"), "neither a, c nor tie"),
    ],
    ids=["no prompt", "no text", "no model", "no winner", "another winner"],
)  # fmt: skip
def test_an_edit_that_lost_something_names_file_item_and_what_is_missing(
    job: Job, file: str, key: str, change: Callable[[dict[str, Any]], object], names: str
) -> None:
    made(job)
    edit(job, file, lambda item: change(item["value"]), key)
    with pytest.raises(UsageError, match="delete the whole item") as refused:
        made(job)
    assert file.format(name="coder") in str(refused.value)
    assert f"'{key}'" in str(refused.value)
    assert names in str(refused.value)


def test_items_say_who_judged_what_was_asked_and_which_topic(job: Job) -> None:
    made(job)
    collect_responses(job, [Prompt("asked-1", "Why?")])

    def names(file: str, key: str) -> dict[str, str]:
        items = json.loads((job.cache_dir / file.format(name="coder")).read_text(encoding="utf-8"))["items"]
        item = next(item for item in items if item["key"] == key)
        return {name: text for name, text in item.items() if name not in ("key", "made_from", "value")}

    assert names(config.PREFERENCES_FILE, "coder-001/a vs b") == {"judge": "judge"}
    assert names(config.RESPONSES_FILE, "asked-1/a") == {"question": "Why?"}
    assert names(config.RESPONSES_FILE, "coder-001/a") == {}
    assert names(config.GROUND_TRUTH_FILE, "coder-001/round_robin") == {"print_out": True}


# ── Asking ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_writer_that_repeats_itself_is_asked_again_and_then_refused(job: Job) -> None:
    class Repeats(Scripted):
        def prompt(self) -> str:
            return "always the same old request, please"

    with pytest.raises(MissingError, match=r"only 1 of 6 distinct prompts.*another --judge, or prompts"):
        generate_prompts(replace(job, llm=Repeats()))


def test_the_judge_sees_both_texts_and_no_names(job: Job) -> None:
    text = {(r.prompt_id, r.model): r.text for r in made(job).responses}
    for choice in job.llm.choices:  # type: ignore[attr-defined]
        prompt_id, _, pair = choice.label.partition(": ")
        first, second = pair.split(" against ")
        assert choice.options == ("A", "B", "tie")
        at = [choice.prompt.index(text[prompt_id, model]) for model in (first, second)]
        assert at[0] < at[1]
        assert config.PERSONAS["coder"].description.split(".")[0] in choice.prompt


@pytest.fixture
def weighing(job: Job) -> Job:
    """A judge by likelihood, to whom the persona likes short responses."""
    persona = replace(config.PERSONAS["coder"], answerer="taste")
    return replace(job, llm=Scripted(weighs_options=True), judge=config.EMBEDDED_NAME, persona=persona)


READ = [Response("coder-001", m, "x" * n) for m, n in zip(MODELS, (2, 4, 9), strict=True)]


class Drafter(Scripted):
    """A writer without lists: every fourth draft is on its topic, from the ``late`` round on."""

    def __init__(self, late: int) -> None:
        super().__init__(weighs_options=True)
        self.late, self.rounds = late, 0

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        self.rounds += 1
        for i, request in enumerate(requests):
            topic = request.prompt.split("… ")[1].rstrip('"')
            good = i % 4 == 3 and self.rounds > self.late
            text = f"{request.opening} {topic}? And so on." if good else "Something else entirely is written. No."
            yield i, Completion(text, 3, 0.1)


@pytest.mark.parametrize("late", [0, 2])
def test_the_embedded_writer_keeps_one_sentence_on_each_topic(weighing: Job, late: int) -> None:
    written = generate_prompts(replace(weighing, llm=Drafter(late)))
    topics, asks = weighing.persona.topics, weighing.persona.asks
    assert [p.text for p in written] == [f"{asks[i % len(asks)]} {topics[i]}?" for i in range(6)]


def test_an_embedded_writer_that_never_finds_its_topic_is_given_up(weighing: Job) -> None:
    writer = Drafter(late=5)
    with pytest.raises(MissingError, match=r"no new request about 'a memory leak.*--num_prompts 5"):
        generate_prompts(replace(weighing, llm=writer))
    assert writer.rounds == 5, "and no draft is asked for that nobody looks at"


def test_readings_by_likelihood_make_graded_outcomes_without_an_order_and_are_read_once(weighing: Job) -> None:
    prompts = [Prompt("coder-001", "p")]
    read, advantages = read_responses(weighing, prompts, READ)
    assert read == prompts
    assert advantages["coder-001", "c"] == pytest.approx(1.0 - 0.09)  # over the reference readers' mean
    judgements = judge_by_likelihood(weighing, prompts, advantages)
    assert [(j.first, j.second) for j in judgements] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(j.outcome > 0.5 and not j.ordered for j in judgements)
    assert judgements[1].outcome > judgements[0].outcome, "the shortest beats the longest most clearly"
    for ask in (False, True):
        assert read_responses(replace(weighing, llm=Scripted()), prompts, READ, ask=ask) == (prompts, advantages)
    edit(weighing, config.PREFERENCES_FILE, lambda i: i["value"]["log_likelihood"].clear(), "coder-001/b read by coder")
    with pytest.raises(UsageError, match="log_likelihood lacks coder"):
        read_responses(weighing, prompts, READ)


def test_recorded_preferences_are_everyone_elses(weighing: Job, tmp_path: Path) -> None:
    for name in ("coder", "student"):
        read_responses(replace(weighing, name=name), [Prompt("coder-001", "p")], READ)
    samples = replace(weighing, samples_dir=tmp_path, contestants=dict(list(weighing.contestants.items())[:2]))

    def users(name: str) -> list[tuple[str, str, str]]:
        return [(p.user, p.model_a, p.model_b) for p in recorded_preferences(replace(samples, name=name))]

    assert users("coder") == [("student", "a", "b")]
    assert users("me") == [("coder", "a", "b"), ("student", "a", "b")]
    assert not recorded_preferences(replace(samples, samples_dir=None))


def test_counting_for_the_embedded_model_sees_drafts_answers_and_readings(weighing: Job) -> None:
    readers, n = len(config.REFERENCE_READERS) + 1, weighing.params.num_prompts
    expected = {"prompts": 4 * n, "responses": 3 * n, "preferences": 3 * n * readers}
    assert foreseen(weighing) == {(stage, weighing.judge): calls for stage, calls in expected.items()}
    assert not weighing.llm.requests and not weighing.llm.choices  # type: ignore[attr-defined]
    assert not list(weighing.cache_dir.iterdir())


outcome = st.sampled_from([0.0, 0.5, 1.0])


@given(outcome, outcome)
def test_both_orders_count_the_same(first: float, second: float) -> None:
    judged = [Judgement("p", "a", "b", first), Judgement("p", "b", "a", second)]
    assert preferences_from(judged) == [Preference("p", "a", "b", (first + 1 - second) / 2)]


def test_round_robin_orders_by_mean_outcome() -> None:
    truth = round_robin_truths(
        [Preference("p", "a", "b", 1.0), Preference("p", "a", "c", 0.5), Preference("p", "b", "c", 0.0)], 3
    )[0]
    assert dict(truth.scores) == {"a": 0.75, "b": 0.0, "c": 0.75}
    assert truth.ranking == ("a", "c", "b")


def test_listwise_truth_maps_labels_back_through_every_shuffle(job: Job) -> None:
    data = made(job)
    prompts, responses = data.prompts, data.responses
    for truth in rank_listwise(job, prompts, responses)[0]:
        assert truth.ranking == ("c", "b", "a"), "the longest response is c's, whatever label it had"
        assert dict(truth.scores) == {"c": 2.0, "b": 1.0, "a": 0.0}
    shown = {tuple(r.prompt.split("--- response ")[1::2]) for r in job.llm.requests if r.schema}  # type: ignore[attr-defined]
    assert len(shown) > len(prompts), "more than one order was shown"


def test_more_responses_than_labels_are_refused_and_none_is_dropped(job: Job) -> None:
    many = replace(job, contestants={f"m{i}": Contestant(None, None, f"m{i}") for i in range(27)})
    prompt = Prompt("coder-001", "p")
    with pytest.raises(UsageError, match="at most 26 responses, not 27"):
        rank_listwise(many, [prompt], [Response(prompt.id, model, "text") for model in many.contestants])


@pytest.mark.parametrize("ranking", [["A", "B"], ["A", "B", "B"], ["A", "B", "D"]])
def test_a_ranking_names_every_label_once(ranking: list[str]) -> None:
    with pytest.raises(ValueError, match="ranking"):
        ranking_schema("ABC").model_validate({"ranking": ranking})
    assert ranking_schema("ABC").model_json_schema()["properties"]["ranking"]["items"]["enum"] == ["A", "B", "C"]


def test_templates_are_filled_in_one_pass() -> None:
    assert fill("{prompt} and {mark}", prompt="{mark}", mark="m") == "{mark} and m"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("{prompt}", ""), r"lacks placeholder \{prompt\}"),
        (("{mark}", "{mark} {oops}"), r"has the unknown placeholder \{oops\}"),
    ],
)
def test_a_wrong_template_names_the_placeholder(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = (config.PROMPTS_DIR / "preference_evaluation.txt").read_text(encoding="utf-8").replace(*change)
    (tmp_path / "preference_evaluation.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_template(tmp_path, "preference_evaluation.txt")
