"""Votes that carry no texts, joined to answers that lie in files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import UsageError
from stages.own import Answers, prompt_id

Rows = Mapping[int, Mapping[str, Any]]
"""Rows by their number in the file, from 1."""

# A column's name, and PRISM's.
_NAMES = {"prompt": "user_prompt", "prompt_id": "interaction_id", "model": "model_name"}
_SIDES = {"model": "response", "model_a": "response_a", "model_b": "response_b"}


def joined(rows: Rows, answers: Answers, source: str) -> tuple[dict[int, Mapping[str, Any]], tuple[str, ...]]:
    """The rows with prompt and responses filled in, by the prompt's text or else its id, and what is to be said of it.

    Rows of which a text is in no file are left out and counted. Raises UsageError where the votes have their texts, or
    none finds its own.
    """
    asked = {one.id: one.text for one in answers.prompts}
    found: dict[int, Mapping[str, Any]] = {}
    without: set[str] = set()
    models: set[str] = set()
    bare = 0
    for number, row in rows.items():
        sides = {text: str(_value(row, side)) for side, text in _SIDES.items() if _value(row, side)}
        missing = [text for text in sides if row.get(text) is None]
        prompt, given = _value(row, "prompt"), _value(row, "prompt_id")
        if not missing or not (prompt or given):  # whole already, or wrong: it is named with the other wrong rows
            found[number] = row
            continue
        bare += 1
        own = prompt_id(str(prompt)) if prompt else answers.ids.get(str(given), "")
        texts = {text: answers.texts.get((own, sides[text])) for text in missing}
        if None in texts.values():
            without.add(str(prompt or given))
            models |= set(sides.values()) - set(answers.models)
            continue
        found[number] = {**row, **texts, "prompt_id": own, "prompt": asked[own]}
    if not bare:
        raise UsageError(f"--responses: the votes in {source} have their texts already. Leave --responses out.")
    if not found:
        strange = f"; they have no {', '.join(sorted(models))}" if models else ""
        raise UsageError(
            f"None of the {bare} votes in {source} finds its texts in --responses, by prompt and model{strange}. "
            "Nothing was changed. Prompts are compared by their whole text, or by prompt_id where votes have no prompt."
        )
    left_out = len(rows) - len(found)
    said = f"votes whose texts are in no file of --responses, left out: {left_out}, on {len(without)} prompts"
    return found, (said,) if left_out else ()


def _value(row: Mapping[str, Any], name: str) -> Any:
    return row.get(name) or row.get(_NAMES.get(name, name))
