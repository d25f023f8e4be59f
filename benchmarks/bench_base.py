"""The frozen base: at the speed of its bare forward pass, and against the naive way of training on texts."""

from __future__ import annotations

import numpy as np
from measuring import ROOT, Row, compare, seconds

from base.frozen import FrozenBase, open_base


def texts(count: int) -> list[tuple[str, str]]:
    """(prompt, response) of 20 prompts × 6 contestants: prose of the suite's own README, 40 to 90 words each."""
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()[:4000]
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        start, length = int(rng.integers(len(words) - 100)), int(rng.integers(40, 90))
        made.append((" ".join(words[i // 6 * 10 : i // 6 * 10 + 15]), " ".join(words[start : start + length])))
    return made


def rows(quick: bool) -> list[Row]:
    """Embedding against the bare pass, and the naive way against ours."""
    base = open_base("embedded", "cpu")
    some = texts(60 if quick else 120)
    list(base.embed(some[:6]))
    return [bare(base, some, 2 if quick else 5), naive(base, some, 1 if quick else 3)]


def tokens_of(base: FrozenBase, some: list[tuple[str, str]]) -> list[int]:
    return [len(text.ids) for text in (base._encode(*pair) for pair in some)]


def bare(base: FrozenBase, some: list[tuple[str, str]], pairs: int) -> Row:
    """Tokens a second, tokenizing and pooling included, against full batches without padding."""
    import torch

    tokens = sum(tokens_of(base, some))
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

    ids, sampled, steps = torch.randint(100, 40000, (8, max(tokens_of(base, some)))), 8, 20 * 15 // 4 * 10
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
