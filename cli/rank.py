"""The question a person came with: which of my models should I use for this? And votes of one's own.

python main.py --persona coder --rank "How do I …?"      python main.py --rank - --json < prompts.txt
"""

from __future__ import annotations

import io
import logging
import statistics
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import config
from cli import learned
from cli.answer_page import Answer, Cost, Place, as_json, lines
from cli.flags import command_like
from core.errors import UsageError
from core.files import fingerprint
from core.records import Prompt
from report.answer import beats_chance

if TYPE_CHECKING:
    from base.features import Base
    from cli.backend import Backend
    from stages.tasks import Job

MATTER = ("backend", "models", "judge", "base_model", "cache_dir")  # flags that --rank needs as its run had them
EMBEDDED_SIZE = "135M"
SURE, LIKELY = 0.95, 0.5  # chances of the first one to be the best


# ── --rank ───────────────────────────────────────────────────────────────────────────────────────────────


def rank(args: Namespace, job: Job, backend: Backend) -> int:
    """Rank the contestants for ``args.rank`` (``-``: for each line of standard input) by what was learned.

    Raises what ``learned.load`` raises before anything is asked, and UsageError for an empty standard input.
    """
    base = None if args.base_model == "auto" else args.base_model
    if args.json:
        _notes_to_stderr()
    known = learned.load(job, base, learn_command(args))
    if not args.json:
        print(f"Answered by: {backend.label}")
        if (own := config.VOTES_DIR / config.VOTES_FILE.format(name=job.name)).is_file():
            like = command_like(["--persona", own.stem, "--rank", args.rank], args, ("base_model", "cache_dir"))
            print(f"Ranked for the simulated {job.name}. By your own votes: {like}")
    answered = 0
    held = cache(_open_base)  # for all prompts of standard input, but not on a GPU, whose memory the next answers need

    def open_base(name: str, kind: str) -> Base:
        return (held if kind == "cpu" else _open_base)(name, kind)

    for texts in _batches(args.rank):
        answers = _answers(args, job, known, texts, open_base)
        for text in texts:
            print(as_json(answers[text], job, known) if args.json else "\n".join(lines(answers[text], known)))
        sys.stdout.flush()
        answered += len(texts)
    if not answered:
        raise UsageError("--rank -: standard input held no prompt. Give one prompt a line.")
    return 0


def _notes_to_stderr() -> None:
    """Standard output is for the lines of JSON alone."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)


def _batches(asked: str) -> Iterator[list[str]]:
    """The prompts in groups that are asked together: typed ones one by one, else all, so that each model loads once."""
    if asked != "-":
        yield [_clean(asked)]
        return
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    texts = (_clean(line) for line in sys.stdin)
    if sys.stdin.isatty():
        print("One prompt a line; Ctrl-D ends it.", file=sys.stderr)
        yield from ([text] for text in texts if text)
        return
    given = [text for text in texts if text]
    if given:
        yield given


def _clean(text: str) -> str:
    """Without white space around it and without halves of characters, which no server takes."""
    return text.encode("utf-8", "replace").decode().strip()


def _answers(
    args: Namespace,
    job: Job,
    known: learned.Learned,
    texts: Sequence[str],
    open_base: Callable[[str, str], Base],
) -> dict[str, Answer]:
    """Each prompt's answer; responses and features are kept like all others of this persona."""
    from base.features import compute_features
    from data_generation import collect_responses

    # The id follows from the text, and the seeds of the answers from the id: the same prompt is asked once ever.
    ids = {text: f"asked-{fingerprint(text)}" for text in texts}
    prompts = [Prompt(prompt_id, text) for text, prompt_id in ids.items()]
    responses = collect_responses(job, prompts)
    job.llm.unload()
    features = compute_features(
        known.base, prompts, responses, cache_dir=job.cache_dir, name=job.name, device=args.device, open_base=open_base
    )
    reward, combined = known.over(features)
    costs = _costs(job)
    found = {}
    for prompt in prompts:
        of = {r.model: r for r in responses if r.prompt_id == prompt.id}
        rankings = {
            "elo_offset": places({model: known.elo.ratings[model] for model in of}),
            "reward_model": places(_above_mean(reward.scores(prompt.id))),
            "combined": places(_above_mean(combined.scores(prompt.id))),
        }
        chances = combined.best_chances(prompt.id)
        by = known.evidence["recommended"]
        best = rankings[by][0].model
        said = verdict(known.evidence, chances[best])
        found[prompt.text] = Answer(prompt.text, rankings, chances, by, said, of[best], costs)
    return found


def _open_base(name: str, kind: str) -> Base:
    from base import frozen

    return frozen.open_base(name, kind)


def _above_mean(scores: Mapping[str, float]) -> dict[str, float]:
    """Only differences of scores mean anything: a training may lift all of them by as much."""
    mean = statistics.fmean(scores.values())
    return {model: score - mean for model, score in scores.items()}


def places(scores: Mapping[str, float]) -> list[Place]:
    """Contestants best first, equal ones by name."""
    return [Place(model, scores[model]) for model in sorted(scores, key=lambda model: (-scores[model], model))]


def verdict(evidence: Mapping[str, Any], p_best: float) -> str:
    """``sure``, ``likely`` or ``open`` by the first one's chance to be the best; ``no evidence`` where the ranking was
    not surely better than chance on prompts that it had not been trained on."""
    around = evidence["cross_validated"][evidence["recommended"]]["ci95"]
    if not beats_chance(evidence["main_metric"], around):
        return "no evidence"
    return "sure" if p_best >= SURE else "likely" if p_best >= LIKELY else "open"


# ── Speed and size ───────────────────────────────────────────────────────────────────────────────────────


def _costs(job: Job) -> dict[str, Cost]:
    """Tokens a second over all kept responses of the persona, and what the server says of each model's size."""
    tokens, seconds = dict.fromkeys(job.contestants, 0), dict.fromkeys(job.contestants, 0.0)
    with job.store(config.RESPONSES_FILE, "responses", read_only=True) as store:
        for item in store.items():
            value = item.value
            if value["model"] in tokens and "tokens" in value:  # else it is left out
                tokens[value["model"]] += value["tokens"]
                seconds[value["model"]] += value["seconds"]
    known = _sizes(job)
    return {
        model: Cost(tokens[model] / seconds[model] if seconds[model] > 0 else None, *known[model])
        for model in job.contestants
    }


def sizes(job: Job) -> dict[str, str]:
    """{model: "8.0B"}, parameters of each contestant in its server's words, where they are known."""
    if job.llm.backend == "embedded":  # one model in several styles: its size tells none of them from another
        return {}
    return {model: parameters for model, (_, parameters) in _sizes(job).items() if parameters}


def _sizes(job: Job) -> dict[str, tuple[int | None, str | None]]:
    """Bytes and parameters of each contestant; unknown while its server is off."""
    from llm.addresses import find_tag
    from llm.ollama import OllamaModel

    if not isinstance(job.llm, OllamaModel):
        return dict.fromkeys(job.contestants, (None, EMBEDDED_SIZE if job.llm.weighs_options else None))
    installed = {}
    if job.llm.available():
        installed = job.llm.installed()
    found: dict[str, tuple[int | None, str | None]] = {}
    for model, contestant in job.contestants.items():
        tag = contestant.ollama_tag or model
        info = installed.get(find_tag(tag, installed) or "")
        found[model] = (info.size_bytes, info.parameter_size or None) if info else (None, None)
    return found


def learn_command(args: Namespace) -> str:
    """The run that makes what ``--rank`` needs, with those flags of this call that matter to it."""
    return command_like(["--persona", args.persona or config.DEFAULT_PERSONA], args, MATTER)


def command(args: Namespace, name: str) -> str:
    """The command that ranks the models for a prompt by what the run called ``name`` has learned."""
    own_file = args.persona not in (None, "all", *config.PERSONAS) and not args.preferences
    start = ["--persona", args.persona if own_file else name, "--rank", "PROMPT"]
    return command_like(start, args, ("cache_dir",) if args.preferences else MATTER)
