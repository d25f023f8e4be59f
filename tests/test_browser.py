"""Votes on a page in the browser: over real HTTP, and in a real Chromium where there is one."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import config
from core.errors import SuiteError, UsageError
from core.records import Prompt, Response
from people.browser import in_browser
from people.read import read_own_votes
from people.session import End, open_session
from stages.tasks import Job

ROOT = Path(__file__).parent.parent
MODELS = ("alphamodel", "betamodel", "gammamodel")
PROMPTS = [Prompt(f"p{i}", f"prompt {i}") for i in range(5)]
NASTY = """<script>document.title = "taken"</script>
<img src="http://evil.test/a.png" onerror="fetch('http://evil.test/b')"><style>body { display: none }</style>
![picture](http://evil.test/c.png) [script](javascript:alert(1)) [away](http://evil.test/d) <http://evil.test/e>

</div></section></main><form action="http://evil.test/f"><button name="key" value="a">
{{ 7 * 7 }} \x1b[31m \u202e"""


def texts(
    answer: Callable[[str, str], str] = lambda model, prompt: f"{model[0].upper()} on {prompt}",
) -> list[Response]:
    return [Response(p.id, model, answer(model, p.id)) for p in PROMPTS for model in MODELS]


def address(line: str) -> str:
    """Its address; "" where it has none."""
    found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/$", line.strip())
    return found[0] if found else ""


class Site:
    """Requests to the page of a session."""

    url = ""

    @property
    def root(self) -> str:
        return "/" + self.url.split("/", 3)[3]

    @property
    def port(self) -> int:
        return int(self.url.split("/")[2].split(":")[1])

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str, dict[str, str]]:
        """Status, text and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode(), dict(answer.headers)
        connection.close()
        return found

    def page(self) -> str:
        status, text, _ = self.ask("GET", self.root)
        assert status == 200
        return text

    def press(self, pair: int, key: str) -> int:
        return self.ask("POST", self.root, f"pair={pair}&key={key}")[0]


class Server(Site):
    """A session in this process, and what it says."""

    def __init__(self, responses: list[Response]) -> None:
        self.responses, self.said = responses, list[str]()
        self.failure: SuiteError | None = None
        self.path = config.VOTES_DIR / "votes_coder.jsonl"
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        nobody = cast("Any", SimpleNamespace(backend="ollama"))
        job = Job("coder", config.Persona(), {}, "", nobody, config.ExperimentConfig(), Path("cache"))
        end = End("The chances:", {"betamodel": 0.7, "alphamodel": 0.2}, ["A remark."], [("Next:", "main.py --rank")])
        with open_session(job, PROMPTS, self.responses) as session:
            try:
                in_browser(session, lambda: end)
            except SuiteError as error:
                self.failure = error

    def say(self, text: str) -> None:
        self.url = self.url or address(text)
        if self.url:
            self.ready.set()

    def votes(self) -> int:
        return len(self.path.read_bytes().splitlines()) if self.path.exists() else 0


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Begins a session on responses; it is ended after the test."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(config, "VOTES_DIR", tmp_path)
    started = list[Server]()

    def start(responses: list[Response]) -> Server:
        started.append(Server(responses))
        monkeypatch.setattr("people.browser.say", started[-1].say)
        started[-1].thread.start()
        assert started[-1].ready.wait(60)
        return started[-1]

    yield start
    for server in started:
        if server.thread.is_alive():
            server.press(0, "q")
        server.thread.join(60)
        assert not server.thread.is_alive()


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    return serve(texts())


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


# ── Over HTTP ────────────────────────────────────────────────────────────────────────────────────────────


def test_every_vote_is_on_the_disk_before_the_next_pair_is_shown_and_done_ends_it(server: Server) -> None:
    assert "Pair 1 of 15" in server.page() and server.votes() == 0
    for number, key in enumerate("abtx", start=1):
        assert server.press(number, key) == 303
        assert server.votes() == number
        assert f"Pair {number + 1} of 15" in server.page()
    assert "4 votes so far: the model ahead is the best with a chance of" in server.page()
    assert server.press(5, "u") == 303 and server.votes() == 3
    assert "The last vote is taken back" in server.page() and "Pair 4 of 15" in server.page()
    status, page, _ = server.ask("POST", server.root, "pair=4&key=q")
    assert status == 200 and "<bdi>betamodel</bdi>: 70" in page and "main.py --rank" in page and "A remark." in page
    server.thread.join(60)
    assert [said.preference().outcome for said in read_own_votes(server.path)] == [1.0, 0.0, 0.5]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), [
    ("POST", "{root}", "pair=1&key=a", {"Host": "evil.test:{port}"}, 403),
    ("GET", "{root}", "", {"Host": "evil.test:{port}"}, 403),
    ("POST", "/AAAAAAAAAAAAAAAAAAAAAA/", "pair=1&key=a", {}, 404),
    ("GET", "/keys.js", "", {}, 404),
    ("GET", "{root}../config.py", "", {}, 404),
    ("GET", "{root}?pair=1&key=a", "pair=1&key=a", {}, 404),
    ("POST", "{root}?pair=1&key=a", "", {}, 404),
    ("POST", "{root}", "pair=1&key=ab", {}, 400),
    ("POST", "{root}", "pair=1&key=a" + "&" * 20_000, {}, 400),
    ("POST", "{root}", "pair=1&key=a", {"Content-Length": "-1"}, 400),
    ("POST", "{root}", "pair=2&key=a", {}, 303),
    ("PUT", "{root}", "pair=1&key=a", {}, 501),
])  # fmt: skip
def test_what_does_not_come_from_the_page_changes_nothing(
    server: Server, method: str, path: str, body: str, headers: dict[str, str], status: int
) -> None:
    filled = {name: value.format(port=server.port) for name, value in headers.items()}
    assert server.ask(method, path.format(root=server.root), body, **filled)[0] == status
    assert server.votes() == 0 and "Pair 1 of 15" in server.page()


def test_an_old_form_changes_nothing_and_shows_the_pair_to_vote_on(server: Server) -> None:
    def sides() -> str:
        return server.page().split("<h2>Response A</h2>")[1].split("<form")[0]

    first = sides()
    server.press(1, "a")
    second, page = sides(), server.page()
    assert server.page() == page and server.votes() == 1, "a reload votes for nothing"
    server.press(1, "b")
    assert "changed nothing" in server.page() and "Pair 2 of 15" in server.page()
    server.press(1, "u")
    assert server.votes() == 1, "undone by an old form"
    server.press(2, "b")
    assert "changed nothing" not in server.page()
    server.press(3, "u")
    server.press(3, "u")
    assert server.votes() == 1, "undone twice by one form"
    server.press(2, "u")
    assert (server.votes(), sides()) == (0, first), "a number stands for one pair on the same sides"
    server.press(1, "t")
    assert (server.votes(), sides()) == (1, second)


def test_a_form_sent_many_times_at_once_counts_once(server: Server) -> None:
    threads = [threading.Thread(target=server.press, args=(1, "a")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.votes() == 1 and "Pair 2 of 15" in server.page()


def test_no_model_is_named_before_the_end(server: Server) -> None:
    for number in range(1, 16):
        _, page, headers = server.ask("GET", server.root)
        assert not any(model in page + str(headers) for model in MODELS)
        assert server.press(number, "ab"[number % 2]) == 303
    server.press(16, "a")
    assert "No pair is left" in server.page() and server.votes() == 15
    server.press(16, "u")
    assert "Pair 15 of 15" in server.page()


def test_hostile_very_long_and_empty_texts_are_text_and_nothing_is_fetched_for_them(
    serve: Callable[..., Server],
) -> None:
    answers = {"a": NASTY, "b": "word " * 20_000 + NASTY, "g": " \n"}
    server, pages = serve(texts(lambda model, _: answers[model[0]])), list[str]()
    for number in range(1, 4):
        _, page, headers = server.ask("GET", server.root)
        tags = Tags(page).found
        assert {tag for tag, _ in tags} & {"img", "iframe", "object", "embed", "video", "svg"} == set()
        assert [attrs for tag, attrs in tags if tag == "script"] == [{"src": "keys.js", "defer": None}]
        assert [attrs["href"] for tag, attrs in tags if tag == "a" and not str(attrs["href"]).startswith("http")] == []
        assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
        assert [attrs for tag, attrs in tags if tag == "form"] == [{"method": "post", "target": "_self"}]
        assert "{{ 7 * 7 }}" in page and "\x1b" not in page and "\u202e" not in page
        pages.append(page)
        assert server.press(number, "t") == 303
    assert max(page.count("word") for page in pages) >= 20_000 and any("(no answer)" in page for page in pages)
    policy = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"} <= set(policy)
    assert (headers["Cache-Control"], headers["X-DNS-Prefetch-Control"]) == ("no-store", "off")


def test_a_vote_that_can_not_be_kept_is_said_and_ends_the_session(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise UsageError("the disk is full")

    monkeypatch.setattr("people.session.append_line", full)
    status, text, _ = server.ask("POST", server.root, "pair=1&key=a")
    assert (status, text) == (500, "the disk is full")
    server.thread.join(60)
    assert str(server.failure) == "the disk is full"


# ── The whole program ────────────────────────────────────────────────────────────────────────────────────


class Program(Site):
    """``python main.py --vote`` on answers of a file."""

    def __init__(self, folder: Path, responses: list[Response], stdin: int, env: dict[str, str]) -> None:
        rows = [{"prompt": r.prompt_id, "model": r.model, "response": r.text} for r in responses]
        (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.path = folder / "votes" / "votes_coder.jsonl"
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), "--responses", "answers.jsonl", "--vote"],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if "DISPLAY" not in name} | env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout
        self.out = self.process.stdout
        self.said = ""
        while not self.url:
            self.url = address(self.reads())

    def reads(self) -> str:
        """One more line of what it says."""
        line = self.out.readline()
        self.said += line
        assert line, self.said
        return line

    def end(self) -> str:
        """What it says until it is over."""
        return self.process.communicate(timeout=60)[0]

    def votes(self) -> list[tuple[str, frozenset[str]]]:
        """Prompt and models of every vote kept."""
        kept = [said.preference() for said in read_own_votes(self.path)]
        return [(vote.prompt_id, frozenset((vote.model_a, vote.model_b))) for vote in kept]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started = list[Program]()

    def start(responses: list[Response] | None = None, stdin: int = subprocess.DEVNULL, **env: str) -> Program:
        started.append(Program(tmp_path, responses or texts(), stdin, env))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        one.out.close()


def test_a_killed_server_loses_no_vote_and_none_counts_twice(program: Callable[..., Program]) -> None:
    first = program()
    assert [first.press(number, "a") for number in (1, 2, 3)] == [303] * 3
    first.process.kill()
    first.process.wait()
    second = program()
    assert second.url != first.url
    assert len(second.votes()) == 3
    assert (second.press(3, "a"), second.press(4, "b"), second.press(5, "q")) == (303, 303, 200)
    said = second.end()
    assert second.process.returncode == 0
    assert len(set(second.votes())) == 4
    assert "By your 4 votes, the chance that each model is the best:" in said and all(m in said for m in MODELS)


def test_ctrl_c_keeps_every_vote(program: Callable[..., Program]) -> None:
    found = program()
    assert found.press(1, "x") == 303
    found.process.send_signal(signal.SIGINT)
    assert "1 vote saved" in found.end()
    assert found.process.returncode == 130
    assert len(found.votes()) == 1


def test_the_page_opens_in_the_browser_that_there_is(program: Callable[..., Program], tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    found = program(BROWSER=str(browser))
    assert found.press(1, "q") == 200
    assert "pairs left: 15" in found.end()
    assert opened.read_text() == found.url


def test_where_there_is_no_browser_enter_asks_in_the_terminal(program: Callable[..., Program]) -> None:
    own, theirs = os.openpty()
    found = program(stdin=theirs)
    assert "Press Enter to vote in this terminal" in found.said
    assert found.press(1, "a") == 303
    os.write(own, b"\n")
    while "Pair 2 of 15" not in found.said:
        found.reads()
    os.write(own, b"b\nq\n")
    assert "2 votes saved" in found.end()
    os.close(own)
    os.close(theirs)


# ── In a real browser ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs requirements-browser.txt")
    path = shutil.which("chromium") or pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.browser
def test_from_the_first_pair_to_the_leaderboard_by_keys_and_clicks(
    program: Callable[..., Program], chromium: Any
) -> None:
    hostile = texts(lambda model, prompt: f"{NASTY}\n\n```\n{'code ' * 99}\n```\n{model[0]} on {prompt}")
    site = program(hostile)
    context = chromium.new_context(viewport={"width": 420, "height": 800})
    asked, alarms = list[str](), list[str]()
    context.on("request", lambda request: asked.append(request.url))
    context.on("page", lambda page: page.on("dialog", lambda dialog: alarms.append(dialog.message)))

    def shows(page: Any, number: int, votes: int) -> None:
        page.wait_for_function("text => document.querySelector('h1').innerText.startsWith(text)", arg=f"Pair {number} ")
        assert len(site.votes()) == votes
        assert page.title() == f"Vote: pair {number} of 15"
        assert page.evaluate("scrollY") == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]

    one = context.new_page()
    one.goto(site.url)
    shows(one, 1, 0)
    for number, key in enumerate("abtx", start=2):
        one.evaluate("scrollTo(0, 9999)")
        one.keyboard.press(key)
        shows(one, number, number - 1)
    one.keyboard.press("Control+a")
    one.keyboard.down("Shift")
    one.keyboard.down("B")
    one.keyboard.down("B")  # held: the second is a repetition
    one.keyboard.up("B")
    one.keyboard.up("Shift")
    shows(one, 6, 5)
    one.get_by_role("button", name="Undo").click()
    shows(one, 5, 4)

    two = context.new_page()
    two.set_viewport_size({"width": 1200, "height": 800})
    two.goto(site.url)
    two.get_by_role("button", name="A is better").click()
    shows(two, 6, 5)
    one.get_by_role("button", name="B is better").click()  # of the pair that was voted on in the other window
    one.get_by_text("changed nothing").wait_for()
    shows(one, 6, 5)
    two.reload()
    shows(two, 6, 5)
    one.go_back()
    one.go_forward()
    shows(one, 6, 5)

    site.process.kill()
    site.process.wait()
    two.keyboard.press("t")
    site = program(hostile)
    plain = chromium.new_context(java_script_enabled=False).new_page()
    plain.goto(site.url)
    plain.get_by_role("button", name="Both bad").click()
    plain.get_by_text("Pair 7 of 15").wait_for()
    one.goto(site.url)
    shows(one, 7, 6)
    assert len(set(site.votes())) == 6
    one.keyboard.press("q")
    one.get_by_text("chance that each model is the best").wait_for()
    assert sorted(one.locator("ol bdi").all_inner_texts()) == sorted(MODELS)
    assert "--rank PROMPT" in one.locator("pre").first.inner_text()
    assert "By your 6 votes" in site.end() and site.process.returncode == 0
    assert {url.split("/")[2].split(":")[0] for url in asked} == {"127.0.0.1"} and not alarms
