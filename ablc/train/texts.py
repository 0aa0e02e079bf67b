"""Where texts come from: the built-in corpus, a local folder, or a data set of the Hugging Face hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ablc.bases.hub import hub_answers, hub_revision
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


def dataset_texts(
    recipe_data: str, streaming: bool = False, documents: bool = False, revision: str | None = None
) -> Texts:
    """The texts of a local folder (`./…`, `/…`) or of a hub data set (`owner/name`, `owner/name:config`), which is
    copied into the cache of data sets unless it is read `streaming`, at its newest commit or at `revision`. Where
    `documents` are told apart, one is a row, or a whole file of plain text, whose rows are its lines otherwise.

    Raises:
        DataError: no such folder or data set, no network within a few seconds, or no train and validation parts.
    """
    if is_local(recipe_data):
        return _local_texts(recipe_data, documents)
    return _streamed_texts(recipe_data, revision) if streaming else _hub_texts(recipe_data)


def is_local(name: str) -> bool:
    return name.startswith((".", "/"))


def reachable(recipe_data: str) -> tuple[bool, str]:
    """Whether the texts can be had now, and why, within about three seconds; nothing is downloaded."""
    if recipe_data == "stdlib":
        return True, "the standard library of this Python is there"
    if is_local(recipe_data):
        found = Path(recipe_data).exists()
        return found, f"{recipe_data} {'is there' if found else 'is not there'}"
    name, _, config = recipe_data.partition(":")
    if _is_cached(name, config):
        return True, f"{recipe_data} is in the local cache of data sets"
    return hub_answers("dataset", name)


def _local_texts(name: str, documents: bool) -> Texts:
    """A folder with a train and a validation part, or one file, of which the last twentieth of the rows is held out."""
    path = Path(name)
    if not path.exists():
        raise DataError(
            f"there is no folder or file {name}", "a data folder has train.txt and validation.txt, or .jsonl"
        )
    if documents and path.is_file() and path.suffix == ".txt":
        raise DataError(f"{name} is one document", "name a folder of texts, or a .jsonl file with one in each row")
    if path.is_file() and path.suffix not in _KINDS:
        known = ", ".join(_KINDS)
        raise DataError(f"{name} is none of {known}", "name a folder, or a file of one of these kinds")
    try:
        inside = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
        files = [path] if path.is_file() else inside
        content = [(one.relative_to(path).as_posix(), file_hash(one)) for one in files]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{error.filename or name} can't be read: {reason}", WAY_OUT) from error
    key = hashlib.sha256(json.dumps([content, documents]).encode()).hexdigest()
    parts = _FileParts(path) if path.is_file() else _FolderParts(path, documents)
    return Texts(key, {"name": name}, False, lambda part: Opened(_rows(parts.load(part), name), parts.extent(part)))


_KINDS = {".txt": "text", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class _FolderParts:
    """Both parts of a folder. Streamed, so that nothing is copied into the cache of data sets."""

    path: Path
    documents: bool

    def load(self, part: Part) -> Any:
        return _load(str(self.path), None, streaming=True, **self._options)[part]

    def extent(self, part: Part) -> Extent:
        import datasets

        with contextlib.suppress(Exception):  # reading the part will say what is wrong with it
            builder = datasets.load_dataset_builder(str(self.path), **self._options)
            return _extent_of([Path(file) for file in builder.config.data_files[part]])
        return Extent()

    @cached_property
    def _options(self) -> dict[str, Any]:
        import datasets
        from datasets.packaged_modules.text.text import Text

        with contextlib.suppress(Exception):  # loading it will say what is wrong with it
            return _text_options(isinstance(datasets.load_dataset_builder(str(self.path)), Text), self.documents)
        return {}


@dataclass(frozen=True)
class _FileParts:
    """The first rows of a file, and its last twentieth, at least one."""

    path: Path

    def load(self, part: Part) -> Any:
        kept = self._count - self._held_out
        return self._all.take(kept) if part == "train" else self._all.skip(kept)

    def extent(self, part: Part) -> Extent:
        return Extent(rows=self._count - self._held_out if part == "train" else self._held_out)

    @cached_property
    def _all(self) -> Any:
        kind = _KINDS[self.path.suffix]
        options = _text_options(kind == "text", documents=False)
        return _load(kind, None, parts=("train",), data_files=str(self.path), streaming=True, **options)["train"]

    @cached_property
    def _count(self) -> int:
        return sum(len(some) for some in _rows(self._all, str(self.path)))

    @property
    def _held_out(self) -> int:
        return max(1, self._count // 20)


def _text_options(is_text: bool, documents: bool) -> dict[str, Any]:
    """Only the reader of plain text knows these options, and others refuse them."""
    if not is_text:
        return {}
    return {"sample_by": "document"} if documents else {"keep_linebreaks": True}


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


def _hub_texts(recipe_data: str) -> Texts:
    name, _, config = recipe_data.partition(":")
    found = _load_cached(name, config) if _is_cached(name, config) else _load_online(name, config)
    about = {
        "name": recipe_data,
        "dataset": name,
        "config": config or None,
        "fingerprint": "-".join(found[part]._fingerprint for part in PARTS),
        "revision": _revision(found["train"]),
    }
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def open(part: Part) -> Opened:
        return Opened(_rows(found[part], recipe_data), Extent(rows=found[part].num_rows))

    return Texts(key, about, False, open)


def _streamed_texts(recipe_data: str, revision: str | None) -> Texts:
    """Known by the commit they are read at: nothing of them is on this machine. Where that is known already the hub is
    asked for nothing before they are read, and so not at all where their tokens are in the cache."""
    name, _, config = recipe_data.partition(":")
    if revision is None:
        _check_hub(name)
        try:
            revision = hub_revision(name)
        except Exception as error:  # as in `_load`
            raise DataError(f"data set `{name}` can't be had: {_first_line(error)}", WAY_OUT) from error
    about = {"name": recipe_data, "dataset": name, "config": config or None, "revision": revision}
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def open(part: Part) -> Opened:
        found = _load(name, config or None, streaming=True, revision=revision)[part]
        said = (found.info.splits or {}).get(part)  # by whoever made the set, if at all
        return Opened(_rows(found, recipe_data), Extent(rows=said.num_examples if said else None))

    return Texts(key, about, False, open)


def _load_online(name: str, config: str) -> Mapping[str, Any]:
    _check_hub(name)
    return _load(name, config or None)


def _check_hub(name: str) -> None:
    answers, why = hub_answers("dataset", name)
    if not answers:
        raise DataError(f"data set `{name}` can't be had: {why}", WAY_OUT)


def _load_cached(name: str, config: str) -> Mapping[str, Any]:
    """From the local cache without asking the hub: a run with no network does what it did with one, and at once."""
    from datasets import config as settings

    before, settings.HF_HUB_OFFLINE = settings.HF_HUB_OFFLINE, True
    try:
        return _load(name, config or None)
    finally:
        settings.HF_HUB_OFFLINE = before


def _load(name: str, config: str | None, parts: tuple[Part, ...] = PARTS, **options: Any) -> Mapping[str, Any]:
    """All parts, by `datasets.load_dataset`; whatever that raises is a DataError."""
    import datasets

    try:
        found: Mapping[str, Any] = datasets.load_dataset(name, config, **options)
    except Exception as error:  # a dozen classes, among them bare ones: what matters is that these texts can't be had
        raise DataError(f"{name} can't be loaded: {_first_line(error)}", WAY_OUT) from error
    missing = [part for part in parts if part not in found]
    if missing:
        message = f"{name} has no {' and no '.join(missing)} part, only {', '.join(found) or 'nothing'}"
        raise DataError(message, "name its files train.… and validation.…, or take a data set that has both parts")
    return found


def _is_cached(name: str, config: str) -> bool:
    """Whether an earlier load left this data set on disk: `<cache>/owner___name/config/version/hash/*.arrow`."""
    from datasets import config as settings
    from datasets.naming import camelcase_to_snakecase

    *owner, last = name.split("/")
    folder = Path(settings.HF_DATASETS_CACHE).expanduser() / "___".join([*owner, camelcase_to_snakecase(last)])
    return any(folder.glob(f"{config or '*'}/*/*/*.arrow"))


def _revision(part: Any) -> str | None:
    """The commit a hub data set was taken from, which stands in the addresses of its files: `…@<40 hex digits>/…`."""
    for address in part.info.download_checksums or ():
        commit = str(address).rpartition("@")[2][:40]
        if len(commit) == 40 and set(commit) <= set("0123456789abcdef"):
            return commit
    return None


def _rows(part: Any, name: str) -> Iterator[list[str]]:
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
    except Exception as error:  # files are read only here where the data set is streamed: see `_load`
        raise DataError(f"{name} can't be read: {_first_line(error)}", WAY_OUT) from error


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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
