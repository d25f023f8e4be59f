"""Which head: hidden width, pooling, components, input scale, weight decay, λ. Prints a Markdown table.

    python benchmarks/head_choice.py                          # planted tastes on texts of the embedded model
    python benchmarks/head_choice.py --votes votes.jsonl      # and real votes, cross-validated by prompt

A planted taste depends on what a text shows (its style, length, digits, …) and not on who wrote it: contestants swap
styles from prompt to prompt. 20 prompts train (300 preferences), τ is that on 5 others, over several draws. The texts
(60 topics × 6 styles of the embedded model) are made once, minutes, and kept in the cache folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more threads only spin on matrices this small

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import config
from base.features import Features, compute_features
from config import ExperimentConfig
from core.ranking import TrainingSet
from core.records import Preference, Prompt, Response
from reward_model import RewardModel

TOPICS_PER_PERSONA = 20
CONTESTANTS = tuple(f"contestant {i}" for i in range(6))
RATINGS = dict(zip(CONTESTANTS, (1171.0, 1193.0, 1293.0, 1320.0, 1087.0, 1097.0), strict=True))
Likes = Mapping[tuple[str, str], float]


class Variant(NamedTuple):
    """One row of the table."""

    pooling: str = "mean"
    hidden: int = 8
    components: int = config.EXPERIMENT_CONFIG.components
    scale: float = config.EXPERIMENT_CONFIG.input_scale
    decay: float = 0.0
    lambda_reg: float = 0.1

    def model(self, features: Features, ratings: Mapping[str, float | None]) -> RewardModel:
        params = ExperimentConfig(
            pooling=self.pooling,
            hidden_width=self.hidden,
            components=self.components,
            input_scale=self.scale,
            weight_decay=self.decay,
            lambda_reg=self.lambda_reg,
        )
        return RewardModel(features, ratings, params)


VARIANTS = [
    *(Variant(pooling) for pooling in ("mean", "last", "both")),
    *(Variant(hidden=hidden) for hidden in (0, 16, 64)),
    *(Variant(components=components) for components in (32, 64)),
    *(Variant(scale=scale) for scale in (1.0, 3.0, 9.0)),
    Variant(decay=10.0),
    *(Variant(lambda_reg=weight) for weight in (0.0, 1.0)),
]


def words(text: str) -> int:
    return max(1, len(text.split()))


TASTES: dict[str, Callable[[str], float]] = {
    "short": lambda t: -float(words(t)),
    "formal": lambda t: float(np.mean([len(w) for w in re.findall(r"[A-Za-z]+", t)] or [0])),
    "concrete": lambda t: len(re.findall(r"[0-9]", t)) / words(t),
    "lists": lambda t: len(re.findall(r"^\s*(?:[-*]|\d+[.)])", t, re.MULTILINE)) / words(t) ** 0.5,
    "personal": lambda t: len(re.findall(r"\b(?:you|your|I|we|my)\b", t)) / words(t),
    "code": lambda t: len(re.findall(r"[{}()=<>_;`]", t)) / words(t),
}
STYLE_TASTES = 4  # further tastes: an order of the six styles, drawn


# ── Planted tastes ───────────────────────────────────────────────────────────────────────────────────────


def styled_texts(kept: Path) -> list[dict[str, str]]:
    """{prompt, style, text} of every topic in every style of the embedded model; made once."""
    if kept.exists():
        found: list[dict[str, str]] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    from llm.embedded import EmbeddedModel
    from llm.interface import Request

    topics = [topic for persona in config.PERSONAS.values() for topic in persona.topics[:TOPICS_PER_PERSONA]]
    requests = [
        Request(style, f"Tell me about {topic}.", c.system, c.opening, temperature=0.7, num_predict=64, seed=i)
        for i, topic in enumerate(topics)
        for style, c in config.EMBEDDED_MODELS.items()
    ]  # fmt: skip
    made = dict(EmbeddedModel().complete(requests))
    texts = [{"prompt": r.prompt, "style": r.model, "text": made[i].text} for i, r in enumerate(requests)]
    kept.write_text(json.dumps(texts, indent=0), encoding="utf-8")
    return texts


class Planted(NamedTuple):
    """One simulated person: what it likes of each (prompt, contestant), and who answered what."""

    features: Features
    likes: Likes
    train: tuple[str, ...]
    test: tuple[str, ...]
    preferences: tuple[Preference, ...]


def plant(features: Features, texts: Likes, rng: np.random.Generator, flips: float) -> Planted:
    """A person whose liking of (prompt, style) is ``texts``; a share ``flips`` of its words is turned round."""
    prompts = [str(p) for p in rng.permutation(sorted({p for p, _ in features.index}))[:25]]
    styles = sorted({style for _, style in features.index})
    index, likes = {}, {}
    for p in prompts:
        for contestant, style in zip(CONTESTANTS, rng.permutation(styles), strict=True):
            index[p, contestant], likes[p, contestant] = features.index[p, style], texts[p, style]
    made = []
    for p in prompts[:20]:
        for a, b in combinations(CONTESTANTS, 2):
            outcome = 0.5 + 0.5 * float(np.sign(likes[p, a] - likes[p, b]))
            made.append(Preference(p, a, b, 1.0 - outcome if rng.random() < flips else outcome))
    shuffled = tuple(made[i] for i in rng.permutation(len(made)))
    return Planted(
        dataclasses.replace(features, index=index), likes, tuple(prompts[:20]), tuple(prompts[20:]), shuffled
    )


def planted_tau(variant: Variant, people: Sequence[Planted]) -> float:
    """Mean Kendall τ on prompts that no training saw; prompts where the person likes all the same are left out."""
    from scipy.stats import kendalltau

    taus = []
    for person in people:
        model = variant.model(person.features, RATINGS).fit(person.preferences, prompt_ids=person.train)
        for p in person.test:
            truth = [person.likes[p, c] for c in CONTESTANTS]
            if len(set(truth)) > 1:
                scores = model.scores(p)
                taus.append(kendalltau([scores[c] for c in CONTESTANTS], truth).statistic)
    return float(np.mean(taus))


def all_people(cache_dir: Path, draws: int) -> dict[str, list[Planted]]:
    """Groups of simulated people: by style, the same with a fifth of the words flipped, the same on a base whose score
    says nothing and must be overcome, and by what the text shows."""
    texts = styled_texts(cache_dir / "head_choice_texts.json")
    ids = {prompt: f"q{i:03d}" for i, prompt in enumerate(dict.fromkeys(t["prompt"] for t in texts))}
    responses = [Response(ids[t["prompt"]], t["style"], t["text"]) for t in texts]
    prompts = [Prompt(id_, prompt) for prompt, id_ in ids.items()]
    features = compute_features("embedded", prompts, responses, cache_dir=cache_dir, name="head_choice_styles")
    shown = {(r.prompt_id, r.model): r.text for r in responses}
    noise = np.random.default_rng(1).normal(size=len(responses)).astype(np.float32)
    against = dataclasses.replace(features, base_score=noise, has_score=True)
    groups: dict[str, list[Planted]] = {name: [] for name in ("style", "flipped", "against", "text")}
    for draw in range(draws):
        for number in range(STYLE_TASTES):
            rank = np.random.default_rng(100 + number).permutation(len(config.EMBEDDED_MODELS))
            order = dict(zip(sorted(config.EMBEDDED_MODELS), rank, strict=True))
            likes = {key: float(order[key[1]]) for key in shown}
            groups["style"].append(plant(features, likes, np.random.default_rng(draw), 0.0))
            groups["flipped"].append(plant(features, likes, np.random.default_rng(draw), 0.2))
            groups["against"].append(plant(against, likes, np.random.default_rng(draw), 0.0))
        for taste in TASTES.values():
            likes = {key: taste(text) for key, text in shown.items()}
            groups["text"].append(plant(features, likes, np.random.default_rng(draw), 0.0))
    return groups


# ── Real votes ───────────────────────────────────────────────────────────────────────────────────────────


class Votes(NamedTuple):
    """Real votes and the features of what they are about."""

    features: Features
    votes: tuple[Preference, ...]


def read_votes(path: Path, cache_dir: Path) -> Votes:
    """JSON Lines: user, prompt_id, prompt, model_a, response_a, model_b, response_b, outcome."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    prompts = {row["prompt_id"]: Prompt(row["prompt_id"], row["prompt"]) for row in rows}
    responses = {
        (row["prompt_id"], row[f"model_{s}"]): Response(row["prompt_id"], row[f"model_{s}"], row[f"response_{s}"])
        for row in rows
        for s in "ab"
    }
    features = compute_features(
        "embedded", list(prompts.values()), list(responses.values()), cache_dir=cache_dir, name="head_choice_votes"
    )
    votes = (Preference(r["prompt_id"], r["model_a"], r["model_b"], r["outcome"], r["user"]) for r in rows)
    return Votes(features, tuple(votes))


def vote_accuracy(variant: Variant, data: Votes, count: int, draws: int) -> float:
    """Share of the decided votes on unseen prompts that are ordered right, from ``count`` votes; 5 folds by prompt."""
    sets, tests = [], []
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        prompts = rng.permutation(sorted({v.prompt_id for v in data.votes}))
        for fold in range(5):
            held = set(prompts[fold::5])
            pool = [v for v in data.votes if v.prompt_id not in held]
            train = [pool[i] for i in rng.permutation(len(pool))[:count]]
            sets.append(TrainingSet.of(train, [p for p in prompts if p not in held]))
            tests.append([v for v in data.votes if v.prompt_id in held and v.outcome != 0.5])
    hits = []
    for model, test in zip(variant.model(data.features, {}).fit_many(sets), tests, strict=True):
        for v in test:
            scores = model.scores(v.prompt_id)
            hits.append(float((scores[v.model_a] > scores[v.model_b]) == (v.outcome > 0.5)))
    return float(np.mean(hits))


def main() -> None:
    """Measure what the flags ask for, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--votes", type=Path, help="real votes, JSON Lines")
    parser.add_argument("--cache_dir", type=Path, default=config.ROOT / "cache")
    parser.add_argument("--draws", type=int, default=5, help="prompt draws a taste")
    args = parser.parse_args()
    people = all_people(args.cache_dir, args.draws)
    votes = read_votes(args.votes, args.cache_dir) if args.votes else None
    columns = [*Variant._fields, *(f"τ {group}" for group in people), *(["votes 300", "votes all"] if votes else [])]
    print("|", " | ".join(columns), "|")
    print("|" + "---|" * len(columns))
    for variant in VARIANTS:
        figures = [planted_tau(variant, group) for group in people.values()]
        if votes is not None:
            figures += [vote_accuracy(variant, votes, count, 2) for count in (300, 10**9)]
        print("|", " | ".join([*map(str, variant), *(f"{figure:.3f}" for figure in figures)]), "|", flush=True)


if __name__ == "__main__":
    main()
