"""Whether a judge on a server agrees with people, by its words and by its probabilities.

python benchmarks/judge_and_people.py votes.jsonl --url http://127.0.0.1:8092/v1 --judge qwen2.5-coder-1.5b --pairs 60

The file has one vote a line: user, prompt_id, prompt, model_a, response_a, model_b, response_b, outcome (1: a, 0: b).
Judged are pairs on which two or more people voted and all said the same, drawn by seed 0, in both orders. What was
answered is kept in --cache_dir: the same command goes on from there, with --pairs 0 it asks nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from config import Contestant, ExperimentConfig, Persona
from core.records import Judgement, Prompt, Response
from llm.openai import OpenAIModel
from stages.judging import judge_pairs, preferences_from
from stages.reads import what_is_read
from stages.tasks import Job

READER = Persona(
    title="Reader",
    description=(
        "Someone who put this request to an AI assistant and needs the answer. Values what is correct, helpful, clear "
        "and complete."
    ),
)
Pair = tuple[str, str, str]  # prompt id, a, b with a < b


def clear_pairs(path: Path, longest: int) -> tuple[dict[Pair, float], dict[str, str], dict[tuple[str, str], str]]:
    """{pair: outcome for a that all of two or more people named}, in drawn order; the prompts and the answers."""
    votes: dict[Pair, list[float]] = defaultdict(list)
    prompts: dict[str, str] = {}
    texts: dict[tuple[str, str], str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        a, b, outcome = row["model_a"], row["model_b"], row["outcome"]
        prompts[row["prompt_id"]] = row["prompt"]
        texts |= {(row["prompt_id"], a): row["response_a"], (row["prompt_id"], b): row["response_b"]}
        votes[row["prompt_id"], min(a, b), max(a, b)].append(outcome if a < b else 1 - outcome)
    found = [
        (p, a, b)
        for (p, a, b), said in sorted(votes.items())
        if len(said) > 1 and set(said) in ({0}, {1}) and len(texts[p, a]) + len(texts[p, b]) <= longest
    ]
    random.Random(0).shuffle(found)
    return {pair: votes[pair][0] for pair in found}, prompts, texts


def report(judgements: list[Judgement], people: Mapping[Pair, float], texts: Mapping[tuple[str, str], str]) -> None:
    """Print what the judgements show."""
    lengths = {key: len(text) for key, text in texts.items()}
    words = [replace(j, log_odds=None) for j in judgements]
    right = np.array([people[p.prompt_id, p.model_a, p.model_b] for p in preferences_from(words)])
    pairs = preferences_from(words)
    longer = np.array([float(lengths[p.prompt_id, p.model_a] > lengths[p.prompt_id, p.model_b]) for p in pairs])
    print(f"{len(pairs)} pairs; the longer answer agrees with people in {(longer == right).mean():.2f}")
    for name, judged in (("words", words), ("probabilities", judgements)):
        outcome = np.array([p.outcome for p in preferences_from(judged)])
        said = np.where(outcome == 0.5, 0.5, np.where(outcome > 0.5, right, 1.0 - right))
        loss = -np.log(np.clip(np.where(right == 1.0, outcome, 1.0 - outcome), 1e-9, 1.0)).mean()
        error = said.std(ddof=1) / math.sqrt(len(said))
        print(f"by {name}: agrees with people in {said.mean():.2f} ± {error:.2f}, log loss {loss:.2f}")
        if name == "probabilities":
            for low in np.arange(0.0, 1.0, 0.1):
                within = (outcome >= low) & (outcome < low + 0.1)
                if within.any():
                    share = right[within].mean()
                    print(f"  outcome {low:.1f}–{low + 0.1:.1f}: {within.sum()} pairs, people say a in {share:.2f}")
    found = what_is_read(judgements, lengths)
    for name, spread in (("words", found.by_words), ("probabilities", found.by_probabilities)):
        print(f"by {name}: { ({k: round(v, 3) for k, v in asdict(spread).items()} if spread else 'nothing') }")
    print(f"reads: {found.reads}. {found.sentence}")


def main() -> None:
    """Judge the pairs and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("votes", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8092/v1")
    parser.add_argument("--judge", required=True)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--longest", type=int, default=10**9, help="characters of a pair's two answers together")
    parser.add_argument("--cache_dir", type=Path, default=Path("cache/judge_and_people"))
    args = parser.parse_args()
    logging.getLogger("ranking").setLevel(logging.ERROR)
    people, prompts, texts = clear_pairs(args.votes, args.longest)
    llm, judgements = OpenAIModel(args.url, concurrency=1, timeout=3600.0), []
    for number, (prompt_id, a, b) in enumerate(people):
        job = Job("reader", READER, {m: Contestant(None, None, m) for m in (a, b)}, args.judge, llm,
                  ExperimentConfig(judge_reasons="off"), args.cache_dir, None)  # fmt: skip
        responses = [Response(prompt_id, m, texts[prompt_id, m]) for m in (a, b)]
        prompt = Prompt(prompt_id, prompts[prompt_id])
        judgements += judge_pairs(job, [prompt], responses, ask=number < args.pairs)
    report(judgements, people, texts)


if __name__ == "__main__":
    main()
