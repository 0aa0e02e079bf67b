"""Reads a file into a `Source`, or says why it can't be a spec."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from ablc.faults import Fault, Source, Span, reason_of

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Instead:
    """What is read in place of the files on the disk: an editor's unsaved texts, or the files of a revision.

    `content` gives the bytes that stand for a file, None for one that is to be read where it is; it raises OSError
    where there is none. `shown` is how such a file is called, None for its path.
    """

    content: Callable[[Path], bytes | None] = lambda path: None
    shown: Callable[[Path], str | None] = lambda path: None


_NOTHING = Instead()
instead: ContextVar[Instead] = ContextVar("instead", default=_NOTHING)


def read(path: Path, faults: list[Fault], *, name: str | None = None, said_at: Span | None = None) -> Source | None:
    """The text of a spec file. A BOM is dropped and CRLF becomes LF; `said_at` is the statement that names the file."""
    name = name or str(path)
    try:
        data = instead.get().content(path)
        if data is None:
            obstacle = _obstacle(path.stat(), name)
            if obstacle is not None and said_at is None and path.is_dir() and not specs_in(path):
                obstacle = "no-spec", f"there is no spec (*.abl) in {name}"
            if obstacle is not None:
                faults.append(Fault(*obstacle, said_at))
                return None
            data = path.read_bytes()
        return decode(data, name, faults, folder=path.parent, said_at=said_at)
    except (OSError, ValueError) as error:
        faults.append(Fault("cannot-read", f"{name} can't be read: {reason_of(error)}", said_at))
        return None


def content(path: Path) -> bytes:
    """The bytes of a file, no more than a little over the most that one may have. Raises OSError."""
    data = instead.get().content(path)
    if data is not None:
        return data
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def is_file(path: Path) -> bool:
    """Whether there is a regular file; False too where the name can't be one."""
    try:
        return instead.get().content(path) is not None or path.is_file()
    except (OSError, ValueError):
        return False


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    if (name := instead.get().shown(path)) is not None:
        return name
    try:
        return str(identity(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def identity(path: Path) -> Path:
    """One path for one file, however it is reached."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return path


def specs_in(folder: Path) -> list[Path]:
    """The specs of a folder and those below it, sorted; hidden folders (`.venv`, `.git`) are left out. None where it
    can't be looked into."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if name.endswith(".abl")]
    return sorted(found)


def _obstacle(status: os.stat_result, name: str) -> tuple[str, str] | None:
    """Why a file can't be a spec, known before it is opened."""
    if stat.S_ISDIR(status.st_mode):
        return "not-a-file", f"{name} is a directory"
    if not stat.S_ISREG(status.st_mode):
        return "not-a-file", f"{name} is not a regular file"
    if status.st_size > MAX_BYTES:
        return "file-too-large", f"{name} has {status.st_size:,} bytes; a spec has at most {MAX_BYTES:,}"
    return None


def from_text(text: str, name: str, faults: list[Fault]) -> Source | None:
    """A text that comes from no file as a `Source`, held to what a file is held to."""
    return decode(text.encode("utf-8", "surrogatepass"), name, faults)


def decode(
    data: bytes, name: str, faults: list[Fault], *, folder: Path = Path(), said_at: Span | None = None
) -> Source | None:
    """Bytes as a `Source`; UTF-8 without NUL, or a fault that says where it isn't."""
    if len(data) > MAX_BYTES:
        message = f"{name} has {len(data):,} bytes; a spec has at most {MAX_BYTES:,}"
        faults.append(Fault("file-too-large", message, said_at))
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"{name} isn't UTF-8: byte {error.start} (line {line}) is 0x{data[error.start]:02x}"
        faults.append(Fault("not-utf8", message, said_at, "save it as UTF-8, or is it a binary file?"))
        return None
    source = Source(name, text.replace("\r\n", "\n"), folder)
    if (place := source.text.find("\0")) >= 0:
        span = Span(source, place, place + 1)
        faults.append(Fault("nul-byte", f"{name} contains a NUL byte", span, "is it a binary file?"))
        return None
    return source
