"""Human votes end to end: what is learned of whom, what is scored, and what must never leak."""

from __future__ import annotations

import csv
import dataclasses
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import main
from base import features
from base.frozen import Vectors
from benchmarks.people_worlds import World
from config import EXPERIMENT_CONFIG, ExperimentConfig
from core.records import Preference
from elo_system import EloSystem
from evidence.baselines import BradleyTerry
from evidence.intervals import Difference, clustered_difference
from people import run as people
from people import scores as ps
from people.ballots import Crowd, leave_one_out, strengths, tabulate
from people.ceiling import ceiling
from people.findings import NEEDS_CURVES
from people.read import SCORE_COLUMNS, VOTE_COLUMNS, Votes
from people.training import curve_counts, predict

QUICK = dataclasses.replace(EXPERIMENT_CONFIG, hidden_width=4, folds=3, max_epochs=4)
HOSTILE = (
    "<script>alert(1)</script>", "../../etc/passwd", "a\x1b[31mred", "nan", "None", "x" * 300, 'quote",comma',
    "\u202egnol",
)  # fmt: skip


def crowd_of(votes: Votes, found: features.Features, folder: Path, params: ExperimentConfig = QUICK) -> Crowd:
    rated, _ = people.arena_ratings(votes, folder)
    return people.assemble(votes, found, people.fitting(params, len(votes.prompts)), rated)


def crossed(crowd: Crowd) -> ps.Predicted:
    return predict(crowd, crowd.folds, curve_counts(crowd, crowd.folds))


def voting(votes: Votes, preferences: Sequence[Preference]) -> Votes:
    return dataclasses.replace(votes, preferences=tuple(preferences))


def turned(votes: Votes, **where: str) -> Votes:
    """The votes with those of this user or on this prompt turned round."""
    ((field, value),) = where.items()
    chosen = [getattr(v, field) == value for v in votes.preferences]
    assert any(chosen)
    outcomes = [1.0 - v.outcome if own else v.outcome for v, own in zip(votes.preferences, chosen, strict=True)]
    return voting(votes, [dataclasses.replace(v, outcome=o) for v, o in zip(votes.preferences, outcomes, strict=True)])


# ── Where people start from ──────────────────────────────────────────────────────────────────────────────

VOTE = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@settings(max_examples=15, deadline=None)
@given(st.lists(VOTE.filter(lambda v: v[1] != v[2]), max_size=40))
def test_everyone_elses_bradley_terry_is_evalicas_over_everyone_elses_votes(
    rows: list[tuple[int, int, int, float]],
) -> None:
    models = ["m0", "m1", "m2", "m3"]
    wins = np.zeros((3, 4, 4))
    for user, a, b, outcome in rows:
        wins[user, a, b] += outcome
        wins[user, b, a] += 1.0 - outcome
    fast = strengths(leave_one_out(wins))
    for one in range(3):
        others = [Preference("p", models[x], models[y], o) for u, x, y, o in rows if u != one]
        naive = BradleyTerry(models).fit(others).scores("p")
        assert fast[one].tolist() == pytest.approx([naive[m] for m in models], abs=0.01)


def test_ratings_stay_finite_where_one_model_wins_every_vote_and_are_found_however_many_votes_there_are() -> None:
    wins = np.zeros((1, 3, 3))
    wins[0, 0, 1], wins[0, 1, 2] = 5000, 3
    (found,) = strengths(wins)
    assert np.isfinite(found).all()
    assert found[0] > found[1] > found[2]
    wins = np.random.default_rng(0).uniform(0.8, 1.2, (3, 5, 5)) * (1.0 - np.eye(5))
    few, many = strengths(wins * 1e8), strengths(wins * 1e12)  # the ties that are imagined are nothing beside either
    assert many.tolist() == [pytest.approx(row, abs=1e-4) for row in few.tolist()]


def test_offsets_are_elo_updates_of_own_votes_on_everyone_elses_ratings(tmp_path: Path) -> None:
    c = crowd_of(*World(people=3, votes_each=20, prompts=9, personal=1.0).draw(), tmp_path)
    predicted, test, b = crossed(c), c.folds[0], c.ballots
    kept = [b.preferences[i] for i in c.order if not test[b.prompt[i]]]
    own, others = ([v for v in kept if (v.user == b.users[1]) is mine] for mine in (True, False))
    start = {m: 1000.0 + r for m, r in BradleyTerry(b.models).fit(others).scores("").items()}
    moved = EloSystem(start, 32.0).fit(own).scores("")
    cell = np.flatnonzero((b.cell_user == 1) & test[b.cell_prompt])[0]
    assert predicted.final()["elo_offset"][cell].tolist() == pytest.approx([moved[m] for m in b.models], abs=0.01)
    assert predicted.systems["global_elo"][cell].tolist() == pytest.approx([start[m] for m in b.models], abs=0.01)


def test_a_person_alone_starts_from_the_arena_where_it_lists_the_models_and_from_the_untouched_base(
    tmp_path: Path,
) -> None:
    world = World(people=1, votes_each=60, prompts=15, models=2, personal=2.0, names=("llama3:8b", "gemma3:4b"))
    votes, found = world.draw()
    assert votes.models == world.names
    scored = dataclasses.replace(found, base_score=np.arange(len(found.mean), dtype=np.float32))
    c = crowd_of(votes, scored, tmp_path)
    predicted = crossed(c)
    assert c.given == {"llama3:8b": 1171.0, "gemma3:4b": 1293.0}
    assert predicted.systems["global_elo"][0].tolist() == [1171.0, 1293.0]
    base, shared = predicted.systems["base_reward"], predicted.systems["shared_reward"]
    assert (np.argsort(base, axis=1) == np.argsort(shared, axis=1)).all()
    assert not np.allclose(predicted.final()["reward_model"], shared)


def test_whoever_has_no_training_votes_keeps_what_everyone_starts_from(tmp_path: Path) -> None:
    votes, found = World(people=4, votes_each=20, prompts=9).draw()
    kept = [v for v in votes.preferences if v.user != "person 3" or v.prompt_id == "q0"]
    kept.append(Preference("q0", "model 0", "model 1", 1.0, "person 3"))
    c = crowd_of(voting(votes, kept), found, tmp_path)
    predicted, own = crossed(c), c.ballots.cell_user == c.ballots.users.index("person 3")
    for name, start in ps.STARTS.items():
        assert predicted.final()[name][own] == pytest.approx(predicted.systems[start][own], abs=1e-3)


# ── What must not leak ───────────────────────────────────────────────────────────────────────────────────


def test_votes_on_test_prompts_change_nothing_that_is_fitted(tmp_path: Path) -> None:
    votes, found = World(people=6, votes_each=25, prompts=12, personal=1.0).draw()
    params = dataclasses.replace(QUICK, incremental=True)
    before = crowd_of(votes, found, tmp_path, params)
    test = before.folds[0]
    changed = votes
    for prompt, out in zip(votes.prompts, test, strict=True):
        changed = turned(changed, prompt_id=prompt.id) if out else changed
    after = crowd_of(changed, found, tmp_path, params)
    first, second = (predict(c, [test], (0, 5, 30)) for c in (before, after))
    for name, values in {**first.systems, **first.curves}.items():
        again = {**second.systems, **second.curves}[name]
        assert np.allclose(values, again, rtol=0.0, atol=1e-4, equal_nan=True), name
        assert np.isfinite(values).any(), name


def test_what_a_person_starts_from_has_seen_no_vote_of_theirs(tmp_path: Path) -> None:
    votes, found = World(people=4, votes_each=25, prompts=12, personal=1.0).draw()
    c = crowd_of(votes, found, tmp_path)
    before, after = crossed(c), crossed(crowd_of(turned(votes, user=votes.users[2]), found, tmp_path))
    own = c.ballots.cell_user == 2
    for name in ("global_elo", "shared_reward"):  # "shared_combined": test_combined.py, its τ are everybody's
        assert before.systems[name][own] == pytest.approx(after.systems[name][own], rel=0.0, abs=1e-4, nan_ok=True)
        assert np.abs(before.systems[name][~own] - after.systems[name][~own]).max() > 1e-3
    moved = np.abs(before.final()["reward_model"][own] - after.final()["reward_model"][own])
    assert np.nanmax(moved) > 1e-3


# ── What is found, and what is not ───────────────────────────────────────────────────────────────────────


def personal_gains(world: World, folder: Path, params: ExperimentConfig) -> dict[str, Difference]:
    c = crowd_of(*world.draw(), folder, params)
    predicted = crossed(c)
    scores = predicted.final().items()
    values = {name: ps.accuracies(s[None], c.ballots, predicted.tested)[0] for name, s in scores}
    found = {name: ps.difference(values[name], values[start]) for name, start in ps.STARTS.items()}
    return {name: gain for name, gain in found.items() if gain is not None}


def test_where_all_people_are_the_same_no_personal_gain_is_claimed(tmp_path: Path) -> None:
    gains = personal_gains(World(people=12, votes_each=30, prompts=20, seed=1), tmp_path, QUICK)
    assert gains.keys() == ps.STARTS.keys()
    for gain in gains.values():
        assert gain.ci95[0] <= 0.0
        assert abs(gain.difference) < 0.05


def test_personal_tastes_are_found(tmp_path: Path) -> None:
    params = dataclasses.replace(QUICK, max_epochs=10, folds=2)
    world = World(people=8, votes_each=50, prompts=20, common=0.5, personal=2.0)
    gains = personal_gains(world, tmp_path, params)
    for system in ("reward_model", "combined"):
        assert gains[system].ci95[0] > 0.0
        assert gains[system].difference > 0.08


def test_a_mean_over_people_counts_a_busy_voter_once() -> None:
    values = ps.Values(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0, 0, 0, 1]), np.arange(4))
    interval = ps.estimate(values)
    assert [ps.people_mean(values), interval["mean"]] == pytest.approx([0.5, 0.5], abs=1e-4)
    assert 0.0 <= interval["ci95"][0] < 0.5 < interval["ci95"][1] <= 1.0


def test_with_equally_many_votes_the_interval_is_the_plain_clustered_one() -> None:
    rng = np.random.default_rng(0)
    x, user, prompt = rng.normal(size=30), np.repeat(np.arange(6), 5), rng.integers(10, size=30)
    found, plain = ps.clustered(ps.Values(x, user, prompt)), clustered_difference(*map(list, (x, user, prompt)))
    assert found is not None and plain is not None
    assert (found.difference, *found.ci95) == pytest.approx((plain.difference, *plain.ci95), abs=1e-4)


def test_a_difference_from_a_cross_validation_is_held_to_the_personas_rule() -> None:
    rng = np.random.default_rng(1)
    user, prompt = np.repeat(np.arange(12), 10), np.tile(np.arange(10), 12)
    values = ps.Values(rng.normal(0.1, 0.4, 120), user, prompt)
    fold = np.arange(10) % 5
    plain, corrected = ps.clustered(values), ps.clustered(values, folds=fold)
    assert plain is not None and corrected is not None
    assert corrected.difference == pytest.approx(plain.difference, abs=1e-4)
    assert np.diff(corrected.ci95) >= 1.5 * np.diff(plain.ci95) - 1e-4, "the variance times 1 + 5/4"
    assert corrected.p_value > plain.p_value
    one_part = ps.clustered(values, folds=np.zeros(10, np.intp))
    assert one_part is not None
    assert one_part.ci95 == pytest.approx(plain.ci95, abs=1e-4), "a single fold is no cross-validation"
    lucky = ps.Values(np.where(fold[prompt] == 0, 1.0, 0.0) + 0.001 * values.value, user, prompt)
    found = ps.clustered(lucky, folds=fold)
    assert found is not None and found.ci95[0] < 0.0, "one lucky training is no advantage"


def test_the_ceiling_by_hand() -> None:
    votes, features_of = World(people=3, votes_each=1, prompts=5).draw()
    a, b, c = votes.models[:3]
    said = [
        ("person 0", a, b, 1.0), ("person 1", b, a, 0.0), ("person 2", a, b, 0.0), ("person 2", a, b, 0.0),
        ("person 0", a, c, 1.0), ("person 1", a, c, 0.5), ("person 2", b, c, 1.0),
    ]  # fmt: skip
    kept = [Preference("q0", first, second, outcome, user) for user, first, second, outcome in said]
    table = tabulate(voting(votes, kept), features_of.index)
    # of a and b: 0 agrees with 1 (shown the other way round), neither with 2's two votes, which are no two people;
    # against 0 stand one vote for and two against, so against 1; against each of 2's two votes for a
    # of a and c: a tie is no decided vote, and as a majority of one it is tied
    found = ceiling(table)
    assert found["two_people"] == pytest.approx({"share": 1 / 5, "pairs": 5}, abs=1e-4)
    assert found["others_majority"] == pytest.approx({"share": 0.5 / 5, "votes": 5}, abs=1e-4)
    alone = tabulate(voting(votes, [kept[0]]), features_of.index)
    assert ceiling(alone)["two_people"] == {"share": None, "pairs": 0}


def test_ties_are_not_scored_and_a_tied_score_counts_half() -> None:
    votes, found = World(people=2, votes_each=3, prompts=5, ties=0.0).draw()
    outcomes = (0.5, 1.0, 0.75, 0.0, 1.0, 0.5)
    changed = [dataclasses.replace(v, outcome=o) for v, o in zip(votes.preferences, outcomes, strict=True)]
    b = tabulate(voting(votes, changed), found.index)
    flat = np.zeros((len(b.cell_user), len(b.models)))
    assert ps.hits(flat, b) == pytest.approx([np.nan, 0.5, 0.5, 0.5, 0.5, np.nan], nan_ok=True)
    flat[b.cell[2], b.a[2]] = 1.0
    assert ps.hits(flat, b)[2] == 1.0


def test_tau_needs_a_whole_prompt_ranked() -> None:
    votes, found = World(people=1, votes_each=1, prompts=2, models=3).draw()
    a, b, c = votes.models
    whole = [Preference("q0", a, b, 1.0, "u"), Preference("q0", c, b, 0.0, "u"), Preference("q0", a, c, 1.0, "u")]
    part = [Preference("q1", a, b, 1.0, "u"), Preference("q1", b, a, 1.0, "u"), Preference("q1", a, c, 1.0, "u")]
    table = tabulate(dataclasses.replace(votes, preferences=(*whole, *part), users=("u",)), found.index)
    ((cell, truth),) = ps.whole_rankings(table).items()
    assert (table.prompts[table.cell_prompt[cell]].id, truth.ranking) == ("q0", (a, b, c))
    scores, everywhere = np.tile([3.0, 2.0, 1.0], (2, 1)), np.ones(2, bool)
    assert ps.people_mean(ps.scored(scores, table, {cell: truth}, everywhere)["kendall_tau"]) == 1.0
    assert ps.people_mean(ps.scored(scores, table, {}, everywhere)["kendall_tau"]) is None


# ── From files, end to end ───────────────────────────────────────────────────────────────────────────────


class WordBase:
    """A base that reads the words "alpha" and "beta" and a response's length."""

    has_score = False
    asked = 0

    def embed(self, texts: Sequence[tuple[str, str]]) -> Iterator[tuple[list[int], Vectors]]:
        type(self).asked += len(texts)
        rows = [[t.count("alpha"), t.count("beta"), len(t) / 50.0, 1.0] for _, t in texts]
        mean = np.array(rows, dtype=np.float32)
        yield list(range(len(texts))), Vectors(mean, mean, np.zeros(len(texts), np.float32))


@pytest.fixture(scope="module", autouse=True)
def word_base() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.frozen_base, "open_base", lambda name, device, **options: WordBase())
        yield


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of a run this small."""
    monkeypatch.setattr("report.files.PLOTS", {})
    monkeypatch.setattr("report.files.write_report", lambda document, path: None)


def rows(users: Sequence[str], prompts: int = 10, votes_each: int = 24) -> list[dict[str, Any]]:
    """Odd people like alpha, even ones beta; one response is empty."""
    draw, models = random.Random(5), ("one", "two", "three")

    def text(prompt: int, model: str) -> str:
        own = random.Random(f"{prompt} {model}")
        return "" if (prompt, model) == (0, "one") else "alpha " * own.randrange(4) + "beta " * own.randrange(4)

    found = []
    for number, user in enumerate(users):
        for _ in range(votes_each):
            prompt, (a, b) = draw.randrange(prompts), draw.sample(models, 2)
            word = ("alpha", "beta")[number % 2]
            gap = text(prompt, a).count(word) - text(prompt, b).count(word)
            values = (user, f"p{prompt}", f"Question {prompt}?", a, text(prompt, a), b, text(prompt, b))
            found.append(dict(zip(VOTE_COLUMNS, (*values, 0.5 if gap == 0 else float(gap > 0)), strict=True)))
    return found


def write(path: Path, data: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, VOTE_COLUMNS)
            writer.writeheader()
            writer.writerows(data)
        else:
            file.writelines(json.dumps(row) + "\n" for row in data)
    return path


def run(folder: Path, path: Path, *flags: str) -> int:
    folders = ["--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results")]
    return main.main(["--preferences", str(path), "--base_model", "embedded", *folders, *flags])


def results(folder: Path, name: str) -> dict[str, Any]:
    text = (folder / "results" / f"evaluation_results_{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON")))


def leaves(document: Any) -> list[Any]:
    """Every value of a document, in its order."""
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else None
    return [document] if inner is None else [leaf for value in inner for leaf in leaves(value)]


PANEL = "my-votes-1"
CURVES = ("--incremental", "--eval_freq", "10")


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run, with learning curves and pictures, on votes with hostile names in a hostile file."""
    folder = tmp_path_factory.mktemp("panel")
    assert run(folder, write(folder / "my [votes] <1>.jsonl", rows(HOSTILE)), *CURVES) == 0
    return folder


def test_votes_become_results_plots_and_a_report(panel: Path) -> None:
    found = results(panel, PANEL)
    assert (found["persona"], found["backend"], found["main_metric"]) == (PANEL, "votes", "ranking_accuracy")
    assert [found["counts"][key] for key in ("users", "prompts", "votes")] == [len(HOSTILE), 10, len(rows(HOSTILE))]
    for system in (*ps.CONTENDERS, *ps.BASELINES):
        assert None not in found["cross_validated"][system]["ranking_accuracy"].values()
        assert found["final"][system].keys() == found["cross_validated"][system].keys() == found["improvement"].keys()
    assert [row["user"] for row in found["people"]["by_person"]] == list(HOSTILE)
    assert len(found["people"]["strengths"]) == 5, "one a fold"
    assert len(list((panel / "results").glob(f"*_{PANEL}.*"))) == 6


def test_both_curves_start_before_any_own_vote_and_h1_is_tested(panel: Path) -> None:
    found = results(panel, PANEL)
    assert found["curves"]["points"][:2] == [row["preferences"] for row in found["learning_curve"][:2]] == [0, 10]
    for system, start in ps.STARTS.items():
        curve = found["curves"][system]["ranking_accuracy"]["mean"]
        ends = [found["cross_validated"][name]["ranking_accuracy"]["mean"] for name in (start, system)]
        assert [curve[0], curve[-1]] == pytest.approx(ends, abs=1e-4)
    assert found["hypotheses"]["sample_efficiency"]["verdict"] in {"supported", "not supported", "inconclusive"}
    assert found["hypotheses"]["generalization"]["verdict"] == "not tested"


def test_hostile_names_do_no_harm_to_the_page(panel: Path) -> None:
    page = (panel / "results" / f"report_{PANEL}.html").read_text(encoding="utf-8")
    assert "Person by person" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>" not in page
    assert not set("\x1b\u202e") & set(page)


def test_the_same_votes_as_csv_with_a_wrong_row_left_out_give_the_same_and_ask_the_base_nothing(
    panel: Path, no_pictures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    first, asked = results(panel, PANEL), WordBase.asked
    data = rows(HOSTILE)
    path = write(panel / "my [votes] <1>.csv", [*data[:4], data[4] | {"outcome": 7}, *data[4:]])
    assert run(panel, path, *CURVES) == 2
    assert "row 5: outcome 7" in capsys.readouterr().err
    assert run(panel, path, *CURVES, "--skip_bad_rows") == 0
    said, again = capsys.readouterr().out, results(panel, PANEL)
    for line in ("1 wrong rows were left out", "Votes of 8 people:", "FINAL EXPERIMENT RESULTS", "own votes change"):
        assert line in said
    assert "\x1b" not in said
    for key in ("counts", "final", "cross_validated", "improvement", "people", "learning_curve"):
        assert leaves(again[key]) == [pytest.approx(leaf, abs=1e-4) for leaf in leaves(first[key])]
    assert WordBase.asked == asked == len({(r["prompt"], r[f"response_{s}"]) for r in data for s in "ab"})
    assert list((panel / "results" / "previous").glob(f"evaluation_results_{PANEL}_*.json"))


def test_the_device_asked_for_trains_everyones_heads(tmp_path: Path, no_pictures: None, devices: set[str]) -> None:
    path = write(tmp_path / "two.jsonl", rows(["ann", "bob"]))
    assert run(tmp_path, path) == 0 and devices == {"auto", "cpu"}, "where the processor read, it trains"
    devices.clear()
    assert run(tmp_path, path, "--device", "cuda") == 0
    assert devices == {"cuda"} and results(tmp_path, "two")["device"] == "cuda"


def test_a_proxy_is_called_one_on_votes_too(tmp_path: Path) -> None:
    names = ("mistral:7b", "vicuna-13b", "llama3:8b", "nobody:1b")
    votes, _ = World(people=1, votes_each=30, prompts=6, models=4, names=names).draw()
    rated, notes = people.arena_ratings(votes, tmp_path)
    assert {name: rating.proxy for name, rating in rated.items()} == {name: name == "mistral:7b" for name in names}
    assert {rating.ollama_tag for rating in rated.values()} == {None}
    assert rated["vicuna-13b"].elo is not None and rated["nobody:1b"].elo is None
    assert notes[0] == people.GIVEN
    assert notes[-1].startswith("mistral:7b: rated by proxy: Mistral-7B-Instruct-v0.2 (")


def test_one_person_who_scored_whole_prompts_is_their_own_persona_and_has_tau(
    tmp_path: Path, no_pictures: None
) -> None:
    texts = [(p, m, "alpha " * ((p + i) % 3) + m) for p in range(12) for i, m in enumerate(("one", "two", "three"))]
    data = [
        dict(zip(SCORE_COLUMNS, ("me", f"p{p}", f"Question {p}?", m, text, text.count("alpha")), strict=True))
        for p, m, text in texts
    ]
    assert run(tmp_path, write(tmp_path / "votes_me.jsonl", data)) == 0
    found = results(tmp_path, "votes_me")
    assert (found["counts"]["users"], found["counts"]["ground_truth_rankings"]) == (1, found["counts"]["test_prompts"])
    assert found["cross_validated"]["shared_reward"]["ranking_accuracy"]["mean"] == 0.5
    assert found["cross_validated"]["reward_model"]["ranking_accuracy"]["mean"] > 0.6
    assert all(cell["mean"] is not None for cell in found["cross_validated"]["reward_model"].values())
    assert found["hypotheses"]["sample_efficiency"]["reason"] == NEEDS_CURVES
    state = json.loads((tmp_path / "cache" / "elo_state_votes_me.json").read_text(encoding="utf-8"))
    assert state["updates"] == found["counts"]["votes"], "what is kept has learned from every vote"


def test_votes_that_are_all_ties_end_in_no_figure_and_no_winner(tmp_path: Path) -> None:
    ties = [row | {"outcome": 0.5} for row in rows(["ann", "bob"])]
    assert run(tmp_path, write(tmp_path / "ties.jsonl", ties), "--incremental") == 0
    found = results(tmp_path, "ties")
    assert found["winner"] == "none"
    assert found["verdict"]["sentence"].startswith("No vote was decided")
    for cells in (found["cross_validated"][name] for name in ps.CONTENDERS):
        assert list(cells.values()) == [{"mean": None, "ci95": None}] * 5
    assert found["hypotheses"]["sample_efficiency"]["verdict"] == "not tested"
    page = (tmp_path / "results" / "report_ties.html").read_text(encoding="utf-8")
    assert ">nan" not in page.lower()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("gone.jsonl", [], "does not exist"),
        ("coder.jsonl", rows(["ann"]), "is a persona"),
        ("few.jsonl", rows(["ann", "bob"], prompts=3), "3 prompts"),
    ],
)
def test_what_cannot_be_run_ends_with_status_2_and_says_why(
    tmp_path: Path, name: str, data: list[Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / name, data) if data else tmp_path / name
    assert run(tmp_path, path) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_files_are_named_after_the_stem_or_the_hub_id() -> None:
    assert people.run_name("data/mtbench_human_turn1.jsonl") == "mtbench_human_turn1"
    assert people.run_name("HannahRoseKirk/prism-alignment:utterances") == "HannahRoseKirk-prism-alignment-utterances"
    assert people.run_name("../..jsonl") not in {"", ".", ".."}
