"""The shapes of what real Ollamas answered, read from recordings; the recordings themselves are not kept here.

python tests/recorded_shapes.py FOLDER    write golden/ollama_shapes.json from FOLDER/ollama-0.24.json and so on

A recording: {"exchanges": [{about, method, path, body, status, reply}]}, a long text abbreviated: "word (3,000 times)".
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

SHAPES = Path(__file__).parent / "golden" / "ollama_shapes.json"
TIMES = re.compile(r"word \(([\d,]+) times\)")


def shape(value: Any) -> Any:
    """Keys and names of types in place of values; of a list its first entry, of an architecture's keys "ARCH.…"."""
    if isinstance(value, dict):
        own = f"{value.get('general.architecture')}."
        return {("ARCH." + k[len(own) :] if k.startswith(own) else k): shape(inner) for k, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return type(value).__name__


def asked(body: Any) -> Any:
    """A request without its texts, which are counted in words."""
    if not body or "messages" not in body:
        return body
    texts = [TIMES.sub(lambda found: "word " * int(found[1].replace(",", "")), m["content"]) for m in body["messages"]]
    return {**body, "messages": [len(text.split()) for text in texts]}


def main(folder: Path) -> None:
    """Write the shapes, an exchange a line."""
    versions = []
    for path in sorted(folder.glob("ollama-*.json")):
        lines = []
        for seen in json.loads(path.read_text(encoding="utf-8"))["exchanges"]:
            kept = {"kind": seen["about"], **{name: seen[name] for name in ("method", "path", "status")}}
            lines.append(json.dumps({**kept, "request": asked(seen["body"]), "reply": shape(seen["reply"])}))
        versions.append(f"{json.dumps(path.stem.removeprefix('ollama-'))}: [\n" + ",\n".join(lines) + "\n]")
    SHAPES.write_text("{\n" + ",\n".join(versions) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
