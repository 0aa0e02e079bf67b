"""Reads a file into a `Source`, or says why it can't be a spec."""

from __future__ import annotations

import stat
from pathlib import Path

from ablc.faults import Fault, Source, Span

MAX_BYTES = 1_000_000


def read(path: Path, faults: list[Fault], *, name: str | None = None, said_at: Span | None = None) -> Source | None:
    """The text of a spec file. A BOM is dropped and CRLF becomes LF; `said_at` is the statement that names the file."""
    name = name or str(path)

    def refuse(code: str, message: str, help: str | None = None) -> None:
        faults.append(Fault(code, message, said_at or Span(Source(name, ""), 0, 0), help))

    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return refuse("not-a-file", f"{name} is a directory", "name a .abl file in it")
        if not stat.S_ISREG(status.st_mode):
            return refuse("not-a-file", f"{name} is not a regular file")
        if status.st_size > MAX_BYTES:
            return refuse("file-too-large", f"{name} has {status.st_size:,} bytes; a spec has at most {MAX_BYTES:,}")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return refuse("cannot-read", f"{name} can't be read: {reason.lower()}")
    return decode(data, name, faults, folder=path.parent, said_at=said_at)


def decode(
    data: bytes, name: str, faults: list[Fault], *, folder: Path = Path(), said_at: Span | None = None
) -> Source | None:
    """Bytes as a `Source`; UTF-8 without NUL, or a fault that says where it isn't."""
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
