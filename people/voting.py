"""``python main.py --vote``: a session of own votes, and what they show when it is over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from core.files import lock
from core.text import count, percent, wrapped
from people.browser import in_browser
from people.read import own_votes_file, read_own_votes
from people.session import End, Session, more
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
    with lock(own_votes_file(job.name).parent):
        session = Session(job, prompts, responses)
        end = partial(end_of, session, command)
        try:
            if where == "terminal" or not session.pair:
                in_terminal(session)
            else:
                in_browser(session, end)
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
