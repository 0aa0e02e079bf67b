"""The built-in corpus: the running Python's own standard library, which every machine has without a download."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ablc.cache import cache_dir, write_atomically
from ablc.faults import UserError, reason_of

# Tests, tables, copies of other modules, and what isn't the library's own. With tables and copies in, up to a fifth of
# the validation part would stand in the training part too.
LEFT_OUT_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "encodings", "pydoc_data", "lib2to3", "distutils", "idlelib", "turtledemo"}
    | {"ensurepip", "site-packages", "dist-packages", "__pycache__"}
)
# What differs between two machines with the same Python: how it was built, what its owner put beside it.
LEFT_OUT_UNITS = re.compile(r"_sysconfigdata|config-|sitecustomize|usercustomize")

# Middle-sized units: a giant one would be the whole validation part, a tiny one says little.
SMALLEST_SHARE, LARGEST_SHARE = 0.0025, 0.012
EVERY, FIRST = 8, 4

GRAM = 13
_WORD = re.compile(r"\w+|[^\w\s]")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
Grams = npt.NDArray[np.uint64]


class DataError(UserError):
    """Data that can't be had or can't be used."""

    code = "no-data"


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its path below the library's root, with `/`, and its text with `\\n` at the ends of lines."""

    path: str
    text: str

    @property
    def unit(self) -> str:
        """The top-level package or module it belongs to, as it is imported."""
        return self.path.partition("/")[0].removesuffix(".py")

    @property
    def data(self) -> bytes:
        return self.text.encode()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a corpus is. Runs may be compared where `hash` is equal; `overlap` is a share of 1, bytes are UTF-8."""

    name: str
    python: str
    hash: str
    train_files: int
    train_bytes: int
    validation_files: int
    validation_bytes: int
    validation_units: tuple[str, ...]
    overlap: float

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "validation_units": list(self.validation_units)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Two disjoint sets of documents, both in the order of their paths. No unit has documents in both."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    manifest: Manifest


def builtin_corpus(root: Path | None = None) -> Corpus:
    """The standard library below `root` (by default the running Python's), split into training and validation.

    Raises:
        DataError: there is no source there (a stripped or zipped library), or too little of it to split.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    documents = tuple(_documents(root))
    held_out = validation_units(documents)
    if not held_out:
        message = f"there is too little Python source in {root} to make a corpus of"
        raise DataError(message, 'use a Python that has its standard library as files, or `train.data = "./folder"`')
    train = tuple(document for document in documents if document.unit not in held_out)
    validation = tuple(document for document in documents if document.unit in held_out)
    return Corpus(train, validation, _manifest(train, validation))


def validation_units(documents: Iterable[Document]) -> tuple[str, ...]:
    """The units that are held out, largest first: every eighth of those that have 0.25 to 1.2 % of all bytes.

    Sizes alone decide (names only between equals), so the same library is split the same way everywhere, and about a
    twentieth of the bytes is held out.
    """
    sizes: dict[str, int] = {}
    for document in documents:
        sizes[document.unit] = sizes.get(document.unit, 0) + len(document.data)
    total = sum(sizes.values())
    middle = [unit for unit, size in sizes.items() if SMALLEST_SHARE * total <= size <= LARGEST_SHARE * total]
    return tuple(sorted(middle, key=lambda unit: (-sizes[unit], unit))[FIRST::EVERY])


def _documents(root: Path) -> Iterator[Document]:
    """Every file of the corpus, in the order of its path; what isn't UTF-8 is left out."""
    for path in sorted(_paths(root), key=lambda path: path.relative_to(root).as_posix()):
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        except OSError as error:
            raise DataError(f"{path} can't be read: {reason_of(error)}", "let your user read this library") from error
        # Windows installs the library with its own ends of lines; one text must have one hash.
        yield Document(path.relative_to(root).as_posix(), text.replace("\r\n", "\n"))


def _paths(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in LEFT_OUT_FOLDERS]
        for name in files:
            path = Path(folder, name)
            if path.suffix == ".py" and not LEFT_OUT_UNITS.match(path.relative_to(root).parts[0]):
                yield path


def _manifest(train: tuple[Document, ...], validation: tuple[Document, ...]) -> Manifest:
    digest = _digest(train, validation)
    return Manifest(
        name="stdlib",
        python=platform.python_version(),
        hash=digest,
        train_files=len(train),
        train_bytes=sum(len(document.data) for document in train),
        validation_files=len(validation),
        validation_bytes=sum(len(document.data) for document in validation),
        validation_units=tuple(sorted({document.unit for document in validation})),
        overlap=_known_overlap(digest, train, validation),
    )


def _digest(train: Iterable[Document], validation: Iterable[Document]) -> str:
    """SHA-256 over the sorted list of (path, SHA-256 of the content, part)."""
    parts = {"train": train, "validation": validation}
    files = [(d.path, hashlib.sha256(d.data).hexdigest(), part) for part, ds in parts.items() for d in ds]
    return hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()


def _known_overlap(digest: str, train: Iterable[Document], validation: Iterable[Document]) -> float:
    """The overlap from the cache, else measured (about a second) and kept there. A damaged entry is measured again."""
    path = cache_dir() / "corpus" / f"overlap-{GRAM}-{digest[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        share = float(json.loads(path.read_bytes())["overlap"])
        if 0 <= share <= 1:
            return share
    share = overlap(train, validation)
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps({"overlap": share}).encode())
    return share


def overlap(train: Iterable[Document], validation: Iterable[Document]) -> float:
    """The share of the validation part's 13-grams that stand in the training part too.

    A word is a run of letters, digits and underscores, or one other character that isn't white space: about what
    Python's own tokenizer finds, in comments and docstrings as well. A gram is 13 such words in a row inside one file.
    Each place in the validation part counts once, a repeated gram as often as it stands there.
    """
    ids: dict[str, int] = {}
    known = _grams(train, ids)
    distinct, place = np.unique(_grams(validation, ids), return_inverse=True)
    if not len(distinct):
        return 0.0
    at = np.minimum(np.searchsorted(distinct, known), len(distinct) - 1)
    found = np.zeros(len(distinct), dtype=bool)
    found[at[distinct[at] == known]] = True
    return float(found[place].mean())


def _grams(documents: Iterable[Document], ids: dict[str, int]) -> Grams:
    """A 64-bit hash of each gram of each document; `ids` numbers the words and grows."""
    hashes = [_document_grams(document.text, ids) for document in documents]
    return np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)


def _document_grams(text: str, ids: dict[str, int]) -> Grams:
    words = np.array([ids.setdefault(word, len(ids) + 1) for word in _WORD.findall(text)], np.uint64)
    count = max(0, len(words) - GRAM + 1)
    hashes = np.zeros(count, np.uint64)
    for offset in range(GRAM):
        hashes = hashes * _MULTIPLIER + words[offset : offset + count]
    return hashes
