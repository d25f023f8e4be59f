"""Votes on a page in the browser: the whole program over real HTTP, and in a real Chromium where there is one."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from people.read import read_own_votes

ROOT = Path(__file__).parent.parent
MODELS = ("alphamodel", "betamodel", "gammamodel")
NASTY = """<script>document.title = "taken"</script>
<img src="http://evil.test/a.png" onerror="fetch('http://evil.test/b')"><style>body { display: none }</style>
![picture](http://evil.test/c.png) [script](javascript:alert(1)) [away](http://evil.test/d) <http://evil.test/e>

</div></section></main><form action="http://evil.test/f"><button name="key" value="a">
{{ 7 * 7 }} \x1b[31m \u202e"""


class Site:
    """``python main.py --vote`` on hostile answers of a file to five prompts, one of them very long and one empty."""

    def __init__(self, folder: Path, stdin: int = subprocess.DEVNULL) -> None:
        texts = {(i, m): f"{NASTY}\n\n```\n{'code ' * 99}\n```\n{m[0]} on {i}" for i in range(5) for m in MODELS}
        texts |= {(0, "betamodel"): "word " * 20_000, (0, "gammamodel"): " \n"}
        rows = [{"prompt": f"prompt {i}", "model": model, "response": text} for (i, model), text in texts.items()]
        (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.path, said = folder / "votes" / "votes_coder.jsonl", ""
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), "--responses", "answers.jsonl", "--vote"],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if "DISPLAY" not in name},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)(/[\w-]{20,}/)\n", said)):
            line = self.process.stdout.readline()
            said += line
            assert line, said
        self.url, self.port, self.root = found[0].strip(), int(found[1]), found[2]

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str, dict[str, str]]:
        """Status, text and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode(), dict(answer.headers)
        connection.close()
        return found

    def page(self) -> str:
        return self.ask("GET", self.root)[1]

    def press(self, pair: int, key: str) -> int:
        return self.ask("POST", self.root, f"pair={pair}&key={key}")[0]

    def outcomes(self) -> list[float]:
        """Of every vote kept; no pair counts twice."""
        votes = read_own_votes(self.path)
        assert len({(vote.prompt, frozenset((vote.model_a, vote.model_b))) for vote in votes}) == len(votes)
        return [vote.outcome for vote in votes]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[], Site]]:
    """Starts programs in one folder, and ends them."""
    started = list[Site]()

    def start() -> Site:
        started.append(Site(tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


# ── Over HTTP ────────────────────────────────────────────────────────────────────────────────────────────


def test_every_vote_is_on_the_disk_before_the_next_pair_is_shown_and_an_old_form_changes_nothing(
    program: Callable[[], Site],
) -> None:
    site, shown = program(), list[str]()
    for number, key in enumerate("abtx", start=1):
        assert f"Pair {number} of 15" in site.page() and len(site.outcomes()) == number - 1
        shown.append(site.page().split("<h2>Response A</h2>")[1].split("<form")[0])
        assert site.press(number, key) == 303
    assert site.outcomes() == [1.0, 0.0, 0.5, 0.5]
    assert "4 votes so far: the model ahead is the best with a chance of" in site.page()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(site.press, [5] * 8, "a" * 8))
    assert len(site.outcomes()) == 5 and "changed nothing" in site.page(), "sent many times at once it counts once"
    site.press(1, "u")
    assert len(site.outcomes()) == 5, "undone by an old form"
    for number in (6, 6, 5, 4):
        site.press(number, "u")
    assert site.outcomes() == [1.0, 0.0] and "The last vote is taken back" in site.page()
    assert shown[2] in site.page(), "a number stands for one pair on the same sides"


def test_what_does_not_come_from_the_page_changes_nothing(program: Callable[[], Site]) -> None:
    site = program()
    other, root = f"evil.test:{site.port}", site.root
    for method, path, body, headers, status in (
        ("POST", root, "pair=1&key=a", {"Host": other}, 403),
        ("GET", root, "", {"Host": other}, 403),
        ("POST", "/AAAAAAAAAAAAAAAAAAAAAA/", "pair=1&key=a", {}, 404),
        ("GET", f"{root}../config.py", "", {}, 404),
        ("GET", f"{root}?pair=1&key=a", "pair=1&key=a", {}, 404),
        ("POST", root, "pair=1&key=a" + "&" * 20_000, {}, 400),
        ("POST", root, "pair=2&key=a", {}, 303),
    ):
        assert site.ask(method, path, body, **headers)[0] == status, (method, path, body, headers)
        assert not site.outcomes() and "Pair 1 of 15" in site.page()


def test_hostile_very_long_and_empty_texts_are_text_and_no_model_is_named_before_the_end(
    program: Callable[[], Site],
) -> None:
    site, pages = program(), ""
    for number in range(1, 16):
        _, page, headers = site.ask("GET", site.root)
        pages += page
        tags = re.findall(r"<(\w+)([^>]*)>", page)
        assert not {tag for tag, _ in tags} & {"img", "iframe", "object", "embed", "video", "svg"}
        assert [attributes for tag, attributes in tags if tag == "script"] == [' src="keys.js" defer']
        assert [attributes for tag, attributes in tags if tag == "form"] == [' method="post" target="_self"']
        assert all(' href="http' in attributes for tag, attributes in tags if tag == "a")
        assert not any(re.search(r"\son\w+=", attributes) for _, attributes in tags)
        assert not any(model in page + str(headers) for model in MODELS)
        assert site.press(number, "ab"[number % 2]) == 303
    assert pages.count("word ") > 19_000 and "(no answer)" in pages and "{{ 7 * 7 }}" in pages
    assert "\x1b" not in pages and "\u202e" not in pages
    policy = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"} <= set(policy)
    assert headers["Cache-Control"] == "no-store"
    site.press(16, "a")
    assert "No pair is left" in site.page() and len(site.outcomes()) == 15


def test_a_killed_server_and_ctrl_c_lose_no_vote_and_none_counts_twice(program: Callable[[], Site]) -> None:
    first = program()
    assert [first.press(number, "a") for number in (1, 2, 3)] == [303] * 3
    first.process.kill()
    first.process.wait()
    second = program()
    assert second.url != first.url and len(second.outcomes()) == 3
    assert (second.press(3, "a"), second.press(4, "b")) == (303, 303)
    second.process.send_signal(signal.SIGINT)
    assert "1 vote saved" in second.process.communicate(timeout=60)[0] and second.process.returncode == 130
    third = program()
    status, page, _ = third.ask("POST", third.root, "pair=5&key=q")
    said = third.process.communicate(timeout=60)[0]
    assert (status, third.process.returncode, len(third.outcomes())) == (200, 0, 4)
    for text in (page, said):
        assert "By your 4 votes, the chance that each model is the best:" in text and all(m in text for m in MODELS)


def test_a_vote_that_can_not_be_kept_is_said_and_ends_the_session(program: Callable[[], Site]) -> None:
    site = program()
    site.path.mkdir()
    status, text, _ = site.ask("POST", site.root, "pair=1&key=a")
    assert status == 500 and "votes_coder.jsonl can't be written" in text
    assert text in site.process.communicate(timeout=60)[0] and site.process.returncode == 2


def test_without_a_browser_enter_goes_on_in_the_terminal_by_single_keys_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    before = termios.tcgetattr(terminal)
    site = Site(tmp_path, terminal)

    def page() -> str:
        """What is said until a key is waited for."""
        said, out = "", site.process.stdout
        while not said.endswith("q: quit > "):
            said += (out and out.read(1)) or pytest.fail(said)
        while termios.tcgetattr(terminal) == before:
            time.sleep(0.01)
        return said

    assert site.press(1, "a") == 303
    os.write(ours, b"\n")
    assert "Pair 2 of 15" in page()
    with pytest.raises(OSError):
        site.press(2, "a")  # of the pair that is asked for in the terminal by now
    os.write(ours, b"\x1b[B")  # an arrow, whose last letter alone is a vote
    assert "Pair 2 of 15" in (said := page()) and "Please answer a, b, t, x, u or q." in said
    os.write(ours, b"b")
    assert "Pair 3 of 15" in page() and site.outcomes() == [1.0, 0.0]
    site.process.terminate()
    assert "2 votes saved" in site.process.communicate(timeout=60)[0]
    assert termios.tcgetattr(terminal) == before
    for end in (ours, terminal):
        os.close(end)


# ── In a real browser ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.browser
def test_from_the_first_pair_to_the_leaderboard_by_keys_and_clicks(program: Callable[[], Site]) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs requirements-browser.txt")
    path = shutil.which("chromium") or pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        vote_in(chromium, program)
        chromium.close()


def vote_in(chromium: Any, program: Callable[[], Site]) -> None:
    site = program()
    context = chromium.new_context(viewport={"width": 420, "height": 800})
    asked, alarms = list[str](), list[str]()
    context.on("request", lambda request: asked.append(request.url))
    context.on("page", lambda page: page.on("dialog", lambda dialog: alarms.append(dialog.message)))

    def shows(page: Any, number: int) -> None:
        page.wait_for_function("text => document.querySelector('h1').innerText.startsWith(text)", arg=f"Pair {number} ")
        assert len(site.outcomes()) == number - 1
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]

    one, two = context.new_page(), context.new_page()
    one.goto(site.url)
    for number, key in enumerate("abtx", start=1):
        shows(one, number)
        one.keyboard.press(key)
    shows(one, 5)
    one.keyboard.down("B")
    one.keyboard.down("B")  # held: the second is a repetition
    one.keyboard.up("B")
    shows(one, 6)
    one.get_by_role("button", name="Undo").click()
    shows(one, 5)
    two.set_viewport_size({"width": 1200, "height": 800})
    two.goto(site.url)
    two.get_by_role("button", name="A is better").click()
    shows(two, 6)
    one.get_by_role("button", name="B is better").click()  # of the pair that was voted on in the other window
    one.get_by_text("changed nothing").wait_for()
    two.reload()
    one.go_back()
    one.go_forward()
    shows(one, 6)
    shows(two, 6)
    site.process.kill()
    site.process.wait()
    two.keyboard.press("t")
    site = program()
    plain = chromium.new_context(java_script_enabled=False).new_page()
    plain.goto(site.url)
    plain.get_by_role("button", name="Both bad").click()
    plain.get_by_text("Pair 7 of 15").wait_for()
    one.goto(site.url)
    shows(one, 7)
    one.keyboard.press("q")
    one.get_by_text("chance that each model is the best").wait_for()
    assert sorted(one.locator("ol bdi").all_inner_texts()) == sorted(MODELS)
    assert "--rank PROMPT" in one.locator("pre").first.inner_text()
    assert {url.split("/")[2].split(":")[0] for url in asked} == {"127.0.0.1"} and not alarms
