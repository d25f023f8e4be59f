"""A keyed JSON store that survives kills. It does not know what it stores.

One file is meant to be opened, read and edited:

    {"schema_version": 2, "stage": …, "about": …, "items": [{"key": …, "made_from": …, NAME: …, "value": …}, …]}

An item is found by its key and by the hash of what it was made from, so items of one key can stand beside each other.
While a store is open, each ``put`` is one line appended to ``<file>.journal``, which survives ``kill -9`` (not a power
cut). On leaving, the main file is replaced as a whole and the journal removed; after a crash the next opening does so.
Replaying a journal twice gives the same as once. Nothing damaged is ever deleted: it is set aside.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from core.errors import UsageError
from core.files import encode, read, set_aside, told, write_json

SCHEMA_VERSION = 2
ABOUT = (
    "Answers that need not be asked for again: an item is reused while made_from, the hash of all it was made from, "
    "stays the same. A value that you edit is taken as it stands; an item that you delete is asked for again. Items "
    "with print_out are there to be read only: they are computed from the others at each run."
)

log = logging.getLogger("ranking.cache")


class Item(NamedTuple):
    """A JSON value and what it is found by; ``names`` (of a judge, a topic, …) are for whoever reads the file."""

    key: str
    made_from: str
    names: Mapping[str, str]
    value: Any


Items = dict[tuple[str, str], Item]
"""By key and made_from, in the order in which they were first put."""


class Store:
    """The items of one file; to be used in a ``with`` statement, by one process at a time: see ``files.lock``.

    ``samples`` is a read-only file of the same format, from which missing items are filled up. Entering raises
    UsageError where a file can't be read, set aside or written anew. Values that are got must not be changed.
    """

    def __init__(self, path: Path, *, stage: str, samples: Path | None = None) -> None:
        self.path, self._journal = path, path.with_name(f"{path.name}.journal")
        self._stage, self._samples = stage, samples
        self._items: Items = {}
        self._print_outs: dict[str, Any] = {}
        self._changed = False

    def __enter__(self) -> Self:
        journal = read(self._journal)
        self._items, self._print_outs, sound = _contents(read(self.path))
        replayed, _, whole = _replayed(journal)
        self._items |= replayed
        for path in [self.path] * (not sound) + [self._journal] * (not whole):
            kept = f"{len(self._items)} items are used, whatever else it held is asked for again"
            log.warning("%s is damaged: as it was it is kept as %s; %s.", path, set_aside(path).name, kept)
        if journal is not None or not sound:
            self._compact()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # What ends the run already is what the user has to hear; the journal still holds every item.
        with suppress(UsageError) if kind else nullcontext():
            if self._changed:
                self._compact()

    def get(self, key: str, made_from: str) -> Any | None:
        """The value under ``key`` that was made from just this, also from the samples; None without one."""
        item = self._items.get((key, made_from))
        if item is None and (item := self._recorded.get((key, made_from))):
            self.put_many([item])
        return item and item.value

    def put(self, key: str, made_from: str, value: Any, **names: str) -> None:
        """Keep a JSON value other than None. Raises UsageError where it can't be written."""
        self.put_many([Item(key, made_from, names, value)])

    def put_many(self, items: Iterable[Item]) -> None:
        """Keep all of these or, after a kill, none. Raises what ``put`` raises."""
        # as they will be read back from the file
        found, _, _ = _items_of(json.loads(json.dumps([_entry(item) for item in items], allow_nan=False)))
        fresh = {id: item for id, item in found.items() if self._items.get(id) != item}
        if fresh:
            self._changed = True
            self._items |= fresh  # first, so that an interrupt in between does not lose them on leaving
            line = json.dumps([_entry(item) for item in fresh.values()], ensure_ascii=False)
            with told(self._journal):
                self._journal.parent.mkdir(parents=True, exist_ok=True)
                with self._journal.open("ab") as file:
                    file.write(encode(line + "\n"))

    def print_out(self, rows: Mapping[str, Any]) -> None:
        """Write down values that follow from the items, by key, for the reader: in place of all earlier ones."""
        fresh = json.loads(json.dumps(dict(rows), allow_nan=False))
        self._changed |= fresh != self._print_outs
        self._print_outs = fresh

    @cached_property
    def _recorded(self) -> Items:
        return _contents(read(self._samples) if self._samples else None)[0]

    def _compact(self) -> None:
        entries = [*map(_entry, self._items.values())]
        entries += [{"key": key, "print_out": True, "value": value} for key, value in self._print_outs.items()]
        head = {"schema_version": SCHEMA_VERSION, "stage": self._stage, "about": ABOUT}
        write_json(self.path, {**head, "items": entries})
        with told(self._journal, "removed"):
            self._journal.unlink(missing_ok=True)
        self._changed = False


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────


def read_items(path: Path, samples: Path | None = None) -> Items:
    """All items that a store would find in its file, its journal and the samples.

    Writes nothing and says nothing: what is damaged counts as missing. Raises UsageError where a file can't be read.
    """
    # The journal first: where a run beside this one compacts in between, it is replayed on its own result.
    journal, data = read(path.with_name(f"{path.name}.journal")), read(path)
    return _contents(read(samples) if samples else None)[0] | _contents(data)[0] | _replayed(journal)[0]


def _contents(data: bytes | None) -> tuple[Items, dict[str, Any], bool]:
    """Whatever can be used of a main file, items and print-outs, and whether that is all. None: no file."""
    entries: list[object] = [] if data is None else [None]  # what is no entry
    with suppress(ValueError, RecursionError):
        match _parse(data or b""):
            case {"schema_version": version, "items": [*found]} if version == SCHEMA_VERSION:
                entries = found
    return _items_of(entries)


def _replayed(journal: bytes | None) -> tuple[Items, dict[str, Any], bool]:
    """The same of a journal, whose torn last line is no damage: its put never returned."""
    entries: list[object] = []
    *lines, tail = (journal or b"").split(b"\n")
    for line in filter(None, [*lines, tail]):
        try:
            entries += _parse(line)
        except (ValueError, TypeError, RecursionError):  # TypeError: a number is no list
            entries += [] if line is tail else [None]
    return _items_of(entries)


def _items_of(entries: Iterable[object]) -> tuple[Items, dict[str, Any], bool]:
    """Items, print-outs by key, and whether all entries are either. Of two with one key and hash the later counts."""
    items: Items = {}
    print_outs: dict[str, Any] = {}
    sound = True
    for entry in entries:
        match entry:
            case {"key": str(key), "print_out": True, "value": value}:
                print_outs[key] = value
            case {"key": str(key), "made_from": str(made_from), "value": value, **names} if value is not None:
                items[key, made_from] = Item(key, made_from, cast("dict[str, str]", names), value)
            case _:
                sound = False
    return items, print_outs, sound


def _entry(item: Item) -> dict[str, Any]:
    return {"key": item.key, "made_from": item.made_from, **item.names, "value": item.value}


def _parse(data: bytes) -> Any:
    """A file's JSON. Raises ValueError for it with NaN, Infinity or 1e999 in it, which could not be written again."""
    value = json.loads(data)
    json.dumps(value, allow_nan=False)
    return value
