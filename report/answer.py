"""The answer in words: which model is best, how sure, what is liked, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.findings import Findings
from report.words import MISSING, Document, interval, is_number, number, plain

FAR = 10_000  # nobody judges so many more prompts
Row = Mapping[str, Any]


def sentence(findings: Findings) -> str:
    """Which model is best, in one sentence."""
    found = findings.answer
    whose = "your" if findings.counts.get("users", 1) == 1 else "these people's"
    if found.best is None:
        more = _more(found.more_prompts)
        return f"Nothing is known yet: no model is surely better than another{f'; {more}' if more else ''}."
    first = [found.best, *found.tied_with]
    rates = {row["model"]: row for row in found.leaderboard}
    if len(first) == 1:
        wins = share(rates[found.best]["win_rate"]["mean"])
        return f"{plain(found.best)} is {whose} best model: it wins {wins} of its comparisons; the others are behind."
    ahead = listed([share(rates[model]["p_best"]) for model in first], "and")
    out = len(rates) - len(first)
    rest = "the others are out" if out > 1 else "the other one is out"
    return f"{listed(first, 'or')} is {whose} best model (ahead in {ahead} of draws); {rest}."


def next_step(document: Document) -> str:
    """What would tell those apart who can't be yet; empty where nothing is left to tell or the sentence has said it."""
    answer = document["answer"]
    more = _more(answer["more_prompts"])
    return f"{more[0].upper()}{more[1:]}." if more and answer["tied_with"] else ""


def _more(prompts: int | None) -> str:
    if prompts is None:
        return ""
    count = f"more than {FAR:,} more prompts" if prompts > FAR else f"about {prompts} more prompts"
    return f"{count} would separate the first two"


def likes(document: Document) -> str:
    """What is surely liked in a text, surest first; empty where nothing is sure."""
    if not document["likes"]:
        return ""
    said = []
    for like in document["likes"]:
        size, around = number(like["weight"], 1, signed=True), interval(like["ci95"], 1)
        said.append(f"{like['likes']} ({size} {around} in log-odds for {like['unit']})")
    people = document["counts"].get("users", 1) > 1
    return f"{'These people prefer' if people else 'You prefer'} {listed(said, 'and')}."


REMARKS = {
    "Places": "Places: those that can't be ruled out, all models' together (95 %)",
    "Leads": "Leads: share of draws of the prompts in which it is ahead",
    "Best on": "Best on: prompts on which none beats it",
    "Own best of": "Own best of: people whose own votes put it first",
    "Global": "Global: place by global rating, and how far up (+) or down it moved here",
}


def remarks(document: Document) -> str:
    """What the columns say."""
    shown = columns(document)
    return ". ".join(remark for heading, remark in REMARKS.items() if heading in shown) + "."


# ── The leaderboard's columns ────────────────────────────────────────────────────────────────────────────


def columns(document: Document) -> dict[str, list[str]]:
    """{heading: the cell of each row} of the leaderboard, best first; what no row has is no column."""
    rows: Sequence[Row] = document["leaderboard"]
    prompts = document["counts"]["prompts"]
    cells = {
        "Model": [plain(row["model"]) for row in rows],
        "Wins [95 %]": [wins(row) for row in rows],
        "Places": [places(row) for row in rows],
        "Leads": [share(row["p_best"]) for row in rows],
        "Best on": [f"{row['best_on']}/{prompts}" for row in rows],
        "Own best of": [number(row["own_best_of"], 0) for row in rows],
        "Global": [moved(row) for row in rows],
        "Tok/s": [number(row["tokens_per_s"], 0) for row in rows],
        "Size": [MISSING if row["parameters"] is None else plain(row["parameters"]) for row in rows],
    }
    return {heading: column for heading, column in cells.items() if any(cell != MISSING for cell in column)}


def share(value: float | None) -> str:
    """A share in whole percent, never 0 or 100 % where it is neither."""
    if not is_number(value):
        return MISSING
    if 0.0 < value < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= value < 1.0 else f"{100.0 * value:.0f} %"


def wins(row: Row) -> str:
    """Its win rate with the interval, in percent."""
    rate = row["win_rate"]
    if rate["ci95"] is None:
        return share(rate["mean"])
    low, high = (100.0 * bound for bound in rate["ci95"])
    return f"{100.0 * rate['mean']:.0f} % [{low:.0f}, {high:.0f}]"


def places(row: Row) -> str:
    """The places it may have."""
    low, high = row["places"]["lo"], row["places"]["hi"]
    return f"{low}" if low == high else f"{low}–{high}"


def moved(row: Row) -> str:
    """Its place in the global ratings, and by how many places it stands higher (+) or lower here."""
    if row["global_place"] is None:
        return MISSING
    steps = row["global_place"] - row["place"]
    return f"{row['global_place']} ({f'{steps:+d}' if steps else '='})"


def listed(words: Sequence[str], last: str) -> str:
    """ "a, b or c"."""
    said = [plain(word) for word in words]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} {last} {said[-1]}"


# ── Many personas ────────────────────────────────────────────────────────────────────────────────────────

MARK = "* may be the best: all models with this mark can't be told apart."


def models_of(together: Document) -> list[str]:
    """Every model of any persona, in the order in which it first appears."""
    names = (row["name"] for document in together["personas"].values() for row in document["models"])
    return list(dict.fromkeys(names))


def by_persona(together: Document) -> dict[str, dict[str, str]]:
    """{persona: {model: "72 % *"}}, the mark on those that may be its best; "–" where it has no such model."""
    found: dict[str, dict[str, str]] = {}
    for name, document in together["personas"].items():
        cells = dict.fromkeys(models_of(together), MISSING)
        known = document["answer"]["best"] is not None
        for row in document["leaderboard"]:
            mark = " *" if known and row["places"]["lo"] == 1 else "  "
            cells[row["model"]] = share(row["win_rate"]["mean"]) + mark
        found[name] = cells
    return found
