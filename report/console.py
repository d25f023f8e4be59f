"""What a run says in the console. ``plots.py`` draws it, ``page.py`` writes the page."""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.text import plain
from report import answer, words
from report.words import BASELINES, CONTENDERS, SYSTEMS, Document, estimate, number

log = logging.getLogger("ranking.console")

WIDTH = 80
NARROW = 60
INDENT = 3  # for a place before a model's name
RULE, NARROW_RULE = "-" * WIDTH, "-" * NARROW
SHOWN_POINTS = 12
SHORT = {"elo_offset": "Elo", "reward_model": "Reward"}
WINNERS = {"reward_model": "REWARD SYSTEM", "elo_offset": "ELO SYSTEM", "none": "none"}


# ── While it runs ────────────────────────────────────────────────────────────────────────────────────────


def print_header(name: str, label: str, notes: Sequence[str] = (), what: str = "Persona") -> None:
    """The head of a run: whose preferences, who answers and judges, and what is to be known before it begins."""
    rule = "=" * WIDTH
    title = "STARTING PERSONALIZED LLM RANKING EXPERIMENT"
    who = _wrapped(f"{what}: {plain(name)} · backend: {plain(label)}")
    _show([rule, title, *who, rule, *_said("Note", words.noted(notes))])


def print_generation(persona: str) -> None:
    """The head of the stages that make the data."""
    _show(_banner(f"GENERATING DATA FOR PERSONA: {plain(persona).upper()}"))


def print_counts(counts: Mapping[str, Any]) -> None:
    """How much of everything there is once the data is made; ``counts`` as in the results."""
    voted = "users" in counts
    what = "Votes that train" if voted else "Preferences"
    given = f"- Votes: {counts['votes']} ({counts['decided_votes']} decided)" if voted else ""
    _show(
        [
            "",
            f"Votes of {words.people(counts['users'])}:" if voted else "Data Generation Complete:",
            *filter(None, [given]),
            f"- Prompts: {counts['prompts']}",
            f"- {what}: {counts['preferences']} (of which ties: {counts['ties']})",
            f"- Test prompts: {counts['test_prompts']}",
            f"- Ground truth rankings: {counts['ground_truth_rankings']}",
            *(f"- Left out, without a usable answer: {left}" for left in filter(None, [words.left_out(counts)])),
            "",
        ]
    )


def print_training(preferences: int, eval_freq: int) -> None:
    """The head of training and evaluation."""
    head = _banner("TRAINING AND EVALUATION")
    _show([*head, f"Training on {preferences} preferences...", f"Evaluating every {eval_freq} preferences...", ""])


def print_points(document: Document) -> None:
    """Points of the learning curve on the documented split, a persona's from the first preferences on.

    A dozen of them, all with ``--log_level debug``, and none without ``--incremental``: a system that is trained once
    was not trained there.
    """
    if document["curves"]["trained_once"]:
        return
    metric, rows = document["main_metric"], document["learning_curve"]
    uses = [row["preferences"] for row in rows]
    if document["people"]:
        first, title = 0, "Ranking Accuracy"
        spans = ["Before any vote of one's own...", *(f"With up to {last} own votes each..." for last in uses[1:])]
    else:
        first, title = 1, "Kendall's Tau"
        spans = ["", *(f"Processing preferences {before + 1}-{last}..." for before, last in pairwise(uses))]
    for index in _chosen(first, len(rows)):
        values = [
            f"  {SHORT.get(system, SYSTEMS[system])} {title}: {number(rows[index][system][metric], 2)}"
            for system in CONTENDERS
        ]
        _show([spans[index], f"Evaluation {index}:", *values])


def _chosen(first: int, end: int) -> list[int]:
    """The points that are shown, evenly spread, the first and the last among them."""
    count = end - first
    if count <= SHOWN_POINTS or log.isEnabledFor(logging.DEBUG):
        return list(range(first, end))
    return [first + round(i * (count - 1) / (SHOWN_POINTS - 1)) for i in range(SHOWN_POINTS)]


# ── Results ──────────────────────────────────────────────────────────────────────────────────────────────


def print_final(document: Document, told: Sequence[str] = ()) -> None:
    """The results: the winner, what it rests on, and the documented split. ``told``: notes that the head has said."""
    crossed = document["cross_validated"]
    baselines = [(SYSTEMS[system], crossed[system]) for system in words.systems(document) if system in BASELINES]
    measured = [
        _cross_validated_table(document),
        _combined_table(document),
        _wrapped(words.ceiling(document)),
        _estimates_table("Baselines, cross-validated, mean [95 % interval]", baselines, words.metrics(document)),
        [line for sentence in words.personal_gains(document) for line in _wrapped(sentence)],
        _hypotheses(document),
        _split_table(document),
    ]
    _show_blocks(
        _banner("FINAL EXPERIMENT RESULTS"),
        _subject(document),
        _verdict(document),
        *(measured if words.metrics(document) else []),
        _wrapped(words.missing(document)),
        _said("Note", [note for note in document["notes"] if note not in words.noted(told)]),
    )


def print_answer(document: Document) -> None:
    """Which model is best: the models in order, what is liked, the sentence, and last what to do next."""
    said = document["answer"]
    caveat = f"Backend: {plain(document['label'])}." if document["backend"] == "embedded" else ""
    what, command = answer.ask(document)
    sentences = [plain(said["sentence"]), answer.next_step(document), plain(said["whose"]), caveat]
    _show_blocks(
        _banner("WHICH MODEL IS BEST"),
        _leaderboard(document),
        _wrapped(plain(answer.likes(document))),
        [RULE, *(line for sentence in sentences for line in _wrapped(sentence)), RULE],
        [*_wrapped(what), *filter(None, [plain(command)])],
    )


def print_files(paths: Sequence[Path]) -> None:
    """Where the files of a run lie, and last the page to open."""
    *others, page = paths
    names = ", ".join(path.name for path in others)
    _show(["", *_wrapped(f"Written to {page.parent}: {names}", hanging="  "), f"Open {page}"])


def _leaderboard(document: Document) -> list[str]:
    """The models in order. A name that leaves the figures too little room stands on a line of its own."""
    columns = answer.columns(document)
    widths = {head: 2 + max(map(len, [head, *cells])) for head, cells in columns.items() if head != "Model"}
    room = WIDTH - INDENT - sum(widths.values())
    names = columns["Model"]
    width = max(5, min(room, max(map(len, names), default=0)))
    lines = [f"{'':{INDENT}}{'Model':<{width}}" + "".join(f"{head:>{size}}" for head, size in widths.items()), RULE]
    for index, name in enumerate(names):
        figures = "".join(f"{columns[head][index]:>{size}}" for head, size in widths.items())
        start = f"{document['leaderboard'][index]['place']:>2} "
        lines += (
            [f"{start}{name:<{width}}{figures}"]
            if len(name) <= width
            else [start + name, f"{'':{width + INDENT}}{figures}"]
        )
    return [*lines, "", *_wrapped(answer.remarks(document))]


def print_ablation(document: Document) -> None:
    """The table of ablations, cross-validated on the same folds; nothing where there was none."""
    if document["ablation"]:
        rows = [(plain(row["name"]), row) for row in document["ablation"]]
        table = _estimates_table("Cross-validated, mean [95 % interval]", rows, words.metrics(document))
        _show_blocks(_banner("BASELINES AND ABLATIONS"), table)


def print_personas(together: Document) -> None:
    """The methods over all personas, how alike their preferences are, and last which model is best for whom.

    ``together``: {"personas": {NAME: document}, "similarity": {NAME: {NAME: τ}}, "pooled", "label"}.
    """
    table = [f"{'Persona':<18}{'Elo Offset τ':>21}{'Reward Model τ':>21}{'Method Winner':>20}", RULE]
    combined = [f"{'':<17}{'Combined τ':>21}{'− Elo Offset':>21}{'− Reward Model':>21}", RULE]
    pooled = together["pooled"]
    for name, document in [*together["personas"].items(), (f"all {pooled['prompts']} prompts", pooled)]:
        elo, reward, both = (_crossed(document, system, "kendall_tau") for system in CONTENDERS)
        table.append(f"{plain(name):<18}{elo:>21}{reward:>21}{WINNERS[document['winner']]:>20}")
        combined.append(f"{plain(name):<17}{both:>21}" + _comparisons(document, "kendall_tau", (21, 21)))
    together_better = _wrapped(words.pooled(together))
    similarity = together.get("similarity", {})
    head = _heads(similarity)
    alike = ["How alike the preferences are (Kendall's τ on the same prompts)", f"{'':<18}{head}"]
    for name, others in similarity.items():
        cells = "".join(f"{number(others[other], 2, signed=True):>12}" for other in similarity)
        alike.append(f"{plain(name):<18}{cells}")
    best, models = answer.by_persona(together), answer.models_of(together)
    rates = [f"{'Comparisons won':<18}{_heads(best)}", RULE]
    for model in models:
        rates += [f"{plain(model)}"] if len(plain(model)) > 18 else []
        start = "" if len(plain(model)) > 18 else plain(model)
        rates.append(f"{start:<18}" + "".join(f"{cells[model]:>12}" for cells in best.values()))
    sentences = [
        line
        for name, document in together["personas"].items()
        for line in _wrapped(
            f"{plain(name)}: {plain(document['answer']['sentence'])} {answer.next_step(document)}", hanging="  "
        )
    ]
    sentences += _wrapped(answer.played(together)) + _wrapped(f"Backend: {plain(together['label'])}.")
    _show_blocks(_banner("ALL PERSONAS"), table, together_better, combined, alike)
    _show_blocks(_banner("WHICH MODEL IS BEST FOR WHOM"), [*rates, "", answer.MARK], [RULE, *sentences, RULE])


def _heads(names: Iterable[str]) -> str:
    """Names above columns of 12, cut visibly."""
    shown = (plain(name) for name in names)
    return "".join(f"{name if len(name) < 12 else f'{name[:10]}…':>12}" for name in shown)


def _subject(document: Document) -> list[str]:
    models = document["models"]
    names = ", ".join(shortened([plain(model["name"]) for model in models]))
    ratings = "; ".join(shortened([f"{plain(model['name'])} {words.rating(model)}" for model in models]))
    return [
        f"{'Votes' if document['people'] else 'Persona'}: {plain(document['persona'])}",
        *_wrapped(f"Backend: {plain(document['label'])}"),
        *_wrapped(f"Models: {names}"),
        *_wrapped(f"Global ratings: {ratings}"),
        f"Lambda (regularization): {words.anything(document['config']['lambda_reg'])}",
    ]


def _split_table(document: Document) -> list[str]:
    lines = _wrapped(f"On the documented split alone ({words.split(document)}; the cross-validation above tells more)")
    lines += [f"{'Metric':<22}{'Elo Offset':>10}{'Reward Model':>15}{'Improvement':>13}{'Combined':>12}", RULE]
    for metric in words.metrics(document):
        elo, reward, both = (number(document["final"][system][metric], 2) for system in CONTENDERS)
        gain = number(words.split_difference(document, metric), 2, signed=True)
        lines.append(f"{_title(metric):<22}{elo:>10}{reward:>15}{gain:>13}{both:>12}")
    return lines


def _verdict(document: Document) -> list[str]:
    return [
        *_wrapped(f"Method Winner: {WINNERS[document['winner']]} ({words.evidence(document)})", hanging="  "),
        *_wrapped(document["verdict"]["sentence"], indent="  "),
        *_wrapped(words.prompts_needed(document), indent="  "),
        *_wrapped(words.recommended(document), hanging="  "),
        *_said("Warning", document["verdict"]["warnings"]),
    ]


def _cross_validated_table(document: Document) -> list[str]:
    folds = document["config"]["folds"]
    lines = [
        f"Cross-validated, every prompt a test prompt once ({folds} folds), mean [95 % interval]",
        f"{'Metric':<16}{'Elo Offset':>21}{'Reward Model':>21}{'Improvement':>22}",
        RULE,
    ]
    for metric in words.metrics(document):
        elo, reward, _ = (_crossed(document, system, metric) for system in CONTENDERS)
        gain = document["improvement"][metric]
        change = estimate(gain["difference"], gain["ci95"], signed=True)
        lines.append(f"{_title(metric):<16}{elo:>21}{reward:>21}{change:>22}")
    return lines


def _combined_table(document: Document) -> list[str]:
    lines = [f"{'Metric':<16}{'Combined':>21}{'− Elo Offset':>22}{'− Reward Model':>21}", RULE]
    for metric in words.metrics(document):
        both = _crossed(document, "combined", metric)
        lines.append(f"{_title(metric):<16}{both:>21}" + _comparisons(document, metric, (22, 21)))
    return lines


def _comparisons(document: Document, metric: str, widths: tuple[int, int]) -> str:
    """System C minus each of the two others, in cells of these widths."""
    gains = [document["comparisons"][f"combined-{rival}"][metric] for rival in ("elo_offset", "reward_model")]
    cells = [estimate(gain["difference"], gain["ci95"], signed=True) for gain in gains]
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _crossed(document: Document, system: str, metric: str) -> str:
    cell = document["cross_validated"][system][metric]
    return estimate(cell["mean"], cell["ci95"])


def _estimates_table(title: str, rows: Sequence[tuple[str, Mapping[str, Any]]], known: Sequence[str]) -> list[str]:
    shown = [metric for metric in ("kendall_tau", "ranking_accuracy") if metric in known]
    lines = [title, f"{'':<38}" + "".join(f"{_title(metric):>21}" for metric in shown), RULE]
    for name, cells in rows:
        figures = (estimate(cells[metric]["mean"], cells[metric]["ci95"]) for metric in shown)
        lines.append(f"{name:<38}" + "".join(f"{figure:>21}" for figure in figures))
    return lines


def _hypotheses(document: Document) -> list[str]:
    said = (f"{title}: {verdict}. {why}" for title, verdict, why in words.hypotheses(document))
    return [line for sentence in said for line in _wrapped(sentence, hanging="  ")]


# ── Lines ────────────────────────────────────────────────────────────────────────────────────────────────


def _banner(title: str) -> list[str]:
    rule = "=" * NARROW
    return [rule, title, rule]


def _title(metric: str) -> str:
    return metric.replace("_", " ").title()


def shortened(items: Sequence[str], most: int = 12) -> list[str]:
    """The top and the bottom of a long list, how many are left out between them."""
    half = most // 2
    if len(items) <= most:
        return list(items)
    return [*items[:half], f"… ({len(items) - 2 * half} more) …", *items[-half:]]


def _said(kind: str, sentences: Iterable[str]) -> list[str]:
    return [line for sentence in sentences for line in _wrapped(f"{kind}: {plain(sentence)}", hanging="  ")]


def _wrapped(text: str, *, indent: str = "", hanging: str = "") -> list[str]:
    """``text`` in lines of at most 80 characters; model names and figures are never broken."""
    following = hanging or indent
    whole = text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(
        whole, WIDTH, initial_indent=indent, subsequent_indent=following, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _show_blocks(*blocks: Sequence[str]) -> None:
    """Blocks with an empty line before each, those without content left out."""
    _show(line for block in blocks if block for line in ["", *block])


def _show(lines: Iterable[str]) -> None:
    """To standard output; what its encoding cannot say (τ on an ASCII terminal) becomes "?", a minus sign a hyphen."""
    encoding, text = sys.stdout.encoding or "utf-8", "\n".join(lines)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.replace("\N{MINUS SIGN}", "-").encode(encoding, "replace").decode(encoding)
    print(text, flush=True)
