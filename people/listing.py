"""Votes row by row, as they were read: ``python main.py --preferences FILE --check``."""

from __future__ import annotations

from core.text import plain
from people.read import Votes

WIDTH = 60  # characters of a prompt


def show(source: str, votes: Votes) -> int:
    """Print every vote and every row that is none, with the reason; the exit status. Nothing is written."""
    prompts = {prompt.id: _line(prompt.text) for prompt in votes.prompts}
    counts = f"votes: {len(votes.preferences)}, people: {len(votes.users)}, prompts: {len(prompts)}"
    lines = [f"{source}: {counts}, models: {len(votes.models)}", *votes.notes]
    for vote in votes.preferences:
        sides = f"{vote.model_a} against {vote.model_b}"
        lines.append(f"  {vote.user}: {sides}: {vote.outcome:g} on {prompts[vote.prompt_id]}")
    for title, rows in (("Left out", votes.left_out), ("Wrong", votes.skipped)):
        lines += [f"{title}:"] if rows else []
        lines += [f"  row {number}: {reason}" for number, reason in rows.items()]
    print("\n".join(map(plain, lines)))
    return 0


def _line(text: str) -> str:
    words = " ".join(text.split())
    return f'"{words[:WIDTH]}{"…" if len(words) > WIDTH else ""}"'
