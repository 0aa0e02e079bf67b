"""Starts a command as several processes on this machine that find each other as under `torchrun`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

from ablc.cli.output import INTERRUPTED

GRACE = 20.0  # seconds that the others have once one has failed: they may wait for it for ever
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
WRITING = 900.0  # once one was interrupted: the first may still be writing a checkpoint


def launch(arguments: list[str], processes: int) -> int:
    """Run `ablc ARGUMENTS` in so many processes; the exit code is that of the first that failed, else 0."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    place |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // processes))
    started: list[subprocess.Popen[bytes]] = []
    # Ctrl-C reaches all of them from the terminal; they end by themselves, and this one waits.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN) != signal.SIG_IGN
    signal.signal(signal.SIGTERM, lambda number, frame: _send(started, signal.SIGTERM))
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-m", "ablc", *arguments]
        environment = {**os.environ, **place, **own}
        started.append(subprocess.Popen(command, env=environment, preexec_fn=lambda: _begin(heard)))
    return _wait(started)


def _begin(hears_ctrl_c: bool) -> None:
    """In each process before it becomes ours: it hears Ctrl-C as whoever started all this does, and on Linux the kernel
    asks it to stop, as SIGTERM does, once its parent is gone."""
    if hears_ctrl_c:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(started: list[subprocess.Popen[bytes]]) -> int:
    ended, since = 0, time.monotonic()
    while any(process.poll() is None for process in started):
        if ended in (0, INTERRUPTED) and (code := _ended(started)) != ended:
            ended, since = code, time.monotonic()
        if ended and time.monotonic() - since > (WRITING if ended == INTERRUPTED else GRACE):
            _send(started, signal.SIGKILL)
        time.sleep(0.1)
    code = ended if ended not in (0, INTERRUPTED) else _ended(started)
    return 128 - code if code < 0 else code  # as a shell says it of one that was killed


def _ended(started: list[subprocess.Popen[bytes]]) -> int:
    """The code of the first that failed, else of one that was interrupted, else 0."""
    codes = [process.poll() for process in started]
    return next((code for code in codes if code and code != INTERRUPTED), INTERRUPTED if INTERRUPTED in codes else 0)


def _send(started: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in started:
        if process.poll() is None:
            process.send_signal(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
