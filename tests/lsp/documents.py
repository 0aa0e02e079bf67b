"""Documents as an editor would have them open, and what is known of them, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ablc.lsp.analysis import Analysis, analyse, reading
from ablc.lsp.documents import Document

MODEL = 'model = "EleutherAI/pythia-410m"\n'


def opened(
    text: str, path: Path | None = None, texts: Mapping[Path, str] | None = None, *, ask: bool = False
) -> Analysis:
    """A document with all that is known of it looked up, as it would be in a server."""
    folder = path.parent if path is not None else Path("specs").resolve()
    analysis = analyse(Document("file:///a.abl", 1, text, path, folder), texts, ask=ask)
    with reading(analysis.texts, analysis.reads):
        _ = analysis.original, analysis.planned, analysis.file, analysis.found
    return analysis


def marked(text: str) -> tuple[str, int]:
    """A text without its `|`, and where that stood."""
    place = text.index("|")
    return text[:place] + text[place + 1 :], place
