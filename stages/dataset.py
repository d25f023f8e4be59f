"""All that the language models were asked for, in the order of the stages."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import config
import evaluation
from cli.plan import NOISE_ROUNDS, noise_calls
from core.ranking import TrainingSet
from core.records import GroundTruth, Judgement, Preference, Prompt, Rating, Response
from core.store import fingerprint
from data_generation import collect_responses, generate_prompts
from evidence.baselines import bradley_terry
from evidence.judge_quality import agreement
from stages.judging import judge_pairs, preferences_from, rank_listwise, reader_preferences, round_robin_truths
from stages.tasks import Job

log = logging.getLogger("ranking.data")


@dataclass(frozen=True)
class Data:
    """What the language models were asked for."""

    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    judgements: tuple[Judgement, ...]
    preferences: tuple[Preference, ...]
    """One for each pair of each prompt, training or test, in an order drawn by the seed: neither a point of a learning
    curve nor Elo's last updates then hang on one prompt."""
    truths: tuple[GroundTruth, ...]
    """Round-robin truth of every prompt."""
    train_ids: tuple[str, ...]
    test_ids: tuple[str, ...]
    test_truths: tuple[GroundTruth, ...]
    """Truth of the documented split's test prompts."""
    listwise_agreement: float | None = None
    noise_ceiling: float | None = None
    """τ between two rounds of judging the test prompts; None where it was not asked for."""

    @property
    def training(self) -> TrainingSet:
        """The documented split's preferences."""
        return TrainingSet.of(self.preferences, self.train_ids)


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside under this name."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


def make_data(job: Job, clock: Clock) -> Data:
    """The four data stages, each reading the records of the stage before it."""
    with clock.stage("prompts"):
        prompts = generate_prompts(job)
    with clock.stage("responses"):
        responses = collect_responses(job, prompts)
    with clock.stage("preferences"):
        judgements = judge_pairs(job, prompts, responses)
    judged = preferences_from(judgements)
    preferences = evaluation.shuffled(judged, job.params.random_seed)
    truths = round_robin_truths(judged)
    params = job.params
    train, test = evaluation.split([p.id for p in prompts], params.train_prompts, params.random_seed)
    with clock.stage("ground_truth"):
        test_truths = [t for t in truths if t.prompt_id in test]
        keep_truths(job, test_truths)
        agreed = ceiling = None
        if params.ground_truth != "round_robin":
            listwise = rank_listwise(job, [p for p in prompts if p.id in test], responses)
            agreed = agreement(test_truths, listwise)
            test_truths = listwise if params.ground_truth == "listwise" else test_truths
        if params.ground_truth == "both":
            ceiling = noise_ceiling(job, [p for p in prompts if p.id in test], responses)
    return Data(
        tuple(prompts), tuple(responses), tuple(judgements), tuple(preferences), tuple(truths), train, test,
        tuple(test_truths), agreed, ceiling,
    )  # fmt: skip


def keep_truths(job: Job, truths: Sequence[GroundTruth]) -> None:
    """Round-robin truths follow from the preferences; they are written down for people to read."""
    with job.store(config.GROUND_TRUTH_FILE, "ground_truth") as store:
        for truth in truths:
            value = {"prompt_id": truth.prompt_id, "ranking": list(truth.ranking), "scores": dict(truth.scores)}
            key, made_from = f"{truth.prompt_id}/{truth.method}", fingerprint(value)
            if store.get(key, made_from) is None:
                store.put(key, made_from, value)


def noise_ceiling(job: Job, prompts: Sequence[Prompt], responses: Sequence[Response]) -> float | None:
    """Mean τ-b between two independent rounds of judging ``prompts``, what the calls cost said before they are made.

    Nothing can agree with a noisy truth more than that truth agrees with itself. Both rounds are judged at
    ``noise_temperature``: a judge at temperature 0 would only repeat itself, and for it the figure is a lower bound.
    """
    calls = noise_calls(job, prompts, responses)
    if calls:
        what = f"two rounds over {len(prompts)} test prompts, temperature {job.params.noise_temperature:g}"
        log.info("Noise ceiling: %s, calls: %d to %s", what, calls, job.judge)
    judged = (judge_pairs(job, prompts, responses, round_) for round_ in NOISE_ROUNDS)
    return agreement(*(round_robin_truths(preferences_from(judgements)) for judgements in judged))


def estimated_ratings(job: Job, data: Data) -> dict[str, Rating]:
    """Embedded contestants were never on the Arena: theirs is Bradley–Terry over the reference readers' preferences,
    about 1000."""
    readers = reader_preferences(job, data.prompts, data.responses)
    games = [(p.model_a, p.model_b, p.outcome) for p in readers] + [
        (p.model_b, p.model_a, 1.0 - p.outcome) for p in readers
    ]
    source = f"estimated: Bradley-Terry over {len(config.REFERENCE_READERS)} reference readers, no Arena rating"
    return {m: Rating(m, round(1000.0 + strength, 1), source) for m, strength in bradley_terry(games).items()}
