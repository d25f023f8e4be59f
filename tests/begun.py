"""Jobs as the command line makes them and files as users bring them, for tests of what comes after."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ollama_helpers import model_of
from vote_files import save

import config
from cli import own
from cli.flags import parser
from cli.job import begin, make_jobs
from evaluation import split
from stages.tasks import Job


def jobs_of(*flags: str) -> list[Job]:
    """The jobs of a run that has begun."""
    args = parser().parse_args(flags)
    return begin(make_jobs(args, own.read(args), "python main.py"), args)


def job_on(server: Any, folder: Path, models: Iterable[str], judge: str, **params: Any) -> Job:
    """The coder's, of five prompts, which asks one question at a time."""
    wanted = config.ExperimentConfig(**{"num_prompts": 5, **params})
    contestants = {model: config.Contestant() for model in models}
    llm = model_of(server, concurrency=1)
    return Job("coder", config.PERSONAS["coder"], contestants, judge, llm, wanted, folder, None)


def ids_for_testing(job: Job) -> tuple[str, ...]:
    """The documented split's test prompts."""
    return split(job.prompt_ids, job.params.train_prompts, job.params.random_seed)[1]


PROMPTS = (
    "How do I stop slugs, in May?", 'What is "clay"?', "When do I prune?", "Which hedge?", "Is moss bad?", "Compost?",
)  # fmt: skip
ME = 'title = "Gardener"\ndescription = "Someone with a small garden."\n'


def write(path: Path, content: Any) -> Path:
    """Rows as a file of the path's format; bytes as they are."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save(path, content)
    return path


def answers_of(*models: str) -> list[dict[str, Any]]:
    """Every model's answer to every prompt; each model writes at a length of its own."""
    return [
        {"prompt": prompt, "model": model, "response": f"{model} on: {prompt} " + "so " * place}
        for place, model in enumerate(models)
        for prompt in PROMPTS
    ]
