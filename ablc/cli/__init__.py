"""The commands. Thin: each parses its arguments, calls the pipeline, and shows what came of it.

Heavy imports stand inside the commands that need them, so that `ablc params` never waits for torch.
"""

from __future__ import annotations

import os
import sys

from ablc.cli.app import app


def start() -> None:
    """The entry point. Exit codes: 0 clean, 1 findings, 2 wrong use or an invalid spec, 130 interrupted."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # whoever read our output has gone (`ablc params … | head`); Python would complain once more while closing
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
