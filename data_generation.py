"""The stages that call language models: prompts, responses, and (in ``judging``) judgements and ground truth.

Each stage turns what it wants to know into tasks, looks every task up in the cache by the hash of exactly what it
would be made from, asks the model for the rest, and keeps each answer at once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

import config
from core.errors import MissingError
from core.records import Prompt, Response
from core.store import Item, Store
from llm.interface import Request
from stages.tasks import Job, Task, answer, fill, load_template, make_task, progress_bar

log = logging.getLogger("ranking.data")


# ── Stage 1: prompts ─────────────────────────────────────────────────────────────────────────────────────


class PromptList(BaseModel):
    """What the prompt writer answers with."""

    model_config = ConfigDict(extra="ignore")
    prompts: list[str]


MAX_BARREN_REQUESTS = 5


def generate_prompts(job: Job) -> list[Prompt]:
    """``num_prompts`` distinct prompts of the persona. Raises MissingError where the writer can't find as many."""
    with job.store(config.PROMPTS_FILE, "prompts") as store:
        write = _write_embedded_prompts if job.llm.weighs_options else _write_prompts
        return write(job, store)


def _prompt_id(job: Job, number: int) -> str:
    return f"{job.name}-{number + 1:03d}"


def cached_prompts(job: Job, store: Store) -> list[str]:
    """The prompts that need not be asked for again, at most ``num_prompts``, in order and without a gap."""
    known: list[str] = []
    while len(known) < job.params.num_prompts:
        item = store.get(*_prompt_item(job, len(known)))
        if item is None:
            break
        known.append(item["text"])
    return known


def _prompt_item(job: Job, number: int) -> tuple[str, str]:
    """Cache key and hash of one prompt. The earlier prompts that a writer is shown only steer: they are left out."""
    question = _embedded_request(job, number)[0] if job.llm.weighs_options else _basis(job)
    task = make_task(job, _prompt_id(job, number), question)
    return task.key, task.made_from


def _basis(job: Job) -> Request:
    """What all requests for prompts share: the template and the persona."""
    persona = job.persona
    return Request(
        model=job.judge,
        prompt=load_template(job.prompts_dir, "prompt_generation.txt"),
        system=f"{persona.title}. {persona.description} {'; '.join(persona.topics)}",
        temperature=job.params.prompt_temperature,
        seed=job.params.random_seed,
    )


def _write_prompts(job: Job, store: Store) -> list[Prompt]:
    """Asked for in batches, each shown the earlier ones, until there are enough."""
    wanted, texts = job.params.num_prompts, cached_prompts(job, store)
    if len(texts) == wanted:
        log.info("Using cached prompts for persona: %s", job.name)
    barren = 0
    while len(texts) < wanted:
        ((_, completion),) = job.llm.complete([_prompt_request(job, texts, attempt=barren)])
        fresh = list(_fresh(completion.parsed.prompts, texts))[: wanted - len(texts)]  # type: ignore[union-attr]
        barren = 0 if fresh else barren + 1
        if barren == MAX_BARREN_REQUESTS:
            raise MissingError(
                f"{job.judge} wrote only {len(texts)} of {wanted} distinct prompts; they are kept. "
                f"Run again with --num_prompts {max(5, len(texts))}, or with another --judge."
            )
        store.put_many(Item(*_prompt_item(job, len(texts) + i), {}, {"text": text}) for i, text in enumerate(fresh))
        texts += fresh
    return [Prompt(_prompt_id(job, i), text) for i, text in enumerate(texts)]


def _prompt_request(job: Job, texts: Sequence[str], attempt: int) -> Request:
    persona, basis = job.persona, _basis(job)
    count = min(job.params.prompts_per_request, job.params.num_prompts - len(texts))
    topics = [persona.topics[(len(texts) + attempt + i) % len(persona.topics)] for i in range(count)]
    prompt = fill(
        basis.prompt,
        title=persona.title,
        description=persona.description,
        count=count,
        topics="\n".join(f"- {topic}" for topic in topics),
        earlier="\n".join(f"- {text}" for text in texts[-40:]) or "- (none yet)",
    )
    return replace(
        basis,
        prompt=prompt,
        system=None,
        schema=PromptList,
        num_predict=200 * count + 200,
        seed=job.seed("prompts", len(texts), attempt),
        label=f"prompts {len(texts) + 1} to {len(texts) + count} of {job.name}",
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _fresh(candidates: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    """Candidates that are no near-copy (Jaccard similarity of words above 0.7) of a known or earlier one."""
    seen = [_words(text) for text in known]
    for candidate in (" ".join(c.split()) for c in candidates):
        words = _words(candidate)
        if len(words) >= 3 and all(len(words & other) <= 0.7 * len(words | other) for other in seen):
            seen.append(words)
            yield candidate


EMBEDDED_DRAFTS = 4  # of which the first usable one is kept
EMBEDDED_AT_ONCE = 8  # prompts whose drafts are written side by side


def _embedded_request(job: Job, number: int) -> tuple[Request, str]:
    """The request for one prompt, and its topic."""
    persona = job.persona
    topic = persona.topics[number % len(persona.topics)]
    ask = persona.asks[(number + number // len(persona.topics)) % len(persona.asks)]
    request = Request(
        model=config.EMBEDDED_NAME,
        prompt=f'Repeat this request in your own words, in one sentence: "{ask} … {topic}"',
        opening=ask,
        temperature=0.5,
        num_predict=40,
        seed=job.seed("prompt", job.name, number),
        label=f"prompt {number + 1} of {job.name}",
    )
    return request, topic


def _write_embedded_prompts(job: Job, store: Store) -> list[Prompt]:
    """One prompt a topic: the model completes the persona's way of asking, several drafts at once, and the first draft
    that is one sentence, on its topic and unlike the others is taken."""
    texts, wanted = cached_prompts(job, store), job.params.num_prompts
    if len(texts) == wanted:
        log.info("Using cached prompts for persona: %s", job.name)
    with progress_bar(wanted - len(texts), "prompts") as bar:
        while len(texts) < wanted:
            numbers = range(len(texts), min(len(texts) + EMBEDDED_AT_ONCE, wanted))
            for number, drafts in zip(numbers, _drafts(job, numbers, attempt=0), strict=True):
                texts.append(_usable(job, number, drafts, texts))
                value = {"text": texts[-1], "topic": _embedded_request(job, number)[1]}
                store.put(*_prompt_item(job, number), value)
                bar.update()
    return [Prompt(_prompt_id(job, i), text) for i, text in enumerate(texts)]


def _drafts(job: Job, numbers: Sequence[int], attempt: int) -> list[list[str]]:
    """``EMBEDDED_DRAFTS`` first sentences for each prompt number, all written side by side."""
    requests = [
        replace(request, seed=job.seed(request.seed, attempt, i))
        for request in (_embedded_request(job, number)[0] for number in numbers)
        for i in range(EMBEDDED_DRAFTS)
    ]
    answers = dict(job.llm.complete(requests))
    sentences = [_first_sentence(answers[i].text) for i in range(len(requests))]
    return [sentences[i : i + EMBEDDED_DRAFTS] for i in range(0, len(sentences), EMBEDDED_DRAFTS)]


def _usable(job: Job, number: int, drafts: Sequence[str], known: Sequence[str]) -> str:
    """The first draft on its topic that is unlike the earlier prompts; where there is none, more are asked for."""
    topic = _embedded_request(job, number)[1]
    for attempt in range(1, MAX_BARREN_REQUESTS + 1):
        for text in _fresh((draft for draft in drafts if _on_topic(draft, topic)), known):
            return text
        drafts = _drafts(job, [number], attempt)[0]
    raise MissingError(
        f"The embedded model found no new request about {topic!r} (prompt {number + 1}); what it wrote is kept. "
        f"Run again with --num_prompts {max(5, number)}."
    )


def _first_sentence(text: str) -> str:
    match = re.match(r"[^.?!\n]{12,220}[.?!]", text)
    return match.group(0) if match else ""


def _on_topic(sentence: str, topic: str) -> bool:
    """At least half of the topic's content words occur in it, compared by their first five letters."""
    stems = {word[:5] for word in _words(topic) if len(word) > 3}
    found = {word[:5] for word in _words(sentence)}
    return bool(sentence) and len(stems & found) * 2 >= len(stems)


# ── Stage 2: responses ───────────────────────────────────────────────────────────────────────────────────


def response_tasks(job: Job, prompts: Sequence[Prompt]) -> list[Task]:
    """All prompts of one contestant before the next contestant: a reload costs more than any answer."""
    return [
        make_task(
            job,
            f"{prompt.id}/{model}",
            Request(
                model=contestant.ollama_tag or model,
                prompt=prompt.text,
                system=contestant.system or None,
                opening=contestant.opening,
                temperature=job.params.response_temperature,
                num_predict=job.params.num_predict,
                seed=job.seed("response", prompt.id, model),
                label=f"{prompt.id} answered by {model}",
            ),
        )
        for model, contestant in job.contestants.items()
        for prompt in prompts
    ]


def collect_responses(job: Job, prompts: Sequence[Prompt]) -> list[Response]:
    """Every contestant's response to every prompt."""

    def value(task: Task, completion: Any) -> dict[str, Any]:
        prompt_id, model = task.key.split("/", 1)
        return {
            "prompt_id": prompt_id,
            "model": model,
            "text": completion.text,
            "tokens": completion.tokens,
            "seconds": round(completion.seconds, 3),
            "truncated": completion.truncated,
        }

    with job.store(config.RESPONSES_FILE, "responses") as store:
        return [Response(**v) for v in answer(job, store, response_tasks(job, prompts), value, "responses")]
