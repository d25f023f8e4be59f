"""What the frozen base makes of each text, computed once ever and kept in ``cache/features_*.safetensors``.

A run whose texts are all there imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from base import frozen as frozen_base
from base import location as base_location
from base.frozen import MAX_LENGTH, Vectors
from core.errors import UsageError
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


class Base(Protocol):
    """What is needed of a frozen base."""

    has_score: bool

    def embed(
        self, texts: Sequence[tuple[str, str]], progress: Callable[[int], object] | None = None
    ) -> Iterator[tuple[list[int], Vectors]]:
        """(positions in ``texts``, vectors), batch by batch."""


def compute_features(
    base_name: str,
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
) -> Features:
    """Features of ``responses``: from the cache, and from the base (opened only then) where a text is new.

    Kept in ``features_<name>_<base>.safetensors``, batch by batch as they are made: a kill loses one batch at most.
    ``refresh`` leaves out what was kept. ``also``: names of other runs that may have read the same texts. One process
    at a time (``files.lock``). Raises MissingError where the base is needed and not there, UsageError where it yields
    no finite numbers or a file can't be written.
    """
    texts = {p.id: p.text for p in prompts}
    pairs = [(texts[r.prompt_id], r.text) for r in responses]
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", base_name).strip("-.")[-60:]
    store = _Store(
        cache_dir, f"features_{name}_{slug}", also=[f"features_{other}_{slug}" for other in also], anew=refresh
    )
    known = base_location.identity(base_name) or store.identity
    keys = [_key(known, max_length, *pair) for pair in pairs]
    if known is None or any(key not in store.rows for key in keys):
        base = (open_base or _opener(max_length))(base_name, device)
        known = base_location.identity(base_name) or base_name  # the hub may just have brought it
        keys = [_key(known, max_length, *pair) for pair in pairs]
        missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in store.rows}
        _embed(base, missing, store, known)
    rows = [store.rows[key] for key in keys]
    index = {(r.prompt_id, r.model): i for i, r in enumerate(responses)}
    columns = [np.stack([row[i] for row in rows]) if rows else np.zeros((0, 0), np.float32) for i in range(3)]
    return Features(index, columns[0], columns[1], columns[2].reshape(-1), store.has_score, base_name)


def _opener(max_length: int) -> Callable[[str, str], Base]:
    return lambda name, device: frozen_base.open_base(name, device, max_length=max_length)


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
