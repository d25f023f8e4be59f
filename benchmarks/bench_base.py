"""The frozen base: at the speed of its bare forward pass, and against the naive way of training on texts."""

from __future__ import annotations

import time

import numpy as np
from measuring import ROOT, Row, compare, seconds

from base.frozen import FrozenBase, open_base

Vectors = list[tuple[np.ndarray, np.ndarray]]
"""(mean state, last state) of each text."""


def texts(count: int) -> list[tuple[str, str]]:
    """(prompt, response) of 20 prompts × 6 contestants: prose of the suite's own README, 40 to 90 words each."""
    words = (ROOT / "README.md").read_text(encoding="utf-8").split() if (ROOT / "README.md").exists() else []
    words = (words + ["word"] * 400)[:4000]
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        start, length = int(rng.integers(len(words) - 100)), int(rng.integers(40, 90))
        made.append((" ".join(words[i // 6 * 10 : i // 6 * 10 + 15]), " ".join(words[start : start + length])))
    return made


def rows(quick: bool) -> list[Row]:
    """Embedding against the bare pass, the naive way against ours, bfloat16 against float32."""
    base = open_base("embedded", "cpu")
    some = texts(60 if quick else 120)
    list(base.embed(some[:6]))
    found = [bare(base, some, 2 if quick else 5), naive(base, some, 1 if quick else 3), *rounding(base, some[:60])]
    return [*found, longer(base, 2 if quick else 5)]


def bare(base: FrozenBase, some: list[tuple[str, str]], pairs: int) -> Row:
    """Tokens a second, tokenizing and pooling included, against full batches without padding."""
    import torch

    tokens = sum(len(t.ids) for t in (base._encode(*pair) for pair in some))
    length = round(tokens / len(some))
    rows_each = max(1, base._batch_tokens // length)
    batches = max(1, round(tokens / (rows_each * length)))
    ids = torch.randint(100, 40000, (rows_each, length))

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(batches):
                base._backbone(input_ids=ids, use_cache=False)

    return compare(
        "tokens/s while embedding / bare forward in full batches",
        lambda: tokens / seconds(lambda: list(base.embed(some))),
        lambda: batches * rows_each * length / seconds(forward), pairs, ">= 0.85", f"{tokens} tokens",
    )  # fmt: skip


def naive(base: FrozenBase, some: list[tuple[str, str]], pairs: int) -> Row:
    """20 prompts × 15 pairs × 10 epochs, both texts of each of 4 pairs forwarded at each step, padded to the longest
    of all; a sample of the steps, scaled. Ours: each text once, and the training."""
    import torch
    from bench_heads import RATINGS, synthetic

    from config import ExperimentConfig
    from reward_model import RewardModel

    longest = max(len(t.ids) for t in (base._encode(*pair) for pair in some))
    ids, sampled, steps = torch.randint(100, 40000, (8, longest)), 8, 20 * 15 // 4 * 10
    features, preferences = synthetic(20)
    model = RewardModel(features, RATINGS, ExperimentConfig())

    def naively() -> float:
        with torch.inference_mode():
            spent = seconds(lambda: [base._backbone(input_ids=ids, use_cache=False) for _ in range(sampled)])
        return spent / sampled * steps

    def ours() -> float:
        embedding = seconds(lambda: list(base.embed(some))) * 120 / len(some)
        return embedding + seconds(lambda: model.fit(preferences))

    return compare("the naive way, s / ours, s", naively, ours, pairs, ">= 30", f"{sampled} of {steps} steps, scaled")


def longer(base: FrozenBase, pairs: int) -> Row:
    """How the cost of a token grows with the length of the response."""
    short, long = ([(p, " ".join([r] * times)) for p, r in texts(24 // times * 4)] for times in (1, 8))

    def per_token(some: list[tuple[str, str]]) -> float:
        tokens = sum(len(t.ids) for t in (base._encode(*pair) for pair in some))
        return seconds(lambda: list(base.embed(some))) / tokens * 1000

    name = "embedding, responses 8 times as long / short, s per 1,000 tokens"
    limit = "attention grows with length², up to 2,048 tokens"
    return compare(name, lambda: per_token(long), lambda: per_token(short), pairs, "about 1", limit)


def rounding(base: FrozenBase, some: list[tuple[str, str]]) -> list[Row]:
    """bfloat16 against float32: the least cosine of the vectors, and whether they rank the same."""
    import torch

    name = "least cosine of bfloat16 to float32"
    if next(base._backbone.parameters()).dtype == torch.float32:
        return [Row(name, 1.0, 1.0, 1.0, (1.0, 1.0), 1, ">= 0.999", "float32 is used here")]
    from base import frozen as frozen_base
    from llm.embedded import load_smollm2

    model, tokenizer = load_smollm2()
    exact = frozen_base.FrozenBase("embedded", model.base_model, tokenizer)
    stored = [dict(_by_text(b, some)) for b in (base, exact)]
    cosines = [
        float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for i in range(len(some))
        for a, b in zip(stored[0][i], stored[1][i], strict=True)
    ]
    rounded, plain = ([rows[i] for i in range(len(some))] for rows in stored)
    taus, swaps = _rankings(rounded, plain)
    return [
        Row(name, min(cosines), 1.0, min(cosines), (min(cosines), max(cosines)), len(cosines), ">= 0.999"),
        Row(
            "τ between rankings by either, after training", float(np.mean(taus)), 1.0, float(np.mean(taus)),
            (min(taus), max(taus)), len(taus), "1 but for near-ties",
            f"the widest swapped pair is {swaps:.3f} standard deviations of the rewards apart",
        ),
    ]  # fmt: skip


def _rankings(rounded: Vectors, exact: Vectors) -> tuple[list[float], float]:
    """τ prompt by prompt between two heads, each trained on its own vectors by the same planted taste; and how far
    apart the widest pair is that they order differently."""
    from bench_heads import RATINGS

    from base.features import Features
    from config import ExperimentConfig
    from core.records import Preference
    from evaluation import kendall_tau
    from reward_model import RewardModel

    models = list(RATINGS)
    index = {(f"p{i // 6}", models[i % 6]): i for i in range(len(exact))}
    taste = np.stack([v[0] for v in exact]) @ np.random.default_rng(0).normal(size=len(exact[0][0]))
    preferences = [
        Preference(f"p{p}", models[a], models[b], float(taste[6 * p + a] > taste[6 * p + b]))
        for p in range(len(exact) // 6)
        for a in range(6)
        for b in range(a + 1, 6)
    ]
    rewards = []
    for rows in (rounded, exact):
        mean, last = (np.stack([v[k] for v in rows]) for k in (0, 1))
        features = Features(index, mean, last, np.zeros(len(rows), np.float32), False, "embedded")
        head = RewardModel(features, RATINGS, ExperimentConfig()).fit(preferences)
        rewards.append([head.scores(f"p{p}") for p in range(len(rows) // 6)])
    table = np.array([[list(scores.values()) for scores in by_head] for by_head in rewards])  # [heads, prompts, models]
    gaps = table[..., :, None] - table[..., None, :]
    swapped = np.abs(gaps[1][np.sign(gaps[0]) != np.sign(gaps[1])])
    widest = float(swapped.max() / table[1].std()) if swapped.size else 0.0
    return [kendall_tau(a, b) for a, b in zip(*rewards, strict=True)], widest


def _by_text(base: FrozenBase, some: list[tuple[str, str]]) -> list[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    return [(i, (vectors.mean[k], vectors.last[k])) for rows, vectors in base.embed(some) for k, i in enumerate(rows)]


if __name__ == "__main__":
    start = time.perf_counter()
    print(*rows(quick=True), f"{time.perf_counter() - start:.1f} s", sep="\n")
