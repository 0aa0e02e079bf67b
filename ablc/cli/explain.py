"""`ablc explain`."""

from __future__ import annotations

import re

from ablc.cli.output import CLEAN, INVALID, print_fault, say, show_table
from ablc.explanations import codes, explanation, level, title
from ablc.faults import Fault, did_you_mean


def explain_command(code: str | None) -> int:
    """Show what a code means, or all codes."""
    if code is None:
        show_table(("code", "level", "meaning"), [(one, level(one), title(one)) for one in codes()])
        return CLEAN
    pasted = re.fullmatch(r"\s*(?:\w+\[)?([\w-]+)\]?:?\s*", code)  # as an error's first line shows it, too
    code = pasted[1].lower() if pasted is not None else code
    if code not in codes():
        help = did_you_mean(code, codes(), "codes")
        print_fault(Fault("unknown-code", f"there is no code `{code}`", help=help))
        return INVALID
    say(f"{level(code)}[{code}]", "bold")
    say()
    for line in _lines(explanation(code)):
        say(line)
    return CLEAN


def _lines(text: str) -> list[str]:
    """Markdown as a terminal shows it: what is fenced is indented, and its file named."""
    shown: list[str] = []
    inside = False
    for line in text.rstrip("\n").split("\n"):
        fence = re.fullmatch(r"```(\w*) ?(\S*)", line)
        if fence is None:
            shown.append(f"    {line}".rstrip() if inside else line)
            continue
        inside = not inside
        if inside and fence[2]:
            shown.append(f"  {fence[2]}:")
    return shown
