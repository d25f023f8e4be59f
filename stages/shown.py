"""What a judge is shown of the responses: delimited by a mark that no text holds, chat markers broken, cuts told."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence

from core.files import fingerprint
from core.records import Prompt, Response
from llm.interface import estimate_tokens, shorten
from stages.tasks import Job, load_template

PAIR_TEMPLATE = "preference_evaluation.txt"
LIST_TEMPLATE = "ground_truth_ranking.txt"
JUDGE_NUM_PREDICT = 256  # one word and one short sentence, or a list of labels
# Of the chat templates of Llama, ChatML, Gemma, Mistral, DeepSeek and their kin: a server reads them as control tokens.
MARKER = re.compile(
    r"<(?=[|｜][^<>\n]{1,40}[|｜]>|/?(start_of_turn|end_of_turn|s|bos|eos|think|im_start|im_end)>|</?SYS>>)"
    r"|\[(?=/?(INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)


def room(job: Job, template: str, prompt: Prompt, responses: int) -> int:
    """Tokens for each of the responses that a judge is shown beside each other."""
    marks = 60 * responses  # the lines that begin and end a response, and one that says that it was cut
    around = estimate_tokens(template + prompt.text + job.persona.description) + marks
    return max(64, (job.judge_tokens - around - JUDGE_NUM_PREDICT) // responses)


def question(job: Job, template: str, prompt: Prompt, shown: Sequence[Response]) -> tuple[list[str], dict[str, object]]:
    """The responses as they are shown, and what else fills a template, the mark that delimits them among it.

    The mark is made of the prompt and the first response, so that questions with the same ones begin alike, which a
    server's prompt cache reads once; and no text holds it.
    """
    whole = [unmarked(r.text) for r in shown]
    marks = (fingerprint("mark", prompt.text, shown[0].text, *range(n))[:8] for n in itertools.count())
    mark = next(mark for mark in marks if not any(mark in text for text in [prompt.text, *whole]))
    tokens = room(job, template, prompt, len(shown))
    texts = [shorten(text, tokens)[0] for text in whole]
    for i, r in enumerate(shown):
        if r.truncated:
            texts[i] += f"\n--- response cut off here at its token limit {mark}"
    persona = job.persona
    about = {"title": persona.title, "description": persona.description, "prompt": unmarked(prompt.text)}
    return texts, {**about, "mark": mark}


def unmarked(text: str) -> str:
    """``text`` with a blank inside each chat marker: on a server ``<|im_end|>`` would end the judge's turn."""
    return MARKER.sub(lambda found: found.group() + " ", text)


def shortened(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], listed: Collection[str]) -> int:
    """Count the responses that the judge was not shown in full: in pairs or, where ``listed``, all together."""
    pair, whole = (load_template(job.prompts_dir, name) for name in (PAIR_TEMPLATE, LIST_TEMPLATE))
    rooms = {
        p.id: room(job, whole, p, len(job.contestants)) if p.id in listed else room(job, pair, p, 2) for p in prompts
    }
    return sum(estimate_tokens(unmarked(r.text)) > rooms[r.prompt_id] for r in responses)


def with_markers(prompts: Sequence[Prompt], responses: Sequence[Response]) -> int:
    """Count the texts in which chat markers are broken."""
    texts = [*(p.text for p in prompts), *(r.text for r in responses)]
    return sum(MARKER.search(text) is not None for text in texts)
