"""A finished run becomes a directory that `AutoModelForCausalLM.from_pretrained` loads."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ablc.exporting.finished import ExportError, Finished, read
from ablc.exporting.models import folded_model, quiet, replaced_model
from ablc.faults import reason_of
from ablc.train.corpus import DataError


def export(run: str | Path, directory: str | Path, *, folded: bool = False) -> Path:
    """Write the model of a finished run to a new or empty directory, with its tokenizer, and return the directory.

    `AutoModelForCausalLM.from_pretrained(directory)` gives the same model after `import ablc`, and without ablc with
    `trust_remote_code=True`. With `folded` it is a dense checkpoint of the stock class, for everything that reads
    those: low-rank products multiplied out, removed parts as zeros.

    Warns where the tokenizer can't be had. Raises ExportError where the run isn't finished, the directory isn't empty
    or can't be written, or (`folded`) no dense model computes the same; nothing is left behind then.
    """
    finished, folder = read(Path(run)), Path(os.path.abspath(directory))  # noqa: PTH100
    _check_empty(folder)
    model = folded_model(finished) if folded else replaced_model(finished)
    tokenizer = _tokenizer(finished)
    if tokenizer is not None:
        # What the base calls its special tokens needn't be what this tokenizer does.
        for config in (model.config, model.generation_config):
            config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    with _whole(folder) as partial, quiet():
        model.save_pretrained(partial)
        if tokenizer is not None:
            tokenizer.save_pretrained(partial)
    return folder


def _check_empty(folder: Path) -> None:
    try:
        taken = any(folder.iterdir()) if folder.is_dir() else folder.exists() or folder.is_symlink()
    except OSError as error:
        raise ExportError(f"{folder} can't be looked into: {reason_of(error)}") from error
    if taken:
        raise ExportError(f"{folder} isn't empty", "name a directory that is empty or doesn't exist")


def _tokenizer(run: Finished) -> Any:
    try:
        return run.tokenizer
    except DataError as error:
        warnings.warn(f"exported without a tokenizer: {error.message}", stacklevel=3)
        return None


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A directory that becomes `folder` at the end, or its content: nobody loads half a checkpoint."""
    there = folder.is_dir()  # then it may be somebody's working directory, or a volume of its own, and stays
    partial = (folder if there else folder.parent) / f".{folder.name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
        yield partial
        if there:
            for file in sorted(partial.iterdir(), key=lambda file: file.name == "config.json"):
                file.rename(folder / file.name)
        else:
            partial.rename(folder)
    except (OSError, SafetensorError) as error:  # safetensors has its own for a failed write
        raise ExportError(f"{folder} can't be written: {reason_of(error)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
