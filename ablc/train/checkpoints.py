"""Checkpoints of a run: written beside the training, whole or not at all, and believed only where their hash says so.

checkpoints/step-00000100/
    model.safetensors      the weights, under their names in the model
    optimizer.safetensors  what AdamW remembers of each: `name/exp_avg`, `name/exp_avg_sq`, `name/step`
    state.json             the step, the evaluations so far, of which plan, and the SHA-256 of both files

Nothing else is needed to go on: the data and all that is random in a step are functions of the seed and the step.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor

WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
Tensors = Mapping[str, torch.Tensor]


class DamagedCheckpoint(Exception):
    """A checkpoint that can't be believed, and why."""


@dataclass(frozen=True)
class Checkpoint:
    """One that was read whole: `facts` is what was saved beside the tensors."""

    step: int
    weights: Tensors
    optimizer: Tensors
    facts: Mapping[str, Any]


class Checkpoints:
    """Those of one run, of which the last `keep` are kept. A failed write is told; it doesn't end the run."""

    def __init__(self, folder: Path, keep: int, tell: Callable[[str], None]) -> None:
        self.folder = folder / "checkpoints"
        self.keep = keep
        self.tell = tell
        self._writing: threading.Thread | None = None
        self._failed: str | None = None

    def save(self, step: int, weights: Tensors, optimizer: Tensors, facts: Mapping[str, Any]) -> None:
        """Write a checkpoint in a thread, after the one before it. The tensors must not change any more."""
        self.wait()
        arguments = (step, weights, optimizer, {**facts, "step": step})
        self._writing = threading.Thread(target=self._write, args=arguments, name="checkpoint")
        self._writing.start()

    def wait(self) -> None:
        """Until what was given to `save` is on the disk; tells what went wrong there."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._failed is not None:
            self.tell(self._failed)
            self._failed = None

    def newest(self) -> Checkpoint | None:
        """The newest that is whole. Each newer one that is damaged is told and set aside under another name, so that it
        isn't counted among those that are kept. None where there is none."""
        for folder in self._folders():
            try:
                return read(folder)
            except DamagedCheckpoint as damaged:
                self.tell(f"{folder} is damaged ({damaged}): it is set aside, and an older one taken if there is any")
                with contextlib.suppress(OSError):
                    folder.rename(folder.with_name(f"damaged-{folder.name}"))
        return None

    def of_step(self, step: int) -> Checkpoint:
        """The checkpoint after a step. Raises DamagedCheckpoint."""
        return read(self.folder / f"step-{step:08d}")

    def _folders(self) -> list[Path]:
        """Finished ones, newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _write(self, step: int, weights: Tensors, optimizer: Tensors, facts: Mapping[str, Any]) -> None:
        partial = self.folder / ".partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write(partial, weights, optimizer, facts)
            _sync(partial)
            final = self.folder / f"step-{step:08d}"
            shutil.rmtree(final, ignore_errors=True)  # one that was found damaged
            partial.rename(final)
            _sync(self.folder)
            for old in self._folders()[self.keep :]:
                shutil.rmtree(old, ignore_errors=True)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            reason = getattr(error, "strerror", None) or str(error)
            self._failed = f"the checkpoint of step {step} couldn't be written: {reason}; training goes on without it"


def last_step(folder: Path) -> int:
    """The step of a run's newest checkpoint, whole or not; 0 where there is none."""
    return max((int(one.name.removeprefix("step-")) for one in (folder / "checkpoints").glob("step-*")), default=0)


def write(folder: Path, weights: Tensors, optimizer: Tensors, facts: Mapping[str, Any]) -> None:
    """The three files of a checkpoint, on the disk when this returns."""
    hashes = {}
    for name, tensors in ((WEIGHTS, weights), (OPTIMIZER, optimizer)):
        save_tensors(folder / name, tensors)
        hashes[name] = _hash(folder / name)
    content = {**facts, "files": hashes}
    text = json.dumps({**content, "hash": _hash_of(content)}, indent=2)
    (folder / STATE).write_text(text, encoding="utf-8")
    _sync(folder / STATE)


def save_tensors(path: Path, tensors: Tensors) -> None:
    """A safetensors file with the rights that any new file has here; safetensors gives it to its owner alone."""
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(mode)
    _sync(path)


def read(folder: Path) -> Checkpoint:
    """A checkpoint, each file checked against its hash. Raises DamagedCheckpoint."""
    try:
        facts = json.loads((folder / STATE).read_text(encoding="utf-8"))
        said = facts.pop("hash")
        if said != _hash_of(facts):
            raise DamagedCheckpoint(f"{STATE} doesn't have its hash")
        for name, expected in facts.pop("files").items():
            if _hash(folder / name) != expected:
                raise DamagedCheckpoint(f"{name} doesn't have its hash")
        return Checkpoint(facts["step"], load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER), facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise DamagedCheckpoint(getattr(error, "strerror", None) or f"{type(error).__name__}: {error}") from error


# --- tensors of a model and its optimizer ----------------------------------------------------------------------------


def weights_of(model: torch.nn.Module, wanted: bool = True) -> dict[str, torch.Tensor]:
    """A copy of every parameter, shared ones once, in main memory. Sharded ones are put together again, for which all
    processes have to come here; those by whom it isn't `wanted` get nothing."""
    return _copies(model.named_parameters(), wanted)


def optimizer_state(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, wanted: bool = True
) -> dict[str, torch.Tensor]:
    """A copy of what the optimizer remembers, as `name/key`, in the same way."""
    names: dict[Any, str] = {parameter: name for name, parameter in model.named_parameters()}
    states = ((f"{names[p]}/{key}", value) for p, state in optimizer.state.items() for key, value in state.items())
    return _copies(states, wanted)


def restore(model: torch.nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Put the values of a checkpoint into a model and its optimizer, on any number of processes.

    Raises:
        DamagedCheckpoint: its names or shapes aren't those of the model.
    """
    parameters = dict(model.named_parameters())
    if {n: p.shape for n, p in parameters.items()} != {n: t.shape for n, t in checkpoint.weights.items()}:
        raise DamagedCheckpoint("its weights aren't those of the model")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_like(checkpoint.weights[name], parameter))
    fused = bool(optimizer.defaults.get("fused"))
    for path, value in checkpoint.optimizer.items():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        if key == "step":  # a plain number, beside the weights only where one kernel updates them
            optimizer.state[parameter][key] = value.to(parameter.device) if fused else value
        else:
            optimizer.state[parameter][key] = _like(value, parameter)


def _copies(tensors: Iterable[tuple[str, torch.Tensor]], wanted: bool) -> dict[str, torch.Tensor]:
    copies = {}
    for name, tensor in tensors:
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if wanted:
            copies[name] = whole.detach().to("cpu", copy=True)
    return copies


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor as this process holds it: on its device, and only its shard where the parameter is sharded."""
    value = value.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return value


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk, so that a power cut can't undo it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
