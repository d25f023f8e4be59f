"""Judging by asking: every pair of responses in both orders, and rankings of all responses to one prompt.

A judge never sees which model wrote what. From any judgements, also those by ``likelihood``: preferences and the true
ranking of each prompt.
"""

import itertools
import logging
import math
import random
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from statistics import fmean
from string import ascii_uppercase
from typing import Any, Literal

from pydantic import BaseModel, create_model, field_validator

import config
from core.files import fingerprint
from core.records import GroundTruth, Preference, Prompt, Response
from llm.interface import Choice, Request, estimate_tokens, shorten
from stages.reads import FIRST_LOOK, what_is_read
from stages.tasks import Job, Task, ask_missing, fill, load_template, log, make_task, records

# ── What a judge is shown ────────────────────────────────────────────────────────────────────────────────

PAIR_TEMPLATE = "preference_evaluation.txt"
LIST_TEMPLATE = "ground_truth_ranking.txt"
FORM = '{"choice": "A", "B" or "tie"}'
FORM_WITH_REASON = '{"choice": "A", "B" or "tie", "reason": "one short sentence"}'
JUDGE_NUM_PREDICT = 256  # one word and one short sentence, or a list of labels
VERDICT_NUM_PREDICT = 64  # one word, in JSON with blanks or a fence around it
SMALLEST = 1e-9  # of a label's share: items keep nine digits
# Of the chat templates of Llama, ChatML, Gemma, Mistral, DeepSeek and their kin: a server reads them as control tokens.
MARKER = re.compile(
    r"<(?=[|｜][^<>\n]{1,40}[|｜]>|/?(start_of_turn|end_of_turn|s|bos|eos|think|im_start|im_end)>|</?SYS>>)"
    r"|\[(?=/?(INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)


def room(job: Job, template: str, prompt: Prompt, responses: int) -> int:
    """Tokens for each of the responses that a judge is shown beside each other."""
    marks = 60 * responses  # the lines that begin and end a response, and one that says that it was cut
    around = estimate_tokens(template + prompt.text + job.persona.description) + marks
    context = min(job.params.num_ctx, job.judge_context or job.params.num_ctx)
    return max(64, (context - around - JUDGE_NUM_PREDICT) // responses)


def question(job: Job, template: str, prompt: Prompt, shown: Sequence[Response]) -> tuple[list[str], dict[str, object]]:
    """The responses as they are shown, and what else fills a template, the mark that delimits them among it.

    The mark is made of the prompt and the first response, so that questions with the same ones begin alike, which a
    server's prompt cache reads once; and no text holds it.
    """
    whole = [unmarked(r.text) for r in shown]
    marks = (fingerprint("mark", prompt.text, shown[0].text, *range(n))[:8] for n in itertools.count())
    mark = next(mark for mark in marks if not any(mark in text for text in [prompt.text, *whole]))
    tokens = room(job, template, prompt, len(shown))
    cut = f"\n--- response cut off here at its token limit {mark}"
    texts = [shorten(text, tokens) + cut * r.truncated for text, r in zip(whole, shown, strict=True)]
    about = {"title": job.persona.title, "description": job.persona.description, "prompt": unmarked(prompt.text)}
    return texts, {**about, "mark": mark}


def unmarked(text: str) -> str:
    """``text`` with a blank inside each chat marker: on a server ``<|im_end|>`` would end the judge's turn."""
    return MARKER.sub(lambda found: found.group() + " ", text)


def shortened(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], listed: Collection[str]) -> int:
    """Count the responses that the judge was not shown in full: in pairs or, where ``listed``, all together."""
    pair, whole = (load_template(name) for name in (PAIR_TEMPLATE, LIST_TEMPLATE))
    shown = {p.id: (whole, p, len(job.contestants)) if p.id in listed else (pair, p, 2) for p in prompts}
    return sum(estimate_tokens(unmarked(r.text)) > room(job, *shown[r.prompt_id]) for r in responses)


def with_markers(prompts: Sequence[Prompt], responses: Sequence[Response]) -> int:
    """Count the texts in which chat markers are broken."""
    return sum(MARKER.search(record.text) is not None for some in (prompts, responses) for record in some)


# ── Pairs ────────────────────────────────────────────────────────────────────────────────────────────────


def judgement(
    prompt_id: str, first: str, second: str, winner: str, probabilities: dict[str, float] | None = None, **_: Any
) -> Preference:
    """The judge's word on one pair, as it is kept: the ``winner`` by name or "tie", and the ``probabilities`` of "A"
    (``first``), "B" and "tie" where a server tells them. Where the word is not the likeliest label, since somebody
    edited it or a redraw said it, the word counts and not the probabilities."""
    words = {first: "A", second: "B", "tie": "tie"}
    if winner not in words:
        raise ValueError(f"winner is {winner!r}, neither {first}, {second} nor tie")
    outcome, odds = {"A": 1.0, "B": 0.0, "tie": 0.5}[words[winner]], None
    if probabilities and max(probabilities, key=lambda label: probabilities[label]) == words[winner]:
        a, b = (max(probabilities.get(label, 0.0), SMALLEST) for label in "AB")
        odds = math.log(a / b)
    return Preference(prompt_id, first, second, outcome, log_odds=odds)


def pair_tasks(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Task]:
    """One task for each ordered pair of contestants and each prompt, in the order in which neighbours share the
    longest beginning.

    With ``judge_reasons`` auto the first is asked without a reason, and so are all others where its answer, once it is
    kept, came with probabilities: then a reason is not needed to trust a verdict, and takes most of its time.
    """
    kept = job.kept(config.PREFERENCES_FILE)
    template, given = load_template(PAIR_TEMPLATE), {(r.prompt_id, r.model): r for r in responses}
    reasons, tasks = job.params.judge_reasons == "on", list[Task]()
    for prompt, (first, second) in itertools.product(prompts, list(itertools.permutations(job.contestants, 2))):
        shown = [given[prompt.id, first], given[prompt.id, second]]
        tasks.append(_pair_task(job, template, prompt, shown, reason=reasons))
        if job.params.judge_reasons == "auto" and len(tasks) == 1:
            tried, told = kept.get(tasks[0].id), _pair_task(job, template, prompt, shown, reason=True)
            if tried is None and told.id in kept:  # the first one of a run with other contestants was tried
                tasks = [told]
            reasons = tried is None or "probabilities" not in tried["value"]
    return tasks


def _pair_task(job: Job, template: str, prompt: Prompt, shown: Sequence[Response], *, reason: bool) -> Task:
    (response_a, response_b), values = question(job, template, prompt, shown)
    first, second = (r.model for r in shown)
    form = FORM_WITH_REASON if reason else FORM
    asked = Choice(
        model=job.judge,
        prompt=fill(template, response_a=response_a, response_b=response_b, form=form, **values),
        options=("A", "B", "tie"),
        reason=reason,
        temperature=job.params.judge_temperature,
        num_predict=JUDGE_NUM_PREDICT if reason else VERDICT_NUM_PREDICT,
        seed=job.seed("judge", prompt.id, first, second),
        label=f"{prompt.id}: {first} against {second}",
    )
    key, names = f"{prompt.id}/{first} vs {second}", {"judge": job.judge}
    return make_task(job, key, asked, names, prompt_id=prompt.id, first=first, second=second)


def _pair_value(task: Task, decision: Any) -> dict[str, Any]:
    names = {"A": task.about["first"], "B": task.about["second"], "tie": "tie"}
    said = {"winner": names[decision.winner], "reason": decision.reason, "seconds": round(decision.seconds, 3)}
    shares = {label: round(p, 9) for label, p in (decision.probabilities or {}).items()}
    return {**said, "probabilities": shares} if shares else said


def judge_pairs(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Preference]:
    """Every pair of responses to every prompt, judged as the persona would, in both orders; a pair with one of them
    missing is left out, since one order alone carries the judge's liking for a place.

    The first answer shows whether probabilities come, the prompts that make the first ``FIRST_LOOK`` pairs what the
    judge reads: both are said while there is a choice to go on.
    """
    file, tasks = config.PREFERENCES_FILE, pair_tasks(job, prompts, responses)
    each = math.perm(len(job.contestants), 2)
    look = -(-2 * FIRST_LOOK // each) * each
    if ask_missing(job, file, tasks, _pair_value, first=1):
        tasks = pair_tasks(job, prompts, responses)
        if any(first.log_odds is None for first in records(job, file, tasks[:1], judgement)):
            log.info("The judge %s gives words alone, no probabilities: Ollama gives those since 0.12.11.", job.judge)
    if look < len(tasks) and ask_missing(job, file, tasks, _pair_value, first=look):
        found = what_is_read(records(job, file, tasks[:look], judgement), responses)
        if found["reads"]:
            level = logging.INFO if found["reads"] == "answers" else logging.WARNING
            log.log(level, "After %d pairs: %s Ctrl-C ends the run here.", look // 2, found["sentence"])
    ask_missing(job, file, tasks, _pair_value)
    judgements = records(job, file, tasks, judgement)
    judged = {(j.prompt_id, j.model_a, j.model_b) for j in judgements}
    return [j for j in judgements if (j.prompt_id, j.model_b, j.model_a) in judged]


# ── Rankings of a list ───────────────────────────────────────────────────────────────────────────────────

LABELS = [*ascii_uppercase, *map("".join, itertools.product(ascii_uppercase, repeat=2))]


def ranking_schema(labels: Sequence[str]) -> type[BaseModel]:
    """{"ranking": [label, …]}: every label exactly once, as an enum in the order shown."""

    def complete(ranking: list[str]) -> list[str]:
        if sorted(ranking) != sorted(labels):
            raise ValueError(f"each of {', '.join(labels)} must occur exactly once")
        return ranking

    return create_model(
        "Ranking",
        ranking=(list[Literal[tuple(labels)]], ...),  # type: ignore[arg-type,misc]
        __validators__={"complete": field_validator("ranking")(complete)},
    )


def list_tasks(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Task]:
    """One task for each prompt and each of the ``listwise_shuffles``: all responses under neutral labels."""
    template, given = load_template(LIST_TEMPLATE), {(r.prompt_id, r.model): r for r in responses}
    tasks = []
    for prompt, shuffle in itertools.product(prompts, range(job.params.listwise_shuffles)):
        order = list(job.contestants)
        random.Random(job.seed("shuffle", prompt.id, shuffle)).shuffle(order)  # noqa: S311
        shown = [given[prompt.id, model] for model in order]
        texts, values = question(job, template, prompt, shown)
        mark = values["mark"]
        blocks = [
            f"--- response {label} begins {mark}\n{text}\n--- response {label} ends {mark}"
            for label, text in zip(LABELS, texts, strict=False)
        ]
        asked = Request(
            model=job.judge,
            prompt=fill(template, responses="\n\n".join(blocks), count=len(order), **values),
            schema=ranking_schema(LABELS[: len(order)]),
            temperature=job.params.judge_temperature,
            num_predict=JUDGE_NUM_PREDICT,
            seed=job.seed("listwise", prompt.id, shuffle),
            label=f"{prompt.id}: ranking {shuffle + 1}",
        )
        key, names = f"{prompt.id}/shuffle {shuffle + 1}", {"judge": job.judge}
        tasks.append(make_task(job, key, asked, names, prompt_id=prompt.id, shown=order))
    return tasks


def _list_value(task: Task, answer: Any) -> dict[str, Any]:
    return {"ranking": [task.about["shown"][LABELS.index(label)] for label in answer.parsed.ranking]}


def _order(prompt_id: str, shown: list[str], ranking: list[str], **_: Any) -> tuple[str, list[str]]:
    if sorted(ranking) != sorted(shown):
        raise ValueError(f"ranking must hold each of {', '.join(shown)} once")
    return prompt_id, ranking


def rank_listwise(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> tuple[list[GroundTruth], int]:
    """Each prompt's contestants by their mean place over ``listwise_shuffles`` orders of showing, of which at least
    half must have been answered; and how many orders of all prompts were left out."""
    file, tasks = config.GROUND_TRUTH_FILE, list_tasks(job, prompts, responses)
    ask_missing(job, file, tasks, _list_value)
    orders: dict[str, list[list[str]]] = defaultdict(list)
    for prompt_id, ranking in records(job, file, tasks, _order):
        orders[prompt_id].append(ranking)
    truths = [
        GroundTruth(prompt_id, {m: -fmean(order.index(m) for order in given) for m in job.contestants})
        for prompt_id, given in orders.items()
        if 2 * len(given) >= job.params.listwise_shuffles
    ]
    return truths, len(tasks) - sum(map(len, orders.values()))


# ── From judgements to preferences and truth ─────────────────────────────────────────────────────────────


def preferences_from(judgements: Sequence[Preference]) -> list[Preference]:
    """One preference a pair: σ(s/T) where both orders have log-odds, s half their difference, in which the liking for
    a place cancels; else the mean outcome over the orders in which it was judged."""
    from scipy.special import expit

    pairs: dict[tuple[str, str, str], list[Preference]] = {}
    for j in judgements:
        key, turned = (j.prompt_id, j.model_a, j.model_b), (j.prompt_id, j.model_b, j.model_a)
        pairs.setdefault(turned if turned in pairs else key, []).append(j)
    preferences = []
    for (prompt_id, a, b), judged in pairs.items():
        outcome = fmean(j.outcome if j.model_a == a else 1.0 - j.outcome for j in judged)
        odds = [j.log_odds if j.model_a == a else -j.log_odds for j in judged if j.log_odds is not None]
        if len(odds) == 2:
            outcome = float(expit(fmean(odds) / config.JUDGE_TEMPERATURE))
        preferences.append(Preference(prompt_id, a, b, outcome))
    return preferences


def round_robin_truths(preferences: Sequence[Preference], contestants: int) -> list[GroundTruth]:
    """Each prompt's contestants by their mean outcome over all their pairs (Borda's count of a round robin).

    A prompt has no truth where one of so many ``contestants`` met more than one opponent too few.
    """
    outcomes: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for p in preferences:
        outcomes[p.prompt_id][p.model_a].append(p.outcome)
        outcomes[p.prompt_id][p.model_b].append(1.0 - p.outcome)
    return [
        GroundTruth(prompt_id, {m: round(sum(values) / len(values), 6) for m, values in by_model.items()})
        for prompt_id, by_model in outcomes.items()
        if len(by_model) == contestants and min(map(len, by_model.values())) >= max(1, contestants - 2)
    ]
