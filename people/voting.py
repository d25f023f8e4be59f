"""``python main.py --vote``: a session of own votes, and what they show when it is over."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from core.text import count, wrapped
from people.browser import in_browser
from people.read import read_own_votes
from people.session import End, Session, more, open_session, percent_sure
from people.terminal import in_terminal, say
from stages.own import FEWEST_PROMPTS
from stages.tasks import Job


def vote(job: Job, where: str, command: Callable[..., str]) -> int:
    """Ask for votes on pairs of this persona's responses, in the "browser" or "terminal"; then say who leads by them.

    ``command`` makes a command line of these flags that goes on with this run's cache and base.
    """
    from data_generation import collect_responses, generate_prompts

    prompts = generate_prompts(job)
    responses = collect_responses(job, prompts)
    with open_session(job, prompts, responses) as session:
        end = cache(lambda: end_of(session, command))
        try:
            if where == "terminal" or not session.pair:
                in_terminal(session)
            else:
                in_browser(session, end)
        finally:
            say(session.saved())
    title, chances, remarks, commands = end()
    by_model = ", ".join(f"{model} {percent_sure(chance)}" for model, chance in chances.items())
    for paragraph in (f"{title} {by_model}." if by_model else title, *remarks):
        say("\n".join(wrapped(paragraph)))
    for what, line in commands:
        say(f"{what}\n  {line}")
    return 0


def end_of(session: Session, command: Callable[..., str]) -> End:
    """Sum a session up: the chances by the votes on these answers, how many are kept in all, and what to do next."""
    votes, own, path = read_own_votes(session.path), session.votes, str(session.path)
    standing, title, remarks = session.models.standing(), "No votes on these answers yet.", list[str]()
    if not votes:
        return End(title, {}, remarks, [])
    if own:
        title = f"By your {count(len(own), 'vote')}, the chance that each model is the best:"
        remarks = [more(standing)]
    prompts = len({vote.prompt_id for vote in votes})
    learn, rank = command(preferences=path), command(preferences=path, rank="PROMPT")
    commands = [("To rank the models for a prompt by your votes:", rank), ("To run all systems on your votes:", learn)]
    given = f"{count(len(votes), 'vote')} on {count(prompts, 'prompt')} in all."
    if (lacking := FEWEST_PROMPTS - prompts) > 0:
        needed = f"Votes on {FEWEST_PROMPTS} prompts are needed before anything can learn from them"
        given += f" {needed}: on {lacking} more."
        commands = [("The same command goes on with the pairs left; then:", learn)]
    return End(title, standing.chances if own else {}, [remark for remark in (*remarks, given) if remark], commands)
