"""What every test starts from: no Ollama, hub or logging set-up of the machine or of an earlier test."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator

import pytest

for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # the matrices are small, and several tests run side by side

# a shell starts what runs in the background with Ctrl-C ignored, and the programs that tests interrupt would inherit it
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What importing made is no garbage: no collection looks at it again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests run in an empty folder: the cache, votes and results of whoever starts them are never seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("folder"))
        yield


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """``main.main`` sets the root logger up; what it set ends with the test."""
    root, suite = logging.getLogger(), logging.getLogger("ranking")
    suite.setLevel(logging.NOTSET)  # a fixture of a whole module may have run the program
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    suite.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base on the disk that costs nothing."""
    from tiny_models import save_model

    return str(save_model(tmp_path_factory.mktemp("base"), "llama"))


@pytest.fixture(scope="module", autouse=True)
def _pictures_where_they_are_looked_at(request: pytest.FixtureRequest) -> Iterator[None]:
    """Seven of them cost more than all else of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ not in ("test_page", "test_people"):
            patch.setattr("report.plots._saved", lambda *_, **__: b"")
        yield


@pytest.fixture(autouse=True)
def _no_ray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing imports Ray unless a cluster is asked for: everywhere else it is as if it were not installed."""
    if request.node.get_closest_marker("ray") is None:
        monkeypatch.setitem(sys.modules, "ray", None)


@pytest.fixture(autouse=True)
def _no_server_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that wants a server starts one of its own and sets the variable itself."""
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
