"""The suite's speed, as ratios measured in one run.

    python benchmarks/bench.py            # everything, at least five pairs each where that is cheap
    python benchmarks/bench.py --quick    # fewer pairs, smaller samples
    python benchmarks/bench.py --only heads elo

Each figure is measured as pairs, ours and the reference by turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as main.py does: its threads only spin on matrices this small

import bench_base
import bench_heads
import bench_program
from measuring import Row

GROUPS: dict[str, Callable[[bool], list[Row]]] = {
    "program": bench_program.rows,
    "base": bench_base.rows,
    "heads": bench_heads.rows,
    "elo": bench_heads.elo_rows,
}


def main() -> None:
    """Measure what the flags ask for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pairs and smaller samples")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="some groups of rows")
    args = parser.parse_args()
    print(f"{'figure':<66} {'ours':>11} {'reference':>11} {'ratio':>9}  spread of pairs, target")
    for name in args.only:
        for row in GROUPS[name](args.quick):
            low, high = row.spread
            print(
                f"{row.name:<66} {row.ours:>11.4g} {row.reference:>11.4g} {row.ratio:>9.3g}  [{low:.3g}, {high:.3g}] "
                f"x{row.pairs}  {row.target}  {row.note}",
                flush=True,
            )


if __name__ == "__main__":
    main()
