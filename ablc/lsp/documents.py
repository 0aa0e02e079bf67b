"""The documents that an editor has open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ablc.language.read import identity, shown
from ablc.lsp.positions import Place, replaced


@dataclass(frozen=True, eq=False)
class Document:
    """One version of an open text. `path` is None for one that isn't a file; relative paths in it count from
    `folder`."""

    uri: str
    version: int | None
    text: str
    path: Path | None
    folder: Path

    @property
    def name(self) -> str:
        """What the text is called where a sentence speaks of it: as short as its path can be said from here."""
        return shown(self.path) if self.path is not None else self.uri.rpartition(":")[2] or self.uri

    @property
    def has_bom(self) -> bool:
        return self.text.startswith("\ufeff")


@dataclass(frozen=True)
class Edit:
    """What becomes of a text: all of it is replaced, or what stands between two places."""

    text: str
    between: tuple[Place, Place] | None = None


class Documents:
    """What is open, by URI. Written by one thread; a reader in another sees one version or the next."""

    def __init__(self) -> None:
        self._open: dict[str, Document] = {}

    def put(self, document: Document) -> None:
        self._open[document.uri] = document

    def change(self, uri: str, version: int | None, edits: Iterable[Edit], encoding: str) -> Document | None:
        """Apply edits one after the other; None where nothing of this URI is open."""
        document = self._open.get(uri)
        if document is None:
            return None
        text = document.text
        for edit in edits:
            text = edit.text if edit.between is None else replaced(text, *edit.between, edit.text, encoding)
        self._open[uri] = replace(document, text=text, version=version)
        return self._open[uri]

    def close(self, uri: str) -> Document | None:
        return self._open.pop(uri, None)

    def get(self, uri: str) -> Document | None:
        return self._open.get(uri)

    def is_current(self, document: Document) -> bool:
        return self._open.get(document.uri) is document

    def all(self) -> tuple[Document, ...]:
        return tuple(self._open.values())

    def texts(self) -> dict[Path, str]:
        """What is read in place of files, by resolved path."""
        return {identity(document.path): document.text for document in self.all() if document.path is not None}
