"""A results dict as a default embedded run writes it, drawn with a seed: every key of the contract."""

from __future__ import annotations

from typing import Any

import numpy as np

METRICS = ("kendall_tau", "spearman_rho", "ranking_accuracy", "top_1_accuracy", "top_3_accuracy")
# Typical size of each system's τ; the other metrics follow from it.
TAUS = {
    "elo_offset": 0.41,
    "reward_model": 0.57,
    "global_elo": 0.28,
    "base_reward": 0.05,
    "bradley_terry": 0.43,
    "longest_response": 0.12,
    "random": 0.0,
}
MODELS = ("code_block", "numbered_steps", "story", "formal_prose", "bullet_points", "plain_talk")
CONTENDERS = ("elo_offset", "reward_model")
ABLATIONS = {"reward model, λ = 0.1": 0.57, "λ = 0": 0.55, "linear head": 0.49, "ListMLE": 0.53}
LABEL = "embedded (SmolLM2-135M: shows how the suite works, not how good real models are)"
TOPICS = (
    "How do I find a memory leak in a Python service that only shows up after two days in production?",
    "Explain a race condition between two threads.",
    "Why is this SQL query slow, and which index helps?",
    "Write a retry with exponential backoff and jitter, and say when not to retry at all.",
    "Give me unit tests for a REST API that pages its results.",
)


def metrics(tau: float) -> dict[str, float]:
    """The five metrics that go with a τ."""
    return {
        "kendall_tau": tau,
        "spearman_rho": min(1.0, 1.15 * tau),
        "ranking_accuracy": (1 + tau) / 2,
        "top_1_accuracy": min(1.0, 0.17 + 0.7 * max(tau, 0.0)),
        "top_3_accuracy": min(1.0, 0.5 + 0.45 * max(tau, 0.0)),
    }


def with_interval(mean: float, half: float = 0.09) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - half, mean + half]}


def _curves(points: list[int], incremental: bool, rng: np.random.Generator) -> dict[str, Any]:
    curves: dict[str, Any] = {"points": points, "trained_once": not incremental}
    speeds = {"elo_offset": 90.0, "reward_model": 35.0}
    for system, speed in speeds.items():
        start = TAUS["global_elo"] if system == "elo_offset" else TAUS["base_reward"]
        taus = [TAUS[system] - (TAUS[system] - start) * float(np.exp(-x / speed)) for x in points]
        if system == "reward_model" and not incremental:
            taus = [TAUS[system]] * len(points)
        else:
            taus = [tau + float(rng.normal(0, 0.012)) for tau in taus]
        rows = [metrics(tau) for tau in taus]
        curves[system] = {
            m: {
                "mean": [row[m] for row in rows],
                "lo": [row[m] - 0.06 for row in rows],
                "hi": [row[m] + 0.06 for row in rows],
            }
            for m in METRICS
        }
    return curves


def _per_prompt(count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for i in range(count):
        elo, reward = (float(np.clip(TAUS[s] + rng.normal(0, 0.25), -1, 1)) for s in CONTENDERS)
        rows.append(
            {
                "prompt_id": f"coder_{i:03d}",
                "prompt": TOPICS[i % len(TOPICS)],
                "fold": i % 5,
                "difference": reward - elo,
                "elo_offset": metrics(elo),
                "reward_model": metrics(reward),
            }
        )
    return rows


def _examples() -> list[dict[str, Any]]:
    texts = {
        "code_block": "```python\ndef find_leak():\n    return tracemalloc.take_snapshot()\n```",
        "numbered_steps": "Follow these steps:\n\n1. Reproduce the leak.\n2. Take two snapshots.\n3. Compare them.",
        "story": "The rain had just stopped when the service ran out of memory for the third time that week. " * 3,
        "formal_prose": "In the literature, this question is approached as follows. Memory that stays reachable …",
        "bullet_points": "Key points:\n\n- tracemalloc\n- objgraph\n- a canary instance",
        "plain_talk": "Well, to put it simply, something keeps a reference that it should have let go.",
    }
    return [
        {
            "prompt": prompt,
            "responses": [
                {
                    "model": model,
                    "text": texts[model],
                    "truth_place": place,
                    "elo_place": (place + shift) % 6 + 1,
                    "reward_place": place if place > 2 else 3 - place,
                }
                for place, model in enumerate(MODELS, start=1)
            ],
        }
        for shift, prompt in enumerate(TOPICS[:3])
    ]


def _against(elo: float, reward: float, half: float = 0.08) -> dict[str, Any]:
    gain = reward - elo
    return {
        "elo_offset": elo,
        "reward_model": reward,
        "difference": gain,
        "ci95": [gain - half, gain + half],
        "p_value": 0.418,
    }


def _hypotheses(incremental: bool, rng: np.random.Generator) -> dict[str, Any]:
    accuracies = {model: rng.uniform(0.5, 0.9, 2).tolist() for model in MODELS}
    h1 = {
        "verdict": "supported",
        "area_between_curves": {"difference": 0.112, "ci95": [0.041, 0.183], "p_value": 0.004},
        "prompts": 25,
        "orders": 5,
        "elo_offset_final": 0.41,
        "reward_model_final": 0.57,
        "reward_model_needs_for_elo_final": 45,
        "elo_needs_for_reward_model_final": None,
    }
    return {
        "sample_efficiency": h1 if incremental else {"verdict": "not tested", "reason": "It needs --incremental."},
        "generalization": {
            "verdict": "inconclusive",
            "pair_accuracy": _against(0.64, 0.67),
            "pair_accuracy_these_contestants": _against(0.64, 0.67, 0.03),
            "place_error": _against(1.52, 1.37, 0.3),
            "by_contestant": {
                model: {
                    "pair_accuracy": _against(a, b),
                    "place_error": {"elo_offset": 5 - 5 * a, "reward_model": 5 - 5 * b},
                }
                for model, (a, b) in accuracies.items()
            },
        },
    }


def _verdict() -> dict[str, Any]:
    return {
        "winner": "reward_model",
        "verdict": {
            "sentence": "The reward model ranks better: τ is 0.16 higher, and chance alone hardly does that.",
            "prompts_needed": "To tell a difference of +0.16 from chance about 18 prompts are needed; there are 25.",
            "warnings": ["Bradley–Terry of the user's own preferences is as good as the Elo offset."],
        },
        "judge_quality": {
            "flip_rate": None,
            "inconsistent_rate": None,
            "first_position_rate": None,
            "longer_response_rate": 0.53,
            "circular_triads": 0.04,
            "consistency": 0.9,
            "noise_ceiling": 0.81,
            "listwise_agreement": None,
            "self_win_rate": None,
        },
    }


def _models() -> list[dict[str, Any]]:
    source = "Bradley–Terry over the preferences of the reference readers"
    rows: list[dict[str, Any]] = [
        {"name": name, "ollama_tag": None, "arena_name": None, "elo": 1000.0 + 7 * i, "elo_source": source}
        for i, name in enumerate(MODELS)
    ]
    rows[4] |= {"proxy": True, "arena_name": "Qwen3-30B-A3B", "elo": 1320.0, "elo_source": "Chatbot Arena 2025-08-04"}
    rows[5] |= {"elo": None, "elo_source": "none: starts at the mean of the others"}
    return rows


def sample_results(*, incremental: bool = True, prompts: int = 25, seed: int = 7) -> dict[str, Any]:
    """Results of ``prompts`` prompts with all optional keys; the same for the same seed."""
    rng = np.random.default_rng(seed)
    test = max(1, prompts // 5)
    preferences = 15 * (prompts - test)
    points = list(range(0, preferences + 1, 5))
    curves = _curves(points, incremental, rng)
    once = {s: metrics(tau + float(rng.normal(0, 0.08))) for s, tau in TAUS.items()}
    once |= {s: {m: curves[s][m]["mean"][-1] for m in METRICS} for s in CONTENDERS}
    once["global_elo"] = {m: curves["elo_offset"][m]["mean"][0] for m in METRICS}
    crossed = {s: {m: with_interval(v) for m, v in metrics(tau).items()} for s, tau in TAUS.items()}
    gains = {m: crossed["reward_model"][m]["mean"] - crossed["elo_offset"][m]["mean"] for m in METRICS}
    return {
        "schema_version": 1,
        "persona": "coder",
        "backend": "embedded",
        "judge": "SmolLM2-135M-Instruct",
        "base_model": "SmolLM2-135M-Instruct",
        "base_is_reward_model": False,
        "device": "cpu",
        "seed": 42,
        "label": LABEL,
        "config": {"lambda_reg": 0.1, "folds": 5, "incremental": incremental, "learning_rate": 1e-4, "batch_size": 4},
        "models": _models(),
        "counts": {
            "prompts": prompts, "train_prompts": prompts - test, "test_prompts": test, "preferences": preferences,
            "ties": 21, "ground_truth_rankings": test, "judge_calls": 0,
        },
        "final": once,
        "cross_validated": crossed,
        "improvement": {
            m: {"difference": gain, "ci95": [gain - 0.1, gain + 0.1], "p_value": 0.0123} for m, gain in gains.items()
        },
        "learning_curve": [
            {"preferences": x} | {s: {m: curves[s][m]["mean"][i] for m in METRICS} for s in CONTENDERS}
            for i, x in enumerate(points)
        ],
        "curves": curves,
        "per_prompt": _per_prompt(prompts, rng),
        "hypotheses": _hypotheses(incremental, rng),
        **_verdict(),
        "examples": _examples(),
        "ablation": [
            {"name": name} | {m: with_interval(v) for m, v in metrics(tau).items()}
            for name, tau in ABLATIONS.items()
        ],
        "training_history": {
            "preference_loss": [0.69 - 0.025 * i + 0.001 * i * i for i in range(10)],
            "regularization_loss": [0.69 - 0.006 * i for i in range(10)],
        },
        "timings_s": {"prompts": 0.1, "responses": 0.2, "features": 31.5, "training": 12.25},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6"},
        "command": "python main.py --persona coder --incremental",
        "notes": ["The base is no reward model: its score is 0."],
        "warnings": ["1 response was shortened to fit the judge's context."],
    }  # fmt: skip


def sample_personas() -> dict[str, Any]:
    """What ``--persona all`` hands to the figure and the table."""
    names = ("coder", "academic", "creative_writer", "student", "analyst")
    personas = {name: sample_results(seed=i) | {"persona": name} for i, name in enumerate(names)}
    rng = np.random.default_rng(3)
    similarity = {a: {b: 1.0 if a == b else float(rng.uniform(-0.4, 0.8)) for b in names} for a in names}
    for i, a in enumerate(names):
        for b in names[:i]:
            similarity[a][b] = similarity[b][a]
    return {"personas": personas, "similarity": similarity, "label": LABEL}
