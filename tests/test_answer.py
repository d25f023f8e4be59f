"""--rank and --vote through the command line: over HTTP, with a tiny base on the disk."""

from __future__ import annotations

import io
import json
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_brain import default_brain
from fake_ollama import DEFAULT_TAGS, FakeOllama, Model
from tiny_models import save_model

import config
import main
from base.features import compute_features
from cli.flags import configure, parser
from cli.rank import places
from core.ranking import TrainingSet
from core.records import Preference, Prompt
from elo_system import EloSystem
from reward_model import RewardModel
from stages.tasks import Job

ASKED = "How do I sort a list of words by their length?"
RUN = ["--backend", "ollama", "--num_prompts", "5"]
MAKES_IT = "python main.py --persona coder --backend ollama"


@pytest.fixture(scope="module")
def learned_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a finished run in cache/ and its base in base/."""
    folder = tmp_path_factory.mktemp("run")
    save_model(folder / "base", "llama")
    with FakeOllama() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", server.url)
        folders = ["--cache_dir", str(folder / "cache"), "--results_dir", str(folder / "results")]
        assert main.main([*RUN, *folders, "--base_model", str(folder / "base")]) == 0
    yield folder


@pytest.fixture
def cache(learned_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned_run / "cache", tmp_path / "cache"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    with FakeOllama() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        yield running


def rank(cache: Path, prompt: str, *flags: str) -> int:
    return main.main([*RUN, "--cache_dir", str(cache), "--rank", prompt, *flags])


def ranked(cache: Path, prompt: str, capsys: pytest.CaptureFixture[str], *flags: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert rank(cache, prompt, "--json", *flags) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# ── --rank ──


def test_a_prompt_costs_one_question_to_each_model_and_then_nothing(
    cache: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(cache, ASKED) == 0
    first = capsys.readouterr().out
    assert dict(server.calls_by_model) == dict.fromkeys(DEFAULT_TAGS, 1)
    assert f"Prompt: {ASKED}" in first
    for title in ("Reward model: for this prompt", "Elo offset: one ranking for all prompts"):
        listed = first.split(title)[1].splitlines()[2:8]
        assert [line[:2] for line in listed] == ["1.", "2.", "3.", "4.", "5.", "6."]
        assert {line.split()[1] for line in listed} == set(DEFAULT_TAGS)
        assert all(line.endswith(" of 5") for line in listed)
    assert first.count("4.7 GB, 8.0B parameters") == 6
    best = first.split("Best response, by the ")[1].splitlines()
    model = best[0].split(": ")[1]
    assert ASKED in "\n".join(best[2:-1])
    texts = {call.model: default_brain(call.request) for call in server.calls}
    assert "\n".join(best[2:-1]) == texts[model], "in full"
    server.stop()
    assert rank(cache, ASKED) == 0, "the server is off now"
    again = capsys.readouterr().out
    assert len(server.calls) == 6
    strip = "4.7 GB, 8.0B parameters"
    assert again.split("tokens/s  size")[0].split("Prompt:")[1] == first.split("tokens/s  size")[0].split("Prompt:")[1]
    assert strip not in again, "nobody can say the size now"


def test_scores_and_spreads_are_those_of_trainings_made_one_by_one(
    cache: Path, learned_run: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = ranked(cache, ASKED, capsys)
    job, plan, prompts, responses = _everything(cache, server, ASKED)
    base = str(learned_run / "base")
    features = compute_features(base, prompts, responses, cache_dir=cache, name="coder")
    ratings = {m: c.elo for m, c in job.contestants.items()}
    ids, parts, outer = job.prompt_ids, plan.folds, plan.training
    sets = [TrainingSet.of(plan.preferences, [i for i in ids if i not in part]) for part in parts]
    for name, new in (
        ("elo_offset", lambda: EloSystem(ratings, job.params.elo_k)),
        ("reward_model", lambda: RewardModel(features, ratings, job.params)),
    ):
        fits = [new().fit(s.preferences, prompt_ids=s.prompt_ids).scores(prompts[-1].id) for s in (outer, *sets)]
        if name == "reward_model":
            fits = [{m: s - statistics.fmean(fit.values()) for m, s in fit.items()} for fit in fits]
        found = {place["model"]: place for place in line[name]}
        assert [p["model"] for p in line[name]] == sorted(fits[0], key=lambda m: (-fits[0][m], m))
        for model in DEFAULT_TAGS:
            assert found[model]["score"] == pytest.approx(fits[0][model], abs=1e-5)
            spread = statistics.stdev(fit[model] for fit in fits[1:])
            assert found[model]["spread"] == pytest.approx(spread, abs=1e-5)
        assert sum(place["first"] for place in line[name]) >= len(parts) == line["folds"]
        assert any(place["spread"] > 0 for place in line[name])


def _everything(cache: Path, server: FakeOllama, asked: str) -> tuple[Job, Any, list[Prompt], list[Any]]:
    """The run's data and the asked prompt's, through the stages themselves."""
    from cli import preflight
    from core.clock import Clock
    from core.files import fingerprint
    from data_generation import collect_responses, make_data
    from evidence.experiment import design

    args = parser().parse_args([*RUN, "--cache_dir", str(cache)])
    params = configure(args, "ollama")
    backend = preflight.choose_backend(args, params)
    job = preflight.job(args, backend, params, "coder")
    calls = len(server.calls)
    data = make_data(job, Clock())
    prompt = Prompt(f"asked-{fingerprint(asked)}", asked)
    responses = [*data.responses, *collect_responses(job, [prompt])]
    assert len(server.calls) == calls, "all of it is kept"
    return job, design(data, params), [*data.prompts, prompt], responses


def test_json_lines_of_standard_input_and_nothing_else(
    cache: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"\n{ASKED}\n   \nWhat is a deadlock?\r\n{ASKED}  \n"))
    lines = ranked(cache, "-", capsys)
    assert [line["prompt"] for line in lines] == [ASKED, "What is a deadlock?", ASKED]
    assert lines[0] == lines[2]
    assert len(server.calls) == 12, "a prompt that comes twice is asked once"
    assert server.switches == 6, "each model is loaded once"
    for line in lines:
        assert line["persona"] == "coder" and line["backend"] == "ollama" and line["folds"] == 5
        assert line["best"]["model"] == line[line["best"]["by"]][0]["model"]
        assert line["prompt"] in line["best"]["text"]
        assert set(line["models"]) == set(DEFAULT_TAGS)
        assert line["models"]["gemma3:4b"]["size_bytes"] == 4_700_000_000
        assert line["models"]["gemma3:4b"]["tokens_per_second"] > 0
        for system in ("elo_offset", "reward_model"):
            scores = [place["score"] for place in line[system]]
            assert scores == sorted(scores, reverse=True) and len(scores) == 6


def test_the_persona_s_favourite_of_all_prompts_comes_first(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fake's coder prefers a text with a code block, and only some models write one."""
    code = {tag for tag in DEFAULT_TAGS if "```" in default_brain({"model": tag, "messages": [{"content": "x"}]})}
    assert code, "the fake's styles have changed: nobody writes code"
    with FakeOllama() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", server.url)
        (line,) = ranked(cache, ASKED, capsys)
    top = line["elo_offset"][: len(code)]
    assert {place["model"] for place in top} == code
    assert "```" in line["best"]["text"]


def test_a_subset_of_what_was_learned_can_be_ranked(
    cache: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = ranked(cache, ASKED, capsys, "--models", "gemma3:4b", "mistral:7b")
    assert {p["model"] for p in line["elo_offset"]} == {p["model"] for p in line["reward_model"]}
    assert set(server.calls_by_model) == {"gemma3:4b", "mistral:7b"}


@pytest.mark.parametrize(
    "file", ["learned_coder.json", "elo_state_coder.json", "reward_head_coder.safetensors",
             "reward_head_coder_fold3.safetensors"],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["missing", "cut", "emptied", "changed"])
def test_a_missing_or_damaged_file_names_the_command_that_makes_it(
    cache: Path, learned_run: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str], file: str, damage: str
) -> None:
    path = cache / file
    data = path.read_bytes()  # "changed" is also what a run leaves that is killed between its last two files
    if damage == "missing":
        path.unlink()
    elif damage == "changed" and file.endswith("json"):
        path.write_bytes(data.replace(b"8:b", b"8:c").replace(b"1", b"2"))
    elif damage == "changed":
        (cache / file).write_bytes((cache / "reward_head_coder_fold1.safetensors").read_bytes())
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    status = rank(cache, ASKED)
    out = capsys.readouterr()
    assert status == (3 if damage == "missing" else 2), out.err
    assert file in out.err or damage == "changed"
    assert MAKES_IT in out.err and f"--cache_dir {cache}" in out.err
    if file != "learned_coder.json":
        assert f"--num_prompts 5 --base_model {learned_run / 'base'}" in out.err, "as that run was"
    assert "Traceback" not in out.err and "Prompt:" not in out.out
    if (file, damage) != ("reward_head_coder.safetensors", "changed"):
        assert not server.calls, "it is said before anything is asked"


def test_what_is_outdated_is_refused_with_the_reason(
    cache: Path, learned_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*flags: str, models: Any = DEFAULT_TAGS) -> str:
        with FakeOllama(models=models) as server:
            monkeypatch.setenv("OLLAMA_HOST", server.url)
            assert rank(cache, ASKED, *flags) == 2
            assert not server.calls
        message = capsys.readouterr().err
        assert MAKES_IT in message
        return message

    pulled = {tag: Model(digest="ffff" if tag == "qwen3:8b" else "") for tag in DEFAULT_TAGS}
    assert "qwen3:8b changed since" in refused(models=pulled)
    other = refused("--models", "gemma3:4b", "gemma2:9b", models=(*DEFAULT_TAGS, "gemma2:9b"))
    assert "knows nothing of gemma2:9b" in other
    assert f"--models {' '.join(DEFAULT_TAGS)}" in other
    assert "learned on the base" in refused("--base_model", str(save_model(tmp_path / "other", "qwen")))
    edited = replace(config.PERSONAS["coder"], description="Likes tabs.")
    with monkeypatch.context() as patch:
        patch.setitem(config.PERSONAS, "coder", edited)
        assert "the persona coder in config.py changed since" in refused()
    config_file = learned_run / "base" / "config.json"
    text = config_file.read_text()
    config_file.write_text(text + "\n")
    try:
        assert "changed since" in refused()
    finally:
        config_file.write_text(text)


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_bad_usage(
    cache: Path, server: FakeOllama, prompt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(cache, prompt) == 2
    assert "--rank is empty" in capsys.readouterr().err
    assert not server.calls


def test_an_empty_standard_input_is_bad_usage(
    cache: Path, server: FakeOllama, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n \n"))
    assert rank(cache, "-") == 2
    out = capsys.readouterr()
    assert "no prompt" in out.err and not server.calls


def test_bytes_that_are_no_text_on_standard_input(
    cache: Path, server: FakeOllama, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9?\n\xf0\x9f\x99\x82!\n"), encoding="utf-8"))
    assert [line["prompt"] for line in ranked(cache, "-", capsys)] == ["caf\ufffd?", "🙂!"]


def test_hostile_texts_do_nothing_to_the_terminal(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def brain(request: dict[str, Any]) -> str:
        return f"\x1b]0;owned\x07{request['model']}\x9b2J says \u202eolleh\r\nand\tmore \u2028 {{prompt}} %s"

    with FakeOllama(brain=brain) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert rank(cache, "clear \x1b[2J\x1b]0;t\x07 \ud83d and {title} %d \u202e?") == 0
        out = capsys.readouterr().out
        (line,) = ranked(cache, "clear \x1b[2J\x1b]0;t\x07 \ud83d and {title} %d \u202e?", capsys)
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(out)
    assert "and {title} %d" in out and "{prompt} %s" in out
    assert "\ud83d" not in line["prompt"]


def test_a_tie_for_the_first_place_counts_for_both() -> None:
    folds = [{"a": 1.0, "b": 1.0, "c": 0.0}, {"a": 2.0, "b": 0.0, "c": 0.0}]
    found = places({"c": 1.0, "b": 2.0, "a": 2.0}, folds)
    assert [(p.model, p.first) for p in found] == [("a", 2), ("b", 1), ("c", 0)]
    assert found[0].spread == pytest.approx(0.5**0.5)


# ── --vote ──


def vote(cache: Path, keys: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(keys))
    monkeypatch.setattr(config, "VOTES_DIR", cache.parent / "votes")
    return main.main([*RUN, "--cache_dir", str(cache), "--vote"])


def test_votes_are_kept_in_the_format_that_preferences_reads(
    cache: Path, server: FakeOllama, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from people.votes import load_votes

    path = cache.parent / "votes" / "votes_coder.jsonl"
    assert vote(cache, "a\nb\nx\nt\nu\nA\nq\n", monkeypatch) == 0
    out = capsys.readouterr().out
    assert not server.calls, "the persona's own prompts and responses, all kept"
    assert not any(tag in out for tag in DEFAULT_TAGS), "nobody sees who wrote what"
    assert "3 votes on" in out and f"python main.py --preferences {path} --cache_dir {cache}" in out
    votes = load_votes(str(path))
    assert votes.users == ("me",)
    assert [p.outcome for p in votes.preferences] == [1.0, 0.0, 1.0]
    assert all(isinstance(p, Preference) and p.model_a != p.model_b for p in votes.preferences)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(row["prompt"] in row["response_a"] and row["prompt"] in row["response_b"] for row in rows)
    shown = [line for line in out.splitlines() if line.startswith("── Prompt 1 of ")]
    total = int(shown[0].split(" of ")[1].split()[0])
    assert vote(cache, "t\n", monkeypatch) == 0, "the end of input means quit"
    out = capsys.readouterr().out
    assert f"Prompt 1 of {total - 3} " in out and "4 votes on" in out


def test_no_input_at_all_is_no_vote(
    cache: Path, server: FakeOllama, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vote(cache, "", monkeypatch) == 0
    assert "No votes yet." in capsys.readouterr().out
    assert not list((cache.parent / "votes").glob("*.jsonl"))


def test_responses_that_read_the_same_are_no_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def brain(request: dict[str, Any]) -> str:
        alike = request["model"] in ("gemma3:4b", "mistral:7b") and "format" not in request
        return "The same." if alike else default_brain(request)

    models = ["gemma3:4b", "mistral:7b", "llama3:8b"]
    with FakeOllama(brain=brain) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        monkeypatch.setattr("sys.stdin", io.StringIO("q\n"))
        monkeypatch.setattr(config, "VOTES_DIR", tmp_path / "votes")
        flags = ["--cache_dir", str(tmp_path), "--vote", "--models", *models]
        assert main.main([*RUN, *flags]) == 0
    assert "Prompt 1 of 10 " in capsys.readouterr().out, "2 of 3 pairs on each of 5 prompts"
