"""Lets git show changes of specs better: hunk headers that say which model, and on request the meaning instead of the
text. Everything is written where only this clone sees it, and taken back without a trace."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ablc.cache import write_atomically
from ablc.review.revisions import Repository, RevisionError

ATTRIBUTES = "*.abl diff=ablc"
# Above a hunk git shows the last line before it that says what the changed lines are about.
HEADER = r"^[ \t]*((model|name|extends|vary)[ \t]*[=\" \t].*)$"
TEXTCONV = "ablc git show"


def enable(folder: Path, textconv: bool) -> Path:
    """Set git up for the repository around a folder; returns the attributes file. Raises RevisionError."""
    repository = Repository.around(folder)
    attributes = _attributes(repository)
    _config(repository, "diff.ablc.xfuncname", HEADER)
    _config(repository, "diff.ablc.textconv", TEXTCONV if textconv else None)
    lines = _lines(attributes)
    if ATTRIBUTES not in lines:
        _write(attributes, [*lines, ATTRIBUTES])
    return attributes


def disable(folder: Path) -> bool:
    """Take back all that `enable` set; whether there was anything. Raises RevisionError."""
    repository = Repository.around(folder)
    attributes = _attributes(repository)
    lines = _lines(attributes)
    kept = [line for line in lines if line != ATTRIBUTES]
    found = kept != lines
    if found and kept:
        _write(attributes, kept)
    elif found:
        attributes.unlink()
    for key in ("diff.ablc.xfuncname", "diff.ablc.textconv"):
        found = _config(repository, key, None) or found
    return found


def _attributes(repository: Repository) -> Path:
    """Attributes of this clone alone, in the folder that its work trees share."""
    place = subprocess.run(
        ["git", "-C", str(repository.root), "rev-parse", "--git-path", "info/attributes"],
        capture_output=True,
        text=True,
        check=True,
    )
    return repository.root / place.stdout.strip()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _write(path: Path, lines: list[str]) -> None:
    try:
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise RevisionError(f"{path} can't be written: {error.strerror or error}") from error


def _config(repository: Repository, key: str, value: str | None) -> bool:
    """Set a key of this clone's configuration, or take it out; whether that changed anything."""
    command = ["git", "-C", str(repository.root), "config", "--local"]
    command += ["--unset-all", key] if value is None else ["--replace-all", key, value]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 5):  # 5: there was none to take out
        raise RevisionError(f"git couldn't set {key}: {done.stderr.strip()}")
    if value is None and done.returncode == 0:  # an empty section would be left in the file
        left = subprocess.run(
            [*command[:5], "--get-regexp", r"^diff\.ablc\."], capture_output=True, text=True, check=False
        )
        if not left.stdout:
            subprocess.run([*command[:5], "--remove-section", "diff.ablc"], capture_output=True, check=False)
    return done.returncode == 0
