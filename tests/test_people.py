"""Human votes end to end: what is learned of whom, what is scored, and what must never leak."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import main
from base import features
from base.frozen import Batch, Vectors
from benchmarks.people_worlds import World
from config import EXPERIMENT_CONFIG
from core.clock import Clock
from core.ranking import TrainingSet
from core.records import Preference
from elo_system import EloSystem
from evidence.baselines import BradleyTerry
from people import many as people
from people.many import STARTS, Crowd, fitted, measure, predicted, scored
from people.read import Votes
from people.rows import VOTE_COLUMNS

QUICK = dataclasses.replace(EXPERIMENT_CONFIG, hidden_width=4, folds=3, max_epochs=4)
HOSTILE = ("<script>alert(1)</script>", "../../etc/passwd", "a\x1b[31mred", "nan", "None", "x" * 300, "\u202egnol")


def crowd_of(votes: Votes, found: features.Features, epochs: int = 4) -> Crowd:
    rated, _ = people.arena_ratings(votes, Path("cache"))
    params = dataclasses.replace(QUICK, max_epochs=epochs, num_prompts=len(votes.prompts))
    return Crowd(votes, found, rated, params)


def everything(crowd: Crowd, tested: frozenset[str]) -> dict[str, list[dict[str, dict[str, float]]]]:
    """{system: [person: {prompt id: scores}]} on the tested prompts, of a training on all others."""
    others = [prompt_id for prompt_id in crowd.data.planned if prompt_id not in tested]
    return {
        system: [{p: dict(ranker.scores(p)) for p in tested} for ranker in rankers]
        for system, rankers in fitted(crowd, TrainingSet.of(crowd.plan.preferences, others))
    }


def first_fold(crowd: Crowd) -> frozenset[str]:
    return frozenset(prompt_id for prompt_id, number in crowd.plan.fold.items() if number == 0)


def close(one: Any, other: Any) -> bool:
    return all(one[p] == pytest.approx(other[p], rel=1e-4, abs=1e-4) for p in one)


def turned(votes: Votes, field: str, values: set[str]) -> Votes:
    """The votes with those of these users or on these prompts turned round."""
    turned = [dataclasses.replace(v, outcome=1.0 - v.outcome) for v in votes.preferences]
    pairs = zip(votes.preferences, turned, strict=True)
    kept = tuple(other if getattr(vote, field) in values else vote for vote, other in pairs)
    return dataclasses.replace(votes, preferences=kept)


# ── Where people start from, and what must not leak ──────────────────────────────────────────────────────


def test_offsets_are_elo_updates_of_own_votes_on_everyone_elses_ratings() -> None:
    votes, texts = World(people=4, votes_each=20, prompts=9, personal=1.0).draw()
    late = [Preference("q0", "model 0", "model 1", 1.0, "late")]  # on a test prompt: nothing of it trains
    known = dataclasses.replace(votes, preferences=(*votes.preferences, *late), users=(*votes.users, "late"))
    c, tested = crowd_of(known, texts), frozenset({"q0"})
    found, me = everything(c, tested), c.votes.users[1]
    kept = [vote for vote in c.plan.preferences if vote.prompt_id not in tested]
    own, others = ([v for v in kept if (v.user == me) is mine] for mine in (True, False))
    start = {m: 1000.0 + r for m, r in BradleyTerry(c.votes.models).fit(others).scores("").items()}
    moved = EloSystem(start, 32.0).fit(own).scores("")
    assert found["elo_offset"][1]["q0"] == pytest.approx(moved, abs=0.01)
    assert found["global_elo"][1]["q0"] == pytest.approx(start, abs=0.01)
    assert all(close(found[system][4], found[start][4]) for system, start in STARTS.items()), "without own votes"


def test_a_person_alone_starts_from_the_arena_where_it_lists_the_models() -> None:
    names = ("llama3:8b", "mistral:7b", "nobody:1b")
    votes, texts = World(people=1, votes_each=60, prompts=15, models=3, personal=2.0, names=names).draw()
    _, notes = people.arena_ratings(votes, Path("cache"))
    assert notes[0] == people.GIVEN and notes[-1].startswith("mistral:7b: rated by proxy: Mistral-7B-Instruct-v0.2 (")
    c = crowd_of(votes, texts)
    assert (c.given["llama3:8b"], c.given["nobody:1b"]) == (1171.0, None)
    assert everything(c, first_fold(c))["global_elo"][0][min(first_fold(c))]["llama3:8b"] == 1171.0


def test_no_vote_on_a_test_prompt_is_used_nor_one_of_ones_own_in_what_a_person_starts_from() -> None:
    votes, texts = World(people=4, votes_each=25, prompts=12, personal=1.0).draw()
    tested = first_fold(crowd_of(votes, texts))
    before, other_tests, other_own = (
        everything(crowd_of(v, texts), tested)
        for v in (votes, turned(votes, "prompt_id", set(tested)), turned(votes, "user", {votes.users[2]}))
    )
    for system, own in before.items():
        assert all(close(a, b) for a, b in zip(own, other_tests[system], strict=True)), system
    for start in ("global_elo", "shared_reward"):  # of "shared_combined" test_systems.py holds it
        assert close(before[start][2], other_own[start][2]), start
        assert not all(close(before[start][i], other_own[start][i]) for i in (0, 1, 3)), start
    assert not close(before["reward_model"][2], other_own["reward_model"][2])


# ── What is found, and what is not ───────────────────────────────────────────────────────────────────────


def test_where_all_people_are_the_same_no_personal_gain_is_claimed_and_personal_tastes_are_found() -> None:
    def gains(world: World, epochs: int) -> dict[str, Any]:
        found = measure(crowd_of(*world.draw(), epochs), Clock())["people"]
        return dict((found or {})["personal_gain"])

    for gain in gains(World(people=12, votes_each=30, prompts=20, seed=1), 4).values():
        assert gain["ci95"][0] <= 0.0 or gain["p_value"] > 0.05
        assert abs(gain["difference"]) < 0.05
    found = gains(World(people=12, votes_each=60, prompts=24, common=0.5, personal=2.0), 10)
    for system in ("reward_model", "combined"):
        assert found[system]["ci95"][0] > 0.0 and found[system]["p_value"] < 0.05
        assert found[system]["difference"] > 0.08


def test_a_busy_voter_counts_once_ties_are_not_scored_and_a_tied_score_counts_half() -> None:
    votes, texts = World(people=2, votes_each=3, prompts=5, ties=0.0).draw()
    outcomes = (0.5, 1.0, 0.75, 0.0, 0.5, 0.5)
    changed = [dataclasses.replace(v, outcome=o) for v, o in zip(votes.preferences, outcomes, strict=True)]
    c = crowd_of(dataclasses.replace(votes, preferences=tuple(changed)), texts)
    decided, hits = predicted(c, [(TrainingSet.of([]), ())])
    assert len(decided) == len(hits["random"]) == 3
    assert set(hits["base_reward"]) == {0.5}, "this base has no score"
    hits["random"] = [float(vote.user == "person 0") for vote in decided]
    assert scored(c, decided, hits)["ranking_accuracy"].mean("random")["mean"] == pytest.approx(0.5)


# ── From files, end to end ───────────────────────────────────────────────────────────────────────────────


class WordBase:
    """A base that reads the words "alpha" and "beta" and a response's length."""

    has_score = False
    asked = 0

    def embed(self, texts: Sequence[tuple[str, str]]) -> Iterator[Batch]:
        type(self).asked += len(texts)
        mean = np.array([[t.count("alpha"), t.count("beta"), len(t) / 50.0, 1.0] for _, t in texts], dtype=np.float32)
        yield list(range(len(texts))), Vectors(mean, mean, np.zeros(len(texts), np.float32)), 0


@pytest.fixture(scope="module", autouse=True)
def word_base() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.frozen_base, "open_base", lambda name, device, **options: WordBase())
        yield


def rows(users: Sequence[str], prompts: int = 10, votes_each: int = 24) -> list[dict[str, Any]]:
    """Odd people like alpha, even ones beta; one response is empty."""
    draw, models = random.Random(5), ("one", "two", "three")

    def text(prompt: int, model: str) -> str:
        own = random.Random(f"{prompt} {model}")
        return "" if (prompt, model) == (0, "one") else "alpha " * own.randrange(4) + "beta " * own.randrange(4)

    found = []
    for number, user in enumerate([user for user in users for _ in range(votes_each)]):
        prompt, (a, b) = draw.randrange(prompts), draw.sample(models, 2)
        word = ("alpha", "beta")[number // votes_each % 2]
        gap = text(prompt, a).count(word) - text(prompt, b).count(word)
        values = (user, f"p{prompt}", f"Question {prompt}?", a, text(prompt, a), b, text(prompt, b))
        found.append(dict(zip(VOTE_COLUMNS, (*values, 0.5 if gap == 0 else float(gap > 0)), strict=True)))
    return found


def run(folder: Path, name: str, data: list[dict[str, Any]], *flags: str) -> int:
    """The program on these votes, in a CSV of that name."""
    WordBase.asked = 0
    pd.DataFrame(data).to_csv(folder / name, index=False)
    folders = ["--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results")]
    return main.main(["--preferences", str(folder / name), "--base_model", "embedded", *folders, *flags])


def results(folder: Path, name: str) -> dict[str, Any]:
    text = (folder / "results" / f"evaluation_results_{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON")))


def test_votes_become_results_plots_and_a_report_to_which_hostile_names_do_no_harm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, name = rows(HOSTILE), "my-votes-1"
    assert run(tmp_path, "my [votes] <1>.csv", [*data, data[4] | {"outcome": 7}], "--skip_bad_rows") == 0
    said = capsys.readouterr().out
    for part in ("1 left out: outcome is no number in [0, 1]", "votes of 7 people (", "WHICH MODEL IS BEST"):
        assert part in " ".join(said.split())
    assert "\x1b" not in said
    assert WordBase.asked == len({(r["prompt"], r[f"response_{s}"]) for r in data for s in "ab"}), "each text once"
    found = results(tmp_path, name)
    assert (found["persona"], found["backend"], found["main_metric"]) == (name, "votes", "ranking_accuracy")
    assert [found["counts"][key] for key in ("users", "prompts", "votes")] == [len(HOSTILE), 10, len(data)]
    for system in (*STARTS, *STARTS.values(), "base_reward", "bradley_terry", "longest_response", "random"):
        assert None not in found["cross_validated"][system]["ranking_accuracy"].values()
    for system, start in STARTS.items():
        curve = found["curves"][system]["ranking_accuracy"]
        assert curve == [found["cross_validated"][name]["ranking_accuracy"] for name in (start, system)]
    page = (tmp_path / "results" / f"report_{name}.html").read_text(encoding="utf-8")
    assert "<script>" not in page and not set("\x1b\u202e") & set(page)


def test_one_person_alone_is_their_own_persona(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("report.plots.png", lambda *_: b"")
    assert run(tmp_path, "votes_me.csv", rows(["me"], prompts=12, votes_each=60)) == 0
    found = results(tmp_path, "votes_me")
    assert found["counts"]["users"] == 1
    accuracy = {system: cells["ranking_accuracy"]["mean"] for system, cells in found["cross_validated"].items()}
    assert accuracy["shared_reward"] == pytest.approx(0.5) and accuracy["reward_model"] > 0.6
    state = json.loads((tmp_path / "cache" / "elo_state_votes_me.json").read_text(encoding="utf-8"))
    assert state["updates"] == found["counts"]["votes"], "what is kept has learned from every vote"
