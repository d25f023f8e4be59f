"""Global ratings from the Chatbot Arena: one table, of one date and one scale, for a whole run.

table = load_table(Path("cache"))                 # cache, else hub, else the shipped snapshot
ratings = rate(["gemma2:9b"], table)

A name matches where family, version, size and variant all agree, and never silently:

match_arena_name("llama3.2", ["Meta-Llama-3.2-3B-Instruct"])     # the name, "…; assumed: size 3b, Ollama's default"
"""

import csv
import dataclasses
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from config import ARENA_DATE, ARENA_FILE, DEFAULT_MODELS, Contestant
from core import hub
from core.files import read, set_aside, write_json
from core.records import Rating
from core.tables import first_line

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
    """The shipped figures."""
    with SNAPSHOT_FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        scores = {row["model"]: float(row["score"]) for row in rows}
    return ArenaTable(SNAPSHOT, ARENA_DATE, scores)


def load_table(cache_dir: Path, *, refresh: bool = False) -> ArenaTable:
    """The cached table; else (or with ``refresh``) the hub's; else the shipped snapshot.

    A damaged cache file is set aside; ``notes`` say so, and why the hub gave nothing.
    """
    path, notes, table = cache_dir / ARENA_FILE, list[str](), None
    if (data := read(path)) is not None:
        try:
            table = TypeAdapter(ArenaTable).validate_json(data)
        except ValidationError:
            notes.append(f"{path} was damaged; it was moved to {set_aside(path).name} and is made anew")
    if table and table.source == SNAPSHOT and table.date != ARENA_DATE:
        table = None  # another version's
    if table is None or refresh:
        try:
            table = hub.within(hub.LOAD_SECONDS, _from_hub)
        except Exception as error:  # the hub's client raises errors of many libraries, and the snapshot stands in
            notes.append(f"{SOURCE} gave no ratings: {first_line(error)}")
        table = table or snapshot_table()
        scores = dict(sorted(table.scores.items(), key=lambda item: (-item[1], item[0])))
        write_json(path, {"source": table.source, "date": table.date, "scale": table.scale, "scores": scores})
    if table.source == SNAPSHOT:
        notes.append(f"ratings are the SHIPPED SNAPSHOT of {table.date}, not today's; --refresh all asks the hub again")
    return dataclasses.replace(table, notes=tuple(notes))


def _from_hub() -> ArenaTable:
    """Rows of category overall and of the newest date. Raises whatever keeps them from being had."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = list(hub.load_dataset(SOURCE, CONFIG, split=SPLIT, cache_dir=scratch, keep_in_memory=True))
    rated = [row for row in rows if row["category"] == "overall" and row["rating"] is not None]
    date = max(str(row["leaderboard_publish_date"])[:10] for row in rated)
    newest = [row for row in rated if str(row["leaderboard_publish_date"]).startswith(date)]
    return ArenaTable(SOURCE, date, {row["model_name"].strip(): float(row["rating"]) for row in newest})


# ── Contestants ──────────────────────────────────────────────────────────────────────────────────────────


def rate(
    names: Iterable[str], table: ArenaTable, *, ollama: bool = True, contents: Mapping[str, str] | None = None
) -> dict[str, Rating]:
    """Every contestant's rating, from this table and no other; who is not in it is unrated and says why.

    ``names``: Ollama tags, or (``ollama`` False) another server's models; ``contents``: {name: what the model's own
    file says it is}, looked up where the name finds nothing. What config.py says of a tag stands.
    """
    ratings = {}
    for name in names:
        known = DEFAULT_MODELS.get(name, Contestant())
        how, prefix = "", "proxy: " if known.proxy else ""
        if known.arena_name:
            listed, _ = match_arena_name(known.arena_name, table.scores, ollama=False)
            why = f"{prefix}{known.arena_name} is not in the one table used ({table.label})"
        else:
            listed, why = match_arena_name(name, table.scores, ollama=ollama)
            if listed is None and (inside := (contents or {}).get(name)):
                listed, by_file = match_arena_name(inside, table.scores, ollama=False)
                why = f"its file holds {inside}: {by_file}"
            how = f"; name matched: {why}"
        source = f"{prefix}{listed} ({table.label}){how}" if listed else f"no rating: {why}"
        elo = table.scores[listed] if listed else None
        ratings[name] = Rating(name, elo, source, listed or known.arena_name, known.proxy)
    return ratings


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────

# What Ollama serves where a tag gives no size (ollama.com/library), and where it gives no version.
_DEFAULT_SIZES = {
    "llama2": "7b", "llama3": "8b", "llama3.1": "8b", "llama3.2": "3b", "llama3.3": "70b", "gemma": "7b",
    "gemma2": "9b", "gemma3": "4b", "gemma3n": "e4b", "qwen": "4b", "qwen2": "7b", "qwen2.5": "7b",
    "qwen2.5-coder": "7b", "qwen3": "8b", "qwq": "32b", "mistral": "7b", "mixtral": "8x7b", "mistral-nemo": "12b",
    "mistral-small": "24b", "phi3": "3.8b", "phi3.5": "3.8b", "phi4": "14b", "phi4-mini": "3.8b", "deepseek-r1": "8b",
    "deepseek-v3": "671b", "command-r": "35b", "command-r-plus": "104b", "smollm2": "1.7b", "vicuna": "7b",
    "gpt-oss": "20b", "solar": "10.7b",
}  # fmt: skip
_DEFAULT_VERSIONS = {"mistral": "0.3", "mixtral": "0.1", "gemma": "1.1", "qwen": "1.5", "solar": "1"}
# Sizes of models whose Arena names give none: (family, version, variant).
_KNOWN_SIZES = {
    ("phi", "4", ""): "14b", ("command", None, "r"): "35b", ("command", None, "plus r"): "104b",
    ("deepseek", None, "r1"): "671b", ("deepseek", "3", ""): "671b", ("mistral", None, "large"): "123b",
}  # fmt: skip
_PHI_SIZES = {"mini": "3.8b", "small": "7b", "medium": "14b"}  # Microsoft's words

# What is left of a file's or repository's name when the model is taken out of it.
_AROUND = re.compile(
    r"(-\d{5}-of-\d{5})?\.gguf$"
    r"|^(google|meta-llama|mistralai|qwen|microsoft|nvidia|deepseek-ai|ibm-granite|cohereforai|huggingfacetb|openai)_"
    r"(meta-)?|^meta-"
    r"|[-_.:@](?:(?:ud-|i1-)?i?q\d\w*|b?f16|fp16|f32|fp8|mxfp4|int[48]|[48]bit|mlx|qat|awq|gptq)(?=[-_.:@]|$)"
)
_SIZE = re.compile(r"^(e|\d+x)?(\d+(?:\.\d+)?)([bm])$")
_VERSION = re.compile(r"^v?(\d{1,2}(?:\.\d+)?n?)$")
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_EDITION = re.compile(rf"^(?:\d+k|a\d+(?:\.\d+)?b|0\d|\d{{4,8}}|{_MONTHS})$")  # dates, contexts, active parameters
_TUNED = frozenset({"instruct", "chat", "it", "dense", "gguf", "latest"})


class ModelName(NamedTuple):
    """A model's name, taken apart."""

    family: str
    version: str | None = None
    size: str | None = None  # in billions of parameters: "8b", "0.135b", "8x7b", "e4b"
    variant: str = ""  # words that make another model of it, in alphabetical order: base, coder, vision, r1, …
    edition: frozenset[str] = frozenset()


def parse_name(name: str, *, ollama: bool = False) -> ModelName:
    """Take an Arena name, or the name of a model's file, apart, with the size that it leaves out where that is known;
    ``ollama``: a tag."""
    text = _AROUND.sub("", re.split(r"[/\\]", name.strip().lower())[-1])
    text = re.sub(rf"({_MONTHS})-(\d\d)(?!\d)", r"\1-20\2", text)  # June-24 is June 2024
    text = re.sub(r"(?<![^-_:\s])([a-z]{3,})(\d+(\.\d+)?n?)(?![^-_:\s])", r"\1-\2", text)  # "gemma3n", "small3.1"
    family, *tokens = [token for token in re.split(r"[-_:@\s()]+", text) if token] or [""]
    if family == "phi":
        tokens = list(dict.fromkeys(_PHI_SIZES.get(token, token) for token in tokens))
    version, size, variant, edition = None, None, set[str](), set[str]()
    for token in tokens:
        if token in _TUNED:
            continue
        if (found := _SIZE.match(token)) and size is None:
            size = f"{found[1] or ''}{float(found[2]) / (1000 if found[3] == 'm' else 1):g}b"
        elif _EDITION.match(token):
            edition.add(token)
        elif version is None and (found := _VERSION.match(token)):
            version = found[1].removesuffix(".0")  # "3.0" and "3" are one version
        else:
            variant.add(token)
    words = " ".join(sorted(variant))
    if not ollama:
        size = size or _KNOWN_SIZES.get((family, version, words))
    return ModelName(family, version, size, words, frozenset(edition))


def match_arena_name(tag: str, arena_names: Collection[str], *, ollama: bool = True) -> tuple[str | None, str]:
    """A tag's Arena name and what was assumed, or None and the reason. Two sizes, versions or variants of one family
    are never mixed.

    ``ollama`` False: the name of another server's model. What it leaves out is not what Ollama's library serves.
    """
    wanted, assumed = parse_name(tag, ollama=ollama), list[str]()
    model = tag.strip().lower().rsplit("/", 1)[-1].partition(":")[0]
    for part, defaults in (("version", _DEFAULT_VERSIONS), ("size", _DEFAULT_SIZES)):
        if ollama and getattr(wanted, part) is None and model in defaults:
            wanted = wanted._replace(**{part: defaults[model]})  # type: ignore[arg-type]
            assumed.append(f"assumed: {part} {defaults[model]}, Ollama's default")
    same = [name for name in arena_names if name.lower() == tag.strip().lower()]
    if same and not assumed:  # "deepseek-r1" is another size on Ollama than on the Arena
        return same[0], "the same name"
    pool = {name: parse_name(name) for name in sorted(arena_names)}
    for part in ("family", "variant", "version", "size"):
        own = getattr(wanted, part)
        pool = {name: parsed for name, parsed in pool.items() if getattr(parsed, part) == own}
        if not pool or (ollama and (part, own) == ("size", None)):
            return None, f"{part} {own or '(none)'} is not listed, and another {part} is another model"
    best = min(pool, key=lambda name: (len(pool[name].edition ^ wanted.edition), name))
    return best, "; ".join(["family, version, size and variant agree", *assumed])
