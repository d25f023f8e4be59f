"""What a run says in the console, from the results dict alone. ``plots.py`` draws it, ``page.py`` writes the page.

``*_lines`` are pure and return the text; ``print_*`` show it.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from report import words as wording
from report.words import BASELINES, CONTENDERS, METRICS, MISSING, SYSTEMS, dig, estimate, number, plain

Results = Mapping[str, Any]

WIDTH = 80
NARROW = 60
WINNERS = {"reward_model": "REWARD SYSTEM", "elo_offset": "ELO SYSTEM"}


# ── Console: while it runs ───────────────────────────────────────────────────────────────────────────────


def header_lines(persona: str, label: str = "") -> list[str]:
    """The head of a run. ``label`` names the backend, loudly where it is the embedded one."""
    backend = f" · backend: {plain(label)}" if label else ""
    rule = "=" * WIDTH
    return [rule, "STARTING PERSONALIZED LLM RANKING EXPERIMENT", f"Persona: {plain(persona)}{backend}", rule]


def generation_lines(persona: str) -> list[str]:
    """The head of the stages that make the data."""
    return _banner(f"GENERATING DATA FOR PERSONA: {plain(persona).upper()}")


def counts_lines(counts: Mapping[str, Any]) -> list[str]:
    """What there is once the data is made; ``counts`` as in the results."""
    figures = {key: number(value, 0) for key, value in counts.items()}
    return [
        "",
        "Data Generation Complete:" if "users" not in counts else f"Votes of {figures['users']} people:",
        f"- Prompts: {figures.get('prompts', MISSING)}",
        f"- Preferences: {figures.get('preferences', MISSING)} (of which ties: {figures.get('ties', MISSING)})",
        f"- Test prompts: {figures.get('test_prompts', MISSING)}",
        f"- Ground truth rankings: {figures.get('ground_truth_rankings', MISSING)}",
        "",
    ]


def training_lines(preferences: int, eval_freq: int) -> list[str]:
    """The head of training and evaluation."""
    head = _banner("TRAINING AND EVALUATION")
    return [*head, f"Training on {preferences} preferences...", f"Evaluating every {eval_freq} preferences...", ""]


def point_lines(index: int, first: int, last: int, elo_tau: float | None, reward_tau: float | None) -> list[str]:
    """One point of the learning curve: preferences ``first`` to ``last`` are new; ``last`` 0 is before any."""
    span = f"Processing preferences {first}-{last}..." if last > 0 else "Before any preference..."
    return [
        span,
        f"Evaluation {index}:",
        f"  Elo Kendall's Tau: {number(elo_tau, 4)}",
        f"  Reward Kendall's Tau: {number(reward_tau, 4)}",
    ]


def people_point_lines(results: Results) -> list[str]:
    """Every point of the learning curve of people's votes: in numbers of each person's own."""
    lines = []
    for index, row in enumerate(results.get("learning_curve") or ()):
        elo, reward = (number(dig(row, system, "ranking_accuracy"), 4) for system in CONTENDERS)
        used = number(row.get("preferences"), 0)
        lines += [
            f"With up to {used} own votes each..." if index else "Before any vote of one's own...",
            f"Evaluation {index}:",
            f"  Elo Ranking Accuracy: {elo}",
            f"  Reward Ranking Accuracy: {reward}",
        ]
    return lines


def _banner(title: str) -> list[str]:
    return ["=" * NARROW, title, "=" * NARROW]


# ── Console: results ─────────────────────────────────────────────────────────────────────────────────────


def final_lines(results: Results) -> list[str]:
    """The results: the documented split, the winner, and what the winner rests on."""
    blocks = [
        _banner("FINAL EXPERIMENT RESULTS"),
        _subject(results),
        _split_table(results),
        _verdict(results),
        _cross_validated_table(results),
        _systems_table(results, BASELINES, "Baselines, cross-validated"),
        [line for sentence in wording.personal_gains(results) for line in _wrapped(sentence)],
        _hypotheses(results),
        _said("Note", results.get("notes")) + _said("Warning", results.get("warnings")),
    ]
    return _apart(blocks)


def ablation_lines(results: Results) -> list[str]:
    """The table of ablations, cross-validated on the same folds; nothing where there was none."""
    rows = [(plain(row.get("name", MISSING)), row) for row in results.get("ablation") or ()]
    if not rows:
        return []
    return [*_banner("BASELINES AND ABLATIONS"), "", *_estimates_table("Cross-validated, mean [95 % interval]", rows)]


def personas_lines(all_results: Results) -> list[str]:
    """One row a persona: τ of both systems and the winner; then how alike their preferences are.

    ``all_results``: {"personas": {NAME: results}, "similarity": {NAME: {NAME: τ}}, "label"}.
    """
    table = [f"{'Persona':<18}{'Elo Offset τ':>21}{'Reward Model τ':>21}{'Winner':>20}", "-" * WIDTH]
    for name, results in (all_results.get("personas") or {}).items():
        cells = (_crossed(results, system, "kendall_tau") for system in CONTENDERS)
        winner = WINNERS.get(str(results.get("winner")), "none")
        table.append(f"{plain(name):<18}{next(cells):>21}{next(cells):>21}{winner:>20}")
    label = [f"Backend: {plain(all_results['label'])}"] if all_results.get("label") else []
    alike = _similarity_lines(all_results.get("similarity") or {})
    return _apart([_banner("ALL PERSONAS"), label, table, alike])


def _apart(blocks: Iterable[list[str]]) -> list[str]:
    """Blocks with one empty line between them, those without content left out."""
    joined = [line for block in blocks if block for line in [*block, ""]]
    return joined[:-1]


def _subject(results: Results) -> list[str]:
    models = results.get("models") or ()
    backend = [f"Backend: {plain(results['label'])}"] if results.get("label") else []
    names = ", ".join(plain(model.get("name")) for model in models)
    ratings = "; ".join(f"{plain(model.get('name'))} {wording.rating(model)}" for model in models)
    return [
        f"Persona: {plain(results.get('persona', MISSING))}",
        *backend,
        *_wrapped(f"Models: {names or MISSING}"),
        *(_wrapped(f"Global ratings: {ratings}") if models else []),
        f"Lambda (regularization): {wording.anything(dig(results, 'config', 'lambda_reg'))}",
    ]


def _split_table(results: Results) -> list[str]:
    lines = [f"{'Metric':<22}{'Elo Offset':>10}{'Reward Model':>15}{'Improvement':>13}", "-" * NARROW]
    for metric in METRICS:
        elo, reward = (number(dig(results, "final", system, metric), 4) for system in CONTENDERS)
        gain = number(wording.difference(results, metric), 4, signed=True)
        lines.append(f"{_ascii_title(metric):<22}{elo:>10}{reward:>15}{gain:>13}")
    return lines


def _ascii_title(metric: str) -> str:
    return metric.replace("_", " ").title()


def _verdict(results: Results) -> list[str]:
    return [
        _winner_line(results),
        *_wrapped(plain(dig(results, "verdict", "sentence") or ""), indent="  "),
        *_wrapped(wording.prompts_needed(results), indent="  "),
        *_said("Warning", dig(results, "verdict", "warnings")),
    ]


def _winner_line(results: Results) -> str:
    return f"Winner: {WINNERS.get(str(results.get('winner')), 'none')} ({wording.evidence(results)})"


def _cross_validated_table(results: Results) -> list[str]:
    folds = number(dig(results, "config", "folds"), 0)
    lines = [
        f"Cross-validated, every prompt a test prompt once ({folds} folds), mean [95 % interval]",
        f"{'Metric':<16}{'Elo Offset':>21}{'Reward Model':>21}{'Improvement':>22}",
        "-" * WIDTH,
    ]
    for metric in METRICS:
        elo, reward = (_crossed(results, system, metric) for system in CONTENDERS)
        gain = dig(results, "improvement", metric) or {}
        change = estimate(gain.get("difference"), gain.get("ci95"), signed=True)
        lines.append(f"{_ascii_title(metric):<16}{elo:>21}{reward:>21}{change:>22}")
    return lines


def _crossed(results: Results, system: str, metric: str) -> str:
    cell = dig(results, "cross_validated", system, metric) or {}
    return estimate(cell.get("mean"), cell.get("ci95"))


def _systems_table(results: Results, systems: Sequence[str], title: str) -> list[str]:
    crossed = results.get("cross_validated") or {}
    rows = [(SYSTEMS[system], crossed[system]) for system in systems if crossed.get(system)]
    return _estimates_table(f"{title}, mean [95 % interval]", rows) if rows else []


def _estimates_table(title: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    shown = ("kendall_tau", "ranking_accuracy")
    head = "".join(f"{_ascii_title(metric):>21}" for metric in shown)
    lines = [title, f"{'':<38}{head}", "-" * WIDTH]
    for name, cells in rows:
        figures = (estimate(dig(cells, metric, "mean"), dig(cells, metric, "ci95")) for metric in shown)
        lines.append(f"{name:<38}" + "".join(f"{figure:>21}" for figure in figures))
    return lines


def _hypotheses(results: Results) -> list[str]:
    lines = []
    for key, title in wording.HYPOTHESES.items():
        found = dig(results, "hypotheses", key) or {}
        because = wording.because(key, found)
        said = f"{title}: {plain(found.get('verdict') or 'not tested')}"
        lines += _wrapped(f"{said}. {because}" if because else said, hanging="  ")
    return lines


def _said(kind: str, sentences: Iterable[Any] | None) -> list[str]:
    return [line for sentence in sentences or () for line in _wrapped(f"{kind}: {plain(sentence)}", hanging="  ")]


def _similarity_lines(similarity: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not similarity:
        return []
    head = "".join(f"{plain(name)[:11]:>12}" for name in similarity)
    lines = ["How alike the preferences are (Kendall's τ on the same prompts)", f"{'':<18}{head}"]
    for name in similarity:
        cells = (number(dig(similarity, name, other), 2, signed=True) for other in similarity)
        lines.append(f"{plain(name):<18}" + "".join(f"{cell:>12}" for cell in cells))
    return lines


def _wrapped(text: str, *, indent: str = "", hanging: str | None = None) -> list[str]:
    """``text`` in lines of at most 80 characters; model names and figures are never broken."""
    following = indent if hanging is None else hanging
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )


# ── Printers ─────────────────────────────────────────────────────────────────────────────────────────────


def print_header(persona: str, label: str = "") -> None:
    _show(header_lines(persona, label))


def print_generation(persona: str) -> None:
    _show(generation_lines(persona))


def print_cached(stage: str, persona: str) -> None:
    """``stage`` (prompts, responses, preferences, …) was answered from the cache."""
    _show([f"Using cached {plain(stage)} for persona: {plain(persona)}"])


def print_counts(counts: Mapping[str, Any]) -> None:
    _show(counts_lines(counts))


def print_training(preferences: int, eval_freq: int) -> None:
    _show(training_lines(preferences, eval_freq))


def print_point(index: int, first: int, last: int, elo_tau: float | None, reward_tau: float | None) -> None:
    _show(point_lines(index, first, last, elo_tau, reward_tau))


def print_people_points(results: Results) -> None:
    _show(people_point_lines(results))


def print_final(results: Results) -> None:
    _show(["", *final_lines(results)])


def print_ablation(results: Results) -> None:
    if results.get("ablation"):
        _show(["", *ablation_lines(results)])


def print_personas(all_results: Results) -> None:
    _show(["", *personas_lines(all_results)])


def _show(lines: Iterable[str]) -> None:
    """To standard output; what its encoding cannot say (τ on an ASCII terminal) becomes "?"."""
    encoding = sys.stdout.encoding or "utf-8"
    print("\n".join(lines).encode(encoding, "replace").decode(encoding), flush=True)
