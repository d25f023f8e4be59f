"""Which of my models is best for me, and for this prompt?

python main.py --persona coder                        the experiment, once
python main.py --num_prompts 5 --models A B C         the first five minutes
python main.py --persona me.toml --prompts mine.txt   for a person of your own, on your own prompts
python main.py --persona coder --incremental          with learning curves of all systems
python main.py --persona coder --rank "How do I …?"   which model for this prompt, by what the cache holds
python main.py --check                                what is there, what is missing, how many calls a run makes
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

try:
    from cli.flags import check_combination, command_like, parser
except (TypeError, ValueError) as error:  # it is made to be edited: an unknown field is said, not traced
    print(f"config.py can't be used: {error}. Put that entry right and run again.", file=sys.stderr)
    sys.exit(2)

from core.errors import SuiteError
from core.text import plain, wrapped

if TYPE_CHECKING:
    from report.words import Document
    from stages.tasks import Job


def run_persona(job: Job) -> Document:
    """The experiment for one persona: the data, the systems, everything measured; written, then told."""
    from core.clock import Clock
    from data_generation import make_data
    from evaluation import listed
    from evidence.design import make_systems, read_texts
    from evidence.experiment import counts, keep_for_readers, measure
    from report import console, files

    clock = Clock()
    console.print_header(job.name, job.label, job.notes)
    data = make_data(job, clock, listed(job.prompt_ids, job.params))  # prompts → responses → judgements → truths
    console.print_counts(counts(data, job.params))
    with clock.stage("features"):
        features = read_texts(job, data.prompts, data.responses)  # the frozen base reads each text once
    systems = make_systems(job, data, features)  # A, B, C and what they must beat
    document = measure(job, data, systems, clock)
    paths = files.write_results(document, job.results_dir)  # what was measured is written before it is told
    keep_for_readers(job, data, systems)
    console.print_results(document, told=(*job.notes, *features.notes))
    console.print_files(paths)
    return document


def run_personas(jobs: Sequence[Job]) -> int:
    """The experiment for each persona, and what all have in common where there are several."""
    documents = {job.name: run_persona(job) for job in jobs}
    if len(documents) > 1:
        from evidence.experiment import together
        from report import console, files

        document = together(documents)
        paths = files.write_together(document, jobs[0].results_dir)
        console.print_personas(document)
        console.print_files(paths)
    return 0


def run(args: Namespace, command: str) -> int:
    """Choose who is asked, look whether all is there, and do what was asked for."""
    check_combination(args)  # bad usage is said before any server is looked for
    from cli import check
    from cli import own as cli_own
    from cli.job import begin, keeping_told, make_jobs, votes_job
    from core.files import lock
    from people.read import show

    own = cli_own.read(args)
    votes = own.votes  # people's, in the place of a simulated persona's
    if votes and args.check:
        return show(args.preferences, votes)
    if votes and args.rank is None:
        from people import many

        job = votes_job(args, votes, own, command)
        with lock(args.cache_dir):  # only now: a file that can't be read leaves nothing behind
            many.run(job, votes, refresh=bool(args.refresh))
        return 0
    jobs = make_jobs(args, own, command)
    if args.check:
        return check.check(jobs, args)
    check.require(jobs, args)
    with lock(args.cache_dir), keeping_told(jobs[0]):
        jobs = begin(jobs, args)
        if args.rank is not None:
            from cli import rank

            return rank.by_votes(args, jobs[0], votes) if votes else rank.by_cache(args, jobs[0])
        if args.vote:
            from people.voting import vote

            return vote(jobs[0], args.vote, partial(command_like, args, jobs[0].name))
        return run_personas(jobs)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    args = parser(__doc__).parse_args(argv)
    # the matrices are small: threads of the matrix library cost them more than they give
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # τ on a terminal of ASCII is no error
    _say_plainly(args)
    try:
        status = run(args, plain("python main.py " + shlex.join(sys.argv[1:] if argv is None else argv)))
        sys.stdout.flush()
        return status
    except SuiteError as error:
        sys.stdout.flush()
        print(f"\n{plain(error, lines=True)}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:  # the stores are left by now, and hold every answer
        kept = f"Every answer so far is kept in {args.cache_dir}/; the same command goes on."
        print(f"\nInterrupted. {plain(kept)}", file=sys.stderr)
        return 130


def _say_plainly(args: Namespace) -> None:
    """Send log messages to the terminal without anything that steers it, each warning once; with --json none to
    standard output."""
    import logging  # after the flags: --help answers at once

    out, told = sys.stderr if args.json else sys.stdout, set[tuple[int, str]]()

    class Plain(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            from tqdm import tqdm

            text = plain(record.getMessage(), lines=True)
            if record.levelno < logging.WARNING or (record.levelno, text) not in told:
                told.add((record.levelno, text))
                # an indented line is a command, left whole
                lines = [part for line in text.split("\n") for part in ([line] if line[:1] == " " else wrapped(line))]
                with suppress(BrokenPipeError):  # not said of what was going on here
                    tqdm.write("\n".join(lines), out)  # above a progress bar that stands in the terminal
                    out.flush()

    logging.basicConfig(level=logging.WARNING, handlers=[Plain()], force=True)
    logging.getLogger("ranking").setLevel(args.log_level.upper())


if __name__ == "__main__":
    try:
        status = main()
    except SystemExit as ended:  # by the parser (--help, or flags that are none), or by a signal
        status = int(ended.code or 0)
    sys.stdout.flush()
    os._exit(status)  # answers that are still on their way are not waited for
