"""Words and number formats of everything that is shown, and the sentences about the methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.text import count, p_said, plain

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


def noted(notes: Sequence[str]) -> list[str]:
    """Each note once, a first word that is no name with a capital."""
    return [note[:1].upper() + note[1:] if note.partition(" ")[0].isalpha() else note for note in dict.fromkeys(notes)]


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
