"""What a model of the fake Ollama server says, and how a brain of one's own reads what it was asked."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from typing import Any

Json = dict[str, Any]
IN_WORDS = "\n\nAnswer with nothing but one JSON object that obeys this schema:\n"


def key(request: Json) -> str:
    """The hash of a request."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def last_text(request: Json) -> str:
    """What the model was asked: the last message of the chat."""
    return str(request["messages"][-1]["content"])


def shown(text: str) -> dict[str, str]:
    """label → response, as ``prompts/preference_evaluation.txt`` and ``ground_truth_ranking.txt`` show them."""
    block = re.compile(r"^--- response (\S+) begins (\S*)\n(.*?)\n--- response \1 ends \2$", re.DOTALL | re.MULTILINE)
    return {label: response for label, _, response in block.findall(text)}


def log_probabilities(content: str, probabilities: dict[str, float]) -> list[Json]:
    """The tokens of a verdict in the shape of real servers: a fence that the content has not stands first, and other
    tokens have their part where the verdict is drawn, since probabilities come before the grammar's mask.

    probabilities: label → its share; {} for an answer without a verdict.
    """
    tokens = ["```", *re.findall(r"\s*\"|\w+|\W", content)]
    verdict, start, said = re.search(r'"choice"\s*:\s*"', content), -3, []
    for token in tokens:
        likely = {token: 0.9, "```json": 0.05}
        if verdict and start == verdict.end():
            forms = {"A": ("A", ' "A'), "B": ("B", ' "B'), "tie": ("t", "ti")}  # with a quote, or a beginning
            spelt = {form: 0.45 * share for label, share in probabilities.items() if share for form in forms[label]}
            likely = {**spelt, "C": 0.05, "Answer": 1e-4}
        top = [{"token": t, "logprob": math.log(p), "bytes": list(t.encode())} for t, p in likely.items()]
        own = next((entry for entry in top if entry["token"] == token), top[0])
        said.append({**own, "top_logprobs": sorted(top, key=lambda entry: -entry["logprob"])})
        start += len(token)
    return said


# ── The default brain ────────────────────────────────────────────────────────────────────────────────────

_STYLES = (
    "```python\ndef solve(x):\n    return x\n```\nThe function above shows it for: {asked}",
    "1. Look at the question: {asked}\n2. Take it apart.\n3. Answer each part.",
    "The rain had just stopped when someone asked: {asked} Nobody slept that night.",
    "In the literature, one distinguishes several hypotheses about this. The question was: {asked}",
    "- Costs\n- Risks\n- A recommendation\n\nAll of it about: {asked}",
    "Well, to put it simply, {asked} It is like baking a cake.",
)
_TASTES = {"developer": "```", "scien": "hypothes", "writer": "night", "student": "simply", "analyst": "Risks"}
_ASKS = ("How do I deal with {}", "What should I know about {}", "Show me one example of {}", "What goes wrong with {}")


def default_brain(request: Json) -> str:
    """An answer that depends on model and prompt; where the request has a schema, JSON that obeys it. A judge prefers
    what the person it is told of would, by a mark in the text, else the longer response."""
    text, _, words = last_text(request).partition(IN_WORDS)
    schema = request.get("format") or (words and json.loads(words))
    if isinstance(schema, dict):
        return json.dumps(_obey(schema, text, "", random.Random(key(request))))
    style = _STYLES[int(hashlib.sha256(str(request.get("model")).encode()).hexdigest(), 16) % len(_STYLES)]
    return style.format(asked=" ".join(text.split()[:40])) + f" ({key({'text': text})[:6]})"


def _best_first(labels: list[Any], text: str) -> list[Any]:
    responses = shown(text)
    mark = next((m for word, m in _TASTES.items() if word in text.split("--- request")[0]), "\0")
    return sorted(labels, key=lambda x: (mark in responses.get(x, ""), len(responses.get(x, ""))), reverse=True)


def _obey(schema: Json, text: str, name: str, rng: random.Random) -> Any:
    """A value that one of the suite's JSON schemas allows."""
    if "enum" in schema:
        responses = [label for label in schema["enum"] if label in shown(text)]
        return _best_first(responses, text)[0] if responses else rng.choice(schema["enum"])
    if schema.get("type") == "object":
        return {key: _obey(value, text, key, rng) for key, value in schema["properties"].items()}
    if schema.get("type") == "string":
        return f"Because of {name}."
    if labels := schema["items"].get("enum"):  # a ranking
        return _best_first(rng.sample(labels, len(labels)), text)
    # prompts on the topics listed, as prompts/prompt_generation.txt lists them
    topics = re.findall(r"^- (?!\(none)(.*)$", text.split("Rules:")[0], re.MULTILINE)
    return [f"{rng.choice(_ASKS).format(topic)}?" for topic in topics] or [f"What about number {rng.random()}?"]
