"""A person's own votes: where they lie, what the file holds, and which of them are on texts that are still the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

import config
from core.files import move, read
from core.records import Preference, Prompt, Response
from core.tables import read_rows
from people.votes import Votes, to_votes

USER = "me"  # the name under which own votes are kept


def own_votes_file(name: str, cache_dir: Path) -> Path:
    """Where the own votes of a persona lie. Those that an earlier version kept in the cache are moved there, and that
    is said."""
    path, old = (folder / config.VOTES_FILE.format(name=name) for folder in (config.VOTES_DIR, cache_dir))
    votes = read(old) if old.resolve() != path.resolve() else None
    if votes is not None and read(path) in (None, votes):
        move(old, path)
        print(f"Your votes in {old} are now in {path}: the cache may be deleted, your votes may not.")
    elif votes is not None:
        here, there = shlex.quote(str(path)), shlex.quote(str(old))
        print(f"{old} holds votes that are not in {path}. To add them: cat {there} >> {here} && rm {there}")
    return path


def read_own_votes(path: Path) -> Votes | None:
    """The votes that sessions have kept in a file, None where there is none yet.

    Lines that do not parse (a torn last one) and votes on a response that has changed since are left out and
    stand in ``skipped``. Raises UsageError where no line is left.
    """
    if not path.exists():
        return None
    rows, bad = read_rows(path)
    torn = len(bad) == 1 and not path.read_bytes().endswith(b"\n")
    if len(rows) == 0 and (not bad or torn):
        return None
    return to_votes(rows, bad, str(path), skip_bad_rows=True, keep="last")


def on_these(votes: Votes | None, prompts: Iterable[Prompt], responses: Iterable[Response]) -> list[Preference]:
    """The votes on just these texts: not those on what other models, seeds or backends answered under the same ids."""
    if votes is None:
        return []
    asked = {p.id: p.text for p in prompts}
    answered = {(r.prompt_id, r.model): r.text for r in responses}
    same = {(p.id, p.text) for p in votes.prompts} & asked.items()
    known = {(r.prompt_id, r.model) for r in votes.responses if answered.get((r.prompt_id, r.model)) == r.text}
    return [
        p
        for p in votes.preferences
        if (p.prompt_id, asked.get(p.prompt_id)) in same
        and {(p.prompt_id, p.model_a), (p.prompt_id, p.model_b)} <= known
    ]
