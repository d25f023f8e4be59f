"""The store of vectors: each text once ever, kept through kills, damage and a full memory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tiny_models import save_model

from base import location as base_location
from base.features import compute_features
from base.frozen import Batch, Vectors
from core.errors import MissingError, UsageError
from core.records import Prompt, Response

PROMPTS = [Prompt("p1", "What is 1?"), Prompt("p2", "What is 2?")]
RESPONSES = [Response(p, m, f"{m} says {p}") for p in ("p1", "p2") for m in ("a", "b", "c")]
FILE = "features_t_embedded.safetensors"


class FakeBase:
    """Vectors that depend on the text alone; counts what it was asked."""

    def __init__(self, width: int = 4, error: BaseException | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.width, self.opened, self.error = width, 0, error

    def __call__(self, name: str, kind: str) -> FakeBase:
        self.opened += 1
        return self

    def embed(self, texts: Sequence[tuple[str, str]]) -> Iterator[Batch]:
        for start in range(0, len(texts), 2):
            if start == 4 and self.error:
                raise self.error
            rows = list(range(start, min(start + 2, len(texts))))
            self.asked += [texts[i] for i in rows]
            yield rows, self.vectors([texts[i] for i in rows]), 0

    def vectors(self, texts: Sequence[tuple[str, str]]) -> Vectors:
        seeds = [sum(f"{p}|{r}".encode()) for p, r in texts]
        mean = np.array([np.random.default_rng(s).normal(size=self.width) for s in seeds], np.float32)
        return Vectors(mean, mean + 1, mean.sum(axis=1))


def compute(tmp_path: Path, base: Any, responses: Sequence[Response] = RESPONSES, **params: Any) -> Any:
    given = {"name": "t", "device": "auto", **params}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("base.frozen.open_base", base)
        patch.setattr("base.device.usable", lambda device: "cpu")
        return compute_features("embedded", PROMPTS, responses, cache_dir=tmp_path, **given)


def test_each_text_goes_through_the_base_once_ever(tmp_path: Path) -> None:
    base = FakeBase()
    # two contestants that said the same, and half an emoji, which is no text to a tokenizer
    same = [*RESPONSES, Response("p1", "d", RESPONSES[0].text), Response("p1", "e", "half: \ud83d")]
    first = compute(tmp_path, base, same)
    assert len(base.asked) == len(set(base.asked)) == 7 and base.asked[-1] == ("What is 1?", "half: ?")
    again = compute(tmp_path, base, same)
    assert base.opened == 1 and again.has_score and [path.name for path in tmp_path.iterdir()] == [FILE]
    wanted, row = base.vectors([("What is 2?", "b says p2")]), again.index["p2", "b"]
    for found in (first, again):
        assert np.array_equal(found.mean[row], wanted.mean[0]) and np.array_equal(found.last[row], wanted.last[0])
        assert found.base_score[row] == wanted.base_score[0]
    found = compute(tmp_path, base, name="votes_t")
    assert base.opened == 1 and np.array_equal(found.mean, first.mean[:6]), "own votes are on the persona's texts"
    compute(tmp_path, base, [*same, Response("p1", "f", "new")])
    assert base.asked[7:] == [("What is 1?", "new")], "only what is new"
    compute(tmp_path, base, refresh=True)
    assert len(base.asked) == 8 + 6, "all anew where that is asked for"


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (KeyboardInterrupt("by hand"), KeyboardInterrupt, "by hand"),
        (torch.OutOfMemoryError("CUDA out of memory."), MissingError, r"is kept.*--device cpu.*--base_model"),
    ],
)
def test_what_was_read_is_kept_when_reading_ends_early(
    tmp_path: Path, error: BaseException, raised: type[BaseException], said: str
) -> None:
    with pytest.raises(raised, match=said):
        compute(tmp_path, FakeBase(error=error))
    if raised is MissingError:
        with pytest.raises(raised, match=said):  # nor is there room to open it
            compute(tmp_path, Mock(side_effect=error))
    base = FakeBase()
    assert compute(tmp_path, base).mean.shape == (6, 4) and len(base.asked) == 2


def test_vectors_are_written_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    monkeypatch.setattr("base.features.write_tensors", lambda *file: written.append(file))
    compute(tmp_path, FakeBase())
    assert len(written) == 1, "within a minute at the end alone"
    monkeypatch.setattr("base.features.SAVE_SECONDS", 0.0)
    compute(tmp_path, FakeBase())
    assert len(written) == 1 + 4


def test_what_is_damaged_or_no_number_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = FakeBase()
    compute(tmp_path, base)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-3])
    compute(tmp_path, base)
    assert len(base.asked) == 12 and "is damaged" in caplog.text and len(list(tmp_path.glob("*damaged*"))) == 1
    monkeypatch.setattr(base, "vectors", lambda texts: Vectors(*(np.full((len(texts), 4), np.nan) for _ in range(3))))
    with pytest.raises(UsageError, match="not finite"):
        compute(tmp_path / "new", base)
    assert not (tmp_path / "new").exists()


def test_the_base_and_the_texts_are_what_a_vector_is_kept_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = FakeBase()
    compute(tmp_path, base)
    compute(tmp_path, base, [dataclasses.replace(RESPONSES[0], text="else"), *RESPONSES[1:]])
    assert len(base.asked) == 7 and not caplog.text
    monkeypatch.setattr(base_location, "identity", lambda name: "some/base@123")
    wide = FakeBase(width=6)
    assert compute(tmp_path, wide).mean.shape == (6, 6) and len(wide.asked) == 6
    assert "this is some/base@123: they are read anew" in caplog.text


def test_a_folder_is_known_by_its_files_and_the_beginning_of_each_tensor_and_a_hub_model_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fine-tune keeps names and sizes, and the times of the files where they were copied with it."""
    folder = save_model(tmp_path / "base", "llama")
    weights, template = folder / "model.safetensors", folder / "chat_template.jinja"
    before, content = base_location.identity(str(folder)), bytearray(weights.read_bytes())
    table = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    first, end = max(entry["data_offsets"] for name, entry in table.items() if name != "__metadata__")
    content[first - end] ^= 1
    weights.write_bytes(content)
    tuned = base_location.identity(str(folder))
    template.write_text(template.read_text() + " ")
    assert len({before, tuned, base_location.identity(str(folder))}) == 3
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "hub" / "models--some--base"
    assert base_location.identity("some/base") is None
    for commit in ("1" * 40, "2" * 40):
        for name in (f"snapshots/{commit}/config.json", f"snapshots/{commit}/model.safetensors", "refs/main"):
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (kept / name).write_text(commit)
        assert base_location.identity("some/base") == f"some/base@{commit}"
