"""Where ablc keeps what it can make again, and how it writes a file so that no one sees half of it."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ablc.faults import UserError, reason_of


def cache_dir() -> Path:
    """`$ABLC_CACHE`, else `$XDG_CACHE_HOME/ablc`, else `~/.cache/ablc`. It needn't exist."""
    if own := os.environ.get("ABLC_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ablc"


def write_atomically(path: Path, data: bytes, *, like: os.stat_result | None = None) -> None:
    """Write to a temporary file beside `path`, then rename it: a reader sees the old file or the new one, never a part.

    `like` is the status of a file whose permissions, and owner where that may be, the new one takes.

    Raises:
        OSError: the folder can't be made or written; nothing is left behind.
    """
    with replacing(path, like=like) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, like: os.stat_result | None = None) -> Iterator[BinaryIO]:
    """The same for content that comes piece by piece: a file to write to, which becomes `path` when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            if like is not None:
                _belong_like(partial, like)
            yield file
            file.flush()
            os.fsync(file.fileno())  # a power cut mustn't leave the new name with nothing behind it
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


class CannotWrite(UserError):
    """A file that can't be replaced where it is."""

    code = "cannot-write"


def replace_file(path: Path, data: bytes) -> None:
    """Give a file new content in one step, with the permissions that it has; through a link, that of the file it leads
    to. Raises CannotWrite."""
    try:
        there = path.resolve(strict=True)
        if not os.access(there, os.W_OK):  # replacing a file needs no right to write it, but ought to
            raise CannotWrite(f"{path} can't be written: it is read-only")
        write_atomically(there, data, like=there.stat())
    except OSError as error:
        raise CannotWrite(f"{path} can't be written: {reason_of(error)}") from error


def _belong_like(path: Path, like: os.stat_result) -> None:
    for owner in ((-1, like.st_gid), (like.st_uid, -1)):
        with contextlib.suppress(OSError, AttributeError):  # not everyone may give files away, and Windows can't
            os.chown(path, *owner)
    path.chmod(stat.S_IMODE(like.st_mode))
