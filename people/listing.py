"""What was read of votes, row by row: ``python main.py --preferences FILE --check``."""

from __future__ import annotations

from core.text import plain
from people.votes import Votes

WIDTH = 60  # characters of a prompt


def show(source: str, votes: Votes) -> int:
    """Print every vote and every row that is none, with the reason; the exit status. Nothing is written."""
    prompts = {prompt.id: _line(prompt.text) for prompt in votes.prompts}
    counts = f"votes: {len(votes.preferences)}, people: {len(votes.users)}, prompts: {len(prompts)}"
    print(f"{source}: {counts}, models: {len(votes.models)}", *votes.notes, sep="\n")
    for vote in votes.preferences:
        sides = f"{plain(vote.model_a)} against {plain(vote.model_b)}"
        print(f"  {plain(vote.user)}: {sides}: {vote.outcome:g} on {prompts[vote.prompt_id]}")
    for title, rows in (("Left out", votes.left_out), ("Wrong", votes.skipped)):
        if rows:
            print(f"{title}:", *(f"  row {number}: {reason}" for number, reason in rows.items()), sep="\n")
    return 0


def _line(text: str) -> str:
    words = plain(" ".join(text.split()))
    return f'"{words[:WIDTH]}{"…" if len(words) > WIDTH else ""}"'
