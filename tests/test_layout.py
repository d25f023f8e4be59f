"""Who may know whom: imports go one way, lazy and type checkers' ones included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = {path.stem for path in ROOT.glob("*.py")}
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}
FILES = [*ROOT.glob("*.py"), *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]
KNOWN = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
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
    # report's words hold the sentences that stand in the document
    "evidence": TOP - {"main"} | {"stages", "base", "core", "report.words"},
    "people": TOP - {"main"} | PACKAGES - {"cli"},
    "cli": TOP - {"main"} | PACKAGES,
}


def imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in KNOWN)
        elif isinstance(node, ast.ImportFrom) and node.module in KNOWN:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in KNOWN else node.module for name in names)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way_and_only_the_command_line_sees_flags(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    ours = {module: path for module, path in KNOWN.items() if module.partition(".")[0] == room}
    wrong = [
        f"{module} imports {other}"
        for module, path in ours.items()
        for other in imports(path)
        if other not in allowed and other.partition(".")[0] not in allowed
    ]
    assert wrong == []
    assert room == "cli" or not [module for module, path in ours.items() if "argparse" in path.read_text("utf-8")]
