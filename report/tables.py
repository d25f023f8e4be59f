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
AGAINST = {
    "reward_model-elo_offset": "Reward − Elo",
    "combined-elo_offset": "Combined − Elo",
    "combined-reward_model": "Combined − Reward",
}
REMARKS = {
    "Votes": "Wins: its mean chance against the others by a Bradley–Terry fit. Votes: those that it was in",
    "Places": "Places: those that can't be ruled out, all models' together (95 %)",
    "Leads": "Leads: share of draws of the prompts in which it is ahead",
    "Best on": "Best on: prompts on which none beats it",
    "Global": "Global: place by global rating, and how far up (+) or down it moved",
    "Tok/s": "Tok/s: tokens a second",
}
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
        low, high, moved = row["places"]["lo"], row["places"]["hi"], row.get("moved")
        rows.append(
            {
                "   Model": f"{row['place']:>2} {plain(row['model'])}",
                "Wins [95 %]": percent_around(row["win_rate"]),
                "Votes": MISSING if document["people"] is None else number(row["comparisons"], 0),
                "Places": f"{low}" if low == high else f"{low}–{high}",
                "Leads": percent(row["p_best"]),
                "Best on": f"{row['best_on']}/{row['judged_on']}",
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
    said = REMARKS | {"Tok/s": REMARKS["Tok/s"] + _as_asked(document)}
    return " ".join(f"{said[head]}." for head in leaderboard(document).heads if head in said)


def _as_asked(document: Document) -> str:
    """Whose speed is the time waited for it, since the server did not tell its own."""
    timed = [row for row in document["leaderboard"] if row["tokens_per_s"] is not None]
    waited = [row for row in timed if row.get("side_by_side")]
    if not waited:
        return ""
    whose = "" if len(waited) == len(timed) else f" of {', '.join(plain(row['model']) for row in waited)}"
    at_once = " or ".join(str(n) for n in sorted({row["side_by_side"] for row in waited}))
    return f"; those{whose} as asked, {at_once} side by side" if whose else f" as asked, {at_once} side by side"


# ── The methods ──────────────────────────────────────────────────────────────────────────────────────────


def methods(document: Document) -> Table:
    """The contenders in each metric, cross-validated, and their differences."""
    found = [document["cross_validated"][system] for system in CONTENDERS]
    found += [document["improvement"], *document["comparisons"].values()]
    rows = [[METRICS[metric], *(cell(cells[metric]) for cells in found)] for metric in words.metrics(document)]
    return Table(["Metric", *NAMES, *AGAINST.values()], rows)


def split(document: Document) -> Table:
    """The contenders in each metric on the documented split alone."""
    final = [document["final"][system] for system in CONTENDERS]
    rows = [[METRICS[m], *(number(figures[m], 2) for figures in final)] for m in words.metrics(document)]
    return Table(["Metric", *NAMES], rows)


def systems(document: Document) -> Table:
    """Every system and baseline in each metric, cross-validated."""
    return _estimates(
        document, "System", [(SYSTEMS[s], document["cross_validated"][s]) for s in words.systems(document)]
    )


def ablation(document: Document) -> Table:
    """The variants, cross-validated on the same folds, and what each gains over the first, paired by prompt."""
    rows = [
        [plain(row["name"]), cell(row["kendall_tau"]), cell(row["difference"]) if "difference" in row else MISSING]
        for row in document["ablation"]
    ]
    return Table(["Variant", METRICS["kendall_tau"], "Difference"], rows)


def _estimates(document: Document, head: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    """A mean and its interval of each metric that is known."""
    metrics = words.metrics(document)
    cells = [[name, *(cell(found[metric]) for metric in metrics)] for name, found in rows]
    return Table([head, *(METRICS[metric] for metric in metrics)], cells)


def places(document: Document, example: Mapping[str, Any]) -> Table:
    """Each model's place for an example's prompt, best first; the recommended system next to the truth."""
    keys = {"elo_offset": "elo_place", "reward_model": "reward_place", "combined": "combined_place"}
    shown = sorted(keys, key=lambda system: system != document["recommended"])
    responses = sorted(example["responses"], key=lambda row: int(row["truth_place"]))
    columns = [[response[key] for response in responses] for key in ("truth_place", *(keys[s] for s in shown))]
    said = [[f"{place}" + " (tied)" * (column.count(place) > 1) for place in column] for column in columns]
    rows = [[plain(response["model"]), *row] for response, row in zip(responses, zip(*said, strict=True), strict=True)]
    return Table(["Model", "Truth", *(SYSTEMS[system] for system in shown)], rows)


def prompts(document: Document) -> Table:
    """The contenders prompt by prompt, where the reward model did best first."""
    shown = ("combined", "elo_offset", "reward_model")
    rows = []
    for row in sorted(document["per_prompt"], key=lambda row: -float(row["difference"])):
        figures = [number(row[system][document["main_metric"]], 2) for system in shown]
        rows.append([plain(row["prompt"]), *figures, number(row["difference"], 2, signed=True)])
    return Table(["Prompt", *(SYSTEMS[system] for system in shown), "Difference"], rows)


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
        tau = [cell(found["cross_validated"][system]["kendall_tau"]) for system in CONTENDERS]
        rows.append([plain(name), *tau, SYSTEMS.get(found["winner"], "none")])
    return Table(["Persona", *NAMES, "Winner"], rows)
