"""What these tests share: a scratch repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = 'model = "EleutherAI/pythia-70m"\n'
# `ablc` and its Python stand first, as in an activated environment.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "PATH": PATH, "NO_COLOR": "1", **env}
    words = list(map(str, command))
    return subprocess.run(words, cwd=cwd, env=surroundings, capture_output=True, text=True, check=False, timeout=120)


def git(folder: Path, *arguments: str) -> str:
    done = run("git", "-c", "user.name=n", "-c", "user.email=e@x", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def repository(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    commit(folder, **texts)
    return folder


def commit(folder: Path, **texts: str) -> str:
    """Write specs and commit them; the commit."""
    for name, text in texts.items():
        (folder / "specs").mkdir(exist_ok=True)
        (folder / "specs" / f"{name}.abl").write_text(MODEL + text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "specs")
    return git(folder, "rev-parse", "HEAD")
