"""Human votes: one row a vote, or one row a scored response, or an export; every wrong row is named.

votes = load_votes("votes.jsonl")
votes.preferences[0].user, votes.users, votes.skipped
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import config
from core import hub
from core.errors import MissingError, UsageError
from core.files import fingerprint
from core.records import Preference, Prompt, Response
from core.tables import (
    ENDINGS,
    Rows,
    arrow_rows,
    columns_of,
    figure_of,
    first_line,
    id_in,
    read_rows,
    refuse_bad_rows,
    renamed,
    text_in,
)
from core.text import Names, normal
from people.open_webui import open_webui
from people.rows import (
    EVERYONE,
    SCORE_COLUMNS,
    VOTE_COLUMNS,
    Found,
    Vote,
    alpaca_eval_vote,
    arena_vote,
    each_row,
    own_score,
    own_vote,
    refuse_coding,
)
from stages.own import Answers, prompt_id

# PRISM's words (Kirk et al. 2024). An interaction is one prompt with its responses; a conversation has several.
ALIASES = {
    "user": ("user_id",), "prompt_id": ("interaction_id", "conversation_id"), "prompt": ("user_prompt",),
    "model": ("model_name",), "response": ("model_response",),
}  # fmt: skip
USER = "me"  # the name under which own votes are kept


@dataclass(frozen=True, slots=True)
class Votes:
    """Preferences of people, and what they are on. Everything is in the order in which it first appeared."""

    preferences: tuple[Preference, ...]
    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    """One a (prompt, model): everyone who voted on it read the same text."""
    users: tuple[str, ...]
    models: tuple[str, ...]
    skipped: Mapping[int, str]
    """{row number: why it can't be used}, left out as asked."""
    notes: tuple[str, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)
    """{row number: why}: good rows that are no votes on first answers."""
    personas: tuple[str, ...] = ()
    """Whose responses they are on, where the rows of own votes say so."""


def load_votes(
    source: str, *, skip_bad_rows: bool = False, cache_dir: Path | None = None, answers: Answers | None = None
) -> Votes:
    """Votes from a file or a hub id ("owner/name" or "owner/name:config").

    An export known by its columns, or VOTE_COLUMNS (``outcome`` in [0, 1]: 1 means a preferred), or SCORE_COLUMNS: a
    user's scores of the responses to one prompt become one vote for each pair of models, 1, 0 or, where the scores are
    equal, 0.5. Only the order of scores counts, since every person has a scale of their own. Prompts are known by their
    text, and an id in the file, which may be missing, is a name for it.

    ``answers``: the texts of votes that carry none. ``cache_dir``: where ``datasets`` keeps what it downloads.

    Raises UsageError for what cannot be read and, unless ``skip_bad_rows``, for wrong rows; MissingError where a hub is
    needed and out of reach.
    """
    path = Path(source)
    is_hub_id = not path.exists() and path.suffix.lower() not in ENDINGS and _HUB_ID.fullmatch(source)
    rows, unread = (_hub_rows(source, cache_dir), {}) if is_hub_id else read_rows(path)
    total = len(rows) + len(unread)
    if not rows:
        refuse_bad_rows(unread, source, total)
        raise UsageError(f"{source} has no rows")
    columns, models = columns_of(rows), Names(answers.models if answers else ())
    kind = "" if set(VOTE_COLUMNS) <= set(columns) else recognize(columns, source)
    if kind and answers is not None:
        raise UsageError(_HAVE_TEXTS.format(source))
    found = _KINDS[kind][2](rows, source) if kind else _own_columns(rows, source, answers, models)
    votes, bad, left_out, notes = _one_of_each(found._replace(bad=unread | found.bad), models)
    refuse_bad_rows(bad, source, total, skip=skip_bad_rows if votes else None)
    preferences = _pairs(votes) if votes and len(votes[0].models) == 1 else [vote.preference() for vote in votes]
    if not preferences:
        refuse_bad_rows(left_out, source, total)
        raise UsageError(f"{source} has no two responses of different models scored by one user on one prompt")
    said = [f"read as {kind}: {len(votes)} votes from {total} rows"] if kind else []
    said += [f"{count} left out: {reason}" for reason, count in Counter(left_out.values()).most_common()]
    if both_bad := sum(rows[vote.row].get("both_bad") in (True, "True", "true") for vote in votes):
        said.append(f"{both_bad} of the ties are on two responses that are both bad")
    given = {
        (p.user, p.prompt_id, frozenset({(p.model_a, p.outcome), (p.model_b, 1 - p.outcome)})) for p in preferences
    }
    if repeats := len(preferences) - len(given):
        said.append(f"{repeats} votes say what the same person said before of the same two responses: each counts")
    voted = {p.prompt_id for p in preferences}
    texts = dict(claim for vote in votes if vote.prompt_id in voted for claim in vote.claims())
    return Votes(
        preferences=tuple(preferences),
        prompts=tuple(Prompt(prompt, text) for (prompt, model), text in texts.items() if not model),
        responses=tuple(Response(*key, text) for key, text in texts.items() if key[1]),
        users=tuple(dict.fromkeys(p.user for p in preferences)),
        models=tuple(dict.fromkeys(model for _, model in texts if model)),
        skipped=dict(sorted(bad.items())),
        notes=("; ".join([*said, *notes]),) if said or notes else (),
        left_out=dict(sorted(left_out.items())),
        personas=tuple(dict.fromkeys(p for v in votes if isinstance(p := rows[v.row].get("persona"), str) and p)),
    )


def _one_of_each(found: Found, models: Names) -> Found:
    """The votes with one name for each model and person, one prompt for each text, and one text for each model's
    response to it: the first that somebody rated."""
    _, bad, left_out, _ = found
    people, texts_of, ids = Names(), dict[str, str](), dict[str, str]()
    votes = []
    for vote in found.votes:
        prompt, names = normal(vote.prompt), tuple(models.of(name) for name in vote.models)
        given = normal(vote.prompt_id) or fingerprint(prompt)
        if texts_of.setdefault(given, prompt) != prompt:
            bad[vote.row] = f"prompt_id stands for another prompt in an earlier row (prompts need no id): {given:.40}"
        elif len(set(names)) < len(names):
            left_out[vote.row] = "the same model answers on both sides"
        else:
            known = ids.setdefault(prompt, given)
            votes.append(vote._replace(user=people.of(vote.user), prompt_id=known, prompt=prompt, models=names))
    texts: dict[tuple[str, str], str] = {}
    for wanted in (True, False):
        for vote in votes:
            for model, text, rated in zip(vote.models, vote.responses, vote.rated, strict=True):
                if rated is wanted:
                    texts.setdefault((vote.prompt_id, model), text)
    kept, scored = [], set[tuple[str, str, str]]()
    for vote in votes:
        first = tuple(texts[vote.prompt_id, model] for model in vote.models)
        score = vote.user, vote.prompt_id, vote.models[0]
        if any(a != b and normal(a) != normal(b) for a, b in zip(first, vote.responses, strict=True)):
            left_out.setdefault(vote.row, "on a second text of one model to the same prompt")
        elif len(first) == 1 and score in scored:
            left_out[vote.row] = "this user scored this response before"
        else:
            scored.add(score)
            kept.append(vote._replace(responses=first))
    said = [*found.notes, *models.notes, *people.notes]
    if more := len(texts_of) - len(ids):
        said.append(f"{more} prompt_ids name a prompt that has one already: one text is one prompt")
    if any(vote.user == EVERYONE for vote in kept):
        said.append("it does not say who voted: all count as one person")
    if longer := sum(vote.longer for vote in kept):
        said.append(f"{longer} votes were given after more turns than the first, which alone is read")
    return Found(kept, bad, left_out, tuple(said))


def _pairs(scores: Sequence[Vote]) -> list[Preference]:
    """A vote for every two responses that one user scored on one prompt, in the order of the rows."""
    cells: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, score in enumerate(scores):
        cells[score.user, score.prompt_id].append(place)
    twos = sorted(pair for cell in cells.values() for pair in combinations(cell, 2))
    return [
        Preference(
            a.prompt_id, a.models[0], b.models[0], 0.5 * ((a.figure > b.figure) + (a.figure >= b.figure)), a.user
        )
        for a, b in ((scores[i], scores[j]) for i, j in twos)
    ]


# ── Kinds of files ───────────────────────────────────────────────────────────────────────────────────────

_HUB_CONFIGS = {"HannahRoseKirk/prism-alignment": "utterances"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def _hub_rows(source: str, cache_dir: Path | None) -> Rows:
    if not hub.reachable():
        raise MissingError(
            f"{source} is neither a file here nor to be had from the model hub, which is out of reach. Nothing was "
            "changed. Download it where there is a network and pass the file: --preferences FILE.parquet"
        )
    import datasets

    name, _, part = source.partition(":")
    hub.quiet_datasets()
    try:
        folder = str(cache_dir) if cache_dir else None
        found = datasets.load_dataset(name, part or _HUB_CONFIGS.get(name), cache_dir=folder)
    except Exception as error:  # the hub's client raises errors of many libraries; each ends the run with its text
        raise UsageError(f"{source} could not be loaded from the hub: {first_line(error)}") from error
    return arrow_rows(found["train" if "train" in found else next(iter(found))].data.table)


def _own_columns(rows: Rows, source: str, answers: Answers | None, models: Names) -> Found:
    """Votes or scores in our own columns. Raises UsageError where columns are lacking, or outcomes coded otherwise."""
    rows, left_out = renamed(rows, ALIASES), dict[int, str]()
    if answers is not None:
        rows, left_out = _joined(rows, answers, models, source)
    columns = columns_of(rows)
    there = {*columns, "prompt_id"}  # only a name: prompts are known by their text
    lacking = {layout: [c for c in layout if c not in there] for layout in (VOTE_COLUMNS, SCORE_COLUMNS)}
    layout = min(lacking, key=lambda kind: len(lacking[kind]))
    if lacking[layout]:
        raise UsageError(
            f"{source} lacks the columns {', '.join(lacking[layout])}; it has {', '.join(columns)}. "
            f"Votes need {', '.join(VOTE_COLUMNS)}; scores need {', '.join(SCORE_COLUMNS)}"
        )
    for name in ("turn", "evaluation_order"):  # later turns answer what the other models did not see
        turns = {number: turn for number, row in rows.items() if (turn := figure_of(row.get(name))) == turn}
        left_out |= {n: "on a later turn" for n, turn in turns.items() if turn > min(turns.values())}
    rows = {number: row for number, row in rows.items() if number not in left_out}
    if layout == VOTE_COLUMNS:
        usual = "outcomes are 0, 0.5 and 1, or between: 1 where a is preferred"
        refuse_coding((row.get("outcome") for row in rows.values()), source, usual)
    votes, bad, _ = each_row(rows, own_vote if layout == VOTE_COLUMNS else own_score)
    return Found(votes, bad, left_out)


def _alpaca_eval(rows: Rows, source: str) -> Found:
    usual = "alpaca_eval's preferences are 1 and 2, or between: 1 for the first output"
    refuse_coding((row.get("preference") for row in rows.values()), source, usual, low=1.0, high=2.0)
    return Found(*each_row(rows, alpaca_eval_vote))


# {kind: (columns that only this kind has, each alone or a "+b" together; columns that it must have, one of "a|b";
# its reader)}
_KINDS: Mapping[str, tuple[str, str, Callable[[Rows, str], Found]]] = {
    "Open WebUI's feedback export": ("snapshot data+meta", "user_id data meta", lambda rows, _: open_webui(rows)),
    "the Arena's data sets": (
        "conversation_a conversation_b winner_model_a winner_model_b",
        "model_a model_b winner|winner_model_a conversation_a|prompt conversation_b|response_b",
        lambda rows, _: Found(*each_row(rows, arena_vote)),
    ),
    "alpaca_eval's annotations": (
        "generator_1 generator_2 output_1 output_2",
        "instruction output_1 generator_1 output_2 generator_2 preference",
        _alpaca_eval,
    ),
}


def recognize(columns: Collection[str], source: str) -> str:
    """The kind of export with such columns, empty where there is none. Raises UsageError where one is lacking."""
    for kind, (signs, needs, _) in _KINDS.items():
        if not any(set(sign.split("+")) <= set(columns) for sign in signs.split()):
            continue
        lacking = [need for need in needs.split() if not any(name in columns for name in need.split("|"))]
        if lacking:
            raise UsageError(
                f"{source} looks like {kind} and lacks: {', '.join(lacking).replace('|', ' or ')}. Its columns are "
                f"{', '.join(columns)}. Nothing was changed. Rename the column that is meant, or export it anew"
            )
        return kind
    return ""


# ── Votes without texts ──────────────────────────────────────────────────────────────────────────────────

_HAVE_TEXTS = "--responses: the votes in {} have their texts already. Leave --responses out."
_TEXT_OF = {"model": "response", "model_a": "response_a", "model_b": "response_b"}


def _joined(rows: Rows, answers: Answers, models: Names, source: str) -> tuple[Rows, dict[int, str]]:
    """The rows with prompt and responses from ``answers``, by the prompt's text or else its id, and those left out.

    Raises UsageError where the votes have their texts, or none finds its own.
    """
    asked = {prompt.id: prompt.text for prompt in answers.prompts}
    found, left_out, strange, bare = dict(rows), dict[int, str](), set[str](), 0
    for number, row in rows.items():
        sides = {text: row.get(side) for side, text in _TEXT_OF.items() if row.get(text) is None}
        missing = {text: models.of(name) for text, name in sides.items() if isinstance(name, str) and name.strip()}
        if missing:
            bare += 1
            try:
                own = prompt_id(text_in(row, "prompt"))
            except ValueError:  # none, so by its id; without that too it finds nothing
                own = answers.ids.get(id_in(row) or "", "")
            texts = {text: answers.texts.get((own, model)) for text, model in missing.items()}
            if None in texts.values():
                del found[number]
                left_out[number] = "its texts are in no file of --responses"
                strange |= set(missing.values()) - set(answers.models)
            else:
                found[number] = {**row, **texts, "prompt_id": own, "prompt": asked[own]}
    if not bare:
        raise UsageError(_HAVE_TEXTS.format(source))
    if not found:
        those = f"; they have no {', '.join(sorted(strange))}" if strange else ""
        raise UsageError(
            f"None of the {bare} votes in {source} finds its texts in --responses, by prompt and model{those}. "
            "Nothing was changed. Prompts are compared by their whole text, or by prompt_id where votes have no prompt."
        )
    return found, left_out


# ── Own votes ────────────────────────────────────────────────────────────────────────────────────────────


def own_votes_file(name: str) -> Path:
    """Where the own votes of a persona lie."""
    return config.VOTES_DIR / config.VOTES_FILE.format(name=name)


def read_own_votes(path: Path) -> list[Vote]:
    """All votes that sessions have kept in a file; lines that do not parse (a torn last one) are left out.

    Raises UsageError for a file of other things."""
    rows, unread = read_rows(path) if path.exists() else ({}, {})
    found, bad, _ = each_row(rows, own_vote)
    if len(bad) + len(unread) > 1:
        refuse_bad_rows(unread | bad, path, len(rows) + len(unread), skip=True)
    return found


def on_these(votes: Iterable[Vote], prompts: Iterable[Prompt], responses: Iterable[Response]) -> list[Preference]:
    """The votes on just these texts: not those on what other models, seeds or backends answered under the same ids."""
    texts = {(prompt.id, ""): normal(prompt.text) for prompt in prompts}
    texts |= {(response.prompt_id, response.model): normal(response.text) for response in responses}
    return [vote.preference() for vote in votes if all(texts.get(key) == normal(text) for key, text in vote.claims())]
