"""Arena ratings from published tables, the cache and the snapshot; Ollama tags matched to Arena names."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from begun import jobs_of
from fake_ollama import FakeOllama, Model
from hypothesis import given
from hypothesis import strategies as st

from config import ARENA_DATE, ARENA_FILE, DEFAULT_MODELS, ROOT, Contestant
from core import hub
from stages import arena
from stages.arena import load_table, rate, snapshot_table
from stages.arena_names import match_arena_name, parse_name

# As the hub writes them, and others that the Arena lists.
HUB_NAMES = (
    "llama-3-8b-instruct", "llama-3-70b-instruct", "llama-3.1-8b-instruct", "llama-3.1-70b-instruct",
    "llama-3.1-405b-instruct-bf16", "llama-3.1-405b-instruct-fp8", "llama-3.3-70b-instruct", "gemma-1.1-7b-it",
    "gemma-2-27b-it", "gemma-2-9b-it-simpo", "gemma-3-4b-it", "gemma-3-27b-it", "qwen2.5-coder-32b-instruct",
    "qwen3-30b-a3b", "qwen3-235b-a22b", "qwq-32b-preview", "phi-3-mini-4k-instruct-june-2024",
    "phi-3-medium-4k-instruct", "mixtral-8x7b-instruct-v0.1", "mixtral-8x22b-instruct-v0.1", "mistral-7b-instruct-v0.2",
    "mistral-large-2407", "mistral-small-24b-instruct-2501", "mistral-small-3.1-24b-instruct-2503", "command-r",
    "command-r-plus", "command-r-08-2024", "deepseek-r1", "deepseek-v3", "granite-3.1-8b-instruct", "zephyr-7b-beta",
    "solar-10.7b-instruct-v1.0", "gpt-oss-20b", "codellama-34b-instruct", "llama-3.1-nemotron-70b-instruct",
)  # fmt: skip
# Some of the shipped ones, written as the published table has them.
SMALL = (
    "Qwen3-32B", "Gemma-3-12B-it", "Gemma-3n-e4b-it", "Gemma-3-4B-it", "Qwen2.5-72B-Instruct", "Phi-4", "Gemma-2-9B-it",
    "Meta-Llama-3.1-8B-Instruct", "Llama-3-8B-Instruct", "Gemma-2-2b-it", "Meta-Llama-3.2-3B-Instruct",
    "Mistral-7B-Instruct-v0.2", "Qwen1.5-7B-Chat", "Phi-3-Mini-4K-Instruct-June-24", "Phi-3-Mini-4k-Instruct",
    "Meta-Llama-3.2-1B-Instruct", "SmolLM2-1.7B-Instruct", "Phi-3-Mini-128k-Instruct", "Llama-2-7B-chat", "Vicuna-7B",
    "Mistral-7B-Instruct-v0.1",
)  # fmt: skip
SHIPPED = snapshot_table().scores
SOURCE = f"{arena.SCALE}, {ARENA_DATE}"
ALL_NAMES = (*SMALL, *HUB_NAMES)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves this machine: the hub is a port of it where nobody listens."""
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "*")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server(status: int | None) -> Iterator[str]:
    """Something that answers every request with ``status``; None: that never answers."""
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if status is None:
                done.wait(10)
                return
            self.send_response(status)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, *args: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        done.set()
        running.shutdown()
        running.server_close()
        thread.join()


# ── Published tables ─────────────────────────────────────────────────────────────────────────────────────

LMARENA = [  # model_name, rating, category, leaderboard_publish_date
    ("llama-3-8b-instruct", 1170.6, "overall", "2025-09-01"),
    ("llama-3.1-8b-instruct", 1192.3, "overall", "2025-09-01"),
    ("llama-3.1-8b-instruct", 1250.0, "coding", "2025-09-01"),
    ("gemma-3-4b-it", 1290.25, "overall", "2025-09-01"),
    ("mistral-7b-instruct-v0.2", 1096.0, "overall", "2025-09-01"),
    ("phi-3-mini-4k-instruct-june-2024", 1086.0, "overall", "2025-09-01"),
]


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a folder laid out like the Arena's data set (Parquet, two configs, two splits) in the hub's place."""

    def publish(rows: list[tuple[str, float | None, str, str]] = LMARENA, **renamed: str) -> None:
        folder = tmp_path / "lmarena"
        shutil.rmtree(folder, ignore_errors=True)
        frame = pd.DataFrame(rows, columns=["model_name", "rating", "category", "leaderboard_publish_date"])
        for config, shift in (("text", 0.0), ("text_style_control", 40.0)):
            (folder / config).mkdir(parents=True)
            for split in ("latest", "full"):
                old = shift + (500.0 if split == "full" else 0.0)
                changed = frame.assign(rating=frame.rating + old, rank=1).rename(columns=renamed)
                changed.to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
        configs = "".join(
            f"- config_name: {config}\n  data_files:\n"
            + "".join(f"  - split: {split}\n    path: {config}/{split}-*\n" for split in ("latest", "full"))
            for config in ("text", "text_style_control")
        )
        (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
        monkeypatch.setattr(arena, "SOURCE", str(folder))
        monkeypatch.setattr(hub, "reachable", lambda: True)

    return publish


def test_the_published_table_through_load_dataset(tmp_path: Path, published: Callable[..., None]) -> None:
    older = [("gemma-2-9b-it", 1200.0, "overall", "2025-03-01"), ("gemma-3-4b-it", 9.0, "overall", "2025-03-01")]
    published([*LMARENA, *older, ("unrated-1b", None, "overall", "2025-09-01")])
    table = load_table(tmp_path / "cache")
    assert table.scores == {
        "llama-3-8b-instruct": 1170.6, "llama-3.1-8b-instruct": 1192.3, "gemma-3-4b-it": 1290.25,
        "mistral-7b-instruct-v0.2": 1096.0, "phi-3-mini-4k-instruct-june-2024": 1086.0,
    }, "of category overall, of the newest date, without style control"  # fmt: skip
    assert (table.label, table.notes) == (f"{arena.SCALE}, 2025-09-01", ())


def test_a_table_of_another_shape_is_said_and_the_snapshot_stands_in(
    tmp_path: Path, published: Callable[..., None]
) -> None:
    for number, table in enumerate(({"rating": "elo"}, {"category": "kind"})):
        published(**table)
        found = load_table(tmp_path / str(number))
        assert found.origin == arena.SNAPSHOT
        assert f"gave no ratings: KeyError: '{next(iter(table))}'" in found.notes[0]
    published([("a-1b", 1000.0, "coding", "2025-09-01")])
    assert "no rated model of category overall" in load_table(tmp_path / "coding").notes[0]


def test_ratings_of_the_configured_contestants_come_from_one_table(
    tmp_path: Path, published: Callable[..., None]
) -> None:
    """The hub writes names its own way; who is not in its table is unrated, whatever the snapshot has."""
    published()
    table = load_table(tmp_path)
    _, ratings = rate(DEFAULT_MODELS, table)
    assert {name: r.elo for name, r in ratings.items()} == {
        "llama3:8b": 1170.6, "llama3.1:8b": 1192.3, "gemma3:4b": 1290.25, "qwen3:8b": None,
        "phi4-mini:3.8b": 1086.0, "mistral:7b": 1096.0,
    }  # fmt: skip
    assert ratings["llama3.1:8b"].arena_name == "llama-3.1-8b-instruct"
    assert ratings["phi4-mini:3.8b"].source == f"proxy: phi-3-mini-4k-instruct-june-2024 ({table.label})"
    assert ratings["qwen3:8b"].source.startswith("no rating: proxy: Qwen3-30B-A3B is not in the one table used")
    assert [name for name, r in ratings.items() if r.proxy] == ["qwen3:8b", "phi4-mini:3.8b", "mistral:7b"]


# ── Snapshot ─────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_hub_the_snapshot_is_used_and_said(tmp_path: Path) -> None:
    table = load_table(tmp_path)
    _, ratings = rate(DEFAULT_MODELS, table)
    assert {name: r.elo for name, r in ratings.items()} == {name: c.elo for name, c in DEFAULT_MODELS.items()}
    assert ratings["llama3:8b"].source == f"Llama-3-8B-Instruct ({SOURCE})"
    assert ratings["mistral:7b"].source == f"proxy: Mistral-7B-Instruct-v0.2 ({SOURCE})"
    assert "out of reach" in table.notes[0]
    assert f"SHIPPED SNAPSHOT of {ARENA_DATE}" in table.notes[1]


def test_the_whole_published_table_is_shipped_with_its_source() -> None:
    lines = arena.SNAPSHOT_FILE.read_text(encoding="utf-8").splitlines()
    assert "fboulnois/llm-leaderboard-csv at e964e252a171" in lines[1]
    assert lines[2] == "model,score,interval,votes,organization"
    assert len(lines) == 3 + 266
    assert len(SHIPPED) == 265  # one is listed twice, with the same rating
    assert min(SHIPPED.values()) > 800 and max(SHIPPED.values()) == SHIPPED["Gemini-2.5-Pro"] == 1470.0
    assert set(SMALL) <= set(SHIPPED)


def test_models_that_only_the_whole_table_lists_are_rated_offline(tmp_path: Path) -> None:
    names = ["vicuna-13b", "claude-instant-1", "vicuna-13b-v1.2", "vicuna:30b", "gpt-4", "llama3.1:70b"]
    _, ratings = rate(names, load_table(tmp_path, offline=True))
    found = {name: (rating.arena_name, rating.elo) for name, rating in ratings.items()}
    assert found["vicuna-13b"] == ("Vicuna-13B", SHIPPED["Vicuna-13B"])
    assert found["claude-instant-1"] == ("Claude-Instant-1", SHIPPED["Claude-Instant-1"])
    assert found["llama3.1:70b"] == ("Meta-Llama-3.1-70B-Instruct", SHIPPED["Meta-Llama-3.1-70B-Instruct"])
    assert [name for name in names if ratings[name].elo is None] == ["vicuna-13b-v1.2", "vicuna:30b", "gpt-4"]


def test_a_hub_that_answers_and_has_nothing_ends_in_the_snapshot(tmp_path: Path) -> None:
    """In a process of its own, since the hub's client reads its address when it is imported; nor is anything heavy
    imported where no hub is asked."""
    code = (
        "import sys, pathlib; from stages import arena; path = pathlib.Path(sys.argv[1]);"
        "arena.load_table(path / 'offline', offline=True);"
        "print([m for m in ('datasets', 'pandas', 'huggingface_hub', 'torch') if m in sys.modules]);"
        "t = arena.load_table(path); print(t.origin); print(*t.notes)"
    )
    with server(404) as address:
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf")}
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment,
                              capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.startswith(f"[]\n{arena.SNAPSHOT}\n{arena.SOURCE} gave no ratings")


# ── Cache ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_cached_table_stays_until_it_is_refreshed(
    tmp_path: Path, published: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_table(tmp_path, offline=True)
    published()
    kept = load_table(tmp_path)
    assert (kept.origin, "SHIPPED SNAPSHOT" in kept.notes[0]) == (arena.SNAPSHOT, True), "one scale for all runs"
    fresh = load_table(tmp_path, refresh=True)
    assert fresh.origin == arena.SOURCE
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
    aside = [p for p in cache_dir.iterdir() if p != path]
    assert [p.read_bytes().decode("latin-1") for p in aside] == [damaged]
    path.write_text(path.read_text().replace("1290.25", "1999.5"))
    edited = load_table(cache_dir)
    assert (edited.scores["gemma-3-4b-it"], edited.notes) == (1999.5, ()), "what somebody edits is taken as it stands"


def test_a_snapshot_of_another_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(arena, "ARENA_DATE", "2024-01-01")
        load_table(tmp_path, offline=True)
    assert load_table(tmp_path, offline=True).date == ARENA_DATE


# ── Hub ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("status", "expected"), [(200, True), (404, True), (403, False), (503, False)])
def test_what_an_answer_of_the_hub_means(status: int, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(status) as address:
        monkeypatch.setenv("HF_ENDPOINT", address + "/")
        assert hub.reachable() is expected


def test_a_hub_that_hangs_is_settled_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(None) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert not hub.reachable(timeout=0.1)


@pytest.mark.parametrize("address", ["ftp://somewhere", "nonsense", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_no_address_is_out_of_reach(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert not hub.reachable()


def test_offline_settings_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(200) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not hub.reachable()
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        assert hub.reachable()


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────

MATCHES = {
    "llama3.2:1b": "Meta-Llama-3.2-1B-Instruct",
    "llama3.2": "Meta-Llama-3.2-3B-Instruct", "llama3:70b": "llama-3-70b-instruct",
    "llama3.3:70b-instruct-q8_0": "llama-3.3-70b-instruct", "llama2:7b": "Llama-2-7B-chat",
    "gemma2:2b-instruct-fp16": "Gemma-2-2b-it", "gemma3:12b-it-qat": "Gemma-3-12B-it",
    "gemma3n:e4b": "Gemma-3n-e4b-it", "gemma:7b": "gemma-1.1-7b-it", "qwen2.5:72b": "Qwen2.5-72B-Instruct",
    "qwen2.5-coder:32b": "qwen2.5-coder-32b-instruct", "qwen:7b": "Qwen1.5-7B-Chat",
    "phi4": "Phi-4", "phi3:14b": "phi-3-medium-4k-instruct",
    "phi3:3.8b-mini-128k-instruct-q4_0": "Phi-3-Mini-128k-Instruct",
    "mistral:7b-instruct-v0.1-q4_0": "Mistral-7B-Instruct-v0.1",
    "mixtral:8x7b": "mixtral-8x7b-instruct-v0.1", "mixtral:8x22b": "mixtral-8x22b-instruct-v0.1",
    "mistral-small:24b": "mistral-small-24b-instruct-2501",
    "mistral-small3.1:24b": "mistral-small-3.1-24b-instruct-2503",
    "command-r:35b": "command-r", "command-r:35b-08-2024-q4_0": "command-r-08-2024", "command-r-plus": "command-r-plus",
    "deepseek-r1:671b": "deepseek-r1", "smollm2:1.7b": "SmolLM2-1.7B-Instruct", "vicuna:7b": "Vicuna-7B",
    "granite3.1-dense:8b": "granite-3.1-8b-instruct", "solar": "solar-10.7b-instruct-v1.0",
    "gpt-oss:20b": "gpt-oss-20b", "codellama:34b": "codellama-34b-instruct", "zephyr:7b-beta": "zephyr-7b-beta",
    "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M": "Meta-Llama-3.2-3B-Instruct",
}  # fmt: skip


@pytest.mark.parametrize(("tag", "expected"), MATCHES.items())
def test_a_tag_finds_its_arena_name(tag: str, expected: str) -> None:
    found = match_arena_name(tag, ALL_NAMES)
    assert found.arena_name == expected, found.reason


FILES = {
    "Meta-Llama-3.1-8B-Instruct.Q4_K_M": "Meta-Llama-3.1-8B-Instruct",
    "mistral-7b-instruct-v0.2.Q4_K_M": "Mistral-7B-Instruct-v0.2",
    "google_gemma-3-4b-it-Q4_K_M": "Gemma-3-4B-it",
    "Qwen3-30B-A3B-UD-Q4_K_XL": "Qwen3-30B-A3B",
    "unsloth/gemma-3-12b-it-qat-GGUF:UD-Q4_K_XL": "Gemma-3-12B-it",
    "gemma-3-4b-it@q8_0": "Gemma-3-4B-it",
    "/home/me/models/gemma-2-9b-it-i1-Q6_K.gguf": "Gemma-2-9B-it",
    r"C:\models\Qwen2.5-72B-Instruct-Q4_K_M-00001-of-00002.gguf": "Qwen2.5-72B-Instruct",
    "microsoft_phi-4-IQ4_XS.gguf": "Phi-4",
    "mlx-community/gemma-3-4b-it-4bit": "Gemma-3-4B-it",
    "google_gemma-3-1b-it-Q4_K_M": None,  # another size
    "Mistral-7B-Instruct-v0.3.Q4_K_M": None,  # another version
    "my_gemma-3-4b-it-Q4_K_M.gguf": None,  # somebody's own
    "gemma-3-4b-it-abliterated.Q4_K_M": None,
}


@pytest.mark.parametrize(("name", "expected"), FILES.items())
def test_the_name_of_a_models_file_finds_its_rating(name: str, expected: str | None) -> None:
    assert match_arena_name(name, SHIPPED, ollama=False).arena_name == expected


REFUSED = {
    "qwen2.5:7b-instruct-q4_K_M": "size 7b is not listed",
    "qwen3:8b": "size 8b is not listed",
    "phi4-mini:3.8b": "size 3.8b is not listed",
    "deepseek-r1:8b": "size 8b is not listed",  # the distilled one; the Arena's has 671b
    "smollm2:135m": "size 0.135b is not listed",
    "smollm2:360m": "size 0.36b is not listed",
    "gemma3:270m": "size 0.27b is not listed",
    "llama3.1": "size 8b is not listed",
    "mistral:7b": "version 0.3 is not listed",
    "llama3.4:8b": "version 3.4 is not listed",
    "qwen2:72b": "version 2 is not listed",
    "llama3.2-vision:11b": "variant vision is not listed",
    "llama2-uncensored:7b": "variant uncensored is not listed",
    "mistral-nemo:12b": "variant nemo is not listed",
    "zephyr:7b": "variant (none) is not listed",
    "dolphin-llama3:8b": "no model of family dolphin is listed",
    "llama3.1:8b-text-q4_0": "is a base model",
    "qwen2.5-coder:1.5b-base": "is a base model",
    "codellama": "gives no size",
    "": "no model of family '' is listed",
    ":::": "no model of family ':::' is listed",
}


@pytest.mark.parametrize(("tag", "reason"), REFUSED.items())
def test_sizes_versions_and_variants_are_never_mixed(tag: str, reason: str) -> None:
    names = [name for name in ALL_NAMES if "3.1-8b" not in name.lower()]
    found = match_arena_name(tag, names)
    assert found.arena_name is None
    assert reason in found.reason


def test_a_refusal_names_the_relatives() -> None:
    assert match_arena_name("qwen2.5:7b", SMALL).reason.endswith("listed: Qwen2.5-72B-Instruct")


def test_what_was_assumed_and_what_is_listed_beside_it_is_said() -> None:
    assert match_arena_name("gemma2:9b", SMALL).reason == "family, version, size and variant agree"
    assert "assumed: size 14b, Ollama's default" in match_arena_name("phi4", SMALL).reason
    found = match_arena_name("phi3:3.8b", SMALL)
    assert "also listed: " in found.reason
    assert sum(name in (found.arena_name, *found.reason.split(": ")[1].split(", ")) for name in SMALL) == 3


@given(st.text(max_size=30))
def test_any_text_is_matched_or_refused_with_a_reason(tag: str) -> None:
    assert match_arena_name(tag, ALL_NAMES).reason


@given(st.sampled_from(ALL_NAMES), st.sampled_from(["", "-q4_K_M", "-fp16", "-instruct"]))
def test_a_match_never_changes_the_size(name: str, suffix: str) -> None:
    """An Arena name written as a tag finds a name of the same family, version, size and variant, if any."""
    found = match_arena_name(name.lower() + suffix, ALL_NAMES)
    wanted = parse_name(name)
    if found.arena_name is None:
        assert wanted.size is None, found.reason
        return
    got = parse_name(found.arena_name)
    assert (got.family, got.version, got.variant) == (wanted.family, wanted.version, wanted.variant)
    assert got.size == wanted.size


def test_configured_tags_stay_as_configured_and_others_are_matched() -> None:
    table = arena.snapshot_table()
    contestants, ratings = rate(["mistral:7b", "gemma2:9b", "qwen2.5:7b", "gemma2:9b"], table)
    assert contestants == {
        "mistral:7b": DEFAULT_MODELS["mistral:7b"],
        "gemma2:9b": Contestant("Gemma-2-9B-it", None, "gemma2:9b"),
        "qwen2.5:7b": Contestant(None, None, "qwen2.5:7b"),
    }
    assert [ratings[tag].elo for tag in contestants] == [1097.0, 1212.0, None]
    assert ratings["gemma2:9b"].source.startswith(f"Gemma-2-9B-it ({SOURCE}); name matched: family")
    assert ratings["qwen2.5:7b"].source.startswith("no rating: size 7b is not listed")
    assert all(r.ollama_tag == tag for tag, r in ratings.items())


def test_a_tag_of_ones_own_is_looked_up_by_what_its_file_says_it_is() -> None:
    contents = {"q32": "Qwen2.5-Coder 32B Instruct", "q15": "Qwen2.5-Coder 1.5B Instruct-AWQ", "mine": ""}
    contestants, ratings = rate(contents, arena.snapshot_table(), contents=contents)
    assert ratings["q32"].elo == SHIPPED["Qwen2.5-Coder-32B-Instruct"]
    assert "name matched: its file holds Qwen2.5-Coder 32B Instruct: " in ratings["q32"].source
    assert ratings["q15"].source.startswith("no rating: its file holds Qwen2.5-Coder 1.5B Instruct-AWQ: size 1.5b is")
    assert ratings["mine"].source == "no rating: no model of family mine is listed"
    assert contestants["q15"] == Contestant(None, None, "q15")


def test_what_a_server_says_is_in_its_file_rates_a_tag_also_with_the_server_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts(size: str) -> Model:
        parts = {"basename": "Qwen2.5-Coder", "size_label": size, "finetune": "Instruct-AWQ"}
        return Model(facts={f"general.{part}": word for part, word in parts.items()})

    flags = ["--backend", "ollama", "--models", "big", "small", "--judge", "big", "--base_model", "embedded"]
    flags += ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    with FakeOllama(models={"big": facts("32B"), "small": facts("1.5B")}) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        (there,) = jobs_of(*flags)
    (away,) = jobs_of(*flags)
    for job in (there, away):
        assert job.ratings is not None
        assert job.ratings["big"].elo == SHIPPED["Qwen2.5-Coder-32B-Instruct"]
        assert job.ratings["small"].elo is None, "never across sizes"
        assert job.sizes["big"] == (4_700_000_000, "8.0B")
