"""The console: lines of 80 columns while a run goes on and when it is done.

A default run says what data there is, how the systems did, and the answer. ``--log_level debug`` shows everything that
was measured, as the page does.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.text import plain
from report import answer, tables, words
from report.tables import AGAINST, NAMES, Table
from report.words import CONTENDERS, METRICS, SYSTEMS, Document

log = logging.getLogger("ranking.console")

WIDTH = 80
RULE = "-" * WIDTH
SHOWN_NAME = 20  # figures stand closer where a name of this length has no room beside them
SHOWN_POINTS = 12
ESTIMATED = "mean [95 % interval]"


# ── While it runs ────────────────────────────────────────────────────────────────────────────────────────


def print_header(name: str, label: str, notes: Sequence[str] = (), what: str = "Persona") -> None:
    """The head of a run: whose preferences, who answers and judges, and what is to be known before it begins."""
    who = f"{what}: {plain(name)} · backend: {plain(label)}"
    _show([_banner("PERSONALIZED LLM RANKING"), *_wrapped(who), *_notes(words.noted(notes)), RULE])


def print_counts(counts: Mapping[str, Any]) -> None:
    """The amount of data, once it is made; ``counts`` as in the results."""
    _show(_wrapped(f"Data: {words.data(counts)}"))


# ── Results ──────────────────────────────────────────────────────────────────────────────────────────────


def print_results(document: Document, told: Sequence[str] = ()) -> None:
    """How the systems did, then the models in order, and last the sentence that answers and what to do next.

    ``told``: notes that the head has said.
    """
    said, (what, command) = document["answer"], answer.ask(document)
    sentences = [plain(said["sentence"]), answer.next_step(document), plain(said["whose"])]
    _show_blocks(
        *_systems(document),
        *(_details(document) if log.isEnabledFor(logging.DEBUG) else ()),
        [
            _banner("WHICH MODEL IS BEST"),
            *_wrapped(words.judge(document)),
            *table(*tables.leaderboard(document)),
            "",
            *_wrapped(tables.remarks(document)),
        ],
        _wrapped(plain(answer.likes(document))),
        _notes(note for note in document["notes"] if note not in words.noted(told)),
        [RULE, *(line for sentence in sentences for line in _wrapped(sentence)), RULE],
        [*_wrapped(what), *filter(None, [plain(command)])],
    )


def _systems(document: Document) -> Iterable[Sequence[str]]:
    """The one table of systems, and what follows from it."""
    if not words.metrics(document):
        return _wrapped(document["verdict"]["sentence"]), _wrapped(words.missing(document))
    heads, rows = _brief(tables.systems(document))
    first = len(CONTENDERS)
    baselines = [["Baselines", *[""] * (len(heads) - 1)], *([f"  {name}", *cells] for name, *cells in rows[first:])]
    ablation = table(*_brief(tables.ablation(document)))
    verdicts = [f"Winner: {SYSTEMS.get(document['winner'], 'none')}. {words.evidence(document)}"]
    for title, ((_, verdict, why), (_, combined, _)) in words.hypotheses(document):
        said = f". {why}" if verdict == "not tested" else f"; combined system: {combined}"
        verdicts.append(f"{title}: {verdict}{said}")
    return (
        _points(document),
        [words.crossed(document), *table(heads, [*rows[:first], *baselines])],
        [line for verdict in verdicts for line in _wrapped(verdict, hanging="  ")],
        _notes(document["verdict"]["warnings"], "Warning"),
        [f"Ablations, {ESTIMATED}", *ablation] if ablation else [],
    )


def _points(document: Document) -> list[str]:
    """The learning curves on the documented split at a dozen points; none without ``--incremental``, for a system that
    is trained once was not trained there."""
    if document["curves"]["trained_once"]:
        return []
    points = document["learning_curve"]
    if len(points) > SHOWN_POINTS:
        points = [points[round(i * (len(points) - 1) / (SHOWN_POINTS - 1))] for i in range(SHOWN_POINTS)]
    metric = document["main_metric"]
    rows = [[f"{point['preferences']}", *(words.number(point[s][metric], 2) for s in CONTENDERS)] for point in points]
    used = "Own votes" if document["people"] else "Preferences"
    return [f"Learning curves: {METRICS[metric]}, {words.split(document)}", *table([used, *NAMES], rows)]


def _details(document: Document) -> Iterable[Sequence[str]]:
    """All that the page folds away."""
    methods = tables.methods(document)
    rated = [f"{plain(model['name'])} {words.rating(model)}" for model in document["models"]]
    sentences = [
        f"Models and global ratings: {'; '.join(rated)}",
        document["verdict"]["sentence"],
        words.prompts_needed(document),
        words.recommended(document),
        words.ceiling(document),
        *words.personal_gains(document),
        *(
            f"{title}, {system}: {verdict}. {why}"
            for title, rows in words.hypotheses(document)
            for system, verdict, why in rows
        ),
    ]
    return (
        [_banner("DETAILS"), *(line for sentence in sentences for line in _wrapped(sentence, hanging="  "))],
        table(*methods.take("Metric", *NAMES)),
        table(*methods.take("Metric", *AGAINST.values())),
        [f"The documented split alone: {words.split(document)}", *table(*tables.split(document))],
        table(["The judge", ""], tables.judge(document).rows),
    )


def print_personas(together: Document) -> None:
    """The methods over all personas, and last which model is best for whom; ``together`` as in the results of all."""
    sentences = []
    for name, document in together["personas"].items():
        said = f"{plain(name)}: {plain(document['answer']['sentence'])} {answer.next_step(document)}"
        sentences += _wrapped(said, hanging="  ")
    _show_blocks(
        [
            _banner("ALL PERSONAS"),
            f"Kendall's τ, cross-validated, {ESTIMATED}",
            *table(*tables.methods_by_persona(together)),
        ],
        _wrapped(words.pooled(together)),
        [_banner("WHICH MODEL IS BEST FOR WHOM"), "Comparisons won", *table(*tables.wins_by_persona(together))],
        [answer.MARK],
        [RULE, *sentences, *_wrapped(answer.played(together)), RULE],
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
    first, *widths = (max(map(len, column)) for column in zip(heads, *rows, strict=True))
    gap = 2 if min(first, SHOWN_NAME) + sum(width + 2 for width in widths) <= WIDTH else 1
    room = max(len(heads[0]), min(first, WIDTH - sum(width + gap for width in widths)))
    lines = []
    for name, *cells in (heads, *rows):
        figures = "".join(f"{cell:>{gap + width}}" for cell, width in zip(cells, widths, strict=True))
        line = f"{name:<{room}}{figures}".rstrip()
        lines += [line] if len(name) <= room else [name, f"{'':{room}}{figures}".rstrip()]
    return [lines[0], RULE, *lines[1:]]


def _brief(content: Table) -> Table:
    """Its names, τ and accuracy alone."""
    return content.take(content.heads[0], METRICS["kendall_tau"], METRICS["ranking_accuracy"])


def _banner(title: str) -> str:
    return f"== {title} {'=' * WIDTH}"[:WIDTH]


def _notes(sentences: Iterable[str], kind: str = "Note") -> list[str]:
    return [line for sentence in sentences for line in _wrapped(f"{kind}: {plain(sentence)}", hanging="  ")]


def _wrapped(text: str, *, hanging: str = "") -> list[str]:
    """``text`` in lines of at most 80 characters; model names and figures are never broken."""
    whole = text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(whole, WIDTH, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _show_blocks(*blocks: Sequence[str]) -> None:
    """Blocks with an empty line before each, those without content left out."""
    lines = [line for block in blocks if block for line in ("", *block)]
    if lines:
        _show(lines)


def _show(lines: Iterable[str]) -> None:
    print("\n".join(lines), flush=True)
