"""Which of my models is best for me, and for this prompt?

python main.py --persona coder                    the experiment, once
python main.py --persona coder --incremental      with learning curves of both systems
python main.py --check                            what is there, what is missing, what a run will cost
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import config
from cli.flags import check_combination, configure, parser
from core.errors import SuiteError

if TYPE_CHECKING:
    from cli.preflight import Backend
    from experiment import Data
    from stages.tasks import Job


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    args = parser().parse_args(argv)
    # the heads' matrices are small: threads of the matrix library cost them more than they give
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    stream = sys.stderr if args.json else sys.stdout  # with --json nothing else may stand on standard output
    import logging  # after the flags: --help answers at once

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=stream, force=True)
    logging.getLogger("ranking").setLevel(args.log_level.upper())
    try:
        status = run(args, "python main.py " + " ".join(sys.argv[1:] if argv is None else argv))
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


def run(args: argparse.Namespace, command: str) -> int:
    """Choose who is asked, look whether all is there, and do what was asked for."""
    params = configure(args, "ollama")  # bad usage is said before any server is looked for
    check_combination(args)
    if args.preferences:
        from people import run as people

        return people.run(args, params, command)
    from cli import preflight

    backend = preflight.choose_backend(args, params)
    params = configure(args, backend.name)
    from cli import check as checks

    if args.check:
        return checks.check(args, backend, params)
    checks.require(args, backend, params)
    from core.store import lock

    with lock(args.cache_dir):
        backend = preflight.begin(args, backend, params)
        if args.rank is not None:
            from cli import rank as answer

            return answer.rank(args, preflight.job(args, backend, params, args.persona), backend)
        if args.vote:
            from cli import rank as answer

            return answer.vote(args, preflight.job(args, backend, params, args.persona))
        return run_personas(args, backend, params, command)


def run_personas(args: argparse.Namespace, backend: Backend, params: config.ExperimentConfig, command: str) -> int:
    """The experiment for each persona; with ``--persona all`` also what they have in common."""
    from cli import preflight

    jobs = preflight.every_job(args, backend, params)
    every = [run_persona(args, job, backend, command) for job in jobs]
    if args.persona == "all":
        from cli import compare

        documents = {job.name: results for job, (results, _) in zip(jobs, every, strict=True)}
        compare.run(jobs, [data for _, data in every], documents, label=backend.label, results_dir=args.results_dir)
    return 0


def run_persona(args: argparse.Namespace, job: Job, backend: Backend, command: str) -> tuple[dict[str, Any], Data]:
    """The five steps: data, features, both systems, evaluation, files. Returns the results."""
    import experiment
    from cli import preflight
    from report import console as report
    from report import files as result_files

    report.print_header(job.name, backend.label)
    base, notes = preflight.choose_base(args.base_model, backend.name, args.device)
    for note in (*backend.notes, *notes):
        print(f"Note: {note}")
    run = experiment.Run(
        base,
        args.device,
        preflight.choose_device(args.device),
        backend.label,
        command,
        (*backend.notes, *notes),
        args.ablate,
    )
    results, fitted, data = experiment.run_persona(job, run, backend.ratings)
    report.print_final(results)
    report.print_ablation(results)
    paths = result_files.write_results(results, fitted.elo, fitted.reward, args.results_dir, args.cache_dir)
    print("\nWritten: " + ", ".join(str(path) for path in paths))
    return results, data


if __name__ == "__main__":
    sys.exit(main())
