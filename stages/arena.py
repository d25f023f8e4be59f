"""Global ratings from the Chatbot Arena: one table, of one date and one scale, for a whole run.

table = load_table(Path("cache"))                 # cache, else hub, else the shipped snapshot
contestants, matches = contestants_for(["gemma2:9b"], table)
ratings = ratings_for(contestants, table, matches)
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, FiniteFloat, ValidationError

from config import ARENA_DATE, ARENA_FILE, DEFAULT_MODELS, Contestant
from core import hub
from core.files import read, set_aside, write_json
from core.records import Rating
from stages.arena_names import Match, match_arena_name, same_model

# The published table: a data set on the hub with columns model_name, rating, category and leaderboard_publish_date.
SOURCE, CONFIG, SPLIT = "lmarena-ai/leaderboard-dataset", "text", "latest"
SCALE = "Chatbot Arena text leaderboard, overall, without style control"
# All of it as of one day; the file's first lines name its source.
SNAPSHOT_FILE = Path(__file__).parent / f"arena_{ARENA_DATE}.csv"
SNAPSHOT = "shipped snapshot"


@dataclass(frozen=True, slots=True)
class ArenaTable:
    """Ratings of one date and one scale. ``notes`` are to be said to the user."""

    scores: Mapping[str, float]
    origin: str
    date: str
    scale: str = SCALE
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The scale and the date of its figures."""
        return f"{self.scale}, {self.date}"


def snapshot_table() -> ArenaTable:
    """The shipped figures; a rating that ``config.py`` gives a contestant counts as configured."""
    with SNAPSHOT_FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        scores = {row["model"]: float(row["score"]) for row in rows}
    configured = {c.arena_name: c.elo for c in DEFAULT_MODELS.values() if c.arena_name and c.elo is not None}
    return ArenaTable({**scores, **configured}, SNAPSHOT, ARENA_DATE)


def load_table(cache_dir: Path, *, refresh: bool = False, offline: bool = False) -> ArenaTable:
    """The cached table; else (or with ``refresh``) the hub's; else the shipped snapshot.

    ``offline`` asks no hub. A damaged cache file is set aside; ``notes`` say so, and why the hub gave nothing.
    """
    path = cache_dir / ARENA_FILE
    table, notes = _read_cache(path)
    if table is None or refresh:
        found = None if offline else _from_hub(notes)
        if found is None and table is not None:
            notes.append(f"ratings stay as they were cached: {table.label}")
        table = found or table or snapshot_table()
        scores = dict(sorted(table.scores.items(), key=lambda item: (-item[1], item[0])))
        held = _Held(source=table.origin, date=table.date, scale=table.scale, scores=scores)
        write_json(path, held.model_dump())
    if table.origin == SNAPSHOT:
        notes.append(f"ratings are the SHIPPED SNAPSHOT of {table.date}, not today's; --refresh all asks the hub again")
    return dataclasses.replace(table, notes=tuple(notes))


class _Held(BaseModel):
    """A table as it is cached; a figure that somebody edits is taken as it stands."""

    source: str
    date: str
    scale: str
    scores: dict[str, FiniteFloat]


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
    if held.source == SNAPSHOT and (held.date != shipped.date or shipped.scores.keys() - held.scores.keys()):
        return None, []
    return ArenaTable(held.scores, held.source, held.date, held.scale), []


def _from_hub(notes: list[str]) -> ArenaTable | None:
    """The published table; None, and the reason in ``notes``, where it can't be had."""
    if not hub.reachable():
        why = "HF_HUB_OFFLINE is set" if hub.offline() else f"no answer from {hub.endpoint()}"
        notes.append(f"the model hub is out of reach: {why}")
        return None
    try:
        return hub.within(hub.LOAD_SECONDS, _load)
    except Exception as error:  # the hub's client raises errors of many libraries, and the snapshot stands in
        notes.append(f"{SOURCE} gave no ratings: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        return None


def _load() -> ArenaTable:
    """Rows of category overall and of the newest date. Raises ValueError where there is none."""
    import tempfile

    import datasets

    hub.quiet_datasets()
    with tempfile.TemporaryDirectory() as scratch:
        rows = list(datasets.load_dataset(SOURCE, CONFIG, split=SPLIT, cache_dir=scratch, keep_in_memory=True))
    rated = [row for row in rows if row["category"] == "overall" and row["rating"] is not None]
    if not rated:
        raise ValueError("no rated model of category overall")
    date = max(str(row["leaderboard_publish_date"])[:10] for row in rated)
    newest = [row for row in rated if str(row["leaderboard_publish_date"]).startswith(date)]
    return ArenaTable({row["model_name"].strip(): float(row["rating"]) for row in newest}, SOURCE, date)


# ── Contestants ──────────────────────────────────────────────────────────────────────────────────────────


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
            matches[tag] = Match(DEFAULT_MODELS[tag].arena_name, what)
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
        source += f"; name matched: {match.reason}"
    return Rating(name, table.scores[listed], source, listed, tag, contestant.proxy)
