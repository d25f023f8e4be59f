"""Global ratings from the Chatbot Arena: one table, of one date and one scale, for a whole run.

table = load_table(Path("cache"))                 # cache, else hub, else the shipped snapshot
contestants, ratings = rate(["gemma2:9b"], table)

A name matches where family, version, size and variant all agree, and never silently:

match_arena_name("llama3.2", ["Meta-Llama-3.2-3B-Instruct"])     # the name, "…; assumed: size 3b, Ollama's default"
"""

from __future__ import annotations

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


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────

# What Ollama serves where a tag gives no size (ollama.com/library), and where it gives no version.
_DEFAULT_SIZES = {
    "llama2": "7b", "llama3": "8b", "llama3.1": "8b", "llama3.2": "3b", "llama3.3": "70b", "gemma": "7b",
    "gemma2": "9b", "gemma3": "4b", "gemma3n": "e4b", "qwen": "4b", "qwen2": "7b", "qwen2.5": "7b",
    "qwen2.5-coder": "7b", "qwen3": "8b", "qwq": "32b", "mistral": "7b", "mixtral": "8x7b", "mistral-nemo": "12b",
    "mistral-small": "24b", "phi3": "3.8b", "phi3.5": "3.8b", "phi4": "14b", "phi4-mini": "3.8b",
    "deepseek-r1": "8b", "command-r": "35b", "command-r-plus": "104b", "smollm2": "1.7b", "vicuna": "7b",
    "gpt-oss": "20b", "solar": "10.7b",
}  # fmt: skip
_DEFAULT_VERSIONS = {"mistral": "0.3", "mixtral": "0.1", "gemma": "1.1", "qwen": "1.5", "solar": "1"}
# Sizes of models whose Arena names give none: (family, version, variant).
_KNOWN_SIZES = {
    ("phi", "4", ""): "14b", ("command", None, "r"): "35b", ("command", None, "plus r"): "104b",
    ("deepseek", None, "r1"): "671b", ("deepseek", "3", ""): "671b", ("mistral", None, "large"): "123b",
}  # fmt: skip
_SIZE_WORDS = {("phi", "mini"): "3.8b", ("phi", "small"): "7b", ("phi", "medium"): "14b"}  # Microsoft's

# What is left of a file's or repository's name when the model is taken out of it.
_SHARD = re.compile(r"(-\d{5}-of-\d{5})?\.gguf$")
_VENDOR = re.compile(
    r"^(google|meta-llama|mistralai|qwen|microsoft|nvidia|deepseek-ai|ibm-granite|cohereforai|huggingfacetb|openai)_"
)
_QUANTIZED = re.compile(
    r"[-_.:@](?:(?:ud-|i1-)?i?q\d\w*|b?f16|fp16|f32|fp8|mxfp4|int[48]|[48]bit|mlx|qat|awq|gptq)(?=[-_.:@]|$)"
)
_FAMILY = re.compile(r"^([a-z]+)(\d+(?:\.\d+)?n?)?$")
_SIZE = re.compile(r"^(\d+x)?(\d+(?:\.\d+)?)([bm])$")
_VERSION = re.compile(r"^v?(\d{1,2}(?:\.\d+)?n?)$")
_GROWN = re.compile(r"^([a-z]{3,})(\d+\.\d+)$")  # "small3.1"
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


def parse_name(name: str) -> ModelName:
    """Take an Ollama tag, the name of a model's file or an Arena name apart."""
    text = _SHARD.sub("", re.split(r"[/\\]", name.strip().lower())[-1])
    text = _QUANTIZED.sub("", _VENDOR.sub("", text))
    text = re.sub(rf"({_MONTHS})-(\d\d)(?!\d)", r"\1-20\2", text)  # June-24 is June 2024
    first, *tokens = [token for token in re.split(r"[-_:@\s()]+", text.removeprefix("meta-")) if token] or [""]
    found = _FAMILY.match(first)
    family, version = (found[1], found[2]) if found else (first, None)
    size, variant, edition = None, set[str](), set[str]()
    for token in tokens:
        here = _size(family, token)
        if token in _TUNED:
            continue
        if here and size in (None, here):
            size = here
        elif _EDITION.match(token):
            edition.add(token)
        elif version is None and (found := _VERSION.match(token)):
            version = found[1]
        elif version is None and (found := _GROWN.match(token)):
            variant.add(found[1])
            version = found[2]
        else:
            variant.add(token)
    version = version and version.removesuffix(".0")  # "3.0" and "3" are one version
    return ModelName(family, version, size, " ".join(sorted(variant)), frozenset(edition))


def parse_arena_name(name: str) -> ModelName:
    """Take an Arena name apart, with the size that it leaves out where that is known."""
    parsed = parse_name(name)
    return parsed._replace(size=parsed.size or _KNOWN_SIZES.get((parsed.family, parsed.version, parsed.variant)))


def _size(family: str, token: str) -> str | None:
    found = _SIZE.match(token)
    if found:
        return f"{found[1] or ''}{float(found[2]) / (1000 if found[3] == 'm' else 1):g}b"
    return token if re.match(r"^e\d+b$", token) else _SIZE_WORDS.get((family, token))


def same_model(name: str, names: Collection[str]) -> str | None:
    """The same model in another table ("Meta-Llama-3-8B-Instruct", "llama-3-8b-instruct"), or None."""
    wanted = parse_arena_name(name)
    found = [name] if name in names else [other for other in names if parse_arena_name(other) == wanted]
    return found[0] if len(found) == 1 else None


def match_arena_name(tag: str, arena_names: Collection[str], *, ollama: bool = True) -> tuple[str | None, str]:
    """A tag's Arena name and what was assumed, or None and the reason. Two sizes, versions or variants of one family
    are never mixed.

    ``ollama`` False: the name of another server's model. What it leaves out is not what Ollama's library serves.
    """
    wanted, assumed = parse_name(tag) if ollama else parse_arena_name(tag), list[str]()
    model = tag.strip().lower().rsplit("/", 1)[-1].partition(":")[0]
    for part, defaults in (("version", _DEFAULT_VERSIONS), ("size", _DEFAULT_SIZES)):
        if ollama and getattr(wanted, part) is None and model in defaults:
            wanted = wanted._replace(**{part: defaults[model]})  # type: ignore[arg-type]
            assumed.append(f"assumed: {part} {defaults[model]}, Ollama's default")
    same = [name for name in arena_names if name.lower() == tag.strip().lower()]
    if len(same) == 1 and not assumed:  # "deepseek-r1" is another size on Ollama than on the Arena
        return same[0], "the same name"
    pool = {name: parse_arena_name(name) for name in sorted(arena_names)}
    for part in ("family", "variant", "version", "size"):
        own = getattr(wanted, part)
        pool = {name: parsed for name, parsed in pool.items() if getattr(parsed, part) == own}
        if not pool or (ollama and (part, own) == ("size", None)):
            return None, f"{part} {own or '(none)'} is not listed, and another {part} is another model"
    best = min(pool, key=lambda name: (len(pool[name].edition ^ wanted.edition), name))
    return best, "; ".join(["family, version, size and variant agree", *assumed])
