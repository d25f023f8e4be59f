"""Global ratings from the Chatbot Arena: one table, of one date and one scale, for a whole run.

table = load_table(Path("cache"))                 # cache, else hub, else the shipped snapshot
contestants, ratings = rate(["gemma2:9b"], table)
"""

from __future__ import annotations

import csv
import dataclasses
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from config import ARENA_DATE, ARENA_FILE, DEFAULT_MODELS, Contestant
from core import hub
from core.files import read, set_aside, write_json
from core.records import Rating
from stages.arena_names import match_arena_name, same_model

# The published table: a data set on the hub with columns model_name, rating, category and leaderboard_publish_date.
SOURCE, CONFIG, SPLIT = "lmarena-ai/leaderboard-dataset", "text", "latest"
SCALE = "Chatbot Arena text leaderboard, overall, without style control"
# All of it as of one day; the file's first lines name its source.
SNAPSHOT_FILE = Path(__file__).parent / f"arena_{ARENA_DATE}.csv"
SNAPSHOT = "shipped snapshot"


@dataclass(frozen=True, slots=True)
class ArenaTable:
    """Ratings of one date and one scale, as they are cached; a figure that somebody edits is taken as it stands."""

    source: str
    date: str
    scores: Mapping[str, FiniteFloat]
    scale: str = SCALE
    notes: tuple[str, ...] = ()  # to be said to the user; not in the cache

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
    return ArenaTable(SNAPSHOT, ARENA_DATE, {**scores, **configured})


def load_table(cache_dir: Path, *, refresh: bool = False, offline: bool = False) -> ArenaTable:
    """The cached table; else (or with ``refresh``) the hub's; else the shipped snapshot.

    ``offline`` asks no hub. A damaged cache file is set aside; ``notes`` say so, and why the hub gave nothing.
    """
    path, notes, table = cache_dir / ARENA_FILE, list[str](), None
    if (data := read(path)) is not None:
        try:
            table = TypeAdapter(ArenaTable).validate_json(data)
        except ValidationError as error:
            why, aside = error.errors()[0]["msg"], set_aside(path).name
            notes.append(f"{path} was damaged ({why}); it was moved to {aside} and is made anew")
    if table and table.source == SNAPSHOT and table.date != ARENA_DATE:
        table = None  # another version's
    if table is None or refresh:
        found = None if offline else _from_hub(notes)
        if table and not found:
            notes.append(f"ratings stay as they were cached: {table.label}")
        table = found or table or snapshot_table()
        scores = dict(sorted(table.scores.items(), key=lambda item: (-item[1], item[0])))
        write_json(path, {"source": table.source, "date": table.date, "scale": table.scale, "scores": scores})
    if table.source == SNAPSHOT:
        notes.append(f"ratings are the SHIPPED SNAPSHOT of {table.date}, not today's; --refresh all asks the hub again")
    return dataclasses.replace(table, notes=tuple(notes))


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
    import datasets

    hub.quiet_datasets()
    with tempfile.TemporaryDirectory() as scratch:
        rows = list(datasets.load_dataset(SOURCE, CONFIG, split=SPLIT, cache_dir=scratch, keep_in_memory=True))
    rated = [row for row in rows if row["category"] == "overall" and row["rating"] is not None]
    if not rated:
        raise ValueError("no rated model of category overall")
    date = max(str(row["leaderboard_publish_date"])[:10] for row in rated)
    newest = [row for row in rated if str(row["leaderboard_publish_date"]).startswith(date)]
    return ArenaTable(SOURCE, date, {row["model_name"].strip(): float(row["rating"]) for row in newest})


# ── Contestants ──────────────────────────────────────────────────────────────────────────────────────────


def rate(
    names: Iterable[str], table: ArenaTable, *, ollama: bool = True, contents: Mapping[str, str] | None = None
) -> tuple[dict[str, Contestant], dict[str, Rating]]:
    """Contestants and their ratings, from this table and no other; who is not in it is unrated and says why.

    ``names``: Ollama tags, or (``ollama`` False) another server's models; ``contents``: {name: what the model's own
    file says it is}, looked up where the name finds nothing. What config.py says of a tag stands.
    """
    contestants, ratings = {}, {}
    for name in dict.fromkeys(names):
        tag, known = name if ollama else None, DEFAULT_MODELS.get(name)
        if known:
            contestants[name] = dataclasses.replace(known, ollama_tag=tag)
            listed, kind = same_model(known.arena_name or "", table.scores), "proxy: " if known.proxy else ""
            how, why = "", f"{kind}{known.arena_name} is not in the one table used ({table.label})"
        else:
            listed, why = match_arena_name(name, table.scores, ollama=ollama)
            if listed is None and (inside := (contents or {}).get(name)):
                listed, by_file = match_arena_name(inside, table.scores, ollama=False)
                why = f"its file holds {inside}: {by_file}"
            contestants[name] = Contestant(listed, None, tag)
            kind, how = "", f"; name matched: {why}"
        source = f"{kind}{listed} ({table.label}){how}" if listed else f"no rating: {why}"
        elo, named = table.scores[listed] if listed else None, listed or contestants[name].arena_name
        ratings[name] = Rating(name, elo, source, named, tag, contestants[name].proxy)
    return contestants, ratings
