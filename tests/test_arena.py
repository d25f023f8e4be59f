"""Arena ratings from published tables, the cache and the snapshot; Ollama tags matched to Arena names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from begun import jobs_of
from fake_ollama import FakeOllama, Model
from hypothesis import given
from hypothesis import strategies as st

from config import ARENA_DATE, ARENA_FILE, DEFAULT_MODELS, ROOT
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


@contextmanager
def server(status: int) -> Iterator[str]:
    """The address of something that answers every request with ``status``."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.end_headers()

    does = {"do_HEAD": answer, "do_GET": answer, "log_message": lambda *_: None}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (BaseHTTPRequestHandler,), does)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


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

    def publish(rows: list[Row] = LMARENA, columns: tuple[str, ...] = COLUMNS) -> None:
        def load(*named: str, split: str, **_: Any) -> list[dict[str, Any]]:
            assert (*named, split) == (arena.SOURCE, "text", "latest"), "without style control"
            return [dict(zip(columns, row, strict=True)) for row in rows]

        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
        monkeypatch.setattr(hub, "quiet_datasets", lambda: None)
        monkeypatch.setattr(hub, "reachable", lambda: True)

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
    _, ratings = rate(DEFAULT_MODELS, table)
    assert {name: r.elo for name, r in ratings.items()} == {
        "llama3:8b": 1170.6, "llama3.1:8b": 1192.3, "gemma3:4b": 1290.25, "qwen3:8b": None,
        "phi4-mini:3.8b": 1086.0, "mistral:7b": None,
    }, "the hub writes names its own way, and the snapshot fills no gap"  # fmt: skip
    assert ratings["phi4-mini:3.8b"].source == f"proxy: phi-3-mini-4k-instruct-june-2024 ({table.label})"
    assert ratings["qwen3:8b"].source.startswith("no rating: proxy: Qwen3-30B-A3B is not in the one table used")
    assert [name for name, r in ratings.items() if r.proxy] == ["qwen3:8b", "phi4-mini:3.8b", "mistral:7b"]


def test_a_table_of_another_shape_is_said_and_the_snapshot_stands_in(
    tmp_path: Path, published: Callable[..., None]
) -> None:
    published(columns=("model_name", "elo", "category", "leaderboard_publish_date"))
    found = load_table(tmp_path / "cache")
    assert found.source == arena.SNAPSHOT and "gave no ratings: KeyError: 'rating'" in found.notes[0]
    published([("a-1b", 1000.0, "coding", "2025-09-01")])
    assert "no rated model of category overall" in load_table(tmp_path / "coding").notes[0]


def test_without_a_hub_the_whole_shipped_snapshot_is_used_and_said(tmp_path: Path) -> None:
    lines = arena.SNAPSHOT_FILE.read_text(encoding="utf-8").splitlines()
    assert "fboulnois/llm-leaderboard-csv at e964e252a171" in lines[1]
    assert len(SHIPPED) == 265 and SHIPPED["Gemini-2.5-Pro"] == 1470.0
    table = load_table(tmp_path)
    assert "out of reach" in table.notes[0]
    assert f"SHIPPED SNAPSHOT of {ARENA_DATE}" in table.notes[1]
    _, ratings = rate([*DEFAULT_MODELS, "vicuna-13b", "gpt-4"], table)
    assert {name: ratings[name].elo for name in DEFAULT_MODELS} == {name: c.elo for name, c in DEFAULT_MODELS.items()}
    assert ratings["mistral:7b"].source == f"proxy: Mistral-7B-Instruct-v0.2 ({SOURCE})"
    assert (ratings["vicuna-13b"].elo, ratings["gpt-4"].elo) == (SHIPPED["Vicuna-13B"], None)


def test_a_hub_that_answers_and_has_nothing_ends_in_the_snapshot(tmp_path: Path) -> None:
    """In a process of its own, since the hub's client reads its address when it is imported; nor is anything heavy
    imported where no hub is asked."""
    code = (
        "import sys, pathlib; from stages import arena; path = pathlib.Path(sys.argv[1]);"
        "arena.load_table(path / 'offline', offline=True);"
        "print([m for m in ('datasets', 'pandas', 'huggingface_hub', 'torch') if m in sys.modules]);"
        "t = arena.load_table(path); print(t.source); print(*t.notes)"
    )
    with server(404) as address:
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf")}
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment,
                              capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.startswith(f"[]\n{arena.SNAPSHOT}\n{arena.SOURCE} gave no ratings")


def test_the_cached_table_stays_until_it_is_refreshed(
    tmp_path: Path, published: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(arena, "ARENA_DATE", "2024-01-01")
        load_table(tmp_path, offline=True)
    assert load_table(tmp_path, offline=True).date == ARENA_DATE, "the snapshot of another version is not used"
    published()
    assert load_table(tmp_path).source == arena.SNAPSHOT, "one scale for all runs"
    fresh = load_table(tmp_path, refresh=True)
    assert fresh.source == arena.SOURCE
    held = json.loads((tmp_path / ARENA_FILE).read_text())
    assert (held["source"], held["date"], held["scale"]) == (arena.SOURCE, "2025-09-01", arena.SCALE)
    monkeypatch.setattr(hub, "reachable", lambda: False)
    assert load_table(tmp_path) == fresh, "nobody is asked"
    again = load_table(tmp_path, refresh=True)
    assert again.scores == fresh.scores
    assert "stay as they were cached" in again.notes[1]


@pytest.mark.parametrize("damage", ["{", '{"scores": {}}', "NaN", "\x80"])
def test_a_damaged_cache_is_moved_aside_and_said(tmp_path: Path, published: Callable[..., None], damage: str) -> None:
    published()
    cache_dir = tmp_path / "cache"
    load_table(cache_dir)
    path = cache_dir / ARENA_FILE
    damaged = path.read_text().replace("1290.25", "NaN") if damage == "NaN" else damage
    path.write_bytes(damaged.encode("latin-1"))
    table = load_table(cache_dir)
    assert table.scores["gemma-3-4b-it"] == 1290.25
    assert "was damaged" in table.notes[0]
    assert [p.read_bytes().decode("latin-1") for p in cache_dir.iterdir() if p != path] == [damaged]
    path.write_text(path.read_text().replace("1290.25", "1999.5"))
    edited = load_table(cache_dir)
    assert (edited.scores["gemma-3-4b-it"], edited.notes) == (1999.5, ()), "what somebody edits is taken as it stands"


# ── Hub ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("status", "expected"), [(200, True), (404, True), (403, False), (503, False)])
def test_a_hub_is_there_where_it_answers(status: int, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(status) as address:
        monkeypatch.setenv("HF_ENDPOINT", address + "/")
        assert hub.reachable() is expected
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not hub.reachable(), "nobody is asked"


@pytest.mark.parametrize("address", ["ftp://somewhere", "nonsense", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_no_address_is_out_of_reach(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert not hub.reachable()


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────

TAGS = {
    "llama3.2": "Meta-Llama-3.2-3B-Instruct", "llama3:70b": "llama-3-70b-instruct",
    "llama3.3:70b-instruct-q8_0": "llama-3.3-70b-instruct", "gemma2:2b-instruct-fp16": "Gemma-2-2b-it",
    "gemma3:12b-it-qat": "Gemma-3-12B-it", "gemma3n:e4b": "Gemma-3n-e4b-it", "gemma:7b": "gemma-1.1-7b-it",
    "qwen2.5-coder:32b": "qwen2.5-coder-32b-instruct", "qwen:7b": "Qwen1.5-7B-Chat", "phi4": "Phi-4",
    "phi3:3.8b-mini-128k-instruct-q4_0": "Phi-3-Mini-128k-Instruct", "mixtral:8x7b": "mixtral-8x7b-instruct-v0.1",
    "mistral-small3.1:24b": "mistral-small-3.1-24b-instruct-2503", "command-r:35b-08-2024-q4_0": "command-r-08-2024",
    "deepseek-r1:671b": "deepseek-r1", "smollm2:1.7b": "SmolLM2-1.7B-Instruct",
    "zephyr:7b-beta": "zephyr-7b-beta",
    "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M": "Meta-Llama-3.2-3B-Instruct",
    # refused, since one part of the name is another
    "qwen3:8b": "size 8b is not listed", "smollm2:135m": "size 0.135b is not listed",
    "deepseek-r1:8b": "size 8b is not listed",  # the distilled one; the Arena's has 671b
    "llama3.2:70b": "size 70b is not listed", "mistral:7b": "version 0.3 is not listed",
    "llama3.4:8b": "version 3.4 is not listed", "llama3.2-vision:11b": "variant vision is not listed",
    "llama2-uncensored:7b": "variant uncensored is not listed", "zephyr:7b": "variant (none) is not listed",
    "nobodys-llama3:8b": "family nobodys is not listed", "llama3.1:8b-text-q4_0": "variant text is not listed",
    "codellama": "size (none) is not listed", "": "family (none) is not listed",
}  # fmt: skip
FILES = {
    "Meta-Llama-3.1-8B-Instruct.Q4_K_M": "Meta-Llama-3.1-8B-Instruct",
    "mistral-7b-instruct-v0.2.Q4_K_M": "Mistral-7B-Instruct-v0.2", "google_gemma-3-4b-it-Q4_K_M": "Gemma-3-4B-it",
    "Qwen3-30B-A3B-UD-Q4_K_XL": "Qwen3-30B-A3B", "unsloth/gemma-3-12b-it-qat-GGUF:UD-Q4_K_XL": "Gemma-3-12B-it",
    "gemma-3-4b-it@q8_0": "Gemma-3-4B-it", "microsoft_phi-4-IQ4_XS.gguf": "Phi-4",
    r"C:\models\Qwen2.5-72B-Instruct-Q4_K_M-00001-of-00002.gguf": "Qwen2.5-72B-Instruct",
    "google_gemma-3-1b-it-Q4_K_M": "size 1b is not listed",
    "Mistral-7B-Instruct-v0.3.Q4_K_M": "version 0.3 is not listed",
    "my_gemma-3-4b-it-Q4_K_M.gguf": "family my is not listed",  # somebody's own
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected", "ollama"), [(*tag, True) for tag in TAGS.items()] + [(*file, False) for file in FILES.items()]
)
def test_a_name_finds_its_rating_and_sizes_versions_and_variants_are_never_mixed(
    name: str, expected: str, ollama: bool
) -> None:
    found, why = match_arena_name(name, SHIPPED, ollama=ollama)
    assert parse_name(found) == parse_name(expected) if found else why.startswith(expected), why


def test_what_was_assumed_is_said() -> None:
    assert match_arena_name("gemma2:9b", SHIPPED) == ("Gemma-2-9B-it", "family, version, size and variant agree")
    assert match_arena_name("phi4", SHIPPED)[1].endswith("assumed: size 14b, Ollama's default")


AS_TAGS = st.builds(
    lambda name, end: name.lower() + end, st.sampled_from(sorted(SHIPPED)), st.sampled_from(["", "-q4_K_M"])
)


@given(st.text(max_size=30) | AS_TAGS)
def test_any_text_is_refused_with_a_reason_or_matched_by_all_parts_of_its_name(tag: str) -> None:
    found, why = match_arena_name(tag, SHIPPED)
    assert why
    if found and why != "the same name":
        got, wanted = parse_name(found), parse_name(tag)
        assert (got.family, got.variant) == (wanted.family, wanted.variant)
        assert wanted.version in (None, got.version) and wanted.size in (None, got.size, "671b")


def test_what_a_server_says_is_in_its_file_rates_a_tag_also_with_the_server_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts(size: str) -> Model:
        parts = {"basename": "Qwen2.5-Coder", "size_label": size, "finetune": "Instruct-AWQ"}
        return Model(facts={f"general.{part}": word for part, word in parts.items()})

    flags = ["--backend", "ollama", "--models", "big", "small", "--judge", "big", "--base_model", "embedded"]
    flags += ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    with FakeOllama(models={"big": facts("32B"), "small": facts("1.5B")}) as there:
        monkeypatch.setenv("OLLAMA_HOST", there.url)
        (on,) = jobs_of(*flags)
    (off,) = jobs_of(*flags)
    for job in (on, off):
        assert job.ratings is not None
        assert job.ratings["big"].elo == SHIPPED["Qwen2.5-Coder-32B-Instruct"]
        assert "name matched: its file holds Qwen2.5-Coder-32B-Instruct-AWQ: " in job.ratings["big"].source
        assert job.ratings["small"].elo is None, "never across sizes"
        assert job.ratings["small"].source.startswith("no rating: its file holds Qwen2.5-Coder-1.5B-Instruct-AWQ: size")
        assert job.sizes["big"] == (4_700_000_000, "8.0B")
