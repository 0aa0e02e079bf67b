"""Text from specs inside Markdown: as it is, whatever characters it has."""

from __future__ import annotations

import html
import re

from ablc.faults import one_line

_SPECIAL = re.compile(r"([\\|\[\]*_~#])")
_CODE = re.compile(r"(`[^`]+`)")


def in_text(text: str) -> str:
    """A sentence; what stands between backticks in it is code."""
    parts = _CODE.split(one_line(text))
    return "".join(in_code(part[1:-1]) if number % 2 else _plain(part) for number, part in enumerate(parts))


def in_code(text: str) -> str:
    """A name as it is spelled. Only a bar is marked, which would end a table's cell in code too."""
    shown = one_line(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    blank = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{blank}{shown}{blank}{fence}"


def in_html(text: str) -> str:
    """Where Markdown isn't read."""
    return html.escape(one_line(text))


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", html.escape(text, quote=False)).replace("`", "\\`")
