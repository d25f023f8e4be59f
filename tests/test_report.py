"""What is said says what was found: the results document, its words and the console."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample_results as sample
from hypothesis import given
from hypothesis import strategies as st

from core.text import plain
from report import answer, console, words

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


# ── The document ─────────────────────────────────────────────────────────────────────────────────────────


def test_personas_and_votes_have_the_same_keys_and_are_json(document: Document) -> None:
    for made in (document, sample.votes(), sample.votes(decided=False)):
        assert json.loads(json.dumps(made, allow_nan=False)).keys() == document.keys()
    assert document["models"][4] == {
        "name": "bullet_points", "backend": "embedded", "ollama_tag": "qwen3:8b", "arena_name": "Qwen3-30B-A3B",
        "elo": 1320.0, "elo_source": "Chatbot Arena 2025-08-04", "proxy": True,
    }  # fmt: skip
    assert document["versions"]["numpy"] == np.__version__


def test_the_verdict_speaks_of_personas_and_of_votes_in_their_own_words(document: Document) -> None:
    assert document["verdict"]["sentence"].startswith("The personalized reward model ranks this persona's contestants")
    assert document["verdict"]["warnings"] == []
    assert sample.votes()["verdict"]["sentence"].startswith("Neither system can be called better on these votes")
    assert sample.votes(decided=False)["verdict"]["sentence"].startswith("No vote was decided")
    found = sample.findings()
    worse = {"kendall_tau": {"mean": -0.3, "ci95": [-0.4, -0.2]}}
    doubted = dataclasses.replace(
        found, stronger_baselines=("bradley_terry", "random"), cross_validated={"global_elo": worse}
    )
    assert words.warnings(doubted) == [
        "A baseline ranks significantly better than both systems: Bradley–Terry, Random.",
        "The global Elo orders these contestants worse than chance: the Elo offset starts from it, and H2 has a weak "
        "rival.",
    ]
    of_votes = ["A baseline predicts significantly more votes than both systems: Bradley–Terry, Random."]
    assert words.warnings(dataclasses.replace(doubted, people={})) == of_votes


def test_the_number_of_prompts_needed_is_a_figure_and_a_sentence(document: Document) -> None:
    assert document["verdict"]["prompts_needed"] == 18
    assert words.prompts_needed(document) == (
        "To tell a difference of +0.16 from chance (p < 0.05, power 80 %) about 18 prompts are needed; there are 25."
    )
    for needed, said in {10**6: "about 1000000", 10**6 + 1: "more than a million", None: "no number"}.items():
        assert said in words.prompts_needed(document | {"verdict": {"prompts_needed": needed}})
    assert words.prompts_needed(sample.votes()) == ""


def test_a_hypothesis_says_what_it_rests_on(document: Document) -> None:
    assert words.because(document, "sample_efficiency") == (
        "Area between the learning curves, in τ: +0.112, 95 % interval [+0.041, +0.183], p = 0.004. The reward model "
        "needs 45 preferences for the Elo offset's final τ; the Elo offset never reaches the reward model's. With "
        "a flat start for the Elo offset: +0.061, 95 % interval [−0.039, +0.161], p = 0.012."
    )
    assert words.because(document, "generalization") == (
        "Pairs of a model never seen in training: the reward model orders 0.67 of them right, its global Elo 0.64: "
        "+0.030, 95 % interval [−0.070, +0.130], p = 0.012. Its place is off by 1.37 and 1.52. The others by "
        "Bradley–Terry, the unseen model at their mean, 0.66: +0.010, 95 % interval [−0.090, +0.110], p = 0.012."
    )
    assert words.because(sample.votes(), "sample_efficiency") == (
        "Area between the learning curves in ranking accuracy, reward model minus Elo offset: +0.080, 95 % interval "
        "[−0.020, +0.180], p = 0.110; in the end 0.690 against 0.610. With a flat start for the Elo offset: +0.080, "
        "95 % interval [−0.020, +0.180], p = 0.110."
    )
    assert words.because(sample.persona(incremental=False), "sample_efficiency") == "It needs --incremental."


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
    assert words.interval([-0.5, 0.25], 2, signed=True) == "[−0.50, +0.25]"
    assert words.interval(None) == words.interval([float("nan"), 0.2]) == "–"
    assert (words.estimate(0.5, None), words.estimate(0.5, (0.4, 0.6))) == ("0.50", "0.50 [0.40, 0.60]")
    assert [words.p_value(p) for p in (0.0004, 0.0123, None)] == ["p < 0.001", "p = 0.012", "p = –"]
    assert [words.anything(v) for v in (None, True, 1e-4, 5, "a\x1b")] == ["–", "yes", "0.0001", "5", "a\ufffd"]


# ── Console ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_prints_the_documented_lines(printed: Printed, document: Document) -> None:
    wide, rule = "=" * 80, "=" * 60
    title, who = "STARTING PERSONALIZED LLM RANKING EXPERIMENT", f"Persona: coder · backend: {sample.LABEL}"
    first, second, *said, last = printed(console.print_header, "coder", sample.LABEL)
    assert [first, second, " ".join(said), last] == [wide, title, who, wide]
    assert printed(console.print_generation, "coder") == [rule, "GENERATING DATA FOR PERSONA: CODER", rule]
    counts = ["- Prompts: 25", "- Preferences: 300 (of which ties: 21)", "- Test prompts: 5"]
    counts += ["- Ground truth rankings: 5", ""]
    assert printed(console.print_counts, document["counts"]) == ["", "Data Generation Complete:", *counts]
    assert printed(console.print_counts, sample.votes()["counts"]) == [
        "", "Votes of 12 people:", "- Votes: 480 (360 decided)", counts[0],
        "- Votes that train: 300 (of which ties: 21)", *counts[2:],
    ]  # fmt: skip
    assert printed(console.print_header, "mine", "x", (), "Votes")[2] == "Votes: mine · backend: x"
    training = ["Training on 300 preferences...", "Evaluating every 5 preferences...", ""]
    assert printed(console.print_training, 300, 5) == [rule, "TRAINING AND EVALUATION", rule, *training]


def test_notes_are_said_once_with_a_capital_and_the_page_to_open_is_named_last(printed: Printed) -> None:
    assert words.noted(["one of two", "gpt-4: a proxy", "one of two"]) == ["One of two", "gpt-4: a proxy"]
    document = sample.persona(prompts=5)
    assert not [line for line in printed(console.print_final, document, document["notes"]) if "Note" in line]
    lines = printed(console.print_files, [Path("r") / name for name in ("a" * 60, "b" * 60, "report.html")])
    assert lines[-1] == f"Open {Path('r/report.html')}" and max(map(len, lines)) <= 80


def test_a_dozen_points_of_the_curve_are_printed_for_personas_and_for_votes(
    printed: Printed, document: Document, caplog: pytest.LogCaptureFixture
) -> None:
    lines, first = printed(console.print_points, document), document["learning_curve"][1]
    elo, reward, both = (first[system]["kendall_tau"] for system in words.CONTENDERS)
    assert lines[:2] == ["Processing preferences 1-5...", "Evaluation 1:"]
    assert lines[2:4] == [f"  Elo Kendall's Tau: {elo:.2f}", f"  Reward Kendall's Tau: {reward:.2f}"]
    assert lines[4] == f"  Combined Kendall's Tau: {both:.2f}"
    assert len(lines) == 5 * 12 and lines[-5:-3] == ["Processing preferences 296-300...", "Evaluation 60:"]
    with caplog.at_level("DEBUG", "ranking"):
        assert len(printed(console.print_points, document)) == 5 * 60
    assert printed(console.print_points, sample.persona(incremental=False)) == []
    lines = printed(console.print_points, sample.votes(decided=False))
    assert lines[:2] == ["Before any vote of one's own...", "Evaluation 0:"]
    assert lines[2:4] == ["  Elo Ranking Accuracy: –", "  Reward Ranking Accuracy: –"]
    assert lines[5].startswith("With up to ") and lines[5].endswith(" own votes each...")


def test_the_answer_is_the_models_in_order_what_is_liked_and_last_the_sentence(
    printed: Printed, document: Document
) -> None:
    lines = printed(console.print_answer, document)
    assert [line for line in lines if line.startswith((" 1 ", " 6 "))] == [
        " 1 code_block      70 % [65, 75]     1–2   70 %     7/25  5 (+4)",
        " 6 plain_talk      20 % [15, 25]     3–6    0 %     2/25    none",
    ]
    said = "code_block or numbered_steps is your best model (ahead in 70 % and 30 % of draws); the others are out."
    whose = "“You” means the persona coder, played by the judge SmolLM2-135M-Instruct: no person was asked."
    said += f" About 40 more prompts would separate the first two. {whose} Backend: {sample.LABEL}."
    assert f"{said} {console.RULE}" in " ".join(lines)
    assert "You prefer shorter answers (half the length: 60 % [55, 65])" in " ".join(lines)
    assert lines[-3:] == ["", "Which of them for a prompt of your own?", sample.ASK]
    assert all(len(line) <= 80 for line in lines)
    wide = printed(
        console.print_answer, document | {"leaderboard": [row | {"model": "m" * 60} for row in document["leaderboard"]]}
    )
    assert all(len(line) <= 80 for line in wide) and " 1 " + "m" * 60 in wide


def test_what_to_do_next_is_a_ranking_only_where_it_is_worth_something() -> None:
    document, crowd = sample.persona(), sample.votes()
    unknown = {"answer": document["answer"] | {"best": None}}
    cells = {"kendall_tau": {"ci95": [-0.1, 0.5]}, "ranking_accuracy": {"ci95": [0.45, 0.7]}}
    chance = unknown | {"cross_validated": {"combined": cells}}
    assert answer.ask(crowd) == (
        "Which of them for a prompt of your own? (A server must have these models.)",
        sample.ASK,
    )
    assert answer.ask(document | unknown) == (
        "Prompt by prompt more is known: the combined ranking is surely better than chance. For one of your own:",
        sample.ASK,
    )
    assert "run it again with more prompts" in answer.ask(document | chance)[0]
    assert answer.ask(crowd | chance) == ("Next: vote on more prompts and run it again.", "")
    assert answer.ask(document | {"answer": document["answer"] | {"ask": ""}}) == ("", "")


def test_the_sentence_says_as_much_as_is_known() -> None:
    found = sample.findings()

    def sentence(users: int = 1, **changes: Any) -> str:
        counts = {**found.counts, "users": users}
        return answer.sentence(
            dataclasses.replace(found, counts=counts, answer=dataclasses.replace(found.answer, **changes))
        )

    alone = "code_block is your best model: it wins 70 % of its comparisons; the others are behind."
    assert sentence(tied_with=()) == alone
    assert sentence(users=3, tied_with=()) == alone.replace("your", "these people's")
    three = sentence(tied_with=("numbered_steps", "story"))
    assert three.startswith("code_block, numbered_steps or story is your best model (ahead in 70 %, 30 % and <1 % of")
    rows = [row | {"p_best": 0.98} if row["place"] == 1 else row for row in found.answer.leaderboard]
    sure = sentence(leaderboard=rows, unlikely=("numbered_steps",))
    assert sure == (
        "code_block is very likely your best model (ahead in 98 % of draws); numbered_steps can't be ruled out; "
        "the others are out."
    )
    assert "code_block is probably your" in sentence(unlikely=("numbered_steps",))
    nothing = "Nothing is known yet: no model is surely better than another"
    assert sentence(best=None) == f"{nothing}; about 40 more prompts would separate the first two."
    assert sentence(best=None, more_prompts=10**6) == (
        f"{nothing}; more than 10,000 more prompts would separate the first two."
    )
    assert sentence(best=None, more_prompts=None) == f"{nothing}."
    assert sentence(best=None, more_people=12).endswith(
        "; about 40 more prompts and 12 more people would separate the first two."
    )
    assert sentence(best=None, more_prompts=6541, more_people=50148).endswith(
        "; about 6,500 more prompts and 50,000 more people would separate the first two."
    )
    assert sentence(best=None, more_prompts=1, more_people=1).endswith(
        "; about 1 more prompt and 1 more person would separate the first two."
    )
    tied = dataclasses.replace(found, counts={"decided_votes": 0}, answer=dataclasses.replace(found.answer, best=None))
    assert answer.sentence(tied).startswith("Nothing is known yet: every vote is a tie")
    assert sample.votes()["answer"]["whose"] == "From 12 people's 480 votes on 25 prompts."
    assert answer.likes(sample.persona() | {"likes": []}) == ""


def test_the_results_are_tables_with_their_figures(printed: Printed, document: Document) -> None:
    lines = printed(console.print_final, document)
    head = lines.index("Metric                Elo Offset   Reward Model  Improvement    Combined")
    titles = ["Kendall Tau", "Spearman Rho", "Ranking Accuracy", "Top 1 Accuracy", "Top 3 Accuracy"]
    for line, title, metric in zip(lines[head + 2 : head + 7], titles, sample.METRICS, strict=True):
        elo, reward, both = (document["final"][system][metric] for system in words.CONTENDERS)
        assert line == f"{title:<22}{elo:>10.2f}{reward:>15.2f}{reward - elo:>+13.2f}{both:>12.2f}"
    text = re.sub(r"\s+", " ", "\n".join(lines))
    for said in (
        "FINAL EXPERIMENT RESULTS",
        "Method Winner: REWARD SYSTEM (cross-validated difference in τ +0.160, 95 % interval [+0.060, +0.260], "
        "p = 0.012, 25 prompts) The personalized reward model ranks",
        "about 18 prompts are needed",
        f"Backend: {sample.LABEL}",
        "Kendall Tau 0.41 [0.32, 0.50] 0.57 [0.48, 0.66] +0.16 [+0.06, +0.26]",
        "Kendall Tau 0.61 [0.52, 0.70] +0.20 [+0.10, +0.30] +0.04 [−0.06, +0.14]",
        "Recommended for --rank: Combined, surely better than Elo offset. The combined system in τ: minus Elo "
        "offset +0.200, 95 % interval [+0.100, +0.300]",
        "H1 sample efficiency, combined system: supported.",
        "The combined system needs 45 preferences for the Elo offset's final τ",
        "Bradley–Terry 0.43 [0.34, 0.52]",
        "bullet_points 1320 (proxy: Qwen3-30B-A3B); plain_talk no rating",
        "Lambda (regularization): 0.1",
        "H1 sample efficiency: supported. Area between the learning curves, in τ: +0.112, 95 %",
        "H2 generalization: inconclusive. Pairs",
        "Note: The base is no reward model",
    ):
        assert said in text
    for winner, said in {"elo_offset": "ELO SYSTEM", "none": "none"}.items():
        assert f"Winner: {said} (" in "\n".join(printed(console.print_final, document | {"winner": winner}))


def test_votes_leave_out_what_they_cannot_have_and_say_why(printed: Printed) -> None:
    text = re.sub(r"\s+", " ", "\n".join(printed(console.print_final, sample.votes())))
    for said in (
        "Only pairs are scored",
        "Votes: votes",
        "the default, which knows both models and texts: no difference to the two others is sure",
        "] +0.08 [−0.02, +0.18]",
        "Method Winner: none (cross-validated difference in ranking accuracy +0.080",
        "p = 0.110, 12 people, 25 prompts)",
        "Reward model: a person's own votes change its ranking accuracy by +0.080, 95 % interval",
        "(over Shared reward model, which has none of them).",
        "H2 generalization: not tested. Even the global ratings",
    ):
        assert said in text
    assert "Kendall" not in text and "–" not in text.replace("Bradley–Terry", "")
    nothing = " ".join(printed(console.print_final, sample.votes(decided=False)))
    assert "No vote was decided" in nothing and "–" not in nothing
    assert "No method is recommended on evidence. --rank uses Combined by default" in nothing
    one = sample.votes()
    alone = " ".join(printed(console.print_final, one | {"counts": one["counts"] | {"users": 1}}))
    assert "Shared" not in alone and "Shared combined" in text


def test_lines_have_at_most_eighty_columns_and_cells_stay_apart(printed: Printed, document: Document) -> None:
    wide = {"mean": -0.55, "ci95": [-0.65, -0.45]}
    widest = document | {"cross_validated": {s: dict.fromkeys(sample.METRICS, wide) for s in words.SYSTEMS}}
    widest["ablation"] = [dict.fromkeys(sample.METRICS, wide) | {"name": "x" * 38}]
    for made in (document, widest, sample.many_models(), sample.votes()):
        lines = printed(console.print_final, made) + printed(console.print_ablation, made)
        assert not [line for line in lines if len(line) > 80]
        assert not [line for line in lines if "]-" in line or "]−" in line or "]+" in line]


def test_a_long_list_of_models_is_shortened_to_its_top_and_bottom(printed: Printed) -> None:
    names = [f"m{i}" for i in range(13)]
    assert console.shortened(names[:12]) == names[:12]
    assert console.shortened(names) == [*names[:6], "… (1 more) …", *names[7:]]
    said = "\n".join(printed(console.print_final, sample.many_models()))
    assert said.count("/5-instruct") == said.count("/34-instruct") == 2, "names, and their ratings"
    assert "/6-instruct" not in said
    assert "… (28 more) …" in said


def test_what_people_agree_on_stands_beside_their_accuracies(printed: Printed, document: Document) -> None:
    said = " ".join(" ".join(printed(console.print_final, sample.votes())).split())
    assert "two people who judged the same pair agree on 0.820 of 758" in said
    assert "is right in 0.791 of 949 votes" in said
    assert words.ceiling(document) == "", "a persona is one judge"


def test_the_tables_of_ablations_and_of_all_personas_have_a_row_each(printed: Printed, document: Document) -> None:
    lines = printed(console.print_ablation, document)
    assert [line[:38].strip() for line in lines[-2:]] == [row["name"] for row in document["ablation"]]
    assert lines[-1].endswith("0.49 [0.40, 0.58]    0.65 [0.56, 0.74]")
    assert printed(console.print_ablation, sample.votes()) == []
    lines = printed(console.print_personas, sample.personas())
    rows = [line for line in lines if line.endswith("REWARD SYSTEM")]
    names = ["coder", "academic", "creative_writer", "student", "analyst"]
    assert [row[:18].strip() for row in rows] == [*names, "all 25 prompts"]
    assert next(line.split() for line in lines if "+1.00" in line) == [
        "coder",
        "+1.00",
        "−0.15",
        "+0.20",
        "−0.20",
        "−0.20",
    ]
    assert next(line.split() for line in lines if "*" in line) == ["code_block", *["70", "%", "*"] * 5]
    sentences = " ".join(lines[-20:])
    assert "coder: code_block or numbered_steps is your best model" in sentences
    assert sentences.index("analyst: ") < sentences.index("no person was asked") < sentences.index("not how good real")
    assert all(len(line) <= 80 and "]−" not in line and "]+" not in line for line in lines)


def test_hostile_texts_stay_text_in_the_terminal(printed: Printed) -> None:
    changed, text = sample.hostile(), sample.HOSTILE
    pooled = sample.personas()["pooled"]
    together = {"personas": {text: changed}, "similarity": {text: {text: 1.0}}, "pooled": pooled}
    together |= {"label": text, "judge": text}
    lines = printed(console.print_header, text, text) + printed(console.print_generation, text)
    lines += printed(console.print_final, changed) + printed(console.print_ablation, changed)
    lines += printed(console.print_personas, together) + printed(console.print_answer, changed)
    assert not STEERS.search("".join(lines))
    assert any("alert(1)" in line for line in lines)


def test_an_ascii_terminal_gets_question_marks_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    console.print_header("τ", "−1")
    assert b"Persona: ? ? backend: -1" in written.getvalue()


def test_nothing_heavy_is_imported_and_pyplot_never() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from report import console, files, plots\n"
        "print([m for m in ('matplotlib', 'jinja2', 'numpy', 'torch') if m in sys.modules])\n"
        "from sample_results import persona\n"
        "plots.svg(plots.curve_key, persona(prompts=5))\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True False"]
