"""What the suite withstands, as a table: kill -9, a server that misbehaves, two runs at once.

python benchmarks/faults.py               all rows (about ten minutes on two cores)
python benchmarks/faults.py kill twice    some of them
"""

from __future__ import annotations

import contextlib
import io
import itertools
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "tests")]

from fake_brain import default_brain  # noqa: E402
from fake_ollama import FakeOllama  # noqa: E402
from whole_run import CALLS, SMALL, faulty, kept, kill_and_go_on, results, run, start, steady_brain  # noqa: E402

from core.files import fingerprint  # noqa: E402

KILLS, PAIRS = 20, 10


def _same(expected: dict[str, object], found: dict[str, object]) -> None:
    """Raises AssertionError naming the results that differ."""
    differ = {key: (expected[key], found.get(key)) for key in expected if found.get(key) != expected[key]}
    assert not differ, differ


def kill(folder: Path, base: str) -> str:
    """kill -9 at random moments; the later run asks only what was not answered and ends with the same data."""
    rng = random.Random(0)
    with FakeOllama(latency=0.05) as server:
        run(server, folder / "whole", base, *SMALL)
        found = []
        for i in range(KILLS):
            found.append(kill_and_go_on(server, folder / f"killed-{i}", base, rng))
            assert kept(folder / f"killed-{i}") == kept(folder / "whole")
            _same(results(folder / "whole"), results(folder / f"killed-{i}"))
    moments = f"{min(found)} to {max(found)} of {CALLS} answers were kept at the kill"
    return f"{KILLS} of {KILLS} runs went on: {moments}, none was asked again, same cache and results at the end"


def misbehave(folder: Path, base: str) -> str:
    """A whole run at the default size against a server of which 13 % of all answers fail."""
    with FakeOllama(brain=steady_brain) as server:
        run(server, folder / "clean", base)
    with FakeOllama(brain=steady_brain, faults=faulty) as server:
        start_time = time.perf_counter()
        run(server, folder / "faulty", base)
        seconds = time.perf_counter() - start_time
        failed = sum(call.fault is not None for call in server.calls)
    assert kept(folder / "faulty") == kept(folder / "clean")
    _same(results(folder / "clean"), results(folder / "faulty"))
    return f"{failed} of {len(server.calls)} calls failed, same cache and results as without, {seconds:.0f} s"


def hopeless(folder: Path, base: str) -> str:
    """A default run against a server that breaks off every hundredth question whatever is drawn."""
    numbers = defaultdict[str, int](itertools.count(1).__next__)

    def fault(request: dict[str, Any], _: int) -> str | None:
        asked = f"{request['model']} {request['messages'][-1]['content']}"
        return "abort" if numbers[asked] % 100 == 0 else None

    def brain(request: dict[str, Any]) -> str:  # no two models answer alike: else many pairs are one question
        said = str(default_brain(request))
        return said if "format" in request else f"{said} {fingerprint(request['model'])}"

    with FakeOllama(brain=brain, faults=fault) as server:
        run(server, folder, base)
        asked = len(server.calls)
        run(server, folder, base)
        assert len(server.calls) == asked, "what is left out is not asked again"
        peak = server.peak_loaded
    counts = results(folder)["counts"]
    left = ", ".join(f"{number} {what}" for what, number in counts["left_out"].items())
    return (
        f"{len(numbers) // 100} of {len(numbers)} questions; left out: {left}; {counts['prompts']} prompts used, none "
        f"asked again, at most {peak} model in memory"
    )


def twice(folder: Path, base: str) -> str:
    """Two runs started together on one cache folder."""
    waited = 0
    for i in range(PAIRS):
        with FakeOllama(latency=0.02) as server:
            both = [start(server, folder / str(i), base, *SMALL) for _ in range(2)]
            said = [process.communicate(timeout=600) for process in both]
            assert [process.returncode for process in both] == [0, 0], said
            assert len(server.calls) == CALLS, "what one has asked the other does not"
            waited += any("waiting for it" in out + errors for out, errors in said)
            kept(folder / str(i))
    said_so = f"{waited} times one said that it waits"
    return f"{PAIRS} of {PAIRS} times both ended right and every question was asked once; {said_so}"


ROWS: dict[str, tuple[str, Callable[[Path, str], str]]] = {
    "kill": (f"kill -9 at {KILLS} random moments", kill),
    "misbehave": ("5 % HTTP 500, 3 % dropped connections, 5 % cut JSON, a default run", misbehave),
    "twice": (f"two runs at once on one cache, {PAIRS} times", twice),
    "hopeless": ("1 % of all questions without any usable answer, a default run", hopeless),
}


def main() -> None:
    """Print the rows that are asked for."""
    from tiny_models import save_model

    for name in sys.argv[1:] or ROWS:
        with tempfile.TemporaryDirectory() as scratch:
            with contextlib.redirect_stderr(io.StringIO()):  # a progress bar about three tensors
                base = str(save_model(Path(scratch, "base"), "llama"))
            said, measure = ROWS[name]
            print(f"| {said} | {measure(Path(scratch), base)} | `python benchmarks/faults.py {name}` |", flush=True)


if __name__ == "__main__":
    main()
