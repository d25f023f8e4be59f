"""The suite's speed, as ratios measured in one run.

    python benchmarks/bench.py                # everything, at least five pairs each where that is cheap
    python benchmarks/bench.py --quick        # fewer pairs, smaller samples
    python benchmarks/bench.py --only heads   # of program, base, heads

Each figure is measured as pairs, ours and the reference by turns, so that a machine that slows down slows both; printed
are the medians, and the least and greatest ratio of a pair.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations, count
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as main.py does: its threads only spin on matrices this small

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from base.features import Features
from base.frozen import FrozenBase, open_base
from config import ExperimentConfig
from core.ranking import TrainingSet
from core.records import Preference
from core.store import read_items
from reward_model import RewardModel

ROOT = Path(__file__).resolve().parents[1]
MODELS = tuple(f"model {i}" for i in range(6))
RATINGS = dict(zip(MODELS, (1171.0, 1193.0, 1293.0, 1320.0, 1087.0, 1097.0), strict=True))
RUN = ("main.py", "--persona", "coder", "--backend", "embedded")
COUNTING = """
import sys
import main
from base import frozen as frozen_base
count, inner = [0], frozen_base.FrozenBase._forward
def counting(self, texts):
    count[0] += len(texts)
    return inner(self, texts)
frozen_base.FrozenBase._forward = counting
status = main.main(sys.argv[2:])
print("FORWARDS", count[0])
raise SystemExit(status)
"""


def seconds(job: Callable[[], object]) -> float:
    """How long one call took."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def compare(name: str, ours: Callable[[], float], reference: Callable[[], float], pairs: int, target: str) -> None:
    """Print ours / reference over pairs measured by turns; both return their figure."""
    measured = np.array([(ours(), reference()) for _ in range(pairs)])
    (a, b), ratios = np.median(measured, axis=0), measured[:, 0] / measured[:, 1]
    spread = f"[{ratios.min():.3g}, {ratios.max():.3g}] x{pairs}"
    print(f"{name:<66} {a:>9.4g} {b:>9.4g} {np.median(ratios):>8.3g}  {spread}, {target}", flush=True)


# ── The program as a user meets it ───────────────────────────────────────────────────────────────────────


def python(*arguments: str) -> str:
    """Standard output of a Python of its own in the suite's folder; it must succeed."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"python {' '.join(arguments)[:80]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def program(quick: bool) -> None:
    """Start-up, texts that go through the base, and the commands on full caches."""

    def command(*flags: str) -> Callable[[], float]:
        return lambda: seconds(lambda: python(*flags))

    pairs = 2 if quick else 5
    compare("main.py --help / python -c pass, s", command("main.py", "--help"), command("-c", "pass"), pairs, "<= 5")
    with tempfile.TemporaryDirectory() as folder:
        run = (*RUN, "--cache_dir", f"{folder}/cache", "--results_dir", f"{folder}/results")
        responses = read_items(ROOT / "samples" / "model_responses_coder.json").values()
        unique = len({(item["value"]["prompt_id"], item["value"]["text"]) for item in responses})
        for weight, wanted in (("0.1", unique), ("0.2", 0)):
            said = python("-c", COUNTING, *run, "--lambda_reg", weight)
            forwards = int(re.findall(r"FORWARDS (\d+)", said)[-1])
            print(f"base forwards of a run with λ = {weight}: {forwards}, exactly {wanted}", flush=True)
        imports, weights = command("-c", "import torch, matplotlib.pyplot"), count(300)

        def anew() -> float:
            return command(*run, "--lambda_reg", f"0.{next(weights)}")()

        asked = command(*run, "--rank", "How do I reverse a list?")
        asked()  # its answers and features are kept from here on
        for name, ours, reference, target in (
            ("a run on full caches, another λ / importing torch and matplotlib", anew, imports, "<= 3"),
            ("--incremental / a run without", command(*run, "--incremental"), anew, "<= 2"),
            ("--rank beside its answers / the imports", asked, imports, "<= 1.5"),
            ("--check / the imports", command(*run, "--check"), imports, "<= 1"),
        ):
            compare(f"{name}, s", ours, reference, pairs, target)


# ── The frozen base ──────────────────────────────────────────────────────────────────────────────────────


def texts(number: int) -> list[tuple[str, str]]:
    """(prompt, response) of 20 prompts × 6 contestants: prose of the suite's own pages, 40 to 90 words each."""
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))).split()[:4000]
    rng, made = np.random.default_rng(0), []
    for i in range(number):
        start, length = int(rng.integers(len(words) - 100)), int(rng.integers(40, 90))
        made.append((" ".join(words[i // 6 * 10 : i // 6 * 10 + 15]), " ".join(words[start : start + length])))
    return made


def base(quick: bool) -> None:
    """Embedding at the speed of a bare forward pass, and the naive way of training on texts against ours.

    Naively both texts of each of 4 pairs are forwarded at each step of 20 prompts × 15 pairs × 10 epochs, padded to
    the longest of all; a sample of the steps, scaled. Ours: each text once, and the training.
    """
    import torch

    opened, some = open_base("embedded", "cpu"), texts(60 if quick else 120)
    list(opened.embed(some[:6]))
    lengths = [len(opened._encode(*pair).ids) for pair in some]
    rows = max(1, opened._batch_tokens * len(some) // sum(lengths))
    full = torch.randint(100, 40000, (rows, round(np.mean(lengths))))
    batches = max(1, round(sum(lengths) / full.numel()))
    compare(
        "tokens/s while embedding / bare forward in full batches",
        lambda: sum(lengths) / seconds(lambda: list(opened.embed(some))),
        lambda: batches * full.numel() / forward(opened, full, batches),
        2 if quick else 5, ">= 0.85",
    )  # fmt: skip
    eight, sampled, steps = torch.randint(100, 40000, (8, max(lengths))), 8, 20 * 15 // 4 * 10
    features, preferences = synthetic(20)
    model = RewardModel(features, RATINGS, ExperimentConfig())
    compare(
        f"the naive way ({sampled} of {steps} steps, scaled) / ours, s",
        lambda: forward(opened, eight, sampled) / sampled * steps,
        lambda: seconds(lambda: list(opened.embed(some))) * 120 / len(some) + seconds(lambda: model.fit(preferences)),
        1 if quick else 3, ">= 30",
    )  # fmt: skip


def forward(opened: FrozenBase, ids: object, times: int) -> float:
    """Seconds of so many bare passes."""
    import torch

    with torch.inference_mode():
        return seconds(lambda: [opened._backbone(input_ids=ids, use_cache=False) for _ in range(times)])


# ── Trainings ────────────────────────────────────────────────────────────────────────────────────────────


def synthetic(prompts: int) -> tuple[Features, list[Preference]]:
    """Features of prompts × models, and every pair of every prompt by a planted taste, shuffled."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(prompts * len(MODELS), 576)).astype(np.float32)
    index = {(f"p{i // len(MODELS)}", MODELS[i % len(MODELS)]): i for i in range(len(states))}
    likes = (states @ rng.normal(size=576)).reshape(prompts, len(MODELS))
    made = [
        Preference(f"p{p}", MODELS[a], MODELS[b], float(likes[p, a] > likes[p, b]))
        for p in range(prompts)
        for a, b in combinations(range(len(MODELS)), 2)
    ]
    features = Features(index, states, states, rng.normal(size=len(states)).astype(np.float32), True, "synthetic")
    return features, [made[i] for i in rng.permutation(len(made))]


def heads(quick: bool) -> None:
    """Trainings side by side against one by one."""
    pairs, (features, preferences) = 3 if quick else 5, synthetic(20)
    prompts, model = tuple(f"p{i}" for i in range(20)), RewardModel(features, RATINGS, ExperimentConfig())
    points = [TrainingSet.of(preferences[:number], prompts) for number in range(5, 301, 5)]
    model.fit_many(points)
    compare(
        "incremental run, 60 points / one training, s",
        lambda: seconds(lambda: model.fit_many(points)), lambda: seconds(lambda: model.fit_many(points[-1:])),
        pairs, "<= 6",
    )  # fmt: skip
    orders = [np.random.default_rng(person).permutation(300)[:40] for person in range(200 if quick else 1000)]
    people = [TrainingSet.of([preferences[i] for i in order], prompts) for order in orders]
    compare(
        f"{len(people)} people's heads at once / one by one (10 of them, scaled), s",
        lambda: seconds(lambda: model.fit_many(people)),
        lambda: seconds(lambda: [model.fit_many([s]) for s in people[:10]]) / 10 * len(people), pairs, "<= 0.1",
    )  # fmt: skip


GROUPS: dict[str, Callable[[bool], None]] = {"program": program, "base": base, "heads": heads}


def main() -> None:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pairs and smaller samples")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="some groups of rows")
    args = parser.parse_args()
    print(f"{'figure':<66} {'ours':>9} {'reference':>9} {'ratio':>8}  spread of pairs, target")
    for name in args.only:
        GROUPS[name](args.quick)


if __name__ == "__main__":
    main()
