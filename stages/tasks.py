"""The job, one way to ask a model and keep its answers, the templates: shared by all data stages."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

import config
from config import PROMPTS_DIR, SAMPLES_DIR, Contestant, ExperimentConfig, Persona
from core.clock import bar
from core.errors import MissingError, UsageError
from core.files import fingerprint
from core.records import Prompt, Rating, Response
from core.store import Items, Store, read_items
from llm.interface import Choice, LanguageModel, LeftOut, Request

log = logging.getLogger("ranking.data")

Record = TypeVar("Record")

STAGES = {
    config.PROMPTS_FILE: "prompts",
    config.RESPONSES_FILE: "responses",
    config.PREFERENCES_FILE: "preferences",
    config.GROUND_TRUTH_FILE: "ground_truth",
}
"""The stage of each cache file, in their order."""


@dataclass(frozen=True)
class Job:
    """All that a run is, made once from the flags."""

    name: str  # the persona's key, which names the cache files
    persona: Persona
    contestants: Mapping[str, Contestant]
    judge: str
    llm: LanguageModel
    params: ExperimentConfig
    cache_dir: Path
    samples_dir: Path | None = SAMPLES_DIR
    prompts_dir: Path = PROMPTS_DIR
    judge_context: int | None = None  # tokens that the judge itself can be shown at most, where that is known
    prompts: tuple[Prompt, ...] = ()  # the user's own: none are written then
    responses: tuple[Response, ...] = ()  # answers to them that are there already: no contestant is asked then
    results_dir: Path = Path("results")
    ratings: Mapping[str, Rating] | None = None  # None: estimated from the recorded run (embedded contestants)
    sizes: Mapping[str, str] = field(default_factory=dict)  # parameters of a contestant, where a server tells them
    base_model: str = "embedded"  # hub id, folder, ``embedded``, or ``auto``: chosen when the texts are read
    device: str = "auto"  # as asked for: a GPU where there is one
    label: str = ""  # who answers and judges, as said in every output
    command: str = ""  # the command line of this run
    ask: str = ""  # the command that ranks the models for a prompt by what the cache holds
    notes: tuple[str, ...] = ()  # sentences that a reader must know before the figures
    server: str = ""  # the version of the server that answered; empty where none was asked
    machine: Mapping[str, Any] = field(default_factory=dict)  # GPU and cores as the run began
    ablate: bool = False  # the table of baselines and ablations is made too
    ray: str | None = None  # the cluster that reads the texts (``local``, ``auto`` or an address); None: this process

    @property
    def prompt_ids(self) -> tuple[str, ...]:
        """The ids of all prompts, written yet or not."""
        if self.prompts:
            return tuple(prompt.id for prompt in self.prompts)
        return tuple(f"{self.name}-{number:03d}" for number in range(1, self.params.num_prompts + 1))

    @property
    def judging_contestant(self) -> str | None:
        """The contestant that is also the judge, and may prefer its own answers; None where there is none."""
        return next((name for name, c in self.contestants.items() if self.judge == (c.ollama_tag or name)), None)

    def store(self, file: str) -> Store:
        """The cache file of one stage, filled up from the recorded run."""
        return Store(self.path(file), stage=STAGES[file], samples=self._recorded(file))

    def kept(self, file: str) -> Items:
        """All items of one stage, also of the recorded run; nothing is written."""
        return read_items(self.path(file), self._recorded(file))

    def path(self, file: str) -> Path:
        """The cache file of one stage."""
        return self.cache_dir / file.format(name=self.name)

    def _recorded(self, file: str) -> Path | None:
        return self.samples_dir / file.format(name=self.name) if self.samples_dir else None

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
    about: Mapping[str, Any]  # the beginning of the kept value: of which prompt and models it is
    names: Mapping[str, str]  # said beside the item's hash, for whoever opens the file

    @property
    def id(self) -> tuple[str, str]:
        """Key and hash, by which its item is found."""
        return self.key, self.made_from


def make_task(job: Job, key: str, question: Request | Choice, names: Mapping[str, str], **about: Any) -> Task:
    """The hash covers the model's identity and the whole question, but not the label that messages show."""
    made_from = {f.name: getattr(question, f.name) for f in fields(question) if f.name != "label"}
    if made_from.get("schema"):
        made_from["schema"] = made_from["schema"].model_json_schema()
    return Task(key, fingerprint(job.llm.identity(question.model), made_from), question, about, names)


Value = Callable[[Task, Any], Mapping[str, Any]]


def open_tasks(items: Items, tasks: Iterable[Task]) -> list[Task]:
    """The tasks that still have to be asked."""
    return [task for task in tasks if task.id not in items]


def ask_missing(
    job: Job, file: str, tasks: Sequence[Task], value: Value, *, most: int, part: Callable[[Task], str] | None = None
) -> None:
    """Ask what is not kept yet, and keep each answer at once.

    ``value`` makes what is kept of an answer, beside what the task is about. A question without any usable answer is
    kept as left out, under its hash. Raises MissingError where that are more than ``most`` of the tasks, or of the
    ``part``s that they belong to.
    """
    part = part or (lambda task: task.key)
    what = STAGES[file].replace("_", " ")
    with job.store(file) as store:
        kept = [(task, store.get(*task.id)) for task in tasks]
        missing = [task for task, found in kept if found is None]
        gone = {part(task): why for task, found in kept if (why := why_left_out(found))}
        require_enough(gone, most, what)
        if not missing:
            log.info("Using cached %s for persona: %s", what, job.name)
        for index, answered in answers_to(job, [task.question for task in missing], what):
            task = missing[index]
            if isinstance(answered, LeftOut):
                log.warning("%s is left out: %s", task.question.label, answered.reason)
                gone[part(task)] = answered.reason
                made: Mapping[str, Any] = {LEFT_OUT: answered.reason}
            else:
                made = value(task, answered)
            store.put(*task.id, {**task.about, **made}, **task.names)
            require_enough(gone, most, what)


LEFT_OUT = "left_out"
"""The key under which an item without an answer says why."""


def why_left_out(value: Any) -> str | None:
    """Why a cached value stands for no answer; None where it is one, or nothing."""
    return str(value[LEFT_OUT]) if isinstance(value, dict) and LEFT_OUT in value else None


def most_left_out(number: int) -> int:
    """Answers of so many that may be left out before the rest is no fair picture: a tenth, and always one."""
    return max(1, number // 10)


def require_enough(gone: Mapping[str, str], most: int, what: str) -> None:
    """Raise MissingError where more than ``most`` are ``gone`` ({which: why})."""
    if len(gone) > most:
        raise MissingError(
            f"No usable answer for {len(gone)} of the {what}, where at most {most} may be left out; the last one: "
            f"{list(gone.values())[-1]}. Everything is kept. Take another --judge or other --models, or ask again for "
            "what is left out: --refresh with this stage's name."
        )


def answers_to(job: Job, questions: Sequence[Any], what: str) -> Iterator[tuple[int, Any]]:
    """Yield (index, answer) as they come. ``questions`` are all requests or all choices."""
    if questions:
        answers = job.llm.choose(questions) if isinstance(questions[0], Choice) else job.llm.complete(questions)
        yield from bar(answers, len(questions), what)


# ── From cached values to records ────────────────────────────────────────────────────────────────────────


def records(job: Job, file: str, tasks: Iterable[Task], shape: type[Record]) -> list[Record]:
    """The record of every task that has an answer, in order. Raises UsageError as ``read_value`` does."""
    kept, path = job.kept(file), job.path(file)
    found = [kept[task.id] for task in tasks if task.id in kept]
    return [read_value(path, item.key, item.value, shape) for item in found if not why_left_out(item.value)]


def read_value(path: Path, key: str, value: Any, shape: type[Record]) -> Record:
    """The record that a cached value holds. Raises UsageError where somebody's edit left something out."""
    try:
        return _adapter(shape).validate_python(value)  # type: ignore[no-any-return,arg-type]
    except ValidationError as error:
        raise UsageError(
            f"{path}: the item {key!r} can't be used ({wrong_fields(error)}). Nothing was changed. Put it right, or "
            "delete the whole item and the next run asks it again."
        ) from None


def wrong_fields(error: ValidationError) -> str:
    """Each field that is wrong, and why."""
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in error.errors())


@cache
def _adapter(shape: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


# ── Texts ────────────────────────────────────────────────────────────────────────────────────────────────

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
TEMPLATES = {
    "prompt_generation.txt": {"title", "description", "topics", "count", "earlier"},
    "preference_evaluation.txt": {"title", "description", "prompt", "response_a", "response_b", "mark", "form"},
    "ground_truth_ranking.txt": {"title", "description", "prompt", "responses", "count", "mark"},
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
        for placeholder in sorted(names):
            raise UsageError(f"The template {path} {problem} placeholder {{{placeholder}}}. Mend it and run again.")
    return text


def fill(template: str, **values: object) -> str:
    """Every placeholder replaced in one pass, so that a value is never read as a template."""
    return _PLACEHOLDER.sub(lambda match: str(values[match.group(1)]), template)


def words(text: str) -> frozenset[str]:
    """The different words of a text, in lower case."""
    return frozenset(re.findall(r"\w+", text.lower()))


def unlike(candidates: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Candidates that are no near-copy (Jaccard similarity of words above 0.7) of a known or an earlier one."""
    seen = [words(text) for text in known]
    for candidate in (" ".join(c.split()) for c in candidates):
        own = words(candidate)
        if len(own) >= 3 and all(len(own & other) <= 0.7 * len(own | other) for other in seen):
            seen.append(own)
            yield candidate
