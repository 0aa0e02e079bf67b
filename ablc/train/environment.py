"""What a run ran on: versions, machine and commit, so that two numbers can be compared or told apart."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from typing import Any

import torch

PACKAGES = ("ablc", "torch", "transformers", "tokenizers", "datasets", "numpy", "safetensors")


def environment(device: torch.device) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": describe_device(device),
        "cpu_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "commit": _commit(),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],  # noqa: PTH119
    }


def pick_device() -> torch.device:
    """The accelerator that is there, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")


def keep_freed_memory() -> None:
    """Have the C library keep what a step on the CPU frees for the next one, where it is glibc.

    By default it gives every tensor beyond some size back to the kernel, which clears its pages again for the next:
    that took up to a tenth of a step.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, 32 * 2**20)  # the most that glibc takes
        library.mallopt(trim_threshold, -1)


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


# Dense bf16 FLOP/s that the makers state, by the name that a device gives itself.
_PEAKS = {
    r"NVIDIA H200": 989e12,
    r"NVIDIA GH200 480GB": 989e12,
    r"NVIDIA H100 80GB HBM3": 989e12,
    r"NVIDIA H100 NVL": 835e12,
    r"NVIDIA H100 PCIe": 756e12,
    r"NVIDIA A100-(SXM4|PCIE)-\d+GB": 312e12,
    r"NVIDIA A100 80GB PCIe": 312e12,
    r"NVIDIA A10": 125e12,
    r"NVIDIA L40S": 362e12,
    r"NVIDIA L4": 121e12,
    r"NVIDIA GeForce RTX 4090": 165e12,
}


def peak_flops(name: str) -> float | None:
    """The most bf16 FLOP/s that a device of this name can do, None where that isn't known."""
    return next((peak for pattern, peak in _PEAKS.items() if re.fullmatch(pattern, name)), None)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> dict[str, Any] | None:
    """The commit of the working folder and whether it has changes; None outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"hash": head.stdout.strip(), "dirty": bool(status.stdout.strip())}
