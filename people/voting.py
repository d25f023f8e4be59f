"""``python main.py --vote``: a session of own votes, here or in the browser, and what they show when it is over."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from functools import partial

from core.files import lock
from core.text import WIDTH, count, percent, plain, wrapped
from people.browser import in_browser
from people.read import own_votes_file, read_own_votes
from people.session import UNDO, VOTES, End, Session, more
from stages.own import FEWEST_PROMPTS
from stages.tasks import Job

KEYS = "a: A is better  b: B is better  t: tie  x: both bad  u: undo  q: quit"


def vote(job: Job, where: str, command: Callable[..., str]) -> int:
    """Ask for votes on pairs of this persona's responses, in the "browser" or "terminal"; then say who leads by them.

    ``command`` makes a command line of these flags that goes on with this run's cache and base.
    """
    from stages.writing import collect_responses, generate_prompts

    prompts = generate_prompts(job)
    responses = collect_responses(job, prompts)
    with lock(own_votes_file(job.name).parent):
        session = Session(job, prompts, responses)
        end = partial(end_of, session, command)
        try:
            if where == "terminal" or not session.pair or in_browser(session, end):
                in_terminal(session)
        finally:
            say(session.saved())
    title, chances, remarks, commands = end()
    by_model = ", ".join(f"{model} {chance}" for model, chance in chances.items())
    for paragraph in (f"{title} {by_model}." if by_model else title, *remarks):
        say("\n".join(wrapped(paragraph)))
    for what, line in commands.items():
        say(f"{what}\n  {line}")
    return 0


def end_of(session: Session, command: Callable[..., str]) -> End:
    """Sum a session up: the chances by the votes on these answers, how many are kept in all, and what to do next."""
    kept, standing, path = read_own_votes(session.path), session.models.standing(), str(session.path)
    chances = {model: percent(chance) for model, chance in standing.chances.items() if session.votes}
    title = f"By your {count(len(session.votes), 'vote')}, the chance that each model is the best:"
    prompts = len({vote.prompt_id for vote in kept})
    remarks = [more(standing), f"{count(len(kept), 'vote')} on {count(prompts, 'prompt')} in all."]
    learn, rank = command("--preferences", path), command("--preferences", path, "--rank", "PROMPT")
    commands = {"To rank the models for a prompt by your votes:": rank, "To run all systems on your votes:": learn}
    if prompts < FEWEST_PROMPTS:
        remarks += [f"Nothing can learn from votes on fewer than {FEWEST_PROMPTS} prompts."]
        commands = {"The same command goes on with the pairs left; then:": learn}
    if not chances:
        title, remarks = "No votes on these answers yet.", remarks[1:]
    return End(title, chances, [*filter(None, remarks)], commands)


# ── In the terminal ──────────────────────────────────────────────────────────────────────────────────────


def in_terminal(session: Session) -> None:
    """Ask for a vote on pair after pair, model names never shown. Ctrl-C comes through; the end of the input is "q"."""
    while pair := session.pair:
        place = f"Pair {session.number} of {session.total}"
        for title, text in {place: pair.prompt, "Response A": pair.response_a, "Response B": pair.response_b}.items():
            say(f"\n{f'── {title} ':─<{WIDTH}}\n{text.strip() or '(no answer)'}")
        say("\n".join(["─" * WIDTH, *wrapped(session.progress())]))
        print(f"{KEYS} > ", end="", flush=True)
        key = _key()
        say("")  # ends the question's line
        if key == "q":
            break
        if key in (*VOTES, UNDO):
            session.press(key)
        else:
            session.note = "Please answer a, b, t, x, u or q."


def _key() -> str:
    """One key press on a terminal, elsewhere a line; "q" where the input ends.

    What was typed before the question is dropped: it was meant for another pair. A key of several characters (an arrow,
    a pasted text) is handed over whole: its last letter alone could pass for a vote.
    """
    if not sys.stdin.isatty():
        return (sys.stdin.readline() or "q").strip().lower()
    import click

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else it would leave the terminal as it is for keys
    try:
        return click.getchar().lower()
    except EOFError:
        return "q"


def say(text: str) -> None:
    """Print a text without anything in it that steers the terminal."""
    print(plain(text, lines=True), flush=True)
