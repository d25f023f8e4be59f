"""The results document: everything that a run was and measured, for personas and for people's votes alike.

Its keys are a contract with other programs: more may be added, none renamed or left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import config
from base.features import Features
from core.records import Rating
from evidence.leaderboard import Answer
from report import answer as sentences
from report import words
from reward_model import EpochLoss
from stages.tasks import Job

LIBRARIES = ("torch", "transformers", "datasets", "ollama", "openai", "scipy", "numpy")

Figures = Mapping[str, float | None]
"""{metric: value}, None where it is nowhere defined."""


class Compared(TypedDict):
    """The systems against each other, every prompt a test prompt once."""

    cross_validated: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """{system: {metric: {mean, ci95}}}."""
    improvement: Mapping[str, Mapping[str, Any]]
    """{metric: {difference, ci95, p_value}}, reward_model minus elo_offset."""
    winner: str
    """reward_model, elo_offset or none."""
    recommended: str
    """Whose ranking to take: combined, unless reward_model or elo_offset beats it."""
    comparisons: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """{"combined-elo_offset", "combined-reward_model": {metric: {difference, ci95, p_value}}}."""
    verdict: dict[str, Any]
    """{sentence, better_than[], prompts_needed, stronger_baselines[], warnings[]}: whom the recommended system surely
    beats (nobody where it is the default); prompts that would tell the difference from chance; systems that are no
    contender and beat both in the main metric."""


class Measured(Compared):
    """All that is measured beside the answer."""

    main_metric: str
    """The metric that the winner is decided in: ``kendall_tau``, for votes ``ranking_accuracy``."""
    counts: Mapping[str, Any]
    judge_quality: Mapping[str, Any]
    """{figure: value}, and ``agreement_with_person``{pairs, share, kappa, ci95} for a persona."""
    final: Mapping[str, Figures]
    """{system: {metric: mean on the documented split}}."""
    learning_curve: Sequence[Mapping[str, Any]]
    """[{preferences, elo_offset{metric: value}, reward_model{…}, combined{…}}] on the documented split."""
    curves: Mapping[str, Any]
    """{points, trained_once, SYSTEM: {metric: {mean, lo, hi}}}, cross-validated."""
    hypotheses: Mapping[str, Mapping[str, Any]]
    """{sample_efficiency, generalization, combined{the same two for System C}}, each with a verdict and its reason."""
    per_prompt: Sequence[Mapping[str, Any]]
    """[{prompt_id, prompt, fold, difference, elo_offset{metric: value}, reward_model{…}, combined{…}}]; ``difference``
    is the reward model's minus the Elo offset's."""
    examples: Sequence[Mapping[str, Any]]
    """[{prompt, responses[{model, text, truth_place, elo_place, reward_place, combined_place}]}]."""
    people: Mapping[str, Any] | None
    """{personal_gain, by_person, ceiling}; None for a persona."""
    training_history: Mapping[str, Sequence[float]]
    """{preference_loss, regularization_loss} by epoch."""
    ablation: Sequence[Mapping[str, Any]]
    """[{name, metric: {mean, ci95}, difference{difference, ci95, p_value}}], no difference in the first row."""
    timings_s: Mapping[str, float]


class Document(Measured, Answer):
    """The whole document; ``answer`` holds {sentence, whose, ask} too."""

    schema_version: int
    persona: str
    backend: str
    label: str
    judge: str
    base_model: str
    base_is_reward_model: bool
    device: str
    seed: int
    config: Mapping[str, Any]
    models: Sequence[Mapping[str, Any]]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    command: str
    notes: list[str]


def make_document(
    job: Job, features: Features, ratings: Sequence[Rating], answer: Answer, measured: Measured
) -> Document:
    """The document of a run. The sentences in it are made from its own figures."""
    usual = "cuda" if job.machine.get("gpu") else "cpu"
    found: Document = {
        "schema_version": config.SCHEMA_VERSION,
        "persona": job.name,
        "backend": job.llm.backend,
        "label": job.label,
        "judge": job.judge,
        "base_model": features.base,
        "base_is_reward_model": features.has_score,
        # where nothing had to be read, the device that would have been taken
        "device": features.device or (usual if job.device == "auto" else job.device),
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
        "versions": versions(job.server),
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


def training_history(epochs: Sequence[EpochLoss]) -> dict[str, list[float]]:
    """Both losses of a head's training, epoch by epoch."""
    return {
        "preference_loss": [epoch.preference for epoch in epochs],
        "regularization_loss": [epoch.regularization for epoch in epochs],
    }


def versions(server: str) -> dict[str, str]:
    """Python's and the main libraries' versions, read without importing them, and that of the ``server``, if any:
    another one samples differently."""
    import platform
    from importlib.metadata import version

    asked = {"ollama_server": server} if server else {}
    return {"python": platform.python_version(), **asked, **{name: version(name) for name in LIBRARIES}}
