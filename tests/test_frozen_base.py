"""The frozen base on tiny random models of the real classes."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
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
    ("Why is the sky blue?", "Rayleigh scattering."),
    ("Grüße, 世界 🙂", "Ünïcödé answers — 🙂 even here."),
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


# ── The real classes ──


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


def test_equals_the_model_itself_text_by_text(folder: Path, float32: None) -> None:
    """Batched with padding, whatever the padding token is (or none): scores and states of the plain way."""
    ours = embed(open_base(str(folder), "cpu"))
    assert ours.mean.dtype == ours.last.dtype == ours.base_score.dtype == np.float32
    for i, (prompt, response) in enumerate(TEXTS):
        mean, last, score = reference(folder, prompt, response)
        assert ours.base_score[i] == pytest.approx(score, abs=1e-4)
        assert ours.last[i] == pytest.approx(last, abs=1e-4)
        assert ours.mean[i] == pytest.approx(mean, abs=1e-4)


def test_bfloat16_points_the_same_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr("base.frozen.precision", lambda kind, dtype=dtype: dtype)
        found.append(embed(open_base(str(folder), "cpu")))
    for exact, rounded in zip(found[0][:2], found[1][:2], strict=True):
        cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
        assert cosine.min() >= 0.999


def test_a_model_without_a_trained_score_head_scores_zero(tmp_path: Path) -> None:
    base = open_base(str(save_model(tmp_path, "causal")), "cpu")
    assert not base.has_score
    vectors = embed(base)
    assert not vectors.base_score.any() and np.abs(vectors.mean).min(axis=1).max() > 0


def test_opening_is_silent(folder: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    embed(open_base(str(folder), "cpu"))
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err == "" and not list(recwarn)


# ── Text to tokens ──


def tokens_of(folder: Path, prompt: str, response: str, **params: Any) -> tuple[str, str, FrozenBase]:
    """(all that the base reads, the response's part of it)."""
    base = open_base(str(folder), "cpu", **params)
    text = base._encode(prompt, response)
    decode: Callable[[list[int]], str] = base._tokenizer.decode
    return decode(text.ids), decode(text.ids[text.first : text.end]), base


def test_the_responses_tokens_are_exactly_the_response(folder: Path) -> None:
    for prompt, response in TEXTS:
        whole, part, _ = tokens_of(folder, prompt, response)
        assert part == response.strip() if "begin" in whole else part.strip() == response.strip()
        assert whole.count("<|begin|>") == ("<|start|>" in whole)
        assert "You are a test." in whole or "<|begin|>" in whole


def test_the_response_is_found_where_the_prompt_says_the_same(folder: Path) -> None:
    whole, part, _ = tokens_of(folder, "Say: yes yes", "yes")
    assert part == "yes" and whole.count("yes") == 3


def test_what_the_template_would_cut_out_of_a_response_is_kept(tmp_path: Path) -> None:
    whole, part, _ = tokens_of(save_model(tmp_path, "qwen"), "Q", "a </think> b")
    assert part == "a </think> b" and whole.endswith("<|im_end|>\n")


def test_control_tokens_in_a_text_lose_their_power(folder: Path) -> None:
    whole, part, base = tokens_of(folder, "Q<|eot|><|im_end|>", "A<|eot|><|im_end|>ssistant")
    fair, _, _ = tokens_of(folder, "Q", "A")
    for special in ("<|eot|>", "<|im_end|>"):
        if special in base._tokenizer.get_vocab():
            assert whole.count(special) == fair.count(special)
    assert "ssistant" in part


def test_long_texts_are_cut_visibly_and_keep_both_beginnings_and_the_closing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, part, base = tokens_of(folder, "P" * 500, "R" * 500, max_length=200)
    assert 180 <= len(base._tokenizer(whole, add_special_tokens=False)["input_ids"]) <= 200
    assert len(part) >= 60 and set(part) == {"R"} and whole.count("P") >= 50
    assert whole.rstrip().endswith(("<|eot|>", "<|im_end|>"))
    _, part, base = tokens_of(folder, "P", "R" * 500, max_length=200)
    assert len(part) >= 100
    with caplog.at_level(logging.WARNING):
        list(base.embed([("P", "R" * 500), ("P", "R")]))
    assert "1 of 2 texts were longer than 200 tokens" in caplog.text and base.cut == 1


def test_an_empty_response_has_finite_vectors(folder: Path) -> None:
    vectors = embed(open_base(str(folder), "cpu"), [("Q", ""), ("Q", "longer than that")])
    assert all(np.isfinite(part).all() for part in vectors)
    assert vectors.mean[0] == pytest.approx(vectors.last[0], abs=1e-3)


# ── Memory ──


class Cramped(torch.nn.Module):
    """A backbone on which more than ``limit`` texts at once raise what CUDA raises."""

    def __init__(self, inner: torch.nn.Module, limit: int) -> None:
        super().__init__()
        self.inner, self.limit, self.calls = inner, limit, [0]

    def forward(self, input_ids: torch.Tensor, **params: Any) -> Any:
        self.calls.append(len(input_ids))
        if len(input_ids) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.inner(input_ids=input_ids, **params)


@pytest.fixture
def cramped(tmp_path: Path, float32: None) -> Callable[[int], tuple[FrozenBase, Cramped, Vectors]]:
    def build(limit: int) -> tuple[FrozenBase, Cramped, Vectors]:
        base = open_base(str(save_model(tmp_path, "llama")), "cpu")
        wanted = embed(base)
        module = Cramped(base._backbone, limit)
        base._backbone = module
        return base, module, wanted

    return build


def test_out_of_memory_halves_the_batch_and_goes_on(
    cramped: Callable[[int], tuple[FrozenBase, Cramped, Vectors]], caplog: pytest.LogCaptureFixture
) -> None:
    base, module, wanted = cramped(2)
    caplog.set_level(logging.INFO, "ranking")
    for ours, expected in zip(embed(base), wanted, strict=True):
        assert ours == pytest.approx(expected, abs=1e-4)
    assert module.calls[1] == len(TEXTS) and module.calls[2] == 2, "no batch is as large again"
    assert "half as many" in caplog.text


def test_out_of_memory_with_one_text_ends_the_run(
    cramped: Callable[[int], tuple[FrozenBase, Cramped, Vectors]],
) -> None:
    base, _, _ = cramped(0)
    with pytest.raises(torch.OutOfMemoryError):
        embed(base)


# ── What is missing ──


def test_a_folder_that_is_not_there_and_one_with_pickles(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no such folder"):
        open_base(str(tmp_path / "nothing"), "cpu")
    save_model(tmp_path, "llama")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="pickled"):
        open_base(str(tmp_path), "cpu")


def test_weights_that_do_not_fit_are_a_users_error(tmp_path: Path) -> None:
    save_model(tmp_path, "llama")
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(UsageError, match="cannot serve as a base model"):
        open_base(str(tmp_path), "cpu")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """A hub of our own that answers every request with one status."""
    status = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status[0])
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield lambda code: status.__setitem__(0, code)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "why"), [(200, "^$"), (401, "no such model"), (404, "no such model"), (503, "did not answer")]
)
def test_what_the_hub_says(hub: Callable[[int], None], code: int, why: str) -> None:
    hub(code)
    assert re.search(why, base_location.missing("nobody/nothing"))


def test_missing_bases_say_why_and_what_mends_it(hub: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    hub(404)
    with pytest.raises(MissingError, match=r"no such model.*(?s:.)*--base_model embedded"):
        open_base("nobody/nothing", "cpu")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE"):
        open_base("nobody/nothing", "cpu")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingError, match="did not answer within 5 s"):
        open_base("nobody/nothing", "cpu")
