"""The weights of a base model where it lies: a local directory or the hub, safetensors only, a tensor at a time.

Names in a file aren't always those in the model: GPT-NeoX's head is `embed_out` there (the family's part says so as an
alias), and a checkpoint of the model without its head lacks the first word of every name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ablc.bases.hub import hub_answers, hub_id
from ablc.blueprint import Blueprint, Tied
from ablc.faults import UserError
from ablc.patching.patch import shapes_of
from ablc.spec import Spec

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
FLOATS = {"F64", "F32", "F16", "BF16"}
NAMED = 3  # so many names stand in a message; thousands may be wrong at once

# What older files hold beside the weights: masks and rotary frequencies, which transformers computes itself today.
_BUFFERS = re.compile(r"(^|\.)(rotary_emb\.inv_freq|attention\.(bias|masked_bias))$")


class CheckpointError(UserError):
    """Pretrained weights that can't be had, or don't fit."""

    code = "no-weights"


def weights_source(spec: Spec) -> str:
    """Where the weights of a spec's base lie: the local directory that it names, as a path from here, else the hub id.

    Raises CheckpointError where the spec and a file that it extends could both mean a directory of theirs.
    """
    if not spec.model.startswith((".", "/")):
        return hub_id(spec.model)
    folders = {(Path(name).parent / spec.model).resolve() for name in spec.sources}
    found = sorted(str(folder) for folder in folders if (folder / "config.json").is_file())
    if len(found) > 1:
        message = f"{spec.model} may be {' or '.join(found)}"
        raise CheckpointError(message, "name the base by its whole path")
    return found[0] if found else str(Path(spec.model).resolve())


class _Folder:
    """A local directory."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path

    def has(self, file: str) -> bool:
        return (self._path / file).is_file()

    def get(self, file: str) -> Path:
        if not self.has(file):
            raise CheckpointError(f"{self.name} has no {file}, which its index names", "copy the whole checkpoint")
        return self._path / file


class _Hub:
    """A model on the hub: its files are taken from the local cache, and only those that are asked for are fetched."""

    def __init__(self, name: str) -> None:
        self.name = name

    def has(self, file: str) -> bool:
        return self._cached(file) is not None or (not self._is_cached and file in self._listing)

    def get(self, file: str) -> Path:
        from huggingface_hub import hf_hub_download

        cached = self._cached(file)
        if cached is not None:
            return cached
        self._ask()
        try:
            return Path(hf_hub_download(self.name, file))
        except Exception as error:  # which HTTP client raises, and so what, differs between versions of the hub library
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise CheckpointError(f"{file} of `{self.name}` can't be fetched: {reason}") from error

    def _cached(self, file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(self.name, file)
        except HFValidationError:
            return None
        return Path(found) if isinstance(found, str) else None

    @cached_property
    def _is_cached(self) -> bool:
        return any(self._cached(file) for file in (SINGLE, INDEX))

    @cached_property
    def _listing(self) -> list[str]:
        from huggingface_hub import HfApi

        self._ask()
        return list(HfApi().list_repo_files(self.name))

    def _ask(self) -> None:
        answers, why = hub_answers("model", self.name)
        if not answers:
            help = "name a local directory with config.json and model.safetensors as the model, or train from scratch"
            raise CheckpointError(f"the weights of `{self.name}` can't be had: {why}", help)


class Checkpoint:
    """An open checkpoint of a base, its tensors under the names they have in the model. A context manager.

    Raises CheckpointError where there are no safetensors, or they can't be those of this base.
    """

    def __init__(self, source: str | Path, original: Blueprint) -> None:
        is_local = isinstance(source, Path) or source.startswith((".", "/"))
        self._place: _Folder | _Hub = _Folder(Path(source)) if is_local else _Hub(str(source))
        self._open = ExitStack()
        self._files: dict[str, Any] = {}
        self._home = self._names_by_file()
        self._stored = _by_live_name(self._home, original)
        _refuse_unknown(self._stored, original, self._place.name)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise CheckpointError unless all of these tensors are there, in these shapes and as floating-point numbers.
        Nothing is read but the heads of the files."""
        missing = sorted(name for name in shapes if name not in self._stored)
        if missing:
            help = "is it another model's, or a part of one?"
            raise CheckpointError(f"{self._place.name} lacks {_listed(missing)}", help)
        wrong = {name: self._mismatch(name, shape) for name, shape in shapes.items()}
        found = [f"{name} {what}" for name, what in sorted(wrong.items()) if what]
        if found:
            raise CheckpointError(f"{self._place.name} doesn't fit the plan's base: {_listed(found)}")

    def read(self, name: str) -> torch.Tensor:
        """One tensor, on the CPU, as it is stored. Raises CheckpointError where a number isn't finite."""
        stored = self._stored[name]
        try:
            values: torch.Tensor = self._file(stored).get_tensor(stored)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{stored} of {self._place.name} can't be read: {error}") from error
        if not bool(torch.isfinite(values).all()):
            raise CheckpointError(f"{stored} of {self._place.name} holds numbers that aren't finite")
        return values

    def _mismatch(self, name: str, shape: tuple[int, ...]) -> str:
        stored = self._stored[name]
        try:
            slice_ = self._file(stored).get_slice(stored)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{stored} of {self._place.name} can't be read: {error}") from error
        real, dtype = tuple(slice_.get_shape()), slice_.get_dtype()
        if real != shape:
            return f"is {_shown(real)} and not {_shown(shape)}"
        return "" if dtype in FLOATS else f"is {dtype}: quantised weights can't be taken apart"

    def _names_by_file(self) -> dict[str, str]:
        """The file of each stored tensor."""
        if self._place.has(SINGLE):
            return dict.fromkeys(self._opened(SINGLE).keys(), SINGLE)
        if self._place.has(INDEX):
            return _read_index(self._place.get(INDEX), self._place.name)
        name = self._place.name
        if any(self._place.has(file) for file in PICKLES):
            message = f"{name} holds pickled weights only, and those can run code when they are read"
            raise CheckpointError(message, f"write them again with transformers: save_pretrained makes {SINGLE}")
        raise CheckpointError(f"{name} has no {SINGLE}", "a checkpoint is a directory, or a hub id, with safetensors")

    def _file(self, stored: str) -> Any:
        return self._opened(self._home[stored])

    def _opened(self, file: str) -> Any:
        if file not in self._files:
            path = self._place.get(file)
            try:
                self._files[file] = self._open.enter_context(safe_open(str(path), framework="pt", device="cpu"))
            except (OSError, SafetensorError) as error:
                help = "it is damaged, or was copied in part"
                raise CheckpointError(f"{file} of {self._place.name} is no safetensors file: {error}", help) from error
        return self._files[file]


def _read_index(path: Path, name: str) -> dict[str, str]:
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        plain = all(isinstance(file, str) and Path(file).name == file for file in files.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{INDEX} of {name} is no index of files: {error!r}") from error
    if not plain:
        raise CheckpointError(f"{INDEX} of {name} names a file outside the checkpoint")
    return dict(files)


def _by_live_name(stored: Iterable[str], original: Blueprint) -> dict[str, str]:
    """The stored name of each tensor by the name it has in the model."""
    known = shapes_of(original)
    aliases = {f"{alias}.": f"{part.path}." for part in original.root.parts for alias in part.aliases}
    tied = {f"{part.path}.": f"{part.node.to}." for part in original.root.parts if isinstance(part.node, Tied)}
    first = original.layers_path.partition(".")[0]
    live = {}
    for name in stored:
        own = next((new + name[len(old) :] for old, new in aliases.items() if name.startswith(old)), name)
        live[f"{first}.{own}" if own not in known and f"{first}.{own}" in known else own] = name
    for head, owner in tied.items():  # a tied pair may be stored under either of its names, or under both
        if f"{head}weight" in live:
            name = live.pop(f"{head}weight")
            live.setdefault(f"{owner}weight", name)
    return live


def _refuse_unknown(live: Mapping[str, str], original: Blueprint, name: str) -> None:
    """Weights that the base hasn't mean that it is another one. Layers beyond an overridden depth are left out."""
    known, layer = shapes_of(original), re.compile(re.escape(original.layers_path) + r"\.(\d+)\.")
    unknown = []
    for own, stored in live.items():
        beyond = layer.match(own)
        too_deep = beyond is not None and int(beyond[1]) >= len(original.layers)
        if own not in known and not too_deep and not _BUFFERS.search(own):
            unknown.append(stored)
    if unknown:
        message = f"{name} holds weights that the plan's base hasn't: {_listed(sorted(unknown))}"
        raise CheckpointError(message, "is it another model's, or do overrides of the config take them away?")


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - NAMED:,} more" if len(items) > NAMED else ""
    return ", ".join(items[:NAMED]) + more


def _shown(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "a number"
