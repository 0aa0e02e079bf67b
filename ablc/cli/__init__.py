"""The commands. Thin: each parses its arguments, calls the pipeline, and shows what came of it.

Heavy imports stand inside the commands that need them, so that `ablc params` never waits for torch.
"""

from __future__ import annotations

import gc
import io
import sys

from ablc.cli.app import app


def start() -> None:
    """The entry point. Exit codes: 0 clean, 1 findings, 2 wrong use or an invalid spec, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows only ASCII is no reason to stop
    try:
        app(prog_name="ablc")  # `python -m ablc` too
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.freeze()  # leaving, Python would search every object of lark and pydantic for cycles, which takes 40 ms
