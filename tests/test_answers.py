"""What counts as an answer: thoughts, ends, shapes of replies, JSON in words; and questions beyond a context."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from fake_ollama import FakeOllama, Model
from fake_openai import FakeOpenAI
from fake_openai import Model as OpenModel
from ollama_helpers import PromptList, echo, first_times, model_of, questions

from core.errors import MissingError
from llm.answers import verdict_probabilities, without_thinking
from llm.asking import DRAWS
from llm.interface import Choice, Completion, Decision, LeftOut, Request
from llm.openai import OpenAIModel

Json = dict[str, Any]
LABELS = ("A", "B", "tie")
SHARES = {"A": 0.2, "B": 0.7, "tie": 0.1}
KINDS = pytest.mark.parametrize("kind", ["ollama", "openai"])


def openai_of(server: FakeOpenAI, **params: Any) -> OpenAIModel:
    return OpenAIModel(server.url, "", **{"retry_wait": 0.001, "timeout": 120.0, "concurrency": 1, **params})


def says(text: str) -> Any:
    return lambda _request: text


# ── Thoughts ─────────────────────────────────────────────────────────────────────────────────────────────

CHANNELS = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>"
CODE = "```python\nre.sub(r'<think>.*?</think>', '', text)\n```"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("<think>\nhm\n</think>\n\nyes", "yes"),
        ("  <THINKING>hm</Thinking>yes", "yes"),
        ("<thought>hm</thought> yes", "yes"),
        ("<reasoning>hm</reasoning> yes", "yes"),
        ("<seed:think>hm</seed:think>yes", "yes"),
        ("[THINK]hm[/THINK]yes", "yes"),
        ("◁think▷hm◁/think▷yes", "yes"),
        ("<|channel>thought\nhm\n<channel|>yes", "yes"),
        ("<|channel>thought\n<channel|>yes", "yes"),
        (CHANNELS + "yes<|return|>", "yes"),
        ("<|start|>assistant" + CHANNELS + "yes<|end|>", "yes"),
        ("<|channel|>final<|message|>yes", "yes"),
        (CHANNELS.replace("final", "final <|constrain|>json") + "{}", "{}"),
        ("analysisWe need a word.assistantfinalyes", "yes"),
        ("hm\n</think>\nyes", "yes"),
        # cut off before the answer
        ("<think>never closed", ""),
        ("<|channel|>analysis<|message|>never closed", ""),
        # the same marks, quoted
        (CODE, CODE),
        ("<think>hm</think>" + CODE, CODE),
        ("```\n</think>\n```", "```\n</think>\n```"),
        ("Close it with </think> at the end.", "Close it with </think> at the end."),
        ("yes\n<think>\nis a tag\n</think>\n", "yes\n<think>\nis a tag\n</think>"),
        ("The mark is <|channel|>final<|message|>.", "The mark is <|channel|>final<|message|>."),
        ("ChatML ends a turn with <|end|>", "ChatML ends a turn with <|end|>"),
        ("analysis of the final text", "analysis of the final text"),
    ],
)  # fmt: skip
def test_only_a_block_in_a_known_mark_at_the_very_beginning_is_a_thought(said: str, answer: str) -> None:
    assert without_thinking(said) == answer


@pytest.mark.parametrize(("mark", "told"), [("<scratchpad>", 1), ("[REASON]", 1), ("<|plan|>", 1), ("<p>", 0), ("", 0)])
def test_a_mark_not_known_at_the_beginning_of_most_answers_is_said_once(
    mark: str, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOllama(brain=lambda request: f"{mark} {echo(request)}") as server:
        list(model_of(server).complete(questions("gemma3:4b", 12)))
    assert caplog.text.count("answers begin with") == told
    assert not told or f"begin with {mark}" in caplog.text


# ── Ends and shapes of replies ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("end", "useful"),
    [("stop", True), ("eos", True), ("length", True), ("error", False), ("content_filter", False), ("abort", False),
     ("tool_calls", False), (None, False)],
)  # fmt: skip
def test_only_an_end_that_is_known_to_be_good_makes_a_whole_answer(end: str | None, useful: bool) -> None:
    def shape(reply: Json) -> Json:
        reply["choices"][0]["finish_reason"] = end
        return reply

    with FakeOpenAI(brain=says("The first thing to kn"), shape=shape) as server:
        [(_, answer)] = openai_of(server).complete([Request("a-8b", "why?")])
    assert isinstance(answer, Completion) is useful
    assert len(server.calls) == (1 if useful else DRAWS)
    assert not useful or answer.truncated is (end == "length")


def test_an_answer_of_ollama_that_is_not_done_is_none() -> None:
    with FakeOllama(brain=echo, faults=first_times("abort")) as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "why?")])
    assert answer.text == "gemma3:4b says: why?"
    assert len(server.calls) == 2


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "yes"}]


def message(**fields: Any) -> Json:
    said = {"index": 0, "message": {"role": "assistant", "content": "yes", **fields}, "finish_reason": "stop"}
    return {"choices": [said]}


@pytest.mark.parametrize(
    ("change", "text", "tokens"),
    [
        ({"usage": None}, "yes", None),
        ({"usage": {}}, "yes", None),
        ({"usage": "many"}, "yes", None),
        ({"usage": [1, 2]}, "yes", None),
        ({"usage": {"completion_tokens": None, "prompt_tokens": None}}, "yes", None),
        ({"usage": {"completion_tokens": "12", "prompt_tokens": "x"}}, "yes", None),
        ({"usage": {"completion_tokens": -1}}, "yes", None),
        ({"usage": {"completion_tokens": True}}, "yes", None),
        ({"usage": {"completion_tokens": 1.5}}, "yes", None),
        ({"usage": {"completion_tokens": 0}}, "yes", 0),
        ({"usage": {"completion_tokens": 7, "prompt_tokens": 3, "extra": {}}}, "yes", 7),
        (message(), "yes", 1),
        (message(content=[{"type": "text", "text": "yes"}]), "yes", 1),
        (message(content=PARTS), "yes", 1),
        (message(reasoning_content="hm"), "yes", 1),
        (message(reasoning="hm", tool_calls=None, annotations=[]), "yes", 1),
        (message(content="\ufeffyes"), "\ufeffyes", 1),
        # of no use: drawn again, left out in the end
        (message(content=None, reasoning_content="hm"), None, None),
        (message(content=[]), None, None),
        (message(content=None, refusal="no"), None, None),
    ],
)
def test_twenty_shapes_of_replies_are_read_and_what_is_no_figure_is_null(
    change: Json, text: str | None, tokens: int | None
) -> None:
    with FakeOpenAI(brain=says("yes"), shape=lambda reply: {**reply, **change}) as server:
        [(_, answer)] = openai_of(server).complete([Request("a-8b", "why?")])
    if text is None:
        assert isinstance(answer, LeftOut)
    else:
        assert (answer.text, answer.tokens) == (text, tokens)
        assert len(server.calls) == 1


@pytest.mark.parametrize("reply", [{}, [], "x", {"choices": None}, {"choices": []}, {"error": "x"}])
def test_a_reply_of_another_shape_is_no_traceback(reply: Any) -> None:
    with FakeOpenAI(shape=lambda _: reply) as server, pytest.raises(MissingError, match="server"):
        list(openai_of(server).complete([Request("a-8b", "why?")]))


@KINDS
def test_the_time_of_an_answer_is_the_servers_own_where_it_tells(kind: str) -> None:
    words = "one two three four five"
    if kind == "ollama":
        with FakeOllama(brain=says(words), latency=0.2) as server:
            [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "why?")])
    else:
        with FakeOpenAI(brain=says(words), latency=0.2, timed=True) as server:
            [(_, answer)] = openai_of(server).complete([Request("a-8b", "why?")])
            server.timed = False
            [(_, waited)] = openai_of(server, concurrency=3).complete([Request("a-8b", "why?")])
        assert waited.seconds >= 0.2
        assert waited.side_by_side == 3
    assert (answer.tokens, answer.side_by_side) == (5, 0)
    assert answer.tokens / answer.seconds == pytest.approx(50.0)


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────

VERDICT = '{"choice": "B", "reason": "so"}'


@pytest.mark.parametrize(
    "said",
    [
        VERDICT,
        f"\ufeff{VERDICT}",
        f"{VERDICT}<|im_end|>",
        f"```json\n{VERDICT}\n```",
        f"Sure, {{A or B}}: {VERDICT} I hope that helps {{}}.",
        f'First {{"choice": "A", "reason": "x"}}, but no: {VERDICT}',
        '{"choice": "b", "reason": "so"}',
        '{"choice": " [B] ", "reason": "so"}',
        '{"choice": "B", "reason": "so", "score": 3}',
        '{"reason": "so", "choice": "B"}',
        '{"choice": "B", "reason": "two\nlines </think>"}',
        f"<think>\nhm {{}}\n</think>\n{VERDICT}",
    ],
)
def test_a_verdict_that_is_plain_is_read_at_the_first_draw(said: str) -> None:
    decisions, sent = decide("ollama", says(said), None)
    assert (decisions[0].winner, len(sent)) == ("B", 1)


def test_json_inside_an_answers_own_strings_is_left_alone() -> None:
    prompt = "```json\n[1]\n``` what is this?"
    with FakeOllama(brain=says(json.dumps({"prompts": [prompt]}))) as server:
        [(_, answer)] = model_of(server).complete([Request("gemma3:4b", "x", schema=PromptList)])
    assert answer.parsed == PromptList(prompts=[prompt])


@KINDS
def test_lists_have_bounds_on_every_backend(kind: str) -> None:
    if kind == "ollama":
        with FakeOllama() as server:
            list(model_of(server).complete([Request("gemma3:4b", "x", schema=PromptList, num_predict=1200)]))
    else:
        with FakeOpenAI() as server:
            list(openai_of(server).complete([Request("a-8b", "x", schema=PromptList, num_predict=1200)]))
    prompts = schema_of(server.calls[0].request)["properties"]["prompts"]
    assert (prompts["minItems"], prompts["maxItems"]) == (1, 6)


# ── Questions beyond the context ─────────────────────────────────────────────────────────────────────────

VLLM = (
    "This model's maximum context length is {context} tokens. However, you requested {all} tokens ({tokens} in the "
    "messages, 512 in the completion). Please reduce the length of the messages or completion."
)
STUDIO = (
    "Trying to keep the first {tokens} tokens when context the overflows. However, the model is loaded with context "
    "length of only {context} tokens, which is not enough. Try to load the model with a larger context length"
)
MAX_TOKENS = (
    "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum context length is {context} "
    "tokens and your request has {tokens} input tokens"
)


def in_words(status: int, words: str) -> Any:
    def refuse(tokens: int, context: int) -> tuple[int, Json]:
        return status, {"error": {"message": words.format(tokens=tokens, context=context, all=tokens + 512)}}

    return refuse


WORDINGS = {
    "vllm": in_words(400, VLLM),
    "vllm, newer": in_words(400, MAX_TOKENS),
    "lm studio": in_words(400, STUDIO),
    "anthropic": in_words(400, "prompt is too long: {tokens} tokens > {context} maximum"),
    "tgi": in_words(422, "`inputs` tokens + `max_new_tokens` must be <= {context}. Given: {tokens} `inputs` tokens"),
}


@pytest.mark.parametrize("wording", ["llama.cpp", *WORDINGS])
def test_a_question_beyond_the_context_is_left_out_alone_and_refuses_no_schema(wording: str) -> None:
    asked = [Choice("a-8b", text, LABELS) for text in ("short?", "long? " * 2000, "short again?")]
    with FakeOpenAI(models={"a-8b": OpenModel(context=2048)}) as server:
        if wording in WORDINGS:
            server.overflows = WORDINGS[wording]
        found = dict(openai_of(server).choose(asked))
    assert [isinstance(found[i], Decision) for i in range(3)] == [True, False, True]
    assert "longer than the context of a-8b: about 3" in found[1].reason
    assert "2,048" in found[1].reason
    assert "-c, for each of its slots), at least 4096" in found[1].reason
    assert len(server.calls) == 3, "another draw would be as long"
    assert all("response_format" in call.request for call in server.calls)


@pytest.mark.parametrize("version", ["0.11.4", "0.24.0", "0.32.15"])
def test_ollama_cuts_no_prompt_without_a_word(version: str) -> None:
    requests = [Request("gemma3:4b", text) for text in ("short", "word " * 9000, "short again")]
    with FakeOllama(brain=echo, version=version) as server:
        found = dict(model_of(server, num_ctx=8192).complete(requests))
    assert [isinstance(found[i], Completion) for i in range(3)] == [True, False, True]
    assert "num_ctx in config.py, as far as the model goes, to 1" in found[1].reason
    assert len(server.calls) == 3


@KINDS
def test_a_question_that_can_not_fit_is_not_asked(kind: str) -> None:
    long = "x" * 9000
    if kind == "ollama":
        with FakeOllama(brain=echo) as server:
            [(_, answer)] = model_of(server, num_ctx=1024).complete([Request("gemma3:4b", long)])
    else:
        with FakeOpenAI(models={"a-8b": OpenModel(context=1024, loaded=True)}) as server:
            model = openai_of(server)
            assert model.listed() == {"a-8b": 1024}
            [(_, answer)] = model.complete([Request("a-8b", long)])
    assert isinstance(answer, LeftOut)
    assert not server.calls


def test_a_parameter_is_refused_only_where_it_is_named_and_the_question_succeeds_without_it() -> None:
    def strange(request: Json, n: int) -> str | None:
        return "strange" if "strange" in request["messages"][0]["content"] else None

    choices = [Choice("a-8b", text, LABELS) for text in ("strange?", "which?")]
    with FakeOpenAI(faults=strange) as server:
        model = openai_of(server)
        with pytest.raises(MissingError, match="something is wrong with the format"):
            list(model.choose(choices[:1]))
        list(model.choose(choices[1:]))
    assert "response_format" in server.calls[-1].request


# ── Judges ───────────────────────────────────────────────────────────────────────────────────────────────


def decide(kind: str, brain: Any, shares: Any, count: int = 1, reason: bool = True) -> tuple[list[Any], list[Json]]:
    """The decisions and the requests that reached the server."""
    make: Any = FakeOllama if kind == "ollama" else FakeOpenAI
    with make(brain=brain, models=["judge:8b"], probabilities=shares) as server:
        model = model_of(server, concurrency=1) if kind == "ollama" else openai_of(server)
        found = dict(model.choose([Choice("judge:8b", f"which {i}?", LABELS, reason) for i in range(count)]))
    return [found[i] for i in range(count)], [call.request for call in server.calls]


def schema_of(request: Json) -> Json:
    schema: Json = request.get("format") or request["response_format"]["json_schema"]["schema"]
    return schema


@KINDS
def test_a_judge_whose_first_three_judgements_all_fail_ends_the_run_and_what_came_back_is_said(kind: str) -> None:
    with pytest.raises(MissingError, match=r"no usable judgement, 3 times.*I like both.*--judge"):
        decide(kind, says("I like both"), None, count=50)


def test_a_judge_that_fails_now_and_then_goes_on() -> None:
    def brain(request: Json) -> str:
        bad = any(f"which {i}?" in request["messages"][0]["content"] for i in (1, 2, 3, 4))
        return "hm" if bad else VERDICT

    decisions, _ = decide("ollama", brain, None, count=6)
    assert [isinstance(decision, Decision) for decision in decisions] == [True, False, False, False, False, True]


def test_a_thinking_model_that_obeys_no_schema_has_room_for_its_thoughts() -> None:
    with FakeOllama(
        brain=says("I like B"), models={"qwen3:8b": Model(capabilities=("completion", "thinking"))}
    ) as server:
        list(model_of(server).choose([Choice("qwen3:8b", "which?", LABELS)]))
    first, second, *_ = (call.request for call in server.calls)
    assert "format" in first and "format" not in second
    assert second["options"]["num_predict"] == first["options"]["num_predict"] + 2048


@KINDS
def test_probabilities_come_with_the_verdict(kind: str) -> None:
    verdict = json.dumps({"choice": "B", "reason": "shorter"})
    decisions, sent = decide(kind, says(verdict), lambda _: SHARES, count=3)
    assert all(decision.winner == "B" for decision in decisions)
    assert all(decision.probabilities == pytest.approx(SHARES, abs=1e-4) for decision in decisions)
    assert {(request["logprobs"], request["top_logprobs"]) for request in sent} == {(True, 20)}


@KINDS
def test_a_server_that_gives_none_leaves_everything_as_it_was(kind: str) -> None:
    decisions, sent = decide(kind, says(json.dumps({"choice": "B", "reason": "so"})), None, count=2)
    assert [(d.winner, d.reason, d.probabilities) for d in decisions] == [("B", "so", None)] * 2
    assert all("reason" in schema_of(request)["properties"] for request in sent)


@pytest.mark.parametrize("reason", [True, False])
def test_a_reason_is_asked_for_or_left_and_stands_behind_the_verdict(reason: bool) -> None:
    _, sent = decide("ollama", says(json.dumps({"choice": "B", "reason": "so"})), None, count=2, reason=reason)
    wanted = ["choice", "reason"] if reason else ["choice"]
    assert [list(schema_of(request)["properties"]) for request in sent] == [wanted] * 2


def tokens(*said: tuple[str, dict[str, float]]) -> Any:
    return tuple((token, {t: math.log(p) for t, p in likely.items()}) for token, likely in said)


HEAD = (("```", {"```": 1.0}), ('{"', {'{"': 1.0}), ("choice", {"answer": 0.9, "choice": 0.1}), ('":', {'":': 1.0}))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # as recorded: other tokens stand between the labels, and "tie" is not among them
        ([(' "', {' "': 1.0}), ("A", {"A": 0.6, "B": 0.3, "C": 0.05, "a": 0.05})], (0.6, 0.3, 0.05)),
        # quotes, blanks and beginnings of one label
        ([(' "', {' "': 1.0}), ("t", {"t": 0.4, "ti": 0.1, " A": 0.2, 'B"': 0.2, "B": 0.1})], (0.2, 0.3, 0.5)),
        # the quote in one token with the label
        ([(' "B', {' "B': 0.5, ' "A': 0.3, '"tie"': 0.2})], (0.3, 0.5, 0.2)),
        ([('"B"}', {'"B"}': 0.5, '"A"}': 0.3, "A": 0.2})], (0.5, 0.5, 0.2)),
        ([(' "', {' "': 1.0}), ("Because", {"Because": 1.0})], None),
    ],
)  # fmt: skip
def test_labels_are_counted_at_the_token_where_the_verdict_stands(said: Any, expected: Any) -> None:
    found = verdict_probabilities(LABELS, tokens(*HEAD, *said, ('", "', {'", "': 1.0}), ("reason", {"reason": 1.0})))
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(dict(zip(LABELS, (e / sum(expected) for e in expected), strict=True)), abs=1e-4)


def test_without_a_verdict_in_the_tokens_there_are_no_probabilities() -> None:
    assert verdict_probabilities(LABELS, ()) is None
    assert verdict_probabilities(LABELS, tokens(("A", {"A": 1.0}))) is None
    assert Decision("A").probabilities is None
