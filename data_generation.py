"""The data: prompts → responses → judgements → truths, each stage reading the records of the stage before it.

data = make_data(job, Clock())

A stage turns what it wants to know into tasks, looks each up in the cache by the hash of exactly what it would be made
from, asks a language model for the rest, and keeps every answer at once (``stages.tasks``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ConfigDict

import config
from core.clock import Clock
from core.errors import MissingError
from core.records import GroundTruth, Judgement, Preference, Prompt, Response
from core.store import Item
from llm.interface import LeftOut, Request
from stages import likelihood
from stages.judging import (
    judge_pairs,
    judge_rounds,
    preferences_from,
    rank_listwise,
    round_robin_truths,
    shortened,
)
from stages.tasks import (
    Job,
    Task,
    answer,
    ask,
    fill,
    load_template,
    make_task,
    most_left_out,
    progress_bar,
    read_value,
    unlike,
)  # fmt: skip


@dataclass(frozen=True)
class Data:
    """What the language models were asked for. Splits and orders are none of its business."""

    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    judgements: tuple[Judgement, ...]
    preferences: tuple[Preference, ...]
    """One for each pair of each prompt, in the order of the prompts."""
    truths: tuple[GroundTruth, ...]
    """Round-robin truth of every prompt."""
    listwise: tuple[GroundTruth, ...] = ()
    """Truth of the prompts ``listed``, ranked as lists."""
    rounds: tuple[tuple[GroundTruth, ...], ...] = ()
    """Their round-robin truths in two more rounds of judging, for the noise ceiling."""
    readers: tuple[Preference, ...] = ()
    """What everyone else prefers, where the judge weighs texts by their likelihood."""
    planned: tuple[str, ...] = ()
    """Ids of all prompts, also of those left out: splits are drawn over them, so that a gap moves no other prompt."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many {prompts, responses, pairs, rankings} have no usable answer, in the words of the results."""
    shortened: int = 0
    """Responses that the judge was not shown in full."""
    server_cuts: int = 0
    """Questions that the server cut itself."""


def make_data(job: Job, clock: Clock, listed: Collection[str] = ()) -> Data:
    """Everything that is asked for one persona.

    ``listed``: ids of the prompts that are also ranked as a list (``params.ground_truth`` listwise or both: see
    ``evidence.experiment.listed``) and judged in two more rounds (both).
    """
    truth_by = job.params.ground_truth
    with clock.stage("prompts"):
        planned = generate_prompts(job)
    with clock.stage("responses"):
        answered = collect_responses(job, planned)
        prompts, responses = _whole(job, planned, answered)
    readers: list[Preference] = []
    with clock.stage("preferences"):
        if job.llm.weighs_options:
            readings = likelihood.read_responses(job, prompts, responses)
            judgements = likelihood.judge_by_likelihood(job, prompts, readings)
            readers = likelihood.reader_preferences(job, prompts, responses, readings)
        else:
            judgements = judge_pairs(job, prompts, responses)
    contestants = len(job.contestants)
    preferences = preferences_from(judgements)
    left_out = {
        "responses": len(planned) * contestants - len(answered),
        "pairs": len(prompts) * math.comb(contestants, 2) - len(preferences),
    }
    truths = round_robin_truths(preferences, contestants)
    true = {truth.prompt_id for truth in truths}  # a prompt without a truth tests nothing: it is left out whole
    prompts, responses = [p for p in prompts if p.id in true], [r for r in responses if r.prompt_id in true]
    left_out["prompts"] = _left_out(job, len(planned), len(prompts))
    chosen = [p for p in prompts if p.id in listed and truth_by != "round_robin"]
    with clock.stage("ground_truth"):
        _print_truths(job, truths)
        listwise, left_out["rankings"] = rank_listwise(job, chosen, responses) if chosen else ([], 0)
        rounds = judge_rounds(job, chosen, responses) if chosen and truth_by == "both" else []
    job.llm.unload()  # the reward base needs the memory
    return Data(
        prompts=tuple(prompts),
        responses=tuple(responses),
        judgements=tuple(j for j in judgements if j.prompt_id in true),
        preferences=tuple(p for p in preferences if p.prompt_id in true),
        truths=tuple(truths),
        listwise=tuple(listwise),
        rounds=tuple(tuple(round_robin_truths(preferences_from(judged), contestants)) for judged in rounds),
        readers=tuple(readers),
        planned=tuple(p.id for p in planned),
        left_out=left_out,
        shortened=0 if job.llm.weighs_options else shortened(job, prompts, responses, {p.id for p in chosen}),
        server_cuts=getattr(job.llm, "server_cuts", 0),  # only a server cuts
    )


def _whole(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> tuple[list[Prompt], list[Response]]:
    """The prompts that every contestant answered, and their responses."""
    answered = {(r.prompt_id, r.model) for r in responses}
    whole = [p for p in prompts if all((p.id, model) in answered for model in job.contestants)]
    ids = {p.id for p in whole}
    return whole, [r for r in responses if r.prompt_id in ids]


def _left_out(job: Job, planned: int, left: int) -> int:
    """How many prompts are left out. Raises MissingError where that are too many."""
    if planned - left > most_left_out(planned):
        raise MissingError(
            f"{planned - left} of {planned} prompts are left out, where at most {most_left_out(planned)} may be: "
            f"{job.judge} gave too few usable judgements. Everything is kept. Take another --judge, or ask it again "
            "with --refresh preferences."
        )
    return planned - left


# ── Prompts ──────────────────────────────────────────────────────────────────────────────────────────────


class PromptList(BaseModel):
    """What the prompt writer answers with."""

    model_config = ConfigDict(extra="ignore")
    prompts: list[str]


@dataclass(frozen=True, slots=True)
class WrittenPrompt:
    """What is kept of a prompt."""

    text: str


MAX_BARREN_REQUESTS = 5


def generate_prompts(job: Job) -> list[Prompt]:
    """``num_prompts`` distinct prompts of the persona, or the user's own. Raises MissingError where the writer can't
    find as many."""
    if job.prompts:
        return list(job.prompts)
    tasks = [_prompt_task(job, number) for number in range(job.params.num_prompts)]
    write = likelihood.write_prompts if job.llm.weighs_options else _write_prompts
    with job.store(config.PROMPTS_FILE, "prompts") as store:
        kept = [store.get(task.key, task.made_from) for task in tasks]
        texts = {n: read_value(store, tasks[n].key, v, WrittenPrompt).text for n, v in enumerate(kept) if v is not None}
        missing = [number for number in range(len(tasks)) if number not in texts]
        if not missing:
            job.say("Using cached prompts for persona: %s", job.name)
        with progress_bar(job, len(missing), "prompts") as bar:
            for written in write(job, missing, list(texts.values())):
                numbers, missing = missing[: len(written)], missing[len(written) :]
                texts.update(zip(numbers, written, strict=True))
                store.put_many(
                    Item(tasks[n].key, tasks[n].made_from, tasks[n].names, {"text": texts[n]}) for n in numbers
                )
                bar.update(len(written))
    return [Prompt(task.key, texts[number]) for number, task in enumerate(tasks)]


def _prompt_task(job: Job, number: int) -> Task:
    """The item of one prompt. The earlier prompts that a writer is shown only steer: they are not in its hash."""
    if job.llm.weighs_options:
        question, names = likelihood.prompt_request(job, number), {"topic": likelihood.topic_of(job, number)}
    else:
        question, names = _basis(job), {"judge": job.judge}
    return make_task(job, job.prompt_ids[number], question, names=names)


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


def _write_prompts(job: Job, numbers: Sequence[int], known: Sequence[str]) -> Iterator[list[str]]:
    """The texts of these prompts, asked for in batches, each shown the ``known`` ones."""
    barren = 0  # requests in a row that brought nothing new
    while numbers:
        request = _prompt_request(job, numbers[: job.params.prompts_per_request], known, attempt=barren)
        ((_, completion),) = ask(job, [request], "prompts")
        written = [] if isinstance(completion, LeftOut) else completion.parsed.prompts
        fresh = list(unlike(written, known))[: len(numbers)]
        barren = 0 if fresh else barren + 1
        if barren == MAX_BARREN_REQUESTS:
            raise MissingError(
                f"{job.judge} wrote only {len(known)} of {job.params.num_prompts} distinct prompts; they are kept. "
                f"Run again with --num_prompts {max(5, len(known))}, or with another --judge."
            )
        yield fresh
        numbers, known = numbers[len(fresh) :], [*known, *fresh]


def _prompt_request(job: Job, numbers: Sequence[int], known: Sequence[str], attempt: int) -> Request:
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
    """Every contestant's response to every prompt: all prompts of one contestant before the next contestant, since a
    reload costs more than any answer. Those that are there already are taken as they are; where one is left out, the
    others' responses to that prompt are still here."""
    if job.responses:
        given = {(r.prompt_id, r.model): r for r in job.responses}
        return [given[prompt.id, model] for model in job.contestants for prompt in prompts]
    written = () if job.prompts else set(job.prompt_ids)
    tasks = []
    for model, contestant in job.contestants.items():
        for prompt in prompts:
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
            about = {"prompt_id": prompt.id, "model": model}
            tasks.append(make_task(job, f"{prompt.id}/{model}", question, about=about, names=names))

    def value(_: Task, completion: Any) -> dict[str, Any]:
        return {
            "text": completion.text,
            "tokens": completion.tokens,
            "seconds": round(completion.seconds, 3),
            "truncated": completion.truncated,
        }

    with job.store(config.RESPONSES_FILE, "responses") as store:
        return answer(job, store, tasks, value, Response, "responses", lambda task: task.about["prompt_id"])


# ── Truths ───────────────────────────────────────────────────────────────────────────────────────────────


def _print_truths(job: Job, truths: Sequence[GroundTruth]) -> None:
    """Round-robin truths follow from the preferences; they are printed out for people to read."""
    rows = {
        f"{t.prompt_id}/{t.method}": {
            "prompt_id": t.prompt_id,
            "ranking": list(t.ranking),
            "scores": dict(t.scores),
        }
        for t in truths
    }
    with job.store(config.GROUND_TRUTH_FILE, "ground_truth") as store:
        store.print_out(rows)


def rankings_by(
    reader: Job, jobs: Sequence[Job], data: Sequence[Data], prompt_ids: Collection[str]
) -> list[GroundTruth]:
    """How ``reader``'s persona ranks the responses to these prompts of all personas; ``data`` has one for each job.

    A judge that is asked judges every pair in both orders, as it does its own; kept among the reader's preferences.
    One that weighs reads each response once more; kept beside the reference readers' readings of it. The advantages
    are then the scores themselves: a round robin between them has the same order.
    """
    asked = [[p for p in one.prompts if p.id in prompt_ids] for one in data]
    if not reader.llm.weighs_options:
        responses = [response for one in data for response in one.responses]
        judgements = judge_pairs(reader, [p for prompts in asked for p in prompts], responses)
        return round_robin_truths(preferences_from(judgements), len(reader.contestants))
    truths = []
    for job, one, prompts in zip(jobs, data, asked, strict=True):
        advantage = likelihood.advantages(likelihood.read_responses(job, prompts, one.responses, persona=reader))
        truths += [GroundTruth(p.id, {m: advantage[p.id, m] for m in job.contestants}, "likelihood") for p in prompts]
    return truths
