"""Which of my models is best for me, and for this prompt?

python main.py --persona coder                        the experiment, once
python main.py --persona me.toml --prompts mine.txt   for a person of your own, on your own prompts
python main.py --persona coder --incremental          with learning curves of both systems
python main.py --check                                what is there, what is missing, what a run will cost
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

try:
    import config  # noqa: F401 - before all that reads it
except (TypeError, ValueError) as error:  # it is made to be edited: a field that there is none is said, not traced
    print(f"config.py can't be used: {error}. Put that entry right and run again.", file=sys.stderr)
    sys.exit(2)

from cli.flags import check_combination, configure, parse
from core.errors import SuiteError

if TYPE_CHECKING:
    from base.features import Features
    from cli.backend import Backend
    from config import ExperimentConfig
    from core.findings import About, Run
    from core.records import Rating
    from data_generation import Data
    from stages.tasks import Job


def run_persona(job: Job, run: Run, ratings: Mapping[str, Rating] | None) -> tuple[Data, dict[str, Any]]:
    """The experiment for one persona: its data, and the results document. ``ratings`` None: estimated from the data."""
    from cli import learned
    from cli.rank import sizes
    from core.clock import Clock
    from data_generation import make_data
    from evidence import experiment
    from evidence.baselines import estimated_ratings
    from evidence.leaderboard import who_is_best
    from people.own_votes import on_these, own_votes_file, read_own_votes
    from report import console, files, results

    clock, params = Clock(), job.params
    votes = read_own_votes(own_votes_file(job.name, job.cache_dir))
    console.print_generation(job.name)
    data = make_data(job, clock, experiment.listed(job.prompt_ids, params))  # prompts → … → judgements → truths
    plan = experiment.design(data, params)  # what trains and what tests
    console.print_counts(experiment.counts(data, plan))
    features = experiment.read_texts(data, run, job.name, clock)  # the frozen base reads each text once
    run = run.read_by(features.device)
    ratings = ratings or estimated_ratings(data.readers, list(job.contestants))
    console.print_training(len(plan.training.preferences), params.evaluation_frequency)
    answer = who_is_best(data, ratings, sizes(job), params)
    systems = experiment.fit(experiment.make_systems(data, features, ratings, params, run.device), plan, clock)
    own = on_these(votes, data.prompts, data.responses)
    findings = experiment.evaluate(systems, data, plan, params, clock, answer, judge=job.judging_contestant, own=own)
    if run.ablate:
        findings = experiment.ablated(findings, data, features, ratings, plan, params, clock, run.device)
    document = results.document(about(job, run, features, ratings), findings)
    paths = files.write_results(document, run.results_dir)  # what was measured is written before it is told
    if run.keep:
        systems = experiment.fit_all(systems, plan)
        learned.keep(
            job.cache_dir, job.name, systems.elo, systems.reward, systems.combined,
            ratings={model: rating.elo for model, rating in ratings.items()},
            origin=learned.made_from(job, run.base_model), document=document,
        )  # fmt: skip
    console.print_points(document)
    console.print_final(document, told=run.notes)
    console.print_ablation(document)
    console.print_answer(document)
    console.print_files(paths)
    return data, document


def about(job: Job, run: Run, features: Features, ratings: Mapping[str, Rating]) -> About:
    """What was run, for the results."""
    from core.findings import About

    own = f"The judge {job.judge} is also a contestant: it may prefer its own answers."
    models = tuple(replace(ratings[name], ollama_tag=c.ollama_tag) for name, c in job.contestants.items())
    return About(
        job.name, job.llm.backend, job.judge, run, job.params, features.has_score, models,
        notes=(own,) if job.judging_contestant else (),
    )  # fmt: skip


def run_personas(args: Namespace, backend: Backend, params: ExperimentConfig, command: str) -> int:
    """The experiment for each persona; with ``--persona all`` also what they have in common."""
    from cli import check, compare, preflight, rank
    from report import console

    jobs, done = preflight.every_job(args, backend, params), []
    if args.quick:
        print("\n".join(check.cost_lines(jobs, preflight.costs(args, backend, params))))
    for job in jobs:
        ask = "" if args.quick or backend.given else rank.command(args, job.name)
        run = replace(preflight.how_to_run(args, backend, command, job.name), ask=ask)
        console.print_header(job.name, run.label, run.notes)
        done.append(run_persona(job, run, backend.ratings))
    if args.persona == "all":
        documents = {job.name: document for job, (_, document) in zip(jobs, done, strict=True)}
        compare.run(jobs, [data for data, _ in done], documents, label=backend.label, results_dir=args.results_dir)
    return 0


def run_votes(args: Namespace, params: ExperimentConfig, command: str) -> int:
    """The experiment on people's votes in the place of a simulated persona's."""
    from cli import earlier, learned, preflight, rank
    from core.files import lock
    from people import run as people

    answers = args.own.answers
    name, votes = people.read(
        args.preferences, skip_bad_rows=args.skip_bad_rows, cache_dir=args.cache_dir, answers=answers
    )
    earlier.refuse_votes(args.preferences, name, args.cache_dir, args.results_dir)
    if args.check:
        from people.listing import show

        return show(args.preferences, votes)
    # only now: a file that can't be read leaves nothing behind
    with lock(args.cache_dir):
        run = replace(preflight.how_to_read(args, command, [name]), ask=rank.command(args, name))
        document, kept = people.run(name, votes, params, run, refresh=bool(args.refresh))
        base = document["base_model"]
        origin = learned.made_from_votes(args.preferences, votes.models, len(votes.prompts), base, run.cache_dir)
        learned.keep(run.cache_dir, name, *kept.systems, ratings=kept.ratings, origin=origin, document=document)
    return 0


def learn_first(args: Namespace, command: str) -> None:
    """Learn votes that are new since they were last learned, with the flags that they were learned with. Of what that
    run says its files are enough: it was a ranking that was asked for."""
    print(f"Votes that were not learned yet are learned first: {command}", file=sys.stderr)
    again = parse(shlex.split(command)[2:])
    again.cache_dir = args.cache_dir
    with contextlib.redirect_stdout(io.StringIO()):
        run(again, command)


def run(args: Namespace, command: str) -> int:
    """Choose who is asked, look whether all is there, and do what was asked for."""
    check_combination(args)  # bad usage is said before any server is looked for
    if args.write_persona is not None:
        from cli import personas

        return personas.write_example(args.write_persona, args.cache_dir, args.results_dir)
    from cli import own

    if args.rank is not None:
        from cli import learned

        if learn := learned.outdated_votes(args):
            learn_first(args, learn)
        args = learned.recalled(args)
    args.own = args.own or own.read(args)
    params = configure(args, "ollama")
    if args.preferences:
        return run_votes(args, params, command)
    from cli import check, preflight
    from core.files import lock

    backend = preflight.choose_backend(args, params)
    params = configure(args, backend.name)
    if args.check:
        return check.check(args, backend, params)
    check.require(args, backend, params)
    with lock(args.cache_dir):
        backend = preflight.begin(args, backend, params)
        if args.rank is not None:
            from cli import rank

            return rank.rank(args, preflight.every_job(args, backend, params)[0], backend)
        if args.vote:
            from cli import vote

            return vote.vote(args, preflight.every_job(args, backend, params)[0], backend)
        return run_personas(args, backend, params, command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    args = parse(argv)
    # the matrices are small: threads of the matrix library cost them more than they give
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    stream = sys.stderr if args.json else sys.stdout  # with --json nothing else may stand on standard output
    import logging  # after the flags: --help answers at once

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=stream, force=True)
    logging.getLogger("ranking").setLevel(args.log_level.upper())
    try:
        status = run(args, "python main.py " + shlex.join(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except SuiteError as error:
        sys.stdout.flush()
        print(f"\n{error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        kept = f"Every answer so far is kept in {args.cache_dir}/; the same command goes on."
        print(f"\nInterrupted. {kept}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
