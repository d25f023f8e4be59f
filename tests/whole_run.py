"""The whole program as a process of its own, for tests and benchmarks that kill, interrupt and double it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_brain import default_brain, key
from fake_ollama import FakeOllama

import config
import main
from core.store import read_items

ROOT = Path(__file__).parent.parent
TAGS = ("llama3:8b", "gemma3:4b", "mistral:7b")
SMALL = ("--num_prompts", "5", "--models", *TAGS, "--eval_freq", "100")
CALLS = 1 + 5 * 3 + 5 * 6  # prompts, responses, pairs in both orders
STAGES = {
    "prompts": config.PROMPTS_FILE,
    "responses": config.RESPONSES_FILE,
    "preferences": config.PREFERENCES_FILE,
    "ground_truth": config.GROUND_TRUTH_FILE,
}
Json = dict[str, Any]


def steady_brain(request: Json) -> str:
    """The same answer whatever the seed: what is drawn anew after a fault is then what was meant at first."""
    return default_brain({**{k: v for k, v in request.items() if k != "options"}, "options": {}})


def faulty(request: Json, n: int) -> str | None:
    """5 % HTTP 500, 3 % dropped connections, 5 % cut JSON: of the answer where it is JSON, else of the HTTP body.
    A request's own content and how often it came before decide: threads can't change it."""
    fault = random.Random(f"0/{n}/{key(request)}").choices(["500", "drop", "cut_json", None], [5, 3, 5, 87])[0]
    return "cut_body" if fault == "cut_json" and "format" not in request else fault


def start(server: FakeOllama, folder: Path, base: str, *flags: str) -> subprocess.Popen[str]:
    """``python main.py --backend ollama`` on this server, with a cache, votes and results of its own in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    folders = ["--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results")]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "--backend", "ollama", "--base_model", base, *folders, *flags],
        cwd=folder,
        env={**os.environ, "OLLAMA_HOST": server.url, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(server: FakeOllama, folder: Path, base: str, *flags: str) -> str:
    """Run it to its good end; what it printed."""
    out, errors = start(server, folder, base, *flags).communicate()
    assert (folder / "results" / config.REPORT_FILE.format(name="coder")).exists(), out + errors
    return out


def run_here(folder: Path, base: str, *flags: str) -> int:
    """The same in this process, which has torch loaded already, on the server of OLLAMA_HOST; its exit status."""
    folders = ["--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results")]
    return main.main(["--backend", "ollama", "--base_model", base, *folders, *flags])


def stop_after(process: subprocess.Popen[str], server: FakeOllama, calls: int, delay: float, sign: int) -> None:
    """Send the signal ``delay`` seconds after the server was asked so many times."""
    while len(server.calls) < calls and process.poll() is None:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(sign)


def kept(folder: Path) -> dict[str, dict[str, Any]]:
    """stage → key → (hash, value without measured seconds), as the next run would find it."""
    found = {}
    for stage, file in STAGES.items():
        items = read_items(folder / "cache" / file.format(name="coder")).values()
        for item in items:
            item["value"].pop("seconds", None)
        found[stage] = {item["key"]: (item["made_from"], item["value"]) for item in items}
    return found


def document(folder: Path, name: str = "coder") -> Json:
    """The results as they were written; raises ValueError at a NaN, which is not JSON."""
    text = (folder / "results" / config.RESULTS_FILE.format(name=name)).read_text(encoding="utf-8")
    return dict(json.loads(text, parse_constant=int))


def results(folder: Path) -> Json:
    """The results without what the clock and the command line put into them."""
    found = document(folder)
    for row in found["leaderboard"]:
        del row["tokens_per_s"]
    del found["answer"]["ask"]
    return {k: v for k, v in found.items() if k not in ("timings_s", "command", "notes", "machine")}


def answered_calls(found: dict[str, dict[str, Any]]) -> int:
    """Calls of a small run that need not be made again."""
    return bool(found["prompts"]) + len(found["responses"]) + len(found["preferences"])


def kill_and_go_on(
    server: FakeOllama, folder: Path, base: str, rng: random.Random, go_on: Callable[..., object] = run
) -> int:
    """kill -9 at a random moment, then a run to the end by ``go_on``. Returns how many answers were kept at the kill.

    Raises AssertionError where an answer that was kept is asked again.
    """
    before = len(server.calls)
    process = start(server, folder, base, *SMALL)
    stop_after(process, server, before + rng.randrange(CALLS + 1), rng.uniform(0, 0.3), signal.SIGKILL)
    process.communicate()
    found = answered_calls(kept(folder)) if (folder / "cache").exists() else 0
    asked = len(server.calls)
    assert asked - before <= found + 4, "no more than was in flight is lost"
    go_on(server, folder, base, *SMALL)
    assert len(server.calls) - asked == CALLS - found, "only what was not answered is asked"
    return found
