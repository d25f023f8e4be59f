"""Arena ratings from published tables, the cache and the snapshot; Ollama tags matched to Arena names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config import ARENA_DATE, DEFAULT_MODELS
from core import hub
from stages import arena
from stages.arena import load_table, match_arena_name, parse_name, rate, snapshot_table

SHIPPED = snapshot_table().scores
SOURCE = f"{arena.SCALE}, {ARENA_DATE}"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves this machine: the hub is a port of it where nobody listens."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────

Row = tuple[str, float | None, str, str]
COLUMNS = ("model_name", "rating", "category", "leaderboard_publish_date")
LMARENA: list[Row] = [
    ("llama-3-8b-instruct", 1170.6, "overall", "2025-09-01"),
    ("llama-3.1-8b-instruct", 1192.3, "overall", "2025-09-01"),
    ("llama-3.1-8b-instruct", 1250.0, "coding", "2025-09-01"),
    ("gemma-3-4b-it", 1290.25, "overall", "2025-09-01"),
    ("phi-3-mini-4k-instruct-june-2024", 1086.0, "overall", "2025-09-01"),
]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts rows of the Arena's data set in the hub's place."""

    def publish(rows: list[Row] = LMARENA) -> None:
        def load(*named: str, split: str, **_: Any) -> list[dict[str, Any]]:
            assert (*named, split) == (arena.SOURCE, "text", "latest"), "without style control"
            return [dict(zip(COLUMNS, row, strict=True)) for row in rows]

        monkeypatch.setattr(hub, "load_dataset", load)

    return publish


def test_ratings_come_from_one_published_table_and_who_is_not_in_it_is_unrated(
    tmp_path: Path, published: Callable[..., None]
) -> None:
    older = [("gemma-2-9b-it", 1200.0, "overall", "2025-03-01"), ("gemma-3-4b-it", 9.0, "overall", "2025-03-01")]
    published([*LMARENA, *older, ("unrated-1b", None, "overall", "2025-09-01")])
    table = load_table(tmp_path / "cache")
    wanted = {name: rating for name, rating, category, _ in LMARENA if category == "overall"}
    assert table.scores == wanted, "of category overall, of the newest date, without style control"
    assert (table.label, table.notes) == (f"{arena.SCALE}, 2025-09-01", ())
    ratings = rate(DEFAULT_MODELS, table)
    assert {name: r.elo for name, r in ratings.items()} == {
        "llama3:8b": 1170.6, "llama3.1:8b": 1192.3, "gemma3:4b": 1290.25, "qwen3:8b": None,
        "phi4-mini:3.8b": 1086.0, "mistral:7b": None,
    }, "the hub writes names its own way, and the snapshot fills no gap"  # fmt: skip
    assert ratings["phi4-mini:3.8b"].source == f"proxy: phi-3-mini-4k-instruct-june-2024 ({table.label})"
    assert ratings["qwen3:8b"].source.startswith("no rating: proxy: Qwen3-30B-A3B is not in the one table used")


def test_without_a_hub_the_whole_shipped_snapshot_is_used_and_said(tmp_path: Path) -> None:
    assert len(SHIPPED) == 265 and SHIPPED["Gemini-2.5-Pro"] == 1470.0
    table = load_table(tmp_path)
    assert "out of reach" in table.notes[0]
    assert f"SHIPPED SNAPSHOT of {ARENA_DATE}" in table.notes[1]
    ratings = rate([*DEFAULT_MODELS, "vicuna-13b", "gpt-4"], table)
    assert {name: ratings[name].elo for name in DEFAULT_MODELS} == {
        "llama3:8b": 1171.0, "llama3.1:8b": 1193.0, "gemma3:4b": 1293.0, "qwen3:8b": 1320.0, "phi4-mini:3.8b": 1087.0,
        "mistral:7b": 1097.0,
    }  # fmt: skip
    assert ratings["mistral:7b"].source == f"proxy: Mistral-7B-Instruct-v0.2 ({SOURCE})"
    assert (ratings["vicuna-13b"].elo, ratings["gpt-4"].elo) == (SHIPPED["Vicuna-13B"], None)


def test_the_cached_table_stays_until_it_is_refreshed(
    tmp_path: Path, published: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(arena, "ARENA_DATE", "2024-01-01")
        load_table(tmp_path)
    assert load_table(tmp_path).date == ARENA_DATE, "the snapshot of another version is not used"
    published()
    assert load_table(tmp_path).source == arena.SNAPSHOT, "one scale for all runs"
    fresh = load_table(tmp_path, refresh=True)
    assert fresh.source == arena.SOURCE
    monkeypatch.setattr(hub, "status", lambda path: 0)
    assert load_table(tmp_path) == fresh, "nobody is asked"
    assert load_table(tmp_path, refresh=True).scores == fresh.scores


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────


NAMES = {
    "llama3.2": "Meta-Llama-3.2-3B-Instruct", "gemma3:12b-it-qat": "Gemma-3-12B-it", "phi4": "Phi-4",
    "qwen2.5-coder:32b": "qwen2.5-coder-32b-instruct", "mixtral:8x7b": "mixtral-8x7b-instruct-v0.1",
    "command-r:35b-08-2024-q4_0": "command-r-08-2024", "deepseek-r1:671b": "deepseek-r1",
    "phi3": "Phi-3-Mini-128k-Instruct", "phi3:mini": "Phi-3-Mini-128k-Instruct",
    "phi3:3.8b": "Phi-3-Mini-128k-Instruct", "phi3:medium": "Phi-3-Medium-4k-Instruct", "GPT-4-0613": "GPT-4-0613",
    # refused, since one part of the name is another
    "deepseek-r1:8b": "size 8b is not listed",  # the distilled one; the Arena's has 671b
    "mistral:7b": "version 0.3 is not listed", "llama3.2-vision:11b": "variant vision is not listed",
    "zephyr:7b": "variant (none) is not listed", "nobodys-llama3:8b": "family nobodys is not listed",
    "": "family (none) is not listed",
}  # fmt: skip
FILES = {
    "Meta-Llama-3.1-8B-Instruct.Q4_K_M": "Meta-Llama-3.1-8B-Instruct", "gemma-3-4b-it@q8_0": "Gemma-3-4B-it",
    "unsloth/gemma-3-12b-it-qat-GGUF:UD-Q4_K_XL": "Gemma-3-12B-it",
    r"C:\models\Qwen2.5-72B-Instruct-Q4_K_M-00001-of-00002.gguf": "Qwen2.5-72B-Instruct",
    "google_gemma-3-1b-it-Q4_K_M": "size 1b is not listed",
    "my_gemma-3-4b-it-Q4_K_M.gguf": "family my is not listed",  # somebody's own
}  # fmt: skip


def test_a_name_finds_its_rating_and_sizes_versions_and_variants_are_never_mixed() -> None:
    for names in (NAMES, FILES):
        for name, expected in names.items():
            found, why = match_arena_name(name, SHIPPED, ollama=names is NAMES)
            assert parse_name(found) == parse_name(expected) if found else why.startswith(expected), name
