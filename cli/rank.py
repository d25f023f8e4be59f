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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import config
from cli.answer_page import Answer, Cost, Evidence, Place, as_json, lines
from cli.flags import command_like
from cli.job import own_name
from core.clock import Clock
from core.errors import MissingError, UsageError
from core.files import fingerprint
from core.records import Preference, Prompt, Response
from core.text import normal, plain
from report.answer import beats_chance

if TYPE_CHECKING:
    from base.features import Features
    from combined import Combined
    from elo_system import EloSystem
    from people.read import Votes
    from reward_model import RewardModel
    from stages.tasks import Job

    Fitted = tuple[EloSystem, RewardModel, Combined]

FEWEST_PROMPTS = 5  # as few as a run has
EMBEDDED_SIZE = "135M"
SURE, LIKELY = 0.95, 0.5  # chances of the first one to be the best
CONTENDERS = ("elo_offset", "reward_model", "combined")


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
    """Rank for the prompts of ``--rank`` by all that the cache holds of the persona."""
    if args.num_prompts is None:  # as many prompts as there are, whatever number the last run was asked for
        keys = [key.removeprefix(f"{job.name}-") for key, _ in job.kept(config.PROMPTS_FILE)]
        most = max([job.params.num_prompts, *(int(key) for key in keys if key.isdecimal())])
        job = replace(job, params=replace(job.params, num_prompts=most))
    basis = from_cache(job, command_like(args, "--persona", own_name(args, job.name)))
    votes = config.VOTES_DIR / config.VOTES_FILE.format(name=job.name)
    head = [f"Answered by: {job.label}"]
    if votes.is_file():
        like = command_like(args, "--preferences", str(votes), "--rank", args.rank)
        head.append(f"Ranked for the simulated {job.name}. By your own votes: {like}")
    return rank(job, basis, args.rank, head, as_lines_of_json=args.json)


def by_votes(args: Namespace, job: Job, votes: Votes) -> int:
    """Rank for the prompts of ``--rank`` by people's votes; ``job`` asks the models that were voted on."""
    run = command_like(args, "--preferences", args.preferences)
    return rank(job, from_votes(job, votes, run), args.rank, [f"Answered by: {job.label}"], as_lines_of_json=args.json)


def from_cache(job: Job, run: str) -> Basis:
    """The persona's prompts that are whole in the cache. Raises MissingError where they are too few to learn from."""
    from data_generation import make_data
    from evaluation import shuffled
    from evidence.design import make_systems

    data = make_data(job, Clock(), ask=False)
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

    return Basis(data.prompts, data.responses, fit, {"backend": job.llm.backend, "judge": job.judge}, run)


def from_votes(job: Job, votes: Votes, run: str) -> Basis:
    """All votes of a file."""
    from evidence.design import heads_device
    from people.many import Crowd, learned
    from people.run import arena_ratings, fitting

    rated = arena_ratings(votes, job.cache_dir)[0]
    params = fitting(job.params, len(votes.prompts))

    def fit(features: Features) -> Fitted:
        return learned(Crowd(votes, features, rated, params, heads_device(job, features)))

    return Basis(votes.prompts, votes.responses, fit, {"backend": "votes"}, run, votes.personas)


def judged(job: Job) -> Sequence[Preference]:
    """The simulated persona's preferences on the prompts that are whole in the cache. Nothing is asked."""
    from data_generation import make_data

    try:
        return make_data(job, Clock(), ask=False).preferences
    except MissingError:  # its server is off and nobody knows its models
        return ()


# ── Ranking ──────────────────────────────────────────────────────────────────────────────────────────────


def rank(job: Job, basis: Basis, asked: str, head: Sequence[str], *, as_lines_of_json: bool = False) -> int:
    """Rank the contestants for the prompt ``asked`` (``-``: for each line of standard input), after the lines ``head``.
    Raises UsageError for an empty standard input."""
    answered = 0
    if not as_lines_of_json:
        print(*map(plain, head), sep="\n")
    for texts in _batches(asked):
        answers = _answers(job, basis, texts)
        for text in texts:
            said = as_json(answers[text], job) if as_lines_of_json else "\n".join(lines(answers[text], basis.run))
            print(said, flush=True)
        answered += len(texts)
    if not answered:
        raise UsageError("--rank -: standard input held no prompt. Give one prompt a line.")
    return 0


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
    """Without white space or a byte-order mark around it, and without halves of characters, which no server takes."""
    return normal(text.encode("utf-8", "replace").decode())


def _answers(job: Job, basis: Basis, texts: Sequence[str]) -> dict[str, Answer]:
    """Each prompt's answer; responses and features are kept like all others of this run."""
    from base.features import compute_features
    from data_generation import collect_responses
    from evidence.leaderboard import tokens_per_second

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
    by, speeds, found = evidence["recommended"] if evidence else "combined", tokens_per_second(every), {}
    unknown = (None, EMBEDDED_SIZE if job.llm.weighs_options else "")
    sizes = {model: job.sizes.get(model, unknown) for model in job.contestants}
    costs = {model: Cost(speeds.get(model), size, said or None) for model, (size, said) in sizes.items()}
    for prompt in prompts:
        of = {r.model: r for r in responses if r.prompt_id == prompt.id}
        rankings = {
            "elo_offset": places({model: elo.ratings[model] for model in of}),
            "reward_model": places(_above_mean(reward.scores(prompt.id))),
            "combined": places(_above_mean(combined.scores(prompt.id))),
        }
        chances = combined.best_chances(prompt.id)
        first = rankings[by][0].model if by != "combined" else min(chances, key=lambda model: (-chances[model], model))
        said = verdict(evidence, chances[first])
        found[prompt.text] = Answer(prompt.text, rankings, chances, by, said, of[first], costs, features.base, evidence)
    return found


def _above_mean(scores: Mapping[str, float]) -> dict[str, float]:
    """Only differences of scores mean anything: a training may lift all of them by as much."""
    mean = statistics.fmean(scores.values())
    return {model: score - mean for model, score in scores.items()}


def places(scores: Mapping[str, float]) -> list[Place]:
    """Contestants best first, equal ones by name."""
    return [Place(model, scores[model]) for model in sorted(scores, key=lambda model: (-scores[model], model))]


# ── How far to trust it ──────────────────────────────────────────────────────────────────────────────────


def evidence_of(job: Job, basis: Basis, base: str) -> Evidence | None:
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
            "winner": document["winner"],
            "main_metric": metric,
            "cross_validated": {system: document["cross_validated"][system][metric] for system in CONTENDERS},
            "warnings": document["verdict"]["warnings"],
            "preferences": document["counts"]["preferences"],
            "prompts": document["counts"]["prompts"],
        }
    except (OSError, ValueError, KeyError, TypeError):  # no file, or none of ours
        return None


def verdict(evidence: Evidence | None, p_best: float) -> str:
    """``sure``, ``likely`` or ``open`` by the first one's chance to be the best; ``no evidence`` where the ranking was
    not surely better than chance on prompts that it had not been trained on, or not measured."""
    if evidence is None:
        return "no evidence"
    around = evidence["cross_validated"][evidence["recommended"]]["ci95"]
    if not beats_chance(evidence["main_metric"], around):
        return "no evidence"
    return "sure" if p_best >= SURE else "likely" if p_best >= LIKELY else "open"
