"""Results documents: one of a recorded run, shrunk (golden/document.json), and others made from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evidence.hypotheses import pooled
from report import words

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = "<script>alert(1)</script>\x1b[31m\x07\u202egnp\u2066.exe\"'&{{ 7*7 }}$x_1$"
UNKNOWN = {"difference": None, "ci95": None, "p_value": None}
GAIN = {"difference": 0.08, "ci95": [-0.02, 0.18], "p_value": 0.11}
Document = dict[str, Any]


def persona(*, incremental: bool = True) -> Document:
    """A persona's results with all that can be in them."""
    document: Document = json.loads((GOLDEN / "document.json").read_text(encoding="utf-8"))
    if not incremental:
        document["curves"]["trained_once"] = True
        for system in ("reward_model", "combined"):
            document["curves"][system] |= {m: [p[-1]] * len(p) for m, p in document["curves"][system].items()}
        for tested in (document["hypotheses"], document["hypotheses"]["combined"]):
            tested["sample_efficiency"] = {"verdict": "not tested", "reason": "It needs --incremental."}
    return document


def votes(*, decided: bool = True, users: int = 12) -> Document:
    """Results of people's votes: only the ranking accuracy is known, and not even that where none decided."""
    document, known = persona(), "ranking_accuracy" if decided else ""
    crossed = document["cross_validated"]
    crossed |= {system: dict(crossed["bradley_terry"]) for system in ("shared_reward", "shared_combined")}
    document["final"] |= {system: document["final"]["random"] for system in crossed if system.startswith("shared")}
    for cells in crossed.values():
        cells |= {metric: {"mean": None, "ci95": None} for metric in cells if metric != known}
    for system, figures in document["final"].items():
        document["final"][system] = {metric: figures[metric] if metric == known else None for metric in figures}
    gains = {metric: dict(GAIN if metric == known else UNKNOWN) for metric in crossed["random"]}
    point = {"mean": 0.6, "ci95": [0.6, 0.6]} if decided else {"mean": None, "ci95": None}
    level = [point] * len(document["curves"]["points"])
    untested = {"verdict": "not tested", "reason": "Not on votes."}
    both = {"sample_efficiency": untested, "generalization": untested}
    starts = {"elo_offset": "global_elo", "reward_model": "shared_reward", "combined": "shared_combined"}
    document |= {"persona": "votes", "backend": "votes", "label": "human votes", "judge": "the people themselves"}
    document |= {"main_metric": "ranking_accuracy", "judge_quality": {"longer_response_rate": 0.53}, "winner": "none"}
    document |= {"verdict": {"better_than": []}, "examples": [], "ablation": []}
    document |= {"improvement": gains, "comparisons": dict.fromkeys(document["comparisons"], gains)}
    document["counts"] |= {"users": users, "votes": 480, "decided_votes": 360 * decided}
    document["curves"] |= {system: {"ranking_accuracy": level} for system in words.CONTENDERS}
    document["hypotheses"] = {**both, "combined": both}
    gained = {system: gains["ranking_accuracy"] | {"over": start} for system, start in starts.items()}
    document["people"] = {"personal_gain": gained}
    document["answer"] |= {"tied_with": ["numbered_steps"], "more_prompts": 40}
    document["answer"] |= {"sentence": words.sentence(document), "whose": words.whose(document)}
    document["verdict"] |= {"sentence": words.verdict(document), "warnings": words.warnings(document)}
    return document


def personas() -> Document:
    """The results of all personas together."""
    one = persona()
    documents = {name: one | {"persona": name} for name in ("coder", "academic", "creative_writer")}
    together = {key: one[key] for key in ("backend", "label", "judge")}
    return together | {"personas": documents, "pooled": pooled(documents)}


def hostile() -> Document:
    """Every text that a model, a user or a file may have written is an attack."""
    changed = persona()
    changed |= dict.fromkeys(("persona", "judge", "label", "command", "base_model"), HOSTILE)
    changed |= {"notes": [HOSTILE], "versions": {HOSTILE: HOSTILE}}
    changed["verdict"]["warnings"] = [HOSTILE]
    changed["leaderboard"][0] |= {"model": HOSTILE, "parameters": HOSTILE}
    changed["answer"] |= {"sentence": HOSTILE, "ask": HOSTILE}
    changed["models"][4] |= {"name": HOSTILE, "arena_name": HOSTILE, "elo_source": HOSTILE}
    changed["examples"][0]["prompt"] = changed["ablation"][0]["name"] = HOSTILE
    changed["hypotheses"]["sample_efficiency"] = {"verdict": "not tested", "reason": HOSTILE}
    changed["examples"][0]["responses"][0] |= {"model": HOSTILE, "text": HOSTILE}
    return changed
