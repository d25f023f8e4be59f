"""Which Arena name an Ollama tag most likely has: by family, version, size and variant, and never silently."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

# What Ollama serves where a tag gives no size (ollama.com/library).
_DEFAULT_SIZES = {
    "llama2": "7b", "llama3": "8b", "llama3.1": "8b", "llama3.2": "3b", "llama3.3": "70b", "gemma": "7b",
    "gemma2": "9b", "gemma3": "4b", "gemma3n": "e4b", "qwen": "4b", "qwen2": "7b", "qwen2.5": "7b",
    "qwen2.5-coder": "7b", "qwen3": "8b", "qwq": "32b", "mistral": "7b", "mixtral": "8x7b", "mistral-nemo": "12b",
    "mistral-small": "24b", "phi3": "3.8b", "phi3.5": "3.8b", "phi4": "14b", "phi4-mini": "3.8b",
    "deepseek-r1": "8b", "command-r": "35b", "command-r-plus": "104b", "smollm2": "1.7b", "vicuna": "7b",
    "gpt-oss": "20b", "solar": "10.7b",
}  # fmt: skip
# What Ollama serves where a tag gives no version.
_DEFAULT_VERSIONS = {"mistral": "0.3", "mixtral": "0.1", "gemma": "1.1", "qwen": "1.5", "solar": "1"}
# Sizes of models whose Arena names give none: (family, version, variant).
_KNOWN_SIZES = {
    ("phi", "4", frozenset[str]()): "14b",
    ("command", None, frozenset({"r"})): "35b",
    ("command", None, frozenset({"r", "plus"})): "104b",
    ("deepseek", None, frozenset({"r1"})): "671b",
    ("deepseek", "3", frozenset[str]()): "671b",
    ("mistral", None, frozenset({"large"})): "123b",
}
# Microsoft's words for sizes.
_SIZE_WORDS = {("phi", "mini"): "3.8b", ("phi", "small"): "7b", ("phi", "medium"): "14b"}

_QUANTIZED = re.compile(r"(?<=[-_:])(?:i?q\d\w*|fp16|bf16|f16|fp8|int[48]|qat|awq|gptq)(?=[-_:]|$)")
_SIZE = re.compile(r"^(\d+x)?(\d+(?:\.\d+)?)([bm])$")
_FAMILY = re.compile(r"^([a-z]+)(\d+(?:\.\d+)?n?)?$")
_VARIANT = re.compile(r"^([a-z]{3,})(\d+\.\d+)$")
_VERSION = re.compile(r"^v?(\d{1,2}(?:\.\d+)?n?)$")
_MINOR = re.compile(r"^(?:\d+k|a\d+(?:\.\d+)?b|0\d|\d{4,8}|january|february|march|april|may|june|july|august|"
                    r"september|october|november|december)$")  # fmt: skip
_TUNED = frozenset({"instruct", "chat", "it", "dense", "gguf", "latest"})
_BASE = frozenset({"base", "text", "pt", "pretrained"})


@dataclass(frozen=True, slots=True)
class Match:
    """The best guess for a tag. ``arena_name`` None: refused, and ``reason`` says why."""

    arena_name: str | None
    confidence: float
    """In [0, 1]: 1 where the names are the same, less for every thing that had to be assumed."""
    reason: str


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's name, taken apart. Two models are the same one only where all but ``quantized`` agrees."""

    family: str
    version: str | None = None
    size: str | None = None
    """In billions of parameters: "8b", "0.135b", "8x7b", "e4b"."""
    variant: frozenset[str] = frozenset()
    """Words that make another model of it: coder, vision, r1, uncensored, …"""
    minor: frozenset[str] = frozenset()
    """Dates, context lengths, active parameters."""
    base: bool = False
    quantized: bool = False
    assumed: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        return self.family, self.version, self.size, self.variant, self.minor, self.base


def parse_name(name: str) -> ModelName:
    """Take an Ollama tag or an Arena name apart."""
    text = name.strip().lower().rsplit("/", 1)[-1]
    plain = _QUANTIZED.sub("", text)
    tokens = [t for t in re.split(r"[-_:\s()]+", plain) if t]
    if len(tokens) > 1 and tokens[0] == "meta":
        tokens = tokens[1:]
    if not tokens:
        return ModelName("")
    found = _FAMILY.match(tokens[0])
    family, version = (found[1], found[2]) if found else (tokens[0], None)
    parsed = ModelName(family, _plain_number(version), quantized=plain != text)
    after_month = False
    for token in tokens[1:]:
        parsed = _with_token(parsed, f"20{token}" if after_month and len(token) == 2 else token)
        after_month = token.isalpha() and bool(_MINOR.match(token))
    return parsed


def parse_tag(tag: str) -> ModelName:
    """Take an Ollama tag apart; what it leaves out is what Ollama's library serves, noted in ``assumed``."""
    parsed = parse_name(tag)
    model = tag.strip().lower().rsplit("/", 1)[-1].partition(":")[0]
    if parsed.version is None and model in _DEFAULT_VERSIONS:
        version = _DEFAULT_VERSIONS[model]
        parsed = replace(parsed, version=version, assumed=(*parsed.assumed, f"version {version}, Ollama's default"))
    if parsed.size is None and model in _DEFAULT_SIZES:
        size = _DEFAULT_SIZES[model]
        parsed = replace(parsed, size=size, assumed=(*parsed.assumed, f"size {size}, Ollama's default"))
    return parsed


def parse_arena_name(name: str) -> ModelName:
    """Take an Arena name apart; sizes that it leaves out and that are known are noted in ``assumed``."""
    parsed = parse_name(name)
    size = _KNOWN_SIZES.get((parsed.family, parsed.version, parsed.variant))
    if parsed.size is None and size is not None:
        return replace(parsed, size=size, assumed=(f"{name} has {size}",))
    return parsed


def same_model(name: str, names: Collection[str]) -> str | None:
    """How another table writes this Arena name ("Meta-Llama-3-8B-Instruct", "llama-3-8b-instruct"), or None."""
    if name in names:
        return name
    wanted = parse_arena_name(name).identity
    found = [other for other in names if parse_arena_name(other).identity == wanted]
    return found[0] if len(found) == 1 else None


def match_arena_name(tag: str, arena_names: Collection[str], *, ollama: bool = True) -> Match:
    """The best guess of a tag's Arena name. Two sizes, versions or variants of one family are never mixed.

    ``ollama`` False: the name of another server's model. What it leaves out is not what Ollama's library serves.
    """
    wanted = parse_tag(tag) if ollama else parse_name(tag)
    same = [name for name in arena_names if name.lower() == tag.strip().lower()]
    if len(same) == 1 and not wanted.assumed:  # "deepseek-r1" is another size on Ollama than on the Arena
        return Match(same[0], 1.0, "the same name")
    if wanted.base:
        return Match(None, 0.0, f"{tag} is a base model; the Arena rates tuned ones")
    pool = [(name, parse_arena_name(name)) for name in sorted(arena_names)]
    for part in ("family", "variant", "version", "size"):
        kept = [(name, parsed) for name, parsed in pool if getattr(parsed, part) == getattr(wanted, part)]
        if not kept or (ollama and part == "size" and wanted.size is None):
            return Match(None, 0.0, _refusal(tag, wanted, part, [name for name, _ in pool]))
        pool = kept
    return _best(wanted, pool)


def _with_token(parsed: ModelName, token: str) -> ModelName:
    if token in _TUNED:
        return parsed
    if token in _BASE:
        return replace(parsed, base=True)
    size = _size(parsed.family, token)
    if size is not None and parsed.size in (None, size):
        return replace(parsed, size=size)
    if _MINOR.match(token):
        return replace(parsed, minor=parsed.minor | {token})
    version = _VERSION.match(token)
    if version and parsed.version is None:
        return replace(parsed, version=_plain_number(version[1]))
    grown = _VARIANT.match(token)  # "small3.1"
    if grown and parsed.version is None:
        return replace(parsed, variant=parsed.variant | {grown[1]}, version=_plain_number(grown[2]))
    return replace(parsed, variant=parsed.variant | {token})


def _size(family: str, token: str) -> str | None:
    if (family, token) in _SIZE_WORDS:
        return _SIZE_WORDS[family, token]
    if re.match(r"^e\d+b$", token):
        return token
    found = _SIZE.match(token)
    if found is None:
        return None
    billions = float(found[2]) / (1000 if found[3] == "m" else 1)
    return f"{found[1] or ''}{billions:g}b"


def _plain_number(text: str | None) -> str | None:
    """ "3.0" and "3" are one version."""
    return text.removesuffix(".0") if text else None


def _refusal(tag: str, wanted: ModelName, part: str, nearest: Sequence[str]) -> str:
    if part == "family":
        return f"no model of family {wanted.family or repr(tag)} is listed"
    near = ", ".join(nearest[:5]) + (", …" if len(nearest) > 5 else "")
    if part == "size" and wanted.size is None:
        return f"{tag} gives no size, and sizes of one family are not mixed; listed: {near}"
    value = getattr(wanted, part)
    words = " ".join(sorted(value)) if isinstance(value, frozenset) else value
    return f"{part} {words or '(none)'} is not listed, and {part}s of one family are not mixed; listed: {near}"


def _best(wanted: ModelName, pool: Sequence[tuple[str, ModelName]]) -> Match:
    """The candidate with the fewest dates and context lengths of its own; what was assumed costs confidence."""
    ranked = sorted(pool, key=lambda c: (len(wanted.minor - c[1].minor), len(c[1].minor - wanted.minor), c[0]))
    name, found = ranked[0]
    confidence, said = 1.0, ["family, version, size and variant agree"]
    for text in (*wanted.assumed, *found.assumed):
        confidence *= 0.9
        said.append(f"assumed: {text}")
    for extra, who, cost in ((wanted.minor - found.minor, "the tag", 0.7), (found.minor - wanted.minor, name, 0.85)):
        if extra:
            confidence *= cost
            said.append(f"only {who} says {' '.join(sorted(extra))}")
    if wanted.quantized and not found.quantized:
        confidence *= 0.95
        said.append("the tag is quantized")
    if len(ranked) > 1:
        confidence *= 0.6
        said.append("just as near: " + ", ".join(other for other, _ in ranked[1:]))
    return Match(name, round(confidence, 2), "; ".join(said))
