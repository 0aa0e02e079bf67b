"""Mirrors of the record: they may fail or hang in any way, and cost the run nothing but themselves."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ablc.faults import reason_of
from ablc.planning import Plan
from ablc.train.record import Record, read_metrics, read_plan

PATIENCE = 60.0  # seconds that a mirror has to finish


@dataclass(frozen=True)
class Mirrored:
    """What a mirror gets to know at the start: the facts of `run.json`, the plan, and all steps that were taken before
    this process went on with the run."""

    folder: Path
    facts: Mapping[str, Any]
    plan: Plan
    history: Sequence[Mapping[str, Any]]


class Mirror(Protocol):
    """Where a run can be watched. A number of metrics is logged for each step."""

    name: str

    def start(self, run: Mirrored) -> None: ...

    def log(self, step: int, metrics: Mapping[str, Any]) -> None: ...

    def finish(self, summary: Mapping[str, Any], failed: bool) -> None: ...

    def close(self) -> None:
        """Let go of what it holds. The last call, whatever failed before; it may fail too."""


Task = Callable[[Mirror], None]


class Tracker:
    """Hands on to each mirror what the record holds, in a thread of its own, so that training never waits for one."""

    def __init__(self, mirrors: Sequence[Mirror], tell: Callable[[str], None]) -> None:
        self._lines = [_Line(mirror, tell) for mirror in mirrors]

    def start(self, record: Record) -> None:
        if self._lines:
            history = [entry for _, entry in read_metrics(record.folder)]
            run = Mirrored(record.folder, dict(record.facts), read_plan(record.folder), history)
            self._put(lambda mirror: mirror.start(run))

    def log(self, entry: Mapping[str, Any]) -> None:
        rest = {key: value for key, value in entry.items() if key != "step"}
        self._put(lambda mirror: mirror.log(int(entry["step"]), rest))

    def finish(self, summary: Mapping[str, Any], failed: bool) -> None:
        """Wait for the mirrors, each for a minute at the most."""
        self._put(lambda mirror: mirror.finish(summary, failed))
        for line in self._lines:
            line.close()

    def _put(self, task: Task) -> None:
        for line in self._lines:
            line.tasks.put(task)


class _Line:
    """One mirror and what is still to be told to it. The first failure is told once and ends it."""

    def __init__(self, mirror: Mirror, tell: Callable[[str], None]) -> None:
        self.mirror, self.tell = mirror, tell
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name=mirror.name, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.tasks.put(None)
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            self.tell(f"{self.mirror.name} doesn't answer; the record is complete without it")

    def _work(self) -> None:
        try:
            while (task := self.tasks.get()) is not None:
                task(self.mirror)
        except Exception as error:  # whatever a mirror throws must not stop a run
            self.tell(f"{self.mirror.name} stopped: {reason_of(error)}")
        finally:
            with contextlib.suppress(Exception):
                self.mirror.close()
