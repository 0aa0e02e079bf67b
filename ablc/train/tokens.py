"""Texts as tokens, in a cache that is mapped and not read: made once, by whoever needs them first."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ablc.cache import replacing, write_atomically
from ablc.faults import reason_of
from ablc.train.baselines import Tokens
from ablc.train.corpus import DataError
from ablc.train.texts import PARTS, Part, Texts, file_hash
from ablc.train.tokenizer import Encoder

PIECE = 1 << 20  # characters that are tokenised together, and between two words about how far that is
ABANDONED = 3600.0  # seconds after which a half-written file is no living process's: those write all the time

# Of which part, how many bytes are tokenised, and what share of it that is where that is known.
Progress = Callable[[Part, int, float | None], None]


def quiet(part: Part, size: int, share: float | None) -> None:
    """Tells nobody how far tokenising is."""


@dataclass(frozen=True, eq=False)
class Stream:
    """A part as one row of tokens, with the UTF-8 bytes it had as text and the SHA-256 of its texts."""

    tokens: Tokens
    bytes: int
    hash: str


Streams = Mapping[Part, Stream]


def tokenise(folder: Path, texts: Texts, encoder: Encoder, progress: Progress) -> Streams:
    """Both parts as tokens: those that `folder` holds, else made and kept there, never more than a piece in memory.

    Where nothing can be kept they are held in memory. Raises DataError where the disk is too full for them, or the
    texts can't be read.
    """
    _sweep(folder)
    kept = _read(folder)
    if kept is not None:
        return kept

    def encoded() -> dict[Part, _Encoding]:
        return {part: _Encoding(texts, part, encoder, progress) for part in PARTS}

    try:
        _write(folder, encoded())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"tokens can't be kept in {folder}: {reason_of(error)}"
            raise DataError(message, "free some space there, or set ABLC_CACHE to a folder on another disk") from error
    return _read(folder) or {part: encoding.held() for part, encoding in encoded().items()}


class _Encoding:
    """A part on its way to tokens: rows of them, made as they are asked for, and so far its UTF-8 bytes and SHA-256."""

    def __init__(self, texts: Texts, part: Part, encoder: Encoder, progress: Progress) -> None:
        self.texts, self.part, self.encoder, self.progress = texts, part, encoder, progress
        self.bytes = 0
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[Tokens]:
        opened, count = self.texts.open(self.part), 0
        for batch in _pieces(opened.batches):
            for text in batch:
                data = text.encode()
                self.bytes += len(data)
                # The length too, since the same characters cut elsewhere are other tokens.
                self.digest.update(len(data).to_bytes(8, "little") + data)
            yield self.encoder.encode(batch, separated=self.texts.separated)
            count += len(batch)
            self.progress(self.part, self.bytes, opened.extent.share(self.bytes, count))

    def held(self) -> Stream:
        """All of it, in memory."""
        tokens = np.concatenate([np.zeros(0, self.encoder.dtype), *self])
        return Stream(tokens, self.bytes, self.digest.hexdigest())


def _pieces(batches: Iterable[list[str]]) -> Iterator[list[str]]:
    """The same texts in lists of no more than about `PIECE` characters, or of one text that has more."""
    for batch in batches:
        start, size = 0, 0
        for end, text in enumerate(batch, 1):
            size += len(text)
            if size >= PIECE or end == len(batch):
                yield batch[start:end]
                start, size = end, 0


def _sweep(folder: Path) -> None:
    """Take away what a killed process left half-written."""
    with contextlib.suppress(OSError):
        for partial in folder.glob(".*.partial"):
            if time.time() - partial.stat().st_mtime > ABANDONED:
                partial.unlink()


def _write(folder: Path, encoded: Mapping[Part, _Encoding]) -> None:
    """Tokens first, then the index that vouches for them, so that a reader never trusts a part that isn't there yet.
    They are written as they come: no more than a piece of them is ever held."""
    index = {}
    for part, encoding in encoded.items():
        with replacing(folder / f"{part}.npy") as file:
            _write_row(file, encoding, encoding.encoder.dtype)
        index[part] = {
            "bytes": encoding.bytes,
            "hash": encoding.digest.hexdigest(),
            "file": file_hash(folder / f"{part}.npy"),
        }
    write_atomically(folder / "index.json", json.dumps(index).encode())


def _write_row(file: BinaryIO, pieces: Iterable[Tokens], dtype: Any) -> None:
    """One array in the format of numpy, which leaves room in the header for a count that isn't known yet."""
    count = 0
    _write_header(file, count, dtype)
    start = file.tell()
    for piece in pieces:
        file.write(np.ascontiguousarray(piece).data)
        count += len(piece)
    file.seek(0)
    _write_header(file, count, dtype)
    assert file.tell() == start


def _write_header(file: BinaryIO, count: int, dtype: Any) -> None:
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, about)


def _read(folder: Path) -> Streams | None:
    """What `_write` left, or None where anything of it is missing or damaged."""
    try:
        index = json.loads((folder / "index.json").read_bytes())
        return {part: _read_part(folder / f"{part}.npy", index[part]) for part in PARTS}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_part(path: Path, entry: Mapping[str, Any]) -> Stream:
    if file_hash(path) != entry["file"]:
        raise ValueError(f"{path} is damaged")
    return Stream(np.load(path, mmap_mode="r"), int(entry["bytes"]), str(entry["hash"]))
