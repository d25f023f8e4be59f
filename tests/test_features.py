"""The store of vectors: each text once ever, kept through kills and damage."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_models import save_model

from base import location as base_location
from base.features import compute_features
from base.frozen import Vectors
from core.errors import UsageError
from core.files import read_tensors
from core.records import Prompt, Response

# ── The store ──


class FakeBase:
    """Vectors that depend on the text alone; counts what it was asked."""

    has_score = True

    def __init__(self, width: int = 4, dies_after: int = 10**9) -> None:
        self.asked: list[tuple[str, str]] = []
        self.width, self.dies_after, self.opened = width, dies_after, 0

    def __call__(self, name: str, device: str) -> FakeBase:
        self.opened += 1
        return self

    def embed(
        self, texts: Sequence[tuple[str, str]], progress: Callable[[int], object] | None = None
    ) -> Iterator[tuple[list[int], Vectors]]:
        for start in range(0, len(texts), 2):
            if start >= self.dies_after:
                raise KeyboardInterrupt
            rows = list(range(start, min(start + 2, len(texts))))
            self.asked += [texts[i] for i in rows]
            yield rows, self.vectors([texts[i] for i in rows])
            if progress:
                progress(len(rows))

    def vectors(self, texts: Sequence[tuple[str, str]]) -> Vectors:
        seeds = [sum(f"{p}|{r}".encode()) for p, r in texts]
        mean = np.array([np.random.default_rng(s).normal(size=self.width) for s in seeds], np.float32)
        return Vectors(mean, mean + 1, mean.sum(axis=1))


PROMPTS = [Prompt("p1", "What is 1?"), Prompt("p2", "What is 2?")]
RESPONSES = [Response(p, m, f"{m} says {p}") for p in ("p1", "p2") for m in ("a", "b", "c")]


def compute(tmp_path: Path, base: FakeBase, responses: Sequence[Response] = RESPONSES, **params: Any) -> Any:
    return compute_features("embedded", PROMPTS, responses, cache_dir=tmp_path, name="t", open_base=base, **params)


def names(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in tmp_path.iterdir())


def test_each_text_goes_through_the_base_once_ever(tmp_path: Path) -> None:
    base = FakeBase()
    same = [*RESPONSES, Response("p1", "d", RESPONSES[0].text)]  # two contestants that said the same
    first = compute(tmp_path, base, same)
    assert len(base.asked) == len(set(base.asked)) == 6
    again = compute(tmp_path, base, same)
    assert base.opened == 1 and len(base.asked) == 6
    assert np.array_equal(first.mean, again.mean) and np.array_equal(first.base_score, again.base_score)
    assert again.has_score and names(tmp_path) == ["features_t_embedded.safetensors"]
    wanted = base.vectors([("What is 2?", "b says p2")])
    row = again.index["p2", "b"]
    assert np.array_equal(again.mean[row], wanted.mean[0]) and np.array_equal(again.last[row], wanted.last[0])
    assert again.base_score[row] == wanted.base_score[0] and again.base_score.shape == (7,)
    assert np.array_equal(again.mean[again.index["p1", "d"]], again.mean[again.index["p1", "a"]])


def test_only_new_texts_are_computed(tmp_path: Path) -> None:
    base = FakeBase()
    compute(tmp_path, base)
    base.asked.clear()
    compute(tmp_path, base, [*RESPONSES, Response("p1", "d", "new")])
    assert base.asked == [("What is 1?", "new")]


def test_a_run_of_another_name_finds_the_same_texts_where_it_is_told_to_look(tmp_path: Path) -> None:
    base = FakeBase()
    first = compute(tmp_path, base)
    found = compute_features(
        "embedded", PROMPTS, RESPONSES, cache_dir=tmp_path, name="votes_t", open_base=base, also=["t", "nobody"]
    )
    assert base.opened == 1
    assert np.array_equal(found.mean, first.mean) and found.has_score


def test_a_kill_loses_at_most_one_batch_and_the_others_are_read_without_the_base(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path, FakeBase(dies_after=4))
    assert len(names(tmp_path)) == 2 and "part" in names(tmp_path)[0]
    base = FakeBase()
    assert compute(tmp_path, base, RESPONSES[:4]).mean.shape == (4, 4)
    assert base.opened == 0
    assert compute(tmp_path, base).mean.shape == (6, 4)
    assert len(base.asked) == 2 and names(tmp_path) == ["features_t_embedded.safetensors"]


def test_a_damaged_file_is_set_aside_and_the_others_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path, FakeBase(dies_after=4))
    part = tmp_path / names(tmp_path)[0]
    content = bytearray(part.read_bytes())
    content[-3] ^= 0xFF
    part.write_bytes(content)
    base = FakeBase()
    compute(tmp_path, base)
    assert len(base.asked) == 4  # the damaged batch and the one that was never done
    assert "is damaged" in caplog.text and any("damaged" in name for name in names(tmp_path))


def test_files_of_an_earlier_version_are_read_on(tmp_path: Path) -> None:
    base = FakeBase()
    first = compute(tmp_path, base)
    path = tmp_path / "features_t_embedded.safetensors"
    tensors, about = read_tensors(path)
    save_file(tensors, path, metadata={**about, "checksum": "of its own kind"})
    assert np.array_equal(compute(tmp_path, base).mean, first.mean) and base.opened == 1


def test_the_base_the_length_and_the_texts_are_what_a_vector_is_kept_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = FakeBase()
    compute(tmp_path, base)
    compute(tmp_path, base, max_length=99)
    assert len(base.asked) == 12
    changed = [dataclasses.replace(RESPONSES[0], text="else"), *RESPONSES[1:]]
    compute(tmp_path, base, changed)
    assert len(base.asked) == 13
    monkeypatch.setattr(base_location, "identity", lambda name, cache_dir: "another revision")
    wide = FakeBase(width=6)
    assert compute(tmp_path, wide).mean.shape == (6, 6) and len(wide.asked) == 6
    compute(tmp_path, wide)
    assert wide.opened == 1


def test_refresh_makes_them_anew(tmp_path: Path) -> None:
    base = FakeBase()
    compute(tmp_path, base)
    compute(tmp_path, base, refresh=True)
    assert len(base.asked) == 12 and names(tmp_path) == ["features_t_embedded.safetensors"]


def test_numbers_that_are_not_finite_are_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = FakeBase()
    monkeypatch.setattr(base, "vectors", lambda texts: Vectors(*(np.full((len(texts), 4), np.nan) for _ in range(3))))
    with pytest.raises(UsageError, match="not finite"):
        compute(tmp_path, base)
    assert names(tmp_path) == []


def test_identity_follows_all_of_the_folders_content_and_each_file_is_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fine-tune keeps names, sizes and the first MiB of the weights; so may its time, copied with it."""
    folder, cache = save_model(tmp_path / "base", "llama"), tmp_path / "cache"
    weights, template = folder / "model.safetensors", folder / "chat_template.jinja"
    weights.write_bytes(weights.read_bytes() + bytes(2 << 20))
    before = base_location.identity(str(folder), cache)
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("hashed again"))
        assert base_location.identity(str(folder), cache) == before
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    tuned = base_location.identity(str(folder), cache)
    assert tuned != before
    template.write_text(template.read_text() + " ")
    assert base_location.identity(str(folder), cache) not in (before, tuned)


def test_in_the_hubs_cache_the_files_names_are_their_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(weights: str) -> str | None:
        """A snapshot as the hub's client lays it out."""
        for revision, name, blob in (("one", "config.json", "0a"), ("one", "model.safetensors", weights)):
            (tmp_path / "blobs").mkdir(exist_ok=True)
            (tmp_path / "blobs" / blob).write_bytes(b"never read")
            link = tmp_path / "snapshots" / revision / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(Path("../../blobs") / blob)
        monkeypatch.setattr(base_location, "find_local", lambda name: tmp_path / "snapshots" / "one")
        return base_location.identity("some/base", tmp_path / "cache")

    assert snapshot("1b") == snapshot("1b") != snapshot("2c")
    assert not (tmp_path / "cache").exists(), "nothing was hashed"


def test_vectors_of_another_revision_are_read_anew_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = FakeBase()
    for identity in ("some/base 0123456789abcdef", "some/base sha256:0123456789abcdef", "some/base sha256:1"):
        monkeypatch.setattr(base_location, "identity", lambda name, cache_dir, identity=identity: identity)
        compute(tmp_path, base)
    assert len(base.asked) == 3 * 6
    first, second = (record.getMessage() for record in caplog.records)
    assert "6 texts were read by another revision" in first and "6 texts were read by another revision" in second
    assert "first MiB" in first and "first MiB" not in second


def test_full_features_import_neither_torch_nor_transformers(tmp_path: Path) -> None:
    compute(tmp_path, FakeBase())
    program = f"""
import sys
from pathlib import Path
from base.features import compute_features
from core.records import Prompt, Response
found = compute_features("embedded", [Prompt("p1", "What is 1?")], [Response("p1", "a", "a says p1")],
                         cache_dir=Path({str(tmp_path)!r}), name="t")
assert found.mean.shape == (1, 4)
print(sorted({{"torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_real_base_end_to_end(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", "qwen")
    first = compute_features(str(base), PROMPTS, RESPONSES, cache_dir=tmp_path / "cache", name="t", device="cpu")
    again = compute_features(str(base), PROMPTS, RESPONSES, cache_dir=tmp_path / "cache", name="t", device="cpu")
    assert first.mean.shape == (6, 32) and first.has_score and len(set(first.base_score.tolist())) == 6
    assert np.array_equal(first.last, again.last)
