"""Real people's votes instead of generated data: every person gets both systems, and all are compared as one.

python main.py --preferences votes.jsonl
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import config
from base.features import compute_features
from core.clock import Clock
from core.records import Rating
from core.text import plain
from evidence import leaderboard
from evidence.experiment import make_document
from people.many import Crowd, learned, measure
from people.read import Votes
from report import console, files
from stages.tasks import Job

RATED = "Bradley-Terry over everyone's training votes; each person starts from everyone else's"
GIVEN = "one person alone has nobody else to start from: ratings are the Arena's, where it lists the model"


def run(job: Job, votes: Votes, *, refresh: bool = False) -> None:
    """The experiment on votes: write its files, then say what they hold. ``refresh``: features and ratings anew."""
    clock = Clock()
    rated, about_ratings = arena_ratings(votes, job.cache_dir, refresh=refresh)
    rows = (f"the votes row by row: {job.command} --check",) if votes.notes else ()
    job = dataclasses.replace(job, notes=(*job.notes, *votes.notes, *rows, *about_ratings))
    console.print_header(job.name, job.label, job.notes, "Votes")
    with clock.stage("features"):
        features = compute_features(
            job.base_model, votes.prompts, votes.responses, cache_dir=job.cache_dir, name=job.name,
            device=job.device, refresh=refresh, also=votes.personas, ray=job.ray,
        )  # fmt: skip
    crowd = Crowd(votes, features, rated, job.params)
    measured = measure(crowd, clock)
    with clock.stage("training"):
        elo, reward, _ = learned(crowd)
    measured |= {"training_history": reward.history, "timings_s": clock.seconds}
    models = list(rated.values()) or [Rating(model, rating, RATED) for model, rating in elo.ratings.items()]
    answer = leaderboard.answer(votes.preferences, votes.responses, crowd.given, job.params.random_seed)
    document = make_document(job, features, models, answer | measured)
    paths = files.write_results(document, job.results_dir)
    elo.save(job.cache_dir / config.ELO_STATE_FILE.format(name=job.name))
    reward.save(job.cache_dir / config.REWARD_HEAD_FILE.format(name=job.name))
    console.print_counts(document["counts"])
    console.print_results(document, told=(*job.notes, *features.notes))
    console.print_files(paths)


def show(source: str, votes: Votes) -> int:
    """Print every vote and every row that is none, with the reason; the exit status. Nothing is written."""
    prompts = {prompt.id: prompt.text for prompt in votes.prompts}
    counts = f"votes: {len(votes.preferences)}, people: {len(votes.users)}, prompts: {len(prompts)}"
    lines = [f"{source}: {counts}, models: {len(votes.models)}", *votes.notes]
    for v in votes.preferences:
        lines.append(f'  {v.user}: {v.model_a} against {v.model_b}: {v.outcome:g} on "{prompts[v.prompt_id]:.60}"')
    lines += [f"  row {row}: {reason}" for row, reason in votes.left_out.items()]
    print("\n".join(map(plain, lines)))
    return 0


def run_name(source: str) -> str:
    """What the run's files are named after: the file's stem, or the hub id, in characters that any disk takes; with
    ``my_`` where that is a persona's name, whose results would be replaced."""
    stem = Path(source).stem if Path(source).suffix else source
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:100] or "votes"
    return f"my_{name}" if name.lower() in (*config.PERSONAS, "all") else name


def arena_ratings(votes: Votes, cache_dir: Path, *, refresh: bool = False) -> tuple[dict[str, Rating], tuple[str, ...]]:
    """The models' Arena ratings and what is to be said of them, for a person alone: nothing where others vote too."""
    if len(votes.users) > 1:
        return {}, ()
    from stages import arena

    table = arena.load_table(cache_dir, refresh=refresh)
    rated = arena.rate(votes.models, table)
    proxies = tuple(f"{name}: rated by {rating.source}" for name, rating in rated.items() if rating.proxy)
    return rated, (GIVEN, *table.notes, *proxies)
