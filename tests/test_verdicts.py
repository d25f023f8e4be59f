"""A judge's verdict, as two kinds of server give it: read from its words and from the probabilities beside them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from fake_ollama import FakeOllama
from fake_openai import FakeOpenAI
from ollama_helpers import model_of

from llm.answers import verdict_probabilities
from llm.interface import Choice, Decision
from llm.openai import OpenAIModel

Json = dict[str, Any]
LABELS = ("A", "B", "tie")
SHARES = {"A": 0.2, "B": 0.7, "tie": 0.1}


def choices(count: int, reason: bool = True) -> list[Choice]:
    return [Choice("judge:8b", f"which {i}?", LABELS, reason) for i in range(count)]


def says(text: str) -> Any:
    return lambda _request: text


def decide(kind: str, brain: Any, shares: Any, count: int = 1, reason: bool = True) -> tuple[list[Any], list[Json]]:
    """The decisions and the requests that reached the server."""
    make = FakeOllama if kind == "ollama" else FakeOpenAI
    with make(brain=brain, models=["judge:8b"], probabilities=shares) as server:
        model = model_of(server, concurrency=1) if kind == "ollama" else OpenAIModel(server.url, "", concurrency=1)
        found = dict(model.choose(choices(count, reason)))
    return [found[i] for i in range(count)], [call.request for call in server.calls]


def schema_of(request: Json) -> Json:
    return request.get("format") or request["response_format"]["json_schema"]["schema"]


@pytest.mark.parametrize("kind", ["ollama", "openai"])
def test_probabilities_come_with_the_verdict(kind: str) -> None:
    verdict = json.dumps({"choice": "B", "reason": "shorter"})
    decisions, sent = decide(kind, says(verdict), lambda _: SHARES, count=3)
    assert all(decision.winner == "B" for decision in decisions)
    assert all(decision.probabilities == pytest.approx(SHARES, abs=1e-4) for decision in decisions)
    assert {(request["logprobs"], request["top_logprobs"]) for request in sent} == {(True, 20)}


@pytest.mark.parametrize("kind", ["ollama", "openai"])
def test_a_server_that_gives_none_leaves_everything_as_it_was(kind: str) -> None:
    decisions, sent = decide(kind, says(json.dumps({"choice": "B", "reason": "so"})), None, count=2)
    assert [(d.winner, d.reason, d.probabilities) for d in decisions] == [("B", "so", None)] * 2
    assert all("reason" in schema_of(request)["properties"] for request in sent)


@pytest.mark.parametrize("reason", [True, False])
def test_a_reason_is_asked_for_or_left_and_stands_behind_the_verdict(reason: bool) -> None:
    _, sent = decide("ollama", says(json.dumps({"choice": "B", "reason": "so"})), None, count=2, reason=reason)
    wanted = ["choice", "reason"] if reason else ["choice"]
    assert [list(schema_of(request)["properties"]) for request in sent] == [wanted] * 2


def tokens(*said: tuple[str, dict[str, float]]) -> Any:
    return tuple((token, {t: math.log(p) for t, p in likely.items()}) for token, likely in said)


HEAD = (("```", {"```": 1.0}), ('{"', {'{"': 1.0}), ("choice", {"answer": 0.9, "choice": 0.1}), ('":', {'":': 1.0}))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # as recorded: other tokens stand between the labels, and "tie" is not among them
        ([(' "', {' "': 1.0}), ("A", {"A": 0.6, "B": 0.3, "C": 0.05, "a": 0.05})], (0.6, 0.3, 0.05)),
        # quotes, blanks and beginnings of one label
        ([(' "', {' "': 1.0}), ("t", {"t": 0.4, "ti": 0.1, " A": 0.2, 'B"': 0.2, "B": 0.1})], (0.2, 0.3, 0.5)),
        # the quote in one token with the label
        ([(' "B', {' "B': 0.5, ' "A': 0.3, '"tie"': 0.2})], (0.3, 0.5, 0.2)),
        ([('"B"}', {'"B"}': 0.5, '"A"}': 0.3, "A": 0.2})], (0.5, 0.5, 0.2)),
        ([(' "', {' "': 1.0}), ("Because", {"Because": 1.0})], None),
    ],
)  # fmt: skip
def test_labels_are_counted_at_the_token_where_the_verdict_stands(said: Any, expected: Any) -> None:
    found = verdict_probabilities(LABELS, tokens(*HEAD, *said, ('", "', {'", "': 1.0}), ("reason", {"reason": 1.0})))
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(dict(zip(LABELS, (e / sum(expected) for e in expected), strict=True)), abs=1e-4)


def test_without_a_verdict_in_the_tokens_there_are_no_probabilities() -> None:
    assert verdict_probabilities(LABELS, ()) is None
    assert verdict_probabilities(LABELS, tokens(("A", {"A": 1.0}))) is None
    assert Decision("A").probabilities is None
