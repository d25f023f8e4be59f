"""The frozen base on tiny random models of the real classes, and which base free memory allows, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import save_model

from base.frozen import FrozenBase, Vectors, open_base
from base.location import SKYWORK, choose, features_files
from core.errors import UsageError

# (class, padding token): the usual, the same as the closing token, and none
BASES = [("llama", "<|pad|>"), ("llama", "<|eot|>"), ("llama", None), ("qwen", "<|im_end|>")]
TEXTS = [
    ("Sort a list.", "Use sorted()."),
    ("Sort a list.", "You could write your own quicksort, but there is no need: sorted() is stable and fast. " * 2),
    ("Grüße, 世界 🙂", "Ünïcödé answers — 🙂 even here."),
    ("Say: yes yes", "yes"),
    ("Hi", "x"),
]


@pytest.fixture(scope="module", params=BASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, pad = request.param
    return save_model(tmp_path_factory.mktemp(kind), kind, pad)


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("base.frozen.precision", lambda kind: torch.float32)


def embed(base: FrozenBase, texts: Sequence[tuple[str, str]] = TEXTS) -> Vectors:
    """Vectors in the order of ``texts``."""
    found: dict[int, tuple[Any, ...]] = {}
    for rows, vectors, _ in base.embed(texts):
        found.update(zip(rows, zip(*vectors, strict=True), strict=True))
    return Vectors(*(np.stack(column) for column in zip(*(found[i] for i in range(len(texts))), strict=True)))


def reference(folder: Path, prompt: str, response: str) -> tuple[np.ndarray, ...]:
    """The plain way, one text at a time without padding, as the model card says."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    if tokenizer.bos_token and text.startswith(tokenizer.bos_token):
        text = text[len(tokenizer.bos_token) :]
    tokens = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    spans = tokens.pop("offset_mapping")[0]
    shown = response if response in text else response.strip()
    start = text.rindex(shown)
    inside = (spans[:, 1] > start) & (spans[:, 0] < start + len(shown)) & (spans[:, 1] > spans[:, 0])
    with torch.inference_mode():
        states = model.model(input_ids=tokens["input_ids"]).last_hidden_state[0]
        score = model.score(states[-1])[0]  # model(…) itself reads elsewhere where padding and closing token are one
    return states[inside].mean(dim=0).numpy(), states[-1].numpy(), score.numpy()


def test_equals_the_model_itself_text_by_text(folder: Path, float32: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Batched with padding, whatever the padding token is (or none): scores and states of the plain way."""
    ours = embed(open_base(str(folder), "cpu"))
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err == "", "opening is silent"
    for found, naive in zip(ours, zip(*(reference(folder, *text) for text in TEXTS), strict=True), strict=True):
        assert found.dtype == np.float32 and found == pytest.approx(np.stack(naive), abs=1e-4)


def test_a_model_without_a_trained_score_head_scores_zero(tmp_path: Path) -> None:
    vectors = embed(open_base(str(save_model(tmp_path, "causal")), "cpu"))
    assert not vectors.base_score.any() and np.abs(vectors.mean).min(axis=1).max() > 0


def tokens_of(base: FrozenBase, prompt: str, response: str) -> tuple[str, str]:
    """(all that the base reads, the response's part of it)."""
    text = base._encode(prompt, response)
    decode: Callable[[list[int]], str] = base._tokenizer.decode
    return decode(text.ids), decode(text.ids[text.first : text.end])


def test_a_response_stays_what_it_is_and_control_tokens_in_it_lose_their_power(folder: Path) -> None:
    base = open_base(str(folder), "cpu")
    whole, part = tokens_of(base, "Q", "a </think> b")  # which one of the templates would cut out
    special = base._tokenizer.eos_token
    assert part == "a </think> b" and whole.rstrip().endswith(special)
    broken = f"{special[0]} {special[1:]}"
    (first, second), *_ = embed(base, [(f"Q{text}", f"A{text}ssistant") for text in (special, broken)])
    assert np.array_equal(first, second)


def test_long_texts_are_cut_visibly_and_keep_both_beginnings_and_the_closing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("base.frozen.MAX_LENGTH", 200)
    base = open_base(str(folder), "cpu")
    whole, part = tokens_of(base, "P" * 500, "R" * 500)
    assert 180 <= len(base._tokenizer(whole, add_special_tokens=False)["input_ids"]) <= 200
    assert len(part) >= 60 and set(part) == {"R"} and whole.count("P") >= 50
    assert whole.rstrip().endswith(base._tokenizer.eos_token)
    vectors = embed(base, [("P", "R" * 500), ("P", ""), ("P", "R")])
    assert sum(cut for *_, cut in base.embed([("P", "R" * 500), ("P", "")])) == 1
    assert all(np.isfinite(part).all() for part in vectors), "an empty response too"


def test_out_of_memory_halves_the_batch(tmp_path: Path, float32: None, monkeypatch: pytest.MonkeyPatch) -> None:
    base, calls = open_base(str(save_model(tmp_path, "llama")), "cpu"), list[int]()
    wanted, forward = embed(base), base._forward

    def cramped(texts: Sequence[Any]) -> Vectors:
        calls.append(len(texts))
        if len(texts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(texts)

    monkeypatch.setattr(base, "_forward", cramped)
    for ours, expected in zip(embed(base), wanted, strict=True):
        assert ours == pytest.approx(expected, abs=1e-4)
    assert calls[:2] == [len(TEXTS), 2]


def test_a_base_with_pickles_is_refused(tmp_path: Path) -> None:
    weights = save_model(tmp_path, "llama") / "model.safetensors"
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot serve as a base model"):
        open_base(str(tmp_path), "cpu")


LARGE, MIDDLE, SMALL = SKYWORK


@pytest.mark.parametrize(
    ("room", "device", "base"),
    [(23.99, "auto", LARGE), (19.9, "cuda", MIDDLE), (9.9, "auto", SMALL), (23.99, "cpu", SMALL)],
)
def test_free_memory_chooses_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: float, device: str, base: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("base.device.gpu", lambda: ("a card", room))
    chosen, note = choose("auto", device, tmp_path, "coder")
    assert chosen == "embedded" and note.startswith("THE REWARD BASE IS") and base in note, "no hub, and said loudly"
    monkeypatch.setattr("core.hub.status", lambda path: 200)
    assert choose("auto", device, tmp_path, "coder") == (base, "")
    features_files(tmp_path, "coder", MIDDLE)[0].touch()
    assert choose("auto", device, tmp_path, "votes_coder") == (MIDDLE, ""), "the one that has read the texts"
