"""The program as a user meets it: help, a run on full caches, and how many texts a run puts through the base."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import ROOT, Row, compare, seconds

from core.store import read_items

RUN = ("--persona", "coder", "--backend", "embedded")
COUNTING = """
import sys
import main
from base import frozen as frozen_base
count, inner = [0], frozen_base.FrozenBase._forward
def counting(self, texts):
    count[0] += len(texts)
    return inner(self, texts)
frozen_base.FrozenBase._forward = counting
status = main.main(sys.argv[1:])
print("FORWARDS", count[0])
raise SystemExit(status)
"""


def python(*arguments: str) -> str:
    """Standard output of a Python of its own in the suite's folder; it must succeed."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"python {' '.join(arguments)[:80]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def rows(quick: bool) -> list[Row]:
    """Start-up, and runs on the samples."""
    start = compare(
        "main.py --help / python -c pass, s", lambda: seconds(lambda: python("main.py", "--help")),
        lambda: seconds(lambda: python("-c", "pass")), 3 if quick else 9, "<= 5",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return [start, *run_rows(Path(folder), 2 if quick else 5)]


def run_rows(folder: Path, pairs: int) -> list[Row]:
    """A default run from empty caches, then with another λ on full ones."""
    places = ("--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results"))
    forwards = [
        int(re.findall(r"FORWARDS (\d+)", python("-c", COUNTING, *RUN, *places, "--lambda_reg", weight))[-1])
        for weight in ("0.1", "0.2")
    ]
    responses = read_items(ROOT / "samples" / "model_responses_coder.json").values()
    unique = len({(item.value["prompt_id"], item.value["text"]) for item in responses})
    once = Row("base forwards of a default run / its unique texts", forwards[0], unique, forwards[0] / unique,
               (forwards[0] / unique,) * 2, 1, "exactly 1")  # fmt: skip
    none = Row("base forwards with another λ", forwards[1], 1, forwards[1], (forwards[1],) * 2, 1, "exactly 0")
    weights = iter(range(1, 1000))

    def full() -> float:
        weight = f"0.{next(weights):03d}"
        return seconds(lambda: python("main.py", *RUN, *places, "--lambda_reg", weight))

    again = compare(
        "run on full caches, another λ / importing torch and matplotlib, s", full,
        lambda: seconds(lambda: python("-c", "import torch, matplotlib.pyplot")), pairs, "<= 4",
    )  # fmt: skip
    return [once, none, again]
