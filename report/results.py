"""The results document: all that a run was and measured, made once, for personas and for people's votes alike.

Its keys are a contract: more may be added, none renamed or left out.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import config
from core.findings import About, Findings
from report import answer, words

LIBRARIES = ("torch", "transformers", "datasets", "ollama", "openai", "scipy", "numpy", "evalica")


def document(about: About, findings: Findings) -> dict[str, Any]:
    """Everything that is written, printed and drawn, ready for JSON."""
    made: dict[str, Any] = {
        "schema_version": config.SCHEMA_VERSION,
        "persona": about.persona,
        "backend": about.backend,
        "label": about.run.label,
        "judge": about.judge,
        "base_model": about.run.base_model,
        "base_is_reward_model": about.base_is_reward_model,
        "device": about.run.device_used,
        "seed": about.params.random_seed,
        "config": dataclasses.asdict(about.params),
        "models": [
            {
                "name": model.model,
                "backend": about.backend,
                "ollama_tag": model.ollama_tag,
                "arena_name": model.arena_name,
                "elo": model.elo,
                "elo_source": model.source,
                "proxy": model.proxy,
            }
            for model in about.models
        ],
        "versions": versions(about.run.server),
        "machine": about.run.machine,
        "command": about.run.command,
        "notes": words.noted([*about.run.notes, *about.notes]),
        "main_metric": findings.main_metric,
        "counts": findings.counts,
        "judge_quality": findings.judge_quality,
        "answer": {
            "best": findings.answer.best,
            "tied_with": list(findings.answer.tied_with),
            "unlikely": list(findings.answer.unlikely),
            "more_prompts": findings.answer.more_prompts,
            "more_people": findings.answer.more_people,
            "ask": about.run.ask,
        },
        "leaderboard": findings.answer.leaderboard,
        "likes": findings.answer.likes,
        "final": findings.final,
        "cross_validated": findings.cross_validated,
        "improvement": findings.improvement,
        "winner": findings.winner,
        "recommended": findings.recommended,
        "comparisons": findings.comparisons,
        "verdict": {
            "better_than": list(findings.better_than),
            "prompts_needed": findings.prompts_needed,
        },
        "learning_curve": findings.learning_curve,
        "curves": findings.curves,
        "hypotheses": findings.hypotheses,
        "per_prompt": findings.per_prompt,
        "examples": findings.examples,
        "people": findings.people,
        "training_history": findings.training_history,
        "ablation": findings.ablation,
        "timings_s": findings.timings_s,
    }
    made["answer"] |= {"sentence": answer.sentence(made), "whose": answer.whose(made)}
    made["verdict"] |= {
        "sentence": words.verdict(made),
        "warnings": words.warnings(made, findings.stronger_baselines),
    }
    return made


def versions(server: str) -> dict[str, str]:
    """Python's and the main libraries' versions, read without importing them, and that of the ``server``, if any:
    another one samples differently."""
    import platform
    from importlib.metadata import version

    asked = {"ollama_server": server} if server else {}
    return {"python": platform.python_version(), **asked, **{name: version(name) for name in LIBRARIES}}
