"""Tiny random models of the real classes, saved as they come from a hub, and the embedded one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from llm.embedded import load_smollm2

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}<|eot|>{% endfor %}"
)
QWEN_TEMPLATE = (  # with a system prompt of its own, and thoughts cut out of answers
    "<|im_start|>system\nYou are a test.<|im_end|>\n{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
)


@cache
def smollm2() -> Any:
    """The embedded model and its tokenizer, in float32; read once for all tests of a process."""
    return load_smollm2()


def tiny_tokenizer(template: str, special: Sequence[str], **named: str) -> transformers.PreTrainedTokenizerFast:
    """Bytes as tokens, and control tokens; adds a BOS of its own where one is named."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(list(special))
    if "bos_token" in named:
        bos = named["bos_token"]
        inner.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 0)])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **named)
    tokenizer.chat_template = template
    return tokenizer


SMALL = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "num_labels": 1, "initializer_range": 0.2,
}  # fmt: skip


def save_model(folder: Path, kind: str, pad: str | None = "<|pad|>") -> Path:
    """A tiny random model of a real class with its tokenizer, as they come from a hub."""
    torch.manual_seed(0)
    closing = {"llama": "<|eot|>", "causal": "<|eot|>", "qwen": "<|im_end|>"}[kind]
    named = {"eos_token": closing} | ({"pad_token": pad or ""} if pad else {})
    if kind == "qwen":
        special, template = ["<|im_start|>", "<|im_end|>", "<|pad|>"], QWEN_TEMPLATE
        model: Any = transformers.Qwen3ForSequenceClassification(
            transformers.Qwen3Config(**SMALL, head_dim=8, pad_token_id=None)
        )
    else:
        special, template = ["<|begin|>", "<|start|>", "<|eot|>", "<|pad|>"], LLAMA_TEMPLATE
        named["bos_token"] = "<|begin|>"
        build = transformers.LlamaForSequenceClassification if kind == "llama" else transformers.LlamaForCausalLM
        model = build(transformers.LlamaConfig(**SMALL, pad_token_id=None))
    tokenizer = tiny_tokenizer(template, special, **named)
    if pad:
        model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
