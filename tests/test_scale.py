"""Blocks of people and what travels with them, and what is said where Ray is missing; test_ray.py has the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import main
from scale import cluster


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
def test_blocks_give_what_one_call_gives(rows: list[int], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "BLOCK", size)
        assert cluster.in_blocks(None, lambda a, b: [x - y for x, y in zip(a, b, strict=True)], rows, rows[::-1]) == [
            x - y for x, y in zip(rows, rows[::-1], strict=True)
        ]


def test_a_large_array_is_taken_out_of_what_travels_once_however_often_it_is_held() -> None:
    large, small = np.arange(float(cluster.LARGE)), np.arange(3.0)
    code, arrays = cluster.dumps({"a": large, "again": [large], "small": small})
    assert [id(array) for array in arrays] == [id(large)] and len(code) < 1000
    back = cluster.loads(code, arrays)
    assert back["a"] is back["again"][0] is large and np.array_equal(back["small"], small)


def test_without_ray_the_message_names_the_command_that_installs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--backend", "embedded", "--ray", "local", "--cache_dir", str(tmp_path), "--results_dir", str(tmp_path)]
    assert main.main(flags) == 3
    assert f"\n  {cluster.INSTALL}\n" in capsys.readouterr().err


def test_ray_goes_with_runs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--ray", "local", "--rank", "Why?"]) == main.main(["--ray", " "]) == 2
    assert "--ray does not go with --rank" in capsys.readouterr().err
