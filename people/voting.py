"""``python main.py --vote``: a session of own votes, and what they show when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from core.records import Preference
from evidence.judge_quality import FEWEST_SHARED, agreement_with_person
from people.next_pair import TopTwo
from people.read import on_these, own_votes_file, read_own_votes
from people.session import Session, count, more, open_session, percent_sure
from people.terminal import Screen, in_terminal, wrapped
from stages.own import FEWEST_PROMPTS
from stages.tasks import Job


class End(NamedTuple):
    """What is said, with names, when a session is over."""

    title: str
    chances: Mapping[str, float]
    """{model: chance that it is the best}, best first; empty without a vote."""
    remarks: Sequence[str]
    commands: Sequence[tuple[str, str]]
    """What to do next, and its command line."""


Give = Callable[[Session, Screen, Callable[[], End]], None]
"""Asks for votes until the session is over; the last argument is for those who show its end themselves."""


def vote(
    job: Job,
    command: Callable[..., str],
    judged: Callable[[], Sequence[Preference]],
    give: Give = lambda session, screen, _: in_terminal(session, screen),
) -> int:
    """Votes on pairs of this persona's responses, each kept at once; then the order of the models by them.

    ``command`` makes a command line of these flags that goes on with this run's cache and base; ``judged`` gives the
    simulated persona's preferences, as far as they are cached.
    """
    from data_generation import collect_responses, generate_prompts

    prompts = generate_prompts(job)
    responses = collect_responses(job, prompts)
    path = own_votes_file(job.name, job.cache_dir)
    models = TopTwo(responses, {m: rating.elo for m, rating in (job.ratings or {}).items()}, job.params)
    about, screen = {"persona": job.name, "backend": job.llm.backend}, Screen()

    @cache
    def end() -> End:
        votes = read_own_votes(path)
        if not votes:
            return End("No votes yet.", {}, [], [])
        chances: Mapping[str, float] = {}
        remarks: list[str] = []
        if own := on_these(votes, prompts, responses):
            models.learn(own)
            found = models.standing()
            chances, remarks = found.chances, [more(found), agreement(job.name, own, judged())]
        title = f"By your {count(len(own), 'vote')}, the chance that each model is the best:" if own else ""
        on = len({vote.prompt_id for vote in votes})
        given = f"{count(len(votes), 'vote')} on {count(on, 'prompt')} in all."
        learn, rank = command("--preferences", str(path)), command("--preferences", str(path), "--rank", "PROMPT")
        if (lacking := FEWEST_PROMPTS - on) > 0:
            needed = f"Votes on {FEWEST_PROMPTS} prompts are needed before anything can learn from them"
            remarks.append(f"{given} {needed}: on {lacking} more.")
            return End(title, chances, remarks, [("The same command goes on with the pairs left; then:", learn)])
        by_votes = ("This ranks the models for a prompt by your votes:", rank)
        systems = ("All systems on your votes, with tables and plots:", learn)
        return End(title, chances, [*remarks, given], [by_votes, systems])

    with open_session(prompts, responses, path, models, about, job.params.random_seed) as session:
        give(session, screen, end)
    title, chances, remarks, commands = end()
    by_model = ", ".join(f"{model} {percent_sure(chance)}" for model, chance in chances.items())
    for paragraph in filter(None, (f"{title} {by_model}".strip(), *remarks)):
        screen.say(wrapped(paragraph))
    for what, line in commands:
        screen.say(f"{what}\n  {line}")
    return 0


def agreement(persona: str, votes: Sequence[Preference], judged: Sequence[Preference]) -> str:
    """How far the judge, as this persona, agrees with ``votes`` on the same responses."""
    who = f"The simulated {persona}"
    if not judged:
        return f"{who} has not judged these pairs: whether it agrees with you is said once its own run is done."
    found = agreement_with_person(votes, judged)
    if found["kappa"] is None:
        return (
            f"Whether the simulated {persona} agrees with you is said from {FEWEST_SHARED} pairs on that you both "
            f"decide; there are {found['pairs']}."
        )
    low, high = found["ci95"]
    return (
        f"{who} agrees with you on {100.0 * found['share']:.0f} % of the {found['pairs']} pairs that you both decide: "
        f"κ = {found['kappa']:.2f} [{low:.2f}, {high:.2f}], where 0 is chance and 1 always."
    )
