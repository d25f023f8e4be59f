"""``python main.py --vote``: own votes, in the browser or in the terminal, and what is shown when it is over.

The page shows two answers side by side and is of this machine alone: the server listens on 127.0.0.1, answers under no
other name (a foreign page may have its own name lead here), and the address holds a secret. A form carries the number
of its pair, so that one sent twice, from another window or after going back changes nothing.
"""

import os
import secrets
import select
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import NamedTuple
from urllib.parse import parse_qs

import config
from core.errors import SuiteError
from core.files import lock
from core.text import WIDTH, count, percent, plain, wrapped
from people.read import read_own_votes
from people.session import UNDO, VOTES, Session
from report.page import TEMPLATES_DIR, render
from stages.own import FEWEST_PROMPTS
from stages.tasks import Job

KEYS = "a: A is better  b: B is better  t: tie  x: both bad  u: undo  q: quit"
SCRIPT = "keys.js"
DONE = "q"
OLD = "What you sent was about another pair and changed nothing; here is where you are."
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",  # who goes back gets the current pair
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",  # else the names in an answer's links would be looked up
}


class End(NamedTuple):
    """What is said, with names, when a session is over."""

    title: str
    chances: Mapping[str, str]  # {model: chance that it is the best, in percent}, best first; empty without a vote
    remarks: Sequence[str]
    commands: Mapping[str, str]  # {what to do next: its command line}


def vote(job: Job, where: str, command: Callable[..., str]) -> int:
    """Ask for votes on pairs of this persona's responses, in the "browser" or "terminal"; then say who leads by them.

    ``command`` makes a command line of these flags that goes on with this run's cache and base.
    """
    from stages.writing import collect_responses, generate_prompts

    prompts = generate_prompts(job)
    responses = collect_responses(job, prompts)
    with lock(config.VOTES_DIR):
        session = Session(job, prompts, responses)
        try:
            if where == "terminal" or not session.pair or in_browser(session, command):
                in_terminal(session)
        finally:
            say(f"\n{session.saved()}")
    title, chances, remarks, commands = end_of(session, command)
    by_model = ", ".join(f"{model} {chance}" for model, chance in chances.items())
    for paragraph in (f"{title} {by_model}." if by_model else title, *remarks):
        say("\n".join(wrapped(paragraph)))
    for what, line in commands.items():
        say(f"{what}\n  {line}")
    return 0


def end_of(session: Session, command: Callable[..., str]) -> End:
    """Sum a session up: the chances by the votes on these answers, how many are kept in all, and what to do next."""
    kept, (best, more), path = read_own_votes(session.path), session.models.standing(), str(session.path)
    chances = {model: percent(chance) for model, chance in best.items() if session.votes}
    title = f"By your {count(len(session.votes), 'vote')}, the chance that each model is the best:"
    prompts = len({vote.prompt_id for vote in kept})
    remarks = [more, f"{count(len(kept), 'vote')} on {count(prompts, 'prompt')} in all."]
    learn, rank = command(preferences=path), command(preferences=path, rank="PROMPT")
    commands = {"To rank the models for a prompt by your votes:": rank, "To run all systems on your votes:": learn}
    if prompts < FEWEST_PROMPTS:
        remarks += [f"Nothing can learn from votes on fewer than {FEWEST_PROMPTS} prompts."]
        commands = {"The same command goes on with the pairs left; then:": learn}
    if not chances:
        title, remarks = "No votes on these answers yet.", remarks[1:]
    return End(title, chances, [*filter(None, remarks)], commands)


# ── In the terminal ──────────────────────────────────────────────────────────────────────────────────────


def in_terminal(session: Session) -> None:
    """Ask for a vote on pair after pair, model names never shown. Ctrl-C comes through; the end of the input is "q"."""
    while pair := session.pair:
        place = f"Pair {session.number} of {session.total}"
        for title, text in {place: pair.prompt, "Response A": pair.response_a, "Response B": pair.response_b}.items():
            say(f"\n{f'── {title} ':─<{WIDTH}}\n{text.strip() or '(no answer)'}")
        say("\n".join(["─" * WIDTH, *wrapped(session.progress())]))
        print(f"{KEYS} > ", end="", flush=True)
        key = _key()
        if key == DONE:
            break
        if key in (*VOTES, UNDO):
            session.press(key)
        else:
            session.note = "Please answer a, b, t, x, u or q."


def _key() -> str:
    """One key press on a terminal, elsewhere a line; "q" where the input ends.

    What was typed before the question is dropped: it was meant for another pair. A key of several characters (an arrow,
    a pasted text) is handed over whole: its last letter alone could pass for a vote.
    """
    if not sys.stdin.isatty():
        return (sys.stdin.readline() or DONE).strip().lower()
    import click

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else it would leave the terminal as it is for keys
    with suppress(EOFError):
        return click.getchar().lower()
    return DONE


def say(text: str) -> None:
    """Print a text without anything in it that steers the terminal."""
    print(plain(text, lines=True), flush=True)


# ── In the browser ───────────────────────────────────────────────────────────────────────────────────────


def in_browser(session: Session, command: Callable[..., str]) -> bool:
    """Ask for votes on a page and show the end there. Ctrl-C comes through.

    True where there is no browser and Enter was pressed, to go on in the terminal: the page is over by then.
    """
    # without a window a browser would take over the terminal
    window = sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    waits = sys.stdin.isatty() and not window
    with Server(session, command) as server:
        where = "No browser here: press Enter to vote in this terminal, or vote" if waits else "Vote"
        print(f"{where} on this page (Ctrl-C or its Done ends it):\n  {server.address}", flush=True)
        if window:
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        try:
            while not (server.over or (waits and select.select([sys.stdin], [], [], 0)[0])):
                server.handle_request()
        finally:
            server.busy.acquire()  # a vote on its way is kept first, and a later one changes nothing
    if server.failed:
        raise server.failed
    return not server.over


class Server(ThreadingTCPServer):
    """The page of one session. Threads: a browser opens connections ahead that it may never use."""

    daemon_threads = True
    timeout = 0.2  # seconds until ``handle_request`` returns without one

    def __init__(self, session: Session, command: Callable[..., str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.session, self.command = session, command
        self.port = self.server_address[1]
        self.root = f"/{secrets.token_urlsafe(16)}/"
        self.address = f"http://127.0.0.1:{self.port}{self.root}"
        self.over = False
        """True once the last page was sent."""
        self.failed: BaseException | None = None
        self.busy = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """End the session by what went wrong; a browser that went away is no error."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.failed, self.over = error, True


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def parse_request(self) -> bool:
        """Refuse what does not come from this page."""
        if not super().parse_request():
            return False
        name = self.path.removesuffix(SCRIPT).encode("latin-1", "replace")
        ours = self.headers.get("Host") == f"127.0.0.1:{self.server.port}"
        known = secrets.compare_digest(name, self.server.root.encode())
        if not (ours and known):
            self.send_error(HTTPStatus.NOT_FOUND if ours else HTTPStatus.FORBIDDEN)
        return ours and known

    def do_GET(self) -> None:
        """Show the page or its script. Nothing changes."""
        if self.path.endswith(SCRIPT):
            self._answer(HTTPStatus.OK, (TEMPLATES_DIR / SCRIPT).read_text("utf-8"), "text/javascript")
        else:
            with self.server.busy:
                page = render("vote", session=self.server.session, end=None)
            self._answer(HTTPStatus.OK, page)

    def do_POST(self) -> None:
        """Take a form: ``pair=14&key=a``. A vote, undo or the end."""
        length = self.headers.get("Content-Length", "")
        small = length.isdecimal() and len(length) < 5
        form = parse_qs(self.rfile.read(int(length)).decode("utf-8", "replace")) if small else {}
        number, key = (form.get(name, [""])[0] for name in ("pair", "key"))
        if key not in (*VOTES, UNDO, DONE):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        session, end = self.server.session, ""
        try:
            with self.server.busy:
                if key == DONE:
                    end = render("vote", session=session, end=end_of(session, self.server.command))
                elif number == str(session.number) and (session.pair or key == UNDO) and not self.server.over:
                    session.press(key)  # on the disk by now
                else:
                    session.note = OLD
            self._answer(HTTPStatus.OK if end else HTTPStatus.SEE_OTHER, end)
        except SuiteError as error:  # a full disk
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error), "text/plain")
            raise
        finally:
            self.server.over |= key == DONE

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/html") -> None:
        data = text.encode("utf-8", "replace")
        self.send_response(status)
        headers = {**HEADERS, "Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(data))}
        if status == HTTPStatus.SEE_OTHER:
            headers["Location"] = self.server.root
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: the lines would hold the secret."""
