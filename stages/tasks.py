"""What all data stages share: the job, one way to ask a model and keep its answers, the templates."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from config import PROMPTS_DIR, SAMPLES_DIR, Contestant, ExperimentConfig, Persona
from core.errors import UsageError
from core.store import Store, fingerprint
from llm.interface import Choice, LanguageModel, Request

log = logging.getLogger("ranking.data")


@dataclass(frozen=True)
class Job:
    """Who is asked what: all that the stages need to know."""

    name: str
    """The persona's key; it names the cache files."""
    persona: Persona
    contestants: Mapping[str, Contestant]
    judge: str
    llm: LanguageModel
    params: ExperimentConfig
    cache_dir: Path
    samples_dir: Path | None = SAMPLES_DIR
    prompts_dir: Path = PROMPTS_DIR
    judge_context: int | None = None
    """Tokens that the judge itself can be shown at most, where that is known."""

    @property
    def judge_tokens(self) -> int:
        """Tokens of a judge's whole context: as configured, but never more than the judge has."""
        return min(self.params.num_ctx, self.judge_context or self.params.num_ctx)

    def store(self, file: str, stage: str, *, read_only: bool = False) -> Store:
        """The cache file of one stage, filled up from the recorded run."""
        filename = file.format(name=self.name)
        samples = self.samples_dir / filename if self.samples_dir else None
        return Store(self.cache_dir / filename, stage=stage, samples=samples, read_only=read_only)

    def seed(self, *about: object) -> int:
        """A seed of 31 bits for one question: the same whatever is asked before, after or beside it."""
        return int(fingerprint(self.params.random_seed, *about)[:8], 16) & 0x7FFFFFFF


# ── One way to ask ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Task:
    """One question to a model and the cache item that its answer becomes."""

    key: str
    made_from: str
    question: Request | Choice


def make_task(job: Job, key: str, question: Request | Choice) -> Task:
    """The hash covers the model's identity and the whole question, but not the label that messages show."""
    made_from = {f.name: getattr(question, f.name) for f in fields(question) if f.name != "label"}
    if made_from.get("schema"):
        made_from["schema"] = made_from["schema"].model_json_schema()
    return Task(key, fingerprint(job.llm.identity(question.model), made_from), question)


def missing_tasks(store: Store, tasks: Iterable[Task]) -> list[Task]:
    """The tasks that still have to be asked."""
    return [task for task in tasks if store.get(task.key, task.made_from) is None]


def answer(
    job: Job, store: Store, tasks: Sequence[Task], value: Callable[[Task, Any], dict[str, Any]], what: str
) -> list[Any]:
    """The cached value of every task, in order; what is missing is asked and kept at once, item by item."""
    missing = missing_tasks(store, tasks)
    if missing:
        questions = [task.question for task in missing]
        ask = job.llm.choose if isinstance(questions[0], Choice) else job.llm.complete
        for index, answer in progress(ask(questions), len(missing), what):  # type: ignore[arg-type]
            task = missing[index]
            store.put(task.key, task.made_from, value(task, answer))
    else:
        log.info("Using cached %s for persona: %s", what, job.name)
    return [store.get(task.key, task.made_from) for task in tasks]


def progress_bar(total: int, what: str) -> Any:
    """A tqdm bar, quiet where the output is no terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, disable=None, leave=False)


def progress(iterable: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """What comes out of ``iterable``, counted by a bar."""
    with progress_bar(total, what) as bar:
        for item in iterable:
            yield item
            bar.update()


# ── Templates ────────────────────────────────────────────────────────────────────────────────────────────

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
TEMPLATES: dict[str, frozenset[str]] = {
    "prompt_generation.txt": frozenset({"title", "description", "topics", "count", "earlier"}),
    "preference_evaluation.txt": frozenset({"title", "description", "prompt", "response_a", "response_b", "mark"}),
    "ground_truth_ranking.txt": frozenset({"title", "description", "prompt", "responses", "count", "mark"}),
}


def load_template(folder: Path, name: str) -> str:
    """The template's text. Raises UsageError naming a file, or a placeholder that is missing or unknown."""
    path = folder / name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The template {path} can't be read: {error}. `git checkout {path.name}` brings it back."
        ) from None
    found = set(_PLACEHOLDER.findall(text))
    for problem, names in (("lacks", TEMPLATES[name] - found), ("has the unknown", found - TEMPLATES[name])):
        if names:
            listed = ", ".join(f"{{{n}}}" for n in sorted(names))
            raise UsageError(f"The template {path} {problem} placeholder {listed}. Mend that line and run again.")
    return text


def fill(template: str, **values: object) -> str:
    """Every placeholder replaced in one pass, so that a value is never read as a template."""
    return _PLACEHOLDER.sub(lambda match: str(values[match.group(1)]), template)
