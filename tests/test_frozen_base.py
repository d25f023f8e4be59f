"""The frozen base on tiny random models of the real classes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import save_model

from base import location as base_location
from base.frozen import FrozenBase, Vectors, open_base
from core.errors import MissingError, UsageError

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
    for rows, vectors in base.embed(texts):
        found.update(zip(rows, zip(*vectors, strict=True), strict=True))
    return Vectors(*(np.stack(column) for column in zip(*(found[i] for i in range(len(texts))), strict=True)))


def reference(folder: Path, prompt: str, response: str) -> tuple[np.ndarray, np.ndarray, float]:
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
    return states[inside].mean(dim=0).numpy(), states[-1].numpy(), float(score)


def test_equals_the_model_itself_text_by_text(folder: Path, float32: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Batched with padding, whatever the padding token is (or none): scores and states of the plain way."""
    ours = embed(open_base(str(folder), "cpu"))
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err == "", "opening is silent"
    assert ours.mean.dtype == ours.last.dtype == ours.base_score.dtype == np.float32
    for i, (prompt, response) in enumerate(TEXTS):
        mean, last, score = reference(folder, prompt, response)
        assert ours.base_score[i] == pytest.approx(score, abs=1e-4)
        assert ours.last[i] == pytest.approx(last, abs=1e-4)
        assert ours.mean[i] == pytest.approx(mean, abs=1e-4)


def test_a_model_without_a_trained_score_head_scores_zero(tmp_path: Path) -> None:
    base = open_base(str(save_model(tmp_path, "causal")), "cpu")
    vectors = embed(base)
    assert not vectors.base_score.any() and np.abs(vectors.mean).min(axis=1).max() > 0


def tokens_of(folder: Path, prompt: str, response: str) -> tuple[str, str, FrozenBase]:
    """(all that the base reads, the response's part of it)."""
    base = open_base(str(folder), "cpu")
    text = base._encode(prompt, response)
    decode: Callable[[list[int]], str] = base._tokenizer.decode
    return decode(text.ids), decode(text.ids[text.first : text.end]), base


def test_what_the_template_would_cut_out_of_a_response_is_kept(tmp_path: Path) -> None:
    whole, part, _ = tokens_of(save_model(tmp_path, "qwen"), "Q", "a </think> b")
    assert part == "a </think> b" and whole.endswith("<|im_end|>\n")


def test_control_tokens_in_a_text_lose_their_power(folder: Path) -> None:
    base = open_base(str(folder), "cpu")
    special = base._tokenizer.eos_token
    broken = f"{special[0]} {special[1:]}"
    (first, second), *_ = embed(base, [(f"Q{text}", f"A{text}ssistant") for text in (special, broken)])
    assert np.array_equal(first, second)


def test_long_texts_are_cut_visibly_and_keep_both_beginnings_and_the_closing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(FrozenBase, "max_length", 200)
    whole, part, base = tokens_of(folder, "P" * 500, "R" * 500)
    assert 180 <= len(base._tokenizer(whole, add_special_tokens=False)["input_ids"]) <= 200
    assert len(part) >= 60 and set(part) == {"R"} and whole.count("P") >= 50
    assert whole.rstrip().endswith(("<|eot|>", "<|im_end|>"))
    with caplog.at_level(logging.WARNING):
        vectors = embed(base, [("P", "R" * 500), ("P", ""), ("P", "R")])
    assert "1 of 3 texts were longer than" in caplog.text
    assert all(np.isfinite(part).all() for part in vectors), "an empty response too"


def test_out_of_memory_halves_the_batch_and_one_text_that_does_not_fit_ends_the_run(
    tmp_path: Path, float32: None
) -> None:
    base, calls = open_base(str(save_model(tmp_path, "llama")), "cpu"), list[int]()
    wanted, inner = embed(base), base._backbone

    def cramped(limit: int) -> Callable[..., Any]:
        """The backbone, on which more than ``limit`` texts at once raise what CUDA raises."""

        def forward(input_ids: torch.Tensor, **params: Any) -> Any:
            calls.append(len(input_ids))
            if len(input_ids) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return inner(input_ids=input_ids, **params)

        return forward

    base._backbone = cramped(2)  # type: ignore[assignment]
    for ours, expected in zip(embed(base), wanted, strict=True):
        assert ours == pytest.approx(expected, abs=1e-4)
    assert calls[:2] == [len(TEXTS), 2]
    base._backbone = cramped(0)  # type: ignore[assignment]
    with pytest.raises(torch.OutOfMemoryError):
        embed(base)


def test_a_folder_that_is_not_there_one_with_pickles_and_one_that_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no such folder"):
        open_base(str(tmp_path / "nothing"), "cpu")
    weights = save_model(tmp_path, "llama") / "model.safetensors"
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot serve as a base model"):
        open_base(str(tmp_path), "cpu")
    weights.write_bytes(b"garbage")
    with pytest.raises(UsageError, match="cannot serve as a base model"):
        open_base(str(tmp_path), "cpu")


@pytest.mark.parametrize(("status", "why"), [(200, ""), (401, "no such model"), (404, "no such model"), (0, "reach")])
def test_what_the_hub_says_of_a_base_that_is_missing(monkeypatch: pytest.MonkeyPatch, status: int, why: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("core.hub.status", lambda path: status)
    assert why in base_location.missing("nobody/nothing")
    if why:
        with pytest.raises(MissingError, match=rf"{why}.*--base_model embedded"):
            open_base("nobody/nothing", "cpu")
