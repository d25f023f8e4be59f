"""What a run still has to ask, counted without asking: calls by model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import config
import evaluation
from core.records import Prompt, Response
from core.store import Store
from data_generation import cached_prompts, response_tasks
from stages.judging import listwise_tasks, pair_tasks, texts_of, unread
from stages.tasks import Job, missing_tasks

Texts = dict[tuple[str, str], str]
NOISE_ROUNDS = (1, 2)


def outstanding(job: Job) -> Counter[str]:
    """Calls that this run still has to make, by model; texts to read where the judge weighs them."""
    calls: Counter[str] = Counter()
    for (_, model), count in outstanding_by_stage(job).items():
        calls[model] += count
    return calls


def outstanding_by_stage(job: Job) -> Counter[tuple[str, str]]:
    """The same by (stage, model)."""
    with job.store(config.PROMPTS_FILE, "prompts", read_only=True) as store:
        texts = cached_prompts(job, store)
    unwritten = job.params.num_prompts - len(texts)
    batch = 1 if job.llm.weighs_options else job.params.prompts_per_request
    prompts = [Prompt(f"{job.name}-{i + 1:03d}", text) for i, text in enumerate(texts)]
    answers: Counter[str] = Counter()
    with job.store(config.RESPONSES_FILE, "responses", read_only=True) as store:
        known = _known_responses(job, store, prompts, answers)
    for contestant in job.contestants.values():
        answers[contestant.ollama_tag or job.judge] += unwritten
    answered = [p for p in prompts if all((p.id, model) in known for model in job.contestants)]
    judgements = (job.params.num_prompts - len(answered)) * _judgements(job)
    with job.store(config.PREFERENCES_FILE, "preferences", read_only=True) as store:
        if job.llm.weighs_options:
            judgements += unread(job, store, answered, known)
        else:
            judgements += len(missing_tasks(store, pair_tasks(job, answered, known)))
    listed = job.params.ground_truth != "round_robin"
    return +Counter(
        {
            ("prompts", job.judge): math.ceil(unwritten / batch),
            **{("responses", model): count for model, count in answers.items()},
            ("preferences", job.judge): judgements,
            ("ground_truth", job.judge): _on_test_prompts(job, answered, known) if listed else 0,
        }
    )


def noise_calls(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> int:
    """Calls that the noise ceiling still needs on these prompts."""
    with job.store(config.PREFERENCES_FILE, "preferences", read_only=True) as store:
        return _noise(job, store, prompts, texts_of(responses))


def _noise(job: Job, store: Store, prompts: Sequence[Prompt], texts: Texts) -> int:
    return sum(len(missing_tasks(store, pair_tasks(job, prompts, texts, round_))) for round_ in NOISE_ROUNDS)


def _known_responses(job: Job, store: Store, prompts: Sequence[Prompt], calls: Counter[str]) -> Texts:
    known: Texts = {}
    for task in response_tasks(job, prompts):
        item = store.get(task.key, task.made_from)
        if item is None:
            calls[job.judge if job.llm.weighs_options else task.question.model] += 1
        else:
            known[item["prompt_id"], item["model"]] = item["text"]
    return known


def comparison_calls(params: Sequence[Job]) -> Counter[str]:
    """Calls that are still to make for every persona to judge the others' test prompts, by model; texts to read where
    the judge weighs them."""
    calls: Counter[str] = Counter()
    for job in params:
        ready, known = test_prompts(job)
        unseen = (len(test_ids(job)) - len(ready)) * _judgements(job)
        for reader in (other for other in params if other.name != job.name):
            keeper = job if job.llm.weighs_options else reader
            with keeper.store(config.PREFERENCES_FILE, "preferences", read_only=True) as store:
                if job.llm.weighs_options:
                    calls[job.judge] += unseen + unread(job, store, ready, known, reader)
                else:
                    calls[job.judge] += unseen + len(missing_tasks(store, pair_tasks(reader, ready, known)))
    return +calls


def test_prompts(job: Job) -> tuple[list[Prompt], Texts]:
    """The documented split's test prompts that all contestants have answered, and all known responses."""
    with job.store(config.PROMPTS_FILE, "prompts", read_only=True) as store:
        prompts = [Prompt(f"{job.name}-{i + 1:03d}", text) for i, text in enumerate(cached_prompts(job, store))]
    with job.store(config.RESPONSES_FILE, "responses", read_only=True) as store:
        known = _known_responses(job, store, prompts, Counter())
    test = test_ids(job)
    return [p for p in prompts if p.id in test and all((p.id, m) in known for m in job.contestants)], known


def _judgements(job: Job) -> int:
    """Calls that judging one prompt takes."""
    contestants = len(job.contestants)
    return contestants if job.llm.weighs_options else contestants * (contestants - 1)


def test_ids(job: Job) -> tuple[str, ...]:
    """The documented split's test prompts, whether they are written yet or not."""
    params = job.params
    ids = [f"{job.name}-{i + 1:03d}" for i in range(params.num_prompts)]
    return evaluation.split(ids, params.train_prompts, params.random_seed)[1]


def _on_test_prompts(job: Job, answered: Sequence[Prompt], known: Texts) -> int:
    """Listwise rankings of the test prompts and, where both truths are wanted, two more rounds of judging them."""
    params, test = job.params, test_ids(job)
    ready = [p for p in answered if p.id in test]
    with job.store(config.GROUND_TRUTH_FILE, "ground_truth", read_only=True) as store:
        calls = len(missing_tasks(store, listwise_tasks(job, ready, known)))
    calls += (len(test) - len(ready)) * params.listwise_shuffles
    if params.ground_truth == "both":
        with job.store(config.PREFERENCES_FILE, "preferences", read_only=True) as store:
            calls += _noise(job, store, ready, known)
        calls += len(NOISE_ROUNDS) * (len(test) - len(ready)) * _judgements(job)
    return calls
