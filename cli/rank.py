"""Which of my models for this prompt? Refitted from what the cache, or a file of votes, holds.

python main.py --persona coder --rank "How do I …?"      python main.py --rank - --json < prompts.txt
python main.py --preferences votes/votes_coder.jsonl --rank "How do I …?"
"""

import json
import statistics
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import config
from base.features import Features
from cli.flags import command_like
from cli.job import PEOPLE, asked
from combined import Combined
from core.clock import Clock
from core.errors import MissingError, UsageError
from core.files import fingerprint
from core.records import Prompt, Response
from core.text import normal, percent, plain, wrapped
from data_generation import Data, make_data
from elo_system import EloSystem
from evaluation import shuffled
from evidence.design import make_systems, read_texts
from evidence.leaderboard import tokens_per_second
from llm.ollama import OllamaModel
from people.read import Votes
from report.console import table
from report.words import CONTENDERS, METRICS, MISSING, SYSTEMS, Document, beats_chance, estimate, number
from reward_model import RewardModel
from stages.own import FEWEST_PROMPTS
from stages.tasks import Job, open_tasks
from stages.writing import collect_responses, response_tasks

Fitted = tuple[EloSystem, RewardModel, Combined]

SURE, LIKELY = 0.95, 0.5  # chances of the first one to be the best
VERDICTS = {
    "sure": "{model} is the best for this prompt: its chance is {chance}.",
    "likely": "{model} is probably the best for this prompt: its chance is {chance}.",
    "open": "Open: no model has an even chance to be the best for this prompt; {model} comes first with {chance}.",
    "no evidence": "No evidence: nothing shows that on prompts not seen this ranking is surely better than chance.",
}
CHANCES = "Chances: by the combined system. Tok/s: by the server's clock, or as asked where it tells none."


def by_cache(args: Namespace, job: Job) -> int:
    """Rank for the prompts of ``--rank`` by all that the cache holds of the persona. Raises MissingError where that are
    too few whole prompts to learn from."""
    if args.num_prompts is None:  # as many prompts as there are, whatever number the last run was asked for
        most = max(job.params.num_prompts, len({key for key, _ in job.kept(config.PROMPTS_FILE)}))
        job = replace(job, params=replace(job.params, num_prompts=most))
    for name in asked(job):
        job.llm.identity(name)  # a model or server that is missing is told before a cache that lacks its answers
    data = make_data(job, Clock(), ask=False)
    if len(data.prompts) < FEWEST_PROMPTS:
        raise MissingError(
            f"Nothing to rank by: of {FEWEST_PROMPTS} prompts with all answers and judgements the cache in "
            f"{job.cache_dir} holds {len(data.prompts)} for {job.name}, these models and this judge. This makes them:\n"
            f"  {command_like(args, job.name)}"
        )
    preferences = shuffled(data.preferences, job.params.random_seed)

    def fit(features: Features) -> Fitted:
        systems = make_systems(job, data, features)
        return systems.elo.fit(preferences), systems.reward.fit(preferences), systems.combined.fit(preferences)

    return rank(args, job, data, fit)


def by_votes(args: Namespace, job: Job, votes: Votes) -> int:
    """Rank for the prompts of ``--rank`` by people's votes; ``job`` asks the models that were voted on."""
    from people.many import Crowd, arena_ratings, learned

    rated = arena_ratings(votes, job.cache_dir)[0]

    def fit(features: Features) -> Fitted:
        return learned(Crowd(votes, features, rated, job.params))

    return rank(args, replace(job, judge=PEOPLE), votes, fit)


def rank(args: Namespace, job: Job, known: Data | Votes, fit: Callable[[Features], Fitted]) -> int:
    """Answer every prompt of ``--rank``. They are asked together: each model loads once. Responses and features are
    kept like all others."""
    texts = prompts_of(args.rank)
    # The id follows from the text, and the seeds of the answers from the id: the same prompt is asked once ever.
    prompts = [Prompt(f"asked-{fingerprint(text)}", text) for text in dict.fromkeys(texts)]
    trouble = job.llm.trouble if isinstance(job.llm, OllamaModel) else ""
    if trouble and open_tasks(job, config.RESPONSES_FILE, response_tasks(job, prompts)):
        raise MissingError(trouble)  # in place of waiting for a server that was away from the beginning
    responses = collect_responses(job, prompts)
    job.llm.unload()
    if lost := [p.text for p in prompts if p.id not in {r.prompt_id for r in responses}]:
        raise MissingError(f"No model has a usable answer to: {lost[0]:.60}. All answers are kept. Ask in other words.")
    every = [*known.responses, *responses]
    features = read_texts(job, [*known.prompts, *prompts], every)
    systems, evidence, speeds = fit(features), read_evidence(job, features.base), tokens_per_second(every)
    models = {m: {"tokens_per_second": speeds.get(m), "parameter_size": job.sizes.get(m)} for m in job.contestants}
    answers = {}
    for prompt in prompts:
        answers[prompt.text] = {
            "schema_version": config.SCHEMA_VERSION,
            "prompt": prompt.text,
            "persona": job.name,
            "backend": job.llm.backend,
            "base_model": features.base,
            **ranking(systems, [r for r in responses if r.prompt_id == prompt.id], evidence),
            "models": models,
            "evidence": evidence,
            "shows_only_how_the_suite_works": job.llm.backend == "embedded",
        }
    run = command_like(args, job.name)
    if not args.json:
        print(f"Answered by: {plain(job.label)}")
    for text in texts:
        # ASCII throughout, so that no terminal or pipe can spoil it
        print(json.dumps(answers[text], allow_nan=False) if args.json else as_text(answers[text], run))
    return 0


def prompts_of(asked: str) -> list[str]:
    """The text itself; for "-" the lines of standard input. Raises UsageError where there are none."""
    given = sys.stdin.buffer.read() if asked == "-" else asked.encode("utf-8", "replace")  # no halves of characters
    said = given.decode("utf-8", "replace")
    texts = [text for line in (said.split("\n") if asked == "-" else [said]) if (text := normal(line))]
    if not texts:
        raise UsageError("--rank -: standard input held no prompt. Give one prompt a line.")
    return texts


def ranking(systems: Fitted, responses: Sequence[Response], evidence: Document | None) -> Document:
    """Rank the models by their responses to one prompt: by each system, by the chance to be best, and the best one."""
    of, prompt_id = {response.model: response for response in responses}, responses[0].prompt_id
    places: dict[str, list[dict[str, Any]]] = {}
    for system in systems:
        scores = {model: score for model, score in system.scores(prompt_id).items() if model in of}
        mean = statistics.fmean(scores.values())  # only differences mean anything
        places[system.name] = [{"model": model, "score": scores[model] - mean} for model in best_first(scores)]
    by, chances = evidence["recommended"] if evidence else "combined", systems[-1].posterior(prompt_id).best_chances()
    first = best_first(chances)[0] if by == "combined" else places[by][0]["model"]
    how = {"p_best": chances[first], "verdict": verdict(evidence, chances[first]), "by": by}
    said = {"text": of[first].text, "truncated": of[first].truncated}
    return {**places, "p_best": chances, "best": {"model": first, **how, **said}}


def best_first(scores: Mapping[str, float]) -> list[str]:
    """Models best first, equal ones by name."""
    return sorted(scores, key=lambda model: (-scores[model], model))


# ── How far to trust it ──────────────────────────────────────────────────────────────────────────────────


def read_evidence(job: Job, base: str) -> Document | None:
    """Read what a run on the same has measured on prompts that it had not trained on; None where there is no results
    file of these models, judge, ``base`` and seed."""
    expected = {"judge": job.judge, "base_model": base, "seed": job.params.random_seed}
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
            "prompts": document["counts"]["prompts"],
        }
    except (OSError, ValueError, KeyError, TypeError):  # no file, or none of ours
        return None


def verdict(evidence: Document | None, p_best: float) -> str:
    """``sure``, ``likely`` or ``open`` by the first one's chance to be the best; ``no evidence`` where the ranking was
    not surely better than chance on prompts that it had not been trained on, or not measured."""
    crossed = evidence["cross_validated"][evidence["recommended"]]["ci95"] if evidence else None
    if not evidence or not beats_chance(evidence["main_metric"], crossed):
        return "no evidence"
    return "sure" if p_best >= SURE else "likely" if p_best >= LIKELY else "open"


# ── In the terminal ──────────────────────────────────────────────────────────────────────────────────────


def as_text(answer: Document, run: str) -> str:
    """The models with their chances, speed and size, how far to trust it, and the first one's response in full.
    ``run``: the command that measures how far.

    Without places where the order is not surely better than chance.
    """
    best, chances, evidence = answer["best"], answer["p_best"], answer["evidence"]
    placed, kind = best["verdict"] != "no evidence", "Best with"
    figures = {model: percent(chances[model]) for model in best_first(chances)}
    if best["by"] != "combined":  # sorted by the figure that is shown
        figures, kind = {place["model"]: number(place["score"], 2) for place in answer[best["by"]]}, "Score"
    rows = []
    for place, (model, figure) in enumerate(figures.items(), start=1):
        known = answer["models"][model]
        cells = [figure, number(known["tokens_per_second"], 0), plain(known["parameter_size"] or MISSING)]
        rows.append([f"{f'{place}.' if placed else '·':2} {plain(model)}", *cells])
    said = [VERDICTS[best["verdict"]].format(model=plain(best["model"]), chance=percent(best["p_best"]))]
    if evidence:
        measured = [f"{SYSTEMS[s]} {estimate(f)}" for s, f in evidence["cross_validated"].items()]
        said += [f"On prompts not seen in training, {METRICS[evidence['main_metric']]}: {'; '.join(measured)}."]
    lines = [line for sentence in (*said, CHANCES) for line in wrapped(sentence)]
    if not evidence:
        lines += ["How far to trust this was not measured yet. This does:", f"  {run}"]
    cut = " (cut at --num_predict)" if best["truncated"] else ""
    title = f"Response of {'the first' if placed else 'one of them'}: {plain(best['model'])}{cut}"
    rule, heads = "─" * len(title), ("   Model", kind, "Tok/s", "Size")
    top = ["", f"Prompt: {plain(answer['prompt'])}", "", f"Ranked by: {SYSTEMS[best['by']]}", *table(heads, rows), ""]
    return "\n".join([*top, *lines, "", title, rule, plain(best["text"], lines=True), rule])
