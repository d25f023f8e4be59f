"""On real Ray processes: the same vectors as without, a node that dies, Ctrl-C, what listens where.

pip install -r requirements-ray.txt && pytest -n0 -m ray
"""

from __future__ import annotations

import collections
import json
import logging
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
from tiny_models import save_model

import main
from base import cluster
from base.features import Features, compute_features
from core.files import read_tensors
from core.records import Prompt, Response

ray = pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-ray.txt")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray's own code warns as it likes

ROOT = Path(__file__).parents[1]
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


def close(found: Features, wanted: Features) -> bool:
    pairs = [(found.mean, wanted.mean), (found.last, wanted.last), (found.base_score, wanted.base_score)]
    return all(np.allclose(a, b, atol=1e-4) for a, b in pairs) and found.has_score == wanted.has_score


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


def test_a_base_that_cannot_serve_is_said_as_on_one_machine(nodes: Any, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "base", "qwen")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(Exception, match="chat template") as alone:
        compute_features(str(folder), PROMPTS, RESPONSES, cache_dir=tmp_path, name="t", device="cpu")
    with pytest.raises(type(alone.value), match="chat template"):
        compute_features(str(folder), PROMPTS, RESPONSES, cache_dir=tmp_path, name="t", ray=nodes.address)


def test_a_node_that_dies_half_way_costs_only_what_it_had_in_hand(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    read = tmp_path / "read"
    read.touch()
    monkeypatch.setattr(Noted, "file", str(read))
    monkeypatch.setattr(cluster, "Worker", Noted)
    monkeypatch.setattr(
        "base.frozen.precision", lambda kind: torch.float32
    )  # batches differ, and with them its rounding
    base = str(save_model(tmp_path / "base", "qwen"))
    victim = sorted(nodes.worker_nodes, key=lambda node: node.unique_id)[-1]

    def kill() -> None:
        while len(read.read_text().splitlines()) < len(RESPONSES) // 2:
            time.sleep(0.1)
        nodes.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found = compute_features(base, PROMPTS, RESPONSES, cache_dir=tmp_path / "a", name="t", ray=nodes.address)
    killer.join(30.0)
    assert not killer.is_alive()
    times = collections.Counter(read.read_text().splitlines())
    assert (len(times), max(times.values())) == (len(RESPONSES), 2)
    assert close(found, compute_features(base, PROMPTS, RESPONSES, cache_dir=tmp_path / "b", name="t", device="cpu"))
    kept = [{path.name for path in (tmp_path / folder).glob("features_*")} for folder in "ab"]
    assert kept[0] == kept[1] and len(kept[0]) == 1


# ── The program ──


def votes_file(folder: Path, prompts: int) -> Path:
    path = folder / "votes.jsonl"
    rows = [
        {
            "user": f"u{i % 3}", "prompt_id": f"p{i}", "prompt": f"What is {i}?", "model_a": "a", "model_b": "b",
            "response_a": f"a says {i}", "response_b": f"b says {i}" + " so" * (i % 40), "outcome": float(i % 2),
        }
        for i in range(prompts)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def started(pid: int) -> set[int]:
    """Processes below this one, by the fields of /proc."""
    found = {pid}
    for _ in range(5):
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) in found:
                found.add(int(stat.parent.name))
    return found


def runs(pid: int) -> bool:
    """Whether there is such a process; one that has ended and only waits for its parent to ask is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def addresses(pids: set[int]) -> set[str]:
    """Where they listen, as /proc/net/tcp and tcp6 write addresses."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(str(link.readlink()))
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_local_listens_on_this_machine_alone_and_after_ctrl_c_a_second_run_reads_the_rest(tmp_path: Path) -> None:
    base, votes = save_model(tmp_path / "base", "qwen"), votes_file(tmp_path, 600)
    cache = tmp_path / "cache"
    saving = "import sys, base.features, main; base.features.SAVE_SECONDS = 0; sys.exit(main.main(sys.argv[1:]))"
    command = [
        sys.executable, "-c", saving, "--preferences", str(votes), "--base_model", str(base),
        "--cache_dir", str(cache), "--results_dir", str(tmp_path / "results"), "--ray", "local",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as program:
        while not any(cache.glob("features_*")):
            assert program.poll() is None, program.stderr.read() if program.stderr else ""
            time.sleep(0.05)
        family = started(program.pid)
        listening = addresses(family)
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=60)
    assert program.returncode == 130 and "Traceback" not in said
    assert listening and listening <= LOOPBACK
    assert not (tmp_path / "home").exists() and not [pid for pid in family if runs(pid)]
    (path,) = cache.glob("features_*")
    kept = len(read_tensors(path)[0]["base_score"])
    assert 0 < kept < 1200
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True, timeout=300
    )
    assert "core_worker" not in done.stderr
    (rest,) = [line for line in done.stdout.splitlines() if line.startswith("Features of ")]
    assert int(rest.split()[2]) == 1200 - kept


def test_auto_and_an_address_never_start_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    logging.getLogger().handlers.clear()
    for asked in ("auto", "127.0.0.1:9", "nonsense"):
        flags = ["--preferences", str(votes_file(tmp_path, 10)), "--base_model", "embedded", "--ray", asked]
        assert main.main([*flags, "--cache_dir", str(tmp_path), "--results_dir", str(tmp_path)]) == 3
        assert "--ray local" in capsys.readouterr().err
