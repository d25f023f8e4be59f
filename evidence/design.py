"""The split into training and test prompts, and the systems that are compared.

features = read_texts(job, data.prompts, data.responses)     # the frozen base reads each text once
systems = make_systems(job, data, features)                  # A, B, C and what they must beat
plan = design(data, job.params)                              # what trains and what tests
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import evaluation
from base.features import Features, compute_features
from combined import Combined
from config import ExperimentConfig
from core.errors import MissingError
from core.ranking import Ranker, TrainingSet
from core.records import Preference, Prompt, Rating, Response
from data_generation import Data
from elo_system import EloSystem
from evaluation import Round
from evidence import baselines
from reward_model import RewardModel
from stages.likelihood import recorded_preferences
from stages.tasks import Job


class Design(NamedTuple):
    """What trains and what tests: in the documented split, and in each part of the cross-validation."""

    preferences: tuple[Preference, ...]
    """One for each pair of each prompt in an order drawn by the seed: neither a point of a learning curve nor Elo's
    last updates then hang on one prompt."""
    test_ids: tuple[str, ...]
    """Test prompts of the documented split."""
    split: Round
    fold: Mapping[str, int]
    """{prompt id: the part of the cross-validation in which it tests}."""
    rounds: Sequence[Round]
    """The cross-validation."""


def design(data: Data, params: ExperimentConfig) -> Design:
    """Split the data as the parameters say. Raises MissingError where no prompt that tests has been answered."""
    here = {prompt.id for prompt in data.prompts}
    parts = evaluation.split(data.planned, params.train_prompts, params.random_seed)
    train, test = (tuple(prompt_id for prompt_id in part if prompt_id in here) for part in parts)
    if not test:
        raise MissingError("Every prompt that would have tested is left out. Run again with a higher --num_prompts.")
    folds = evaluation.folds(data.planned, params.folds, params.random_seed)
    fold = {prompt_id: number for prompt_id, number in folds.items() if prompt_id in here}
    truths = data.listwise if params.ground_truth == "listwise" else data.truths
    preferences = evaluation.shuffled(data.preferences, params.random_seed)
    split = TrainingSet.of(preferences, train), [truth for truth in truths if truth.prompt_id in test]
    return Design(preferences, test, split, fold, evaluation.rounds(preferences, truths, fold))


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


def read_texts(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response], refresh: bool = False) -> Features:
    """Each text through the frozen base, once ever but where ``refresh`` asks for it anew."""
    return compute_features(
        job.base_model, prompts, responses, cache_dir=job.cache_dir, name=job.name, device=job.device, refresh=refresh,
        ray=job.ray,
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
