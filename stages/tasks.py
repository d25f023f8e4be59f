"""The job, one way to ask a model and keep its answers, the templates: shared by all data stages."""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

import config
from core.clock import bar
from core.errors import MissingError, UsageError
from core.files import fingerprint
from core.records import Prompt, Rating, Response
from core.store import Items, Store, read_items
from core.tables import text_of
from llm.interface import Choice, LanguageModel, LeftOut, Request

log = logging.getLogger("ranking.data")

Record = TypeVar("Record")


@dataclass(frozen=True)
class Job:
    """All that a run is, made once from the flags."""

    name: str  # the persona's key, which names the cache files
    persona: config.Persona
    contestants: Mapping[str, config.Contestant]
    judge: str
    llm: LanguageModel
    params: config.ExperimentConfig
    cache_dir: Path
    samples_dir: Path | None = config.SAMPLES_DIR
    judge_context: int | None = None  # tokens that the judge itself can be shown at most, where that is known
    prompts: tuple[Prompt, ...] = ()  # the user's own: none are written then
    responses: tuple[Response, ...] = ()  # answers to them that are there already: no contestant is asked then
    results_dir: Path = Path("results")
    ratings: Mapping[str, Rating] = field(default_factory=dict)  # empty: estimated from the recorded run
    sizes: Mapping[str, str] = field(default_factory=dict)  # parameters of a contestant, where a server tells them
    base_model: str = "embedded"  # hub id, folder, ``embedded``, or ``auto``: chosen when the texts are read
    device: str = "auto"  # as asked for: a GPU where there is one
    label: str = ""  # who answers and judges, as said in every output
    command: str = ""  # the command line of this run
    ask: str = ""  # the command that ranks the models for a prompt by what the cache holds
    notes: tuple[str, ...] = ()  # sentences that a reader must know before the figures
    machine: Mapping[str, Any] = field(default_factory=dict)  # GPU and cores as the run began
    ablate: bool = False  # the table of baselines and ablations is made too
    ray: str | None = None  # the cluster that reads the texts (``local``, ``auto`` or an address); None: this process
    silent: bool = False  # nothing is asked or written: what the cache holds is all there is
    anew: Collection[str] = ()  # stages of which nothing that is kept counts: it will be set aside

    @property
    def prompt_ids(self) -> tuple[str, ...]:
        """The ids of all prompts, written yet or not."""
        if self.prompts:
            return tuple(prompt.id for prompt in self.prompts)
        return tuple(f"{self.name}-{number:03d}" for number in range(1, self.params.num_prompts + 1))

    def store(self, file: str) -> Store:
        """The cache file of one stage, filled up from the recorded run."""
        return Store(self.path(file), stage=config.STAGES[file], samples=self._recorded(file))

    def kept(self, file: str) -> Items:
        """All items of one stage, also of the recorded run; nothing is written."""
        return {} if config.STAGES[file] in self.anew else read_items(self.path(file), self._recorded(file))

    def path(self, file: str) -> Path:
        """The cache file of one stage."""
        return self.cache_dir / file.format(name=self.name)

    def _recorded(self, file: str) -> Path | None:
        return self.samples_dir / file.format(name=self.name) if self.samples_dir else None

    def seed(self, *about: object) -> int:
        """A seed of 31 bits for one question: the same whatever is asked before, after or beside it."""
        return int(fingerprint(self.params.random_seed, *about)[:8], 16) & 0x7FFFFFFF


# ── One way to ask ───────────────────────────────────────────────────────────────────────────────────────

LEFT_OUT = "left_out"  # the key under which an item without an answer says why


@dataclass(frozen=True, slots=True)
class Task:
    """One question to a model and the cache item that its answer becomes."""

    id: tuple[str, str]  # key and hash, by which the item is found
    question: Request | Choice
    about: Mapping[str, Any]  # the beginning of the kept value: of which prompt and models it is
    names: Mapping[str, str] = field(default_factory=dict)  # said beside the item's hash, for whoever opens the file


def make_task(job: Job, key: str, question: Request | Choice, names: Mapping[str, str], **about: Any) -> Task:
    """The hash covers the model's identity and the whole question, but not the label that messages show.

    Raises MissingError where nobody knows which model it is; silent, nothing of its answers is kept.
    """
    try:
        identity = job.llm.identity(question.model)
    except MissingError:
        if not job.silent:
            raise
        identity = {"digest": None}
    made_from = {f.name: getattr(question, f.name) for f in fields(question) if f.name != "label"}
    if made_from.get("schema"):
        made_from["schema"] = made_from["schema"].model_json_schema()
    return Task((key, fingerprint(identity, made_from)), question, about, names)


def open_tasks(job: Job, file: str, tasks: Iterable[Task]) -> list[Task]:
    """The tasks that still have to be asked."""
    kept = job.kept(file)
    return [task for task in tasks if task.id not in kept]


def ask_missing(
    job: Job, file: str, tasks: Sequence[Task], value: Callable[..., Any], *, first: int | None = None, whole: str = ""
) -> bool:
    """Ask what is not kept yet, of the ``first`` tasks or of all, and keep each answer at once: as the ``value`` made
    of task and answer, beside what the task is about. Returns whether any was asked.

    A question without any usable answer is kept as left out, under its hash. Raises MissingError where these are too
    many of the tasks or, with ``whole`` a key of what they are about, of these.
    """
    if job.silent or not tasks:
        return False
    part = {task.id: str(task.about.get(whole, task.id[0])) for task in tasks}
    total, what = len(set(part.values())), config.STAGES[file].replace("_", " ")
    with job.store(file) as store:
        kept = [(task, store.get(*task.id)) for task in tasks[:first]]
        missing = [task for task, found in kept if found is None]
        gone = {part[task.id]: found[LEFT_OUT] for task, found in kept if isinstance(found, dict) and LEFT_OUT in found}
        require_enough(gone, total, what)
        if not missing:
            if first is None:
                log.info("Using cached %s for persona: %s", what, job.name)
            return False
        questions: list[Any] = [task.question for task in missing]
        answers = job.llm.choose(questions) if isinstance(questions[0], Choice) else job.llm.complete(questions)
        for index, answered in bar(answers, len(missing), what):
            task: Task = missing[index]
            if isinstance(answered, LeftOut):
                log.warning("%s is left out: %s", task.question.label, answered.reason)
                gone[part[task.id]] = answered.reason
                made: Mapping[str, Any] = {LEFT_OUT: answered.reason}
            else:
                made = value(task, answered)
            store.put(*task.id, {**task.about, **made}, **task.names)
            require_enough(gone, total, what)
    return True


def require_enough(gone: Mapping[str, str], total: int, what: str) -> None:
    """Raise MissingError where more than a tenth of ``total`` are ``gone`` ({which: why}), and more than one: the rest
    is no fair picture."""
    most = max(1, total // 10)
    if len(gone) > most:
        raise MissingError(
            f"No usable answer for {len(gone)} of the {what}, where at most {most} may be left out; the last one: "
            f"{list(gone.values())[-1]}. Everything is kept. Take another --judge or other --models, or ask again for "
            "what is left out: --refresh with this stage's name."
        )


def records(job: Job, file: str, tasks: Iterable[Task], make: Callable[..., Record]) -> list[Record]:
    """What ``make`` makes of every task's answer and of what the task is about, where it has one, in order.

    Raises UsageError where somebody's edit left something out.
    """
    kept, found = job.kept(file), list[Record]()
    adapter: TypeAdapter[Record] = TypeAdapter(make)  # type: ignore[arg-type]
    for task in tasks:
        value = kept[task.id]["value"] if task.id in kept else None
        if value is None or (isinstance(value, dict) and LEFT_OUT in value):
            continue
        try:
            found.append(adapter.validate_python({**value, **task.about} if isinstance(value, dict) else value))
        except ValueError as error:
            raise UsageError(
                f"{job.path(file)}: item {task.id[0]!r} can't be used ({wrong_fields(error)}). Nothing was changed. "
                "Put it right, or delete the whole item and the next run asks it again."
            ) from None
    return found


def wrong_fields(error: ValueError) -> str:
    """Each field that is wrong, and why."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in error.errors())


# ── Texts ────────────────────────────────────────────────────────────────────────────────────────────────

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
TEMPLATES = {
    "prompt_generation.txt": {"title", "description", "topics", "count", "earlier"},
    "preference_evaluation.txt": {"title", "description", "prompt", "response_a", "response_b", "mark", "form"},
    "ground_truth_ranking.txt": {"title", "description", "prompt", "responses", "count", "mark"},
}


def load_template(name: str) -> str:
    """The template's text. Raises UsageError naming a file that can't be read, or a placeholder that it lacks."""
    path = config.PROMPTS_DIR / name
    text = text_of(path).replace("\r\n", "\n")
    if lacking := TEMPLATES[name] - set(_PLACEHOLDER.findall(text)):
        raise UsageError(f"{path} lacks {{{min(lacking)}}}. `git checkout` brings it back as it was.")
    return text


def fill(template: str, **values: object) -> str:
    """Every placeholder replaced in one pass, so that a value is never read as a template; others stay as they are."""
    return _PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), template)


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
