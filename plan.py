"""What a run still has to ask, counted without asking: calls by model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import config
import evaluation
from cache import Store
from data_generation import cached_prompts, response_tasks
from judging import listwise_tasks, pair_tasks, unread
from records import Prompt
from stages import Setting, missing_tasks

Texts = dict[tuple[str, str], str]


def outstanding(setting: Setting) -> Counter[str]:
    """Calls that this run still has to make, by model; texts to read where the judge weighs them."""
    calls: Counter[str] = Counter()
    with setting.store(config.PROMPTS_FILE, "prompts", read_only=True) as store:
        texts = cached_prompts(setting, store)
    unwritten = setting.config.num_prompts - len(texts)
    batch = 1 if setting.llm.weighs_options else setting.config.prompts_per_request
    calls[setting.judge] += math.ceil(unwritten / batch)
    prompts = [Prompt(f"{setting.name}-{i + 1:03d}", text) for i, text in enumerate(texts)]
    with setting.store(config.RESPONSES_FILE, "responses", read_only=True) as store:
        known = _known_responses(setting, store, prompts, calls)
    for contestant in setting.contestants.values():
        calls[contestant.ollama_tag or setting.judge] += unwritten
    answered = [p for p in prompts if all((p.id, model) in known for model in setting.contestants)]
    pairs = len(setting.contestants) * (len(setting.contestants) - 1)
    unseen = setting.config.num_prompts - len(answered)
    with setting.store(config.PREFERENCES_FILE, "preferences", read_only=True) as store:
        if setting.llm.weighs_options:
            calls[setting.judge] += unread(setting, store, answered, known) + unseen * len(setting.contestants)
        else:
            calls[setting.judge] += len(missing_tasks(store, pair_tasks(setting, answered, known))) + unseen * pairs
    if setting.config.ground_truth != "round_robin":
        calls[setting.judge] += _listwise(setting, answered, known)
    return +calls


def _known_responses(setting: Setting, store: Store, prompts: Sequence[Prompt], calls: Counter[str]) -> Texts:
    known: Texts = {}
    for task in response_tasks(setting, prompts):
        item = store.get(task.key, task.made_from)
        if item is None:
            calls[setting.judge if setting.llm.weighs_options else task.question.model] += 1
        else:
            known[item["prompt_id"], item["model"]] = item["text"]
    return known


def _listwise(setting: Setting, answered: Sequence[Prompt], known: Texts) -> int:
    settings = setting.config
    ids = [f"{setting.name}-{i + 1:03d}" for i in range(settings.num_prompts)]
    _, test = evaluation.split(ids, settings.train_prompts, settings.random_seed)
    ready = [p for p in answered if p.id in test]
    with setting.store(config.GROUND_TRUTH_FILE, "ground_truth", read_only=True) as store:
        missing = len(missing_tasks(store, listwise_tasks(setting, ready, known)))
    return missing + (len(test) - len(ready)) * settings.listwise_shuffles
