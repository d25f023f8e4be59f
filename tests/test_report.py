"""Sentences, figures and the console say what was found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sample_results as sample
from hypothesis import given
from hypothesis import strategies as st

from core.records import GroundTruth, Prompt, Response
from core.text import percent, plain
from evidence.experiment import examples
from report import answer, console, page, tables, words

ROOT = Path(__file__).parent.parent
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
Document = dict[str, Any]
Printed = Callable[..., list[str]]


@pytest.fixture(scope="module")
def document() -> Document:
    return sample.persona()


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """The lines that a call prints."""

    def lines(show: Callable[..., None], *arguments: Any) -> list[str]:
        show(*arguments)
        return capsys.readouterr().out.splitlines()

    return lines


def golden(name: str, found: str) -> None:
    """Compare with tests/golden; ``GOLDEN=write pytest tests/test_report.py tests/test_page.py`` writes it anew."""
    path = sample.GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


# ── The console ──────────────────────────────────────────────────────────────────────────────────────────


def say_all(document: Document) -> None:
    console.print_header(document["persona"], document["label"], document["notes"])
    console.print_counts(document["counts"])
    console.print_results(document, document["notes"])
    console.print_files([Path("results") / name for name in ("a" * 60, "b" * 60, "report.html")])


MADE: dict[str, Callable[[], Document]] = {
    "persona": lambda: sample.persona(incremental=False) | {"ablation": []},
    "incremental": sample.persona,
    "votes": sample.votes,
    "undecided": lambda: sample.votes(decided=False, users=1),
    "personas": sample.personas,
}


@pytest.mark.parametrize("name", MADE)
def test_the_console_says_what_was_found(name: str, printed: Printed) -> None:
    lines = printed(console.print_personas if name == "personas" else say_all, MADE[name]())
    golden(f"console_{name}.txt", "\n".join(lines) + "\n")
    assert not [line for line in lines if len(line) > 80]
    assert name != "persona" or len(lines) <= 65, "70 with what the stages of a default run say"


def test_whoever_debugs_sees_all_that_the_page_has(printed: Printed, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "ranking"):
        for name in ("incremental", "votes", "undecided"):
            golden(f"console_{name}_debug.txt", "\n".join(printed(console.print_results, MADE[name]())) + "\n")


def test_a_long_curve_is_printed_at_a_dozen_points(printed: Printed) -> None:
    points = sample.persona()
    points["learning_curve"] = [points["learning_curve"][0] | {"preferences": 5 * i} for i in range(61)]
    lines = printed(console.print_results, points)
    start = next(i for i, line in enumerate(lines) if line.startswith("Learning curves")) + 3
    assert [line.split()[0] for line in lines[start : start + 12]][::11] == ["0", "300"] and not lines[start + 12]


def test_a_note_is_said_once(printed: Printed, document: Document) -> None:
    assert words.noted(["one of two", "gpt-4: a proxy", "one of two"]) == ["One of two", "gpt-4: a proxy"]
    notes = "Note: The base is no reward model: its score is 0."
    assert notes in printed(console.print_results, document)
    assert notes not in printed(console.print_results, document, document["notes"])


def test_lines_have_at_most_eighty_columns_and_cells_stay_apart(printed: Printed, document: Document) -> None:
    wide = {"mean": -0.55, "ci95": [-0.65, -0.45]}
    widest = document | {"cross_validated": {s: dict.fromkeys(words.METRICS, wide) for s in words.SYSTEMS}}
    widest["ablation"] = [dict.fromkeys(words.METRICS, wide) | {"name": "x" * 38}]
    for made in (widest, sample.many_models()):
        lines = printed(say_all, made)
        assert not [line for line in lines if len(line) > 80]
        assert not [line for line in lines if re.search(r"\][-−+\d]", line)]


def test_a_name_too_long_for_its_table_stands_on_a_line_of_its_own() -> None:
    rule = "-" * 80
    assert console.table(["Model", "Wins"], [["m" * 78, "1"], ["short", "2"]]) == [
        f"{'Model':<74}  Wins", rule, "m" * 78, f"{'1':>80}", f"{'short':<74}{'2':>6}",
    ]  # fmt: skip
    assert console.table(["Model", "Wins"], []) == []


def test_hostile_texts_stay_text_in_the_terminal(printed: Printed) -> None:
    changed, text = sample.hostile(), sample.HOSTILE
    together = sample.personas() | {"personas": {text: changed}, "label": text, "judge": text}
    lines = printed(say_all, changed) + printed(console.print_personas, together)
    assert not STEERS.search("".join(lines))
    assert any("alert(1)" in line for line in lines)


def test_nothing_heavy_is_imported_and_pyplot_never() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from report import console, files, plots\n"
        "print([m for m in ('matplotlib', 'jinja2', 'numpy', 'torch') if m in sys.modules])\n"
        "from sample_results import persona\n"
        "plots.svg(plots.curve_key, persona())\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True False"]


# ── The sentences that stand in the document ─────────────────────────────────────────────────────────────


MORE = "would separate the first two"
NOTHING = "Nothing is known yet: no model is surely better than another"
TIED = {"tied_with": ["numbered_steps"]}


@pytest.mark.parametrize(
    ("users", "changes", "said"),
    [
        (1, {}, "code_block is your best model: it wins 72 % of its comparisons; the others are behind."),
        (3, {}, "code_block is these people's best model: it wins 72 % of its comparisons; the others are behind."),
        (
            1,
            TIED,
            "code_block or numbered_steps is your best model (ahead in 70 % and <1 % of draws); the others are out.",
        ),
        (
            1,
            TIED | {"unlikely": ["numbered_steps"]},
            "code_block is probably your best model (ahead in 70 % of draws); numbered_steps can't be ruled out; "
            "the others are out.",
        ),
        (1, {"best": None}, f"{NOTHING}."),
        (1, {"best": None, "more_prompts": 1}, f"{NOTHING}; about 1 more prompt {MORE}."),
        (1, {"best": None, "more_prompts": 10**6}, f"{NOTHING}; more than 10,000 more prompts {MORE}."),
        (
            9,
            {"best": None, "more_prompts": 6541, "more_people": 50148},
            f"{NOTHING}; about 6,500 more prompts and 50,000 more people {MORE}.",
        ),
    ],
)
def test_the_sentence_says_as_much_as_is_known(users: int, changes: Document, said: str) -> None:
    found = sample.persona()
    found["counts"]["users"] = users
    found["answer"] |= changes
    for row, share in zip(found["leaderboard"], (0.7, 0.002), strict=False):
        row["p_best"] = share
    assert answer.sentence(found) == said


def test_a_leader_in_nearly_all_draws_is_very_likely_the_best() -> None:
    found = sample.persona()
    found["answer"] |= {"tied_with": ["numbered_steps"], "unlikely": ["numbered_steps"]}
    found["leaderboard"][0]["p_best"] = 0.98
    assert answer.sentence(found).startswith("code_block is very likely your best model (ahead in 98 % of draws)")
    undecided = sample.votes(decided=False)
    undecided["answer"]["best"] = None
    assert answer.sentence(undecided).startswith("Nothing is known yet: every vote is a tie;")


def test_whose_preferences_they_are_is_said() -> None:
    assert answer.whose(sample.persona()) == (
        "“You” means the persona coder, played by the judge SmolLM2-135M-Instruct: no person was asked."
    )
    assert answer.whose(sample.votes()) == "From 12 people's 480 votes on 25 prompts."
    assert answer.whose(sample.votes(users=1)) == "From your own 480 votes on 25 prompts."


def test_the_verdict_speaks_of_personas_and_of_votes_in_their_own_words(document: Document) -> None:
    reward = {"winner": "reward_model"}
    assert words.verdict(document | reward) == (
        "The personalized reward model ranks this persona's contestants better than the Elo offset."
    )
    assert words.verdict(document | {"winner": "elo_offset"}) == (
        "The Elo offset ranks this persona's contestants better than the personalized reward model."
    )
    assert words.verdict(sample.votes() | reward) == (
        "The personalized reward model predicts these people's votes better than the Elo offset."
    )
    none = "Neither system can be called better{}: the difference is within what chance alone does."
    assert words.verdict(document) == none.format("")
    assert words.verdict(sample.votes()) == none.format(" on these votes")
    assert words.verdict(sample.votes(decided=False)) == "No vote was decided: there is nothing to predict."


def test_what_puts_the_verdict_in_doubt_is_said(document: Document) -> None:
    stronger = ["bradley_terry", "random"]
    left = {"left_out": {"responses": 1, "pairs": 3, "rankings": 0}}
    assert words.warnings(document | {"counts": left}, stronger) == [
        "A baseline ranks significantly better than both systems: Bradley–Terry, Random.",
        "The global Elo orders these contestants worse than chance: the Elo offset starts from it, and H2 has a weak "
        "rival.",
        "Left out, since no usable answer could be had: 1 response, 3 pairs.",
    ]
    assert words.warnings(sample.votes(), stronger) == [
        "A baseline predicts significantly more votes than both systems: Bradley–Terry, Random."
    ]
    assert words.warnings(sample.votes(), []) == []


# ── Other sentences ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("needed", "said"),
    [(10**6, "about 1000000 prompts are needed; there are 6."), (10**6 + 1, "more than a million prompts are needed")],
)
def test_the_number_of_prompts_needed_is_said_up_to_a_million(document: Document, needed: int, said: str) -> None:
    assert said in words.prompts_needed(document | {"verdict": {"prompts_needed": needed}})
    unknown = {"verdict": {"prompts_needed": None}}
    assert words.prompts_needed(document | unknown) == "No difference was seen, so no number of prompts can be given."
    assert words.prompts_needed(sample.votes() | unknown) == ""


def test_what_to_do_next_is_a_ranking_only_where_it_is_worth_something(document: Document) -> None:
    crowd, command = sample.votes(), document["answer"]["ask"]
    unknown = {"answer": document["answer"] | {"best": None}}
    chance = {"combined": {"kendall_tau": {"ci95": [-0.1, 0.5]}, "ranking_accuracy": {"ci95": [0.45, 0.7]}}}
    by_chance = unknown | {"cross_validated": chance}
    assert answer.ask(document) == ("Which of them for a prompt of your own?", command)
    assert answer.ask(crowd)[1] == command
    assert answer.ask(document | unknown) == (
        "Prompt by prompt more is known: the combined ranking is surely better than chance. For one of your own:",
        command,
    )
    assert answer.ask(document | by_chance)[1] == ""
    assert answer.ask(crowd | by_chance) == ("Next: vote on more prompts and run it again.", "")
    assert answer.ask(document | {"answer": document["answer"] | {"ask": ""}}) == ("", "")


def test_nothing_is_liked_where_nothing_is_sure(document: Document) -> None:
    assert answer.likes(document | {"likes": []}) == ""


def test_answers_that_are_equally_good_share_a_place() -> None:
    class Even:
        """A system that knows nothing."""

        def scores(self, _: str) -> dict[str, float]:
            return dict.fromkeys("abc", 0.5)

    responses = tuple(Response("p", model, model.upper()) for model in "abc")
    truth = GroundTruth("p", {"b": 0.6, "a": 0.6, "c": 0.3})
    data: Any = SimpleNamespace(responses=responses, prompts=(Prompt("p", "How?"),))
    systems: Any = SimpleNamespace(contenders=[Even()] * 3)
    plan: Any = SimpleNamespace(test_truths=[truth])
    (example,) = examples(systems, data, plan)
    assert [(row["model"], row["truth_place"]) for row in example["responses"]] == [("a", 1), ("b", 1), ("c", 3)]
    assert {row["elo_place"] for row in example["responses"]} == {1}


def test_tied_places_are_called_tied() -> None:
    document = sample.persona()
    (example,) = document["examples"]
    for response, place in zip(example["responses"], (1, 1, 3, 4, 5, 6), strict=True):
        response["truth_place"] = place
    assert [row[1] for row in tables.places(document, example).rows][:3] == ["1 (tied)", "1 (tied)", "3"]
    assert answer.best_on(example) == "Best: code_block and bullet_points"
    for response in example["responses"]:
        response["truth_place"] = 1
    assert answer.best_on(example) == "No answer is better than another"


def test_columns_of_which_nothing_is_known_are_no_columns() -> None:
    found = sample.persona()
    for row in found["leaderboard"]:
        row |= {"tokens_per_s": None, "moved": None}
    assert tables.leaderboard(found).heads == ["   Model", "Wins [95 %]", "Places", "Leads", "Best on"]
    found["leaderboard"][0]["moved"] = 0
    assert [row[-1] for row in tables.leaderboard(found).rows] == ["4 (=)", *["none"] * 5]
    assert tables.people(sample.votes(users=1)).rows == []
    person = ["40", "30", *["0.50"] * 10]
    assert tables.people(sample.votes()).rows == [[f"person {i}", *person] for i in range(3)]


def test_speeds_that_the_server_did_not_tell_are_said_to_be_as_asked(printed: Printed) -> None:
    found = sample.persona()
    assert tables.remarks(found).endswith("Tok/s: tokens a second.")
    found["leaderboard"][0]["side_by_side"] = 4
    assert tables.remarks(found).endswith("Tok/s: tokens a second; those of code_block as asked, 4 side by side.")
    for row in found["leaderboard"]:
        row["side_by_side"] = 4
    said = "Tok/s: tokens a second as asked, 4 side by side."
    assert tables.remarks(found).endswith(said)
    assert said in " ".join(" ".join(printed(console.print_results, found, ())).split())
    assert said in page.render_report(found).replace("\N{NO-BREAK SPACE}", " ")
    for row in found["leaderboard"]:
        row["tokens_per_s"] = None
    assert "side by side" not in tables.remarks(found), "of no speed there is nothing to say"


# ── Texts and figures ────────────────────────────────────────────────────────────────────────────────────


def test_plain_makes_hidden_characters_visible_and_keeps_words() -> None:
    assert plain("a\x1b[2Jb\u202ec\x00\x9b") == "a\ufffd[2Jb\ufffdc\ufffd\ufffd"
    assert plain("one\r\ntwo\tthree") == "one two three"
    assert plain("one\r\ntwo\tthree", lines=True) == "one\ntwo\tthree"
    assert plain("Größe τ – 日本 مرحبا 👩\u200d💻") == "Größe τ – 日本 مرحبا 👩\u200d💻"


@given(st.text(alphabet=st.characters()))
def test_plain_text_can_neither_steer_a_terminal_nor_break_its_encoding(text: str) -> None:
    shown = plain(text)
    shown.encode("utf-8")
    assert not STEERS.search(shown) and "\n" not in shown


def test_figures_are_rounded_and_what_is_none_is_a_dash() -> None:
    for value, shown in {None: "–", float("nan"): "–", float("inf"): "–", 0.12345: "0.123", -0.0001: "0.000"}.items():
        assert words.number(value) == shown
    assert (words.number(-0.0001, signed=True), words.number(0.1, 2, signed=True)) == ("+0.000", "+0.10")
    assert words.estimate(0.5, None) == words.estimate(0.5, [float("nan"), 0.2]) == "0.50"
    assert words.estimate(0.0, [-0.5, 0.25], signed=True) == "+0.00 [−0.50, +0.25]"
    gains = [words.difference({"difference": None, "ci95": None, "p_value": p}) for p in (0.0004, 0.0123, None)]
    assert gains == ["–, p < 0.001", "–, p = 0.012", "–, p = –"]
    assert [words.anything(v) for v in (None, True, 1e-4, 5, "a\x1b")] == ["–", "yes", "0.0001", "5", "a\ufffd"]
    shares = (None, 0.0, 0.004, 0.25, 0.996, 1.0)
    assert [percent(share) for share in shares] == ["–", "0 %", "<1 %", "25 %", ">99 %", "100 %"]
