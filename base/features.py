"""What the frozen base makes of each text, computed once ever and kept in ``cache/features_*.safetensors``.

A run whose texts are all there imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from base import choice
from base import device as base_device
from base import frozen as frozen_base
from base import location as base_location
from base.frozen import MAX_LENGTH, Vectors
from core.errors import MissingError, UsageError
from core.files import encode, read_tensors, set_aside, write_tensors
from core.records import Prompt, Response

log = logging.getLogger("ranking.features")

FORMAT = "1"  # of the file, of how a text is put into the template and cut, and of how states are pooled


@dataclass(frozen=True, slots=True)
class Features:
    """Vectors of every (prompt, response): n texts, states of width d."""

    index: Mapping[tuple[str, str], int]
    """(prompt id, model) → row."""
    mean: np.ndarray
    """[n, d] float32: mean hidden state over the response's tokens."""
    last: np.ndarray
    """[n, d] float32: the hidden state where the score head reads."""
    base_score: np.ndarray
    """[n] float32: the pre-trained head's own score; 0 where the base has none."""
    has_score: bool
    base: str
    """The base's name."""
    device: str = ""
    """Where it read texts just now, ``cpu`` or ``cuda``; empty where all were kept."""
    notes: tuple[str, ...] = ()
    """What did not go as asked for, and is to be told beside whatever rests on these vectors."""


class Base(Protocol):
    """What is needed of a frozen base."""

    has_score: bool

    def embed(
        self, texts: Sequence[tuple[str, str]], progress: Callable[[int], object] | None = None
    ) -> Iterator[tuple[list[int], Vectors]]:
        """(positions in ``texts``, vectors), batch by batch."""


class Reader(choice.Place, Protocol):
    """Another place than this process where a base reads texts."""

    def open_base(self, name: str, kind: str, *, max_length: int) -> Base:
        """The base on devices of this kind; raises what ``frozen.open_base`` raises."""


def compute_features(
    bases: str | Sequence[str],
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    *,
    cache_dir: Path,
    name: str,
    device: str = "auto",
    max_length: int = MAX_LENGTH,
    refresh: bool = False,
    also: Sequence[str] = (),
    open_base: Callable[[str, str], Base] | None = None,
    reader: Reader | None = None,
) -> Features:
    """Features of ``responses``: from the cache, and from the base (opened only then) where a text is new.

    ``bases``: one, or several, largest first: ``base.choice`` says which of them reads. Kept in
    ``features_<name>_<base>.safetensors``, batch by batch as they are made: a kill loses one batch at most. ``refresh``
    leaves out what was kept. ``also``: names of other runs that may have read the same texts. ``reader``: who reads in
    place of this process, and keeps nothing itself. When this returns, the base is no longer in memory, unless
    ``open_base`` holds it. One process at a time (``files.lock``). Raises MissingError where the base, or memory for
    it, is needed and not there; UsageError where it yields no finite numbers or a file can't be written.
    """
    texts = {p.id: p.text for p in prompts}
    pairs = [(texts[r.prompt_id], r.text) for r in responses]
    asked = [bases] if isinstance(bases, str) else bases
    readings = [_Reading(base, pairs, cache_dir, (name, *also), max_length, anew=refresh) for base in asked]
    best = max(readings, key=lambda reading: reading.kept)  # the largest of those that have read as much
    used, notes = "", tuple[str, ...]()
    if best.missing:
        opened = open_base or partial((reader or frozen_base).open_base, max_length=max_length)
        best, used, notes = _read(readings, device, opened, reader or base_device)
    index = {(r.prompt_id, r.model): i for i, r in enumerate(responses)}
    columns, has_score = best.columns(), best.store.has_score
    return Features(index, columns[0], columns[1], columns[2].reshape(-1), has_score, best.base, used, notes)


class _Reading:
    """What one base has read of the texts, and what it has not."""

    def __init__(
        self,
        base: str,
        pairs: Sequence[tuple[str, str]],
        cache_dir: Path,
        names: Sequence[str],
        max_length: int,
        *,
        anew: bool,
    ) -> None:
        self.base, self._pairs, self._cache_dir, self._max_length = base, pairs, cache_dir, max_length
        own, *also = [base_location.features_stem(name, base) for name in names]
        self.store = _Store(cache_dir, own, also=also, anew=anew)
        self._identify(base_location.identity(base, cache_dir) or self.store.identity)

    def _identify(self, identity: str | None) -> None:
        self._keys = [_key(identity, self._max_length, *pair) for pair in self._pairs]

    @property
    def missing(self) -> dict[str, tuple[str, str]]:
        """Key → (prompt, response) of the texts that it has not read, each once."""
        return {key: pair for key, pair in zip(self._keys, self._pairs, strict=True) if key not in self.store.rows}

    @property
    def kept(self) -> int:
        """How many of the texts it has read."""
        return sum(key in self.store.rows for key in self._keys)

    def columns(self) -> list[np.ndarray]:
        """Mean states, last states and scores of all texts, in their order."""
        rows = [self.store.rows[key] for key in self._keys]
        return [np.stack([row[i] for row in rows]) if rows else np.zeros((0, 0), np.float32) for i in range(3)]

    def read_rest(self, base: Base) -> None:
        """Read what is missing."""
        identity = base_location.identity(self.base, self._cache_dir) or self.base  # the hub may just have brought it
        self._identify(identity)
        old = self.store.identity
        if old not in (None, identity) and self.store.rows:
            why = ", or one that an earlier version told apart by the first MiB of its weights only"
            log.warning(
                "%d texts were read by another revision of %s%s: they are read anew",
                len(self.store.rows), self.base, why if base_location.is_of_old_form(str(old)) else "",
            )  # fmt: skip
        _embed(base, self.missing, self.store, identity)


def _read(
    readings: Sequence[_Reading], asked: str, open_base: Callable[[str, str], Base], place: choice.Place
) -> tuple[_Reading, str, tuple[str, ...]]:
    """The base that could read what is missing, on which device, and what is to be said of those that could not.

    Raises MissingError where memory runs out with each of them.
    """
    by_name = {reading.base: reading for reading in readings}
    kept = [reading.kept for reading in readings]
    ways = choice.attempts(list(by_name), kept, asked, place)
    if len(readings) > 1 and any(kept):
        log.info(
            "%s has read %d of the texts already, so it reads the others too; another one: --base_model NAME",
            ways[0][0], max(kept),
        )  # fmt: skip
    notes: list[str] = []
    for (name, kind), following in zip(ways, [*ways[1:], None], strict=True):
        try:
            by_name[name].read_rest(open_base(name, kind))
        except (RuntimeError, MemoryError) as error:
            if not base_device.is_out_of_memory(error):
                raise
        else:
            return by_name[name], kind, tuple(notes)
        finally:
            base_device.give_back()
        where = {"cuda": "the GPU", "cpu": "this machine"}
        read = by_name[name].kept
        said = f"{name} needs more memory than is free on {where[kind]}"
        said += f"; the {read} texts that it has read are kept" if read else ""
        if following is None:
            break
        said += (
            f". {following[0]} goes on {'on the processor' if following[1] == 'cpu' else 'on the GPU'}. "
            f"With more memory free, this asks for the other: --base_model {name} --device {kind}"
        )
        log.warning("OUT OF MEMORY: %s", said)
        notes.append(said)
    raise MissingError(
        f"{said}. Everything that was asked is kept. Free memory and run it again, or take the processor "
        f"(--device cpu) or a smaller base (--base_model {base_location.EMBEDDED})."
    )


def _key(identity: str | None, max_length: int, prompt: str, response: str) -> str:
    made_from = [FORMAT, identity, max_length, prompt, response]  # the template is part of the base's identity
    return hashlib.sha256(encode(json.dumps(made_from, ensure_ascii=False))).hexdigest()[:32]


def _embed(base: Base, missing: Mapping[str, tuple[str, str]], store: _Store, identity: str) -> None:
    """Embed what is missing (each text once, however often it was answered) and keep every batch at once."""
    from tqdm import tqdm

    keys = list(missing)
    start = time.perf_counter()
    with tqdm(total=len(keys), desc="Features", unit="text", disable=None, file=sys.stderr) as bar:
        for rows, vectors in base.embed([missing[key] for key in keys], bar.update):
            if not all(np.isfinite(part).all() for part in vectors):
                raise UsageError(
                    "The base model gave numbers that are not finite; nothing of that batch was kept. "
                    "Try --device cpu or another --base_model."
                )
            store.add([keys[i] for i in rows], vectors, identity, base.has_score)
    store.merge()
    seconds = time.perf_counter() - start
    log.info("Features of %d texts in %.1f s (%.1f texts/s)", len(keys), seconds, len(keys) / max(seconds, 1e-9))


class _Store:
    """The safetensors file of one base and run name, and the parts a run in progress has added to it."""

    def __init__(self, folder: Path, stem: str, *, also: Sequence[str] = (), anew: bool) -> None:
        self.rows: dict[str, tuple[np.ndarray, np.ndarray, np.float32]] = {}
        self.identity: str | None = None
        self.has_score = False
        self._whole = folder / f"{stem}.safetensors"
        self._parts = sorted(folder.glob(f"{stem}.part*.safetensors"))
        self._next = 0
        others = [folder / f"{other}.safetensors" for other in also]
        for path in () if anew else (*others, self._whole, *self._parts):
            self._read(path)

    def _read(self, path: Path) -> None:
        """Take in a file; a damaged one is set aside, a missing one is none."""
        try:
            tensors, about = read_tensors(path)
            parts = Vectors(*(tensors[field] for field in Vectors._fields))
            keys, identity, has_score = json.loads(about["keys"]), about["identity"], about["has_score"] == "True"
        except FileNotFoundError:
            return
        except (KeyError, ValueError) as error:
            aside = set_aside(path)
            log.warning("%s is damaged (%s): it is now %s, its texts are computed anew", path, error, aside.name)
            return
        self._of(identity, has_score)
        self.rows.update(zip(keys, zip(*parts, strict=True), strict=True))

    def _of(self, identity: str, has_score: bool) -> None:
        if identity != self.identity:  # another revision: its vectors need not even have the same width
            self.rows.clear()
        self.identity, self.has_score = identity, has_score

    def add(self, keys: Sequence[str], vectors: Vectors, identity: str, has_score: bool) -> None:
        """Keep a batch in a part of its own: writing the whole file each time would grow with the square."""
        self._of(identity, has_score)
        while (part := self._whole.with_name(f"{self._whole.stem}.part{self._next:05d}.safetensors")).exists():
            self._next += 1
        self._write(part, keys, vectors)
        self._parts.append(part)
        self.rows.update(zip(keys, zip(*vectors, strict=True), strict=True))

    def merge(self) -> None:
        """All in one file; the parts go only when it is there."""
        if not self.rows:
            return
        columns = zip(*self.rows.values(), strict=True)
        self._write(self._whole, list(self.rows), Vectors(*(np.stack(column) for column in columns)))
        for part in self._parts:
            part.unlink(missing_ok=True)
        self._parts = []

    def _write(self, path: Path, keys: Sequence[str], vectors: Vectors) -> None:
        about = {"keys": json.dumps(keys), "identity": str(self.identity), "has_score": str(self.has_score)}
        write_tensors(path, vectors._asdict(), about)
