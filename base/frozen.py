"""The frozen base: the embedded model, a folder or a hub id, opened once and run over (prompt, response) texts.

Nothing here trains: a text goes in, its hidden states (pooled) and the pre-trained head's score come out. Only
safetensors are read, and code from a hub is never run.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from base.device import BATCH_TOKENS, is_out_of_memory, precision
from base.location import EMBEDDED, fetch
from core.errors import UsageError

if TYPE_CHECKING:
    import torch

MAX_LENGTH = 2048  # tokens of prompt and response together; longer texts are cut, counted and said
_SLOT = "\ue000response\ue000"  # where the response goes while the template's own words around it are found


class Vectors(NamedTuple):
    """Of one batch: ``mean`` and ``last`` [texts, width], ``base_score`` [texts]; all float32."""

    mean: np.ndarray
    last: np.ndarray
    base_score: np.ndarray


Batch = tuple[list[int], Vectors, int]
"""Positions of texts, their vectors, and how many of them were longer than MAX_LENGTH and were cut."""


class _Text(NamedTuple):
    ids: list[int]
    first: int  # position of the response's first token
    end: int  # one past its last; the closing token stands for an empty response
    cut: bool = False  # it was longer


class FrozenBase:
    """A backbone, its tokenizer with chat template, and its score head."""

    def __init__(self, name: str, kind: str, backbone: torch.nn.Module, tokenizer: Any, score: torch.Tensor) -> None:
        """``kind``: ``cpu`` or ``cuda``; ``score``: the pre-trained head's weights [1, width], 0 where it has none."""
        if not getattr(tokenizer, "is_fast", False) or not tokenizer.chat_template:
            raise UsageError(f"{name} needs a fast tokenizer with a chat template to serve as a base model.")
        self._backbone, self._tokenizer = backbone.to(kind).eval(), tokenizer
        self._score, self._kind, self._batch_tokens = score.to(kind).float(), kind, BATCH_TOKENS[kind]
        special = [re.escape(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join([_SLOT, *special]))
        bos = tokenizer.bos_token_id
        self._adds_bos = bos is not None and tokenizer("")["input_ids"][:1] == [bos]

    def embed(self, texts: Sequence[tuple[str, str]]) -> Generator[Batch]:
        """The texts batch by batch.

        Longest texts first, so that memory runs out at once or never; where it does, half as many tokens go through
        from then on. Raises what ``device.is_out_of_memory`` knows where one text alone does not fit.
        """
        encoded = [self._encode(prompt, response) for prompt, response in texts]
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i].ids))
        done = 0
        while done < len(order):
            longest = len(encoded[order[done]].ids)  # as long as all of the batch are, with padding
            rows = order[done : done + max(1, self._batch_tokens // longest)]
            try:
                vectors = self._forward([encoded[i] for i in rows])
            except (RuntimeError, MemoryError) as error:
                if len(rows) == 1 or not is_out_of_memory(error):
                    raise
                self._batch_tokens = len(rows) * longest // 2
                continue
            done += len(rows)
            yield rows, vectors, sum(encoded[i].cut for i in rows)

    # ── Text to tokens ──

    def _encode(self, prompt: str, response: str) -> _Text:
        # Control tokens in a text lose their power, and what stands for the response must not occur.
        prompt, response = (self._special.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text) for text in (prompt, response))
        text = self._tokenize(prompt, response)
        if len(text.ids) <= MAX_LENGTH:
            return text
        # Both keep their beginning: the prompt up to half of the room, or what the response leaves of it. The
        # template's closing words always stay, for the score is read there.
        settings = {"add_special_tokens": False, "return_offsets_mapping": True}
        spans = [self._tokenizer(part, **settings)["offset_mapping"] for part in (prompt, response)]
        around = len(text.ids) - (text.end - text.first) - len(spans[0])
        room = max(2, MAX_LENGTH - 8 - around)  # 8: tokens may join differently at a cut
        first = min(len(spans[0]), max(room // 2, room - len(spans[1])))
        short, answer = (
            part if len(of) <= kept else part[: of[kept - 1][1]]
            for part, of, kept in zip((prompt, response), spans, (first, room - first), strict=True)
        )
        return self._tokenize(short, answer)._replace(cut=True)

    def _tokenize(self, prompt: str, response: str) -> _Text:
        before, after = self._render(prompt, _SLOT).split(_SLOT)
        rendered = self._render(prompt, response)
        if rendered != before + response.strip() + after:  # some templates trim, others cut thoughts out of an answer
            rendered = before + response + after
        start, stop = len(before), len(rendered) - len(after)
        tokens = self._tokenizer(rendered, return_offsets_mapping=True)
        spans = tokens["offset_mapping"]
        inside = [i for i, (a, b) in enumerate(spans) if a < b and b > start and a < stop] or [len(spans) - 1]
        return _Text(tokens["input_ids"], inside[0], inside[-1] + 1)

    def _render(self, prompt: str, response: str) -> str:
        """The base's own template; without the BOS that the tokenizer itself will add."""
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        rendered = str(self._tokenizer.apply_chat_template(turns, tokenize=False))
        return rendered.removeprefix(self._tokenizer.bos_token) if self._adds_bos else rendered

    # ── Tokens to vectors ──

    def _forward(self, texts: Sequence[_Text]) -> Vectors:
        """One pass through the backbone. Padding stands right of every text and attention looks left only, so no
        mask is needed; positions come from lengths, never from the padding token's id."""
        import torch

        lengths = torch.tensor([len(t.ids) for t in texts])
        ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
        inside = torch.zeros(ids.shape)
        for i, text in enumerate(texts):
            ids[i, : len(text.ids)] = torch.tensor(text.ids)
            inside[i, text.first : text.end] = 1.0
        with torch.inference_mode():
            hidden = self._backbone(input_ids=ids.to(self._kind), use_cache=False).last_hidden_state
            share = (inside / inside.sum(dim=1, keepdim=True)).to(self._kind)
            mean = torch.bmm(share[:, None, :], hidden.float())[:, 0]
            last = hidden[torch.arange(len(texts)), lengths - 1].float()
            score = (last @ self._score.T)[:, 0]
        return Vectors(*(t.cpu().numpy().astype(np.float32) for t in (mean, last, score)))


def open_base(name: str, kind: str) -> FrozenBase:
    """The base called ``name`` (``embedded``, a folder or a hub id) on a device of this ``kind``: ``cpu`` or ``cuda``.

    Raises MissingError where it is not there; UsageError where it cannot serve as a base; what
    ``device.is_out_of_memory`` knows where it does not fit.
    """
    import torch

    if name == EMBEDDED:
        from llm.embedded import load_smollm2

        small, its_tokenizer = load_smollm2(precision(kind))
        return FrozenBase(name, kind, small.base_model, its_tokenizer, torch.zeros(1, small.config.hidden_size))
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging as hf

    folder = fetch(name)
    # its own notes (no pad token, a new head) are not the user's business: what matters is checked below
    hf.set_verbosity_error()  # type: ignore[no-untyped-call]
    hf.disable_progress_bar()  # type: ignore[no-untyped-call]
    settings = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **settings)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=precision(kind), use_safetensors=True, output_loading_info=True, **settings
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise UsageError(f"{name} cannot serve as a base model: {error}") from error
    missing = set(loading["missing_keys"])
    if not hasattr(model, "score") or missing - {"score.weight"}:
        raise UsageError(f"{name} ({type(model).__name__}) has no score head at the last token, or lacks weights.")
    score = model.score.weight.detach()
    return FrozenBase(name, kind, model.base_model, tokenizer, torch.zeros_like(score) if missing else score)
