"""Global ratings from the Chatbot Arena: one table, of one date and one scale, for a whole run.

table = load_table(Path("cache"))                 # cache, else hub, else the shipped snapshot
contestants, matches = contestants_for(["gemma2:9b"], table)
ratings = ratings_for(contestants, table, matches)
"""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, ValidationError

from config import ARENA_DATE, ARENA_FILE, DEFAULT_MODELS, Contestant
from core import hub
from core.files import read, set_aside, write_json
from core.records import Rating
from stages.arena_names import Match, match_arena_name, same_model

SCALE = "Chatbot Arena text leaderboard, overall, without style control"
SNAPSHOT_TABLE_ORIGIN = "shipped snapshot"

# The whole published table on ``SCALE``; the file's first lines name its source.
SNAPSHOT_FILE = Path(__file__).parent / f"arena_{ARENA_DATE}.csv"


@dataclass(frozen=True, slots=True)
class ArenaSource:
    """A published table: a data set on the hub, or a folder laid out like one."""

    name: str
    config: str | None
    split: str
    scale: str


DEFAULT_SOURCES = (
    ArenaSource("lmarena-ai/leaderboard-dataset", "text", "latest", SCALE),
    # Copied day by day from the leaderboard's own page, whose default score it holds.
    ArenaSource("mathewhe/chatbot-arena-elo", None, "train", "Chatbot Arena leaderboard, Arena Score as published"),
)


@dataclass(frozen=True, slots=True)
class ArenaTable:
    """Ratings of one date and one scale. ``notes`` are to be said to the user."""

    scores: Mapping[str, float]
    origin: str
    revision: str | None
    date: str
    scale: str
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What a figure from this table is: its scale and date."""
        return f"{self.scale}, {self.date}"


def snapshot_table(*notes: str) -> ArenaTable:
    """The shipped figures; a rating that ``config.py`` gives a contestant counts as configured."""
    with SNAPSHOT_FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        scores = {row["model"]: float(row["score"]) for row in rows}
    configured = {c.arena_name: c.elo for c in DEFAULT_MODELS.values() if c.arena_name and c.elo is not None}
    return ArenaTable({**scores, **configured}, SNAPSHOT_TABLE_ORIGIN, None, ARENA_DATE, SCALE, notes)


def load_table(
    cache_dir: Path, *, sources: Sequence[ArenaSource] = DEFAULT_SOURCES, refresh: bool = False, offline: bool = False
) -> ArenaTable:
    """The cached table; else (or with ``refresh``) the first source that answers; else the shipped snapshot.

    ``offline`` asks no hub. A damaged cache file is set aside; ``notes`` say so, and which source was out of reach.
    """
    path = cache_dir / ARENA_FILE
    kept, notes = _read_cache(path)
    if kept is not None and not refresh:
        return dataclasses.replace(kept, notes=(*notes, *_snapshot_notes(kept)))
    found = None if offline else _from_sources(sources, notes)
    if found is None and kept is not None:
        return dataclasses.replace(kept, notes=(*notes, f"ratings stay as they were cached: {kept.label}"))
    table = found or snapshot_table()
    _write_cache(path, table)
    return dataclasses.replace(table, notes=(*notes, *table.notes, *_snapshot_notes(table)))


def ratings_for(
    contestants: Mapping[str, Contestant], table: ArenaTable, matches: Mapping[str, Match] | None = None
) -> dict[str, Rating]:
    """Each contestant's rating from this table and no other; one that is not in it is unrated and says so."""
    return {name: _rating(name, c, table, (matches or {}).get(name)) for name, c in contestants.items()}


def contestants_for(
    tags: Iterable[str], table: ArenaTable, *, ollama: bool = True
) -> tuple[dict[str, Contestant], dict[str, Match]]:
    """Contestants for Ollama tags, or for the names of another server's models, and how each got its Arena name;
    configured tags keep what is configured."""
    contestants: dict[str, Contestant] = {}
    matches: dict[str, Match] = {}
    for tag in dict.fromkeys(tags):
        if tag in DEFAULT_MODELS:
            contestants[tag] = dataclasses.replace(DEFAULT_MODELS[tag], ollama_tag=tag if ollama else None)
            what = "configured, as a proxy" if DEFAULT_MODELS[tag].proxy else "configured"
            matches[tag] = Match(DEFAULT_MODELS[tag].arena_name, 1.0, what)
            continue
        matches[tag] = match_arena_name(tag, table.scores, ollama=ollama)
        contestants[tag] = Contestant(matches[tag].arena_name, None, tag if ollama else None)
    return contestants, matches


def _rating(name: str, contestant: Contestant, table: ArenaTable, match: Match | None) -> Rating:
    tag = contestant.ollama_tag
    if contestant.arena_name is None:
        why = match.reason if match else "the Arena never listed it"
        return Rating(name, None, f"no rating: {why}", None, tag)
    listed = same_model(contestant.arena_name, table.scores)
    kind = "proxy: " if contestant.proxy else ""
    if listed is None:
        why = f"no rating: {kind}{contestant.arena_name} is not in the one table used ({table.label})"
        return Rating(name, None, why, contestant.arena_name, tag, contestant.proxy)
    source = f"{kind}{listed} ({table.label})"
    if match is not None and name not in DEFAULT_MODELS:
        source += f"; name matched with confidence {match.confidence:.2f}: {match.reason}"
    return Rating(name, table.scores[listed], source, listed, tag, contestant.proxy)


def _snapshot_notes(table: ArenaTable) -> tuple[str, ...]:
    if table.origin != SNAPSHOT_TABLE_ORIGIN:
        return ()
    return (f"ratings are the SHIPPED SNAPSHOT of {table.date}, not today's; --refresh all asks the hub again",)


# ── Sources ──────────────────────────────────────────────────────────────────────────────────────────────


def _from_sources(sources: Sequence[ArenaSource], notes: list[str]) -> ArenaTable | None:
    """The first source that gives a usable table; why the others did not goes to ``notes``."""
    reachable: bool | None = None
    for source in sources:
        if not Path(source.name).is_dir():
            if reachable is None:
                reachable = hub.reachable()
                if not reachable:
                    why = "HF_HUB_OFFLINE is set" if hub.offline() else f"no answer from {hub.endpoint()}"
                    notes.append(f"the model hub is out of reach: {why}")
            if not reachable:
                continue
        try:
            return hub.within(hub.LOAD_SECONDS, lambda source=source: _load(source))  # type: ignore[misc]
        except Exception as error:  # whatever a source's client raises, the next source is asked
            said = (str(error).splitlines() or [""])[0]
            notes.append(f"{source.name} gave no ratings: {type(error).__name__}: {said}")
    return None


def _load(source: ArenaSource) -> ArenaTable:
    import tempfile

    import datasets

    with tempfile.TemporaryDirectory() as scratch, hub.quiet_datasets():
        data = datasets.load_dataset(
            source.name, source.config, split=source.split, cache_dir=scratch, keep_in_memory=True
        )
        columns = {name: list(data[name]) for name in data.column_names}
    if Path(source.name).is_dir():
        return _table(columns, source)
    from huggingface_hub import HfApi

    info = HfApi(endpoint=hub.endpoint()).dataset_info(source.name, timeout=hub.REACH_SECONDS)
    return _table(columns, source, info.sha, info.last_modified.date().isoformat() if info.last_modified else None)


def _table(
    columns: Mapping[str, Sequence[Any]],
    source: ArenaSource,
    revision: str | None = None,
    changed: str | None = None,
) -> ArenaTable:
    """Rows of category overall and of the newest date, whatever the columns are exactly called.

    ``changed``: the day of the data set's last change, for a table that holds no dates.
    """
    models = _column(columns, "modelname", "model", "name", "key")
    scores = _column(columns, "rating", "arenascore", "score", "arenaelo", "elo", "elorating")
    if models is None or scores is None:
        raise ValueError(f"no columns of names and ratings among {', '.join(columns)}")
    kinds = _column(columns, "category") or ["overall"] * len(models)
    days = _column(columns, "leaderboardpublishdate", "publishdate", "date") or [""] * len(models)
    rows = [
        (str(day)[:10], model, score)
        for model, score, kind, day in zip(models, scores, kinds, days, strict=True)
        if kind == "overall"
    ]
    dates = {date for date, _, _ in rows}
    newest = max(dates, default="")
    rated: dict[str, float] = {}
    for date, model, score in rows:
        number = _number(score)
        if model and number is not None and date == newest:
            rated.setdefault(str(model).strip(), number)
    if not rated:
        raise ValueError("no rated model of category overall")
    notes = (f"{source.name} holds {len(dates)} dates: only {newest} is used",) if len(dates) > 1 else ()
    return ArenaTable(rated, source.name, revision, newest or changed or "date not given", source.scale, notes)


def _column(columns: Mapping[str, Sequence[Any]], *wanted: str) -> Sequence[Any] | None:
    """The first of ``wanted`` that is there, letters and digits compared only."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): values for name, values in columns.items()}
    return next((plain[name] for name in wanted if name in plain), None)


def _number(value: Any) -> float | None:
    """1338, "1,338" or "1338.2"; None for what is no plausible rating."""
    try:
        number = float(str(value).replace(",", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# ── Cache ────────────────────────────────────────────────────────────────────────────────────────────────


class _Held(BaseModel):
    """What is kept of a table; a figure that somebody edits is taken as it stands."""

    source: str
    revision: str | None
    date: str
    scale: str
    scores: dict[str, FiniteFloat]


def _write_cache(path: Path, table: ArenaTable) -> None:
    scores = dict(sorted(table.scores.items(), key=lambda item: (-item[1], item[0])))
    held = _Held(source=table.origin, revision=table.revision, date=table.date, scale=table.scale, scores=scores)
    write_json(path, held.model_dump())


def _read_cache(path: Path) -> tuple[ArenaTable | None, list[str]]:
    """The cached table, or None and what to say. A snapshot that this version does not ship is not used."""
    data = read(path)
    if data is None:
        return None, []
    try:
        held = _Held.model_validate_json(data)
    except ValidationError as error:
        why, aside = error.errors()[0]["msg"], set_aside(path).name
        return None, [f"{path} was damaged ({why}); it was moved to {aside} and is made anew"]
    shipped = snapshot_table()
    lacking = held.date != shipped.date or shipped.scores.keys() - held.scores.keys()
    if held.source == shipped.origin and lacking:
        return None, []
    return ArenaTable(held.scores, held.source, held.revision, held.date, held.scale), []
