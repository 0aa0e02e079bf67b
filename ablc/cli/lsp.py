"""`ablc lsp`."""

from __future__ import annotations

import gc
import sys

from ablc.faults import UserError


def lsp_command() -> int:
    """Serve an editor until it says that it goes."""
    try:
        from ablc.lsp.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        message = "the language server needs pygls, which isn't installed"
        raise UserError(message, "pip install 'ablc[lsp]'") from error
    if sys.stdin.isatty():
        print("ablc lsp speaks to an editor, which starts it; Ctrl-C ends it", file=sys.stderr)
    gc.freeze()  # what is imported stays, and needn't be searched again and again
    gc.enable()  # `main` turned it off for commands that are short
    gc.set_threshold(20_000, 20, 20)
    return serve()
