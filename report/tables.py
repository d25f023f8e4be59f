"""The tables of the results, in cells; the console and the page show the same ones."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from core.text import percent, plain
from report import words
from report.words import CONTENDERS, METRICS, MISSING, SYSTEMS, Document, estimate, number, percent_around

REMARKS = {
    "Votes": "Wins: its mean chance against the others by a Bradley–Terry fit. Votes: those that it was in.",
    "Places": "Places: those that can't be ruled out, all models' together (95 %).",
    "Leads": "Leads: share of draws of the prompts in which it is ahead.",
    "Best on": "Best on: prompts on which none beats it.",
    "Global": "Global: place by global rating.",
    "Tok/s": "Tok/s: tokens a second, by the server's clock, or as asked where it tells none.",
}
PROXY = "p: by a proxy's rating."
QUALITY = {
    "flip_rate": "Pairs whose winner changes with the order shown (flip rate)",
    "first_position_rate": "Share won by what was shown first",
    "longer_response_rate": "Share won by the longer response",
    "listwise_agreement": "τ between round-robin and listwise truth",
    "self_win_rate": "Share won by the judge's own responses, where it is a contestant",
}


class Table(NamedTuple):
    """Heads, and rows of as many cells, of which the first names the row."""

    heads: list[str]
    rows: list[list[str]]


def leaderboard(document: Document) -> Table:
    """The models, best first; what is known of no model is no column."""
    rows, proxies = [], {model["name"] for model in document["models"] if model["proxy"]}
    for row in document["leaderboard"]:
        beside = " p" if row["model"] in proxies else "  " * bool(proxies and row["global_place"])
        low, high = row["places"]["lo"], row["places"]["hi"]
        rows.append(
            {
                "   Model": f"{row['place']:>2} {plain(row['model'])}",
                "Wins [95 %]": percent_around(row["win_rate"]),
                "Votes": MISSING if document["people"] is None else number(row["comparisons"], 0),
                "Places": f"{low}" if low == high else f"{low}–{high}",
                "Leads": percent(row["p_best"]),
                "Best on": f"{row['best_on']}/{row['judged_on']}",
                "Global": number(row["global_place"], 0) + beside,
                "Tok/s": number(row["tokens_per_s"], 0),
                "Size": words.anything(row["parameters"]),
            }
        )
    heads = [head for head in (rows[0] if rows else ()) if any(row[head] != MISSING for row in rows)]
    return Table(heads, [[row[head] for head in heads] for row in rows])


def remarks(document: Document) -> str:
    """Explain the leaderboard's columns."""
    said = [REMARKS[head] for head in leaderboard(document).heads if head in REMARKS]
    return " ".join(said + [PROXY] * any(model["proxy"] for model in document["models"]))


def places(document: Document, example: Mapping[str, Any]) -> Table:
    """Each model's place for an example's prompt, best first; the recommended system next to the truth."""
    shown = sorted(CONTENDERS, key=lambda system: system != document["recommended"])
    responses, rows = sorted(example["responses"], key=lambda row: int(row["truth_place"])), []
    for response in responses:
        cells = [plain(response["model"])]
        for key in ("truth_place", *(words.PLACES[system] for system in shown)):
            tied = sum(other[key] == response[key] for other in responses) > 1
            cells.append(f"{response[key]} (tied)" if tied else f"{response[key]}")
        rows.append(cells)
    return Table(["Model", "Truth", *(SYSTEMS[system] for system in shown)], rows)


def systems(document: Document, shown: Collection[str] = tuple(METRICS)) -> Table:
    """Every system and baseline in each of the metrics ``shown``, cross-validated."""
    metrics, crossed = [m for m in words.metrics(document) if m in shown], document["cross_validated"]
    rows = [[SYSTEMS[s], *(estimate(crossed[s][metric]) for metric in metrics)] for s in words.systems(document)]
    return Table(["System", *(METRICS[metric] for metric in metrics)], rows)


def differences(document: Document) -> Table:
    """The contenders' differences in each metric, paired by prompt."""
    found = [document["improvement"], *document["comparisons"].values()]
    rows = [[METRICS[metric], *(estimate(gains[metric]) for gains in found)] for metric in words.metrics(document)]
    return Table(["Metric", "Reward − Elo", "Combined − Elo", "Combined − Reward"], rows)


def ablation(document: Document) -> Table:
    """The variants, cross-validated on the same folds, and what each gains over the first, paired by prompt."""
    found = document["ablation"]
    rows = [[plain(row["name"]), estimate(row["kendall_tau"]), estimate(row["difference"])] for row in found]
    return Table(["Variant", METRICS["kendall_tau"], "Difference"], rows)


def judge(document: Document) -> Table:
    """The judge's quality, in the figures that this judge and this run can have."""
    found = document["judge_quality"]
    rows = [[title, number(found[key], 2)] for key, title in QUALITY.items() if found.get(key) is not None]
    return Table(["The judge", "Figure"], rows)


def contestants(document: Document) -> Table:
    """The models, their global ratings and where these come from; a proxy is always called one."""
    rows = []
    for model in document["models"]:
        named, rating = "", "no rating" if model["elo"] is None else number(model["elo"], 0)
        if model["elo"] is not None and model["proxy"]:
            rating += f" (proxy: {model['arena_name']})"
        elif model["arena_name"]:
            named = f", as {model['arena_name']}"
        rows.append([*map(plain, (model["name"], rating, f"{model['elo_source']}{named}"))])
    return Table(["Contestant", "Global rating", "Source of the rating"], rows)


def settings(found: Mapping[str, Any]) -> Table:
    """Keys and values, for whoever repeats the run."""
    return Table([], [[plain(key), words.anything(value)] for key, value in found.items()])


def wins_by_persona(together: Document) -> Table:
    """Each model's win rate for each persona, marked where it may be its best; "–" where it has no such model."""
    columns: dict[str, dict[str, str]] = {}
    for persona, document in together["personas"].items():
        found = document["answer"]
        marked = {found["best"], *found["tied_with"]}
        columns[persona] = {
            row["model"]: percent(row["win_rate"]["mean"]) + (" *" if row["model"] in marked else "  ")
            for row in document["leaderboard"]
        }
    models = dict.fromkeys(model for column in columns.values() for model in column)
    rows = [[plain(model), *(column.get(model, MISSING) for column in columns.values())] for model in models]
    return Table(["Model", *map(plain, columns)], rows)


def methods_by_persona(together: Document) -> Table:
    """The contenders' τ for each persona, cross-validated, and over the prompts of all of them."""
    pooled, rows = together["pooled"], []
    for name, found in [*together["personas"].items(), (f"all {pooled['prompts']} prompts", pooled)]:
        tau = [estimate(found["cross_validated"][system]["kendall_tau"]) for system in CONTENDERS]
        rows.append([plain(name), *tau, SYSTEMS.get(found["winner"], "none")])
    return Table(["Persona", *(SYSTEMS[system] for system in CONTENDERS), "Winner"], rows)
