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


class Verdict(TypedDict):
    """Which system ranks better, and how far to trust that."""

    sentence: str
    better_than: list[str]
    """Which of the other contenders the recommended one surely beats; empty where it is the default."""
    prompts_needed: int | None
    """Prompts that would tell a difference of the size seen from chance; None where that can't be said."""
    stronger_baselines: list[str]
    """Systems that are no contender and beat both in the main metric by the winner's rule."""
    warnings: list[str]


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
    verdict: Verdict


class Measured(Compared):
    """All that is measured beside the answer."""

    main_metric: str
    """The metric that the winner is decided in: ``kendall_tau``, for votes ``ranking_accuracy``."""
    counts: Mapping[str, Any]
    judge_quality: Mapping[str, Any]
    """{figure: value}; for a persona also ``reads``, ``sentence``, ``by_words`` and ``by_probabilities`` as
    ``evidence.judge_quality`` has them, and ``agreement_with_person``{pairs, share, kappa, ci95}."""
    final: Mapping[str, Figures]
    """{system: {metric: mean on the documented split}}."""
    learning_curve: Sequence[Mapping[str, Any]]
    """[{preferences, elo_offset{metric: value}, reward_model{…}, combined{…}}] on the documented split."""
    curves: Mapping[str, Any]
    """{points, trained_once, SYSTEM: {metric: {mean, lo, hi}}}, cross-validated."""
    hypotheses: Mapping[str, Mapping[str, Any]]
    """{sample_efficiency, generalization, combined{the same two for System C}}: a verdict each, with its reason or what
    it rests on."""
    per_prompt: Sequence[Mapping[str, Any]]
    """[{prompt_id, prompt, fold, difference, elo_offset{metric: value}, reward_model{…}, combined{…}}], every prompt
    that has a value; ``difference`` is the reward model's minus the Elo offset's."""
    examples: Sequence[Mapping[str, Any]]
    """[{prompt, responses[{model, text, truth_place, elo_place, reward_place, combined_place}]}]."""
    people: Mapping[str, Any] | None
    """{personal_gain, by_person, ceiling}; None for a persona."""
    training_history: Mapping[str, Sequence[float]]
    """{preference_loss, regularization_loss} by epoch."""
    ablation: Sequence[Mapping[str, Any]]
    """[{name, metric: {mean, ci95}, difference{difference, ci95, p_value}}], no difference in the first row."""
    timings_s: Mapping[str, float]


class Document(Measured):
    """The whole document."""

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
    answer: dict[str, Any]
    """{sentence, best, tied_with, unlikely, more_prompts, more_people, whose, ask}."""
    leaderboard: Sequence[Mapping[str, Any]]
    likes: Sequence[Mapping[str, Any]]


def make_document(
    job: Job, features: Features, ratings: Sequence[Rating], answer: Answer, measured: Measured
) -> Document:
    """The document of a run. The sentences in it are made from its own figures."""
    judged_place = measured["judge_quality"].get("reads") == "place"  # then more prompts tell nothing
    found: Document = {
        "schema_version": config.SCHEMA_VERSION,
        "persona": job.name,
        "backend": job.llm.backend,
        "label": job.label,
        "judge": job.judge,
        "base_model": features.base,
        "base_is_reward_model": features.has_score,
        "device": features.device or ("cuda" if _on_gpu(job) else "cpu"),
        "seed": job.params.random_seed,
        "config": dataclasses.asdict(job.params),
        "models": [_model(job, rating) for rating in ratings],
        "versions": versions(job.server),
        "machine": job.machine,
        "command": job.command,
        "notes": words.noted((*job.notes, *features.notes)),
        "answer": {
            "sentence": "",
            "best": answer.best,
            "tied_with": list(answer.tied_with),
            "unlikely": list(answer.unlikely),
            "more_prompts": None if judged_place else answer.more_prompts,
            "more_people": answer.more_people,
            "whose": "",
            "ask": job.ask,
        },
        "leaderboard": answer.leaderboard,
        "likes": answer.likes,
        **measured,
    }
    found["answer"] |= {"sentence": sentences.sentence(found), "whose": sentences.whose(found)}
    found["verdict"] |= {
        "sentence": words.verdict(found),
        "warnings": words.warnings(found, found["verdict"]["stronger_baselines"]),
    }
    return found


def _on_gpu(job: Job) -> bool:
    """Whether the device asked for comes to the GPU on this machine."""
    return job.device == "cuda" or (job.device == "auto" and job.machine.get("gpu") is not None)


def _model(job: Job, rating: Rating) -> dict[str, Any]:
    contestant = job.contestants.get(rating.model)
    return {
        "name": rating.model,
        "backend": job.llm.backend,
        "ollama_tag": contestant and contestant.ollama_tag,
        "arena_name": rating.arena_name,
        "elo": rating.elo,
        "elo_source": rating.source,
        "proxy": rating.proxy,
    }


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
