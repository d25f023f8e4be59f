"""All personas side by side, when each one's own run is done (``--persona all``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import config
from core.files import keep_previous, write_atomically, write_json
from evidence.pooled import pooled
from stages.tasks import Job


def run(jobs: Sequence[Job], documents: Mapping[str, Mapping[str, Any]], *, label: str, results_dir: Path) -> None:
    """Write the file, the figure, the page and the table of all personas from their ``documents``, by name."""
    from report import console, plots
    from report.page import write_personas

    together = {
        "schema_version": config.SCHEMA_VERSION,
        "backend": jobs[0].llm.backend,
        "label": label,
        "judge": jobs[0].judge,
        "seed": jobs[0].params.random_seed,
        "pooled": pooled(documents, jobs[0].params.random_seed),
        "personas": dict(documents),
    }
    names = (config.RESULTS_FILE, config.PERSONAS_PLOT, config.REPORT_FILE)
    paths = [results_dir / pattern.format(name="all") for pattern in names]
    keep_previous(paths)
    write_json(paths[0], together)
    write_atomically(paths[1], plots.png(plots.personas, together))
    write_personas(together, paths[2])
    console.print_personas(together)
    console.print_files(paths)
