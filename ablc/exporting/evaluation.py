"""A finished run before lm-eval: its model and its tokenizer, on tasks of the harness or of one's own."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ablc.cache import write_atomically
from ablc.exporting.finished import ExportError, Finished
from ablc.exporting.models import replaced_model
from ablc.faults import reason_of
from ablc.train.corpus import DataError

FORMAT_VERSION = "1.0"
_KEPT = ("results", "groups", "versions", "n-shot", "n-samples", "higher_is_better")


def evaluate(
    run: Finished,
    tasks: Sequence[str],
    *,
    tasks_path: Path | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Score a run, write `eval-TASKS.json` into its directory, and return what that says.

    `tasks` are names that lm-eval knows, or that a YAML file under `tasks_path` gives; `limit` takes so many examples
    of each. Raises ExportError where lm-eval isn't there, doesn't know a task or can't get its data.
    """
    _check(run, tasks, tasks_path)
    tokenizer = _tokenizer(run)
    manager = _task_manager(tasks, tasks_path)
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    live = replaced_model(run)
    try:
        model = HFLM(pretrained=live.to(device), tokenizer=tokenizer, backend="causal", batch_size=batch_size)
        found = lm_eval.simple_evaluate(
            model, tasks=[*tasks], task_manager=manager, limit=limit, batch_size=batch_size, log_samples=False
        )
    except Exception as error:  # a task is code, data and a prompt of somebody else: anything may be raised
        help = "leave out the task that another of them contains" if "uplicate task" in str(error) else None
        raise ExportError(f"lm-eval stopped with {type(error).__name__}: {reason_of(error)}", help) from error
    facts = {
        "format_version": FORMAT_VERSION,
        "lm_eval": lm_eval.__version__,
        "fingerprint": run.plan.fingerprint,
        "tasks": [*tasks],
        "limit": limit,
        "batch_size": batch_size,
        **{key: found[key] for key in _KEPT if key in found},
    }
    return _written(run.folder / file_name(tasks, limit), facts)


def file_name(tasks: Sequence[str], limit: int | None = None) -> str:
    """The file in a run's directory that holds the scores of these tasks, of `limit` examples of each: another one for
    other tasks, and for all examples."""
    named = ",".join(tasks)
    safe = "".join(c if c.isalnum() or c in "-_.," else "-" for c in named)[:200]
    if safe != named or any("," in task for task in tasks):
        safe += f"-{hashlib.sha256(json.dumps([*tasks]).encode()).hexdigest()[:8]}"
    return f"eval-{safe}.json" if limit is None else f"eval-{safe}-limit{limit}.json"


def _check(run: Finished, tasks: Sequence[str], tasks_path: Path | None) -> None:
    """What can be told at once: lm-eval takes seconds to list its tasks."""
    if find_spec("lm_eval") is None:
        raise ExportError("`ablc eval` needs lm-eval, which isn't installed", "pip install 'ablc[eval]'")
    if not tasks:
        raise ExportError("no task is named", "--tasks arc_easy,lambada_openai")
    if tasks_path is not None and not tasks_path.is_dir():
        raise ExportError(f"there is no directory {tasks_path}", "--tasks-path is a folder of task files (YAML)")
    if not os.access(run.folder, os.W_OK | os.X_OK):
        raise ExportError(f"{run.folder} can't be written, and the scores belong there: no permission to write")


def _tokenizer(run: Finished) -> Any:
    try:
        return run.tokenizer
    except DataError as error:
        raise ExportError(f"the tokenizer of this run can't be had: {error.message}", error.help) from error


def _task_manager(tasks: Sequence[str], tasks_path: Path | None) -> Any:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=None if tasks_path is None else str(tasks_path))
    unknown = sorted(set(tasks) - set(manager.all_tasks))
    if unknown:
        help = "`lm_eval ls tasks` lists its tasks; your own stand in a --tasks-path"
        raise ExportError(f"lm-eval knows no task `{'`, `'.join(unknown)}`", help)
    return manager


def _written(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(facts, indent=2, ensure_ascii=False, default=float)
    try:
        write_atomically(path, (text + "\n").encode())
    except OSError as error:
        raise ExportError(f"{path} can't be written: {reason_of(error)}") from error
    plain: dict[str, Any] = json.loads(text)
    return plain
