"""Which of my models for this prompt? Refitted from what the cache, or a file of votes, holds.

python main.py --persona coder --rank "How do I …?"      python main.py --rank - --json < prompts.txt
python main.py --preferences votes/votes_coder.jsonl --rank "How do I …?"
"""

from __future__ import annotations

import io
import json
import statistics
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import config
from cli.flags import command_like
from cli.job import own_name
from core.clock import Clock
from core.errors import MissingError, UsageError
from core.files import fingerprint
from core.records import Prompt, Response
from core.text import normal, percent, plain, wrapped
from report.answer import beats_chance
from report.console import table
from report.words import CONTENDERS, METRICS, MISSING, SYSTEMS, estimate, number
from stages.own import FEWEST_PROMPTS

if TYPE_CHECKING:
    from base.features import Features
    from combined import Combined
    from elo_system import EloSystem
    from people.read import Votes
    from reward_model import RewardModel
    from stages.tasks import Job

    Fitted = tuple[EloSystem, RewardModel, Combined]

SURE, LIKELY = 0.95, 0.5  # chances of the first one to be the best
VERDICTS = {
    "sure": "{model} is the best for this prompt: its chance is {chance}.",
    "likely": "{model} is probably the best for this prompt: its chance is {chance}.",
    "open": "Open: no model has an even chance to be the best for this prompt; {model} comes first with {chance}.",
    "no evidence": "No evidence: nothing shows that on prompts not seen this ranking is surely better than chance.",
}
CHANCES = "Chances: by the combined system. Tok/s: by the server's clock, or as asked where it tells none."

Answer = Mapping[str, Any]
"""All that is said of one prompt: the line that ``--json`` prints."""


@dataclass(frozen=True)
class Basis:
    """Everything that a ranking rests on."""

    prompts: Sequence[Prompt]
    responses: Sequence[Response]
    fit: Callable[[Features], Fitted]
    """A, B and C trained on all preferences; the features may cover further texts."""
    measured_as: Mapping[str, Any]
    """Keys and values by which the results of a run on the same are known."""
    run: str
    """The command of that run."""
    also: tuple[str, ...] = ()
    """Names of other runs that may have read the same texts."""


def by_cache(args: Namespace, job: Job) -> int:
    """Rank for the prompts of ``--rank`` by all that the cache holds of the persona. Raises MissingError where that are
    too few whole prompts to learn from."""
    from data_generation import make_data
    from evaluation import shuffled
    from evidence.design import make_systems

    if args.num_prompts is None:  # as many prompts as there are, whatever number the last run was asked for
        keys = [key.removeprefix(f"{job.name}-") for key, _ in job.kept(config.PROMPTS_FILE)]
        most = max([job.params.num_prompts, *(int(key) for key in keys if key.isdecimal())])
        job = replace(job, params=replace(job.params, num_prompts=most))
    data, run = make_data(job, Clock(), ask=False), command_like(args, "--persona", own_name(args, job.name))
    if len(data.prompts) < FEWEST_PROMPTS:
        raise MissingError(
            f"Nothing to rank by: of {FEWEST_PROMPTS} prompts with all answers and judgements the cache in "
            f"{job.cache_dir} holds {len(data.prompts)} for {job.name}, these models and this judge. This makes them:\n"
            f"  {run}"
        )
    preferences = shuffled(data.preferences, job.params.random_seed)

    def fit(features: Features) -> Fitted:
        systems = make_systems(job, data, features)
        return systems.elo.fit(preferences), systems.reward.fit(preferences), systems.combined.fit(preferences)

    measured_as = {"backend": job.llm.backend, "judge": job.judge}
    return rank(job, Basis(data.prompts, data.responses, fit, measured_as, run), args)


def by_votes(args: Namespace, job: Job, votes: Votes) -> int:
    """Rank for the prompts of ``--rank`` by people's votes; ``job`` asks the models that were voted on."""
    from people.many import Crowd, arena_ratings, learned

    rated = arena_ratings(votes, job.cache_dir)[0]

    def fit(features: Features) -> Fitted:
        return learned(Crowd(votes, features, rated, job.params))

    run = command_like(args, "--preferences", args.preferences)
    return rank(job, Basis(votes.prompts, votes.responses, fit, {"backend": "votes"}, run, votes.personas), args)


# ── Ranking ──────────────────────────────────────────────────────────────────────────────────────────────


def rank(job: Job, basis: Basis, args: Namespace) -> int:
    """Answer every prompt of ``--rank``. They are asked together: each model loads once."""
    texts = prompts_of(args.rank)
    answers = _answers(job, basis, texts)
    if not args.json:
        print(f"Answered by: {plain(job.label)}")
    for text in texts:
        # ASCII throughout, so that no terminal or pipe can spoil it
        print(json.dumps(answers[text], allow_nan=False) if args.json else as_text(answers[text], basis.run))
    return 0


def prompts_of(asked: str) -> list[str]:
    """The text itself; for "-" the lines of standard input. Raises UsageError where there are none."""
    if asked == "-" and isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    lines = sys.stdin if asked == "-" else [asked]
    # no server takes halves of characters
    texts = [text for line in lines if (text := normal(line.encode("utf-8", "replace").decode()))]
    if not texts:
        raise UsageError("--rank -: standard input held no prompt. Give one prompt a line.")
    return texts


def _answers(job: Job, basis: Basis, texts: Sequence[str]) -> dict[str, Answer]:
    """Each prompt's answer; responses and features are kept like all others of this run."""
    from base.features import compute_features
    from evidence.leaderboard import tokens_per_second
    from stages.writing import collect_responses

    # The id follows from the text, and the seeds of the answers from the id: the same prompt is asked once ever.
    prompts = [Prompt(f"asked-{fingerprint(text)}", text) for text in dict.fromkeys(texts)]
    responses = collect_responses(job, prompts)
    job.llm.unload()
    every = [*basis.responses, *responses]
    features = compute_features(
        job.base_model, [*basis.prompts, *prompts], every, cache_dir=job.cache_dir, name=job.name, device=job.device,
        also=basis.also,
    )  # fmt: skip
    elo, reward, combined = basis.fit(features)
    evidence = evidence_of(job, basis, features.base)
    by, speeds = evidence["recommended"] if evidence else "combined", tokens_per_second(every)
    models, found = {}, dict[str, Answer]()
    for model in job.contestants:
        size, parameters = job.sizes.get(model, (None, ""))
        speed = speeds.get(model)
        models[model] = {"tokens_per_second": speed, "size_bytes": size, "parameter_size": parameters or None}
    for prompt in prompts:
        of = {r.model: r for r in responses if r.prompt_id == prompt.id}
        rankings = {
            "elo_offset": places({model: elo.ratings[model] for model in of}),
            "reward_model": places(_above_mean(reward.scores(prompt.id))),
            "combined": places(_above_mean(combined.scores(prompt.id))),
        }
        chances = combined.posterior(prompt.id).best_chances()
        first = by_chance(chances)[0] if by == "combined" else rankings[by][0]["model"]
        best = {"model": first, "p_best": chances[first], "verdict": verdict(evidence, chances[first]), "by": by}
        found[prompt.text] = {
            "schema_version": config.SCHEMA_VERSION,
            "prompt": prompt.text,
            "persona": job.name,
            "backend": job.llm.backend,
            "base_model": features.base,
            **rankings,
            "p_best": chances,
            "best": {**best, "text": of[first].text, "truncated": of[first].truncated},
            "models": models,
            "evidence": evidence,
            "shows_only_how_the_suite_works": job.llm.backend == "embedded",
        }
    return found


def _above_mean(scores: Mapping[str, float]) -> dict[str, float]:
    """Only differences of scores mean anything: a training may lift all of them by as much."""
    mean = statistics.fmean(scores.values())
    return {model: score - mean for model, score in scores.items()}


def by_chance(chances: Mapping[str, float]) -> list[str]:
    """Models best first, equal ones by name."""
    return sorted(chances, key=lambda model: (-chances[model], model))


def places(scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """[{model, score}] best first."""
    return [{"model": model, "score": scores[model]} for model in by_chance(scores)]


# ── How far to trust it ──────────────────────────────────────────────────────────────────────────────────


def evidence_of(job: Job, basis: Basis, base: str) -> Mapping[str, Any] | None:
    """Read what a run on the same has measured on prompts that it had not trained on; None where there is no results
    file of these models, judge, ``base`` and seed."""
    expected = {**basis.measured_as, "base_model": base, "seed": job.params.random_seed}
    try:
        path = job.results_dir / config.RESULTS_FILE.format(name=job.name)
        document = json.loads(path.read_text(encoding="utf-8"))
        models = {model["name"] for model in document["models"]}
        if not set(job.contestants) <= models or any(document[key] != value for key, value in expected.items()):
            return None
        metric = document["main_metric"]
        return {
            "recommended": document["recommended"],
            "main_metric": metric,
            "cross_validated": {system: document["cross_validated"][system][metric] for system in CONTENDERS},
            "warnings": document["verdict"]["warnings"],
            "prompts": document["counts"]["prompts"],
        }
    except (OSError, ValueError, KeyError, TypeError):  # no file, or none of ours
        return None


def verdict(evidence: Mapping[str, Any] | None, p_best: float) -> str:
    """``sure``, ``likely`` or ``open`` by the first one's chance to be the best; ``no evidence`` where the ranking was
    not surely better than chance on prompts that it had not been trained on, or not measured."""
    crossed = evidence["cross_validated"][evidence["recommended"]]["ci95"] if evidence else None
    if not evidence or not beats_chance(evidence["main_metric"], crossed):
        return "no evidence"
    return "sure" if p_best >= SURE else "likely" if p_best >= LIKELY else "open"


# ── In the terminal ──────────────────────────────────────────────────────────────────────────────────────


def as_text(answer: Answer, run: str) -> str:
    """The models with their chances, speed and size, how far to trust it, the other systems in brief, and the first
    one's response in full. ``run``: the command that measures how far.

    Sorted by the first figure that is shown; without places where the order is not surely better than chance.
    """
    best, chances, evidence = answer["best"], answer["p_best"], answer["evidence"]
    by, placed = best["by"], best["verdict"] != "no evidence"
    scores = {place["model"]: number(place["score"], 2) for place in answer[by]} if by != "combined" else {}
    rows = []
    for place, model in enumerate(scores or by_chance(chances), start=1):
        known = answer["models"][model]
        cells = [scores[model]] if scores else []
        cells += [percent(chances[model]), number(known["tokens_per_second"], 0), known["parameter_size"] or MISSING]
        rows.append([f"{f'{place}.' if placed else '·':2} {plain(model)}", *map(plain, cells)])
    heads = ["   Model", *(["Score"] if scores else []), "Best with", "Tok/s", "Size"]
    said = [VERDICTS[best["verdict"]].format(model=plain(best["model"]), chance=percent(best["p_best"]))]
    for system in CONTENDERS:
        order = ", ".join(plain(place["model"]) for place in answer[system])
        said += [f"{SYSTEMS[system]}: {order}."] if system != by else []
    if evidence:
        figures = [f"{SYSTEMS[s]} {estimate(f['mean'], f['ci95'])}" for s, f in evidence["cross_validated"].items()]
        said += [f"On prompts not seen in training, {METRICS[evidence['main_metric']]}: {'; '.join(figures)}."]
        said += map(plain, evidence["warnings"])
    lines = [line for sentence in (*said, CHANCES) for line in wrapped(sentence)]
    if not evidence:
        lines += ["How far to trust this was not measured yet. This does:", f"  {run}"]
    cut = " (cut at --num_predict)" if best["truncated"] else ""
    title = f"Response of {'the first' if placed else 'one of them'}: {plain(best['model'])}{cut}"
    rule = "─" * len(title)
    head = ["", f"Prompt: {plain(answer['prompt'])}", "", f"Ranked by: {SYSTEMS[by]}", *table(heads, rows), ""]
    return "\n".join([*head, *lines, "", title, rule, plain(best["text"], lines=True), rule])
