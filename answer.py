"""The question a person came with: which of my models should I use for this? And votes of one's own.

python main.py --persona coder --rank "How do I …?"      python main.py --rank - --json < prompts.txt
python main.py --persona coder --vote
"""

from __future__ import annotations

import io
import json
import logging
import shlex
import statistics
import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
import learned
import wording
from errors import UsageError
from files import fingerprint
from records import Prompt, Response

if TYPE_CHECKING:
    from preflight import Backend
    from ranking import Ranker
    from stages import Setting

USER = "me"  # the name under which own votes are kept
EMBEDDED_SIZE = "135M"


@dataclass(frozen=True, slots=True)
class Place:
    """One contestant in one system's ranking."""

    model: str
    score: float
    """Elo points; or reward above the mean of the contestants on this prompt."""
    spread: float
    """Standard deviation of the score over the trainings of the cross-validation."""
    first: int
    """How many of these trainings put it first; a shared first place counts for each."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What using a contestant takes; None where it is not known."""

    tokens_per_second: float | None
    size_bytes: int | None
    parameter_size: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is said about one prompt."""

    prompt: str
    rankings: Mapping[str, Sequence[Place]]
    """By system, best first."""
    by: str
    """The system that chose the best response: the better one on prompts it had not seen."""
    best: Response
    costs: Mapping[str, Cost]


# ── --rank ───────────────────────────────────────────────────────────────────────────────────────────────


def rank(args: Namespace, setting: Setting, backend: Backend) -> int:
    """Rank the contestants for ``args.rank`` (``-``: for each line of standard input) by what was learned.

    Raises UsageError for an empty prompt, and what ``learned.load`` raises; both before anything is asked.
    """
    base = None if args.base_model == "auto" else args.base_model
    if args.rank != "-" and not args.rank.strip():
        raise UsageError('--rank "": there is no prompt. Write one between the quotes, or - to read standard input.')
    if args.json:
        _notes_to_stderr()
    known = learned.load(setting, base, learn_command(args))
    if not args.json:
        print(f"Answered by: {backend.label}")
    answered = 0
    for texts in _batches(args.rank):
        answers = _answers(args, setting, known, texts)
        for text in texts:
            print(as_json(answers[text], setting, known) if args.json else "\n".join(_lines(answers[text], known)))
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
    lines = (_clean(line) for line in sys.stdin)
    if sys.stdin.isatty():
        print("One prompt a line; Ctrl-D ends it.", file=sys.stderr)
        yield from ([line] for line in lines if line)
        return
    texts = [line for line in lines if line]
    if texts:
        yield texts


def _clean(text: str) -> str:
    """Without white space around it and without halves of characters, which no server takes."""
    return text.encode("utf-8", "replace").decode().strip()


def _answers(args: Namespace, setting: Setting, known: learned.Learned, texts: Sequence[str]) -> dict[str, Answer]:
    """Each prompt's answer; responses and features are kept like all others of this persona."""
    from data_generation import collect_responses
    from features import compute_features

    # The id follows from the text, and the seeds of the answers from the id: the same prompt is asked once ever.
    ids = {text: f"asked-{fingerprint(text)}" for text in texts}
    prompts = [Prompt(prompt_id, text) for text, prompt_id in ids.items()]
    responses = collect_responses(setting, prompts)
    features = compute_features(
        known.base, prompts, responses, cache_dir=setting.cache_dir, name=setting.name, device=args.device
    )
    reward, folds = known.rewards(features)
    costs = _costs(setting)
    found = {}
    for prompt in prompts:
        of = {r.model: r for r in responses if r.prompt_id == prompt.id}
        ratings = [{model: ratings[model] for model in of} for ratings in (known.elo.ratings, *known.fold_ratings)]
        rewards = [_above_mean(ranker, prompt.id) for ranker in (reward, *folds)]
        rankings = {"elo_offset": places(ratings[0], ratings[1:]), "reward_model": places(rewards[0], rewards[1:])}
        by = _better(known.evidence)
        found[prompt.text] = Answer(prompt.text, rankings, by, of[rankings[by][0].model], costs)
    return found


def _above_mean(ranker: Ranker, prompt_id: str) -> dict[str, float]:
    """Only differences of rewards mean anything: each training may lift all of them by as much."""
    scores = ranker.scores(prompt_id)
    mean = statistics.fmean(scores.values())
    return {model: score - mean for model, score in scores.items()}


def places(scores: Mapping[str, float], folds: Sequence[Mapping[str, float]]) -> list[Place]:
    """Contestants best first (equal ones by name), with how far ``folds`` (at least two) agree."""
    return [
        Place(
            model,
            scores[model],
            statistics.stdev(fold[model] for fold in folds),
            sum(fold[model] == max(fold.values()) for fold in folds),
        )
        for model in sorted(scores, key=lambda model: (-scores[model], model))
    ]


def _better(evidence: Mapping[str, Any]) -> str:
    """The system that ranked unseen prompts better; the reward model, which reads the responses, where none did."""
    tau = {system: evidence["kendall_tau"][system]["mean"] for system in wording.CONTENDERS}
    known = {system: value for system, value in tau.items() if wording.is_number(value)}
    return max(known, key=lambda system: (known[system], system == "reward_model"), default="reward_model")


# ── Speed and size ───────────────────────────────────────────────────────────────────────────────────────


def _costs(setting: Setting) -> dict[str, Cost]:
    """Tokens a second over all kept responses of the persona, and what the server says of each model's size."""
    tokens, seconds = dict.fromkeys(setting.contestants, 0), dict.fromkeys(setting.contestants, 0.0)
    with setting.store(config.RESPONSES_FILE, "responses", read_only=True) as store:
        for _, _, value in store.items():
            if value["model"] in tokens:
                tokens[value["model"]] += value["tokens"]
                seconds[value["model"]] += value["seconds"]
    sizes = _sizes(setting)
    return {
        model: Cost(tokens[model] / seconds[model] if seconds[model] > 0 else None, *sizes[model])
        for model in setting.contestants
    }


def _sizes(setting: Setting) -> dict[str, tuple[int | None, str | None]]:
    """Bytes and parameters of each contestant; unknown while its server is off."""
    from ollama_client import OllamaModel

    if not isinstance(setting.llm, OllamaModel):
        return dict.fromkeys(setting.contestants, (None, EMBEDDED_SIZE))
    installed = {}
    if setting.llm.available():
        installed = setting.llm.installed()
    found: dict[str, tuple[int | None, str | None]] = {}
    for model, contestant in setting.contestants.items():
        tag = contestant.ollama_tag or model
        info = installed.get(tag) or installed.get(f"{tag}:latest")
        found[model] = (info.size_bytes, info.parameter_size or None) if info else (None, None)
    return found


# ── What is shown ────────────────────────────────────────────────────────────────────────────────────────


def as_json(answer: Answer, setting: Setting, known: learned.Learned) -> str:
    """One line of JSON, ASCII throughout so that no terminal or pipe can spoil it."""
    document = {
        "schema_version": config.SCHEMA_VERSION,
        "prompt": answer.prompt,
        "persona": setting.name,
        "backend": setting.llm.backend,
        "base_model": known.base,
        **{system: [asdict(place) for place in ranking] for system, ranking in answer.rankings.items()},
        "folds": len(known.fold_ratings),
        "best": {
            "model": answer.best.model,
            "by": answer.by,
            "text": answer.best.text,
            "truncated": answer.best.truncated,
        },
        "models": {model: asdict(cost) for model, cost in answer.costs.items()},
        "evidence": dict(known.evidence),
        "shows_only_how_the_suite_works": setting.llm.backend == "embedded",
    }
    return json.dumps(document, allow_nan=False)


def _lines(answer: Answer, known: learned.Learned) -> list[str]:
    folds, width = len(known.fold_ratings), max(map(len, answer.costs))
    titles = {
        "reward_model": ("Reward model: for this prompt, from what each model answered", "reward", 2),
        "elo_offset": ("Elo offset: one ranking for all prompts", "rating", 0),
    }
    lines = ["", f"Prompt: {wording.plain(answer.prompt)}"]
    for system, (title, unit, digits) in titles.items():
        lines += ["", title, f"   {'':{width}}  {unit:>7}  ± folds  first in"]
        for number, place in enumerate(answer.rankings[system], start=1):
            score = wording.number(place.score, digits, signed=digits > 0)
            spread = wording.number(place.spread, digits)
            lines.append(
                f"{number}. {wording.plain(place.model):{width}}  {score:>7}  {spread:>7}  {place.first} of {folds}"
            )
    lines += ["", f"   {'':{width}}  tokens/s  size"]
    lines += [f"   {wording.plain(model):{width}}  {_cost(cost)}" for model, cost in answer.costs.items()]
    cut = " (cut at --num_predict)" if answer.best.truncated else ""
    title = f"Best response, by the {wording.SYSTEMS[answer.by]}: {wording.plain(answer.best.model)}{cut}"
    text = wording.plain(answer.best.text, lines=True)
    return [*lines, "", *_sure(answer, known), "", title, "─" * len(title), text, "─" * len(title)]


def _cost(cost: Cost) -> str:
    speed = wording.number(cost.tokens_per_second, 1)
    size = f"{cost.size_bytes / 1e9:.1f} GB" if cost.size_bytes is not None else ""
    parameters = f"{wording.plain(cost.parameter_size)} parameters" if cost.parameter_size else ""
    return f"{speed:>8}  {', '.join(filter(None, (size, parameters))) or wording.MISSING}"


def _sure(answer: Answer, known: learned.Learned) -> list[str]:
    """How far all of this can be relied on."""
    tau = known.evidence["kendall_tau"]
    figures = [
        f"{wording.SYSTEMS[system]} {wording.estimate(tau[system]['mean'], tau[system]['ci95'])}"
        for system in reversed(wording.CONTENDERS)
    ]
    first = {system: ranking[0].model for system, ranking in answer.rankings.items()}
    agree = "Both systems put the same model first." if len(set(first.values())) == 1 else (
        "The systems disagree about the first place."
    )  # fmt: skip
    said = [
        f"{agree} On prompts it had not seen each had a mean τ of: {'; '.join(figures)}.",
        *(wording.plain(warning) for warning in known.evidence["warnings"]),
        f"± is the standard deviation over the {len(known.fold_ratings)} trainings of the cross-validation. They share "
        "most of their prompts: it is rather too small than too large.",
        "tokens/s: over all kept responses, as they were asked (--concurrency side by side).",
    ]
    return [line for sentence in said for line in textwrap.wrap(sentence, 80)]


def learn_command(args: Namespace) -> str:
    """The run that makes what ``--rank`` needs, with those flags of this call that matter to it."""
    return _command(["--persona", args.persona], args, ("backend", "models", "judge", "base_model", "cache_dir"))


def _command(start: Sequence[str], args: Namespace, names: Sequence[str]) -> str:
    usual = {"backend": "auto", "base_model": "auto", "cache_dir": Path("cache"), "models": None, "judge": None}
    words = ["python", "main.py", *start]
    for name in names:
        value = getattr(args, name)
        if value != usual[name]:
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return shlex.join(words)


# ── --vote ───────────────────────────────────────────────────────────────────────────────────────────────


def vote(args: Namespace, setting: Setting) -> int:
    """Votes on pairs of this persona's responses, each kept at once; then how many there are and what learns from them.

    Responses that read the same are no choice and left out.
    """
    import voting
    from data_generation import collect_responses, generate_prompts

    prompts = generate_prompts(setting)
    of: dict[str, list[Response]] = {p.id: [] for p in prompts}
    for response in collect_responses(setting, prompts):
        of[response.prompt_id].append(response)
    pairs = [
        voting.Pair(prompt.id, prompt.text, a.model, a.text, b.model, b.text)
        for prompt in prompts
        for a, b in combinations(of[prompt.id], 2)
        if a.text.strip() != b.text.strip()
    ]
    path = args.cache_dir / config.VOTES_FILE.format(name=setting.name)
    voting.vote_session(pairs, path, user=USER, seed=setting.config.random_seed)
    votes = voting.read_own_votes(path)
    if votes is None:
        print("No votes yet.")
        return 0
    about = f"{len(votes.preferences)} votes on {len(votes.prompts)} prompts in all."
    print(f"{about} Both systems learn from them with:")
    print("  " + _command(["--preferences", str(path)], args, ("base_model", "cache_dir")))
    return 0
