"""Who may know whom: imports go one way, lazy and type checkers' ones included, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = {path.stem for path in ROOT.glob("*.py")}
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}

# Each room and what it may import; main may import everything.
MAY_IMPORT = {
    "config": set(),
    "core": {"config"},
    "llm": {"core", "config"},
    "base": {"llm.embedded", "core", "config"},
    "stages": {"llm", "core", "config"},
    "data_generation": {"stages", "llm", "core", "config"},
    "evaluation": {"core", "config"},
    "elo_system": {"core", "config"},
    "reward_model": {"elo_system", "base", "core", "config"},
    "combined": {"elo_system", "base", "core", "config"},
    "report": {"core", "config"},
    "evidence": {
        "elo_system",
        "reward_model",
        "combined",
        "evaluation",
        "data_generation",
        "stages",
        "report.words",  # the sentences that stand in the document
        "report.answer",
        "base",
        "core",
        "config",
    },
    "people": TOP - {"main"} | PACKAGES - {"cli"},
    "cli": TOP - {"main"} | PACKAGES,
}


def modules(folder: Path) -> dict[str, Path]:
    """Dotted name → file of every module below a folder, tests and hidden folders left out."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if not parts[0].startswith(".") and parts[0] not in ("tests", "benchmarks"):
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of ours that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else node.module for name in names)


KNOWN = modules(ROOT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    wrong = [
        f"{module} imports {other}"
        for module, path in KNOWN.items()
        if module.partition(".")[0] == room
        for other in imports(path, KNOWN)
        if other not in allowed and other.partition(".")[0] not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", [ROOT, ROOT / "benchmarks"], ids=["suite", "benchmarks"])
def test_nothing_imports_itself_through_others(folder: Path) -> None:
    known = modules(folder)
    needs = {module: set(imports(path, known)) - {module} for module, path in known.items()}
    while free := [module for module, others in needs.items() if not others & needs.keys()]:
        for module in free:
            del needs[module]
    assert needs == {}


def test_only_the_command_line_sees_flags() -> None:
    seen = [
        module
        for module, path in KNOWN.items()
        if "argparse" in path.read_text(encoding="utf-8") and module.partition(".")[0] not in ("cli", "main")
    ]
    assert seen == []


def test_every_metric_has_a_title_and_a_place_among_the_plots() -> None:
    from evaluation import METRICS
    from report import plots, words

    assert tuple(words.METRICS) == METRICS
    assert set(plots.CORRELATIONS) < set(METRICS)
