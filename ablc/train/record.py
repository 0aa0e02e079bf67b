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
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from ablc.cache import write_atomically
from ablc.faults import UserError, reason_of
from ablc.planning import Plan
from ablc.spec import Spec
from ablc.spec.recipe import Recipe

FORMAT_VERSION = "1.0"
BEGINS_AGAIN = "there is no checkpoint to go on from: it begins again"
# What a run writes into its directory, or takes for its own there.
_NAMES = ("spec.abl", "plan.json", "environment.json", "init.json", "metrics.jsonl", "model.safetensors", "checkpoints")
_COPY = "go on with a copy of it where you may write"
Status = Literal["running", "finished", "diverged", "interrupted", "failed"]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Tokenizer(_Strict):
    hash: str


class _Data(_Strict):
    hash: str
    tokenizer: _Tokenizer
    revision: str | None = None


class _Baselines(_Strict):
    unigram: float
    bigram: float


class _Facts(_Strict):
    """What is read of a `run.json` again."""

    name: str
    variant: str | None
    model: str
    status: Status
    seconds: float
    recipe: str
    settings: Recipe
    scale: str
    seed: int
    base: str
    weights: str | None
    vocab_size: int
    data: _Data
    baselines: _Baselines
    fingerprint: str
    trained_fingerprint: str
    steps: int
    mirror_id: str
    final: dict[str, float] | None
    best: dict[str, float] | None


class RecordError(UserError):
    """A run directory that can't be used."""

    code = "no-record"


class Record:
    """A run directory being written, by one process at a time. `run.json` is replaced as a whole, `metrics.jsonl` grows
    a line at a time."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {"format_version": FORMAT_VERSION, "status": "running", "seconds": 0.0, **facts}
        self._started = time.time()
        self._before = float(facts.get("seconds", 0.0))
        self._metrics: IO[str] | None = None
        self._environment: Mapping[str, Any] | None = None
        self._lock = FileLock(folder / ".lock", timeout=0)

    def open(self, spec: Spec, plan: Plan, environment: Mapping[str, Any]) -> None:
        """Make the directory and write what is known before training. Raises RecordError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take("wait for it, or name another directory with --out")
            check_new(self.folder)
            for file, text in _files_of(spec).items():
                write_atomically(self.folder / file, text.encode())
            self.write_json("plan.json", plan.to_json())
            self.write_json("environment.json", environment)
            self._metrics = (self.folder / "metrics.jsonl").open("w", encoding="utf-8")
            self.write_json("run.json", self.facts)
        except OSError as error:
            message = f"{self.folder} can't be written: {reason_of(error)}"
            raise RecordError(message, "name another with --out") from error

    @classmethod
    def reopen(cls, folder: Path, environment: Mapping[str, Any]) -> Record:
        """The record of a run that is to go on, perhaps elsewhere. Nothing of it is changed yet. Raises RecordError."""
        record = cls(folder, read_facts(folder))
        record._environment = environment
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RecordError(f"{folder} can't be written: permission denied", _COPY)
        try:
            record._take("wait for it")
        except OSError as error:
            raise RecordError(f"{folder} can't be written: {reason_of(error)}", _COPY) from error
        return record

    def continue_after(self, step: int, processes: int) -> None:
        """Drop the metrics of the steps after `step`, which will be taken again, and go on below them. The environments
        before this one stay listed."""
        self._started = time.time()
        if self._environment is not None:
            earlier = _read_json(self.folder / "environment.json")
            others = earlier.pop("before", [])
            before = [*(others if isinstance(others, list) else []), earlier] if earlier else []
            self.write_json("environment.json", {**self._environment, "before": before})
        for key in ("error", "diverged_at"):  # of the last time
            self.facts.pop(key, None)
        path = self.folder / "metrics.jsonl"
        kept = [line for line, entry in read_metrics(self.folder) if entry["step"] <= step]
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode())
        self._metrics = path.open("a", encoding="utf-8")
        self.update(status="running", processes=processes)

    def tell_changes(self, tell: Callable[[str], None]) -> None:
        """Say what it goes on with, of versions and devices, that isn't what it was trained with the last time."""
        before, now = _read_json(self.folder / "environment.json"), self._environment or {}
        pairs = [("device", before.get("device"), now.get("device"))]
        packages = before.get("packages")
        if isinstance(packages, dict):
            pairs += [(name, packages.get(name), version) for name, version in now.get("packages", {}).items()]
        changed = [f"{name} was {old} and is {new}" for name, old, new in pairs if old and new and old != new]
        if changed:
            tell(f"{'; '.join(changed)}: what follows may differ in its last digits from what would have been")

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
    def goes_on(self) -> bool:
        """Whether it was begun before, and not by this process."""
        return self._environment is not None

    @property
    def failed(self) -> bool:
        return bool(self.facts["status"] != "finished")

    def _take(self, way_out: str) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise RecordError(f"another process is writing the run in {self.folder}", way_out) from None

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
        command = resuming(folder, calibration="calibration" in _read_json(folder / "run.json"))
        help = f"go on with it: {command}; or name another with --out"
        raise RecordError(f"{folder} holds a run already", help)
    if taken := next((name for name in _NAMES if (folder / name).exists()), None):
        # It would be overwritten, or taken for the run's own.
        raise RecordError(f"{folder} holds a {taken} that isn't this run's", "name another with --out")
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "no permission to write" if there.is_dir() else "not a directory"
        raise RecordError(f"{folder} can't be written: {there}: {reason}", "name another with --out")


def resuming(folder: Path, *, calibration: bool = False) -> str:
    """The command that goes on with a run or a calibration, as one may give it to a shell."""
    return f"ablc {'calibrate' if calibration else 'run'} --resume {shlex.quote(str(folder))}"


def check_kind(folder: Path, facts: Mapping[str, Any], *, calibration: bool) -> None:
    """Raise RecordError where another command than the one that was given goes on with it."""
    if ("calibration" in facts) != calibration:
        kind = "a run, and no calibration" if calibration else "a calibration"
        raise RecordError(f"{folder} holds {kind}", f"go on with it: {resuming(folder, calibration=not calibration)}")


def leave(folder: Path) -> None:
    """Take a claimed directory away again where nothing was written into it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def read_facts(folder: Path) -> dict[str, Any]:
    """The `run.json` of a run. Raises RecordError where there is none, or where what is needed of it isn't there."""
    path = folder / "run.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        help = "name a directory that `ablc run` made: it holds a run.json"
        raise RecordError(f"there is no run in {folder}", help) from None
    except (OSError, ValueError) as error:
        way_out = None if isinstance(error, OSError) else "run its spec again"
        raise RecordError(f"{path} can't be read: {reason_of(error)}", way_out) from error
    version = facts.get("format_version") if isinstance(facts, dict) else None
    if version != FORMAT_VERSION:
        raise RecordError(f"{path} is of another version of ablc, or no record", "run its spec again")
    try:
        _Facts.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        help = "take the version of ablc that wrote it, or run its spec again"
        raise RecordError(f"`{where}` in {path}: {first['msg'].lower()}", help) from error
    return dict(facts)


def read_plan(folder: Path) -> Plan:
    """The plan of the model that a run trained. Raises RecordError."""
    try:
        return Plan.from_json(json.loads((folder / "plan.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RecordError(f"the plan in {folder} can't be read: {reason_of(error)}", "run its spec again") from error


def read_metrics(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every whole line of `metrics.jsonl` with what it says; a kill may have left half of one."""
    found = []
    try:
        lines = (folder / "metrics.jsonl").read_bytes().splitlines()
    except OSError:
        return []
    for data in lines:
        try:
            line = data.decode()
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
    safe = "".join(c if c.isalnum() or c in "-_.@=," else "-" for c in name)
    safe = safe.encode()[:100].decode(errors="ignore")  # file systems count bytes
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
        raise RecordError(f"{folder} can't be made: {reason_of(error)}", "name another with --out") from error
