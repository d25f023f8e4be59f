"""Prompts of a persona, and every contestant's response to each of them.

prompts = generate_prompts(job)
responses = collect_responses(job, prompts)
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from pydantic import BaseModel

import config
from core.clock import bar
from core.errors import MissingError
from core.records import Prompt, Response
from llm.interface import LeftOut, Request
from stages import likelihood, tasks
from stages.tasks import Job, Task, fill, load_template, make_task, records

# ── Prompts ──────────────────────────────────────────────────────────────────────────────────────────────


class PromptList(BaseModel):
    """What the prompt writer answers with."""  # the schema sent holds this line: another one asks another question

    prompts: list[str]


MAX_BARREN_REQUESTS = 5
FEWEST_WORDS = 4


def generate_prompts(job: Job) -> list[Prompt]:
    """``num_prompts`` distinct prompts of the persona, or the user's own. Raises MissingError where the writer can't
    find as many."""
    if job.prompts:
        return list(job.prompts)
    if job.llm.weighs_options:
        wanted = likelihood.prompt_tasks(job)
        known = [written.text for written in records(job, config.PROMPTS_FILE, wanted, Prompt)]
        tasks.ask_missing(job, config.PROMPTS_FILE, wanted, partial(likelihood.prompt_value, job, known))
    else:
        # what all requests share, the template and the persona; the earlier prompts that a writer is shown only steer
        basis = Request(
            model=job.judge,
            prompt=load_template("prompt_generation.txt"),
            system=f"{job.persona.title}. {job.persona.description} {'; '.join(job.persona.topics)}",
            temperature=job.params.prompt_temperature,
            seed=job.params.random_seed,
        )
        wanted = [make_task(job, key, basis, {"judge": job.judge}, id=key) for key in job.prompt_ids]
        if not job.silent:
            _write_missing(job, basis, wanted)
    return records(job, config.PROMPTS_FILE, wanted, Prompt)


def _write_missing(job: Job, basis: Request, wanted: Sequence[Task]) -> None:
    """Ask for the prompts that are not written yet, in batches that are shown the ones before, and keep each at once.

    Requests that brought no prompt are counted in an item of their own, so that the next run draws others.
    """
    names, in_a_row = {"judge": job.judge}, 0
    barren = make_task(job, "requests that brought no new prompt", basis, names)
    known = [written.text for written in records(job, config.PROMPTS_FILE, wanted, Prompt)]
    with job.store(config.PROMPTS_FILE) as store, bar(None, len(wanted) - len(known), "prompts") as done:
        missing = [number for number, task in enumerate(wanted) if store.get(*task.id) is None]
        if not missing:
            tasks.log.info("Using cached prompts for persona: %s", job.name)
        while missing:
            attempt = store.get(*barren.id) or 0
            request = _request(job, basis, missing[: job.params.prompts_per_request], known, attempt)
            ((_, completion),) = job.llm.complete([request])
            written = [] if isinstance(completion, LeftOut) else completion.parsed.prompts  # type: ignore[union-attr]
            # small writers copy: a line of the template, the form of the answer ("first request"), a topic as it stands
            whole = (t for t in written if len(t.split()) >= FEWEST_WORDS and t not in job.persona.topics)
            fresh = dict(zip(missing, tasks.unlike(whole, [*known, *basis.prompt.splitlines()]), strict=False))
            for number, text in fresh.items():
                store.put(*wanted[number].id, {**wanted[number].about, "text": text}, **names)
            done.update(len(fresh))
            missing, known = missing[len(fresh) :], [*known, *fresh.values()]
            in_a_row = 0 if fresh else in_a_row + 1
            if not fresh:
                store.put(*barren.id, attempt + 1, **names)
            if in_a_row == MAX_BARREN_REQUESTS:
                raise MissingError(
                    f"{job.judge} wrote only {len(known)} of {job.params.num_prompts} distinct prompts; they are kept. "
                    "Take another --judge, or prompts of your own (--prompts FILE)."
                )


def _request(job: Job, basis: Request, numbers: Sequence[int], known: Sequence[str], attempt: int) -> Request:
    """Ask for the prompts of these numbers, on topics of the persona and unlike the ``known`` ones."""
    persona, count = job.persona, len(numbers)
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
    tasks.ask_missing(job, file, wanted, _response_value, whole="prompt_id")
    return records(job, file, wanted, Response)


def response_tasks(job: Job, prompts: Sequence[Prompt]) -> list[Task]:
    """One task for each contestant and prompt: all prompts of one contestant before the next contestant, since a reload
    costs more than any answer."""
    written = () if job.prompts else set(job.prompt_ids)
    wanted = []
    for (model, contestant), prompt in product(job.contestants.items(), prompts):
        question = Request(
            model=model,
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
