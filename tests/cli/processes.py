"""Runs `python -m ablc …` as whole processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SPECS = ROOT / "specs"


def ablc(*args: str | Path, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ablc", *map(str, args)]
    surroundings = {**os.environ, "PYTHONUTF8": "1", **env}
    return subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, text=True, timeout=60, check=False)


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def counted(*args: str | Path, cwd: Path = ROOT) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ablc("params", *args, "--format", "json", cwd=cwd).stdout)["specs"]
    return found
