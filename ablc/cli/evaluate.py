"""`ablc eval`."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablc.cli.output import CLEAN, say, show_table


def eval_command(run: Path, tasks: str, tasks_path: Path | None, limit: int | None, batch: int, format: str) -> int:
    """Score a run with lm-eval and show what came of it."""
    gc.enable()
    from ablc.exporting.evaluation import evaluate, file_name
    from ablc.exporting.finished import read
    from ablc.train.environment import pick_device

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    facts = evaluate(read(run), names, tasks_path=tasks_path, limit=limit, batch_size=batch, device=pick_device())
    if format == "json":
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return CLEAN
    show_table(("task", "metric", "value", "standard error"), rows(facts), right=("value", "standard error"))
    say(f"wrote {run / file_name(names, limit)}", "bold")
    return CLEAN


def rows(facts: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """A row for each metric of each task. lm-eval names a metric `acc,none`, after the comma the filter."""
    found = []
    for task, scores in facts["results"].items():
        for key, value in scores.items():
            metric, comma, filter = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            error = scores.get(f"{metric}_stderr,{filter}")
            name = metric if filter == "none" else f"{metric} ({filter})"
            found.append((task, name, _number(value), _number(error)))
    return found


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else ""
