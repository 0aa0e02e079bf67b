"""The record of a run: its directory is the truth, and stays readable whatever ends the run.

spec.abl …        the text of the spec, and of every file it extends
plan.json         the plan of the model that trained
environment.json  versions, machine, commit
metrics.jsonl     one line a step
run.json          what it was and how it ended
model.safetensors the weights at the end
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

from ablc.cache import write_atomically
from ablc.planning import Plan
from ablc.spec import Spec

FORMAT_VERSION = "1.0"
Status = Literal["running", "finished", "diverged", "interrupted", "failed"]


class RecordError(Exception):
    """A run directory that can't be used: one sentence and a way out."""

    def __init__(self, message: str, help: str | None = None) -> None:
        self.message, self.help = message, help
        super().__init__(message)


class Record:
    """A run directory being written. `run.json` is replaced as a whole, `metrics.jsonl` grows a line at a time."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {"format_version": FORMAT_VERSION, "status": "running", **facts}
        self.started = time.time()
        self._metrics: IO[str] | None = None

    def open(self, spec: Spec, plan: Plan, environment: Mapping[str, Any]) -> None:
        """Make the directory and write what is known before training. Raises RecordError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / "run.json").exists():
                raise RecordError(f"{self.folder} holds a run already", "name another directory with --out")
            for name, text in spec.sources.items():
                file = "spec.abl" if name == spec.file else f"extended-{Path(name).name}"
                write_atomically(self.folder / file, text.encode())
            self._write_json("plan.json", plan.to_json())
            self._write_json("environment.json", environment)
            self._metrics = (self.folder / "metrics.jsonl").open("w", encoding="utf-8")
            self._write_json("run.json", self.facts)
        except OSError as error:
            reason = error.strerror or str(error)
            raise RecordError(f"{self.folder} can't be written: {reason.lower()}", "name another with --out") from error

    def log(self, entry: Mapping[str, float | int]) -> None:
        """One line of `metrics.jsonl`, on disk when this returns; a number that isn't finite is written as null."""
        if self._metrics is not None:
            self._metrics.write(json.dumps({key: _finite(value) for key, value in entry.items()}) + "\n")
            self._metrics.flush()

    def close(self, status: Status, **facts: Any) -> None:
        """Write how the run ended."""
        self.facts.update({"status": status, "seconds": round(time.time() - self.started, 1), **facts})
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        self._write_json("run.json", self.facts)

    @property
    def failed(self) -> bool:
        return bool(self.facts["status"] != "finished")

    def _write_json(self, name: str, data: Mapping[str, Any]) -> None:
        write_atomically(self.folder / name, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None


def new_folder(name: str, recipe: str, seed: int) -> Path:
    """A directory under `runs/` that no run has taken: `runs/NAME/RECIPE-seed0`, then `…-2`, `…-3`."""
    safe = "".join(c if c.isalnum() or c in "-_.@=," else "-" for c in name)
    base = Path("runs") / safe / f"{Path(recipe).stem}-seed{seed}"
    folder, number = base, 1
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder
