"""Words and number formats of everything that is shown: the answer first, then the methods."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.text import count, p_said, percent, plain

Document = dict[str, Any]
"""The results. Its keys are a contract with other programs: more may be added, none renamed. Sentences that stand in it
are made while it is built, from its other keys."""

MISSING = "–"
SYSTEMS = {
    "elo_offset": "Elo offset",
    "reward_model": "Reward model",
    "combined": "Combined",
    "global_elo": "Global Elo",
    "shared_reward": "Shared reward model",
    "shared_combined": "Shared combined",
    "base_reward": "Untouched base",
    "bradley_terry": "Bradley–Terry",
    "longest_response": "Longest response",
    "random": "Random",
}
CONTENDERS = ("elo_offset", "reward_model", "combined")
PLACES = {"elo_offset": "elo_place", "reward_model": "reward_place", "combined": "combined_place"}  # keys of an example
METRICS = {
    "kendall_tau": "Kendall's τ",
    "spearman_rho": "Spearman's ρ",
    "ranking_accuracy": "Ranking accuracy",
    "top_1_accuracy": "Top-1 accuracy",
    "top_3_accuracy": "Top-3 accuracy",
}
CHANCE = {"kendall_tau": 0.0, "ranking_accuracy": 0.5}
VERY_LIKELY = 0.975  # share of draws: of two equal models either leads in so many in one of 20 worlds
MARK = "* can't be ruled out as this persona's best. Draws: the prompts drawn anew."


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A figure with ``digits`` decimals, "–" where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    # A rounded negative zero would claim a direction that the figure does not have.
    minus = ("+" if signed else "") if float(text) == 0 else "\N{MINUS SIGN}"
    return text.replace("-", minus)


def estimate(found: Mapping[str, Any]) -> str:
    """A mean, or a difference with its sign, and its 95 % interval where it has one: "0.53 [0.31, 0.69]"."""
    key = "mean" if "mean" in found else "difference"
    figure, *around = (number(x, 2, signed=key == "difference") for x in (found[key], *(found["ci95"] or ())))
    return f"{figure} [{', '.join(around)}]" if around else figure


def difference(gain: Mapping[str, Any]) -> str:
    """A difference with its 95 % interval and its p-value: "+0.08 [−0.02, +0.18], p = 0.110"."""
    return f"{estimate(gain)}, {p_said(gain['p_value'])}"


def anything(value: object) -> str:
    """Any value of the results: a figure, yes or no, a text, several with their names, or "–"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(name)}: {anything(one)}" for name, one in value.items()) or MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return MISSING if value is None else plain(value)


def percent_around(rate: Mapping[str, Any]) -> str:
    """A share with its interval, in percent."""
    low, high = (100.0 * bound for bound in rate["ci95"])
    return f"{100.0 * rate['mean']:.0f} % [{low:.0f}, {high:.0f}]"


def listed(words: Sequence[str], last: str) -> str:
    """Join words: "a, b or c"."""
    said = [plain(word) for word in words]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} {last} {said[-1]}"


def noted(notes: Sequence[str]) -> list[str]:
    """Each note once, a first word that is no name with a capital."""
    return [note[:1].upper() + note[1:] if note.partition(" ")[0].isalpha() else note for note in dict.fromkeys(notes)]


# ── The answer ───────────────────────────────────────────────────────────────────────────────────────────


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


# ── The methods and what they rest on ────────────────────────────────────────────────────────────────────


def subject(document: Document) -> str:
    return f"{'persona' if document['people'] is None else 'votes'} {plain(document['persona'])}"


def data(counts: Mapping[str, Any]) -> str:
    """The amount of data: prompts, and what was judged or voted on them."""
    prompts = f"{counts['prompts']} prompts ({counts['train_prompts']} train, {counts['test_prompts']} test)"
    if "users" in counts:
        voters = count(counts["users"], "person", "people")
        made = f"{count(counts['votes'], 'vote')} of {voters} ({counts['decided_votes']} decided)"
    else:
        made = f"{count(counts['pairs'], 'pair')} judged"
    train = f"{counts['preferences']:,} of them train ({count(counts['ties'], 'tie')})"
    return f"{prompts}, {made}, {train}; the table below tests on every prompt once"


def metrics(document: Document) -> list[str]:
    """The metrics that any system has a value of: rows and columns of nothing are not shown."""
    found = document["cross_validated"].values()
    return [metric for metric in METRICS if any(cells[metric]["mean"] is not None for cells in found)]


def systems(document: Document) -> list[str]:
    """The systems that are shown; one person alone shares nothing with anybody."""
    alone = document["counts"].get("users") == 1
    return [s for s in SYSTEMS if s in document["cross_validated"] and not (alone and s.startswith("shared_"))]


def verdict(document: Document) -> str:
    """Name the better one of the systems A and B, in a sentence."""
    voted, reward, elo = document["people"] is not None, "personalized reward model", "Elo offset"
    if voted and document["cross_validated"]["elo_offset"][document["main_metric"]]["mean"] is None:
        return "No vote was decided: there is nothing to predict."
    if document["winner"] == "none":
        return "Neither system can be called better: the difference is within what chance alone does."
    better, worse = (reward, elo) if document["winner"] == "reward_model" else (elo, reward)
    does = "predicts these people's votes" if voted else "ranks this persona's contestants"
    return f"The {better} {does} better than the {worse}."


def warnings(document: Document) -> list[str]:
    """Doubts about the verdict."""
    said = []
    if stronger := document["verdict"].get("stronger_baselines"):
        names = ", ".join(SYSTEMS[system] for system in stronger)
        said.append(f"A baseline does significantly better than both systems: {names}.")
    if gone := [f"{what}: {n}" for what, n in document["counts"].get("left_out", {}).items() if n]:
        said.append(f"Left out, since no usable answer could be had: {', '.join(gone)}.")
    return said


def evidence(document: Document) -> str:
    """The winner's evidence: the cross-validated difference in the main metric."""
    metric = document["main_metric"]
    name, gain = METRICS[metric].removeprefix("Kendall's "), difference(document["improvement"][metric])
    return f"{SYSTEMS['reward_model']} minus {SYSTEMS['elo_offset']}: {name} {gain}"


def recommended(document: Document) -> str:
    """Name the system whose ranking to take and the reason."""
    beaten = " and ".join(SYSTEMS[rival] for rival in document["verdict"]["better_than"])
    why = f"surely better than {beaten}" if beaten else "the default: no difference to the two others is sure"
    return f"Recommended for --rank: {SYSTEMS[document['recommended']]}, {why}."


def pooled(together: Document) -> str:
    """The methods' difference over all personas' prompts."""
    found = together["pooled"]
    gain = difference(found["improvement"]["kendall_tau"])
    return f"Over all {found['prompts']} prompts of all personas, the reward model's τ minus the Elo offset's: {gain}."


def hypotheses(document: Document) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Each hypothesis by its title, with (system, verdict, why) of both systems that read texts."""
    tested = {"reward_model": document["hypotheses"], "combined": document["hypotheses"]["combined"]}
    said = []
    for title, key, why in (
        ("H1 sample efficiency", "sample_efficiency", _sample_efficiency),
        ("H2 generalization", "generalization", _generalization),
    ):
        rows = []
        for system, of in tested.items():
            reason = plain(of[key]["reason"]) if "reason" in of[key] else why(of[key], system)
            rows.append((SYSTEMS[system], str(of[key]["verdict"]), reason))
        said.append((title, rows))
    return said


def _sample_efficiency(found: Mapping[str, Any], system: str) -> str:
    area, flat = (difference(one["area_between_curves"]) for one in (found, found["from_flat"]))
    return (
        f"Area between the learning curves: {area}; with a flat start for the Elo offset {flat}. "
        f"In the end {number(found[f'{system}_final'])} against {number(found['elo_offset_final'])}."
    )


def _generalization(found: Mapping[str, Any], system: str) -> str:
    pairs, unread = found["pair_accuracy"], found["against_others_mean"]["pair_accuracy"]
    return (
        f"Pairs of a model never seen in training: {number(pairs[system], 2)} ordered right. Its global Elo: "
        f"{number(pairs['elo_offset'], 2)}, difference {difference(pairs)}. The others by Bradley–Terry, the unseen "
        f"model at their mean: {number(unread['bradley_terry'], 2)}, difference {difference(unread)}."
    )
