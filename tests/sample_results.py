"""Results documents as runs write them, made by ``results.document``: the tests' samples have the real shape."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from config import ExperimentConfig
from core.findings import About, Answer, Findings, Run
from core.records import Rating
from evidence.hypotheses import pooled
from report.results import document

# Typical size of each system's τ; the other metrics follow from it.
TAUS = {
    "elo_offset": 0.41, "reward_model": 0.57, "combined": 0.61, "global_elo": 0.28, "base_reward": 0.05,
    "bradley_terry": 0.43, "longest_response": 0.12, "random": 0.0,
}  # fmt: skip
METRICS = ("kendall_tau", "spearman_rho", "ranking_accuracy", "top_1_accuracy", "top_3_accuracy")
CONTENDERS = ("elo_offset", "reward_model", "combined")
COMPARISONS = {"combined-elo_offset": 0.2, "combined-reward_model": 0.04}
MODELS = ("code_block", "numbered_steps", "story", "formal_prose", "bullet_points", "plain_talk")
LABEL = "embedded (SmolLM2-135M: shows how the suite works, not how good real models are)"
TOPICS = (
    "How do I find a memory leak in a Python service that only shows up after two days in production?",
    "Explain a race condition between two threads.",
    "Why is this SQL query slow, and which index helps?",
    "Write a retry with exponential backoff and jitter, and say when not to retry at all.",
)
HOSTILE = "<script>alert(1)</script>\x1b[31m\x07\u202egnp\u2066.exe\"'&{{ 7*7 }}$x_1$"
ASK = "python main.py --persona coder --rank PROMPT"
UNKNOWN = {"difference": None, "ci95": None, "p_value": None}


def persona(*, incremental: bool = True, prompts: int = 25) -> dict[str, Any]:
    """A persona's results with all that can be in them."""
    return document(about(incremental), findings(incremental, prompts))


def votes(*, decided: bool = True) -> dict[str, Any]:
    """Results of several people's votes: only the ranking accuracy is known, and not even that where none decided."""
    found, known = findings(), "ranking_accuracy" if decided else ""
    nowhere, points = {"mean": None, "ci95": None}, found.curves["points"]
    shared = dict.fromkeys(("shared_reward", "shared_combined"), found.cross_validated["bradley_terry"])
    systems = {**found.cross_validated, **shared}
    crossed = {s: {m: cells[m] if m == known else nowhere for m in METRICS} for s, cells in systems.items()}
    gain = {"difference": 0.08, "ci95": [-0.02, 0.18], "p_value": 0.11} if decided else UNKNOWN
    level = {part: [0.6 if decided else None] * len(points) for part in ("mean", "lo", "hi")}
    curves = {system: {"ranking_accuracy": level} for system in CONTENDERS}
    tested = {"verdict": "inconclusive", "area_between_curves": gain, "elo_offset_final": 0.61}
    starts = {"elo_offset": "global_elo", "reward_model": "shared_reward", "combined": "shared_combined"}
    untested = {"verdict": "not tested", "reason": "Even the global ratings are learned from votes."}
    person = {"votes": 40, "decided_votes": 30, **dict.fromkeys(crossed, 0.5 if decided else None)}
    changed = dataclasses.replace(
        found,
        main_metric="ranking_accuracy",
        counts={**found.counts, "users": 12, "votes": 480, "decided_votes": 360},
        judge_quality={"longer_response_rate": 0.53},
        final={s: {m: cells[m]["mean"] for m in METRICS} for s, cells in crossed.items()},
        cross_validated=crossed,
        improvement={m: gain if m == known else UNKNOWN for m in METRICS},
        winner="none",
        better_than=(),
        comparisons={pair: {m: gain if m == known else UNKNOWN for m in METRICS} for pair in COMPARISONS},
        prompts_needed=None,
        learning_curve=_points(points, curves),
        curves={"points": points, "trained_once": False, **curves},
        hypotheses={
            "sample_efficiency": tested | {"reward_model_final": 0.69, "from_flat": tested},
            "generalization": untested,
            "combined": {
                "sample_efficiency": tested | {"combined_final": 0.7, "from_flat": tested},
                "generalization": untested,
            },
        },
        per_prompt=[row | {s: {"ranking_accuracy": 0.5} for s in CONTENDERS} for row in found.per_prompt * decided],
        examples=[],
        ablation=[],
        people={
            "personal_gain": {system: gain | {"over": start} for system, start in starts.items()},
            "by_person": [{"user": f"person {i}", **person} for i in range(12)],
            "strengths": [],
            "ceiling": {
                "two_people": {"share": 0.82, "pairs": 758},
                "others_majority": {"share": 0.791, "votes": 949},
            },
        },
    )
    crowd = dataclasses.replace(about(), persona="votes", backend="votes", judge="the people themselves")
    return document(crowd, changed)


def personas() -> dict[str, Any]:
    """What ``--persona all`` hands to the figure and the table."""
    names = ("coder", "academic", "creative_writer", "student", "analyst")
    documents = {name: persona(prompts=5) | {"persona": name} for name in names}
    return {
        "backend": "embedded",
        "personas": documents,
        "pooled": pooled(documents),
        "similarity": {a: {b: 1.0 if a == b else (len(a) + len(b)) / 20 - 0.8 for b in names} for a in names},
        "label": LABEL,
        "judge": "SmolLM2-135M-Instruct",
    }


def hostile() -> dict[str, Any]:
    """Every text that a model, a user or a file may have written is an attack."""
    changed = persona(prompts=5)
    changed |= dict.fromkeys(("persona", "judge", "label", "command", "base_model"), HOSTILE)
    changed |= {"notes": [HOSTILE], "versions": {HOSTILE: HOSTILE}}
    changed["verdict"]["warnings"] = [HOSTILE]
    changed["leaderboard"][0] |= {"model": HOSTILE, "parameters": HOSTILE}
    changed["answer"] |= {"sentence": HOSTILE, "ask": HOSTILE}
    changed["models"][4] |= {"name": HOSTILE, "arena_name": HOSTILE, "elo_source": HOSTILE}
    changed["per_prompt"][0]["prompt"] = changed["examples"][0]["prompt"] = changed["ablation"][0]["name"] = HOSTILE
    changed["hypotheses"]["sample_efficiency"] = {"verdict": "not tested", "reason": HOSTILE}
    for tested in (changed["hypotheses"], changed["hypotheses"]["combined"]):
        held_out = tested["generalization"]["by_contestant"]
        held_out[HOSTILE] = held_out[MODELS[0]]
    changed["examples"][0]["responses"][0] |= {"model": HOSTILE, "text": HOSTILE}
    return changed


def many_models() -> dict[str, Any]:
    """Forty contestants with long names."""
    changed = persona(prompts=5)
    changed["models"] = [
        changed["models"][4] | {"name": f"registry.example/{i}-instruct:70b-q4_K_M"} for i in range(40)
    ]
    return changed


def about(incremental: bool = True) -> About:
    """An embedded run with a rated, a proxy-rated and an unrated contestant."""
    command = "python main.py --persona coder --incremental"
    notes = ("The base is no reward model: its score is 0.",)
    models = [Rating(name, 1000.0 + 7 * i, "estimated, no Arena rating") for i, name in enumerate(MODELS)]
    models[4] = Rating(MODELS[4], 1320.0, "Chatbot Arena 2025-08-04", "Qwen3-30B-A3B", "qwen3:8b", proxy=True)
    models[5] = Rating(MODELS[5], None, "none: starts at the mean of the others")
    return About(
        persona="coder",
        backend="embedded",
        judge="SmolLM2-135M-Instruct",
        run=Run("SmolLM2-135M-Instruct", "auto", "cpu", LABEL, command, Path("cache"), Path("results"), notes, ask=ASK),
        params=ExperimentConfig(incremental=incremental),
        base_is_reward_model=False,
        models=tuple(models),
    )


def findings(incremental: bool = True, prompts: int = 25) -> Findings:
    """What a run on a persona measures."""
    test = prompts // 5
    preferences = 15 * (prompts - test)
    uses = list(range(0, preferences + 1, 5))
    starts = {
        "elo_offset": TAUS["global_elo"],
        "reward_model": TAUS["base_reward" if incremental else "reward_model"],
        "combined": TAUS["global_elo" if incremental else "combined"],
    }
    curves = {s: _curve(uses, starts[s], TAUS[s]) for s in CONTENDERS}
    return Findings(
        main_metric="kendall_tau",
        counts={
            "prompts": prompts, "train_prompts": prompts - test, "test_prompts": test, "preferences": preferences,
            "ties": 21, "ground_truth_rankings": test, "judge_calls": 0,
        },
        judge_quality={"flip_rate": None, "longer_response_rate": 0.53, "consistency": 0.9, "noise_ceiling": 0.81},
        final={system: _metrics(tau - 0.05) for system, tau in TAUS.items()},
        cross_validated={system: _estimates(tau) for system, tau in TAUS.items()},
        answer=_answer(),
        improvement={m: _gain(0.16) for m in METRICS},
        winner="reward_model",
        comparisons={pair: {m: _gain(gain) for m in METRICS} for pair, gain in COMPARISONS.items()},
        recommended="combined",
        better_than=("elo_offset",),
        stronger_baselines=(),
        prompts_needed=18,
        learning_curve=_points(uses, curves),
        curves={"points": uses, "trained_once": not incremental, **curves},
        hypotheses=_hypotheses(incremental),
        per_prompt=[_prompt(i) for i in range(prompts)],
        training_history={
            "preference_loss": [0.69 - 0.025 * i + 0.001 * i * i for i in range(10)],
            "regularization_loss": [0.69 - 0.006 * i for i in range(10)],
        },
        examples=[_example(shift, prompt) for shift, prompt in enumerate(TOPICS[:3])],
        ablation=[
            {"name": "Reward model, λ = 0.1", **_estimates(0.57)},
            {"name": "Reward model, linear head", **_estimates(0.49), "difference": _gain(-0.08)},
        ],
        timings_s={"prompts": 0.1, "features": 31.5, "training": 12.25},
    )  # fmt: skip


def _answer() -> Answer:
    """Two models that can't be told apart, the others behind."""
    rows = [
        {
            "model": model,
            "place": place,
            "places": {"lo": 1, "hi": 2} if place < 3 else {"lo": 3, "hi": 6},
            "win_rate": {"mean": 0.8 - 0.1 * place, "ci95": [0.75 - 0.1 * place, 0.85 - 0.1 * place]},
            "p_best": {1: 0.7, 2: 0.298, 3: 0.002}.get(place, 0.0),
            "best_on": 8 - place,
            "judged_on": 25,
            "comparisons": 125,
            "own_best_of": None,
            "global_place": None if place == 6 else 6 - place,
            "moved": None if place == 6 else 6 - 2 * place,
            "elo": None if place == 6 else 1000.0 + 7 * place,
            "tokens_per_s": None,
            "parameters": None,
        }
        for place, model in enumerate(MODELS, start=1)
    ]
    shorter = {
        "trait": "length", "likes": "shorter answers", "weight": 0.4, "ci95": [0.2, 0.6], "unit": "half the length",
        "p_value": 0.001, "wins": {"mean": 0.599, "ci95": [0.55, 0.646]},
    }  # fmt: skip
    code = shorter | {"trait": "code", "likes": "code", "weight": 1.25, "unit": "a block of code"}
    return Answer(MODELS[0], (MODELS[1],), (), 40, None, rows, [shorter, code])


def _metrics(tau: float) -> dict[str, float]:
    """Five figures that differ, so that no two metrics can be taken for each other."""
    return {m: tau + 0.08 * i for i, m in enumerate(METRICS)}


def _estimates(tau: float) -> dict[str, Any]:
    return {m: {"mean": mean, "ci95": [mean - 0.09, mean + 0.09]} for m, mean in _metrics(tau).items()}


def _gain(difference: float) -> dict[str, Any]:
    return {"difference": difference, "ci95": [difference - 0.1, difference + 0.1], "p_value": 0.0123}


def _curve(uses: list[int], start: float, end: float) -> dict[str, Any]:
    rows = [_metrics(end + (start - end) * math.exp(-x / 60)) for x in uses]
    shifts = {"mean": 0.0, "lo": -0.06, "hi": 0.06}
    return {m: {part: [row[m] + shift for row in rows] for part, shift in shifts.items()} for m in METRICS}


def _points(uses: list[int], curves: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"preferences": x, **{s: {m: part["mean"][i] for m, part in curves[s].items()} for s in CONTENDERS}}
        for i, x in enumerate(uses)
    ]


def _prompt(i: int) -> dict[str, Any]:
    elo, reward = TAUS["elo_offset"] + 0.1 * math.sin(i), TAUS["reward_model"] + 0.1 * math.cos(3 * i)
    row = {"prompt_id": f"coder_{i:03d}", "prompt": TOPICS[i % len(TOPICS)], "fold": i % 5, "difference": reward - elo}
    return row | {"elo_offset": _metrics(elo), "reward_model": _metrics(reward), "combined": _metrics(reward + 0.01)}


def _example(shift: int, prompt: str) -> dict[str, Any]:
    responses = []
    for place, model in enumerate(MODELS, start=1):
        places = {"truth_place": place, "elo_place": (place + shift) % 6 + 1}
        places["reward_place"] = place if place > 2 else 3 - place
        places["combined_place"] = 7 - place
        responses.append({"model": model, "text": f"As {model} would say:\n\n1. Reproduce it.\n2. …", **places})
    return {"prompt": prompt, "responses": responses}


def _hypotheses(incremental: bool) -> dict[str, Any]:
    return {**_tested(incremental, "reward_model"), "combined": _tested(incremental, "combined")}


def _tested(incremental: bool, system: str) -> dict[str, Any]:
    h1 = {
        "verdict": "supported",
        "area_between_curves": {"difference": 0.112, "ci95": [0.041, 0.183], "p_value": 0.004},
        "elo_offset_final": 0.41,
        f"{system}_final": TAUS[system],
        f"{system}_needs_for_elo_final": 45,
        f"elo_needs_for_{system}_final": None,
    }
    held_out = {
        "pair_accuracy": {"elo_offset": 0.64, system: 0.67, **_gain(0.03)},
        "place_error": {"elo_offset": 1.52, system: 1.37, **_gain(-0.15)},
    }
    h1 |= {"from_arena": dict(h1), "from_flat": h1 | {"area_between_curves": _gain(0.061)}}
    h2 = {"verdict": "inconclusive", **held_out, "by_contestant": dict.fromkeys(MODELS, held_out)}
    unread = {"pair_accuracy": {"bradley_terry": 0.66, system: 0.67, **_gain(0.01)}}
    h2 |= {"against_elo": dict(h2), "against_others_mean": {"verdict": "inconclusive", **unread}}
    untested = {"verdict": "not tested", "reason": "It needs --incremental."}
    return {"sample_efficiency": h1 if incremental else untested, "generalization": h2}
