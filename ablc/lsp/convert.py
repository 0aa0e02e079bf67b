"""Between the protocol's types and this package's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lsprotocol import types
from pygls.uris import from_fs_path, to_fs_path

from ablc.faults import Source, Span
from ablc.language.read import identity
from ablc.lsp.analysis import Analysis
from ablc.lsp.completion import Item, Offer
from ablc.lsp.definition import Definition
from ablc.lsp.diagnostics import Finding
from ablc.lsp.documents import Document, Edit
from ablc.lsp.edits import TextEdit
from ablc.lsp.hints import Hint, Symbol
from ablc.lsp.hover import Hover
from ablc.lsp.positions import Lines, Place

_SEVERITIES = {"error": types.DiagnosticSeverity.Error, "warning": types.DiagnosticSeverity.Warning}
_ITEM_KINDS = {
    "keyword": types.CompletionItemKind.Keyword,
    "slot": types.CompletionItemKind.Variable,
    "operation": types.CompletionItemKind.Function,
    "argument": types.CompletionItemKind.Property,
    "field": types.CompletionItemKind.Field,
    "key": types.CompletionItemKind.Property,
    "choice": types.CompletionItemKind.EnumMember,
    "measure": types.CompletionItemKind.Unit,
    "model": types.CompletionItemKind.Class,
    "file": types.CompletionItemKind.File,
    "folder": types.CompletionItemKind.Folder,
    "name": types.CompletionItemKind.Constant,
}
_SYMBOL_KINDS = {
    "text": types.SymbolKind.String,
    "model": types.SymbolKind.Class,
    "file": types.SymbolKind.File,
    "name": types.SymbolKind.Constant,
    "freeze": types.SymbolKind.Key,
    "key": types.SymbolKind.Property,
    "claim": types.SymbolKind.Boolean,
    "slot": types.SymbolKind.Function,
}


def path_of(uri: str) -> Path | None:
    """The file that a URI names; None for another kind of URI, and for what can't be a file's name."""
    try:
        path = to_fs_path(uri)
    except ValueError:
        return None
    return Path(path) if path else None


def uri_of(path: Path) -> str:
    return from_fs_path(str(path)) or ""


def document_of(item: types.TextDocumentItem, root: Path) -> Document:
    path = path_of(item.uri)
    return Document(item.uri, item.version, item.text, path, path.parent if path is not None else root)


def edit_of(change: types.TextDocumentContentChangeEvent) -> Edit:
    if isinstance(change, types.TextDocumentContentChangePartial):
        return Edit(change.text, (place_of(change.range.start), place_of(change.range.end)))
    return Edit(change.text)


def place_of(position: types.Position) -> Place:
    return Place(position.line, position.character)


class Pages:
    """Places in the document and in the files around it, as the editor counts them."""

    def __init__(self, analysis: Analysis, encoding: str) -> None:
        self._analysis, self._encoding = analysis, encoding
        self._lines: dict[str, Lines] = {}
        self.own = Lines(analysis.source.text, encoding, bom=analysis.document.has_bom)

    @property
    def line_end(self) -> str:
        """How the document ends its lines; LF where it does both."""
        text = self._analysis.document.text
        return "\r\n" if text.count("\r\n") == text.count("\n") > 0 else "\n"

    def offset(self, position: types.Position) -> int:
        return self.own.offset(place_of(position))

    def range(self, start: int, end: int) -> types.Range:
        return _range(self.own, start, end)

    def location(self, source: Source, start: int, end: int) -> types.Location:
        """A place in the document or in a file that it extends."""
        if source == self._analysis.source:
            return types.Location(self._analysis.document.uri, self.range(start, end))
        if source.name not in self._lines:
            self._lines[source.name] = Lines(source.text, self._encoding)
        return types.Location(uri_of(identity(Path(source.name))), _range(self._lines[source.name], start, end))


def _range(lines: Lines, start: int, end: int) -> types.Range:
    first, last = lines.place(start), lines.place(end)
    return types.Range(types.Position(first.line, first.column), types.Position(last.line, last.column))


def diagnostics(found: Iterable[Finding], pages: Pages, with_related: bool) -> list[types.Diagnostic]:
    """Findings as diagnostics; what else there is to see only for a client that shows it."""
    return [
        types.Diagnostic(
            range=pages.range(one.start, one.end),
            severity=_SEVERITIES[one.level],
            code=one.code,
            source="ablc",
            message=one.message,
            related_information=[_related(pages, *note) for note in one.related] or None if with_related else None,
        )
        for one in found
    ]


def _related(pages: Pages, span: Span, note: str) -> types.DiagnosticRelatedInformation:
    return types.DiagnosticRelatedInformation(pages.location(span.source, span.start, span.end), note)


def hover(found: Hover | None, pages: Pages) -> types.Hover | None:
    if found is None:
        return None
    content = types.MarkupContent(types.MarkupKind.Markdown, found.text)
    return types.Hover(content, pages.range(found.start, found.end))


def completions(offer: Offer, offset: int, pages: Pages, with_snippets: bool) -> types.CompletionList:
    """An offer in its own order: an editor would sort it by the letters otherwise."""
    place = pages.range(offer.start, offset)
    items = [_completion(item, number, place, with_snippets) for number, item in enumerate(offer.items)]
    return types.CompletionList(is_incomplete=False, items=items)


def _completion(item: Item, number: int, place: types.Range, with_snippets: bool) -> types.CompletionItem:
    snippet = bool(item.snippet) and with_snippets
    markup = types.MarkupContent(types.MarkupKind.Markdown, item.text) if item.text else None
    return types.CompletionItem(
        label=item.label,
        kind=_ITEM_KINDS[item.kind],
        detail=item.detail or None,
        documentation=markup,
        sort_text=f"{number:05}",
        filter_text=item.label,
        insert_text_format=types.InsertTextFormat.Snippet if snippet else types.InsertTextFormat.PlainText,
        text_edit=types.TextEdit(place, item.snippet if snippet else item.insert or item.label),
    )


def definition(found: Definition | None, pages: Pages) -> types.Location | None:
    if found is None:
        return None
    if found.source is not None:
        return pages.location(found.source, found.first, found.last)
    start = types.Position(0, 0)
    return types.Location(uri_of(found.path), types.Range(start, start)) if found.path is not None else None


def inlay_hints(found: Iterable[Hint], pages: Pages) -> list[types.InlayHint]:
    return [
        types.InlayHint(
            pages.range(hint.offset, hint.offset).start, hint.label, padding_left=True, tooltip=hint.tooltip
        )
        for hint in found
    ]


def symbols(found: Iterable[Symbol], pages: Pages) -> list[types.DocumentSymbol]:
    return [
        types.DocumentSymbol(
            name=symbol.name,
            detail=symbol.detail,
            kind=_SYMBOL_KINDS[symbol.kind],
            range=pages.range(symbol.start, symbol.end),
            selection_range=pages.range(symbol.start, symbol.end),
        )
        for symbol in found
    ]


def text_edits(found: Iterable[TextEdit], pages: Pages) -> list[types.TextEdit]:
    """Edits in the line ends that the document has."""
    end = pages.line_end
    return [types.TextEdit(pages.range(one.start, one.end), one.text.replace("\n", end)) for one in found]
