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
from hypothesis import given, params
from hypothesis import strategies as st

import evaluation
import main
from base import features
from base.frozen import Vectors
from benchmarks.people_worlds import World
from config import EXPERIMENT_CONFIG
from core.records import Preference
from elo_system import EloSystem
from evidence.baselines import BradleyTerry
from evidence.intervals import Difference
from people import ballots, crowd
from people import run as people
from people import scores as ps
from people import training as people_training
from people.results import STARTS
from people.votes import SCORE_COLUMNS, Votes

QUICK = dataclasses.replace(EXPERIMENT_CONFIG, hidden_width=4, folds=3, max_epochs=4)
COLUMNS = ("user", "prompt_id", "prompt", "model_a", "response_a", "model_b", "response_b", "outcome")
HOSTILE = (
    "<script>alert(1)</script>", "../../etc/passwd", "a\x1b[31mred", "nan", "None", "x" * 300, 'quote",comma',
    "\u202egnol",
)  # fmt: skip


def crowd_of(
    votes: Votes, found: features.Features, tmp_path: Path, config: Any = QUICK, **kw: Any
) -> people_training.Crowd:
    return people.assemble(
        votes, found, people.fitting(dataclasses.replace(config, **kw), len(votes.prompts)), tmp_path
    )


def folds_of(c: people_training.Crowd) -> list[np.ndarray]:
    b = c.ballots
    return [b.mask(p) for p in evaluation.folds(b.prompts, c.params.folds, c.params.random_seed)]


def cross_validated(c: people_training.Crowd) -> people_training.Predicted:
    parts = folds_of(c)
    counts = people_training.curve_counts(c, parts)
    predicted = people_training.Predicted.empty(c, len(counts))
    for part in parts:
        people_training.train_part(c, part, counts, predicted)
    return predicted


def personal_gains(world: World, tmp_path: Path, config: Any) -> dict[str, Difference]:
    c = crowd_of(*world.draw(), tmp_path, config)
    everywhere = np.ones(len(c.ballots.prompts), bool)
    values = {n: ps.scored(s, c.ballots, {}, everywhere)[ps.ACCURACY] for n, s in cross_validated(c).final().items()}
    found = {name: ps.difference(values[name], values[start]) for name, start in STARTS.items()}
    assert None not in found.values()
    return found  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# ── Everyone else's ratings ──────────────────────────────────────────────────────────────────────────────

VOTE = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@params(max_examples=30, deadline=None)
@given(st.lists(VOTE.filter(lambda v: v[1] != v[2]), max_size=40))
def test_everyone_elses_bradley_terry_is_evalicas_over_everyone_elses_votes(
    rows: list[tuple[int, int, int, float]],
) -> None:
    models = ["m0", "m1", "m2", "m3"]
    user, a, b = (np.array([row[i] for row in rows], dtype=np.intp) for i in range(3))
    counts = crowd.win_counts(user, a, b, np.array([row[3] for row in rows]), 3, 4)
    fast = crowd.strengths(crowd.leave_one_out(counts))
    for one in range(3):
        others = [Preference("p", models[x], models[y], o) for u, x, y, o in rows if u != one]
        naive = BradleyTerry(models).fit(others).scores("p")
        assert fast[one].tolist() == pytest.approx([naive[m] for m in models], abs=0.01)


def test_ratings_stay_finite_where_one_model_wins_every_vote() -> None:
    counts = np.zeros((1, 3, 3))
    counts[0, 0, 1], counts[0, 1, 2] = 5000, 3
    found = crowd.strengths(counts)
    assert np.isfinite(found).all()
    assert found[0, 0] > found[0, 1] > found[0, 2]


def test_a_person_alone_starts_from_the_arena_where_it_lists_the_models(tmp_path: Path) -> None:
    votes, found = World(people=1, votes_each=30, prompts=8, models=2).draw()
    names = dict(zip(votes.models, ("llama3:8b", "gemma3:4b"), strict=True))
    renamed = dataclasses.replace(
        votes,
        models=tuple(names.values()),
        preferences=tuple(
            dataclasses.replace(v, model_a=names[v.model_a], model_b=names[v.model_b]) for v in votes.preferences
        ),
        responses=tuple(dataclasses.replace(r, model=names[r.model]) for r in votes.responses),
    )
    index = {(p, names[m]): row for (p, m), row in found.index.items()}
    c = crowd_of(renamed, dataclasses.replace(found, index=index), tmp_path)
    assert c.given == {"llama3:8b": 1171.0, "gemma3:4b": 1293.0}
    assert cross_validated(c).systems["global_elo"][0].tolist() == [1171.0, 1293.0]


def test_offsets_are_elo_updates_of_own_votes_on_everyone_elses_ratings(tmp_path: Path) -> None:
    c = crowd_of(*World(people=3, votes_each=20, prompts=9, personal=1.0).draw(), tmp_path)
    predicted, test, b = cross_validated(c), folds_of(c)[0], c.ballots
    kept = [i for i in c.order if not test[b.prompt[i]]]
    others = [b.preferences[i] for i in kept if b.user[i] != 1]
    start = {m: 1000.0 + r for m, r in BradleyTerry(b.models).fit(others).scores("").items()}
    expected = EloSystem(start, 32.0).fit([b.preferences[i] for i in kept if b.user[i] == 1]).scores("")
    cell = next(i for i in range(len(b.cell_user)) if b.cell_user[i] == 1 and test[b.cell_prompt[i]])
    assert predicted.final()["elo_offset"][cell].tolist() == pytest.approx([expected[m] for m in b.models], abs=0.01)
    assert predicted.systems["global_elo"][cell].tolist() == pytest.approx([start[m] for m in b.models], abs=0.01)


# ── What must not leak ───────────────────────────────────────────────────────────────────────────────────


def test_votes_on_test_prompts_change_nothing_that_is_fitted(tmp_path: Path) -> None:
    votes, found = World(people=6, votes_each=25, prompts=12, personal=1.0).draw()
    test = folds_of(crowd_of(votes, found, tmp_path))[0]
    hidden = {p.id for p, out in zip(votes.prompts, test, strict=True) if out}
    turned = tuple(
        dataclasses.replace(v, outcome=1.0 - v.outcome) if v.prompt_id in hidden else v for v in votes.preferences
    )
    assert turned != votes.preferences
    scores = []
    for preferences in (votes.preferences, turned):
        c = crowd_of(dataclasses.replace(votes, preferences=preferences), found, tmp_path, incremental=True)
        predicted = people_training.Predicted.empty(c, 3)
        people_training.train_part(c, test, (0, 5, 30), predicted)
        scores.append({**predicted.systems, **predicted.curves})
    for name, values in scores[0].items():
        assert np.array_equal(values, scores[1][name], equal_nan=True), name
        assert np.isfinite(values).any(), name


def test_what_a_person_starts_from_has_seen_no_vote_of_theirs(tmp_path: Path) -> None:
    votes, found = World(people=4, votes_each=25, prompts=12, personal=1.0).draw()
    mine = votes.users[2]
    turned = tuple(dataclasses.replace(v, outcome=1.0 - v.outcome) if v.user == mine else v for v in votes.preferences)
    before, after = (
        cross_validated(crowd_of(dataclasses.replace(votes, preferences=p), found, tmp_path))
        for p in (votes.preferences, turned)
    )
    c = crowd_of(votes, found, tmp_path)
    own = c.ballots.cell_user == 2
    for name in STARTS.values():  # all are solved together: how many rounds that takes shows in the tenth digit
        assert before.systems[name][own] == pytest.approx(after.systems[name][own], rel=1e-9, nan_ok=True)
        assert np.abs(before.systems[name][~own] - after.systems[name][~own]).max() > 1e-3
    assert not np.array_equal(before.final()["reward_model"][own], after.final()["reward_model"][own])


# ── What is found, and what is not ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", [1, 2])
def test_where_all_people_are_the_same_no_personal_gain_is_claimed(tmp_path: Path, seed: int) -> None:
    gains = personal_gains(World(people=12, votes_each=30, prompts=20, seed=seed), tmp_path, QUICK)
    for gain in gains.values():
        assert gain.ci95[0] <= 0.0
        assert abs(gain.difference) < 0.05


def test_personal_tastes_are_found(tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, max_epochs=10)
    gain = personal_gains(World(people=12, votes_each=50, prompts=20, common=0.5, personal=2.0), tmp_path, config)
    assert gain["reward_model"].ci95[0] > 0.0
    assert gain["reward_model"].difference > 0.08


def test_a_mean_over_people_counts_a_busy_voter_once() -> None:
    values = ps.Values(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0, 0, 0, 1]), np.arange(4))
    assert ps.people_mean(values) == pytest.approx(0.5)
    interval = ps.estimate(values)
    assert interval["mean"] == pytest.approx(0.5)
    assert 0.0 <= interval["ci95"][0] < 0.5 < interval["ci95"][1] <= 1.0


def test_with_equally_many_votes_the_interval_is_the_plain_clustered_one() -> None:
    from evidence.intervals import clustered_difference

    rng = np.random.default_rng(0)
    x, user, prompt = rng.normal(size=30), np.repeat(np.arange(6), 5), rng.integers(10, size=30)
    found, plain = (
        ps.clustered(ps.Values(x, user, prompt)),
        clustered_difference(x.tolist(), user.tolist(), prompt.tolist()),
    )
    assert found is not None and plain is not None
    assert found.difference == pytest.approx(plain.difference)
    assert found.ci95 == pytest.approx(plain.ci95)


def test_ties_are_not_scored_and_a_tied_score_counts_half(tmp_path: Path) -> None:
    votes, found = World(people=2, votes_each=3, prompts=5, ties=0.0).draw()
    outcomes = (0.5, 1.0, 0.75, 0.0, 1.0, 0.5)
    changed = tuple(dataclasses.replace(v, outcome=o) for v, o in zip(votes.preferences, outcomes, strict=True))
    b = ballots.tabulate(dataclasses.replace(votes, preferences=changed), found.index)
    flat = np.zeros((len(b.cell_user), len(b.models)))
    assert ps.hits(flat, b)[[1, 2, 3, 4]].tolist() == [0.5] * 4
    assert np.isnan(ps.hits(flat, b)[[0, 5]]).all()
    liked = flat.copy()
    liked[b.cell[2], b.a[2]] = 1.0
    assert ps.hits(liked, b)[2] == 1.0


def test_tau_needs_a_whole_prompt_ranked() -> None:
    votes, found = World(people=1, votes_each=1, prompts=2, models=3).draw()
    a, b, c = votes.models
    whole = [Preference("q0", a, b, 1.0, "u"), Preference("q0", c, b, 0.0, "u"), Preference("q0", a, c, 1.0, "u")]
    part = [Preference("q1", a, b, 1.0, "u"), Preference("q1", b, a, 1.0, "u"), Preference("q1", a, c, 1.0, "u")]
    table = ballots.tabulate(dataclasses.replace(votes, preferences=(*whole, *part), users=("u",)), found.index)
    (cell, truth), *others = ps.whole_rankings(table).items()
    assert not others
    assert (table.prompts[table.cell_prompt[cell]], truth.ranking) == ("q0", (a, b, c))
    scores = np.tile([3.0, 2.0, 1.0], (2, 1))
    scored = ps.scored(scores, table, {cell: truth}, np.ones(2, bool))
    assert ps.means(scored)["kendall_tau"] == 1.0
    assert ps.means(ps.scored(scores, table, {}, np.ones(2, bool)))["kendall_tau"] is None


# ── Few votes, one person ────────────────────────────────────────────────────────────────────────────────


def test_whoever_has_no_training_votes_keeps_what_everyone_starts_from(tmp_path: Path) -> None:
    votes, found = World(people=4, votes_each=20, prompts=9).draw()
    kept = tuple(v for v in votes.preferences if v.user != "person 3" or v.prompt_id == "q0")
    kept = (*kept, Preference("q0", "model 0", "model 1", 1.0, "person 3"))
    c = crowd_of(dataclasses.replace(votes, preferences=kept), found, tmp_path)
    predicted = cross_validated(c)
    own = c.ballots.cell_user == c.ballots.users.index("person 3")
    for name, start in STARTS.items():
        assert predicted.final()[name][own] == pytest.approx(predicted.systems[start][own], rel=1e-6)


def test_a_person_alone_starts_from_the_untouched_base(tmp_path: Path) -> None:
    votes, found = World(people=1, votes_each=60, prompts=15, personal=2.0).draw()
    scored = dataclasses.replace(found, base_score=np.arange(len(found.mean), dtype=np.float32))
    c = crowd_of(votes, scored, tmp_path)
    predicted = cross_validated(c)
    base, shared = predicted.systems["base_reward"], predicted.systems["shared_reward"]
    assert (np.argsort(base, axis=1) == np.argsort(shared, axis=1)).all()
    assert not np.allclose(predicted.final()["reward_model"], shared)


# ── From files, end to end ───────────────────────────────────────────────────────────────────────────────


class WordBase:
    """A base that reads the words "alpha" and "beta" and a response's length."""

    has_score = False
    asked = 0

    def embed(self, texts: Sequence[tuple[str, str]], progress: Any = None) -> Iterator[tuple[list[int], Vectors]]:
        type(self).asked += len(texts)
        rows = [[t.count("alpha"), t.count("beta"), len(t) / 50.0, 1.0] for _, t in texts]
        mean = np.array(rows, dtype=np.float32)
        yield list(range(len(texts))), Vectors(mean, mean, np.zeros(len(texts), np.float32))


@pytest.fixture
def word_base(monkeypatch: pytest.MonkeyPatch) -> type[WordBase]:
    WordBase.asked = 0
    monkeypatch.setattr(features.frozen_base, "open_base", lambda name, device, **options: WordBase())
    return WordBase


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of a run this small; test_votes_become… looks at all files."""
    for name in ("plots.plot_learning_curves", "plots.plot_metric_comparison", "plots.plot_training_history"):
        monkeypatch.setattr(name, lambda results, path: None)
    monkeypatch.setattr("report.files.write_report", lambda results, path: None)


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
            found.append(dict(zip(COLUMNS, (*values, 0.5 if gap == 0 else float(gap > 0)), strict=True)))
    return found


def write(path: Path, data: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(data)
    elif path.suffix == ".parquet":
        import pandas as pd

        pd.DataFrame(data).to_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in data), encoding="utf-8")
    return path


def run(tmp_path: Path, path: Path | str, *flags: str) -> int:
    folders = ["--cache_dir", str(tmp_path / "cache"), "--results_dir", str(tmp_path / "results")]
    return main.main(["--preferences", str(path), "--base_model", "embedded", "--folds", "3", *folders, *flags])


def results(tmp_path: Path, name: str) -> dict[str, Any]:
    text = (tmp_path / "results" / f"evaluation_results_{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON")))


def test_votes_become_results_plots_and_a_report(
    tmp_path: Path, word_base: type[WordBase], capsys: pytest.CaptureFixture[str]
) -> None:
    users = ["ann", "bob", "cy", "dee"]
    assert run(tmp_path, write(tmp_path / "panel.jsonl", rows(users))) == 0
    said, found = capsys.readouterr().out, results(tmp_path, "panel")
    assert "Votes of 4 people:" in said
    assert "FINAL EXPERIMENT RESULTS" in said
    assert "a person's own votes change its ranking accuracy" in said
    assert (found["persona"], found["counts"]["users"], found["counts"]["prompts"]) == ("panel", 4, 10)
    assert found["counts"]["votes"] == 96
    for system in ("elo_offset", "reward_model", "global_elo", "shared_reward", "bradley_terry", "random"):
        mean = found["cross_validated"][system]["ranking_accuracy"]["mean"]
        low, high = found["cross_validated"][system]["ranking_accuracy"]["ci95"]
        assert 0.0 <= low <= mean <= high <= 1.0
    assert found["hypotheses"]["sample_efficiency"]["verdict"] == "not tested"
    assert found["hypotheses"]["sample_efficiency"]["reason"]
    assert [row["user"] for row in found["people"]["by_person"]] == users
    assert found["learning_curve"][0]["preferences"] == found["curves"]["points"][0] == 0
    assert len(list((tmp_path / "results").glob("*_panel.*"))) == 6
    page = (tmp_path / "results" / "report_panel.html").read_text(encoding="utf-8")
    assert all(user in page for user in users)
    assert "Person by person" in page
    assert word_base.asked == len({(r["prompt"], r[f"response_{s}"]) for r in rows(users) for s in "ab"})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_same_votes_give_the_same_results_from_every_kind_of_file(
    tmp_path: Path, ending: str, word_base: type[WordBase], no_pictures: None
) -> None:
    data = rows(["ann", "bob", "cy"], votes_each=12)
    for kind in ("jsonl", ending):
        assert run(tmp_path, write(tmp_path / f"{kind}_panel.{kind}", data)) == 0
    found = [results(tmp_path, f"{kind}_panel") for kind in ("jsonl", ending)]
    for key in ("counts", "final", "cross_validated", "improvement", "people", "learning_curve"):
        assert found[0][key] == found[1][key]


def test_a_second_run_asks_the_base_nothing_and_keeps_the_first_results(
    tmp_path: Path, word_base: type[WordBase], no_pictures: None
) -> None:
    path = write(tmp_path / "panel.jsonl", rows(["ann", "bob"]))
    assert run(tmp_path, path) == 0
    first, asked = results(tmp_path, "panel"), word_base.asked
    assert run(tmp_path, path) == 0
    again = results(tmp_path, "panel")
    assert word_base.asked == asked
    assert again["cross_validated"] == first["cross_validated"]
    assert list((tmp_path / "results" / "previous").glob("evaluation_results_panel_*.json"))


def test_with_incremental_both_curves_start_before_any_own_vote_and_h1_is_tested(
    tmp_path: Path, word_base: type[WordBase], no_pictures: None
) -> None:
    path = write(tmp_path / "panel.jsonl", rows(["ann", "bob", "cy"], votes_each=30))
    assert run(tmp_path, path, "--incremental", "--eval_freq", "10") == 0
    found = results(tmp_path, "panel")
    assert found["curves"]["points"][:3] == [0, 10, 20]
    for system, start in STARTS.items():
        curve = found["curves"][system]["ranking_accuracy"]["mean"]
        assert curve[0] == pytest.approx(found["cross_validated"][start]["ranking_accuracy"]["mean"])
        assert curve[-1] == pytest.approx(found["cross_validated"][system]["ranking_accuracy"]["mean"])
    assert found["hypotheses"]["sample_efficiency"]["verdict"] in {"supported", "not supported", "inconclusive"}


def test_hostile_names_and_a_hostile_file_name_do_no_harm(
    tmp_path: Path, word_base: type[WordBase], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "my [votes] <1>.jsonl", rows(HOSTILE, votes_each=8))
    assert run(tmp_path, path) == 0
    found = results(tmp_path, "my-votes-1")
    assert {row["user"] for row in found["people"]["by_person"]} == set(HOSTILE)
    page = (tmp_path / "results" / "report_my-votes-1.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert not set("\x1b\u202e") & set(page)
    assert "\x1b" not in capsys.readouterr().out


def test_one_person_can_be_their_own_persona(tmp_path: Path, word_base: type[WordBase], no_pictures: None) -> None:
    assert run(tmp_path, write(tmp_path / "votes_me.jsonl", rows(["me"], votes_each=60))) == 0
    found = results(tmp_path, "votes_me")
    assert found["counts"]["users"] == 1
    assert found["cross_validated"]["shared_reward"]["ranking_accuracy"]["mean"] == 0.5
    assert found["cross_validated"]["reward_model"]["ranking_accuracy"]["mean"] > 0.6
    offsets = json.loads((tmp_path / "cache" / "elo_state_votes_me.json").read_text(encoding="utf-8"))
    assert offsets["updates"] == found["counts"]["preferences"]


def test_votes_that_are_all_ties_end_in_no_figure_and_no_winner(tmp_path: Path, word_base: type[WordBase]) -> None:
    ties = [row | {"outcome": 0.5} for row in rows(["ann", "bob"])]
    assert run(tmp_path, write(tmp_path / "ties.jsonl", ties), "--incremental") == 0
    found = results(tmp_path, "ties")
    assert found["winner"] == "none"
    assert found["verdict"]["sentence"].startswith("No vote was decided")
    assert found["cross_validated"]["reward_model"]["ranking_accuracy"] == {"mean": None, "ci95": None}
    assert found["hypotheses"]["sample_efficiency"]["verdict"] == "not tested"
    assert (
        "nan"
        not in (tmp_path / "results" / "report_ties.html").read_text(encoding="utf-8").split("</style>")[1].lower()
    )


def test_scores_of_whole_prompts_give_tau_too(tmp_path: Path, word_base: type[WordBase], no_pictures: None) -> None:
    draw = random.Random(3)
    data = [
        dict(zip(SCORE_COLUMNS, (u, f"p{p}", f"Question {p}?", m, f"{m} {p}", draw.random()), strict=True))
        for u in ("ann", "bob")
        for p in range(9)
        for m in ("one", "two", "three")
    ]
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(map(json.dumps, data)), encoding="utf-8")
    assert run(tmp_path, path) == 0
    found = results(tmp_path, "scores")
    assert found["counts"]["ground_truth_rankings"] == 2 * found["counts"]["test_prompts"]
    assert all(cell["mean"] is not None for cell in found["cross_validated"]["reward_model"].values())


@pytest.mark.parametrize(
    ("name", "content", "flags", "said"),
    [
        ("gone.jsonl", None, [], "does not exist"),
        ("bad.csv", "a,b\n1,2\n", [], "lacks the columns"),
        ("empty.jsonl", "", [], "is empty"),
        ("coder.jsonl", "x", [], "is a persona"),
        ("few.jsonl", rows(["ann", "bob"], prompts=3), [], "3 prompts"),
        ("ok.jsonl", rows(["ann", "bob"]), ["--models", "a", "b"], "--models does not go with --preferences"),
        ("ok.jsonl", rows(["ann", "bob"]), ["--ablate"], "--ablate does not go with --preferences"),
        ("ok.jsonl", rows(["ann", "bob"]), ["--folds", "11"], "11"),
    ],
)
def test_what_cannot_be_run_ends_with_status_2_and_says_why(
    tmp_path: Path, name: str, content: Any, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif content:
        write(path, content)
    assert run(tmp_path, path, *flags) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_wrong_rows_are_named_or_left_out_and_counted(
    tmp_path: Path, word_base: type[WordBase], no_pictures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = rows(["ann", "bob"])
    data[4] = data[4] | {"outcome": 7}
    path = write(tmp_path / "panel.jsonl", data)
    assert run(tmp_path, path) == 2
    assert "row 5: outcome 7" in capsys.readouterr().err
    assert run(tmp_path, path, "--skip_bad_rows") == 0
    assert "1 wrong rows were left out" in capsys.readouterr().out
    assert results(tmp_path, "panel")["counts"]["votes"] == len(data) - 1


def test_files_are_named_after_the_stem_or_the_hub_id() -> None:
    assert people.run_name("data/mtbench_human_turn1.jsonl") == "mtbench_human_turn1"
    assert people.run_name("HannahRoseKirk/prism-alignment:utterances") == "HannahRoseKirk-prism-alignment-utterances"
    assert people.run_name("../..jsonl") not in {"", ".", ".."}
