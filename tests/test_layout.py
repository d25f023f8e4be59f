"""Who may know whom: imports go one way, lazy and type checkers' ones included, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = {path.stem for path in ROOT.glob("*.py")}
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}
GROUND = {"core", "config"}

# Each room and what it may import; main may import everything.
MAY_IMPORT: dict[str, set[str]] = {
    "config": set(),
    "core": {"config"},
    "llm": GROUND,
    "base": GROUND | {"llm.embedded"},
    "stages": GROUND | {"llm"},
    "data_generation": GROUND | {"stages", "llm"},
    "evaluation": GROUND,
    "elo_system": GROUND,
    "reward_model": GROUND | {"elo_system", "base"},
    "combined": GROUND | {"elo_system", "base"},
    "report": GROUND,
    # report's words and answer hold the sentences that stand in the document
    "evidence": TOP - {"main"} | {"stages", "base", "core", "report.words", "report.answer"},
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
def test_imports_go_one_way_and_only_the_command_line_sees_flags(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    ours = {module: path for module, path in KNOWN.items() if module.partition(".")[0] == room}
    wrong = [
        f"{module} imports {other}"
        for module, path in ours.items()
        for other in imports(path, KNOWN)
        if other not in allowed and other.partition(".")[0] not in allowed
    ]
    assert wrong == []
    assert room == "cli" or not [module for module, path in ours.items() if "argparse" in path.read_text("utf-8")]


@pytest.mark.parametrize("folder", [ROOT, ROOT / "benchmarks"], ids=["suite", "benchmarks"])
def test_nothing_imports_itself_through_others(folder: Path) -> None:
    known = modules(folder)
    needs = {module: set(imports(path, known)) - {module} for module, path in known.items()}
    while free := [module for module, others in needs.items() if not others & needs.keys()]:
        for module in free:
            del needs[module]
    assert needs == {}
