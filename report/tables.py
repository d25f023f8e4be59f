"""The tables of the results, in cells; the console and the page show the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from core.text import percent, plain
from report import words
from report.answer import percent_around
from report.words import CONTENDERS, METRICS, MISSING, SYSTEMS, Document, estimate, number

SHOWN_PEOPLE = 100  # a page of a thousand rows is read by nobody; the JSON has all
NAMES = [SYSTEMS[system] for system in CONTENDERS]
IMPROVEMENT = "Improvement"  # of the reward model over the Elo offset
AGAINST = {f"combined-{rival}": f"− {SYSTEMS[rival]}" for rival in ("elo_offset", "reward_model")}
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
FITTED = (
    "Wins: its chance against each of the others by a Bradley–Terry fit, averaged, not the share of votes that it won"
)
QUALITY = {
    "flip_rate": "Pairs whose winner changes with the order shown (flip rate)",
    "inconsistent_rate": "Pairs judged differently in the two orders, ties counted",
    "first_position_rate": "Share won by what was shown first",
    "longer_response_rate": "Share won by the longer response",
    "circular_triads": "Circular triads (A over B over C over A); by chance 0.25",
    "consistency": "Consistency (Kendall's ζ): 1 without circles",
    "noise_ceiling": "Noise ceiling: τ between two rounds of judging",
    "listwise_agreement": "τ between round-robin and listwise truth",
    "self_win_rate": "Share won by the judge's own responses, where it is a contestant",
}
WEIGHED = {
    "first_position_rate": "By probabilities: share won by what was shown first",
    "flip_rate": "By probabilities: pairs whose winner changes with the order",
    "position_bias": "Log-odds of what was shown first, mean",
    "position_sd": "The same, standard deviation",
    "texts_sd": "Log-odds between the two texts, from zero",
}
GROUPS = {"Configuration": "config", "Counts": "counts", "Versions": "versions", "Seconds a stage took": "timings_s"}


class Table(NamedTuple):
    """Heads, and rows of as many cells, of which the first names the row."""

    heads: list[str]
    rows: list[list[str]]

    def take(self, *heads: str) -> Table:
        """These columns alone, as far as there are such."""
        places = [self.heads.index(head) for head in heads if head in self.heads]
        return Table([self.heads[place] for place in places], [[row[place] for place in places] for row in self.rows])


def cell(found: Mapping[str, Any]) -> str:
    """A mean, or a difference with its sign, and its interval."""
    if "mean" in found:
        return estimate(found["mean"], found["ci95"])
    return estimate(found["difference"], found["ci95"], signed=True)


# ── The answer ───────────────────────────────────────────────────────────────────────────────────────────


def leaderboard(document: Document) -> Table:
    """The models, best first; what is known of no model is no column."""
    rows = []
    for row in document["leaderboard"]:
        low, high, moved = row["places"]["lo"], row["places"]["hi"], row["moved"]
        rows.append(
            {
                "   Model": f"{row['place']:>2} {plain(row['model'])}",
                "Wins [95 %]": percent_around(row["win_rate"]),
                "Votes": MISSING if document["people"] is None else number(row["comparisons"], 0),
                "Places": f"{low}" if low == high else f"{low}–{high}",
                "Leads": percent(row["p_best"]),
                "Best on": f"{row['best_on']}/{row['judged_on']}",
                "Own best of": number(row["own_best_of"], 0),
                "Global": MISSING
                if moved is None
                else f"{row['global_place']} ({number(moved, 0, signed=True) if moved else '='})",
                "Tok/s": number(row["tokens_per_s"], 0),
                "Size": words.anything(row["parameters"]),
            }
        )
    heads = [head for head in (rows[0] if rows else ()) if any(row[head] != MISSING for row in rows)]
    return Table(heads, [["none" if row[head] == MISSING else row[head] for head in heads] for row in rows])


def remarks(document: Document) -> str:
    """Explain the leaderboard's columns."""
    heads = leaderboard(document).heads
    said = [FITTED] * (document["people"] is not None) + [REMARKS[head] for head in heads if head in REMARKS]
    return "".join(f"{remark}. " for remark in said).rstrip()


# ── The methods ──────────────────────────────────────────────────────────────────────────────────────────


def methods(document: Document) -> Table:
    """The contenders in each metric, cross-validated, and their differences."""
    rows = []
    for metric in words.metrics(document):
        (elo, reward, both), against = _contenders(document, metric)
        gain = document["improvement"][metric]
        rows.append([METRICS[metric], elo, reward, cell(gain), number(gain["p_value"]), both, *against])
    elo, reward, both = NAMES
    return Table(["Metric", elo, reward, IMPROVEMENT, "p", both, *AGAINST.values()], rows)


def _contenders(document: Document, metric: str) -> tuple[list[str], list[str]]:
    """The contenders' estimates, and System C's differences to the two others."""
    crossed = [cell(document["cross_validated"][system][metric]) for system in CONTENDERS]
    return crossed, [cell(document["comparisons"][pair][metric]) for pair in AGAINST]


def split(document: Document) -> Table:
    """The contenders in each metric on the documented split alone."""
    rows = []
    for metric in words.metrics(document):
        elo, reward, both = (document["final"][system][metric] for system in CONTENDERS)
        gain = None if elo is None or reward is None else reward - elo
        figures = (number(elo, 2), number(reward, 2), number(gain, 2, signed=True), number(both, 2))
        rows.append([METRICS[metric], *figures])
    elo, reward, both = NAMES
    return Table(["Metric", elo, reward, IMPROVEMENT, both], rows)


def systems(document: Document) -> Table:
    """Every system and baseline in each metric, cross-validated."""
    return _estimates(
        document, "System", [(SYSTEMS[s], document["cross_validated"][s]) for s in words.systems(document)]
    )


def ablation(document: Document) -> Table:
    """The variants, cross-validated on the same folds."""
    table = _estimates(document, "Variant", [(plain(row["name"]), row) for row in document["ablation"]])
    gains = [cell(row["difference"]) if "difference" in row else MISSING for row in document["ablation"]]
    return Table([*table.heads, "Difference in τ"], [[*row, gain] for row, gain in zip(table.rows, gains, strict=True)])


def _estimates(document: Document, head: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    """A mean and its interval of each metric that is known."""
    metrics = words.metrics(document)
    cells = [[name, *(cell(found[metric]) for metric in metrics)] for name, found in rows]
    return Table([head, *(METRICS[metric] for metric in metrics)], cells)


def places(document: Document, example: Mapping[str, Any]) -> Table:
    """Each model's place for an example's prompt, best first; the recommended system next to the truth."""
    keys = {"elo_offset": "elo_place", "reward_model": "reward_place", "combined": "combined_place"}
    shown = sorted(keys, key=lambda system: system != document["recommended"])
    best_first = sorted(example["responses"], key=lambda row: int(row["truth_place"]))
    places = ["truth_place", *(keys[system] for system in shown)]
    rows = [[plain(row["model"]), *(f"{row[place]}" for place in places)] for row in best_first]
    return Table(["Model", "Truth", *(SYSTEMS[system] for system in shown)], rows)


def held_out(document: Document) -> Table:
    """Each contestant, then all of them, as left out of training, placed by the systems that read texts."""
    heads = ["Held out", *(f"{what}: {name}" for what in ("Pairs", "Place") for name in NAMES)]
    reward, both = (words.tested(document, system)["generalization"] for system in words.READERS)
    if reward["verdict"] == "not tested":
        return Table(heads, [])
    rows = []
    named = [(plain(name), row, both["by_contestant"][name]) for name, row in reward["by_contestant"].items()]
    for name, read, combined in [*named, ("All contestants", reward, both)]:
        cells = [name]
        for measure in ("pair_accuracy", "place_error"):
            found = {**read[measure], "combined": combined[measure]["combined"]}
            cells += [number(found[system], 2) for system in CONTENDERS]
        rows.append([*cells, cell(read["pair_accuracy"])])
    return Table([*heads, f"{IMPROVEMENT} in pairs"], rows)


# ── People, the judge, the contestants ───────────────────────────────────────────────────────────────────


def people(document: Document) -> Table:
    """Those of several people whose votes were tested, the ones with the most votes first."""
    shown = words.systems(document)
    heads = ["Person", "Votes", "Decided", *(SYSTEMS[system] for system in shown)]
    if document["people"] is None or document["counts"]["users"] == 1:
        return Table(heads, [])
    tested = [row for row in document["people"]["by_person"] if any(row[system] is not None for system in shown)]
    rows = []
    for row in sorted(tested, key=lambda row: -int(row["votes"]))[:SHOWN_PEOPLE]:
        given = [number(row[key], 0) for key in ("votes", "decided_votes")]
        rows.append([plain(row["user"]), *given, *(number(row[system], 2) for system in shown)])
    return Table(heads, rows)


def judge(document: Document) -> Table:
    """The judge's quality, in the figures that this judge and this run can have."""
    found = document["judge_quality"]
    rows = [[title, number(found[key], 2)] for key, title in QUALITY.items() if found.get(key) is not None]
    if weighed := found.get("by_probabilities"):
        rows += [[title, number(weighed[key], 2)] for key, title in WEIGHED.items()]
    agrees = found.get("agreement_with_person")
    if agrees and agrees["ci95"]:
        title = f"Agreement with your own votes on {agrees['pairs']} pairs (κ)"
        rows.append([title, estimate(agrees["kappa"], agrees["ci95"])])
    return Table([], rows)


def contestants(document: Document) -> Table:
    """The models, their global ratings and where these come from."""
    rows = []
    for model in document["models"]:
        named = f", as {model['arena_name']}" if model["arena_name"] and not model["proxy"] else ""
        rows.append([plain(model["name"]), words.rating(model), f"{plain(model['elo_source'])}{plain(named)}"])
    return Table(["Contestant", "Global rating", "Source of the rating"], rows)


def settings(document: Document) -> dict[str, Table]:
    """The settings of the run, for whoever repeats it."""
    run = ("backend", "judge", "base_model", "base_is_reward_model", "device", "seed", "schema_version")
    groups = {"Run": {key: document[key] for key in run}}
    for title, key in GROUPS.items():
        groups[title] = document[key]
    shown = {title: [[plain(key), words.anything(found[key])] for key in found] for title, found in groups.items()}
    return {title: Table([], rows) for title, rows in shown.items()}


# ── Many personas ────────────────────────────────────────────────────────────────────────────────────────


def wins_by_persona(together: Document) -> Table:
    """Each model's win rate for each persona, marked where it may be its best; "–" where it has no such model."""
    personas = together["personas"]
    names = dict.fromkeys(row["name"] for document in personas.values() for row in document["models"])
    rows = []
    for name in names:
        cells = []
        for document in personas.values():
            row = next((row for row in document["leaderboard"] if row["model"] == name), None)
            best = row is not None and row["places"]["lo"] == 1 and document["answer"]["best"] is not None
            cells.append(MISSING if row is None else percent(row["win_rate"]["mean"]) + (" *" if best else "  "))
        rows.append([plain(name), *cells])
    return Table(["Model", *map(plain, personas)], rows)


def methods_by_persona(together: Document) -> Table:
    """The contenders' τ for each persona, cross-validated, and over the prompts of all of them."""
    pooled, rows = together["pooled"], []
    for name, found in [*together["personas"].items(), (f"all {pooled['prompts']} prompts", pooled)]:
        (elo, reward, both), against = _contenders(found, "kendall_tau")
        rows.append([plain(name), elo, reward, SYSTEMS.get(found["winner"], found["winner"]), both, *against])
    elo, reward, both = NAMES
    return Table(["Persona", elo, reward, "Winner", both, *AGAINST.values()], rows)
