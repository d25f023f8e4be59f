"""What fits into a judge's context: responses that are too long are cut visibly, and counted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from core.records import Prompt, Response
from llm.interface import estimate_tokens, fit
from stages.tasks import Job, load_template

JUDGE_NUM_PREDICT = 256  # one word and one short sentence
MARKS = 40  # tokens of the lines that begin and end a response


def shorten(texts: Sequence[str], share: int) -> list[str]:
    """Each text cut visibly in the middle to at most ``share`` tokens by estimate."""
    return [fit(text, share)[0] for text in texts]


def share(job: Job, template: str, prompt: Prompt, responses: int) -> int:
    """Tokens for each of the responses that a judge is shown beside each other."""
    around = estimate_tokens(template + prompt.text + job.persona.description) + MARKS * responses
    return max(64, (job.judge_tokens - around - JUDGE_NUM_PREDICT) // responses)


def shortened(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], listed: Collection[str] = ()) -> int:
    """How many responses the judge was not shown in full: in pairs or, for the prompts ``listed``, all together."""
    if job.llm.weighs_options:
        return 0
    pair, whole = (
        load_template(job.prompts_dir, f"{n}.txt") for n in ("preference_evaluation", "ground_truth_ranking")
    )
    shares = {
        p.id: share(job, whole, p, len(job.contestants)) if p.id in listed else share(job, pair, p, 2) for p in prompts
    }
    return sum(estimate_tokens(r.text) > shares[r.prompt_id] for r in responses)
