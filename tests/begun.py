"""Jobs as the command line makes them, for tests of what comes after."""

from __future__ import annotations

from cli import own
from cli.flags import parse
from cli.job import begin, make_jobs
from evaluation import split
from stages.tasks import Job


def jobs_of(*flags: str) -> list[Job]:
    """The jobs of a run that has begun."""
    args = parse(flags)
    return begin(make_jobs(args, own.read(args), "python main.py"), args)


def ids_for_testing(job: Job) -> tuple[str, ...]:
    """The documented split's test prompts, whether they are written yet or not."""
    return split(job.prompt_ids, job.params.train_prompts, job.params.random_seed)[1]
