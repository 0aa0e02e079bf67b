"""The record of a run: its directory is the truth, and stays readable whatever ends the run.

spec.abl …        the text of the spec, and of every file it extends
plan.json         the plan of the model that trained
environment.json  versions, machine, commit
init.json         how far low-rank pairs start from what they replaced, where that was asked for
metrics.jsonl     one line a step
run.json          what it was and how it ended
checkpoints/      what it goes on from
model.safetensors the weights at the end
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock, Timeout

from ablc.cache import write_atomically
from ablc.faults import UserError
from ablc.planning import Plan
from ablc.spec import Spec

FORMAT_VERSION = "1.0"
Status = Literal["running", "finished", "diverged", "interrupted", "failed"]


class RecordError(UserError):
    """A run directory that can't be used."""

    code = "no-record"


class Record:
    """A run directory being written, by one process at a time. `run.json` is replaced as a whole, `metrics.jsonl` grows
    a line at a time."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {"format_version": FORMAT_VERSION, "status": "running", **facts}
        self._started = time.time()
        self._before = float(facts.get("seconds", 0.0))
        self._metrics: IO[str] | None = None
        self._environment: Mapping[str, Any] | None = None
        self._lock = FileLock(folder / ".lock", timeout=0)

    def open(self, spec: Spec, plan: Plan, environment: Mapping[str, Any]) -> None:
        """Make the directory and write what is known before training. Raises RecordError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take()
            check_new(self.folder)
            for file, text in _files_of(spec).items():
                write_atomically(self.folder / file, text.encode())
            self.write_json("plan.json", plan.to_json())
            self.write_json("environment.json", environment)
            self._metrics = (self.folder / "metrics.jsonl").open("w", encoding="utf-8")
            self.write_json("run.json", self.facts)
        except OSError as error:
            reason = error.strerror or str(error)
            raise RecordError(f"{self.folder} can't be written: {reason.lower()}", "name another with --out") from error

    @classmethod
    def reopen(cls, folder: Path, environment: Mapping[str, Any]) -> Record:
        """The record of a run that is to go on, perhaps elsewhere. Nothing of it is changed yet. Raises RecordError."""
        record = cls(folder, read_facts(folder))
        record._environment = environment
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RecordError(f"{folder} can't be written: permission denied")
        try:
            record._take()
        except OSError as error:
            raise RecordError(f"{folder} can't be written: {(error.strerror or str(error)).lower()}") from error
        return record

    def continue_after(self, step: int, processes: int) -> None:
        """Drop the metrics of the steps after `step`, which will be taken again, and go on below them. The environments
        before this one stay listed."""
        self._started = time.time()
        if self._environment is not None:
            earlier = _read_json(self.folder / "environment.json")
            before = [*earlier.pop("before", []), earlier] if earlier else []
            self.write_json("environment.json", {**self._environment, "before": before})
        for key in ("error", "diverged_at"):  # of the last time
            self.facts.pop(key, None)
        path = self.folder / "metrics.jsonl"
        kept = [line for line, entry in read_metrics(self.folder) if entry["step"] <= step]
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode())
        self._metrics = path.open("a", encoding="utf-8")
        self.update(status="running", processes=processes)

    def log(self, entry: Mapping[str, float | int]) -> None:
        """One line of `metrics.jsonl`, in the file when this returns; a number that isn't finite is written as null."""
        if self._metrics is not None:
            self._metrics.write(json.dumps({key: _finite(value) for key, value in entry.items()}) + "\n")
            self._metrics.flush()

    def update(self, **facts: Any) -> None:
        """Write what has become known, so that it is there even if nothing more is ever written."""
        self.facts.update({**facts, "seconds": round(self._before + time.time() - self._started, 1)})
        self.write_json("run.json", self.facts)

    def close(self, status: Status, **facts: Any) -> None:
        """Write how the run ended."""
        try:
            if self._metrics is not None:
                with contextlib.suppress(OSError):  # a line that a full disk didn't take
                    self._metrics.close()
                self._metrics = None
            self.update(status=status, **facts)
        finally:
            self._lock.release()

    def release(self) -> None:
        """Let another process write the record, which stays as it is."""
        self._lock.release()

    @property
    def failed(self) -> bool:
        return bool(self.facts["status"] != "finished")

    def _take(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            message = f"another process is writing the run in {self.folder}"
            raise RecordError(message, "wait for it, or name another directory with --out") from None

    def write_json(self, name: str, data: Any) -> None:
        """A file of the record, whole or not at all."""
        write_atomically(self.folder / name, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def _read_json(path: Path) -> dict[str, Any]:
    """What a file of a record says; nothing where it is missing or damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _files_of(spec: Spec) -> dict[str, str]:
    """The spec's own text as `spec.abl`, those it extends under their names, numbered where two have one name."""
    files = {"spec.abl": spec.sources[spec.file]}
    for name, text in spec.sources.items():
        if name != spec.file:
            number, file = 1, f"extended-{Path(name).name}"
            while file in files:
                number += 1
                file = f"extended-{number}-{Path(name).name}"
            files[file] = text
    return files


def check_new(folder: Path) -> None:
    """Raise RecordError where it can be seen before training that no run can be written there."""
    if (folder / "run.json").exists():
        help = f"go on with it: {resuming(folder, _read_json(folder / 'run.json'))}; or name another with --out"
        raise RecordError(f"{folder} holds a run already", help)
    if (folder / "checkpoints").exists():  # they would be taken for its own when it goes on
        raise RecordError(f"{folder} holds checkpoints of another run", "name another with --out")
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "no permission to write" if there.is_dir() else "not a directory"
        raise RecordError(f"{folder} can't be written: {there}: {reason}", "name another with --out")


def resuming(folder: Path, facts: Mapping[str, Any]) -> str:
    """The command that goes on with a run or a calibration."""
    return f"ablc {'calibrate' if 'calibration' in facts else 'run'} --resume {folder}"


def check_kind(folder: Path, facts: Mapping[str, Any], *, calibration: bool) -> None:
    """Raise RecordError where another command than the one that was given goes on with it."""
    if ("calibration" in facts) != calibration:
        kind = "a run, and no calibration" if calibration else "a calibration"
        raise RecordError(f"{folder} holds {kind}", f"go on with it: {resuming(folder, facts)}")


def leave(folder: Path) -> None:
    """Take a claimed directory away again where nothing was written into it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def read_facts(folder: Path) -> dict[str, Any]:
    """The `run.json` of a run. Raises RecordError."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if facts["format_version"] != FORMAT_VERSION:
            raise RecordError(f"{folder} was written by another version of ablc", "run its spec again")
        return dict(facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{folder} holds no run that can be read", "name the directory of a run") from error


def read_plan(folder: Path) -> Plan:
    """The plan of the model that a run trained. Raises RecordError."""
    try:
        return Plan.from_json(json.loads((folder / "plan.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RecordError(f"the plan in {folder} can't be read: {error}", "run its spec again") from error


def read_metrics(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every whole line of `metrics.jsonl` with what it says; a kill may have left half of one."""
    found = []
    try:
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            found.append((line, entry))
    return found


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None


def claim_folder(name: str, recipe: str, seed: int) -> Path:
    """Make a directory under `runs/` that no run has taken: `runs/NAME/RECIPE-seed0`, then `…-2`, `…-3`. Of two runs
    that begin at once each gets its own. Raises RecordError."""
    safe = "".join(c if c.isalnum() or c in "-_.@=," else "-" for c in name)[:100]
    safe = safe if safe.strip(".") else safe.replace(".", "-")
    base = Path("runs") / safe / f"{Path(recipe).stem}-seed{seed}"
    folder, number = base, 1
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1
                folder = base.with_name(f"{base.name}-{number}")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RecordError(f"{folder} can't be made: {reason}", "name another with --out") from error
