"""Prompts of a persona, and every contestant's response to each of them.

prompts = generate_prompts(job)
responses = collect_responses(job, prompts)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict

import config
from core.clock import bar
from core.errors import MissingError
from core.records import Prompt, Response
from core.store import Item
from llm.interface import LeftOut, Request
from stages import likelihood, tasks
from stages.tasks import Job, Task, fill, load_template, make_task, records

# ── Prompts ──────────────────────────────────────────────────────────────────────────────────────────────


class PromptList(BaseModel):
    """What the prompt writer answers with."""  # the schema sent holds this line: another one asks another question

    model_config = ConfigDict(extra="ignore")
    prompts: list[str]


MAX_BARREN_REQUESTS = 5
FEWEST_WORDS = 4


def generate_prompts(job: Job) -> list[Prompt]:
    """``num_prompts`` distinct prompts of the persona, or the user's own. Raises MissingError where the writer can't
    find as many."""
    if job.prompts:
        return list(job.prompts)
    wanted = _prompt_tasks(job)
    if not job.silent:
        _write_missing(job, wanted)
    return records(job, config.PROMPTS_FILE, wanted, Prompt)


def _prompt_tasks(job: Job) -> list[Task]:
    """The item of every prompt. The earlier prompts that a writer is shown only steer: they are not in its hash."""
    tasks = []
    for number, key in enumerate(job.prompt_ids):
        if job.llm.weighs_options:
            asked, names = likelihood.prompt_request(job, number), {"topic": likelihood.topic_of(job, number)}
        else:
            asked, names = _basis(job), {"judge": job.judge}
        tasks.append(make_task(job, key, asked, names, id=key))
    return tasks


def _write_missing(job: Job, wanted: Sequence[Task]) -> None:
    """Ask for the prompts that are not written yet and keep each batch at once."""
    write = likelihood.write_prompts if job.llm.weighs_options else _write_prompts
    with job.store(config.PROMPTS_FILE) as store:
        missing = [number for number, task in enumerate(wanted) if store.get(*task.id) is None]
        if not missing:
            tasks.log.info("Using cached prompts for persona: %s", job.name)
        known = [written.text for written in records(job, config.PROMPTS_FILE, wanted, Prompt)]
        with bar(None, len(missing), "prompts") as done:
            for batch in write(job, missing, known):
                store.put_many(Item(*wanted[n].id, wanted[n].names, {"text": text}) for n, text in batch.items())
                if not batch:
                    barren = _barren(job)
                    store.put(*barren.id, (store.get(*barren.id) or 0) + 1, **barren.names)
                done.update(len(batch))


def _basis(job: Job) -> Request:
    """The part that all requests for prompts share: the template and the persona."""
    persona = job.persona
    return Request(
        model=job.judge,
        prompt=load_template(job.prompts_dir, "prompt_generation.txt"),
        system=f"{persona.title}. {persona.description} {'; '.join(persona.topics)}",
        temperature=job.params.prompt_temperature,
        seed=job.params.random_seed,
    )


def _barren(job: Job) -> Task:
    """The item that counts requests that brought no prompt, so that the next run draws others."""
    return make_task(job, "requests that brought no new prompt", _basis(job), {"judge": job.judge})


def _write_prompts(job: Job, numbers: Sequence[int], known: Sequence[str]) -> Iterator[dict[int, str]]:
    """The texts of these prompts, asked for in batches, each shown the ``known`` ones."""
    earlier = tried.value if (tried := job.kept(config.PROMPTS_FILE).get(_barren(job).id)) else 0
    barren = 0  # requests in a row that brought nothing new
    while numbers:
        request = prompt_request(job, numbers[: job.params.prompts_per_request], known, attempt=earlier + barren)
        ((_, completion),) = tasks.answers_to(job, [request], "prompts")
        written = [] if isinstance(completion, LeftOut) else completion.parsed.prompts
        # small writers copy: a line of the template, the form of the answer ("first request"), a topic as it stands
        whole = (t for t in written if len(t.split()) >= FEWEST_WORDS and t not in job.persona.topics)
        fresh = dict(zip(numbers, tasks.unlike(whole, [*known, *_basis(job).prompt.splitlines()]), strict=False))
        yield fresh
        barren = 0 if fresh else barren + 1
        if barren == MAX_BARREN_REQUESTS:
            raise MissingError(
                f"{job.judge} wrote only {len(known)} of {job.params.num_prompts} distinct prompts; they are kept. "
                "Take another --judge, or prompts of your own (--prompts FILE)."
            )
        numbers, known = numbers[len(fresh) :], [*known, *fresh.values()]


def prompt_request(job: Job, numbers: Sequence[int], known: Sequence[str], attempt: int = 0) -> Request:
    """Ask for the prompts of these numbers, on topics of the persona and unlike the ``known`` ones."""
    persona, basis, count = job.persona, _basis(job), len(numbers)
    topics = [persona.topics[(numbers[0] + attempt + i) % len(persona.topics)] for i in range(count)]
    prompt = fill(
        basis.prompt,
        title=persona.title,
        description=persona.description,
        count=count,
        topics="\n".join(f"- {topic}" for topic in topics),
        earlier="\n".join(f"- {text}" for text in known[-40:]) or "- (none yet)",
    )
    return replace(
        basis,
        prompt=prompt,
        system=None,
        schema=PromptList,
        num_predict=200 * count + 200,
        seed=job.seed("prompts", numbers[0], attempt),
        label=f"prompts {numbers[0] + 1} to {numbers[0] + count} of {job.name}",
    )


# ── Responses ────────────────────────────────────────────────────────────────────────────────────────────


def collect_responses(job: Job, prompts: Sequence[Prompt]) -> list[Response]:
    """Every contestant's response to every prompt; those that are there already are taken as they are. Where one is
    left out, the others' responses to that prompt are still here."""
    if job.responses:
        given = {(r.prompt_id, r.model): r for r in job.responses}
        return [given[prompt.id, model] for model in job.contestants for prompt in prompts]
    file, wanted = config.RESPONSES_FILE, response_tasks(job, prompts)
    tasks.ask_missing(job, file, wanted, _response_value, part=lambda task: str(task.about["prompt_id"]))
    return records(job, file, wanted, Response)


def response_tasks(job: Job, prompts: Sequence[Prompt]) -> list[Task]:
    """One task for each contestant and prompt: all prompts of one contestant before the next contestant, since a reload
    costs more than any answer."""
    written = () if job.prompts else set(job.prompt_ids)
    wanted = []
    for (model, contestant), prompt in product(job.contestants.items(), prompts):
        question = Request(
            model=contestant.ollama_tag or model,
            prompt=prompt.text,
            system=contestant.system or None,
            opening=contestant.opening,
            temperature=job.params.response_temperature,
            num_predict=job.params.num_predict,
            seed=job.seed("response", prompt.id, model),
            label=f"{prompt.id} answered by {model}",
        )
        names = {} if prompt.id in written else {"question": prompt.text}  # it stands in no file of prompts
        wanted.append(make_task(job, f"{prompt.id}/{model}", question, names, prompt_id=prompt.id, model=model))
    return wanted


def _response_value(_: Task, completion: Any) -> dict[str, Any]:
    said = {name: getattr(completion, name) for name in ("text", "tokens", "truncated", "side_by_side")}
    return said | {"seconds": round(completion.seconds, 3)}
