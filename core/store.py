"""A crash-safe keyed JSON store. It does not know what it stores.

One file is meant to be opened and read:

    {"schema_version": 1, "stage": …, "about": …, "items": {key: {"made_from": …, "checksum": …, "value": …}}}

While a store is open, each ``put`` is one line appended to ``<file>.journal``: what has been put survives ``kill -9``
(not a power cut: only the main file is fsynced). On leaving, the main file is replaced as a whole and the journal
removed; after a crash the next opening does that. Replaying a journal twice gives the same as once, so a kill between
the two does no harm either. Nothing damaged is ever deleted: it is moved aside, and whatever fits its checksum is kept.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from core.errors import UsageError
from core.files import copy_aside, encode, fingerprint, lock, read, refusal, write_atomically
from core.salvage import SCHEMA_VERSION, Item, parse_line, read_items

__all__ = ["Store", "fingerprint", "lock", "write_atomically"]

ABOUT = (
    "Answers that need not be asked for again: an item is reused while made_from, the hash of all it was made from, "
    "stays the same; an item that no longer fits its checksum is dropped."
)

log = logging.getLogger("ranking.cache")


class Store:
    """Items by key, each with the hash of what it was made from; to be used in a ``with`` statement.

    ``samples`` is a read-only file of the same format, from which missing items are filled up. A ``read_only`` store
    writes nothing at all. Only one process at a time may have a store open for writing: see ``lock``.
    Entering raises UsageError where a file can't be read, or has to be mended and can't be written.
    """

    def __init__(self, path: Path, *, stage: str, samples: Path | None = None, read_only: bool = False) -> None:
        self.notices: list[str] = []
        """What was repaired, moved aside or ignored: sentences for the user."""
        self._path, self._stage, self._samples, self._read_only = path, stage, samples, read_only
        self._journal = path.with_name(path.name + ".journal")
        self._items: dict[str, Item] = {}
        self._pending: dict[str, Item] = {}
        """Not in the journal yet: what is being put, or could not be written."""
        self._sample_items: dict[str, Item] | None = None
        self._file: io.FileIO | None = None
        self._torn_at: int | None = None
        """Where the journal's last whole line ends, while a line is being written or after that failed."""
        self._changed = False

    def __enter__(self) -> Self:
        # The journal first: where a run beside a read-only store compacts in between, it is replayed on its own result.
        journal, data = read(self._journal), read(self._path)
        self._changed = journal is not None
        self._items, problem = ({}, "") if data is None else read_items(data, self._stage)
        if data is not None and problem:
            self._changed = True
            self._say_damage(self._path, data, problem, len(self._items))
        if journal is not None:
            self._replay(journal)
        if self._changed and not self._read_only:
            self._compact()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._read_only or not self._changed:
            return
        try:
            self._compact()
        except UsageError as refusal:
            if kind is None:
                raise
            # What ends the run already is what the user has to hear; the journal still holds every item.
            self._notice(str(refusal))
        finally:
            self._close()

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> Iterator[tuple[str, str, Any]]:
        """(key, made_from, value) in the order in which the keys were first put."""
        for key, item in self._items.items():
            yield key, item.made_from, _copy(item.value)

    def get(self, key: str, made_from: str) -> Any | None:
        """The value under ``key``, a copy of its own, if it was made from just this; else None.

        An item of the samples is taken over as if it had been put.
        """
        item = self._items.get(key)
        if item is None or item.made_from != made_from:
            item = self._sampled().get(key)
            if item is None or item.made_from != made_from:
                return None
            if not self._read_only:
                self._keep({key: item})
        return _copy(item.value)

    def put(self, key: str, made_from: str, value: Any) -> None:
        """Keep a JSON value, safe against ``kill -9`` on return. Raises TypeError for anything else (and for None,
        which ``get`` could not tell from nothing) and UsageError where it can't be written."""
        self.put_many({key: (made_from, value)})

    def put_many(self, items: Mapping[str, tuple[str, Any]]) -> None:
        """Keep each ``key: (made_from, value)``: after a kill all of them are there or none."""
        self._keep({key: self._item(key, made_from, value) for key, (made_from, value) in items.items()})

    def remove(self, keys: Iterable[str]) -> None:
        """Drop these items; keys that are not there are ignored. Rewrites the file."""
        gone = [key for key in dict.fromkeys(keys) if key in self._items]
        if not gone:
            return
        checksum = fingerprint(SCHEMA_VERSION, self._stage, "remove", gone)
        self._append({"remove": gone, "checksum": checksum})
        for key in gone:
            del self._items[key]
            self._pending.pop(key, None)
        self._compact()  # a removal is always a journal's last line: replayed twice, it leaves the same order

    def _item(self, key: str, made_from: str, value: Any) -> Item:
        try:
            (key + made_from).encode()
            value = _copy(value)
        except ValueError as error:  # NaN, a circle, a key that has no UTF-8
            raise TypeError(f"{key!a} can't be kept: {error}") from None
        if value is None:
            raise TypeError(f"{key!a} can't be kept: its value is None")
        return Item(made_from, fingerprint(SCHEMA_VERSION, self._stage, key, made_from, value), value)

    def _keep(self, items: Mapping[str, Item]) -> None:
        fresh = {key: item for key, item in items.items() if self._items.get(key) != item}
        self._items.update(fresh)  # first, so that an interrupt in between does not lose them on leaving
        self._pending.update(fresh)
        if self._pending:
            self._append({"put": {key: item._asdict() for key, item in self._pending.items()}})
            self._pending.clear()

    def _sampled(self) -> dict[str, Item]:
        if self._sample_items is None:
            self._sample_items = {}
            data = read(self._samples) if self._samples else None
            if data is not None:
                self._sample_items, problem = read_items(data, self._stage)
                if problem:
                    kept = f"{len(self._sample_items)} intact items are used"
                    self._notice(f"{self._samples} {problem}; {kept}. `git checkout {self._samples}` brings it back.")
        return self._sample_items

    # ── Its files ──

    def _append(self, record: Mapping[str, object]) -> None:
        """One line at the end of the journal, or the journal as it was and a UsageError."""
        if self._read_only:
            raise RuntimeError(f"{self._path} was opened for reading only")
        self._changed = True
        line = memoryview(encode(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"))
        try:
            if self._file is None:
                self._journal.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._journal.open("ab", buffering=0)
            self._cut_torn_line(self._file)
            self._torn_at = os.fstat(self._file.fileno()).st_size
            while line:  # a disk that becomes full writes less than it was given before it says so
                line = line[self._file.write(line) :]
            self._torn_at = None
        except OSError as error:
            with contextlib.suppress(OSError):  # else the next line does it, or the next opening drops it
                self._cut_torn_line(self._file)
            raise refusal(self._journal, error) from error

    def _cut_torn_line(self, file: io.FileIO | None) -> None:
        if file is not None and self._torn_at is not None:
            file.truncate(self._torn_at)
            self._torn_at = None

    def _replay(self, data: bytes) -> None:
        *lines, tail = data.split(b"\n")
        bad = 0
        for line in lines:
            changes, whole = parse_line(line, self._stage)
            self._apply(changes)
            bad += not whole
        if tail:  # cut by a kill while it was written, so its put never returned: dropped in silence if not whole
            changes, whole = parse_line(tail, self._stage)
            self._apply(changes if whole else {})
        if bad:
            self._say_damage(self._journal, data, f"has {bad} of {len(lines)} lines damaged", len(self._items))

    def _apply(self, changes: Mapping[str, Item | None]) -> None:
        for key, item in changes.items():
            if item is None:
                self._items.pop(key, None)
            else:
                self._items[key] = item

    def _compact(self) -> None:
        """The main file anew from what is in memory, then no journal."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "stage": self._stage,
            "about": ABOUT,
            "items": {key: item._asdict() for key, item in self._items.items()},
        }
        write_atomically(self._path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        self._close()
        self._torn_at = None
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

    def _say_damage(self, path: Path, data: bytes, problem: str, kept: int) -> None:
        where = "it stays as it is" if self._read_only else f"it was moved aside as {copy_aside(path, data).name}"
        self._notice(f"{path} {problem}: {where}, {kept} intact items were kept, whatever is missing is made again.")

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        log.warning("%s", text)


def _copy(value: Any) -> Any:
    """The value as it will be read back from a file; whoever gets it may change it. Raises ValueError for NaN."""
    return json.loads(encode(json.dumps(value, ensure_ascii=False, allow_nan=False)).decode())
