"""Do the personas of the embedded judge differ, and how far apart are two responses for it?

    python benchmarks/pilot.py [--personas coder academic …] [--prompts 7]

Runs on pilot prompts: each persona's last topics, which the default recorded run (its first 25) does not use. Prints
each persona's mean advantage by answering style, Kendall's τ between the personas on the same responses, and the median
absolute difference of two advantages, from which ``config.EMBEDDED_JUDGE_TEMPERATURE`` is set.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import config
from llm.embedded import EmbeddedModel
from llm.interface import Choice, Request

READERS = {**config.REFERENCE_READERS, "neutral": config.NEUTRAL_READER}


def pilot_prompts(model: EmbeddedModel, persona: str, count: int) -> list[str]:
    """The first draft for each of the persona's last topics."""
    topics = config.PERSONAS[persona].topics[-count:]
    asks = config.PERSONAS[persona].asks
    requests = [
        Request(
            config.EMBEDDED_NAME,
            f'Repeat this request in your own words, in one sentence: "{asks[i % len(asks)]} … {topic}"',
            opening=asks[i % len(asks)],
            temperature=0.5,
            num_predict=40,
            seed=i,
        )
        for i, topic in enumerate(topics)
    ]
    answers = dict(model.complete(requests))
    return [answers[i].text.split("\n")[0] for i in range(count)]


def pilot_responses(model: EmbeddedModel, prompts: list[str]) -> list[list[str]]:
    """[prompt][style] → text."""
    styles = config.EMBEDDED_MODELS.values()
    requests = [
        Request("style", p, system=s.system, opening=s.opening, temperature=0.7, num_predict=64, seed=i)
        for i, p in enumerate(prompts)
        for s in styles
    ]
    answers = dict(model.complete(requests))
    return [[answers[i * len(styles) + j].text for j in range(len(styles))] for i in range(len(prompts))]


def read(model: EmbeddedModel, prompts: list[str], responses: list[list[str]]) -> dict[str, list[tuple[float, ...]]]:
    """Mean log-likelihood per token by reader: [prompt][style]."""
    systems = {**READERS, **{key: p.answerer for key, p in config.PERSONAS.items()}}
    result = {}
    for name, system in systems.items():
        choices = [Choice("reader", p, tuple(r), system=system) for p, r in zip(prompts, responses, strict=True)]
        result[name] = [decision.scores for _, decision in model.choose(choices)]
    return result


def advantages(readings: dict[str, list[tuple[float, ...]]], persona: str) -> list[list[float]]:
    """The persona's log-likelihood less the reference readers' mean: [prompt][style]."""
    reference = [readings[r] for r in config.REFERENCE_READERS]
    return [
        [own - statistics.fmean(r[i][j] for r in reference) for j, own in enumerate(row)]
        for i, row in enumerate(readings[persona])
    ]


def main() -> None:
    """Run the pilot and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--personas", nargs="+", default=list(config.PERSONAS))
    parser.add_argument("--prompts", type=int, default=7)
    parser.add_argument("--dump", type=Path, help="write prompts, responses and readings here as JSON")
    args = parser.parse_args()
    from scipy.stats import kendalltau

    model, styles, differences, dump = EmbeddedModel(), list(config.EMBEDDED_MODELS), [], {}
    for asker in args.personas:
        prompts = pilot_prompts(model, asker, args.prompts)
        responses = pilot_responses(model, prompts)
        readings = read(model, prompts, responses)
        dump[asker] = {"prompts": prompts, "responses": responses, "readings": readings}
        print(f"\nPrompts of {asker}; mean advantage by style, nats per token")
        print(f"{'read by':16}" + "".join(f"{s:>16}" for s in styles))
        by_persona = {p: advantages(readings, p) for p in config.PERSONAS}
        for persona, rows in by_persona.items():
            means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
            print(f"{persona:16}" + "".join(f"{m:16.3f}" for m in means) + f"   {styles[means.index(max(means))]}")
        for a, b in combinations(config.PERSONAS, 2):
            taus = [kendalltau(x, y).statistic for x, y in zip(by_persona[a], by_persona[b], strict=True)]
            print(f"  τ({a}, {b}) = {statistics.fmean(taus):+.2f}")
        differences += [abs(x - y) for row in by_persona[asker] for x, y in combinations(row, 2)]
    print(f"\nmedian |difference of two advantages| = {statistics.median(differences):.3f} nats per token")
    if args.dump:
        args.dump.write_text(json.dumps(dump, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
