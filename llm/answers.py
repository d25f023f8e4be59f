"""Form a question and read its answer, whichever server is asked: thoughts are taken off, JSON found and validated."""

import functools
import itertools
import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, create_model

from core.text import plain
from llm.interface import Completion, Request

# A thought and the mark that ends it; one that is cut off runs to the end of the text.
_THOUGHTS = (
    r"<(think|thinking|thought|reasoning|seed:think)>.*?(?:</\1>|\Z)",
    r"\[think\].*?(?:\[/think\]|\Z)",  # Magistral
    r"◁think▷.*?(?:◁/think▷|\Z)",  # Kimi
    r"<\|channel>\s*thought.*?(?:<channel\|>|\Z)",  # Gemma
    r"(?:<\|start\|>assistant)?(?:<\|channel\|>(?!\s*final).*?)?<\|channel\|>\s*final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>",
    r"(?:<\|start\|>assistant)?<\|channel\|>.*",  # gpt-oss that did not come to an end
    r"analysis\S.*?assistantfinal",  # gpt-oss, its control tokens left out
)
_THOUGHT = re.compile(rf"\A\s*(?:{'|'.join(_THOUGHTS)})", re.DOTALL | re.IGNORECASE)
_CHANNEL_END = re.compile(r"(?:<\|(?:return|end)\|>\s*)+\Z")
# Some templates open the thought before the answer begins, and only its end is seen.
_END_OF_THOUGHT = re.compile(r"\A(?:(?!<think>|```|~~~).)*?^</think>\s*$", re.DOTALL | re.MULTILINE)
ANY_MARK = re.compile(r"[<\[◁|]{1,2}[\w:|/-]{3,30}[>\]▷|]{1,2}")
_SURROGATES = re.compile("[\ud800-\udfff]")  # half an emoji has no UTF-8: it can't be sent on to a judge
SAID_CHARACTERS = 80  # of an answer of no use
# Ends of an answer in the words of different servers: by itself, and at its limit. Any other is a failure.
_WHOLE = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")
_CUT = ("length", "max_tokens", "model_length")


class UselessError(Exception):
    """An answer of no use, to be drawn again. ``silent``: it holds nothing that could be meant as an answer."""

    def __init__(self, what: str, *, silent: bool = False) -> None:
        super().__init__(what)
        self.silent = silent


def without_thinking(text: str) -> str:
    """``text`` without a thought that leaked into it: a block in a known mark at its very beginning."""
    answer = _END_OF_THOUGHT.sub("", _THOUGHT.sub("", text, count=1), count=1)
    if "<|channel|>" in text[: len(text) - len(answer)]:
        answer = _CHANNEL_END.sub("", answer)
    return answer.strip()


def read_answer(request: Request, text: str, end: Any, tokens: Any, seconds: float, logprobs: Any) -> Completion:
    """The answer that a client's records tell, without thoughts and, where the request has a schema, validated.

    Raises UselessError for one without a text, or with any ``end`` but the known good ones.
    """
    if end not in _WHOLE + _CUT:
        raise UselessError(f"the answer broke off ({plain(end)})")
    text = without_thinking(_SURROGATES.sub("\ufffd", text))
    if not text:
        raise UselessError("an empty answer", silent=True)
    known = tokens if type(tokens) is int and tokens >= 0 else None
    spoken = tuple(
        (t.token, {t.token: t.logprob, **{other.token: other.logprob for other in t.top_logprobs or ()}})
        for t in logprobs or ()
    )
    parsed = find_json(request.schema, text) if request.schema else None
    return Completion(text, known, seconds, end in _CUT, parsed, spoken=spoken)


def find_json(schema: type[BaseModel], text: str) -> BaseModel:
    """The last JSON object in ``text`` that obeys the schema, whatever stands around it; UselessError without one."""
    found, at = None, text.find("{")
    while at >= 0:
        end = at + 1
        with suppress(ValueError):  # no JSON here, or not what was asked for
            value, end = json.JSONDecoder(strict=False).raw_decode(text, at)
            found = schema.model_validate(value)
        at = text.find("{", end)
    if found is None:
        said = plain(text)[:SAID_CHARACTERS]
        raise UselessError(f"the answer is not the JSON that was asked for: {said}", silent="{" not in text)
    return found


# ── What is asked ────────────────────────────────────────────────────────────────────────────────────────

WARMER = 0.2  # temperature added with each redraw: at 0 another seed would draw the same useless answer again
TOP_LOGPROBS = 20  # the most that servers give
CHARACTERS_A_TOKEN = 2  # of a schema's strings, rather too few than too many: no allowed answer then meets its limit
ITEM_CHARACTERS = 400  # of one string in a list
MOST_REPEATS = 1000  # a server's grammar takes no more repetitions than about twice as many
LEAST_SHARE = 1e-9  # some fill the list up with tokens of no probability, which has no logarithm


def bounded(schema: type[BaseModel], num_predict: int, *, strings: bool = True) -> dict[str, Any]:
    """The JSON schema with lists, and where asked ``strings``, so short that no answer is cut at its token limit, and
    of a list of labels each once: a model at temperature 0 may otherwise repeat itself until it is cut."""
    characters, found = CHARACTERS_A_TOKEN * num_predict, schema.model_json_schema()
    for field in found["properties"].values():
        text, longest = field, characters
        if field["type"] == "array":
            text, longest = field["items"], ITEM_CHARACTERS
            labels = len(text.get("enum", ()))
            most = labels or max(1, characters // ITEM_CHARACTERS)
            field.update(minItems=labels or 1, maxItems=min(most, MOST_REPEATS))
        if strings and "enum" not in text:
            text["maxLength"] = min(longest, MOST_REPEATS)
    return found


class Verdict(BaseModel):
    """The answer to a choice; ``verdict_schema`` narrows it to the options."""

    choice: str


@functools.cache
def verdict_schema(options: tuple[str, ...], *, reason: bool) -> type[Verdict]:
    """``{"choice": one of options, in that order[, "reason": string]}``: keys in alphabetical order, since current
    Ollama writes them so, and a judge has to decide before it explains."""

    def spelled(said: object) -> object:
        """The option that is meant by "a" or " [A]"."""
        bare = said.strip(" \t\n\"'[]().").casefold() if isinstance(said, str) else said
        return next((option for option in options if option.casefold() == bare), said)

    fields: dict[str, Any] = {"choice": (Annotated[Literal[options], BeforeValidator(spelled)], ...)}
    if reason:
        fields["reason"] = (str, ...)
    return create_model("Verdict", __base__=Verdict, **fields)


def redrawn(request: Request, number: int, *, in_words: bool) -> Request:
    """The request for one more draw: another seed, warmer, and where asked with its schema in words."""
    prompt = request.prompt
    if request.schema and in_words:
        schema = json.dumps(bounded(request.schema, request.num_predict, strings=False))
        prompt += f"\n\nAnswer with nothing but one JSON object that obeys this schema:\n{schema}"
    seed = (request.seed + number * 7919) & 0x7FFFFFFF
    return replace(request, prompt=prompt, seed=seed, temperature=round(request.temperature + WARMER * number, 3))


def common_body(request: Request) -> dict[str, Any]:
    """What every server is sent: model and chat and, of verdicts alone, the wish for log-probabilities."""
    turns = [("system", request.system), ("user", request.prompt)]
    messages = [{"role": role, "content": text} for role, text in turns if text]
    body: dict[str, Any] = {"model": request.model, "messages": messages}
    if request.schema and issubclass(request.schema, Verdict):
        body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return body


def verdict_probabilities(options: Sequence[str], answer: Completion) -> dict[str, float] | None:
    """The options' shares at the token where the verdict stands; None where it is not found.

    It is found in the tokens' own text, which may begin with more than the answer holds. Shares are made one among the
    options, since a server's come before its grammar's mask. A token that begins one option alone is counted for it,
    with or without a quote or blank. An option that is not among the tokens listed has what the last of them has.
    """
    spoken = answer.spoken
    places = list(re.finditer(r'"choice"\s*:\s*"', "".join(token for token, _ in spoken)))
    ends = itertools.accumulate(len(token) for token, _ in spoken)
    begins = places[-1].end() if places else math.inf  # the last one: a thought may have tried others
    likely = next((likely for (_, likely), end in zip(spoken, ends, strict=True) if end > begins), {})
    shares = dict.fromkeys(options, 0.0)
    for said, logarithm in likely.items():
        piece = said.lstrip(' \t\n":').rstrip(' \t\n",}')
        meant = [option for option in options if piece and option.startswith(piece)]
        if len(meant) == 1:
            shares[meant[0]] += math.exp(logarithm)
    if not any(shares.values()):
        return None
    least = max(math.exp(min(likely.values())), LEAST_SHARE)
    known = {option: max(share, least) for option, share in shares.items()}
    return {option: share / sum(known.values()) for option, share in known.items()}
