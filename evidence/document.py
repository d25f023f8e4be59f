"""The results document: everything that a run was and measured, for personas and for people's votes alike.

Its keys are a contract with other programs: more may be added, none renamed or left out. ``report/`` shows it.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import config
from base.features import Features
from core.records import Rating
from report import answer as sentences
from report import words
from stages.tasks import Job

LIBRARIES = ("torch", "transformers", "datasets", "ollama", "openai", "scipy", "numpy")

Document = dict[str, Any]
Measured = dict[str, Any]
"""The part of it that ``experiment.measure`` or ``people.many.measure`` makes."""


def make_document(
    job: Job, features: Features, ratings: Sequence[Rating], answer: Mapping[str, Any], measured: Measured
) -> Document:
    """The document of a run: what it was, ``answer`` (``leaderboard.answer``) and what was ``measured``. The sentences
    in it are made from its own figures."""
    asked = {"ollama_server": job.server} if job.server else {}  # another one samples differently
    found: Document = {
        "schema_version": config.SCHEMA_VERSION,
        "persona": job.name,
        "backend": job.llm.backend,
        "label": job.label,
        "judge": job.judge,
        "base_model": features.base,
        "base_is_reward_model": features.has_score,
        "device": features.device.replace("auto", "cuda" if job.machine.get("gpu") else "cpu"),
        "seed": job.params.random_seed,
        "config": dataclasses.asdict(job.params),
        "models": [
            {
                "name": rating.model,
                "backend": job.llm.backend,
                "ollama_tag": job.contestants[rating.model].ollama_tag if rating.model in job.contestants else None,
                "arena_name": rating.arena_name,
                "elo": rating.elo,
                "elo_source": rating.source,
                "proxy": rating.proxy,
            }
            for rating in ratings
        ],
        "versions": {"python": platform.python_version(), **asked, **{name: version(name) for name in LIBRARIES}},
        "machine": job.machine,
        "command": job.command,
        "notes": words.noted((*job.notes, *features.notes)),
        **answer,
        **measured,
    }
    judge = measured["judge_quality"]
    turns = not judge.get("reads") and (judge.get("flip_rate") or 0.0) > 0.5
    if judge.get("reads") == "place" or turns:
        found["answer"]["more_prompts"] = None  # more of them tell nothing, or nobody knows yet whether they do
    said = {"sentence": sentences.sentence(found), "whose": sentences.whose(found), "ask": job.ask}
    found["answer"] = said | found["answer"]
    found["verdict"] |= {
        "sentence": words.verdict(found),
        "warnings": words.warnings(found, found["verdict"]["stronger_baselines"]),
    }
    return found
