"""On real Ray processes: the same vectors as without, a node that dies, Ctrl-C, what listens where.

pip install -r requirements-ray.txt && pytest -n0 -m ray
"""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny_models import save_model

from base import cluster
from base.features import compute_features
from core.records import Prompt, Response

ray = pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-ray.txt")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray's own code warns as it likes

PROMPTS = [Prompt(f"p{i}", f"What is {i}?") for i in range(40)]
RESPONSES = [
    Response(p.id, m, f"{m} says {p.id}." + " So it is." * (i % 30)) for i, p in enumerate(PROMPTS) for m in "abcd"
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of three nodes: the driver's, without cores, and two that work."""
    from ray.cluster_utils import Cluster as Simulated

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        simulated = Simulated()
        for cores in (0, 1, 1):
            simulated.add_node(num_cpus=cores)
        simulated.wait_for_nodes()
        yield simulated
        simulated.shutdown()


class Noted(cluster.Worker):
    """Writes down each text that is read, takes its time, and does not round."""

    file = ""

    def __init__(self, *given: Any) -> None:
        import base.frozen

        base.frozen.precision = lambda kind: torch.float32
        super().__init__(*given)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        with Path(self.file).open("a") as file:
            file.writelines(f"{text}\n" for text in batch["response"])
        time.sleep(1.0)
        return super().__call__(batch)


def test_a_node_that_dies_half_way_costs_only_what_it_had_in_hand(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    read, base = tmp_path / "read", str(save_model(tmp_path / "base", "qwen"))
    read.touch()
    monkeypatch.setattr(Noted, "file", str(read))
    monkeypatch.setattr(cluster, "Worker", Noted)
    monkeypatch.setattr("base.frozen.precision", lambda kind: torch.float32)  # which does not round by the batch
    victim = sorted(nodes.worker_nodes, key=lambda node: node.unique_id)[-1]

    def kill() -> None:
        while len(read.read_text().splitlines()) < len(RESPONSES) // 2:
            time.sleep(0.1)
        nodes.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found = compute_features(base, PROMPTS, RESPONSES, cache_dir=tmp_path / "a", name="t", ray=nodes.address)
    killer.join(30.0)
    times = collections.Counter(read.read_text().splitlines())
    assert (len(times), max(times.values())) == (len(RESPONSES), 2)
    wanted = compute_features(base, PROMPTS, RESPONSES, cache_dir=tmp_path / "b", name="t", device="cpu")
    for vectors in ("mean", "last", "base_score"):
        assert np.allclose(getattr(found, vectors), getattr(wanted, vectors), atol=1e-4)


def test_local_listens_on_this_machine_alone_and_after_ctrl_c_a_second_run_reads_the_rest(tmp_path: Path) -> None:
    import psutil  # comes with Ray

    cache, votes = tmp_path / "cache", tmp_path / "votes.csv"
    rows = [f"u{i % 3},What is {i}?,a,b,a says {i},b says {i}{' so' * (i % 40)},{i % 2}" for i in range(600)]
    votes.write_text("\n".join(["user,prompt,model_a,model_b,response_a,response_b,outcome", *rows]), encoding="utf-8")
    saving = "import sys, base.features, main; base.features.SAVE_SECONDS = 0; sys.exit(main.main(sys.argv[1:]))"
    command = [
        sys.executable, "-c", saving, "--preferences", str(votes), "--base_model",
        str(save_model(tmp_path / "base", "qwen")), "--cache_dir", str(cache), "--results_dir", str(tmp_path), "--ray",
        "local",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as program:
        while not any(cache.glob("features_*")):
            assert program.poll() is None, program.stderr.read() if program.stderr else ""
            time.sleep(0.05)
        family = [psutil.Process(program.pid), *psutil.Process(program.pid).children(recursive=True)]
        sockets = [socket for one in family for socket in one.net_connections() if socket.status == "LISTEN"]
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=60)
    assert program.returncode == 130 and "Traceback" not in said
    assert {socket.laddr.ip for socket in sockets} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"} and sockets
    left = [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not left and not (tmp_path / "home").exists()
    (path,) = cache.glob("features_*")
    kept = len(load_file(path)["base_score"])
    assert 0 < kept < 1200
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
    (rest,) = [line for line in done.stdout.splitlines() if line.startswith("Features of ")]
    assert (done.returncode, int(rest.split()[2])) == (0, 1200 - kept), done.stderr
