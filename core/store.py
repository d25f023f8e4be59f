"""A keyed JSON store that survives kills. It does not know what it stores.

One file is meant to be opened, read and edited:

    {"schema_version": 2, "stage": …, "about": …, "items": [{"key": …, "made_from": …, NAME: …, "value": …}, …]}

An item is found by its key and by the hash of what it was made from, so items of one key can stand beside each other.
While a store is open, each ``put`` is one line appended to ``<file>.journal``, which survives ``kill -9`` (not a power
cut). On leaving, the main file is replaced as a whole and the journal removed; after a crash the next opening does so.
Replaying a journal twice gives the same as once. Nothing damaged is ever deleted: it is set aside.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Self

from core.errors import UsageError
from core.files import encode, read, set_aside, told, write_json

ABOUT = (
    "Answers that need not be asked for again: an item is reused while made_from, the hash of all it was made from, "
    "stays the same. A value that you edit is taken as it stands; an item that you delete is asked for again. Items "
    "with print_out are there to be read only: they are computed from the others at each run."
)

log = logging.getLogger("ranking.cache")


Item = dict[str, Any]
"""``key``, ``made_from``, the JSON ``value``, and names (of a judge, a topic, …) for whoever reads the file; one that
follows from others and is there for the reader alone has ``print_out`` in the place of ``made_from``."""
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
        self._items, self._recorded = Items(), Items()
        self._changed = False

    def __enter__(self) -> Self:
        journal = read(self._journal)
        self._recorded, _ = _contents(read(self._samples) if self._samples else None)
        self._items, sound = _contents(read(self.path))
        replayed, whole = _replayed(journal)
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
            self._keep(item)
        return item and item["value"]

    def put(self, key: str, made_from: str, value: Any, **names: str) -> None:
        """Keep a JSON value other than None. Raises UsageError where it can't be written."""
        self._keep({"key": key, "made_from": made_from, **names, "value": value})

    def _keep(self, item: Item) -> None:
        line = json.dumps([item], ensure_ascii=False, allow_nan=False)
        (item,) = json.loads(line)  # as it will be read back from the file
        id = item["key"], item["made_from"]
        if self._items.get(id) != item:
            self._changed = True
            self._items[id] = item  # first, so that an interrupt in between does not lose it on leaving
            with told(self._journal):
                self._journal.parent.mkdir(parents=True, exist_ok=True)
                with self._journal.open("ab") as file:
                    file.write(encode(f"\n{line}\n"))  # apart from half a line that a full disk took

    def print_out(self, rows: Mapping[str, Any]) -> None:
        """Write down values that follow from the items, by key, for the reader: in place of all earlier ones."""
        said = [{"key": key, "print_out": True, "value": value} for key, value in rows.items()]
        fresh, _ = _items_of([encode(json.dumps(said, allow_nan=False))])
        self._changed |= fresh != {id: item for id, item in self._items.items() if "print_out" in item}
        self._items = _answers(self._items) | fresh

    def _compact(self) -> None:
        head = {"schema_version": 2, "stage": self._stage, "about": ABOUT}
        write_json(self.path, {**head, "items": list(self._items.values())})
        with told(self._journal, "removed"):
            self._journal.unlink(missing_ok=True)
        self._changed = False


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────


def read_items(path: Path, samples: Path | None = None) -> Items:
    """All items but print-outs that a store would find in its file, its journal and the samples.

    Writes nothing and says nothing: what is damaged counts as missing. Raises UsageError where a file can't be read.
    """
    # The journal first: where a run beside this one compacts in between, it is replayed on its own result.
    journal, data = read(path.with_name(f"{path.name}.journal")), read(path)
    recorded, _ = _contents(read(samples) if samples else None)
    return _answers(recorded | _contents(data)[0] | _replayed(journal)[0])


def _answers(items: Items) -> Items:
    return {id: item for id, item in items.items() if "print_out" not in item}


def _contents(data: bytes | None) -> tuple[Items, bool]:
    """Whatever can be used of a main file, and whether that is all. None: no file."""
    return _items_of([] if data is None else [data])


def _replayed(journal: bytes | None) -> tuple[Items, bool]:
    """The same of a journal, whose torn last line is no damage: its put never returned."""
    *lines, tail = (journal or b"").split(b"\n")
    items, sound = _items_of(filter(None, lines))
    return items | _items_of([tail])[0], sound


def _items_of(texts: Iterable[bytes]) -> tuple[Items, bool]:
    """The items of a main file or of the lines of a journal, and whether these hold nothing else. Of two with one key
    and hash the later counts."""
    items: Items = {}
    sound = True
    for text in texts:
        entries: list[Any] = [None]  # what is no entry
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
            json.dumps(value, allow_nan=False)  # with NaN, Infinity or 1e999 in it, it could not be written again
            match value:
                case {"schema_version": 2, "items": [*found]} | [*found]:
                    entries = found
        for entry in entries:
            match entry:
                case {"key": str(key), "print_out": True, "value": _}:
                    items[key, ""] = entry
                case {"key": str(key), "made_from": str(made_from), "value": value} if value is not None:
                    items[key, made_from] = entry
                case _:
                    sound = False
    return items, sound
