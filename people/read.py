"""Human votes: one row a vote, or an export; every wrong row is named.

votes = load_votes("votes.jsonl")
votes.preferences[0].user, votes.users, votes.left_out
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import config
from core import hub, tables
from core.clock import bar
from core.errors import MissingError, UsageError
from core.files import fingerprint
from core.records import Preference, Prompt, Response
from core.tables import BadRows, LeftOut, Row, Rows, each_row, read_rows, refuse_bad_rows, text_in
from core.text import Names, count, normal, plain
from people import rows as kinds
from people.rows import EVERYONE, VOTE_COLUMNS, Vote, own_vote
from stages.own import Answers, prompt_id

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
    left_out: Mapping[int, str]
    """{row number: why}: rows that are no votes on first answers, and wrong ones where that was asked for."""
    notes: tuple[str, ...] = ()


def load_votes(source: str, *, skip_bad_rows: bool = False, answers: Answers | None = None) -> Votes:
    """Votes from a file or a hub id ("owner/name" or "owner/name:config"): in VOTE_COLUMNS, or an export.

    Prompts are known by their text, and an id in the file, which may be missing, is a name for it. ``answers``: the
    texts of votes that carry none.

    Raises UsageError for what cannot be read and, unless ``skip_bad_rows``, for wrong rows; MissingError where a hub is
    needed and out of reach.
    """
    path = Path(source)
    hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", source)
    is_file = path.suffix.lower() in tables.ENDINGS or not hub_id or path.exists()
    rows, out = read_rows(path) if is_file else (_hub_rows(source), BadRows())
    total, models = len(rows) + len(out), Names(answers.models if answers else ())
    if answers is not None:
        rows = _joined(rows, answers, models, source, out)
    if not rows:
        refuse_bad_rows(out, source, total)
        raise UsageError(f"{source} has no rows")
    kind, read = recognize(rows, source)
    kinds.refuse_coding(rows, source, "preference" if kind == ALPACA else "outcome")
    given, others = each_row(rows, read)
    out |= others
    votes, notes = _one_of_each(kinds.by_ratings(given, out) if kind == OPEN_WEBUI else given, out, models)
    refuse_bad_rows(out, source, total if votes else len(out), skip=skip_bad_rows)
    left_out = {number: str(out[number]) for number in sorted(out)}
    said = [] if kind == OWN else [f"read as {kind}: {count(len(votes), 'vote')} from {count(total, 'row')}"]
    why = Counter(reason.partition(":")[0] for reason in left_out.values())
    said += [f"{rows} left out: {reason}" for reason, rows in why.most_common()]
    preferences = tuple(vote.preference() for vote in votes)
    sides = [{(p.model_a, p.outcome), (p.model_b, round(1 - p.outcome, 12))} for p in preferences]
    different = {(p.user, p.prompt_id, frozenset(two)) for p, two in zip(preferences, sides, strict=True)}
    if repeats := len(preferences) - len(different):
        said.append(f"{count(repeats, 'vote')} given again by the same person on the same responses: each counts")
    texts = dict(claim for vote in votes for claim in vote.claims())
    return Votes(
        preferences,
        prompts=tuple(Prompt(prompt, text) for (prompt, model), text in texts.items() if not model),
        responses=tuple(Response(*key, text) for key, text in texts.items() if key[1]),
        users=tuple(dict.fromkeys(p.user for p in preferences)),
        models=tuple(dict.fromkeys(model for _, model in texts if model)),
        left_out=left_out,
        notes=("; ".join([*said, *notes]),) if said or notes else (),
    )


def _one_of_each(votes: Sequence[Vote], out: BadRows, models: Names) -> tuple[list[Vote], list[str]]:
    """One name for each model and person, one prompt for each text, and one text, the first, for each model's response
    to it; and what is to be said of the names. Votes of which that can't be made go ``out``."""
    people, kept = Names(), list[Vote]()
    texts_of, ids, texts = dict[str, str](), dict[str, str](), dict[tuple[str, str], str]()
    for vote in bar(votes, len(votes), "votes"):
        prompt, a, b = normal(vote.prompt), models.of(vote.model_a), models.of(vote.model_b)
        given = normal(vote.prompt_id) or fingerprint(prompt)
        if not prompt:
            out[vote.row] = "the prompt is empty"
        elif texts_of.setdefault(given, prompt) != prompt:
            out[vote.row] = f"prompt_id stands for another prompt in an earlier row (prompts need no id): {given:.40}"
        elif a == b:
            out[vote.row] = LeftOut("the same model answers on both sides")
        else:
            known = ids.setdefault(prompt, given)
            first = texts.setdefault((known, a), vote.response_a), texts.setdefault((known, b), vote.response_b)
            if [*map(normal, first)] == [normal(vote.response_a), normal(vote.response_b)]:
                kept.append(Vote(people.of(vote.user), known, prompt, a, first[0], b, first[1], vote.outcome, vote.row))
            else:
                out[vote.row] = LeftOut("on a second text of one model to the same prompt")
    notes = [*models.notes, *people.notes]
    if more := len(texts_of) - len(ids):
        notes.append(f"{count(more, 'prompt_id')} of a prompt that has one already: one text is one prompt")
    if any(vote.user == EVERYONE for vote in kept):
        notes.append("it does not say who voted: all count as one person")
    return kept, notes


def show(source: str, votes: Votes) -> int:
    """Print every vote and every row that is none, with the reason; the exit status. Nothing is written."""
    prompts = {prompt.id: prompt.text for prompt in votes.prompts}
    counts = f"votes: {len(votes.preferences)}, people: {len(votes.users)}, prompts: {len(prompts)}"
    lines = [f"{source}: {counts}, models: {len(votes.models)}", *votes.notes]
    for v in votes.preferences:
        lines.append(f'  {v.user}: {v.model_a} against {v.model_b}: {v.outcome:g} on "{prompts[v.prompt_id]:.60}"')
    lines += [f"  row {row}: {reason}" for row, reason in votes.left_out.items()]
    print("\n".join(map(plain, lines)))
    return 0


def run_name(source: str) -> str:
    """What the run's files are named after: the file's stem, or the hub id, in characters that any disk takes; with
    ``my_`` where that is a persona's name, whose results would be replaced."""
    stem = Path(source).stem if Path(source).suffix else source
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.").encode()[:100].decode(errors="ignore") or "votes"
    return f"my_{name}" if name.lower() in (*config.PERSONAS, "all") else name


# ── Kinds of files ───────────────────────────────────────────────────────────────────────────────────────


def _hub_rows(source: str) -> Rows:
    name, _, part = source.partition(":")
    try:
        found = hub.load_dataset(name, part or None)
    except Exception as error:  # the hub's client raises errors of many libraries; each ends the run with its text
        raise MissingError(
            f"{source} is no file here and can't be had from the hub: {tables.first_line(error)}. Nothing was changed. "
            "Download it elsewhere, and pass the file: --preferences FILE.parquet"
        ) from error
    return tables.arrow_rows(found["train" if "train" in found else next(iter(found))].data.table)


OWN, ARENA = "votes", "the Arena's data sets"
OPEN_WEBUI, ALPACA = "Open WebUI's feedback export", "alpaca_eval's annotations"
# What a file may be, the columns that it must have then, and what reads a row of it.
_KINDS: Sequence[tuple[str, Sequence[str], Callable[[int, Row], Any]]] = (
    (OWN, VOTE_COLUMNS, own_vote),
    (OPEN_WEBUI, ("user_id", "data", "meta"), kinds.open_webui_rating),
    (ARENA, ("model_a", "model_b", "winner", "conversation_a", "conversation_b"), kinds.arena_vote),
    (ARENA, (*VOTE_COLUMNS[2:-1], "winner_model_a", "winner_model_b", "winner_tie"), kinds.arena_vote),
    (ALPACA, ("instruction", "generator_1", "output_1", "generator_2", "output_2", "preference"), kinds.alpaca_vote),
)


def recognize(rows: Rows, source: str) -> tuple[str, Callable[[int, Row], Any]]:
    """What a file with such columns is, and what reads its rows. Raises UsageError where each kind lacks a column."""
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    there = {*columns, "prompt_id"}  # only a name: prompts are known by their text
    kind, needed, read = min(_KINDS, key=lambda kind: len(set(kind[1]) - there) / len(kind[1]))
    if lacking := [name for name in needed if name not in there]:
        raise UsageError(
            f"{source} looks like {kind} and lacks the columns {', '.join(lacking)}; it has {', '.join(columns)}. "
            "Nothing was changed. Rename the columns that are meant, or export it anew."
        )
    return kind, read


# ── Votes without texts ──────────────────────────────────────────────────────────────────────────────────


def _joined(rows: Rows, answers: Answers, models: Names, source: str, out: BadRows) -> Rows:
    """The rows with prompt and responses from ``answers``, by the prompt's text or its id; the others go ``out``."""
    asked = {prompt.id: prompt.text for prompt in answers.prompts}
    how = "they are looked up by model and by the prompt's whole text, or else its id"
    found, unknown = dict(rows), set[str]()
    for number, row in rows.items():
        names = {side: models.of(name) for side in "ab" if isinstance(name := row.get(f"model_{side}"), str)}
        if not names or (row.get("response_a") is not None and row.get("response_b") is not None):
            continue
        own = ""  # finds nothing
        with suppress(ValueError):
            own = answers.ids.get(text_in(row, "prompt_id", figures=True), "")
        with suppress(ValueError):
            own = prompt_id(text_in(row, "prompt"))
        texts = {f"response_{side}": answers.texts.get((own, name)) for side, name in names.items()}
        texts |= {side: text for side in texts if (text := row.get(side)) is not None}
        found[number] = {**row, **texts, "prompt_id": own, "prompt": asked.get(own)}
        if None in texts.values():
            del found[number]
            unknown |= set(names.values()) - set(answers.models)
            out[number] = LeftOut(f"its texts are in no file of --responses: {how}")
    if rows and not found:
        lacking = f", which has no {', '.join(sorted(unknown))}" if unknown else ""
        raise UsageError(f"No vote in {source} finds its texts in --responses{lacking}: {how}. Nothing was changed.")
    if rows and found == rows:
        raise UsageError(f"--responses: the votes in {source} have their texts already. Leave --responses out.")
    return found


# ── Own votes ────────────────────────────────────────────────────────────────────────────────────────────


def read_own_votes(path: Path) -> list[Vote]:
    """All votes that sessions have kept in a file. Raises UsageError for a row that is none."""
    rows, unread = read_rows(path) if path.exists() else ({}, {})
    votes, out = each_row(rows, own_vote)
    unread.pop(len(rows) + len(unread), None)  # a torn last line; the next vote takes its place
    refuse_bad_rows(unread | out, path, len(rows) + len(unread))
    return votes


def on_these(votes: Iterable[Vote], prompts: Iterable[Prompt], responses: Iterable[Response]) -> list[Preference]:
    """The votes on just these texts: not those on what other models, seeds or backends answered under the same ids."""
    texts = {(prompt.id, ""): normal(prompt.text) for prompt in prompts}
    texts |= {(response.prompt_id, response.model): normal(response.text) for response in responses}
    return [vote.preference() for vote in votes if all(texts.get(key) == normal(text) for key, text in vote.claims())]
