"""The words and number formats of everything that is shown. It knows no console, no plot and no page."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

MISSING = "–"
SYSTEMS = {
    "elo_offset": "Elo offset",
    "reward_model": "Reward model",
    "global_elo": "Global Elo",
    "shared_reward": "Shared reward model",
    "base_reward": "Untouched base",
    "bradley_terry": "Bradley–Terry",
    "longest_response": "Longest response",
    "random": "Random",
}
CONTENDERS = ("elo_offset", "reward_model")
BASELINES = tuple(name for name in SYSTEMS if name not in CONTENDERS)
METRICS = {
    "kendall_tau": "Kendall's τ",
    "spearman_rho": "Spearman's ρ",
    "ranking_accuracy": "Ranking accuracy",
    "top_1_accuracy": "Top-1 accuracy",
    "top_3_accuracy": "Top-3 accuracy",
}
HYPOTHESES = {"sample_efficiency": "H1 sample efficiency", "generalization": "H2 generalization"}
# Joiners belong to words and emoji; every other format character can hide or reorder what follows it.
_HARMLESS_FORMATS = frozenset("\u200c\u200d")


def plain(text: object, *, lines: bool = False) -> str:
    """``text`` without anything that steers a terminal or reorders a page.

    Control and format characters (escape sequences, direction overrides, lone surrogates) become a visible
    U+FFFD. White space becomes a space; with ``lines`` line ends and tabs stay.
    """
    unified = str(text).replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return "".join(_plain_character(character, lines) for character in unified)


def _plain_character(character: str, lines: bool) -> str:
    if character in "\n\t":
        return character if lines else " "
    hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in _HARMLESS_FORMATS
    return "\ufffd" if hidden else character


def dig(values: object, *path: str) -> Any:
    """What lies at ``path`` in nested mappings; None where any step of it is missing."""
    for key in path:
        if not isinstance(values, Mapping):
            return None
        values = values.get(key)
    return values


def is_number(value: object) -> TypeGuard[float]:
    """True for what can be shown as a figure: neither None nor NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 3, *, signed: bool = False) -> str:
    """A figure with ``digits`` decimals, "–" where there is none."""
    if not is_number(value):
        return MISSING
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    # A rounded negative zero would claim a direction that the figure does not have.
    return text.replace("-", "+" if signed else "") if float(text) == 0 else text


def interval(bounds: Any, digits: int = 3, *, signed: bool = False) -> str:
    """[low, high] of a 95 % interval, "–" where either is missing."""
    if not isinstance(bounds, Sequence) or len(bounds) != 2 or not all(map(is_number, bounds)):
        return MISSING
    low, high = (number(bound, digits, signed=signed) for bound in bounds)
    return f"[{low}, {high}]"


def estimate(value: Any, bounds: Any, digits: int = 2, *, signed: bool = False) -> str:
    """A figure with its interval beside it, where it has one."""
    figure, around = number(value, digits, signed=signed), interval(bounds, digits, signed=signed)
    return figure if around == MISSING else f"{figure} {around}"


def p_value(value: Any) -> str:
    """ "p = 0.012"; below a thousandth no more digits are claimed."""
    if is_number(value) and value < 0.001:
        return "p < 0.001"
    return f"p = {number(value)}"


def difference(results: Mapping[str, Any], metric: str) -> Any:
    """Reward model minus Elo offset on the documented split; None where either is missing."""
    elo, reward = (dig(results, "final", system, metric) for system in CONTENDERS)
    return reward - elo if is_number(elo) and is_number(reward) else None


def main_metric(results: Mapping[str, Any]) -> str:
    """The metric that the verdict rests on: τ, or what votes that rank no whole prompt can give."""
    said = results.get("main_metric")
    return said if said in METRICS else "kendall_tau"


def evidence(results: Mapping[str, Any]) -> str:
    """What the winner rests on: the difference in the main metric, its interval, p-value and size of the sample."""
    metric = main_metric(results)
    gain = dig(results, "improvement", metric) or {}
    size = f"{number(dig(results, 'counts', 'prompts'), 0)} prompts"
    name, tested = "τ", "permutation "
    if metric != "kendall_tau":
        name, tested = METRICS[metric].lower(), "by person and prompt "
        size = f"{number(dig(results, 'counts', 'users'), 0)} people, {size}"
    return (
        f"cross-validated difference in {name} {number(gain.get('difference'), signed=True)}, "
        f"95 % interval {interval(gain.get('ci95'), signed=True)}, {tested}{p_value(gain.get('p_value'))}, {size}"
    )


def personal_gains(results: Mapping[str, Any]) -> list[str]:
    """What people's own votes add to what each system knows of them before, in a sentence for each system."""
    gains = dig(results, "people", "personal_gain") or {}
    return [
        f"{SYSTEMS[system]}: a person's own votes change its ranking accuracy by {_tested(gains[system])} "
        f"(over {SYSTEMS.get(gains[system].get('over'), MISSING)}, which has none of them)."
        for system in CONTENDERS
        if gains.get(system)
    ]


def split(results: Mapping[str, Any]) -> str:
    """The documented split in words."""
    train, test = (dig(results, "counts", key) for key in ("train_prompts", "test_prompts"))
    return f"{number(train, 0)} prompts train, {number(test, 0)} test"


def rating(model: Mapping[str, Any]) -> str:
    """A contestant's global rating; a proxy is always called one."""
    if not is_number(model.get("elo")):
        return "no rating"
    proxy = f" (proxy: {plain(model.get('arena_name') or 'unnamed')})" if model.get("proxy") else ""
    return number(model["elo"], 0) + proxy


def anything(value: Any) -> str:
    """Any value of the results in one line: a figure, an estimate, a list, a mapping, or "–"."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        if "mean" in value:
            return estimate(value["mean"], value.get("ci95"), 3)
        return ", ".join(f"{plain(key).replace('_', ' ')}: {anything(item)}" for key, item in value.items()) or MISSING
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(anything, value)) or MISSING
    return plain(value)


def prompts_needed(results: Mapping[str, Any]) -> str:
    """How many prompts would tell a difference of the size seen; empty where nobody worked it out."""
    needed = dig(results, "verdict", "prompts_needed")
    if is_number(needed):
        return f"About {needed:.0f} prompts would be needed to tell a difference of the size seen."
    return plain(needed or "")


def because(hypothesis: str, found: Mapping[str, Any]) -> str:
    """What the verdict on a hypothesis rests on, in a sentence or two; empty where nothing is known."""
    if found.get("sentence") or found.get("reason"):
        return plain(found.get("sentence") or found["reason"])
    said = {"sample_efficiency": _area, "generalization": _unseen}.get(hypothesis)
    return said(found) if said and found.get("verdict") else ""


def _area(found: Mapping[str, Any]) -> str:
    needs = found.get("reward_model_needs_for_elo_final"), found.get("elo_needs_for_reward_model_final")
    reward, elo = (f"needs {n} preferences for" if n is not None else "never reaches" for n in needs)
    return (
        f"Area between the learning curves, in τ: {_tested(found.get('area_between_curves'))}. "
        f"The reward model {reward} the Elo offset's final τ; the Elo offset {elo} the reward model's."
    )


def _unseen(found: Mapping[str, Any]) -> str:
    pairs, places = found.get("pair_accuracy") or {}, found.get("place_error") or {}
    return (
        f"Pairs of a model never seen in training: the reward model orders {number(pairs.get('reward_model'), 2)} of "
        f"them right, its global Elo {number(pairs.get('elo_offset'), 2)}: {_tested(pairs)}. "
        f"Its place is off by {number(places.get('reward_model'), 2)} and {number(places.get('elo_offset'), 2)}."
    )


def _tested(gain: Mapping[str, Any] | None) -> str:
    """A difference of reward model minus Elo offset with all that tests it."""
    known = gain or {}
    size = number(known.get("difference"), signed=True)
    return f"{size}, 95 % interval {interval(known.get('ci95'), signed=True)}, {p_value(known.get('p_value'))}"
