"""Texts in two parts, from wherever they come: the built-in corpus here, files and the hub beside."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablc.faults import reason_of
from ablc.train.corpus import Corpus, DataError, Document

Part = Literal["train", "validation"]
PARTS: tuple[Part, ...] = ("train", "validation")
ROWS = 1000
WAY_OUT = 'take `train.data = "stdlib"`, or a folder with train.txt and validation.txt: `train.data = "./folder"`'


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a part is, in UTF-8 bytes or in rows; nothing where that isn't known before it is read."""

    bytes: int | None = None
    rows: int | None = None

    def share(self, bytes: int, rows: int) -> float | None:
        """What part of it the first so many bytes, or rows, are."""
        done, whole = (rows, self.rows) if self.bytes is None else (bytes, self.bytes)
        return min(1.0, done / whole) if whole else None


@dataclass(frozen=True, slots=True)
class Opened:
    """A part that is being read: its texts, a list at a time, always in the same order."""

    batches: Iterator[list[str]]
    extent: Extent


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts in two parts, not read yet.

    Attributes:
        key: names the content; equal keys mean equal texts on this machine.
        about: what a record says of them; has `hash` where that is known without reading.
        separated: whether an end-of-text token follows each text (documents) or not (lines of one long text).
        open: begins to read a part.
    """

    key: str
    about: Mapping[str, Any]
    separated: bool
    open: Callable[[Part], Opened]


def builtin_texts(corpus: Corpus) -> Texts:
    known = corpus.manifest
    documents = {"train": corpus.train, "validation": corpus.validation}
    extents = {"train": Extent(bytes=known.train_bytes), "validation": Extent(bytes=known.validation_bytes)}
    return Texts(known.hash, known.to_dict(), True, lambda part: Opened(_chunks(documents[part]), extents[part]))


def is_local(name: str) -> bool:
    return name.startswith((".", "/", "~"))


def local_path(name: str) -> Path:
    """Where a local name leads, from the root. Links stay: one may have the suffix that says what kind of file it is;
    and so does a user that nobody knows, which `Path` takes for an error."""
    return Path(os.path.abspath(os.path.expanduser(name)))  # noqa: PTH100, PTH111


def load(make: Callable[[Any], Any], name: str) -> Any:
    """What `make` makes of the package `datasets`, whose own log isn't heard; whatever it raises is a DataError."""
    import datasets

    datasets.utils.logging.set_verbosity(logging.CRITICAL)
    try:
        return make(datasets)
    except Exception as error:  # a dozen classes, among them bare ones: what matters is that these texts can't be had
        raise DataError(f"{name} can't be loaded: {reason_of(error)}", WAY_OUT) from error


def check_parts(found: Iterable[str], name: str) -> None:
    """Raises DataError unless both parts are there."""
    there = [str(part) for part in found]
    missing = [part for part in PARTS if part not in there]
    if missing:
        message = f"{name} has no {' and no '.join(missing)} part, only {', '.join(there) or 'nothing'}"
        raise DataError(message, "name its files train.… and validation.…, or take a data set that has both parts")


def rows(part: Any, name: str) -> Iterator[list[str]]:
    """The texts of a part that `datasets` reads, a list at a time. Raises DataError."""
    column = None
    try:
        for batch in part.iter(batch_size=ROWS):
            column = column or _text_column(batch, name)
            texts = ["" if value is None else value for value in batch[column]]
            if (other := next((text for text in texts if not isinstance(text, str)), None)) is not None:
                message = f"the column `{column}` of {name} holds {type(other).__name__}, not text"
                raise DataError(message, "name the column with the texts `text`")
            yield texts
    except DataError:
        raise
    except Exception as error:  # files are read only here where the data set is streamed: see `load`
        raise DataError(f"{name} can't be read: {reason_of(error)}", WAY_OUT) from error


def _text_column(batch: Mapping[str, list[Any]], name: str) -> str:
    strings = [column for column, values in batch.items() if any(isinstance(value, str) for value in values)]
    if "text" in batch:
        return "text"
    if len(strings) == 1:
        return strings[0]
    raise DataError(f"{name} has no column `text`, only {', '.join(batch)}", "name the column with the texts `text`")


def _chunks(documents: Iterable[Document]) -> Iterator[list[str]]:
    texts = [document.text for document in documents]
    for start in range(0, len(texts), ROWS):
        yield texts[start : start + ROWS]


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
