"""What is shown says what the results say: console, plots and page."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_results import LABEL, METRICS, MODELS, sample_personas, sample_results

from report import console as report
from report import page, plots
from report import words as wording
from report.drawing import panel_figure, to_svg

ROOT = Path(report.__file__).resolve().parent
HOSTILE = "<script>alert(1)</script>\x1b[31m\x07\u202egnp\u2066.exe\"'&{{ 7*7 }}$x_1$"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def results() -> Row:
    return sample_results()


@pytest.fixture(scope="module")
def html(results: Row) -> str:
    return page.render_report(results)


def hostile_results() -> Row:
    """Every text that a model, a user or a file may have written is an attack."""
    changed = sample_results(prompts=5)
    changed |= {"persona": HOSTILE, "judge": HOSTILE, "label": HOSTILE, "command": HOSTILE}
    changed |= {"notes": [HOSTILE], "warnings": [HOSTILE], "versions": {HOSTILE: HOSTILE}, "base_model": HOSTILE}
    changed["verdict"] = {"sentence": HOSTILE, "prompts_needed": None, "warnings": [HOSTILE]}
    changed["judge_quality"][HOSTILE] = HOSTILE
    changed["models"][0] |= {"name": HOSTILE, "arena_name": HOSTILE, "elo_source": HOSTILE, "proxy": True}
    changed["per_prompt"][0]["prompt"] = HOSTILE
    changed["hypotheses"]["sample_efficiency"] = {"verdict": HOSTILE, "sentence": HOSTILE}
    by_contestant = changed["hypotheses"]["generalization"]["by_contestant"]
    by_contestant[HOSTILE] = by_contestant[MODELS[0]]
    changed["ablation"][0]["name"] = HOSTILE
    changed["examples"][0]["prompt"] = HOSTILE
    changed["examples"][0]["responses"][0] |= {"model": HOSTILE, "text": HOSTILE}
    return changed


# ── Words and numbers ────────────────────────────────────────────────────────────────────────────────────


def test_plain_makes_hidden_characters_visible_and_keeps_words() -> None:
    assert wording.plain("a\x1b[2Jb\u202ec\x00\x9b") == "a\ufffd[2Jb\ufffdc\ufffd\ufffd"
    assert wording.plain("one\r\ntwo\tthree") == "one two three"
    assert wording.plain("one\r\ntwo\tthree", lines=True) == "one\ntwo\tthree"
    assert wording.plain("Größe τ – 日本 مرحبا 👩\u200d💻") == "Größe τ – 日本 مرحبا 👩\u200d💻"


@given(st.text(alphabet=st.characters()))
def test_plain_text_can_neither_steer_a_terminal_nor_break_its_encoding(text: str) -> None:
    shown = wording.plain(text)
    shown.encode("utf-8")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (True, "–"),
        ("x", "–"),
        (0.12345, "0.123"),
        (-0.0001, "0.000"),
    ],
)
def test_a_figure_that_is_none_is_a_dash(value: object, shown: str) -> None:
    assert wording.number(value) == shown


def test_signed_figures_intervals_and_p_values() -> None:
    assert wording.number(-0.0001, signed=True) == "+0.000"
    assert wording.number(0.1, 2, signed=True) == "+0.10"
    assert wording.interval([-0.5, 0.25], 2, signed=True) == "[-0.50, +0.25]"
    assert wording.interval([None, 0.2]) == "–"
    assert wording.estimate(0.5, None) == "0.50"
    assert wording.estimate(np.float64(0.5), (0.4, 0.6)) == "0.50 [0.40, 0.60]"
    assert (wording.p_value(0.0004), wording.p_value(0.0123), wording.p_value(None)) == (
        "p < 0.001",
        "p = 0.012",
        "p = –",
    )


def test_any_value_fits_one_line() -> None:
    nested = {"mean": 0.5, "ci95": [0.4, 0.6]}
    assert wording.anything(nested) == "0.500 [0.400, 0.600]"
    assert wording.anything({"a_b": [1, 2.5, None], "c": True}) == "a b: 1, 2.5, –, c: yes"
    assert wording.anything([]) == wording.anything({}) == "–"


# ── Console ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_head_of_a_run_is_eighty_wide_and_loud() -> None:
    assert report.header_lines("coder", LABEL) == [
        "=" * 80,
        "STARTING PERSONALIZED LLM RANKING EXPERIMENT",
        f"Persona: coder · backend: {LABEL}",
        "=" * 80,
    ]


def test_generation_and_points_print_the_documented_lines(capsys: pytest.CaptureFixture[str], results: Row) -> None:
    report.print_generation("coder")
    report.print_cached("prompts", "coder")
    report.print_counts(results["counts"])
    report.print_training(300, 5)
    report.print_point(1, 1, 5, 0.25, None)
    rule = "=" * 60
    assert capsys.readouterr().out.splitlines() == [
        rule, "GENERATING DATA FOR PERSONA: CODER", rule,
        "Using cached prompts for persona: coder",
        "", "Data Generation Complete:", "- Prompts: 25", "- Preferences: 300 (of which ties: 21)",
        "- Test prompts: 5", "- Ground truth rankings: 5", "",
        rule, "TRAINING AND EVALUATION", rule,
        "Training on 300 preferences...", "Evaluating every 5 preferences...", "",
        "Processing preferences 1-5...", "Evaluation 1:",
        "  Elo Kendall's Tau: 0.2500", "  Reward Kendall's Tau: –",
    ]  # fmt: skip


def test_the_point_before_any_preference_claims_none() -> None:
    assert report.point_lines(0, 0, 0, 0.1, 0.2)[0] == "Before any preference..."


def test_the_documented_table_has_its_shape_and_its_figures(results: Row) -> None:
    lines = report.final_lines(results)
    head = lines.index("Metric                Elo Offset   Reward Model  Improvement")
    assert lines[:3] == ["=" * 60, "FINAL EXPERIMENT RESULTS", "=" * 60]
    assert lines[head + 1] == "-" * 60
    titles = ["Kendall Tau", "Spearman Rho", "Ranking Accuracy", "Top 1 Accuracy", "Top 3 Accuracy"]
    for line, title, metric in zip(lines[head + 2 : head + 7], titles, METRICS, strict=True):
        elo, reward = (results["final"][system][metric] for system in wording.CONTENDERS)
        assert line.startswith(title)
        assert line[22:].split() == [f"{elo:.4f}", f"{reward:.4f}", f"{reward - elo:+.4f}"]
        assert len(line) == 60


def test_the_winner_line_rests_on_the_cross_validated_difference(results: Row) -> None:
    line = next(line for line in report.final_lines(results) if line.startswith("Winner:"))
    assert line == (
        "Winner: REWARD SYSTEM (cross-validated difference in τ +0.160, 95 % interval [+0.060, +0.260], "
        "permutation p = 0.012, 25 prompts)"
    )
    for winner, said in {"elo_offset": "ELO SYSTEM", "none": "none"}.items():
        lines = report.final_lines(results | {"winner": winner})
        assert any(line.startswith(f"Winner: {said} (") for line in lines)


def test_the_results_say_what_they_rest_on(results: Row) -> None:
    text = "\n".join(report.final_lines(results))
    unwrapped = re.sub(r"\s+", " ", text)
    assert LABEL in text
    assert "Kendall Tau         0.41 [0.32, 0.50]    0.57 [0.48, 0.66]  +0.16 [+0.06, +0.26]" in text
    assert re.search(r"^Bradley–Terry +0\.43 \[0\.34, 0\.52\]", text, re.MULTILINE)
    assert "bullet_points 1320 (proxy:" in text
    assert "plain_talk no rating" in text
    assert "H1 sample efficiency: supported. Area between the learning curves, in τ: +0.112, 95 %" in unwrapped
    assert "H2 generalization: inconclusive." in text
    assert "about 18 prompts are needed" in unwrapped
    assert text.count("Warning: ") == 2


def test_the_widest_cells_stay_apart(results: Row) -> None:
    wide = {"mean": -0.55, "ci95": [-0.65, -0.45]}
    changed = results | {"cross_validated": {s: dict.fromkeys(METRICS, wide) for s in wording.SYSTEMS}}
    for line in report.final_lines(changed):
        assert "]-" not in line
        assert len(line) <= 80 or line.startswith(("Winner", "Backend"))


def test_a_hypothesis_says_what_it_rests_on() -> None:
    tested = sample_results()["hypotheses"]
    untested = sample_results(incremental=False)["hypotheses"]
    assert wording.because("sample_efficiency", tested["sample_efficiency"]) == (
        "Area between the learning curves, in τ: +0.112, 95 % interval [+0.041, +0.183], p = 0.004. The reward model "
        "needs 45 preferences for the Elo offset's final τ; the Elo offset never reaches the reward model's."
    )
    assert wording.because("sample_efficiency", untested["sample_efficiency"]) == "It needs --incremental."
    assert wording.because("generalization", tested["generalization"]) == (
        "Pairs of a model never seen in training: the reward model orders 0.67 of them right, its global Elo 0.64: "
        "+0.030, 95 % interval [-0.050, +0.110], p = 0.418. Its place is off by 1.37 and 1.52."
    )
    assert wording.because("generalization", {}) == ""


def test_nothing_known_is_dashes_and_no_winner() -> None:
    lines = report.final_lines({})
    assert lines[lines.index("-" * 60) + 1].split() == ["Kendall", "Tau", "–", "–", "–"]
    assert any(line.startswith("Winner: none (") for line in lines)
    assert "H1 sample efficiency: not tested" in lines


def test_hostile_texts_stay_text_in_the_terminal() -> None:
    changed = hostile_results()
    lines = report.header_lines(HOSTILE, HOSTILE) + report.final_lines(changed) + report.ablation_lines(changed)
    lines += report.personas_lines({"personas": {HOSTILE: changed}, "similarity": {HOSTILE: {HOSTILE: 1.0}}})
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "".join(lines))
    assert any("alert(1)" in line for line in lines)


def test_the_ablation_table_has_a_row_a_variant_and_is_silent_without(
    results: Row, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = report.ablation_lines(results)
    assert [line[:38].strip() for line in lines[-4:]] == [row["name"] for row in results["ablation"]]
    assert lines[-3].endswith("0.55 [0.46, 0.64]    0.78 [0.69, 0.86]")
    report.print_ablation({"ablation": None})
    assert capsys.readouterr().out == ""


def test_the_table_of_all_personas_names_each_with_its_winner() -> None:
    lines = report.personas_lines(sample_personas())
    rows = [line for line in lines if line.endswith("REWARD SYSTEM")]
    assert [row.split()[0] for row in rows] == ["coder", "academic", "creative_writer", "student", "analyst"]
    alike = next(line for line in lines if line.startswith("coder") and "+1.00" in line)
    assert len(alike.split()) == 6


def test_an_ascii_terminal_gets_question_marks_and_no_traceback() -> None:
    code = "import report; report.print_header('τ', 'x')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Persona: ? ? backend: x" in done.stdout


def test_importing_report_loads_nothing_heavy() -> None:
    code = "import report, sys; print([m for m in ('matplotlib', 'jinja2', 'numpy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == []


# ── Plots ────────────────────────────────────────────────────────────────────────────────────────────────


def lines_of(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.get_lines()}


def test_learning_curves_lie_at_the_true_x_values(results: Row) -> None:
    points = [0, 5, 12, 40, 41]
    count = len(points)
    curves = {"points": points, "trained_once": False}
    for system in wording.CONTENDERS:
        curves[system] = {
            m: {side: v[:count] for side, v in results["curves"][system][m].items()} for m in METRICS
        }  # fmt: skip
    figure = plots.build_learning_curves(results | {"curves": curves})
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_ylabel() for axes in panels] == list(wording.METRICS.values())
    for axes, metric in zip(panels, METRICS, strict=True):
        assert axes.get_xlabel() == "Preferences used"
        for system in wording.CONTENDERS:
            line = lines_of(axes)[wording.SYSTEMS[system]]
            assert list(line.get_xdata()) == points
            assert list(line.get_ydata()) == curves[system][metric]["mean"]
        assert (
            list(lines_of(axes)["Global Elo"].get_ydata())
            == [results["cross_validated"]["global_elo"][metric]["mean"]] * 2
        )
        assert len(axes.collections) == 2  # one band a system
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert panels[2].get_ylim() == panels[3].get_ylim() == panels[4].get_ylim()


def test_systems_differ_in_more_than_colour(results: Row) -> None:
    drawn = lines_of(plots.build_learning_curves(results).axes[0])
    looks = [(line.get_color(), line.get_marker(), str(line._dash_pattern)) for line in drawn.values()]
    assert len(looks) == 3
    for kind in zip(*looks, strict=True):
        assert len(set(kind)) == 3


def test_without_bands_the_plain_list_of_points_is_drawn(results: Row) -> None:
    plain_list = {key: value for key, value in results.items() if key != "curves"}
    axes = plots.build_learning_curves(plain_list).axes[0]
    line = lines_of(axes)["Reward model"]
    assert list(line.get_xdata()) == [row["preferences"] for row in results["learning_curve"]]
    assert list(line.get_ydata()) == [row["reward_model"]["kendall_tau"] for row in results["learning_curve"]]
    assert not axes.collections
    assert list(lines_of(axes)["Global Elo"].get_ydata()) == [results["final"]["global_elo"]["kendall_tau"]] * 2


def test_a_system_trained_once_is_a_level_line_that_says_so() -> None:
    results = sample_results(incremental=False)
    line = lines_of(plots.build_learning_curves(results).axes[0])["Reward model (trained once)"]
    assert len(set(line.get_ydata())) == 1
    assert line.get_marker() == ""
    del results["curves"]
    for row in results["learning_curve"]:
        row["reward_model"] = None
    line = lines_of(plots.build_learning_curves(results).axes[0])["Reward model (trained once)"]
    assert set(line.get_ydata()) == {results["final"]["reward_model"]["kendall_tau"]}
    assert list(line.get_xdata()) == list(range(0, 301, 5))


def test_the_comparison_draws_intervals_and_the_documented_split(results: Row) -> None:
    figure = plots.build_metric_comparison(results)
    assert len(figure.axes) == 5
    shown = [system for system in wording.SYSTEMS if system in results["final"]]
    for axes, metric in zip(figure.axes, METRICS, strict=True):
        assert axes.get_xlabel() == wording.METRICS[metric]
        intervals = [collection.get_segments()[0][:, 0].tolist() for collection in axes.collections]
        assert intervals == [results["cross_validated"][system][metric]["ci95"] for system in shown]
        hollow = [
            line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "d" and len(line.get_xdata())
        ]
        assert hollow == [results["final"][system][metric] for system in shown]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [wording.SYSTEMS[s] for s in shown]


def test_the_training_history_has_both_losses_per_epoch(results: Row) -> None:
    drawn = lines_of(plots.build_training_history(results).axes[0])
    for label, key in {
        "Preferences": "preference_loss",
        "Rank regularization (enters with λ = 0.1)": "regularization_loss",
    }.items():
        assert list(drawn[label].get_xdata()) == list(range(1, 11))
        assert list(drawn[label].get_ydata()) == results["training_history"][key]


def test_all_personas_are_drawn_with_their_similarity() -> None:
    everyone = sample_personas()
    figure = plots.build_personas(everyone)
    names = list(everyone["personas"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    shown = np.asarray(figure.axes[1].get_images()[0].get_array())
    assert np.allclose(shown, [[everyone["similarity"][a][b] for b in names] for a in names])
    assert "was not judged" in plots.build_personas(everyone | {"similarity": None}).axes[1].texts[0].get_text()


def figures(results: Row) -> dict[str, Any]:
    return {
        "curves": plots.build_learning_curves(results),
        "comparison": plots.build_metric_comparison(results),
        "history": plots.build_training_history(results),
        "personas": plots.build_personas(sample_personas() | {"label": results.get("label")}),
    }


def pixels(figure: Any) -> Any:
    figure.set_dpi(80)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


@pytest.mark.parametrize("make", [sample_results, hostile_results, dict], ids=["usual", "hostile", "empty"])
def test_no_ink_touches_the_edge_and_texts_do_not_overlap(make: Any) -> None:
    for name, figure in figures(make()).items():
        image = pixels(figure)
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (edge == 255).all(), name
        assert 0.01 < (image < 250).any(axis=2).mean() < 0.6, name
        boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
        boxes += [axes.get_tightbbox() for axes in figure.axes if axes.axison]
        boxes += [legend.get_window_extent() for legend in figure.legends]
        overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
        assert not overlaps, name


def test_the_loud_label_stands_in_every_figure(results: Row) -> None:
    for name, figure in figures(results).items():
        assert LABEL in " ".join(text.get_text().replace("\n", " ") for text in figure.texts), name


def test_plots_are_written_as_png_of_print_size_without_pyplot(results: Row, tmp_path: Path) -> None:
    from matplotlib.image import imread

    plots.plot_learning_curves(results, tmp_path / "curves.png")
    plots.plot_metric_comparison(results, tmp_path / "comparison.png")
    plots.plot_training_history(results | {"persona": "日本"}, tmp_path / "history.png")  # the font lacks these letters
    plots.plot_personas(sample_personas(), tmp_path / "personas.png")
    assert imread(tmp_path / "curves.png").shape[:2] == (1320, 2000)
    for written in tmp_path.iterdir():
        image = imread(written)
        assert image.shape[1] >= 1400
        assert image.std() > 0.05
    assert len(list(tmp_path.iterdir())) == 4


def test_drawing_never_imports_pyplot() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import plots; from sample_results import sample_results\n"
        "plots.build_training_history(sample_results(prompts=5)).canvas.draw()\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


# ── Page ─────────────────────────────────────────────────────────────────────────────────────────────────


class Page(HTMLParser):
    """Tags, attributes and text of a page; open tags that never close are an error."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained(html: str) -> None:
    parsed = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "img"} & set(parsed.tags)
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    for name, value in parsed.attributes:
        assert name not in {"src", "srcset", "action", "data", "background"}
        assert not name.startswith("on")
        if name in {"href", "xlink:href"}:
            assert value.startswith("#")
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in parsed.attributes


def test_every_reference_inside_the_page_leads_to_one_place(html: str) -> None:
    ids = [value for name, value in Page(html).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'(?:href="#|url\(#)([\w-]+)', html))
    assert referred
    assert referred <= set(ids)


def test_the_verdict_and_the_loud_label_come_before_everything_else(html: str) -> None:
    text = Page(html).text.split("Personalized LLM ranking · persona")[1]
    label, verdict, first_table = (
        text.index(part) for part in (LABEL, "The reward model ranks better", "Documented split")
    )
    assert label < verdict < first_table


def test_all_sections_are_there_with_their_figures(html: str, results: Row) -> None:
    sections = re.findall(r'<section id="([\w-]+)">', html)
    assert sections == [
        "verdict", "results", "hypotheses", "curves", "systems", "prompts", "held-out", "ablation", "judge", "examples",
        "training", "models", "reproduce",
    ]  # fmt: skip
    text = re.sub(r"\s+", " ", Page(html).text)
    assert "0.41 [0.32, 0.50]" in text
    assert f"{results['final']['elo_offset']['kendall_tau']:.3f}" in text
    assert "+0.160, 95 % interval [+0.060, +0.260], permutation p = 0.012" in text
    assert "The reward model needs 45 preferences for the Elo offset's final τ; the Elo offset never reaches" in text
    assert "All contestants 0.640.67 +0.03 [−0.05, +0.11] 1.521.37" in text  # six cells
    assert "1320 (proxy: Qwen3-30B-A3B)" in text
    assert "python main.py --persona coder --incremental" in text
    assert "torch2.13.0" in text  # two cells
    assert html.count("<svg viewBox") == 3 + 5 + 1 + 1


def test_prompts_are_sorted_by_difference_and_bars_share_one_scale(html: str, results: Row) -> None:
    section = html.split('<section id="prompts">')[1].split("</section>")[0]
    shown = [float(value.replace("−", "-")) for value in re.findall(r"<strong>([+−][\d.]+)</strong>", section)]
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == 25
    bars = [(float(a), float(b)) for a, b in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", section)]
    widest = max(abs(row["difference"]) for row in results["per_prompt"])
    for difference, (start, width) in zip(shown, bars, strict=True):
        assert width == pytest.approx(50 * abs(difference) / widest, abs=0.5)
        assert start == pytest.approx(50.0 if difference >= 0 else 50 - width, abs=0.5)


def test_both_rankings_of_an_example_stand_beside_the_truth(html: str) -> None:
    cards = html.split('<section id="examples">')[1].split('<div class="card"><h3>')[1:4]
    orders = [re.findall(r"<bdi>(\w+)</bdi>", card)[:6] for card in cards]
    assert [card.split("<")[0] for card in cards] == ["Truth", "Elo offset", "Reward model"]
    assert orders[0] == list(MODELS)
    assert orders[1] == [MODELS[-1], *MODELS[:-1]]
    assert orders[2] == [MODELS[1], MODELS[0], *MODELS[2:]]


def test_hostile_texts_stay_text_in_the_page() -> None:
    html = page.render_report(hostile_results())
    parsed = Page(html)
    assert "script" not in parsed.tags
    assert "<script>alert(1)</script>\ufffd[31m" in parsed.text
    assert "{{ 7*7 }}" in parsed.text  # a text is never a template
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    html.encode("utf-8")


def test_what_is_missing_is_a_dash_or_left_out() -> None:
    html = page.render_report({})
    sections = re.findall(r'<section id="([\w-]+)">', html)
    assert sections == ["verdict", "results", "hypotheses", "reproduce"]
    assert "None" not in Page(html).text
    bare = sample_results() | dict.fromkeys(
        ("label", "curves", "per_prompt", "examples", "ablation", "verdict", "judge_quality")
    )
    bare |= {"winner": "none", "versions": None, "training_history": None}
    html = page.render_report(bare)
    assert "No winner: these data cannot tell the two systems apart." in html
    assert 'class="loud"' not in html
    assert "None" not in Page(html).text


def test_the_report_is_written_as_utf8_and_is_the_same_every_time(results: Row, tmp_path: Path, html: str) -> None:
    page.write_report(results, tmp_path / "report.html")
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written == html
    assert len(written) < 500_000


def test_an_svg_follows_the_page() -> None:
    figure, axes = panel_figure()
    axes.plot([0, 1], color="#0072b2")
    svg = to_svg(figure, "x")
    assert svg.startswith("<svg viewBox=")
    assert svg.endswith("</svg>")
    assert "var(--elo)" in svg
    assert "xmlns" not in svg
