"""The figures and hashes that a change which moves nothing leaves as they are.

python tests/golden_figures.py FOLDER [TOLERANCE]    compare every results file in FOLDER with the golden ones
python tests/golden_figures.py --write FOLDER MODE   make them the golden ones (MODE: once or incremental)
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
MEASURED = (
    "counts", "judge_quality", "leaderboard", "likes", "final", "cross_validated", "improvement", "comparisons",
    "winner", "recommended", "hypotheses", "training_history",
)  # fmt: skip
LEFT_ASIDE = ("sentence", "reason", "tokens_per_s", "spearman_rho", "top_1_accuracy", "top_3_accuracy")
POINTS = 20  # of a learning curve's points, every so many-th is held


def figures(document: Mapping[str, Any]) -> dict[str, Any]:
    """{path: figure or verdict} of what a results document measured, sentences left out."""
    kept = {name: document[name] for name in MEASURED}
    kept["answer"] = {name: document["answer"][name] for name in ("best", "tied_with", "unlikely", "more_prompts")}
    kept["learning_curve"] = document["learning_curve"][::POINTS]
    kept["per_prompt"] = {row["prompt_id"]: row["difference"] for row in document["per_prompt"]}
    return dict(_leaves(kept, ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in LEFT_ASIDE:
                yield from _leaves(inner, f"{path}/{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}/{number}")
    else:
        yield path, float(f"{value:.7g}") if isinstance(value, float) else value


def differences(found: Mapping[str, Any], golden: Mapping[str, Any], tolerance: float) -> list[str]:
    """One line for each figure that is gone or moved by more than ``tolerance``; new figures are no difference."""
    lines = []
    for path, was in golden.items():
        now = found.get(path, "missing")
        numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (now, was))
        if not (math.isclose(now, was, rel_tol=tolerance, abs_tol=tolerance) if numbers else now == was):
            lines.append(f"{path}: {was} → {now}")
    return lines


def item_hashes(cache: Path, persona: str) -> dict[str, str]:
    """{file: hash over the keys and hashes of all its items} of a persona's cache."""
    found = {}
    for path in sorted(cache.glob(f"*_{persona}.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if "items" in document:
            items = sorted(f"{item['key']}\t{item.get('made_from', '')}" for item in document["items"])
            digest = hashlib.sha256("\n".join(items).encode()).hexdigest()[:16]
            found[path.name] = f"{len(items)} items, {digest}"
    return found


def golden(mode: str, persona: str) -> dict[str, Any]:
    """The figures of a persona's run as they were frozen."""
    found: dict[str, Any] = json.loads((GOLDEN / f"{mode}.json").read_text(encoding="utf-8"))[persona]
    return found


def main(argv: Sequence[str]) -> int:
    """Write the golden figures of a folder of results, or print what differs from them."""
    write = argv[0] == "--write"
    folder = Path(argv[1] if write else argv[0])
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("evaluation_results_*.json")]
    if write:
        held = {d["persona"]: figures(d) for d in sorted(documents, key=lambda d: str(d["persona"]))}
        GOLDEN.joinpath(f"{argv[2]}.json").write_text(
            json.dumps(held, separators=(",", ":"), ensure_ascii=False) + "\n"
        )
        return 0
    tolerance = float(argv[1]) if len(argv) > 1 else 1e-6
    moved = []
    for document in documents:
        mode = "incremental" if document["config"]["incremental"] else "once"
        lines = differences(figures(document), golden(mode, document["persona"]), tolerance)
        moved += [f"{document['persona']} ({mode}) {line}" for line in lines]
    print("\n".join(moved[:100]) or f"{len(documents)} documents: no figure moved by more than {tolerance:g}")
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
