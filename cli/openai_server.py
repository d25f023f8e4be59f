"""The backend ``openai``: which server and models the flags name, what is missing of them, what it will cost."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from cli.backend import Backend, Finding, Known, at_least_two, is_name
from cli.counting import Costs
from config import Contestant, ExperimentConfig
from core.errors import MissingError, UsageError
from llm.interface import nearest_tags
from llm.openai import OpenAIModel, speaks_here

log = logging.getLogger("ranking.preflight")

MANY = 10  # models of a list that are named


def backend(args: Namespace, params: ExperimentConfig, known: Mapping[str, Known]) -> Backend:
    """The backend that the flags name; the paid address is named before anything is asked.

    Raises UsageError where contestants or judge are not named: no server has models that could be the default.
    """
    llm = OpenAIModel(concurrency=params.concurrency, timeout=params.timeout)
    if not (args.models and args.judge):
        raise UsageError(
            "--backend openai needs the contestants and the judge by name: --models A B … --judge C"
            f"{_offer(llm)}. For instance:\n  OPENAI_BASE_URL={llm.address} python main.py --backend openai "
            "--models A B --judge C"
        )
    names = at_least_two(args.models)
    for flag, given in (("models", names), ("judge", [args.judge])):
        if odd := [name for name in given if not is_name(name)]:
            raise UsageError(f"--{flag} {odd[0]!r} is no name of a model; --check shows those of the server.")
    if llm.paid:
        log.warning(
            "OPENAI_BASE_URL is not set: %s is asked, which bills every token. --check says how many.", llm.address
        )
    try:
        listed, answers = llm.listed(), True
    except MissingError as error:  # said later, with all else that is missing
        log.debug("%s", error)
        listed, answers = {}, False
    before = known.get(remembered_as(llm, args.judge))
    context = listed.get(args.judge) if answers else (before.context if before else None)
    label = (
        f"openai ({llm.address})" if answers else "openai (its server is out of reach: everything comes from the cache)"
    )
    contestants = {name: Contestant(None, None, None) for name in names}
    return Backend("openai", llm, args.judge, contestants, {}, label, (), answers, context, known)


def remembered_as(llm: OpenAIModel, model: str) -> str:
    """The key under which is written down what the server said of a model."""
    return f"{model} at {llm.address}"


def seen_now(chosen: Backend) -> dict[str, Known]:
    """What the server says of the judge, for a later run that does without the server."""
    llm = cast(OpenAIModel, chosen.llm)
    return {remembered_as(llm, chosen.judge): Known("", chosen.judge_context)} if chosen.answers else {}


def _offer(llm: OpenAIModel) -> str:
    """The models to choose from, where the server can be asked for them."""
    try:
        listed = llm.listed()
    except MissingError:
        return ""
    return f". The server has {_some(listed)}" if listed else ""


def _some(names: Iterable[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:MANY]) + (f" and {len(some) - MANY} more" if len(some) > MANY else "")


# ── What is there ────────────────────────────────────────────────────────────────────────────────────────


def findings(chosen: Backend, calls: Mapping[str, int]) -> Iterator[Finding]:
    """The server and each model; what is missing but not needed any more has no ``fix``."""
    llm = cast(OpenAIModel, chosen.llm)
    try:
        listed = llm.listed()
    except MissingError as error:
        fix = "OPENAI_API_KEY=… and OPENAI_BASE_URL=http://…/v1 name a server that answers"
        yield (
            Finding("OpenAI API", str(error), fix) if calls else Finding("OpenAI API", f"{error} Everything is cached.")
        )
        return
    lists = f"lists {len(listed)} models: {_some(listed)}" if listed else "lists no models"
    yield Finding("OpenAI API", f"{llm.address} answers and {lists}")
    for name in dict.fromkeys([*chosen.contestants, chosen.judge]):
        roles = ["contestant"] * (name in chosen.contestants) + ["judge"] * (name == chosen.judge)
        yield _model(f"{name} ({' and '.join(roles)})", name, listed, calls.get(name, 0))
    said = "by name only, a server of this kind tells no digest: a model that changes behind its name is not noticed"
    yield Finding("Models are known", f"{said} (--refresh responses asks again)")


def _model(about: str, name: str, listed: Mapping[str, int | None], calls: int) -> Finding:
    if not listed:
        return Finding(about, "whether the server has it shows when it is asked")
    if name not in listed:
        near = nearest_tags(name, listed)
        similar = f"; similar: {', '.join(near)}" if near else ""
        left = "" if calls else ", and nothing is left to ask it"
        fix = f"--models and --judge with names of the server's list, or a server that has {name}" if calls else ""
        return Finding(about, f"not in the server's list{left}{similar}", fix)
    context = listed[name]
    return Finding(about, f"listed, context {context:,} tokens" if context else "listed, context not told")


def token_lines(costs: Costs) -> Iterator[str]:
    """What is read and written at most, by model: what a cloud bills."""
    for model, tokens in costs.tokens.items():
        yield f"Tokens of {model}, at most: about {tokens.read:,} read and {tokens.written:,} written."


def instead_of_ollama(address: str) -> str:
    """How to ask the server that answers where Ollama was looked for; empty where none of this kind does."""
    if not speaks_here(address):
        return ""
    return (
        f"What answers there speaks the OpenAI API. To ask it:\n  OPENAI_BASE_URL={address}/v1 python main.py "
        "--backend openai --models A B --judge C"
    )
