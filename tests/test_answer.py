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
from cli.rank import places, verdict
from combined import Combined
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
    listed = first.split("best with")[1].splitlines()[1:7]
    assert [line[:2] for line in listed] == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert {line.split()[1] for line in listed} == set(DEFAULT_TAGS)
    assert all(" %  " in line and line.endswith("4.7 GB, 8.0B parameters") for line in listed)
    brief = [title for title in ("Combined: ", "Reward model: ", "Elo offset: ") if f"\n{title}" in first]
    assert len(brief) == 3, "one ranking alone, the two others in a sentence each"
    best = first.split("Response of the first")[1].splitlines()
    model = best[0].split(": ")[1]
    assert ASKED in "\n".join(best[2:-1])
    texts = {call.model: default_brain(call.request) for call in server.calls}
    assert "\n".join(best[2:-1]) == texts[model], "in full"
    server.stop()
    assert rank(cache, ASKED) == 0, "the server is off now"
    again = capsys.readouterr().out
    assert len(server.calls) == 6
    size = "4.7 GB, 8.0B parameters"
    assert again.split("Prompt:")[1] == first.split("Prompt:")[1].replace(size, "–")


def test_scores_are_those_of_a_training_on_every_prompt(
    cache: Path, learned_run: Path, server: FakeOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = ranked(cache, ASKED, capsys)
    job, plan, prompts, responses = _everything(cache, server, ASKED)
    features = compute_features(str(learned_run / "base"), prompts, responses, cache_dir=cache, name="coder")
    ratings = {m: c.elo for m, c in job.contestants.items()}
    for new in (
        EloSystem(ratings, job.params.elo_k),
        RewardModel(features, ratings, job.params),
        Combined(features, ratings, job.params),
    ):
        scores = new.fit(plan.preferences).scores(prompts[-1].id)
        mean = 0.0 if new.name == "elo_offset" else statistics.fmean(scores.values())
        found = {place["model"]: place["score"] for place in line[new.name]}
        assert found == pytest.approx({model: score - mean for model, score in scores.items()}, abs=1e-5)
        assert list(found) == sorted(scores, key=lambda m: (-scores[m], m))
        if isinstance(new, Combined):
            assert line["p_best"] == pytest.approx(new.best_chances(prompts[-1].id), abs=0.01)
    assert line["best"]["model"] == line[line["best"]["by"]][0]["model"]
    assert line["best"]["p_best"] == line["p_best"][line["best"]["model"]]


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
        assert line["persona"] == "coder" and line["backend"] == "ollama"
        assert sum(line["p_best"].values()) == pytest.approx(1.0)
        assert line["best"]["verdict"] in {"sure", "likely", "open", "no evidence"}
        assert line["best"]["model"] == line[line["best"]["by"]][0]["model"]
        assert line["prompt"] in line["best"]["text"]
        assert set(line["models"]) == set(DEFAULT_TAGS)
        assert line["models"]["gemma3:4b"]["size_bytes"] == 4_700_000_000
        assert line["models"]["gemma3:4b"]["tokens_per_second"] > 0
        for system in ("elo_offset", "reward_model", "combined"):
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
             "combined_coder.safetensors"],
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
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
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
        assert "the persona coder changed since" in refused()
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


def test_equal_scores_stand_by_name() -> None:
    assert [place.model for place in places({"c": 1.0, "b": 2.0, "a": 2.0})] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("around", "p_best", "said"),
    [
        (None, 0.99, "no evidence"),
        ([-0.1, 0.5], 0.99, "no evidence"),
        ([0.1, 0.5], 0.96, "sure"),
        ([0.1, 0.5], 0.6, "likely"),
        ([0.1, 0.5], 0.4, "open"),
    ],
)
def test_how_sure_the_first_place_is(around: list[float] | None, p_best: float, said: str) -> None:
    crossed = {"combined": {"mean": 0.3, "ci95": around}}
    assert (
        verdict({"main_metric": "kendall_tau", "recommended": "combined", "cross_validated": crossed}, p_best) == said
    )


def test_a_file_is_no_prompt(
    cache: Path, server: FakeOllama, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(ASKED)
    assert rank(cache, str(file)) == 2
    assert f"did you mean --rank - < {file}?" in capsys.readouterr().err
    assert not server.calls


def test_what_votes_taught_ranks_the_models_that_were_voted_on(
    cache: Path,
    learned_run: Path,
    server: FakeOllama,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who liked one model of two in every vote gets it first, by the run's name alone."""
    votes, base = cache.parent / "mine.jsonl", str(learned_run / "base")
    rows = [
        {
            "user": "me", "prompt_id": f"p{i}", "prompt": f"Question {i}?", "model_a": "gemma3:4b",
            "response_a": f"A long answer to {i}.", "model_b": "mistral:7b", "response_b": f"No {i}.",
            "outcome": float(i % 8 > 0),
        }
        for i in range(40)
    ]  # fmt: skip
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders = ["--cache_dir", str(cache), "--results_dir", str(cache.parent / "results")]
    monkeypatch.setattr("report.files.PLOTS", {})
    assert main.main(["--preferences", str(votes), "--base_model", base, *folders]) == 0
    capsys.readouterr()
    assert main.main(["--persona", "mine", "--rank", ASKED, "--json", *folders[:2]]) == 0
    (line,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert line["evidence"]["prompts"] == 40
    assert (line["persona"], set(line["p_best"])) == ("mine", {"gemma3:4b", "mistral:7b"})
    assert line["elo_offset"][0]["model"] == "gemma3:4b" == line["best"]["model"]
    assert set(server.calls_by_model) == {"gemma3:4b", "mistral:7b"}
    assert main.main(["--persona", "yours", "--rank", ASKED, *folders[:2]]) == 2
    assert "There are: coder, mine" in capsys.readouterr().err
    with votes.open("a") as file:
        file.write(json.dumps({**rows[0], "prompt_id": "new", "prompt": "And this?"}) + "\n")
    assert main.main(["--persona", "mine", "--rank", ASKED, "--json", *folders[:2]]) == 0
    (line,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert line["evidence"]["prompts"] == 41, "a vote that is new is learned first"
    assert main.main(["--persona", str(cache.parent / "mine.toml"), "--rank", ASKED, *folders]) == 2
    assert "mine is an earlier run on votes" in capsys.readouterr().err


# ── --vote ──


def vote(cache: Path, keys: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(keys))
    monkeypatch.setattr(config, "VOTES_DIR", cache.parent / "votes")
    return main.main([*RUN, "--cache_dir", str(cache), "--vote"])


def test_votes_are_kept_in_the_format_that_preferences_reads(
    cache: Path, server: FakeOllama, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from people.read import load_votes

    path = cache.parent / "votes" / "votes_coder.jsonl"
    assert vote(cache, "a\nb\nx\nt\nu\nA\nq\n", monkeypatch) == 0
    out = capsys.readouterr().out
    assert not server.calls, "the persona's own prompts and responses, all kept"
    session, end = out.split("votes saved in")
    assert not any(tag in session for tag in DEFAULT_TAGS), "nobody sees who wrote what"
    assert all(tag in end for tag in DEFAULT_TAGS) and "there are 3." in " ".join(end.split())
    assert "4 votes on" in out and f"python main.py --preferences {path} --cache_dir" in out
    votes = load_votes(str(path))
    assert votes.users == ("me",)
    assert [p.outcome for p in votes.preferences] == [1.0, 0.0, 0.5, 1.0]
    assert all(isinstance(p, Preference) and p.model_a != p.model_b for p in votes.preferences)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(row["prompt"] in row["response_a"] and row["prompt"] in row["response_b"] for row in rows)
    shown = [line for line in out.splitlines() if line.startswith("── Pair 1 of ")]
    total = int(shown[0].split(" of ")[1].split()[0])
    assert {(row["persona"], row["backend"]) for row in rows} == {("coder", "ollama")}
    assert vote(cache, "t\n", monkeypatch) == 0, "the end of input means quit"
    out = capsys.readouterr().out
    assert f"Pair 5 of {total} " in out and "5 votes on" in out


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
    assert "Pair 1 of 10 " in capsys.readouterr().out, "2 of 3 pairs on each of 5 prompts"
