"""The console: what data there is, how the systems did, and the answer, in lines of 80 columns.

``--log_level debug`` shows the evidence for each verdict too; all else is on the page.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.text import WIDTH, plain, width, wrapped
from report import tables, words
from report.words import CONTENDERS, SYSTEMS, Document

log = logging.getLogger("ranking.console")

RULE = "-" * WIDTH
SHOWN_NAME = 20  # figures stand closer where a name of this length has no room beside them
BRIEF = ("kendall_tau", "ranking_accuracy")
ESTIMATED = "mean [95 % interval]"


def print_header(name: str, label: str, notes: Sequence[str] = (), what: str = "Persona") -> None:
    """The head of a run: whose preferences, who answers and judges, and what is to be known before it begins."""
    who = f"{what}: {plain(name)} · backend: {plain(label)}"
    _show([_banner("PERSONALIZED LLM RANKING"), *wrapped(who), *_notes(words.noted(notes)), RULE])


def print_counts(counts: Mapping[str, Any]) -> None:
    """The amount of data, once it is made; ``counts`` as in the results."""
    _show(wrapped(f"Data: {words.data(counts)}"))


def print_results(document: Document, told: Sequence[str] = ()) -> None:
    """How the systems did, then the models in order, and last the sentence that answers and what to do next.

    ``told``: notes that the head has said.
    """
    said, (what, command) = document["answer"], words.ask(document)
    trust = document["judge_quality"].get("sentence") or ""
    sentences = [plain(said["sentence"]), words.next_step(document), plain(said["whose"])]
    _show_blocks(
        *_systems(document),
        *(_details(document) if log.isEnabledFor(logging.DEBUG) else ()),
        [_banner("WHICH MODEL IS BEST"), *wrapped(trust), *table(*tables.leaderboard(document))],
        wrapped(tables.remarks(document)),
        wrapped(plain(words.likes(document))),
        _notes(note for note in document["notes"] if note not in words.noted(told)),
        [RULE, *(line for sentence in sentences for line in wrapped(sentence)), RULE],
        [*wrapped(what), *filter(None, [plain(command)])],
    )


def _systems(document: Document) -> Iterable[Sequence[str]]:
    """The one table of systems, and what follows from it."""
    if not words.metrics(document):
        return [wrapped(document["verdict"]["sentence"])]
    heads, rows = tables.systems(document, BRIEF)
    first = len(CONTENDERS)
    baselines = [["Baselines", *[""] * (len(heads) - 1)], *([f"  {name}", *cells] for name, *cells in rows[first:])]
    variants = table(*tables.ablation(document))
    verdicts = [f"Winner: {SYSTEMS.get(document['winner'], 'none')}. {words.evidence(document)}"]
    for title, ((_, verdict, why), (_, combined, _)) in words.hypotheses(document):
        said = f". {why}" if verdict == "not tested" else f"; combined system: {combined}"
        verdicts.append(f"{title}: {verdict}{said}")
    crossed = f"Systems on prompts not trained on ({document['config']['folds']} folds): {ESTIMATED}"
    return (
        [crossed, *table(heads, [*rows[:first], *baselines])],
        _hanging(verdicts),
        _notes(document["verdict"]["warnings"], "Warning"),
        [f"Ablations, {ESTIMATED}", *variants] if variants else [],
    )


def _details(document: Document) -> Iterable[Sequence[str]]:
    """The evidence that the page folds away."""
    sentences = [document["verdict"]["sentence"], words.recommended(document)]
    for title, rows in words.hypotheses(document):
        sentences += [f"{title}, {system}: {verdict}. {why}" for system, verdict, why in rows]
    found = (table(*tables.differences(document)), table(*tables.judge(document)))
    return [_banner("DETAILS"), *_hanging(sentences)], *found


def print_personas(together: Document) -> None:
    """The methods over all personas, and last which model is best for whom; ``together`` as in the results of all."""
    sentences = [
        f"{plain(name)}: {plain(document['answer']['sentence'])} {words.next_step(document)}"
        for name, document in together["personas"].items()
    ]
    methods = table(*tables.methods_by_persona(together))
    _show_blocks(
        [_banner("ALL PERSONAS"), f"Kendall's τ, cross-validated, {ESTIMATED}", *methods],
        wrapped(words.pooled(together)),
        [_banner("WHICH MODEL IS BEST FOR WHOM"), "Comparisons won", *table(*tables.wins_by_persona(together))],
        [words.MARK],
        [RULE, *_hanging(sentences), *wrapped(words.played(together)), RULE],
    )


def print_files(paths: Sequence[Path]) -> None:
    """The files of a run, and last the page to open."""
    *others, page = paths
    names = ", ".join(path.name for path in others)
    _show(["", *_hanging([f"Written to {page.parent}: {names}"]), f"Open {page}"])


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
        figures = "".join(" " * (gap + most - width(cell)) + cell for cell, most in zip(cells, widths, strict=True))
        line = f"{name}{' ' * (room - width(name))}{figures}".rstrip()
        lines += [line] if width(name) <= room else [name, f"{'':{room}}{figures}".rstrip()]
    return [lines[0], RULE, *lines[1:]]


def _banner(title: str) -> str:
    return f"== {title} {'=' * WIDTH}"[:WIDTH]


def _notes(sentences: Iterable[str], kind: str = "Note") -> list[str]:
    return _hanging(f"{kind}: {plain(sentence)}" for sentence in sentences)


def _hanging(sentences: Iterable[str]) -> list[str]:
    return [line for sentence in sentences for line in wrapped(sentence, hanging="  ")]


def _show_blocks(*blocks: Sequence[str]) -> None:
    """Blocks with an empty line before each, those without content left out."""
    _show(line for block in blocks if block for line in ("", *block))


def _show(lines: Iterable[str]) -> None:
    print("\n".join(lines), flush=True)
