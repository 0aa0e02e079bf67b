"""Real `ablc` processes for tests: forked from one that has imported torch and transformers and done nothing yet, so
that each is there in a tenth of a second."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [f"ablc.cli.{name}" for name in ("run", "summary", "progress", "calibrate")]
    + [f"ablc.train.{name}" for name in ("runner", "work", "calibrate")]
)


def start(
    arguments: list[str],
    folder: Path,
    environment: Mapping[str, str],
    largest_file: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> BaseProcess:
    """`ablc ARGUMENTS` in a folder, its output in `output.txt` there; no file may grow beyond `largest_file` bytes.
    `settings` are values for constants of modules, `package.module:NAME`."""
    process = _context.Process(
        target=_ablc, args=(arguments, folder, dict(environment), largest_file, dict(settings or {}))
    )
    process.start()
    return process


def finish(process: BaseProcess, folder: Path, timeout: float = 120) -> tuple[int | None, str]:
    """The exit code of a process, and what has been said in its folder so far."""
    process.join(timeout)
    return process.exitcode, (folder / "output.txt").read_text()


def _ablc(
    arguments: list[str],
    folder: Path,
    environment: Mapping[str, str],
    largest_file: int,
    settings: Mapping[str, Any],
) -> None:
    for place, value in settings.items():
        module, _, name = place.partition(":")
        setattr(importlib.import_module(module), name, value)
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["ablc", *arguments]
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.stdout = sys.stderr = (folder / "output.txt").open("a", buffering=1)
    from ablc.__main__ import main

    main()
