"""The table of baselines and ablations, and what it varies: regularizers, the base score, one order of judging."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, params
from hypothesis import strategies as st
from sample_results import persona

import evaluation
import heads
from base.features import Features
from config import ExperimentConfig
from core.ranking import TrainingSet
from core.records import Judgement, Preference, Prompt, Response
from elo_system import EloSystem
from evidence.ablation import ablation_table, one_order
from evidence.hypotheses import cross_validated
from listmle import Lists, loss_and_slope
from report.page import render_report
from reward_model import RewardModel
from stages.dataset import Data
from stages.judging import preferences_from, round_robin_truths

MODELS = tuple("abcd")
RATINGS: dict[str, float | None] = {"a": 1300.0, "b": 1200.0, "c": 1100.0, "d": 1000.0}
PROMPTS = tuple(f"p{i:02d}" for i in range(10))
WIDTH = 40


# ── ListMLE ──


@pytest.mark.parametrize("n", [2, 3, 6])
def test_equal_scores_are_as_likely_as_any_of_n_factorial_orders(n: int) -> None:
    loss, slope = loss_and_slope(np.zeros((1, n)), np.array([n]))
    assert loss[0] * (n - 1) == pytest.approx(math.log(math.factorial(n)), rel=1e-6)
    assert slope.sum() == pytest.approx(0.0, abs=1e-6)
    assert slope[0, 0] == pytest.approx((1 / n - 1) / (n - 1), rel=1e-6)


def test_a_list_of_two_is_the_cross_entropy_of_the_pair() -> None:
    loss, slope = loss_and_slope(np.array([[0.3, 1.1]]), np.array([2]))
    assert loss[0] == pytest.approx(math.log1p(math.exp(0.8)), rel=1e-6)
    assert slope[0] == pytest.approx([-1 / (1 + math.exp(-0.8)), 1 / (1 + math.exp(-0.8))], rel=1e-5)


@params(deadline=None)
@given(st.lists(st.lists(st.floats(-30, 30, width=32), max_size=6), min_size=1, max_size=4))
def test_loss_and_slope_equal_the_formula_and_autograd(lists: list[list[float]]) -> None:
    padded = np.full((len(lists), 6), 123.0, np.float32)  # what stands in places not filled must not matter
    for row, own in zip(padded, lists, strict=True):
        row[: len(own)] = own
    loss, slope = loss_and_slope(padded, np.array([len(own) for own in lists]))
    for i, own in enumerate(lists):
        s = torch.tensor(own, dtype=torch.float64, requires_grad=True)
        expected = torch.zeros((), dtype=torch.float64)
        for place in range(len(own) - 1):
            expected = expected + (torch.logsumexp(s[place:], 0) - s[place]) / (len(own) - 1)
        assert loss[i] == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)
        gradient = torch.autograd.grad(expected, s)[0].numpy() if len(own) > 1 else np.zeros(len(own))
        assert slope[i, : len(own)] == pytest.approx(gradient, abs=1e-5)
        assert not slope[i, len(own) :].any()


def test_lists_are_drawn_best_first_and_equals_in_random_order() -> None:
    texts = [(0, 10, 1.0), (0, 11, 3.0), (0, 12, 1.0), (1, 20, 5.0), (2, 31, 1.0), (2, 30, 2.0)]
    lists = Lists.of(texts, places=4)
    rows, count = lists.draw(200, np.random.default_rng(0))
    drawn = {tuple(row[:n].tolist()) for row, n in zip(rows, count, strict=True)}
    assert drawn == {(11, 10, 12), (11, 12, 10), (30, 31)}, "a prompt with one rated text has no order"
    nothing, none = Lists.of([], places=4).draw(3, np.random.default_rng(0))
    assert nothing.shape == (3, 4)
    assert not none.any()


@pytest.mark.parametrize("hidden", [0, 3])
def test_a_training_with_lists_equals_autograd_and_torchs_adamw(hidden: int) -> None:
    rng = np.random.default_rng(4)
    steps, pairs, places, texts, width = 12, 40, 5, 60, 7
    inputs = rng.normal(size=(texts, width)).astype("f4")
    inputs[:, -1] = 1.0
    rows = rng.integers(texts, size=(2, steps, pairs))
    margin, target, weight = rng.normal(size=(steps, pairs)), rng.random((steps, pairs)), rng.random((steps, pairs))
    listed, base = rng.integers(texts, size=(steps, places)), rng.normal(size=(steps, places))
    count = rng.integers(2, places + 1, size=steps)
    start = rng.normal(size=heads.parameter_count(width, hidden)).astype("f4")
    plan = heads.Plan(rows[0], rows[1], margin, target, weight, inputs, listed, base, count, 0.7)
    (ours,), (losses,) = heads.train([plan], [start], hidden, 1e-2, 0.0)
    assert losses.shape == (steps, pairs + 1)

    theirs = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([theirs], lr=1e-2, weight_decay=0.0, eps=heads.EPSILON)
    x = torch.tensor(inputs, dtype=torch.float64)
    for step in range(steps):
        first, last, direct = theirs.split([width * hidden, hidden, width])
        reward = torch.relu(x @ first.reshape(width, hidden)) @ last + x @ direct
        delta = reward[rows[0, step]] - reward[rows[1, step]] + torch.tensor(margin[step])
        each = torch.nn.functional.binary_cross_entropy_with_logits(delta, torch.tensor(target[step]), reduction="none")
        s = (reward[listed[step]] + torch.tensor(base[step]))[: count[step]]
        choices = [torch.logsumexp(s[place:], 0) - s[place] for place in range(count[step] - 1)]
        of_list = torch.stack(choices).mean()
        assert losses[step, -1] == pytest.approx(float(of_list.detach()), abs=1e-4)
        optimizer.zero_grad()
        ((each * torch.tensor(weight[step])).sum() + 0.7 * of_list).backward()
        optimizer.step()
    assert ours[:-1] == pytest.approx(theirs.detach().numpy()[:-1], abs=2e-4)


# ── Regularizers of the reward model ──


def make_features(seed: int = 0, *, has_score: bool = True) -> Features:
    """States that show which model wrote a text, and more."""
    rng = np.random.default_rng(seed)
    n = len(PROMPTS) * len(MODELS)
    states = rng.normal(size=(n, WIDTH))
    states[:, :4] += 3.0 * np.eye(4)[np.arange(n) % 4]
    index = {(PROMPTS[i // 4], MODELS[i % 4]): i for i in range(n)}
    score = rng.normal(size=n) if has_score else np.zeros(n)
    return Features(index, states.astype("f4"), states.astype("f4"), score.astype("f4"), has_score, "tiny")


def toss_ups() -> list[Preference]:
    return [Preference(p, a, b, 0.5) for p in PROMPTS for a, b in combinations(MODELS, 2)]


def fitted(
    ratings: dict[str, float | None] = RATINGS, *, features: Features | None = None, **changes: object
) -> RewardModel:
    config = ExperimentConfig.from_dict({"learning_rate": 1e-3, **changes})
    return RewardModel(features or make_features(), ratings, config).fit(toss_ups(), prompt_ids=PROMPTS)


def all_scores(model: RewardModel) -> np.ndarray:
    return np.array([[model.scores(p)[m] for m in MODELS] for p in PROMPTS])


@pytest.mark.parametrize("regularizer", ["ranknet", "listmle"])
def test_hard_orders_pull_to_the_arena_whatever_its_distances(regularizer: str) -> None:
    close: dict[str, float | None] = {m: 1000.0 + i / 1000 for i, m in enumerate(reversed(MODELS))}
    wide = fitted(lambda_reg=1.0, regularizer=regularizer, max_epochs=30)
    near = fitted(close, lambda_reg=1.0, regularizer=regularizer, max_epochs=30)
    assert np.array_equal(all_scores(wide), all_scores(near)), "the order alone counts"
    means = all_scores(near).mean(axis=0)
    assert list(means) == sorted(means, reverse=True)
    assert near.history[-1].regularization < 0.8 * near.history[0].regularization
    soft = fitted(close, lambda_reg=1.0, max_epochs=30)
    assert np.ptp(all_scores(soft).mean(axis=0)) < 0.5 * np.ptp(means), "a thousandth of a point is next to nothing"


@pytest.mark.parametrize("regularizer", ["ranknet", "listmle"])
def test_without_weight_or_ratings_the_regularizer_is_nothing(regularizer: str) -> None:
    plain = fitted(lambda_reg=0.0)
    assert np.array_equal(all_scores(fitted(lambda_reg=0.0, regularizer=regularizer)), all_scores(plain))
    unrated = fitted({}, lambda_reg=1.0, regularizer=regularizer)
    assert {epoch.regularization for epoch in unrated.history} == {0.0}


def test_lists_leave_out_who_is_unrated_or_held_out() -> None:
    ratings = RATINGS | {"d": None}
    changed = make_features()
    changed.mean[[row for (_, m), row in changed.index.items() if m == "c"]] = 50.0
    models = [
        RewardModel(f, ratings, ExperimentConfig(lambda_reg=1.0, regularizer="listmle"))
        for f in (make_features(), changed)
    ]
    one, other = (m.fit_many([TrainingSet.of(toss_ups(), PROMPTS, "c")])[0] for m in models)
    for p in PROMPTS:
        assert [one.scores(p)[m] for m in "abd"] == [other.scores(p)[m] for m in "abd"]
    assert one.history[0].regularization == pytest.approx(math.log(2), abs=0.3), "lists of two: a and b"


def test_lists_train_side_by_side_as_they_do_alone() -> None:
    model = RewardModel(make_features(), RATINGS, ExperimentConfig(lambda_reg=0.5, regularizer="listmle"))
    sets = [TrainingSet.of(toss_ups()[:n], PROMPTS, out) for n, out in ((60, None), (25, "b"), (7, None), (0, None))]
    together, alone = model.fit_many(sets), [model.fit_many([s])[0] for s in sets]
    for a, b in zip(together, alone, strict=True):
        assert np.array_equal(all_scores(a), all_scores(b))
        assert a.history == b.history


def test_without_the_base_score_it_is_a_base_that_has_none() -> None:
    without = fitted(base_score=False)
    assert np.array_equal(all_scores(without), all_scores(fitted(features=make_features(has_score=False))))
    untrained = RewardModel(make_features(), RATINGS, ExperimentConfig(base_score=False))
    assert not all_scores(untrained).any()
    f = make_features()
    assert without.score_features(f.mean, f.last, f.base_score) == pytest.approx(all_scores(without).ravel())


@pytest.mark.parametrize(
    ("name", "value"), [("regularizer", "lambdarank"), ("base_score", 1), ("noise_temperature", 0.0)]
)
def test_impossible_settings_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        ExperimentConfig.from_dict({name: value})


# ── One order ──


def judged(outcome: dict[tuple[str, str], float], *, ordered: bool = True) -> list[Judgement]:
    return [Judgement(p, a, b, outcome[a, b], ordered=ordered) for p in PROMPTS for a, b in permutations(MODELS, 2)]


def test_a_judge_with_no_taste_but_for_the_first_looks_decided_in_one_order() -> None:
    judgements = judged(dict.fromkeys(permutations(MODELS, 2), 1.0))
    both = preferences_from(judgements)
    assert {p.outcome for p in both} == {0.5}
    once = one_order(both, judgements, seed=1)
    assert [(p.prompt_id, p.model_a, p.model_b) for p in once] == [(p.prompt_id, p.model_a, p.model_b) for p in both]
    first = sum(p.outcome for p in once) / len(once)
    assert {p.outcome for p in once} == {0.0, 1.0}
    assert 0.25 < first < 0.75, "drawn by the seed: nobody gains by standing first in the list of contestants"
    assert once == one_order(both, judgements, seed=1)
    assert once != one_order(both, judgements, seed=2)


def test_a_judge_that_holds_to_its_word_says_the_same_in_one_order() -> None:
    judgements = judged({(a, b): float(a < b) for a, b in permutations(MODELS, 2)})
    assert one_order(preferences_from(judgements), judgements, 0) == preferences_from(judgements)
    unordered = [Judgement(p, a, b, 0.9, ordered=False) for p in PROMPTS for a, b in combinations(MODELS, 2)]
    assert one_order(preferences_from(unordered), unordered, 0) == []


# ── The table ──


def make_data(*, ordered: bool = True) -> Data:
    """A judge that likes d best, then c, …: the Arena's order upside down."""
    judgements = judged({(a, b): float(a > b) for a, b in permutations(MODELS, 2)}, ordered=ordered)
    preferences = preferences_from(judgements)
    truths = tuple(round_robin_truths(preferences))
    responses = tuple(Response(p, m, "x" * (ord(m) - 90)) for p in PROMPTS for m in MODELS)
    prompts = tuple(Prompt(p, p) for p in PROMPTS)
    return Data(prompts, responses, tuple(judgements), tuple(preferences), truths, PROMPTS[:8], PROMPTS[8:], truths[8:])


def test_the_table_has_every_variant_on_the_same_folds() -> None:
    data, config = make_data(), ExperimentConfig(num_prompts=10, max_epochs=4)
    parts = evaluation.folds(PROMPTS, 5, 0)
    rows = ablation_table(data, make_features(), RATINGS, config, parts)
    table = {row["name"]: row for row in rows}
    assert list(table) == [
        "Reward model, λ = 0.1", "Elo offset", "Global Elo", "Untouched base", "Bradley–Terry, own preferences",
        "Bradley–Terry with the Arena prior", "Longest response", "Random", "Reward model, λ = 0",
        "Reward model, λ = 0.01", "Reward model, λ = 0.3", "Reward model, λ = 1", "Reward model, λ = 3",
        "Reward model, RankNet, λ = 0.1", "Reward model, ListMLE, λ = 0.1", "Reward model, linear head",
        "Reward model, no base score", "Reward model, judged in one order", "Elo offset, judged in one order",
    ]  # fmt: skip
    assert max(map(len, table)) <= 38
    tau = {name: row["kendall_tau"]["mean"] for name, row in table.items()}
    assert (tau["Global Elo"], tau["Longest response"], tau["Bradley–Terry, own preferences"]) == (-1.0, 1.0, 1.0)
    elo = EloSystem(RATINGS, config.elo_k)
    expected = cross_validated(evaluation.cross_validate([elo], data.preferences, data.truths, parts), parts)
    assert {k: v for k, v in table["Elo offset"].items() if k in expected["elo_offset"]} == expected["elo_offset"]
    assert "difference" not in rows[0]
    gain = table["Longest response"]["difference"]
    assert gain["difference"] == pytest.approx(1.0 - tau["Reward model, λ = 0.1"])
    assert gain["ci95"][0] <= gain["difference"] <= gain["ci95"][1]
    assert tau["Elo offset, judged in one order"] == tau["Elo offset"], "this judge has no position bias"
    page = render_report(persona() | {"ablation": rows})
    assert page.count("Bradley–Terry with the Arena prior") == 1
    assert f"<td>{gain['difference']:+.2f} <span" in page


def test_rows_that_would_repeat_another_are_left_out() -> None:
    config = ExperimentConfig(num_prompts=10, max_epochs=1, lambda_reg=0.0)
    data, parts = make_data(ordered=False), evaluation.folds(PROMPTS, 2, 0)
    names = [row["name"] for row in ablation_table(data, make_features(has_score=False), RATINGS, config, parts)]
    assert names.count("Reward model, λ = 0") == 1
    assert names[0] == "Reward model, λ = 0"
    assert {"Reward model, RankNet, λ = 0.1", "Reward model, λ = 0.1"} <= set(names), "a regularizer needs a weight"
    assert not any("no base score" in name or "one order" in name for name in names)
