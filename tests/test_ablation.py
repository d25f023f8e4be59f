"""The table of baselines and ablations, and one of its rows: judged in one order."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest

import evaluation
from base.features import Features
from config import ExperimentConfig
from core.records import Judgement, Prompt, Response
from elo_system import EloSystem
from evidence.ablation import ablation_table, one_order
from evidence.hypotheses import cross_validated
from report.page import render_report
from stages.dataset import Data
from stages.judging import preferences_from, round_robin_truths

MODELS = tuple("abcd")
RATINGS: dict[str, float | None] = {"a": 1300.0, "b": 1200.0, "c": 1100.0, "d": 1000.0}
PROMPTS = tuple(f"p{i:02d}" for i in range(10))
WIDTH = 40


def make_features(seed: int = 0, *, has_score: bool = True) -> Features:
    """States that show which model wrote a text, and more."""
    rng = np.random.default_rng(seed)
    n = len(PROMPTS) * len(MODELS)
    states = rng.normal(size=(n, WIDTH))
    states[:, :4] += 3.0 * np.eye(4)[np.arange(n) % 4]
    index = {(PROMPTS[i // 4], MODELS[i % 4]): i for i in range(n)}
    score = rng.normal(size=n) if has_score else np.zeros(n)
    return Features(index, states.astype("f4"), states.astype("f4"), score.astype("f4"), has_score, "tiny")


@pytest.mark.parametrize(("name", "value"), [("regularizer", "lambdarank"), ("base_score", 1), ("components", 0)])
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
    page = render_report({"ablation": rows})
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
