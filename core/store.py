"""A keyed JSON store that survives kills. It does not know what it stores.

One file is meant to be opened, read and edited:

    {"schema_version": 2, "stage": …, "about": …, "items": [{"key": …, "made_from": …, NAME: …, "value": …}, …]}

An item is found by its key and by the hash of what it was made from, so items of one key can stand beside each other.
While a store is open, each ``put`` is one line appended to ``<file>.journal``: what has been put survives ``kill -9``
(not a power cut: only the main file is fsynced). On leaving, the main file is replaced as a whole and the journal
removed; after a crash the next opening does that. Replaying a journal twice gives the same as once, so a kill between
the two does no harm either. Nothing damaged is ever deleted: it is set aside.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from core.errors import UsageError
from core.files import encode, fingerprint, lock, read, refusal, set_aside, write_atomically, write_json

__all__ = ["Item", "Store", "fingerprint", "lock", "write_atomically"]

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
    """The items of one file; to be used in a ``with`` statement.

    ``samples`` is a read-only file of the same format, from which missing items are filled up. A ``read_only`` store
    never writes: what is put into it is there until it is left. Only one process at a time may have a store open for
    writing: see ``files.lock``. Entering raises UsageError where a file can't be read, or set aside, or written anew
    after a crash.
    """

    def __init__(self, path: Path, *, stage: str, samples: Path | None = None, read_only: bool = False) -> None:
        self.notices: list[str] = []
        """What was set aside or ignored: sentences for the user."""
        self._path, self._stage, self._samples, self._read_only = path, stage, samples, read_only
        self._journal = path.with_name(path.name + ".journal")
        self._held = _Contents()
        self._pending: list[Item] = []
        """Not in the journal yet: what is being put, or could not be written."""
        self._recorded: _Contents | None = None
        self._file: io.FileIO | None = None
        self._changed = False

    def __enter__(self) -> Self:
        # The journal first: where a run beside a read-only store compacts in between, it is replayed on its own result.
        journal, data = read(self._journal), read(self._path)
        if data is not None:
            self._held = _contents(data, self._stage)
            if self._held.problem:
                self._changed = bool(self._held.items)  # else the file is gone, and there is nothing to write anew
                self._say_damage(self._path, self._held.problem, copy=self._changed)
        if journal is not None:
            self._changed = True
            self._replay(journal)
        if self._changed and not self._read_only:
            self._compact()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._read_only or not self._changed:
            return
        try:
            self._compact()
        except UsageError as refused:
            if kind is None:
                raise
            # What ends the run already is what the user has to hear; the journal still holds every item.
            self._notice(str(refused))
        finally:
            self._close()

    def __len__(self) -> int:
        return len(self._held.items)

    def items(self) -> Iterator[Item]:
        """Copies of all items in the order in which they were first put; print-outs are not among them."""
        for item in self._held.items.values():
            yield item._replace(value=_copy(item.value))

    def get(self, key: str, made_from: str) -> Any | None:
        """A copy of the value under ``key`` that was made from just this; None where there is none.

        An item of the samples is taken over as if it had been put.
        """
        item = self._held.items.get((key, made_from))
        if item is None:
            item = self._sampled().get((key, made_from))
            if item is None:
                return None
            if not self._read_only:
                self._keep([item])
        return _copy(item.value)

    def put(self, key: str, made_from: str, value: Any, **names: str) -> None:
        """Keep a JSON value, safe against ``kill -9`` on return.

        Raises TypeError for anything else (and for None, which ``get`` could not tell from nothing) and UsageError
        where it can't be written.
        """
        self.put_many([Item(key, made_from, names, value)])

    def put_many(self, items: Iterable[Item]) -> None:
        """Keep all of these: after a kill all of them are there or none. Raises what ``put`` raises."""
        copies = [item._replace(value=_copy(item.value)) for item in items]
        for item in copies:
            if item.value is None:
                raise TypeError(f"{item.key!a} can't be kept: its value is None")
        self._keep(copies)

    def print_out(self, rows: Mapping[str, Any]) -> None:
        """Write values down for the reader, by key, in place of all earlier print-outs; they are never read back.

        They follow from the items, so they are not in the journal: the next run computes them again.
        """
        fresh: dict[str, Any] = _copy(dict(rows))
        # Version 1 kept print-outs as items made from nothing but their own value.
        old = [id for id, item in self._held.items.items() if item.key in fresh and id[1] == fingerprint(item.value)]
        for id in old:
            del self._held.items[id]
        self._changed |= bool(old) or fresh != self._held.print_outs
        self._held.print_outs = fresh

    def _keep(self, items: Iterable[Item]) -> None:
        fresh = {(item.key, item.made_from): item for item in items}
        fresh = {id: item for id, item in fresh.items() if self._held.items.get(id) != item}
        self._held.items.update(fresh)  # first, so that an interrupt in between does not lose them on leaving
        if self._read_only:
            return
        self._pending += fresh.values()
        if self._pending:
            self._changed = True
            entries = [_entry(item) for item in self._pending]
            self._append(entries[0] if len(entries) == 1 else entries)
            self._pending.clear()

    def _sampled(self) -> Items:
        if self._recorded is None:
            data = read(self._samples) if self._samples else None
            self._recorded = _Contents() if data is None else _contents(data, self._stage)
            if problem := self._recorded.problem:
                used = f"{len(self._recorded.items)} of its items are used"
                self._notice(f"{self._samples} {problem}: {used}. `git checkout {self._samples}` brings it back.")
        return self._recorded.items

    # ── Its files ──

    def _replay(self, data: bytes) -> None:
        """Take in the journal; lines that can't be read are said."""
        *lines, tail = data.split(b"\n")
        bad = 0
        for line in filter(None, [*lines, tail]):
            try:
                items, _, wrong = _items_of(_line(line))
                self._held.items.update(items)
            except ValueError:
                wrong = line is not tail  # a kill cut it while it was written, so its put never returned
            bad += bool(wrong)
        if bad:
            self._say_damage(self._journal, f"has {bad} of {len(lines)} lines that can't be read", copy=True)

    def _append(self, record: object) -> None:
        """One line at the end of the journal, or the journal as it was and a UsageError."""
        line = memoryview(encode(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"))
        try:
            if self._file is None:
                self._journal.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._journal.open("ab", buffering=0)
            size = os.fstat(self._file.fileno()).st_size
            try:
                while line:  # a disk that becomes full writes less than it was given before it says so
                    line = line[self._file.write(line) :]
            except OSError:
                with contextlib.suppress(OSError):  # else the next opening leaves the torn line out
                    self._file.truncate(size)
                raise
        except OSError as error:
            raise refusal(self._journal, error) from error

    def _compact(self) -> None:
        """The main file anew from what is in memory, then no journal."""
        print_outs = [{"key": key, "print_out": True, "value": value} for key, value in self._held.print_outs.items()]
        document = {
            "schema_version": SCHEMA_VERSION,
            "stage": self._stage,
            "about": ABOUT,
            **self._held.comments,
            "items": [*map(_entry, self._held.items.values()), *print_outs],
        }
        write_json(self._path, document)
        self._close()
        try:
            self._journal.unlink(missing_ok=True)
        except OSError as error:
            raise refusal(self._journal, error, "removed") from error
        self._pending.clear()
        self._changed = False

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _say_damage(self, path: Path, problem: str, *, copy: bool) -> None:
        """``copy``: a part of the file is still used."""
        where = "it stays as it is" if self._read_only else f"as it was it is kept as {set_aside(path, copy=copy).name}"
        kept = f"{len(self._held.items)} items are used, whatever else it held is asked for again"
        self._notice(f"{path} {problem}: {where}; {kept}.")

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        log.warning("%s", text)


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Contents:
    """What a main file holds."""

    items: Items = field(default_factory=dict)
    print_outs: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, Any] = field(default_factory=dict)
    """What a person wrote beside our own entries."""
    problem: str = ""
    """What is wrong with it, to be read after its name."""


def _contents(data: bytes, stage: str) -> _Contents:
    """Whatever can be used of a main file of version 1 or 2."""
    try:
        document = _parse(data)
    except ValueError as error:
        return _Contents(problem=f"is damaged or cut short ({error})")
    if not isinstance(document, dict):
        return _Contents(problem="is no JSON object")
    version, found, entries = (document.pop(name, None) for name in ("schema_version", "stage", "items"))
    if version not in (1, SCHEMA_VERSION):
        problem = f"has schema_version {version!r:.40} where this program reads 1 and {SCHEMA_VERSION}"
        return _Contents(problem=problem)
    if found != stage:
        return _Contents(problem=f"belongs to stage {found!r:.40}, not {stage!r}")
    if isinstance(entries, dict):
        entries = _version_1(entries)
    if not isinstance(entries, list):
        return _Contents(problem="has no items")
    document.pop("about", None)
    items, print_outs, wrong = _items_of(entries)
    problem = f"has {wrong} of {len(entries)} items that are no {{key, made_from, value}} or stand there twice"
    return _Contents(items, print_outs, document, problem if wrong else "")


def _line(data: bytes) -> list[Any]:
    """The entries of one line of a journal. Raises ValueError where it is not JSON."""
    record = _parse(data)
    if isinstance(record, dict) and isinstance(record.get("put"), dict):
        return _version_1(record["put"])
    return record if isinstance(record, list) else [record]


def _version_1(items: Mapping[str, Any]) -> list[Any]:
    """Entries in a list, where version 1 had them by their keys."""
    return [{"key": key, **entry} if isinstance(entry, dict) else entry for key, entry in items.items()]


def _items_of(entries: Iterable[object]) -> tuple[Items, dict[str, Any], int]:
    """Items, print-outs by key, and how many entries are neither or stand there twice (the later one counts)."""
    items: Items = {}
    print_outs: dict[str, Any] = {}
    wrong = 0
    for entry in entries:
        match entry:
            case {"key": str(key), "print_out": True, "value": value}:
                print_outs[key] = value
            case {"key": str(key), "made_from": str(made_from), "value": value, **names} if value is not None:
                names.pop("checksum", None)  # version 1 had one
                wrong += (key, made_from) in items
                items[key, made_from] = Item(key, made_from, cast("dict[str, str]", names), value)
            case _:
                wrong += 1
    return items, print_outs, wrong


def _entry(item: Item) -> dict[str, Any]:
    return {"key": item.key, "made_from": item.made_from, **item.names, "value": item.value}


def _parse(data: bytes) -> Any:
    """Raises ValueError for anything that is not strict JSON or holds a number without a value."""
    try:
        return json.loads(data, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # NaN, Infinity, 1e999: they could not be written again
        raise ValueError(f"{text:.20} is no number in JSON")
    return number


def _copy(value: Any) -> Any:
    """The value as it will be read back from a file; whoever gets it may change it. Raises TypeError for no JSON."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except ValueError as error:  # NaN, a circle
        raise TypeError(f"this can't be kept: {error}") from None
