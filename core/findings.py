"""What a run was and what it measured: the two records that the report reads, whoever filled them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from config import ExperimentConfig
from core.records import Rating

Figures = Mapping[str, float | None]
"""{metric: value}, None where it is nowhere defined."""


@dataclass(frozen=True)
class Run:
    """How a run is done: what was asked for beyond whose preferences are learned."""

    base_model: str
    """Hub id, folder or ``embedded``."""
    device: str
    """As asked for."""
    device_used: str
    """What that comes to on this machine: ``cpu`` or ``cuda``."""
    label: str
    """Who answers and judges, as said in every output."""
    command: str
    cache_dir: Path
    results_dir: Path
    notes: tuple[str, ...] = ()
    ablate: bool = False
    server: str = ""
    """The version of the Ollama servers that answered; empty where none was asked."""
    ask: str = ""
    """The command that ranks the models for a prompt by what this run learns; empty where nothing is kept."""
    keep: bool = True
    """Whether what is learned replaces what an earlier run learned."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """GPU, cores and free memory as the run began."""
    ray: str | None = None
    """The Ray cluster on which texts are read; None: in this process."""

    def read_by(self, device: str) -> Run:
        """The run once its texts are read; ``device`` is empty where all of them were kept. Where the processor or a
        cluster read them, the processor trains the heads: the GPU may not be there."""
        asked = "cpu" if device == "cpu" or self.ray else self.device
        return replace(self, device=asked, device_used=device or self.device_used)


@dataclass(frozen=True)
class About:
    """What a run was: everything in the results document that is no measurement."""

    persona: str
    backend: str
    judge: str
    run: Run
    params: ExperimentConfig
    base_is_reward_model: bool
    models: tuple[Rating, ...]
    notes: tuple[str, ...] = ()
    """What a reader must know beyond the notes of ``run``."""


@dataclass(frozen=True)
class Answer:
    """What the preferences of all prompts say of the models and of their texts; nothing here is predicted."""

    best: str | None
    """Who leads; None where nothing is known."""
    tied_with: tuple[str, ...]
    """Who can't be told from the leader."""
    unlikely: tuple[str, ...]
    """Those of them that hardly any draw puts first."""
    more_prompts: int | None
    """How many more would separate the first two; None where they are separate, or where that can't be said."""
    more_people: int | None
    """How many more people it would take beside the prompts; None for one person and for a persona."""
    leaderboard: Sequence[Mapping[str, Any]]
    """[{model, place, places, win_rate, …}], best first."""
    likes: Sequence[Mapping[str, Any]] = ()
    """[{trait, likes, weight, ci95, unit, p_value}], what is surely liked in a text, surest first."""


@dataclass(frozen=True)
class Findings:
    """What a run measured, ready for JSON: keys and units as DESIGN's contract has them."""

    main_metric: str
    """The metric that the winner is decided in: ``kendall_tau``, for votes ``ranking_accuracy``."""
    counts: Mapping[str, Any]
    judge_quality: Mapping[str, Any]
    """{figure: value}, and ``agreement_with_person``{pairs, share, kappa, ci95} for a persona."""
    final: Mapping[str, Figures]
    """{system: {metric: mean on the documented split}}."""
    cross_validated: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """{system: {metric: {mean, ci95}}}, every prompt a test prompt once."""
    answer: Answer
    improvement: Mapping[str, Mapping[str, Any]]
    """{metric: {difference, ci95, p_value}}, reward_model minus elo_offset."""
    winner: str
    """reward_model, elo_offset or none."""
    comparisons: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """{"combined-elo_offset", "combined-reward_model": {metric: {difference, ci95, p_value}}}."""
    recommended: str
    """Whose ranking to take: combined, unless reward_model or elo_offset beats it."""
    better_than: tuple[str, ...]
    """Which of the other contenders the recommended one surely beats; empty where it is the default."""
    stronger_baselines: tuple[str, ...]
    """Systems that are no contender and beat both in the main metric by the winner's rule."""
    prompts_needed: int | None
    """Prompts that would tell a difference of the size seen from chance; None where that can't be said."""
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
    training_history: Mapping[str, Sequence[float]]
    """{preference_loss, regularization_loss} by epoch."""
    examples: Sequence[Mapping[str, Any]] = ()
    """[{prompt, responses[{model, text, truth_place, elo_place, reward_place, combined_place}]}]."""
    ablation: Sequence[Mapping[str, Any]] = ()
    """[{name, metric: {mean, ci95}, difference{difference, ci95, p_value}}], no difference in the first row."""
    people: Mapping[str, Any] | None = None
    """{personal_gain, by_person, strengths}; None for a persona."""
    timings_s: Mapping[str, float] = field(default_factory=dict)
