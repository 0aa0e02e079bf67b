"""Weights & Biases as a mirror of the record: it may fail in any way and costs the run nothing but the mirror."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

Mode = Literal["online", "offline", "off"]


class Tracker:
    """Sends what the record holds to wandb; the first failure is told once and ends the mirror, not the run."""

    def __init__(self, mode: Mode, tell: Callable[[str], None]) -> None:
        self.mode, self.tell = mode, tell
        self._run: Any = None

    def start(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        if self.mode == "off":
            return
        os.environ.setdefault("WANDB_SILENT", "true")
        self._guarded(lambda: self._init(folder, name, config))

    def _init(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        import wandb

        mode: Any = self.mode
        settings = wandb.Settings(init_timeout=30, silent=True)
        project = os.environ.get("WANDB_PROJECT", "ablc")
        self._run = wandb.init(
            project=project, name=name, dir=str(folder), mode=mode, config=dict(config), settings=settings
        )

    def log(self, entry: Mapping[str, float]) -> None:
        if self._run is not None:
            rest = {key: value for key, value in entry.items() if key != "step"}
            self._guarded(lambda: self._run.log(rest, step=int(entry["step"])))

    def finish(self, summary: Mapping[str, Any], failed: bool) -> None:
        if self._run is not None:
            self._guarded(lambda: self._run.summary.update(dict(summary)))
        if self._run is not None:
            self._guarded(lambda: self._run.finish(exit_code=int(failed)))

    def _guarded(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # whatever a mirror throws must not stop a run
            self._run = None
            self.tell(f"wandb stopped: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
