"""What counts as an answer: thoughts, ends, shapes of replies, JSON in words; and questions beyond a context."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_brain import last_text
from fake_ollama import FakeOllama, Model
from fake_openai import FakeOpenAI
from fake_openai import Model as OpenModel
from ollama_helpers import SERVERS, echo, model_of, questions

from core.errors import MissingError
from llm.answers import bounded, verdict_schema, without_thinking
from llm.asking import DRAWS
from llm.connection import read_overflow
from llm.interface import Choice, Completion, Decision, LeftOut, Request
from stages.writing import PromptList

Json = dict[str, Any]
LABELS = ("A", "B", "tie")
SHARES = {"A": 0.2, "B": 0.7, "tie": 0.1}
UNSAID = {"A": 0.3, "B": 0.7, "tie": 0.0}  # the label is not among the tokens that a server tells of
KINDS = pytest.mark.parametrize("kind", list(SERVERS))


def ask(server: Any, request: Request | Choice, **params: Any) -> Any:
    """The answer to one question."""
    model = model_of(server, concurrency=1, **params)
    [(_, answer)] = model.complete([request]) if isinstance(request, Request) else model.choose([request])
    return answer


def decide(kind: str, brain: Any, count: int = 1, shares: Any = None, **choice: Any) -> tuple[list[Any], list[Json]]:
    """The decisions and the requests that reached the server."""
    with SERVERS[kind](brain, models=["judge:8b"], probabilities=shares) as server:
        asked = [Choice("judge:8b", f"which {i}?", LABELS, **choice) for i in range(count)]
        found = dict(model_of(server, concurrency=1).choose(asked))
    return [found[i] for i in range(count)], [call.request for call in server.calls]


# ── Thoughts ─────────────────────────────────────────────────────────────────────────────────────────────

CHANNELS = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>"
CODE = "```python\nre.sub(r'<think>.*?</think>', '', text)\n```"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("<think>\nhm\n</think>\n\nyes", "yes"),
        ("  <THOUGHT>hm</Thought> yes", "yes"),
        ("<|start|>assistant" + CHANNELS + "yes<|return|>", "yes"),
        ("hm\n</think>\nyes", "yes"),
        ("<think>never closed", ""),
        ("<think>hm</think>" + CODE, CODE),
        ("```\n</think>\n```", "```\n</think>\n```"),
    ],
)  # fmt: skip
def test_only_a_block_in_a_known_mark_at_the_very_beginning_is_a_thought(said: str, answer: str) -> None:
    assert without_thinking(said) == answer


@pytest.mark.parametrize(("mark", "told"), [("<scratchpad>", 1), ("<p>", 0)])
def test_a_mark_not_known_at_the_beginning_of_many_answers_is_said_once(
    mark: str, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOllama(lambda request: f"{mark} {echo(request)}") as server:
        list(model_of(server).complete(questions("gemma3:4b", 12)))
    assert caplog.text.count(f"answers begin with {mark}.") == told


# ── Ends and shapes of replies ───────────────────────────────────────────────────────────────────────────


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "yes"}]


def message(finish_reason: str | None = "stop", **fields: Any) -> Json:
    said = {"index": 0, "message": {"role": "assistant", "content": "yes", **fields}, "finish_reason": finish_reason}
    return {"choices": [said]}


@pytest.mark.parametrize(
    ("change", "text", "tokens"),
    [
        ({"usage": None}, "yes", None),
        ({"usage": "many"}, "yes", None),
        ({"usage": {"completion_tokens": "12", "prompt_tokens": "x"}}, "yes", None),
        ({"usage": {"completion_tokens": True}}, "yes", None),
        ({"usage": {"completion_tokens": -1}}, "yes", None),
        (message("length"), "yes", 1),
        (message(content=PARTS), "yes", 1),
        # of no use: drawn again, left out in the end
        (message("content_filter"), None, None),
        (message(None), None, None),
        (message(content=None, reasoning_content="hm"), None, None),
    ],
)
def test_only_a_known_good_end_makes_an_answer_and_what_is_no_figure_is_null(
    change: Json, text: str | None, tokens: int | None
) -> None:
    with FakeOpenAI(lambda _: "yes", shape=lambda reply: {**reply, **change}) as server:
        answer = ask(server, Request("a-8b", "why?"))
    if text is None:
        assert isinstance(answer, LeftOut) and len(server.calls) == DRAWS
    else:
        assert (answer.text, answer.tokens, len(server.calls)) == (text, tokens, 1)
        assert answer.truncated is (change == message("length"))


@KINDS
def test_the_time_of_an_answer_is_the_servers_own_where_it_tells(kind: str) -> None:
    timings = {"predicted_n": 5, "predicted_ms": 100.0, "predicted_per_second": 50.0}  # as llama.cpp's
    own = {"shape": lambda reply: {**reply, "timings": timings}} if kind == "openai" else {}
    with SERVERS[kind](lambda _: "one two three four five", models=["m"], latency=0.2, **own) as server:
        answer = ask(server, Request("m", "why?"))
    assert (answer.tokens, answer.side_by_side, answer.seconds) == (5, 0, pytest.approx(0.1))


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────

VERDICT = '{"choice": "B", "reason": "so"}'


@pytest.mark.parametrize(
    "said",
    [
        VERDICT,
        f"\ufeff{VERDICT}<|im_end|>",
        f"Sure, {{A or B}}: ```json\n{VERDICT}\n``` I hope that helps {{}}.",
        '{"choice": " [b] ", "reason": "so"}',
        '{"reason": "two\nlines </think>", "choice": "B", "score": 3}',
    ],
)
def test_a_verdict_that_is_plain_is_read_at_the_first_draw(said: str) -> None:
    decisions, sent = decide("ollama", lambda _: said)
    assert (decisions[0].winner, len(sent)) == ("B", 1)


@KINDS
def test_what_a_schema_allows_is_never_cut_at_its_token_limit(kind: str) -> None:
    prompt = "```json\n[1]\n``` what is this?"
    with SERVERS[kind](lambda _: json.dumps({"prompts": [prompt]}), models=["m"]) as server:
        answer = ask(server, Request("m", "x", schema=PromptList, num_predict=1200))
    prompts = schema_of(server.calls[0].request)["properties"]["prompts"]
    assert (prompts["minItems"], prompts["maxItems"]) == (1, 6)
    assert answer.parsed == PromptList(prompts=[prompt]), "JSON inside an answer's own strings is left alone"
    assert bounded(verdict_schema(LABELS, reason=True), 256)["properties"]["reason"]["maxLength"] == 512


# ── Questions beyond the context ─────────────────────────────────────────────────────────────────────────

WORDINGS = (
    "request ({} tokens) exceeds the available context size ({} tokens), try increasing it",
    "This model's maximum context length is {1} tokens. However, you requested {0} tokens in the messages",
    "The decoder prompt (length {}) is longer than the maximum model length of {}.",
)


@pytest.mark.parametrize("wording", WORDINGS, ids=["llama.cpp", "vllm", "vllm's engine"])
def test_a_question_beyond_the_context_is_left_out_alone_and_refuses_no_schema(wording: str) -> None:
    asked = [Choice("a-8b", text, LABELS) for text in ("short?", "long? " * 2000, "short again?", "longer? " * 3000)]
    with FakeOpenAI(models={"a-8b": OpenModel(context=2048)}, overflows=wording.format) as server:
        model = model_of(server, concurrency=1, api_key="x")  # a dummy, which stands in these words too
        found = dict(model.choose(asked))
    older = read_overflow(400, '{"type":"exceed_context_size_error","code":400,"n_prompt_tokens":3001,"n_ctx":2048}')
    tgi = read_overflow(422, "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3001 `inputs` tokens")
    assert tgi and (tgi.tokens, tgi.context) == (3001, 2048)
    assert model.told == {"a-8b": 2048} and older and (older.tokens, older.context) == (3001, 2048)
    assert [isinstance(found[i], Decision) for i in range(4)] == [True, False, True, False]
    assert "about 3,0" in found[1].reason
    assert "-c, for each of its slots), at least 4096" in found[1].reason
    assert len(server.calls) == 3, "another draw would be as long, and the refusal told the context"
    assert all("response_format" in call.request for call in server.calls)


@pytest.mark.parametrize("version", ["0.11.4", "0.24.0", "0.32.15"])
def test_ollama_cuts_no_prompt_without_a_word(version: str) -> None:
    requests = [Request("gemma3:4b", text) for text in ("short", "word " * 9000, "short again")]
    with FakeOllama(echo, version=version) as server:
        found = dict(model_of(server, num_ctx=8192).complete(requests))
    assert [isinstance(found[i], Completion) for i in range(3)] == [True, False, True]
    assert "num_ctx in config.py, as far as the model goes, to 1" in found[1].reason
    assert len(server.calls) == 3


@KINDS
def test_a_question_that_can_not_fit_is_not_asked(kind: str) -> None:
    model = OpenModel(context=1024) if kind == "openai" else Model(context_length=1024)
    with SERVERS[kind](echo, models={"m": model}) as server:
        llm = model_of(server)
        assert kind == "ollama" or llm.listed() == {"m": 1024}
        [(_, answer)] = llm.complete([Request("m", "x" * 9000)])
    assert isinstance(answer, LeftOut) and not server.calls


# ── Judges ───────────────────────────────────────────────────────────────────────────────────────────────


def schema_of(request: Json) -> Json:
    schema: Json = request.get("format") or request["response_format"]["json_schema"]["schema"]
    return schema


@KINDS
def test_a_judge_whose_first_three_judgements_all_fail_ends_the_run_and_what_came_back_is_said(kind: str) -> None:
    def brain(request: Json) -> str:
        return VERDICT if "which 0?" in last_text(request) else "hm"

    with pytest.raises(MissingError, match=r"no usable judgement, 3 times.*I like both.*--judge"):
        decide(kind, lambda _: "I like both", count=50)
    decisions, _ = decide(kind, brain, count=5)
    assert [isinstance(decision, Decision) for decision in decisions] == [True, False, False, False, False]


@KINDS
@pytest.mark.parametrize("shares", [SHARES, UNSAID, None])
@pytest.mark.parametrize("reason", [True, False])
def test_a_verdict_comes_with_its_reason_and_where_the_server_gives_them_probabilities(
    kind: str, shares: Any, reason: bool
) -> None:
    [decision], [request] = decide(kind, lambda _: VERDICT, shares=shares and (lambda _: shares), reason=reason)
    assert (decision.winner, decision.reason) == ("B", "so" if reason else "")
    assert decision.probabilities == (shares and pytest.approx(shares, abs=1e-3))
    assert (request["logprobs"], request["top_logprobs"]) == (True, 20)
    choice = schema_of(request)["properties"]["choice"]
    assert choice["enum"] == list(LABELS)
    assert list(schema_of(request)["properties"]) == ["choice", "reason"][: 1 + reason]
