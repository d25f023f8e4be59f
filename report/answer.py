"""The answer in words: which model is best, how sure, what is liked, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.text import plain
from report.words import MISSING, SYSTEMS, Document, is_number, number, people

FAR = 10_000  # nobody judges so many more prompts
VERY_LIKELY = 0.975  # share of draws: of two equal models either leads in so many in one of 20 worlds
CHANCE = {"kendall_tau": 0.0, "ranking_accuracy": 0.5}
Row = Mapping[str, Any]


def sentence(document: Document) -> str:
    """Which model is best, in one sentence."""
    found, counts = document["answer"], document["counts"]
    best, unlikely = found["best"], found["unlikely"]
    whose = "your" if counts.get("users", 1) == 1 else "these people's"
    if best is None:
        tied = "every vote is a tie" if counts.get("decided_votes") == 0 else ""
        why = tied or "no model is surely better than another"
        more = _more(found["more_prompts"], found["more_people"])
        return f"Nothing is known yet: {'; '.join(filter(None, [why, more]))}."
    first = [best, *found["tied_with"]]
    rates = {row["model"]: row for row in document["leaderboard"]}
    if len(first) == 1:
        wins = share(rates[best]["win_rate"]["mean"])
        return f"{plain(best)} is {whose} best model: it wins {wins} of its comparisons; the others are behind."
    leads = [model for model in first if model not in unlikely]
    ahead = listed([share(rates[model]["p_best"]) for model in leads], "and")
    likely = ("very likely " if rates[leads[0]]["p_best"] >= VERY_LIKELY else "probably ") if len(leads) == 1 else ""
    rest = [f"{listed(unlikely, 'and')} can't be ruled out"] if unlikely else []
    out = len(rates) - len(first)
    rest += ["the others are out" if out > 1 else "the other one is out"]
    return f"{listed(leads, 'or')} is {likely}{whose} best model (ahead in {ahead} of draws); {'; '.join(rest)}."


def whose(document: Document) -> str:
    """Whose preferences the answer is about."""
    counts = document["counts"]
    if document["people"] is None:
        played = f"the persona {plain(document['persona'])}, played by the judge {plain(document['judge'])}"
        return f"“You” means {played}: no person was asked."
    by = "your own" if counts["users"] == 1 else f"{people(counts['users'])}'s"
    return f"From {by} {counts['votes']:,} votes on {counts['prompts']} prompts."


def next_step(document: Document) -> str:
    """What would tell those apart who can't be yet; empty where nothing is left to tell or the sentence has said it."""
    answer = document["answer"]
    more = _more(answer["more_prompts"], answer["more_people"])
    return f"{more[0].upper()}{more[1:]}." if more and answer["tied_with"] else ""


def ask(document: Document) -> tuple[str, str]:
    """What to do next, and the command that does it, empty where none can be given. Both are empty where nothing was
    kept."""
    said, taken, metric = document["answer"], document["recommended"], document["main_metric"]
    if not said["ask"]:
        return "", ""
    if said["best"] is not None:
        served = " (A server must have these models.)" if document["people"] else ""
        return f"Which of them for a prompt of your own?{served}", said["ask"]
    if beats_chance(metric, document["cross_validated"][taken][metric]["ci95"]):
        what = f"the {SYSTEMS[taken].lower()} ranking" if taken == "combined" else f"the ranking by {SYSTEMS[taken]}"
        return f"Prompt by prompt more is known: {what} is surely better than chance. For one of your own:", said["ask"]
    if document["people"]:
        return "Next: vote on more prompts and run it again.", ""
    return (
        "Next: run it again with more prompts (--num_prompts, or more lines in the file of --prompts); every answer so "
        "far is kept."
    ), ""


def beats_chance(metric: str, around: Sequence[float] | None) -> bool:
    """Whether a ranking's interval on prompts that it was not trained on lies above chance."""
    return around is not None and around[0] > CHANCE[metric]


def _more(prompts: int | None, more_people: int | None) -> str:
    if prompts is None:
        return ""
    if prompts > FAR:
        return f"more than {FAR:,} more prompts would separate the first two"
    what = "prompt" if prompts == 1 else "prompts"
    who = "" if more_people is None else f" and {_about(more_people)} more {'person' if more_people == 1 else 'people'}"
    return f"about {_about(prompts)} more {what}{who} would separate the first two"


def _about(count: int) -> str:
    """Two figures of it: an estimate of an estimate has no more."""
    return f"{float(f'{count:.2g}'):,.0f}"


def likes(document: Document) -> str:
    """What is surely liked in a text, surest first; empty where nothing is sure."""
    if not document["likes"]:
        return ""
    said = []
    for like in document["likes"]:
        said.append(f"{like['likes']} ({like['unit']}: {percent(like['wins'])})")
    who = "These people prefer" if document["counts"].get("users", 1) > 1 else "You prefer"
    meant = "In brackets: how often such an answer is preferred to one that is otherwise alike"
    return f"{who} {listed(said, 'and')}. {meant}; it need not be the cause."


FITTED = (
    "Wins: its chance against each of the others by a Bradley–Terry fit, averaged, not the share of votes that it won"
)
REMARKS = {
    "Votes": "Votes: those that it was in",
    "Places": "Places: those that can't be ruled out, all models' together (95 %)",
    "Leads": "Leads: share of draws in which it is ahead, the prompts drawn anew each time",
    "Best on": "Best on: prompts on which none beats it",
    "Own best of": "Own best of: people whose own votes put it alone first",
    "Global": "Global: place by global rating, and how far up (+) or down it moved here, among the rated models",
    "Tok/s": "Tok/s: tokens a second of its answers",
    "Size": "Size: its parameters",
}


def remarks(document: Document) -> str:
    """What the columns say."""
    shown, fitted = columns(document), [FITTED] if document["people"] else []
    return ". ".join([*fitted, *(remark for heading, remark in REMARKS.items() if heading in shown)]) + "."


# ── The leaderboard's columns ────────────────────────────────────────────────────────────────────────────


def columns(document: Document) -> dict[str, list[str]]:
    """{heading: the cell of each row} of the leaderboard, best first; what no row has is no column."""
    rows: Sequence[Row] = document["leaderboard"]
    voted = document["people"] is not None
    cells = {
        "Model": [plain(row["model"]) for row in rows],
        "Wins [95 %]": [percent(row["win_rate"]) for row in rows],
        "Votes": [number(row["comparisons"] if voted else None, 0) for row in rows],
        "Places": [places(row) for row in rows],
        "Leads": [share(row["p_best"]) for row in rows],
        "Best on": [f"{row['best_on']}/{row['judged_on']}" for row in rows],
        "Own best of": [number(row["own_best_of"], 0) for row in rows],
        "Global": [moved(row) for row in rows],
        "Tok/s": [number(row["tokens_per_s"], 0) for row in rows],
        "Size": [MISSING if row["parameters"] is None else plain(row["parameters"]) for row in rows],
    }
    shown = {heading: column for heading, column in cells.items() if any(cell != MISSING for cell in column)}
    return {heading: ["none" if cell == MISSING else cell for cell in column] for heading, column in shown.items()}


def share(value: float | None) -> str:
    """A share in whole percent, never 0 or 100 % where it is neither."""
    if not is_number(value):
        return MISSING
    if 0.0 < value < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= value < 1.0 else f"{100.0 * value:.0f} %"


def percent(rate: Row) -> str:
    """A share with its interval, in percent."""
    low, high = (100.0 * bound for bound in rate["ci95"])
    return f"{100.0 * rate['mean']:.0f} % [{low:.0f}, {high:.0f}]"


def places(row: Row) -> str:
    """The places it may have."""
    low, high = row["places"]["lo"], row["places"]["hi"]
    return f"{low}" if low == high else f"{low}–{high}"


def moved(row: Row) -> str:
    """Its place in the global ratings, and by how many places it stands higher (+) or lower here."""
    if row["moved"] is None:
        return MISSING
    return f"{row['global_place']} ({number(row['moved'], 0, signed=True) if row['moved'] else '='})"


def listed(words: Sequence[str], last: str) -> str:
    """ "a, b or c"."""
    said = [plain(word) for word in words]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} {last} {said[-1]}"


# ── Many personas ────────────────────────────────────────────────────────────────────────────────────────

MARK = "* can't be ruled out as this persona's best. Draws: the prompts drawn anew."


def played(together: Document) -> str:
    """Whose preferences the answers are about."""
    return (
        f"“Your” stands for each persona in turn, played by the judge {plain(together['judge'])}: no person was asked."
    )


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
