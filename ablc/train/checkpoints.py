"""Checkpoints of a run: written beside the training, whole or not at all, and believed only where their hash says so.

checkpoints/step-00000100/
    model.safetensors      the weights, under their names in the model
    optimizer.safetensors  what AdamW remembers of each: `name/exp_avg`, `name/exp_avg_sq`, `name/step`
    state.json             the step, the evaluations so far, of which plan, and the XXH3 hash of each file

Where the model is sharded each process writes its shares of both, `shard-00001-….safetensors`, with their places in
the whole (`torch.distributed.checkpoint` in its safetensors format). Both are read alike, by any number of processes.

Nothing else is needed to go on: the data and all that is random in a step are functions of the seed and the step.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from ablc.faults import reason_of
from ablc.train.workers import Workers

WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
Tensors = Mapping[str, torch.Tensor]
ALONE = Workers(torch.device("cpu"))


class DamagedCheckpoint(Exception):
    """A checkpoint that can't be believed, and why."""


@dataclass(frozen=True)
class Checkpoint:
    """One whose files have their hashes: `facts` is what was saved beside the tensors."""

    step: int
    folder: Path
    facts: Mapping[str, Any]


class Checkpoints:
    """Those of one run, of which the last `keep` are kept. A failed write is told; it doesn't end the run.

    `writers` are the processes that write together where the model is sharded, with a group of their own.
    """

    def __init__(self, folder: Path, keep: int, tell: Callable[[str], None], writers: Workers = ALONE) -> None:
        self.folder = folder / "checkpoints"
        self.keep = keep
        self.tell = tell
        self.writers = writers
        self._writing: threading.Thread | None = None
        self._taken = threading.Event()
        self._taken.set()
        self._failed: str | None = None

    def save(self, step: int, weights: Tensors, optimizer: Tensors, facts: Mapping[str, Any]) -> None:
        """Write a checkpoint in a thread, after the one before it. The tensors mustn't change until `taken` returns."""
        self.wait()
        self._taken.clear()
        arguments = (step, weights, optimizer, {**facts, "step": step})
        self._writing = threading.Thread(target=self._write, args=arguments, name="checkpoint")
        self._writing.start()

    def taken(self) -> None:
        """Until the tensors that were given to `save` are in its files, wherever those are by then."""
        self._taken.wait()

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

    def _folders(self) -> list[Path]:
        """Finished ones, newest first."""
        named = [one for one in self.folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", one.name)]
        return sorted(named, key=lambda one: int(one.name.removeprefix("step-")), reverse=True)

    def _write(self, step: int, weights: Tensors, optimizer: Tensors, facts: Mapping[str, Any]) -> None:
        partial = self.folder / ".partial"
        try:
            self.writers.first_does(lambda: _renew(partial))
            files = write(partial, weights, optimizer, self.writers, self._taken.set)
            self.writers.first_does(lambda: self._publish(step, {**facts, "files": files}))
        except (Exception, CheckpointException) as error:  # whatever it is: a run isn't ended by its checkpoint
            if self.writers.is_first:
                shutil.rmtree(partial, ignore_errors=True)
            self._failed = f"the checkpoint of step {step} couldn't be written: {_reason(error)}; it goes on without it"
        finally:
            self._taken.set()

    def _publish(self, step: int, content: Mapping[str, Any]) -> None:
        """Say what the files are, and only then give them the name of a checkpoint."""
        partial, final = self.folder / ".partial", self.folder / f"step-{step:08d}"
        text = json.dumps({**content, "hash": _hash_of(content)}, indent=2)
        (partial / STATE).write_text(text, encoding="utf-8")
        _sync(partial / STATE)
        with contextlib.suppress(FileNotFoundError):
            _sync(self.folder.parent / "metrics.jsonl")  # the steps before it won't be taken again
        _sync(partial)
        shutil.rmtree(final, ignore_errors=True)  # one that was found damaged
        partial.rename(final)
        _sync(self.folder)
        for old in self._folders()[self.keep :]:
            shutil.rmtree(old, ignore_errors=True)


def _renew(folder: Path) -> None:
    _clear(folder)
    folder.mkdir(parents=True)


def _clear(partial: Path) -> None:
    """Take away what was left half done: a file, or a folder where several processes wrote."""
    shutil.rmtree(partial, ignore_errors=True)
    with contextlib.suppress(OSError):
        partial.unlink()


def _reason(error: BaseException) -> str:
    """In a few words; of several processes that failed, the first one's."""
    if isinstance(error, CheckpointException):
        error = next((one for one, _ in error.failures.values()), error)
    return reason_of(error)


def write(
    folder: Path, weights: Tensors, optimizer: Tensors, writers: Workers, taken: Callable[[], object]
) -> dict[str, str]:
    """Write the tensors of a checkpoint; the files, on the disk when this returns, with their hashes. `taken` is called
    once the tensors are no longer needed."""
    if writers.group is None:
        files = {folder / WEIGHTS: weights, folder / OPTIMIZER: optimizer}
        for file, tensors in files.items():
            _put(file, tensors)
        taken()
        for file in files:
            _sync(file)
        return {file.name: _hash(file) for file in files}
    writer = _shares_writer(folder)
    save({**weights, **optimizer}, storage_writer=writer, process_group=writers.group)
    taken()
    own = sorted(folder.glob("*.safetensors"))[writers.rank :: writers.size]
    hashes: dict[str, str] = {}
    for part in writers.gather(_hashes(own)):
        if isinstance(part, OSError):
            raise part
        hashes |= part
    return hashes


def _shares_writer(folder: Path, *, enable_consolidation: bool = False) -> HuggingFaceStorageWriter:
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True, enable_consolidation=enable_consolidation)
    # The shares are in main memory. Where there is a GPU it would wait, every 10 MB, for all that trains there.
    writer.per_thread_copy_ahead = 0
    return writer


def _hashes(files: list[Path]) -> dict[str, str] | OSError:
    """By name; an error is told to the other processes, which wait."""
    try:
        return {file.name: _hash(file) for file in files}
    except OSError as error:
        return error


def _put(path: Path, tensors: Tensors) -> None:
    """A safetensors file with the rights that any new file has here; safetensors gives it to its owner alone."""
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(mode)


def has_weights(folder: Path) -> bool:
    """Whether the weights of a finished run are there, and whole as far as their header says."""
    try:
        with safe_open(folder / WEIGHTS, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def save_weights(weights: Tensors, folder: Path, writers: Workers = ALONE) -> None:
    """Write `model.safetensors`, under the names in the model. Where the weights are sharded all processes come here:
    each writes its shares, and the first puts them together, one tensor at a time.

    Raises:
        OSError: in all of them; nothing is left behind then.
    """
    partial = folder / ".model.safetensors.partial"
    try:
        if writers.group is None:
            _clear(partial)
            _put(partial, weights)
            _sync(partial)
            partial.replace(folder / WEIGHTS)
        else:
            writers.first_does(lambda: _renew(partial))
            writer = _shares_writer(partial, enable_consolidation=True)
            save({**weights}, storage_writer=writer, process_group=writers.group)
            writers.first_does(lambda: _take(partial, folder / WEIGHTS))
    except (OSError, SafetensorError, CheckpointException) as error:
        _clear(partial)
        raise OSError(f"the weights could not be saved: {_reason(error)}") from error


def _take(partial: Path, file: Path) -> None:
    """The one file that all shares were put together in."""
    (made,) = partial.glob("*.safetensors")
    _sync(made)
    made.replace(file)
    shutil.rmtree(partial)


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
        return Checkpoint(facts["step"], folder, facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(reason_of(error)) from error


# --- tensors of a model and its optimizer ----------------------------------------------------------------------------


def weights_of(model: torch.nn.Module, writers: Workers = ALONE, copy: bool = False) -> dict[str, torch.Tensor]:
    """Every parameter, shared ones once, in main memory; of what is sharded, the share of this process. What is there
    already is a `copy` where that is asked for, else what the model itself holds."""
    mesh = DeviceMesh.from_group(writers.group, "cpu") if writers.group is not None else None
    return {name: _here(parameter, mesh, copy) for name, parameter in model.named_parameters()}


def state_of(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, writers: Workers
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """`weights_of` a model, and the same of what the optimizer remembers, as `name/key`."""
    mesh = DeviceMesh.from_group(writers.group, "cpu") if writers.group is not None else None
    names: dict[Any, str] = {parameter: name for name, parameter in model.named_parameters()}
    states = ((f"{names[p]}/{key}", value) for p, state in optimizer.state.items() for key, value in state.items())
    return weights_of(model, writers), {name: _here(value, mesh, False) for name, value in states}


def restore(model: torch.nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Put the values of a checkpoint into a model and its optimizer, on any number of processes; each reads its shares.

    Raises:
        DamagedCheckpoint: its names or shapes aren't those of the model.
    """
    parameters = dict(model.named_parameters())
    try:
        there = _reader(checkpoint).read_metadata().state_dict_metadata.items()
        shapes = {name: found.size for name, found in there if isinstance(found, TensorStorageMetadata)}
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpoint(_reason(error)) from error
    if {name: p.shape for name, p in parameters.items()} != {n: shape for n, shape in shapes.items() if "/" not in n}:
        raise DamagedCheckpoint("its weights aren't those of the model")
    values: dict[str, torch.Tensor] = {name: parameter.detach() for name, parameter in parameters.items()}
    fused = bool(optimizer.defaults.get("fused"))
    for path in shapes.keys() - parameters.keys():
        name, _, key = path.rpartition("/")
        parameter = parameters[name]
        # A step is a plain number, beside the weights only where one kernel updates them.
        step = torch.zeros((), device=parameter.device if fused else "cpu")
        values[path] = optimizer.state[parameter][key] = step if key == "step" else torch.zeros_like(parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no process is asked what it reads: each knows
        try:
            load(values, storage_reader=_reader(checkpoint), no_dist=True)
        except CheckpointException as error:
            raise DamagedCheckpoint(_reason(error)) from error


def _reader(checkpoint: Checkpoint) -> HuggingFaceStorageReader:
    return HuggingFaceStorageReader(str(checkpoint.folder))


def _here(tensor: torch.Tensor, mesh: DeviceMesh | None, copy: bool) -> torch.Tensor:
    """In main memory; of a sharded tensor the share of this process, on a mesh there."""
    if not isinstance(tensor, DTensor):
        return tensor.detach().to("cpu", copy=copy)
    assert mesh is not None
    own = tensor.to_local().detach().to("cpu", copy=copy)
    return DTensor.from_local(own, mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        # It is about damage, not about forgery; twenty times as fast as SHA-256, beside steps that want all cores.
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _hash_of(content: Mapping[str, Any]) -> str:
    return str(xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True).encode()))


def _sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk, so that a power cut can't undo it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
