"""Texts of a folder or a file on this machine, read by `datasets`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ablc.faults import reason_of
from ablc.train.corpus import DataError
from ablc.train.texts import PARTS, WAY_OUT, Extent, Opened, Part, Texts, check_parts, file_hash, load, local_path, rows

_KINDS = {".txt": "text", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
# What a builder is called and where its files are; all other fields of its config say how these are read.
_PLACES = ("name", "version", "description", "data_dir", "data_files")
# Anywhere in a path `datasets` takes them for a pattern, or for a place inside of an archive.
_TAKEN = ("*", "?", "[", "]", "::")


def local_texts(name: str, documents: bool = False) -> Texts:
    """The texts of a folder with a train and a validation part, or of one file, of which the last twentieth of the rows
    is held out. Where `documents` are told apart, one is a row, or a whole file of plain text, whose rows are its lines
    otherwise.

    Raises:
        DataError: there is no such folder or file, it can't be read, or it hasn't both parts.
    """
    path = local_path(name)
    if not path.exists():
        raise DataError(
            f"there is no folder or file {name}", "a data folder has train.txt and validation.txt, or .jsonl"
        )
    if taken := next((sign for sign in _TAKEN if sign in str(path) + str(path.resolve())), None):
        raise DataError(f"{name} can't be read with `{taken}` in its path", "give it, or its folder, another name")
    texts = _file(path, name, documents) if path.is_file() else _folder(path, name, documents)
    return Texts(texts.key, {"name": name}, False, texts.open)


def _file(path: Path, name: str, documents: bool) -> _File:
    kind = _KINDS.get(path.suffix)
    if kind is None:
        known = ", ".join(_KINDS)
        raise DataError(f"{name} is none of {known}", "name a folder, or a file of one of these kinds")
    if documents and kind == "text":
        raise DataError(f"{name} is one document", "name a folder of texts, or a .jsonl file with one in each row")
    return _File(name, _with_text_options(kind, name, documents, data_files={"train": [str(path)]}))


def _folder(path: Path, name: str, documents: bool) -> _Folder:
    """Files of one kind, each in the part that its name or its folder's says."""
    builder = _with_text_options(str(path), name, documents)
    check_parts(builder.config.data_files or {}, name)
    return _Folder(name, builder)


def _with_text_options(source: str, name: str, documents: bool, **files: Any) -> Any:
    """A builder that reads plain text as it is meant; other readers refuse what is said to that one."""
    builder = _builder(source, name, **files)
    if builder.name != "text":
        return builder
    options: dict[str, Any] = {"sample_by": "document"} if documents else {"keep_linebreaks": True}
    if builder.config.encoding == "utf-8":  # a byte order mark is no part of a text
        options["encoding"] = "utf-8-sig"
    return _builder(source, name, **files, **options)


def _builder(source: str, name: str, **options: Any) -> Any:
    return load(lambda datasets: datasets.load_dataset_builder(source, **options), name)


def _stream(builder: Any, part: Part, name: str) -> Any:
    return load(lambda _: builder.as_streaming_dataset(split=part), name)


@dataclass(frozen=True)
class _Files:
    """What a builder of `datasets` reads. Streamed, so that nothing is copied into the cache of data sets."""

    name: str
    builder: Any

    def files(self, part: str) -> list[Path]:
        return [Path(file) for file in self.builder.config.data_files.get(part, ())]

    @property
    def options(self) -> dict[str, Any]:
        """How the files are read: what was said above, and what a folder says of itself."""
        config = self.builder.config
        return {one.name: getattr(config, one.name) for one in fields(config) if one.name not in _PLACES}

    @property
    def key(self) -> str:
        """Of all that decides the texts: how they are read, and the content of the files in their order. Raises
        DataError."""
        try:
            content = {part: [file_hash(file) for file in self.files(part)] for part in PARTS}
        except OSError as error:
            raise DataError(f"{error.filename or self.name} can't be read: {reason_of(error)}", WAY_OUT) from error
        decisive = [self.builder.name, repr(self.options), content]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()

    def read(self, part: Part, cut: Callable[[Any], Any] = lambda whole: whole) -> Iterator[list[str]]:
        """The texts of a part, or of a `cut` of it. Where they can't be read the first file that can't is named."""
        try:
            yield from rows(cut(_stream(self.builder, part, self.name)), self.name)
        except DataError as error:
            found = next(filter(None, map(self._fault, self.files(part))), None)
            if found is None:
                raise
            raise found from error

    def _fault(self, file: Path) -> DataError | None:
        """What is wrong with a file by itself, if anything."""
        name = str(file)
        try:
            alone = _builder(self.builder.name, name, data_files=name, **self.options)
            for _ in rows(_stream(alone, "train", name), name):
                pass
        except DataError as error:
            if isinstance(error.__cause__, UnicodeDecodeError):
                return DataError(f"{name} isn't UTF-8 text", "save it as UTF-8")
            return error
        return None


class _Folder(_Files):
    """Each part has files of its own."""

    def open(self, part: Part) -> Opened:
        extent = Extent()
        with contextlib.suppress(Exception):  # reading the part will say what is wrong with it
            extent = _extent_of(self.files(part))
        return Opened(self.read(part), extent)


class _File(_Files):
    """The parts are the first rows of a file, and its last twentieth, at least one."""

    def open(self, part: Part) -> Opened:
        count = self._count
        kept = count - max(1, count // 20)
        if kept < 1:
            message = f"{self.name} has {'one row' if count else 'no row'}, and can't be cut in two parts"
            raise DataError(message, "name a folder with train.txt and validation.txt, or a file of several rows")
        if part == "train":
            return Opened(self.read("train", lambda whole: whole.take(kept)), Extent(rows=kept))
        return Opened(self.read("train", lambda whole: whole.skip(kept)), Extent(rows=count - kept))

    @cached_property
    def _count(self) -> int:
        return sum(len(some) for some in self.read("train"))


def _extent_of(files: list[Path]) -> Extent:
    """Text is as long as its files; the texts in other files are shorter than these, but their rows can be counted."""
    kinds = {file.suffix for file in files}
    if kinds == {".txt"}:
        return Extent(bytes=sum(file.stat().st_size for file in files))
    if kinds == {".jsonl"}:
        return Extent(rows=sum(map(_lines, files)))
    if kinds == {".parquet"}:
        from pyarrow.parquet import read_metadata  # type: ignore[import-untyped]

        return Extent(rows=sum(read_metadata(file).num_rows for file in files))
    return Extent()


def _lines(path: Path) -> int:
    """How many lines a file has; far quicker than to tokenise it."""
    with path.open("rb") as file:
        return sum(1 for _ in file)
