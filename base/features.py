"""What the frozen base makes of each text, computed once ever and kept in ``cache/features_*.safetensors``.

Where all texts are there, no base is opened, and transformers is not imported.
"""

import gc
import hashlib
import json
import logging
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from base import device as base_device
from base import frozen as frozen_base
from base import location as base_location
from base.frozen import MAX_LENGTH, Batch, Vectors
from core.clock import bar
from core.errors import MissingError, UsageError
from core.files import encode, set_aside, write_tensors
from core.records import Prompt, Response

log = logging.getLogger("ranking.features")

FORMAT = "1"  # of the file, of how a text is put into the template and cut, and of how states are pooled
SAVE_SECONDS = 60.0

Rows = dict[str, tuple[np.ndarray, np.ndarray, np.float32]]  # key of a text → its vectors


@dataclass(frozen=True, slots=True)
class Features:
    """Vectors of every (prompt, response): n texts, states of width d."""

    index: Mapping[tuple[str, str], int]  # (prompt id, model) → row
    mean: np.ndarray  # [n, d] float32: mean hidden state over the response's tokens
    last: np.ndarray  # [n, d] float32: the hidden state where the score head reads
    base_score: np.ndarray  # [n] float32: the pre-trained head's own score; 0 where the base has none
    has_score: bool
    base: str  # the base's name
    device: str = "cpu"  # where heads are trained on them
    notes: tuple[str, ...] = ()  # what is to be said of the choice of the base


def compute_features(
    base: str,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    *,
    cache_dir: Path,
    name: str,
    device: str = "auto",
    refresh: bool = False,
    ray: str | None = None,
) -> Features:
    """Features of ``responses``: from ``features_<name>_<base>.safetensors``, and from the base where a text is new.

    The base is opened only then, on the cluster that ``ray`` names or here; ``auto`` is chosen now, since the models
    that were asked are unloaded by now. ``refresh`` leaves out what was kept. One process at a time (``files.lock``).
    Raises MissingError where the base, or memory for it, is needed and not there; UsageError where it yields no finite
    numbers or a file can't be written.
    """
    base, note = base_location.choose(base, device, cache_dir, name)
    if note:
        log.warning("%s", note)
    # half an emoji (models send that) is no text to a tokenizer
    asked = {p.id: p.text.encode("utf-8", "replace").decode() for p in prompts}
    texts = [(asked[r.prompt_id], r.text.encode("utf-8", "replace").decode()) for r in responses]
    paths = base_location.features_files(cache_dir, name, base)
    read_by, rows = _kept(() if refresh else paths)
    identity = base_location.identity(base)
    keys = _keys(identity or read_by, texts)
    if identity is None and not rows.keys() >= set(keys):
        base_location.fetch(base)
        identity = base_location.identity(base)
        keys = _keys(identity, texts)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in rows}
    if missing:
        if rows and read_by != identity:  # another revision: its vectors need not even have the same width
            log.warning("The texts were read by %s, and this is %s: they are read anew", read_by, identity)
            rows.clear()
        _read(_batches(base, device, ray, list(missing.values())), list(missing), rows, paths[-1], str(identity))
        import torch

        gc.collect()  # modules that hold each other
        torch.cuda.empty_cache()  # the next persona's models need what a closed base has left there
        device = base_device.usable(device)
    mean, last, score = map(np.stack, zip(*(rows[key] for key in keys), strict=True))
    index = {(r.prompt_id, r.model): i for i, r in enumerate(responses)}
    return Features(index, mean, last, score, bool(score.any()), base, device, (note,) if note else ())


def _keys(identity: str | None, texts: Sequence[tuple[str, str]]) -> list[str]:
    """What each text's vectors are kept by; the template is part of the base's identity."""
    made_from = ([FORMAT, identity, MAX_LENGTH, prompt, response] for prompt, response in texts)
    return [hashlib.sha256(encode(json.dumps(one, ensure_ascii=False))).hexdigest()[:32] for one in made_from]


def _read(batches: Generator[Batch], keys: Sequence[str], rows: Rows, path: Path, identity: str) -> None:
    """Read texts, by their keys, into ``rows`` and the file.

    The whole file is saved once a minute: after each batch, the writing would grow with the square of the texts. So a
    kill costs a minute of reading; an error and Ctrl-C cost nothing.
    """
    cut, saved = 0, time.monotonic()
    try:
        with closing(batches), bar(None, len(keys), "texts read") as done:
            for positions, vectors, longer in batches:
                if not all(np.isfinite(part).all() for part in vectors):
                    raise UsageError(f"{identity} gave numbers that are not finite: try --device cpu or another base.")
                rows.update(zip((keys[i] for i in positions), zip(*vectors, strict=True), strict=True))
                cut += longer
                done.update(len(positions))
                if time.monotonic() - saved >= SAVE_SECONDS:
                    _save(path, rows, identity)
                    saved = time.monotonic()
    except (RuntimeError, MemoryError) as error:
        if not base_device.is_out_of_memory(error):
            raise
        raise MissingError(
            f"{identity} needs more memory than is free. Everything so far is kept. Free memory and run it again, or "
            "take the processor (--device cpu) or a smaller base (--base_model embedded)."
        ) from error
    finally:
        _save(path, rows, identity)
    log.info("Features of %d texts by %s", len(keys), identity)
    if cut:
        log.warning("%d of %d texts were longer than %d tokens and were cut", cut, len(keys), MAX_LENGTH)


def _batches(base: str, device: str, ray: str | None, texts: Sequence[tuple[str, str]]) -> Generator[Batch]:
    if ray is not None:
        from base import cluster

        yield from cluster.read(ray, base, device, texts)
    else:
        yield from frozen_base.open_base(base, base_device.usable(device)).embed(texts)


def _kept(paths: Sequence[Path]) -> tuple[str, Rows]:
    """The identity of the base that read what is kept, and its vectors: the later files over the earlier ones. A
    damaged one is set aside."""
    identity, rows = "", Rows()
    for path in filter(Path.exists, paths):
        try:
            with safe_open(path, framework="numpy") as file:
                columns, about = [file.get_tensor(field) for field in Vectors._fields], file.metadata()
            found = dict(zip(json.loads(about["keys"]), zip(*columns, strict=True), strict=True))
            identity, rows = about["identity"], rows | found if about["identity"] == identity else found
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            aside = set_aside(path)
            log.warning("%s is damaged (%s): it is now %s, its texts are read anew", path, error, aside.name)
    return identity, rows


def _save(path: Path, rows: Rows, identity: str) -> None:
    if rows:
        vectors = Vectors(*map(np.stack, zip(*rows.values(), strict=True)))
        write_tensors(path, vectors._asdict(), {"keys": json.dumps(list(rows)), "identity": identity})
