"""Reads a store's files whatever has happened to them: no exception, and no item whose checksum does not fit."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from core.files import fingerprint

SCHEMA_VERSION = 1


class Item(NamedTuple):
    made_from: str
    checksum: str
    value: Any


_HEADER = ("schema_version", "stage", "about", "items")
# Where an entry begins, in a file of which nothing else is certain. Starting only at quotes without a backslash keeps
# the search linear, and keeps it out of what a text quotes.
_ENTRY = re.compile(r'(?<!\\)("(?:[^"\\]|\\.)*")\s*:\s*(?=\{\s*"(?:made_from|checksum|value)")', re.DOTALL)


def _fits(checksum: object, *parts: object) -> bool:
    """The version and the stage are among the parts, so that what belongs elsewhere never fits."""
    try:
        return checksum == fingerprint(*parts)
    except (TypeError, RecursionError):
        return False


def _intact(stage: str, key: str, entry: object) -> Item | None:
    match entry:
        case {"made_from": str(made_from), "checksum": str(checksum), "value": value}:
            fits = _fits(checksum, SCHEMA_VERSION, stage, key, made_from, value)
            return Item(made_from, checksum, value) if fits else None
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _parse(data: bytes) -> Any:
    """Raises ValueError for anything that is not strict JSON in UTF-8."""
    try:
        return json.loads(data.removeprefix(codecs.BOM_UTF8).decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def _salvage(data: bytes, stage: str) -> dict[str, Item]:
    """Every item that is whole, found by its look and believed by its checksum."""
    text, decoder = data.decode("utf-8", "replace"), json.JSONDecoder()
    found: dict[str, Item] = {}
    at = 0
    while start := _ENTRY.search(text, at):
        at = start.end()
        try:
            key = json.loads(start.group(1))
            entry, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        if item := _intact(stage, key, entry):
            found[key] = item
            at = end
    return found


def read_items(data: bytes, stage: str) -> tuple[dict[str, Item], str]:
    """The intact items of a file and what is wrong with it: "" where nothing is."""
    try:
        document = _parse(data)
    except ValueError as error:
        return _salvage(data, stage), f"is damaged or cut short ({error})"
    if problem := _header_problem(document, stage):
        return _salvage(data, stage), problem
    entries = document["items"]
    items = {key: item for key, entry in entries.items() if (item := _intact(stage, key, entry))}
    wrong = len(entries) - len(items)
    return items, f"has {wrong} of {len(entries)} items that don't fit their checksum" if wrong else ""


def _header_problem(document: object, stage: str) -> str:
    if not isinstance(document, dict):
        return "is no JSON object"
    if unknown := sorted(set(document) - set(_HEADER)):
        return f"has unknown entries ({str(unknown)[1:-1]:.100})"
    version = document.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        return f"has schema_version {version!r:.40} where this program reads {SCHEMA_VERSION}"
    if document.get("stage") != stage:
        return f"belongs to stage {document.get('stage')!r:.40}, not {stage!r}"
    return "" if isinstance(document.get("items"), dict) else "has no items"


def parse_line(line: bytes, stage: str) -> tuple[Mapping[str, Item | None], bool]:
    """What a line of the journal changes (None: removed) and whether all of it can be believed."""
    try:
        record = _parse(line)
    except ValueError:
        return _salvage(line, stage), False
    match record:
        case {"put": dict(entries)}:
            items = {key: item for key, entry in entries.items() if (item := _intact(stage, key, entry))}
            return items, len(items) == len(entries)
        case {"remove": list(keys), "checksum": checksum} if _fits(checksum, SCHEMA_VERSION, stage, "remove", keys):
            return dict.fromkeys(keys), True
    return _salvage(line, stage), False
