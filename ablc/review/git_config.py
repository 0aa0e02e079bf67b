"""Lets git show changes of specs better: hunk headers that say which model, and on request the meaning instead of the
text. Everything is written where only this clone sees it, and taken back without a trace."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from ablc.cache import write_atomically
from ablc.faults import reason_of
from ablc.review.revisions import Repository, RevisionError

ATTRIBUTES = "*.abl diff=ablc"
# Above a hunk git shows the last line before it that says what the changed lines are about.
HEADER = r"^[ \t]*((model|name|extends|vary)[ \t]*[=\" \t].*)$"


def enable(folder: Path, textconv: bool) -> Path:
    """Set git up for the repository around a folder; returns the attributes file. Raises RevisionError."""
    repository = Repository.around(folder)
    attributes = _attributes(repository)
    _config(repository, "diff.ablc.xfuncname", HEADER)
    _config(repository, "diff.ablc.textconv", _textconv() if textconv else None)
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


def _textconv() -> str:
    """What git runs with the name of a file behind it. Where ablc can't be run any more, git goes on with the text: a
    failing command would end every diff."""
    own = Path(sys.argv[0])
    command = shlex.quote(str(own.resolve())) if own.name == "ablc" else f"{shlex.quote(sys.executable)} -m ablc"
    return f'f() {{ {command} git show "$1" 2>/dev/null || cat "$1"; }}; f'


def _attributes(repository: Repository) -> Path:
    """Attributes of this clone alone, in the folder that its work trees share."""
    place = subprocess.run(
        ["git", "-C", str(repository.root), "rev-parse", "--git-path", "info/attributes"],
        capture_output=True,
        text=True,
        check=True,
    )
    return repository.root / place.stdout.removesuffix("\n")


def _lines(path: Path) -> list[str]:
    """Of whatever encoding: they are patterns of file names."""
    text = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
    return text.removesuffix("\n").split("\n") if text else []


def _write(path: Path, lines: list[str]) -> None:
    try:
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise RevisionError(f"{path} can't be written: {reason_of(error)}") from error


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
