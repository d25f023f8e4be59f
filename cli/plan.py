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
from stages.tasks import Setting, missing_tasks

Texts = dict[tuple[str, str], str]
NOISE_ROUNDS = (1, 2)


def outstanding(setting: Setting) -> Counter[str]:
    """Calls that this run still has to make, by model; texts to read where the judge weighs them."""
    calls: Counter[str] = Counter()
    for (_, model), count in outstanding_by_stage(setting).items():
        calls[model] += count
    return calls


def outstanding_by_stage(setting: Setting) -> Counter[tuple[str, str]]:
    """The same by (stage, model)."""
    with setting.store(config.PROMPTS_FILE, "prompts", read_only=True) as store:
        texts = cached_prompts(setting, store)
    unwritten = setting.config.num_prompts - len(texts)
    batch = 1 if setting.llm.weighs_options else setting.config.prompts_per_request
    prompts = [Prompt(f"{setting.name}-{i + 1:03d}", text) for i, text in enumerate(texts)]
    answers: Counter[str] = Counter()
    with setting.store(config.RESPONSES_FILE, "responses", read_only=True) as store:
        known = _known_responses(setting, store, prompts, answers)
    for contestant in setting.contestants.values():
        answers[contestant.ollama_tag or setting.judge] += unwritten
    answered = [p for p in prompts if all((p.id, model) in known for model in setting.contestants)]
    judgements = (setting.config.num_prompts - len(answered)) * _judgements(setting)
    with setting.store(config.PREFERENCES_FILE, "preferences", read_only=True) as store:
        if setting.llm.weighs_options:
            judgements += unread(setting, store, answered, known)
        else:
            judgements += len(missing_tasks(store, pair_tasks(setting, answered, known)))
    listed = setting.config.ground_truth != "round_robin"
    return +Counter(
        {
            ("prompts", setting.judge): math.ceil(unwritten / batch),
            **{("responses", model): count for model, count in answers.items()},
            ("preferences", setting.judge): judgements,
            ("ground_truth", setting.judge): _on_test_prompts(setting, answered, known) if listed else 0,
        }
    )


def noise_calls(setting: Setting, prompts: Sequence[Prompt], responses: Sequence[Response]) -> int:
    """Calls that the noise ceiling still needs on these prompts."""
    with setting.store(config.PREFERENCES_FILE, "preferences", read_only=True) as store:
        return _noise(setting, store, prompts, texts_of(responses))


def _noise(setting: Setting, store: Store, prompts: Sequence[Prompt], texts: Texts) -> int:
    return sum(len(missing_tasks(store, pair_tasks(setting, prompts, texts, round_))) for round_ in NOISE_ROUNDS)


def _known_responses(setting: Setting, store: Store, prompts: Sequence[Prompt], calls: Counter[str]) -> Texts:
    known: Texts = {}
    for task in response_tasks(setting, prompts):
        item = store.get(task.key, task.made_from)
        if item is None:
            calls[setting.judge if setting.llm.weighs_options else task.question.model] += 1
        else:
            known[item["prompt_id"], item["model"]] = item["text"]
    return known


def comparison_calls(settings: Sequence[Setting]) -> Counter[str]:
    """Calls that are still to make for every persona to judge the others' test prompts, by model; texts to read where
    the judge weighs them."""
    calls: Counter[str] = Counter()
    for setting in settings:
        ready, known = test_prompts(setting)
        unseen = (len(test_ids(setting)) - len(ready)) * _judgements(setting)
        for reader in (other for other in settings if other.name != setting.name):
            keeper = setting if setting.llm.weighs_options else reader
            with keeper.store(config.PREFERENCES_FILE, "preferences", read_only=True) as store:
                if setting.llm.weighs_options:
                    calls[setting.judge] += unseen + unread(setting, store, ready, known, reader)
                else:
                    calls[setting.judge] += unseen + len(missing_tasks(store, pair_tasks(reader, ready, known)))
    return +calls


def test_prompts(setting: Setting) -> tuple[list[Prompt], Texts]:
    """The documented split's test prompts that all contestants have answered, and all known responses."""
    with setting.store(config.PROMPTS_FILE, "prompts", read_only=True) as store:
        prompts = [Prompt(f"{setting.name}-{i + 1:03d}", text) for i, text in enumerate(cached_prompts(setting, store))]
    with setting.store(config.RESPONSES_FILE, "responses", read_only=True) as store:
        known = _known_responses(setting, store, prompts, Counter())
    test = test_ids(setting)
    return [p for p in prompts if p.id in test and all((p.id, m) in known for m in setting.contestants)], known


def _judgements(setting: Setting) -> int:
    """Calls that judging one prompt takes."""
    contestants = len(setting.contestants)
    return contestants if setting.llm.weighs_options else contestants * (contestants - 1)


def test_ids(setting: Setting) -> tuple[str, ...]:
    """The documented split's test prompts, whether they are written yet or not."""
    settings = setting.config
    ids = [f"{setting.name}-{i + 1:03d}" for i in range(settings.num_prompts)]
    return evaluation.split(ids, settings.train_prompts, settings.random_seed)[1]


def _on_test_prompts(setting: Setting, answered: Sequence[Prompt], known: Texts) -> int:
    """Listwise rankings of the test prompts and, where both truths are wanted, two more rounds of judging them."""
    settings, test = setting.config, test_ids(setting)
    ready = [p for p in answered if p.id in test]
    with setting.store(config.GROUND_TRUTH_FILE, "ground_truth", read_only=True) as store:
        calls = len(missing_tasks(store, listwise_tasks(setting, ready, known)))
    calls += (len(test) - len(ready)) * settings.listwise_shuffles
    if settings.ground_truth == "both":
        with setting.store(config.PREFERENCES_FILE, "preferences", read_only=True) as store:
            calls += _noise(setting, store, ready, known)
        calls += len(NOISE_ROUNDS) * (len(test) - len(ready)) * _judgements(setting)
    return calls
