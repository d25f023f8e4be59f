"""The split into training and test prompts, and the systems that are compared.

features = read_texts(job, data, clock)          # the frozen base reads each text once
systems = make_systems(job, data, features)      # A, B, C and what they must beat
plan = design(data, job.params)                  # what trains and what tests
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import evaluation
from base.features import Features, compute_features
from combined import Combined
from config import ExperimentConfig
from core.clock import Clock
from core.errors import MissingError
from core.ranking import Ranker, TrainingSet
from core.records import GroundTruth, Preference, Rating
from data_generation import Data
from elo_system import EloSystem
from evidence import baselines
from reward_model import RewardModel
from stages.likelihood import recorded_preferences
from stages.tasks import Job


@dataclass(frozen=True)
class Design:
    """Which preferences train and which prompts test: in the documented split, and in each fold."""

    preferences: tuple[Preference, ...]
    """One for each pair of each prompt in an order drawn by the seed: neither a point of a learning curve nor Elo's
    last updates then hang on one prompt."""
    truths: tuple[GroundTruth, ...]
    """One for each prompt: of the round robin, or listwise where that was asked for."""
    train_ids: tuple[str, ...]
    test_ids: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    """Test prompts of each part of the cross-validation: every prompt is in one of them."""

    @property
    def training(self) -> tuple[Preference, ...]:
        """The documented split's preferences."""
        return TrainingSet.of(self.preferences, self.train_ids).preferences

    @property
    def test_truths(self) -> tuple[GroundTruth, ...]:
        """Truths of its test prompts."""
        return tuple(truth for truth in self.truths if truth.prompt_id in self.test_ids)


def listed(prompt_ids: Sequence[str], params: ExperimentConfig) -> tuple[str, ...]:
    """Prompts whose responses are also ranked as a list: all, or the test prompts beside their round robin, or none."""
    if params.ground_truth == "listwise":
        return tuple(prompt_ids)
    _, test = evaluation.split(prompt_ids, params.train_prompts, params.random_seed)
    return test if params.ground_truth == "both" else ()


def design(data: Data, params: ExperimentConfig) -> Design:
    """Split the data as the parameters say. Raises MissingError where no prompt that tests has been answered."""
    here = {prompt.id for prompt in data.prompts}

    def answered(part: Sequence[str]) -> tuple[str, ...]:
        return tuple(prompt_id for prompt_id in part if prompt_id in here)

    train, test = map(answered, evaluation.split(data.planned, params.train_prompts, params.random_seed))
    if not test:
        raise MissingError("Every prompt that would have tested is left out. Run again with a higher --num_prompts.")
    folds = evaluation.folds(data.planned, params.folds, params.random_seed)
    truths = data.listwise if params.ground_truth == "listwise" else data.truths
    preferences = evaluation.shuffled(data.preferences, params.random_seed)
    return Design(preferences, truths, train, test, tuple(filter(None, map(answered, folds))))


@dataclass(frozen=True)
class Systems:
    """The systems that are compared, and what they must beat. A new one is one field or one line."""

    elo: EloSystem
    reward: RewardModel
    combined: Combined
    baselines: tuple[Ranker, ...]
    features: Features
    ratings: Mapping[str, Rating]  # every contestant's, global

    @property
    def contenders(self) -> tuple[Ranker, ...]:
        return self.elo, self.reward, self.combined

    @property
    def every(self) -> tuple[Ranker, ...]:
        return *self.contenders, *self.baselines


def read_texts(job: Job, data: Data, clock: Clock, *, refresh: bool = False, also: Sequence[str] = ()) -> Features:
    """Each text through the frozen base, once ever; ``refresh`` and ``also`` as of ``compute_features``."""
    with clock.stage("features"):
        return compute_features(
            job.base_model, data.prompts, data.responses, cache_dir=job.cache_dir, name=job.name, device=job.device,
            refresh=refresh, also=also, ray=job.ray,
        )  # fmt: skip


def make_systems(job: Job, data: Data, features: Features) -> Systems:
    """All systems as they are before any preference."""
    params, models = job.params, list(job.contestants)
    ratings = job.ratings or baselines.estimated_ratings(recorded_preferences(job), models)
    elo = {model: rating.elo for model, rating in ratings.items()}
    return Systems(
        elo=EloSystem(elo, params.elo_k),
        reward=RewardModel(features, elo, params),
        combined=Combined(features, elo, params),
        baselines=(
            baselines.global_elo(elo),
            baselines.base_reward(features),
            baselines.BradleyTerry(list(elo)),
            baselines.longest_response(data.responses),
            baselines.random_ranking(list(elo), params.random_seed),
        ),
        features=features,
        ratings=ratings,
    )
