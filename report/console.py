"""The console: lines of 80 columns while a run goes on and when it is done."""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.text import padded, plain, width
from report import answer, tables, words
from report.tables import AGAINST, IMPROVEMENT
from report.words import CONTENDERS, METRICS, SYSTEMS, Document, number

log = logging.getLogger("ranking.console")

WIDTH = 80
RULE = "-" * WIDTH
SHOWN_NAME = 20  # figures stand closer where a name of this length has no room beside them
SHOWN_POINTS = 12
SHOWN_MODELS = 12
WINNERS = {"reward_model": "REWARD SYSTEM", "elo_offset": "ELO SYSTEM", "none": "none"}
ELO, REWARD, COMBINED = (SYSTEMS[system] for system in CONTENDERS)
IN_ASCII = str.maketrans({"\N{MINUS SIGN}": "-", "–": "-", "τ": "tau", "ρ": "rho", "“": '"', "”": '"', "·": "-"})


# ── While it runs ────────────────────────────────────────────────────────────────────────────────────────


def print_header(name: str, label: str, notes: Sequence[str] = (), what: str = "Persona") -> None:
    """The head of a run: whose preferences, who answers and judges, and what is to be known before it begins."""
    rule = "=" * WIDTH
    who = _wrapped(f"{what}: {plain(name)} · backend: {plain(label)}")
    _show([rule, "STARTING PERSONALIZED LLM RANKING EXPERIMENT", *who, rule, *_notes(words.noted(notes))])


def print_generation(persona: str) -> None:
    """The head of the stages that make the data."""
    _show(_banner(f"GENERATING DATA FOR PERSONA: {plain(persona).upper()}"))


def print_counts(counts: Mapping[str, Any]) -> None:
    """The amount of data, once it is made; ``counts`` as in the results."""
    voted, left = "users" in counts, words.left_out(counts)
    trains = "Votes that train" if voted else "Preferences"
    lines = [f"- Votes: {counts['votes']} ({counts['decided_votes']} decided)"] if voted else []
    lines += [
        f"- Prompts: {counts['prompts']}",
        f"- {trains}: {counts['preferences']} (of which ties: {counts['ties']})",
        f"- Test prompts: {counts['test_prompts']}",
        f"- Ground truth rankings: {counts['ground_truth_rankings']}",
        *([f"- Left out, without a usable answer: {left}"] if left else []),
    ]
    _show(["", f"Votes of {words.people(counts['users'])}:" if voted else "Data Generation Complete:", *lines, ""])


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
        title, first = "Ranking Accuracy", 0
        heads = ["Before any vote of one's own...", *(f"With up to {last} own votes each..." for last in uses[1:])]
    else:
        title, first = "Kendall's Tau", 1
        heads = [f"Processing preferences {before + 1}-{last}..." for before, last in pairwise(uses)]
    points = list(enumerate(heads, first))
    if len(points) > SHOWN_POINTS and not log.isEnabledFor(logging.DEBUG):
        points = [points[round(i * (len(points) - 1) / (SHOWN_POINTS - 1))] for i in range(SHOWN_POINTS)]
    for index, head in points:
        values = (number(rows[index][system][metric], 2) for system in CONTENDERS)
        named = zip(("Elo", "Reward", "Combined"), values, strict=True)
        _show([head, f"Evaluation {index}:", *(f"  {name} {title}: {value}" for name, value in named)])


# ── Results ──────────────────────────────────────────────────────────────────────────────────────────────


def print_final(document: Document, told: Sequence[str] = ()) -> None:
    """The results: the winner, what it rests on, and the documented split. ``told``: notes that the head has said."""
    models = [f"{plain(model['name'])} {words.rating(model)}" for model in document["models"]]
    if len(models) > SHOWN_MODELS:
        half = SHOWN_MODELS // 2
        models = [*models[:half], f"… ({len(models) - 2 * half} more) …", *models[-half:]]
    subject = [
        *_wrapped(f"{'Votes' if document['people'] else 'Persona'}: {plain(document['persona'])}"),
        *_wrapped(f"Models and global ratings: {'; '.join(models)}"),
        f"Lambda (regularization): {words.anything(document['config']['lambda_reg'])}",
    ]
    verdict = [
        *_wrapped(f"Method Winner: {WINNERS[document['winner']]} ({words.evidence(document)})", hanging="  "),
        *_wrapped(document["verdict"]["sentence"], indent="  "),
        *_wrapped(words.prompts_needed(document), indent="  "),
        *_wrapped(words.recommended(document), hanging="  "),
        *_notes(document["verdict"]["warnings"], "Warning"),
    ]
    _show_blocks(_banner("FINAL EXPERIMENT RESULTS"), subject, verdict)
    if words.metrics(document):
        _show_blocks(*_measured(document))
    notes = [note for note in document["notes"] if note not in words.noted(told)]
    _show_blocks(_wrapped(words.missing(document)), _notes(notes))


def _measured(document: Document) -> list[list[str]]:
    """The blocks of tables and sentences that measure the methods."""
    methods, split, baselines = tables.methods(document), tables.split(document), tables.systems(document)
    contenders = {SYSTEMS[system] for system in CONTENDERS}
    baselines.rows[:] = [row for row in baselines.rows if row[0] not in contenders]
    head = (
        f"Cross-validated, every prompt a test prompt once ({document['config']['folds']} folds), mean [95 % interval]"
    )
    alone = f"On the documented split alone ({words.split(document)}; the cross-validation above tells more)"
    hypotheses = [f"{title}: {verdict}. {why}" for title, verdict, why in words.hypotheses(document)]
    return [
        [*_wrapped(head), *table(*methods.take("Metric", ELO, REWARD, IMPROVEMENT))],
        table(*methods.take("Metric", COMBINED, *AGAINST.values())),
        _wrapped(words.ceiling(document)),
        ["Baselines, cross-validated, mean [95 % interval]", *table(*_brief(baselines))],
        [line for sentence in words.personal_gains(document) for line in _wrapped(sentence)],
        [line for sentence in hypotheses for line in _wrapped(sentence, hanging="  ")],
        [*_wrapped(alone), *table(*split)],
    ]


def print_ablation(document: Document) -> None:
    """The table of ablations, cross-validated on the same folds; nothing where there was none."""
    if document["ablation"]:
        lines = table(*_brief(tables.ablation(document)))
        _show_blocks(_banner("BASELINES AND ABLATIONS"), ["Cross-validated, mean [95 % interval]", *lines])


def print_answer(document: Document) -> None:
    """The answer: the models in order, traits that are liked, the sentence, and last the next thing to do."""
    said = document["answer"]
    caveat = f"Backend: {plain(document['label'])}." if document["backend"] == "embedded" else ""
    what, command = answer.ask(document)
    sentences = [plain(said["sentence"]), answer.next_step(document), plain(said["whose"]), caveat]
    _show_blocks(
        _banner("WHICH MODEL IS BEST"),
        _wrapped(words.judge(document)),
        [*table(*tables.leaderboard(document)), "", *_wrapped(tables.remarks(document))],
        _wrapped(plain(answer.likes(document))),
        [RULE, *(line for sentence in sentences for line in _wrapped(sentence)), RULE],
        [*_wrapped(what), *filter(None, [plain(command)])],
    )


def print_personas(together: Document) -> None:
    """The methods over all personas, and last which model is best for whom; ``together`` as in the results of all."""
    methods = tables.methods_by_persona(together)
    sentences = []
    for name, document in together["personas"].items():
        said = f"{plain(name)}: {plain(document['answer']['sentence'])} {answer.next_step(document)}"
        sentences += _wrapped(said, hanging="  ")
    sentences += _wrapped(answer.played(together)) + _wrapped(f"Backend: {plain(together['label'])}.")
    _show_blocks(
        _banner("ALL PERSONAS"),
        ["Kendall's τ, cross-validated, mean [95 % interval]", *table(*methods.take("Persona", ELO, REWARD, "Winner"))],
        _wrapped(words.pooled(together)),
        table(*methods.take("Persona", COMBINED, *AGAINST.values())),
        _banner("WHICH MODEL IS BEST FOR WHOM"),
        ["Comparisons won", *table(*tables.wins_by_persona(together)), "", answer.MARK],
        [RULE, *sentences, RULE],
    )


def print_files(paths: Sequence[Path]) -> None:
    """The files of a run, and last the page to open."""
    *others, page = paths
    names = ", ".join(path.name for path in others)
    _show(["", *_wrapped(f"Written to {page.parent}: {names}", hanging="  "), f"Open {page}"])


# ── Lines ────────────────────────────────────────────────────────────────────────────────────────────────


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Names to the left, figures to the right, 80 columns wide at most. A name that leaves the figures too little room
    stands on a line of its own."""
    if not rows:
        return []
    first, *widths = (max(map(width, column)) for column in zip(heads, *rows, strict=True))
    gap = 2 if min(first, SHOWN_NAME) + sum(columns + 2 for columns in widths) <= WIDTH else 1
    room = max(len(heads[0]), min(first, WIDTH - sum(columns + gap for columns in widths)))
    lines = []
    for name, *cells in (heads, *rows):
        figures = "".join(padded(cell, gap + most, right=True) for cell, most in zip(cells, widths, strict=True))
        line = f"{padded(name, room)}{figures}".rstrip()
        lines += [line] if width(name) <= room else [name, f"{'':{room}}{figures}".rstrip()]
    return [lines[0], RULE, *lines[1:]]


def _brief(table: tables.Table) -> tables.Table:
    """Its names, τ and accuracy alone."""
    return table.take(table.heads[0], METRICS["kendall_tau"], METRICS["ranking_accuracy"])


def _banner(title: str) -> list[str]:
    rule = "=" * 60
    return [rule, title, rule]


def _notes(sentences: Iterable[str], kind: str = "Note") -> list[str]:
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
    lines = [line for block in blocks if block for line in ("", *block)]
    if lines:
        _show(lines)


def _show(lines: Iterable[str]) -> None:
    """To standard output; signs that its encoding lacks are spelled in ASCII, other characters become "?"."""
    encoding, text = sys.stdout.encoding or "utf-8", "\n".join(lines)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(IN_ASCII).encode(encoding, "replace").decode(encoding)
    print(text, flush=True)
