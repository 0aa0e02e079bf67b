"""Real `ablc` processes for tests: forked from one that has imported torch and transformers and done nothing yet, so
that each is there in a tenth of a second."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["ablc.cli.run", "ablc.cli.summary", "ablc.cli.progress", "ablc.train.runner", "ablc.train.work"]
)


def start(arguments: list[str], folder: Path, environment: Mapping[str, str], largest_file: int = 0) -> BaseProcess:
    """`ablc ARGUMENTS` in a folder, its output in `output.txt` there; no file may grow beyond `largest_file` bytes."""
    process = _context.Process(target=_ablc, args=(arguments, folder, dict(environment), largest_file))
    process.start()
    return process


def finish(process: BaseProcess, folder: Path, timeout: float = 120) -> tuple[int | None, str]:
    """The exit code of a process, and what has been said in its folder so far."""
    process.join(timeout)
    return process.exitcode, (folder / "output.txt").read_text()


def _ablc(arguments: list[str], folder: Path, environment: Mapping[str, str], largest_file: int) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["ablc", *arguments]
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.stdout = sys.stderr = (folder / "output.txt").open("a", buffering=1)
    from ablc.__main__ import main

    main()
