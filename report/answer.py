"""The answer in words: which model is best, how sure, what is liked, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.text import count, percent, plain
from report.words import CHANCE, Document

VERY_LIKELY = 0.975  # share of draws: of two equal models either leads in so many in one of 20 worlds
MARK = "* can't be ruled out as this persona's best. Draws: the prompts drawn anew."


def sentence(document: Document) -> str:
    """Name the best model, or those that may be it, in one sentence."""
    found, counts = document["answer"], document["counts"]
    if found["best"] is None:
        top, *others = document["leaderboard"]
        said = "Nothing is known yet: no model is surely better than another"
        if counts.get("decided_votes") == 0:
            said = "Nothing is known yet: every vote is a tie"
        elif top["best_on"] == top["judged_on"] and not any(row["best_on"] for row in others):
            said = f"{plain(top['model'])} leads, on too few prompts to be sure"
        return f"{'; '.join(filter(None, [said, _more(document)]))}."
    whose = "your" if counts.get("users", 1) == 1 else "these people's"
    first = [found["best"], *found["tied_with"]]
    rates = {row["model"]: row for row in document["leaderboard"]}
    if len(first) == 1:
        best, wins = plain(first[0]), percent(rates[first[0]]["win_rate"]["mean"])
        return f"{best} is {whose} best model: it wins {wins} of its comparisons; the others are behind."
    leads = [model for model in first if model not in found["unlikely"]]
    ahead = listed([percent(rates[model]["p_best"]) for model in leads], "and")
    likely = ("very likely " if rates[leads[0]]["p_best"] >= VERY_LIKELY else "probably ") if len(leads) == 1 else ""
    rest = [f"{listed(found['unlikely'], 'and')} can't be ruled out"] if found["unlikely"] else []
    rest += ["the others are out" if len(rates) - len(first) > 1 else "the other one is out"]
    return f"{listed(leads, 'or')} is {likely}{whose} best model (ahead in {ahead} of draws); {'; '.join(rest)}."


def whose(document: Document) -> str:
    """Name the people, or the persona, whose preferences the answer is about."""
    counts = document["counts"]
    if document["people"] is None:
        played = f"the persona {plain(document['persona'])}, played by the judge {plain(document['judge'])}"
        return f"“You” means {played}: no person was asked."
    by = "your own" if counts["users"] == 1 else f"{count(counts['users'], 'person', 'people')}'s"
    return f"From {by} {count(counts['votes'], 'vote')} on {count(counts['prompts'], 'prompt')}."


def next_step(document: Document) -> str:
    """Say how many more prompts would tell the tied models apart; empty where none are tied or the sentence has it."""
    more = _more(document)
    return f"{more.capitalize()}." if more and document["answer"]["tied_with"] else ""


def _more(document: Document) -> str:
    more = document["answer"]["more_prompts"]
    # two figures: an estimate of an estimate has no more
    about = "" if more is None else count(int(float(f"{more:.2g}")), "more prompt")
    return about and f"about {about} would separate the first two"


def ask(document: Document) -> tuple[str, str]:
    """The next thing to do and its command (empty where there is none); both are empty where nothing was kept."""
    said, taken, metric = document["answer"], document["recommended"], document["main_metric"]
    if not said["ask"]:
        return "", ""
    if said["best"] is not None or beats_chance(metric, document["cross_validated"][taken][metric]["ci95"]):
        return "Which of them for a prompt of your own?", said["ask"]
    if document["people"]:
        return "Next: vote on more prompts and run it again.", ""
    if document["judge_quality"].get("reads") == "place":
        return "Next: run it again with another --judge; all but its judgements are kept.", ""
    return "Next: run it again with more prompts (--num_prompts or --prompts); every answer so far is kept.", ""


def beats_chance(metric: str, around: Sequence[float] | None) -> bool:
    """True where a ranking's interval on prompts that it was not trained on lies above chance."""
    return around is not None and around[0] > CHANCE[metric]


def likes(document: Document) -> str:
    """Traits that are surely liked in a text, surest first; empty where nothing is sure."""
    if not document["likes"]:
        return ""
    said = [f"{like['likes']} ({like['unit']}: {percent_around(like['wins'])})" for like in document["likes"]]
    who = "These people prefer" if document["counts"].get("users", 1) > 1 else "You prefer"
    meant = "In brackets: how often such an answer is preferred to one that is otherwise alike"
    return f"{who} {listed(said, 'and')}. {meant}; it need not be the cause."


def played(together: Document) -> str:
    """Name the judge that played all the personas."""
    judge = plain(together["judge"])
    return f"“Your” stands for each persona in turn, played by the judge {judge}: no person was asked."


def percent_around(rate: Mapping[str, Any]) -> str:
    """A share with its interval, in percent."""
    low, high = (100.0 * bound for bound in rate["ci95"])
    return f"{100.0 * rate['mean']:.0f} % [{low:.0f}, {high:.0f}]"


def listed(words: Sequence[str], last: str) -> str:
    """Join words: "a, b or c"."""
    said = [plain(word) for word in words]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} {last} {said[-1]}"
