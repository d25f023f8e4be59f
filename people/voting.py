"""``python main.py --vote``: a session of own votes, and what they show when it is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from core.records import Preference
from evidence.judge_quality import FEWEST_SHARED, agreement_with_person
from people.browser import in_browser
from people.next_pair import TopTwo
from people.read import on_these, own_votes_file, read_own_votes
from people.session import End, count, more, open_session, percent_sure
from people.terminal import Screen, in_terminal, wrapped
from stages.own import FEWEST_PROMPTS
from stages.tasks import Job


def vote(job: Job, where: str, command: Callable[..., str], judged: Callable[[], Sequence[Preference]]) -> int:
    """Ask for votes on pairs of this persona's responses, in the "browser" or "terminal"; then say who leads by them.

    ``command`` makes a command line of these flags that goes on with this run's cache and base; ``judged`` gives the
    simulated persona's preferences, as far as they are cached.
    """
    from data_generation import collect_responses, generate_prompts

    prompts = generate_prompts(job)
    responses = collect_responses(job, prompts)
    path = own_votes_file(job.name)
    models = TopTwo(responses, {m: rating.elo for m, rating in (job.ratings or {}).items()}, job.params)
    about, screen = {"persona": job.name, "backend": job.llm.backend}, Screen()

    @cache
    def end() -> End:
        votes = read_own_votes(path)
        title, chances, remarks = "No votes on these answers yet.", dict[str, float](), list[str]()
        if not votes:
            return End(title, chances, remarks, [])
        if own := on_these(votes, prompts, responses):
            models.learn(own)
            found = models.standing()
            title = f"By your {count(len(own), 'vote')}, the chance that each model is the best:"
            chances = dict(sorted(found.chances.items(), key=lambda chance: -chance[1]))
            remarks = [more(found), agreement(job.name, own, judged())]
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
        if where == "terminal":
            in_terminal(session, screen)
        else:
            in_browser(session, screen, end)
    title, chances, remarks, commands = end()
    by_model = ", ".join(f"{model} {percent_sure(chance)}" for model, chance in chances.items())
    for paragraph in (f"{title} {by_model}." if by_model else title, *remarks):
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
